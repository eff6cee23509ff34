//! The wall clock, and whether it jumped.
//!
//! The engine counts in wall-clock time, because that is what it reports. A clock that somebody sets, or a machine that slept,
//! must neither fire nor delay a pause: the steady clock tells how much time really passed, and what differs is a jump.

use tokio::time::Instant;

use longshore_api::Timestamp;

/// Smaller differences are drift: a clock is steered by at most half a millisecond per second, and somebody looks each minute.
const LEAST_JUMP_MS: i64 = 1_000;

/// Reads the wall clock, again and again.
#[derive(Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    steady: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { wall: longshore_client::now(), steady: Instant::now() }
    }

    /// The time, and by how much the clock jumped since it was last read.
    pub(crate) fn read(&mut self) -> (Timestamp, Option<i64>) {
        self.advance(longshore_client::now(), Instant::now())
    }

    fn advance(&mut self, wall: Timestamp, steady: Instant) -> (Timestamp, Option<i64>) {
        let passed_ms = steady.saturating_duration_since(self.steady).as_millis();
        let expected = self.wall.plus_millis(i64::try_from(passed_ms).unwrap_or(i64::MAX));
        *self = Self { wall, steady };
        let by_ms = wall.since(expected);
        (wall, (by_ms.saturating_abs() >= LEAST_JUMP_MS).then_some(by_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_did_not_pass_on_the_steady_clock_is_a_jump() {
        let at = Timestamp::from_millis;
        let begin = Instant::now();
        let mut clock = Clock { wall: at(1_000_000), steady: begin };
        for (wall, steady_s, jump) in [
            (1_060_000, 60, None),
            (1_120_030, 120, None),
            (4_720_030, 120, Some(3_600_000)),
            (4_721_030, 121, None),
            (121_030, 122, Some(-4_601_000)),
        ] {
            let steady = begin + Duration::from_secs(steady_s);
            assert_eq!(clock.advance(at(wall), steady), (at(wall), jump), "{wall}");
        }
    }
}
