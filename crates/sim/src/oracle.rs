//! What must always be true (DESIGN §7.1), watched from outside.
//!
//! The oracle repeats none of the product's computations: it remembers what was shown to clients and done to machines,
//! and objects to what contradicts it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_agent::engine::ContainerKey;
use longshore_api::Timestamp;
use longshore_core::config::Retention;
use longshore_core::entity::{Entity, Task};
use longshore_core::ids::InstanceKey;
use longshore_core::read::ReadModel;
use longshore_core::task::status::{DesiredStatus, TaskStatus};
use longshore_store::MemoryDisk;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} is broken: {what}")]
pub struct Violation {
    /// Its number in DESIGN §7.1; 0 for what no protocol allows.
    pub invariant: u8,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(invariant: u8, what: String) -> Self {
        Self { invariant, what }
    }
}

/// How every handler of the world ends.
pub(crate) type Step = Result<(), Violation>;

/// Objects.
pub(crate) fn broken<T>(invariant: u8, what: String) -> Result<T, Violation> {
    Err(Violation::new(invariant, what))
}

fn ensure(holds: bool, invariant: u8, otherwise: impl FnOnce() -> String) -> Step {
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
    instances: BTreeMap<u32, String>,
}

/// What became of one container of a task.
#[derive(Debug)]
struct Run {
    instance_arn: String,
    starts: u32,
}

impl Oracle {
    pub(crate) fn new(retention: Retention) -> Self {
        Self {
            retention,
            tasks: BTreeMap::new(),
            stored: BTreeMap::new(),
            gone: BTreeSet::new(),
            excused: BTreeSet::new(),
            runs: BTreeMap::new(),
            sequences: BTreeMap::new(),
            marks: BTreeMap::new(),
            instances: BTreeMap::new(),
        }
    }

    /// A snapshot is published: nothing that was ever shown goes back.
    pub(crate) fn published(&mut self, snapshot: &ReadModel, now: Timestamp) -> Step {
        let mut present = 0;
        for task in snapshot.tasks() {
            let id = task.key.id.to_string();
            match self.tasks.get_mut(&id) {
                Some(known) if Arc::ptr_eq(known, task) => {}
                Some(known) => {
                    // A state loaded anew holds the same records in other places.
                    if known != task {
                        forward(known, task)?;
                        store(&mut self.stored, task);
                    }
                    *known = task.clone();
                }
                None => {
                    ensure(!self.gone.contains(&id), 4, || format!("task {id} is back"))?;
                    self.mark(task, &id)?;
                    store(&mut self.stored, task);
                    self.tasks.insert(id, task.clone());
                }
            }
            present += 1;
        }
        if present == self.tasks.len() {
            return Ok(());
        }
        let shown: BTreeSet<String> = snapshot.tasks().map(|task| task.key.id.to_string()).collect();
        let missing: Vec<String> = self.tasks.keys().filter(|id| !shown.contains(*id)).cloned().collect();
        for id in missing {
            let Some(task) = self.tasks.remove(&id) else { continue };
            self.stored.remove(&Entity::Task(task.clone()).key().encode());
            let due = task.life.stopped_at.map(|at| at.plus_millis(self.retention.at_least_ms));
            ensure(task.known == TaskStatus::Stopped && due.is_some_and(|due| due <= now), 4, || {
                format!("task {id} vanished, it was {} since {:?}", task.known, task.life.stopped_at)
            })?;
            self.gone.insert(id);
        }
        Ok(())
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

    /// An access key has registered an instance.
    pub(crate) fn instance_of(&mut self, key: u32, arn: &str) -> Step {
        let known = self.instances.entry(key).or_insert_with(|| arn.to_owned());
        ensure(known == arn, 11, || format!("key {key} registered {known} and then {arn}"))
    }

    /// A container of a task exists.
    pub(crate) fn created(&mut self, key: &ContainerKey, instance_arn: &str) -> Step {
        let id = (key.task_arn.clone(), key.name.clone());
        let new = || Run { instance_arn: instance_arn.to_owned(), starts: 0 };
        let run = self.runs.entry(id).or_insert_with(new);
        // One that never ran may be made again, if somebody removed it.
        ensure(run.starts == 0 && run.instance_arn == instance_arn, 2, || {
            format!("{key:?} ran on {} and was created again on {instance_arn}", run.instance_arn)
        })?;
        let placed = self.tasks.get(id_of(&key.task_arn)).map(|task| task.instance.to_string());
        ensure(placed.as_deref() == Some(id_of(instance_arn)), 2, || {
            format!("{key:?} was created on {instance_arn}, its task was placed on {placed:?}")
        })
    }

    /// A container's process begins.
    pub(crate) fn started(&mut self, key: &ContainerKey, instance_arn: &str) -> Step {
        let Some(run) = self.runs.get_mut(&(key.task_arn.clone(), key.name.clone())) else {
            return broken(2, format!("{key:?} was started and never created"));
        };
        run.starts += 1;
        ensure(run.starts == 1, 2, || format!("{key:?} ran {} times, last on {instance_arn}", run.starts))
    }

    /// The task has a reason to end by itself.
    pub(crate) fn excuse(&mut self, task_arn: &str) {
        self.excused.insert(id_of(task_arn).to_owned());
    }

    /// An agent stopped a running container: somebody must have wanted that.
    pub(crate) fn stopped_by_agent(&self, key: &ContainerKey) -> Step {
        let id = id_of(&key.task_arn);
        let wanted = self.tasks.get(id).is_some_and(|task| task.desired == DesiredStatus::Running);
        ensure(!wanted || self.excused.contains(id), 12, || format!("{key:?} was stopped and nobody wanted that"))
    }

    /// No instance has more to do than it offers.
    pub(crate) fn recount(&self, cpu: i64, memory_mib: i64) -> Step {
        let mut taken: BTreeMap<_, (i64, i64)> = BTreeMap::new();
        for task in self.tasks.values().filter(|task| task.known != TaskStatus::Stopped) {
            let (cpu, memory) = taken.entry(task.instance).or_default();
            *cpu += i64::from(task.cpu.0);
            *memory += i64::from(task.memory.0);
        }
        let over = taken.iter().find(|(_, taken)| taken.0 > cpu || taken.1 > memory_mib);
        ensure(over.is_none(), 3, || format!("more is reserved than there is: {over:?}"))
    }

    /// The container of a task that clients see as STOPPED does not run.
    pub(crate) fn may_run(&self, key: &ContainerKey) -> Step {
        let stopped = self.tasks.get(id_of(&key.task_arn)).is_some_and(|task| task.known == TaskStatus::Stopped);
        ensure(!stopped, 7, || format!("{key:?} runs, its task is shown as STOPPED"))
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

/// From one published record of a task to the next, everything moves forward or stays.
fn forward(before: &Task, after: &Task) -> Step {
    let id = after.key.id;
    let goes_back = |what: &str| format!("{what} of task {id} goes back: {before:?}, then {after:?}");
    ensure(before.instance == after.instance, 2, || goes_back("the instance"))?;
    ensure(before.version < after.version, 5, || goes_back("the version"))?;
    ensure(before.desired <= after.desired, 5, || goes_back("the desired status"))?;
    ensure(before.known <= after.known, 5, || goes_back("the status"))?;
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
    Ok(())
}
