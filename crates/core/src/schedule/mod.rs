//! Schedules: RunTask at times that an expression says, with a memory of what came of it.
//!
//! * **When**: [`expression`] is read once and says it in local time; `timetable` puts that into a time zone.
//! * **Due** is a deadline of the cell. What a due time leads to (the tasks, the note of it, the next due time) is one group
//!   of changes: after a crash either all of it happened or none, so that no due time ever counts twice.
//! * **Invoking** ([`invoke`]) is RunTask itself, with the same checks; the family without a revision means its latest ACTIVE one
//!   then. `startedBy`, a tag, and the group unless another is asked for, name the schedule.
//! * **Late**: of the due times that passed while no server ran, the last is made up for if it is no longer ago than the retry
//!   window. The others are noted as missed.
//! * **What came of it** ([`ending`]) is noted when a task ends, since tasks are forgotten long before a schedule is.

mod book;
mod ending;
pub mod expression;
mod invoke;
mod operations;
mod record;
#[cfg(test)]
mod tests;
mod timetable;

pub(crate) use book::Book;
pub(crate) use operations::{create, delete, describe, list, pause, resume, run};
pub use record::{Invocation, InvocationState, InvocationTask, Retry, Schedule, TaskEnd};

use std::sync::Arc;

use longshore_api::Timestamp;

use crate::cell::Turn;
use crate::limits;
use crate::tables::Tables;

/// Begins the mark by which a schedule's tasks are listed.
const STARTED_BY: &str = "schedule/";
/// Begins the group of a schedule's tasks, unless another is asked for.
const GROUP: &str = "schedule:";
/// The tag that names the schedule.
const TAG: &str = "longshore:schedule";

/// Schedules that one tick deals with: their records, each written twice at most, together stay below a mebibyte.
const PER_TICK: usize = 2;

/// Notes what ended, and invokes what is due; as much as the tick's group has room for.
pub(crate) fn tick(turn: &mut Turn<'_>) {
    for _ in 0..PER_TICK {
        // One is left for the horizon of events.
        let room = turn.tables.changes_made() + limits::CHANGES_PER_INVOCATION < limits::CHANGES_PER_GROUP;
        let Some(name) = due(turn.tables, turn.now).filter(|_| room) else { return };
        let Some(schedule) = turn.tables.view().schedules.get(&name).cloned() else { return };
        ending::settle(turn, &schedule);
        let Some(schedule) = turn.tables.view().schedules.get(&name).cloned() else { return };
        invoke::wake(turn, &schedule);
    }
}

/// When there is something to do next.
pub(crate) fn next_due(tables: &Tables) -> Option<Timestamp> {
    match tables.schedules().first_ended() {
        Some(_) => Some(Timestamp::from_millis(0)),
        None => tables.schedules().first_to_wake().map(|(at, _)| *at),
    }
}

fn due(tables: &Tables, now: Timestamp) -> Option<Arc<str>> {
    let book = tables.schedules();
    let wakes = || book.first_to_wake().filter(|(at, _)| *at <= now).map(|(_, name)| name);
    book.first_ended().or_else(wakes).cloned()
}
