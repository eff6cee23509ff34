//! Volumes of Docker.

use crate::engine::docker::{Docker, DockerError, Volume, VolumeRequest};
use crate::engine::{Made, ResourceError, VolumeScope, VolumeSpec};
use crate::shell::{Shared, noticing};

pub(super) async fn make<D: Docker>(shared: &Shared<D>, spec: &VolumeSpec) -> Result<Made, ResourceError> {
    let (create, exact) = match spec.scope {
        VolumeScope::Task => return create(shared, spec).await,
        VolumeScope::Shared { autoprovision, exact } => (autoprovision, exact),
    };
    let refused =
        |why: &str| Err(ResourceError::Refused(format!("CannotCreateVolumeError: volume {} {why}", spec.name)));
    match noticing(shared, shared.docker.inspect_volume(&spec.name).await) {
        Ok(found) if exact && create && found != wanted(spec) => {
            refused("exists, and is not as the task definition describes it (ECS_SHARED_VOLUME_MATCH_FULL_CONFIG)")
        }
        Ok(_) => Ok(Made::default()),
        Err(DockerError::NotFound(_)) if create => self::create(shared, spec).await,
        Err(DockerError::NotFound(_)) => {
            refused("does not exist: a shared volume without autoprovision has to be made beforehand")
        }
        Err(error) => Err(failed(error)),
    }
}

async fn create<D: Docker>(shared: &Shared<D>, spec: &VolumeSpec) -> Result<Made, ResourceError> {
    let Volume { driver, options, labels } = wanted(spec);
    let request = VolumeRequest { name: spec.name.clone(), driver, options, labels };
    let created = noticing(shared, shared.docker.create_volume(&request).await);
    created.map(|()| Made::default()).map_err(failed)
}

fn wanted(spec: &VolumeSpec) -> Volume {
    Volume { driver: spec.driver.clone(), options: spec.options.clone(), labels: spec.labels.clone() }
}

pub(super) async fn remove<D: Docker>(shared: &Shared<D>, spec: &VolumeSpec) -> Result<(), ResourceError> {
    if spec.scope != VolumeScope::Task {
        return Ok(());
    }
    match noticing(shared, shared.docker.remove_volume(&spec.name).await) {
        Ok(()) | Err(DockerError::NotFound(_)) => Ok(()),
        Err(error) => Err(ResourceError::Again(error.to_string())),
    }
}

/// Who cannot be asked is waited for; who says no will say it again.
fn failed(error: DockerError) -> ResourceError {
    match error {
        DockerError::Unavailable { .. } => ResourceError::NotYet(error.to_string()),
        DockerError::Timeout { .. } => ResourceError::Again(error.to_string()),
        error => ResourceError::Refused(format!("CannotCreateVolumeError: {error}")),
    }
}
