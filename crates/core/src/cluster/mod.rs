//! Clusters: CreateCluster, UpdateCluster, UpdateClusterSettings, PutClusterCapacityProviders, DescribeClusters, ListClusters
//! and DeleteCluster.
//!
//! What is kept of a cluster for operations that do not exist yet (its configuration for ExecuteCommand and for volumes) is checked
//! as ECS checks it, and described. Whoever makes such an operation finds it in
//! [`entity::Cluster`](crate::entity::Cluster).

mod configuration;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
pub(crate) mod update;

use longshore_api::ApiError;
use longshore_api::ecs::types;

use crate::unsupported::refuse;

pub(crate) use describe::missing;
pub use settings::ContainerInsights;

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

/// A cluster that must be named: ECS assumes no default where something is changed or deleted.
fn check_named(cluster: &str) -> Result<(), ApiError> {
    match cluster.is_empty() {
        false => Ok(()),
        true => Err(ApiError::invalid_parameter("Cluster can not be blank: name the cluster.")),
    }
}

/// There is no Cloud Map: no namespace can be found or made. An empty one takes the default away, and there is none.
fn refuse_namespace(
    operation: &str,
    defaults: Option<&types::ClusterServiceConnectDefaultsRequest>,
) -> Result<(), ApiError> {
    let named = defaults.is_some_and(|defaults| !defaults.namespace.is_empty());
    refuse(operation, &[("serviceConnectDefaults", named)])
}
