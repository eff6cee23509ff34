//! Values of flags that clap has no parser for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest time-out anybody means; beyond it sums of milliseconds would need care.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// `90s`, `5m`, `1h30m`, `7d`: whole numbers with their units, added up.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || "a duration is written like 90s, 5m, 1h30m or 7d".to_owned();
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refused())?;
        let unit = after.chars().next().ok_or_else(refused)?;
        let unit_s = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => return Err(refused()),
        };
        let part = number.checked_mul(unit_s).map(Duration::from_secs);
        total = part.and_then(|part| total.checked_add(part)).filter(|sum| *sum <= LONGEST).ok_or_else(refused)?;
        rest = &after[unit.len_utf8()..];
    }
    if total.is_zero() { Err(refused()) } else { Ok(total) }
}

/// A duration as `duration` reads it.
pub(crate) fn duration_text(duration: Duration) -> String {
    let mut rest_s = duration.as_secs();
    let mut text = String::new();
    for (unit_s, unit) in [(24 * 3600, 'd'), (3600, 'h'), (60, 'm'), (1, 's')] {
        if rest_s >= unit_s {
            text.push_str(&format!("{}{unit}", rest_s / unit_s));
            rest_s %= unit_s;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// When an instance without a session counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum LostAfter {
    After(Duration),
    Never,
}

impl FromStr for LostAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            _ => duration(text).map(Self::After).map_err(|refused| format!("{refused}; or never")),
        }
    }
}

impl fmt::Display for LostAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(duration) => f.write_str(&duration_text(*duration)),
            Self::Never => f.write_str("never"),
        }
    }
}

impl TryFrom<String> for LostAfter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LostAfter> for String {
    fn from(value: LostAfter) -> Self {
        value.to_string()
    }
}

/// A value, or an empty one, which takes back what was set before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrDefault<T>(pub(crate) Option<T>);

impl<T: FromStr> FromStr for OrDefault<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

/// A join token, which nothing prints.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) String);

impl FromStr for Token {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// `KEY=VALUE`, with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err("it is written KEY=VALUE".to_owned()),
        }
    }
}

/// One whole number for all instances, or a comma list with one for each.
pub(super) fn numbers(text: &str) -> Result<String, String> {
    let number = |part: &str| part.parse::<u32>().is_ok_and(|number| number > 0);
    if text.is_empty() || text.split(',').all(number) {
        Ok(text.to_owned())
    } else {
        Err("it is one whole number, or a list of them like 1024,2048, one for each instance".to_owned())
    }
}

/// One zone for all instances, or a comma list with one for each.
pub(super) fn zones(text: &str) -> Result<String, String> {
    let zone =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if text.is_empty() || text.split(',').all(zone) {
        Ok(text.to_owned())
    } else {
        Err("a zone has small letters, digits and hyphens; a list is written a,b".to_owned())
    }
}

/// The account that stands in ARNs.
pub(super) fn account_id(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("an account id is exactly twelve digits".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, seconds) in [("60s", 60), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "5", "m", "5x", "-5s", "1.5h", "5 m", "99999999999999999999s", "99999999999999d", "400d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lost_after_is_a_duration_or_never() {
        assert_eq!("never".parse(), Ok(LostAfter::Never));
        assert_eq!("90s".parse(), Ok(LostAfter::After(Duration::from_secs(90))));
        assert!("Never".parse::<LostAfter>().unwrap_err().contains("never"));
    }

    #[test]
    fn pairs_and_lists_are_read_or_refused() {
        assert_eq!("a=b=c".parse(), Ok(Pair { key: "a".into(), value: "b=c".into() }));
        assert!("=b".parse::<Pair>().is_err() && "a".parse::<Pair>().is_err());
        assert!(numbers("512").is_ok() && numbers("1,2").is_ok() && numbers("").is_ok());
        assert!(numbers("0").is_err() && numbers("1,,2").is_err() && numbers("1.5").is_err());
        assert!(zones("eu-1a,eu-1b").is_ok() && zones("A").is_err() && zones("a,").is_err());
        assert_eq!("".parse(), Ok(OrDefault::<u8>(None)));
        assert_eq!("7".parse(), Ok(OrDefault(Some(7_u8))));
    }

    proptest! {
        #[test]
        fn a_duration_is_read_back_as_it_was_written(seconds in 1..LONGEST.as_secs()) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(super::duration(&duration_text(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = (duration(&text), numbers(&text), zones(&text), text.parse::<Pair>());
        }
    }
}
