//! UpdateContainerInstancesState: draining, and its end.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::types::ContainerInstanceStatus;
use longshore_api::ecs::{Response, types};

use crate::cell::Turn;
use crate::cluster::missing;
use crate::decision::Decision;
use crate::entity::{Entity, Instance};
use crate::ids::InstanceKey;
use crate::instance::InstanceStatus;
use crate::instance::describe::{Include, document};
use crate::names;

/// UpdateContainerInstancesState. What runs on a draining instance goes on; nothing new comes.
pub(crate) fn update(
    turn: &mut Turn<'_>,
    request: &types::UpdateContainerInstancesStateRequest,
) -> Result<Response, ApiError> {
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    let status = match request.status {
        ContainerInstanceStatus::Active => InstanceStatus::Active,
        ContainerInstanceStatus::Draining => InstanceStatus::Draining,
        ContainerInstanceStatus::Registering
        | ContainerInstanceStatus::Deregistering
        | ContainerInstanceStatus::RegistrationFailed => {
            let message = "Container instance status should be one of [ACTIVE, DRAINING].";
            return Err(ApiError::invalid_parameter(message));
        }
    };
    // All names are read before anything is changed.
    let ids = request.container_instances.iter().map(|given| names::instance(turn.config, &cluster, given));
    let ids = ids.collect::<Result<Vec<_>, ApiError>>()?;
    let mut updated = Vec::new();
    let mut failures = Vec::new();
    for (given, id) in request.container_instances.iter().zip(ids) {
        let key = id.map(|id| InstanceKey { cluster: cluster.id, id });
        let Some(instance) = key.and_then(|key| turn.tables.view().instances.get(&key)).cloned() else {
            failures.push(missing(match given.starts_with("arn:") {
                true => given.clone(),
                false => turn.config.scope.container_instance(&cluster.name, given),
            }));
            continue;
        };
        match instance.status {
            InstanceStatus::Active | InstanceStatus::Draining => {
                let instance = set(turn, instance, status);
                let usage = turn.tables.usage(instance.key);
                updated.push(document(turn.tables.view(), &cluster, &instance, usage.as_ref(), Include::TAGS));
            }
            InstanceStatus::Deregistering | InstanceStatus::Inactive => failures.push(types::Failure {
                arn: Some(turn.config.instance_arn(&cluster.name, instance.key.id)),
                reason: Some("INACTIVE".to_owned()),
                detail: Some(format!("the container instance is {}", instance.status.as_str())),
            }),
        }
    }
    let (container_instances, failures) = (Some(updated), Some(failures));
    Ok(types::UpdateContainerInstancesStateResponse { container_instances, failures }.into())
}

pub(crate) fn set(turn: &mut Turn<'_>, instance: Arc<Instance>, to: InstanceStatus) -> Arc<Instance> {
    let (key, from) = (instance.key, instance.status);
    if from == to {
        return instance;
    }
    let next = Arc::new(Instance { status: to, version: instance.version + 1, ..Instance::clone(&instance) });
    turn.tables.put(Entity::Instance(next.clone()));
    turn.note(Decision::StatusChanged { instance: key, from, to });
    next
}
