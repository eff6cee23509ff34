//! The cgroup that bounds all containers of a task together.

use longshore_agent_protocol::acs;
use serde::{Deserialize, Serialize};

use super::{Before, Facts, Resource, ResourceKey, ResourceSpec};
use crate::engine::EngineConfig;
use crate::engine::container_config::{MAX_CPU_SHARES, MIN_CPU_SHARES};

/// The fact in which the shell says what Docker calls the cgroup.
const PARENT: &str = "parent";

/// What the agent can bound a task with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits {
    /// It can make cgroups that Docker puts containers in.
    pub cgroups: bool,
    /// `ECS_TASK_PIDS_LIMIT`: processes and threads that a task may have.
    pub pids: Option<u64>,
}

/// The limits of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupSpec {
    /// Names the cgroup.
    pub task_id: String,
    /// Microseconds of CPU time in each second of the clock; none for as much as is free.
    pub cpu_us_per_second: Option<u64>,
    /// Its weight against other tasks, as Docker's shares.
    pub cpu_shares: u64,
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Why this agent cannot bound the task as it is wanted.
pub(crate) fn check(limits: TaskLimits, task: &acs::Task) -> Result<(), String> {
    let Some(memory_mib) = task.memory.filter(|mib| *mib > 0) else {
        return match task.cpu.filter(|vcpus| *vcpus > 0.0) {
            Some(_) if !limits.cgroups => Err(unsupported("cpu")),
            _ => Ok(()),
        };
    };
    if !limits.cgroups {
        return Err(unsupported("memory"));
    }
    match task.containers.iter().find(|container| container.memory > memory_mib) {
        Some(container) => Err(format!(
            "container {} may use {} MiB, more than the {memory_mib} MiB of its task",
            container.name, container.memory
        )),
        None => Ok(()),
    }
}

fn unsupported(what: &str) -> String {
    format!("a {what} limit of the whole task is not supported by this agent: it has no cgroup to put it in")
}

/// The task's cgroup, if something is to be bounded.
pub(super) fn plan(config: &EngineConfig, task: &acs::Task) -> Option<Resource> {
    let vcpus = task.cpu.filter(|vcpus| *vcpus > 0.0);
    let memory_mib = task.memory.and_then(|mib| u64::try_from(mib).ok()).filter(|mib| *mib > 0);
    let pids = config.limits.pids.filter(|_| config.limits.cgroups);
    if vcpus.is_none() && memory_mib.is_none() && pids.is_none() {
        return None;
    }
    let shares = task.containers.iter().map(|container| container.cpu.max(MIN_CPU_SHARES)).sum::<i64>();
    let spec = CgroupSpec {
        task_id: task.arn.rsplit('/').next().unwrap_or_default().to_owned(),
        cpu_us_per_second: vcpus.map(|vcpus| (vcpus * 1e6).round() as u64),
        cpu_shares: shares.clamp(MIN_CPU_SHARES, MAX_CPU_SHARES).unsigned_abs(),
        memory_bytes: memory_mib.map(|mib| mib.saturating_mul(1 << 20)),
        pids,
    };
    Some(Resource {
        key: ResourceKey::Cgroup,
        spec: ResourceSpec::Cgroup(spec),
        container: None,
        // Docker would make up for one that is missing, without its limits.
        before: Before::Start,
        after: None,
        volatile: true,
        brief: false,
    })
}

/// What Docker calls the cgroup.
pub(crate) fn parent(facts: &Facts) -> Option<&str> {
    facts.0.get(PARENT).map(String::as_str)
}

/// What is to be remembered of a cgroup that Docker calls so.
pub(crate) fn facts(parent: String) -> Facts {
    Facts([(PARENT.to_owned(), parent)].into())
}
