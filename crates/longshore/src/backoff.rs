//! How long to wait before a process that died is started again.

use std::time::Duration;

/// The first pause. Short: a single crash should be over before anybody looks.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause. A process that cannot start costs a start every half minute, and is back within one of being mended.
const LONGEST: Duration = Duration::from_secs(30);
/// A process that lived so long was well: its next death is a new story, not a part of the last one.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Pauses that double from death to death, and start anew after a life that was long enough.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The pause after a life of `lived`.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= WELL_AFTER {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (self.next * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut backoff = Backoff::new();
        let pauses_ms: Vec<u128> = (0..10).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses_ms, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn a_long_life_is_forgiven_and_a_short_one_is_not() {
        let mut backoff = Backoff::new();
        for _ in 0..5 {
            backoff.after(Duration::ZERO);
        }
        assert!(backoff.after(WELL_AFTER - Duration::from_millis(1)) > FIRST);
        assert_eq!(backoff.after(WELL_AFTER), FIRST);
    }
}
