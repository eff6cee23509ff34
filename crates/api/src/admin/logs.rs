//! What containers printed: GetTaskLogs asks for it, SubmitTaskLogs is how an agent answers.
//!
//! An answer is one page. Where it ends is told by an opaque position, from which the next page goes on; so a reader may
//! come back after any failure, also of the server, and neither misses nor repeats a line. Nothing of it is kept by the
//! server.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::shapes::{INTEGER, NAME, STRING, request, within};
use crate::Timestamp;
use crate::json::wire_json;
use crate::shape::{Kind, Limits, Member, Shape};

/// How many of the last lines may be asked for. Beyond it, ask for everything since some time.
pub const TAIL: RangeInclusive<i32> = 0..=1_000_000;
/// How long an agent may wait for a line that was not printed yet: well within what any client waits for an answer.
pub const WAIT_SECONDS: RangeInclusive<i32> = 0..=10;
/// Entries of one answer; what their text amounts to is bounded by the largest request body.
const ENTRIES: Limits = Limits { min: None, max: Some(20_000) };
/// A position is made by an agent: a time and a number.
const POSITION: Limits = Limits { min: Some(1), max: Some(128) };

/// Asks for a page of what a container of a task printed.
///
/// An unknown cluster is `ClusterNotFoundException`, an unknown task `ResourceNotFoundException`. An agent that is not there
/// to be asked, or does not answer, is `TargetNotConnectedException`; a container that does not exist yet is
/// [`CONTAINER_NOT_CREATED`](super::error::CONTAINER_NOT_CREATED), and one whose output cannot be had any more, or never could,
/// [`LOGS_UNAVAILABLE`](super::error::LOGS_UNAVAILABLE). Too many readers at once are `ThrottlingException`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetTaskLogsRequest {
    /// Name or ARN of the task's cluster; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Which container; may be absent if the task has one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Where the last page ended. With it, `since` and `tail` say nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Nothing that was printed before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of what is there, so many of the last lines, within [`TAIL`]; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<i32>,
    /// The id or the ARN of the task.
    pub task: String,
    /// If there is nothing, wait for it so long, within [`WAIT_SECONDS`]; 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<i32>,
}

/// A page of what a container printed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetTaskLogsResponse {
    /// The container's name.
    pub container: String,
    /// What it printed, in order.
    pub entries: Vec<LogEntry>,
    /// From where the next page goes on.
    pub position: String,
    /// There is no more: without `waitSeconds` for now, with it because the container has stopped.
    pub end: bool,
}

/// What a container printed at once: mostly a line. A long line comes in parts, of which the last alone ends in a line break.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// The bytes, in base64: containers print what they like.
    pub data: String,
    /// To which stream.
    pub stream: LogStream,
    /// When, as Docker noted it, in UTC with nanoseconds: texts of one length, in the order of time.
    pub time: String,
}

/// One of a process's two streams.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output; everything, if the container has a terminal.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// An agent's answer to a request for logs: for its own container instance, and with the id that it was asked with.
///
/// `ResourceNotFoundException` when nobody waits for it any more, `AccessDeniedException` when another key's instance was
/// asked.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmitTaskLogsRequest {
    /// As in [`GetTaskLogsResponse`].
    pub end: bool,
    /// As in [`GetTaskLogsResponse`].
    pub entries: Vec<LogEntry>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<LogFailure>,
    /// As in [`GetTaskLogsResponse`]; absent with a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The id that the agent was asked with.
    pub request_id: String,
}

/// Why an agent has no logs to give.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogFailure {
    /// For people: what Docker said.
    pub message: String,
    /// For the server.
    pub reason: LogFailureReason,
}

/// Kinds of [`LogFailure`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LogFailureReason {
    /// There is no such container: not yet, or not any more.
    NoContainer,
    /// The container's log driver gives nothing back.
    Unreadable,
    /// The Docker Engine cannot be asked, or failed.
    Engine,
    /// The agent reads as many logs as it may already.
    Busy,
}

/// Taken.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmitTaskLogsResponse {}

wire_json!(GetTaskLogsRequest, GetTaskLogsResponse, SubmitTaskLogsRequest, SubmitTaskLogsResponse);

static BOOLEAN: Shape = Shape::new("Boolean", Kind::Boolean);
static TIMESTAMP: Shape = Shape::new("Timestamp", Kind::Timestamp);
static LOG_STREAM: Shape = Shape::new("LogStream", Kind::Enum(&["stdout", "stderr"]));
static LOG_FAILURE_REASON: Shape =
    Shape::new("LogFailureReason", Kind::Enum(&["NO_CONTAINER", "UNREADABLE", "ENGINE", "BUSY"]));
static LOG_ENTRY: Shape = request(
    "LogEntry",
    &[
        Member::required("data", &STRING),
        Member::required("stream", &LOG_STREAM),
        Member::required("time", &STRING).within(Limits { min: Some(1), max: Some(64) }),
    ],
);
static LOG_ENTRIES: Shape =
    Shape::new("LogEntries", Kind::List { item: &LOG_ENTRY, item_name: None, flattened: false }).within(ENTRIES);
static LOG_FAILURE: Shape = request(
    "LogFailure",
    &[
        Member::required("message", &STRING).within(Limits { min: None, max: Some(1_024) }),
        Member::required("reason", &LOG_FAILURE_REASON),
    ],
);

pub(super) static GET_TASK_LOGS: Shape = request(
    "GetTaskLogsRequest",
    &[
        Member::optional("cluster", &STRING).within(NAME),
        Member::optional("container", &STRING).within(NAME),
        Member::optional("position", &STRING).within(POSITION),
        Member::optional("since", &TIMESTAMP),
        Member::optional("tail", &INTEGER).within(within(TAIL)),
        Member::required("task", &STRING).within(NAME),
        Member::optional("waitSeconds", &INTEGER).within(within(WAIT_SECONDS)),
    ],
);

pub(super) static SUBMIT_TASK_LOGS: Shape = request(
    "SubmitTaskLogsRequest",
    &[
        Member::required("end", &BOOLEAN),
        Member::required("entries", &LOG_ENTRIES),
        Member::optional("failure", &LOG_FAILURE),
        Member::optional("position", &STRING).within(POSITION),
        Member::required("requestId", &STRING).within(NAME),
    ],
);
