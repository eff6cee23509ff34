//! What ECS accepts and Longshore cannot obey yet. It is refused by name: accepted and ignored would be worse.
//!
//! A feature for which ECS has an instance capability is not listed here but required of the instance
//! (see `requires`), as long as the payload carries it in full: agents that can do it get such tasks, others do not.

use longshore_api::ApiError;
use longshore_api::ecs::types::{
    Compatibility, ContainerDefinition, LogDriver, NetworkMode, OSFamily, RegisterTaskDefinitionRequest,
    VersionConsistency,
};

use super::{invalid, invalid_task};
use crate::task_definition::requires;

/// The last sentence of every refusal in this module.
const NOT_YET: &str = "Longshore does not support it yet.";

pub(super) fn check(request: &RegisterTaskDefinitionRequest) -> Result<(), ApiError> {
    for container in &request.container_definitions {
        if let Some(field) = unsupported(container) {
            return Err(invalid(container, field, NOT_YET));
        }
    }
    if let Some(field) = unsupported_of_task(request) {
        return Err(invalid_task(field, NOT_YET));
    }
    if request.enable_fault_injection == Some(true) && request.network_mode != Some(NetworkMode::Host) {
        let why = "It needs networkMode host; in awsvpc Longshore does not support it yet.";
        return Err(invalid_task("enableFaultInjection", why));
    }
    check_compatibilities(request)
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

fn unsupported(container: &ContainerDefinition) -> Option<&'static str> {
    let logging = container.log_configuration.as_ref();
    [
        ("credentialSpecs", filled(&container.credential_specs)),
        ("dockerSecurityOptions", gmsa(container)),
        ("environmentFiles", filled(&container.environment_files)),
        ("firelensConfiguration", container.firelens_configuration.is_some()),
        ("logConfiguration.secretOptions", logging.is_some_and(|logging| filled(&logging.secret_options))),
        ("logConfiguration.logDriver", logging.is_some_and(|logging| logging.log_driver == LogDriver::Awsfirelens)),
        ("mountPoints", filled(&container.mount_points)),
        ("repositoryCredentials", container.repository_credentials.is_some()),
        ("resourceRequirements", filled(&container.resource_requirements)),
        ("secrets", filled(&container.secrets)),
        ("versionConsistency", container.version_consistency == Some(VersionConsistency::Enabled)),
        ("volumesFrom", filled(&container.volumes_from)),
    ]
    .into_iter()
    .find_map(|(field, used)| used.then_some(field))
}

/// Credential specifications are for Windows and for hosts joined to a domain.
fn gmsa(container: &ContainerDefinition) -> bool {
    let options = container.docker_security_options.as_deref().unwrap_or_default();
    options.iter().any(|option| option.starts_with("credentialspec"))
}

fn unsupported_of_task(request: &RegisterTaskDefinitionRequest) -> Option<&'static str> {
    let platform = request.runtime_platform.as_ref();
    let not_linux =
        platform.and_then(|platform| platform.operating_system_family).is_some_and(|family| family != OSFamily::Linux);
    [
        ("ephemeralStorage", request.ephemeral_storage.is_some()),
        ("executionRoleArn", request.execution_role_arn.is_some()),
        ("inferenceAccelerators", filled(&request.inference_accelerators)),
        ("placementConstraints", filled(&request.placement_constraints)),
        ("proxyConfiguration", request.proxy_configuration.is_some()),
        ("runtimePlatform.operatingSystemFamily", not_linux),
        ("taskRoleArn", request.task_role_arn.is_some()),
        ("trustedExecutionConfiguration", request.trusted_execution_configuration.is_some()),
        ("volumes", filled(&request.volumes)),
    ]
    .into_iter()
    .find_map(|(field, used)| used.then_some(field))
}

/// What the caller requires must be among what the definition is compatible with.
fn check_compatibilities(request: &RegisterTaskDefinitionRequest) -> Result<(), ApiError> {
    let compatible = requires::compatibilities(request.network_mode, request.enable_fault_injection);
    for wanted in request.requires_compatibilities.as_deref().unwrap_or_default() {
        match wanted {
            Compatibility::ManagedInstances | Compatibility::Fargate => {
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
