//! Placement: which instance runs a task, and why another does not.
//!
//! [`pool`] holds what is free on every instance. By default the scheduler draws at random, each fitting instance
//! as likely as any other.

mod advice;
pub(crate) mod explain;
pub(crate) mod pool;
mod refusal;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;

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
}
