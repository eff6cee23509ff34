//! Times as events write them: ISO 8601, in UTC.

use jiff::Timestamp as Instant;
use longshore_api::Timestamp;

/// For example `2020-01-23T17:57:34.402Z`.
pub(super) fn with_millis(at: Timestamp) -> String {
    format!("{:.3}", instant(at))
}

/// For example `2020-01-23T17:57:34Z`.
pub(super) fn whole_seconds(at: Timestamp) -> String {
    format!("{:.0}", instant(at))
}

/// What no calendar reaches is written as its end.
fn instant(at: Timestamp) -> Instant {
    let end = if at.as_millis() < 0 { Instant::MIN } else { Instant::MAX };
    Instant::from_millisecond(at.as_millis()).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_579_802_254_402, "2020-01-23T17:57:34.402Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(with_millis(Timestamp::from_millis(millis)), text);
        }
        assert_eq!(whole_seconds(Timestamp::from_millis(1_579_802_254_402)), "2020-01-23T17:57:34Z");
    }
}
