//! DeleteTaskDefinitions, and the end of a deletion.
//!
//! ACTIVE → INACTIVE → DELETE_IN_PROGRESS → gone. A definition goes when no task runs from it any more: then the API knows it
//! no more. Its record goes with the last stopped task that is described with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::arn::TaskDefinitionRef;
use longshore_api::ecs::Response;
use longshore_api::ecs::types::{self, TaskDefinitionStatus};
use longshore_api::{ApiError, Timestamp};

use crate::cell::Turn;
use crate::entity::{Definition, Entity, EntityKey, Task};
use crate::ids::DefinitionKey;
use crate::limits;
use crate::names::{self, DefinitionName};
use crate::task::status::TaskStatus;

/// DeleteTaskDefinitions. Tasks that run go on; repeating it changes nothing.
pub(crate) fn delete(turn: &mut Turn<'_>, request: &types::DeleteTaskDefinitionsRequest) -> Result<Response, ApiError> {
    let given = &request.task_definitions;
    if given.is_empty() || given.len() > limits::DELETE_DEFINITIONS {
        return Err(ApiError::invalid_parameter(match given.is_empty() {
            true => "Size of TaskDefinition references list must be greater than 0".to_owned(),
            false => format!("Size of TaskDefinition references list cannot exceed {}", limits::DELETE_DEFINITIONS),
        }));
    }
    let mut deleted = Vec::new();
    let mut failures = Vec::new();
    for name in given {
        match delete_one(turn, name) {
            Ok(document) => deleted.push(document),
            Err(reason) => {
                failures.push(types::Failure { arn: Some(name.clone()), reason: Some(reason.to_owned()), detail: None })
            }
        }
    }
    let (task_definitions, failures) = (Some(deleted), Some(failures));
    Ok(types::DeleteTaskDefinitionsResponse { task_definitions, failures }.into())
}

fn delete_one(turn: &mut Turn<'_>, given: &str) -> Result<types::TaskDefinition, &'static str> {
    const INVALID: &str =
        "The specified task definition identifier is invalid. Specify a valid name or ARN and try again.";
    const UNKNOWN: &str =
        "The specified task definition does not exist. Specify a valid account, family, revision and try again.";
    const ACTIVE: &str =
        "The specified task definition is still in ACTIVE status. Please deregister the target and try again.";
    let named = TaskDefinitionRef::parse(given).ok().and_then(|named| named.revision);
    named.ok_or(INVALID)?;
    let name: DefinitionName = names::definition(turn.config, given).ok_or(UNKNOWN)?;
    let known = turn.tables.view().definition(name).ok_or(UNKNOWN)?.record.clone();
    let mut document = types::TaskDefinition::clone(&known.document);
    match document.status {
        Some(TaskDefinitionStatus::Inactive) => {
            document.status = Some(TaskDefinitionStatus::DeleteInProgress);
            document.delete_requested_at = Some(turn.now);
            let next = Definition { document: Arc::new(document.clone()), ..Definition::clone(&known) };
            turn.tables.put(Entity::Definition(Arc::new(next)));
            Ok(document)
        }
        Some(TaskDefinitionStatus::DeleteInProgress) => Ok(document),
        Some(TaskDefinitionStatus::Active) | None => Err(ACTIVE),
    }
}

/// Takes the steps of deletions that are due, a bounded number at a time.
pub(crate) fn expire(turn: &mut Turn<'_>) {
    for _ in 0..limits::EXPIRED_PER_TICK {
        match turn.tables.deletions().queue.first().cloned() {
            Some((due, key)) if due <= turn.now && turn.has_room() => step(turn, key),
            _ => break,
        }
    }
}

/// The record of a definition that nothing runs from goes, or is hidden while stopped tasks are described with it.
fn step(turn: &mut Turn<'_>, key: DefinitionKey) {
    let known = turn.tables.view().definitions.get(&key).map(|known| known.record.clone());
    match known.filter(|_| turn.tables.deletions().users.contains_key(&key)) {
        Some(record) => {
            let next = Definition { deleted_at: Some(turn.now), ..Definition::clone(&record) };
            turn.tables.put(Entity::Definition(Arc::new(next)));
        }
        None => turn.tables.remove(&EntityKey::Definition(key)),
    }
}

impl Definition {
    /// How it is found in listings; `None` when the API knows it no more.
    pub(crate) fn listed(&self) -> Option<(TaskDefinitionStatus, DefinitionKey)> {
        let status = self.document.status.filter(|_| self.deleted_at.is_none())?;
        Some((status, self.key.clone()))
    }
}

/// Who uses which definition, and which deletions have a next step. Derived.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Deletions {
    users: BTreeMap<DefinitionKey, Users>,
    /// The definitions that are DELETE_IN_PROGRESS, or gone for the API.
    under_way: BTreeMap<DefinitionKey, Deletion>,
    /// When the next step of a deletion may be taken; nothing while it has to wait for tasks.
    queue: BTreeSet<(Timestamp, DefinitionKey)>,
}

/// The tasks of a definition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Users {
    /// Those that are not STOPPED.
    live: usize,
    /// Those that are described.
    known: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Deletion {
    requested_at: Timestamp,
    deleted_at: Option<Timestamp>,
}

impl Deletions {
    /// When the next step may be taken.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// A definition came, changed, or went.
    pub(crate) fn definition_changed(&mut self, key: &DefinitionKey, new: Option<&Definition>) {
        let deleting = new.filter(|new| new.document.status == Some(TaskDefinitionStatus::DeleteInProgress));
        let deletion = deleting.map(|new| Deletion {
            requested_at: new.document.delete_requested_at.unwrap_or(Timestamp::from_millis(0)),
            deleted_at: new.deleted_at,
        });
        self.change(key, |this| match deletion {
            Some(deletion) => drop(this.under_way.insert(key.clone(), deletion)),
            None => drop(this.under_way.remove(key)),
        });
    }

    /// A task came, changed, or went.
    pub(crate) fn task_changed(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let live = |task: Option<&Task>| task.map(|task| task.last_status() != TaskStatus::Stopped);
        let (before, after) = (live(old), live(new));
        let Some(key) = new.or(old).map(|task| &task.definition).filter(|_| before != after) else { return };
        self.change(key, |this| {
            let users = this.users.entry(key.clone()).or_default();
            users.known = users.known + usize::from(after.is_some()) - usize::from(before.is_some());
            users.live = users.live + usize::from(after == Some(true)) - usize::from(before == Some(true));
            if users.known == 0 {
                this.users.remove(key);
            }
        });
    }

    /// Changes what is known of a definition, and keeps the queue in step.
    fn change(&mut self, key: &DefinitionKey, edit: impl FnOnce(&mut Self)) {
        if let Some(due) = self.due(key) {
            self.queue.remove(&(due, key.clone()));
        }
        edit(self);
        if let Some(due) = self.due(key) {
            self.queue.insert((due, key.clone()));
        }
    }

    fn due(&self, key: &DefinitionKey) -> Option<Timestamp> {
        let deletion = self.under_way.get(key)?;
        let users = self.users.get(key).copied().unwrap_or_default();
        match deletion.deleted_at {
            None => (users.live == 0).then(|| deletion.requested_at.plus_millis(limits::DELETION_SHOWN_MS)),
            Some(deleted_at) => (users.known == 0).then_some(deleted_at),
        }
    }
}
