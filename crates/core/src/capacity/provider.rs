//! The capacity provider as it is kept.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::types;
use serde::{Deserialize, Serialize};

/// A capacity provider. Durable; written by its operations, its tags by `tags::operations` too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityProvider {
    /// The name in its ARN.
    pub name: Arc<str>,
    /// The group of machines behind it, as its maker named it (`autoScalingGroupArn`).
    pub group: Arc<str>,
    /// When machines are added and removed.
    pub scaling: ManagedScaling,
    /// An instance with tasks is never chosen to go.
    #[serde(default)]
    pub termination_protection: bool,
    /// An instance that is to go is drained first.
    pub draining: bool,
    /// What came of the last operation on it.
    pub state: ProviderState,
    /// Tags given at creation, as `tags::operations` changed them since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<types::Tag>,
}

/// How a provider scales, with what ECS fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedScaling {
    /// Whether it does.
    pub enabled: bool,
    /// How much of the machines is to be in use, in percent.
    pub target_percent: u32,
    /// Machines added at once, at least.
    pub minimum_step: u32,
    /// Machines added at once, at most.
    pub maximum_step: u32,
    /// How long a new machine has to come up, in seconds.
    pub warmup_s: u32,
}

/// What came of the last operation on a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderState {
    /// It was made.
    Created,
    /// It was changed.
    Updated,
    /// It was to be deleted, and is in use.
    DeleteFailed {
        /// By what.
        reason: Arc<str>,
    },
    /// It was deleted: it stays describable as INACTIVE until its name is used again or newer ones need its room.
    Deleted,
}

impl CapacityProvider {
    /// Whether it can be used.
    pub fn is_active(&self) -> bool {
        self.state != ProviderState::Deleted
    }

    /// The name of the group of machines: the end of an ARN, or what was given.
    pub fn group_name(&self) -> &str {
        group_name(&self.group)
    }
}

/// The name in the ARN of an Auto Scaling group, or the name itself.
pub(super) fn group_name(given: &str) -> &str {
    match given.starts_with("arn:") {
        true => given.rsplit_once("autoScalingGroupName/").map_or(given, |(_, name)| name),
        false => given,
    }
}

impl Default for ManagedScaling {
    fn default() -> Self {
        Self { enabled: false, target_percent: 100, minimum_step: 1, maximum_step: 10_000, warmup_s: 300 }
    }
}

impl ManagedScaling {
    /// What is given takes the place of what was; who asks for managed scaling and does not say whether, wants it. The
    /// numbers are within ECS's bounds already: the shape of a request has them.
    ///
    /// # Errors
    /// `InvalidParameterException` for a minimum above the maximum.
    pub(super) fn with(self, given: &types::ManagedScaling) -> Result<Self, ApiError> {
        let number = |given: Option<i32>, known| given.map_or(known, i32::unsigned_abs);
        let scaling = Self {
            enabled: given.status.unwrap_or(types::ManagedScalingStatus::Enabled)
                == types::ManagedScalingStatus::Enabled,
            target_percent: number(given.target_capacity, self.target_percent),
            minimum_step: number(given.minimum_scaling_step_size, self.minimum_step),
            maximum_step: number(given.maximum_scaling_step_size, self.maximum_step),
            warmup_s: number(given.instance_warmup_period, self.warmup_s),
        };
        match scaling.minimum_step <= scaling.maximum_step {
            true => Ok(scaling),
            false => Err(ApiError::invalid_parameter(
                "The minimumScalingStepSize cannot be greater than the maximumScalingStepSize.",
            )),
        }
    }

    pub(super) fn document(self) -> types::ManagedScaling {
        let number = |number: u32| Some(i32::try_from(number).unwrap_or(i32::MAX));
        types::ManagedScaling {
            status: Some(match self.enabled {
                true => types::ManagedScalingStatus::Enabled,
                false => types::ManagedScalingStatus::Disabled,
            }),
            target_capacity: number(self.target_percent),
            minimum_scaling_step_size: number(self.minimum_step),
            maximum_scaling_step_size: number(self.maximum_step),
            instance_warmup_period: number(self.warmup_s),
        }
    }
}
