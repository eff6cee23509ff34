//! Makes and removes what tasks need beside their containers: one module for each kind.
//!
//! Both are asked again after a crash, and whenever they failed: making what is there and removing what is gone succeed.

use crate::engine::docker::Docker;
use crate::engine::{Made, ResourceError, ResourceSpec};

use super::Shared;

/// Makes the resource of a task.
pub(super) async fn make<D: Docker>(
    _shared: &Shared<D>,
    _task_arn: &str,
    spec: ResourceSpec,
) -> Result<Made, ResourceError> {
    match spec {}
}

/// Removes the resource of a task.
pub(super) async fn remove<D: Docker>(
    _shared: &Shared<D>,
    _task_arn: &str,
    spec: ResourceSpec,
) -> Result<(), ResourceError> {
    match spec {}
}
