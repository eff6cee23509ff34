//! RegisterTaskDefinition, DescribeTaskDefinition, ListTaskDefinitions, ListTaskDefinitionFamilies,
//! DeregisterTaskDefinition. [`super::deletion`] has DeleteTaskDefinitions.

use std::ops::Bound;
use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::types::{self, TaskDefinitionFamilyStatus, TaskDefinitionStatus};
use longshore_api::ecs::{Response, error};

use super::{Registration, register as make};
use crate::cell::Turn;
use crate::entity::{Definition, Entity, Family};
use crate::ids::DefinitionKey;
use crate::limits;
use crate::names::{self, DefinitionName};
use crate::principal::Principal;
use crate::read::{KnownDefinition, Page, ReadModel, bad_token, merged, page};
use crate::tags;

/// RegisterTaskDefinition: the next revision of its family.
pub(crate) fn register(
    turn: &mut Turn<'_>,
    principal: &Principal,
    request: &types::RegisterTaskDefinitionRequest,
) -> Result<Response, ApiError> {
    let tags = tags::check(request.tags.as_deref())?;
    let name: Arc<str> = request.family.as_str().into();
    let last = turn.tables.view().families.get(&name).map_or(0, |family| family.last_revision);
    check_room(turn.tables.view(), &name)?;
    if last >= limits::REVISIONS_PER_FAMILY {
        let message = format!("The family {name} has reached its limit of {} revisions.", limits::REVISIONS_PER_FAMILY);
        return Err(ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message));
    }
    if turn.tables.view().definitions.len() >= limits::DEFINITIONS {
        let message = format!("The number of task definitions has reached its limit of {}.", limits::DEFINITIONS);
        return Err(ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message));
    }
    let key = DefinitionKey { family: name.clone(), revision: last + 1 };
    let identity = Registration {
        arn: turn.config.definition_arn(&key),
        revision: key.revision,
        registered_by: principal.arn.to_string(),
        now: turn.now,
    };
    let document = Arc::new(make(request, identity)?);
    turn.tables.put(Entity::Family(Arc::new(Family { name, last_revision: key.revision })));
    let definition = Definition { key, document: document.clone(), tags: tags.clone(), deleted_at: None };
    turn.tables.put(Entity::Definition(Arc::new(definition)));
    let task_definition = Some(types::TaskDefinition::clone(&document));
    Ok(types::RegisterTaskDefinitionResponse { task_definition, tags: Some(tags) }.into())
}

/// Whether there is room for another family, if this is one. Only a name that was used before takes none.
fn check_room(view: &ReadModel, family: &str) -> Result<(), ApiError> {
    match view.families.len() < limits::FAMILIES || view.families.contains_key(family) {
        true => Ok(()),
        false => Err(ApiError::new(
            error::LIMIT_EXCEEDED_EXCEPTION,
            format!(
                "The number of task definition families has reached its limit of {}, those without a revision included: \
                 register a further revision of one that there was.",
                limits::FAMILIES
            ),
        )),
    }
}

/// DeregisterTaskDefinition: running tasks go on, new ones are refused. Repeating it changes nothing.
pub(crate) fn deregister(
    turn: &mut Turn<'_>,
    request: &types::DeregisterTaskDefinitionRequest,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::client("The specified task definition does not exist.");
    let name = names::definition(turn.config, &request.task_definition).ok_or_else(unknown)?;
    if name.revision.is_none() {
        let message = "Revision is missing. Name the task definition with it, as in family:revision.";
        return Err(ApiError::client(message));
    }
    let known = turn.tables.view().definition(name).ok_or_else(unknown)?.record.clone();
    let mut document = types::TaskDefinition::clone(&known.document);
    match document.status {
        Some(TaskDefinitionStatus::Active) => {
            document.status = Some(TaskDefinitionStatus::Inactive);
            document.deregistered_at = Some(turn.now);
            let next = Definition { document: Arc::new(document.clone()), ..Definition::clone(&known) };
            turn.tables.put(Entity::Definition(Arc::new(next)));
        }
        Some(TaskDefinitionStatus::DeleteInProgress) => {
            let message =
                "The specified task definition is in the process of being deleted: it cannot be deregistered.";
            return Err(ApiError::client(message));
        }
        Some(TaskDefinitionStatus::Inactive) | None => {}
    }
    Ok(types::DeregisterTaskDefinitionResponse { task_definition: Some(document) }.into())
}

/// DescribeTaskDefinition: by family, `family:revision` or ARN.
pub(crate) fn describe(view: &ReadModel, request: &types::DescribeTaskDefinitionRequest) -> Result<Response, ApiError> {
    let known = names::definition(&view.config, &request.task_definition)
        .and_then(|name| view.definition(name))
        .ok_or_else(|| ApiError::client("Unable to describe task definition."))?;
    let with_tags = request.include.as_deref().unwrap_or_default().contains(&types::TaskDefinitionField::Tags);
    let response = types::DescribeTaskDefinitionResponse {
        task_definition: Some(types::TaskDefinition::clone(&known.record.document)),
        tags: Some(if with_tags { known.record.tags.clone() } else { Vec::new() }),
    };
    Ok(response.into())
}

/// ListTaskDefinitions, by family and revision, upwards or downwards.
pub(crate) fn list(view: &ReadModel, request: &types::ListTaskDefinitionsRequest) -> Result<Response, ApiError> {
    // ECS documents familyPrefix as the full family name.
    let family = request.family_prefix.as_deref().filter(|family| !family.is_empty());
    let status = request.status.unwrap_or(TaskDefinitionStatus::Active);
    let descending = request.sort == Some(types::SortOrder::Desc);
    let mut range = match family {
        Some(family) => (Bound::Included(first_of(family)), Bound::Included(last_of(family))),
        None => (Bound::Included(first_of("")), Bound::Excluded(first_of(BEHIND_ALL_FAMILIES))),
    };
    match request.next_token.as_deref().map(cursor).transpose()? {
        None => {}
        Some(after) if family.is_some_and(|family| *after.family != *family) => return Err(bad_token()),
        Some(after) if descending => range.1 = Bound::Excluded(after),
        Some(after) => range.0 = Bound::Excluded(after),
    }
    let listed = view
        .definitions_by_status
        .range((range.0.map(|definition| (status, definition)), range.1.map(|definition| (status, definition))));
    let keys = listed.map(|(_, key)| key);
    let cut = |key: &&DefinitionKey| format!("{}:{}", key.family, key.revision);
    let Page { items, next } = match descending {
        false => page(keys, request.max_results, cut),
        true => page(keys.rev(), request.max_results, cut),
    };
    let arns = items.into_iter().map(|key| view.config.definition_arn(key)).collect();
    Ok(types::ListTaskDefinitionsResponse { task_definition_arns: Some(arns), next_token: next }.into())
}

/// ListTaskDefinitionFamilies: a family is ACTIVE while it has an ACTIVE revision, and listed while it has any.
pub(crate) fn list_families(
    view: &ReadModel,
    request: &types::ListTaskDefinitionFamiliesRequest,
) -> Result<Response, ApiError> {
    let prefix = request.family_prefix.as_deref().unwrap_or_default();
    // Behind the last one listed, and not before the first one that has the prefix.
    let from = match request.next_token.as_deref() {
        Some(after) if after >= prefix => Bound::Excluded(Arc::<str>::from(after)),
        _ => Bound::Included(Arc::<str>::from(prefix)),
    };
    let statuses = match request.status.unwrap_or(TaskDefinitionFamilyStatus::All) {
        TaskDefinitionFamilyStatus::All => {
            &[TaskDefinitionFamilyStatus::Active, TaskDefinitionFamilyStatus::Inactive][..]
        }
        TaskDefinitionFamilyStatus::Active => &[TaskDefinitionFamilyStatus::Active],
        TaskDefinitionFamilyStatus::Inactive => &[TaskDefinitionFamilyStatus::Inactive],
    };
    let of = |status: &TaskDefinitionFamilyStatus| {
        let status = *status;
        let listed = view.families_by_status.range((from.clone().map(|name| (status, name)), Bound::Unbounded));
        let listed = listed.take_while(move |(known, name)| *known == status && name.starts_with(prefix));
        listed.map(|(_, name)| name)
    };
    let families = merged(statuses.iter().map(of));
    let Page { items, next } = page(families, request.max_results, |name| name.to_string());
    let families = items.into_iter().map(|name| name.to_string()).collect();
    Ok(types::ListTaskDefinitionFamiliesResponse { families: Some(families), next_token: next }.into())
}

/// Greater than every name: names have letters, digits, `_` and `-`.
const BEHIND_ALL_FAMILIES: &str = "\u{7f}";

/// Where the revisions of a family begin.
fn first_of(family: &str) -> DefinitionKey {
    DefinitionKey { family: family.into(), revision: 0 }
}

/// Where the revisions of a family end.
fn last_of(family: &str) -> DefinitionKey {
    DefinitionKey { family: family.into(), revision: i32::MAX }
}

fn cursor(token: &str) -> Result<DefinitionKey, ApiError> {
    let (family, revision) =
        token.rsplit_once(':').filter(|(family, _)| *family < BEHIND_ALL_FAMILIES).ok_or_else(bad_token)?;
    let revision = revision.parse().ok().filter(|revision| (1..i32::MAX).contains(revision)).ok_or_else(bad_token)?;
    Ok(DefinitionKey { family: family.into(), revision })
}

impl ReadModel {
    /// The definition of a name: that revision, or the latest ACTIVE one.
    pub(crate) fn definition(&self, name: DefinitionName) -> Option<&KnownDefinition> {
        let DefinitionName { family, revision } = name;
        let known = match revision {
            Some(revision) => self.definitions.get(&DefinitionKey { family: family.as_str().into(), revision }),
            None => self.definitions.get(self.latest(TaskDefinitionStatus::Active, &family)?),
        };
        known.filter(|known| known.record.deleted_at.is_none())
    }

    /// A family is ACTIVE while it has an ACTIVE revision, and INACTIVE while it has others only; else it is a name.
    pub(crate) fn family_status(&self, family: &str) -> Option<TaskDefinitionFamilyStatus> {
        let has = |status| self.latest(status, family).is_some();
        if has(TaskDefinitionStatus::Active) {
            return Some(TaskDefinitionFamilyStatus::Active);
        }
        let listed = has(TaskDefinitionStatus::Inactive) || has(TaskDefinitionStatus::DeleteInProgress);
        listed.then_some(TaskDefinitionFamilyStatus::Inactive)
    }

    /// The latest revision of a family that has a status.
    fn latest(&self, status: TaskDefinitionStatus, family: &str) -> Option<&DefinitionKey> {
        let revisions = (status, first_of(family))..=(status, last_of(family));
        self.definitions_by_status.range(revisions).next_back().map(|(_, key)| key)
    }
}
