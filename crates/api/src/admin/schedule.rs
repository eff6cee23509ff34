//! Schedules: RunTask at times that an expression says.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::shapes::{INTEGER, NAME, STRING, request, within};
use crate::Timestamp;
use crate::ecs::shapes::RUN_TASK_REQUEST;
use crate::ecs::types::RunTaskRequest;
use crate::json::wire_json;
use crate::shape::{Kind, Limits, Member, Shape};

/// How often an invocation may be tried again, as EventBridge Scheduler has it.
pub const RETRY_ATTEMPTS: RangeInclusive<i32> = 0..=185;
/// For how long an invocation is still tried or made up for, as EventBridge Scheduler has it: a minute to a day.
pub const RETRY_WINDOW_SECONDS: RangeInclusive<i32> = 60..=86_400;

/// Makes a schedule. An unknown cluster, task definition or time zone, a name that is taken and an expression that is never due are
/// refused.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateScheduleRequest {
    /// Not due later than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_date: Option<Timestamp>,
    /// 1 to 64 letters, digits and `-_.`.
    pub name: String,
    /// What happens while tasks of an earlier invocation are not STOPPED; ALLOW if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_policy: Option<OverlapPolicy>,
    /// How often it is tried again, within [`RETRY_ATTEMPTS`]; 185 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_attempts: Option<i32>,
    /// After what it is tried again; PLACEMENT if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<RetryOn>,
    /// For how long, within [`RETRY_WINDOW_SECONDS`]; a day if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_window_seconds: Option<i32>,
    /// `cron(…)`, `rate(…)` or `at(…)`.
    pub schedule_expression: String,
    /// A time zone of IANA's database; UTC if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_expression_timezone: Option<String>,
    /// Not due earlier than this; a rate begins with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_date: Option<Timestamp>,
    /// What is run, as RunTask has it; without `clientToken` and `startedBy`, which are the schedule's own.
    pub target: Box<RunTaskRequest>,
}

/// What happens when a schedule is due while tasks of an earlier invocation are not STOPPED.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OverlapPolicy {
    /// New tasks run beside them.
    #[default]
    Allow,
    /// Nothing is run this time.
    Skip,
    /// They are stopped, and when they are, new ones run.
    Replace,
}

impl OverlapPolicy {
    /// Whether it is what is meant when nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// After what an invocation is tried again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RetryOn {
    /// When a task could not be placed.
    #[default]
    Placement,
    /// Also when a task failed: an essential container ended with another exit code than 0, or never ran.
    Exit,
}

impl RetryOn {
    /// Whether it is what is meant when nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Requests that name a schedule, and answers that show it. Each operation has types of its own.
macro_rules! about_one {
    ($($(#[$request_doc:meta])* $request:ident => $(#[$response_doc:meta])* $response:ident,)+) => {$(
        $(#[$request_doc])*
        #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $request {
            /// The schedule's name. An unknown one is `ResourceNotFoundException`.
            pub name: String,
        }

        $(#[$response_doc])*
        #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $response {
            /// The schedule.
            pub schedule: Schedule,
        }

        wire_json!($request, $response);
    )+};
}

about_one! {
    /// Shows a schedule with its history.
    DescribeScheduleRequest =>
    /// The schedule.
    DescribeScheduleResponse,
    /// Keeps a schedule from being due; what waits to be tried again is given up. Pausing it again changes nothing.
    PauseScheduleRequest =>
    /// As it is now.
    PauseScheduleResponse,
    /// Makes a paused schedule due again, from now on: what was due meanwhile is not made up for.
    ResumeScheduleRequest =>
    /// As it is now.
    ResumeScheduleResponse,
    /// Forgets a schedule and its history. Its tasks go on.
    DeleteScheduleRequest =>
    /// As it was.
    DeleteScheduleResponse,
}

/// Invokes a schedule now, whether it is due, paused or over.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunScheduleRequest {
    /// The schedule's name. An unknown one is `ResourceNotFoundException`.
    pub name: String,
}

/// Asks for a page of schedules, in the order of their names.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListSchedulesRequest {
    /// How many at most, 1 to 100; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i32>,
    /// From the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A page of schedules, without what they run and without their histories.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListSchedulesResponse {
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    /// The schedules.
    pub schedules: Vec<Schedule>,
}

/// The schedule that was made.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateScheduleResponse {
    /// The schedule.
    pub schedule: Schedule,
}

/// What came of an invocation by hand.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunScheduleResponse {
    /// The invocation.
    pub invocation: ScheduleInvocation,
}

/// A schedule.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// When it was made.
    pub created_at: Timestamp,
    /// Not due later than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_date: Option<Timestamp>,
    /// What was invoked, newest first; in a listing the newest alone.
    #[serde(default)]
    pub history: Vec<ScheduleInvocation>,
    /// Its name.
    pub name: String,
    /// When it is due next; absent while it is paused, and when it never is again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Timestamp>,
    /// See [`OverlapPolicy`].
    pub overlap_policy: OverlapPolicy,
    /// How often an invocation is tried again.
    pub retry_attempts: i32,
    /// After what.
    pub retry_on: RetryOn,
    /// For how long.
    pub retry_window_seconds: i32,
    /// The expression.
    pub schedule_expression: String,
    /// The time zone in which it is meant.
    pub schedule_expression_timezone: String,
    /// Not due earlier than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_date: Option<Timestamp>,
    /// ENABLED, PAUSED, or ENDED: it is never due again.
    pub state: ScheduleState,
    /// What is run; absent in a listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<RunTaskRequest>>,
    /// The cluster's name.
    pub cluster: String,
    /// The task definition as it was named.
    pub task_definition: String,
}

/// Whether a schedule will be due.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ScheduleState {
    /// It will.
    #[default]
    Enabled,
    /// Not until it is resumed.
    Paused,
    /// Never again.
    Ended,
}

/// One invocation of a schedule, or due times that were missed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleInvocation {
    /// How often it was tried.
    pub attempts: i32,
    /// It was asked for, and not due.
    #[serde(default)]
    pub by_hand: bool,
    /// When it was due; of several that were missed, the first.
    pub due_at: Timestamp,
    /// When it was begun.
    pub fired_at: Timestamp,
    /// How many due times were missed; 1,000 are as many or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<i32>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// What came of it.
    pub outcome: InvocationOutcome,
    /// Why it failed, waits, or was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The tasks of its last attempt, and those of earlier ones that did not fail.
    #[serde(default)]
    pub tasks: Vec<InvocationTask>,
}

/// What came of an invocation.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvocationOutcome {
    /// It is tried again, or waits until the tasks that it replaces are STOPPED.
    Waiting,
    /// Its tasks are not STOPPED yet.
    #[default]
    Running,
    /// All its tasks ended, their essential containers with exit code 0.
    Succeeded,
    /// Not all tasks could be placed, or one of them failed.
    Failed,
    /// Nothing was run: tasks of an earlier invocation were not STOPPED.
    Skipped,
    /// Nothing was run: it was noticed too late.
    Missed,
    /// Its tasks were stopped by the next invocation.
    Replaced,
    /// It was not tried again: the next invocation came, or the schedule was paused.
    Superseded,
}

/// A task of an invocation.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvocationTask {
    /// Of each container, in the order of the definition; null where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<Option<i32>>,
    /// ECS's stop code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<String>,
    /// When it was STOPPED; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// ECS's sentence, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_reason: Option<String>,
    /// Its ARN.
    pub task_arn: String,
}

wire_json!(
    CreateScheduleRequest,
    CreateScheduleResponse,
    ListSchedulesRequest,
    ListSchedulesResponse,
    RunScheduleRequest,
    RunScheduleResponse
);

const SCHEDULE_NAME: Limits = Limits { min: Some(1), max: Some(64) };
const EXPRESSION: Limits = Limits { min: Some(1), max: Some(256) };
const TIME_ZONE: Limits = Limits { min: Some(1), max: Some(50) };

static TIMESTAMP: Shape = Shape::new("Timestamp", Kind::Timestamp);
static OVERLAP_POLICY: Shape = Shape::new("OverlapPolicy", Kind::Enum(&["ALLOW", "SKIP", "REPLACE"]));
static RETRY_ON: Shape = Shape::new("RetryOn", Kind::Enum(&["PLACEMENT", "EXIT"]));

pub(super) static CREATE_SCHEDULE: Shape = request(
    "CreateScheduleRequest",
    &[
        Member::optional("endDate", &TIMESTAMP),
        Member::required("name", &STRING).within(SCHEDULE_NAME),
        Member::optional("overlapPolicy", &OVERLAP_POLICY),
        Member::optional("retryAttempts", &INTEGER).within(within(RETRY_ATTEMPTS)),
        Member::optional("retryOn", &RETRY_ON),
        Member::optional("retryWindowSeconds", &INTEGER).within(within(RETRY_WINDOW_SECONDS)),
        Member::required("scheduleExpression", &STRING).within(EXPRESSION),
        Member::optional("scheduleExpressionTimezone", &STRING).within(TIME_ZONE),
        Member::optional("startDate", &TIMESTAMP),
        Member::required("target", &RUN_TASK_REQUEST),
    ],
);

/// What names one schedule.
pub(super) static ONE_SCHEDULE: Shape = request("ScheduleRequest", &[Member::required("name", &STRING).within(NAME)]);

pub(super) static LIST_SCHEDULES: Shape = request(
    "ListSchedulesRequest",
    &[
        Member::optional("maxResults", &INTEGER).within(Limits { min: Some(1), max: Some(100) }),
        Member::optional("nextToken", &STRING),
    ],
);
