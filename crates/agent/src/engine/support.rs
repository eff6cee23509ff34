//! What this agent can honour. Anything else is refused by name: a setting is never accepted and then ignored.

use std::collections::BTreeSet;

use longshore_agent_protocol::acs;

use super::EngineConfig;
use super::container_config::{container_spec, network_mode};
use super::dependency;
use super::gpu;
use super::internal;
use super::resource::{self, Prepared, cgroup};

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
    let mode = network_mode(task);
    for (given, field) in [
        (!matches!(mode, "bridge" | "host" | "none" | "awsvpc"), format!("networkMode {mode}").as_str()),
        (mode != "awsvpc" && !task.elastic_network_interfaces.is_empty(), "elasticNetworkInterfaces"),
        (task.proxy_configuration.is_some(), "proxyConfiguration"),
        (task.role_credentials.is_some(), "roleCredentials (taskRoleArn)"),
        (!task.attachments.is_empty(), "attachments"),
        (task.enable_fault_injection == Some(true), "enableFaultInjection"),
    ] {
        if given {
            return unsupported(field);
        }
    }
    let mut names = BTreeSet::new();
    for container in &task.containers {
        if internal::is_internal(&container.name) {
            return Err(unloadable(format!("container name {:?} is the agent's own", container.name)));
        }
        if container.name.is_empty() || !names.insert(container.name.as_str()) {
            return Err(unloadable(format!("container name {:?} is empty or not unique", container.name)));
        }
        for (given, field) in [
            (asks_elsewhere(container), "registryAuthentication.ecrAuthData.endpointOverride"),
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
    cgroup::check(config.limits, task).map_err(unloadable)?;
    gpu::check(&config.resources, task).map_err(unloadable)?;
    resource::plan(config, task).map_err(unloadable)?;
    dependency::resolve(task).map(|_| ())
}

/// Whether the image's registry is to be asked at an endpoint of its own. ECR's is the server's.
fn asks_elsewhere(container: &acs::Container) -> bool {
    container.registry_authentication.as_ref().is_some_and(|asked| {
        let overridden = asked.ecr_auth_data.as_ref().and_then(|data| data.endpoint_override.as_deref());
        overridden.is_some_and(|endpoint| !endpoint.is_empty())
    })
}
