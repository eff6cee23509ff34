//! Capacity provider strategies: which provider each copy of a task goes to.
//!
//! The base goes first, as many copies as it says. What is left is shared by weight: each provider gets its exact
//! share, rounded down, and the copies that are left over then go to those whose shares were cut the most, the first of
//! the strategy among equals. So no provider is ever a whole copy away from its share; ECS documents the proportions
//! and not the rounding.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::types::CapacityProviderStrategyItem;

use super::Reserved;
use crate::entity::Cluster;
use crate::limits;
use crate::read::ReadModel;

/// A strategy that can be used: it has providers of one kind, at most one base, and a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strategy {
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    provider: Arc<str>,
    base: usize,
    weight: usize,
}

impl Strategy {
    /// The strategy of a call, or else the default of its cluster; `None` when neither says anything.
    ///
    /// # Errors
    /// `InvalidParameterException` for what cannot be used.
    pub(crate) fn of_call(
        view: &ReadModel,
        cluster: &Cluster,
        given: &[CapacityProviderStrategyItem],
    ) -> Result<Option<Self>, ApiError> {
        match (given, cluster.default_strategy.as_slice()) {
            ([], []) => Ok(None),
            ([], default) => Self::read(view, default, "in the default capacity provider strategy").map(Some),
            (given, _) => {
                check(given, &cluster.capacity_providers)?;
                Self::read(view, given, "in the capacity provider strategy").map(Some)
            }
        }
    }

    fn read(view: &ReadModel, items: &[CapacityProviderStrategyItem], which: &str) -> Result<Self, ApiError> {
        if items.iter().all(|item| item.weight.unwrap_or(0) == 0) {
            return Err(ApiError::invalid_parameter(format!(
                "There are no capacity providers with a weight value greater than zero defined {which}. At least one \
                 capacity provider must have a weight value greater than zero specified. Update the cluster's default \
                 capacity provider strategy or specify a valid capacity provider strategy and try again."
            )));
        }
        for item in items {
            let name = item.capacity_provider.as_str();
            let known = view.providers.get(name).is_some_and(|provider| provider.is_active());
            if Reserved::of(name).is_none() && !known {
                return Err(not_found(name));
            }
        }
        let number = |number: Option<i32>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
        let item = |item: &CapacityProviderStrategyItem| Item {
            provider: item.capacity_provider.as_str().into(),
            base: number(item.base),
            weight: number(item.weight),
        };
        Ok(Self { items: items.iter().map(item).collect() })
    }

    /// Whether its tasks are of the launch type FARGATE.
    pub(crate) fn is_fargate(&self) -> bool {
        self.items.iter().any(|item| Reserved::of(&item.provider).is_some())
    }

    /// How many of `count` copies go to which provider; those that get none are left out. In the order of the strategy.
    pub(crate) fn distribute(&self, count: usize) -> Vec<(Arc<str>, usize)> {
        let mut left = count;
        let mut shares: Vec<usize> = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let based = item.base.min(left);
            left -= based;
            shares.push(based);
        }
        let weights: usize = self.items.iter().map(|item| item.weight).sum();
        let mut cut = Vec::with_capacity(self.items.len());
        let mut over = left;
        for (at, item) in self.items.iter().enumerate() {
            let parts = left * item.weight;
            shares[at] += parts.checked_div(weights).unwrap_or(0);
            over -= parts.checked_div(weights).unwrap_or(0);
            cut.push((parts.checked_rem(weights).unwrap_or(0), at));
        }
        cut.sort_by_key(|&(rest, at)| (std::cmp::Reverse(rest), at));
        for &(_, at) in cut.iter().take(over) {
            shares[at] += 1;
        }
        let given = self.items.iter().zip(shares).filter(|(_, share)| *share > 0);
        given.map(|(item, share)| (item.provider.clone(), share)).collect()
    }
}

fn not_found(name: &str) -> ApiError {
    ApiError::invalid_parameter(format!(
        "The specified capacity provider was not found. Specify a valid capacity provider and try again: there is no \
         '{name}'."
    ))
}

/// Checks the names that a cluster is to be associated with.
///
/// # Errors
/// `InvalidParameterException` for too many, an unknown one, or one given twice.
pub(crate) fn check_providers(view: &ReadModel, given: &[String]) -> Result<Vec<Arc<str>>, ApiError> {
    if given.len() > limits::CAPACITY_PROVIDERS {
        let message = format!(
            "The maximum number of capacity providers per cluster has been exceeded: it is {}.",
            limits::CAPACITY_PROVIDERS
        );
        return Err(ApiError::invalid_parameter(message));
    }
    for (index, name) in given.iter().enumerate() {
        let known = view.providers.get(name.as_str()).is_some_and(|provider| provider.is_active());
        if Reserved::of(name).is_none() && !known {
            return Err(not_found(name));
        }
        if given[..index].contains(name) {
            return Err(ApiError::invalid_parameter(format!("The capacity provider {name} is given twice.")));
        }
    }
    Ok(given.iter().map(|name| name.as_str().into()).collect())
}

/// Checks a default strategy against the providers of its cluster, and fills in base and weight. A strategy whose
/// weights are all zero can be had: it is what uses it that fails.
///
/// # Errors
/// See [`check`].
pub(crate) fn check_default(
    given: &[CapacityProviderStrategyItem],
    providers: &[Arc<str>],
) -> Result<Vec<CapacityProviderStrategyItem>, ApiError> {
    check(given, providers)?;
    let filled_in = |item: &CapacityProviderStrategyItem| CapacityProviderStrategyItem {
        capacity_provider: item.capacity_provider.clone(),
        base: Some(item.base.unwrap_or(0)),
        weight: Some(item.weight.unwrap_or(0)),
    };
    Ok(given.iter().map(filled_in).collect())
}

/// What has to hold of any strategy in a cluster.
///
/// # Errors `InvalidParameterException` for too many items, a provider of elsewhere or given twice, providers of two
/// kinds, and for a second base.
fn check(given: &[CapacityProviderStrategyItem], providers: &[Arc<str>]) -> Result<(), ApiError> {
    let refuse = |message: String| Err(ApiError::invalid_parameter(message));
    if given.len() > limits::CAPACITY_PROVIDERS {
        let most = limits::CAPACITY_PROVIDERS;
        return refuse(format!("A capacity provider strategy can have at most {most} capacity providers."));
    }
    for (index, item) in given.iter().enumerate() {
        let name = item.capacity_provider.as_str();
        if !providers.iter().any(|provider| **provider == *name) {
            return refuse(format!(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated \
                 with the cluster. Associate the capacity provider with the cluster and try again: '{name}' is not."
            ));
        }
        if given[..index].iter().any(|earlier| earlier.capacity_provider == name) {
            return refuse(format!("The capacity provider {name} is given twice in the strategy."));
        }
    }
    let fargate = given.iter().filter(|item| Reserved::of(&item.capacity_provider).is_some()).count();
    if fargate > 0 && fargate < given.len() {
        return refuse(
            "The specified capacity provider strategy cannot contain a mix of capacity providers using Auto Scaling \
             groups and Fargate providers. Specify one or the other and try again."
                .to_owned(),
        );
    }
    if given.iter().filter(|item| item.base.is_some_and(|base| base > 0)).count() > 1 {
        return refuse(
            "The specified capacity provider strategy contains multiple capacity providers with a base value defined. \
             Only one can have one."
                .to_owned(),
        );
    }
    Ok(())
}
