//! Growing pauses between attempts, and the jitter in them.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// The longest pause while the server is away, whatever for. The control plane waits twice as long after its start before
/// it takes an instance for lost, so this figure is part of the protocol between the two.
const LONGEST_WHILE_AWAY: Duration = Duration::from_secs(15);

/// Pauses that grow from `first` to `max` by `factor`, with chance in them.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    factor: f64,
    jitter: Jitter,
    next: Duration,
}

/// What chance does to a pause.
#[derive(Clone, Copy, Debug)]
enum Jitter {
    /// It becomes longer, by up to this part of itself.
    Longer(f64),
    /// It becomes anything up to itself.
    Full,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, max: Duration, factor: f64, jitter: f64) -> Self {
        Self { first, max, factor, jitter: Jitter::Longer(jitter), next: first }
    }

    /// Pauses of any length up to one that grows from `first` to `max`: attempts of many agents spread evenly.
    pub(crate) const fn full_jitter(first: Duration, max: Duration, factor: f64) -> Self {
        Self { first, max, factor, jitter: Jitter::Full, next: first }
    }

    /// Between attempts to reach a server that is away: a thousand agents that lost it at once come back within the first
    /// second one by one, and go on trying a hundred and more a second.
    pub(crate) const fn while_away() -> Self {
        Self::full_jitter(Duration::from_secs(1), LONGEST_WHILE_AWAY, 2.0)
    }

    /// Between attempts while the server does not accept who we are. Only an operator changes that.
    pub(crate) const fn while_denied() -> Self {
        Self::new(Duration::from_secs(10), Duration::from_secs(300), 2.0, 0.2)
    }

    /// The pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.mul_f64(self.factor).min(self.max);
        match self.jitter {
            Jitter::Longer(part) => pause.mul_f64(1.0 + part * random_unit()),
            Jitter::Full => pause.mul_f64(random_unit()),
        }
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
    fn many_agents_that_lost_a_server_come_back_one_by_one() {
        let firsts: Vec<Duration> = (0..1000).map(|_| Backoff::while_away().next()).collect();
        for tenth in 0..10 {
            let from = Duration::from_millis(100 * tenth);
            let count =
                firsts.iter().filter(|pause| (from..from + Duration::from_millis(100)).contains(*pause)).count();
            assert!((50..150).contains(&count), "{count} of 1000 in tenth {tenth}");
        }
        let mut backoff = Backoff::while_away();
        assert!((0..100).all(|_| backoff.next() <= LONGEST_WHILE_AWAY));
        assert!((0..100).any(|_| backoff.next() > LONGEST_WHILE_AWAY / 2));
    }

    #[test]
    fn random_numbers_differ_and_stay_below_one() {
        let numbers: Vec<f64> = (0..100).map(|_| random_unit()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number != numbers[0]));
    }
}
