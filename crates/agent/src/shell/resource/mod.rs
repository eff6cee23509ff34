//! Makes and removes what tasks need beside their containers: one module for each kind.
//!
//! Both are asked again after a crash, and whenever they failed: making what is there and removing what is gone succeed.

mod cgroup;
pub(crate) mod env_file;
mod login;
mod network;
pub(crate) mod secret;
mod volume;

use crate::engine::docker::Docker;
use crate::engine::{Made, ResourceError, ResourceSpec};

use super::Shared;

/// Makes the resource of a task.
pub(super) async fn make<D: Docker>(
    shared: &Shared<D>,
    task_arn: &str,
    spec: ResourceSpec,
) -> Result<Made, ResourceError> {
    let with_credentials =
        matches!(spec, ResourceSpec::Secrets(_) | ResourceSpec::EnvironmentFiles(_) | ResourceSpec::Login(_));
    let made = match spec {
        ResourceSpec::Volume(spec) => volume::make(shared, &spec).await,
        ResourceSpec::Cgroup(spec) => cgroup::make(shared, &spec).await,
        ResourceSpec::EnvironmentFiles(spec) => {
            env_file::fetch(&shared.objects, shared.roles.of(task_arn), &spec).await
        }
        ResourceSpec::Login(wanted) => login::fetch(&shared.secrets, shared.roles.of(task_arn), wanted).await,
        ResourceSpec::Secrets(wanted) => secret::fetch(&shared.secrets, shared.roles.of(task_arn), wanted).await,
        ResourceSpec::Network(spec) => network::make(shared, spec).await,
    };
    if with_credentials && matches!(made, Err(ResourceError::NotYet(_) | ResourceError::Again(_))) {
        shared.roles.miss(task_arn);
    }
    made
}

/// Removes the resource of a task.
pub(super) async fn remove<D: Docker>(
    shared: &Shared<D>,
    _task_arn: &str,
    spec: ResourceSpec,
) -> Result<(), ResourceError> {
    match spec {
        // They are in memory, and in the container, which is gone.
        ResourceSpec::Secrets(_) | ResourceSpec::EnvironmentFiles(_) | ResourceSpec::Login(_) => Ok(()),
        ResourceSpec::Volume(spec) => volume::remove(shared, &spec).await,
        ResourceSpec::Cgroup(spec) => cgroup::remove(shared, &spec).await,
        ResourceSpec::Network(spec) => network::remove(shared, spec).await,
    }
}
