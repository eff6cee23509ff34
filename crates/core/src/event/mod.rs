//! The event stream: state changes of tasks and container instances in EventBridge's ECS format, complete and resumable.
//!
//! Nothing is stored for an event alone. A record remembers the changes of its own status ([`Milestones`]), each with the
//! number of the commit that brought it; the [`Log`] is an index of these, derived like every other. So an event and its cursor
//! are good for as long as the task or instance is remembered, across restarts too, and a placement still writes one record.
//! What was forgotten is known by its newest number, the [`Horizon`]: a cursor before it is refused, and never answered with a gap.
//!
//! The number of an event is the first that its command could take: greater than all that any earlier command took, and known
//! before the command ends. Service and deployment events will be further [`Subject`]s of the same log.

mod cursor;
mod document;
mod iso;
mod log;
mod milestone;
mod read;
#[cfg(test)]
mod tests;

pub use cursor::{BadCursor, Cursor, Subject};
pub use document::DetailType;
pub(crate) use log::Log;
pub use milestone::{InstanceState, Milestone, Milestones, TaskState};
pub(crate) use milestone::{Stamp, stamp, stamp_task};
pub use read::{Filter, Reading, Start};

use serde::{Deserialize, Serialize};

use crate::cell::Turn;
use crate::entity::Entity;

/// How much of the past was forgotten. Durable; written by whatever command forgets a task, an instance, or the oldest change of an
/// instance. The latter is common where an instance changes often, and is nothing to those who read of tasks alone: hence two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    /// The number of the newest event of a task that is not remembered any more.
    pub number: u64,
    /// That of an instance. Where there was only one number, it stood for both: so this one counts if it is greater.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub instances: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Horizon {
    /// The newest number that is missing to whoever wants events of these kinds.
    pub(crate) fn before(self, wanted: &Filter) -> u64 {
        match wanted.wants(DetailType::ContainerInstance) {
            true => self.number.max(self.instances),
            false => self.number,
        }
    }

    /// What both have forgotten.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { number: self.number.max(other.number), instances: self.instances.max(other.instances) }
    }
}

/// Ends a command: what it forgot moves the horizon.
pub(crate) fn move_horizon(turn: &mut Turn<'_>) {
    let known = turn.tables.view().events.horizon();
    let moved = known.and(turn.tables.take_forgotten());
    if moved != known {
        turn.tables.put(Entity::Horizon(moved.into()));
    }
}
