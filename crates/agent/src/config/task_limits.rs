//! With what tasks are bounded.

use std::path::PathBuf;

use super::ConfigError;
use super::source::Source;

/// How tasks are bounded by cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLimitsConfig {
    /// Whether that was asked for; if nobody said anything, it is done where it can be.
    pub wanted: Option<bool>,
    /// Where the kernel shows its cgroups.
    pub cgroup_root: PathBuf,
    /// Processes and threads that a task may have.
    pub pids: Option<u64>,
}

impl TaskLimitsConfig {
    pub(super) fn read(source: &mut Source) -> Result<Self, ConfigError> {
        /// The kernel's own limit.
        const MOST_PIDS: u64 = 4_194_304;
        const WANTED: &str = "ECS_ENABLE_TASK_CPU_MEM_LIMIT";
        let wanted = match source.text(WANTED) {
            None => None,
            Some(_) => Some(source.boolean(WANTED, true)?),
        };
        let root = source.text("ECS_CGROUP_PATH").unwrap_or_else(|| "/sys/fs/cgroup".to_owned());
        let pids = source.integer("ECS_TASK_PIDS_LIMIT", 0, 0, MOST_PIDS)?;
        Ok(Self { wanted, cgroup_root: PathBuf::from(root), pids: Some(pids).filter(|pids| *pids > 0) })
    }
}
