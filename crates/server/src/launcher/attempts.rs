//! What came of the orders that are due all the same, because what came of them could not be written down.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::capacity::retry_pause_ms;
use tokio::time::Instant;

/// What came of each order, by its number. An order whose answer is committed is not due any more, and forgotten here.
#[derive(Debug, Default)]
pub(super) struct Attempts(BTreeMap<u64, Attempt>);

#[derive(Debug)]
enum Attempt {
    /// It is done.
    Done,
    /// It failed so often in a row.
    Failed { failures: u32, not_before: Instant },
}

/// What is to be done about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The launcher is asked.
    Do,
    /// It is done: that is told again, not done again.
    Tell,
}

impl Attempts {
    /// Forgets the others.
    pub(super) fn keep(&mut self, due: impl Fn(u64) -> bool) {
        self.0.retain(|number, _| due(*number));
    }

    /// What is to be done about an order that is due; `None` while it rests after a failure.
    pub(super) fn next(&self, order: u64, now: Instant) -> Option<Next> {
        match self.0.get(&order) {
            None => Some(Next::Do),
            Some(Attempt::Done) => Some(Next::Tell),
            Some(Attempt::Failed { not_before, .. }) => (*not_before <= now).then_some(Next::Do),
        }
    }

    /// The order was done or not. It rests for as long as it would if that had been written down.
    pub(super) fn note(&mut self, order: u64, done: bool, now: Instant) {
        let before = match self.0.get(&order) {
            Some(Attempt::Failed { failures, .. }) => *failures,
            Some(Attempt::Done) | None => 0,
        };
        let failures = before.saturating_add(1);
        let attempt = match done {
            true => Attempt::Done,
            false => {
                let pause = Duration::from_millis(retry_pause_ms(failures).unsigned_abs());
                Attempt::Failed { failures, not_before: now + pause }
            }
        };
        self.0.insert(order, attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_cannot_be_answered_is_neither_done_twice_nor_tried_all_the_time() {
        let mut attempts = Attempts::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(attempts.next(7, start), Some(Next::Do));
        attempts.note(7, false, start);
        assert_eq!((attempts.next(7, after(999)), attempts.next(7, after(1_000))), (None, Some(Next::Do)));
        assert_eq!(attempts.next(8, start), Some(Next::Do), "another one need not wait for it");
        attempts.note(7, false, after(1_000));
        assert_eq!((attempts.next(7, after(2_999)), attempts.next(7, after(3_000))), (None, Some(Next::Do)));
        attempts.note(7, true, after(3_000));
        assert_eq!(attempts.next(7, after(3_000)), Some(Next::Tell));
        attempts.keep(|order| order != 7);
        assert_eq!(attempts.next(7, after(3_000)), Some(Next::Do), "it was answered");
    }
}
