//! What is free where. Private to the writer, plain and mutable, derived from instances and tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::ecs::types;

use crate::entity::{Instance, Task};
use crate::entropy::Entropy;
use crate::ids::{ClusterId, InstanceKey, TaskId};
use crate::instance::InstanceStatus;
use crate::instance::health::Checks;
use crate::limits;
use crate::placement::{Need, Refusal};
use crate::resources::{HostPort, Protocol};
use crate::task::status::TaskStatus;

pub(crate) use longshore_agent_protocol::acs::HOST_ID;

/// Every instance's free resources, and the port book of every host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    slots: Vec<Slot>,
    by_key: BTreeMap<InstanceKey, usize>,
    by_cluster: BTreeMap<ClusterId, Vec<usize>>,
    hosts: BTreeMap<Arc<str>, HostBook>,
    dirty: BTreeSet<usize>,
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
#[derive(Clone, Debug, Default)]
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
        Holding { ports: counted(&self.ports), gpus: counted(&self.gpus) }
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
            host,
        });
        self.by_key.insert(instance.key, index);
        self.by_cluster.entry(instance.key.cluster).or_default().push(index);
        self.dirty.insert(index);
    }

    fn update(&mut self, old: &Arc<Instance>, new: &Arc<Instance>) {
        let Some(&index) = self.by_key.get(&new.key) else { return };
        let slot = &mut self.slots[index];
        slot.cpu_free += i64::from(new.cpu.0) - i64::from(old.cpu.0);
        slot.memory_free += i64::from(new.memory.0) - i64::from(old.memory.0);
        slot.instance = new.clone();
        slot.status = new.status;
        let held = slot.held.whole();
        let from = std::mem::replace(&mut slot.host, host_of(new));
        let to = slot.host.clone();
        self.book_release(&from, &Holding::of_instance(old));
        self.book_release(&from, &held);
        self.book_take(&to, &held);
        self.book_take(&to, &Holding::of_instance(new));
        self.dirty.insert(index);
    }

    /// The last slot moves into the place of the one that goes.
    fn remove(&mut self, old: &Arc<Instance>) {
        let Some(index) = self.by_key.remove(&old.key) else { return };
        if let Some(members) = self.by_cluster.get_mut(&old.key.cluster) {
            members.retain(|&member| member != index);
        }
        let slot = self.slots.swap_remove(index);
        self.book_release(&slot.host, &Holding::of_instance(&slot.instance));
        let moved_from = self.slots.len();
        if let Some(moved) = self.slots.get(index) {
            let key = moved.instance.key;
            self.by_key.insert(key, index);
            let members = self.by_cluster.entry(key.cluster).or_default();
            members.iter_mut().filter(|member| **member == moved_from).for_each(|member| *member = index);
            self.dirty.insert(index);
        }
        self.dirty.remove(&moved_from);
    }

    /// A task came, changed, or went: what it held is given back and what it holds now is taken.
    pub(crate) fn task_changed(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let Some(task) = new.or(old) else { return };
        let key = task.home();
        let Some(&index) = self.by_key.get(&key) else { return };
        let slot = &mut self.slots[index];
        let host = slot.host.clone();
        let released = old.map(|old| slot.give_back(old)).unwrap_or_default();
        let taken = new.map(|new| slot.reserve(new)).unwrap_or_default();
        self.book_release(&host, &released);
        self.book_take(&host, &taken);
        self.dirty.insert(index);
    }

    fn book_take(&mut self, host: &Arc<str>, holding: &Holding) {
        if !holding.is_empty() {
            self.hosts.entry(host.clone()).or_default().take(holding);
        }
    }

    fn book_release(&mut self, host: &Arc<str>, holding: &Holding) {
        if let Some(book) = self.hosts.get_mut(host).filter(|_| !holding.is_empty()) {
            book.release(holding);
            if book.is_empty() {
                self.hosts.remove(host);
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
            self.dirty.insert(index);
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

    /// An instance drawn at random among those of the cluster that fit, each as likely as any other.
    pub(crate) fn draw(&self, cluster: ClusterId, need: Need<'_>, entropy: &mut Entropy) -> Option<&Slot> {
        let members = self.by_cluster.get(&cluster)?;
        for _ in 0..limits::PLACEMENT_PROBES.min(members.len()) {
            let slot = &self.slots[members[entropy.below(members.len())]];
            if self.fits(slot, need).is_ok() {
                return Some(slot);
            }
        }
        let fitting: Vec<usize> =
            members.iter().copied().filter(|&member| self.fits(&self.slots[member], need).is_ok()).collect();
        fitting.get(entropy.below(fitting.len())).map(|&index| &self.slots[index])
    }

    /// Whether the instance can take the task, and if not, the first reason in ECS's order.
    pub(crate) fn fits(&self, slot: &Slot, need: Need<'_>) -> Result<(), Refusal> {
        if slot.status != InstanceStatus::Active {
            return Err(Refusal::Inactive);
        }
        if !slot.connected {
            return Err(Refusal::Agent);
        }
        if i64::from(need.cpu.0) > slot.cpu_free {
            return Err(Refusal::Cpu { missing: i64::from(need.cpu.0) - slot.cpu_free });
        }
        if i64::from(need.memory.0) > slot.memory_free {
            return Err(Refusal::Memory { missing: i64::from(need.memory.0) - slot.memory_free });
        }
        if let Some(book) = self.hosts.get(&slot.host).filter(|_| !need.host_ports.is_empty())
            && let Some(&port) = need.host_ports.iter().find(|port| book.ports.contains_key(port))
        {
            return Err(Refusal::Port { port });
        }
        if need.gpus > 0
            && let missing @ 1.. = i64::from(need.gpus) - self.gpus_free(slot).count() as i64
        {
            return Err(Refusal::Gpu { missing });
        }
        if let Some(missing) = need.requires.iter().find(|required| !has(&slot.instance, required)) {
            return Err(Refusal::Attribute { name: missing.name.to_string() });
        }
        match need.network {
            Some((book, request)) => book.room(&slot.instance, request).map(drop),
            None => Ok(()),
        }
    }

    /// The GPUs of an instance that no task of its host has.
    pub(crate) fn gpus_free<'a>(&'a self, slot: &'a Slot) -> impl Iterator<Item = &'a Arc<str>> {
        let book = self.hosts.get(&slot.host);
        slot.instance.gpus.iter().filter(move |id| book.is_none_or(|book| !book.gpus.contains_key(*id)))
    }

    /// The instances of a cluster, in the order they came.
    pub(crate) fn members(&self, cluster: ClusterId) -> impl Iterator<Item = &Slot> {
        self.by_cluster.get(&cluster).into_iter().flatten().map(|&index| &self.slots[index])
    }

    /// How many instances a cluster has.
    pub(crate) fn count(&self, cluster: ClusterId) -> usize {
        self.by_cluster.get(&cluster).map_or(0, Vec::len)
    }

    /// One instance.
    pub(crate) fn slot(&self, key: InstanceKey) -> Option<&Slot> {
        self.by_key.get(&key).map(|&index| &self.slots[index])
    }

    /// Every instance.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
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
            TaskStatus::Stopped => {}
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

fn has(instance: &Instance, required: &crate::task_definition::RequiredAttribute) -> bool {
    match (instance.attributes.get(required.name.as_str()), &required.value) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(value), Some(wanted)) => value.as_deref() == Some(wanted.as_str()),
    }
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

fn counted<K: Clone>(book: &BTreeMap<K, u32>) -> Vec<K> {
    book.iter().flat_map(|(key, &count)| std::iter::repeat_n(key.clone(), count as usize)).collect()
}
