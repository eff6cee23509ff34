//! The event stream: state changes of tasks and container instances in EventBridge's ECS format, complete and resumable.
//!
//! Nothing is stored for an event alone. A record remembers the changes of its own status ([`Milestones`]), each with the
//! number of the commit that brought it; the [`Log`] is an index of these, derived like every other. So an event and its cursor
//! are good for as long as the task or instance is remembered, across restarts too, and a placement still writes one record.
//! What was forgotten is known by one number, the [`Horizon`]: a cursor at or behind it is refused, and never answered with a gap.
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

/// How much of the past was forgotten. Durable; written by whatever command forgets a task or an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    /// The number of the newest event that is not remembered any more.
    pub number: u64,
}

/// Ends a command: what it forgot moves the horizon.
pub(crate) fn move_horizon(turn: &mut Turn<'_>) {
    let number = turn.tables.take_forgotten();
    if number > turn.tables.view().events.horizon().number {
        turn.tables.put(Entity::Horizon(Horizon { number }.into()));
    }
}
