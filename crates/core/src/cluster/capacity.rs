//! What the default strategy of a cluster stands in the way of.

use longshore_api::ApiError;
use longshore_api::ecs::error::UNSUPPORTED_FEATURE_EXCEPTION;

use crate::entity::Cluster;

/// Refuses what would run by the default strategy of its cluster: whoever names neither a launch type nor a strategy asks
/// for that.
///
/// # Errors
/// `InvalidParameterException` where ECS has it; else `UnsupportedFeatureException` with the ways out.
pub(crate) fn refuse_default_strategy(operation: &str, cluster: &Cluster) -> Result<(), ApiError> {
    let strategy = &cluster.default_strategy;
    if strategy.is_empty() {
        return Ok(());
    }
    if strategy.iter().all(|item| item.weight.unwrap_or(0) == 0) {
        return Err(ApiError::invalid_parameter(
            "There are no capacity providers with a weight value greater than zero defined in the default capacity provider \
             strategy. At least one capacity provider must have a weight value greater than zero specified. Update the cluster's \
             default capacity provider strategy or specify a valid capacity provider strategy and try again.",
        ));
    }
    let names: Vec<&str> = strategy.iter().map(|item| item.capacity_provider.as_str()).collect();
    Err(ApiError::new(
        UNSUPPORTED_FEATURE_EXCEPTION,
        format!(
            "{operation}: the cluster {} has the default capacity provider strategy [{}], and Longshore does not run tasks by \
             capacity providers yet. Name a launchType, or take the strategy away with PutClusterCapacityProviders.",
            cluster.name,
            names.join(", ")
        ),
    ))
}
