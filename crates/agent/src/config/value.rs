//! Parsers of single values, in the notations that `ecs.config` uses.
//!
//! Everything here is a pure function from text to a value or to the reason why the text is none; `config` adds the
//! name of the variable.

use std::time::Duration;

const NANOS: [(&str, u64); 8] = [
    // Longer units first where one is the beginning of another.
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A Go duration: `30s`, `1h30m`, `1.5h`, `100ms`, `0`.
pub(crate) fn go_duration(text: &str) -> Result<Duration, &'static str> {
    const SHAPE: &str = "a duration such as 30s, 10m or 1h30m";
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned.starts_with('-') {
        return Err("a duration that is not negative");
    }
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(SHAPE);
    }
    let mut rest = unsigned;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(SHAPE)?;
        let (number, after) = rest.split_at(number_len);
        let (unit, nanos_per_unit) = NANOS.iter().find(|(unit, _)| after.starts_with(unit)).ok_or(SHAPE)?;
        let nanos = scaled(number, *nanos_per_unit).ok_or(SHAPE)?;
        total = total.checked_add(nanos).ok_or("a duration below 292 years")?;
        rest = &after[unit.len()..];
    }
    Ok(Duration::from_nanos(total))
}

/// `number` × `unit` in whole nanoseconds; `number` is digits with at most one point.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    // Nineteen digits are beyond a nanosecond of an hour: the rest cannot count.
    let mut scale = unit;
    for digit in fraction.bytes().take(19) {
        scale /= 10;
        nanos = nanos.checked_add(u64::from(digit - b'0') * scale)?;
    }
    Some(nanos)
}

/// What Go's `ParseBool` takes.
pub(crate) fn go_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Option<u64>) {
        let parsed = go_duration(text).ok().map(|duration| u64::try_from(duration.as_nanos()).unwrap());
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn durations() {
        check("30s", Some(30_000_000_000));
        check("1h30m", Some(5_400_000_000_000));
        check("1.5h", Some(5_400_000_000_000));
        check(".5s", Some(500_000_000));
        check("2.s", Some(2_000_000_000));
        check("100ms", Some(100_000_000));
        check("3us", Some(3_000));
        check("3µs", Some(3_000));
        check("1m1ms", Some(60_001_000_000));
        check("+7ns", Some(7));
        check("0", Some(0));
        for bad in ["", "+", "-1s", "1", "s", "1d", "1h30", "1..2s", ".s", "1 s", "9999999999h"] {
            check(bad, None);
        }
    }

    #[test]
    fn booleans() {
        for yes in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(go_bool(yes), Ok(true));
        }
        for no in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(go_bool(no), Ok(false));
        }
        for bad in ["yes", "tRUE", "", "2"] {
            assert!(go_bool(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_an_error(text in ".{0,24}") {
            let _ = go_duration(&text);
        }

        #[test]
        fn whole_units_add_up(hours in 0u64..1000, minutes in 0u64..1000, seconds in 0u64..1000, millis in 0u64..1000) {
            let parsed = go_duration(&format!("{hours}h{minutes}m{seconds}s{millis}ms")).unwrap();
            let expected = Duration::from_millis(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis);
            prop_assert_eq!(parsed, expected);
        }
    }
}
