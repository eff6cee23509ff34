//! RegisterTaskDefinition, DescribeTaskDefinition, ListTaskDefinitions, ListTaskDefinitionFamilies,
//! DeregisterTaskDefinition.

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
use crate::read::{KnownDefinition, Page, ReadModel, bad_token, page};
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
    let definition = Definition { key, document: document.clone(), tags: tags.clone() };
    turn.tables.put(Entity::Definition(Arc::new(definition)));
    let task_definition = Some(types::TaskDefinition::clone(&document));
    Ok(types::RegisterTaskDefinitionResponse { task_definition, tags: Some(tags) }.into())
}

/// DeregisterTaskDefinition: running tasks go on, new ones are refused.
pub(crate) fn deregister(
    turn: &mut Turn<'_>,
    request: &types::DeregisterTaskDefinitionRequest,
) -> Result<Response, ApiError> {
    let name = names::definition(turn.config, &request.task_definition)
        .ok_or_else(|| ApiError::client("The specified task definition does not exist."))?;
    if name.revision.is_none() {
        return Err(ApiError::invalid_parameter(
            "The task definition must be named with its revision: family:revision.",
        ));
    }
    let known = turn.tables.view().definition(name).map(|known| known.record.clone());
    let known = known.ok_or_else(|| ApiError::client("The specified task definition does not exist."))?;
    let mut document = types::TaskDefinition::clone(&known.document);
    if document.status == Some(TaskDefinitionStatus::Active) {
        document.status = Some(TaskDefinitionStatus::Inactive);
        document.deregistered_at = Some(turn.now);
        let next = Definition { document: Arc::new(document.clone()), ..Definition::clone(&known) };
        turn.tables.put(Entity::Definition(Arc::new(next)));
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
    let family = request.family_prefix.as_deref().filter(|family| !family.is_empty());
    let status = request.status.unwrap_or(TaskDefinitionStatus::Active);
    let descending = request.sort == Some(types::SortOrder::Desc);
    // ECS documents familyPrefix as the full family name.
    let mut range = family.map_or((Bound::Unbounded, Bound::Unbounded), |family| {
        let key = |revision| DefinitionKey { family: family.into(), revision };
        (Bound::Included(key(0)), Bound::Included(key(i32::MAX)))
    });
    match request.next_token.as_deref().map(cursor).transpose()? {
        None => {}
        Some(after) if family.is_some_and(|family| *after.family != *family) => return Err(bad_token()),
        Some(after) if descending => range.1 = Bound::Excluded(after),
        Some(after) => range.0 = Bound::Excluded(after),
    }
    let wanted = |(_, known): &(&DefinitionKey, &KnownDefinition)| known.record.document.status == Some(status);
    let behind = view.definitions.range(range);
    let cut = |item: &(&DefinitionKey, &KnownDefinition)| format!("{}:{}", item.0.family, item.0.revision);
    let Page { items, next } = match descending {
        false => page(behind.filter(wanted), request.max_results, cut),
        true => page(behind.rev().filter(wanted), request.max_results, cut),
    };
    let arns = items.into_iter().map(|(key, _)| view.config.definition_arn(key)).collect();
    Ok(types::ListTaskDefinitionsResponse { task_definition_arns: Some(arns), next_token: next }.into())
}

/// ListTaskDefinitionFamilies: a family is ACTIVE while it has an ACTIVE revision.
pub(crate) fn list_families(
    view: &ReadModel,
    request: &types::ListTaskDefinitionFamiliesRequest,
) -> Result<Response, ApiError> {
    let prefix = request.family_prefix.as_deref().unwrap_or_default();
    let after = request.next_token.as_deref();
    let wanted = |name: &&Arc<str>| {
        let name: &Arc<str> = name;
        let active = || view.latest_active(name).is_some();
        name.starts_with(prefix)
            && after.is_none_or(|after| name.as_ref() > after)
            && match request.status.unwrap_or(TaskDefinitionFamilyStatus::Active) {
                TaskDefinitionFamilyStatus::All => true,
                TaskDefinitionFamilyStatus::Active => active(),
                TaskDefinitionFamilyStatus::Inactive => !active(),
            }
    };
    let Page { items, next } = page(view.families.keys().filter(wanted), request.max_results, |name| name.to_string());
    let families = items.into_iter().map(|name| name.to_string()).collect();
    Ok(types::ListTaskDefinitionFamiliesResponse { families: Some(families), next_token: next }.into())
}

fn cursor(token: &str) -> Result<DefinitionKey, ApiError> {
    let (family, revision) = token.rsplit_once(':').ok_or_else(bad_token)?;
    let revision = revision.parse().ok().filter(|revision| (1..i32::MAX).contains(revision)).ok_or_else(bad_token)?;
    Ok(DefinitionKey { family: family.into(), revision })
}

impl ReadModel {
    /// The definition of a name: that revision, or the latest ACTIVE one.
    pub(crate) fn definition(&self, name: DefinitionName) -> Option<&KnownDefinition> {
        match name.revision {
            Some(revision) => self.definitions.get(&DefinitionKey { family: name.family.as_str().into(), revision }),
            None => self.latest_active(&name.family),
        }
    }

    fn latest_active(&self, family: &str) -> Option<&KnownDefinition> {
        let key = |revision| DefinitionKey { family: family.into(), revision };
        self.definitions
            .range(key(0)..=key(i32::MAX))
            .rev()
            .map(|(_, known)| known)
            .find(|known| known.record.document.status == Some(TaskDefinitionStatus::Active))
    }
}
