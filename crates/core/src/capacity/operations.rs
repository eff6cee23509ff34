//! CreateCapacityProvider, UpdateCapacityProvider and DeleteCapacityProvider.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use super::describe::{Include, document};
use super::provider::group_name;
use super::{CapacityProvider, ManagedScaling, ProviderState, Reserved};
use crate::cell::Turn;
use crate::entity::{Entity, EntityKey};
use crate::limits;
use crate::names;
use crate::read::ReadModel;
use crate::tags;
use crate::unsupported::refuse;

/// CreateCapacityProvider. The name of one that was deleted may be used again.
pub(crate) fn create(
    turn: &mut Turn<'_>,
    request: &types::CreateCapacityProviderRequest,
) -> Result<Response, ApiError> {
    check_name(&request.name)?;
    let tags = tags::check(request.tags.as_deref())?;
    refuse(
        "CreateCapacityProvider",
        &[
            ("managedInstancesProvider", request.managed_instances_provider.is_some()),
            // Only providers of managed instances belong to one cluster.
            ("cluster", request.cluster.as_ref().is_some_and(|cluster| !cluster.is_empty())),
        ],
    )?;
    let Some(given) = &request.auto_scaling_group_provider else {
        return Err(ApiError::invalid_parameter("A capacity provider needs an autoScalingGroupProvider."));
    };
    let name: Arc<str> = request.name.as_str().into();
    let provider = CapacityProvider {
        name: name.clone(),
        group: check_group(&given.auto_scaling_group_arn)?.into(),
        scaling: given
            .managed_scaling
            .as_ref()
            .map_or(Ok(ManagedScaling::default()), |given| ManagedScaling::default().with(given))?,
        termination_protection: given.managed_termination_protection
            == Some(types::ManagedTerminationProtection::Enabled),
        draining: given.managed_draining != Some(types::ManagedDraining::Disabled),
        state: ProviderState::Created,
        tags,
    };
    let view = turn.tables.view();
    if view.providers.get(&name).is_some_and(|known| known.is_active()) {
        return Err(ApiError::client(
            "The specified capacity provider already exists. To change the configuration of an existing capacity \
             provider, update the capacity provider.",
        ));
    }
    let mut others = view.providers.values().filter(|other| other.is_active());
    if others.any(|other| other.group_name() == provider.group_name()) {
        return Err(ApiError::client(
            "The specified Auto Scaling group ARN is already being used by another capacity provider. Specify a \
             unique Auto Scaling group ARN and try again.",
        ));
    }
    check(turn, &provider)?;
    let crowded_out = make_room(view, &name)?;
    crowded_out.into_iter().for_each(|key| turn.tables.remove(&key));
    let capacity_provider = Some(put(turn, provider));
    Ok(types::CreateCapacityProviderResponse { capacity_provider }.into())
}

/// UpdateCapacityProvider: what is given takes the place of what was.
pub(crate) fn update(
    turn: &mut Turn<'_>,
    request: &types::UpdateCapacityProviderRequest,
) -> Result<Response, ApiError> {
    refuse(
        "UpdateCapacityProvider",
        &[
            ("managedInstancesProvider", request.managed_instances_provider.is_some()),
            ("cluster", request.cluster.as_ref().is_some_and(|cluster| !cluster.is_empty())),
        ],
    )?;
    let mut provider = CapacityProvider::clone(&*find(turn, &request.name)?);
    let Some(given) = &request.auto_scaling_group_provider else {
        return Err(ApiError::invalid_parameter("There is nothing to update: give an autoScalingGroupProvider."));
    };
    if let Some(given) = &given.managed_scaling {
        let enabled = given.status.is_none() && !provider.scaling.enabled;
        provider.scaling = provider.scaling.with(given)?;
        // Here, who does not say whether leaves it as it is.
        provider.scaling.enabled &= !enabled;
    }
    if let Some(given) = given.managed_termination_protection {
        provider.termination_protection = given == types::ManagedTerminationProtection::Enabled;
    }
    if let Some(given) = given.managed_draining {
        provider.draining = given == types::ManagedDraining::Enabled;
    }
    check(turn, &provider)?;
    provider.state = ProviderState::Updated;
    let capacity_provider = Some(put(turn, provider));
    Ok(types::UpdateCapacityProviderResponse { capacity_provider }.into())
}

/// DeleteCapacityProvider. One that a cluster has stays, and says so: as in ECS that is no refusal, but the state
/// DELETE_FAILED.
pub(crate) fn delete(
    turn: &mut Turn<'_>,
    request: &types::DeleteCapacityProviderRequest,
) -> Result<Response, ApiError> {
    let given = request.cluster.as_ref().is_some_and(|cluster| !cluster.is_empty());
    refuse("DeleteCapacityProvider", &[("cluster", given)])?;
    let mut provider = CapacityProvider::clone(&*find(turn, &request.capacity_provider)?);
    let view = turn.tables.view();
    let mut clusters = view.clusters.values().filter(|cluster| cluster.active);
    provider.state = match clusters.find(|cluster| cluster.capacity_providers.contains(&provider.name)) {
        None => ProviderState::Deleted,
        Some(cluster) => ProviderState::DeleteFailed {
            reason: format!(
                "The capacity provider cannot be deleted because it is associated with cluster: {}. Remove the \
                 capacity provider from the cluster and try again.",
                cluster.name
            )
            .into(),
        },
    };
    let capacity_provider = Some(put(turn, provider));
    Ok(types::DeleteCapacityProviderResponse { capacity_provider }.into())
}

fn put(turn: &mut Turn<'_>, provider: CapacityProvider) -> types::CapacityProvider {
    let provider = Arc::new(provider);
    turn.tables.put(Entity::CapacityProvider(provider.clone()));
    document(turn.tables.view(), &provider, Include { tags: true })
}

/// The ACTIVE provider of one's own that a request means.
fn find(turn: &Turn<'_>, given: &str) -> Result<Arc<CapacityProvider>, ApiError> {
    let name = names::capacity_provider(turn.config, given)?;
    if let Some(reserved) = name.as_deref().and_then(Reserved::of) {
        return Err(ApiError::client(format!(
            "The specified capacity provider is reserved and cannot be changed or deleted: {} belongs to every \
             account.",
            reserved.name()
        )));
    }
    let known = name.and_then(|name| turn.tables.view().providers.get(&*name));
    known.filter(|known| known.is_active()).cloned().ok_or_else(|| {
        ApiError::client("The specified capacity provider does not exist. Specify a valid name or ARN and try again.")
    })
}

/// Up to 255 letters, digits, hyphens and underscores, and none of the reserved beginnings, as ECS documents.
fn check_name(name: &str) -> Result<(), ApiError> {
    let good = (1..=limits::CAPACITY_PROVIDER_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !good {
        return Err(ApiError::invalid_parameter(format!(
            "The specified capacity provider name is invalid: '{name}'. Up to {} letters, numbers, underscores and \
             hyphens are allowed.",
            limits::CAPACITY_PROVIDER_NAME
        )));
    }
    let begins = |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    match ["aws", "ecs", "fargate"].iter().find(|prefix| begins(prefix)) {
        None => Ok(()),
        Some(prefix) => Err(ApiError::invalid_parameter(format!(
            "The specified capacity provider name is invalid: '{name}' begins with '{prefix}', which is reserved."
        ))),
    }
}

/// The name or ARN of a group of machines.
fn check_group(given: &str) -> Result<&str, ApiError> {
    let name = group_name(given);
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '=');
    match !name.is_empty() && given.len() <= limits::GROUP_ARN && name.chars().all(good) {
        true => Ok(given),
        false => Err(ApiError::invalid_parameter(format!(
            "The specified Auto Scaling group ARN is invalid: '{given}'. Name a launcher of the server (longshore \
             server --launcher NAME=...), or an ARN that ends in autoScalingGroupName/NAME."
        ))),
    }
}

/// What has to hold of a provider, whichever way it became so.
fn check(turn: &Turn<'_>, provider: &CapacityProvider) -> Result<(), ApiError> {
    if provider.termination_protection && !provider.scaling.enabled {
        return Err(ApiError::invalid_parameter(
            "The managed termination protection setting for the capacity provider is invalid. To enable managed \
             termination protection for a capacity provider, managed scaling must be enabled.",
        ));
    }
    let launchers = &turn.config.scaling.launchers;
    if provider.scaling.enabled && !launchers.contains_key(provider.group_name()) {
        let known: Vec<&str> = launchers.keys().map(|name| &**name).collect();
        let known = match known.is_empty() {
            true => "none".to_owned(),
            false => known.join(", "),
        };
        return Err(ApiError::invalid_parameter(format!(
            "Managed scaling needs a launcher, and the server has none named '{}'. It has: {known}. Start it with \
             --launcher {}=/path/to/executable, or disable managed scaling.",
            provider.group_name(),
            provider.group_name(),
        )));
    }
    Ok(())
}

/// What has to go so that `name` is one of at most [`limits::ALL_CAPACITY_PROVIDERS`]: one that was deleted.
fn make_room(view: &ReadModel, name: &str) -> Result<Option<EntityKey>, ApiError> {
    if view.providers.len() < limits::ALL_CAPACITY_PROVIDERS || view.providers.contains_key(name) {
        return Ok(None);
    }
    match view.providers.values().find(|provider| !provider.is_active()) {
        Some(deleted) => Ok(Some(EntityKey::CapacityProvider(deleted.name.clone()))),
        None => Err(ApiError::new(
            error::LIMIT_EXCEEDED_EXCEPTION,
            format!("The number of capacity providers has reached its limit of {}.", limits::ALL_CAPACITY_PROVIDERS),
        )),
    }
}
