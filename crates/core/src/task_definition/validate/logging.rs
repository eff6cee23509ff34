//! Rules for logging: what each driver needs, and the router that `awsfirelens` sends to.

use longshore_api::ApiError;
use longshore_api::ecs::types::{ContainerDefinition, LogConfiguration, LogDriver};

use super::container::{check_role_for_secrets, check_secret};
use super::{Task, invalid, name};

pub(super) fn check(container: &ContainerDefinition, task: &Task) -> Result<(), ApiError> {
    if let Some(logging) = &container.log_configuration {
        check_required(container, logging)?;
        check_options(container, logging)?;
        for secret in logging.secret_options.as_deref().unwrap_or_default() {
            check_secret(container, "logConfiguration", secret)?;
        }
        let secrets = logging.secret_options.as_deref();
        check_role_for_secrets(container, task, "logConfiguration.secretOptions", secrets)?;
    }
    check_router(container)
}

fn option<'a>(logging: &'a LogConfiguration, key: &str) -> Option<&'a str> {
    logging.options.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// The options without which a driver does not start. A secret can stand for one.
fn check_required(container: &ContainerDefinition, logging: &LogConfiguration) -> Result<(), ApiError> {
    let required: &[&str] = match logging.log_driver {
        LogDriver::Awslogs => &["awslogs-region", "awslogs-group"],
        LogDriver::Splunk => &["splunk-url", "splunk-token"],
        LogDriver::Awsfirelens
        | LogDriver::Fluentd
        | LogDriver::Gelf
        | LogDriver::Journald
        | LogDriver::JsonFile
        | LogDriver::Syslog => &[],
    };
    let secrets = logging.secret_options.as_deref().unwrap_or_default();
    let has = |key: &&&str| option(logging, key).is_some() || secrets.iter().any(|secret| secret.name == **key);
    if required.iter().all(|key| has(&key)) {
        return Ok(());
    }
    Err(ApiError::client(format!(
        "Log driver {} requires options: {}. 'logConfiguration' of container '{}' lacks one.",
        logging.log_driver,
        required.join(", "),
        name(container)
    )))
}

/// Options whose values the documentation lists.
fn check_options(container: &ContainerDefinition, logging: &LogConfiguration) -> Result<(), ApiError> {
    let refuse = |why: String| Err(invalid(container, "logConfiguration", why));
    if let Some(mode) = option(logging, "mode").filter(|mode| !matches!(*mode, "blocking" | "non-blocking")) {
        return refuse(format!("The option 'mode' must be blocking or non-blocking, not '{mode}'."));
    }
    if let Some(size) = option(logging, "max-buffer-size").filter(|size| !is_size(size)) {
        return refuse(format!(
            "The option 'max-buffer-size' must be a number of bytes, or end with k, m or g, not '{size}'."
        ));
    }
    if option(logging, "awslogs-datetime-format").and(option(logging, "awslogs-multiline-pattern")).is_some() {
        return refuse("Give one of 'awslogs-datetime-format' and 'awslogs-multiline-pattern'.".to_owned());
    }
    Ok(())
}

/// A number of bytes, such as `1048576`, `1024k` or `25m`.
fn is_size(text: &str) -> bool {
    let digits = text.strip_suffix(['k', 'm', 'g', 'K', 'M', 'G']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn check_router(container: &ContainerDefinition) -> Result<(), ApiError> {
    let Some(router) = &container.firelens_configuration else { return Ok(()) };
    for (key, value) in router.options.iter().flatten() {
        let allowed = match key.as_str() {
            "enable-ecs-log-metadata" => matches!(value.as_str(), "true" | "false"),
            "config-file-type" => matches!(value.as_str(), "s3" | "file"),
            "config-file-value" => !value.is_empty(),
            _ => false,
        };
        if !allowed {
            let why = format!("The option '{key}' cannot be '{value}'.");
            return Err(invalid(container, "firelensConfiguration", why));
        }
    }
    Ok(())
}

/// There is one router at most, and one if and only if somebody sends to it.
pub(super) fn check_together(containers: &[ContainerDefinition]) -> Result<(), ApiError> {
    let mut routers = containers.iter().filter(|container| container.firelens_configuration.is_some());
    let (router, another) = (routers.next(), routers.next());
    if let Some(another) = another {
        return Err(invalid(another, "firelensConfiguration", "Only one container of a task definition can have it."));
    }
    let sends = |container: &&ContainerDefinition| {
        container.log_configuration.as_ref().is_some_and(|logging| logging.log_driver == LogDriver::Awsfirelens)
    };
    match (router, containers.iter().find(sends)) {
        (Some(router), None) => Err(ApiError::client(format!(
            "When a firelensConfiguration object is specified, at least one container has to be configured with the awsfirelens log driver. Correct 'firelensConfiguration' of container '{}'.",
            name(router)
        ))),
        (None, Some(sender)) => Err(ApiError::client(format!(
            "When a container uses the awsfirelens log driver, another one must have a firelensConfiguration object. Correct 'logConfiguration' of container '{}'.",
            name(sender)
        ))),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}
