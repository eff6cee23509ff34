//! Rules for the fields of the task: roles, placement constraints, the proxy.

use longshore_api::ApiError;
use longshore_api::ecs::types::{ContainerDefinition, NetworkMode, RegisterTaskDefinitionRequest};

use super::{Task, invalid_task, name};
use crate::query::Query;

pub(super) fn check(request: &RegisterTaskDefinitionRequest, task: &Task) -> Result<(), ApiError> {
    check_role("taskRoleArn", request.task_role_arn.as_deref())?;
    check_role("executionRoleArn", request.execution_role_arn.as_deref())?;
    for constraint in request.placement_constraints.as_deref().unwrap_or_default() {
        let expression = constraint.expression.as_deref().unwrap_or_default();
        if let Err(error) = expression.parse::<Query>() {
            return Err(invalid_task(
                "placementConstraints",
                format!("The expression '{expression}' is not valid: {error}."),
            ));
        }
    }
    check_proxy(request, task)
}

fn check_role(field: &str, given: Option<&str>) -> Result<(), ApiError> {
    match given.filter(|given| !given.is_empty() && !is_role(given)) {
        None => Ok(()),
        Some(given) => Err(ApiError::client(format!(
            "Role is not valid. '{field}' must be the ARN or the name of an IAM role, not '{given}'."
        ))),
    }
}

/// A role is named by its ARN or, in the same account, by its short name.
pub(in crate::task_definition) fn is_role(given: &str) -> bool {
    let name = match given.strip_prefix("arn:") {
        None => Some(given),
        Some(rest) => match rest.splitn(5, ':').collect::<Vec<_>>().as_slice() {
            [partition, "iam", "", account, resource]
                if !partition.is_empty()
                    && account.len() == 12
                    && account.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                resource.strip_prefix("role/")
            }
            _ => None,
        },
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(allowed))
}

/// The proxy is a container of the task, and knows what to take.
fn check_proxy(request: &RegisterTaskDefinitionRequest, task: &Task) -> Result<(), ApiError> {
    let Some(proxy) = &request.proxy_configuration else { return Ok(()) };
    let refuse = |why: String| Err(invalid_task("proxyConfiguration", why));
    if task.mode != NetworkMode::Awsvpc {
        return refuse("It is supported when networkMode=awsvpc only.".to_owned());
    }
    let is_proxy = |container: &ContainerDefinition| name(container) == proxy.container_name;
    if !request.container_definitions.iter().any(is_proxy) {
        return refuse(format!("Container '{}' is not a container of the task definition.", proxy.container_name));
    }
    let has = |wanted: &str| {
        let properties = proxy.properties.as_deref().unwrap_or_default();
        let given = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
        properties.iter().any(|property| property.name.as_deref() == Some(wanted) && given(&property.value))
    };
    if !has("IgnoredUID") && !has("IgnoredGID") {
        return refuse("Its properties must have IgnoredUID or IgnoredGID.".to_owned());
    }
    match ["AppPorts", "ProxyIngressPort", "ProxyEgressPort"].into_iter().find(|wanted| !has(wanted)) {
        Some(missing) => refuse(format!("Its properties must have {missing}.")),
        None => Ok(()),
    }
}
