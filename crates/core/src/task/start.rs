//! StartTask: one task on each of the instances that the caller names. The door for schedulers of one's own.

use longshore_api::ApiError;
use longshore_api::ecs::{Response, types};

use crate::cell::Turn;
use crate::cluster::missing;
use crate::entity::Cluster;
use crate::ids::{InstanceId, InstanceKey};
use crate::limits;
use crate::names;
use crate::placement::Refusal;
use crate::task::describe::document;
use crate::task::launch::{Copy, Launch, failure};
use crate::task::waiting::Patience;
use crate::unsupported::{filled, refuse};

/// StartTask. An instance that cannot take the task comes back in `failures`, for the reasons that RunTask has; an instance
/// that is named twice gets two.
pub(crate) fn start(turn: &mut Turn<'_>, request: &types::StartTaskRequest) -> Result<Response, ApiError> {
    let launch = launch(request);
    launch.check()?;
    check(request)?;
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    // All names are read before anything is changed.
    let named = request.container_instances.iter();
    let named = named.map(|given| Ok((given, names::instance(turn.config, &cluster, given)?)));
    let named = named.collect::<Result<Vec<_>, ApiError>>()?;
    let mut copy = launch.prepare(turn, &cluster, named.len())?;
    let patience = Patience::read(&copy.template.tags, &[])?;
    if patience.max_wait_ms.is_some() {
        let message = "The tag 'longshore:max-wait' is for RunTask: StartTask places at once or not at all.";
        return Err(ApiError::invalid_parameter(message));
    }
    copy.template.max_run_ms = patience.max_run_ms;
    let mut started = Vec::with_capacity(named.len());
    let mut failures = Vec::new();
    for (given, id) in named {
        match place(turn, &cluster, &copy, given, id) {
            Ok(task) => started.push(task),
            Err(failure) => failures.push(failure),
        }
    }
    let response = types::StartTaskResponse { tasks: Some(started), failures: Some(failures) };
    Ok(Response::StartTask(Box::new(response)))
}

/// Puts a copy on one instance, if it can take it now, with all that was put there before.
fn place(
    turn: &mut Turn<'_>,
    cluster: &Cluster,
    copy: &Copy,
    given: &str,
    id: Option<InstanceId>,
) -> Result<types::Task, types::Failure> {
    let key = id.map(|id| InstanceKey { cluster: cluster.id, id });
    let Some(instance) = key.and_then(|key| turn.tables.view().instances.get(&key)) else {
        return Err(missing(match given.starts_with("arn:") {
            true => given.to_owned(),
            false => turn.config.scope.container_instance(&cluster.name, given),
        }));
    };
    let id = instance.key.id;
    let pool = turn.tables.pool();
    let verdict = match pool.slot(instance.key) {
        Some(slot) => pool.fits(slot, copy.fit.need(turn.tables.addresses())),
        // It was deregistered, and is still described.
        None => Err(Refusal::Inactive),
    };
    verdict.map_err(|refusal| failure(turn, cluster, id, &refusal))?;
    let task = copy.place(turn, id).map_err(|refusal| failure(turn, cluster, id, &refusal))?;
    Ok(document(turn.tables.view(), cluster, &task, true))
}

fn launch(request: &types::StartTaskRequest) -> Launch<'_> {
    Launch {
        task_definition: &request.task_definition,
        overrides: request.overrides.as_ref(),
        group: request.group.as_deref(),
        started_by: request.started_by.as_deref(),
        launch_type: None,
        provider: None,
        tags: request.tags.as_deref(),
        propagate_tags: request.propagate_tags,
        managed_tags: request.enable_ecs_managed_tags == Some(true),
        network: request.network_configuration.as_ref(),
        constraints: &[],
        strategy: &[],
    }
}

/// What can be refused without looking at any state.
fn check(request: &types::StartTaskRequest) -> Result<(), ApiError> {
    refuse(
        "StartTask",
        &[
            ("enableExecuteCommand", request.enable_execute_command == Some(true)),
            ("referenceId", request.reference_id.as_ref().is_some_and(|id| !id.is_empty())),
            ("volumeConfigurations", filled(&request.volume_configurations)),
        ],
    )?;
    match request.container_instances.len() {
        0 => Err(ApiError::invalid_parameter("Container instances cannot be empty.")),
        1..=limits::START_TASK_INSTANCES => Ok(()),
        given => Err(ApiError::invalid_parameter(format!(
            "Container instances can have at most {} items; there are {given}.",
            limits::START_TASK_INSTANCES
        ))),
    }
}
