//! Clusters: CreateCluster, DescribeClusters, ListClusters, DeleteCluster.

use std::sync::Arc;

use imbl::OrdMap;
use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use crate::cell::Turn;
use crate::entity::{self, Entity, EntityKey};
use crate::ids::ClusterId;
use crate::limits;
use crate::names::{self, DEFAULT_CLUSTER};
use crate::read::{Page, ReadModel, bad_token, page};
use crate::tags;
use crate::unsupported::{filled, refuse};

type Clusters = OrdMap<Arc<str>, Arc<entity::Cluster>>;

/// CreateCluster. A cluster that is ACTIVE already is answered as it is.
pub(crate) fn create(turn: &mut Turn<'_>, request: &types::CreateClusterRequest) -> Result<Response, ApiError> {
    refuse(
        "CreateCluster",
        &[
            ("configuration", request.configuration.is_some()),
            ("capacityProviders", filled(&request.capacity_providers)),
            ("defaultCapacityProviderStrategy", filled(&request.default_capacity_provider_strategy)),
            ("serviceConnectDefaults", request.service_connect_defaults.is_some()),
        ],
    )?;
    check_settings(request.settings.as_deref())?;
    let name = match request.cluster_name.as_deref() {
        None | Some("") => DEFAULT_CLUSTER,
        Some(name) => check_name(name)?,
    };
    let tags = tags::check(request.tags.as_deref())?;
    let known = turn.tables.view().clusters.get(name).filter(|cluster| cluster.active).cloned();
    let cluster = match known {
        Some(cluster) => cluster,
        None => {
            if let Some(oldest) = crowded_out(&turn.tables.view().clusters, name, limits::CLUSTERS)? {
                turn.tables.remove(&oldest);
            }
            let id = ClusterId(turn.next_sequence());
            let cluster = Arc::new(entity::Cluster { id, name: name.into(), active: true, tags });
            turn.tables.put(Entity::Cluster(cluster.clone()));
            cluster
        }
    };
    let include = Include { settings: true, tags: true, statistics: false };
    let cluster = Some(document(turn.tables.view(), &cluster, include));
    Ok(Response::CreateCluster(Box::new(types::CreateClusterResponse { cluster })))
}

/// The INACTIVE cluster, created before all others of them, that must go so that `name` is one of at most `most`.
fn crowded_out(clusters: &Clusters, name: &str, most: usize) -> Result<Option<EntityKey>, ApiError> {
    if clusters.len() < most || clusters.contains_key(name) {
        return Ok(None);
    }
    let inactive = clusters.values().filter(|cluster| !cluster.active);
    match inactive.min_by_key(|cluster| cluster.id) {
        Some(oldest) => Ok(Some(EntityKey::Cluster(oldest.name.clone()))),
        None => Err(ApiError::client(format!("The number of clusters has reached its limit of {most}."))),
    }
}

/// DeleteCluster: refused while anything lives in it; the cluster stays describable as INACTIVE.
pub(crate) fn delete(turn: &mut Turn<'_>, request: &types::DeleteClusterRequest) -> Result<Response, ApiError> {
    if request.cluster.is_empty() {
        return Err(ApiError::invalid_parameter("Cluster can not be blank: name the cluster to delete."));
    }
    let view = turn.tables.view();
    let cluster = view.cluster(Some(&request.cluster))?.clone();
    if turn.tables.pool().count(cluster.id) > 0 {
        return Err(ApiError::new(
            error::CLUSTER_CONTAINS_CONTAINER_INSTANCES_EXCEPTION,
            "The Cluster cannot be deleted while Container Instances are active or draining.",
        ));
    }
    let counters = view.counters.get(&cluster.id).copied().unwrap_or_default();
    if counters.pending + counters.running > 0 {
        return Err(ApiError::new(
            error::CLUSTER_CONTAINS_TASKS_EXCEPTION,
            "The Cluster cannot be deleted while Tasks are active.",
        ));
    }
    let deleted = Arc::new(entity::Cluster { active: false, ..entity::Cluster::clone(&cluster) });
    turn.tables.put(Entity::Cluster(deleted.clone()));
    let include = Include { settings: true, tags: true, statistics: false };
    let cluster = Some(document(turn.tables.view(), &deleted, include));
    Ok(Response::DeleteCluster(Box::new(types::DeleteClusterResponse { cluster })))
}

/// DescribeClusters.
pub(crate) fn describe(view: &ReadModel, request: &types::DescribeClustersRequest) -> Result<Response, ApiError> {
    let default = [DEFAULT_CLUSTER.to_owned()];
    let given = match request.clusters.as_deref() {
        None | Some([]) => &default,
        Some(given) => given,
    };
    if given.len() > limits::DESCRIBE {
        return Err(ApiError::invalid_parameter(format!("Clusters can have at most {} items.", limits::DESCRIBE)));
    }
    let include = request.include.as_deref().unwrap_or_default();
    let include = Include {
        settings: include.contains(&types::ClusterField::Settings),
        tags: include.contains(&types::ClusterField::Tags),
        statistics: include.contains(&types::ClusterField::Statistics),
    };
    let mut clusters = Vec::new();
    let mut failures = Vec::new();
    for given in given {
        match names::cluster(&view.config, Some(given))?.and_then(|name| view.clusters.get(&*name)) {
            Some(cluster) => clusters.push(document(view, cluster, include)),
            None => {
                let arn = match given.starts_with("arn:") {
                    true => given.clone(),
                    false => view.config.cluster_arn(given),
                };
                failures.push(missing(arn));
            }
        }
    }
    let response = types::DescribeClustersResponse { clusters: Some(clusters), failures: Some(failures) };
    Ok(Response::DescribeClusters(Box::new(response)))
}

/// ListClusters: the ACTIVE ones, in the order of their names.
pub(crate) fn list(view: &ReadModel, request: &types::ListClustersRequest) -> Result<Response, ApiError> {
    let after = request.next_token.as_deref();
    if after.is_some_and(|name| check_name(name).is_err()) {
        return Err(bad_token());
    }
    let behind =
        view.clusters.iter().filter(|(name, cluster)| cluster.active && after.is_none_or(|after| &***name > after));
    let Page { items, next } = page(behind, request.max_results, |(name, _)| name.to_string());
    let response = types::ListClustersResponse {
        cluster_arns: Some(items.into_iter().map(|(name, _)| view.config.cluster_arn(name)).collect()),
        next_token: next,
    };
    Ok(Response::ListClusters(Box::new(response)))
}

/// The failure of a Describe for something unknown.
pub(crate) fn missing(arn: String) -> types::Failure {
    types::Failure { arn: Some(arn), reason: Some("MISSING".to_owned()), detail: None }
}

#[derive(Clone, Copy)]
struct Include {
    settings: bool,
    tags: bool,
    statistics: bool,
}

fn document(view: &ReadModel, cluster: &entity::Cluster, include: Include) -> types::Cluster {
    let counters = view.counters.get(&cluster.id).copied().unwrap_or_default();
    let count = |count: usize| Some(i32::try_from(count).unwrap_or(i32::MAX));
    types::Cluster {
        cluster_arn: Some(view.config.cluster_arn(&cluster.name)),
        cluster_name: Some(cluster.name.to_string()),
        status: Some(if cluster.active { "ACTIVE" } else { "INACTIVE" }.to_owned()),
        registered_container_instances_count: count(counters.instances),
        running_tasks_count: count(counters.running),
        pending_tasks_count: count(counters.pending),
        active_services_count: Some(0),
        statistics: Some(if include.statistics { statistics(view, cluster) } else { Vec::new() }),
        tags: Some(if include.tags { cluster.tags.clone() } else { Vec::new() }),
        settings: Some(if include.settings { settings() } else { Vec::new() }),
        capacity_providers: Some(Vec::new()),
        default_capacity_provider_strategy: Some(Vec::new()),
        ..types::Cluster::default()
    }
}

/// The counts that ECS documents for STATISTICS, by launch type. There are no services and no FARGATE tasks yet.
fn statistics(view: &ReadModel, cluster: &entity::Cluster) -> Vec<types::KeyValuePair> {
    let counters = view.counters.get(&cluster.id).copied().unwrap_or_default();
    let tasks = [
        ("runningEC2TasksCount", counters.running - counters.external_running),
        ("pendingEC2TasksCount", counters.pending - counters.external_pending),
        ("runningExternalTasksCount", counters.external_running),
        ("pendingExternalTasksCount", counters.external_pending),
    ];
    let none = [
        "runningFargateTasksCount",
        "pendingFargateTasksCount",
        "activeEC2ServiceCount",
        "activeFargateServiceCount",
        "activeExternalServiceCount",
        "drainingEC2ServiceCount",
        "drainingFargateServiceCount",
        "drainingExternalServiceCount",
    ];
    tasks
        .into_iter()
        .chain(none.map(|name| (name, 0)))
        .map(|(name, value)| types::KeyValuePair { name: Some(name.to_owned()), value: Some(value.to_string()) })
        .collect()
}

/// Container Insights is the only setting ECS knows, and is off.
fn settings() -> Vec<types::ClusterSetting> {
    vec![types::ClusterSetting {
        name: Some(types::ClusterSettingName::ContainerInsights),
        value: Some("disabled".to_owned()),
    }]
}

fn check_settings(settings: Option<&[types::ClusterSetting]>) -> Result<(), ApiError> {
    for setting in settings.unwrap_or_default() {
        match setting.value.as_deref() {
            Some("disabled") => {}
            Some("enabled" | "enhanced") => {
                refuse("CreateCluster", &[("settings: containerInsights other than disabled", true)])?;
            }
            other => {
                return Err(ApiError::invalid_parameter(format!(
                    "Invalid cluster setting: containerInsights cannot be {other:?}."
                )));
            }
        }
    }
    Ok(())
}

/// Up to 255 letters, digits, hyphens and underscores, as ECS documents.
fn check_name(name: &str) -> Result<&str, ApiError> {
    let good = name.len() <= 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    match good && !name.is_empty() {
        true => Ok(name),
        false => Err(ApiError::invalid_parameter(format!(
            "Invalid cluster name '{name}': 1 to 255 letters, numbers, hyphens, and underscores are allowed."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::ecs::Operation::{
        CreateCluster, DeleteCluster, DescribeClusters, RegisterTaskDefinition, RunTask,
    };
    use serde_json::json;

    use super::*;
    use crate::fixture::{Lab, definition, offer};

    #[test]
    fn inactive_clusters_make_room_for_new_ones_and_active_ones_do_not() {
        let mut lab = Lab::new();
        for name in ["first", "second"] {
            lab.ok(0, CreateCluster, &json!({"clusterName": name}));
            lab.ok(0, DeleteCluster, &json!({"cluster": name}));
        }
        let clusters = lab.cell.snapshot().clusters;
        assert_eq!(crowded_out(&clusters, "third", 4), Ok(None));
        assert_eq!(crowded_out(&clusters, "third", 3), Ok(Some(EntityKey::Cluster("first".into()))));
        assert_eq!(crowded_out(&clusters, "second", 3), Ok(None), "a name that is known takes no more room");
        let active: Clusters = clusters.into_iter().filter(|(_, cluster)| cluster.active).collect();
        assert!(crowded_out(&active, "third", 1).is_err());
    }
    #[test]
    fn statistics_tell_launch_types_apart() {
        let mut lab = Lab::new();
        let mut external = offer("host", 1_000, 1_000);
        external["attributes"] = json!([{"name": "ecs.capability.external"}]);
        let arn = lab.register(1, &external);
        lab.connect(1, &arn);
        lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
        let task = lab.run("web");
        lab.report(1, &task, "RUNNING");
        lab.ok(0, RunTask, &json!({"taskDefinition": "web", "launchType": "EXTERNAL", "count": 2}));
        let described = lab.ok(0, DescribeClusters, &json!({"include": ["STATISTICS"]}));
        let statistics = described["clusters"][0]["statistics"].as_array().expect("statistics");
        let counted: Vec<_> = statistics.iter().filter(|pair| pair["value"] != "0").collect();
        let pair = |name: &str, value: &str| json!({"name": name, "value": value});
        assert_eq!(counted, [&pair("runningEC2TasksCount", "1"), &pair("pendingExternalTasksCount", "2")]);
    }
}
