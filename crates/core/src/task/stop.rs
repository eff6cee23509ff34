//! StopTask: the order is durable at once, the agent carries it out. What waits has no agent, and is STOPPED at once.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, types};

use crate::cell::Turn;
use crate::entity::{Entity, Stop, Task};
use crate::ids::TaskKey;
use crate::limits;
use crate::names;
use crate::task::describe::document;
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task::waiting;

/// StopTask. Repeating it, or stopping what has stopped, changes nothing and answers the task.
pub(crate) fn stop(turn: &mut Turn<'_>, request: &types::StopTaskRequest) -> Result<Response, ApiError> {
    let view = turn.tables.view();
    let cluster = view.cluster(request.cluster.as_deref())?.clone();
    let id = names::task(turn.config, &cluster, &request.task)?;
    let task = id
        .and_then(|id| view.tasks.get(&TaskKey { cluster: cluster.id, id }))
        .cloned()
        .ok_or_else(|| ApiError::invalid_parameter("The referenced task was not found."))?;
    let reason = match request.reason.as_deref() {
        None | Some("") => "Task stopped by user",
        Some(reason) if reason.chars().count() <= limits::REASON => reason,
        Some(_) => {
            let message = format!("The reason has more than {} characters.", limits::REASON);
            return Err(ApiError::invalid_parameter(message));
        }
    };
    let stop = Stop { code: types::TaskStopCode::UserInitiated, reason: reason.into() };
    let task = order(turn, task, stop);
    let task = Some(document(turn.tables.view(), &cluster, &task, true));
    Ok(Response::StopTask(Box::new(types::StopTaskResponse { task })))
}

/// Wants a task stopped, for `stop`. The first reason stays.
pub(crate) fn order(turn: &mut Turn<'_>, task: Arc<Task>, stop: Stop) -> Arc<Task> {
    if task.desired == DesiredStatus::Stopped || task.known == TaskStatus::Stopped {
        return task;
    }
    if task.waiting.is_some() {
        return waiting::advance::end(turn, &task, stop);
    }
    let mut next = Task::clone(&task);
    next.desired = DesiredStatus::Stopped;
    next.stop = Some(stop);
    next.life.stopping_at = Some(turn.now);
    next.version += 1;
    let next = Arc::new(next);
    turn.tables.put(Entity::Task(next.clone()));
    turn.send_stop(&next);
    next
}
