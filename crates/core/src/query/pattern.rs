//! Patterns: Java's syntax as far as it is regular, tried in time linear in the value.
//!
//! What Java's engine can do and an engine without backtracking cannot is refused by name, and so is what both accept and
//! understand differently: a pattern never means something else here. As in Java, `\d`, `\w`, `\s` and ignoring case are about
//! ASCII. Values with other characters are matched byte by byte.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, ClassSetBinaryOp, ClassSetBinaryOpKind, ClassSetItem, ErrorKind, GroupKind};
use regex_syntax::ast::{Flag, FlagsItemKind};

use crate::limits;
use crate::query::error::{Problem, QueryError};
use crate::query::expression::Argument;

/// A pattern that is tried on whole values.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn compile(argument: &Argument) -> Result<Self, QueryError> {
        let text = &*argument.text;
        let at = |span: &ast::Span| argument.at + text[..span.start.offset].chars().count();
        let parsed = ast::parse::ParserBuilder::new().nest_limit(limits::PATTERN_DEPTH).build().parse(text);
        let tree = parsed.map_err(|error| malformed(error.kind()).at(at(error.span())))?;
        ast::visit(&tree, Foreign).map_err(|(problem, span)| problem.at(at(&span)))?;
        let built = RegexBuilder::new(&format!(r"\A(?:{text})\z"))
            .unicode(false)
            .size_limit(limits::PATTERN_BYTES)
            .dfa_size_limit(limits::PATTERN_BYTES)
            .build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Problem::PatternTooLarge.at(argument.at),
            other => Problem::BadPattern(last_line(&other.to_string())).at(argument.at),
        })
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        self.0.is_match(value.as_bytes())
    }
}

fn malformed(kind: &ErrorKind) -> Problem {
    match kind {
        ErrorKind::UnsupportedLookAround => Problem::UnsupportedPattern("look-around"),
        ErrorKind::UnsupportedBackreference => Problem::UnsupportedPattern("back-references"),
        ErrorKind::EscapeUnrecognized => Problem::UnsupportedPattern("an escape"),
        ErrorKind::FlagUnrecognized => Problem::UnsupportedPattern("an atomic group or a flag"),
        other => Problem::BadPattern(other.to_string()),
    }
}

/// The engine's messages show the pattern first, over several lines; the last one says what is wrong.
fn last_line(message: &str) -> String {
    message.lines().next_back().unwrap_or_default().trim().to_owned()
}

/// Finds what would mean something else in Java.
struct Foreign;

impl ast::Visitor for Foreign {
    type Output = ();
    type Err = (Problem, ast::Span);

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            // `a*+`: there a quantifier that gives nothing back, here a repetition of a repetition.
            Ast::Repetition(outer) if matches!(*outer.ast, Ast::Repetition(_)) => {
                Err((Problem::UnsupportedPattern("a possessive or repeated quantifier"), outer.op.span))
            }
            Ast::ClassUnicode(class) => Err((Problem::UnsupportedPattern("a class of Unicode properties"), class.span)),
            Ast::Flags(set) => flags(&set.flags),
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(given) => flags(given),
                GroupKind::CaptureIndex(_) | GroupKind::CaptureName { .. } => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        match item {
            ClassSetItem::Ascii(class) => Err((Problem::UnsupportedPattern("a class such as [:alpha:]"), class.span)),
            ClassSetItem::Unicode(class) => {
                Err((Problem::UnsupportedPattern("a class of Unicode properties"), class.span))
            }
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, op: &ClassSetBinaryOp) -> Result<(), Self::Err> {
        match op.kind {
            ClassSetBinaryOpKind::Intersection => Ok(()),
            ClassSetBinaryOpKind::Difference | ClassSetBinaryOpKind::SymmetricDifference => {
                Err((Problem::UnsupportedPattern("-- or ~~ in a class"), op.span))
            }
        }
    }
}

/// `i`, `m` and `s` mean the same in both; the others do not, and `x` would let a comment swallow what is put around it.
fn flags(flags: &ast::Flags) -> Result<(), (Problem, ast::Span)> {
    let foreign = flags.items.iter().find(|item| {
        !matches!(
            item.kind,
            FlagsItemKind::Negation
                | FlagsItemKind::Flag(Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine)
        )
    });
    match foreign {
        None => Ok(()),
        Some(item) => Err((Problem::UnsupportedPattern("a flag other than i, m and s"), item.span)),
    }
}
