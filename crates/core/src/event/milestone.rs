//! What a record remembers of its own past: when each status came, and in which commit.

use std::sync::Arc;

use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

use super::Horizon;
use crate::entity::{Entity, Instance, Task};
use crate::instance::InstanceStatus;
use crate::limits;
use crate::task::status::{DesiredStatus, TaskStatus};

/// A change of status that events tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, i64, i64, S)", into = "(u64, i64, i64, S)")]
#[serde(bound(serialize = "S: Copy + Serialize", deserialize = "S: Deserialize<'de>"))]
pub struct Milestone<S> {
    /// The number of the event: no earlier command has one as great.
    pub number: u64,
    /// When it was.
    pub at: Timestamp,
    /// The version that the resource had from then on.
    pub version: i64,
    /// What it was from then on.
    pub state: S,
}

/// In a record a milestone is a short array: there is one in every placement.
impl<S> From<(u64, i64, i64, S)> for Milestone<S> {
    fn from((number, at, version, state): (u64, i64, i64, S)) -> Self {
        Self { number, at: Timestamp::from_millis(at), version, state }
    }
}

impl<S> From<Milestone<S>> for (u64, i64, i64, S) {
    fn from(Milestone { number, at, version, state }: Milestone<S>) -> Self {
        (number, at.as_millis(), version, state)
    }
}

/// The statuses of a task as the API shows them: the last one, and the desired one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState(pub TaskStatus, pub DesiredStatus);

/// The status of a container instance, and whether its agent is connected as far as events told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceState(pub InstanceStatus, pub bool);

/// The milestones of a resource, oldest first. Statuses of tasks only move forward, so that a task has a handful at most; of
/// an instance the newest [`limits::MILESTONES_PER_INSTANCE`] are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Copy + Serialize", deserialize = "S: Deserialize<'de>"))]
pub struct Milestones<S>(Box<[Milestone<S>]>);

impl<S> Default for Milestones<S> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<S: Copy> Milestones<S> {
    /// Whether nothing was ever told: so it is with records from before there were events.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Milestone<S>> {
        self.0.iter()
    }

    /// The newest.
    pub fn last(&self) -> Option<&Milestone<S>> {
        self.0.last()
    }

    /// The one of this number.
    pub(crate) fn of(&self, number: u64) -> Option<&Milestone<S>> {
        self.0.iter().find(|milestone| milestone.number == number)
    }

    /// Adds the newest one; of one command only the last is told. At most `most` are kept: the number of the newest that is
    /// dropped for it, or 0.
    fn push(&mut self, newest: Milestone<S>, most: usize) -> u64 {
        // Every placement comes by here: one allocation, of the right size.
        let mut kept = Vec::with_capacity(self.0.len() + 1);
        kept.extend(self.0.iter().filter(|milestone| milestone.number < newest.number).copied());
        let surplus = (kept.len() + 1).saturating_sub(most);
        let forgotten = kept.drain(..surplus).next_back().map_or(0, |oldest| oldest.number);
        kept.push(newest);
        self.0 = kept.into_boxed_slice();
        forgotten
    }
}

impl<'a, S> IntoIterator for &'a Milestones<S> {
    type Item = &'a Milestone<S>;
    type IntoIter = std::slice::Iter<'a, Milestone<S>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What the events of the command under way are marked with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
}

/// Marks an entity that is about to be stored, if its change is one that events tell; what it forgets for that.
pub(crate) fn stamp(entity: &mut Entity, stamp: Stamp) -> Horizon {
    match entity {
        Entity::Task(task) if is_news_of_task(task) => stamp_task(Arc::make_mut(task), stamp),
        Entity::Instance(instance) if is_news_of_instance(instance) => {
            let instance = Arc::make_mut(instance);
            let state = InstanceState(instance.status, instance.agent_connected);
            let newest = Milestone { number: stamp.number, at: stamp.at, version: instance.version, state };
            let instances = instance.milestones.push(newest, limits::MILESTONES_PER_INSTANCE);
            Horizon { instances, ..Horizon::default() }
        }
        _ => Horizon::default(),
    }
}

/// The same for a task that nobody shares yet.
pub(crate) fn stamp_task(task: &mut Task, stamp: Stamp) -> Horizon {
    if !is_news_of_task(task) {
        return Horizon::default();
    }
    let state = TaskState(task.last_status(), task.desired_status());
    let newest = Milestone { number: stamp.number, at: stamp.at, version: task.version, state };
    let number = task.milestones.push(newest, limits::MILESTONES_PER_TASK);
    Horizon { number, ..Horizon::default() }
}

/// Whether a task's statuses are other than was told last. What else changes of it is told with the next of them.
fn is_news_of_task(task: &Task) -> bool {
    let state = TaskState(task.last_status(), task.desired_status());
    task.milestones.last().is_none_or(|last| last.state != state)
}

/// Every version of an instance is told: its record changes with what events are about, and with tags, which are no version.
fn is_news_of_instance(instance: &Instance) -> bool {
    instance.milestones.last().is_none_or(|last| last.version != instance.version)
}
