//! The two spellings of time in signed requests.

use jiff::civil;
use jiff::tz::TimeZone;
use longshore_api::Timestamp;

/// `20150830T123600Z`.
pub(crate) fn format(at: Timestamp) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).ok()?;
    Some(at.strftime("%Y%m%dT%H%M%SZ").to_string())
}

/// Reads `20150830T123600Z`, and nothing that merely resembles it.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i16> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
    let when = civil::DateTime::new(number(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0).ok()?;
    let when = when.to_zoned(TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(when.timestamp().as_millisecond()))
}

/// Reads a `Date` header, which may be in either the compact spelling or that of mail and HTTP; with it the compact one, in
/// which it is signed.
pub(crate) fn read_header(text: String) -> Option<(Timestamp, String)> {
    if let Some(at) = parse(&text) {
        return Some((at, text));
    }
    let when = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&text).ok()?;
    let at = Timestamp::from_millis(when.as_millisecond());
    Some((at, format(at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compact_form_is_read_and_written() {
        let at = parse("20150830T123600Z").unwrap();
        assert_eq!(at.as_millis(), 1_440_938_160_000);
        assert_eq!(format(at).unwrap(), "20150830T123600Z");
        for spelling in ["20150830T123600Z", "Sun, 30 Aug 2015 12:36:00 GMT"] {
            assert_eq!(read_header(spelling.to_owned()), Some((at, "20150830T123600Z".to_owned())));
        }
    }

    #[test]
    fn what_only_resembles_it_is_refused() {
        for bad in [
            "",
            "20150830",
            "20150830T123600",
            "20151330T123600Z",
            "+0150830T123600Z",
            "20150830T12360\u{e9}",
            "2015083 T123600Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
