//! What this agent can honour. Anything else is refused by name: a setting is never accepted and then ignored.

use std::collections::BTreeSet;

use longshore_agent_protocol::acs;

use super::EngineConfig;
use super::container_config::{container_spec, network_mode};
use super::dependency;
use super::gpu;
use super::resource::{self, Prepared};

/// Whether the task can be run as it is wanted; an error names what cannot.
pub(crate) fn check(config: &EngineConfig, task: &acs::Task) -> Result<(), String> {
    let unloadable = |why: String| format!("UnrecogniedTaskError: Error loading task - {why}");
    let unsupported = |field: &str| Err(unloadable(format!("{field} is not supported by this agent")));
    if let Some(why) = &task.unreadable {
        return Err(unloadable(why.clone()));
    }
    if task.containers.is_empty() {
        return Err(unloadable("containers is empty".to_owned()));
    }
    if task.desired_status != acs::DesiredStatus::Running {
        return Err(unloadable("desiredStatus is neither RUNNING nor STOPPED".to_owned()));
    }
    let limited = task.cpu.is_some_and(|vcpus| vcpus > 0.0) || task.memory.is_some_and(|mib| mib > 0);
    let mode = network_mode(task);
    for (given, field) in [
        (!matches!(mode, "bridge" | "host" | "none"), format!("networkMode {mode}").as_str()),
        (!task.volumes.is_empty(), "volumes"),
        (!task.elastic_network_interfaces.is_empty(), "elasticNetworkInterfaces"),
        (task.pid_mode.as_deref() == Some("task"), "pidMode task"),
        (task.ipc_mode.as_deref() == Some("task"), "ipcMode task"),
        (task.proxy_configuration.is_some(), "proxyConfiguration"),
        (task.role_credentials.is_some(), "roleCredentials (taskRoleArn)"),
        (!task.attachments.is_empty(), "attachments"),
        (task.enable_fault_injection == Some(true), "enableFaultInjection"),
        (limited && task.containers.len() > 1, "a task-level cpu or memory limit over several containers"),
    ] {
        if given {
            return unsupported(field);
        }
    }
    let mut names = BTreeSet::new();
    for container in &task.containers {
        if container.name.is_empty() || !names.insert(container.name.as_str()) {
            return Err(unloadable(format!("container name {:?} is empty or not unique", container.name)));
        }
        for (given, field) in [
            (!container.mount_points.is_empty(), "mountPoints"),
            (!container.environment_files.is_empty(), "environmentFiles"),
            (container.registry_authentication.is_some(), "registryAuthentication (repositoryCredentials)"),
            (container.logs_auth_strategy.as_deref().is_some_and(|s| !s.is_empty()), "logsAuthStrategy"),
            (container.firelens_configuration.is_some(), "firelensConfiguration"),
            (!container.managed_agents.is_empty(), "managedAgents (enableExecuteCommand)"),
            (!container.credential_specs.is_empty(), "credentialSpecs"),
        ] {
            if given {
                return unsupported(&format!("container {}: {field}", container.name));
            }
        }
        container_spec(config, task, container, &Prepared::default())
            .map_err(|why| if why.contains("Error: ") { why } else { unloadable(why) })?;
    }
    gpu::check(&config.resources, task).map_err(unloadable)?;
    resource::plan(config, task).map_err(unloadable)?;
    dependency::resolve(task).map(|_| ())
}
