//! A payload's container in Docker's vocabulary: name, labels, settings.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use longshore_agent_protocol::acs;
use serde_json::{Map, Value, json};

use super::action::ContainerSpec;
use super::awslogs;
use super::gpu::{self, GpuAccess};
use super::internal;
use super::ports;
use super::resource::{Prepared, network, volume};
use super::{EngineConfig, PortBinding};

/// Docker refuses fewer, and takes 0 for its default of 1024.
pub(crate) const MIN_CPU_SHARES: i64 = 2;
/// Linux refuses more.
pub(crate) const MAX_CPU_SHARES: i64 = 262_144;
/// ECS's floor of a memory limit.
const MIN_MEMORY_BYTES: i64 = 4 << 20;

const LABELS: &str = "com.amazonaws.ecs";
/// Which of the instances that share a Docker Engine a container belongs to.
const LABEL_INSTANCE: &str = "longshore.container-instance-arn";

/// The name of a container's Docker container: the same whenever and by whomever it is computed.
pub(crate) fn docker_name(task: &acs::Task, container: &str) -> String {
    unique_name(task, container, container)
}

/// The name of a volume's Docker volume: as that of a container, and told from it.
pub(crate) fn volume_name(task: &acs::Task, volume: &str) -> String {
    unique_name(task, volume, &format!("volume\0{volume}"))
}

fn unique_name(task: &acs::Task, name: &str, told_by: &str) -> String {
    let kept = |text: &str, also: char| -> String {
        text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == also).collect()
    };
    let family = kept(task.family.as_deref().unwrap_or_default(), '_');
    let version = kept(task.version.as_deref().unwrap_or_default(), '-');
    let hash = digest::digest(&digest::SHA256, format!("{}\0{told_by}", task.arn).as_bytes());
    let unique = hex::encode(&hash.as_ref()[..10]);
    format!("ecs-{family}-{version}-{}-{unique}", kept(name, '-'))
}

/// The network mode in force.
pub(crate) fn network_mode(task: &acs::Task) -> &str {
    task.network_mode.as_deref().filter(|mode| !mode.is_empty()).unwrap_or("bridge")
}

/// The port bindings that are known without asking Docker.
pub(crate) fn known_bindings(task: &acs::Task, container: &acs::Container) -> Option<Vec<PortBinding>> {
    match network_mode(task) {
        "host" => Some(ports::host_bindings(&ports::published(container).unwrap_or_default())),
        "bridge" if !container.port_mappings.is_empty() => None,
        _ => Some(Vec::new()),
    }
}

/// Memory that admission counts for a container, in MiB: the reservation where there is one.
pub(crate) fn counted_memory_mib(container: &acs::Container) -> i64 {
    let host_config = container.docker_config.as_ref().and_then(|config| config.host_config.as_deref());
    let reservation = host_config
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .and_then(|host_config| host_config.get("MemoryReservation").and_then(Value::as_i64))
        .filter(|bytes| *bytes > 0);
    reservation.map_or(container.memory.max(0), |bytes| bytes >> 20)
}

/// The container to create; an error names what is wrong with the payload.
pub(crate) fn container_spec(
    config: &EngineConfig,
    task: &acs::Task,
    container: &acs::Container,
    prepared: &Prepared<'_>,
) -> Result<ContainerSpec, String> {
    let wrong = |field: &str, why: String| format!("container {}: {field} {why}", container.name);
    let docker = container.docker_config.clone().unwrap_or_default();
    let mut host_config = computed_host_config(config, task, container)?;
    if let Some(over) = overlay(docker.host_config.as_deref()).map_err(|why| wrong("dockerConfig.hostConfig", why))? {
        merge_members(&mut host_config, over);
    }
    if let Some(kept_here) =
        member(&host_config, "LogConfig").and_then(|log| awslogs::replacement(config.awslogs_as, log))
    {
        force(&mut host_config, "LogConfig", kept_here);
    }
    network::join(task, container, &mut host_config);
    let gpus = gpu::of_container(task, &container.name);
    if !gpus.is_empty() {
        let settings = gpu::settings(&config.gpu_access, &gpus);
        settings.into_iter().for_each(|(name, value)| force(&mut host_config, &name, value));
    }
    // What the agent made for the task is what its containers get.
    for (name, value) in made_host_config(task, container, prepared)? {
        force(&mut host_config, name, value);
    }
    // The engine alone decides whether a container comes back or goes away.
    force(&mut host_config, "AutoRemove", json!(false));
    force(&mut host_config, "RestartPolicy", json!({ "Name": "no", "MaximumRetryCount": 0 }));
    let driver = member(&host_config, "LogConfig").and_then(|log| log.get("Type")).and_then(Value::as_str);
    if driver == Some("awsfirelens") {
        return Err(wrong(
            "logConfiguration",
            "names the log driver awsfirelens, which this agent does not support".to_owned(),
        ));
    }

    let log_options = prepared.log_options();
    if !log_options.is_empty() {
        let mut log = member(&host_config, "LogConfig").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut options = member(&log, "Config").and_then(Value::as_object).cloned().unwrap_or_default();
        options.extend(log_options.into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
        force(&mut log, "Config", Value::Object(options));
        force(&mut host_config, "LogConfig", Value::Object(log));
    }

    let mut body = computed_config(config, task, container, prepared)?;
    if let Some(over) = overlay(docker.config.as_deref()).map_err(|why| wrong("dockerConfig.config", why))? {
        merge_members(&mut body, over);
    }
    if container.health_check_type.as_deref().is_some_and(|check| check.eq_ignore_ascii_case("docker"))
        && !member(&body, "Healthcheck").is_some_and(Value::is_object)
    {
        return Err("DockerClientConfigError: docker health check is nil while container health check type is DOCKER"
            .to_owned());
    }
    force_labels(&mut body, config, task, container);
    body.insert("HostConfig".to_owned(), Value::Object(host_config));
    let ports_to_find = match network_mode(task) {
        "bridge" => ports::to_find(&ports::published(container)?, container, config.dynamic_host_port_range),
        _ => Vec::new(),
    };
    Ok(ContainerSpec { name: docker_name(task, &container.name), body: Value::Object(body), ports_to_find })
}

fn computed_config(
    config: &EngineConfig,
    task: &acs::Task,
    container: &acs::Container,
    prepared: &Prepared<'_>,
) -> Result<Map<String, Value>, String> {
    let mut body = Map::new();
    body.insert("Image".to_owned(), json!(container.image));
    // What the definition says itself wins.
    let mut environment = prepared.environment();
    environment.extend(container.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let gpus = gpu::of_container(task, &container.name).join(",");
    if !gpus.is_empty() && matches!(config.gpu_access, GpuAccess::Runtime(_)) {
        // But for this: it must see no other container's.
        environment.insert(gpu::VISIBLE, &gpus);
    }
    let environment: Vec<String> = environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    body.insert("Env".to_owned(), json!(environment));
    if let Some(command) = overridden_command(container)?.or_else(|| container.command.clone()) {
        body.insert("Cmd".to_owned(), json!(command));
    }
    if let Some(entry_point) = &container.entry_point {
        body.insert("Entrypoint".to_owned(), json!(entry_point));
    }
    if network_mode(task) == "bridge" {
        let ports = ports::published(container)?;
        let (exposed, _) = ports::docker_ports(&ports, config.dynamic_host_port_range);
        body.insert("ExposedPorts".to_owned(), exposed);
    }
    Ok(body)
}

fn computed_host_config(
    config: &EngineConfig,
    task: &acs::Task,
    container: &acs::Container,
) -> Result<Map<String, Value>, String> {
    let mut host = Map::new();
    let mode = network_mode(task);
    host.insert("NetworkMode".to_owned(), json!(mode));
    host.insert("CpuShares".to_owned(), json!(container.cpu.clamp(MIN_CPU_SHARES, MAX_CPU_SHARES)));
    if container.memory > 0 {
        let bytes = container.memory.saturating_mul(1 << 20).max(MIN_MEMORY_BYTES);
        host.insert("Memory".to_owned(), json!(bytes));
    }
    if mode == "bridge" {
        let ports = ports::published(container)?;
        let (_, bindings) = ports::docker_ports(&ports, config.dynamic_host_port_range);
        host.insert("PortBindings".to_owned(), bindings);
    }
    if !container.links.is_empty() {
        let link = |link: &String| {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            format!("{}:{alias}", docker_name(task, name))
        };
        host.insert("Links".to_owned(), json!(container.links.iter().map(link).collect::<Vec<_>>()));
    }
    if !container.volumes_from.is_empty() {
        let source = |from: &acs::VolumeFrom| {
            let mode = if from.read_only == Some(true) { "ro" } else { "rw" };
            format!("{}:{mode}", docker_name(task, &from.source_container))
        };
        let sources: Vec<String> = container.volumes_from.iter().map(source).collect();
        host.insert("VolumesFrom".to_owned(), json!(sources));
    }
    Ok(host)
}

/// The settings that lead to what the task's containers share: its cgroup, volumes and namespaces.
fn made_host_config(
    task: &acs::Task,
    container: &acs::Container,
    prepared: &Prepared<'_>,
) -> Result<Vec<(&'static str, Value)>, String> {
    let mut made = Vec::new();
    made.extend(prepared.cgroup_parent().map(|parent| ("CgroupParent", json!(parent))));
    let binds = volume::binds(task, container)?;
    if !binds.is_empty() {
        made.push(("Binds", json!(binds)));
    }
    for (name, mode) in [("PidMode", &task.pid_mode), ("IpcMode", &task.ipc_mode)] {
        let mode = internal::namespace(task, &container.name, mode.as_deref());
        made.extend(mode.map(|mode| (name, json!(mode))));
    }
    Ok(made)
}

/// The command of the container's `overrides`, the only part of them that agents act upon.
fn overridden_command(container: &acs::Container) -> Result<Option<Vec<String>>, String> {
    let Some(text) = container.overrides.as_deref().filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let bad = |why: String| format!("container {}: overrides {why}", container.name);
    let overrides: Value = serde_json::from_str(text).map_err(|error| bad(format!("is not JSON: {error}")))?;
    match overrides.get("command") {
        None | Some(Value::Null) => Ok(None),
        Some(command) => serde_json::from_value(command.clone())
            .map(Some)
            .map_err(|error| bad(format!("has a command that is not a list of strings: {error}"))),
    }
}

fn force_labels(body: &mut Map<String, Value>, config: &EngineConfig, task: &acs::Task, container: &acs::Container) {
    let forced = BTreeMap::from([
        (format!("{LABELS}.task-arn"), task.arn.as_str()),
        (format!("{LABELS}.container-name"), container.name.as_str()),
        (format!("{LABELS}.task-definition-family"), task.family.as_deref().unwrap_or_default()),
        (format!("{LABELS}.task-definition-version"), task.version.as_deref().unwrap_or_default()),
        (format!("{LABELS}.cluster"), config.cluster.as_str()),
        (LABEL_INSTANCE.to_owned(), config.container_instance_arn.as_str()),
    ]);
    let mut labels = member(body, "Labels").and_then(Value::as_object).cloned().unwrap_or_default();
    labels.extend(forced.into_iter().map(|(name, value)| (name, json!(value))));
    force(body, "Labels", Value::Object(labels));
}

/// One of Docker's own members, however it is spelt: Docker reads them without regard to case.
fn member<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Sets one of Docker's own members, in place of every other spelling of it.
fn force(members: &mut Map<String, Value>, name: &str, value: Value) {
    members.retain(|have, _| !have.eq_ignore_ascii_case(name));
    members.insert(name.to_owned(), value);
}

/// The JSON text of a `dockerConfig` member; empty or `null` is nothing.
fn overlay(text: Option<&str>) -> Result<Option<Map<String, Value>>, String> {
    match text.map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match serde_json::from_str(text) {
            Ok(Value::Object(members)) => Ok(Some(members)),
            Ok(Value::Null) => Ok(None),
            Ok(_) => Err("is not a JSON object".to_owned()),
            Err(error) => Err(format!("is not JSON: {error}")),
        },
    }
}

/// Decodes `over` onto `base` as Go does: scalars and lists replace, objects merge key by key, `null` changes nothing. Docker's own
/// member names match without regard to case; what is below them may be a user's (labels, sysctls) and matches exactly.
fn merge_members(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        let have = base.keys().find(|have| have.eq_ignore_ascii_case(&key)).cloned();
        merge(base.entry(have.unwrap_or(key)).or_insert(Value::Null), value);
    }
    base.retain(|_, value| !value.is_null());
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
