//! One container of the official agent's: what is known of it, and what it needs next.

use longshore_agent::engine::{
    Action, ContainerKey, ContainerSpec, DockerError, HealthStatus, ImageInfo, Input, Inspection, PortBinding, RunState,
};
use longshore_agent_protocol::acs;
use longshore_api::Timestamp;
use serde_json::{Value, json};

use super::{Config, Status, Task, TaskRecord, earliest};

/// The grace between SIGTERM and SIGKILL.
const STOP_TIMEOUT_S: i64 = 5;
/// Between attempts to stop, to look at or to remove a container, when Docker does not do it.
const DOCKER_PAUSE_MS: i64 = 2_000;

/// What the agent keeps of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ContainerRecord {
    pub(crate) name: String,
    pub(crate) essential: bool,
    pub(crate) known: Status,
    pub(crate) removed: bool,
    pub(super) docker_id: Option<String>,
    pub(super) started: bool,
    pub(super) healthy: bool,
    pub(super) exit_code: Option<i32>,
    pub(super) reason: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) bindings: Vec<PortBinding>,
    pub(super) sent: Status,
}

/// What is under way for a container. Lost when the agent dies.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    pub(super) in_flight: bool,
    /// After a restart: Docker must be asked before anything else is done.
    pub(super) unverified: bool,
    pub(super) look: bool,
    /// It could not be started, or not for sure: it is stopped before it counts as ended.
    failed: Option<String>,
    pub(super) not_before: Option<Timestamp>,
}

/// What the result of a step, or an event, says of a container.
pub(super) fn hear(container: &mut ContainerRecord, work: &mut Work, now: Timestamp, news: Input) {
    match news {
        Input::ImagePulled { result: Ok(ImageInfo { digest, .. }), .. } => {
            container.digest = digest;
            container.known = container.known.max(Status::Pulled);
        }
        Input::ImagePulled { result: Err(why), .. } => {
            end(container, Some(format!("CannotPullContainerError: {why:?}")), None);
        }
        Input::Created { result: Ok(id), .. } => {
            container.docker_id = Some(id);
            container.known = container.known.max(Status::Created);
        }
        // An earlier life of this agent made it.
        Input::Created { result: Err(DockerError::NameInUse(_)), .. } => {
            container.known = container.known.max(Status::Created);
            work.look = true;
        }
        Input::Created { result: Err(why), .. } => {
            work.failed = Some(format!("CannotCreateContainerError: {why}"));
        }
        Input::Started { result: Ok(()), .. } => {
            container.started = true;
            work.look = true;
        }
        Input::Started { result: Err(why), .. } => work.failed = Some(format!("CannotStartContainerError: {why}")),
        Input::Stopped { result: Ok(()) | Err(DockerError::NotFound(_)), .. } | Input::Died { .. } => work.look = true,
        Input::Stopped { result: Err(_), .. } => work.not_before = Some(now.plus_millis(DOCKER_PAUSE_MS)),
        Input::Inspected { result, .. } => inspected(container, work, now, result),
        Input::Removed { result: Ok(()) | Err(DockerError::NotFound(_)), .. } => container.removed = true,
        Input::Removed { result: Err(_), .. } => work.not_before = Some(now.plus_millis(DOCKER_PAUSE_MS)),
        Input::HealthChanged { health, .. } => container.healthy = health.status == HealthStatus::Healthy,
        _ => {}
    }
}

fn inspected(
    container: &mut ContainerRecord,
    work: &mut Work,
    now: Timestamp,
    result: Result<Inspection, DockerError>,
) {
    if container.known == Status::Stopped {
        return;
    }
    match result {
        Ok(found) => {
            container.docker_id = Some(found.docker_id);
            container.known = container.known.max(Status::Created);
            container.healthy |= found.health.is_some_and(|health| health.status == HealthStatus::Healthy);
            match found.state {
                RunState::Created if work.failed.is_some() => end(container, work.failed.take(), None),
                RunState::Created => {}
                RunState::Running => {
                    container.started = true;
                    container.bindings = found.bindings;
                    container.known = Status::Running;
                }
                RunState::Exited { exit_code, oom_killed, started, .. } => {
                    container.started |= started;
                    let memory =
                        oom_killed.then(|| "OutOfMemoryError: Container killed due to memory usage".to_owned());
                    end(container, memory.or(work.failed.take()), started.then_some(exit_code));
                }
            }
        }
        Err(DockerError::NotFound(_)) if container.known >= Status::Created || work.failed.is_some() => {
            let vanished = "ContainerVanishedError: no such container".to_owned();
            end(container, Some(work.failed.take().unwrap_or(vanished)), None);
        }
        Err(DockerError::NotFound(_)) => {}
        Err(_) => {
            work.look = true;
            work.not_before = Some(now.plus_millis(DOCKER_PAUSE_MS));
        }
    }
}

fn end(container: &mut ContainerRecord, reason: Option<String>, exit_code: Option<i32>) {
    container.known = Status::Stopped;
    container.exit_code = exit_code;
    container.reason = reason;
}

/// What a container needs next.
pub(super) fn next(
    config: &Config,
    task: &mut Task,
    index: usize,
    now: Timestamp,
    wake: &mut Option<Timestamp>,
) -> Option<Action> {
    let key = ContainerKey { task_arn: task.record.arn().to_owned(), name: task.record.containers[index].name.clone() };
    let target = docker_name(&task.record, &key.name);
    let image = task.record.definition.containers.get(index).map(|c| c.image.clone()).unwrap_or_default();
    let readiness = readiness(&task.record, index);
    let dependents_down = dependents_down(&task.record, index);
    let stopping = task.record.stopping;
    let (container, work) = (&mut task.record.containers[index], &mut task.work[index]);
    if container.known == Status::Stopped || work.in_flight || work.unverified {
        return None;
    }
    if let Some(at) = work.not_before.filter(|at| *at > now) {
        earliest(wake, at);
        return None;
    }
    if std::mem::take(&mut work.look) || (work.failed.is_some() && container.known < Status::Created) {
        return Some(Action::Inspect { container: key, target });
    }
    if work.failed.is_some() || (stopping && container.known == Status::Running) {
        return (dependents_down || work.failed.is_some()).then_some(Action::Stop {
            container: key,
            target,
            grace_s: STOP_TIMEOUT_S,
        });
    }
    if stopping {
        // It never ran: nothing but its record has to end.
        end(container, None, None);
        earliest(wake, now);
        return None;
    }
    match (container.known, readiness) {
        (Status::None, Ready::Yes) => Some(Action::PullImage { container: key, image, digest: None, login: None }),
        (Status::Pulled, Ready::Yes) => {
            let spec = Box::new(spec(config, &task.record, index));
            Some(Action::Create { container: key, spec, timeout_ms: 60_000 })
        }
        (Status::Created, Ready::Yes) => {
            let docker_id = container.docker_id.clone().unwrap_or(target);
            Some(Action::Start { container: key, docker_id, timeout_ms: 60_000 })
        }
        (Status::None | Status::Pulled | Status::Created, Ready::Never) => {
            end(container, Some("TaskDependencyError: a dependency failed".to_owned()), Some(143));
            earliest(wake, now);
            None
        }
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Yes,
    NotYet,
    Never,
}

/// Whether the containers that this one depends on let it go on.
fn readiness(task: &TaskRecord, index: usize) -> Ready {
    let mut ready = Ready::Yes;
    for dependency in task.definition.containers.get(index).map(|c| c.depends_on.as_slice()).unwrap_or_default() {
        let Some(other) = task.containers.iter().find(|other| other.name == dependency.container_name) else {
            continue;
        };
        let ended = other.known == Status::Stopped;
        let met = match dependency.condition.as_str() {
            "START" => other.known >= Status::Running,
            "COMPLETE" => ended,
            "SUCCESS" if ended && other.exit_code != Some(0) => return Ready::Never,
            "SUCCESS" => ended,
            _ if ended => return Ready::Never,
            _ => other.healthy && other.known == Status::Running,
        };
        if !met {
            ready = Ready::NotYet;
        }
    }
    ready
}

fn dependents_down(task: &TaskRecord, index: usize) -> bool {
    let name = &task.containers[index].name;
    let depends = |container: &acs::Container| container.depends_on.iter().any(|d| d.container_name == *name);
    let dependents =
        task.definition.containers.iter().zip(&task.containers).filter(|(definition, _)| depends(definition));
    dependents.into_iter().all(|(_, container)| container.known != Status::Running)
}

/// The official agent's names end in random digits that are saved before they are used: as good as these.
pub(super) fn docker_name(task: &TaskRecord, container: &str) -> String {
    let id = task.arn().rsplit('/').next().unwrap_or_default();
    format!("ecs-{}-{container}-{id}", task.definition.family.as_deref().unwrap_or_default())
}

fn spec(config: &Config, task: &TaskRecord, index: usize) -> ContainerSpec {
    let Some(container) = task.definition.containers.get(index) else {
        return ContainerSpec { name: String::new(), body: Value::Null, ports_to_find: Vec::new() };
    };
    let mut bindings = json!({});
    for mapping in &container.port_mappings {
        let port = mapping.container_port.unwrap_or_default();
        let protocol = mapping.protocol.as_deref().unwrap_or("tcp");
        let host_port = mapping.host_port.filter(|port| *port > 0).map(|port| port.to_string()).unwrap_or_default();
        bindings[format!("{port}/{protocol}")] = json!([{"HostPort": host_port}]);
    }
    let labels = json!({
        "com.amazonaws.ecs.task-arn": task.arn(),
        "com.amazonaws.ecs.container-name": container.name,
        "com.amazonaws.ecs.cluster": config.cluster,
    });
    ContainerSpec {
        name: docker_name(task, &container.name),
        body: json!({"Image": container.image, "Labels": labels, "HostConfig": {"PortBindings": bindings}}),
        ports_to_find: Vec::new(),
    }
}
