//! From a task to what an agent is told: the task of a payload message (AGENT-PROTOCOL §2.6).
//!
//! Most of a task definition has no member of its own there: it travels as Docker's own configuration, see
//! `docker_config`. Overrides are merged before; the agent never sees them as such.

mod devices;
mod docker_config;
mod network;
mod secrets;
mod volumes;

use std::collections::BTreeMap;

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::{ContainerDefinition, LaunchType, PortMapping, TaskDefinition};

pub(crate) use network::interface;

use crate::entity::TaskGpu;
use crate::resources::NetworkMode;
use crate::task_definition;
use crate::task_definition::overrides::{EffectiveContainer, EffectiveTask};

/// What a payload is made of.
#[derive(Clone, Copy, Debug)]
pub struct TaskFacts<'a> {
    /// The task's ARN.
    pub task_arn: &'a str,
    /// Its cluster's ARN.
    pub cluster_arn: &'a str,
    /// The document it was made from.
    pub definition: &'a TaskDefinition,
    /// The document with this task's overrides laid over it.
    pub effective: &'a EffectiveTask,
    /// The ARNs of its containers, in the order of the definition.
    pub container_arns: &'a [String],
    /// The GPUs that its containers have, each for itself.
    pub gpus: &'a [TaskGpu],
    /// Its group.
    pub group: Option<&'a str>,
    /// How it was launched.
    pub launch_type: LaunchType,
    /// How output reaches the log driver of a container that does not say: `blocking` or `non-blocking`.
    pub log_driver_mode: &'a str,
    /// The network interface of an awsvpc task.
    pub interface: Option<&'a acs::ElasticNetworkInterface>,
}

impl TaskFacts<'_> {
    /// The task's region, where what is named without one is.
    fn region(&self) -> Option<&str> {
        self.task_arn.split(':').nth(3)
    }
}

/// The order to run a task.
pub fn start(facts: &TaskFacts<'_>) -> acs::Task {
    let definition = facts.definition;
    let documents = definition.container_definitions.as_deref().unwrap_or_default();
    let containers = documents.iter().zip(&facts.effective.containers).enumerate();
    acs::Task {
        arn: facts.task_arn.to_owned(),
        desired_status: acs::DesiredStatus::Running,
        task_cluster_arn: Some(facts.cluster_arn.to_owned()),
        family: definition.family.clone(),
        version: definition.revision.map(|revision| revision.to_string()),
        containers: containers
            .map(|(index, (document, effective))| {
                let arn = facts.container_arns.get(index).cloned();
                container(facts, document, effective, arn)
            })
            .collect(),
        volumes: volumes::of_task(definition),
        associations: devices::associations(facts),
        cpu: facts.effective.task_cpu.map(|cpu| f64::from(cpu.0) / 1024.0),
        memory: facts.effective.task_memory.map(|memory| i64::from(memory.0)),
        network_mode: Some(task_definition::network_mode(definition).as_str().to_owned()),
        elastic_network_interfaces: facts.interface.cloned().into_iter().collect(),
        pid_mode: definition.pid_mode.map(|mode| mode.as_str().to_owned()),
        ipc_mode: definition.ipc_mode.map(|mode| mode.as_str().to_owned()),
        launch_type: Some(facts.launch_type.as_str().to_owned()),
        group: facts.group.map(str::to_owned),
        enable_fault_injection: definition.enable_fault_injection.filter(|enabled| *enabled),
        ..acs::Task::default()
    }
}

/// The order to stop a task: agents need no more than this, and answer it even for tasks they do not know.
pub fn stop(task_arn: &str) -> acs::Task {
    acs::Task { arn: task_arn.to_owned(), desired_status: acs::DesiredStatus::Stopped, ..acs::Task::default() }
}

fn container(
    facts: &TaskFacts<'_>,
    document: &ContainerDefinition,
    effective: &EffectiveContainer,
    container_arn: Option<String>,
) -> acs::Container {
    // What an awsvpc task listens on is reached at its own address: a published port would spoil its containers' creation.
    let published = task_definition::network_mode(facts.definition) != NetworkMode::Awsvpc;
    let mappings = document.port_mappings.as_deref().filter(|_| published).unwrap_or_default();
    acs::Container {
        name: effective.name.clone(),
        image: document.image.clone().unwrap_or_default(),
        container_arn,
        essential: document.essential.unwrap_or(true),
        command: effective.command.clone(),
        entry_point: document.entry_point.clone().filter(|words| !words.is_empty()),
        environment: environment(facts, effective),
        cpu: i64::from(effective.cpu.0),
        memory: effective.memory.map_or(0, |memory| i64::from(memory.0)),
        links: document.links.clone().unwrap_or_default(),
        port_mappings: mappings.iter().map(port_mapping).collect(),
        depends_on: depends_on(document),
        start_timeout: document.start_timeout.map(i64::from),
        stop_timeout: document.stop_timeout.map(i64::from),
        restart_policy: restart_policy(document),
        // Lower case, and only together with a health check in the configuration: else the agent stops the task.
        health_check_type: document.health_check.as_ref().map(|_| "docker".to_owned()),
        docker_config: Some(docker_config::of(facts, document, effective)),
        registry_authentication: secrets::registry_authentication(facts, document),
        secrets: secrets::references(facts, document),
        environment_files: secrets::environment_files(&effective.environment_files),
        mount_points: volumes::mount_points(document),
        volumes_from: volumes::volumes_from(document),
        ..acs::Container::default()
    }
}

/// The container's environment. ECS tells containers where they run, but not those on EXTERNAL instances; what the user says wins.
fn environment(facts: &TaskFacts<'_>, effective: &EffectiveContainer) -> BTreeMap<String, String> {
    let mut environment = effective.environment.clone();
    let place = match facts.launch_type {
        LaunchType::Ec2 => Some("AWS_ECS_EC2"),
        LaunchType::Fargate => Some("AWS_ECS_FARGATE"),
        LaunchType::External | LaunchType::ManagedInstances => None,
    };
    if let Some(place) = place {
        environment.entry("AWS_EXECUTION_ENV".to_owned()).or_insert_with(|| place.to_owned());
    }
    environment
}

fn port_mapping(mapping: &PortMapping) -> acs::PortMapping {
    acs::PortMapping {
        container_port: mapping.container_port.map(i64::from),
        host_port: mapping.host_port.map(i64::from),
        protocol: mapping.protocol.map(|protocol| protocol.as_str().to_owned()),
        container_port_range: mapping.container_port_range.clone(),
    }
}

fn depends_on(document: &ContainerDefinition) -> Vec<acs::ContainerDependency> {
    let dependencies = document.depends_on.as_deref().unwrap_or_default();
    dependencies
        .iter()
        .map(|dependency| acs::ContainerDependency {
            container_name: dependency.container_name.clone(),
            condition: dependency.condition.as_str().to_owned(),
        })
        .collect()
}

/// The agent's own default for the period differs from ECS's, so it is always said.
fn restart_policy(document: &ContainerDefinition) -> Option<acs::RestartPolicy> {
    let policy = document.restart_policy.as_ref().filter(|policy| policy.enabled)?;
    let codes = policy.ignored_exit_codes.as_deref().unwrap_or_default();
    let period = policy.restart_attempt_period.unwrap_or(task_definition::DEFAULT_RESTART_PERIOD_S);
    Some(acs::RestartPolicy {
        enabled: true,
        ignored_exit_codes: codes.iter().copied().map(i64::from).collect(),
        restart_attempt_period: Some(i64::from(period)),
    })
}

#[cfg(test)]
mod tests;
