//! DeleteCluster.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use super::check_named;
use super::describe::{Include, document};
use crate::cell::Turn;
use crate::entity::{Cluster, Entity};
use crate::names;

/// DeleteCluster: refused while anything lives in it; the cluster stays describable as INACTIVE. To delete one that is INACTIVE
/// already changes nothing.
pub(crate) fn delete(turn: &mut Turn<'_>, request: &types::DeleteClusterRequest) -> Result<Response, ApiError> {
    check_named(&request.cluster)?;
    let view = turn.tables.view();
    let known =
        names::cluster(turn.config, Some(&request.cluster))?.and_then(|name| view.clusters.get(&*name)).cloned();
    let deleted = match known {
        Some(cluster) if !cluster.active => cluster,
        _ => {
            let cluster = view.cluster(Some(&request.cluster))?.clone();
            check_empty(turn, &cluster)?;
            let deleted = Arc::new(Cluster { active: false, ..Cluster::clone(&cluster) });
            turn.tables.put(Entity::Cluster(deleted.clone()));
            deleted
        }
    };
    let cluster = Some(document(turn.tables.view(), &deleted, Include::CHANGED));
    Ok(Response::DeleteCluster(Box::new(types::DeleteClusterResponse { cluster })))
}

/// The capacity providers that there are belong to the account: a cluster leaves nothing of theirs behind.
fn check_empty(turn: &Turn<'_>, cluster: &Cluster) -> Result<(), ApiError> {
    if turn.tables.pool().count(cluster.id) > 0 {
        return Err(ApiError::new(
            error::CLUSTER_CONTAINS_CONTAINER_INSTANCES_EXCEPTION,
            "The Cluster cannot be deleted while Container Instances are active or draining.",
        ));
    }
    let counters = turn.tables.view().counters.get(&cluster.id).copied().unwrap_or_default();
    if counters.pending + counters.running > 0 {
        return Err(ApiError::new(
            error::CLUSTER_CONTAINS_TASKS_EXCEPTION,
            "The Cluster cannot be deleted while Tasks are active.",
        ));
    }
    Ok(())
}
