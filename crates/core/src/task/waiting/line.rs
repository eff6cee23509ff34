//! Who waits where, and until when. Derived from the tasks; which kinds are to be tried is volatile.

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::Timestamp;

use super::{Waiting, WaitingFor, asks};
use crate::entity::Task;
use crate::ids::{ClusterId, KindId, TaskId, TaskKey};
use crate::resources::{CpuUnits, MemoryMib};
use crate::task::status::{DesiredStatus, TaskStatus};

/// The tasks that wait for room, and the deadlines of those that wait or run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    clusters: BTreeMap<ClusterId, Queue>,
    deadlines: BTreeSet<(Timestamp, TaskKey)>,
    /// The kinds that something may take by now, by their oldest task.
    promising: BTreeSet<(TaskKey, KindId)>,
    /// How many tasks wait for the scheduler of their cluster.
    asking: BTreeMap<ClusterId, usize>,
}

/// Those of one cluster.
#[derive(Clone, Debug, Default)]
struct Queue {
    kinds: BTreeMap<KindId, Kind>,
    /// How many tasks wait in all kinds.
    waiting: usize,
}

/// Tasks that the same instances can take.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Oldest first.
    tasks: BTreeSet<TaskId>,
    /// What each takes: most instances are ruled out by this alone.
    pub(super) cpu: CpuUnits,
    pub(super) memory: MemoryMib,
    /// Whether they need addresses, which are given back on other instances than they are taken on.
    networked: bool,
    /// Nothing could take one when they were tried last, and nothing that changed since was found to.
    stalled: bool,
}

impl Kind {
    /// Its oldest task: there is one, as a kind without tasks is forgotten.
    fn first(&self, cluster: ClusterId) -> Option<TaskKey> {
        self.tasks.first().map(|&id| TaskKey { cluster, id })
    }
}

/// When a task is to be looked at next if nothing happens.
fn due(task: &Task) -> Option<Timestamp> {
    if let Some(waiting) = &task.waiting {
        return waiting.until;
    }
    let runs = task.last_status() == TaskStatus::Running && task.desired == DesiredStatus::Running;
    let limit = task.max_run_ms.filter(|_| runs)?;
    task.life.started_at.map(|at| at.plus_millis(limit))
}

/// What a task waits for, if room will end it.
fn in_line(task: &Task) -> Option<&Waiting> {
    task.waiting.as_deref().filter(|waiting| match waiting.on {
        WaitingFor::Room | WaitingFor::Provider => true,
        WaitingFor::Scheduler => false,
    })
}

impl Line {
    /// A task came, changed, or went.
    pub(crate) fn change(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let deadline = |task: &Task| Some((due(task)?, task.key));
        let (before, after) = (old.and_then(deadline), new.and_then(deadline));
        if before != after {
            before.map(|entry| self.deadlines.remove(&entry));
            self.deadlines.extend(after);
        }
        old.filter(|old| asks(old)).into_iter().for_each(|old| self.count_asking(old.key.cluster, false));
        new.filter(|new| asks(new)).into_iter().for_each(|new| self.count_asking(new.key.cluster, true));
        let (before, after) = (old.and_then(in_line).map(|w| w.kind), new.and_then(in_line).map(|w| w.kind));
        if before == after {
            return;
        }
        if let (Some(kind), Some(task)) = (before, old) {
            self.leave(task.key, kind);
        }
        if let (Some(_), Some(task)) = (after, new) {
            self.join(task);
        }
    }

    fn count_asking(&mut self, cluster: ClusterId, more: bool) {
        let asking = self.asking.entry(cluster).or_insert(0);
        *asking = if more { *asking + 1 } else { asking.saturating_sub(1) };
        if *asking == 0 {
            self.asking.remove(&cluster);
        }
    }

    fn join(&mut self, task: &Task) {
        let Some(waiting) = in_line(task) else { return };
        let cluster = task.key.cluster;
        let queue = self.clusters.entry(cluster).or_default();
        queue.waiting += 1;
        let kind = queue.kinds.entry(waiting.kind).or_insert_with(|| Kind {
            tasks: BTreeSet::new(),
            cpu: task.cpu,
            memory: task.memory,
            networked: waiting.network.is_some(),
            stalled: false,
        });
        let before = kind.first(cluster);
        kind.tasks.insert(task.key.id);
        let after = kind.first(cluster);
        let promising = !kind.stalled;
        self.reorder(waiting.kind, before.filter(|_| promising), after.filter(|_| promising));
    }

    fn leave(&mut self, task: TaskKey, id: KindId) {
        let Some(queue) = self.clusters.get_mut(&task.cluster) else { return };
        let Some(kind) = queue.kinds.get_mut(&id) else { return };
        let before = kind.first(task.cluster);
        if kind.tasks.remove(&task.id) {
            queue.waiting -= 1;
        }
        let (after, promising) = (kind.first(task.cluster), !kind.stalled);
        if kind.tasks.is_empty() {
            queue.kinds.remove(&id);
        }
        if queue.kinds.is_empty() {
            self.clusters.remove(&task.cluster);
        }
        self.reorder(id, before.filter(|_| promising), after.filter(|_| promising));
    }

    /// The oldest task of a promising kind is another one.
    fn reorder(&mut self, id: KindId, before: Option<TaskKey>, after: Option<TaskKey>) {
        if before != after {
            before.map(|first| self.promising.remove(&(first, id)));
            self.promising.extend(after.map(|first| (first, id)));
        }
    }

    fn set_stalled(&mut self, cluster: ClusterId, id: KindId, stalled: bool) {
        let kind = self.clusters.get_mut(&cluster).and_then(|queue| queue.kinds.get_mut(&id));
        let Some(kind) = kind.filter(|kind| kind.stalled != stalled) else { return };
        kind.stalled = stalled;
        let Some(first) = kind.first(cluster) else { return };
        match stalled {
            true => self.promising.remove(&(first, id)),
            false => self.promising.insert((first, id)),
        };
    }

    /// Nothing can take a task of this kind now.
    pub(super) fn stall(&mut self, cluster: ClusterId, id: KindId) {
        self.set_stalled(cluster, id, true);
    }

    /// Something may take a task of this kind.
    pub(super) fn encourage(&mut self, cluster: ClusterId, id: KindId) {
        self.set_stalled(cluster, id, false);
    }

    /// An address was given back, somewhere.
    pub(crate) fn address_freed(&mut self) {
        let stalled = self.clusters.iter().flat_map(|(cluster, queue)| {
            let networked = queue.kinds.iter().filter(|(_, kind)| kind.networked && kind.stalled);
            networked.map(|(id, _)| (*cluster, *id))
        });
        for (cluster, id) in stalled.collect::<Vec<_>>() {
            self.encourage(cluster, id);
        }
    }

    /// The kinds of a cluster that nothing could take, each with its oldest task.
    pub(super) fn stalled(&self, cluster: ClusterId) -> impl Iterator<Item = (KindId, TaskKey, &Kind)> {
        let kinds = self.clusters.get(&cluster).into_iter().flat_map(|queue| &queue.kinds);
        kinds.filter(|(_, kind)| kind.stalled).filter_map(move |(id, kind)| Some((*id, kind.first(cluster)?, kind)))
    }

    /// The kinds of a cluster, each with its oldest task and how many there are.
    pub(crate) fn kinds(&self, cluster: ClusterId) -> impl Iterator<Item = (TaskKey, usize)> {
        let kinds = self.clusters.get(&cluster).into_iter().flat_map(|queue| queue.kinds.values());
        kinds.filter_map(move |kind| Some((kind.first(cluster)?, kind.tasks.len())))
    }

    /// Of the kinds that something may take, the one with the oldest task, and that task.
    pub(super) fn next(&self) -> Option<(TaskKey, KindId)> {
        self.promising.first().copied()
    }

    /// Whether tasks of a kind wait in a cluster.
    pub(crate) fn has(&self, cluster: ClusterId, id: KindId) -> bool {
        self.clusters.get(&cluster).is_some_and(|queue| queue.kinds.contains_key(&id))
    }

    /// Whether tasks wait in a cluster.
    pub(crate) fn waits_in(&self, cluster: ClusterId) -> bool {
        self.clusters.contains_key(&cluster) || self.asks_in(cluster)
    }

    /// Whether tasks wait for the scheduler of a cluster.
    pub(super) fn asks_in(&self, cluster: ClusterId) -> bool {
        self.asking.contains_key(&cluster)
    }

    /// The clusters in which tasks wait for a scheduler.
    pub(super) fn asking(&self) -> impl Iterator<Item = ClusterId> {
        self.asking.keys().copied()
    }

    /// How many tasks wait in a cluster, and of how many kinds those for room are.
    pub(crate) fn count(&self, cluster: ClusterId) -> (usize, usize) {
        let (tasks, kinds) = self.clusters.get(&cluster).map_or((0, 0), |queue| (queue.waiting, queue.kinds.len()));
        (tasks + self.asking.get(&cluster).copied().unwrap_or(0), kinds)
    }

    /// Deadlines of tasks that wait or run, first to come first.
    pub(crate) fn deadlines(&self) -> &BTreeSet<(Timestamp, TaskKey)> {
        &self.deadlines
    }

    /// Whether it is what a recount of these tasks gives. Which kinds are promising is nobody's to recount.
    pub(crate) fn holds_exactly<'a>(&self, tasks: impl Iterator<Item = &'a Task>) -> bool {
        let mut recount = Self::default();
        tasks.for_each(|task| recount.change(None, Some(task)));
        let who = |line: &Self| {
            let kinds = line.clusters.iter().flat_map(|(cluster, queue)| {
                let kinds = queue.kinds.iter();
                kinds.map(move |(id, kind)| (*cluster, queue.waiting, *id, kind.tasks.clone()))
            });
            kinds.collect::<Vec<_>>()
        };
        let promising: BTreeSet<(TaskKey, KindId)> = self
            .clusters
            .iter()
            .flat_map(|(cluster, queue)| {
                let kinds = queue.kinds.iter().filter(|(_, kind)| !kind.stalled);
                kinds.filter_map(|(id, kind)| Some((kind.first(*cluster)?, *id)))
            })
            .collect();
        recount.deadlines == self.deadlines
            && recount.asking == self.asking
            && who(&recount) == who(self)
            && promising == self.promising
    }
}
