//! DeregisterContainerInstance: an instance is given back.
//!
//! ECS leaves the tasks of a forced deregistration running, because a virtual machine can be terminated. We have none to
//! terminate, so that they are stopped first: the instance is DEREGISTERING until the last of them is STOPPED.

use std::sync::Arc;

use longshore_api::ecs::{Response, types};
use longshore_api::{ApiError, Timestamp};

use crate::cell::{CloseReason, Turn};
use crate::decision::Decision;
use crate::entity::{Cluster, Entity, EntityKey, Instance};
use crate::ids::InstanceKey;
use crate::instance::describe::{Include, document};
use crate::instance::{InstanceStatus, ending, session};
use crate::limits;
use crate::names;
use crate::tables::Tables;

/// DeregisterContainerInstance. Refused without `force` while the API shows tasks there.
pub(crate) fn deregister(
    turn: &mut Turn<'_>,
    request: &types::DeregisterContainerInstanceRequest,
) -> Result<Response, ApiError> {
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    let instance = find(turn, &cluster, &request.container_instance)?;
    let key = instance.key;
    let slot = turn.tables.pool().slot(key);
    let shown = slot.map_or(0, |slot| slot.pending + slot.running);
    if shown > 0 && request.force != Some(true) {
        return Err(ApiError::invalid_parameter("Found running tasks on the instance."));
    }
    match slot.is_none_or(|slot| slot.tasks.is_empty()) {
        true => retire(turn, &instance),
        false => give_back(turn, &instance),
    }
    let instance = turn.tables.view().instances.get(&key).cloned().unwrap_or(instance);
    let usage = turn.tables.usage(key);
    let container_instance = Some(document(turn.tables.view(), &cluster, &instance, usage.as_ref(), Include::TAGS));
    Ok(types::DeregisterContainerInstanceResponse { container_instance }.into())
}

/// The instance of the cluster that a request means; one that is INACTIVE is not there any more.
fn find(turn: &Turn<'_>, cluster: &Cluster, given: &str) -> Result<Arc<Instance>, ApiError> {
    let id = names::instance(turn.config, cluster, given)?;
    let known = id.and_then(|id| turn.tables.view().instances.get(&InstanceKey { cluster: cluster.id, id }));
    known.filter(|known| known.status != InstanceStatus::Inactive).cloned().ok_or_else(|| {
        let id = given.rsplit('/').next().unwrap_or(given);
        ApiError::client(format!("Referenced container instance {id} not found."))
    })
}

/// Has the tasks stopped first. Without an agent to wait for, whoever deregisters the instance says that it is gone.
fn give_back(turn: &mut Turn<'_>, instance: &Arc<Instance>) {
    let key = instance.key;
    let mut next = Instance { status: InstanceStatus::Deregistering, ..Instance::clone(instance) };
    if turn.sessions.get(key).is_none() {
        next.lost_at.get_or_insert(turn.now);
        next.agent_connected = false;
        turn.liveness.forget(turn.now, key);
    }
    if next != **instance {
        next.version += 1;
        turn.tables.put(Entity::Instance(Arc::new(next)));
        note(turn, key, instance.status, InstanceStatus::Deregistering);
    }
    ending::start(turn, key);
}

/// An instance that is DEREGISTERING becomes INACTIVE when none of its tasks is left. Called whenever one ended.
pub(crate) fn finish(turn: &mut Turn<'_>, key: InstanceKey) {
    let Some(slot) = turn.tables.pool().slot(key) else { return };
    if slot.status == InstanceStatus::Deregistering && slot.tasks.is_empty() {
        let instance = slot.instance.clone();
        retire(turn, &instance);
    }
}

/// Makes an instance INACTIVE. Its agent is sent away, and told why when it comes back.
pub(crate) fn retire(turn: &mut Turn<'_>, instance: &Arc<Instance>) {
    let key = instance.key;
    let next = Instance {
        status: InstanceStatus::Inactive,
        lost_at: None,
        heard_at: None,
        inactive_at: Some(turn.now),
        agent_connected: false,
        version: instance.version + 1,
        ..Instance::clone(instance)
    };
    turn.tables.put(Entity::Instance(Arc::new(next)));
    session::close(turn, key, CloseReason::Deregistered);
    turn.liveness.forget(turn.now, key);
    note(turn, key, instance.status, InstanceStatus::Inactive);
}

fn note(turn: &mut Turn<'_>, instance: InstanceKey, from: InstanceStatus, to: InstanceStatus) {
    if from != to {
        turn.note(Decision::StatusChanged { instance, from, to });
    }
}

/// Forgets INACTIVE instances that were describable long enough.
pub(crate) fn expire(turn: &mut Turn<'_>) {
    let due = |turn: &Turn<'_>| turn.tables.inactive().first().copied().filter(|(at, _)| expiry(*at) <= turn.now);
    while let Some((_, key)) = due(turn).filter(|_| turn.has_room()) {
        turn.tables.remove(&EntityKey::Instance(key));
    }
}

/// When the next INACTIVE instance is to be forgotten.
pub(crate) fn next_expiry(tables: &Tables) -> Option<Timestamp> {
    tables.inactive().first().map(|(at, _)| expiry(*at))
}

fn expiry(inactive_at: Timestamp) -> Timestamp {
    inactive_at.plus_millis(limits::INACTIVE_LIFE_MS)
}
