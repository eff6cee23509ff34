//! A place in the event stream, as text.

use std::fmt;
use std::str::FromStr;

use crate::ids::{ClusterId, InstanceId, InstanceKey, TaskId, TaskKey};

/// What an event is about. Of one command, events of tasks come before those of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A task.
    Task(TaskKey),
    /// A container instance.
    Instance(InstanceKey),
}

impl Subject {
    /// The cluster it is in.
    pub fn cluster(self) -> ClusterId {
        match self {
            Self::Task(key) => key.cluster,
            Self::Instance(key) => key.cluster,
        }
    }
}

/// A place behind an event; reading goes on after it. Ordered as events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The commit number of the event.
    number: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Behind the event of this subject; others of the same command may follow.
    Behind(Subject),
    /// Behind everything of the command.
    End,
}

impl Cursor {
    /// Behind everything up to and with this number.
    pub fn end_of(number: u64) -> Self {
        Self { number, place: Place::End }
    }

    pub(super) fn behind(number: u64, subject: Subject) -> Self {
        Self { number, place: Place::Behind(subject) }
    }

    /// The commit number of the last event before it.
    pub fn number(self) -> u64 {
        self.number
    }

    /// The event it is behind, unless it is behind all of its command.
    pub(super) fn subject(self) -> Option<Subject> {
        match self.place {
            Place::Behind(subject) => Some(subject),
            Place::End => None,
        }
    }
}

/// `17`, `17-t-3-<task id>` or `17-i-3-<container instance id>`. To callers it is opaque.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number;
        match self.place {
            Place::End => write!(f, "{number}"),
            Place::Behind(Subject::Task(TaskKey { cluster, id })) => write!(f, "{number}-t-{}-{id}", cluster.0),
            Place::Behind(Subject::Instance(InstanceKey { cluster, id })) => write!(f, "{number}-i-{}-{id}", cluster.0),
        }
    }
}

/// The text is no cursor of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is none that this server gave")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let mut parts = text.split('-');
        let number = decimal(parts.next())?;
        let Some(kind) = parts.next() else { return Ok(Self::end_of(number)) };
        let cluster = ClusterId(decimal(parts.next())?);
        let id = parts.next().ok_or(BadCursor)?;
        let subject = match kind {
            "t" => Subject::Task(TaskKey { cluster, id: id.parse::<TaskId>().map_err(|_| BadCursor)? }),
            "i" => Subject::Instance(InstanceKey { cluster, id: id.parse::<InstanceId>().map_err(|_| BadCursor)? }),
            _ => return Err(BadCursor),
        };
        match parts.next() {
            None => Ok(Self::behind(number, subject)),
            Some(_) => Err(BadCursor),
        }
    }
}

fn decimal(text: Option<&str>) -> Result<u64, BadCursor> {
    let text = text.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).ok_or(BadCursor)?;
    text.parse().map_err(|_| BadCursor)
}
