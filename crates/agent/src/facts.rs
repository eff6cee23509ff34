//! `agent.json`: what this machine's agent is registered as, for people and for `longshore agent drain`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::Readers;
use crate::identity::{FileError, read_json, write_json};

const FILE: &str = "agent.json";

/// What an agent that is registered says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentFacts {
    pub(crate) pid: u32,
    /// The server's URL.
    pub(crate) server: String,
    /// Name or ARN, as configured.
    pub(crate) cluster: String,
    /// In the order of the instances' numbers.
    pub(crate) container_instance_arns: Vec<String>,
    pub(crate) version: String,
}

impl AgentFacts {
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// What the last agent with this data directory was registered as.
    pub(crate) fn read(data_dir: &Path) -> Result<Option<Self>, FileError> {
        read_json(&Self::path(data_dir), "start the agent again, which writes it anew")
    }

    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), FileError> {
        write_json(&Self::path(data_dir), self, Readers::Everybody)
    }
}
