//! Placement: which instance runs a task, and why another does not.
//!
//! A task *can* go to an instance if [`pool::Slot`]`::fits` says so, the one place where that is decided: state, CPU, memory, ports,
//! attributes, constraints, addresses. It *should* go to the best of those by its [`Strategy`]. Asking all of them each time would cost
//! as much as there are instances; so what is asked is prepared:
//!
//! * [`pool`] holds what is free on every instance, exactly, whatever happens.
//! * A [`view`] holds, for one kind of task, the instances that suit it, in cells that spreading tells apart, each ordered by what is free
//!   ([`ordered`]). It is brought up to date when it is used, by what changed since.
//! * [`groups`] counts the tasks of each group by instance, and by those attributes that they are spread over.
//! * [`choose`] looks at the most promising cells first, and takes the first instance there that has enough and `fits`.
//!
//! For `n` instances a placement costs time in the logarithm of `n`, in how many values an attribute has that tasks are spread over, and
//! in how many views are in use. What is rare costs more: the first task of a kind costs a look at every instance; and what
//! views do not hold (whether a subnet has an address left) is asked of one proposal after the other.
//!
//! By default, and among equals, the scheduler draws at random, each fitting instance as likely as any other.
//!
//! Where the documentation of ECS is silent: a task belongs to its group while it is wanted and not over; for `spread`, instances
//! without the attribute are one place together, and all of a cluster's instances are counted, also those that take no tasks now.

mod advice;
mod choose;
mod constraint;
pub(crate) mod explain;
mod groups;
mod ordered;
pub(crate) mod pool;
mod refusal;
mod strategy;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use choose::Placement;
pub use constraint::MemberOf;
pub(crate) use constraint::{Constraints, Expressions};
pub use refusal::Refusal;
pub(crate) use strategy::Strategy;

use crate::network::{AddressBook, NetworkRequest};
use crate::resources::{CpuUnits, HostPort, MemoryMib};
use crate::task_definition::RequiredAttribute;

/// What a task needs of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    /// CPU units.
    pub cpu: CpuUnits,
    /// Memory, in MiB.
    pub memory: MemoryMib,
    /// Fixed host ports.
    pub host_ports: &'a [HostPort],
    /// GPUs, at least.
    pub gpus: u32,
    /// Attributes the instance must have.
    pub requires: &'a [RequiredAttribute],
    /// For awsvpc: an address of one of these subnets, by this book.
    pub(crate) network: Option<(&'a AddressBook, &'a NetworkRequest)>,
    /// What else is asked: constraints, and by which strategy.
    pub(crate) placement: &'a Placement,
}
