//! Arguments with a meaning of their own: versions, dates, numbers.

use std::cmp::Ordering;

/// A version of an agent: up to four numbers, and what comes after a hyphen, which makes it an earlier one.
#[derive(Clone, Debug)]
pub(super) struct Version<S> {
    numbers: [u32; 4],
    suffix: Option<S>,
}

impl<'a> Version<&'a str> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (numbered, suffix) = match text.split_once('-') {
            Some((numbered, suffix)) => (numbered, Some(suffix)),
            None => (text, None),
        };
        let mut numbers = [0; 4];
        let mut parts = numbered.split('.');
        for (number, part) in numbers.iter_mut().zip(parts.by_ref()) {
            *number = part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()))?;
        }
        parts.next().is_none().then_some(Self { numbers, suffix })
    }

    pub(super) fn into_owned(self) -> Version<Box<str>> {
        Version { numbers: self.numbers, suffix: self.suffix.map(Box::from) }
    }
}

impl<S: AsRef<str>> Version<S> {
    pub(super) fn cmp<T: AsRef<str>>(&self, other: &Version<T>) -> Ordering {
        let suffixes = match (&self.suffix, &other.suffix) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) => one.as_ref().cmp(other.as_ref()),
        };
        self.numbers.cmp(&other.numbers).then(suffixes)
    }
}

/// The seconds since the epoch that a date of one of ECS's four forms means. Without a zone it is UTC.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let is = |at: usize, c: u8| text.as_bytes().get(at) == Some(&c);
    let within = |value: i64, least: i64, most: i64| (least..=most).contains(&value).then_some(value);
    let (year, month, day) = (digits(0..4)?, within(digits(5..7)?, 1, 12)?, digits(8..10)?);
    let good = is(4, b'-') && is(7, b'-') && (1..=days_of(year, month)).contains(&day);
    let midnight = good.then(|| days_since_epoch(year, month, day) * 86_400)?;
    if text.len() == 10 {
        return Some(midnight);
    }
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let of_day = within(hour, 0, 23)? * 3_600 + within(minute, 0, 59)? * 60 + within(second, 0, 59)?;
    let local = (is(10, b'T') && is(13, b':') && is(16, b':')).then_some(midnight + of_day)?;
    let offset = match text.get(19..)? {
        "" | "Z" => 0,
        zone if zone.len() == 6 && is(22, b':') => {
            let ahead = within(digits(20..22)?, 0, 18)? * 3_600 + within(digits(23..25)?, 0, 59)? * 60;
            match zone.as_bytes()[0] {
                b'+' => ahead,
                b'-' => -ahead,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(local - offset)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March, so that a leap day is their last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}

/// The order of two values: of numbers if both are decimal numbers, else of texts.
pub(super) fn order(one: &str, other: &str) -> Ordering {
    match (decimal(one), decimal(other)) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.cmp(other),
    }
}

fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let ascending = ["1.9.0-rc1", "1.9", "1.14.5", "1.105", "1.105.0.1", "v2"];
        let versions: Vec<_> = ascending.iter().map(|text| Version::parse(text).expect("a version")).collect();
        for (at, one) in versions.iter().enumerate() {
            for (other_at, other) in versions.iter().enumerate() {
                assert_eq!(one.cmp(other), at.cmp(&other_at), "{one:?} {other:?}");
            }
        }
        let same = |one, other| Version::parse(one).expect("good").cmp(&Version::parse(other).expect("good"));
        assert_eq!(same("1.14", "1.14.0"), Ordering::Equal);
        for bad in ["", "latest", "1..2", "1.2.3.4.5", "1.+2", "99999999999"] {
            assert!(Version::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn dates_of_the_documented_forms_are_read_and_no_others() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2018-06-18", 1_529_280_000),
            ("2018-06-18T22:28:28", 1_529_360_908),
            ("2018-06-18T22:28:28Z", 1_529_360_908),
            ("2018-06-18T22:28:28+00:00", 1_529_360_908),
            ("2018-06-18T22:28:28+02:30", 1_529_360_908 - 9_000),
            ("2018-06-18T22:28:28-02:30", 1_529_360_908 + 9_000),
            ("2024-02-29", 1_709_164_800),
            ("1969-12-31T23:59:59Z", -1),
            ("0000-03-01", -62_162_035_200),
        ] {
            assert_eq!(super::seconds(text), Some(seconds), "{text}");
        }
        for bad in [
            "",
            "2018",
            "2018-6-18",
            "2018-13-01",
            "2023-02-29",
            "2018-06-18 22:28:28",
            "2018-06-18T24:00:00",
            "2018-06-18T22:28:28.5Z",
            "2018-06-18T22:28:28+0000",
            "2018-06-18T22:28:28+00:0ä",
            "2018-06-1ä",
            "+018-06-18",
        ] {
            assert_eq!(super::seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_ordered_as_numbers_and_anything_else_as_text() {
        assert_eq!(order("9", "10"), Ordering::Less);
        assert_eq!(order("1.50", "1.5"), Ordering::Equal);
        assert_eq!(order("rack-9", "rack-10"), Ordering::Greater);
        assert_eq!(order("inf", "10"), Ordering::Greater);
    }
}
