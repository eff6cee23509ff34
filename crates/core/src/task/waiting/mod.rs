//! Tasks that wait for an instance: PROVISIONING until one can take them.
//!
//! Where ECS answers RunTask with failures, a task whose caller is patient ([`Patience`]) is made all the same and stands in
//! [`Line`], which is derived from the tasks. Nothing is polled: [`advance`] looks at a task again when an instance changed, and
//! only at the first of its *kind*, as whatever cannot take that one can take none of the others.

pub(crate) mod advance;
mod line;
mod patience;
#[cfg(test)]
mod tests;

use longshore_api::ecs::types;
use longshore_api::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cell::Turn;
use crate::entity::{Cluster, Task};
use crate::ids::KindId;
use crate::limits;
pub(crate) use line::Line;
pub(crate) use patience::{Patience, check_tag, is_given_at_start};

/// Why a task waits, and what placement needs to know again beyond its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// What it waits for.
    pub on: WaitingFor,
    /// When it stops waiting, if it ever does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Names all tasks that the same instances can take.
    pub kind: KindId,
    /// The constraints of the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<types::PlacementConstraint>,
    /// The strategy of the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strategy: Vec<types::PlacementStrategy>,
    /// The network configuration of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<types::NetworkConfiguration>,
}

/// Whether so many more may wait in a cluster.
///
/// # Errors
/// `ClientException` when they may not.
pub(crate) fn check_room(turn: &Turn<'_>, cluster: &Cluster, waiting: &Waiting, more: usize) -> Result<(), ApiError> {
    let line = turn.tables.line();
    let (tasks, kinds) = line.count(cluster.id);
    let refuse = |what: String| Err(ApiError::client(format!("{what} wait in the cluster {}.", cluster.name)));
    if tasks + more > limits::WAITING_TASKS {
        return refuse(format!("At most {} tasks", limits::WAITING_TASKS));
    }
    if kinds >= limits::WAITING_KINDS && !line.has(cluster.id, waiting.kind) {
        return refuse(format!("Tasks of at most {} kinds", limits::WAITING_KINDS));
    }
    Ok(())
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WaitingFor {
    /// Room on an instance of its cluster.
    Room,
    /// The same, while its capacity provider adds instances.
    Provider,
    /// The decision of its cluster's external scheduler.
    Scheduler,
}

/// Whether a task waits for the scheduler of its cluster.
pub(crate) fn asks(task: &Task) -> bool {
    task.waiting.as_ref().is_some_and(|waiting| waiting.on == WaitingFor::Scheduler)
}
