//! The mass-loss brake, as arithmetic on counts (DESIGN §4).
//!
//! When much of a cluster vanishes at once it is rarely the machines: a switch, a server's own network, a bad deployment
//! of agents. Evicting then would start everything twice, or start it nowhere. So the brake counts hosts, not
//! instances: several instances of one machine vanish together whatever happened.

use longshore_api::Timestamp;

use crate::config::LossPolicy;

/// Fewer vanished hosts than this are ordinary loss, whatever their share of a small cluster is, as long as another
/// host is left to take over: of three machines one may die.
const MASS: usize = 3;

/// How the hosts of a cluster fare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// With a session.
    pub(crate) connected: usize,
    /// Without one since the cell began to serve, and still with time to return.
    pub(crate) awaited: usize,
    /// When each of the others vanished, those that are lost not among them.
    pub(crate) missing: Vec<Timestamp>,
    /// When each that is lost by its clock, and not back, had vanished.
    pub(crate) lost: Vec<Timestamp>,
}

/// Hosts that vanished within one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MassLoss {
    /// How many did.
    pub(crate) vanished: usize,
    /// How many there were.
    pub(crate) of: usize,
}

impl Hosts {
    /// The mass loss that forbids evicting anything, if there is one: the most hosts that vanished within one window, if they
    /// are more than their share allows, and either [`MASS`] or all that could replace anything.
    pub(crate) fn mass_loss(&self, policy: &LossPolicy) -> Option<MassLoss> {
        let times = self.vanished(policy);
        let of = self.connected + self.awaited + times.len();
        let vanished = most_within(&times, policy.brake_window_ms);
        self.is_mass(vanished, of, policy).then_some(MassLoss { vanished, of })
    }

    /// Whether so many are back that the others are no mass loss, whenever they vanished.
    pub(crate) fn recovered(&self, policy: &LossPolicy) -> bool {
        let vanished = self.vanished(policy).len();
        !self.is_mass(vanished, self.connected + self.awaited + vanished, policy)
    }

    /// When the hosts vanished that are missing, in order; and those that are lost already, as long as one window holds their
    /// vanishing and that of a host to be decided about.
    fn vanished(&self, policy: &LossPolicy) -> Vec<Timestamp> {
        let Some(oldest) = self.missing.iter().min() else { return Vec::new() };
        let reach = oldest.plus_millis(-policy.brake_window_ms);
        let lost = self.lost.iter().filter(|at| **at >= reach);
        let mut times: Vec<Timestamp> = lost.chain(&self.missing).copied().collect();
        times.sort_unstable();
        times
    }

    fn is_mass(&self, vanished: usize, of: usize, policy: &LossPolicy) -> bool {
        vanished * 100 > of * policy.brake_percent as usize && (vanished >= MASS || self.connected == 0)
    }
}

/// The most of `times`, which are sorted, that lie within one window.
fn most_within(times: &[Timestamp], window_ms: i64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in times.iter().enumerate() {
        while at.since(times[first]) > window_ms {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn hosts(connected: usize, missing: &[i64], lost: &[i64]) -> Hosts {
        let times = |seconds: &[i64]| seconds.iter().copied().map(at).collect();
        Hosts { connected, awaited: 0, missing: times(missing), lost: times(lost) }
    }

    fn mass(connected: usize, missing: &[i64], lost: &[i64]) -> Option<(usize, usize)> {
        let found = hosts(connected, missing, lost).mass_loss(&LossPolicy::default());
        found.map(|loss| (loss.vanished, loss.of))
    }

    #[test]
    fn one_or_two_dead_machines_of_a_small_cluster_are_no_mass_loss() {
        assert_eq!(mass(1, &[0], &[]), None);
        assert_eq!(mass(2, &[0], &[]), None);
        assert_eq!(mass(1, &[0, 0], &[]), None);
    }

    #[test]
    fn when_no_host_is_left_there_is_nobody_to_take_over() {
        assert_eq!(mass(0, &[0], &[]), Some((1, 1)));
        assert_eq!(mass(0, &[0, 1], &[]), Some((2, 2)));
    }

    #[test]
    fn more_than_the_share_and_at_least_three_within_a_window_are_a_mass_loss() {
        assert_eq!(mass(7, &[0, 0, 0], &[]), None, "30 % is not more than 30 %");
        assert_eq!(mass(6, &[0, 0, 0], &[]), Some((3, 9)));
        assert_eq!(mass(6, &[0, 30, 60], &[]), Some((3, 9)));
        assert_eq!(mass(6, &[0, 30, 61], &[]), None);
    }

    #[test]
    fn hosts_lost_within_the_window_count_and_those_lost_long_ago_do_not() {
        assert_eq!(mass(6, &[55], &[0, 20]), Some((3, 9)));
        assert_eq!(mass(6, &[65], &[0, 20]), None);
        // Of ten machines nine died one after the other, and were never deregistered: the last one is all there is.
        assert_eq!(mass(0, &[9_000], &[0, 1_000, 2_000]), Some((1, 1)));
    }

    #[test]
    fn a_share_of_a_hundred_percent_never_brakes() {
        let policy = LossPolicy { brake_percent: 100, ..LossPolicy::default() };
        assert_eq!(hosts(0, &[0, 0, 0, 0], &[]).mass_loss(&policy), None);
    }

    #[test]
    fn the_brake_is_released_when_what_is_missing_would_not_engage_it() {
        let policy = LossPolicy::default();
        assert!(!hosts(0, &[0], &[]).recovered(&policy));
        assert!(hosts(2, &[0], &[]).recovered(&policy), "one of three is ordinary loss");
        assert!(!hosts(4, &[0, 500, 1_000], &[]).recovered(&policy), "whenever they vanished");
        assert!(hosts(7, &[0, 0, 0], &[]).recovered(&policy));
        assert!(!hosts(4, &[40], &[0, 20]).recovered(&policy), "those lost before it engaged are not back either");
        assert!(hosts(0, &[], &[0, 20]).recovered(&policy), "nothing is held");
    }

    proptest! {
        #[test]
        fn the_sliding_window_finds_what_trying_every_window_finds(times in prop::collection::vec(0i64..300, 0..30)) {
            let mut times: Vec<Timestamp> = times.into_iter().map(at).collect();
            times.sort_unstable();
            let within = |from: &Timestamp| times.iter().filter(|at| (0..=60_000).contains(&at.since(*from))).count();
            prop_assert_eq!(most_within(&times, 60_000), times.iter().map(within).max().unwrap_or(0));
        }
    }
}
