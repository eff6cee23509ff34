//! `longshore agent drain`: this machine's instances take no new tasks, or take them again.

use std::path::PathBuf;
use std::time::Duration;

use longshore_api::ecs::Operation;
use longshore_api::ecs::types::{
    ContainerInstanceStatus, DescribeContainerInstancesRequest, DescribeContainerInstancesResponse, Failure,
    UpdateContainerInstancesStateRequest, UpdateContainerInstancesStateResponse,
};
use longshore_client::{CallError, Client, ClientError};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::config::AgentConfig;
use crate::facts::AgentFacts;
use crate::identity::FileError;

/// The most that UpdateContainerInstancesState takes at once.
const UPDATED_AT_ONCE: usize = 10;
/// The most that DescribeContainerInstances takes at once.
const DESCRIBED_AT_ONCE: usize = 100;
/// Between looks at what is left.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What to do with this machine's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainRequest {
    /// Take new tasks again.
    pub undo: bool,
    /// How long to wait for the tasks to leave; not at all by default, [`Duration::MAX`] for as long as it takes.
    pub wait: Duration,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The instances, by ARN.
    pub instances: Vec<String>,
    /// Tasks that run or are about to.
    pub tasks_left: u64,
}

/// Why it did not work.
#[derive(Debug, Error)]
pub enum DrainError {
    /// Nobody knows which instances are meant.
    #[error(
        "no agent has registered this machine yet: {path} is missing. Start the agent first, or set ECS_DATADIR to the directory it uses",
        path = path.display()
    )]
    NotRegistered {
        /// Where it would say so.
        path: PathBuf,
    },
    /// That file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The server cannot be called at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server did not do it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server did not do it for all instances.
    #[error("not all instances of this machine could be changed: {}", failures.join("; "))]
    Refused {
        /// ARN and reason of each.
        failures: Vec<String>,
    },
    /// The time is over.
    #[error("{tasks_left} tasks are still there after {waited:?}: stop them (`aws ecs stop-task`), or wait longer")]
    TasksLeft {
        /// So many.
        tasks_left: u64,
        /// So long.
        waited: Duration,
    },
}

/// Drains this machine's instances, or takes that back. `progress` is told how many tasks are left when it begins to
/// wait, and whenever that changes.
pub async fn drain(
    config: &AgentConfig,
    request: DrainRequest,
    progress: impl FnMut(u64),
) -> Result<Drained, DrainError> {
    drain_looking(config, request, LOOK_EVERY, progress).await
}

async fn drain_looking(
    config: &AgentConfig,
    request: DrainRequest,
    look_every: Duration,
    mut progress: impl FnMut(u64),
) -> Result<Drained, DrainError> {
    let facts = AgentFacts::read(&config.data_dir)?;
    let facts = facts.ok_or_else(|| DrainError::NotRegistered { path: AgentFacts::path(&config.data_dir) })?;
    let api = Client::new(config.client())?;
    let instances = Instances { api, cluster: facts.cluster, arns: facts.container_instance_arns };
    instances
        .set_status(if request.undo { ContainerInstanceStatus::Active } else { ContainerInstanceStatus::Draining })
        .await?;
    let began = Instant::now();
    let mut tasks_left = instances.tasks().await?;
    if tasks_left > 0 && !request.undo && !request.wait.is_zero() {
        progress(tasks_left);
    }
    while tasks_left > 0 && !request.undo && began.elapsed() < request.wait {
        sleep(look_every.min(request.wait)).await;
        let now_left = match instances.tasks().await {
            // The server may be started anew while we wait.
            Err(DrainError::Call(error)) if error.is_passing() => continue,
            other => other?,
        };
        if now_left != tasks_left {
            tasks_left = now_left;
            progress(tasks_left);
        }
    }
    if tasks_left > 0 && !request.undo && !request.wait.is_zero() {
        return Err(DrainError::TasksLeft { tasks_left, waited: request.wait });
    }
    Ok(Drained { instances: instances.arns, tasks_left })
}

/// This machine's instances, as the server knows them.
#[derive(Clone)]
pub(crate) struct Instances {
    pub(crate) api: Client,
    pub(crate) cluster: String,
    pub(crate) arns: Vec<String>,
}

impl Instances {
    pub(crate) async fn set_status(&self, status: ContainerInstanceStatus) -> Result<(), DrainError> {
        const OPERATION: Operation = Operation::UpdateContainerInstancesState;
        let mut failures = Vec::new();
        for arns in self.arns.chunks(UPDATED_AT_ONCE) {
            let request = UpdateContainerInstancesStateRequest {
                cluster: Some(self.cluster.clone()),
                container_instances: arns.to_vec(),
                status,
            };
            let answer = self.api.call(OPERATION, request.to_json()).await?;
            let answer = UpdateContainerInstancesStateResponse::from_json(&answer)
                .map_err(|error| unreadable(OPERATION, error.to_string()))?;
            failures.extend(answer.failures.unwrap_or_default());
        }
        refused(failures)
    }

    /// How many tasks run or are about to.
    async fn tasks(&self) -> Result<u64, DrainError> {
        const OPERATION: Operation = Operation::DescribeContainerInstances;
        let mut tasks = 0;
        let mut failures = Vec::new();
        for arns in self.arns.chunks(DESCRIBED_AT_ONCE) {
            let request = DescribeContainerInstancesRequest {
                cluster: Some(self.cluster.clone()),
                container_instances: arns.to_vec(),
                include: None,
            };
            let answer = self.api.call(OPERATION, request.to_json()).await?;
            let answer = DescribeContainerInstancesResponse::from_json(&answer)
                .map_err(|error| unreadable(OPERATION, error.to_string()))?;
            for instance in answer.container_instances.unwrap_or_default() {
                let counts = [instance.running_tasks_count, instance.pending_tasks_count];
                tasks += counts.iter().flatten().filter_map(|count| u64::try_from(*count).ok()).sum::<u64>();
            }
            failures.extend(answer.failures.unwrap_or_default());
        }
        refused(failures).map(|()| tasks)
    }
}

fn unreadable(operation: Operation, cause: String) -> CallError {
    CallError::Answer { operation: operation.name(), cause }
}

fn refused(failures: Vec<Failure>) -> Result<(), DrainError> {
    if failures.is_empty() {
        return Ok(());
    }
    let text = |failure: Failure| {
        let part = |part: Option<String>| part.unwrap_or_default();
        format!("{} {} {}", part(failure.arn), part(failure.reason), part(failure.detail)).trim().to_owned()
    };
    Err(DrainError::Refused { failures: failures.into_iter().map(text).collect() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicI64, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::session::fake_server::{Call, FakeServer, credentials};

    const SOON: Duration = Duration::from_millis(5);

    fn config(server: &FakeServer, dir: &Path) -> AgentConfig {
        let credentials = credentials();
        let dir = dir.display().to_string();
        let env = [
            ("ECS_BACKEND_HOST", server.base.as_str()),
            ("AWS_ACCESS_KEY_ID", &credentials.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key),
            ("ECS_DATADIR", &dir),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        AgentConfig::load(Some(Path::new("/dev/null")), env).unwrap()
    }

    fn registered(dir: &Path, count: usize) -> Vec<String> {
        let arns: Vec<String> = (0..count).map(|number| format!("arn:i{number}")).collect();
        let facts = AgentFacts {
            pid: 1,
            server: "http://h:1".into(),
            cluster: "c".into(),
            container_instance_arns: arns.clone(),
            version: "1".into(),
        };
        facts.write(dir).unwrap();
        arns
    }

    /// One task fewer at each look.
    fn answer(call: &Call, tasks: &AtomicI64) -> (u16, Value) {
        if call.operation == "UpdateContainerInstancesState" {
            return (200, json!({ "containerInstances": [], "failures": [] }));
        }
        let left = tasks.fetch_sub(1, Ordering::Relaxed).max(0);
        let instance = json!({ "containerInstanceArn": "arn:i0", "runningTasksCount": left, "pendingTasksCount": 0 });
        (200, json!({ "containerInstances": [instance], "failures": [] }))
    }

    #[tokio::test]
    async fn instances_are_drained_in_tens_and_waited_for() {
        let tasks = AtomicI64::new(2);
        let mut server = FakeServer::start(move |call| answer(call, &tasks)).await;
        let dir = tempfile::tempdir().unwrap();
        let arns = registered(dir.path(), 12);
        let mut told = Vec::new();
        let request = DrainRequest { undo: false, wait: Duration::MAX };
        let drained = drain_looking(&config(&server, dir.path()), request, SOON, |left| told.push(left)).await.unwrap();
        assert_eq!(drained, Drained { instances: arns.clone(), tasks_left: 0 });
        assert_eq!(told, [2, 1, 0]);
        let first = server.call("UpdateContainerInstancesState").await;
        let second = server.call("UpdateContainerInstancesState").await;
        assert_eq!((first["status"].as_str(), first["cluster"].as_str()), (Some("DRAINING"), Some("c")));
        assert_eq!(first["containerInstances"], json!(arns[..10]));
        assert_eq!(second["containerInstances"], json!(arns[10..]));
    }

    #[tokio::test]
    async fn waiting_ends_and_undoing_waits_for_nothing() {
        let tasks = AtomicI64::new(1_000_000);
        let mut server = FakeServer::start(move |call| answer(call, &tasks)).await;
        let dir = tempfile::tempdir().unwrap();
        registered(dir.path(), 1);
        let config = config(&server, dir.path());
        let wait = Duration::from_millis(50);
        let error = drain_looking(&config, DrainRequest { undo: false, wait }, SOON, |_| {}).await.unwrap_err();
        assert!(matches!(error, DrainError::TasksLeft { .. }) && error.to_string().contains("after 50ms"), "{error}");
        let undone = drain(&config, DrainRequest { undo: true, wait }, |_| {}).await.unwrap();
        assert!(undone.tasks_left > 0);
        server.call("UpdateContainerInstancesState").await;
        assert_eq!(server.call("UpdateContainerInstancesState").await["status"], "ACTIVE");
    }

    #[tokio::test]
    async fn what_the_server_does_not_drain_is_named() {
        let failure = json!({ "failures": [{ "arn": "arn:i0", "reason": "MISSING" }] });
        let server = FakeServer::start(move |_| (200, failure.clone())).await;
        let dir = tempfile::tempdir().unwrap();
        let config = config(&server, dir.path());
        let error = drain(&config, DrainRequest::default(), |_| {}).await.unwrap_err().to_string();
        assert!(error.contains("agent.json is missing") && error.contains("ECS_DATADIR"), "{error}");
        registered(dir.path(), 1);
        let error = drain(&config, DrainRequest::default(), |_| {}).await.unwrap_err().to_string();
        assert!(error.contains("arn:i0 MISSING"), "{error}");
    }
}
