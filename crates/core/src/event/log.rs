//! The index of all milestones, in the order in which they came. Derived.

use std::ops::Bound::{self, Excluded, Included, Unbounded};

use imbl::OrdSet;

use super::cursor::{Cursor, Subject};
use super::milestone::Milestones;
use super::{Horizon, InstanceState, TaskState};
use crate::ids::{ClusterId, InstanceId, InstanceKey, TaskId, TaskKey};
use crate::read::merged;

/// An event by number and resource, in 32 bytes: there are several for every task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position<I> {
    number: u64,
    cluster: ClusterId,
    id: I,
}

/// Every event that is remembered: at most [`MILESTONES_PER_TASK`](crate::limits::MILESTONES_PER_TASK) for each of
/// [`TASKS`](crate::limits::TASKS), and as many for instances as they may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    tasks: OrdSet<Position<TaskId>>,
    instances: OrdSet<Position<InstanceId>>,
    horizon: Horizon,
}

impl Log {
    /// How much of the past was forgotten.
    pub(crate) fn horizon(&self) -> Horizon {
        self.horizon
    }

    pub(crate) fn set_horizon(&mut self, horizon: Horizon) {
        self.horizon = horizon;
    }

    /// Brings the events of a task from `old` to `new`.
    pub(crate) fn task_changed(
        &mut self,
        TaskKey { cluster, id }: TaskKey,
        old: Option<&Milestones<TaskState>>,
        new: Option<&Milestones<TaskState>>,
    ) {
        change(&mut self.tasks, old, new, |number| Position { number, cluster, id });
    }

    /// Brings the events of an instance from `old` to `new`.
    pub(crate) fn instance_changed(
        &mut self,
        InstanceKey { cluster, id }: InstanceKey,
        old: Option<&Milestones<InstanceState>>,
        new: Option<&Milestones<InstanceState>>,
    ) {
        change(&mut self.instances, old, new, |number| Position { number, cluster, id });
    }

    /// The events behind a cursor, in order.
    pub(super) fn after(&self, cursor: Cursor) -> impl Iterator<Item = (u64, Subject)> + '_ {
        let (number, next) = (cursor.number(), cursor.number().saturating_add(1));
        let (tasks, instances) = match cursor.subject() {
            Some(Subject::Task(TaskKey { cluster, id })) => {
                (Excluded(Position { number, cluster, id }), Included(first_instance(number)))
            }
            Some(Subject::Instance(InstanceKey { cluster, id })) => {
                (Included(first_task(next)), Excluded(Position { number, cluster, id }))
            }
            None => (Included(first_task(next)), Included(first_instance(next))),
        };
        let tasks = range(&self.tasks, tasks)
            .map(|&Position { number, cluster, id }| (number, Subject::Task(TaskKey { cluster, id })));
        let instances = range(&self.instances, instances)
            .map(|&Position { number, cluster, id }| (number, Subject::Instance(InstanceKey { cluster, id })));
        let both: [Box<dyn Iterator<Item = (u64, Subject)> + '_>; 2] = [Box::new(tasks), Box::new(instances)];
        merged(both)
    }
}

fn range<I: Copy + Ord>(
    set: &OrdSet<Position<I>>,
    from: Bound<Position<I>>,
) -> impl Iterator<Item = &Position<I>> + '_ {
    set.range((from, Unbounded))
}

fn first_task(number: u64) -> Position<TaskId> {
    Position { number, cluster: ClusterId(0), id: TaskId(0) }
}

fn first_instance(number: u64) -> Position<InstanceId> {
    Position { number, cluster: ClusterId(0), id: InstanceId(0) }
}

fn change<I: Copy + Ord, S: Copy>(
    set: &mut OrdSet<Position<I>>,
    old: Option<&Milestones<S>>,
    new: Option<&Milestones<S>>,
    place: impl Fn(u64) -> Position<I>,
) {
    let lacks = |all: Option<&Milestones<S>>, number| all.is_none_or(|all| all.of(number).is_none());
    for gone in old.into_iter().flatten().filter(|milestone| lacks(new, milestone.number)) {
        set.remove(&place(gone.number));
    }
    for come in new.into_iter().flatten().filter(|milestone| lacks(old, milestone.number)) {
        set.insert(place(come.number));
    }
}
