//! The cell's time, made of a wall clock, which people set, and a steady one, which only counts.
//!
//! For the cell time never goes back, and what it waits for takes as long as it was meant to. When the wall clock is set back,
//! time goes on at half its pace until the wall clock has caught up: what is due comes late by as much again at most, and
//! never stands still. When the wall clock is set forward, or the machine slept, time leaps with it; the cell is told by how
//! much ([`Command::ClockLeapt`](crate::cell::Command::ClockLeapt)), so that nobody is given up for a silence that never was.

use longshore_api::Timestamp;

/// Smaller differences between the clocks are drift: a clock is steered by at most half a millisecond per second.
const LEAST_LEAP_MS: i64 = 1_000;

/// Reads both clocks, again and again.
#[derive(Clone, Debug, Default)]
pub struct CellClock {
    last: Option<Reading>,
    /// Up to where of the steady clock time was counted.
    counted_ms: i64,
}

/// What the cell's clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The time.
    pub now: Timestamp,
    /// By how much it has leapt ahead since the first reading, in all.
    pub leapt_ms: i64,
}

impl CellClock {
    /// The time, when the wall clock shows `wall` and the steady one has counted `steady_ms`.
    pub fn read(&mut self, wall: Timestamp, steady_ms: i64) -> Reading {
        let Some(last) = self.last else {
            self.counted_ms = steady_ms;
            return *self.last.insert(Reading { now: wall, leapt_ms: 0 });
        };
        let passed_ms = (steady_ms - self.counted_ms).max(0);
        let slowly = last.now.plus_millis(passed_ms / 2);
        let reading = match wall > slowly {
            true => {
                let ahead_ms = wall.since(last.now) - passed_ms;
                let leap_ms = if ahead_ms >= LEAST_LEAP_MS { ahead_ms } else { 0 };
                self.counted_ms = steady_ms;
                Reading { now: wall, leapt_ms: last.leapt_ms + leap_ms }
            }
            false => {
                // What an odd millisecond leaves over counts the next time.
                self.counted_ms += passed_ms / 2 * 2;
                Reading { now: slowly, ..last }
            }
        };
        *self.last.insert(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the clock at each of (wall, steady); answers (time, leap in all).
    fn read(readings: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let mut clock = CellClock::default();
        let mut shown = |&(wall, steady): &(i64, i64)| {
            let Reading { now, leapt_ms } = clock.read(Timestamp::from_millis(wall), steady);
            (now.as_millis(), leapt_ms)
        };
        readings.iter().map(&mut shown).collect()
    }

    #[test]
    fn a_clock_that_nobody_sets_shows_the_wall_clock() {
        assert_eq!(read(&[(5_000, 70), (5_010, 80), (6_010, 1_080)]), [(5_000, 0), (5_010, 0), (6_010, 0)]);
    }

    #[test]
    fn a_leap_is_followed_and_told() {
        assert_eq!(
            read(&[(5_000, 0), (3_605_500, 500), (3_606_000, 1_000)]),
            [(5_000, 0), (3_605_500, 3_600_000), (3_606_000, 3_600_000)]
        );
        assert_eq!(read(&[(5_000, 0), (5_900, 0)]), [(5_000, 0), (5_900, 0)], "drift is no leap");
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_slowly_until_the_wall_clock_has_caught_up() {
        let shown =
            read(&[(10_000, 0), (6_000, 0), (6_001, 1), (6_002, 2), (8_000, 2_000), (14_000, 8_000), (15_000, 9_000)]);
        assert_eq!(shown, [(10_000, 0), (10_000, 0), (10_000, 0), (10_001, 0), (11_000, 0), (14_000, 0), (15_000, 0)]);
    }
}
