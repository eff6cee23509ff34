//! Target tracking: how many machines to add, or how many are too many. Pure.

use super::ManagedScaling;
use crate::config::FleetSize;

/// What is to be done about the number of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracked {
    /// So many are to be added, at least one.
    Add(usize),
    /// As it should be.
    Enough,
    /// So many could go, at least one.
    Surplus(usize),
}

/// Compares the machines that are needed with those that are there or on their way. The reservation is above the
/// target, and machines are added, by no less than the minimum step and no more than the maximum; it is below even with
/// fewer machines, and they are a surplus.
pub(super) fn track(scaling: &ManagedScaling, size: FleetSize, needed: usize, there: usize) -> Tracked {
    let (minimum, maximum) = (size.minimum as usize, size.maximum as usize);
    let wanted = (needed * 100).div_ceil(scaling.target_percent.max(1) as usize).max(minimum);
    if wanted > there {
        let step = (wanted - there).clamp(scaling.minimum_step as usize, scaling.maximum_step as usize);
        return match step.min(maximum.saturating_sub(there)) {
            0 => Tracked::Enough,
            step => Tracked::Add(step),
        };
    }
    match there - wanted.min(maximum) {
        0 => Tracked::Enough,
        surplus => Tracked::Surplus(surplus),
    }
}

/// How many of a surplus go in one step: half of them. What comes back soon finds the other half.
pub(super) fn step_in(surplus: usize) -> usize {
    surplus.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scaling(target_percent: u32, minimum_step: u32, maximum_step: u32) -> ManagedScaling {
        ManagedScaling { enabled: true, target_percent, minimum_step, maximum_step, warmup_s: 300 }
    }

    const TO_10: FleetSize = FleetSize { minimum: 0, maximum: 10 };

    #[test]
    fn steps_and_bounds_are_obeyed() {
        let at = |scaling: &ManagedScaling, needed, there| track(scaling, TO_10, needed, there);
        let plain = scaling(100, 1, 10_000);
        assert_eq!(at(&plain, 0, 0), Tracked::Enough);
        assert_eq!(at(&plain, 3, 0), Tracked::Add(3));
        assert_eq!(at(&plain, 3, 3), Tracked::Enough);
        assert_eq!(at(&plain, 3, 5), Tracked::Surplus(2));
        assert_eq!(at(&plain, 30, 4), Tracked::Add(6), "the launcher's maximum");
        assert_eq!(at(&plain, 30, 10), Tracked::Enough);
        assert_eq!(at(&scaling(100, 4, 10), 1, 0), Tracked::Add(4), "the minimum step, though one is needed");
        assert_eq!(at(&scaling(100, 1, 2), 8, 0), Tracked::Add(2), "the maximum step, though eight are needed");
        assert_eq!(at(&scaling(50, 1, 10), 3, 3), Tracked::Add(3), "half of them are to be free");
        assert_eq!(at(&scaling(90, 1, 10), 9, 10), Tracked::Enough);
        let kept = FleetSize { minimum: 2, maximum: 10 };
        assert_eq!(track(&plain, kept, 0, 0), Tracked::Add(2));
        assert_eq!(track(&plain, kept, 0, 5), Tracked::Surplus(3));
    }

    proptest! {
        /// Done again and again, with nothing else changing, it comes to rest, where what is needed is there unless it
        /// may not be.
        #[test]
        fn it_comes_to_rest(
            target in 1u32..=100,
            least in 1u32..20,
            span in 0u32..20,
            needed in 0usize..60,
            there in 0usize..=50,
        ) {
            let (scaling, size) = (scaling(target, least, least + span), FleetSize { minimum: 1, maximum: 50 });
            let mut there = there;
            let mut steps = 0;
            loop {
                match track(&scaling, size, needed, there) {
                    Tracked::Enough => break,
                    Tracked::Add(more) => {
                        prop_assert!(there + more <= 50);
                        there += more;
                    }
                    Tracked::Surplus(surplus) => {
                        prop_assert!(step_in(surplus) >= 1 && step_in(surplus) <= surplus);
                        there -= step_in(surplus);
                    }
                }
                steps += 1;
                prop_assert!(steps < 200);
            }
            prop_assert!((1..=50).contains(&there));
            prop_assert!(there >= needed.min(50));
        }
    }
}
