//! Chance, as a function of the seed.

use longshore_core::entropy::Entropy;

/// A stream of choices. Each part of the world draws from its own, so that a change in one leaves the others alone.
#[derive(Clone, Debug)]
pub(crate) struct Random(Entropy);

impl Random {
    /// The stream of that name in the run of that seed.
    pub(crate) fn of(seed: u64, stream: &str) -> Self {
        let mut bytes = [0u8; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        for (byte, letter) in bytes[8..].iter_mut().zip(stream.bytes()) {
            *byte = letter;
        }
        let mut entropy = Entropy::from_seed(bytes);
        // Seeds that differ in one bit start alike; a few steps spread the difference over the whole state.
        for _ in 0..16 {
            entropy.next_u64();
        }
        Self(entropy)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = usize::try_from(high - low + 1).unwrap_or(1);
        low + i64::try_from(self.0.below(span)).unwrap_or(0)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// True that many times in a thousand.
    pub(crate) fn per_mille(&mut self, chance: i64) -> bool {
        self.between(0, 999) < chance
    }

    /// One of them; `None` of none.
    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        among.get(self.0.below(among.len()))
    }

    /// A stream for somebody else.
    pub(crate) fn fork(&mut self) -> Entropy {
        self.0.fork()
    }
}
