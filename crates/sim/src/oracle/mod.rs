//! What must always be true (DESIGN §7.1), watched from outside.
//!
//! The oracle repeats none of the product's computations: it remembers what was shown to clients and done to machines,
//! and objects to what contradicts it. Beyond the eighteen invariants of the design there are two about loss (§4):
//! 19, an instance is given up neither before nor long after it was silent for lost-after; 20, nothing is given up in a mass
//! loss unless an operator says so; and one about waiting: 21, no task waits for room that is there.

mod machine;
mod stream;
mod vigil;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_core::config::{LossPolicy, Retention};
use longshore_core::entity::{Entity, Instance, Task};
use longshore_core::ids::InstanceKey;
use longshore_core::instance::InstanceStatus;
use longshore_core::read::ReadModel;
use longshore_core::task::status::{DesiredStatus, TaskStatus};
use longshore_store::MemoryDisk;

use crate::event::ConnId;
use machine::Run;
use stream::Stream;
use vigil::LATEST_PUBLICATION_MS;
pub(crate) use vigil::Vigil;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} is broken: {what}")]
pub struct Violation {
    /// Its number in DESIGN §7.1; 19 and 20 for loss, 0 for what no protocol allows.
    pub invariant: u8,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(invariant: u8, what: String) -> Self {
        Self { invariant, what }
    }
}

/// How long an instance that was given back is remembered.
const FORGOTTEN_AFTER_MS: i64 = 3_600_000;

/// How every handler of the world ends.
pub(crate) type Step = Result<(), Violation>;

/// Objects.
pub(crate) fn broken<T>(invariant: u8, what: String) -> Result<T, Violation> {
    Err(Violation::new(invariant, what))
}

pub(crate) fn ensure(holds: bool, invariant: u8, otherwise: impl FnOnce() -> String) -> Step {
    match holds {
        true => Ok(()),
        false => broken(invariant, otherwise()),
    }
}

/// The id at the end of an ARN.
pub(crate) fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// What was seen so far. Tasks and instances go by the id at the end of their ARN.
#[derive(Debug)]
pub(crate) struct Oracle {
    retention: Retention,
    pub(crate) vigil: Vigil,
    stream: Stream,
    /// The last published record of each task.
    pub(crate) tasks: BTreeMap<String, Arc<Task>>,
    /// The same as the disk should have it.
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Tasks that were forgotten, as they may be.
    gone: BTreeSet<String>,
    /// Tasks that have a reason to end by themselves.
    excused: BTreeSet<String>,
    runs: BTreeMap<(String, String), Run>,
    sequences: BTreeMap<InstanceKey, u64>,
    /// `startedBy` of a logical RunTask: how many tasks it may make, and those it made.
    marks: BTreeMap<String, (usize, BTreeSet<String>)>,
    /// By agent and birth.
    instances: BTreeMap<(usize, u32), String>,
    /// The access key of each join of a machine.
    joins: BTreeMap<(usize, u32), String>,
    /// The machine of each instance.
    hosts: BTreeMap<String, usize>,
    /// The newest connection of each agent.
    newest_conn: BTreeMap<usize, ConnId>,
    /// Instances that an operator was told are draining, with their clusters.
    draining: BTreeMap<String, String>,
    /// Until when a request to take tasks again may still arrive.
    activated_until: BTreeMap<String, Timestamp>,
    /// Until when what the server did in a leap of its clock may be published.
    leapt_until: Timestamp,
    /// The latest that the server's clock ever showed.
    latest: Timestamp,
}

impl Oracle {
    pub(crate) fn new(retention: Retention, loss: LossPolicy, commit_ms: i64) -> Self {
        Self {
            retention,
            vigil: Vigil::new(loss, commit_ms),
            stream: Stream::new(),
            tasks: BTreeMap::new(),
            stored: BTreeMap::new(),
            gone: BTreeSet::new(),
            excused: BTreeSet::new(),
            runs: BTreeMap::new(),
            sequences: BTreeMap::new(),
            marks: BTreeMap::new(),
            instances: BTreeMap::new(),
            joins: BTreeMap::new(),
            hosts: BTreeMap::new(),
            newest_conn: BTreeMap::new(),
            draining: BTreeMap::new(),
            activated_until: BTreeMap::new(),
            leapt_until: Timestamp::from_millis(0),
            latest: Timestamp::from_millis(0),
        }
    }

    /// A snapshot is published: nothing that was ever shown goes back.
    pub(crate) fn published(&mut self, snapshot: &ReadModel, now: Timestamp) -> Step {
        let news = self.tasks_published(snapshot, now)?;
        self.stream.published(snapshot, self.leapt_until >= now)?;
        news.iter().try_for_each(|task| self.stream.knows(task))
    }

    /// Looks at all tasks; answers those that are new or changed.
    fn tasks_published(&mut self, snapshot: &ReadModel, now: Timestamp) -> Result<Vec<Arc<Task>>, Violation> {
        let mut present = 0;
        let mut changed = Vec::new();
        let mut new = Vec::new();
        for task in snapshot.tasks() {
            let id = task.key.id.to_string();
            match self.tasks.get_mut(&id) {
                Some(known) if Arc::ptr_eq(known, task) => {}
                Some(known) => {
                    // A state loaded anew holds the same records in other places.
                    if known != task {
                        forward(known, task)?;
                        changed.push(task.clone());
                        store(&mut self.stored, task);
                        if known.instance.is_none() && task.instance.is_some() {
                            new.push(task.clone());
                        }
                    }
                    *known = task.clone();
                }
                None => {
                    ensure(!self.gone.contains(&id), 4, || format!("task {id} is back"))?;
                    self.mark(task, &id)?;
                    store(&mut self.stored, task);
                    if task.instance.is_some() {
                        new.push(task.clone());
                    }
                    self.tasks.insert(id, task.clone());
                }
            }
            present += 1;
        }
        for task in &new {
            self.placed(task, snapshot)?;
        }
        changed.extend(new);
        self.vigil.published(snapshot, self.leapt_until >= now, now)?;
        if present == self.tasks.len() {
            return Ok(changed);
        }
        let shown_ids: BTreeSet<String> = snapshot.tasks().map(|task| task.key.id.to_string()).collect();
        let missing: Vec<String> = self.tasks.keys().filter(|id| !shown_ids.contains(*id)).cloned().collect();
        for id in missing {
            let Some(task) = self.tasks.remove(&id) else { continue };
            self.stored.remove(&Entity::Task(task.clone()).key().encode());
            let due = task.over_since().map(|at| at.plus_millis(self.retention.at_least_ms));
            let over = task.known == TaskStatus::Stopped && due.is_some_and(|due| due <= self.latest);
            // In a leap of the clock a task can end and be forgotten between two publications.
            ensure(over || self.leapt_until >= now, 4, || {
                format!("task {id} vanished, it was {} since {:?}", task.known, task.life.stopped_at)
            })?;
            self.gone.insert(id);
        }
        Ok(changed)
    }

    /// The server's clock shows this. A process before this one may have had a clock that was ahead.
    pub(crate) fn shows(&mut self, shown: Timestamp) {
        self.latest = self.latest.max(shown);
    }

    /// The server's clock leaps: by that clock, what is kept for a while was kept so much longer.
    pub(crate) fn leapt(&mut self, by_ms: i64, now: Timestamp) {
        if by_ms >= self.retention.at_least_ms.min(FORGOTTEN_AFTER_MS) {
            self.leapt_until = now.plus_millis(LATEST_PUBLICATION_MS);
        }
    }

    /// A task is placed, at once or after it waited: its instance may take it, and has what it needs.
    fn placed(&self, task: &Task, snapshot: &ReadModel) -> Step {
        let id = task.key.id;
        let Some(home) = task.home() else { return broken(2, format!("task {id} was placed nowhere")) };
        let instance = home.id.to_string();
        let after = snapshot.instances().find(|record| record.key == home);
        let Some(after) = after else { return broken(2, format!("task {id} was placed on nothing")) };
        let before = self.vigil.record(&instance);
        // One that did not change between two publications was like that when the task was placed.
        let unchanged = before.is_some_and(|before| before.version == after.version);
        let closed = after.status != InstanceStatus::Active || after.lost_at.is_some();
        ensure(!(unchanged && closed), 10, || {
            format!("task {id} was placed on {instance}, which is {:?} and lost {:?}", after.status, after.lost_at)
        })?;
        let drains = self.draining.keys().any(|arn| id_of(arn) == instance);
        ensure(!drains, 10, || format!("task {id} was placed on {instance}, which drains"))?;
        self.fits(task, before.map(|before| &**before), after)?;
        self.has_ports(task)
    }

    /// What an instance has to do is no more than it offered, before or after.
    fn fits(&self, task: &Task, before: Option<&Instance>, after: &Instance) -> Step {
        if after.version > before.map_or(0, |before| before.version) + 1 {
            // It changed more than once since: nobody saw what it offered when the task was placed.
            return Ok(());
        }
        let held = self.tasks.values().filter(|held| held.home() == task.home() && held.known != TaskStatus::Stopped);
        let (cpu, memory) = held.fold((0, 0), |(cpu, memory), held| (cpu + held.cpu.0, memory + held.memory.0));
        let most = |of: fn(&Instance) -> u32| before.map_or(0, of).max(of(after));
        ensure(cpu <= most(|record| record.cpu.0) && memory <= most(|record| record.memory.0), 3, || {
            format!(
                "{} has {cpu} CPU units and {memory} MiB to do, it offered {} and {}",
                after.key.id,
                most(|record| record.cpu.0),
                most(|record| record.memory.0)
            )
        })
    }

    /// No two tasks of a machine hold the same port, stale copies included.
    fn has_ports(&self, task: &Task) -> Step {
        // An official agent does not say which machine it is on: its instance is a machine of its own.
        let host = |task: &Task| {
            let instance = task.instance.map(|id| id.to_string()).unwrap_or_default();
            self.hosts.get(&instance).map_or(instance, ToString::to_string)
        };
        if task.host_ports.is_empty() {
            return Ok(());
        }
        let home = host(task);
        let others = self.tasks.values().filter(|other| {
            other.key != task.key && other.known != TaskStatus::Stopped && !other.host_ports.is_empty()
        });
        let taken = others
            .filter(|other| host(other) == home)
            .find(|other| other.host_ports.iter().any(|port| task.host_ports.contains(port)));
        ensure(taken.is_none(), 3, || format!("task {} has the ports of {:?}", task.key.id, taken.map(|t| t.key.id)))
    }

    /// A logical RunTask never makes more tasks than it asked for.
    fn mark(&mut self, task: &Task, id: &str) -> Step {
        let mark = task.started_by.as_deref().unwrap_or_default();
        let Some((most, made)) = self.marks.get_mut(mark) else { return Ok(()) };
        made.insert(id.to_owned());
        ensure(made.len() <= *most, 11, || format!("{mark} made {} tasks, it asked for {most}", made.len()))
    }

    /// A client will ask for so many tasks under this mark.
    pub(crate) fn will_run(&mut self, mark: &str, count: usize) {
        self.marks.insert(mark.to_owned(), (count, BTreeSet::new()));
    }

    /// A task was acknowledged: it has been published.
    pub(crate) fn acknowledged(&self, arn: &str) -> Step {
        let id = id_of(arn);
        ensure(self.tasks.contains_key(id) || self.gone.contains(id), 4, || {
            format!("task {arn} was acknowledged and never published")
        })
    }

    pub(crate) fn is_gone(&self, arn: &str) -> bool {
        self.gone.contains(id_of(arn))
    }

    /// What was published last is what the disk holds.
    pub(crate) fn is_durable(&self, snapshot: &ReadModel, disk: &MemoryDisk) -> Step {
        let held = disk.entities();
        let tasks = held.iter().filter(|(key, _)| key.first() == Some(&b't'));
        ensure(tasks.eq(&self.stored), 18, || "the tasks published are not those that the disk holds".to_owned())?;
        for entity in snapshot.instances().cloned().map(Entity::Instance) {
            let value = entity.encode().unwrap_or_default();
            let same = held.get(&entity.key().encode()).is_some_and(|held| *held == value);
            ensure(same, 18, || format!("{:?} was published and is not what the disk holds", entity.key()))?;
        }
        Ok(())
    }

    /// A message with this number goes to an instance.
    pub(crate) fn sequence_sent(&mut self, instance: InstanceKey, sequence: u64) -> Step {
        let last = self.sequences.insert(instance, sequence).unwrap_or(0);
        ensure(sequence > last, 1, || format!("{instance:?} was sent number {sequence} after {last}"))
    }

    /// An operator was told that an instance drains.
    pub(crate) fn drains(&mut self, arn: &str, cluster: &str, sent_at: Timestamp) {
        if self.activated_until.get(arn).is_none_or(|until| *until < sent_at) {
            self.draining.insert(arn.to_owned(), cluster.to_owned());
        }
    }

    /// An operator asks that an instance take tasks again; the request may arrive until then.
    pub(crate) fn activates(&mut self, arn: &str, until: Timestamp) {
        self.draining.remove(arn);
        self.activated_until.insert(arn.to_owned(), until);
    }

    /// Cluster and ARN of every instance that drains for sure.
    pub(crate) fn draining(&self) -> Vec<(String, String)> {
        self.draining.iter().map(|(arn, cluster)| (cluster.clone(), arn.clone())).collect()
    }

    /// A deregistration without force was accepted: nothing was to be seen on the instance.
    pub(crate) fn given_back(&self, arn: &str) -> Step {
        let theirs = self.tasks.values().filter(|task| is_on(task, id_of(arn)));
        let left = theirs.filter(|task| task.last_status() != TaskStatus::Stopped).map(|task| task.key.id).next();
        ensure(left.is_none(), 10, || format!("{arn} was deregistered without force, and has {left:?}"))
    }

    /// The control plane refused a report for good.
    pub(crate) fn report_dropped(&self, task_arn: &str, now: Timestamp) -> Step {
        let known = self.tasks.get(id_of(task_arn));
        ensure(known.is_none_or(|task| task.known == TaskStatus::Stopped), 4, || {
            format!("at {now} a report of {task_arn} was refused although the task lives")
        })
    }
}

fn store(stored: &mut BTreeMap<Vec<u8>, Vec<u8>>, task: &Arc<Task>) {
    let entity = Entity::Task(task.clone());
    stored.insert(entity.key().encode(), entity.encode().unwrap_or_default());
}

/// Whether a task was placed on the instance of an id.
fn is_on(task: &Task, instance: &str) -> bool {
    task.instance.is_some_and(|id| id.to_string() == instance)
}

/// From one published record of a task to the next, everything moves forward or stays.
fn forward(before: &Task, after: &Task) -> Step {
    let id = after.key.id;
    let goes_back = |what: &str| format!("{what} of task {id} goes back: {before:?}, then {after:?}");
    ensure(before.instance.is_none() || before.instance == after.instance, 2, || goes_back("the instance"))?;
    ensure(before.waiting.is_some() || before.instance == after.instance, 2, || goes_back("the end of its wait"))?;
    ensure(before.version < after.version, 5, || goes_back("the version"))?;
    ensure(before.desired <= after.desired, 5, || goes_back("the desired status"))?;
    ensure(before.known <= after.known, 5, || goes_back("the status"))?;
    ensure(before.last_status() <= after.last_status(), 5, || goes_back("what the API shows"))?;
    let verdict = |task: &Task| task.verdict.map(|verdict| verdict.at);
    ensure(verdict(before).is_none() || verdict(before) == verdict(after), 5, || goes_back("the verdict"))?;
    ensure(before.containers.len() == after.containers.len(), 5, || goes_back("the number of containers"))?;
    for (earlier, later) in before.containers.iter().zip(&after.containers) {
        ensure(earlier.status <= later.status, 5, || goes_back("a container's status"))?;
        let exit_code = |container: &longshore_core::entity::TaskContainer| container.detail.as_ref()?.exit_code;
        ensure(exit_code(earlier).is_none() || exit_code(earlier) == exit_code(later), 5, || {
            goes_back("an exit code")
        })?;
    }
    ensure(before.stop.is_none() || before.stop == after.stop, 5, || goes_back("the reason"))?;
    let (earlier, later) = (&before.life, &after.life);
    for (was, is) in [
        (earlier.connectivity_at, later.connectivity_at),
        (earlier.pull_started_at, later.pull_started_at),
        (earlier.pull_stopped_at, later.pull_stopped_at),
        (earlier.started_at, later.started_at),
        (earlier.stopping_at, later.stopping_at),
        (earlier.execution_stopped_at, later.execution_stopped_at),
        (earlier.stopped_at, later.stopped_at),
    ] {
        ensure(was.is_none() || was == is, 5, || goes_back("a time"))?;
    }
    let wanted = |task: &Task| task.desired == DesiredStatus::Running;
    ensure(after.last_status() != TaskStatus::Stopped || !wanted(after), 5, || goes_back("STOPPED and wanted"))
}
