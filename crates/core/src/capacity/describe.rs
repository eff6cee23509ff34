//! DescribeCapacityProviders, and the document that every operation on them answers with.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, types};

use super::{CapacityProvider, ProviderState, Reserved, Trouble};
use crate::cluster::missing;
use crate::limits;
use crate::names;
use crate::read::{Page, ReadModel, page_of};

/// A provider that can be described.
enum Described<'a> {
    Reserved(Reserved),
    Own(&'a Arc<CapacityProvider>),
}

impl Described<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Reserved(reserved) => reserved.name(),
            Self::Own(provider) => &provider.name,
        }
    }

    fn document(&self, view: &ReadModel, include: Include) -> types::CapacityProvider {
        match self {
            Self::Reserved(reserved) => reserved_document(view, *reserved),
            Self::Own(provider) => document(view, provider, include),
        }
    }
}

/// DescribeCapacityProviders: those that are named, or all that are ACTIVE; in either case those of a cluster if one is
/// given.
pub(crate) fn describe(
    view: &ReadModel,
    request: &types::DescribeCapacityProvidersRequest,
) -> Result<Response, ApiError> {
    let given = request.capacity_providers.as_deref().unwrap_or_default();
    if given.len() > limits::DESCRIBE {
        let most = limits::DESCRIBE;
        return Err(ApiError::invalid_parameter(format!("Capacity providers can have at most {most} items.")));
    }
    let cluster = request.cluster.as_deref().filter(|cluster| !cluster.is_empty());
    let cluster = cluster.map(|cluster| view.cluster(Some(cluster))).transpose()?;
    let meant = |name: &str| cluster.is_none_or(|cluster| cluster.capacity_providers.iter().any(|own| **own == *name));
    let include = request.include.as_deref().unwrap_or_default();
    let include = Include { tags: include.contains(&types::CapacityProviderField::Tags) };
    let mut failures = Vec::new();
    let mut found = Vec::new();
    match given.is_empty() {
        true => {
            found.extend(Reserved::ALL.into_iter().map(Described::Reserved));
            found.extend(view.providers.values().filter(|provider| provider.is_active()).map(Described::Own));
            found.retain(|described| meant(described.name()));
        }
        false => {
            for given in given {
                match named(view, given)?.filter(|described| meant(described.name())) {
                    Some(described) => found.push(described),
                    None => failures.push(missing(match given.starts_with("arn:") {
                        true => given.clone(),
                        false => view.config.capacity_provider_arn(given),
                    })),
                }
            }
        }
    }
    found.sort_by(|one, other| one.name().cmp(other.name()));
    found.dedup_by(|one, other| one.name() == other.name());
    let after = request.next_token.as_deref();
    let behind = found.into_iter().filter(|described| after.is_none_or(|after| described.name() > after));
    let Page { items, next } =
        page_of(behind, request.max_results, limits::CAPACITY_PROVIDERS_PAGE, |described| described.name().to_owned());
    // What is missing is told once.
    let failures = if after.is_none() { failures } else { Vec::new() };
    let capacity_providers = Some(items.iter().map(|described| described.document(view, include)).collect());
    let response =
        types::DescribeCapacityProvidersResponse { capacity_providers, failures: Some(failures), next_token: next };
    Ok(response.into())
}

fn named<'a>(view: &'a ReadModel, given: &str) -> Result<Option<Described<'a>>, ApiError> {
    let Some(name) = names::capacity_provider(&view.config, given)? else { return Ok(None) };
    let own = || view.providers.get(&*name).map(Described::Own);
    Ok(Reserved::of(&name).map(Described::Reserved).or_else(own))
}

/// What an answer shows beyond what it always does.
#[derive(Clone, Copy)]
pub(super) struct Include {
    pub(super) tags: bool,
}

fn reserved_document(view: &ReadModel, reserved: Reserved) -> types::CapacityProvider {
    types::CapacityProvider {
        capacity_provider_arn: Some(view.config.capacity_provider_arn(reserved.name())),
        name: Some(reserved.name().to_owned()),
        status: Some(types::CapacityProviderStatus::Active),
        r#type: Some(match reserved {
            Reserved::Fargate => types::CapacityProviderType::Fargate,
            Reserved::FargateSpot => types::CapacityProviderType::FargateSpot,
        }),
        tags: Some(Vec::new()),
        ..types::CapacityProvider::default()
    }
}

pub(super) fn document(view: &ReadModel, provider: &CapacityProvider, include: Include) -> types::CapacityProvider {
    use types::CapacityProviderUpdateStatus as Update;
    let update_status = match &provider.state {
        ProviderState::Created => Update::CreateComplete,
        ProviderState::Updated => Update::UpdateComplete,
        ProviderState::DeleteFailed { .. } => Update::DeleteFailed,
        ProviderState::Deleted => Update::DeleteComplete,
    };
    types::CapacityProvider {
        capacity_provider_arn: Some(view.config.capacity_provider_arn(&provider.name)),
        name: Some(provider.name.to_string()),
        status: Some(match provider.is_active() {
            true => types::CapacityProviderStatus::Active,
            false => types::CapacityProviderStatus::Inactive,
        }),
        auto_scaling_group_provider: Some(types::AutoScalingGroupProvider {
            auto_scaling_group_arn: provider.group.to_string(),
            managed_scaling: Some(provider.scaling.document()),
            managed_termination_protection: Some(match provider.termination_protection {
                true => types::ManagedTerminationProtection::Enabled,
                false => types::ManagedTerminationProtection::Disabled,
            }),
            managed_draining: Some(match provider.draining {
                true => types::ManagedDraining::Enabled,
                false => types::ManagedDraining::Disabled,
            }),
        }),
        r#type: Some(types::CapacityProviderType::Ec2Autoscaling),
        update_status: Some(update_status),
        update_status_reason: reason(view, provider),
        tags: Some(if include.tags { provider.tags.clone() } else { Vec::new() }),
        ..types::CapacityProvider::default()
    }
}

/// Why an update failed; or else what is wrong with the launcher, for which ECS has no better place.
fn reason(view: &ReadModel, provider: &CapacityProvider) -> Option<String> {
    let launcher = provider.group_name();
    match &provider.state {
        ProviderState::DeleteFailed { reason } => Some(reason.to_string()),
        ProviderState::Deleted => None,
        ProviderState::Created | ProviderState::Updated => match view.launcher_trouble(&provider.name) {
            Some(trouble) => {
                let Trouble { failures, reason, .. } = trouble;
                Some(format!("The launcher {launcher} failed {failures} times in a row: {reason}"))
            }
            None if provider.scaling.enabled && !view.config.scaling.launchers.contains_key(launcher) => {
                Some(format!("The server has no launcher {launcher} any more: no machines are added or removed."))
            }
            None => None,
        },
    }
}
