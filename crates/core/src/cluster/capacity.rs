//! The capacity providers of a cluster and its default strategy. They are kept and described; tasks are not placed by them
//! yet, and nothing is run as if they were not there.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::error::UNSUPPORTED_FEATURE_EXCEPTION;
use longshore_api::ecs::types::CapacityProviderStrategyItem;

use crate::entity::Cluster;
use crate::limits;

/// The capacity providers that every account has.
const KNOWN: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];

/// Checks the names that a cluster is to be associated with.
///
/// # Errors
/// `InvalidParameterException` for too many, an unknown one, or one given twice.
pub(super) fn check_providers(given: &[String]) -> Result<Vec<Arc<str>>, ApiError> {
    if given.len() > limits::CAPACITY_PROVIDERS {
        let message = format!(
            "The maximum number of capacity providers per cluster has been exceeded: it is {}.",
            limits::CAPACITY_PROVIDERS
        );
        return Err(ApiError::invalid_parameter(message));
    }
    for (index, name) in given.iter().enumerate() {
        if !KNOWN.contains(&name.as_str()) {
            return Err(ApiError::invalid_parameter(format!(
                "The specified capacity provider was not found. Specify a valid capacity provider and try again: \
                 '{name}' is none of {}.",
                KNOWN.join(", ")
            )));
        }
        if given[..index].contains(name) {
            return Err(ApiError::invalid_parameter(format!("The capacity provider {name} is given twice.")));
        }
    }
    Ok(given.iter().map(|name| name.as_str().into()).collect())
}

/// Checks a default strategy against the providers of its cluster, and fills in base and weight. A strategy whose weights are
/// all zero can be had: it is what uses it that fails.
///
/// # Errors
/// `InvalidParameterException` for too many items, a provider of elsewhere or given twice, and for a second base.
pub(super) fn check_strategy(
    given: &[CapacityProviderStrategyItem],
    providers: &[Arc<str>],
) -> Result<Vec<CapacityProviderStrategyItem>, ApiError> {
    let refuse = |message: String| Err(ApiError::invalid_parameter(message));
    if given.len() > limits::CAPACITY_PROVIDERS {
        let most = limits::CAPACITY_PROVIDERS;
        return refuse(format!("A capacity provider strategy can have at most {most} capacity providers."));
    }
    for (index, item) in given.iter().enumerate() {
        let name = item.capacity_provider.as_str();
        if !providers.iter().any(|provider| **provider == *name) {
            return refuse(format!(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the \
                 cluster. Associate the capacity provider with the cluster and try again: '{name}' is not."
            ));
        }
        if given[..index].iter().any(|earlier| earlier.capacity_provider == name) {
            return refuse(format!("The capacity provider {name} is given twice in the strategy."));
        }
    }
    if given.iter().filter(|item| item.base.is_some_and(|base| base > 0)).count() > 1 {
        return refuse(
            "The specified capacity provider strategy contains multiple capacity providers with a base value defined. \
             Only one can have one."
                .to_owned(),
        );
    }
    let filled_in = |item: &CapacityProviderStrategyItem| CapacityProviderStrategyItem {
        capacity_provider: item.capacity_provider.clone(),
        base: Some(item.base.unwrap_or(0)),
        weight: Some(item.weight.unwrap_or(0)),
    };
    Ok(given.iter().map(filled_in).collect())
}

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
