//! Why a text is no query, and where.

use crate::limits;
use crate::query::expression::{Operator, Subject};

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {at})")]
pub struct QueryError {
    /// Where: the first character is 1.
    pub at: usize,
    /// What.
    pub problem: Problem,
}

/// The ways in which an expression can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Longer than ECS allows.
    #[error("the expression is longer than {} characters", limits::QUERY)]
    TooLong,
    /// Parentheses and negations within one another.
    #[error("parentheses and negations are nested more than {} deep", limits::QUERY_DEPTH)]
    TooDeep,
    /// More patterns than are tried at once.
    #[error("the expression has more than {} patterns", limits::QUERY_PATTERNS)]
    TooManyPatterns,
    /// A list of `in` with too many arguments.
    #[error("a list can have at most {} arguments", limits::QUERY_LIST)]
    TooManyArguments,
    /// Something else has to stand here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What.
        expected: &'static str,
        /// What stands here, shortened.
        found: String,
    },
    /// No such subject.
    #[error(
        "'{0}' is no subject: use agentConnected, agentVersion, attribute:<name>, ec2InstanceId, registeredAt, \
         runningTasksCount or task:group"
    )]
    UnknownSubject(String),
    /// A name that no attribute has.
    #[error("'{0}' is no attribute's name: 1 to 128 letters, digits, and any of - _ . / \\ are allowed")]
    BadAttributeName(String),
    /// The operator is not for this subject.
    #[error("{subject} cannot be compared with '{operator}'")]
    WrongOperator {
        /// The subject.
        subject: Subject,
        /// The operator.
        operator: Operator,
    },
    /// An argument without an end.
    #[error("the quoted argument does not end")]
    UnclosedQuote,
    /// A quote or a parenthesis where only a quoted argument may have one.
    #[error("an argument with {0} must be quoted")]
    MustBeQuoted(&'static str),
    /// Nothing between the quotes.
    #[error("an argument cannot be empty")]
    EmptyArgument,
    /// An argument of `agentConnected`.
    #[error("'{0}' must be true or false")]
    BadBoolean(String),
    /// An argument of `runningTasksCount`.
    #[error("'{0}' must be a whole number")]
    BadNumber(String),
    /// An argument of `agentVersion`.
    #[error("'{0}' must be a version such as 1.105.1")]
    BadVersion(String),
    /// An argument of `registeredAt`.
    #[error(
        "'{0}' must be a date such as 2018-06-18, 2018-06-18T22:28:28, 2018-06-18T22:28:28Z or 2018-06-18T22:28:28+00:00"
    )]
    BadDate(String),
    /// A pattern that is malformed.
    #[error("the pattern is not valid: {0}")]
    BadPattern(String),
    /// A pattern with something that Java's patterns have and ours have not.
    #[error("the pattern has {0}, which Longshore's patterns do not support")]
    UnsupportedPattern(&'static str),
    /// A pattern that needs too much memory.
    #[error("the pattern is too large: use fewer or smaller repetitions")]
    PatternTooLarge,
}

impl Problem {
    pub(super) fn at(self, at: usize) -> QueryError {
        QueryError { at, problem: self }
    }
}
