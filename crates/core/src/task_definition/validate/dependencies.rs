//! Rules for what one container of a task asks of another: `dependsOn` and `links`. Who takes volumes from another container
//! waits for it too.

use longshore_api::ApiError;
use longshore_api::ecs::types::{ContainerCondition, ContainerDefinition, NetworkMode};

use super::{Task, invalid, name};

pub(super) fn check(containers: &[ContainerDefinition], task: &Task) -> Result<(), ApiError> {
    for container in containers {
        check_links(container, containers, task)?;
        check_depends_on(container, containers)?;
    }
    check_cycles(containers)
}

fn find<'a>(containers: &'a [ContainerDefinition], wanted: &str) -> Option<&'a ContainerDefinition> {
    containers.iter().find(|container| name(container) == wanted)
}

/// The container that a link such as `db:database` names.
fn link_target(link: &str) -> &str {
    link.split_once(':').map_or(link, |(target, _)| target)
}

fn check_links(
    container: &ContainerDefinition,
    containers: &[ContainerDefinition],
    task: &Task,
) -> Result<(), ApiError> {
    let links = container.links.as_deref().unwrap_or_default();
    if !links.is_empty() && task.mode != NetworkMode::Bridge {
        return Err(ApiError::client(format!(
            "Links are not supported when networkMode={}. Remove 'links' of container '{}'.",
            task.mode,
            name(container)
        )));
    }
    for link in links {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        if target.is_empty() || alias.is_empty() || !super::is_name(target) || !super::is_name(alias) {
            return Err(invalid(container, "links", format!("'{link}' must be a container's name, or 'name:alias'.")));
        }
        if target == name(container) || find(containers, target).is_none() {
            return Err(invalid(
                container,
                "links",
                format!("Container '{target}' is not another container of the task definition."),
            ));
        }
    }
    Ok(())
}

fn check_depends_on(container: &ContainerDefinition, containers: &[ContainerDefinition]) -> Result<(), ApiError> {
    let dependencies = container.depends_on.as_deref().unwrap_or_default();
    for (index, dependency) in dependencies.iter().enumerate() {
        let wanted = dependency.container_name.as_str();
        if dependencies[..index].iter().any(|other| other.container_name == wanted) {
            return Err(invalid(container, "dependsOn", format!("Container '{wanted}' is there twice.")));
        }
        let Some(other) = find(containers, wanted) else {
            return Err(ApiError::client(format!(
                "Cannot depend on container + '{wanted}' because it does not exist. Correct 'dependsOn' of container '{}'.",
                name(container)
            )));
        };
        match dependency.condition {
            ContainerCondition::Start => {}
            ContainerCondition::Complete | ContainerCondition::Success => {
                if other.essential.unwrap_or(true) {
                    return Err(ApiError::client(format!(
                        "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container. 'dependsOn' of container '{}' names '{wanted}'.",
                        name(container)
                    )));
                }
            }
            ContainerCondition::Healthy => {
                if other.health_check.is_none() {
                    let why = format!("The condition HEALTHY needs a 'healthCheck' on container '{wanted}'.");
                    return Err(invalid(container, "dependsOn", why));
                }
            }
        }
    }
    Ok(())
}

/// Takes away every container that waits for none of those left, until none is left, or only those of cycles and
/// what waits for them.
fn check_cycles(containers: &[ContainerDefinition]) -> Result<(), ApiError> {
    let waits_for = |container: &ContainerDefinition, other: &str| {
        container.depends_on.as_deref().unwrap_or_default().iter().any(|wait| wait.container_name == other)
            || container.links.as_deref().unwrap_or_default().iter().any(|link| link_target(link) == other)
            || container.volumes_from.iter().flatten().any(|from| from.source_container.as_deref() == Some(other))
    };
    let mut left: Vec<&ContainerDefinition> = containers.iter().collect();
    loop {
        let before = left.len();
        let waiting = left.clone();
        left.retain(|container| waiting.iter().any(|other| waits_for(container, name(other))));
        match left.first() {
            None => return Ok(()),
            Some(first) if left.len() == before => {
                let names: Vec<&str> = left.iter().map(|container| name(container)).collect();
                let why = format!("A cyclic dependency is among the containers {}.", names.join(", "));
                return Err(invalid(first, "dependsOn", why));
            }
            Some(_) => {}
        }
    }
}
