//! Randomness as an input: a stream grown from a seed that the caller passes in with each command.

/// A deterministic stream of numbers from a 32-byte seed (xoshiro256**).
///
/// Good for identities and choices, not for secrets: those are made at the edge.
#[derive(Clone, Debug)]
pub struct Entropy {
    state: [u64; 4],
}

impl Entropy {
    /// A stream from a seed: from the operating system in production, from the run's seed in simulation.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut state = [0u64; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte));
        }
        // An all-zero state would only ever give zeros.
        if state == [0; 4] {
            state = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 1];
        }
        Self { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number below `bound`, every one as likely as the other to within 2⁻⁶⁴; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A seed for another stream, so that one more draw here does not renumber what the other makes.
    pub fn fork(&mut self) -> Entropy {
        let mut seed = [0u8; 32];
        for chunk in seed.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_be_bytes());
        }
        Entropy::from_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_below_stays_below() {
        let mut a = Entropy::from_seed([3; 32]);
        let mut b = Entropy::from_seed([3; 32]);
        let mut seen = [0usize; 7];
        for _ in 0..7_000 {
            let drawn = a.below(7);
            assert_eq!(drawn, b.below(7));
            seen[drawn] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1_200).contains(&count)), "{seen:?}");
    }

    #[test]
    fn a_zero_seed_still_gives_numbers() {
        let mut entropy = Entropy::from_seed([0; 32]);
        entropy.next_u64();
        assert_ne!(entropy.next_u64(), entropy.next_u64());
    }
}
