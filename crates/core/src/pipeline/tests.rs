//! The contract of the cell (DESIGN §3), clause by clause.

use std::collections::BTreeMap;

use longshore_api::ecs::Operation::{
    self, CreateCluster, DescribeTasks, ListTasks, RegisterTaskDefinition, RunTask, StopTask, SubmitTaskStateChange,
};
use longshore_api::error;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Batch, Committed, Pipeline, Release, Step, Ticket};
use crate::cell::{Cell, CloseReason, Command, Effect, Reply};
use crate::entity::Entity;
use crate::fixture::{Lab, api, config, definition};
use crate::instance::SessionRefusal;

/// A pipeline, and a store that holds what became durable.
struct Rig {
    lab: Lab,
    pipeline: Pipeline,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
    durable: u64,
    tickets: Ticket,
}

impl Rig {
    /// A cluster, an instance with an agent, and a definition `web`, all durable.
    fn new() -> Self {
        let mut lab = Lab::new();
        lab.ok(0, RegisterTaskDefinition, &definition("web", 100, 50, &[]));
        let arn = lab.instance(1, 1_000, 1_000);
        let encoded = |entity: Entity| (entity.key().encode(), entity.encode().expect("entities are JSON"));
        let stored = lab.cell.entities().map(encoded).collect();
        let durable = lab.cell.sequence();
        let pipeline = Pipeline::new(lab.cell.clone());
        let mut rig = Self { lab, pipeline, stored, durable, tickets: 0 };
        assert!(
            matches!(rig.pipeline.step(), Step::Release(_)),
            "the first snapshot is published without being asked for"
        );
        assert!(arn.contains("container-instance"));
        rig
    }

    fn submit(&mut self, command: Command) -> Ticket {
        self.tickets += 1;
        self.lab.now = self.lab.now.plus_millis(1);
        let entropy = self.lab.chance();
        self.pipeline.submit(self.tickets, self.lab.now, entropy, command);
        self.tickets
    }

    fn ask(&mut self, operation: Operation, document: &Value) -> Ticket {
        self.submit(api(0, operation, document))
    }

    fn batch(&mut self) -> Batch {
        match self.pipeline.step() {
            Step::Commit(batch) => batch,
            other => panic!("a batch was due, not {other:?}"),
        }
    }

    /// Keeps the first groups of a batch, as a disk does.
    fn keep(&mut self, batch: &Batch, groups: usize) {
        for group in &batch.groups[..groups] {
            assert!(group.number > self.durable, "numbers grow");
            self.durable = group.number;
            for change in &group.changes {
                let key = change.key.encode();
                match &change.new {
                    Some(entity) => drop(self.stored.insert(key, entity.encode().expect("entities are JSON"))),
                    None => drop(self.stored.remove(&key)),
                }
            }
        }
    }

    /// Commits everything that waits; answers what was released.
    fn settle(&mut self) -> Vec<Release> {
        let mut released = Vec::new();
        loop {
            match self.pipeline.step() {
                Step::Commit(batch) => {
                    self.keep(&batch, batch.groups.len());
                    released.push(self.pipeline.committed(Committed::Durable));
                }
                Step::Release(release) => released.push(*release),
                Step::Reload | Step::Wait => return released,
            }
        }
    }

    /// What the store holds, loaded.
    fn loaded(&self) -> Cell {
        let mut cell = Cell::new(config());
        for (key, value) in &self.stored {
            cell.load(Entity::decode(key, value).expect("what was stored reads"));
        }
        cell.loaded(self.durable);
        cell.check().unwrap_or_else(|violation| panic!("{violation}"));
        cell
    }

    /// Memory is what the store holds, down to every derived table.
    fn assert_is_stored(&self) {
        self.pipeline.cell().check().unwrap_or_else(|violation| panic!("{violation}"));
        assert!(self.loaded().entities().eq(self.pipeline.cell().entities()));
        assert_eq!(self.loaded().sequence(), self.pipeline.cell().sequence());
    }
}

fn run(count: i64) -> Value {
    json!({"taskDefinition": "web", "count": count})
}

fn tickets(release: &Release) -> Vec<Ticket> {
    release.replies.iter().map(|(ticket, _)| *ticket).collect()
}

fn unavailable(reply: &Reply) -> bool {
    matches!(reply, Reply::Api(Err(refused)) if refused.code == error::SERVICE_UNAVAILABLE)
}

fn says(reply: &Reply, part: &str) -> bool {
    matches!(reply, Reply::Api(Err(refused)) if refused.message.contains(part))
}

fn tasks_in(release: &Release) -> Option<usize> {
    release.snapshot.as_ref().map(|snapshot| snapshot.task_count())
}

#[test]
fn nothing_is_seen_before_it_is_durable() {
    let mut rig = Rig::new();
    let ticket = rig.ask(RunTask, &run(2));
    let batch = rig.batch();
    assert_eq!(batch.groups.len(), 1, "one command, one group");
    assert!(matches!(rig.pipeline.step(), Step::Wait), "nothing is released while the commit is under way");
    let release = rig.pipeline.committed(Committed::Durable);
    assert_eq!(tasks_in(&release), Some(2), "a client reads what it was told");
    assert_eq!(tickets(&release), [ticket]);
    let numbers: Vec<u64> = release.effects.iter().map(number).collect();
    assert_eq!(numbers.len(), 2);
    assert!(numbers.iter().all(|number| *number <= batch.groups[0].number), "{numbers:?}");
}

fn number(effect: &Effect) -> u64 {
    match effect {
        Effect::Start { sequence, .. }
        | Effect::Stop { sequence, .. }
        | Effect::Network { sequence, .. }
        | Effect::Manifest { sequence, .. } => *sequence,
        Effect::ConfirmStops { .. } | Effect::Close { .. } | Effect::AskScheduler { .. } | Effect::Note(_) => 0,
    }
}

#[test]
fn the_next_batch_grows_while_one_is_committed() {
    let mut rig = Rig::new();
    let first = rig.ask(RunTask, &run(1));
    let _ = rig.batch();
    let second = [rig.ask(RunTask, &run(1)), rig.ask(CreateCluster, &json!({"clusterName": "other"}))];
    assert!(matches!(rig.pipeline.step(), Step::Wait), "one commit at a time");
    let release = rig.pipeline.committed(Committed::Durable);
    assert_eq!(
        (tickets(&release), tasks_in(&release)),
        (vec![first], Some(1)),
        "the second is not shown with the first"
    );
    assert_eq!(rig.batch().groups.len(), 2);
    assert_eq!(tickets(&rig.pipeline.committed(Committed::Durable)), second);
}

#[test]
fn replies_without_writes_wait_for_the_state_they_saw() {
    let mut rig = Rig::new();
    let document = json!({"taskDefinition": "web", "clientToken": "t"});
    let made = rig.ask(RunTask, &document);
    let repeated = rig.ask(RunTask, &document);
    let _ = rig.batch();
    let refused = rig.ask(StopTask, &json!({"task": "0".repeat(32)}));
    let read = rig.ask(DescribeTasks, &json!({"tasks": ["0".repeat(32)]}));
    assert!(matches!(rig.pipeline.step(), Step::Wait));
    assert_eq!(tickets(&rig.pipeline.committed(Committed::Durable)), [made, repeated]);
    match rig.pipeline.step() {
        Step::Release(release) => assert_eq!(tickets(&release), [refused, read]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_commit_goes_back_to_the_groups_that_were_kept() {
    for kept in 0..=3 {
        let mut rig = Rig::new();
        let asked = [rig.ask(RunTask, &run(1)), rig.ask(RunTask, &run(2)), rig.ask(RunTask, &run(3))];
        let batch = rig.batch();
        let open = rig.ask(RunTask, &run(1));
        rig.keep(&batch, kept);
        let durable = rig.durable;
        let release = rig.pipeline.committed(Committed::Failed { durable });
        for (index, (ticket, reply)) in release.replies.iter().take(3).enumerate() {
            assert_eq!((*ticket, unavailable(reply)), (asked[index], index >= kept), "kept {kept}");
        }
        assert!(matches!(release.replies.last(), Some((ticket, reply)) if *ticket == open && unavailable(reply)));
        assert_eq!(tasks_in(&release), Some([0, 1, 3, 6][kept]));
        let started = release.effects.iter().filter(|effect| matches!(effect, Effect::Start { .. })).count();
        assert_eq!(started, [0, 1, 3, 6][kept], "only what is durable is ordered");
        let reset = |effect: &&Effect| matches!(effect, Effect::Close { reason: CloseReason::StateReset, .. });
        assert_eq!(release.effects.iter().filter(reset).count(), 1, "the agent comes again and is told anew");
        rig.assert_is_stored();
    }
}

#[test]
fn while_nothing_can_be_written_reads_go_on_and_a_probe_ends_it() {
    let mut rig = Rig::new();
    rig.ask(RunTask, &run(1));
    let _ = rig.batch();
    let durable = rig.durable;
    rig.pipeline.committed(Committed::Failed { durable });
    assert!(rig.pipeline.read_only());
    let write = rig.ask(RunTask, &run(1));
    let arn = "arn:aws:ecs:us-east-1:000000000000:container-instance/default/0";
    let session = rig.lab.opened(1, arn);
    let session = rig.submit(session);
    match rig.pipeline.step() {
        Step::Release(release) => {
            assert!(
                matches!(&release.replies[..], [(first, reply), (second, Reply::Session(Err(SessionRefusal::Unavailable)))]
                if *first == write && unavailable(reply) && *second == session)
            );
            let snapshot = release.snapshot.expect("a snapshot");
            let list = crate::fixture::request(ListTasks, &json!({}));
            let owner = crate::fixture::principal(0);
            let list = snapshot.authorise(&owner, &list).expect("the owner may");
            assert!(snapshot.answer(list).is_some_and(|answer| answer.is_ok()), "reads go on");
        }
        other => panic!("{other:?}"),
    }
    for works in [false, true] {
        rig.pipeline.probe();
        let probe = rig.batch();
        assert!(probe.groups.iter().all(|group| group.changes.is_empty()));
        match works {
            false => drop(rig.pipeline.committed(Committed::Failed { durable })),
            true => {
                rig.keep(&probe, 1);
                rig.pipeline.committed(Committed::Durable);
            }
        }
        assert_eq!(rig.pipeline.read_only(), !works);
    }
    rig.pipeline.probe();
    assert!(matches!(rig.pipeline.step(), Step::Wait), "nobody asks when it works");
    let again = rig.ask(CreateCluster, &json!({"clusterName": "after"}));
    let batch = rig.batch();
    rig.keep(&batch, 1);
    let release = rig.pipeline.committed(Committed::Durable);
    assert!(matches!(&release.replies[..], [(ticket, Reply::Api(Ok(_)))] if *ticket == again));
    rig.assert_is_stored();
}

#[test]
fn an_unknown_outcome_drops_memory_and_loads_again() {
    for kept in 0..=2 {
        let mut rig = Rig::new();
        let asked = [rig.ask(RunTask, &run(1)), rig.ask(RunTask, &run(1))];
        let batch = rig.batch();
        let open = rig.ask(RunTask, &run(1));
        rig.keep(&batch, kept);
        let release = rig.pipeline.committed(Committed::Lost);
        assert!(release.snapshot.is_none(), "clients go on reading what was published last");
        assert_eq!(tickets(&release), [asked[0], asked[1], open]);
        assert!(release.replies.iter().all(|(_, reply)| unavailable(reply) && says(reply, "it may have been")));
        assert!(release.effects.iter().all(|effect| matches!(effect, Effect::Close { .. })), "{:?}", release.effects);
        let meanwhile = rig.ask(RunTask, &run(1));
        match rig.pipeline.step() {
            Step::Release(release) => {
                assert!(release.snapshot.is_none());
                let [(ticket, reply)] = &release.replies[..] else { panic!("{:?}", release.replies) };
                assert!(*ticket == meanwhile && unavailable(reply) && says(reply, "nothing was changed"), "{reply:?}");
            }
            other => panic!("who comes while the state is lost is refused at once, not {other:?}"),
        }
        assert!(matches!(rig.pipeline.step(), Step::Reload));
        let loaded = rig.loaded();
        assert_eq!(tasks_in(&rig.pipeline.reload(loaded)), Some(kept));
        assert!(matches!(rig.pipeline.step(), Step::Wait));
        rig.assert_is_stored();
        let number = rig.durable;
        rig.ask(CreateCluster, &json!({"clusterName": "after"}));
        assert!(rig.batch().groups[0].number > number, "numbers go on where the store is");
    }
}

#[test]
fn a_placement_writes_one_record_and_no_instance() {
    let mut rig = Rig::new();
    rig.ask(RunTask, &run(1));
    let batch = rig.batch();
    let kinds: Vec<bool> =
        batch.groups[0].changes.iter().map(|change| matches!(change.new, Some(Entity::Task(_)))).collect();
    assert_eq!(kinds, [true]);
}

#[test]
fn the_end_of_a_session_is_shown_although_nothing_is_written() {
    let mut rig = Rig::new();
    assert_eq!(rig.pipeline.cell().clone().snapshot().connected_agents(), 1);
    let effect = rig.pipeline.cell().clone().reset_sessions();
    let [Effect::Close { instance, session, .. }] = effect[..] else { panic!("{effect:?}") };
    let heard_at = rig.lab.now;
    rig.submit(Command::SessionClosed { instance, session, heard_at });
    match rig.pipeline.step() {
        Step::Release(release) => assert_eq!(release.snapshot.map(|snapshot| snapshot.connected_agents()), Some(0)),
        other => panic!("{other:?}"),
    }
}

/// What happens to a pipeline.
#[derive(Clone, Debug)]
enum Move {
    Run {
        count: i64,
        token: bool,
    },
    Stop {
        task: usize,
    },
    Report {
        task: usize,
        status: &'static str,
    },
    Define,
    Register {
        token: u8,
    },
    Connect,
    Tick,
    /// The batch under way, or the next one, ends like this; a share of its groups is kept.
    Commit {
        outcome: u8,
        kept: usize,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let status = prop::sample::select(vec!["PENDING", "RUNNING", "STOPPED"]);
    let one = prop_oneof![
        4 => (1i64..=4, any::<bool>()).prop_map(|(count, token)| Move::Run { count, token }),
        2 => any::<usize>().prop_map(|task| Move::Stop { task }),
        4 => (any::<usize>(), status).prop_map(|(task, status)| Move::Report { task, status }),
        1 => Just(Move::Define),
        1 => (0u8..3).prop_map(|token| Move::Register { token }),
        2 => Just(Move::Connect),
        1 => Just(Move::Tick),
        5 => (0u8..8, any::<usize>()).prop_map(|(outcome, kept)| Move::Commit { outcome, kept }),
    ];
    prop::collection::vec(one, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever is asked and however commits end: memory, readers and store agree, and nothing durable is lost.
    #[test]
    fn memory_and_store_agree(moves in moves()) {
        let mut rig = Rig::new();
        let instance = rig.pipeline.cell().clone().snapshot().instances().next().cloned().expect("an instance");
        let arn = config().instance_arn("default", instance.key.id);
        let mut in_flight: Option<Batch> = None;
        for step in moves {
            match step {
                Move::Run { count, token } => {
                    let mut document = run(count);
                    if token {
                        document["clientToken"] = json!(format!("token-{}", count % 2));
                    }
                    rig.ask(RunTask, &document);
                }
                Move::Stop { task } => {
                    if let Some(task) = some_task(&rig, task) {
                        rig.ask(StopTask, &json!({"task": task}));
                    }
                }
                Move::Report { task, status } => {
                    if let Some(task) = some_task(&rig, task) {
                        let port = json!([{"containerPort": 80, "hostPort": 32_768, "protocol": "tcp"}]);
                        let change = json!({"containerName": "main", "status": status, "networkBindings": port});
                        let document = json!({"task": task, "status": status, "containers": [change]});
                        rig.submit(api(1, SubmitTaskStateChange, &document));
                    }
                }
                Move::Define => drop(rig.ask(RegisterTaskDefinition, &definition("web", 100, 50, &[]))),
                Move::Register { token } => {
                    let mut offer = crate::fixture::offer("shared", 500, 500);
                    offer["clientToken"] = json!(format!("agent-{token}"));
                    rig.submit(api(2, Operation::RegisterContainerInstance, &offer));
                }
                Move::Connect => {
                    let command = rig.lab.opened(1, &arn);
                    rig.submit(command);
                }
                Move::Tick => {
                    rig.lab.now = rig.lab.now.plus_millis(100_000);
                    rig.submit(Command::Tick);
                }
                Move::Commit { outcome, kept } => commit(&mut rig, &mut in_flight, outcome, kept),
            }
            rig.pipeline.cell().check().unwrap_or_else(|violation| panic!("{violation}"));
        }
        while { commit(&mut rig, &mut in_flight, 7, 0); in_flight.is_some() } {}
        rig.ask(CreateCluster, &json!({"clusterName": "last"}));
        let last = rig.settle().pop();
        rig.assert_is_stored();
        let shown = last.and_then(|release| release.snapshot).expect("the last commit is published");
        prop_assert!(shown.tasks().eq(rig.loaded().snapshot().tasks()));
    }
}

/// Ends the batch under way as `outcome` says, and begins the next.
fn commit(rig: &mut Rig, in_flight: &mut Option<Batch>, outcome: u8, kept: usize) {
    if let Some(batch) = in_flight.take() {
        let part = kept % (batch.groups.len() + 1);
        match outcome {
            0 => {
                rig.keep(&batch, part);
                let durable = rig.durable;
                rig.pipeline.committed(Committed::Failed { durable });
                rig.assert_is_stored();
            }
            1 => {
                rig.keep(&batch, part);
                rig.pipeline.committed(Committed::Lost);
                let loaded = rig.loaded();
                rig.pipeline.reload(loaded);
                rig.assert_is_stored();
            }
            _ => {
                rig.keep(&batch, batch.groups.len());
                rig.pipeline.committed(Committed::Durable);
            }
        }
    }
    if rig.pipeline.read_only() {
        rig.pipeline.probe();
    }
    loop {
        match rig.pipeline.step() {
            Step::Commit(batch) => return *in_flight = Some(batch),
            Step::Release(_) => {}
            Step::Reload | Step::Wait => return,
        }
    }
}

fn some_task(rig: &Rig, index: usize) -> Option<String> {
    let snapshot = rig.pipeline.cell().clone().snapshot();
    let task = snapshot.tasks().nth(index.checked_rem(snapshot.task_count())?)?.key;
    Some(config().task_arn("default", task.id))
}
