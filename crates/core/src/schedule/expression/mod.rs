//! When a schedule is due, in the words of EventBridge Scheduler: `cron(…)`, `rate(…)`, `at(…)`. Read once; what is wrong is said
//! with the field and the character.

mod cron;
mod error;
mod numbers;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use cron::Cron;
pub use error::{ExpressionError, Field, Problem};

use crate::limits;

/// A schedule expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// By the calendar of a time zone.
    Cron(Box<Cron>),
    /// Again and again, after the same time each.
    Rate(Rate),
    /// Once.
    At(DateTime),
}

/// `rate(value unit)`: from one due time to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    value: u32,
    unit: Unit,
}

/// What a rate counts. A day has 24 hours, whatever a time zone makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Minute,
    Hour,
    Day,
}

/// Each unit in the singular and the plural, and its milliseconds.
const UNITS: [(Unit, &str, &str, i64); 3] = [
    (Unit::Minute, "minute", "minutes", 60_000),
    (Unit::Hour, "hour", "hours", 3_600_000),
    (Unit::Day, "day", "days", 24 * 3_600_000),
];

impl Rate {
    /// The time from one due time to the next, in milliseconds; never 0.
    pub fn period_ms(self) -> i64 {
        let unit_ms = UNITS.iter().find(|(unit, ..)| *unit == self.unit).map_or(60_000, |(.., ms)| *ms);
        i64::from(self.value) * unit_ms
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        if text.chars().count() > limits::SCHEDULE_EXPRESSION {
            return Err(Problem::TooLong.at(limits::SCHEDULE_EXPRESSION + 1));
        }
        let (kind, rest) = text.split_once('(').ok_or_else(|| Problem::UnknownKind.at(1))?;
        let at = kind.chars().count() + 2;
        let inner = rest.strip_suffix(')').ok_or_else(|| Problem::Unclosed.at(text.chars().count() + 1))?;
        let inner = Text { text: inner, at };
        match kind {
            "cron" => Cron::read(inner).map(|cron| Self::Cron(Box::new(cron))),
            "rate" => rate(inner).map(Self::Rate),
            "at" => once(inner).map(Self::At),
            _ => Err(Problem::UnknownKind.at(1)),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => write!(f, "cron({cron})"),
            Self::Rate(Rate { value, unit }) => {
                let names = UNITS.iter().find(|(known, ..)| known == unit);
                let name = names.map_or("", |(_, one, many, _)| if *value == 1 { one } else { many });
                write!(f, "rate({value} {name})")
            }
            Self::At(time) => write!(f, "at({})", time.strftime("%Y-%m-%dT%H:%M:%S")),
        }
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A part of an expression, and where it begins: the first character of an expression is 1.
#[derive(Clone, Copy)]
struct Text<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    /// The parts between single separators that satisfy `is`.
    fn split(self, is: fn(char) -> bool) -> impl Iterator<Item = Text<'a>> {
        let mut at = self.at;
        self.text.split(is).map(move |text| {
            let part = Text { text, at };
            at += text.chars().count() + 1;
            part
        })
    }

    /// The words between spaces.
    fn words(self) -> impl Iterator<Item = Text<'a>> {
        self.split(char::is_whitespace).filter(|word| !word.text.is_empty())
    }

    /// What stands before and after the first `sign`.
    fn cut(self, sign: char) -> Option<(Text<'a>, Text<'a>)> {
        let (before, after) = self.text.split_once(sign)?;
        let at = self.at + before.chars().count() + 1;
        Some((Text { text: before, ..self }, Text { text: after, at }))
    }
}

fn rate(inner: Text<'_>) -> Result<Rate, ExpressionError> {
    let words: Vec<Text<'_>> = inner.words().collect();
    let &[value, unit] = words.as_slice() else {
        return Err(Problem::RateForm.at(inner.at));
    };
    let digits = value.text.bytes().all(|byte| byte.is_ascii_digit());
    let count =
        digits.then(|| value.text.parse().ok()).flatten().filter(|count| (1..=limits::RATE_VALUE).contains(count));
    let count: u32 = count.ok_or_else(|| Problem::RateValue.at(value.at))?;
    let found = UNITS.into_iter().find(|(_, one, many, _)| [*one, *many].contains(&unit.text));
    let (known, one, many, _) = found.ok_or_else(|| Problem::RateUnit.at(unit.at))?;
    let right = if count == 1 { one } else { many };
    match unit.text == right {
        true => Ok(Rate { value: count, unit: known }),
        false => Err(Problem::RatePlural { value: count, unit: right }.at(unit.at)),
    }
}

/// `yyyy-mm-ddThh:mm:ss`, in exactly that form: a zone is told beside it.
fn once(inner: Text<'_>) -> Result<DateTime, ExpressionError> {
    let form = |(index, byte): (usize, u8)| match index {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    let formed = inner.text.len() == 19 && inner.text.bytes().enumerate().all(form);
    let time = formed.then(|| inner.text.parse::<DateTime>().ok()).flatten();
    time.filter(|time| (cron::FIRST_YEAR..=cron::LAST_YEAR).contains(&time.year()) && !inner.text.ends_with(":60"))
        .ok_or_else(|| Problem::AtForm.at(inner.at))
}
