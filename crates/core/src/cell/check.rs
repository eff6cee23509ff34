//! The invariants of the state, recounted from the entities alone (DESIGN §7.1).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::Cell;
use crate::event::{self, InstanceState, TaskState};
use crate::ids::{ClusterId, InstanceKey, TaskId};
use crate::instance::InstanceStatus;
use crate::network::AddressBook;
use crate::placement::pool::{Holding, HostBook, Slot};
use crate::read::Counters;
use crate::resources::HostPort;
use crate::schedule;
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task::waiting;
use crate::task_definition::Deletions;

/// An invariant that does not hold. A bug, or a damaged store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Cell {
    /// Recounts everything derived and states every invariant. Costs time in the size of the state; run after each
    /// simulated step and at start-up.
    ///
    /// # Errors
    /// The first violation found.
    pub fn check(&self) -> Result<(), Violation> {
        let view = self.tables.view();
        let mut counters: BTreeMap<ClusterId, Counters> = BTreeMap::new();
        let mut held: BTreeMap<InstanceKey, Held> = BTreeMap::new();
        for task in view.tasks.values() {
            counters.entry(task.key.cluster).or_default().add(task);
            if task.last_status() == TaskStatus::Stopped {
                ensure(task.stop.is_some(), || format!("{:?} is STOPPED without a reason", task.key))?;
                ensure(task.desired == DesiredStatus::Stopped, || format!("{:?} is STOPPED and wanted", task.key))?;
                ensure(task.life.stopped_at.is_some(), || format!("{:?} is STOPPED at no time", task.key))?;
            }
            if let Some(verdict) = task.verdict {
                let settled = verdict.settled_at.is_some();
                ensure(settled != task.is_stale(), || format!("{:?} is stale: {}", task.key, task.is_stale()))?;
            }
            let waits = task.known == TaskStatus::Provisioning;
            ensure(waits == task.waiting.is_some(), || format!("{:?} waits: {waits}, for nothing or still", task.key))?;
            ensure(!waits || task.instance.is_none(), || format!("{:?} waits and is placed", task.key))?;
            if !waits && task.known != TaskStatus::Stopped {
                let home = task.home().filter(|home| view.instances.contains_key(home));
                let Some(home) = home else { return Err(Violation(format!("{:?} is on no instance", task.key))) };
                let in_service = view.instances.get(&home).is_some_and(|home| home.status != InstanceStatus::Inactive);
                ensure(in_service, || format!("{:?} holds something on no instance", task.key))?;
                held.entry(home).or_default().add(task);
            }
        }
        for (cluster, known) in &view.counters {
            // How many instances there are is counted at the next publication.
            let expected = Counters { instances: known.instances, ..counters.remove(cluster).unwrap_or_default() };
            ensure(*known == expected, || format!("{cluster:?} counts {known:?}, a recount gives {expected:?}"))?;
            ensure(*known != Counters::default(), || format!("{cluster:?} counts nothing and is remembered"))?;
        }
        // Who counts nothing is left out.
        counters.retain(|_, counters| *counters != Counters::default());
        ensure(counters.is_empty(), || format!("{counters:?} are not counted"))?;
        let tasks = view.tasks.values().map(Arc::as_ref);
        ensure(self.tables.line().holds_exactly(tasks), || {
            "the line of waiting tasks differs from a recount".to_owned()
        })?;
        let asking = view.tasks.values().filter(|task| waiting::asks(task)).map(|task| task.key).collect();
        ensure(view.asking == asking, || "the tasks that ask a scheduler differ".to_owned())?;
        self.check_indexes()?;
        self.check_events()?;
        self.check_clusters()?;
        self.check_pool(&held)?;
        self.check_instances()?;
        self.check_network()?;
        self.check_identities()?;
        self.check_secrets()?;
        self.check_schedules()?;
        ensure(self.tables.tokens().is_consistent(), || {
            "what is known of client tokens differs from a recount".to_owned()
        })
    }

    /// The events of a resource rise in number and version and end with what it is, and the index of all of them is a recount.
    fn check_events(&self) -> Result<(), Violation> {
        let view = self.tables.view();
        let mut log = event::Log::default();
        log.set_horizon(view.events.horizon());
        for task in view.tasks.values() {
            rise(task.milestones.iter().map(|told| (told.number, told.version)), task.version, &task.key)?;
            let state = TaskState(task.last_status(), task.desired_status());
            let told = task.milestones.last().is_none_or(|last| last.state == state);
            ensure(told, || format!("{:?} is {state:?}, and no event says so", task.key))?;
            log.task_changed(task.key, None, Some(&task.milestones));
        }
        for instance in view.instances.values() {
            rise(instance.milestones.iter().map(|told| (told.number, told.version)), instance.version, &instance.key)?;
            let state = InstanceState(instance.status, instance.agent_connected);
            let told = instance.milestones.last().is_none_or(|last| last.state == state);
            ensure(told, || format!("{:?} is {state:?}, and no event says so", instance.key))?;
            log.instance_changed(instance.key, None, Some(&instance.milestones));
        }
        ensure(log == view.events, || "the index of events differs from a recount".to_owned())
    }

    /// No address is held by two tasks, none lies outside the blocks, and what is derived of blocks and addresses is a recount.
    fn check_network(&self) -> Result<(), Violation> {
        let view = self.tables.view();
        let (mut book, mut members) = (AddressBook::default(), BTreeSet::new());
        self.tables.addresses().blocks().for_each(|block| book.block_changed(None, Some(block)));
        view.instances.values().for_each(|instance| book.instance_changed(None, Some(instance)));
        let mut taken = BTreeSet::new();
        for task in view.tasks.values() {
            let Some(address) = task.address() else { continue };
            ensure(taken.insert(address), || format!("{address} was given twice"))?;
            book.task_changed(None, Some(task));
            let groups = task.network.iter().flat_map(|network| &network.groups);
            let named = groups.filter(|id| self.config.network.is_named(id));
            members.extend(named.map(|id| (id.clone(), address)));
        }
        book.check().map_err(Violation)?;
        ensure(book == *self.tables.addresses(), || "the address book differs from a recount".to_owned())?;
        let same = members.iter().eq(view.group_members.iter());
        ensure(same, || "the members of security groups differ from a recount".to_owned())?;
        for block in book.blocks() {
            let known = view.hosts.get(&block.host).is_some_and(|host| host.blocks.contains(&block.range));
            ensure(known, || format!("the snapshot does not know the block {} of {}", block.range, block.host))?;
        }
        let blocks: usize = view.hosts.values().map(|host| host.blocks.len()).sum();
        ensure(blocks == book.blocks().count(), || "the snapshot knows blocks that nobody has".to_owned())
    }

    /// A default strategy goes by capacity providers of its own cluster.
    fn check_clusters(&self) -> Result<(), Violation> {
        for cluster in self.tables.view().clusters.values() {
            let known = |name: &str| cluster.capacity_providers.iter().any(|provider| **provider == *name);
            let strangers = cluster.default_strategy.iter().filter(|item| !known(&item.capacity_provider)).count();
            ensure(strangers == 0, || format!("the strategy of {} names {strangers} unknown providers", cluster.name))?;
        }
        Ok(())
    }

    /// What listings and deletions go by is a recount.
    fn check_indexes(&self) -> Result<(), Violation> {
        let view = self.tables.view();
        let mut deletions = Deletions::default();
        for task in view.tasks.values() {
            deletions.task_changed(None, Some(task));
            let defined = view.definitions.contains_key(&task.definition);
            ensure(defined, || format!("{:?} has no definition any more", task.key))?;
        }
        let (mut listed, mut families) = (BTreeSet::new(), BTreeSet::new());
        for known in view.definitions.values() {
            deletions.definition_changed(&known.record.key, Some(&known.record));
            listed.extend(known.record.listed());
            let family = &known.record.key.family;
            families.extend(view.family_status(family).map(|status| (status, family.clone())));
        }
        let tasks = view.tasks.values().map(Arc::as_ref);
        ensure(view.task_index.holds_exactly(tasks), || "the index of tasks differs from a recount".to_owned())?;
        let same = listed.iter().eq(view.definitions_by_status.iter());
        ensure(same, || "the index of definitions differs from a recount".to_owned())?;
        let same = families.iter().eq(view.families_by_status.iter());
        ensure(same, || "the index of families differs from a recount".to_owned())?;
        ensure(deletions == *self.tables.deletions(), || "deletions under way differ from a recount".to_owned())
    }

    /// Every parameter has a version, every label is on one version of its secret, and the queue of removals is a recount.
    fn check_secrets(&self) -> Result<(), Violation> {
        let view = self.tables.view();
        for parameter in view.parameters.values() {
            ensure(!parameter.versions.is_empty(), || format!("the parameter {} has no version", parameter.name))?;
        }
        let mut ending = BTreeSet::new();
        for secret in view.secrets.values() {
            let labels: Vec<_> = secret.versions.iter().flat_map(|version| &version.stages).collect();
            let different: BTreeSet<_> = labels.iter().collect();
            ensure(labels.len() == different.len(), || format!("the secret {} has a label twice", secret.name))?;
            ending.extend(secret.ends_at.map(|at| (at, secret.name.clone())));
        }
        let parameters: usize = view.parameters.values().map(|parameter| parameter.bytes()).sum();
        let secrets: usize = view.secrets.values().map(|secret| secret.bytes()).sum();
        let bytes = self.tables.sealed_bytes();
        ensure(bytes == parameters + secrets, || format!("{bytes} bytes of secrets are no recount"))?;
        ensure(ending == *self.tables.secrets_ending(), || "the secrets that end differ from their recount".to_owned())
    }

    /// No schedule was due twice at the same time, and what wakes them is a recount.
    fn check_schedules(&self) -> Result<(), Violation> {
        let view = self.tables.view();
        let mut book = schedule::Book::default();
        for schedule in view.schedules.values() {
            schedule.check().map_err(Violation)?;
            // What is forgotten has ended, too.
            let ended = |task| view.tasks.get(&task).is_none_or(|task| task.last_status() == TaskStatus::Stopped);
            book.schedule_changed(None, Some(schedule), ended);
        }
        ensure(book == *self.tables.schedules(), || "what wakes schedules differs from its recount".to_owned())
    }

    /// No token let in more machines than it may, no machine has more instances than it may, and every index is a recount.
    fn check_identities(&self) -> Result<(), Violation> {
        let view = self.tables.view();
        let by_key: BTreeSet<_> =
            view.instances.values().map(|instance| (instance.principal.clone(), instance.key)).collect();
        let indexed = view.instances_by_key.iter().cloned();
        ensure(by_key.iter().cloned().eq(indexed), || "the instances of a key differ from their recount".to_owned())?;
        for token in view.join_tokens.values() {
            ensure(token.used <= token.uses, || format!("{} let in {} of {}", token.id, token.used, token.uses))?;
        }
        let mut abandoned = BTreeSet::new();
        for identity in view.identities.values() {
            let key = &identity.access_key_id;
            let joined = self.tables.joined(&identity.join).map(|known| &known.access_key_id);
            ensure(joined == Some(key), || format!("the join of {key} leads to {joined:?}"))?;
            let in_service = view.instances_of(key).filter(|known| known.status != InstanceStatus::Inactive).count();
            let most = identity.instances as usize;
            ensure(in_service <= most, || format!("{key} has {in_service} instances and may have {most}"))?;
            let idle = view.instances_of(key).next().is_none();
            abandoned.extend(identity.revoked_at.filter(|_| idle).map(|at| (at, key.clone())));
        }
        ensure(abandoned == *self.tables.abandoned_identities(), || {
            "the abandoned identities differ from their recount".to_owned()
        })
    }

    /// Every instance in service is connected, missing or lost, one of the three; an INACTIVE one is nothing but a record.
    fn check_instances(&self) -> Result<(), Violation> {
        let liveness = &self.liveness;
        let mut in_service = 0;
        for instance in self.tables.view().instances.values() {
            let key = instance.key;
            let inactive = instance.status == InstanceStatus::Inactive;
            let slot = self.tables.pool().slot(key);
            ensure(slot.is_none() == inactive, || format!("{key:?} is {:?} and in the pool or not", instance.status))?;
            ensure(inactive == instance.inactive_at.is_some(), || format!("{key:?} is INACTIVE since no time"))?;
            let status = slot.map_or(instance.status, |slot| slot.status);
            ensure(status == instance.status, || format!("{key:?} is {status:?} for the pool"))?;
            let connected = self.sessions.get(key).is_some();
            let (missing, lost) = (liveness.missing(key).is_some(), instance.lost_at.is_some());
            ensure(!lost || !connected, || format!("{key:?} is lost and connected"))?;
            ensure(!inactive || !(connected || missing || lost), || format!("{key:?} is INACTIVE and waited for"))?;
            let states = [connected, missing, lost].into_iter().filter(|holds| *holds).count();
            let one = !liveness.has_begun() || inactive || states == 1;
            ensure(one, || format!("{key:?} is connected: {connected}, missing: {missing}, lost: {lost}"))?;
            in_service += usize::from(!inactive);
        }
        ensure(in_service == self.tables.pool().slots().len(), || {
            "the pool has another number of instances".to_owned()
        })?;
        ensure(liveness.missing_count() <= in_service, || "instances are missing that do not exist".to_owned())?;
        ensure(liveness.is_consistent(), || "the queue of loss deadlines differs from the clocks".to_owned())
    }

    fn check_pool(&self, held: &BTreeMap<InstanceKey, Held>) -> Result<(), Violation> {
        let pool = self.tables.pool();
        let mut books: BTreeMap<&str, HostBook> = BTreeMap::new();
        for slot in pool.slots() {
            let key = slot.instance.key;
            let nothing = Held::default();
            let expected = held.get(&key).unwrap_or(&nothing);
            check_slot(slot, expected)?;
            let connected = self.sessions.get(key).is_some();
            ensure(slot.connected == connected, || format!("{key:?} says connected: {}", slot.connected))?;
            let book = books.entry(slot.host()).or_default();
            book.take(&Holding::of_instance(&slot.instance));
            expected.holdings.iter().for_each(|holding| book.take(holding));
        }
        books.retain(|_, book| !book.is_empty());
        let known: BTreeMap<&str, HostBook> = pool.hosts().iter().map(|(host, book)| (&**host, book.clone())).collect();
        ensure(known == books, || "a host's book differs from its recount".to_owned())?;
        ensure(pool.groups_hold(), || "the groups of tasks differ from their recount".to_owned())?;
        self.check_exclusive()
    }

    /// No two tasks of one host hold the same fixed port or the same GPU.
    fn check_exclusive(&self) -> Result<(), Violation> {
        let view = self.tables.view();
        let mut taken: BTreeSet<(&str, HostPort)> = BTreeSet::new();
        let mut dealt: BTreeSet<(&str, &str)> = BTreeSet::new();
        for task in view.tasks.values().filter(|task| task.known != TaskStatus::Stopped) {
            let Some(slot) = task.home().and_then(|home| self.tables.pool().slot(home)) else { continue };
            for &port in &task.host_ports {
                ensure(taken.insert((slot.host(), port)), || {
                    format!("host port {port} of {} was given twice", slot.host())
                })?;
            }
            for gpu in &task.gpus {
                ensure(dealt.insert((slot.host(), &*gpu.id)), || {
                    format!("GPU {} of {} was given twice", gpu.id, slot.host())
                })?;
            }
        }
        Ok(())
    }
}

/// Numbers and versions of events strictly increase, and none is newer than its resource.
fn rise(events: impl Iterator<Item = (u64, i64)>, version: i64, key: &dyn fmt::Debug) -> Result<(), Violation> {
    let mut last = (0, 0);
    for (number, of) in events {
        ensure(number > last.0 && of > last.1 && of <= version, || {
            format!("an event of {key:?} has number {number} and version {of} after {last:?}, and it has {version}")
        })?;
        last = (number, of);
    }
    Ok(())
}

/// What the tasks of an instance hold, recounted.
#[derive(Default)]
struct Held {
    cpu: i64,
    memory: i64,
    pending: u32,
    running: u32,
    tasks: BTreeSet<TaskId>,
    groups: BTreeMap<Arc<str>, u32>,
    holdings: Vec<Holding>,
}

impl Held {
    fn add(&mut self, task: &crate::entity::Task) {
        self.cpu += i64::from(task.cpu.0);
        self.memory += i64::from(task.memory.0);
        match task.last_status() {
            TaskStatus::Pending => self.pending += 1,
            TaskStatus::Running => self.running += 1,
            TaskStatus::Provisioning | TaskStatus::Stopped => {}
        }
        self.tasks.insert(task.key.id);
        self.holdings.push(Holding::of_task(task));
        if task.desired_status() == DesiredStatus::Running {
            *self.groups.entry(task.group.clone()).or_insert(0) += 1;
        }
    }
}

fn check_slot(slot: &Slot, held: &Held) -> Result<(), Violation> {
    let key = slot.instance.key;
    let (cpu, memory) = (i64::from(slot.instance.cpu.0), i64::from(slot.instance.memory.0));
    ensure(slot.cpu_free == cpu - held.cpu, || format!("{key:?}: CPU free {} is no recount", slot.cpu_free))?;
    ensure(slot.memory_free == memory - held.memory, || {
        format!("{key:?}: memory free {} is no recount", slot.memory_free)
    })?;
    ensure((slot.pending, slot.running) == (held.pending, held.running), || format!("{key:?}: task counts differ"))?;
    ensure(slot.tasks == held.tasks, || format!("{key:?}: its tasks differ"))?;
    ensure(slot.groups == held.groups, || format!("{key:?}: its groups of tasks differ"))
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Violation> {
    match holds {
        true => Ok(()),
        false => Err(Violation(otherwise())),
    }
}
