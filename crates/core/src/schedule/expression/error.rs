//! Why a text is no schedule expression, and where.

use std::fmt;

use crate::limits;

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {at})")]
pub struct ExpressionError {
    /// Where: the first character is 1.
    pub at: usize,
    /// What.
    pub problem: Problem,
}

/// A field of a cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// 0–59.
    Minutes,
    /// 0–23.
    Hours,
    /// 1–31.
    DayOfMonth,
    /// 1–12 or JAN–DEC.
    Month,
    /// 1–7 or SUN–SAT.
    DayOfWeek,
    /// 1970–2199.
    Year,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minutes => "minutes",
            Self::Hours => "hours",
            Self::DayOfMonth => "day-of-month",
            Self::Month => "month",
            Self::DayOfWeek => "day-of-week",
            Self::Year => "year",
        })
    }
}

/// The ways in which an expression can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Longer than EventBridge Scheduler allows.
    #[error("the expression is longer than {} characters", limits::SCHEDULE_EXPRESSION)]
    TooLong,
    /// None of the three.
    #[error(
        "an expression is cron(minutes hours day-of-month month day-of-week year), rate(value unit) or at(yyyy-mm-ddThh:mm:ss)"
    )]
    UnknownKind,
    /// No closing parenthesis at the end.
    #[error("the expression does not end with a closing parenthesis")]
    Unclosed,
    /// Not two words.
    #[error("a rate is a value and a unit, as in rate(5 minutes)")]
    RateForm,
    /// The value of a rate.
    #[error("the value of a rate is a whole number from 1 to {}", limits::RATE_VALUE)]
    RateValue,
    /// The unit of a rate.
    #[error("the unit of a rate is minute, minutes, hour, hours, day or days")]
    RateUnit,
    /// 1 goes with the singular, everything else with the plural.
    #[error("with the value {value} the unit is written '{unit}'")]
    RatePlural {
        /// The value.
        value: u32,
        /// How it is right.
        unit: &'static str,
    },
    /// Not of the form, or no day of the calendar.
    #[error(
        "a single time is written at(yyyy-mm-ddThh:mm:ss), is a day of the calendar and within the years 1970-2199"
    )]
    AtForm,
    /// Not six fields.
    #[error(
        "a cron expression has six fields (minutes hours day-of-month month day-of-week year), and this one has {0}"
    )]
    FieldCount(usize),
    /// A number outside the field's range.
    #[error("{field}: {value} is not within {first}-{last}")]
    OutOfRange {
        /// Where.
        field: Field,
        /// What was given.
        value: String,
        /// The least.
        first: u16,
        /// The greatest.
        last: u16,
    },
    /// Neither a number nor a name.
    #[error("{field}: '{found}' is no value: {allowed}")]
    BadValue {
        /// Where.
        field: Field,
        /// What was given, shortened.
        found: String,
        /// What can stand there.
        allowed: &'static str,
    },
    /// A range that ends before it begins.
    #[error("{0}: the range ends before it begins; write it as two, joined by a comma")]
    Backwards(Field),
    /// A step that is no step.
    #[error("{field}: the step behind / is a whole number from 1 to {most}")]
    BadStep {
        /// Where.
        field: Field,
        /// The greatest.
        most: u16,
    },
    /// A wildcard that this field does not have.
    #[error("{field}: '{wildcard}' is not for this field")]
    NotHere {
        /// Where.
        field: Field,
        /// Which.
        wildcard: char,
    },
    /// `?`, `L`, `W` and `#` describe the whole field.
    #[error("{field}: '{wildcard}' stands for itself: it cannot be part of a list, a range or a step")]
    NotAlone {
        /// Where.
        field: Field,
        /// Which.
        wildcard: char,
    },
    /// The `n` of `#n`.
    #[error("day-of-week: behind # stands a number from 1 to 5")]
    BadOccurrence,
    /// Both day fields say something, or neither does.
    #[error("exactly one of day-of-month and day-of-week must be '?'")]
    OneQuestionMark,
}

impl Problem {
    pub(super) fn at(self, at: usize) -> ExpressionError {
        ExpressionError { at, problem: self }
    }
}
