//! A place in a container's log, such that the log can be read on from there by whoever knows it.
//!
//! Docker finds a place by time alone, and times are not unique; nor are they quite in order, as each of the two streams
//! notes its own. So a place is an *anchor* some time back, and how many entries since the anchor were read. Those that
//! Docker gives again are skipped by their number, and by nothing else than their order in the log.

use std::fmt;
use std::str::FromStr;

/// How far apart two entries may be noted in the wrong order. They are read by two threads of the Engine, one after the other
/// when it has time for both.
const DISORDER_NS: i128 = 1_000_000_000;

/// When something was printed, to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

impl Time {
    fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)
    }

    /// Reads what Docker writes, in whichever time zone.
    pub(super) fn from_rfc3339(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        let nanoseconds = u32::try_from(time.subsec_nanosecond()).ok()?;
        Some(Self { seconds: time.as_second(), nanoseconds })
    }
}

/// In UTC, each of the same length, so that their order is that of the times.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_second(self.seconds).unwrap_or_default();
        write!(f, "{}.{:09}Z", time.strftime("%Y-%m-%dT%H:%M:%S"), self.nanoseconds)
    }
}

/// How many entries at or after a time were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    time: Time,
    read: u64,
}

/// Where to read on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    anchor: Mark,
    /// The latest time of all that was read: what is later was not.
    latest: Option<Time>,
    /// The next anchor, once everything near it must have been noted.
    next: Option<Mark>,
    /// The first entry that is read becomes the anchor: what lies before it is not read, and is not asked for again.
    afloat: bool,
}

impl Position {
    /// Nothing was read of what was printed since then.
    pub(super) fn at_millis(millis: i64) -> Self {
        let nanoseconds = u32::try_from(millis.rem_euclid(1_000)).unwrap_or(0) * 1_000_000;
        let time = Time { seconds: millis.div_euclid(1_000), nanoseconds };
        Self { anchor: Mark { time, read: 0 }, ..Self::default() }
    }

    /// The same, if only the last lines are going to be read.
    pub(super) fn of_tail(self) -> Self {
        Self { afloat: true, ..self }
    }

    /// From when on Docker must be asked; from the beginning if that is the place.
    pub(super) fn since(&self) -> Option<(i64, u32)> {
        let time = self.anchor.time;
        (time != Time::default()).then_some((time.seconds, time.nanoseconds))
    }

    /// What of it Docker gives again.
    pub(super) fn again(&self) -> Again {
        Again { count: self.anchor.read, latest: self.latest, from: self.anchor.time }
    }

    /// One more entry was read.
    pub(super) fn advance(&mut self, time: Time) {
        if std::mem::take(&mut self.afloat) {
            self.anchor = Mark { time, read: 0 };
        }
        let is_new = self.latest.is_none_or(|latest| time > latest);
        for mark in [Some(&mut self.anchor), self.next.as_mut()].into_iter().flatten() {
            if time >= mark.time {
                mark.read = mark.read.saturating_add(1);
            }
        }
        if !is_new {
            return;
        }
        self.latest = Some(time);
        let distance = |mark: Mark| time.as_nanos() - mark.time.as_nanos();
        match self.next {
            Some(next) if distance(next) > DISORDER_NS => {
                self.anchor = next;
                self.next = Some(Mark { time, read: 1 });
            }
            None => self.next = Some(Mark { time, read: 1 }),
            Some(_) => {}
        }
    }
}

/// Entries that were read before, and come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Again {
    count: u64,
    latest: Option<Time>,
    from: Time,
}

impl Again {
    /// Whether this entry is one of them.
    pub(super) fn is(&mut self, time: Time) -> bool {
        // Some log drivers know whole seconds only.
        if time < self.from {
            return true;
        }
        // Logs are rotated: those that were read may be gone, but nothing later than the latest of them was read.
        let again = self.count > 0 && self.latest.is_some_and(|latest| time <= latest);
        self.count = if again { self.count - 1 } else { 0 };
        again
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mark { time, read } = self.anchor;
        write!(f, "{}.{:09}/{read}", time.seconds, time.nanoseconds)?;
        match self.latest {
            Some(latest) => write!(f, "/{}.{:09}", latest.seconds, latest.nanoseconds),
            None => Ok(()),
        }
    }
}

/// The text is no position of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(InvalidPosition);
        let anchor = Mark { time: time(part()?)?, read: part()?.parse().map_err(|_| InvalidPosition)? };
        let latest = part().ok().map(time).transpose()?;
        match parts.next() {
            None => Ok(Self { anchor, latest, next: None, afloat: false }),
            Some(_) => Err(InvalidPosition),
        }
    }
}

fn time(text: &str) -> Result<Time, InvalidPosition> {
    let (seconds, nanoseconds) = text.split_once('.').ok_or(InvalidPosition)?;
    let seconds: i64 = seconds.parse().map_err(|_| InvalidPosition)?;
    let nanoseconds: u32 = nanoseconds.parse().map_err(|_| InvalidPosition)?;
    match nanoseconds < 1_000_000_000 {
        true => Ok(Time { seconds, nanoseconds }),
        false => Err(InvalidPosition),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at_ms(ms: u32) -> Time {
        Time { seconds: i64::from(ms / 1000), nanoseconds: ms % 1000 * 1_000_000 }
    }

    /// What Docker gives from a position on, and which of it is new.
    fn read_on(log: &[Time], position: &Position) -> Vec<usize> {
        let mut again = position.again();
        let from = position.anchor.time;
        let given = log.iter().enumerate().filter(|(_, time)| **time >= from);
        given.filter(|(_, time)| !again.is(**time)).map(|(index, _)| index).collect()
    }

    #[test]
    fn times_are_read_and_written_to_the_nanosecond() {
        let text = "2026-11-22T11:15:01.000000007Z";
        let time = Time::from_rfc3339(text).unwrap();
        assert_eq!((time.nanoseconds, time.to_string().as_str()), (7, text));
        assert_eq!(Time::from_rfc3339("2026-11-22T12:15:01.000000007+01:00"), Some(time));
        assert_eq!(Time::from_rfc3339("yesterday"), None);
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for bad in ["", "1", "1.5/", "1.5/x", "x.5/1", "1.5/1/", "1.5/1/2.5/3", "1.1000000000/1"] {
            assert_eq!(bad.parse::<Position>(), Err(InvalidPosition), "{bad}");
        }
    }

    #[test]
    fn after_a_rotation_nothing_new_is_taken_for_old() {
        let log: Vec<Time> = (0..10).map(at_ms).collect();
        let mut position = Position::at_millis(0);
        log.iter().for_each(|time| position.advance(*time));
        let rotated: Vec<Time> = (8..14).map(at_ms).collect();
        assert_eq!(read_on(&rotated, &position), [2, 3, 4, 5]);
    }

    #[test]
    fn what_lies_before_a_tail_is_not_asked_for_again() {
        let log: Vec<Time> = (1..10).map(|second| at_ms(second * 1000)).collect();
        let mut position = Position::at_millis(0).of_tail();
        log[6..].iter().for_each(|time| position.advance(*time));
        let position: Position = position.to_string().parse().unwrap();
        let more: Vec<Time> = log.into_iter().chain([at_ms(10_000)]).collect();
        assert_eq!(read_on(&more, &position), [9]);
    }

    proptest! {
        /// However the log is cut into pages, and although times repeat and are out of order, each entry is read once.
        #[test]
        fn no_entry_is_missed_or_repeated(
            steps in prop::collection::vec((0..700_u32, 0..400_u32), 1..60),
            pages in prop::collection::vec(1..6_usize, 1..60),
        ) {
            let mut clock = 5_000;
            let log: Vec<Time> = steps.iter().map(|(step, back)| {
                clock += step;
                at_ms(clock - back)
            }).collect();
            let mut position = Position::at_millis(0);
            let mut read = Vec::new();
            for size in pages.iter().cycle().take(log.len()) {
                position = position.to_string().parse().unwrap();
                let new = read_on(&log, &position);
                for index in new.into_iter().take(*size) {
                    position.advance(log[index]);
                    read.push(index);
                }
            }
            prop_assert_eq!(read, (0..log.len()).collect::<Vec<_>>());
        }
    }
}
