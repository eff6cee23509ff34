//! How long stopped tasks and client tokens are kept (DESIGN §3.10).

use longshore_api::Timestamp;

use crate::cell::Turn;
use crate::config::Retention;
use crate::entity::EntityKey;
use crate::limits;
use crate::tables::Tables;

/// Forgets what has been kept long enough, a bounded number at a time.
pub(crate) fn expire(turn: &mut Turn<'_>) {
    for _ in 0..limits::EXPIRED_PER_TICK {
        match task_due(turn.tables, turn.config.retention) {
            Some((due, key)) if due <= turn.now && turn.has_room() => turn.tables.remove(&key),
            _ => break,
        }
    }
    for _ in 0..limits::EXPIRED_PER_TICK {
        match turn.tables.tokens().next_to_expire().cloned() {
            Some((due, key)) if due <= turn.now && turn.has_room() => turn.tables.remove(&EntityKey::Token(key)),
            _ => break,
        }
    }
}

/// When something is to be forgotten next.
pub(crate) fn next_due(tables: &Tables, retention: Retention) -> Option<Timestamp> {
    let token = tables.tokens().next_to_expire().map(|(due, _)| *due);
    let task = task_due(tables, retention).map(|(due, _)| due);
    token.into_iter().chain(task).min()
}

/// The task that goes next, and when: after the longest time, or after the shortest when there are too many.
fn task_due(tables: &Tables, retention: Retention) -> Option<(Timestamp, EntityKey)> {
    let (stopped_at, key) = tables.stopped().first()?;
    let kept = match tables.stopped().len() > retention.count {
        true => retention.at_least_ms,
        false => retention.at_most_ms,
    };
    Some((stopped_at.plus_millis(kept), EntityKey::Task(*key)))
}
