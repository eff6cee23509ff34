//! Rules for port mappings: of one container, and of the containers of a task together.

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::ApiError;
use longshore_api::ecs::types::{ContainerDefinition, NetworkMode, PortMapping, TransportProtocol};

use super::{Task, invalid, name};
use crate::task_definition::limits;

/// The largest port number.
const MAX_PORT: i32 = 65_535;

pub(super) fn check(container: &ContainerDefinition, task: &Task) -> Result<(), ApiError> {
    let mappings = container.port_mappings.as_deref().unwrap_or_default();
    if task.mode == NetworkMode::None && !mappings.is_empty() {
        return Err(ApiError::client(format!(
            "Port mappings are not supported when networkMode=none. Remove 'portMappings' of container '{}'.",
            name(container)
        )));
    }
    for mapping in mappings {
        check_name(container, mapping)?;
        if mapping.container_port_range.is_none() {
            check_single(container, mapping, task)?;
        }
    }
    check_ranges(container, mappings, task)
}

fn check_single(container: &ContainerDefinition, mapping: &PortMapping, task: &Task) -> Result<(), ApiError> {
    let Some(port) = mapping.container_port.filter(|port| (1..=MAX_PORT).contains(port)) else {
        return Err(invalid(container, "containerPort", format!("It must be between 1 and {MAX_PORT}.")));
    };
    let host = mapping.host_port.unwrap_or(0);
    if !(0..=MAX_PORT).contains(&host) {
        return Err(invalid(container, "hostPort", format!("It must be between 0 and {MAX_PORT}.")));
    }
    let shared = matches!(task.mode, NetworkMode::Host | NetworkMode::Awsvpc);
    if shared && host != 0 && host != port {
        return Err(ApiError::client(format!(
            "When networkMode={}, the host ports and container ports in port mappings must match. 'portMappings' of container '{}' has containerPort {port} and hostPort {host}.",
            task.mode,
            name(container)
        )));
    }
    Ok(())
}

fn check_name(container: &ContainerDefinition, mapping: &PortMapping) -> Result<(), ApiError> {
    let Some(text) = mapping.name.as_deref() else {
        return Ok(());
    };
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !text.is_empty() && text.len() <= limits::PORT_NAME && text.bytes().all(allowed) && !text.starts_with('-') {
        return Ok(());
    }
    let why = format!(
        "The name '{text}' must have up to {} lower-case letters, numbers, underscores and hyphens, and not start with a hyphen.",
        limits::PORT_NAME
    );
    Err(invalid(container, "portMappings", why))
}

/// First and last port of a range such as `7000-7010`.
fn parse_range(text: &str) -> Option<(i32, i32)> {
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<i32>().ok()).flatten().filter(|port| (1..=MAX_PORT).contains(port))
    };
    let (first, last) = (number(first)?, number(last)?);
    (first < last).then_some((first, last))
}

fn check_ranges(container: &ContainerDefinition, mappings: &[PortMapping], task: &Task) -> Result<(), ApiError> {
    let refuse = |why: String| Err(invalid(container, "containerPortRange", why));
    let mut taken: Vec<(TransportProtocol, i32, i32)> = Vec::new();
    let mut ranges = 0;
    for mapping in mappings {
        let protocol = mapping.protocol.unwrap_or(TransportProtocol::Tcp);
        let Some(text) = mapping.container_port_range.as_deref() else {
            continue;
        };
        ranges += 1;
        if ranges > limits::PORT_RANGES {
            return refuse(format!("A container has up to {} port ranges.", limits::PORT_RANGES));
        }
        if !matches!(task.mode, NetworkMode::Bridge | NetworkMode::Awsvpc) {
            return refuse(format!("Port ranges are not supported when networkMode={}.", task.mode));
        }
        if mapping.container_port.is_some() || mapping.host_port.is_some_and(|port| port != 0) {
            return refuse(format!("'{text}' stands alone: give neither containerPort nor hostPort with it."));
        }
        let Some((first, last)) = parse_range(text) else {
            return refuse(format!(
                "'{text}' must be two ports between 1 and {MAX_PORT}, the smaller one first, such as '7000-7010'."
            ));
        };
        taken.push((protocol, first, last));
    }
    let singles: Vec<(TransportProtocol, i32)> = mappings
        .iter()
        .filter_map(|mapping| Some((mapping.protocol.unwrap_or(TransportProtocol::Tcp), mapping.container_port?)))
        .collect();
    for (index, (protocol, first, last)) in taken.iter().enumerate() {
        let meets_range =
            taken[..index].iter().any(|(other, low, high)| other == protocol && low <= last && first <= high);
        let meets_single = singles.iter().any(|(other, port)| other == protocol && (first..=last).contains(&port));
        if meets_range || meets_single {
            return refuse(format!(
                "A port can only be in one port mapping of a container: '{first}-{last}' overlaps another one."
            ));
        }
    }
    Ok(())
}

/// No two mappings of a task want the same port of the host, and their names are unique.
pub(super) fn check_together(containers: &[ContainerDefinition], task: &Task) -> Result<(), ApiError> {
    let mut names = BTreeSet::new();
    let mut taken: BTreeMap<(i32, &str), &str> = BTreeMap::new();
    for container in containers {
        for mapping in container.port_mappings.as_deref().unwrap_or_default() {
            if mapping.name.as_deref().is_some_and(|port| !names.insert(port)) {
                let port = mapping.name.as_deref().unwrap_or_default();
                return Err(invalid(
                    container,
                    "portMappings",
                    format!("The name '{port}' is there twice in the task definition."),
                ));
            }
            let Some(port) = host_port(mapping, task) else {
                continue;
            };
            let protocol = mapping.protocol.unwrap_or(TransportProtocol::Tcp).as_str();
            if let Some(other) = taken.insert((port, protocol), name(container)) {
                let why = format!("Port {port}/{protocol} of the host is mapped by container '{other}' already.");
                return Err(invalid(container, "hostPort", why));
            }
        }
    }
    Ok(())
}

/// The port of the host that a mapping fixes.
fn host_port(mapping: &PortMapping, task: &Task) -> Option<i32> {
    match task.mode {
        NetworkMode::Bridge => mapping.host_port.filter(|port| *port != 0),
        NetworkMode::Host | NetworkMode::Awsvpc => mapping.container_port,
        NetworkMode::None => None,
    }
}
