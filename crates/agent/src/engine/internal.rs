//! Containers that the agent adds to a task: they do nothing but hold namespaces that the task's own containers share.
//!
//! They live as any container does: made before the others, by a dependency of those, and stopped after them. Nobody is told
//! of them.

use longshore_agent_protocol::acs;
use serde_json::{Value, json};

use super::container_config::docker_name;
use super::resource::network;
use crate::pause;

/// No container of a task definition can be called so. The official agent's words, for those who look at Docker.
const PREFIX: &str = "~internal~ecs~";
/// Holds the process and IPC namespaces of a task.
pub(crate) const NAMESPACES: &str = "~internal~ecs~pause~namespace";

/// Whether a container of this name is the agent's own.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Adds the containers that the task needs, as if the payload had named them.
pub(crate) fn add(task: &mut acs::Task) {
    if shares_with_task(task.pid_mode.as_deref()) || shares_with_task(task.ipc_mode.as_deref()) {
        let host_config = json!({
            "NetworkMode": "none",
            "IpcMode": if shares_with_task(task.ipc_mode.as_deref()) { "shareable" } else { "private" },
        });
        add_first(task, NAMESPACES, json!({}), host_config);
    }
    if network::is_wanted(task) {
        let (config, host_config) = network::pause_settings(task);
        add_first(task, network::PAUSE, config, host_config);
    }
}

/// Adds a container that runs before every other, and as long as any.
fn add_first(task: &mut acs::Task, name: &str, config: Value, mut host_config: Value) {
    for container in &mut task.containers {
        let container_name = name.to_owned();
        container.depends_on.push(acs::ContainerDependency { container_name, condition: "START".to_owned() });
    }
    // It prints nothing, and the daemon's default driver may want options that nobody gave.
    host_config["LogConfig"] = json!({ "Type": "none" });
    task.containers.push(acs::Container {
        name: name.to_owned(),
        image: pause::image().to_owned(),
        essential: true,
        docker_config: Some(acs::DockerConfig {
            config: Some(config.to_string()),
            host_config: Some(host_config.to_string()),
            ..acs::DockerConfig::default()
        }),
        ..acs::Container::default()
    });
}

fn shares_with_task(mode: Option<&str>) -> bool {
    mode == Some("task")
}

/// `PidMode` or `IpcMode` of a container in a task of that mode, in Docker's words; none leaves it to Docker.
pub(crate) fn namespace(task: &acs::Task, container: &str, mode: Option<&str>) -> Option<String> {
    let mode = mode.filter(|mode| !mode.is_empty() && !is_internal(container))?;
    if shares_with_task(Some(mode)) {
        return Some(format!("container:{}", docker_name(task, NAMESPACES)));
    }
    Some(mode.to_owned())
}
