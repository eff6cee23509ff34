//! Who is missing, since when, and when that becomes loss. All of it is volatile: a new leader begins anew, with grace.
//!
//! Nothing here looks at every instance per command. What is to happen lies in queues ordered by time, and the next
//! of it is a [`Liveness::next_due`] away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::Timestamp;

use crate::config::{LossClock, LossPolicy};
use crate::entity::Instance;
use crate::ids::{ClusterId, InstanceKey, TaskId};
use crate::limits;
use crate::placement::pool::HOST_ID;

/// Whose agent runs on an instance. They differ in how long they may be away for no bad reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// Ours: it names the machine it runs on, and its back-off is capped at seconds.
    Longshore,
    /// The official one: it backs off up to minutes, and keeps a silent socket for two.
    Official,
}

impl AgentKind {
    /// The agent of an instance, by the attribute that only ours sends.
    pub fn of(instance: &Instance) -> Self {
        match instance.attributes.contains_key(HOST_ID) {
            true => Self::Longshore,
            false => Self::Official,
        }
    }
}

/// An instance without a session that is not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// When its agent was last heard of, as far as this cell knows.
    pub(crate) heard_at: Timestamp,
    /// From when on it counts as vanished; later than now while it has grace.
    pub(crate) since: Timestamp,
    /// How long it may be missing; `None` for ever.
    lost_after_ms: Option<i64>,
    /// How long its agent, which may be between two attempts, takes to come when nothing keeps it away any more.
    grace_ms: i64,
    /// When it is lost; `None` when it never is, or the brake holds.
    due: Option<Timestamp>,
    /// When events are to say that its agent is not connected; `None` once they do.
    silent_at: Option<Timestamp>,
    /// An operator gave it up: the brake does not hold it.
    pub(crate) condemned: bool,
}

/// The loss clocks, the brakes that hold them, and the endings under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Liveness {
    /// Whether the cell has begun to serve since its state was loaded or taken back.
    begun: bool,
    missing: BTreeMap<InstanceKey, Missing>,
    /// `missing` by when it is due.
    deadlines: BTreeSet<(Timestamp, InstanceKey)>,
    /// `missing` by when events are to say so.
    silences: BTreeSet<(Timestamp, InstanceKey)>,
    /// Those of `missing` that had no session when the cell began to serve: their agents are on their way back.
    returning: BTreeSet<InstanceKey>,
    /// When the last of them has had its grace.
    grace_ends: Timestamp,
    /// When lost instances that are not back had vanished: a later mass loss counts them. Those an operator gave up are
    /// not among them.
    lost: BTreeMap<InstanceKey, Timestamp>,
    /// Clusters whose brake is engaged; every snapshot shares them.
    engaged: Arc<BTreeSet<ClusterId>>,
    /// When to look whether an engaged brake can be released.
    reviews: BTreeMap<ClusterId, Timestamp>,
    /// Instances whose tasks are being ended, a bounded number at a time, and the last task that was looked at.
    endings: BTreeMap<InstanceKey, TaskId>,
    /// When the next of `endings` may go on.
    next_ending: Timestamp,
}

impl Liveness {
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Forgets everything: the state is another, and sessions were closed by us.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn set_begun(&mut self) {
        self.begun = true;
    }

    /// The clock leapt: whoever is missing has been so for as long as before.
    pub(crate) fn leap(&mut self, by_ms: i64) {
        for missing in self.missing.values_mut() {
            missing.heard_at = missing.heard_at.plus_millis(by_ms);
            missing.since = missing.since.plus_millis(by_ms);
            missing.due = missing.due.map(|due| due.plus_millis(by_ms));
            missing.silent_at = missing.silent_at.map(|at| at.plus_millis(by_ms));
        }
        self.deadlines = self.missing.iter().filter_map(|(key, missing)| Some((missing.due?, *key))).collect();
        self.silences = self.missing.iter().filter_map(|(key, missing)| Some((missing.silent_at?, *key))).collect();
        let others = self.lost.values_mut().chain(self.reviews.values_mut());
        others.chain([&mut self.next_ending, &mut self.grace_ends]).for_each(|at| *at = at.plus_millis(by_ms));
    }

    /// When something is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let loss = self.deadlines.first().map(|(due, _)| *due);
        let review = self.reviews.values().min().copied();
        let silence = self.silences.first().map(|(at, _)| *at);
        let ending = (!self.endings.is_empty()).then_some(self.next_ending);
        [loss, silence, review, ending].into_iter().flatten().min()
    }

    /// Starts the clock of an instance whose session ended, or that has none since the cell began; answers when it is lost.
    pub(crate) fn vanish(
        &mut self,
        policy: &LossPolicy,
        instance: &Instance,
        heard_at: Timestamp,
        since: Timestamp,
    ) -> Option<Timestamp> {
        let LossClock { lost_after_ms, grace_ms } = policy.clock(AgentKind::of(instance));
        let held = self.engaged.contains(&instance.key.cluster);
        let due = lost_after_ms.filter(|_| !held).map(|ms| since.plus_millis(ms));
        let silent_at = instance.agent_connected.then(|| since.plus_millis(limits::SILENCE_TOLD_AFTER_MS));
        let missing = Missing { heard_at, since, lost_after_ms, grace_ms, due, silent_at, condemned: false };
        self.set(instance.key, Some(missing));
        due
    }

    /// An instance has no session as the cell begins to serve: until `since` its absence means nothing.
    pub(crate) fn await_return(&mut self, policy: &LossPolicy, instance: &Instance, now: Timestamp) {
        let since = now.plus_millis(policy.clock(AgentKind::of(instance)).grace_ms);
        self.vanish(policy, instance, now, since);
        self.returning.insert(instance.key);
        self.grace_ends = self.grace_ends.max(since);
    }

    /// Until when nothing is to end for want of an instance: agents are on their way back. `None` when all of them are there.
    pub(crate) fn returns_awaited_until(&self) -> Option<Timestamp> {
        (!self.returning.is_empty()).then_some(self.grace_ends)
    }

    /// Whether the agent of an instance may come back before that is lost.
    pub(crate) fn may_return(&self, key: InstanceKey) -> bool {
        self.missing.get(&key).is_some_and(|missing| missing.due.is_some())
    }

    /// An instance is back, or gone for good.
    pub(crate) fn forget(&mut self, now: Timestamp, key: InstanceKey) {
        self.set(key, None);
        self.lost.remove(&key);
        self.endings.remove(&key);
        self.review(now, key.cluster);
    }

    /// An instance is lost: its clock has done its work.
    pub(crate) fn give_up(&mut self, key: InstanceKey) -> Option<Missing> {
        let missing = self.missing.get(&key).copied()?;
        self.set(key, None);
        if !missing.condemned {
            self.lost.insert(key, missing.since);
        }
        Some(missing)
    }

    pub(crate) fn missing(&self, key: InstanceKey) -> Option<&Missing> {
        self.missing.get(&key)
    }

    /// When a lost instance had vanished, unless an operator gave it up.
    pub(crate) fn lost_since(&self, key: InstanceKey) -> Option<Timestamp> {
        self.lost.get(&key).copied()
    }

    /// Instances that are to be lost by now, at most as many as one tick takes.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<InstanceKey> {
        let due = self.deadlines.iter().take_while(|(due, _)| *due <= now);
        due.take(limits::LOST_PER_TICK).map(|(_, key)| *key).collect()
    }

    /// The first instance whose agent is away for so long that events are to say so.
    pub(crate) fn silent(&self, now: Timestamp) -> Option<InstanceKey> {
        self.silences.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }

    /// Events say of this instance that its agent is away.
    pub(crate) fn silence_told(&mut self, key: InstanceKey) {
        let told = self.missing.get(&key).map(|missing| Missing { silent_at: None, ..*missing });
        self.set(key, told);
    }

    /// The clusters whose brake is engaged.
    pub(crate) fn engaged(&self) -> &Arc<BTreeSet<ClusterId>> {
        &self.engaged
    }

    pub(crate) fn is_braked(&self, cluster: ClusterId) -> bool {
        self.engaged.contains(&cluster)
    }

    /// Engages the brake of a cluster: no clock runs there, but for what an operator gave up.
    pub(crate) fn engage(&mut self, cluster: ClusterId) {
        Arc::make_mut(&mut self.engaged).insert(cluster);
        self.each_missing(cluster, |missing| {
            missing.due = missing.due.filter(|_| missing.condemned);
        });
    }

    /// Releases the brake of a cluster: the clocks start anew. What kept many agents away has just ended, so that however
    /// short the patience is, the last of them are given the time that a new leader gives.
    pub(crate) fn release(&mut self, now: Timestamp, cluster: ClusterId) {
        Arc::make_mut(&mut self.engaged).remove(&cluster);
        self.reviews.remove(&cluster);
        self.each_missing(cluster, |missing| {
            missing.since = missing.since.max(now);
            if !missing.condemned {
                missing.due = missing.lost_after_ms.map(|ms| missing.since.plus_millis(ms.max(missing.grace_ms)));
            }
        });
    }

    /// An operator gives up what has vanished in a cluster; answers how many instances those are.
    pub(crate) fn condemn(&mut self, now: Timestamp, cluster: ClusterId) -> usize {
        let mut condemned = 0;
        self.each_missing(cluster, |missing| {
            if missing.since <= now {
                condemned += 1;
                missing.condemned = true;
                missing.due = Some(now);
            }
        });
        condemned
    }

    /// Something changed that may release the brake. One look serves a storm of returns: counting takes time in the size of the
    /// cluster.
    fn review(&mut self, now: Timestamp, cluster: ClusterId) {
        if self.engaged.contains(&cluster) {
            self.reviews.entry(cluster).or_insert(now.plus_millis(limits::BRAKE_REVIEW_MS));
        }
    }

    /// The clusters whose brake is to be looked at by now.
    pub(crate) fn take_reviews(&mut self, now: Timestamp) -> Vec<ClusterId> {
        self.reviews.extract_if(.., |_, due| *due <= now).map(|(cluster, _)| cluster).collect()
    }

    /// The tasks of an instance are to be ended, from the first on.
    pub(crate) fn begin_ending(&mut self, now: Timestamp, key: InstanceKey) {
        if self.endings.is_empty() {
            self.next_ending = now;
        }
        self.endings.insert(key, TaskId(0));
    }

    /// An instance whose tasks are being ended, and the last task that was looked at, once it may go on.
    pub(crate) fn ending(&self, now: Timestamp) -> Option<(InstanceKey, TaskId)> {
        let (key, after) = self.endings.first_key_value().filter(|_| self.next_ending <= now)?;
        Some((*key, *after))
    }

    /// The tasks up to `after` were looked at.
    pub(crate) fn ended_up_to(&mut self, key: InstanceKey, after: TaskId) {
        self.endings.insert(key, after);
    }

    /// All tasks of an instance were looked at.
    pub(crate) fn ended(&mut self, key: InstanceKey) {
        self.endings.remove(&key);
    }

    /// Lets others have their turn before the next step.
    pub(crate) fn pause_endings(&mut self, now: Timestamp) {
        self.next_ending = now.plus_millis(limits::ENDING_PAUSE_MS);
    }

    /// How many instances are missing and not lost.
    pub(crate) fn missing_count(&self) -> usize {
        self.missing.len()
    }

    /// Whether the queues say what the missing instances say. For checkers.
    pub(crate) fn is_consistent(&self) -> bool {
        let due = self.missing.iter().filter_map(|(key, missing)| Some((missing.due?, *key)));
        let silences = self.missing.iter().filter_map(|(key, missing)| Some((missing.silent_at?, *key)));
        due.collect::<BTreeSet<_>>() == self.deadlines && silences.collect::<BTreeSet<_>>() == self.silences
    }

    fn each_missing(&mut self, cluster: ClusterId, mut change: impl FnMut(&mut Missing)) {
        let from = InstanceKey { cluster, id: crate::ids::InstanceId(0) };
        let to = InstanceKey { cluster, id: crate::ids::InstanceId(u128::MAX) };
        for (key, missing) in self.missing.range_mut(from..=to) {
            let before = missing.due;
            change(missing);
            if before != missing.due {
                before.map(|due| self.deadlines.remove(&(due, *key)));
                missing.due.map(|due| self.deadlines.insert((due, *key)));
            }
        }
    }

    fn set(&mut self, key: InstanceKey, missing: Option<Missing>) {
        let old = match missing {
            Some(missing) => self.missing.insert(key, missing),
            None => {
                self.returning.remove(&key);
                self.missing.remove(&key)
            }
        };
        if let Some(old) = old {
            old.due.map(|due| self.deadlines.remove(&(due, key)));
            old.silent_at.map(|at| self.silences.remove(&(at, key)));
        }
        if let Some(missing) = missing {
            missing.due.map(|due| self.deadlines.insert((due, key)));
            missing.silent_at.map(|at| self.silences.insert((at, key)));
        }
    }
}
