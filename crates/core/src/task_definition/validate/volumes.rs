//! Rules for volumes: how each is made, and who mounts what.

use std::collections::BTreeSet;

use longshore_api::ApiError;
use longshore_api::ecs::types::{
    ContainerDefinition, EFSAuthorizationConfigIAM, EFSTransitEncryption, EFSVolumeConfiguration,
    RegisterTaskDefinitionRequest, Scope, Volume,
};

use super::{invalid, invalid_task, name};

pub(super) fn check(request: &RegisterTaskDefinitionRequest) -> Result<(), ApiError> {
    let volumes = request.volumes.as_deref().unwrap_or_default();
    let mut names = BTreeSet::new();
    for volume in volumes {
        let volume_name = volume.name.as_deref().unwrap_or_default();
        if volume_name.is_empty() || !super::is_name(volume_name) || !names.insert(volume_name) {
            let why = format!(
                "The name '{volume_name}' must be unique and have letters, numbers, hyphens and underscores only."
            );
            return Err(invalid_task("volumes", why));
        }
        check_kind(volume, volume_name)?;
    }
    if volumes.iter().filter(|volume| volume.configured_at_launch == Some(true)).count() > 1 {
        return Err(invalid_task("volumes", "Only one volume can be configured at launch."));
    }
    let containers = request.container_definitions.as_slice();
    for container in containers {
        check_mounts(container, &names)?;
        check_volumes_from(container, containers)?;
    }
    Ok(())
}

/// A volume is of one kind.
fn check_kind(volume: &Volume, volume_name: &str) -> Result<(), ApiError> {
    let refuse = |why: String| Err(invalid_task("volumes", format!("Volume '{volume_name}': {why}")));
    let kinds = [
        volume.configured_at_launch == Some(true),
        volume.docker_volume_configuration.is_some(),
        volume.efs_volume_configuration.is_some(),
        volume.fsx_windows_file_server_volume_configuration.is_some(),
        volume.host.is_some(),
        volume.s3files_volume_configuration.is_some(),
    ];
    if kinds.into_iter().filter(|given| *given).count() > 1 {
        return refuse("give only one of configuredAtLaunch, host and the volume configurations.".to_owned());
    }
    if let Some(path) = volume.host.as_ref().and_then(|host| host.source_path.as_deref())
        && !(path.is_empty() || path.starts_with('/'))
    {
        return refuse(format!("host.sourcePath '{path}' must be an absolute path."));
    }
    if let Some(docker) = &volume.docker_volume_configuration
        && docker.autoprovision.is_some()
        && docker.scope != Some(Scope::Shared)
    {
        return refuse("autoprovision is for the scope shared only.".to_owned());
    }
    match &volume.efs_volume_configuration {
        Some(efs) => check_efs(efs).or_else(|why| refuse(why.to_owned())),
        None => Ok(()),
    }
}

fn check_efs(efs: &EFSVolumeConfiguration) -> Result<(), &'static str> {
    let authorization = efs.authorization_config.as_ref();
    let access_point = authorization.is_some_and(|config| config.access_point_id.is_some());
    let iam = authorization.is_some_and(|config| config.iam == Some(EFSAuthorizationConfigIAM::Enabled));
    let encrypted = efs.transit_encryption == Some(EFSTransitEncryption::Enabled);
    if efs.file_system_id.is_empty() {
        return Err("fileSystemId should not be empty.");
    }
    if access_point && efs.root_directory.as_deref().is_some_and(|directory| directory != "/") {
        return Err("rootDirectory must be left out or '/' with an access point.");
    }
    if (access_point || iam) && !encrypted {
        return Err("transitEncryption must be ENABLED with an access point or IAM authorization.");
    }
    if efs.transit_encryption_port.is_some_and(|port| !(1..=65_535).contains(&port)) {
        return Err("transitEncryptionPort must be between 1 and 65535.");
    }
    Ok(())
}

/// Mount points name volumes of the task, each at a place of its own.
fn check_mounts(container: &ContainerDefinition, volumes: &BTreeSet<&str>) -> Result<(), ApiError> {
    let mut paths = BTreeSet::new();
    for mount in container.mount_points.as_deref().unwrap_or_default() {
        let volume = mount.source_volume.as_deref().unwrap_or_default();
        if !volumes.contains(volume) {
            return Err(ApiError::client(format!(
                "Unknown volume '{volume}'. 'mountPoints' of container '{}' must name a volume of the task definition.",
                name(container)
            )));
        }
        let path = mount.container_path.as_deref().unwrap_or_default();
        if !path.starts_with('/') || !paths.insert(path) {
            let why = format!("The containerPath '{path}' must be an absolute path that is there once.");
            return Err(invalid(container, "mountPoints", why));
        }
    }
    Ok(())
}

/// `volumesFrom` names other containers.
fn check_volumes_from(container: &ContainerDefinition, containers: &[ContainerDefinition]) -> Result<(), ApiError> {
    for from in container.volumes_from.as_deref().unwrap_or_default() {
        let source = from.source_container.as_deref().unwrap_or_default();
        if source == name(container) || !containers.iter().any(|other| name(other) == source) {
            return Err(ApiError::client(format!(
                "Unknown container '{source}'. 'volumesFrom' of container '{}' must name another container of the task definition.",
                name(container)
            )));
        }
    }
    Ok(())
}
