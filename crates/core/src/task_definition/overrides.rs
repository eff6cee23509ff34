//! What a caller of RunTask or StartTask changes for one task.

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::ApiError;
use longshore_api::ecs::error::UNSUPPORTED_FEATURE_EXCEPTION;
use longshore_api::ecs::types::{
    ContainerDefinition, ContainerOverride, EnvironmentFile, KeyValuePair, ResourceRequirement, ResourceType,
    TaskDefinition, TaskOverride,
};

use super::requires::{
    ENVIRONMENT_FILES, EXECUTION_ROLE_ECR_PULL, INCREASED_TASK_CPU, RequiredAttribute, TASK_LIMITS, is_ecr,
};
use super::resolve::reserved;
use super::validate::{
    SHARED_SECRET_NAME, check_environment_files, check_one_for_all, check_requirements, check_variable, is_role,
};
use super::{GpuDemand, Resolved, ResolvedContainer, limits, size};
use crate::resources::{CpuUnits, MemoryMib};

/// A definition with the overrides of one task laid over it.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveTask {
    /// CPU units that the task reserves.
    pub cpu: CpuUnits,
    /// Memory that the task reserves.
    pub memory: MemoryMib,
    /// CPU limit of the task as a whole.
    pub task_cpu: Option<CpuUnits>,
    /// Memory limit of the task as a whole.
    pub task_memory: Option<MemoryMib>,
    /// The role with which the agent prepares the task: its ARN, or its name as the definition has it.
    pub execution_role: Option<String>,
    /// What the task needs of an instance, sorted by name: an override can add to what the definition needs.
    pub requires: Vec<RequiredAttribute>,
    /// The containers, in the order of the definition.
    pub containers: Vec<EffectiveContainer>,
}

impl EffectiveTask {
    /// What its containers want of an instance's GPUs, in their order; nothing if none of them wants any.
    pub fn gpus(&self) -> Vec<GpuDemand> {
        let demands = self.containers.iter().map(|container| container.gpus);
        match self.containers.iter().all(|container| container.gpus == GpuDemand::None) {
            true => Vec::new(),
            false => demands.collect(),
        }
    }
}

/// A container with its override laid over it.
#[derive(Clone, PartialEq)]
pub struct EffectiveContainer {
    /// Its name.
    pub name: String,
    /// Its command; `None` keeps the image's.
    pub command: Option<Vec<String>>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// Files of variables that the agent fetches; of a name in several of them the first counts, and `environment` before.
    pub environment_files: Vec<EnvironmentFile>,
    /// CPU units.
    pub cpu: CpuUnits,
    /// Hard limit of its memory.
    pub memory: Option<MemoryMib>,
    /// Memory it reserves, when that is not the limit.
    pub memory_reservation: Option<MemoryMib>,
    /// GPUs that it has for itself.
    pub gpus: GpuDemand,
}

/// The environment may hold secrets, so only its names are shown.
impl std::fmt::Debug for EffectiveContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EffectiveContainer")
            .field("name", &self.name)
            .field("command", &self.command)
            .field("environment", &self.environment.keys())
            .field("environment_files", &self.environment_files)
            .field("cpu", &self.cpu)
            .field("memory", &self.memory)
            .field("memory_reservation", &self.memory_reservation)
            .field("gpus", &self.gpus)
            .finish()
    }
}

/// Lays the overrides of one task over its definition.
///
/// # Errors
/// `InvalidParameterException` for overrides that ECS refuses, `UnsupportedFeatureException` for those that Longshore cannot obey.
pub fn merge(
    document: &TaskDefinition,
    resolved: &Resolved,
    overrides: Option<&TaskOverride>,
) -> Result<EffectiveTask, ApiError> {
    if let Some(overrides) = overrides {
        check_names(resolved, overrides)?;
    }
    let changes = overrides.and_then(|overrides| overrides.container_overrides.as_deref()).unwrap_or_default();
    let task_cpu = task_cpu(overrides)?.or(resolved.task_cpu);
    let task_memory = task_memory(overrides)?.or(resolved.task_memory);
    let execution_role = execution_role(document, overrides)?;
    let definitions = document.container_definitions.as_deref().unwrap_or_default();
    let mut containers = Vec::with_capacity(definitions.len());
    for (definition, container) in definitions.iter().zip(&resolved.containers) {
        let change = changes.iter().find(|change| change.name.as_deref() == Some(&container.name));
        let merged = merge_container(definition, container, change)?;
        if change.is_some() || overrides.is_some_and(|overrides| overrides.memory.is_some()) {
            check_memory(&merged, task_memory)?;
        }
        containers.push(merged);
    }
    if overrides.is_some() {
        check_cpu(&containers, task_cpu)?;
        check_one_for_all(containers.iter().map(|container| container.gpus)).map_err(ApiError::invalid_parameter)?;
    }
    let (cpu, memory) = reserved(
        (task_cpu, task_memory),
        containers.iter().map(|container| (container.cpu, container.memory, container.memory_reservation)),
    );
    // Last: what is wrong by ECS's rules is told so even if it uses something that is missing here.
    overrides.map_or(Ok(()), check_supported)?;
    let mut effective =
        EffectiveTask { cpu, memory, task_cpu, task_memory, execution_role, requires: Vec::new(), containers };
    effective.requires = required(document, resolved, &effective);
    Ok(effective)
}

/// Refuses by name what would otherwise be ignored.
fn check_supported(overrides: &TaskOverride) -> Result<(), ApiError> {
    for (field, used) in [
        ("taskRoleArn", overrides.task_role_arn.is_some()),
        ("ephemeralStorage", overrides.ephemeral_storage.is_some()),
        (
            "inferenceAcceleratorOverrides",
            overrides.inference_accelerator_overrides.as_ref().is_some_and(|list| !list.is_empty()),
        ),
    ] {
        if used {
            let message = format!("Invalid '{field}' setting in task overrides. Longshore does not support it yet.");
            return Err(ApiError::new(UNSUPPORTED_FEATURE_EXCEPTION, message));
        }
    }
    for change in overrides.container_overrides.as_deref().unwrap_or_default() {
        let wanted = change.resource_requirements.as_deref().unwrap_or_default();
        if wanted.iter().any(|wanted| wanted.r#type != ResourceType::Gpu || wanted.sharing_strategy.is_some()) {
            let name = change.name.as_deref().unwrap_or_default();
            let message = format!(
                "Invalid 'resourceRequirements' setting in the override for container '{name}'. Longshore does not support it yet."
            );
            return Err(ApiError::new(UNSUPPORTED_FEATURE_EXCEPTION, message));
        }
    }
    Ok(())
}

fn check_names(resolved: &Resolved, overrides: &TaskOverride) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for change in overrides.container_overrides.as_deref().unwrap_or_default() {
        let name = change.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            return Err(ApiError::invalid_parameter("Container name is required in each container override."));
        }
        if !resolved.containers.iter().any(|container| container.name == name) {
            return Err(ApiError::invalid_parameter(format!(
                "Override for container named {name} is not a container in the TaskDefinition."
            )));
        }
        if !seen.insert(name) {
            return Err(ApiError::invalid_parameter(format!("The override for container '{name}' is there twice.")));
        }
    }
    let length = overrides_length(overrides);
    if length > limits::OVERRIDES {
        return Err(ApiError::invalid_parameter(format!(
            "Container Overrides length must be at most {}. It is {length}, counted as JSON.",
            limits::OVERRIDES
        )));
    }
    Ok(())
}

/// Characters of the container overrides as JSON, which is what ECS limits.
fn overrides_length(overrides: &TaskOverride) -> usize {
    serde_json::to_string(&overrides.container_overrides).map_or(0, |json| json.chars().count())
}

fn task_cpu(overrides: Option<&TaskOverride>) -> Result<Option<CpuUnits>, ApiError> {
    let Some(text) = overrides.and_then(|overrides| overrides.cpu.as_deref()) else {
        return Ok(None);
    };
    match size::task_cpu(text).filter(|cpu| limits::TASK_CPU.contains(&cpu.0)) {
        Some(cpu) => Ok(Some(cpu)),
        None => Err(ApiError::invalid_parameter(format!("Invalid 'cpu' setting for task. '{text}' is not valid."))),
    }
}

fn task_memory(overrides: Option<&TaskOverride>) -> Result<Option<MemoryMib>, ApiError> {
    let Some(text) = overrides.and_then(|overrides| overrides.memory.as_deref()) else {
        return Ok(None);
    };
    let valid = |memory: &MemoryMib| i32::try_from(memory.0).is_ok_and(|mib| mib >= limits::MIN_MEMORY_MIB);
    match size::task_memory(text).filter(valid) {
        Some(memory) => Ok(Some(memory)),
        None => Err(ApiError::invalid_parameter(format!("Invalid 'memory' setting for task. '{text}' is not valid."))),
    }
}

/// The role that the agent is given. An empty one is none.
fn execution_role(document: &TaskDefinition, overrides: Option<&TaskOverride>) -> Result<Option<String>, ApiError> {
    let given = |role: &Option<String>| role.clone().filter(|role| !role.is_empty());
    let Some(role) = overrides.and_then(|overrides| given(&overrides.execution_role_arn)) else {
        return Ok(given(&document.execution_role_arn));
    };
    match is_role(&role) {
        true => Ok(Some(role)),
        false => Err(ApiError::invalid_parameter(format!(
            "Role is not valid. 'executionRoleArn' in the overrides must be the ARN or the name of an IAM role, not '{role}'."
        ))),
    }
}

fn merge_container(
    definition: &ContainerDefinition,
    container: &ResolvedContainer,
    change: Option<&ContainerOverride>,
) -> Result<EffectiveContainer, ApiError> {
    let given = definition.environment.as_deref().map_or(&[][..], Vec::as_slice);
    let mut environment: BTreeMap<String, String> = given.iter().map(variable).collect();
    let (cpu, memory, memory_reservation) = sizes(container, change);
    let mut merged = EffectiveContainer {
        name: container.name.clone(),
        command: definition.command.clone().filter(|command| !command.is_empty()),
        environment: BTreeMap::new(),
        environment_files: definition.environment_files.clone().unwrap_or_default(),
        cpu,
        memory,
        memory_reservation,
        gpus: GpuDemand::of(definition.resource_requirements.as_deref()),
    };
    if let Some(change) = change {
        for pair in change.environment.as_deref().map_or(&[][..], Vec::as_slice) {
            let (key, value) = variable(pair);
            check_variable(&key, &value).map_err(|why| {
                ApiError::invalid_parameter(format!(
                    "Invalid 'environment' setting in the override for container '{}'. {why}",
                    container.name
                ))
            })?;
            if definition.secrets.iter().flatten().any(|secret| secret.name == key) {
                return Err(ApiError::invalid_parameter(format!(
                    "{SHARED_SECRET_NAME}, such as '{key}'. Rename it in the override for container '{}'.",
                    container.name
                )));
            }
            environment.insert(key, value);
        }
        if let Some(command) = change.command.as_ref().filter(|command| !command.is_empty()) {
            merged.command = Some(command.clone());
        }
        if change.cpu.is_some_and(|cpu| cpu < 0) {
            return Err(ApiError::invalid_parameter(format!(
                "Invalid 'cpu' setting in the override for container '{}'. It cannot be negative.",
                container.name
            )));
        }
        if let Some(files) = change.environment_files.as_ref().filter(|files| !files.is_empty()) {
            check_environment_files(files).map_err(|why| {
                ApiError::invalid_parameter(format!(
                    "Invalid 'environmentFiles' setting in the override for container '{}'. {why}",
                    container.name
                ))
            })?;
            merged.environment_files = files.clone();
        }
        // Others than GPUs are refused by name, last of all.
        let only_gpus = |wanted: &&Vec<ResourceRequirement>| wanted.iter().all(|one| one.r#type == ResourceType::Gpu);
        let wanted = change.resource_requirements.as_ref().filter(|wanted| !wanted.is_empty()).filter(only_gpus);
        if let Some(wanted) = wanted {
            check_requirements(wanted, &BTreeSet::new()).map_err(|why| {
                ApiError::invalid_parameter(format!(
                    "Invalid 'resourceRequirements' setting in the override for container '{}'. {why}",
                    container.name
                ))
            })?;
            merged.gpus = GpuDemand::of(Some(wanted));
        }
        check_mib(container, "memory", change.memory)?;
        check_mib(container, "memoryReservation", change.memory_reservation)?;
    }
    merged.environment = environment;
    Ok(merged)
}

/// CPU, memory and memory reservation of a container, with an override that was accepted laid over it.
pub(crate) fn sizes(
    container: &ResolvedContainer,
    change: Option<&ContainerOverride>,
) -> (CpuUnits, Option<MemoryMib>, Option<MemoryMib>) {
    let Some(change) = change else { return (container.cpu, container.memory, container.memory_reservation) };
    (
        change.cpu.map_or(container.cpu, |cpu| CpuUnits::from_document(Some(cpu))),
        MemoryMib::from_document(change.memory).or(container.memory),
        MemoryMib::from_document(change.memory_reservation).or(container.memory_reservation),
    )
}

fn variable(pair: &KeyValuePair) -> (String, String) {
    (pair.name.clone().unwrap_or_default(), pair.value.clone().unwrap_or_default())
}

fn check_mib(container: &ResolvedContainer, field: &str, mib: Option<i32>) -> Result<(), ApiError> {
    if mib.is_some_and(|mib| mib < limits::MIN_MEMORY_MIB) {
        return Err(ApiError::invalid_parameter(format!(
            "Invalid '{field}' setting in the override for container '{}'. The minimum is {} MiB.",
            container.name,
            limits::MIN_MEMORY_MIB
        )));
    }
    Ok(())
}

/// What the definition's own rules say about memory, once more, now that it was changed.
fn check_memory(container: &EffectiveContainer, task: Option<MemoryMib>) -> Result<(), ApiError> {
    let name = &container.name;
    if container.memory.zip(container.memory_reservation).is_some_and(|(limit, reserved)| reserved > limit) {
        return Err(ApiError::invalid_parameter(format!(
            "Invalid 'memoryReservation' setting for container '{name}'. With the overrides it is greater than 'memory', the hard limit."
        )));
    }
    if container.memory.zip(task).is_some_and(|(own, whole)| own > whole) {
        return Err(ApiError::invalid_parameter(format!(
            "The 'memory' setting for container '{name}' is greater than for the task."
        )));
    }
    Ok(())
}

fn check_cpu(containers: &[EffectiveContainer], task: Option<CpuUnits>) -> Result<(), ApiError> {
    let sum = containers.iter().map(|container| container.cpu).fold(CpuUnits(0), CpuUnits::saturating_add);
    if task.is_some_and(|limit| sum > limit) {
        return Err(ApiError::invalid_parameter(
            "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.",
        ));
    }
    Ok(())
}

/// What the definition needs, and what is needed by what only the overrides give.
fn required(document: &TaskDefinition, resolved: &Resolved, effective: &EffectiveTask) -> Vec<RequiredAttribute> {
    let limited = effective.task_cpu.is_some() || effective.task_memory.is_some();
    let increased = effective.task_cpu.is_some_and(|cpu| cpu.0 > limits::BASIC_TASK_CPU);
    let files = effective.containers.iter().any(|container| !container.environment_files.is_empty());
    let ecr_by_role = effective.execution_role.is_some() && document.container_definitions.iter().flatten().any(is_ecr);
    let mut requires = resolved.requires.clone();
    for (name, needed) in [
        (TASK_LIMITS, limited),
        (INCREASED_TASK_CPU, increased),
        (ENVIRONMENT_FILES, files),
        (EXECUTION_ROLE_ECR_PULL, ecr_by_role),
    ] {
        if let (true, Err(at)) = (needed, requires.binary_search_by(|required| required.name.as_str().cmp(name))) {
            requires.insert(at, RequiredAttribute { name: name.to_owned(), value: None });
        }
    }
    requires
}
