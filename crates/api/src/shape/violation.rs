//! What can be wrong with a value, and what the caller is told.

use std::fmt;

use crate::error::{ApiError, ErrorCode, SERIALIZATION_EXCEPTION};

/// A value that does not fit its shape.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Violation {
    /// Where: `containerDefinitions[0].name`; empty for the whole value.
    pub path: String,
    /// What.
    pub kind: ViolationKind,
    code: ErrorCode,
}

/// What is wrong with a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ViolationKind {
    /// Another JSON type than the shape's.
    WrongType {
        /// What the shape wants.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// Nested deeper than any shape of the model.
    TooDeep,
    /// A required member is absent.
    MissingRequired,
    /// No value of the enum.
    NotInEnum {
        /// What stands there.
        value: String,
        /// What may stand there.
        allowed: &'static [&'static str],
    },
    /// Fewer characters, items or entries than allowed.
    TooShort {
        /// How many there are.
        len: u64,
        /// How many there must be.
        min: i64,
    },
    /// More characters, items or entries than allowed.
    TooLong {
        /// How many there are.
        len: u64,
        /// How many there may be.
        max: i64,
    },
    /// A number outside its bounds.
    OutOfRange {
        /// The number.
        value: String,
        /// The least allowed.
        min: Option<i64>,
        /// The most allowed.
        max: Option<i64>,
    },
    /// Characters outside the pattern.
    BadCharacters,
    /// A union with no member, or with several.
    NotExactlyOne {
        /// How many members there are.
        found: usize,
    },
    /// The check passed and the types refused: a fault of ours, worth a report.
    Unreadable(String),
}

impl Violation {
    /// At the root; the walk puts the path in front on its way out.
    pub(crate) fn new(kind: ViolationKind) -> Self {
        let code = match kind {
            ViolationKind::WrongType { .. } | ViolationKind::TooDeep | ViolationKind::Unreadable(_) => {
                SERIALIZATION_EXCEPTION
            }
            _ => crate::ecs::error::INVALID_PARAMETER_EXCEPTION,
        };
        Self { path: String::new(), kind, code }
    }

    /// The code this is answered with.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Says which code the operation uses for broken limits; unreadable values keep theirs.
    #[must_use]
    pub(crate) fn with_code(mut self, code: ErrorCode) -> Self {
        if self.code != SERIALIZATION_EXCEPTION {
            self.code = code;
        }
        self
    }

    /// Puts a member's name in front of the path.
    pub(crate) fn under(mut self, name: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{name}{separator}{}", self.path);
        self
    }

    /// Puts an index in front of the path.
    pub(crate) fn at(self, index: usize) -> Self {
        self.under(&format!("[{index}]"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "The request" } else { &self.path };
        match &self.kind {
            ViolationKind::WrongType { expected, found } => {
                write!(f, "{path} must be {expected}, but is {found}.")
            }
            ViolationKind::TooDeep => write!(f, "{path} is nested too deeply."),
            ViolationKind::MissingRequired => write!(f, "{path} is required and must not be null."),
            ViolationKind::NotInEnum { value, allowed } => {
                write!(f, "{path} must be one of [{}], but was '{value}'.", allowed.join(", "))
            }
            ViolationKind::TooShort { len: 0, min: 1 } => {
                write!(f, "{} cannot be empty.", sentence(path))
            }
            ViolationKind::TooShort { len, min } => {
                write!(f, "{path} must have a length of at least {min}, but has {len}.")
            }
            ViolationKind::TooLong { len, max } => {
                write!(f, "{path} must have a length of at most {max}, but has {len}.")
            }
            ViolationKind::OutOfRange { value, min: Some(min), max: Some(max) } => {
                write!(f, "{path} must be between {min} and {max}, but was {value}.")
            }
            ViolationKind::OutOfRange { value, min: Some(min), max: None } => {
                write!(f, "{path} must be at least {min}, but was {value}.")
            }
            ViolationKind::OutOfRange { value, max: Some(max), .. } => {
                write!(f, "{path} must be at most {max}, but was {value}.")
            }
            ViolationKind::OutOfRange { value, .. } => {
                write!(f, "{path} is out of range: {value}.")
            }
            ViolationKind::BadCharacters => {
                write!(f, "{path} contains characters that are not allowed.")
            }
            ViolationKind::NotExactlyOne { found } => {
                write!(f, "{path} must have exactly one member, but has {found}.")
            }
            ViolationKind::Unreadable(_) => write!(f, "{path} could not be read."),
        }
    }
}

/// ECS begins this one message with a capital: "Tasks cannot be empty." A path into something keeps
/// its spelling.
fn sentence(path: &str) -> String {
    let mut letters = path.chars();
    match letters.next() {
        Some(first) if !path.contains(['.', '[']) => first.to_uppercase().chain(letters).collect(),
        _ => path.to_owned(),
    }
}

/// A caller's own text in a message, but not megabytes of it.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 300;
    text.chars().take(SHOWN).collect()
}

impl From<Violation> for ApiError {
    fn from(violation: Violation) -> Self {
        let error = Self::new(violation.code, violation.to_string());
        match violation.kind {
            ViolationKind::Unreadable(cause) => error.with_context(cause),
            _ => error,
        }
    }
}
