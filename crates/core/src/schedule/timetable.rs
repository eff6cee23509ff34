//! When a schedule is due in the world: its expression in its time zone, between its beginning and its end.
//!
//! As EventBridge Scheduler has it: a local time that a zone leaves out in spring is not made up for, one that comes twice in autumn
//! counts once (the first time), and a rate counts hours and days as they pass. The zones are those of the database that this
//! program brings along, so that every server and every restart counts the same.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp as Instant, ToSpan};
use longshore_api::Timestamp;

use super::expression::Expression;

/// A time zone by its name in the database of IANA; `None` when there is none.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    // Names of files that are no zones are in no bundle, and `Etc/Unknown` is jiff's own.
    TimeZoneDatabase::bundled().get(name).ok().filter(|zone| zone.iana_name().is_some() && !zone.is_unknown())
}

/// What a schedule's due times follow from.
#[derive(Clone, Debug)]
pub(super) struct Timetable<'a> {
    pub(super) expression: &'a Expression,
    pub(super) zone: TimeZone,
    /// Not before.
    pub(super) start: Option<Timestamp>,
    /// Not after.
    pub(super) end: Option<Timestamp>,
    /// Where a rate without `start` begins.
    pub(super) created_at: Timestamp,
}

impl Timetable<'_> {
    /// The first due time that is later than `time`.
    pub(super) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let time = self.start.map_or(time, |start| time.max(start.plus_millis(-1)));
        let next = match self.expression {
            Expression::Rate(rate) => {
                let (begin, period_ms) = (self.start.unwrap_or(self.created_at), rate.period_ms());
                let periods = match time < begin {
                    true => 0,
                    false => time.since(begin) / period_ms + 1,
                };
                Some(begin.plus_millis(periods.saturating_mul(period_ms)))
            }
            Expression::At(local) => self.instant(*local).filter(|due| *due > time),
            Expression::Cron(cron) => {
                let local = self.zone.to_datetime(Instant::from_millisecond(time.as_millis()).ok()?);
                let mut from = whole_minute(local)?;
                loop {
                    let said = cron.next_from(from)?;
                    // Left out by the zone, or said for the second time in an hour that comes twice.
                    match self.instant(said).filter(|due| *due > time) {
                        Some(due) => break Some(due),
                        None => from = said.checked_add(1.minute()).ok()?,
                    }
                }
            }
        };
        // Times saturate: where there are no later ones, there is no later due time.
        next.filter(|due| *due > time && self.end.is_none_or(|end| *due <= end))
    }

    /// The last due time that is not later than `until`; `first` is one. Found by halving, since `next_after` only rises.
    pub(super) fn latest(&self, first: Timestamp, until: Timestamp) -> Timestamp {
        let due_by = |time: Timestamp| self.next_after(time).filter(|due| *due <= until);
        let (mut low, mut high) = (first.plus_millis(-1), until);
        let mut latest = first;
        while low.plus_millis(1) < high {
            let middle = low.plus_millis(high.since(low) / 2);
            match due_by(middle) {
                Some(due) => (low, latest) = (due.max(middle), due),
                None => high = middle,
            }
        }
        latest
    }

    /// When a local time is; `None` when the zone leaves it out.
    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let exists = !matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        let instant = exists.then(|| ambiguous.earlier().ok()).flatten()?;
        Some(Timestamp::from_millis(instant.as_millisecond()))
    }
}

/// The first whole minute that is not before a local time.
fn whole_minute(local: DateTime) -> Option<DateTime> {
    let minute = local.date().at(local.hour(), local.minute(), 0, 0);
    match minute == local {
        true => Some(minute),
        false => minute.checked_add(1.minute()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<Instant>().expect(text).as_millisecond())
    }

    fn table<'a>(expression: &'a Expression, name: &str) -> Timetable<'a> {
        let zone = zone(name).expect(name);
        Timetable { expression, zone, start: None, end: None, created_at: time("2026-01-01T00:00:00Z") }
    }

    fn due(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let expression: Expression = text.parse().expect(text);
        let table = table(&expression, zone);
        let times = std::iter::successors(table.next_after(time(from)), |last| table.next_after(*last));
        times.take(count).map(|time| Instant::from_millisecond(time.as_millis()).expect("a time").to_string()).collect()
    }

    #[test]
    fn a_zone_moves_the_hour() {
        assert_eq!(due("cron(0 9 * * ? *)", "UTC", "2026-03-27T12:00:00Z", 1), ["2026-03-28T09:00:00Z"]);
        assert_eq!(
            due("cron(0 9 * * ? *)", "Europe/Berlin", "2026-03-27T12:00:00Z", 2),
            ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"]
        );
        assert_eq!(due("at(2026-07-01T09:00:00)", "Asia/Kolkata", "2026-03-27T12:00:00Z", 2), ["2026-07-01T03:30:00Z"]);
    }

    #[test]
    fn what_spring_leaves_out_is_left_out() {
        // In Berlin 02:00 became 03:00 on 29 March 2026, at 01:00 UTC.
        assert_eq!(
            due("cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-28T00:00:00Z", 2),
            ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            due("cron(0/30 * * * ? *)", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
        );
        assert_eq!(due("at(2026-03-29T02:30:00)", "Europe/Berlin", "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
    }

    #[test]
    fn what_comes_twice_in_autumn_counts_once() {
        // In Berlin 03:00 became 02:00 on 25 October 2026, at 01:00 UTC.
        assert_eq!(
            due("cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            due("cron(0/30 * * * ? *)", "Europe/Berlin", "2026-10-25T00:10:00Z", 3),
            ["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"]
        );
    }

    #[test]
    fn a_rate_counts_from_its_beginning_and_ends_with_its_end() {
        assert_eq!(
            due("rate(12 hours)", "Europe/Berlin", "2026-10-24T12:00:01Z", 2),
            ["2026-10-25T00:00:00Z", "2026-10-25T12:00:00Z"]
        );
        let expression: Expression = "rate(1 day)".parse().expect("a rate");
        let (start, end) = (Some(time("2026-05-01T07:00:00Z")), Some(time("2026-05-02T07:00:00Z")));
        let table = Timetable { start, end, ..table(&expression, "UTC") };
        assert_eq!(table.next_after(time("2026-01-01T00:00:00Z")), start);
        assert_eq!(table.next_after(time("2026-05-01T07:00:00Z")), end);
        assert_eq!(table.next_after(time("2026-05-02T07:00:00Z")), None);
    }

    #[test]
    fn a_zone_is_one_of_the_database() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "europe/berlin"] {
            assert!(zone(name).is_some(), "{name}");
        }
        for name in ["", "Mars/Olympus", "/etc/localtime", "../UTC", "Etc/Unknown", "+01:00"] {
            assert!(zone(name).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_latest_due_time_is_the_last_of_all(
            text in prop_oneof![
                Just("cron(0/7 3,9 ? * MON-THU *)"), Just("cron(0 12 L * ? *)"), Just("rate(47 minutes)"),
                Just("cron(30 2 * * ? *)")
            ],
            from in 0_i64..400 * 24 * 60, minutes in 0_i64..60 * 24 * 60,
        ) {
            let expression: Expression = text.parse().expect("an expression");
            let table = table(&expression, "America/New_York");
            let begin = time("2026-01-01T00:00:00Z").plus_millis(from * 60_000);
            let first = table.next_after(begin).expect("always again");
            let until = first.plus_millis(minutes * 60_000);
            let all = std::iter::successors(Some(first), |last| table.next_after(*last));
            prop_assert_eq!(Some(table.latest(first, until)), all.take_while(|due| *due <= until).last());
        }
    }
}
