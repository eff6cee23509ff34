//! What ECS accepts and Longshore cannot obey yet. It is refused by name: accepted and ignored would be worse.
//!
//! A feature for which ECS has an instance capability is not listed here but required of the instance
//! (see `requires`), as long as the payload carries it in full: agents that can do it get such tasks, others do not.

use longshore_api::ApiError;
use longshore_api::ecs::types::{
    Compatibility, ContainerDefinition, LogDriver, NetworkMode, OSFamily, RegisterTaskDefinitionRequest,
    ResourceRequirement, ResourceType, Volume,
};

use super::{invalid, invalid_task};
use crate::task_definition::requires;

/// What is still to come.
const NOT_YET: &str = "Longshore does not support it yet.";
/// Credential specifications are for Windows and for hosts joined to a domain.
const MANAGED_ACCOUNTS: &str = "Longshore does not support it: there are no hosts of a Windows domain.";
const LINUX_ONLY: &str = "Longshore does not support it: it runs Linux containers only.";

pub(super) fn check(request: &RegisterTaskDefinitionRequest) -> Result<(), ApiError> {
    for container in &request.container_definitions {
        if let Some((field, why)) = unsupported(container) {
            return Err(invalid(container, field, why));
        }
    }
    check_compatibilities(request)?;
    if let Some((field, why)) = unsupported_of_task(request) {
        return Err(invalid_task(field, why));
    }
    if request.enable_fault_injection == Some(true) && request.network_mode != Some(NetworkMode::Host) {
        let why = "It needs networkMode host; in awsvpc Longshore does not support it yet.";
        return Err(invalid_task("enableFaultInjection", why));
    }
    Ok(())
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

/// The first field that is used and cannot be obeyed, and why not.
fn unsupported(container: &ContainerDefinition) -> Option<(&'static str, &'static str)> {
    let driver = container.log_configuration.as_ref().map(|logging| logging.log_driver);
    let requires = |used: fn(&ResourceRequirement) -> bool| container.resource_requirements.iter().flatten().any(used);
    let options = container.docker_security_options.as_deref().unwrap_or_default();
    [
        ("credentialSpecs", MANAGED_ACCOUNTS, filled(&container.credential_specs)),
        ("dockerSecurityOptions", MANAGED_ACCOUNTS, options.iter().any(|option| option.starts_with("credentialspec"))),
        ("firelensConfiguration", NOT_YET, container.firelens_configuration.is_some()),
        ("logConfiguration.logDriver", NOT_YET, driver == Some(LogDriver::Awsfirelens)),
        (
            "resourceRequirements",
            "Longshore does not support Neuron devices: only managed instances have them.",
            requires(|wanted| wanted.r#type == ResourceType::NeuronDevice),
        ),
        ("resourceRequirements.sharingStrategy", NOT_YET, requires(|wanted| wanted.sharing_strategy.is_some())),
    ]
    .into_iter()
    .find_map(|(field, why, used)| used.then_some((field, why)))
}

fn unsupported_of_task(request: &RegisterTaskDefinitionRequest) -> Option<(&'static str, &'static str)> {
    let platform = request.runtime_platform.as_ref();
    let not_linux =
        platform.and_then(|platform| platform.operating_system_family).is_some_and(|family| family != OSFamily::Linux);
    let volume = |used: fn(&Volume) -> bool| request.volumes.iter().flatten().any(used);
    [
        (
            "proxyConfiguration",
            "Longshore does not support it: there is no App Mesh.",
            request.proxy_configuration.is_some(),
        ),
        ("ephemeralStorage", NOT_YET, request.ephemeral_storage.is_some()),
        (
            "inferenceAccelerators",
            "Longshore does not support it: Elastic Inference has been shut down.",
            filled(&request.inference_accelerators),
        ),
        ("runtimePlatform.operatingSystemFamily", LINUX_ONLY, not_linux),
        ("taskRoleArn", NOT_YET, request.task_role_arn.is_some()),
        (
            "trustedExecutionConfiguration",
            "Longshore does not support it: there are no enclaves.",
            request.trusted_execution_configuration.is_some(),
        ),
        ("volumes.configuredAtLaunch", NOT_YET, volume(|volume| volume.configured_at_launch == Some(true))),
        (
            "volumes.fsxWindowsFileServerVolumeConfiguration",
            LINUX_ONLY,
            volume(|volume| volume.fsx_windows_file_server_volume_configuration.is_some()),
        ),
        ("volumes.s3filesVolumeConfiguration", NOT_YET, volume(|volume| volume.s3files_volume_configuration.is_some())),
    ]
    .into_iter()
    .find_map(|(field, why, used)| used.then_some((field, why)))
}

/// What the caller requires must be among what the definition is compatible with.
fn check_compatibilities(request: &RegisterTaskDefinitionRequest) -> Result<(), ApiError> {
    let compatible = requires::compatibilities(request);
    for wanted in request.requires_compatibilities.as_deref().unwrap_or_default() {
        match wanted {
            Compatibility::ManagedInstances => {
                return Err(invalid_task("requiresCompatibilities", format!("{wanted}: {NOT_YET}")));
            }
            _ if compatible.contains(wanted) => {}
            _ => {
                return Err(invalid_task(
                    "requiresCompatibilities",
                    format!("The task definition is not compatible with {wanted}."),
                ));
            }
        }
    }
    Ok(())
}
