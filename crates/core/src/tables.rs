//! Every entity, and everything derived from entities. One way to change anything: [`Tables::put`] and
//! [`Tables::remove`], which keep indexes and reservations in step, note the change for the store and can take it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::Timestamp;

use crate::config::CellConfig;
use crate::entity::{Cluster, Entity, EntityKey, Instance, Task, Token, TokenKey};
use crate::ids::{ClusterId, InstanceKey, SessionId, TaskKey};
use crate::placement::pool::{Pool, Slot};
use crate::read::{KnownDefinition, ReadModel, Usage};
use crate::task::status::TaskStatus;
use crate::task_definition;

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
    tokens: BTreeMap<TokenKey, Arc<Token>>,
    tokens_by_expiry: BTreeSet<(Timestamp, TokenKey)>,
    stopped: BTreeSet<(Timestamp, TaskKey)>,
    counters_dirty: BTreeSet<ClusterId>,
    /// Changes of the command under way.
    changes: Vec<Change>,
}

impl Tables {
    pub(crate) fn new(config: Arc<CellConfig>) -> Self {
        Self {
            view: ReadModel::empty(config),
            pool: Pool::default(),
            tokens: BTreeMap::new(),
            tokens_by_expiry: BTreeSet::new(),
            stopped: BTreeSet::new(),
            counters_dirty: BTreeSet::new(),
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

    /// What is used of an instance as the command under way sees it.
    pub(crate) fn usage(&self, key: InstanceKey) -> Option<Usage> {
        self.pool.slot(key).map(usage)
    }

    pub(crate) fn token(&self, key: &TokenKey) -> Option<&Arc<Token>> {
        self.tokens.get(key)
    }

    pub(crate) fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// Stopped tasks, longest stopped first.
    pub(crate) fn stopped(&self) -> &BTreeSet<(Timestamp, TaskKey)> {
        &self.stopped
    }

    /// Client tokens, first to expire first.
    pub(crate) fn tokens_by_expiry(&self) -> &BTreeSet<(Timestamp, TokenKey)> {
        &self.tokens_by_expiry
    }

    /// Makes or replaces an entity.
    pub(crate) fn put(&mut self, entity: Entity) {
        let key = entity.key();
        let old = self.get(&key);
        self.index(old.as_ref(), Some(&entity));
        self.changes.push(Change { key, old, new: Some(entity) });
    }

    /// Removes an entity; nothing happens when there is none.
    pub(crate) fn remove(&mut self, key: &EntityKey) {
        if let Some(old) = self.get(key) {
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

    pub(crate) fn set_session(&mut self, key: InstanceKey, session: Option<SessionId>) {
        self.pool.set_connected(key, session.is_some());
    }

    /// The snapshot of now. Costs what changed since the last one.
    pub(crate) fn publish(&mut self) -> ReadModel {
        for slot in self.pool.take_dirty() {
            self.counters_dirty.insert(slot.instance.key.cluster);
            self.view.usage.insert(slot.instance.key, usage(slot));
        }
        for cluster in std::mem::take(&mut self.counters_dirty) {
            let counters = self.view.counters.entry(cluster).or_default();
            counters.instances = self.pool.count(cluster);
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
        let tokens = self.tokens.values().cloned().map(Entity::Token);
        clusters.chain(families).chain(definitions).chain(instances).chain(tasks).chain(tokens)
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
        }
    }

    /// Brings every map and index from `old` to `new`. Both are of one key.
    fn index(&mut self, old: Option<&Entity>, new: Option<&Entity>) {
        match new.or(old) {
            Some(Entity::Cluster(_)) => self.index_cluster(cluster(old), cluster(new)),
            Some(Entity::Definition(record)) => match new {
                Some(_) => {
                    let resolved = Arc::new(task_definition::resolve(&record.document));
                    let known = KnownDefinition { record: record.clone(), resolved };
                    self.view.definitions.insert(record.key.clone(), known);
                }
                None => drop(self.view.definitions.remove(&record.key)),
            },
            Some(Entity::Family(family)) => match new {
                Some(_) => drop(self.view.families.insert(family.name.clone(), family.clone())),
                None => drop(self.view.families.remove(&family.name)),
            },
            Some(Entity::Instance(_)) => self.index_instance(instance(old), instance(new)),
            Some(Entity::Task(_)) => self.index_task(task(old), task(new)),
            Some(Entity::Token(_)) => self.index_token(token(old), token(new)),
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

    fn index_instance(&mut self, old: Option<&Arc<Instance>>, new: Option<&Arc<Instance>>) {
        self.pool.instance_changed(old, new);
        match (old, new) {
            (_, Some(new)) => drop(self.view.instances.insert(new.key, new.clone())),
            (Some(old), None) => {
                self.view.instances.remove(&old.key);
                self.view.usage.remove(&old.key);
                self.counters_dirty.insert(old.key.cluster);
            }
            (None, None) => {}
        }
    }

    fn index_task(&mut self, old: Option<&Arc<Task>>, new: Option<&Arc<Task>>) {
        self.pool.task_changed(old.map(Arc::as_ref), new.map(Arc::as_ref));
        if let Some(old) = old {
            self.view.counters.entry(old.key.cluster).or_default().remove(old);
            if let (TaskStatus::Stopped, Some(at)) = (old.known, old.life.stopped_at) {
                self.stopped.remove(&(at, old.key));
            }
        }
        if let Some(new) = new {
            self.view.counters.entry(new.key.cluster).or_default().add(new);
            if let (TaskStatus::Stopped, Some(at)) = (new.known, new.life.stopped_at) {
                self.stopped.insert((at, new.key));
            }
        }
        match (old, new) {
            (_, Some(new)) => drop(self.view.tasks.insert(new.key, new.clone())),
            (Some(old), None) => drop(self.view.tasks.remove(&old.key)),
            (None, None) => {}
        }
    }

    fn index_token(&mut self, old: Option<&Arc<Token>>, new: Option<&Arc<Token>>) {
        if let Some(old) = old {
            self.tokens.remove(&old.key);
            self.tokens_by_expiry.remove(&(old.expires_at, old.key.clone()));
        }
        if let Some(new) = new {
            self.tokens.insert(new.key.clone(), new.clone());
            self.tokens_by_expiry.insert((new.expires_at, new.key.clone()));
        }
    }
}

fn usage(slot: &Slot) -> Usage {
    Usage {
        cpu_free: slot.cpu_free,
        memory_free: slot.memory_free,
        ports: slot.ports.keys().copied().collect(),
        pending: slot.pending,
        running: slot.running,
        connected: slot.connected,
    }
}

fn cluster(entity: Option<&Entity>) -> Option<&Arc<Cluster>> {
    match entity {
        Some(Entity::Cluster(cluster)) => Some(cluster),
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
