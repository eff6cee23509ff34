//! What is derived of schedules: which wakes first, and which of their tasks have ended without being noted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::Timestamp;

use super::Schedule;
use crate::entity::Task;
use crate::ids::TaskKey;
use crate::task::status::TaskStatus;

/// Derived from schedules and tasks; never persisted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    wakes: BTreeSet<(Timestamp, Arc<str>)>,
    /// The tasks whose end is not noted yet, and whose they are.
    open: BTreeMap<TaskKey, Arc<str>>,
    /// Those of them that have ended, or are forgotten.
    ended: BTreeSet<(Arc<str>, TaskKey)>,
}

impl Book {
    /// The schedule that has to do something first.
    pub(crate) fn first_to_wake(&self) -> Option<&(Timestamp, Arc<str>)> {
        self.wakes.first()
    }

    /// A schedule one of whose tasks has ended.
    pub(crate) fn first_ended(&self) -> Option<&Arc<str>> {
        self.ended.first().map(|(name, _)| name)
    }

    /// A schedule came, changed, or went. `ended` tells whether a task is STOPPED, or not there.
    pub(crate) fn schedule_changed(
        &mut self,
        old: Option<&Schedule>,
        new: Option<&Schedule>,
        ended: impl Fn(TaskKey) -> bool,
    ) {
        if let Some(old) = old {
            old.wakes_at().map(|at| self.wakes.remove(&(at, old.name.clone())));
            for task in old.open() {
                self.open.remove(&task);
                self.ended.remove(&(old.name.clone(), task));
            }
        }
        if let Some(new) = new {
            self.wakes.extend(new.wakes_at().map(|at| (at, new.name.clone())));
            for task in new.open() {
                self.open.insert(task, new.name.clone());
                if ended(task) {
                    self.ended.insert((new.name.clone(), task));
                }
            }
        }
    }

    /// A task came, changed, or went. Costs nothing while no schedule has tasks.
    pub(crate) fn task_changed(&mut self, key: TaskKey, new: Option<&Task>) {
        let Some(name) = self.open.get(&key) else { return };
        let entry = (name.clone(), key);
        match new.is_none_or(|task| task.last_status() == TaskStatus::Stopped) {
            true => self.ended.insert(entry),
            false => self.ended.remove(&entry),
        };
    }
}
