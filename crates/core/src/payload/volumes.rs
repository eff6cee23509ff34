//! Volumes, and who mounts them.

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::{
    ContainerDefinition, DockerVolumeConfiguration, EFSVolumeConfiguration, Scope, TaskDefinition, Volume,
};

/// The volumes of a task.
pub(super) fn of_task(definition: &TaskDefinition) -> Vec<acs::Volume> {
    definition.volumes.iter().flatten().map(volume).collect()
}

/// Each has a type and the object of that type: agents refuse a task with a volume that lacks one, even if it is empty.
fn volume(volume: &Volume) -> acs::Volume {
    let named = acs::Volume { name: volume.name.clone().unwrap_or_default(), ..acs::Volume::default() };
    if let Some(configuration) = &volume.docker_volume_configuration {
        let configuration = Some(docker(configuration));
        return acs::Volume {
            volume_type: Some("docker".to_owned()),
            docker_volume_configuration: configuration,
            ..named
        };
    }
    if let Some(configuration) = &volume.efs_volume_configuration {
        let configuration = Some(efs(configuration));
        return acs::Volume { volume_type: Some("efs".to_owned()), efs_volume_configuration: configuration, ..named };
    }
    let path = volume.host.as_ref().and_then(|host| host.source_path.clone());
    let host = acs::HostVolume { source_path: path.filter(|path| !path.is_empty()) };
    acs::Volume { volume_type: Some("host".to_owned()), host: Some(host), ..named }
}

fn docker(configuration: &DockerVolumeConfiguration) -> acs::DockerVolume {
    let scope = configuration.scope.unwrap_or(Scope::Task);
    acs::DockerVolume {
        scope: Some(scope.as_str().to_owned()),
        // Agents refuse it for the other scope.
        autoprovision: configuration.autoprovision.filter(|_| scope == Scope::Shared),
        driver: configuration.driver.clone().filter(|driver| !driver.is_empty()),
        driver_opts: configuration.driver_opts.clone().unwrap_or_default(),
        labels: configuration.labels.clone().unwrap_or_default(),
    }
}

fn efs(configuration: &EFSVolumeConfiguration) -> acs::EfsVolume {
    let authorization = configuration.authorization_config.as_ref();
    acs::EfsVolume {
        file_system_id: configuration.file_system_id.clone(),
        root_directory: configuration.root_directory.clone(),
        transit_encryption: configuration.transit_encryption.map(|mode| mode.as_str().to_owned()),
        transit_encryption_port: configuration.transit_encryption_port.map(i64::from),
        authorization_config: authorization.map(|authorization| acs::EfsAuthorization {
            access_point_id: authorization.access_point_id.clone(),
            iam: authorization.iam.map(|iam| iam.as_str().to_owned()),
        }),
    }
}

/// What a container mounts of the task's volumes.
pub(super) fn mount_points(document: &ContainerDefinition) -> Vec<acs::MountPoint> {
    let mount = |mount: &longshore_api::ecs::types::MountPoint| acs::MountPoint {
        source_volume: mount.source_volume.clone().unwrap_or_default(),
        container_path: mount.container_path.clone().unwrap_or_default(),
        read_only: mount.read_only,
    };
    document.mount_points.iter().flatten().map(mount).collect()
}

/// The containers whose mounts it has too.
pub(super) fn volumes_from(document: &ContainerDefinition) -> Vec<acs::VolumeFrom> {
    let from = |from: &longshore_api::ecs::types::VolumeFrom| acs::VolumeFrom {
        source_container: from.source_container.clone().unwrap_or_default(),
        read_only: from.read_only,
    };
    document.volumes_from.iter().flatten().map(from).collect()
}
