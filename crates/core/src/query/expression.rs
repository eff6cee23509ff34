//! What was written: expressions as data, and back into text.

use std::fmt;
use std::sync::Arc;

/// An expression. Its text, [`Expression::to_string`], reads back as the same, unless it is nested so deeply that the parentheses
/// around what is negated take it past the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// All of two or more hold.
    All(Vec<Expression>),
    /// One of two or more holds.
    Any(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// A single condition.
    Is(Condition),
}

/// A single condition.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// What has to be true of it.
    pub test: Test,
    /// Where the operator stands in the expression that it was read from.
    pub at: usize,
}

/// Where it stands says nothing about what it means.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        (&self.subject, &self.test) == (&other.subject, &other.test)
    }
}

impl Eq for Condition {}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `agentConnected`
    AgentConnected,
    /// `agentVersion`
    AgentVersion,
    /// `attribute:<name>`
    Attribute(Arc<str>),
    /// `ec2InstanceId`
    Ec2InstanceId,
    /// `registeredAt`
    RegisteredAt,
    /// `runningTasksCount`
    RunningTasksCount,
    /// `task:group`
    TaskGroup,
}

impl Subject {
    /// The subject of this name; an attribute's name is not looked at.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "agentConnected" => Self::AgentConnected,
            "agentVersion" => Self::AgentVersion,
            "ec2InstanceId" => Self::Ec2InstanceId,
            "registeredAt" => Self::RegisteredAt,
            "runningTasksCount" => Self::RunningTasksCount,
            "task:group" => Self::TaskGroup,
            _ => Self::Attribute(name.strip_prefix("attribute:")?.into()),
        })
    }
}

/// What has to be true of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `==` and the other comparisons.
    Compare(Comparison, Argument),
    /// `exists`
    Exists {
        /// `!exists`
        negated: bool,
    },
    /// `in`
    In {
        /// `!in`
        negated: bool,
        /// At least one.
        arguments: Vec<Argument>,
    },
    /// `=~`
    Matches {
        /// `!~`
        negated: bool,
        /// The pattern.
        pattern: Argument,
    },
}

impl Test {
    /// How it is written.
    pub fn operator(&self) -> Operator {
        match self {
            Self::Compare(comparison, _) => Operator::Compare(*comparison),
            Self::Exists { negated } => Operator::Exists { negated: *negated },
            Self::In { negated, .. } => Operator::In { negated: *negated },
            Self::Matches { negated, .. } => Operator::Matches { negated: *negated },
        }
    }
}

/// A comparison with one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
}

/// A test without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants and their member are those of Test")]
pub enum Operator {
    Compare(Comparison),
    Exists { negated: bool },
    In { negated: bool },
    Matches { negated: bool },
}

/// Every operator with its sign and its word. A sign that begins like another one comes after it.
pub(super) const OPERATORS: [(Operator, &str, &str); 12] = [
    (Operator::Compare(Comparison::Equal), "==", "equals"),
    (Operator::Compare(Comparison::NotEqual), "!=", "not_equals"),
    (Operator::Compare(Comparison::GreaterEqual), ">=", "greater_than_equal"),
    (Operator::Compare(Comparison::Greater), ">", "greater_than"),
    (Operator::Compare(Comparison::LessEqual), "<=", "less_than_equal"),
    (Operator::Compare(Comparison::Less), "<", "less_than"),
    (Operator::Exists { negated: true }, "!exists", "not_exists"),
    (Operator::Exists { negated: false }, "exists", "exists"),
    (Operator::In { negated: true }, "!in", "not_in"),
    (Operator::In { negated: false }, "in", "in"),
    (Operator::Matches { negated: false }, "=~", "matches"),
    (Operator::Matches { negated: true }, "!~", "not_matches"),
];

/// An argument, and where it stands.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Without quotes; never empty.
    pub text: Arc<str>,
    /// Where its first character stands in the expression that it was read from.
    pub at: usize,
}

/// Where it stands says nothing about what it means.
impl PartialEq for Argument {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Argument {}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(members) => joined(f, members, " and "),
            Self::Any(members) => joined(f, members, " or "),
            Self::Not(negated) => write!(f, "not({negated})"),
            Self::Is(condition) => write!(f, "{condition}"),
        }
    }
}

/// A joined expression within another keeps its parentheses, needed or not: that is how it was written.
fn joined(f: &mut fmt::Formatter<'_>, members: &[Expression], by: &str) -> fmt::Result {
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            f.write_str(by)?;
        }
        match member {
            Expression::All(_) | Expression::Any(_) => write!(f, "({member})")?,
            Expression::Not(_) | Expression::Is(_) => write!(f, "{member}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.test.operator())?;
        match &self.test {
            Test::Exists { .. } => Ok(()),
            Test::Compare(_, argument) | Test::Matches { pattern: argument, .. } => write!(f, " {argument}"),
            Test::In { arguments, .. } => {
                for (index, argument) in arguments.iter().enumerate() {
                    write!(f, "{}{argument}", if index == 0 { " [" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentConnected => f.write_str("agentConnected"),
            Self::AgentVersion => f.write_str("agentVersion"),
            Self::Attribute(name) => write!(f, "attribute:{name}"),
            Self::Ec2InstanceId => f.write_str("ec2InstanceId"),
            Self::RegisteredAt => f.write_str("registeredAt"),
            Self::RunningTasksCount => f.write_str("runningTasksCount"),
            Self::TaskGroup => f.write_str("task:group"),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = OPERATORS.iter().find(|(operator, ..)| operator == self).map_or("", |(_, sign, _)| sign);
        f.write_str(sign)
    }
}

/// Quoted where it has to be. No argument has both kinds of quotes: there is no way to write one.
impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &*self.text;
        let plain = !text.contains(|c: char| c.is_whitespace() || "()[],'\"".contains(c));
        match plain && !text.contains("&&") && !text.contains("||") {
            true => f.write_str(text),
            false if text.contains('\'') => write!(f, "\"{text}\""),
            false => write!(f, "'{text}'"),
        }
    }
}
