//! Every entity, and everything derived from entities. One way to change anything: [`Tables::put`] and
//! [`Tables::remove`], which keep indexes and reservations in step, note the change for the store and can take it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::ecs::types::{PlacementConstraint, TaskDefinitionFamilyStatus};
use longshore_api::{ApiError, Timestamp};

use crate::config::CellConfig;
use crate::entity::{Cluster, Definition, Entity, EntityKey, Identity, Instance, JoinKey, JoinToken, Task, Token};
use crate::event::{self, Horizon};
use crate::idempotency::Tokens;
use crate::ids::{ClusterId, InstanceKey, TaskKey};
use crate::instance::InstanceStatus;
use crate::instance::health::Checks;
use crate::network::{AddressBook, Block, News, host_network};
use crate::placement::pool::{Pool, Slot, host_of};
use crate::placement::{Constraints, Expressions, MemberOf};
use crate::read::{Counters, KnownDefinition, ReadModel, Usage};
use crate::schedule::{self, Schedule};
use crate::secret::{Parameter, StoredSecret};
use crate::task::status::TaskStatus;
use crate::task::waiting::{self, Line};
use crate::task_definition::{self, Deletions};

/// One entity's change: what the store must write, and what a rollback puts back.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which entity.
    pub key: EntityKey,
    /// What it was; `None` when it is new.
    pub old: Option<Entity>,
    /// What it is; `None` when it is gone.
    pub new: Option<Entity>,
}

/// The writer's state.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    /// The persistent maps that snapshots share.
    view: ReadModel,
    pool: Pool,
    addresses: AddressBook,
    expressions: Expressions,
    news: News,
    tokens: Tokens,
    /// By [`JoinToken::ends_at`].
    join_tokens_by_end: BTreeSet<(Timestamp, Arc<str>)>,
    /// Which key a join was answered with.
    joins: BTreeMap<JoinKey, Arc<str>>,
    /// Revoked identities without a container instance, by their revocation.
    abandoned_identities: BTreeSet<(Timestamp, Arc<str>)>,
    stopped: BTreeSet<(Timestamp, TaskKey)>,
    line: Line,
    /// Which definitions are in use, and which deletions go on.
    deletions: Deletions,
    inactive: BTreeSet<(Timestamp, InstanceKey)>,
    /// Deleted secrets, by when they are removed.
    secrets_ending: BTreeSet<(Timestamp, Arc<str>)>,
    /// How many bytes the values of all parameters and secrets have.
    sealed_bytes: usize,
    schedules: schedule::Book,
    counters_dirty: BTreeSet<ClusterId>,
    /// What the events of the command under way are marked with.
    stamp: event::Stamp,
    /// The newest events that the command under way has forgotten.
    forgotten: Horizon,
    /// Changes of the command under way.
    changes: Vec<Change>,
}

impl Tables {
    pub(crate) fn new(config: Arc<CellConfig>) -> Self {
        Self {
            view: ReadModel::empty(config),
            pool: Pool::default(),
            addresses: AddressBook::default(),
            expressions: Expressions::default(),
            news: News::default(),
            tokens: Tokens::default(),
            join_tokens_by_end: BTreeSet::new(),
            joins: BTreeMap::new(),
            abandoned_identities: BTreeSet::new(),
            stopped: BTreeSet::new(),
            line: Line::default(),
            deletions: Deletions::default(),
            inactive: BTreeSet::new(),
            secrets_ending: BTreeSet::new(),
            sealed_bytes: 0,
            schedules: schedule::Book::default(),
            counters_dirty: BTreeSet::new(),
            stamp: event::Stamp::default(),
            forgotten: Horizon::default(),
            changes: Vec::new(),
        }
    }

    /// The entities as the command under way sees them. Usage and the counts of instances in it are those of the last publication.
    pub(crate) fn view(&self) -> &ReadModel {
        &self.view
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What chooses instances, and what it has to know of addresses.
    pub(crate) fn scheduler(&mut self) -> (&mut Pool, &AddressBook) {
        (&mut self.pool, &self.addresses)
    }

    /// The constraints of a task: those of its definition, and those of the call.
    ///
    /// # Errors
    /// `InvalidParameterException` for those of the call.
    pub(crate) fn constraints(
        &mut self,
        of_definition: &[Arc<MemberOf>],
        given: &[PlacementConstraint],
    ) -> Result<Constraints, ApiError> {
        Constraints::read(&mut self.expressions, of_definition, given)
    }

    /// Which host has which addresses, and which of them tasks hold.
    pub(crate) fn addresses(&self) -> &AddressBook {
        &self.addresses
    }

    /// What changed of the network since the last call.
    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// What is used of an instance as the command under way sees it.
    pub(crate) fn usage(&self, key: InstanceKey) -> Option<Usage> {
        self.pool.slot(key).map(usage)
    }

    /// The client tokens that are remembered.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Stopped tasks, longest stopped first.
    pub(crate) fn stopped(&self) -> &BTreeSet<(Timestamp, TaskKey)> {
        &self.stopped
    }

    /// The tasks that wait, and deadlines of tasks.
    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// The same, to note what was found out about a kind.
    pub(crate) fn line_mut(&mut self) -> &mut Line {
        &mut self.line
    }

    /// An instance that changed while tasks wait in its cluster.
    pub(crate) fn take_stirred(&mut self) -> Option<InstanceKey> {
        self.pool.take_stirred()
    }

    /// Which definitions are in use, and which deletions go on.
    pub(crate) fn deletions(&self) -> &Deletions {
        &self.deletions
    }

    /// INACTIVE instances, longest INACTIVE first.
    pub(crate) fn inactive(&self) -> &BTreeSet<(Timestamp, InstanceKey)> {
        &self.inactive
    }

    /// Deleted secrets whose names are still held, first to be removed first.
    pub(crate) fn secrets_ending(&self) -> &BTreeSet<(Timestamp, Arc<str>)> {
        &self.secrets_ending
    }

    /// How many bytes the values of all parameters and secrets have.
    pub(crate) fn sealed_bytes(&self) -> usize {
        self.sealed_bytes
    }

    /// Which schedule has something to do.
    pub(crate) fn schedules(&self) -> &schedule::Book {
        &self.schedules
    }

    /// How many changes the command under way has made.
    pub(crate) fn changes_made(&self) -> usize {
        self.changes.len()
    }

    /// Join tokens, first to end first.
    pub(crate) fn join_tokens_by_end(&self) -> &BTreeSet<(Timestamp, Arc<str>)> {
        &self.join_tokens_by_end
    }

    /// The identity that a join was answered with.
    pub(crate) fn joined(&self, join: &JoinKey) -> Option<&Arc<Identity>> {
        self.view.identities.get(self.joins.get(join)?)
    }

    /// Revoked identities that no container instance is left of, first revoked first.
    pub(crate) fn abandoned_identities(&self) -> &BTreeSet<(Timestamp, Arc<str>)> {
        &self.abandoned_identities
    }

    /// A command begins: what it changes of tasks and instances is told under this number and time.
    pub(crate) fn begin(&mut self, stamp: event::Stamp) {
        self.stamp = stamp;
    }

    /// The newest events that were forgotten since the last call.
    pub(crate) fn take_forgotten(&mut self) -> Horizon {
        std::mem::take(&mut self.forgotten)
    }

    /// Makes or replaces a task.
    pub(crate) fn put_task(&mut self, mut task: Task) -> Arc<Task> {
        self.forgotten = self.forgotten.and(event::stamp_task(&mut task, self.stamp));
        let task = Arc::new(task);
        self.put(Entity::Task(task.clone()));
        task
    }

    /// Makes or replaces an entity.
    pub(crate) fn put(&mut self, mut entity: Entity) {
        self.forgotten = self.forgotten.and(event::stamp(&mut entity, self.stamp));
        let key = entity.key();
        let old = self.get(&key);
        self.index(old.as_ref(), Some(&entity));
        self.changes.push(Change { key, old, new: Some(entity) });
    }

    /// Removes an entity; nothing happens when there is none.
    pub(crate) fn remove(&mut self, key: &EntityKey) {
        if let Some(old) = self.get(key) {
            self.forgotten = self.forgotten.and(newest_event(&old));
            self.index(Some(&old), None);
            self.changes.push(Change { key: key.clone(), old: Some(old), new: None });
        }
    }

    /// Puts in what the store holds, without noting a change.
    pub(crate) fn load(&mut self, entity: Entity) {
        let old = self.get(&entity.key());
        self.index(old.as_ref(), Some(&entity));
    }

    /// The changes since the last call, in order.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Takes one change back. Changes are reverted in the reverse of their order.
    pub(crate) fn revert(&mut self, change: &Change) {
        self.index(change.new.as_ref(), change.old.as_ref());
    }

    /// Takes back all changes of the command under way but the first `kept`.
    pub(crate) fn take_back(&mut self, kept: usize) {
        let undone = self.changes.split_off(kept.min(self.changes.len()));
        undone.iter().rev().for_each(|change| self.revert(change));
    }

    /// The agent of an instance opened a session.
    pub(crate) fn connected(&mut self, key: InstanceKey) {
        self.pool.set_connected(key, true, None);
    }

    /// The session of an instance ended; its agent was last heard of at `left_at`.
    pub(crate) fn disconnected(&mut self, key: InstanceKey, left_at: Option<Timestamp>) {
        self.pool.set_connected(key, false, left_at);
    }

    /// The connected agent of an instance said how it is.
    pub(crate) fn health_reported(&mut self, key: InstanceKey, checks: Checks) {
        self.pool.set_health(key, checks);
    }

    /// The snapshot of now. Costs what changed since the last one.
    pub(crate) fn publish(&mut self) -> ReadModel {
        for slot in self.pool.take_dirty() {
            self.counters_dirty.insert(slot.instance.key.cluster);
            self.view.usage.insert(slot.instance.key, usage(slot));
        }
        for cluster in std::mem::take(&mut self.counters_dirty) {
            let instances = self.pool.count(cluster);
            self.count(cluster, |counters| counters.instances = instances);
        }
        self.view.clone()
    }

    /// Every entity, kind by kind, each kind in the order of its keys.
    pub(crate) fn entities(&self) -> impl Iterator<Item = Entity> {
        let view = &self.view;
        let clusters = view.clusters.values().cloned().map(Entity::Cluster);
        let families = view.families.values().cloned().map(Entity::Family);
        let definitions = view.definitions.values().map(|known| Entity::Definition(known.record.clone()));
        let instances = view.instances.values().cloned().map(Entity::Instance);
        let tasks = view.tasks.values().cloned().map(Entity::Task);
        let tokens = self.tokens.iter().cloned().map(Entity::Token);
        let join_tokens = view.join_tokens.values().cloned().map(Entity::JoinToken);
        let identities = view.identities.values().cloned().map(Entity::Identity);
        let settings = view.settings.values().cloned().map(Entity::Setting);
        let parameters = view.parameters.values().cloned().map(Entity::Parameter);
        let secrets = view.secrets.values().cloned().map(Entity::Secret);
        let placed = clusters.chain(families).chain(definitions).chain(instances).chain(tasks);
        let subnets = view.subnets.values().cloned().map(Entity::Subnet);
        let groups = view.groups.values().cloned().map(Entity::SecurityGroup);
        let blocks = self.addresses.blocks().cloned().map(Entity::Block);
        let network = subnets.chain(groups).chain(blocks);
        let schedules = view.schedules.values().cloned().map(Entity::Schedule);
        let horizon = Some(view.events.horizon()).filter(|horizon| *horizon != Horizon::default());
        let horizon = horizon.map(|horizon| Entity::Horizon(horizon.into()));
        let stored = parameters.chain(secrets).chain(schedules);
        let fleets = view.fleets.values().cloned().map(Entity::Fleet);
        let providers = view.providers.values().cloned().map(Entity::CapacityProvider).chain(fleets);
        placed
            .chain(tokens)
            .chain(join_tokens)
            .chain(identities)
            .chain(settings)
            .chain(stored)
            .chain(network)
            .chain(horizon)
            .chain(providers)
    }

    fn get(&self, key: &EntityKey) -> Option<Entity> {
        match key {
            EntityKey::Cluster(name) => self.view.clusters.get(name).cloned().map(Entity::Cluster),
            EntityKey::Definition(key) => {
                self.view.definitions.get(key).map(|known| Entity::Definition(known.record.clone()))
            }
            EntityKey::Family(name) => self.view.families.get(name).cloned().map(Entity::Family),
            EntityKey::Instance(key) => self.view.instances.get(key).cloned().map(Entity::Instance),
            EntityKey::Task(key) => self.view.tasks.get(key).cloned().map(Entity::Task),
            EntityKey::Token(key) => self.tokens.get(key).cloned().map(Entity::Token),
            EntityKey::JoinToken(id) => self.view.join_tokens.get(id).cloned().map(Entity::JoinToken),
            EntityKey::Identity(key) => self.view.identities.get(key).cloned().map(Entity::Identity),
            EntityKey::Setting(key) => self.view.settings.get(key).cloned().map(Entity::Setting),
            EntityKey::Parameter(name) => self.view.parameters.get(name).cloned().map(Entity::Parameter),
            EntityKey::Secret(name) => self.view.secrets.get(name).cloned().map(Entity::Secret),
            EntityKey::Subnet(id) => self.view.subnets.get(id).cloned().map(Entity::Subnet),
            EntityKey::SecurityGroup(id) => self.view.groups.get(id).cloned().map(Entity::SecurityGroup),
            EntityKey::Block(first) => self.addresses.block(*first).cloned().map(Entity::Block),
            EntityKey::Schedule(name) => self.view.schedules.get(name).cloned().map(Entity::Schedule),
            EntityKey::Horizon => {
                let horizon = Some(self.view.events.horizon()).filter(|horizon| *horizon != Horizon::default());
                horizon.map(|horizon| Entity::Horizon(horizon.into()))
            }
            EntityKey::CapacityProvider(name) => self.view.providers.get(name).cloned().map(Entity::CapacityProvider),
            EntityKey::Fleet(key) => self.view.fleets.get(key).cloned().map(Entity::Fleet),
        }
    }

    /// Brings every map and index from `old` to `new`. Both are of one key.
    fn index(&mut self, old: Option<&Entity>, new: Option<&Entity>) {
        match new.or(old) {
            Some(Entity::Cluster(_)) => self.index_cluster(cluster(old), cluster(new)),
            Some(Entity::Definition(_)) => self.index_definition(definition(old), definition(new)),
            Some(Entity::Family(family)) => match new {
                Some(_) => drop(self.view.families.insert(family.name.clone(), family.clone())),
                None => drop(self.view.families.remove(&family.name)),
            },
            Some(Entity::Instance(_)) => self.index_instance(instance(old), instance(new)),
            Some(Entity::Task(_)) => self.index_task(task(old), task(new)),
            Some(Entity::Token(_)) => self.tokens.change(token(old), token(new)),
            Some(Entity::JoinToken(_)) => self.index_join_token(join_token(old), join_token(new)),
            Some(Entity::Identity(_)) => self.index_identity(identity(old), identity(new)),
            Some(Entity::Setting(setting)) => match new {
                Some(_) => drop(self.view.settings.insert(setting.key.clone(), setting.clone())),
                None => drop(self.view.settings.remove(&setting.key)),
            },
            Some(Entity::Parameter(_)) => self.index_parameter(parameter(old), parameter(new)),
            Some(Entity::Secret(_)) => self.index_secret(secret(old), secret(new)),
            Some(Entity::Subnet(subnet)) => match new {
                Some(_) => drop(self.view.subnets.insert(subnet.id.clone(), subnet.clone())),
                None => drop(self.view.subnets.remove(&subnet.id)),
            },
            Some(Entity::SecurityGroup(group)) => match new {
                Some(_) => drop(self.view.groups.insert(group.id.clone(), group.clone())),
                None => drop(self.view.groups.remove(&group.id)),
            },
            Some(Entity::Block(_)) => self.index_block(block(old), block(new)),
            Some(Entity::Schedule(_)) => self.index_schedule(schedule(old), schedule(new)),
            Some(Entity::Horizon(_)) => {
                let known = match new {
                    Some(Entity::Horizon(horizon)) => **horizon,
                    _ => Horizon::default(),
                };
                self.view.events.set_horizon(known);
            }
            Some(Entity::CapacityProvider(provider)) => match new {
                Some(_) => drop(self.view.providers.insert(provider.name.clone(), provider.clone())),
                None => drop(self.view.providers.remove(&provider.name)),
            },
            Some(Entity::Fleet(fleet)) => match new {
                Some(_) => drop(self.view.fleets.insert(fleet.key.clone(), fleet.clone())),
                None => drop(self.view.fleets.remove(&fleet.key)),
            },
            None => {}
        }
    }

    fn index_cluster(&mut self, old: Option<&Arc<Cluster>>, new: Option<&Arc<Cluster>>) {
        if let Some(old) = old {
            self.view.cluster_names.remove(&old.id);
            self.view.clusters.remove(&old.name);
        }
        if let Some(new) = new {
            self.view.cluster_names.insert(new.id, new.name.clone());
            self.view.clusters.insert(new.name.clone(), new.clone());
        }
    }

    fn index_definition(&mut self, old: Option<&Arc<Definition>>, new: Option<&Arc<Definition>>) {
        let (before, after) = (old.and_then(|old| old.listed()), new.and_then(|new| new.listed()));
        if before != after {
            before.map(|entry| self.view.definitions_by_status.remove(&entry));
            after.map(|entry| self.view.definitions_by_status.insert(entry));
            new.or(old).into_iter().for_each(|record| self.index_family(&record.key.family));
        }
        match (old, new) {
            (_, Some(new)) => {
                let resolved = Arc::new(task_definition::resolve(&new.document));
                let known = KnownDefinition { record: new.clone(), resolved };
                self.view.definitions.insert(new.key.clone(), known);
            }
            (Some(old), None) => drop(self.view.definitions.remove(&old.key)),
            (None, None) => {}
        }
        if let Some(record) = new.or(old) {
            self.deletions.definition_changed(&record.key, new.map(Arc::as_ref));
        }
    }

    /// Puts a family where its revisions have it.
    fn index_family(&mut self, family: &Arc<str>) {
        let status = self.view.family_status(family);
        for listed in [TaskDefinitionFamilyStatus::Active, TaskDefinitionFamilyStatus::Inactive] {
            let entry = (listed, family.clone());
            match status == Some(listed) {
                true => self.view.families_by_status.insert(entry),
                false => self.view.families_by_status.remove(&entry),
            };
        }
    }

    fn index_instance(&mut self, old: Option<&Arc<Instance>>, new: Option<&Arc<Instance>>) {
        // An INACTIVE instance is only a record: nothing is placed, held or counted there.
        let (pooled_old, pooled_new) = (old.filter(in_service), new.filter(in_service));
        self.pool.instance_changed(pooled_old, pooled_new);
        self.addresses.instance_changed(old, new);
        old.into_iter().chain(new).for_each(|instance| self.index_host(&host_of(instance)));
        if let (Some(old), None) = (pooled_old, pooled_new) {
            self.view.usage.remove(&old.key);
            self.counters_dirty.insert(old.key.cluster);
        }
        if let Some((at, key)) = old.and_then(inactive_since) {
            self.inactive.remove(&(at, key));
        }
        self.inactive.extend(new.and_then(inactive_since));
        if let Some(instance) = new.or(old) {
            let (old, new) = (old.map(|old| &old.milestones), new.map(|new| &new.milestones));
            self.view.events.instance_changed(instance.key, old, new);
        }
        match (old, new) {
            (_, Some(new)) => drop(self.view.instances.insert(new.key, new.clone())),
            (Some(old), None) => drop(self.view.instances.remove(&old.key)),
            (None, None) => {}
        }
        // The key that registered an instance is the same for all its life.
        if let (None, Some(instance)) | (Some(instance), None) = (old, new) {
            let entry = (instance.principal.clone(), instance.key);
            match new {
                Some(_) => self.view.instances_by_key.insert(entry),
                None => self.view.instances_by_key.remove(&entry),
            };
            self.index_abandoned(&instance.principal);
        }
    }

    /// Changes what is counted of a cluster. Who counts nothing is forgotten, and with a cluster that is deleted its counters:
    /// it has neither instances nor live tasks any more, and nobody will count under its id again, as ids are commit numbers.
    /// (A family's counter is another thing: it is what keeps revisions from being used twice, and stays.)
    fn count(&mut self, cluster: ClusterId, change: impl FnOnce(&mut Counters)) {
        let counters = self.view.counters.entry(cluster).or_default();
        change(counters);
        if *counters == Counters::default() {
            self.view.counters.remove(&cluster);
        }
    }

    fn index_task(&mut self, old: Option<&Arc<Task>>, new: Option<&Arc<Task>>) {
        self.line.change(old.map(Arc::as_ref), new.map(Arc::as_ref));
        for (task, asks) in old.map(|old| (old, false)).into_iter().chain(new.map(|new| (new, true))) {
            if waiting::asks(task) {
                match asks {
                    true => self.view.asking.insert(task.key),
                    false => self.view.asking.remove(task.key),
                };
            }
        }
        if let Some(task) = new.or(old) {
            self.pool.watch(task.key.cluster, self.line.waits_in(task.key.cluster));
        }
        self.pool.task_changed(old.map(Arc::as_ref), new.map(Arc::as_ref));
        self.index_address(old.map(Arc::as_ref), new.map(Arc::as_ref));
        self.view.task_index.change(old.map(Arc::as_ref), new.map(Arc::as_ref));
        self.deletions.task_changed(old.map(Arc::as_ref), new.map(Arc::as_ref));
        if let Some(task) = new.or(old) {
            let (before, after) = (old.map(|old| &old.milestones), new.map(|new| &new.milestones));
            self.view.events.task_changed(task.key, before, after);
            self.count(task.key.cluster, |counters| {
                old.into_iter().for_each(|old| counters.remove(old));
                new.into_iter().for_each(|new| counters.add(new));
            });
        }
        if let Some((at, key)) = old.and_then(|old| Some((old.over_since()?, old.key))) {
            self.stopped.remove(&(at, key));
        }
        self.stopped.extend(new.and_then(|new| Some((new.over_since()?, new.key))));
        match (old, new) {
            (_, Some(new)) => drop(self.view.tasks.insert(new.key, new.clone())),
            (Some(old), None) => drop(self.view.tasks.remove(&old.key)),
            (None, None) => {}
        }
        if let Some(task) = new.or(old) {
            self.schedules.task_changed(task.key, new.map(Arc::as_ref));
        }
    }
}

impl Tables {
    fn index_block(&mut self, old: Option<&Arc<Block>>, new: Option<&Arc<Block>>) {
        self.addresses.block_changed(old, new);
        if old.is_some() {
            self.line.address_freed();
        }
        old.into_iter().chain(new).for_each(|block| self.index_host(&block.host));
    }

    /// Puts a host where its blocks and instances have it; what is other than before is news.
    fn index_host(&mut self, host: &Arc<str>) {
        let network = host_network(&self.addresses, host).map(Arc::new);
        if self.view.hosts.get(host) != network.as_ref() {
            match network {
                Some(network) => {
                    if self.view.hosts.insert(host.clone(), network).is_none() {
                        self.news.newcomers.insert(host.clone());
                    }
                }
                None => drop(self.view.hosts.remove(host)),
            }
            self.news.hosts.insert(host.clone());
        }
    }

    /// An awsvpc task took its address, or gave it back.
    fn index_address(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let (before, after) = (old.and_then(Task::address), new.and_then(Task::address));
        if before == after {
            return;
        }
        if before.is_some() {
            self.line.address_freed();
        }
        if let Some((host, groups)) = self.addresses.task_changed(old, new).filter(|(_, groups)| !groups.is_empty()) {
            self.news.arrivals.entry(host).or_default().extend(groups);
        }
        let named = |id: &&Arc<str>| self.view.config.network.is_named(id);
        for (task, joins) in old.map(|old| (old, false)).into_iter().chain(new.map(|new| (new, true))) {
            let (Some(network), Some(address)) = (&task.network, task.address()) else { continue };
            for group in network.groups.iter().filter(named) {
                let entry = (group.clone(), address);
                match joins {
                    true => self.view.group_members.insert(entry),
                    false => self.view.group_members.remove(&entry),
                };
                self.news.groups.insert(group.clone());
            }
        }
    }

    fn index_join_token(&mut self, old: Option<&Arc<JoinToken>>, new: Option<&Arc<JoinToken>>) {
        if let Some(old) = old {
            self.view.join_tokens.remove(&old.id);
            self.join_tokens_by_end.remove(&(old.ends_at(), old.id.clone()));
        }
        if let Some(new) = new {
            self.view.join_tokens.insert(new.id.clone(), new.clone());
            self.join_tokens_by_end.insert((new.ends_at(), new.id.clone()));
        }
    }

    fn index_parameter(&mut self, old: Option<&Arc<Parameter>>, new: Option<&Arc<Parameter>>) {
        if let Some(old) = old {
            self.sealed_bytes -= old.bytes();
            self.view.parameters.remove(&old.name);
        }
        if let Some(new) = new {
            self.sealed_bytes += new.bytes();
            self.view.parameters.insert(new.name.clone(), new.clone());
        }
    }

    fn index_secret(&mut self, old: Option<&Arc<StoredSecret>>, new: Option<&Arc<StoredSecret>>) {
        if let Some(old) = old {
            self.sealed_bytes -= old.bytes();
            self.view.secrets.remove(&old.name);
            old.ends_at.map(|at| self.secrets_ending.remove(&(at, old.name.clone())));
        }
        if let Some(new) = new {
            self.sealed_bytes += new.bytes();
            self.view.secrets.insert(new.name.clone(), new.clone());
            self.secrets_ending.extend(new.ends_at.map(|at| (at, new.name.clone())));
        }
    }

    fn index_schedule(&mut self, old: Option<&Arc<Schedule>>, new: Option<&Arc<Schedule>>) {
        let tasks = &self.view.tasks;
        // A task that is loaded later says for itself that it goes on.
        let ended = |key| tasks.get(&key).is_none_or(|task: &Arc<Task>| task.last_status() == TaskStatus::Stopped);
        self.schedules.schedule_changed(old.map(Arc::as_ref), new.map(Arc::as_ref), ended);
        match (old, new) {
            (_, Some(new)) => drop(self.view.schedules.insert(new.name.clone(), new.clone())),
            (Some(old), None) => drop(self.view.schedules.remove(&old.name)),
            (None, None) => {}
        }
    }

    fn index_identity(&mut self, old: Option<&Arc<Identity>>, new: Option<&Arc<Identity>>) {
        if let Some(old) = old {
            self.view.identities.remove(&old.access_key_id);
            self.joins.remove(&old.join);
            if let Some(revoked_at) = old.revoked_at {
                self.abandoned_identities.remove(&(revoked_at, old.access_key_id.clone()));
            }
        }
        if let Some(new) = new {
            self.view.identities.insert(new.access_key_id.clone(), new.clone());
            self.joins.insert(new.join.clone(), new.access_key_id.clone());
            self.index_abandoned(&new.access_key_id);
        }
    }

    /// Notes whether an identity is revoked and has no container instance left.
    fn index_abandoned(&mut self, access_key_id: &Arc<str>) {
        let revoked_at = self.view.identities.get(access_key_id).and_then(|identity| identity.revoked_at);
        let Some(revoked_at) = revoked_at else { return };
        let entry = (revoked_at, access_key_id.clone());
        match self.view.instances_of(access_key_id).next() {
            Some(_) => self.abandoned_identities.remove(&entry),
            None => self.abandoned_identities.insert(entry),
        };
    }
}

/// The newest event about an entity, which is forgotten with it.
fn newest_event(entity: &Entity) -> Horizon {
    match entity {
        Entity::Task(task) => {
            Horizon { number: task.milestones.last().map_or(0, |last| last.number), ..Horizon::default() }
        }
        Entity::Instance(instance) => {
            Horizon { instances: instance.milestones.last().map_or(0, |last| last.number), ..Horizon::default() }
        }
        _ => Horizon::default(),
    }
}

fn usage(slot: &Slot) -> Usage {
    Usage {
        cpu_free: slot.cpu_free,
        memory_free: slot.memory_free,
        ports: slot.held.ports.keys().copied().collect(),
        gpus: slot.held.gpus.keys().cloned().collect(),
        pending: slot.pending,
        running: slot.running,
        connected: slot.connected,
        disconnected_at: slot.disconnected_at,
        health: slot.health.clone(),
    }
}

fn in_service(instance: &&Arc<Instance>) -> bool {
    instance.status != InstanceStatus::Inactive
}

fn inactive_since(instance: &Arc<Instance>) -> Option<(Timestamp, InstanceKey)> {
    instance.inactive_at.map(|at| (at, instance.key))
}

fn cluster(entity: Option<&Entity>) -> Option<&Arc<Cluster>> {
    match entity {
        Some(Entity::Cluster(cluster)) => Some(cluster),
        _ => None,
    }
}

fn definition(entity: Option<&Entity>) -> Option<&Arc<Definition>> {
    match entity {
        Some(Entity::Definition(definition)) => Some(definition),
        _ => None,
    }
}

fn instance(entity: Option<&Entity>) -> Option<&Arc<Instance>> {
    match entity {
        Some(Entity::Instance(instance)) => Some(instance),
        _ => None,
    }
}

fn task(entity: Option<&Entity>) -> Option<&Arc<Task>> {
    match entity {
        Some(Entity::Task(task)) => Some(task),
        _ => None,
    }
}

fn token(entity: Option<&Entity>) -> Option<&Arc<Token>> {
    match entity {
        Some(Entity::Token(token)) => Some(token),
        _ => None,
    }
}

fn join_token(entity: Option<&Entity>) -> Option<&Arc<JoinToken>> {
    match entity {
        Some(Entity::JoinToken(token)) => Some(token),
        _ => None,
    }
}

fn block(entity: Option<&Entity>) -> Option<&Arc<Block>> {
    match entity {
        Some(Entity::Block(block)) => Some(block),
        _ => None,
    }
}

fn schedule(entity: Option<&Entity>) -> Option<&Arc<Schedule>> {
    match entity {
        Some(Entity::Schedule(schedule)) => Some(schedule),
        _ => None,
    }
}

fn identity(entity: Option<&Entity>) -> Option<&Arc<Identity>> {
    match entity {
        Some(Entity::Identity(identity)) => Some(identity),
        _ => None,
    }
}

fn parameter(entity: Option<&Entity>) -> Option<&Arc<Parameter>> {
    match entity {
        Some(Entity::Parameter(parameter)) => Some(parameter),
        _ => None,
    }
}

fn secret(entity: Option<&Entity>) -> Option<&Arc<StoredSecret>> {
    match entity {
        Some(Entity::Secret(secret)) => Some(secret),
        _ => None,
    }
}
