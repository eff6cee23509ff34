//! UpdateCluster, UpdateClusterSettings and PutClusterCapacityProviders: done when they are answered, for nothing is attached
//! to a cluster that takes its time.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use super::describe::{Include, document};
use super::{check_named, configuration, refuse_namespace, settings};
use crate::capacity;
use crate::cell::Turn;
use crate::entity::{Cluster, Entity};
use crate::ids::{TaskId, TaskKey};
use crate::read::ReadModel;
use crate::task::status::TaskStatus;

/// UpdateCluster: a member that is given takes the place of what was, as a whole.
pub(crate) fn update(turn: &mut Turn<'_>, request: &types::UpdateClusterRequest) -> Result<Response, ApiError> {
    check_named(&request.cluster)?;
    refuse_namespace("UpdateCluster", request.service_connect_defaults.as_ref())?;
    let insights = settings::check(request.settings.as_deref())?;
    let configuration = request.configuration.as_ref().map(configuration::check).transpose()?;
    let cluster = change(turn, &request.cluster, |cluster| {
        cluster.container_insights = insights.unwrap_or(cluster.container_insights);
        if let Some(configuration) = configuration {
            cluster.configuration = configuration;
        }
    })?;
    Ok(Response::UpdateCluster(Box::new(types::UpdateClusterResponse { cluster: Some(cluster) })))
}

/// UpdateClusterSettings.
pub(crate) fn update_settings(
    turn: &mut Turn<'_>,
    request: &types::UpdateClusterSettingsRequest,
) -> Result<Response, ApiError> {
    check_named(&request.cluster)?;
    let Some(insights) = settings::check(Some(&request.settings))? else {
        return Err(ApiError::invalid_parameter("Settings cannot be empty."));
    };
    let cluster = change(turn, &request.cluster, |cluster| cluster.container_insights = insights)?;
    Ok(Response::UpdateClusterSettings(Box::new(types::UpdateClusterSettingsResponse { cluster: Some(cluster) })))
}

/// PutClusterCapacityProviders: both lists take the place of what was, if no task still uses what goes.
pub(crate) fn put_capacity_providers(
    turn: &mut Turn<'_>,
    request: &types::PutClusterCapacityProvidersRequest,
) -> Result<Response, ApiError> {
    check_named(&request.cluster)?;
    let providers = capacity::check_providers(turn.tables.view(), &request.capacity_providers)?;
    let strategy = capacity::check_default(&request.default_capacity_provider_strategy, &providers)?;
    let known = turn.tables.view().cluster(Some(&request.cluster))?;
    let mut gone = known.capacity_providers.iter().filter(|name| !providers.contains(name));
    if let Some(used) = gone.find(|name| is_used(turn.tables.view(), known, name)) {
        return Err(ApiError::new(
            error::RESOURCE_IN_USE_EXCEPTION,
            format!(
                "The specified capacity provider is in use and cannot be removed: tasks of {used} have not stopped."
            ),
        ));
    }
    let cluster = change(turn, &request.cluster, |cluster| {
        cluster.capacity_providers = providers;
        cluster.default_strategy = strategy;
    })?;
    let response = types::PutClusterCapacityProvidersResponse { cluster: Some(cluster) };
    Ok(Response::PutClusterCapacityProviders(Box::new(response)))
}

/// Whether a task of the cluster that is not over is for a provider.
fn is_used(view: &ReadModel, cluster: &Cluster, provider: &str) -> bool {
    let from = TaskKey { cluster: cluster.id, id: TaskId(0) };
    let tasks = view.tasks.range(from..=TaskKey { cluster: cluster.id, id: TaskId(u128::MAX) });
    let mut live = tasks.filter(|(_, task)| task.last_status() != TaskStatus::Stopped);
    live.any(|(_, task)| task.capacity_provider.as_deref() == Some(provider))
}

/// Changes an ACTIVE cluster; the document of what it is then.
fn change(turn: &mut Turn<'_>, given: &str, change: impl FnOnce(&mut Cluster)) -> Result<types::Cluster, ApiError> {
    let mut cluster = Cluster::clone(turn.tables.view().cluster(Some(given))?);
    change(&mut cluster);
    let cluster = Arc::new(cluster);
    turn.tables.put(Entity::Cluster(cluster.clone()));
    Ok(document(turn.tables.view(), &cluster, Include::CHANGED))
}
