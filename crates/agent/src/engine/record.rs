//! What the agent keeps of a task.

use longshore_agent_protocol::acs;
use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

use super::container::{ContainerRecord, Status};
use super::resource::ResourceRecord;

/// What is wanted of a task. Only ever turns from Running to Stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Desired {
    /// It is to run.
    Running,
    /// It is to stop.
    Stopped,
}

/// All that the agent keeps of a task. Durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The payload's task, without credentials; after clean-up only what names it.
    pub definition: acs::Task,
    /// Sequence number of the payload that brought it.
    pub seq_num: i64,
    /// When that was.
    pub received_at: Timestamp,
    /// What is wanted. Written by orders, and by the end of an essential container.
    pub desired: Desired,
    /// How far it has come: as far as its containers.
    pub known: Status,
    /// Whether its share of the host is taken. A task that was not admitted waits for its share.
    pub admitted: bool,
    /// Whether all its containers ever ran at once, or had ended after running.
    pub reached_running: bool,
    /// The containers, in the order of the definition.
    pub containers: Vec<ContainerRecord>,
    /// Why it stopped, if the agent has something to say about that.
    pub reason: String,
    /// When its first image pull began.
    pub pull_started_at: Option<Timestamp>,
    /// When its last image pull ended.
    pub pull_stopped_at: Option<Timestamp>,
    /// When its first essential container ended.
    pub execution_stopped_at: Option<Timestamp>,
    /// When it stopped.
    pub stopped_at: Option<Timestamp>,
    /// The status that the control plane has: None, Running or Stopped. Written from its answers.
    pub reported: Status,
    /// Whether its containers were removed; it is only remembered then.
    pub cleaned: bool,
    /// Whether Docker is yet to be asked which containers it has: an order to stop came for a task that was not known.
    #[serde(default)]
    pub to_find: bool,
    /// What it needs beside containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceRecord>,
}

impl TaskRecord {
    /// The task's ARN.
    pub fn arn(&self) -> &str {
        &self.definition.arn
    }

    /// The record as it is kept.
    pub fn to_json(&self) -> Vec<u8> {
        // Maps with string keys and plain values: writing them to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record that was kept.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
