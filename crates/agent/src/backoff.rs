//! Growing pauses between attempts, and the jitter in them.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Pauses that grow from `first` to `max` by `factor`, each lengthened by up to `jitter` of itself.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, max: Duration, factor: f64, jitter: f64) -> Self {
        Self { first, max, factor, jitter, next: first }
    }

    /// The pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.mul_f64(self.factor).min(self.max);
        pause.mul_f64(1.0 + self.jitter * random_unit())
    }

    /// What was tried works: start over.
    pub(crate) const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A number in [0, 1) from the operating system. Jitter is for spreading thousands of agents that lost the same server,
/// so no two of them may share a seed.
pub(crate) fn random_unit() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        // No jitter is better than no attempt.
        Err(_) => 0.0,
    }
}

/// `base` and up to `spread` more.
pub(crate) fn jittered(base: Duration, spread: Duration) -> Duration {
    base + spread.mul_f64(random_unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_over() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 5 * second, 2.0, 0.2);
        for expected in [1, 2, 4, 5, 5] {
            let pause = backoff.next();
            let base = second * expected;
            assert!(pause >= base && pause < base.mul_f64(1.2), "{pause:?}");
        }
        backoff.reset();
        assert!(backoff.next() < 2 * second);
    }

    #[test]
    fn random_numbers_differ_and_stay_below_one() {
        let numbers: Vec<f64> = (0..100).map(|_| random_unit()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number != numbers[0]));
    }
}
