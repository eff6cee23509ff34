//! What a due time leads to.

use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::admin::OverlapPolicy;
use longshore_api::ecs::types::{RunTaskRequest, RunTaskResponse, Tag, TaskStopCode};
use longshore_api::ecs::{Response, types};

use super::record::{Invocation, InvocationState, InvocationTask, Retry, Schedule, shortened};
use super::{GROUP, STARTED_BY, TAG};
use crate::cell::Turn;
use crate::decision::Decision;
use crate::entity::{Entity, Stop};
use crate::ids::TaskKey;
use crate::{limits, names, task};

/// Does what a schedule has to do now: what it is due for, and what is to be tried again.
pub(super) fn wake(turn: &mut Turn<'_>, schedule: &Arc<Schedule>) {
    let mut next = Schedule::clone(schedule);
    if let Some(due) = next.next_due.filter(|due| *due <= turn.now) {
        fall_due(turn, &mut next, due);
    } else if next.wakes_at().is_some_and(|at| at <= turn.now)
        && let Some(waiting) = next.history.pop()
    {
        let tried = attempt(turn, &next, waiting);
        next.history.push(tried);
    } else {
        return;
    }
    next.version += 1;
    turn.tables.put(Entity::Schedule(Arc::new(next)));
}

/// A due time has come, and perhaps others after it while nobody looked: the last one counts, if it is not too long ago.
fn fall_due(turn: &mut Turn<'_>, schedule: &mut Schedule, first: Timestamp) {
    let now = turn.now;
    let table = schedule.timetable();
    let latest = table.latest(first, now);
    let next_due = table.next_after(now);
    let earlier = std::iter::successors(Some(first), |due| table.next_after(*due)).take_while(|due| *due < latest);
    let most = limits::MISSED_COUNTED as usize;
    let missed = u32::try_from(earlier.take(most).count()).unwrap_or(limits::MISSED_COUNTED);
    schedule.next_due = next_due;
    schedule.last_due = Some(latest);
    let too_late = now.since(latest) > schedule.retry.window_ms;
    let times = if too_late { (missed + 1).min(limits::MISSED_COUNTED) } else { missed };
    if times > 0 {
        supersede(schedule, "the next due time came");
        schedule.note(Invocation::new(first, now, InvocationState::Missed { times }));
        turn.note(Decision::ScheduleMissed { schedule: schedule.name.clone(), times });
    }
    if !too_late {
        begin(turn, schedule, Invocation::new(latest, now, InvocationState::Running));
    }
}

/// Begins an invocation, as the overlap policy has it.
pub(super) fn begin(turn: &mut Turn<'_>, schedule: &mut Schedule, mut invocation: Invocation) {
    supersede(schedule, "the next invocation came");
    invocation.short = schedule.copies();
    let earlier = schedule.history.iter().rev().find(|earlier| earlier.open().next().is_some());
    let invocation = match (schedule.overlap, earlier) {
        (OverlapPolicy::Skip, Some(earlier)) => {
            let task = earlier.open().next().map_or_else(String::new, |task| task.id.to_string());
            let why = Some(shortened(&format!("task {task} of an earlier invocation is not STOPPED")));
            Invocation { state: InvocationState::Skipped, short: 0, why, ..invocation }
        }
        (OverlapPolicy::Replace, Some(_)) => {
            replace(turn, schedule);
            let at = invocation.given_up_at(schedule.retry);
            let why = Some("tasks of an earlier invocation are being stopped".into());
            Invocation { state: InvocationState::Waiting { at }, why, ..invocation }
        }
        (OverlapPolicy::Allow, _) | (_, None) => attempt(turn, schedule, invocation),
    };
    schedule.note(invocation);
}

/// Gives up what is to be tried again.
pub(super) fn supersede(schedule: &mut Schedule, why: &str) {
    if let Some(waiting) = schedule.history.last_mut().filter(|last| last.is_waiting()) {
        let before = waiting.why.as_deref().map_or_else(String::new, |before| format!("; before: {before}"));
        waiting.why = Some(shortened(&format!("not tried again: {why}{before}")));
        // What runs of it is still looked after.
        let running = waiting.open().next().is_some();
        waiting.state = if running { InvocationState::Running } else { InvocationState::Superseded };
    }
}

/// Stops the tasks of earlier invocations.
fn replace(turn: &mut Turn<'_>, schedule: &mut Schedule) {
    let reason: Arc<str> = format!("Replaced by the next invocation of the schedule {}", schedule.name).into();
    for invocation in schedule.history.iter_mut().filter(|invocation| invocation.open().next().is_some()) {
        for key in invocation.open() {
            if let Some(task) = turn.tables.view().tasks.get(&key).cloned() {
                task::stop::order(turn, task, Stop { code: TaskStopCode::UserInitiated, reason: reason.clone() });
            }
        }
        invocation.state = InvocationState::Replaced;
    }
}

/// Runs the copies that an invocation still lacks.
fn attempt(turn: &mut Turn<'_>, schedule: &Schedule, mut invocation: Invocation) -> Invocation {
    if invocation.attempts == 0 && schedule.overlap == OverlapPolicy::Replace && schedule.open().next().is_some() {
        let why = Some("the tasks of an earlier invocation did not stop in time".into());
        return failed(turn, schedule, Invocation { why, ..invocation });
    }
    invocation.attempts += 1;
    let request = request_of(schedule, invocation.short);
    let placed = match turn.whole(|turn| task::run::run(turn, &request)) {
        Ok(Response::RunTask(response)) => {
            let keys = keys_of(turn, &request, &response);
            invocation.why = response.failures.as_deref().and_then(summary);
            keys
        }
        Ok(_) => Vec::new(),
        Err(error) => {
            invocation.why = Some(shortened(&format!("{}: {}", error.code.name, error.message)));
            Vec::new()
        }
    };
    invocation.short = invocation.short.saturating_sub(u32::try_from(placed.len()).unwrap_or_default());
    invocation.tasks.extend(placed.into_iter().map(|task| InvocationTask { task, end: None }));
    if invocation.short == 0 {
        invocation.why = None;
        return Invocation { state: InvocationState::Running, ..invocation };
    }
    match next_attempt(turn.now, schedule.retry, &invocation) {
        Some(at) => Invocation { state: InvocationState::Waiting { at }, ..invocation },
        // It fails when the last of what runs has ended.
        None if invocation.open().next().is_some() => Invocation { state: InvocationState::Running, ..invocation },
        None => failed(turn, schedule, invocation),
    }
}

fn failed(turn: &mut Turn<'_>, schedule: &Schedule, invocation: Invocation) -> Invocation {
    turn.note(Decision::ScheduleFailed { schedule: schedule.name.clone(), why: invocation.why.clone() });
    Invocation { state: InvocationState::Failed, ..invocation }
}

/// When it is tried again, if it still is: each time after twice as long.
pub(super) fn next_attempt(now: Timestamp, retry: Retry, invocation: &Invocation) -> Option<Timestamp> {
    let doublings = invocation.attempts.saturating_sub(1).min(16);
    let pause_ms = (limits::SCHEDULE_BACKOFF_MS << doublings).min(limits::SCHEDULE_BACKOFF_MOST_MS);
    let at = now.plus_millis(pause_ms);
    (invocation.attempts <= retry.attempts && at <= invocation.given_up_at(retry)).then_some(at)
}

/// What is run, with what names the schedule.
pub(super) fn request_of(schedule: &Schedule, copies: u32) -> RunTaskRequest {
    let mut request = RunTaskRequest::clone(&schedule.target);
    request.count = i32::try_from(copies).ok();
    request.started_by = Some(format!("{STARTED_BY}{}", schedule.name));
    if request.group.as_deref().unwrap_or_default().is_empty() {
        request.group = Some(format!("{GROUP}{}", schedule.name));
    }
    let tag = Tag { key: Some(TAG.to_owned()), value: Some(schedule.name.to_string()) };
    request.tags.get_or_insert_default().push(tag);
    request
}

/// The tasks in an answer of RunTask.
fn keys_of(turn: &Turn<'_>, request: &RunTaskRequest, response: &RunTaskResponse) -> Vec<TaskKey> {
    let Ok(cluster) = turn.tables.view().cluster(request.cluster.as_deref()) else { return Vec::new() };
    let arns = response.tasks.iter().flatten().filter_map(|task| task.task_arn.as_deref());
    let ids = arns.filter_map(|arn| names::task_arn_parts(turn.config, arn));
    ids.map(|(_, id)| TaskKey { cluster: cluster.id, id }).collect()
}

/// The reasons of failures, each with how many instances gave it.
fn summary(failures: &[types::Failure]) -> Option<Arc<str>> {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for reason in failures.iter().filter_map(|failure| failure.reason.as_deref()) {
        match counted.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => counted.push((reason, 1)),
        }
    }
    let words: Vec<String> = counted.iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
    (!words.is_empty()).then(|| shortened(&format!("not placed: {}", words.join(", "))))
}
