//! Makes and removes what tasks need beside their containers: one module for each kind.
//!
//! Both are asked again after a crash, and whenever they failed: making what is there and removing what is gone succeed.

pub(crate) mod secret;

use crate::engine::docker::Docker;
use crate::engine::{Made, ResourceError, ResourceSpec};

use super::Shared;

/// Makes the resource of a task.
pub(super) async fn make<D: Docker>(
    shared: &Shared<D>,
    task_arn: &str,
    spec: ResourceSpec,
) -> Result<Made, ResourceError> {
    match spec {
        ResourceSpec::Secrets(wanted) => {
            let fetched = secret::fetch(&shared.secrets, shared.roles.of(task_arn), wanted).await;
            if matches!(fetched, Err(ResourceError::NotYet(_))) {
                shared.roles.miss(task_arn);
            }
            fetched
        }
    }
}

/// Removes the resource of a task.
pub(super) async fn remove<D: Docker>(
    _shared: &Shared<D>,
    _task_arn: &str,
    spec: ResourceSpec,
) -> Result<(), ResourceError> {
    match spec {
        // They are in memory, and in the container, which is gone.
        ResourceSpec::Secrets(_) => Ok(()),
    }
}
