//! The statuses of a container instance, as the API spells them.

use longshore_api::ecs::types::ContainerInstanceStatus;
use serde::{Deserialize, Serialize};

/// What may happen on an instance. Whether its agent is connected, or lost, is said elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InstanceStatus {
    /// It takes tasks.
    #[default]
    Active,
    /// It takes nothing new; what runs there goes on.
    Draining,
    /// It is being given back: its tasks are made to stop, and with the last of them it is INACTIVE.
    Deregistering,
    /// It is gone for good, and describable for a while.
    Inactive,
}

impl InstanceStatus {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
            Self::Deregistering => "DEREGISTERING",
            Self::Inactive => "INACTIVE",
        }
    }

    /// Records of ACTIVE instances do not say so.
    pub(crate) fn is_active(&self) -> bool {
        *self == Self::Active
    }

    /// Whether ListContainerInstances with this `status` filter lists such an instance.
    pub(crate) fn is_listed(self, filter: Option<ContainerInstanceStatus>) -> bool {
        match filter {
            None => self != Self::Inactive,
            Some(wanted) => wanted.as_str() == self.as_str(),
        }
    }
}
