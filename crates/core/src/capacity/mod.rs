//! Capacity providers: groups of machines that tasks are spread over, and that a launcher makes larger and smaller.
//!
//! * [`provider`] is the durable entity, [`operations`] and [`describe`] are the API around it.
//! * [`strategy`] says which provider each copy of a task goes to, by base and weight. Pure.
//! * [`review`] compares the machines that are needed ([`reservation`]) with those that are there, and decides
//!   ([`tracking`]).
//! * [`fleet`] keeps what the launcher was asked for; [`orders`] is how the shell reads it.
//!
//! **A provider's machines** are the container instances that register with the attribute [`ATTRIBUTE`] and its name.
//! Nothing else ties them together: a machine that somebody brings by hand belongs like one that a launcher started.
//!
//! **`autoScalingGroupArn`** is where ECS's clients say which group of machines they mean. Here it names a launcher of
//! the server's configuration, as the ARN of an Auto Scaling group that ends in the launcher's name, or as the name
//! alone. A provider that does not scale by itself may name any group: nobody is asked for machines.

mod describe;
pub(crate) mod fleet;
mod operations;
mod orders;
mod provider;
mod reservation;
pub(crate) mod review;
mod strategy;
#[cfg(test)]
mod tests;
mod tracking;

pub(crate) use describe::describe;
pub use fleet::{Departed, Fleet, FleetKey, LauncherAnswer, Order, Surplus, Trouble, Work, retry_pause_ms};
pub(crate) use operations::{create, delete, update};
pub use orders::{LauncherOrder, LauncherRequest, RemovedMachine};
pub use provider::{CapacityProvider, ManagedScaling, ProviderState};
pub use reservation::MachineSize;
pub(crate) use review::Reviews;
pub(crate) use strategy::{Strategy, check_default, check_providers};

use crate::task_definition::RequiredAttribute;

/// The attribute by which a container instance says which capacity provider it belongs to.
pub const ATTRIBUTE: &str = "longshore.capacity-provider";

/// What an instance needs to take a task of a provider: to belong to it. Those that every account has have no instances
/// of their own.
pub(crate) fn required_attribute(provider: &str) -> Option<RequiredAttribute> {
    let own = Reserved::of(provider).is_none();
    own.then(|| RequiredAttribute { name: ATTRIBUTE.to_owned(), value: Some(provider.to_owned()) })
}

/// A capacity provider that every account has, and nobody makes or deletes. Their tasks are of the launch type FARGATE:
/// they run on the cluster's instances, by the documented sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    Fargate,
    FargateSpot,
}

impl Reserved {
    pub(crate) const ALL: [Self; 2] = [Self::Fargate, Self::FargateSpot];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fargate => "FARGATE",
            Self::FargateSpot => "FARGATE_SPOT",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reserved| reserved.name() == name)
    }
}
