//! What a definition needs of an instance, as attributes with ECS's names, and where it can run at all.
//!
//! Agents advertise what they can do (AGENT-PROTOCOL §1.9); placement refuses instances that lack one of these.

use std::collections::BTreeMap;

use longshore_api::ecs::types::{
    CPUArchitecture, Compatibility, ContainerDefinition, EFSTransitEncryption, LogDriver, NetworkMode,
    RegisterTaskDefinitionRequest, TaskDefinition, Volume,
};

use super::image::ImageReference;
use super::secret::SecretSource;
use super::{limits, size, validate};
use crate::entity::Instance;
use crate::network::TASK_ENI;
use crate::resources::MemoryMib;

/// An attribute that an instance must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredAttribute {
    /// Its name.
    pub name: String,
    /// Its value, where that matters.
    pub value: Option<String>,
}

impl RequiredAttribute {
    /// Whether an instance has it.
    pub(crate) fn is_met_by(&self, instance: &Instance) -> bool {
        match (instance.attributes.get(self.name.as_str()), &self.value) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(value), Some(wanted)) => value.as_deref() == Some(wanted.as_str()),
        }
    }
}

/// Limits for a task as a whole.
pub(crate) const TASK_LIMITS: &str = "ecs.capability.task-cpu-mem-limit";
/// Limits for a task as a whole, beyond 10 vCPUs.
pub(crate) const INCREASED_TASK_CPU: &str = "ecs.capability.increased-task-cpu-limit";

/// Files of variables.
pub(crate) const ENVIRONMENT_FILES: &str = "ecs.capability.env-files.s3";
/// Tokens of ECR had with the execution role instead of the agent's own credentials.
pub(crate) const EXECUTION_ROLE_ECR_PULL: &str = "ecs.capability.execution-role-ecr-pull";

/// Attributes by name, so that they come out sorted and once each.
type Attributes = BTreeMap<String, Option<String>>;

/// Everything that the tasks of a definition need, sorted by name.
pub(super) fn attributes(document: &TaskDefinition) -> Vec<RequiredAttribute> {
    let mut found = Attributes::new();
    if document.cpu.is_some() || document.memory.is_some() {
        add(&mut found, TASK_LIMITS);
    }
    let cpu = document.cpu.as_deref().and_then(size::task_cpu);
    if cpu.is_some_and(|cpu| cpu.0 > limits::BASIC_TASK_CPU) {
        add(&mut found, INCREASED_TASK_CPU);
    }
    if document.pid_mode.is_some() || document.ipc_mode.is_some() {
        add(&mut found, "ecs.capability.pid-ipc-namespace-sharing");
    }
    if document.network_mode == Some(NetworkMode::Awsvpc) {
        add(&mut found, TASK_ENI);
    }
    if document.enable_fault_injection == Some(true) {
        add(&mut found, "ecs.capability.fault-injection");
    }
    if let Some(architecture) = document.runtime_platform.as_ref().and_then(|platform| platform.cpu_architecture) {
        let value = match architecture {
            CPUArchitecture::X86_64 => "x86_64",
            CPUArchitecture::Arm64 => "arm64",
        };
        found.insert("ecs.cpu-architecture".to_owned(), Some(value.to_owned()));
    }
    let execution_role = document.execution_role_arn.as_ref().is_some_and(|role| !role.is_empty());
    for container in document.container_definitions.as_deref().unwrap_or_default() {
        of_engine(container, &mut found);
        of_agent(container, &mut found);
        of_secrets(container, &mut found);
        if execution_role && is_ecr(container) {
            add(&mut found, EXECUTION_ROLE_ECR_PULL);
        }
    }
    for volume in document.volumes.iter().flatten() {
        of_volume(volume, &mut found);
    }
    found.into_iter().map(|(name, value)| RequiredAttribute { name, value }).collect()
}

fn add(found: &mut Attributes, name: &str) {
    found.insert(name.to_owned(), None);
}

fn add_api(found: &mut Attributes, version: &str) {
    found.insert(format!("com.amazonaws.ecs.capability.docker-remote-api.{version}"), None);
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

/// What the Docker Engine must be able to do: the API version that brought the setting.
fn of_engine(container: &ContainerDefinition, found: &mut Attributes) {
    for version in api_versions(container) {
        add_api(found, version);
    }
    if let Some(logging) = &container.log_configuration {
        add(found, &format!("com.amazonaws.ecs.capability.logging-driver.{}", logging.log_driver));
    }
    if container.privileged == Some(true) {
        add(found, "com.amazonaws.ecs.capability.privileged-container");
    }
    for option in container.docker_security_options.as_deref().unwrap_or_default() {
        if option.starts_with("apparmor") {
            add(found, "com.amazonaws.ecs.capability.apparmor");
        } else if option.starts_with("label") {
            add(found, "com.amazonaws.ecs.capability.selinux");
        }
    }
}

/// The versions of the Docker API that the settings of a container need, smallest first.
pub(crate) fn api_versions(container: &ContainerDefinition) -> impl Iterator<Item = &'static str> {
    let linux = container.linux_parameters.as_ref();
    let driver = container.log_configuration.as_ref().map(|logging| logging.log_driver);
    let labels = container.docker_labels.as_ref().is_some_and(|labels| !labels.is_empty());
    [
        ("1.17", container.readonly_root_filesystem == Some(true)),
        ("1.18", labels || filled(&container.ulimits) || driver.is_some()),
        ("1.19", is_ecr(container) || matches!(driver, Some(LogDriver::Awslogs | LogDriver::Journald))),
        ("1.20", driver.is_some_and(|driver| matches!(driver, LogDriver::Gelf | LogDriver::Fluentd))),
        ("1.20", linux.is_some_and(|linux| linux.max_swap.is_some())),
        ("1.21", MemoryMib::from_document(container.memory_reservation).is_some()),
        ("1.22", driver == Some(LogDriver::Splunk)),
        ("1.22", linux.is_some_and(|linux| linux.shared_memory_size.is_some() || filled(&linux.tmpfs))),
        ("1.24", container.health_check.is_some() || filled(&container.system_controls)),
        ("1.25", linux.is_some_and(|linux| linux.init_process_enabled == Some(true))),
    ]
    .into_iter()
    .filter_map(|(version, needed)| needed.then_some(version))
}

pub(super) fn is_ecr(container: &ContainerDefinition) -> bool {
    let image = container.image.as_deref().and_then(|image| ImageReference::parse(image).ok());
    image.is_some_and(|image| image.ecr().is_some())
}

/// What the agent itself must be able to do.
fn of_agent(container: &ContainerDefinition, found: &mut Attributes) {
    if is_ecr(container) {
        add(found, "com.amazonaws.ecs.capability.ecr-auth");
    }
    if container.health_check.is_some() {
        add(found, "ecs.capability.container-health-check");
    }
    if filled(&container.depends_on) || container.start_timeout.is_some() {
        add(found, "ecs.capability.container-ordering");
    }
    if container.restart_policy.as_ref().is_some_and(|policy| policy.enabled) {
        add(found, "ecs.capability.container-restart-policy");
    }
    let mappings = container.port_mappings.as_deref().unwrap_or_default();
    if mappings.iter().any(|mapping| mapping.container_port_range.is_some()) {
        add(found, "ecs.capability.network.container-port-range");
    }
}

/// What is fetched from other services before the container can be.
fn of_secrets(container: &ContainerDefinition, found: &mut Attributes) {
    let logging = container.log_configuration.as_ref().and_then(|logging| logging.secret_options.as_deref());
    for (secrets, purpose) in
        [(container.secrets.as_deref(), "environment-variables"), (logging, "bootstrap.log-driver")]
    {
        for secret in secrets.unwrap_or_default() {
            let provider = SecretSource::of_value_from(&secret.value_from).provider;
            add(found, &format!("ecs.capability.secrets.{}.{purpose}", provider.as_str()));
        }
    }
    if filled(&container.environment_files) {
        add(found, ENVIRONMENT_FILES);
    }
    if container.repository_credentials.is_some() {
        add(found, "ecs.capability.private-registry-authentication.secretsmanager");
    }
}

/// What makes a volume: a plugin of Docker's, or the agent's own way to mount a network file system.
fn of_volume(volume: &Volume, found: &mut Attributes) {
    if let Some(docker) = &volume.docker_volume_configuration {
        let driver = docker.driver.as_deref().filter(|driver| !driver.is_empty()).unwrap_or("local");
        // An attribute's name has no colon; a plugin's may have one, before its tag.
        add(found, &format!("ecs.capability.docker-plugin.{}", driver.replace(':', ".")));
        add_api(found, "1.25");
    }
    if let Some(efs) = &volume.efs_volume_configuration {
        add(found, "ecs.capability.efs");
        add_api(found, "1.25");
        if efs.transit_encryption == Some(EFSTransitEncryption::Enabled) {
            add(found, "ecs.capability.efsAuth");
        }
    }
}

/// The launch types that a definition can run as. External instances have no interfaces for tasks, and faults can only be injected
/// by agents that are not External.
pub(super) fn compatibilities(request: &RegisterTaskDefinitionRequest) -> Vec<Compatibility> {
    if validate::is_for_fargate(request) {
        vec![Compatibility::Ec2, Compatibility::Fargate]
    } else if request.enable_fault_injection == Some(true) || request.network_mode == Some(NetworkMode::Awsvpc) {
        vec![Compatibility::Ec2]
    } else {
        vec![Compatibility::External, Compatibility::Ec2]
    }
}
