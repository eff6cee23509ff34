//! RunTask: places copies of a definition on instances that fit, by its strategy; what fits nowhere comes back in `failures`, or
//! waits if its caller is patient.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use crate::cell::Turn;
use crate::cluster::capacity::refuse_default_strategy;
use crate::cluster::missing;
use crate::entity::{Cluster, Made};
use crate::idempotency::{self, Scope, Seen};
use crate::ids::{TaskId, TaskKey};
use crate::limits;
use crate::placement::Refusal;
use crate::read::ReadModel;
use crate::task::describe::{FARGATE_PLATFORM, document};
use crate::task::launch::{Copy, Launch, failure};
use crate::task::waiting::{self, Patience, Waiting, WaitingFor};
use crate::unsupported::{filled, refuse};

const TOKENS: Scope = Scope { operation: "RunTask", most: limits::CLIENT_TOKENS };

/// RunTask. What cannot be placed comes back in `failures`, or waits; what was placed is durable before the answer.
pub(crate) fn run(turn: &mut Turn<'_>, request: &types::RunTaskRequest) -> Result<Response, ApiError> {
    let launch = launch(request);
    launch.check()?;
    let count = check(request)?;
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    let rendered = || request.to_json();
    let fresh = match idempotency::look_up(turn, TOKENS, cluster.id, request.client_token.as_deref(), rendered) {
        Seen::Repeated(made) => return Ok(answer(turn.tables.view(), &cluster, &made)),
        Seen::Conflict(made) => return Err(conflict(turn, &cluster, &made)),
        Seen::Fresh(fresh) => Some(fresh),
        Seen::Untold => None,
    };
    if request.launch_type.is_none() {
        refuse_default_strategy("RunTask", &cluster)?;
    }
    let mut copy = launch.prepare(turn, &cluster, count)?;
    let patience = Patience::read(&copy.template.tags, &cluster.tags)?;
    copy.template.max_run_ms = patience.max_run_ms;
    let until = patience.max_wait_ms.map(|max_wait_ms| turn.now.plus_millis(max_wait_ms));
    let made = match (&cluster.scheduler, until) {
        (Some(scheduler), until) => {
            let waiting = copy.waiting(&launch, WaitingFor::Scheduler, until);
            let waiting = Waiting { decide_by: scheduler.decide_by(turn.now), ..waiting };
            turn.ask_scheduler(cluster.id);
            Made::Tasks { tasks: wait(turn, &cluster, &copy, count, waiting)?, failures: Vec::new() }
        }
        (None, None) => place(turn, &cluster, &copy, count)?,
        (None, until) => {
            let waiting = copy.waiting(&launch, WaitingFor::Room, until);
            place_or_wait(turn, &cluster, &copy, count, waiting)?
        }
    };
    let response = answer(turn.tables.view(), &cluster, &made);
    if let Some(fresh) = fresh {
        idempotency::remember(turn, fresh, made);
    }
    Ok(response)
}

/// Places up to `count` copies. The first that fits nowhere ends it: the others are like it.
///
/// # Errors
/// When there is no instance to ask: ECS does not count those that are draining.
fn place(turn: &mut Turn<'_>, cluster: &Cluster, copy: &Copy, count: usize) -> Result<Made, ApiError> {
    let mut tasks = Vec::with_capacity(count);
    let mut failures = Vec::new();
    while tasks.len() < count {
        let Some(instance) = copy.fit.choose(turn) else {
            failures = refusals(turn, cluster, copy);
            if tasks.is_empty() && failures.is_empty() {
                return Err(ApiError::invalid_parameter("No Container Instances were found in your cluster."));
            }
            break;
        };
        match copy.place(turn, instance) {
            Ok(task) => tasks.push(task.key.id),
            Err(refusal) => {
                failures.push(failure(turn, cluster, instance, &refusal));
                break;
            }
        }
    }
    Ok(Made::Tasks { tasks, failures })
}

/// Places what fits, and lets the rest wait. Who comes while others of its kind wait stands behind them.
///
/// # Errors
/// When there is no room in the line.
fn place_or_wait(
    turn: &mut Turn<'_>,
    cluster: &Cluster,
    copy: &Copy,
    count: usize,
    waiting: Waiting,
) -> Result<Made, ApiError> {
    let mut tasks = Vec::with_capacity(count);
    if !turn.tables.line().has(cluster.id, waiting.kind) {
        while tasks.len() < count
            && let Some(instance) = copy.fit.choose(turn)
            && let Ok(task) = copy.place(turn, instance)
        {
            tasks.push(task.key.id);
        }
    }
    let left = count - tasks.len();
    if left > 0 {
        tasks.extend(wait(turn, cluster, copy, left, waiting)?);
    }
    Ok(Made::Tasks { tasks, failures: Vec::new() })
}

/// Makes copies that wait.
///
/// # Errors
/// When there is no room in the line.
fn wait(
    turn: &mut Turn<'_>,
    cluster: &Cluster,
    copy: &Copy,
    count: usize,
    waiting: Waiting,
) -> Result<Vec<TaskId>, ApiError> {
    let waiting = Arc::new(waiting);
    waiting::check_room(turn, cluster, &waiting, count)?;
    Ok((0..count).map(|_| copy.wait(turn, &waiting).key.id).collect())
}

/// Why each ACTIVE instance refuses one more copy.
fn refusals(turn: &Turn<'_>, cluster: &Cluster, copy: &Copy) -> Vec<types::Failure> {
    let pool = turn.tables.pool();
    pool.members(cluster.id)
        .filter_map(|slot| Some((slot, pool.fits(slot, copy.fit.need(turn.tables.addresses())).err()?)))
        .filter(|(_, refusal)| *refusal != Refusal::Inactive)
        .take(limits::RUN_TASK_FAILURES)
        .map(|(slot, refusal)| failure(turn, cluster, slot.instance.key.id, &refusal))
        .collect()
}

/// The answer for what was made, as it is now.
fn answer(view: &ReadModel, cluster: &Cluster, made: &Made) -> Response {
    let (made, mut failures) = match made {
        Made::Tasks { tasks, failures } => (tasks.as_slice(), failures.clone()),
        Made::Instance(_) => (&[][..], Vec::new()),
    };
    let mut tasks = Vec::with_capacity(made.len());
    for &id in made {
        match view.tasks.get(&TaskKey { cluster: cluster.id, id }) {
            Some(task) => tasks.push(document(view, cluster, task, true)),
            // A client token can outlive the retention of what it made.
            None => failures.push(missing(view.config.task_arn(&cluster.name, id))),
        }
    }
    Response::RunTask(Box::new(types::RunTaskResponse { tasks: Some(tasks), failures: Some(failures) }))
}

fn conflict(turn: &Turn<'_>, cluster: &Cluster, made: &Made) -> ApiError {
    let arns = match made {
        Made::Tasks { tasks, .. } => tasks.iter().map(|&id| turn.config.task_arn(&cluster.name, id)).collect(),
        Made::Instance(_) => Vec::new(),
    };
    let message = "The clientToken was used before with other parameters: send a new token for a new request.";
    ApiError::new(error::CONFLICT_EXCEPTION, message).with_resource_ids(arns)
}

fn launch(request: &types::RunTaskRequest) -> Launch<'_> {
    Launch {
        task_definition: &request.task_definition,
        overrides: request.overrides.as_ref(),
        group: request.group.as_deref(),
        started_by: request.started_by.as_deref(),
        launch_type: request.launch_type,
        tags: request.tags.as_deref(),
        propagate_tags: request.propagate_tags,
        managed_tags: request.enable_ecs_managed_tags == Some(true),
        network: request.network_configuration.as_ref(),
        constraints: request.placement_constraints.as_deref().unwrap_or_default(),
        strategy: request.placement_strategy.as_deref().unwrap_or_default(),
    }
}

/// What can be refused without looking at any state; answers the count. What ECS refuses comes before what is missing here.
fn check(request: &types::RunTaskRequest) -> Result<usize, ApiError> {
    idempotency::check(request.client_token.as_deref())?;
    let given = request.count.unwrap_or(1);
    let count = usize::try_from(given).ok().filter(|count| (1..=limits::RUN_TASK_COUNT).contains(count));
    let count = count.ok_or_else(|| {
        let most = limits::RUN_TASK_COUNT;
        ApiError::invalid_parameter(format!("Count should be between 1 and {most}; it is {given}."))
    })?;
    let fargate = request.launch_type == Some(types::LaunchType::Fargate);
    let platform = request.platform_version.as_ref().is_some_and(|version| !version.is_empty());
    let strategy = filled(&request.capacity_provider_strategy);
    if strategy && request.launch_type.is_some() {
        return Err(ApiError::invalid_parameter(
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
        ));
    }
    if fargate {
        check_fargate(request)?;
    }
    if platform && !fargate && !strategy {
        return Err(ApiError::invalid_parameter(
            "The platform version must be null when specifying an EC2 launch type.",
        ));
    }
    refuse(
        "RunTask",
        &[
            ("capacityProviderStrategy", strategy),
            ("enableExecuteCommand", request.enable_execute_command == Some(true)),
            ("referenceId", request.reference_id.as_ref().is_some_and(|id| !id.is_empty())),
            ("volumeConfigurations", filled(&request.volume_configurations)),
            ("launchType MANAGED_INSTANCES", request.launch_type == Some(types::LaunchType::ManagedInstances)),
        ],
    )?;
    Ok(count)
}

/// What does not go with the launch type FARGATE, under which nobody chooses instances.
fn check_fargate(request: &types::RunTaskRequest) -> Result<(), ApiError> {
    for (what, given) in
        [("constraints", filled(&request.placement_constraints)), ("strategies", filled(&request.placement_strategy))]
    {
        if given {
            let message = format!("Placement {what} are not supported with FARGATE launch type.");
            return Err(ApiError::invalid_parameter(message));
        }
    }
    match request.platform_version.as_deref() {
        None | Some("" | "LATEST" | FARGATE_PLATFORM) => Ok(()),
        Some(version) => Err(ApiError::new(
            error::PLATFORM_UNKNOWN_EXCEPTION,
            format!("The platform version {version} does not exist: use LATEST or {FARGATE_PLATFORM}."),
        )),
    }
}
