//! Rules for the plain fields of one container, and for the volumes it names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use longshore_api::ApiError;
use longshore_api::ecs::types::{
    ContainerDefinition, HealthCheck, KeyValuePair, LogDriver, NetworkMode, RegisterTaskDefinitionRequest, Secret,
};

use super::{Task, invalid, name};
use crate::resources::MemoryMib;
use crate::task_definition::image::ImageReference;
use crate::task_definition::limits;

pub(super) fn check(container: &ContainerDefinition, task: &Task) -> Result<(), ApiError> {
    check_image(container)?;
    check_resources(container, task)?;
    check_environment(container)?;
    check_names_and_addresses(container, task)?;
    check_timeouts(container)?;
    check_restart_policy(container)?;
    check_secrets(container)?;
    check_logging(container)?;
    match &container.health_check {
        Some(health) => check_health(container, health),
        None => Ok(()),
    }
}

fn check_image(container: &ContainerDefinition) -> Result<(), ApiError> {
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        return Err(ApiError::client(format!(
            "Container.image should not be null or empty. Container '{}' has no 'image'.",
            name(container)
        )));
    }
    ImageReference::parse(image).map(|_| ()).map_err(|why| {
        ApiError::client(format!(
            "Container.image contains invalid characters. 'image' of container '{}' is '{image}': {why}.",
            name(container)
        ))
    })
}

fn check_resources(container: &ContainerDefinition, task: &Task) -> Result<(), ApiError> {
    if container.cpu.is_some_and(|cpu| cpu < 0) {
        return Err(invalid(container, "cpu", "It cannot be negative."));
    }
    for (field, value) in [("memory", container.memory), ("memoryReservation", container.memory_reservation)] {
        // Zero means that nothing was given, which only matters if the other one is not given either.
        if value.is_some_and(|mib| mib != 0 && mib < limits::MIN_MEMORY_MIB) {
            let why = format!("The minimum is {} MiB.", limits::MIN_MEMORY_MIB);
            return Err(invalid(container, field, why));
        }
    }
    let memory = MemoryMib::from_document(container.memory);
    let reservation = MemoryMib::from_document(container.memory_reservation);
    if memory.is_none() && reservation.is_none() && task.memory.is_none() {
        return Err(ApiError::client(format!(
            "Invalid setting for container '{}'. At least one of 'memory' or 'memoryReservation' must be specified.",
            name(container)
        )));
    }
    if memory.zip(reservation).is_some_and(|(limit, reserved)| reserved > limit) {
        return Err(invalid(container, "memoryReservation", "It cannot be greater than 'memory', the hard limit."));
    }
    if memory.zip(task.memory).is_some_and(|(own, whole)| own > whole) {
        return Err(ApiError::client(format!(
            "The 'memory' setting for container '{}' is greater than for the task.",
            name(container)
        )));
    }
    Ok(())
}

fn variables(container: &ContainerDefinition) -> &[KeyValuePair] {
    container.environment.as_deref().map_or(&[], Vec::as_slice)
}

fn check_environment(container: &ContainerDefinition) -> Result<(), ApiError> {
    for variable in variables(container) {
        let key = variable.name.as_deref().unwrap_or_default();
        check_variable(key, variable.value.as_deref().unwrap_or_default())
            .map_err(|why| invalid(container, "environment", why))?;
    }
    Ok(())
}

/// A process can only be given names without `=` and values without a null byte.
pub(in crate::task_definition) fn check_variable(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() {
        Err("A variable has no name.".to_owned())
    } else if name.contains(['=', '\0']) || value.contains('\0') {
        let name = name.escape_default();
        Err(format!("The variable '{name}' must have no '=' in its name and no null character."))
    } else {
        Ok(())
    }
}

fn check_names_and_addresses(container: &ContainerDefinition, task: &Task) -> Result<(), ApiError> {
    if task.mode == NetworkMode::Awsvpc {
        if container.hostname.is_some() {
            return Err(invalid(container, "hostname", "It is not supported when networkMode=awsvpc."));
        }
        if container.extra_hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()) {
            return Err(invalid(container, "extraHosts", "They are not supported when networkMode=awsvpc."));
        }
    }
    for server in container.dns_servers.as_deref().unwrap_or_default() {
        if server.parse::<IpAddr>().is_err() {
            return Err(invalid(container, "dnsServers", format!("'{server}' is not an IP address.")));
        }
    }
    for domain in container.dns_search_domains.as_deref().unwrap_or_default() {
        if domain.is_empty() || domain.contains(char::is_whitespace) {
            return Err(invalid(container, "dnsSearchDomains", format!("'{domain}' is not a domain.")));
        }
    }
    for host in container.extra_hosts.as_deref().unwrap_or_default() {
        if host.hostname.is_empty() || host.hostname.contains([':', ' ', '\0']) {
            return Err(invalid(container, "extraHosts", format!("'{}' is not a host name.", host.hostname)));
        }
        if host.ip_address.parse::<IpAddr>().is_err() {
            return Err(invalid(container, "extraHosts", format!("'{}' is not an IP address.", host.ip_address)));
        }
    }
    Ok(())
}

fn check_timeouts(container: &ContainerDefinition) -> Result<(), ApiError> {
    for (field, value) in [("startTimeout", container.start_timeout), ("stopTimeout", container.stop_timeout)] {
        if value.is_some_and(|seconds| seconds < 1) {
            return Err(invalid(container, field, "It must be at least 1 second."));
        }
    }
    Ok(())
}

fn check_restart_policy(container: &ContainerDefinition) -> Result<(), ApiError> {
    let Some(policy) = &container.restart_policy else {
        return Ok(());
    };
    if policy.ignored_exit_codes.as_ref().is_some_and(|codes| codes.len() > limits::IGNORED_EXIT_CODES) {
        let why = format!("'ignoredExitCodes' has up to {} codes.", limits::IGNORED_EXIT_CODES);
        return Err(invalid(container, "restartPolicy", why));
    }
    let period = policy.restart_attempt_period.unwrap_or(limits::DEFAULT_RESTART_PERIOD_S);
    check_range(container, "restartPolicy", "restartAttemptPeriod", period, limits::RESTART_PERIOD_S)
}

fn check_range(
    container: &ContainerDefinition,
    field: &str,
    member: &str,
    value: i32,
    range: std::ops::RangeInclusive<i32>,
) -> Result<(), ApiError> {
    if range.contains(&value) {
        return Ok(());
    }
    let why = format!("'{member}' is {value} and must be between {} and {}.", range.start(), range.end());
    Err(invalid(container, field, why))
}

fn check_health(container: &ContainerDefinition, health: &HealthCheck) -> Result<(), ApiError> {
    match health.command.first().map(String::as_str) {
        Some("CMD" | "CMD-SHELL") if health.command.len() > 1 => {}
        _ => {
            let why = "Its 'command' must begin with CMD or CMD-SHELL and go on with what to run.";
            return Err(invalid(container, "healthCheck", why));
        }
    }
    for (member, value, range) in [
        ("interval", health.interval, 5..=300),
        ("timeout", health.timeout, 2..=60),
        ("retries", health.retries, 1..=10),
        ("startPeriod", health.start_period, 0..=300),
    ] {
        if let Some(value) = value {
            check_range(container, "healthCheck", member, value, range)?;
        }
    }
    Ok(())
}

fn check_logging(container: &ContainerDefinition) -> Result<(), ApiError> {
    let Some(logging) = &container.log_configuration else {
        return Ok(());
    };
    let has = |option: &str| {
        logging.options.as_ref().and_then(|options| options.get(option)).is_some_and(|value| !value.is_empty())
    };
    if logging.log_driver == LogDriver::Awslogs && !(has("awslogs-group") && has("awslogs-region")) {
        return Err(ApiError::client(format!(
            "Log driver awslogs requires options: awslogs-region, awslogs-group. 'logConfiguration' of container '{}' lacks one.",
            name(container)
        )));
    }
    for secret in logging.secret_options.as_deref().unwrap_or_default() {
        check_secret(container, "logConfiguration", secret)?;
    }
    Ok(())
}

fn check_secrets(container: &ContainerDefinition) -> Result<(), ApiError> {
    let variables: BTreeSet<&str> =
        variables(container).iter().filter_map(|variable| variable.name.as_deref()).collect();
    let mut seen = BTreeSet::new();
    for secret in container.secrets.as_deref().unwrap_or_default() {
        check_secret(container, "secrets", secret)?;
        if variables.contains(secret.name.as_str()) || !seen.insert(secret.name.as_str()) {
            return Err(ApiError::client(format!(
                "The secret name must be unique and not shared with any new or existing environment variables set on the container, such as '{}'. Rename it in 'secrets' of container '{}'.",
                secret.name,
                name(container)
            )));
        }
    }
    Ok(())
}

/// A secret is named by its ARN, or by the bare name of a parameter.
fn check_secret(container: &ContainerDefinition, field: &str, secret: &Secret) -> Result<(), ApiError> {
    let from = secret.value_from.as_str();
    let well_formed = if from.starts_with("arn:") {
        let parts: Vec<&str> = from.splitn(6, ':').collect();
        matches!(parts.as_slice(), [_, partition, service, region, account, resource]
            if !partition.is_empty() && !region.is_empty() && !account.is_empty()
                && ((*service == "secretsmanager" && resource.starts_with("secret:"))
                    || (*service == "ssm" && resource.starts_with("parameter/"))))
    } else {
        !from.is_empty() && from.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
    };
    if well_formed && !secret.name.is_empty() {
        return Ok(());
    }
    let why = format!(
        "'valueFrom' of '{}' must be the ARN of a Secrets Manager secret, or the ARN or name of an SSM parameter, not '{from}'.",
        secret.name
    );
    Err(invalid(container, field, why))
}

/// Mount points name volumes of the task, `volumesFrom` other containers of it.
pub(super) fn check_volumes(request: &RegisterTaskDefinitionRequest) -> Result<(), ApiError> {
    let mut volumes = BTreeSet::new();
    for volume in request.volumes.as_deref().unwrap_or_default() {
        let volume = volume.name.as_deref().unwrap_or_default();
        if volume.is_empty() || !super::is_name(volume) || !volumes.insert(volume) {
            let why =
                format!("The name '{volume}' must be unique and have letters, numbers, hyphens and underscores only.");
            return Err(super::invalid_task("volumes", why));
        }
    }
    let containers = request.container_definitions.as_slice();
    for container in containers {
        for mount in container.mount_points.as_deref().unwrap_or_default() {
            let volume = mount.source_volume.as_deref().unwrap_or_default();
            if !volumes.contains(volume) {
                return Err(ApiError::client(format!(
                    "Unknown volume '{volume}'. 'mountPoints' of container '{}' must name a volume of the task definition.",
                    name(container)
                )));
            }
        }
        for from in container.volumes_from.as_deref().unwrap_or_default() {
            let source = from.source_container.as_deref().unwrap_or_default();
            if source == name(container) || !containers.iter().any(|other| name(other) == source) {
                return Err(ApiError::client(format!(
                    "Unknown container '{source}'. 'volumesFrom' of container '{}' must name another container of the task definition.",
                    name(container)
                )));
            }
        }
    }
    Ok(())
}
