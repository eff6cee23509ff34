//! The network of an awsvpc task: an interface in the network namespace that its pause container holds.

use crate::engine::docker::{Docker, DockerError, Phase};
use crate::engine::{Made, NetworkSpec, ResourceError};
use crate::network::{NetworkError, TaskNetworks};
use crate::shell::Shared;

pub(super) async fn make<D: Docker>(shared: &Shared<D>, spec: NetworkSpec) -> Result<Made, ResourceError> {
    let pid = running_process(&shared.docker, &spec.pause).await?;
    shared.network.host.attach(spec.interface.clone(), pid).await.map_err(error)?;
    // Had the process ended meanwhile, its number might be another's by now.
    if running_process(&shared.docker, &spec.pause).await? == pid {
        return Ok(Made::default());
    }
    shared.network.host.detach(&spec.interface.task_arn).await.map_err(error)?;
    Err(ResourceError::Again(format!("container {} was started anew", spec.pause)))
}

pub(super) async fn remove<D: Docker>(shared: &Shared<D>, spec: NetworkSpec) -> Result<(), ResourceError> {
    shared.network.host.detach(&spec.interface.task_arn).await.map_err(error)
}

async fn running_process(docker: &impl Docker, container: &str) -> Result<u32, ResourceError> {
    let found = docker.inspect(container).await.map_err(|error| match error {
        DockerError::NotFound(why) => ResourceError::Refused(why),
        DockerError::Unavailable { .. } => ResourceError::NotYet(error.to_string()),
        other => ResourceError::Again(other.to_string()),
    })?;
    match found.phase {
        Phase::Running if found.pid > 0 => Ok(found.pid),
        _ => Err(ResourceError::Again(format!("container {container} does not run"))),
    }
}

fn error(error: NetworkError) -> ResourceError {
    match error {
        NetworkError::Refused(why) => ResourceError::Refused(why),
        NetworkError::Failed(why) => ResourceError::Again(why),
        NetworkError::NotYet(why) => ResourceError::NotYet(why),
    }
}
