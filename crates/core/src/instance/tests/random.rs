//! Loss and brake under random absences, against an oracle that knows only who was heard of when.

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::config::{CellConfig, LossPolicy};
use crate::fixture::config;

const POLICY: LossPolicy = LossPolicy {
    lost_after_ms: Some(40_000),
    official_lost_after_ms: Some(40_000),
    return_grace_ms: 10_000,
    official_return_grace_ms: 10_000,
    brake_percent: 30,
    brake_window_ms: 30_000,
};

#[derive(Clone, Debug)]
enum Move {
    Vanish { at: usize, silent_ms: i64 },
    Return { at: usize },
    Run,
    Pass { ms: i64 },
    Reset,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (any::<usize>(), 0i64..15_000).prop_map(|(at, silent_ms)| Move::Vanish { at, silent_ms }),
        4 => any::<usize>().prop_map(|at| Move::Return { at }),
        3 => Just(Move::Run),
        6 => (0i64..30_000).prop_map(|ms| Move::Pass { ms }),
        1 => Just(Move::Reset),
    ];
    prop::collection::vec(one, 1..40)
}

/// What the oracle knows of an instance.
#[derive(Clone, Debug)]
struct Known {
    machine: Machine,
    host: usize,
    connected: bool,
    opened_at: Timestamp,
    /// When it vanished, or does once its grace is over.
    vanished_at: Timestamp,
    lost: bool,
}

struct World {
    lab: Lab,
    known: Vec<Known>,
    braked: bool,
    /// Since when every clock that the brake held runs anew, at the earliest.
    released_at: Timestamp,
}

impl World {
    fn new() -> Self {
        let mut lab = Lab::with(CellConfig { loss: POLICY, ..config() });
        lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
        let known = (0..9u32)
            .map(|index| {
                // Seven hosts, two of which have two instances.
                let host = index as usize % 7;
                let machine = machine(&mut lab, index + 1, &format!("host-{host}"));
                let now = lab.now;
                Known { machine, host, connected: true, opened_at: now, vanished_at: now, lost: false }
            })
            .collect();
        let released_at = lab.now;
        Self { lab, known, braked: false, released_at }
    }

    /// Hosts of which nothing is connected, by when the last of their instances vanished; those lost long ago apart.
    fn missing(&self, now: Timestamp) -> BTreeMap<usize, Timestamp> {
        let mut missing = BTreeMap::new();
        for known in &self.known {
            let host: Vec<&Known> = self.known.iter().filter(|other| other.host == known.host).collect();
            let gone = host.iter().all(|other| !other.connected && other.vanished_at <= now);
            if gone && host.iter().any(|other| !other.lost) {
                let since = host.iter().filter(|other| !other.lost).map(|other| other.vanished_at).max();
                missing.insert(known.host, since.expect("one is not lost"));
            }
        }
        missing
    }

    /// Whether what is missing, by every window tried one by one, is a mass loss; counted without the lost ones.
    fn certainly_mass(&self, now: Timestamp) -> bool {
        let missing = self.missing(now);
        let lost: BTreeSet<usize> =
            self.known.iter().map(|known| known.host).filter(|host| self.is_lost_host(*host)).collect();
        let of = 7 - lost.len();
        let connected = self.known.iter().any(|known| known.connected);
        let most = missing
            .values()
            .map(|from| missing.values().filter(|at| (0..=POLICY.brake_window_ms).contains(&at.since(*from))).count());
        most.max().is_some_and(|most| most * 100 > of * 30 && (most >= 3 || !connected))
    }

    fn is_lost_host(&self, host: usize) -> bool {
        self.known.iter().filter(|known| known.host == host).all(|known| known.lost)
    }

    fn hear(&mut self, effects: &[Effect]) {
        for note in notes(effects) {
            match note {
                Decision::BrakeEngaged { .. } => {
                    assert!(!self.braked, "engaged twice");
                    self.braked = true;
                }
                Decision::BrakeReleased { .. } => {
                    assert!(self.braked, "released twice");
                    (self.braked, self.released_at) = (false, self.lab.now);
                    let missing = self.missing(self.lab.now).len();
                    assert!(self.known.iter().any(|known| known.connected), "released with nobody there");
                    assert!(missing < 3 || missing * 100 <= 7 * 30, "released with {missing} missing");
                    for known in self.known.iter_mut().filter(|known| !known.connected && !known.lost) {
                        known.vanished_at = known.vanished_at.max(self.lab.now);
                    }
                }
                Decision::InstanceLost { instance, .. } => {
                    let now = self.lab.now;
                    assert!(!self.braked, "lost while the brake is engaged");
                    assert!(!self.certainly_mass(now), "lost in a mass loss");
                    let known = self.known.iter_mut().find(|known| known.machine.key == instance).expect("known");
                    assert!(!known.connected && !known.lost, "lost while connected, or twice");
                    let patience = POLICY.lost_after_ms.expect("a time");
                    assert!(now.since(known.vanished_at) >= patience, "lost before its time");
                    known.lost = true;
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self, ms: i64) {
        let end = self.lab.now.plus_millis(ms);
        while let Some(due) = self.lab.cell.next_deadline().filter(|due| *due < end) {
            self.lab.now = self.lab.now.max(due.plus_millis(-1));
            let effects = self.lab.apply(Command::Tick).effects;
            self.hear(&effects);
        }
        self.lab.now = self.lab.now.max(end);
    }

    fn take(&mut self, step: Move) {
        let count = self.known.len();
        match step {
            Move::Vanish { at, silent_ms } => {
                let known = &mut self.known[at % count];
                if known.connected {
                    let heard_at = self.lab.now.plus_millis(-silent_ms);
                    known.connected = false;
                    known.vanished_at = heard_at.max(known.opened_at);
                    let (instance, session) = (known.machine.key, known.machine.session);
                    let effects = self.lab.apply(Command::SessionClosed { instance, session, heard_at }).effects;
                    self.hear(&effects);
                }
            }
            Move::Return { at } => {
                let known = &mut self.known[at % count];
                let outcome = come_back(&mut self.lab, &mut known.machine);
                (known.connected, known.opened_at, known.lost) = (true, self.lab.now, false);
                self.hear(&outcome.effects);
            }
            Move::Run => {
                let _ = self.lab.call(0, longshore_api::ecs::Operation::RunTask, &json!({"taskDefinition": "web"}));
            }
            Move::Pass { ms } => self.pass(ms),
            Move::Reset => {
                let sequence = self.lab.cell.sequence();
                self.lab.cell.revert([].iter(), sequence);
                self.braked = false;
                let effects = self.lab.apply(Command::Tick).effects;
                for known in self.known.iter_mut().filter(|known| !known.lost) {
                    known.connected = false;
                    known.vanished_at = self.lab.now.plus_millis(POLICY.return_grace_ms);
                }
                self.hear(&effects);
            }
        }
    }

    /// Once time enough has passed, whoever is missing and not held is lost, and so is all that ran there.
    fn settle(&mut self) {
        self.pass(120_000);
        assert_eq!(self.lab.cell.next_deadline(), None, "something is due for ever");
        let snapshot = self.lab.cell.snapshot();
        for known in &self.known {
            let held = self.braked && !known.connected;
            assert!(known.connected || known.lost || held, "{known:?} is missing and neither lost nor held");
            for task in snapshot.tasks().filter(|task| task.instance == Some(known.machine.key.id)) {
                assert!(!known.lost || task.verdict.is_some(), "a task of a lost instance has no verdict");
            }
        }
        if self.braked {
            let missing = self.missing(self.lab.now);
            let reach = missing.values().min().map(|oldest| oldest.plus_millis(-POLICY.brake_window_ms));
            let near = |known: &&Known| self.is_lost_host(known.host) && Some(known.vanished_at) >= reach;
            let lost: BTreeSet<usize> = self.known.iter().filter(near).map(|known| known.host).collect();
            let connected = self.known.iter().any(|known| known.connected);
            let held = missing.len() + lost.len();
            assert!(!missing.is_empty() && (!connected || held >= 3), "the brake holds {missing:?} for ever");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Never lost before its time, never while connected, never in a mass loss; and once it may be, always.
    #[test]
    fn loss_comes_in_time_to_those_who_are_missing_and_never_to_others(moves in moves()) {
        let mut world = World::new();
        for step in moves {
            world.take(step);
        }
        world.settle();
    }
}
