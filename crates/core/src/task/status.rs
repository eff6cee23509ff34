//! The statuses of a task, and the one table of its transitions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What we want of a task. It only moves forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DesiredStatus {
    /// Run it.
    #[default]
    Running,
    /// Stop it.
    Stopped,
}

impl DesiredStatus {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// What is known of a task or a container: `lastStatus`. It only moves forward; states without work are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskStatus {
    /// It waits for an instance.
    Provisioning,
    /// Placed; the agent prepares it.
    #[default]
    Pending,
    /// Every container runs.
    Running,
    /// Over. Nothing is reserved any more.
    Stopped,
}

impl TaskStatus {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }

    /// Reads what an agent reports.
    pub fn from_report(text: &str) -> Option<Self> {
        match text {
            "PENDING" => Some(Self::Pending),
            "RUNNING" => Some(Self::Running),
            "STOPPED" => Some(Self::Stopped),
            _ => None,
        }
    }

    /// The status after `reported`: reports repeat and overtake each other, so only a later one counts.
    pub fn advance(self, reported: Self) -> Self {
        match (self, reported) {
            (Self::Provisioning, later) => later,
            (Self::Pending, Self::Provisioning | Self::Pending) => Self::Pending,
            (Self::Pending, Self::Running) => Self::Running,
            (Self::Running, Self::Provisioning | Self::Pending | Self::Running) => Self::Running,
            (Self::Pending | Self::Running, Self::Stopped) => Self::Stopped,
            (Self::Stopped, Self::Provisioning | Self::Pending | Self::Running | Self::Stopped) => Self::Stopped,
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::TaskStatus::{self, Pending, Provisioning, Running, Stopped};

    #[test]
    fn the_table_of_transitions() {
        let all = [Provisioning, Pending, Running, Stopped];
        let table: Vec<TaskStatus> = all.iter().flat_map(|from| all.map(|to| from.advance(to))).collect();
        let expected = [
            [Provisioning, Pending, Running, Stopped],
            [Pending, Pending, Running, Stopped],
            [Running, Running, Running, Stopped],
            [Stopped; 4],
        ];
        assert_eq!(table, expected.concat());
    }

    #[test]
    fn a_status_never_goes_back() {
        for from in [Provisioning, Pending, Running, Stopped] {
            for to in [Provisioning, Pending, Running, Stopped] {
                assert!(from.advance(to) >= from);
            }
        }
    }
}
