//! Which tasks wait for the scheduler of their cluster. Derived from the tasks.

use std::ops::Bound;

use imbl::{OrdMap, OrdSet};

use crate::ids::{ClusterId, TaskId, TaskKey};

/// The tasks of each cluster that wait for its scheduler: counted without a look at each. A cluster without any is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asking(OrdMap<ClusterId, OrdSet<TaskId>>);

impl Asking {
    pub(crate) fn insert(&mut self, task: TaskKey) {
        self.0.entry(task.cluster).or_default().insert(task.id);
    }

    pub(crate) fn remove(&mut self, task: TaskKey) {
        let Some(tasks) = self.0.get_mut(&task.cluster) else { return };
        tasks.remove(&task.id);
        if tasks.is_empty() {
            self.0.remove(&task.cluster);
        }
    }

    /// The clusters in which tasks wait.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = ClusterId> {
        self.0.keys().copied()
    }

    /// How many wait in a cluster.
    pub(crate) fn count(&self, cluster: ClusterId) -> usize {
        self.0.get(&cluster).map_or(0, OrdSet::len)
    }

    /// Those of a cluster behind one of them, or all of them; oldest first.
    pub(crate) fn behind(&self, cluster: ClusterId, after: Option<TaskId>) -> impl Iterator<Item = TaskKey> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tasks = self.0.get(&cluster).into_iter().flat_map(move |tasks| tasks.range((from, Bound::Unbounded)));
        tasks.map(move |id| TaskKey { cluster, id: *id })
    }
}

impl FromIterator<TaskKey> for Asking {
    fn from_iter<I: IntoIterator<Item = TaskKey>>(tasks: I) -> Self {
        let mut asking = Self::default();
        tasks.into_iter().for_each(|task| asking.insert(task));
        asking
    }
}
