//! The operations on schedules.

use std::ops::Bound;
use std::sync::Arc;

use longshore_api::ecs::{error, types};
use longshore_api::{ApiError, Timestamp, admin};

use super::expression::Expression;
use super::invoke;
use super::record::{Invocation, InvocationState, InvocationTask, Retry, Schedule};
use super::timetable::zone;
use crate::cell::Turn;
use crate::entity::{Entity, EntityKey};
use crate::read::{Page, ReadModel, page};
use crate::{limits, names, task};

/// The zone that is meant when none is named.
const UTC: &str = "UTC";

/// CreateSchedule.
pub(crate) fn create(turn: &mut Turn<'_>, request: &admin::CreateScheduleRequest) -> Result<admin::Response, ApiError> {
    check_name(&request.name)?;
    let expression: Expression = request
        .schedule_expression
        .parse()
        .map_err(|error| ApiError::invalid_parameter(format!("scheduleExpression: {error}.")))?;
    let zone = zone_name(request.schedule_expression_timezone.as_deref().unwrap_or(UTC))?;
    if let (Some(start), Some(end)) = (request.start_date, request.end_date)
        && end < start
    {
        return Err(ApiError::invalid_parameter("endDate must not be before startDate."));
    }
    for (member, date) in [("startDate", request.start_date), ("endDate", request.end_date)] {
        if date.is_some_and(|date| !(0..limits::SCHEDULE_DATES_END_MS).contains(&date.as_millis())) {
            return Err(ApiError::invalid_parameter(format!("{member} must be in the years 1970 to 2199.")));
        }
    }
    check_target(&request.target)?;
    let known = &turn.tables.view().schedules;
    if known.contains_key(&*request.name) {
        let message = format!("The schedule {} exists: delete it first, or take another name.", request.name);
        return Err(ApiError::new(error::CONFLICT_EXCEPTION, message));
    }
    if known.len() >= limits::SCHEDULES {
        let message = format!("The number of schedules has reached its limit of {}.", limits::SCHEDULES);
        return Err(ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message));
    }
    let window_s = request.retry_window_seconds.unwrap_or(*admin::RETRY_WINDOW_SECONDS.end());
    let mut schedule = Schedule {
        name: request.name.as_str().into(),
        expression,
        zone,
        start: request.start_date,
        end: request.end_date,
        target: Arc::from(request.target.clone()),
        overlap: request.overlap_policy.unwrap_or_default(),
        retry: Retry {
            attempts: request.retry_attempts.unwrap_or(*admin::RETRY_ATTEMPTS.end()).unsigned_abs(),
            window_ms: i64::from(window_s) * 1_000,
            on: request.retry_on.unwrap_or_default(),
        },
        created_at: turn.now,
        paused_at: None,
        next_due: None,
        last_due: None,
        history: Vec::new(),
        version: 1,
    };
    // A rate without a beginning begins at once.
    let next_due = schedule.timetable().next_after(turn.now.plus_millis(-1));
    schedule.next_due =
        Some(next_due.ok_or_else(|| {
            ApiError::invalid_parameter(format!("{} is never due from now on.", schedule.expression))
        })?);
    task::run::rehearse(turn, &invoke::request_of(&schedule, schedule.copies()))?;
    let schedule = Arc::new(schedule);
    turn.tables.put(Entity::Schedule(schedule.clone()));
    let schedule = document(turn.tables.view(), &schedule, Detail::Full);
    Ok(admin::CreateScheduleResponse { schedule }.into())
}

/// DescribeSchedule.
pub(crate) fn describe(
    view: &ReadModel,
    request: &admin::DescribeScheduleRequest,
) -> Result<admin::Response, ApiError> {
    let schedule = document(view, named(view, &request.name)?, Detail::Full);
    Ok(admin::DescribeScheduleResponse { schedule }.into())
}

/// ListSchedules, in the order of their names.
pub(crate) fn list(view: &ReadModel, request: &admin::ListSchedulesRequest) -> Result<admin::Response, ApiError> {
    let behind = request.next_token.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let schedules = view.schedules.range::<_, str>((behind, Bound::Unbounded)).map(|(_, schedule)| schedule);
    let Page { items, next } = page(schedules, request.max_results, |schedule| schedule.name.to_string());
    let schedules = items.into_iter().map(|schedule| document(view, schedule, Detail::Row)).collect();
    Ok(admin::ListSchedulesResponse { schedules, next_token: next }.into())
}

/// PauseSchedule.
pub(crate) fn pause(turn: &mut Turn<'_>, request: &admin::PauseScheduleRequest) -> Result<admin::Response, ApiError> {
    let now = turn.now;
    let schedule = change(turn, &request.name, |schedule| {
        if schedule.paused_at.is_none() {
            invoke::supersede(schedule, "the schedule was paused");
            schedule.paused_at = Some(now);
            schedule.next_due = None;
        }
    })?;
    Ok(admin::PauseScheduleResponse { schedule }.into())
}

/// ResumeSchedule. What was due while it was paused is not made up for.
pub(crate) fn resume(turn: &mut Turn<'_>, request: &admin::ResumeScheduleRequest) -> Result<admin::Response, ApiError> {
    let now = turn.now;
    let schedule = change(turn, &request.name, |schedule| {
        if schedule.paused_at.take().is_some() {
            let passed = schedule.last_due.map_or(now, |last| last.max(now));
            schedule.next_due = schedule.timetable().next_after(passed);
        }
    })?;
    Ok(admin::ResumeScheduleResponse { schedule }.into())
}

/// DeleteSchedule. Tasks go on.
pub(crate) fn delete(turn: &mut Turn<'_>, request: &admin::DeleteScheduleRequest) -> Result<admin::Response, ApiError> {
    let schedule = named(turn.tables.view(), &request.name)?.clone();
    let document = document(turn.tables.view(), &schedule, Detail::Full);
    turn.tables.remove(&EntityKey::Schedule(schedule.name.clone()));
    Ok(admin::DeleteScheduleResponse { schedule: document }.into())
}

/// RunSchedule: an invocation by hand, as the overlap policy has it.
pub(crate) fn run(turn: &mut Turn<'_>, request: &admin::RunScheduleRequest) -> Result<admin::Response, ApiError> {
    let mut schedule = Schedule::clone(named(turn.tables.view(), &request.name)?);
    let by_hand = Invocation { by_hand: true, ..Invocation::new(turn.now, turn.now, InvocationState::Running) };
    invoke::begin(turn, &mut schedule, by_hand);
    schedule.version += 1;
    let invocation = schedule.history.last().map(|last| invocation(turn.tables.view(), &schedule, last));
    turn.tables.put(Entity::Schedule(Arc::new(schedule)));
    Ok(admin::RunScheduleResponse { invocation: invocation.unwrap_or_default() }.into())
}

fn change(turn: &mut Turn<'_>, name: &str, change: impl FnOnce(&mut Schedule)) -> Result<admin::Schedule, ApiError> {
    let known = named(turn.tables.view(), name)?.clone();
    let mut schedule = Schedule::clone(&known);
    change(&mut schedule);
    if schedule != *known {
        schedule.version += 1;
        turn.tables.put(Entity::Schedule(Arc::new(schedule.clone())));
    }
    Ok(document(turn.tables.view(), &schedule, Detail::Full))
}

fn named<'a>(view: &'a ReadModel, name: &str) -> Result<&'a Arc<Schedule>, ApiError> {
    view.schedules.get(name).ok_or_else(|| {
        let message = format!("There is no schedule {name}; `longshore schedule list` shows all.");
        ApiError::new(error::RESOURCE_NOT_FOUND_EXCEPTION, message)
    })
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match (1..=limits::SCHEDULE_NAME).contains(&name.len()) && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(ApiError::invalid_parameter(format!(
            "name must have 1 to {} of the characters 0-9 a-z A-Z - _ and the dot.",
            limits::SCHEDULE_NAME
        ))),
    }
}

/// The name as the database of time zones spells it.
fn zone_name(name: &str) -> Result<Arc<str>, ApiError> {
    let zone = Some(name).filter(|name| name.len() <= limits::TIME_ZONE).and_then(zone);
    let known = zone.as_ref().and_then(|zone| zone.iana_name()).map(Arc::from);
    known.ok_or_else(|| {
        let message =
            "scheduleExpressionTimezone must be a time zone of IANA's database, such as Europe/Berlin or UTC.";
        ApiError::invalid_parameter(message)
    })
}

/// What a schedule sets itself is refused by name, before RunTask's own checks.
fn check_target(target: &types::RunTaskRequest) -> Result<(), ApiError> {
    let given = |member: &Option<String>| member.as_deref().is_some_and(|value| !value.is_empty());
    for (member, value) in [("clientToken", &target.client_token), ("startedBy", &target.started_by)] {
        if given(value) {
            let message = format!("target.{member} is set by the schedule itself: leave it out.");
            return Err(ApiError::invalid_parameter(message));
        }
    }
    let bytes = target.to_json().len();
    if bytes > limits::SCHEDULE_TARGET_BYTES {
        let most = limits::SCHEDULE_TARGET_BYTES;
        return Err(ApiError::invalid_parameter(format!("target has {bytes} bytes of JSON; the maximum is {most}.")));
    }
    Ok(())
}

/// How much of a schedule is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Full,
    /// Of its history the newest alone, and not what it runs.
    Row,
}

fn document(view: &ReadModel, schedule: &Schedule, detail: Detail) -> admin::Schedule {
    let shown = if detail == Detail::Full { limits::SCHEDULE_HISTORY } else { 1 };
    let history = schedule.history.iter().rev().take(shown);
    admin::Schedule {
        created_at: schedule.created_at,
        end_date: schedule.end,
        history: history.map(|each| invocation(view, schedule, each)).collect(),
        name: schedule.name.to_string(),
        next_due: schedule.next_due,
        overlap_policy: schedule.overlap,
        retry_attempts: i32::try_from(schedule.retry.attempts).unwrap_or(i32::MAX),
        retry_on: schedule.retry.on,
        retry_window_seconds: i32::try_from(schedule.retry.window_ms / 1_000).unwrap_or(i32::MAX),
        schedule_expression: schedule.expression.to_string(),
        schedule_expression_timezone: schedule.zone.to_string(),
        start_date: schedule.start,
        state: match (schedule.paused_at, schedule.next_due) {
            (Some(_), _) => admin::ScheduleState::Paused,
            (None, Some(_)) => admin::ScheduleState::Enabled,
            (None, None) => admin::ScheduleState::Ended,
        },
        target: (detail == Detail::Full).then(|| Box::new(schedule.target.as_ref().clone())),
        cluster: cluster_name(view, schedule),
        task_definition: schedule.target.task_definition.clone(),
    }
}

fn cluster_name(view: &ReadModel, schedule: &Schedule) -> String {
    let given = schedule.target.cluster.as_deref();
    names::cluster(&view.config, given).ok().flatten().unwrap_or_else(|| given.unwrap_or_default().to_owned())
}

fn invocation(view: &ReadModel, schedule: &Schedule, invocation: &Invocation) -> admin::ScheduleInvocation {
    use admin::InvocationOutcome as Outcome;
    let cluster = cluster_name(view, schedule);
    let (outcome, next_attempt_at, missed) = match invocation.state {
        InvocationState::Waiting { at } => (Outcome::Waiting, Some(at), None),
        InvocationState::Running => (Outcome::Running, None, None),
        InvocationState::Succeeded => (Outcome::Succeeded, None, None),
        InvocationState::Failed => (Outcome::Failed, None, None),
        InvocationState::Skipped => (Outcome::Skipped, None, None),
        InvocationState::Missed { times } => (Outcome::Missed, None, i32::try_from(times).ok()),
        InvocationState::Replaced => (Outcome::Replaced, None, None),
        InvocationState::Superseded => (Outcome::Superseded, None, None),
    };
    // What waits for tasks to stop is tried when they do, and not at the time when that is given up.
    let next_attempt_at: Option<Timestamp> = next_attempt_at.filter(|_| invocation.attempts > 0);
    let task = |task: &InvocationTask| {
        let end = task.end.as_ref();
        admin::InvocationTask {
            task_arn: view.config.task_arn(&cluster, task.task.id),
            exit_codes: end.map(|end| end.exit_codes.clone()).unwrap_or_default(),
            stop_code: end.and_then(|end| end.code).map(|code| code.as_str().to_owned()),
            stopped_at: end.map(|end| end.at),
            stopped_reason: end.and_then(|end| end.reason.as_deref()).map(str::to_owned),
        }
    };
    admin::ScheduleInvocation {
        attempts: i32::try_from(invocation.attempts).unwrap_or(i32::MAX),
        by_hand: invocation.by_hand,
        due_at: invocation.due,
        fired_at: invocation.fired_at,
        missed,
        next_attempt_at,
        outcome,
        reason: invocation.why.as_deref().map(str::to_owned),
        tasks: invocation.tasks.iter().map(task).collect(),
    }
}
