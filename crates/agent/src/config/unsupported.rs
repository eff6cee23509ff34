//! Variables of the official agent that have no effect here, each with the reason.

use std::fmt;

use super::source::Source;

/// A variable that is set and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The variable.
    pub name: String,
    /// Why not.
    pub why: &'static str,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.why)
    }
}

const NO_EC2: &str = "this agent does not ask EC2 for anything";
const NO_ENI: &str = "tasks of network mode awsvpc get their networks without EC2 and CNI plugins";
const NO_METADATA: &str = "there is no task metadata endpoint yet";
const NO_MEASURING: &str = "the resource use of tasks is not measured yet";
const NO_ROLES: &str = "task roles are not supported yet";
const NO_VOLUME_PLUGIN: &str = "Amazon's volume plugin is not used: file systems are mounted as plain NFS";
const NO_UPDATES: &str = "the agent does not update itself: replace its binary and start it again, tasks run on";
const NO_LOG_DRIVER: &str = "the agent runs in no container; its log is set with ECS_LOGFILE";
const UNKNOWN: &str = "this agent knows no such variable";

/// Name, the value that asks for nothing and needs no warning, and why there is more to ask for.
const KNOWN: [(&str, Option<&str>, &str); 30] = [
    ("AWS_EC2_METADATA_DISABLED", Some("true"), NO_EC2),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", None, NO_EC2),
    ("ECS_AUDIT_LOGFILE", None, NO_ROLES),
    ("ECS_AUDIT_LOGFILE_DISABLED", Some("true"), NO_ROLES),
    ("ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES", None, NO_ENI),
    ("ECS_AWSVPC_BLOCK_IMDS", Some("false"), NO_ENI),
    ("ECS_CGROUP_CPU_PERIOD", Some("100ms"), "CPU quotas always count over 100 ms"),
    ("ECS_CNI_PLUGINS_PATH", None, NO_ENI),
    ("ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", Some("none"), NO_EC2),
    ("ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE", Some("false"), NO_ROLES),
    ("ECS_ENABLE_CONTAINER_METADATA", Some("false"), "there are no metadata files yet"),
    ("ECS_ENABLE_HIGH_DENSITY_ENI", Some("false"), NO_ENI),
    (
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING",
        Some("false"),
        "this agent does not ask EC2 for notices: LONGSHORE_TERMINATION_NOTICE_HOOK names a program that does",
    ),
    ("ECS_ENABLE_TASK_IAM_ROLE", Some("false"), NO_ROLES),
    ("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", Some("false"), NO_ROLES),
    ("ECS_HOST_DATA_DIR", None, "the agent runs in no container: ECS_DATADIR is the host's own path"),
    ("ECS_INIT_DOCKER_LOG_FILE_NUM", None, NO_LOG_DRIVER),
    ("ECS_INIT_DOCKER_LOG_FILE_SIZE", None, NO_LOG_DRIVER),
    ("ECS_LOG_DRIVER", None, NO_LOG_DRIVER),
    ("ECS_LOG_OPTS", None, NO_LOG_DRIVER),
    ("ECS_POLLING_METRICS_WAIT_DURATION", None, NO_MEASURING),
    ("ECS_POLL_METRICS", Some("false"), NO_MEASURING),
    (
        "ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2",
        Some("false"),
        "a task's memory limit is set on its cgroup alone, which bounds its containers as well",
    ),
    ("ECS_TASK_METADATA_RPS_LIMIT", None, NO_METADATA),
    ("ECS_UPDATES_ENABLED", Some("false"), NO_UPDATES),
    ("ECS_UPDATE_DOWNLOAD_DIR", None, NO_UPDATES),
    ("ECS_VOLUME_PLUGIN_CAPABILITIES", Some("[]"), NO_VOLUME_PLUGIN),
    ("ECS_WARM_POOLS_CHECK", Some("false"), NO_EC2),
    ("ECS_DISABLE_TASK_METADATA_AZ", None, NO_METADATA),
    ("ECS_ENABLE_RUNTIME_STATS", Some("false"), "there is no introspection endpoint yet"),
];

/// All variables with a value that asks for something we do not do, once everything we do was asked for.
pub(super) fn of(source: &Source) -> Vec<Unsupported> {
    let unasked = source.unasked().filter_map(|(name, value)| {
        let why = match KNOWN.iter().find(|(known, ..)| *known == name) {
            Some((_, harmless, _)) if *harmless == Some(value) => return None,
            Some((.., why)) => why,
            None if name.starts_with("ECS_") => UNKNOWN,
            None => return None,
        };
        Some(Unsupported { name: name.to_owned(), why })
    });
    unasked.collect()
}
