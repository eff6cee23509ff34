//! How many tasks of a group run where. Strategies spread by it, and constraints look at it.
//!
//! A task counts while it is wanted and not over: as ECS documents for `distinctInstance`, what is to stop is no neighbour any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pool::Slot;
use crate::entity::{Instance, Task};
use crate::ids::InstanceId;
use crate::limits;
use crate::task::status::DesiredStatus;

/// What an instance has for an attribute that tasks are spread over; none if it has no such attribute, or one without value.
pub(super) type Value = Option<Arc<str>>;

/// The groups that have tasks in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    known: BTreeMap<Arc<str>, Group>,
}

/// The tasks of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Where there are any.
    on: BTreeMap<InstanceId, u32>,
    /// For each attribute that they were spread over once: how many there are with each value. Kept from then on.
    by_attribute: BTreeMap<Arc<str>, BTreeMap<Value, u32>>,
}

/// The group that a task counts for.
pub(super) fn counted(task: &Task) -> Option<&Arc<str>> {
    (task.desired_status() == DesiredStatus::Running).then_some(&task.group)
}

/// What an instance has for an attribute.
pub(super) fn value(instance: &Instance, attribute: &str) -> Value {
    instance.attributes.get(attribute).cloned().flatten()
}

impl Groups {
    /// A task more.
    pub(super) fn add(&mut self, group: &Arc<str>, instance: &Instance, tasks: u32) {
        let known = self.known.entry(group.clone()).or_default();
        *known.on.entry(instance.key.id).or_insert(0) += tasks;
        for (attribute, counts) in &mut known.by_attribute {
            *counts.entry(value(instance, attribute)).or_insert(0) += tasks;
        }
    }

    /// As many less. A group without tasks is forgotten.
    pub(super) fn remove(&mut self, group: &Arc<str>, instance: &Instance, tasks: u32) {
        let Some(known) = self.known.get_mut(group) else { return };
        take(&mut known.on, &instance.key.id, tasks);
        for (attribute, counts) in &mut known.by_attribute {
            take(counts, &value(instance, attribute), tasks);
        }
        if known.on.is_empty() {
            self.known.remove(group);
        }
    }

    /// Where the tasks of a group are.
    pub(super) fn places(&self, group: &str) -> Option<&BTreeMap<InstanceId, u32>> {
        Some(&self.known.get(group)?.on)
    }

    /// How many tasks of a group an instance has.
    pub(super) fn on(&self, group: &str, instance: InstanceId) -> u32 {
        self.known.get(group).and_then(|known| known.on.get(&instance)).copied().unwrap_or(0)
    }

    /// How many tasks of a group there are where an attribute has a value, for an attribute that is counted.
    pub(super) fn with(&self, group: &str, attribute: &str, value: &Value) -> u32 {
        let counts = self.known.get(group).and_then(|known| known.by_attribute.get(attribute));
        counts.and_then(|counts| counts.get(value)).copied().unwrap_or(0)
    }

    /// Counts a group by these attributes from now on.
    pub(super) fn count_by<'a>(
        &mut self,
        group: &str,
        attributes: &[Arc<str>],
        instance: impl Fn(InstanceId) -> Option<&'a Arc<Instance>>,
    ) {
        let Some(Group { on, by_attribute }) = self.known.get_mut(group) else { return };
        if attributes.iter().all(|attribute| by_attribute.contains_key(attribute)) {
            return;
        }
        if by_attribute.len() + attributes.len() > limits::SPREAD_ATTRIBUTES {
            by_attribute.clear();
        }
        for attribute in attributes {
            let counts = by_attribute.entry(attribute.clone()).or_default();
            counts.clear();
            for (id, tasks) in on.iter() {
                if let Some(instance) = instance(*id) {
                    *counts.entry(value(instance, attribute)).or_insert(0) += tasks;
                }
            }
        }
    }

    /// Whether it is what a recount of the groups on these instances gives.
    pub(super) fn holds_exactly<'a>(&self, slots: impl Iterator<Item = &'a Slot> + Clone) -> bool {
        let mut recount = Self::default();
        for slot in slots.clone() {
            slot.groups.iter().for_each(|(group, tasks)| recount.add(group, &slot.instance, *tasks));
        }
        let instances: BTreeMap<InstanceId, &Arc<Instance>> =
            slots.map(|slot| (slot.instance.key.id, &slot.instance)).collect();
        for (group, known) in &self.known {
            let attributes: Vec<Arc<str>> = known.by_attribute.keys().cloned().collect();
            recount.count_by(group, &attributes, |id| instances.get(&id).copied());
        }
        *self == recount
    }
}

fn take<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K, tasks: u32) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(tasks);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
