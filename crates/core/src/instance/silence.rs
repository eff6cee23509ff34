//! An agent that does not come back at once: events say that it is not connected, long before its instance is lost.

use std::sync::Arc;

use crate::cell::Turn;
use crate::entity::{Entity, Instance};

/// Tells of the agents that were away long enough by now, as many as the command has room for.
pub(crate) fn tick(turn: &mut Turn<'_>) {
    while let Some(key) = turn.liveness.silent(turn.now).filter(|_| turn.has_room()) {
        turn.liveness.silence_told(key);
        let known = turn.tables.view().instances.get(&key).filter(|instance| instance.agent_connected).cloned();
        if let Some(known) = known {
            let version = known.version + 1;
            let next = Instance { agent_connected: false, version, ..Instance::clone(&known) };
            turn.tables.put(Entity::Instance(Arc::new(next)));
        }
    }
}
