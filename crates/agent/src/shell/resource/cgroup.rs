//! The cgroup of a task.

use crate::engine::resource::cgroup::facts;
use crate::engine::{CgroupSpec, Made, ResourceError};
use crate::shell::Shared;

pub(super) async fn make<D>(shared: &Shared<D>, spec: &CgroupSpec) -> Result<Made, ResourceError> {
    // Only an agent that has them takes tasks that need one.
    let Some(cgroups) = &shared.cgroups else {
        return Err(ResourceError::Refused("CgroupError: this agent makes no cgroups".to_owned()));
    };
    match cgroups.make(spec).await {
        Ok(parent) => Ok(Made { facts: facts(parent), ..Made::default() }),
        Err(error) => Err(ResourceError::Refused(format!("CgroupError: {error}"))),
    }
}

pub(super) async fn remove<D>(shared: &Shared<D>, spec: &CgroupSpec) -> Result<(), ResourceError> {
    match &shared.cgroups {
        // The last process of a container may take a moment to leave.
        Some(cgroups) => cgroups.remove(&spec.task_id).await.map_err(|error| ResourceError::Again(error.to_string())),
        None => Ok(()),
    }
}
