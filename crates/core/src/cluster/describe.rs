//! DescribeClusters and ListClusters, and the document that every operation on clusters answers with.

use longshore_api::ApiError;
use longshore_api::ecs::{Response, types};

use super::{check_name, settings};
use crate::entity::Cluster;
use crate::limits;
use crate::names::{self, DEFAULT_CLUSTER};
use crate::read::{Page, ReadModel, bad_token, page};

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
    let include = Include::of(request.include.as_deref().unwrap_or_default());
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

/// Which members a document has that ECS leaves empty or out unless they are asked for.
#[derive(Clone, Copy, Default)]
pub(super) struct Include {
    settings: bool,
    tags: bool,
    statistics: bool,
    configuration: bool,
    attachments: bool,
}

impl Include {
    /// What the answer to a change shows: what could have been changed.
    pub(super) const CHANGED: Self =
        Self { settings: true, tags: false, statistics: false, configuration: true, attachments: true };
    /// What CreateCluster shows.
    pub(super) const CREATED: Self = Self { tags: true, ..Self::CHANGED };

    fn of(fields: &[types::ClusterField]) -> Self {
        let mut include = Self::default();
        for field in fields {
            match field {
                types::ClusterField::Attachments => include.attachments = true,
                types::ClusterField::Configurations => include.configuration = true,
                types::ClusterField::Settings => include.settings = true,
                types::ClusterField::Statistics => include.statistics = true,
                types::ClusterField::Tags => include.tags = true,
            }
        }
        include
    }
}

pub(super) fn document(view: &ReadModel, cluster: &Cluster, include: Include) -> types::Cluster {
    let counters = view.counters.get(&cluster.id).copied().unwrap_or_default();
    let count = |count: usize| Some(i32::try_from(count).unwrap_or(i32::MAX));
    let has_providers = !cluster.capacity_providers.is_empty();
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
        settings: Some(if include.settings { settings::document(cluster.container_insights) } else { Vec::new() }),
        configuration: cluster.configuration.clone().filter(|_| include.configuration),
        capacity_providers: Some(cluster.capacity_providers.iter().map(|name| name.to_string()).collect()),
        default_capacity_provider_strategy: Some(cluster.default_strategy.clone()),
        // The providers of the account need nothing that would be attached to a cluster, so nothing is ever under way.
        attachments: include.attachments.then(Vec::new),
        attachments_status: (include.attachments && has_providers).then(|| "UPDATE_COMPLETE".to_owned()),
        ..types::Cluster::default()
    }
}

/// The counts that ECS documents for STATISTICS, by launch type. There are no services yet.
fn statistics(view: &ReadModel, cluster: &Cluster) -> Vec<types::KeyValuePair> {
    let counters = view.counters.get(&cluster.id).copied().unwrap_or_default();
    let tasks = [
        ("runningEC2TasksCount", counters.running - counters.external_running - counters.fargate_running),
        ("pendingEC2TasksCount", counters.pending - counters.external_pending - counters.fargate_pending),
        ("runningFargateTasksCount", counters.fargate_running),
        ("pendingFargateTasksCount", counters.fargate_pending),
        ("runningExternalTasksCount", counters.external_running),
        ("pendingExternalTasksCount", counters.external_pending),
    ];
    let none = [
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
