//! A container's settings in the Docker Engine API's own vocabulary.
//!
//! The agent decodes these two objects over what it computes from the container's members: scalars replace, objects merge,
//! **arrays replace**. So `Env` must never be among them, or the container loses what the agent adds to its environment.

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::{
    ContainerDefinition, DeviceCgroupPermission, HealthCheck, LinuxParameters, LogConfiguration, LogDriver,
};
use serde_json::{Map, Value, json};

use super::TaskFacts;
use crate::resources::{MemoryMib, NetworkMode};
use crate::task_definition::overrides::EffectiveContainer;
use crate::task_definition::{self, GpuDemand};

/// The oldest version that agents speak. They create the container with the newest of this one, their own least and the
/// daemon's least.
const OLDEST_VERSION: &str = "1.17";
/// The version that brought requests for devices, by which GPUs reach a container. No attribute stands for it: who registers
/// GPUs can pass them on.
const DEVICES_VERSION: &str = "1.40";
const NANOSECONDS: i64 = 1_000_000_000;
const MIB: i64 = 1 << 20;
/// What a container may write ahead of its log driver when it does not wait for it. ECS's default; Docker's own is a tenth.
const DEFAULT_LOG_BUFFER: &str = "10m";

/// The configuration of a container.
pub(super) fn of(
    facts: &TaskFacts<'_>,
    document: &ContainerDefinition,
    effective: &EffectiveContainer,
) -> acs::DockerConfig {
    let version = match effective.gpus {
        GpuDemand::None => task_definition::requires::api_versions(document).last().unwrap_or(OLDEST_VERSION),
        GpuDemand::Count(_) | GpuDemand::All => DEVICES_VERSION,
    };
    acs::DockerConfig {
        version: Some(version.to_owned()),
        config: Some(Value::Object(config(document)).to_string()),
        host_config: Some(Value::Object(host_config(facts, document, effective)).to_string()),
    }
}

/// An object that only takes what there is.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn set(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
    }

    fn set_text(&mut self, key: &str, text: Option<&str>) {
        self.set(key, text.filter(|text| !text.is_empty()));
    }

    fn set_list(&mut self, key: &str, list: Option<&[String]>) {
        self.set(key, list.filter(|list| !list.is_empty()).map(<[String]>::to_vec));
    }
}

fn config(document: &ContainerDefinition) -> Map<String, Value> {
    let mut config = Object::default();
    config.set_text("User", document.user.as_deref());
    config.set_text("WorkingDir", document.working_directory.as_deref());
    config.set_text("Hostname", document.hostname.as_deref());
    config.set("OpenStdin", document.interactive);
    config.set("Tty", document.pseudo_terminal);
    config.set("NetworkDisabled", document.disable_networking);
    let labels = document.docker_labels.as_ref().filter(|labels| !labels.is_empty());
    config.set("Labels", labels.map(|labels| json!(labels)));
    config.set("Healthcheck", document.health_check.as_ref().map(health_check));
    config.0
}

fn health_check(health: &HealthCheck) -> Value {
    let nanoseconds = |seconds: Option<i32>, default| i64::from(seconds.unwrap_or(default)) * NANOSECONDS;
    json!({
        "Test": health.command,
        "Interval": nanoseconds(health.interval, 30),
        "Timeout": nanoseconds(health.timeout, 5),
        "Retries": health.retries.unwrap_or(3),
        "StartPeriod": nanoseconds(health.start_period, 0),
    })
}

fn host_config(
    facts: &TaskFacts<'_>,
    document: &ContainerDefinition,
    effective: &EffectiveContainer,
) -> Map<String, Value> {
    let mut host = Object::default();
    // Agents put the containers of an awsvpc task into the network of its pause container.
    let mode = match task_definition::network_mode(facts.definition) {
        NetworkMode::Awsvpc => NetworkMode::None,
        mode => mode,
    };
    host.set("NetworkMode", Some(mode.as_str()));
    host.set("CapAdd", Some(Vec::<Value>::new()));
    host.set("CapDrop", Some(Vec::<Value>::new()));
    host.set("Privileged", document.privileged);
    host.set("ReadonlyRootfs", document.readonly_root_filesystem);
    host.set_list("Dns", document.dns_servers.as_deref());
    host.set_list("DnsSearch", document.dns_search_domains.as_deref());
    host.set_list("SecurityOpt", document.docker_security_options.as_deref());
    let hosts = document.extra_hosts.as_deref().unwrap_or_default();
    let hosts: Vec<String> = hosts.iter().map(|host| format!("{}:{}", host.hostname, host.ip_address)).collect();
    host.set_list("ExtraHosts", Some(&hosts));
    host.set("MemoryReservation", effective.memory_reservation.map(MemoryMib::bytes));
    host.set("Ulimits", ulimits(document));
    host.set("Sysctls", sysctls(document));
    host.set("LogConfig", document.log_configuration.as_ref().map(|logging| log_config(facts, logging, effective)));
    if let Some(linux) = &document.linux_parameters {
        add_linux(&mut host, linux, effective);
    }
    host.0
}

fn ulimits(document: &ContainerDefinition) -> Option<Vec<Value>> {
    let ulimits = document.ulimits.as_deref().filter(|ulimits| !ulimits.is_empty())?;
    let ulimit = |ulimit: &longshore_api::ecs::types::Ulimit| json!({"Name": ulimit.name.as_str(), "Soft": ulimit.soft_limit, "Hard": ulimit.hard_limit});
    Some(ulimits.iter().map(ulimit).collect())
}

fn sysctls(document: &ContainerDefinition) -> Option<Value> {
    let controls = document.system_controls.as_deref().filter(|controls| !controls.is_empty())?;
    let sysctls: Map<String, Value> = controls
        .iter()
        .map(|control| {
            let value = control.value.clone().unwrap_or_default();
            (control.namespace.clone().unwrap_or_default(), Value::String(value))
        })
        .collect();
    Some(Value::Object(sysctls))
}

/// Options go to Docker as they are, with ECS's defaults for delivery; except that ECS's stream prefix is no option of Docker:
/// it becomes the stream `prefix/container/task id`.
fn log_config(facts: &TaskFacts<'_>, logging: &LogConfiguration, effective: &EffectiveContainer) -> Value {
    let mut options = logging.options.clone().unwrap_or_default();
    if logging.log_driver == LogDriver::Awslogs
        && let Some(prefix) = options.remove("awslogs-stream-prefix")
    {
        let task_id = facts.task_arn.rsplit('/').next().unwrap_or_default();
        let stream = format!("{prefix}/{}/{task_id}", effective.name);
        options.insert("awslogs-stream".to_owned(), stream);
    }
    options.retain(|key, value| key != "mode" || !value.is_empty());
    let mode = options.entry("mode".to_owned()).or_insert_with(|| facts.log_driver_mode.to_owned());
    if mode == "non-blocking" {
        options.entry("max-buffer-size".to_owned()).or_insert_with(|| DEFAULT_LOG_BUFFER.to_owned());
    }
    json!({"Type": logging.log_driver.as_str(), "Config": options})
}

fn add_linux(host: &mut Object, linux: &LinuxParameters, effective: &EffectiveContainer) {
    if let Some(capabilities) = &linux.capabilities {
        host.set("CapAdd", capabilities.add.clone());
        host.set("CapDrop", capabilities.drop.clone());
    }
    let devices = linux.devices.as_deref().unwrap_or_default();
    let devices: Vec<Value> = devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.host_path,
                "PathInContainer": device.container_path.as_ref().unwrap_or(&device.host_path),
                "CgroupPermissions": permissions(device.permissions.as_deref().unwrap_or_default()),
            })
        })
        .collect();
    host.set("Devices", (!devices.is_empty()).then_some(devices));
    host.set("Init", linux.init_process_enabled);
    host.set("ShmSize", linux.shared_memory_size.map(|mib| i64::from(mib) * MIB));
    let tmpfs = linux.tmpfs.as_deref().unwrap_or_default();
    let tmpfs: Map<String, Value> = tmpfs
        .iter()
        .map(|tmpfs| {
            let mut options = tmpfs.mount_options.clone().unwrap_or_default();
            options.push(format!("size={}m", tmpfs.size));
            (tmpfs.container_path.clone(), Value::String(options.join(",")))
        })
        .collect();
    host.set("Tmpfs", (!tmpfs.is_empty()).then_some(Value::Object(tmpfs)));
    // Docker counts memory and swap together. Without maxSwap, swappiness has no effect, as ECS documents.
    if let (Some(swap), Some(memory)) = (linux.max_swap, effective.memory) {
        host.set("MemorySwap", Some(memory.bytes() + i64::from(swap) * MIB));
        host.set("MemorySwappiness", linux.swappiness);
    }
}

/// `r`, `w` and `m`; all of them unless some are named.
fn permissions(permissions: &[DeviceCgroupPermission]) -> String {
    let all = DeviceCgroupPermission::ALL;
    let letter = |permission: &DeviceCgroupPermission| match permission {
        DeviceCgroupPermission::Read => 'r',
        DeviceCgroupPermission::Write => 'w',
        DeviceCgroupPermission::Mknod => 'm',
    };
    let named = |permission: &&DeviceCgroupPermission| permissions.is_empty() || permissions.contains(permission);
    all.iter().filter(named).map(letter).collect()
}
