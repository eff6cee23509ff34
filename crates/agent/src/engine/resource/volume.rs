//! Volumes: what Docker has to keep for a task, and what its containers mount of it.

use std::collections::{BTreeMap, BTreeSet};

use longshore_agent_protocol::acs;
use serde::{Deserialize, Serialize};

use super::{Before, Resource, ResourceKey, ResourceSpec};
use crate::engine::EngineConfig;
use crate::engine::container_config::volume_name;
use crate::engine::docker::{LABEL_INSTANCE, LABEL_TASK};

/// Docker's own driver, which keeps volumes on this host.
const LOCAL: &str = "local";
/// How Amazon recommends to mount its file systems. Any server of NFS 4.1 takes them.
const NFS_OPTIONS: &str = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport";

/// What the agent has to know of the world around volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeRules {
    /// A shared volume that exists must be as the task definition describes it.
    pub match_shared: bool,
    /// The region of file systems that are named by their id alone.
    pub region: String,
    /// Host names or addresses of file systems, by id: for those that Amazon does not keep.
    pub efs_hosts: BTreeMap<String, String>,
}

/// A volume of Docker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name in Docker.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whose it is.
    pub scope: VolumeScope,
}

/// Whose a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeScope {
    /// The task's own: it comes and goes with it.
    Task,
    /// Everybody's: it stays.
    Shared {
        /// It is made if it does not exist.
        autoprovision: bool,
        /// It must be as the task definition describes it, if it exists.
        exact: bool,
    },
}

/// The volumes that Docker has to keep.
pub(super) fn plan(config: &EngineConfig, task: &acs::Task) -> Result<Vec<Resource>, String> {
    let mut names = BTreeSet::new();
    let mut resources = Vec::new();
    for volume in &task.volumes {
        if volume.name.is_empty() || !names.insert(volume.name.as_str()) {
            return Err(format!("volume name {:?} is empty or not unique", volume.name));
        }
        if let Some(spec) = spec(config, task, volume)? {
            let mounts = |container: &acs::Container| mounts(container, &volume.name);
            resources.push(Resource {
                key: ResourceKey::Volume(volume.name.clone()),
                spec: ResourceSpec::Volume(spec),
                // Who mounts none of its volumes need not wait, but somebody has to; volumesFrom follows its source.
                container: match task.containers.iter().filter(|container| mounts(container)).collect::<Vec<_>>()[..] {
                    [only] => Some(only.name.clone()),
                    _ => None,
                },
                before: Before::Create,
                after: None,
                volatile: false,
                brief: false,
            });
        }
    }
    Ok(resources)
}

fn mounts(container: &acs::Container, volume: &str) -> bool {
    container.mount_points.iter().any(|mount| mount.source_volume == volume)
}

/// What a container mounts, as Docker's `Binds` has it.
pub(crate) fn binds(task: &acs::Task, container: &acs::Container) -> Result<Vec<String>, String> {
    let bind = |mount: &acs::MountPoint| -> Result<String, String> {
        let volume = task.volumes.iter().find(|volume| volume.name == mount.source_volume).ok_or_else(|| {
            let name = &container.name;
            format!(
                "container {name}: mountPoints names the volume {:?}, which the task does not have",
                mount.source_volume
            )
        })?;
        let source = match host_path(volume) {
            Some(path) => path.to_owned(),
            None => docker_name(task, volume),
        };
        let read_only = if mount.read_only == Some(true) { ":ro" } else { "" };
        Ok(format!("{source}:{}{read_only}", mount.container_path))
    };
    container.mount_points.iter().map(bind).collect()
}

/// Older control planes leave the type out.
fn kind(volume: &acs::Volume) -> &str {
    volume.volume_type.as_deref().unwrap_or(match volume {
        acs::Volume { docker_volume_configuration: Some(_), .. } => "docker",
        acs::Volume { efs_volume_configuration: Some(_), .. } => "efs",
        _ => "host",
    })
}

/// The path of this host that the volume is.
fn host_path(volume: &acs::Volume) -> Option<&str> {
    let path = volume.host.as_ref().and_then(|host| host.source_path.as_deref());
    path.filter(|path| kind(volume) == "host" && !path.is_empty())
}

/// The volume's name in Docker.
fn docker_name(task: &acs::Task, volume: &acs::Volume) -> String {
    let docker = volume.docker_volume_configuration.as_ref().filter(|_| kind(volume) == "docker");
    match docker.and_then(|docker| docker.scope.as_deref()) {
        Some("shared") => volume.name.clone(),
        _ => volume_name(task, &volume.name),
    }
}

/// What Docker has to keep; nothing for a path of this host.
fn spec(config: &EngineConfig, task: &acs::Task, volume: &acs::Volume) -> Result<Option<VolumeSpec>, String> {
    let wrong = |why: &str| Err(format!("volume {}: {why}", volume.name));
    match kind(volume) {
        "host" if host_path(volume).is_some() => Ok(None),
        "host" => Ok(Some(own(config, task, volume, LOCAL, BTreeMap::new()))),
        "docker" => match &volume.docker_volume_configuration {
            Some(docker) => of_docker(config, task, volume, docker).map(Some),
            None => wrong("dockerVolumeConfiguration is missing"),
        },
        "efs" => match &volume.efs_volume_configuration {
            Some(efs) => {
                let options = nfs_options(config, efs).map_err(|why| format!("volume {}: {why}", volume.name))?;
                Ok(Some(own(config, task, volume, LOCAL, options)))
            }
            None => wrong("efsVolumeConfiguration is missing"),
        },
        other => wrong(&format!("the type {other} is not supported by this agent")),
    }
}

/// A volume that comes and goes with its task.
fn own(
    config: &EngineConfig,
    task: &acs::Task,
    volume: &acs::Volume,
    driver: &str,
    options: BTreeMap<String, String>,
) -> VolumeSpec {
    // So that somebody who finds it knows whose it is.
    let labels = [(LABEL_TASK, &task.arn), (LABEL_INSTANCE, &config.container_instance_arn)];
    VolumeSpec {
        name: docker_name(task, volume),
        driver: driver.to_owned(),
        options,
        labels: labels.map(|(name, value)| (name.to_owned(), value.clone())).into(),
        scope: VolumeScope::Task,
    }
}

fn of_docker(
    config: &EngineConfig,
    task: &acs::Task,
    volume: &acs::Volume,
    docker: &acs::DockerVolume,
) -> Result<VolumeSpec, String> {
    let driver = docker.driver.as_deref().filter(|driver| !driver.is_empty()).unwrap_or(LOCAL);
    let autoprovision = docker.autoprovision == Some(true);
    match docker.scope.as_deref().unwrap_or("task") {
        "task" if autoprovision => Err(format!("volume {}: autoprovision is for volumes of scope shared", volume.name)),
        "task" => {
            let mut spec = own(config, task, volume, driver, docker.driver_opts.clone());
            spec.labels.extend(docker.labels.clone());
            Ok(spec)
        }
        "shared" => Ok(VolumeSpec {
            name: docker_name(task, volume),
            driver: driver.to_owned(),
            options: docker.driver_opts.clone(),
            labels: docker.labels.clone(),
            scope: VolumeScope::Shared { autoprovision, exact: config.volumes.match_shared },
        }),
        other => Err(format!("volume {}: scope {other:?} is neither task nor shared", volume.name)),
    }
}

/// A file system as Docker's own driver mounts it: plain NFS. What needs Amazon's helper is refused.
fn nfs_options(config: &EngineConfig, efs: &acs::EfsVolume) -> Result<BTreeMap<String, String>, String> {
    let enabled = |text: &Option<String>| text.as_deref() == Some("ENABLED");
    let authorization = efs.authorization_config.clone().unwrap_or_default();
    for (given, field) in [
        (enabled(&efs.transit_encryption), "transitEncryption"),
        (enabled(&authorization.iam), "authorizationConfig.iam"),
        (authorization.access_point_id.is_some_and(|id| !id.is_empty()), "authorizationConfig.accessPointId"),
    ] {
        if given {
            return Err(format!(
                "{field} needs Amazon's mount helper, which this agent does not use: it mounts plain NFS"
            ));
        }
    }
    let id = &efs.file_system_id;
    let host = config.volumes.efs_hosts.get(id).cloned().unwrap_or_else(|| {
        let region = &config.volumes.region;
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("{id}.efs.{region}.{suffix}")
    });
    // Both end up in one text that the kernel splits at commas.
    if id.is_empty() || host.contains(',') {
        return Err(format!("fileSystemId {id:?} or its host {host:?} cannot be one"));
    }
    let root = efs.root_directory.as_deref().filter(|root| !root.is_empty()).unwrap_or("/");
    let options =
        [("type", "nfs".to_owned()), ("device", format!(":{root}")), ("o", format!("addr={host},{NFS_OPTIONS}"))];
    Ok(options.map(|(name, value)| (name.to_owned(), value)).into())
}
