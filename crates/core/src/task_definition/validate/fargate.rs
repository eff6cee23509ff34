//! What definitions for Fargate must look like: `awsvpc`, one of the sizes that Fargate has, and nothing of the host.

use longshore_api::ApiError;
use longshore_api::ecs::types::{
    Compatibility, ContainerDefinition, LogConfiguration, LogDriver, NetworkMode, PidMode,
    RegisterTaskDefinitionRequest,
};

use super::{Task, invalid, invalid_task, name};
use crate::resources::{CpuUnits, MemoryMib};
use crate::task_definition::image::ImageReference;
use crate::task_definition::limits;

/// The rules, for a definition that says that it is for Fargate.
pub(super) fn check(request: &RegisterTaskDefinitionRequest, task: &Task) -> Result<(), ApiError> {
    let wanted = request.requires_compatibilities.as_deref().unwrap_or_default();
    match wanted.contains(&Compatibility::Fargate) {
        true => rules(request, task),
        false => Ok(()),
    }
}

/// What Fargate wants of a definition, whether that says it is for Fargate or not.
pub(super) fn rules(request: &RegisterTaskDefinitionRequest, task: &Task) -> Result<(), ApiError> {
    if task.mode != NetworkMode::Awsvpc {
        return Err(ApiError::client(
            "Fargate only supports network mode ‘awsvpc’. Correct 'networkMode' or 'requiresCompatibilities'.",
        ));
    }
    let Some(cpu) = task.cpu else {
        return Err(ApiError::client("Fargate requires that 'cpu' be defined at the task level."));
    };
    let Some(memory) = task.memory else {
        return Err(ApiError::client("Fargate requires that 'memory' be defined at the task level."));
    };
    if !is_size(cpu, memory) {
        return Err(ApiError::client(no_size(cpu, memory)));
    }
    check_host(request)?;
    let role = request.execution_role_arn.as_deref().is_some_and(|role| !role.is_empty());
    request.container_definitions.iter().try_for_each(|container| check_container(container, role))
}

/// The host is not the task's.
fn check_host(request: &RegisterTaskDefinitionRequest) -> Result<(), ApiError> {
    for volume in request.volumes.as_deref().unwrap_or_default() {
        let path = volume.host.as_ref().and_then(|host| host.source_path.as_deref()).unwrap_or_default();
        if !path.is_empty() {
            return Err(ApiError::client(format!(
                "host.sourcePath should not be set for volumes in Fargate. Correct 'volumes': '{}'.",
                volume.name.as_deref().unwrap_or_default()
            )));
        }
    }
    for (field, given) in [
        ("ipcMode", request.ipc_mode.is_some()),
        ("pidMode", request.pid_mode.is_some_and(|mode| mode != PidMode::Task)),
        ("placementConstraints", request.placement_constraints.as_ref().is_some_and(|list| !list.is_empty())),
        (
            "volumes",
            request.volumes.iter().flatten().any(|volume| {
                volume.docker_volume_configuration.is_some()
                    || volume.fsx_windows_file_server_volume_configuration.is_some()
            }),
        ),
    ] {
        if given {
            return Err(invalid_task(field, "Fargate does not support it."));
        }
    }
    Ok(())
}

fn check_container(container: &ContainerDefinition, role: bool) -> Result<(), ApiError> {
    let linux = container.linux_parameters.as_ref();
    let added = linux.and_then(|linux| linux.capabilities.as_ref()?.add.as_deref()).unwrap_or_default();
    let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    for (field, given) in [
        ("privileged", container.privileged == Some(true)),
        ("links", filled(&container.links)),
        ("dockerSecurityOptions", filled(&container.docker_security_options)),
        (
            "linuxParameters.devices",
            linux.is_some_and(|linux| linux.devices.as_ref().is_some_and(|list| !list.is_empty())),
        ),
        ("linuxParameters.sharedMemorySize", linux.is_some_and(|linux| linux.shared_memory_size.is_some())),
        ("linuxParameters.maxSwap", linux.is_some_and(|linux| linux.max_swap.is_some())),
        ("linuxParameters.swappiness", linux.is_some_and(|linux| linux.swappiness.is_some())),
        ("linuxParameters.capabilities", added.iter().any(|capability| capability != "SYS_PTRACE")),
        ("resourceRequirements", container.resource_requirements.as_ref().is_some_and(|list| !list.is_empty())),
    ] {
        if given {
            return Err(invalid(container, field, "Fargate does not support it."));
        }
    }
    for (field, value) in [("startTimeout", container.start_timeout), ("stopTimeout", container.stop_timeout)] {
        if value.is_some_and(|seconds| !limits::FARGATE_TIMEOUT_S.contains(&seconds)) {
            let (low, high) = (limits::FARGATE_TIMEOUT_S.start(), limits::FARGATE_TIMEOUT_S.end());
            return Err(invalid(container, field, format!("Fargate wants {low} to {high} seconds.")));
        }
    }
    check_logging(container, role)?;
    let image = container.image.as_deref().and_then(|image| ImageReference::parse(image).ok());
    match image.and_then(|image| image.ecr()) {
        Some(_) if !role => Err(ApiError::client(format!(
            "Fargate requires task definition to have execution role ARN to support ECR images. Container '{}' has one.",
            name(container)
        ))),
        _ => Ok(()),
    }
}

fn check_logging(container: &ContainerDefinition, role: bool) -> Result<(), ApiError> {
    let Some(LogConfiguration { log_driver, options, .. }) = &container.log_configuration else { return Ok(()) };
    let prefix = options.as_ref().and_then(|options| options.get("awslogs-stream-prefix"));
    match log_driver {
        LogDriver::Awslogs if !role => Err(ApiError::client(format!(
            "Fargate requires task definition to have execution role ARN to support log driver awslogs. 'logConfiguration' of container '{}' has it.",
            name(container)
        ))),
        LogDriver::Awslogs if prefix.is_none_or(String::is_empty) => {
            Err(invalid(container, "logConfiguration", "Fargate requires the option 'awslogs-stream-prefix'."))
        }
        LogDriver::Awslogs | LogDriver::Awsfirelens | LogDriver::Splunk => Ok(()),
        LogDriver::Fluentd | LogDriver::Gelf | LogDriver::Journald | LogDriver::JsonFile | LogDriver::Syslog => {
            let why = format!("Fargate has the log drivers awslogs, splunk and awsfirelens, not {log_driver}.");
            Err(invalid(container, "logConfiguration", why))
        }
    }
}

/// The refusal of a size.
pub(crate) fn no_size(cpu: CpuUnits, memory: MemoryMib) -> String {
    format!("No Fargate configuration exists for given values. 'cpu' {cpu} does not go with 'memory' {memory}.")
}

/// The documented table of task sizes.
pub(crate) fn is_size(cpu: CpuUnits, memory: MemoryMib) -> bool {
    const GB: u32 = 1024;
    let (low, high, step) = match cpu.0 {
        256 => return [512, GB, 2 * GB].contains(&memory.0),
        512 => (1, 4, 1),
        1024 => (2, 8, 1),
        2048 => (4, 16, 1),
        4096 => (8, 30, 1),
        8192 => (16, 60, 4),
        16384 => (32, 120, 8),
        _ => return false,
    };
    (low * GB..=high * GB).contains(&memory.0) && (memory.0 - low * GB).is_multiple_of(step * GB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (cpu, memory, there) in [
            (256, 512, true),
            (256, 1024, true),
            (256, 1536, false),
            (256, 2048, true),
            (512, 512, false),
            (512, 4096, true),
            (1024, 1024, false),
            (2048, 16_384, true),
            (4096, 30_720, true),
            (4096, 31_744, false),
            (8192, 20_480, true),
            (8192, 18_432, false),
            (16_384, 122_880, true),
            (300, 1024, false),
        ] {
            assert_eq!(is_size(CpuUnits(cpu), MemoryMib(memory)), there, "{cpu} {memory}");
        }
    }
}
