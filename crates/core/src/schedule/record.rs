//! What is stored of a schedule.

use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::admin::{OverlapPolicy, RetryOn};
use longshore_api::ecs::types::{RunTaskRequest, TaskStopCode};
use serde::{Deserialize, Serialize};

use super::expression::Expression;
use super::timetable::{Timetable, zone};
use crate::ids::TaskKey;
use crate::limits;

/// A schedule. Durable; written by the operations on schedules, by its due times and by the ends of its tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name.
    pub name: Arc<str>,
    /// When it is due.
    pub expression: Expression,
    /// The time zone in which that is meant.
    pub zone: Arc<str>,
    /// Not due earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// Not due later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// What is run, as it was given.
    pub target: Arc<RunTaskRequest>,
    /// What happens while tasks of an earlier invocation are not STOPPED.
    #[serde(default, skip_serializing_if = "OverlapPolicy::is_default")]
    pub overlap: OverlapPolicy,
    /// When and how often it is tried again.
    pub retry: Retry,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// When it is due next. None while it is paused, and when it never is again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Timestamp>,
    /// When it was due last, noticed in time or not: it is never due then again, whatever the clock says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_due: Option<Timestamp>,
    /// The last invocations, oldest first. Only the last of them waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Invocation>,
    /// Grows with every change.
    pub version: i64,
}

/// When and how often an invocation is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// How often, beyond the first time.
    pub attempts: u32,
    /// For how long after its due time it is begun, and after its beginning it is tried again; in milliseconds.
    pub window_ms: i64,
    /// After what.
    #[serde(default, skip_serializing_if = "RetryOn::is_default")]
    pub on: RetryOn,
}

/// An invocation, or due times that were missed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// When it was due; of several that were missed, the first.
    pub due: Timestamp,
    /// It was asked for, and not due.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_hand: bool,
    /// When it was begun.
    pub fired_at: Timestamp,
    /// How often it was tried.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// How many copies are still to be placed, or could not be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub short: u32,
    /// The tasks of its last attempt, and those of earlier ones that did not fail; ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<InvocationTask>,
    /// What became of it.
    pub state: InvocationState,
    /// Why it failed, waits or was left out, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Arc<str>>,
}

/// What became of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvocationState {
    /// It is tried (again) at this time; earlier when it waits for tasks to stop and they do.
    Waiting {
        /// When.
        at: Timestamp,
    },
    /// Its tasks are not all STOPPED.
    Running,
    /// All its tasks ended well.
    Succeeded,
    /// Not all copies could be placed, or a task failed.
    Failed,
    /// Tasks of an earlier invocation were not STOPPED.
    Skipped,
    /// It was noticed too late.
    Missed {
        /// How many due times; `limits::MISSED_COUNTED` are as many or more.
        times: u32,
    },
    /// Its tasks were stopped for those of the next one.
    Replaced,
    /// It was not tried again because the next one came, or the schedule was paused.
    Superseded,
}

/// A task of an invocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvocationTask {
    /// Which.
    pub task: TaskKey,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<TaskEnd>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEnd {
    /// When.
    pub at: Timestamp,
    /// Every essential container ended with exit code 0.
    pub well: bool,
    /// It waited for an instance and never had one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unplaced: bool,
    /// Of each container, in the order of the definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<Option<i32>>,
    /// ECS's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<TaskStopCode>,
    /// ECS's sentence, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Invocation {
    pub(super) fn new(due: Timestamp, fired_at: Timestamp, state: InvocationState) -> Self {
        Self { due, by_hand: false, fired_at, attempts: 0, short: 0, tasks: Vec::new(), state, why: None }
    }

    /// Its tasks that are not known to have ended.
    pub(super) fn open(&self) -> impl Iterator<Item = TaskKey> {
        self.tasks.iter().filter(|task| task.end.is_none()).map(|task| task.task)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, InvocationState::Waiting { .. })
    }

    /// Until when it may be tried.
    pub(super) fn given_up_at(&self, retry: Retry) -> Timestamp {
        self.fired_at.plus_millis(retry.window_ms)
    }
}

impl Schedule {
    /// The due times. A zone that this program's database does not have any more is read as UTC.
    pub(super) fn timetable(&self) -> Timetable<'_> {
        let zone = zone(&self.zone).unwrap_or(jiff::tz::TimeZone::UTC);
        let (expression, created_at) = (&self.expression, self.created_at);
        Timetable { expression, zone, start: self.start, end: self.end, created_at }
    }

    /// The tasks of all invocations that are not known to have ended.
    pub(super) fn open(&self) -> impl Iterator<Item = TaskKey> {
        self.history.iter().flat_map(Invocation::open)
    }

    /// When there is something to do, whether or not a task ends before.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        let again = self.history.last().and_then(|last| match last.state {
            InvocationState::Waiting { at } => Some(at),
            _ => None,
        });
        again.into_iter().chain(self.next_due).min()
    }

    /// Adds to the history. What is oldest makes room, but if possible not while its tasks run: overlaps are told by them.
    pub(super) fn note(&mut self, invocation: Invocation) {
        self.history.push(invocation);
        while self.history.len() > limits::SCHEDULE_HISTORY {
            let over = self.history.iter().position(|old| old.open().next().is_none() && !old.is_waiting());
            let newest = self.history.len() - 1;
            self.history.remove(over.filter(|index| *index < newest).unwrap_or(0));
        }
    }

    /// How many copies an invocation starts.
    pub(super) fn copies(&self) -> u32 {
        self.target.count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
    }

    /// What must hold of every record.
    pub(crate) fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let waiting = self.history.iter().rev().skip(1).filter(|invocation| invocation.is_waiting()).count();
        if waiting > 0 {
            return Err(format!("the schedule {name} has {waiting} invocations that wait for nothing"));
        }
        if self.paused_at.is_some() && self.next_due.is_some() {
            return Err(format!("the schedule {name} is paused and due"));
        }
        let due = self.history.iter().filter(|invocation| !invocation.by_hand).map(|invocation| invocation.due);
        let rising = due.clone().zip(due.clone().skip(1)).all(|(one, next)| one < next);
        let behind = due.max().is_none_or(|due| Some(due) <= self.last_due);
        let ahead = self.next_due.is_none_or(|next| self.last_due.is_none_or(|last| last < next));
        match rising && behind && ahead {
            true => Ok(()),
            false => Err(format!("the schedule {name} was due twice at the same time")),
        }
    }
}

/// As much of a reason as a history keeps.
pub(super) fn shortened(text: &str) -> Arc<str> {
    match text.char_indices().nth(limits::SCHEDULE_REASON) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}
