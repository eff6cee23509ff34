//! What is free where. Private to the writer, plain and mutable, derived from instances and tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::ecs::types;

use crate::capacity::FleetKey;
use crate::entity::{Instance, Task};
use crate::entropy::Entropy;
use crate::ids::{ClusterId, InstanceKey, TaskId};
use crate::instance::InstanceStatus;
use crate::instance::health::Checks;
use crate::limits;
use crate::placement::choose::{Cluster, choose};
use crate::placement::groups::{Groups, counted};
use crate::placement::view::{Change, Changes, Views};
use crate::placement::{Need, Refusal};
use crate::resources::{HostPort, Protocol};
use crate::task::status::TaskStatus;

pub(crate) use longshore_agent_protocol::acs::HOST_ID;

/// Every instance's free resources, and the port book of every host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    slots: Vec<Slot>,
    by_key: BTreeMap<InstanceKey, usize>,
    rosters: BTreeMap<ClusterId, Roster>,
    hosts: BTreeMap<Arc<str>, HostBook>,
    /// The instances of each host: what one of them publishes, none of them can.
    residents: BTreeMap<Arc<str>, BTreeSet<InstanceKey>>,
    /// The instances of each capacity provider in each cluster.
    fleets: BTreeMap<FleetKey, BTreeSet<InstanceKey>>,
    dirty: BTreeSet<usize>,
    /// The clusters in which tasks wait for an instance to change, and the instances of those that did.
    watched: BTreeSet<ClusterId>,
    stirred: BTreeSet<InstanceKey>,
}

/// The instances of one cluster, and what placement keeps of them.
#[derive(Clone, Debug, Default)]
struct Roster {
    /// Where each member's slot is. [`Slot::member`] is its place in here.
    indexes: Vec<usize>,
    groups: Groups,
    changes: Changes,
    views: Views,
}

/// One instance: what it offers less what its tasks hold.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) instance: Arc<Instance>,
    /// Of the instance; here, because placement asks every time.
    pub(crate) status: InstanceStatus,
    pub(crate) connected: bool,
    /// When its last session ended, while it has none. Volatile.
    pub(crate) disconnected_at: Option<Timestamp>,
    /// What its agent said of its health last, in this session. Volatile.
    pub(crate) health: Checks,
    pub(crate) cpu_free: i64,
    pub(crate) memory_free: i64,
    pub(crate) pending: u32,
    pub(crate) running: u32,
    /// Tasks whose agent has not said STOPPED: those that are stale too.
    pub(crate) tasks: BTreeSet<TaskId>,
    /// Ports and GPUs held by tasks of this instance.
    pub(crate) held: HostBook,
    /// How many tasks of each group there are that are wanted and not over.
    pub(crate) groups: BTreeMap<Arc<str>, u32>,
    /// Its number in its cluster.
    pub(super) member: u32,
    host: Arc<str>,
}

/// What is in use of a host, with how many hold each: a port that Docker chose may meet one that a task has reserved and not
/// bound yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostBook {
    pub(crate) ports: BTreeMap<HostPort, u32>,
    pub(crate) gpus: BTreeMap<Arc<str>, u32>,
}

/// What one task, or an instance for itself, holds of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) ports: Vec<HostPort>,
    pub(crate) gpus: Vec<Arc<str>>,
}

impl HostBook {
    pub(crate) fn take(&mut self, holding: &Holding) {
        take(&mut self.ports, &holding.ports);
        take(&mut self.gpus, &holding.gpus);
    }

    fn release(&mut self, holding: &Holding) {
        release(&mut self.ports, &holding.ports);
        release(&mut self.gpus, &holding.gpus);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.gpus.is_empty()
    }

    /// All of it as one holding.
    fn whole(&self) -> Holding {
        Holding { ports: every(&self.ports), gpus: every(&self.gpus) }
    }
}

impl Holding {
    /// What an instance keeps for itself.
    pub(crate) fn of_instance(instance: &Instance) -> Self {
        Self { ports: instance.reserved_ports.clone(), gpus: Vec::new() }
    }

    /// What a task holds from placement on, and what of it is known once it is reported.
    pub(crate) fn of_task(task: &Task) -> Self {
        Self { ports: ports_held(task), gpus: task.gpus.iter().map(|gpu| gpu.id.clone()).collect() }
    }

    fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.gpus.is_empty()
    }
}

impl Pool {
    /// An instance came, changed, or went.
    pub(crate) fn instance_changed(&mut self, old: Option<&Arc<Instance>>, new: Option<&Arc<Instance>>) {
        match (old, new) {
            (None, Some(instance)) => self.add(instance),
            (Some(old), Some(new)) => self.update(old, new),
            (Some(old), None) => self.remove(old),
            (None, None) => {}
        }
    }

    fn add(&mut self, instance: &Arc<Instance>) {
        let host = host_of(instance);
        self.book_take(&host, &Holding::of_instance(instance));
        let index = self.slots.len();
        let roster = self.rosters.entry(instance.key.cluster).or_default();
        let member = roster.indexes.len() as u32;
        roster.indexes.push(index);
        self.residents.entry(host.clone()).or_default().insert(instance.key);
        self.enlist(instance);
        self.slots.push(Slot {
            instance: instance.clone(),
            status: instance.status,
            connected: false,
            disconnected_at: None,
            health: Checks::default(),
            cpu_free: i64::from(instance.cpu.0),
            memory_free: i64::from(instance.memory.0),
            pending: 0,
            running: 0,
            tasks: BTreeSet::new(),
            held: HostBook::default(),
            groups: BTreeMap::new(),
            member,
            host,
        });
        self.by_key.insert(instance.key, index);
        self.touch(index, Change::Itself);
    }

    /// Notes that an instance is other than before, for the next snapshot and for whoever places by it.
    fn touch(&mut self, index: usize, change: Change) {
        self.dirty.insert(index);
        self.stir(self.slots[index].instance.key);
        let slot = &self.slots[index];
        if let Some(roster) = self.rosters.get_mut(&slot.instance.key.cluster)
            && !roster.views.is_empty()
        {
            roster.changes.note(slot.member, change, roster.indexes.len());
        }
    }

    /// Notes that an instance may take by now what it could not, if anybody waits for that.
    fn stir(&mut self, key: InstanceKey) {
        if self.watched.contains(&key.cluster) {
            self.stirred.insert(key);
        }
    }

    /// Tasks wait in a cluster, or none do any more.
    pub(crate) fn watch(&mut self, cluster: ClusterId, tasks_wait: bool) {
        match tasks_wait {
            true => drop(self.watched.insert(cluster)),
            false => drop(self.watched.remove(&cluster)),
        }
    }

    /// Whether an instance changed that somebody waits for.
    pub(crate) fn is_stirred(&self) -> bool {
        !self.stirred.is_empty()
    }

    /// One of the instances that changed while tasks wait in their cluster.
    pub(crate) fn take_stirred(&mut self) -> Option<InstanceKey> {
        self.stirred.pop_first()
    }

    fn update(&mut self, old: &Arc<Instance>, new: &Arc<Instance>) {
        let Some(&index) = self.by_key.get(&new.key) else { return };
        let slot = &mut self.slots[index];
        slot.cpu_free += i64::from(new.cpu.0) - i64::from(old.cpu.0);
        slot.memory_free += i64::from(new.memory.0) - i64::from(old.memory.0);
        slot.instance = new.clone();
        slot.status = new.status;
        if let Some(roster) = self.rosters.get_mut(&new.key.cluster).filter(|_| old.attributes != new.attributes) {
            for (group, tasks) in &slot.groups {
                roster.groups.add(group, new, *tasks);
                roster.groups.remove(group, old, *tasks);
            }
        }
        let held = slot.held.whole();
        let moves = old.capacity_provider() != new.capacity_provider();
        let from = std::mem::replace(&mut slot.host, host_of(new));
        let to = slot.host.clone();
        self.move_in(new.key, &from, &to);
        if moves {
            self.strike_off(old);
            self.enlist(new);
        }
        self.book_release(&from, &Holding::of_instance(old));
        self.book_release(&from, &held);
        self.book_take(&to, &held);
        self.book_take(&to, &Holding::of_instance(new));
        self.touch(index, Change::Itself);
    }

    /// An instance is on another host than before.
    fn move_in(&mut self, key: InstanceKey, from: &Arc<str>, to: &Arc<str>) {
        if from != to {
            self.move_out(key, from);
            self.residents.entry(to.clone()).or_default().insert(key);
        }
    }

    fn move_out(&mut self, key: InstanceKey, host: &Arc<str>) {
        if let Some(residents) = self.residents.get_mut(host) {
            residents.remove(&key);
            if residents.is_empty() {
                self.residents.remove(host);
            }
        }
    }

    /// An instance belongs to its capacity provider.
    fn enlist(&mut self, instance: &Instance) {
        if let Some(fleet) = FleetKey::of(instance) {
            self.fleets.entry(fleet).or_default().insert(instance.key);
        }
    }

    /// And no more.
    fn strike_off(&mut self, instance: &Instance) {
        let Some(fleet) = FleetKey::of(instance) else { return };
        if let Some(members) = self.fleets.get_mut(&fleet) {
            members.remove(&instance.key);
            if members.is_empty() {
                self.fleets.remove(&fleet);
            }
        }
    }

    /// The last slot moves into the place of the one that goes, and the last of its cluster takes its number.
    fn remove(&mut self, old: &Arc<Instance>) {
        let Some(index) = self.by_key.remove(&old.key) else { return };
        let slot = self.slots.swap_remove(index);
        let moved_from = self.slots.len();
        self.dirty.remove(&moved_from);
        if let Some(moved) = self.slots.get(index) {
            self.by_key.insert(moved.instance.key, index);
            if let Some(roster) = self.rosters.get_mut(&moved.instance.key.cluster) {
                roster.indexes[moved.member as usize] = index;
            }
            self.dirty.insert(index);
        }
        if let Some(roster) = self.rosters.get_mut(&old.key.cluster) {
            slot.groups.iter().for_each(|(group, tasks)| roster.groups.remove(group, &slot.instance, *tasks));
            roster.indexes.swap_remove(slot.member as usize);
            let count = roster.indexes.len();
            if let Some(&renumbered) = roster.indexes.get(slot.member as usize) {
                self.slots[renumbered].member = slot.member;
            }
            if !roster.views.is_empty() {
                roster.changes.note(slot.member, Change::Itself, count);
                roster.changes.note(count as u32, Change::Itself, count);
            }
            if count == 0 {
                self.rosters.remove(&old.key.cluster);
            }
        }
        self.move_out(old.key, &slot.host);
        self.strike_off(old);
        self.book_release(&slot.host, &Holding::of_instance(&slot.instance));
    }

    /// A task came, changed, or went: what it held is given back and what it holds now is taken.
    pub(crate) fn task_changed(&mut self, old: Option<&Task>, new: Option<&Task>) {
        // A task that waits is nowhere: to be placed is to come.
        let (old, new) = (old.filter(|old| old.instance.is_some()), new.filter(|new| new.instance.is_some()));
        let Some(key) = new.or(old).and_then(Task::home) else { return };
        let Some(&index) = self.by_key.get(&key) else { return };
        let slot = &mut self.slots[index];
        let host = slot.host.clone();
        let released = old.map(|old| slot.give_back(old)).unwrap_or_default();
        let taken = new.map(|new| slot.reserve(new)).unwrap_or_default();
        let (before, after) = (old.and_then(counted), new.and_then(counted));
        if before != after
            && let Some(roster) = self.rosters.get_mut(&key.cluster)
        {
            if let Some(group) = after {
                *slot.groups.entry(group.clone()).or_insert(0) += 1;
                roster.groups.add(group, &slot.instance, 1);
            }
            if let Some(group) = before {
                roster.groups.remove(group, &slot.instance, 1);
                match slot.groups.get_mut(group) {
                    Some(1) | None => drop(slot.groups.remove(group)),
                    Some(tasks) => *tasks -= 1,
                }
            }
        }
        if released != taken {
            self.book_release(&host, &released);
            self.book_take(&host, &taken);
        }
        self.touch(index, Change::Load);
    }

    fn book_take(&mut self, host: &Arc<str>, holding: &Holding) {
        if !holding.is_empty() {
            self.hosts.entry(host.clone()).or_default().take(holding);
            self.touch_residents(host);
        }
    }

    fn book_release(&mut self, host: &Arc<str>, holding: &Holding) {
        if let Some(book) = self.hosts.get_mut(host).filter(|_| !holding.is_empty()) {
            book.release(holding);
            if book.is_empty() {
                self.hosts.remove(host);
            }
            self.touch_residents(host);
        }
    }

    /// The port book of a host changed: that is news of each of its instances.
    fn touch_residents(&mut self, host: &Arc<str>) {
        let residents = self.residents.get(host).into_iter().flatten();
        let indexes: Vec<usize> = residents.filter_map(|key| self.by_key.get(key)).copied().collect();
        for index in indexes {
            self.stir(self.slots[index].instance.key);
            let slot = &self.slots[index];
            if let Some(roster) = self.rosters.get_mut(&slot.instance.key.cluster)
                && !roster.views.is_empty()
            {
                roster.changes.note(slot.member, Change::Load, roster.indexes.len());
            }
        }
    }

    /// The agent of an instance came, or went at a known time.
    pub(crate) fn set_connected(&mut self, key: InstanceKey, connected: bool, left_at: Option<Timestamp>) {
        if let Some(&index) = self.by_key.get(&key) {
            let slot = &mut self.slots[index];
            slot.connected = connected;
            slot.disconnected_at = left_at;
            slot.health = Checks::default();
            self.touch(index, Change::Itself);
        }
    }

    /// How an instance is, as its agent said just now: an agent that is not connected has said nothing.
    pub(crate) fn set_health(&mut self, key: InstanceKey, checks: Checks) {
        if let Some(&index) = self.by_key.get(&key)
            && self.slots[index].connected
            && self.slots[index].health != checks
        {
            self.slots[index].health = checks;
            self.dirty.insert(index);
        }
    }

    /// The instance that a copy of a task goes to: the best by its strategy among those of the cluster that can take it.
    pub(crate) fn choose(&mut self, cluster: ClusterId, need: Need<'_>, entropy: &mut Entropy) -> Option<&Slot> {
        let Self { slots, by_key, rosters, hosts, .. } = self;
        let slots = slots.as_slice();
        let Roster { indexes, groups, changes, views } = rosters.get_mut(&cluster)?;
        let all = Cluster { slots, indexes, hosts, id: cluster, by_key, groups, changes, views };
        let chosen = choose(all, need, entropy)?;
        Some(&slots[indexes[chosen as usize]])
    }

    /// Whether the instance can take the task, and if not, the first reason in ECS's order.
    pub(crate) fn fits(&self, slot: &Slot, need: Need<'_>) -> Result<(), Refusal> {
        slot.fits(self.hosts.get(&slot.host), need)
    }

    /// The GPUs of an instance that no task of its host has.
    pub(crate) fn gpus_free<'a>(&'a self, slot: &'a Slot) -> impl Iterator<Item = &'a Arc<str>> {
        slot.gpus_free(self.hosts.get(&slot.host))
    }

    /// The instances of a cluster.
    pub(crate) fn members(&self, cluster: ClusterId) -> impl Iterator<Item = &Slot> {
        self.rosters.get(&cluster).into_iter().flat_map(|roster| &roster.indexes).map(|&index| &self.slots[index])
    }

    /// The instances of a capacity provider in a cluster, in the order of their keys.
    pub(crate) fn fleet(&self, fleet: &FleetKey) -> impl Iterator<Item = &Slot> {
        self.fleets.get(fleet).into_iter().flatten().filter_map(|key| self.slot(*key))
    }

    /// How many there are.
    pub(crate) fn fleet_size(&self, fleet: &FleetKey) -> usize {
        self.fleets.get(fleet).map_or(0, BTreeSet::len)
    }

    /// How many instances a cluster has.
    pub(crate) fn count(&self, cluster: ClusterId) -> usize {
        self.rosters.get(&cluster).map_or(0, |roster| roster.indexes.len())
    }

    /// One instance.
    pub(crate) fn slot(&self, key: InstanceKey) -> Option<&Slot> {
        self.by_key.get(&key).map(|&index| &self.slots[index])
    }

    /// Every instance.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether the groups of each cluster are a recount of those of its instances.
    pub(crate) fn groups_hold(&self) -> bool {
        self.rosters.values().all(|roster| {
            let slots = roster.indexes.iter().map(|&index| &self.slots[index]);
            roster.groups.holds_exactly(slots)
        })
    }

    /// What is in use of each host.
    pub(crate) fn hosts(&self) -> &BTreeMap<Arc<str>, HostBook> {
        &self.hosts
    }

    /// The instances that changed since the last call.
    pub(crate) fn take_dirty(&mut self) -> impl Iterator<Item = &Slot> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().filter_map(|index| self.slots.get(index))
    }
}

impl Slot {
    /// Whose book it uses.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it can take the task, by the book of its host; if not, the first reason in ECS's order.
    pub(super) fn fits(&self, book: Option<&HostBook>, need: Need<'_>) -> Result<(), Refusal> {
        if self.status != InstanceStatus::Active {
            return Err(Refusal::Inactive);
        }
        if !self.connected {
            return Err(Refusal::Agent);
        }
        if i64::from(need.cpu.0) > self.cpu_free {
            return Err(Refusal::Cpu { missing: i64::from(need.cpu.0) - self.cpu_free });
        }
        if i64::from(need.memory.0) > self.memory_free {
            return Err(Refusal::Memory { missing: i64::from(need.memory.0) - self.memory_free });
        }
        if let Some(book) = book
            && let Some(&port) = need.host_ports.iter().find(|port| book.ports.contains_key(port))
        {
            return Err(Refusal::Port { port });
        }
        if need.gpus > 0
            && let missing @ 1.. = i64::from(need.gpus) - self.gpus_free(book).count() as i64
        {
            return Err(Refusal::Gpu { missing });
        }
        if let Some(missing) = need.requires.iter().find(|required| !required.is_met_by(&self.instance)) {
            return Err(Refusal::Attribute { name: missing.name.to_string() });
        }
        need.placement.constraints.admit(self, need.placement.group())?;
        match need.network {
            Some((book, request)) => book.room(&self.instance, request).map(drop),
            None => Ok(()),
        }
    }

    /// Its GPUs that no task has, by the book of its host.
    pub(super) fn gpus_free(&self, book: Option<&HostBook>) -> impl Iterator<Item = &Arc<str>> {
        self.instance.gpus.iter().filter(move |id| book.is_none_or(|book| !book.gpus.contains_key(*id)))
    }

    /// Takes what the task needs; answers what of it stands in the host's book.
    fn reserve(&mut self, task: &Task) -> Holding {
        if task.known == TaskStatus::Stopped {
            return Holding::default();
        }
        self.cpu_free -= i64::from(task.cpu.0);
        self.memory_free -= i64::from(task.memory.0);
        self.tasks.insert(task.key.id);
        self.count(task, |counter| *counter += 1);
        let holding = Holding::of_task(task);
        self.held.take(&holding);
        holding
    }

    /// Gives back what the task held; answers what of it stood in the host's book.
    fn give_back(&mut self, task: &Task) -> Holding {
        if task.known == TaskStatus::Stopped {
            return Holding::default();
        }
        self.cpu_free += i64::from(task.cpu.0);
        self.memory_free += i64::from(task.memory.0);
        self.tasks.remove(&task.key.id);
        self.count(task, |counter| *counter -= 1);
        let holding = Holding::of_task(task);
        self.held.release(&holding);
        holding
    }

    /// A stale task holds what it holds, and is counted nowhere.
    fn count(&mut self, task: &Task, change: impl FnOnce(&mut u32)) {
        match task.last_status() {
            TaskStatus::Pending => change(&mut self.pending),
            TaskStatus::Running => change(&mut self.running),
            TaskStatus::Provisioning | TaskStatus::Stopped => {}
        }
    }
}

/// The host whose ports an instance uses: machines that say who they are share one book between their instances.
pub(crate) fn host_of(instance: &Instance) -> Arc<str> {
    match instance.attributes.get(HOST_ID) {
        Some(Some(host)) => host.clone(),
        _ => instance.key.id.to_string().into(),
    }
}

/// The host ports a task holds: the fixed ones from placement on, and those Docker chose once they are reported.
pub(crate) fn ports_held(task: &Task) -> Vec<HostPort> {
    let reported = task.containers.iter().filter_map(|container| container.detail.as_deref()).flat_map(|detail| {
        detail.network_bindings.iter().flat_map(|binding| {
            let protocol = match binding.protocol.as_ref().map(|protocol| protocol.as_str()) {
                Some("udp") => Protocol::Udp,
                _ => Protocol::Tcp,
            };
            bound(binding).into_iter().flatten().map(move |port| HostPort { port, protocol })
        })
    });
    let mut ports: Vec<HostPort> = task.host_ports.iter().copied().chain(reported.take(limits::PORTS_HELD)).collect();
    if ports.len() > 1 {
        ports.sort_unstable();
        ports.dedup();
    }
    ports
}

/// The host ports of a binding: one, or a range.
fn bound(binding: &types::NetworkBinding) -> Option<RangeInclusive<u16>> {
    if let Some(port) = binding.host_port {
        let port = u16::try_from(port).ok()?;
        return Some(port..=port);
    }
    let (first, last) = binding.host_port_range.as_deref()?.split_once('-')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn take<K: Ord + Clone>(book: &mut BTreeMap<K, u32>, keys: &[K]) {
    for key in keys {
        *book.entry(key.clone()).or_insert(0) += 1;
    }
}

fn release<K: Ord>(book: &mut BTreeMap<K, u32>, keys: &[K]) {
    for key in keys {
        match book.get_mut(key) {
            Some(1) | None => drop(book.remove(key)),
            Some(count) => *count -= 1,
        }
    }
}

fn every<K: Clone>(book: &BTreeMap<K, u32>) -> Vec<K> {
    book.iter().flat_map(|(key, &count)| std::iter::repeat_n(key.clone(), count as usize)).collect()
}
