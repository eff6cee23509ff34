//! TagResource, UntagResource, ListTagsForResource.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::arn::{Arn, Resource};
use longshore_api::ecs::types::Tag;
use longshore_api::ecs::{Response, error, types};

use super::{check, is_reserved};
use crate::capacity::CapacityProvider;
use crate::cell::Turn;
use crate::entity::{Cluster, Definition, Entity, Instance, Task};
use crate::ids::{DefinitionKey, InstanceKey, TaskKey};
use crate::instance::InstanceStatus;
use crate::limits;
use crate::read::ReadModel;
use crate::task::status::TaskStatus;
use crate::task::waiting::is_given_at_start;

/// TagResource: tags whose keys are there get another value, the others are added.
pub(crate) fn tag(turn: &mut Turn<'_>, request: &types::TagResourceRequest) -> Result<Response, ApiError> {
    let given = check(Some(&request.tags))?;
    let tagged = find(turn.tables.view(), &request.resource_arn).map_err(Missing::on_write)?;
    if let (Tagged::Task(_), Some(late)) = (&tagged, given.iter().find_map(at_start)) {
        let message = format!("The tag '{late}' of a task is read when the task is made: give it to RunTask.");
        return Err(ApiError::invalid_parameter(message));
    }
    let mut tags = tagged.tags().to_vec();
    for tag in given {
        match tags.iter_mut().find(|known| known.key == tag.key) {
            Some(known) => known.value = tag.value,
            None => tags.push(tag),
        }
    }
    // What the control plane added itself does not count.
    let own = tags.iter().filter(|tag| !tag.key.as_deref().is_some_and(is_reserved)).count();
    if own > limits::TAGS {
        let message = format!("The resource would have {own} tags; the maximum is {}.", limits::TAGS);
        return Err(ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message));
    }
    write(turn, tagged, tags);
    Ok(types::TagResourceResponse {}.into())
}

fn at_start(tag: &Tag) -> Option<&str> {
    tag.key.as_deref().filter(|key| is_given_at_start(key))
}

/// UntagResource. A key that is not there needs no removal.
pub(crate) fn untag(turn: &mut Turn<'_>, request: &types::UntagResourceRequest) -> Result<Response, ApiError> {
    if let Some(key) = request.tag_keys.iter().find(|key| is_reserved(key)) {
        let message = format!("The tag '{key}' belongs to the control plane: it cannot be removed.");
        return Err(ApiError::invalid_parameter(message));
    }
    let tagged = find(turn.tables.view(), &request.resource_arn).map_err(Missing::on_write)?;
    let removed = |tag: &Tag| tag.key.as_ref().is_some_and(|key| request.tag_keys.contains(key));
    let tags = tagged.tags().iter().filter(|tag| !removed(tag)).cloned().collect();
    write(turn, tagged, tags);
    Ok(types::UntagResourceResponse {}.into())
}

/// ListTagsForResource.
pub(crate) fn list(view: &ReadModel, request: &types::ListTagsForResourceRequest) -> Result<Response, ApiError> {
    let tagged = find(view, &request.resource_arn).map_err(Missing::on_read)?;
    Ok(types::ListTagsForResourceResponse { tags: Some(tagged.tags().to_vec()) }.into())
}

fn write(turn: &mut Turn<'_>, tagged: Tagged, tags: Vec<Tag>) {
    if tagged.tags() != tags {
        turn.tables.put(tagged.with(tags));
    }
}

/// Something that has tags.
enum Tagged {
    Cluster(Arc<Cluster>),
    Definition(Arc<Definition>),
    Instance(Arc<Instance>),
    Task(Arc<Task>),
    CapacityProvider(Arc<CapacityProvider>),
}

impl Tagged {
    fn tags(&self) -> &[Tag] {
        match self {
            Self::Cluster(cluster) => &cluster.tags,
            Self::Definition(definition) => &definition.tags,
            Self::Instance(instance) => &instance.tags,
            Self::Task(task) => &task.tags,
            Self::CapacityProvider(provider) => &provider.tags,
        }
    }

    /// The same with other tags. It is no other version: ECS's versions count what its events tell, and tags are not among it.
    fn with(self, tags: Vec<Tag>) -> Entity {
        match self {
            Self::Cluster(cluster) => Entity::Cluster(Arc::new(Cluster { tags, ..Cluster::clone(&cluster) })),
            Self::Definition(definition) => {
                Entity::Definition(Arc::new(Definition { tags, ..Definition::clone(&definition) }))
            }
            Self::Instance(instance) => Entity::Instance(Arc::new(Instance { tags, ..Instance::clone(&instance) })),
            Self::Task(task) => Entity::Task(Arc::new(Task { tags, ..Task::clone(&task) })),
            Self::CapacityProvider(provider) => {
                Entity::CapacityProvider(Arc::new(CapacityProvider { tags, ..CapacityProvider::clone(&provider) }))
            }
        }
    }
}

/// Why there is nothing with tags behind an ARN.
enum Missing {
    /// Nothing of this kind has it.
    Resource(&'static str),
    /// It is refused for what it is.
    Refused(ApiError),
}

impl Missing {
    fn on_write(self) -> ApiError {
        match self {
            Self::Resource(kind) => ApiError::new(error::RESOURCE_NOT_FOUND_EXCEPTION, not_found(kind)),
            Self::Refused(error) => error,
        }
    }

    /// ECS does not list ResourceNotFoundException among the errors of ListTagsForResource.
    fn on_read(self) -> ApiError {
        match self {
            Self::Resource(kind) => ApiError::invalid_parameter(not_found(kind)),
            Self::Refused(error) => error,
        }
    }
}

fn not_found(kind: &str) -> String {
    format!("The specified {kind} was not found. Specify the ARN of one that exists and try again.")
}

/// What is over has lost its tags for these operations, though Describe still shows them. In ECS's words.
fn over(kind: &str, state: &str, wanted: &str) -> Missing {
    let message = format!("The specified {kind} is {state}. Specify {wanted} and try again.");
    Missing::Refused(ApiError::invalid_parameter(message))
}

/// What the ARN names. Task definitions that were deregistered still have their tags; whatever else is over has not.
fn find(view: &ReadModel, arn: &str) -> Result<Tagged, Missing> {
    let refused = |message: String| Missing::Refused(ApiError::invalid_parameter(message));
    let Arn { scope, resource } =
        arn.parse().map_err(|error: longshore_api::arn::ArnError| Missing::Refused(error.into()))?;
    let here = scope == view.config.scope;
    let short = || refused("Long arn format must be used for tagging operations".to_owned());
    match resource {
        Resource::Cluster { name } => cluster(view, here, &name).cloned().map(Tagged::Cluster),
        Resource::TaskDefinition { family, revision } => {
            let revision = i32::try_from(revision).ok().filter(|_| here);
            let key = revision.map(|revision| DefinitionKey { family: family.into(), revision });
            let known =
                key.and_then(|key| view.definitions.get(&key)).filter(|known| known.record.deleted_at.is_none());
            known.map(|known| Tagged::Definition(known.record.clone())).ok_or(Missing::Resource("task definition"))
        }
        Resource::ContainerInstance { cluster: Some(name), id } => {
            let cluster = cluster(view, here, &name)?.id;
            let known = id.parse().ok().and_then(|id| view.instances.get(&InstanceKey { cluster, id }));
            match known {
                None => Err(Missing::Resource("container instance")),
                Some(known) if known.status == InstanceStatus::Inactive => {
                    Err(over("container instance", "inactive", "an active container instance"))
                }
                Some(known) => Ok(Tagged::Instance(known.clone())),
            }
        }
        Resource::Task { cluster: Some(name), id } => {
            let cluster = cluster(view, here, &name)?.id;
            let known = id.parse().ok().and_then(|id| view.tasks.get(&TaskKey { cluster, id }));
            match known {
                None => Err(Missing::Resource("task")),
                Some(known) if known.last_status() == TaskStatus::Stopped => {
                    Err(over("task", "stopped", "a running task"))
                }
                Some(known) => Ok(Tagged::Task(known.clone())),
            }
        }
        Resource::Task { cluster: None, .. }
        | Resource::ContainerInstance { cluster: None, .. }
        | Resource::Service { cluster: None, .. } => Err(short()),
        Resource::Service { cluster: Some(name), .. } => {
            cluster(view, here, &name).and(Err(Missing::Resource("service")))
        }
        Resource::TaskSet { cluster: name, .. } => cluster(view, here, &name).and(Err(Missing::Resource("task set"))),
        Resource::CapacityProvider { name } => match view.providers.get(&*name).filter(|_| here) {
            None => Err(Missing::Resource("capacity provider")),
            Some(known) if !known.is_active() => {
                Err(over("capacity provider", "inactive", "an active capacity provider"))
            }
            Some(known) => Ok(Tagged::CapacityProvider(known.clone())),
        },
        Resource::ServiceDeployment { .. }
        | Resource::ServiceRevision { .. }
        | Resource::Container { .. }
        | Resource::Attachment { .. } => {
            let kind = resource.to_string();
            let kind = kind.split('/').next().unwrap_or_default();
            Err(refused(format!("Unsupported resource type: {kind}")))
        }
    }
}

fn cluster<'a>(view: &'a ReadModel, here: bool, name: &str) -> Result<&'a Arc<Cluster>, Missing> {
    match view.clusters.get(name).filter(|_| here) {
        None => Err(Missing::Refused(ApiError::new(error::CLUSTER_NOT_FOUND_EXCEPTION, "Cluster not found."))),
        Some(cluster) if !cluster.active => Err(over("cluster", "inactive", "an active cluster")),
        Some(cluster) => Ok(cluster),
    }
}
