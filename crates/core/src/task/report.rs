//! What agents report: SubmitTaskStateChange, SubmitContainerStateChange, SubmitAttachmentStateChanges.
//!
//! Reports come in batches, twice, late and out of order (AGENT-PROTOCOL §3): a status only moves forward, and what
//! changes nothing writes nothing.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use crate::cell::Turn;
use crate::entity::{ContainerDetail, Entity, Stop, Task, TaskContainer};
use crate::ids::TaskKey;
use crate::instance::deregister;
use crate::limits;
use crate::names;
use crate::principal::Principal;
use crate::task::status::{DesiredStatus, TaskStatus};

/// SubmitTaskStateChange.
pub(crate) fn submit_task(
    turn: &mut Turn<'_>,
    principal: &Principal,
    request: &types::SubmitTaskStateChangeRequest,
) -> Result<Response, ApiError> {
    let task = find(turn, principal, request.cluster.as_deref(), request.task.as_deref())?;
    // That the interface is attached follows from the task's own status, so that the report of it changes nothing.
    let attachment = task.network.as_ref().map(|_| turn.config.attachment_arn(task.key.id));
    let mut changes = request.attachments.iter().flatten();
    if let Some(change) = changes.find(|change| Some(&change.attachment_arn) != attachment.as_ref()) {
        return Err(unknown_attachment(change));
    }
    // Only for ECS Exec an agent runs another one in a container, and no task has that yet.
    if let Some(change) = request.managed_agents.as_deref().and_then(<[_]>::first) {
        let name = &change.container_name;
        return Err(ApiError::invalid_parameter(format!("The container {name} has no managed agent.")));
    }
    let status = request.status.as_deref().map(parse_status).transpose()?;
    let changes = request.containers.as_deref().unwrap_or_default();
    if changes.len() > limits::REPORTED_CONTAINERS {
        let most = limits::REPORTED_CONTAINERS;
        return Err(ApiError::invalid_parameter(format!("containers can have at most {most} items.")));
    }
    let mut next = Task::clone(&task);
    for change in changes {
        apply_container(turn, &mut next, change)?;
    }
    first(&mut next.life.pull_started_at, request.pull_started_at);
    first(&mut next.life.pull_stopped_at, request.pull_stopped_at);
    first(&mut next.life.execution_stopped_at, request.execution_stopped_at);
    if let Some(status) = status {
        advance(turn, &mut next, status, request.reason.as_deref());
    }
    store(turn, &task, next);
    let acknowledgment = Some("ok".to_owned());
    Ok(types::SubmitTaskStateChangeResponse { acknowledgment }.into())
}

/// SubmitContainerStateChange: one container's part of the above. Current agents never send it.
pub(crate) fn submit_container(
    turn: &mut Turn<'_>,
    principal: &Principal,
    request: &types::SubmitContainerStateChangeRequest,
) -> Result<Response, ApiError> {
    let task = find(turn, principal, request.cluster.as_deref(), request.task.as_deref())?;
    let mut next = Task::clone(&task);
    let change = types::ContainerStateChange {
        container_name: request.container_name.clone(),
        runtime_id: request.runtime_id.clone(),
        status: request.status.clone(),
        exit_code: request.exit_code,
        reason: request.reason.clone(),
        network_bindings: request.network_bindings.clone(),
        image_digest: None,
    };
    apply_container(turn, &mut next, &change)?;
    store(turn, &task, next);
    let acknowledgment = Some("ok".to_owned());
    Ok(types::SubmitContainerStateChangeResponse { acknowledgment }.into())
}

/// SubmitAttachmentStateChanges: of instances and volumes. There are none yet, so that every report is of none of ours.
pub(crate) fn submit_attachments(request: &types::SubmitAttachmentStateChangesRequest) -> Result<Response, ApiError> {
    match request.attachments.first() {
        None => {
            let acknowledgment = Some("ok".to_owned());
            Ok(types::SubmitAttachmentStateChangesResponse { acknowledgment }.into())
        }
        Some(change) => Err(unknown_attachment(change)),
    }
}

fn unknown_attachment(change: &types::AttachmentStateChange) -> ApiError {
    let arn = &change.attachment_arn;
    ApiError::invalid_parameter(format!("The attachment {arn} was not found."))
}

/// The task of a report. `InvalidParameterException` makes the agent drop the report for good, which is what a task
/// that is not ours deserves; reports are accepted only from the key that registered the task's instance. The ARN says which
/// cluster it is in; an agent that names another one besides is confused.
fn find(turn: &Turn<'_>, principal: &Principal, named: Option<&str>, arn: Option<&str>) -> Result<Arc<Task>, ApiError> {
    let unknown = || ApiError::invalid_parameter(format!("The task {} was not found.", arn.unwrap_or("''")));
    let view = turn.tables.view();
    let (cluster, id) = names::task_arn_parts(turn.config, arn.unwrap_or_default()).ok_or_else(unknown)?;
    if let Some(named) = named.filter(|named| !named.is_empty())
        && names::cluster(turn.config, Some(named))?.is_none_or(|named| named != cluster)
    {
        return Err(ApiError::invalid_parameter(format!(
            "Invalid identifier: Identifier is for cluster {cluster}. Your cluster is {named}"
        )));
    }
    let cluster = view.clusters.get(&*cluster).ok_or_else(unknown)?;
    let key = TaskKey { cluster: cluster.id, id };
    let task = view.tasks.get(&key).cloned().ok_or_else(unknown)?;
    // Nobody can report of a task that waits: it has no instance.
    let home = task.home().and_then(|home| view.instances.get(&home));
    let owner = home.map(|instance| instance.principal.clone());
    match owner.is_some_and(|owner| owner == principal.access_key_id) {
        true => Ok(task),
        false => Err(ApiError::new(
            error::ACCESS_DENIED_EXCEPTION,
            format!("The access key {} did not register the instance of this task.", principal.access_key_id),
        )),
    }
}

fn parse_status(status: &str) -> Result<TaskStatus, ApiError> {
    TaskStatus::from_report(status).ok_or_else(|| {
        ApiError::invalid_parameter(format!("The status {status:?} is not one of PENDING, RUNNING, STOPPED."))
    })
}

/// Lays one container's report over what is known. Containers we do not know (the agent's own) are passed over.
fn apply_container(turn: &Turn<'_>, task: &mut Task, change: &types::ContainerStateChange) -> Result<(), ApiError> {
    let Some(container) = container(turn, task, change.container_name.as_deref()) else { return Ok(()) };
    if let Some(status) = change.status.as_deref() {
        container.status = container.status.advance(parse_status(status)?);
    }
    let mut detail = container.detail.take().unwrap_or_default();
    first(&mut detail.exit_code, change.exit_code);
    first(&mut detail.reason, short(change.reason.as_deref()));
    first(&mut detail.runtime_id, short(change.runtime_id.as_deref()));
    let digest = short(change.image_digest.as_deref());
    // What the image's name stands for is told before the pull. What runs may be another one, which was there already.
    if digest.is_some() || change.status.as_deref() == Some("RUNNING") {
        detail.image_digest = digest;
    }
    if let Some(bindings) = change.network_bindings.as_deref().filter(|bindings| !bindings.is_empty()) {
        detail.network_bindings = bindings.iter().take(limits::BINDINGS).cloned().collect();
    }
    container.detail = Some(detail).filter(|detail| **detail != ContainerDetail::default());
    Ok(())
}

fn container<'a>(turn: &Turn<'_>, task: &'a mut Task, name: Option<&str>) -> Option<&'a mut TaskContainer> {
    let known = turn.tables.view().definitions.get(&task.definition)?;
    let index = known.resolved.containers.iter().position(|container| Some(container.name.as_str()) == name)?;
    task.containers.get_mut(index)
}

/// Moves the task forward, and writes down when and why.
fn advance(turn: &Turn<'_>, task: &mut Task, status: TaskStatus, reason: Option<&str>) {
    let before = task.known;
    task.known = before.advance(status);
    if let Some(verdict) = &mut task.verdict {
        // The verdict stands: the report frees what the task held, and changes nothing that the API shows of its life.
        if task.known == TaskStatus::Stopped {
            first(&mut verdict.settled_at, Some(turn.now));
        }
        return;
    }
    if status != TaskStatus::Stopped {
        first(&mut task.life.connectivity_at, Some(turn.now));
    }
    if task.known == before {
        return;
    }
    match task.known {
        TaskStatus::Provisioning | TaskStatus::Pending => {}
        TaskStatus::Running => task.life.started_at = Some(turn.now),
        TaskStatus::Stopped => {
            for container in &mut task.containers {
                container.status = TaskStatus::Stopped;
            }
            if task.stop.is_none() {
                task.stop = Some(why_stopped(turn, task, before, reason));
            }
            task.desired = DesiredStatus::Stopped;
            first(&mut task.life.stopping_at, Some(turn.now));
            task.life.stopped_at = Some(turn.now);
        }
    }
}

/// Why a task ended that nobody stopped: it never started, or an essential container ended.
fn why_stopped(turn: &Turn<'_>, task: &Task, before: TaskStatus, reason: Option<&str>) -> Stop {
    let reported = short(reason);
    let known = turn.tables.view().definitions.get(&task.definition);
    let essential = |index: usize| {
        known.and_then(|known| known.resolved.containers.get(index)).is_none_or(|container| container.essential)
    };
    let failed = task.containers.iter().enumerate().find_map(|(index, container)| {
        let detail = container.detail.as_deref().filter(|detail| essential(index) && detail.exit_code.is_none())?;
        detail.reason.clone()
    });
    let started = before == TaskStatus::Running
        || task.containers.iter().any(|container| container.detail.as_deref().is_some_and(|d| d.exit_code.is_some()));
    match (started, reported.or(failed)) {
        (false, Some(reason)) => Stop { code: types::TaskStopCode::TaskFailedToStart, reason },
        (false, None) => Stop { code: types::TaskStopCode::TaskFailedToStart, reason: "Task failed to start".into() },
        (true, Some(reason)) if failed_to_start(task, &reason) => {
            Stop { code: types::TaskStopCode::TaskFailedToStart, reason }
        }
        (true, _) => Stop {
            code: types::TaskStopCode::EssentialContainerExited,
            reason: "Essential container in task exited".into(),
        },
    }
}

/// Whether a task that did run a container still ended because another could not be started.
fn failed_to_start(task: &Task, reason: &str) -> bool {
    task.life.started_at.is_none() && reason.contains("Error: ")
}

/// The first report of something stays.
fn first<T>(known: &mut Option<T>, reported: Option<T>) {
    if known.is_none() {
        *known = reported;
    }
}

/// A text of an agent, cut to what is kept; an empty one is none.
fn short(text: Option<&str>) -> Option<Arc<str>> {
    let text = text.filter(|text| !text.is_empty())?;
    match text.char_indices().nth(limits::REASON) {
        None => Some(text.into()),
        Some((end, _)) => Some(text[..end].into()),
    }
}

/// Stores the task if the report changed it.
fn store(turn: &mut Turn<'_>, before: &Arc<Task>, mut next: Task) {
    if next != **before {
        let ended = next.known == TaskStatus::Stopped && before.known != TaskStatus::Stopped;
        let home = next.home();
        next.version += 1;
        turn.tables.put(Entity::Task(Arc::new(next)));
        if let Some(home) = home.filter(|_| ended) {
            deregister::finish(turn, home);
        }
    }
}
