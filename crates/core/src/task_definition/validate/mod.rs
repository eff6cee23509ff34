//! What ECS refuses in a task definition, and what Longshore refuses because it could not obey it.
//!
//! ECS's own rules come first, then [`support`]: a definition that is wrong by ECS's rules is told so even if it uses
//! something that is missing here. Messages begin with ECS's own wording where that is known, and name the container and
//! the field.

mod container;
mod dependencies;
mod devices;
mod fargate;
mod linux;
mod logging;
mod ports;
mod support;
mod task;
mod volumes;

use std::collections::BTreeSet;
use std::fmt::Display;

use longshore_api::ApiError;
use longshore_api::ecs::types::{ContainerDefinition, NetworkMode, RegisterTaskDefinitionRequest};

pub(super) use container::{SHARED_SECRET_NAME, check_environment_files, check_variable};
pub(super) use devices::{check_one_for_all, check_requirements};
pub(crate) use fargate::{is_size as is_fargate_size, no_size as no_fargate_size};
pub(super) use task::is_role;

use super::{limits, size};
use crate::resources::{CpuUnits, MemoryMib};

/// The parts of a definition that the rules for its containers depend on.
struct Task {
    mode: NetworkMode,
    cpu: Option<CpuUnits>,
    memory: Option<MemoryMib>,
    /// Whether the agent is given a role to prepare it with.
    execution_role: bool,
    /// The names of its inference accelerators.
    accelerators: BTreeSet<String>,
}

impl Task {
    fn read(request: &RegisterTaskDefinitionRequest) -> Result<Self, ApiError> {
        Ok(Self {
            mode: request.network_mode.unwrap_or(NetworkMode::Bridge),
            cpu: task_cpu(request)?,
            memory: task_memory(request)?,
            execution_role: request.execution_role_arn.as_ref().is_some_and(|role| !role.is_empty()),
            accelerators: request.inference_accelerators.iter().flatten().map(|one| one.device_name.clone()).collect(),
        })
    }
}

/// Whether the tasks of a definition that is good otherwise could run on Fargate.
pub(super) fn is_for_fargate(request: &RegisterTaskDefinitionRequest) -> bool {
    Task::read(request).and_then(|task| fargate::rules(request, &task)).is_ok()
}

/// All rules, in a fixed order; the first one broken is the answer.
pub(super) fn check(request: &RegisterTaskDefinitionRequest) -> Result<(), ApiError> {
    check_family(&request.family)?;
    let containers = request.container_definitions.as_slice();
    check_names(containers)?;
    let task = Task::read(request)?;
    task::check(request, &task)?;
    fargate::check(request, &task)?;
    for container in containers {
        container::check(container, &task)?;
        linux::check(container, request, &task)?;
        logging::check(container, &task)?;
        ports::check(container, &task)?;
    }
    check_sums(containers, &task)?;
    devices::check_together(containers)?;
    ports::check_together(containers, &task)?;
    volumes::check(request)?;
    dependencies::check(containers, &task)?;
    logging::check_together(containers)?;
    support::check(request)
}

/// The name of a container; [`check_names`] makes sure that there is one.
fn name(container: &ContainerDefinition) -> &str {
    container.name.as_deref().unwrap_or_default()
}

/// The refusal of a container's field.
fn invalid(container: &ContainerDefinition, field: &str, why: impl Display) -> ApiError {
    ApiError::client(format!("Invalid '{field}' setting for container '{}'. {why}", name(container)))
}

/// The refusal of a field of the task.
fn invalid_task(field: &str, why: impl Display) -> ApiError {
    ApiError::client(format!("Invalid '{field}' setting for task. {why}"))
}

/// Families and containers are named alike: letters, digits, `_` and `-`.
fn is_name(text: &str) -> bool {
    text.len() <= limits::NAME && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn check_family(family: &str) -> Result<(), ApiError> {
    if family.is_empty() {
        return Err(ApiError::client("Family should not be null or empty."));
    }
    if !is_name(family) {
        return Err(ApiError::client(format!(
            "Family contains invalid characters. '{family}' must have up to {} letters, numbers, hyphens and underscores.",
            limits::NAME
        )));
    }
    Ok(())
}

fn check_names(containers: &[ContainerDefinition]) -> Result<(), ApiError> {
    if containers.is_empty() {
        return Err(ApiError::client("Container list cannot be empty."));
    }
    if containers.len() > limits::CONTAINERS {
        return Err(ApiError::client(format!(
            "Too many containers. A task definition has up to {}, this one {}.",
            limits::CONTAINERS,
            containers.len()
        )));
    }
    let mut seen = BTreeSet::new();
    for container in containers {
        let name = name(container);
        if name.is_empty() {
            return Err(ApiError::client("Container.name should not be null or empty."));
        }
        if !is_name(name) {
            return Err(ApiError::client(format!(
                "Container.name contains invalid characters. '{name}' must have up to {} letters, numbers, hyphens and underscores.",
                limits::NAME
            )));
        }
        if !seen.insert(name) {
            return Err(ApiError::client(format!(
                "Container names must be unique within a Task Definition. '{name}' is there twice."
            )));
        }
    }
    if !containers.iter().any(|container| container.essential.unwrap_or(true)) {
        return Err(ApiError::client(
            "A task definition must have at least one essential container. Set 'essential' of a container to true.",
        ));
    }
    Ok(())
}

fn task_cpu(request: &RegisterTaskDefinitionRequest) -> Result<Option<CpuUnits>, ApiError> {
    let Some(text) = request.cpu.as_deref() else {
        return Ok(None);
    };
    size::task_cpu(text).filter(|cpu| limits::TASK_CPU.contains(&cpu.0)).map(Some).ok_or_else(|| {
        invalid_task(
            "cpu",
            format!(
                "'{text}' must be a number of CPU units from {} to {}, or of vCPUs, such as '1 vCPU'.",
                limits::TASK_CPU.start(),
                limits::TASK_CPU.end()
            ),
        )
    })
}

fn task_memory(request: &RegisterTaskDefinitionRequest) -> Result<Option<MemoryMib>, ApiError> {
    let Some(text) = request.memory.as_deref() else {
        return Ok(None);
    };
    size::task_memory(text)
        .filter(|memory| i64::from(memory.0) >= i64::from(limits::MIN_MEMORY_MIB))
        .filter(|memory| i32::try_from(memory.0).is_ok())
        .map(Some)
        .ok_or_else(|| {
            invalid_task(
                "memory",
                format!(
                    "'{text}' must be a number of MiB, at least {}, or of GB, such as '1GB'.",
                    limits::MIN_MEMORY_MIB
                ),
            )
        })
}

/// The containers together stay within the task.
fn check_sums(containers: &[ContainerDefinition], task: &Task) -> Result<(), ApiError> {
    let cpu = containers
        .iter()
        .map(|container| CpuUnits::from_document(container.cpu))
        .fold(CpuUnits(0), CpuUnits::saturating_add);
    if task.cpu.is_some_and(|limit| cpu > limit) {
        return Err(ApiError::client(
            "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.",
        ));
    }
    let reserved = containers
        .iter()
        .filter_map(|container| MemoryMib::from_document(container.memory_reservation))
        .fold(MemoryMib(0), MemoryMib::saturating_add);
    if task.memory.is_some_and(|limit| reserved > limit) {
        return Err(ApiError::client(
            "The sum of all container 'memoryReservation' values cannot be greater than the value of the task 'memory'.",
        ));
    }
    Ok(())
}
