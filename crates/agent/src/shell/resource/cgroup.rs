//! The cgroup of a task.

use std::fmt::Display;

use crate::cgroup::Cgroups;
use crate::engine::docker::Docker;
use crate::engine::resource::cgroup::facts;
use crate::engine::{CgroupSpec, Made, ResourceError};
use crate::shell::Shared;

pub(super) async fn make<D: Docker>(shared: &Shared<D>, spec: &CgroupSpec) -> Result<Made, ResourceError> {
    let parent = ready(shared).await?.make(spec).await.map_err(trouble)?;
    Ok(Made { facts: facts(parent), ..Made::default() })
}

/// The last process of a container may take a moment to leave it.
pub(super) async fn remove<D: Docker>(shared: &Shared<D>, spec: &CgroupSpec) -> Result<(), ResourceError> {
    ready(shared).await?.remove(&spec.task_id).await.map_err(trouble)
}

/// Whatever this agent offers: a task that has a cgroup came to one that had them.
async fn ready<D: Docker>(shared: &Shared<D>) -> Result<&Cgroups, ResourceError> {
    shared.cgroups.ready(&shared.docker).await.map_err(trouble)
}

fn trouble(why: impl Display) -> ResourceError {
    ResourceError::Again(format!("CgroupError: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::docker::fake::FakeDocker;
    use crate::session::fake_server::FakeServer;
    use crate::shell::tests::shared;
    use crate::state::State;

    #[tokio::test]
    async fn cgroups_that_cannot_be_looked_for_now_are_neither_made_nor_forgotten() {
        let docker = FakeDocker::default();
        docker.set_down(true);
        let server = FakeServer::start(|_| (200, serde_json::json!({}))).await;
        let (state, _writer, _) = State::open(None).unwrap();
        let shared = shared(docker, state, &server);
        let spec = CgroupSpec {
            task_id: "0a1b".to_owned(),
            cpu_us_per_second: None,
            cpu_shares: 2,
            memory_bytes: None,
            pids: Some(64),
        };
        assert!(matches!(make(&shared, &spec).await, Err(ResourceError::Again(_))));
        assert!(matches!(remove(&shared, &spec).await, Err(ResourceError::Again(_))));
    }
}
