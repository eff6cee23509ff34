//! Times as events write them: ISO 8601, in UTC. The core has no time library, and needs no more of one than this.

use longshore_api::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// For example `2020-01-23T17:57:34.402Z`.
pub(super) fn with_millis(at: Timestamp) -> String {
    format!("{}.{:03}Z", seconds(at), at.as_millis().rem_euclid(1_000))
}

/// For example `2020-01-23T17:57:34Z`.
pub(super) fn whole_seconds(at: Timestamp) -> String {
    format!("{}Z", seconds(at))
}

fn seconds(at: Timestamp) -> String {
    let (days, rest) = (at.as_millis().div_euclid(DAY_MS), at.as_millis().rem_euclid(DAY_MS) / 1_000);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar. Years begin in March here, so that a leap day
/// is the last of its year; 400 of them have 146,097 days, of which 719,468 lie between March of year 0 and 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
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
