//! Rules for the plain fields of one container.

use std::collections::BTreeSet;
use std::net::IpAddr;

use longshore_api::ApiError;
use longshore_api::ecs::types::{ContainerDefinition, EnvironmentFile, HealthCheck, KeyValuePair, NetworkMode, Secret};

use super::devices::check_requirements;
use super::{Task, invalid, name};
use crate::resources::MemoryMib;
use crate::task_definition::image::ImageReference;
use crate::task_definition::limits;

pub(super) fn check(container: &ContainerDefinition, task: &Task) -> Result<(), ApiError> {
    check_image(container)?;
    check_resources(container, task)?;
    check_environment(container)?;
    check_environment_files(container.environment_files.as_deref().unwrap_or_default())
        .map_err(|why| invalid(container, "environmentFiles", why))?;
    check_names_and_addresses(container, task)?;
    check_timeouts(container)?;
    check_restart_policy(container)?;
    check_secrets(container, task)?;
    check_others(container, task)?;
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

/// Files are objects in S3, whatever holds them.
pub(in crate::task_definition) fn check_environment_files(files: &[EnvironmentFile]) -> Result<(), String> {
    if files.len() > limits::ENVIRONMENT_FILES {
        return Err(format!("A container has up to {} environment files.", limits::ENVIRONMENT_FILES));
    }
    match files.iter().find(|file| !is_environment_file(&file.value)) {
        Some(file) => Err(format!("'{}' must be the ARN of an S3 object whose name ends with .env.", file.value)),
        None => Ok(()),
    }
}

/// `arn:aws:s3:::bucket/path/name.env`.
fn is_environment_file(value: &str) -> bool {
    let object = value.strip_prefix("arn:").and_then(|rest| rest.split_once(":s3:::"));
    let path = object.filter(|(partition, _)| !partition.contains(':')).and_then(|(_, path)| path.split_once('/'));
    path.is_some_and(|(bucket, key)| !bucket.is_empty() && key.ends_with(".env"))
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
    if let Some(user) = container.user.as_deref().filter(|user| !is_user(user)) {
        let why =
            format!("'{}' must be a user or uid, or one with a group, such as '1000:1000'.", user.escape_default());
        return Err(invalid(container, "user", why));
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

/// `user`, `user:group`, `uid`, `uid:gid`, or a mixture; numbers are not negative.
fn is_user(text: &str) -> bool {
    let well_formed = |part: &str| {
        !part.is_empty() && !part.starts_with('-') && !part.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    match text.split_once(':') {
        // An empty user is the image's.
        None => text.is_empty() || well_formed(text),
        Some((user, group)) => well_formed(user) && well_formed(group) && !group.contains(':'),
    }
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

/// ECS's words for a secret that would meet a variable of its name.
pub(in crate::task_definition) const SHARED_SECRET_NAME: &str =
    "The secret name must be unique and not shared with any new or existing environment variables set on the container";

fn check_secrets(container: &ContainerDefinition, task: &Task) -> Result<(), ApiError> {
    let variables: BTreeSet<&str> =
        variables(container).iter().filter_map(|variable| variable.name.as_deref()).collect();
    let mut seen = BTreeSet::new();
    for secret in container.secrets.as_deref().unwrap_or_default() {
        check_secret(container, "secrets", secret)?;
        if variables.contains(secret.name.as_str()) || !seen.insert(secret.name.as_str()) {
            return Err(ApiError::client(format!(
                "{SHARED_SECRET_NAME}, such as '{}'. Rename it in 'secrets' of container '{}'.",
                secret.name,
                name(container)
            )));
        }
    }
    check_role_for_secrets(container, task, "secrets", container.secrets.as_deref())
}

/// Agents read secrets with the task's execution role and no other.
pub(super) fn check_role_for_secrets(
    container: &ContainerDefinition,
    task: &Task,
    field: &str,
    secrets: Option<&[Secret]>,
) -> Result<(), ApiError> {
    if task.execution_role || secrets.unwrap_or_default().is_empty() {
        return Ok(());
    }
    Err(ApiError::client(format!(
        "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'. '{field}' of container '{}' has one.",
        name(container)
    )))
}

/// Devices that the container asks for, and where its secrets of other kinds are.
fn check_others(container: &ContainerDefinition, task: &Task) -> Result<(), ApiError> {
    let wanted = container.resource_requirements.as_deref().unwrap_or_default();
    check_requirements(wanted, &task.accelerators).map_err(|why| invalid(container, "resourceRequirements", why))?;
    let credentials = container.repository_credentials.as_ref();
    if let Some(parameter) = credentials.map(|credentials| credentials.credentials_parameter.as_str())
        && !is_secret_name(parameter)
    {
        let why = format!("'credentialsParameter' must be the ARN or the name of a secret, not '{parameter}'.");
        return Err(invalid(container, "repositoryCredentials", why));
    }
    if credentials.is_some() && !task.execution_role {
        return Err(ApiError::client(format!(
            "Private repository authentication requires that the task definition specify a value for executionRoleArn. Container '{}' has 'repositoryCredentials'.",
            name(container)
        )));
    }
    match container.credential_specs.as_deref().unwrap_or_default() {
        [] => Ok(()),
        [spec]
            if ["credentialspec:arn:", "credentialspecdomainless:arn:"].iter().any(|kind| spec.starts_with(kind)) =>
        {
            Ok(())
        }
        [spec] => Err(invalid(
            container,
            "credentialSpecs",
            format!("'{spec}' must be credentialspec:MyARN or credentialspecdomainless:MyARN."),
        )),
        [_, _, ..] => Err(invalid(container, "credentialSpecs", "There can be one.")),
    }
}

/// The ARN of a secret, or the name of one.
fn is_secret_name(text: &str) -> bool {
    match text.starts_with("arn:") {
        true => matches!(text.splitn(6, ':').collect::<Vec<_>>().as_slice(),
            [_, _, "secretsmanager", _, _, resource] if resource.starts_with("secret:")),
        false => {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte))
        }
    }
}

/// A secret is named by its ARN, or by the bare name of a parameter.
pub(super) fn check_secret(container: &ContainerDefinition, field: &str, secret: &Secret) -> Result<(), ApiError> {
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
