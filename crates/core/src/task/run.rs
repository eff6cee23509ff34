//! RunTask: places copies of a definition on instances that fit, by its strategy; what fits nowhere comes back in
//! `failures`, or waits if its caller is patient.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use crate::capacity::Strategy;
use crate::cell::Turn;
use crate::cluster::missing;
use crate::entity::{Cluster, Made};
use crate::idempotency::{self, Scope, Seen};
use crate::ids::{TaskId, TaskKey};
use crate::limits;
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
    let (mut tasks, mut failures) = (Vec::with_capacity(count), Vec::new());
    for (launch, share) in shares(turn, &cluster, request, launch, count)? {
        let lot = run_lot(turn, &cluster, &launch, share)?;
        tasks.extend(lot.tasks);
        failures.extend(lot.failures);
    }
    if tasks.is_empty() && failures.is_empty() {
        return Err(ApiError::invalid_parameter("No Container Instances were found in your cluster."));
    }
    let made = Made::Tasks { tasks, failures };
    let response = answer(turn.tables.view(), &cluster, &made);
    if let Some(fresh) = fresh {
        idempotency::remember(turn, fresh, made);
    }
    Ok(response)
}

/// Everything that RunTask looks at before it places: for whoever means to run this later.
///
/// # Errors
/// Those of RunTask.
pub(crate) fn rehearse(turn: &mut Turn<'_>, request: &types::RunTaskRequest) -> Result<(), ApiError> {
    let launch = launch(request);
    launch.check()?;
    let count = check(request)?;
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    for (launch, share) in shares(turn, &cluster, request, launch, count)? {
        let copy = launch.prepare(turn, &cluster, share)?;
        Patience::read(&copy.template.tags, &cluster.tags)?;
    }
    Ok(())
}

/// How many copies are run for which capacity provider: by the strategy of the call, or else by that of the cluster.
/// Who names a launch type means neither.
fn shares<'a>(
    turn: &Turn<'_>,
    cluster: &Cluster,
    request: &types::RunTaskRequest,
    launch: Launch<'a>,
    count: usize,
) -> Result<Vec<(Launch<'a>, usize)>, ApiError> {
    let given = request.capacity_provider_strategy.as_deref().unwrap_or_default();
    let strategy = match request.launch_type {
        Some(_) => None,
        None => Strategy::of_call(turn.tables.view(), cluster, given)?,
    };
    let launch_type = match &strategy {
        Some(strategy) if strategy.is_fargate() => Some(types::LaunchType::Fargate),
        _ => request.launch_type,
    };
    check_platform(request, launch_type == Some(types::LaunchType::Fargate))?;
    let share = |(provider, share)| (Launch { provider: Some(provider), launch_type, ..launch.clone() }, share);
    Ok(match strategy {
        None => vec![(launch, count)],
        Some(strategy) => strategy.distribute(count).into_iter().map(share).collect(),
    })
}

/// What came of the copies that are run alike.
struct Lot {
    tasks: Vec<TaskId>,
    failures: Vec<types::Failure>,
}

/// Runs `count` copies of one kind. They wait where their caller is patient, and where their capacity provider adds
/// machines for them.
fn run_lot(turn: &mut Turn<'_>, cluster: &Cluster, launch: &Launch<'_>, count: usize) -> Result<Lot, ApiError> {
    let mut copy = launch.prepare(turn, cluster, count)?;
    let patience = Patience::read(&copy.template.tags, &cluster.tags)?;
    copy.template.max_run_ms = patience.max_run_ms;
    let providers = &turn.tables.view().providers;
    let scales = launch.provider.as_ref().and_then(|name| providers.get(name)).is_some_and(|one| one.scaling.enabled);
    let on = if scales { WaitingFor::Provider } else { WaitingFor::Room };
    let by_provider_ms = scales.then_some(turn.config.scaling.provision_for_ms);
    let until = patience.max_wait_ms.or(by_provider_ms).map(|wait_ms| turn.now.plus_millis(wait_ms));
    if cluster.scheduler.is_some() {
        let waiting = copy.waiting(launch, WaitingFor::Scheduler, until);
        turn.ask_scheduler(cluster.id);
        return Ok(Lot { tasks: wait(turn, cluster, &copy, count, waiting)?, failures: Vec::new() });
    }
    match until {
        None => Ok(place(turn, cluster, &copy, count)),
        until => {
            let waiting = copy.waiting(launch, on, until);
            place_or_wait(turn, cluster, &copy, count, waiting)
        }
    }
}

/// Places up to `count` copies. The first that fits nowhere ends it: the others are like it. Without instances to ask
/// there are no failures either: ECS does not count those that are draining.
fn place(turn: &mut Turn<'_>, cluster: &Cluster, copy: &Copy, count: usize) -> Lot {
    let mut tasks = Vec::with_capacity(count);
    let mut failures = Vec::new();
    while tasks.len() < count {
        let Some(instance) = copy.fit.choose(turn) else {
            failures = refusals(turn, cluster, copy);
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
    Lot { tasks, failures }
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
) -> Result<Lot, ApiError> {
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
    Ok(Lot { tasks, failures: Vec::new() })
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
    let first = copy.fit.refusals(turn).take(limits::RUN_TASK_FAILURES);
    first.map(|(instance, refusal)| failure(turn, cluster, instance, &refusal)).collect()
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
        provider: None,
        tags: request.tags.as_deref(),
        propagate_tags: request.propagate_tags,
        managed_tags: request.enable_ecs_managed_tags == Some(true),
        network: request.network_configuration.as_ref(),
        constraints: request.placement_constraints.as_deref().unwrap_or_default(),
        strategy: request.placement_strategy.as_deref().unwrap_or_default(),
    }
}

/// What can be refused without looking at any state; answers the count. What ECS refuses comes before what is missing
/// here.
fn check(request: &types::RunTaskRequest) -> Result<usize, ApiError> {
    idempotency::check(request.client_token.as_deref())?;
    let given = request.count.unwrap_or(1);
    let count = usize::try_from(given).ok().filter(|count| (1..=limits::RUN_TASK_COUNT).contains(count));
    let count = count.ok_or_else(|| {
        let most = limits::RUN_TASK_COUNT;
        ApiError::invalid_parameter(format!("Count should be between 1 and {most}; it is {given}."))
    })?;
    let strategy = filled(&request.capacity_provider_strategy);
    if strategy && request.launch_type.is_some() {
        return Err(ApiError::invalid_parameter(
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
        ));
    }
    if request.launch_type.is_some() {
        check_platform(request, request.launch_type == Some(types::LaunchType::Fargate))?;
    }
    refuse(
        "RunTask",
        &[
            ("enableExecuteCommand", request.enable_execute_command == Some(true)),
            ("referenceId", request.reference_id.as_ref().is_some_and(|id| !id.is_empty())),
            ("volumeConfigurations", filled(&request.volume_configurations)),
            ("launchType MANAGED_INSTANCES", request.launch_type == Some(types::LaunchType::ManagedInstances)),
        ],
    )?;
    Ok(count)
}

/// What goes with the launch type FARGATE, and what with the others.
fn check_platform(request: &types::RunTaskRequest, fargate: bool) -> Result<(), ApiError> {
    let platform = request.platform_version.as_ref().is_some_and(|version| !version.is_empty());
    match fargate {
        true => check_fargate(request),
        false if platform => {
            Err(ApiError::invalid_parameter("The platform version must be null when specifying an EC2 launch type."))
        }
        false => Ok(()),
    }
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
