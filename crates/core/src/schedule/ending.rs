//! What came of an invocation, noted when its tasks end.

use std::sync::Arc;

use longshore_api::admin::RetryOn;
use longshore_api::ecs::types::TaskStopCode;

use super::invoke;
use super::record::{Invocation, InvocationState, Schedule, TaskEnd, shortened};
use crate::cell::Turn;
use crate::decision::Decision;
use crate::entity::{Entity, Task};
use crate::ids::TaskKey;
use crate::read::ReadModel;
use crate::task::status::TaskStatus;

/// Notes the ends of a schedule's tasks, and what that makes of their invocations. Nothing changes when none has ended.
pub(super) fn settle(turn: &mut Turn<'_>, schedule: &Arc<Schedule>) {
    let ended: Vec<TaskKey> = schedule.open().filter(|key| has_ended(turn.tables.view(), *key)).collect();
    if ended.is_empty() {
        return;
    }
    let mut next = Schedule::clone(schedule);
    for invocation in &mut next.history {
        for task in invocation.tasks.iter_mut().filter(|task| ended.contains(&task.task)) {
            task.end = Some(end_of(turn, task.task));
        }
    }
    let last = next.history.len().saturating_sub(1);
    for (index, invocation) in next.history.iter_mut().enumerate() {
        if invocation.state == InvocationState::Running && invocation.open().next().is_none() {
            conclude(turn, schedule, invocation, index == last);
        }
    }
    // Nothing is replaced any more: what waited for that goes on now.
    let freed = next.open().next().is_none();
    if let Some(waiting) = next.history.last_mut().filter(|last| last.is_waiting() && last.attempts == 0 && freed) {
        waiting.state = InvocationState::Waiting { at: turn.now };
    }
    next.version += 1;
    turn.tables.put(Entity::Schedule(Arc::new(next)));
}

/// All tasks of an invocation have ended.
fn conclude(turn: &mut Turn<'_>, schedule: &Schedule, invocation: &mut Invocation, last: bool) {
    let well = |end: &Option<TaskEnd>| end.as_ref().is_some_and(|end| end.well);
    let failed: Vec<_> = invocation.tasks.iter().filter(|task| !well(&task.end)).collect();
    let Some(first) = failed.first() else {
        let placed = invocation.short == 0;
        invocation.state = if placed { InvocationState::Succeeded } else { InvocationState::Failed };
        return;
    };
    let why = shortened(&format!("task {} failed: {}", first.task.id, words(first.end.as_ref())));
    // Who stops a task does not want it again.
    let stopped =
        failed.iter().any(|task| task.end.as_ref().is_some_and(|end| end.code == Some(TaskStopCode::UserInitiated)));
    let copies = u32::try_from(failed.len()).unwrap_or_default();
    invocation.why = Some(why);
    // What waited in vain was not placed, as if RunTask had said so at once.
    let unplaced = failed.iter().all(|task| task.end.as_ref().is_some_and(|end| end.unplaced));
    let again = ((schedule.retry.on == RetryOn::Exit || unplaced)
        && last
        && !stopped
        && (schedule.paused_at.is_none() || invocation.by_hand))
        .then(|| invoke::next_attempt(turn.now, schedule.retry, invocation))
        .flatten();
    match again {
        Some(at) => {
            // What ended well is not run again.
            invocation.tasks.retain(|task| well(&task.end));
            invocation.short += copies;
            invocation.state = InvocationState::Waiting { at };
        }
        None => {
            invocation.state = InvocationState::Failed;
            turn.note(Decision::ScheduleFailed { schedule: schedule.name.clone(), why: invocation.why.clone() });
        }
    }
}

fn words(end: Option<&TaskEnd>) -> String {
    let Some(end) = end else { return String::new() };
    let codes = end.exit_codes.iter().map(|code| code.map_or_else(|| "-".to_owned(), |code| code.to_string()));
    format!("{} (exit codes {})", end.reason.as_deref().unwrap_or_default(), codes.collect::<Vec<_>>().join(", "))
}

fn has_ended(view: &ReadModel, key: TaskKey) -> bool {
    view.tasks.get(&key).is_none_or(|task| task.last_status() == TaskStatus::Stopped)
}

/// How a task ended. Tasks are kept for an hour after that, so that one is always still there.
fn end_of(turn: &Turn<'_>, key: TaskKey) -> TaskEnd {
    let view = turn.tables.view();
    let Some(task) = view.tasks.get(&key) else {
        return TaskEnd {
            at: turn.now,
            well: false,
            unplaced: false,
            exit_codes: Vec::new(),
            code: None,
            reason: None,
        };
    };
    let exit_codes: Vec<Option<i32>> =
        task.containers.iter().map(|container| container.detail.as_ref().and_then(|detail| detail.exit_code)).collect();
    TaskEnd {
        at: task.life.stopped_at.unwrap_or(turn.now),
        well: ended_well(view, task, &exit_codes),
        unplaced: task.instance.is_none(),
        exit_codes,
        code: task.stop.as_ref().map(|stop| stop.code),
        reason: task.stop.as_ref().map(|stop| shortened(&stop.reason)),
    }
}

/// Every essential container ended with exit code 0.
fn ended_well(view: &ReadModel, task: &Task, exit_codes: &[Option<i32>]) -> bool {
    let Some(known) = view.definitions.get(&task.definition) else { return false };
    let mut essential = known.resolved.containers.iter().zip(exit_codes).filter(|(container, _)| container.essential);
    essential.all(|(_, code)| *code == Some(0))
}
