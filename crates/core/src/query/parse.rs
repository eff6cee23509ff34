//! From text to [`Expression`]: recursive descent, one function for each rule.
//!
//! ```text
//! any       = all { ("or" | "||") all }
//! all       = one { ("and" | "&&") one }
//! one       = ("not" | "!") one | "(" any ")" | condition
//! condition = subject operator [ argument | "[" argument { "," argument } "]" ]
//! argument  = "'" … "'" | '"' … '"' | word
//! ```

use std::str::FromStr;

use crate::attributes;
use crate::limits;
use crate::query::error::{Problem, QueryError};
use crate::query::expression::{Argument, Condition, Expression, OPERATORS, Operator, Subject, Test};

impl FromStr for Expression {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        if text.chars().count() > limits::QUERY {
            return Err(Problem::TooLong.at(limits::QUERY + 1));
        }
        let mut parser = Parser { rest: text, at: 1, depth: 0 };
        let expression = parser.any()?;
        match parser.skipped().is_empty() {
            true => Ok(expression),
            false => Err(parser.expected("and, or, or the end")),
        }
    }
}

struct Parser<'a> {
    /// What is not read yet.
    rest: &'a str,
    /// Where that begins.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Expression, QueryError> {
        let first = self.all()?;
        self.members(first, "or", "||", Self::all, Expression::Any)
    }

    fn all(&mut self) -> Result<Expression, QueryError> {
        let first = self.one()?;
        self.members(first, "and", "&&", Self::one, Expression::All)
    }

    /// What follows `first`, as long as the joining word or sign does.
    fn members(
        &mut self,
        first: Expression,
        word: &str,
        sign: &str,
        next: fn(&mut Self) -> Result<Expression, QueryError>,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, QueryError> {
        let mut members = vec![first];
        while self.took(sign) || self.took_word(word) {
            members.push(next(self)?);
        }
        match members.len() {
            1 => Ok(members.remove(0)),
            _ => Ok(join(members)),
        }
    }

    fn one(&mut self) -> Result<Expression, QueryError> {
        let start = self.start();
        self.depth += 1;
        if self.depth > limits::QUERY_DEPTH {
            return Err(Problem::TooDeep.at(start));
        }
        let expression = if self.took("!") || self.took_word("not") {
            Expression::Not(Box::new(self.one()?))
        } else if self.took("(") {
            let inner = self.any()?;
            match self.took(")") {
                true => inner,
                false => return Err(self.expected("and, or, or a closing parenthesis")),
            }
        } else {
            Expression::Is(self.condition()?)
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn condition(&mut self) -> Result<Condition, QueryError> {
        let start = self.start();
        let name = self.word();
        if name.is_empty() {
            return Err(self.expected("a subject"));
        }
        let subject = Subject::named(name).ok_or_else(|| Problem::UnknownSubject(shortened(name)).at(start))?;
        if let Subject::Attribute(name) = &subject
            && !attributes::is_name(name)
        {
            return Err(Problem::BadAttributeName(shortened(name)).at(start + "attribute:".len()));
        }
        let at = self.start();
        let test = match self.operator().ok_or_else(|| self.expected("an operator"))? {
            Operator::Compare(comparison) => Test::Compare(comparison, self.argument(false)?),
            Operator::Exists { negated } => Test::Exists { negated },
            Operator::In { negated } => Test::In { negated, arguments: self.list()? },
            Operator::Matches { negated } => Test::Matches { negated, pattern: self.argument(false)? },
        };
        Ok(Condition { subject, test, at })
    }

    fn operator(&mut self) -> Option<Operator> {
        self.start();
        let signs = OPERATORS.iter().map(|(operator, sign, _)| (*operator, *sign));
        let words = OPERATORS.iter().map(|(operator, _, word)| (*operator, *word));
        signs.chain(words).find_map(|(operator, text)| {
            let taken = match text.ends_with(is_word) {
                true => self.took_word(text),
                false => self.took(text),
            };
            taken.then_some(operator)
        })
    }

    fn list(&mut self) -> Result<Vec<Argument>, QueryError> {
        if !self.took("[") {
            return Err(self.expected("a list: [a, b]"));
        }
        let mut arguments = vec![self.argument(true)?];
        while self.took(",") {
            if arguments.len() == limits::QUERY_LIST {
                return Err(Problem::TooManyArguments.at(self.start()));
            }
            arguments.push(self.argument(true)?);
        }
        match self.took("]") {
            true => Ok(arguments),
            false => Err(self.expected("a comma or a closing bracket")),
        }
    }

    /// One argument. A bare one ends before a space, a parenthesis, `&&` and `||`, and in a list before a comma or bracket:
    /// elsewhere patterns have those.
    fn argument(&mut self, listed: bool) -> Result<Argument, QueryError> {
        let start = self.start();
        if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let end = self.rest[1..].find(quote).ok_or_else(|| Problem::UnclosedQuote.at(start))?;
            let text = &self.rest[1..=end];
            self.skip(end + 2);
            return match text.is_empty() {
                true => Err(Problem::EmptyArgument.at(start)),
                false => Ok(Argument { text: text.into(), at: start + 1 }),
            };
        }
        let ends = |(at, c): (usize, char)| {
            let joins = self.rest[at..].starts_with("&&") || self.rest[at..].starts_with("||");
            c.is_whitespace() || joins || matches!(c, '(' | ')' | '\'' | '"') || (listed && matches!(c, ',' | ']'))
        };
        let end = self.rest.char_indices().find(|each| ends(*each)).map_or(self.rest.len(), |(at, _)| at);
        let text = &self.rest[..end];
        self.skip(end);
        match self.rest.chars().next() {
            Some('(') => Err(Problem::MustBeQuoted("a parenthesis").at(self.at)),
            Some('\'' | '"') => Err(Problem::MustBeQuoted("a quote").at(self.at)),
            _ if text.is_empty() => Err(self.expected("an argument")),
            _ => Ok(Argument { text: text.into(), at: start }),
        }
    }

    /// The longest run of characters that subjects have.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !is_word(c)).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.skip(end);
        word
    }

    /// Skips spaces; answers what is left.
    fn skipped(&mut self) -> &'a str {
        let spaces = self.rest.len() - self.rest.trim_start().len();
        self.skip(spaces);
        self.rest
    }

    /// Skips spaces; answers where what follows stands.
    fn start(&mut self) -> usize {
        self.skipped();
        self.at
    }

    /// Whether this sign follows; then it is read.
    fn took(&mut self, sign: &str) -> bool {
        let follows = self.skipped().starts_with(sign);
        if follows {
            self.skip(sign.len());
        }
        follows
    }

    /// Whether this word follows, and not a longer one; then it is read.
    fn took_word(&mut self, word: &str) -> bool {
        let follows = self.skipped().strip_prefix(word).is_some_and(|rest| !rest.starts_with(is_word));
        if follows {
            self.skip(word.len());
        }
        follows
    }

    fn skip(&mut self, bytes: usize) {
        let (read, rest) = self.rest.split_at(bytes);
        self.at += read.chars().count();
        self.rest = rest;
    }

    fn expected(&mut self, expected: &'static str) -> QueryError {
        let at = self.start();
        let found = match self.rest.split_whitespace().next() {
            None => "the end".to_owned(),
            Some(found) => format!("'{}'", shortened(found)),
        };
        Problem::Expected { expected, found }.at(at)
    }
}

/// A character of subjects and of operators that are words.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_-./\\:".contains(c)
}

/// As much of what a caller wrote as a message repeats.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
