//! A set of small numbers that knows which of them comes next.

/// Numbers from 0 to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers([u64; 4]);

impl Numbers {
    pub(super) fn insert(&mut self, number: u16) {
        if let Some(word) = self.0.get_mut(usize::from(number / 64)) {
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn contains(&self, number: u16) -> bool {
        self.0.get(usize::from(number / 64)).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// The least number that is not less than `from`.
    pub(super) fn next_from(&self, from: u16) -> Option<u16> {
        let first = usize::from(from / 64);
        let hidden = (1_u64 << (from % 64)) - 1;
        (first..self.0.len()).find_map(|index| {
            let word = if index == first { self.0[index] & !hidden } else { self.0[index] };
            // Both are small: four words of 64 bits.
            (word != 0).then(|| index as u16 * 64 + word.trailing_zeros() as u16)
        })
    }
}

impl FromIterator<u16> for Numbers {
    fn from_iter<I: IntoIterator<Item = u16>>(numbers: I) -> Self {
        let mut set = Self::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_number_is_the_least_that_is_not_less(numbers in proptest::collection::btree_set(0_u16..256, 0..20), from in 0_u16..300) {
            let set: Numbers = numbers.iter().copied().collect();
            prop_assert_eq!(set.next_from(from), numbers.range(from..).next().copied());
            prop_assert_eq!(set.contains(from), numbers.contains(&from));
        }
    }
}
