//! RunTask: places copies of a definition at random on instances that fit.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use crate::cell::Turn;
use crate::cluster::missing;
use crate::entity::{Cluster, Definition, Entity, Life, Made, Task, TaskContainer};
use crate::idempotency::{self, Seen};
use crate::ids::{InstanceId, TaskId, TaskKey};
use crate::limits;
use crate::names;
use crate::placement::{Need, Refusal};
use crate::read::{KnownDefinition, ReadModel};
use crate::tags;
use crate::task::describe::document;
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task_definition::{self, EffectiveTask, RequiredAttribute};
use crate::unsupported::{filled, refuse};

/// The capability by which instances offer the launch type EXTERNAL.
const EXTERNAL: &str = "ecs.capability.external";

/// RunTask. What cannot be placed comes back in `failures`; what was placed is durable before the answer.
pub(crate) fn run(turn: &mut Turn<'_>, request: &types::RunTaskRequest) -> Result<Response, ApiError> {
    let count = check(request)?;
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    let rendered = || request.to_json();
    let fresh = match idempotency::look_up(turn, "RunTask", cluster.id, request.client_token.as_deref(), rendered)? {
        Seen::Repeated(made) => return Ok(answer(turn.tables.view(), &cluster, &made)),
        Seen::Conflict(made) => return Err(conflict(turn, &cluster, &made)),
        Seen::Fresh(fresh) => Some(fresh),
        Seen::Untold => None,
    };
    let known = turn.tables.view().runnable(&request.task_definition)?.clone();
    let effective = task_definition::merge(&known.record.document, &known.resolved, request.overrides.as_ref())?;
    let copy = Copy::new(turn, request, &cluster, &known, &effective)?;
    if turn.tables.view().tasks.len() + count > limits::TASKS {
        let message = format!("The number of tasks has reached its limit of {}.", limits::TASKS);
        return Err(ApiError::client(message));
    }
    let made = place(turn, &cluster, &copy, count)?;
    let response = answer(turn.tables.view(), &cluster, &made);
    if let Some(fresh) = fresh {
        idempotency::remember(turn, fresh, made);
    }
    Ok(response)
}

/// What every copy has in common, made once.
struct Copy {
    template: Task,
    requires: Vec<RequiredAttribute>,
}

impl Copy {
    fn new(
        turn: &Turn<'_>,
        request: &types::RunTaskRequest,
        cluster: &Cluster,
        known: &KnownDefinition,
        effective: &EffectiveTask,
    ) -> Result<Self, ApiError> {
        let launch_type = request.launch_type.unwrap_or(types::LaunchType::Ec2);
        let mut requires = effective.requires.clone();
        if launch_type == types::LaunchType::External {
            if !known.resolved.external {
                let message = "The task definition is not compatible with the launch type EXTERNAL.";
                return Err(ApiError::invalid_parameter(message));
            }
            requires.push(RequiredAttribute { name: EXTERNAL.to_owned(), value: None });
        }
        let group = match request.group.as_deref() {
            None | Some("") => format!("family:{}", known.record.key.family),
            Some(group) => group.to_owned(),
        };
        let template = Task {
            key: TaskKey { cluster: cluster.id, id: TaskId(0) },
            instance: InstanceId(0),
            definition: known.record.key.clone(),
            group: group.into(),
            started_by: request.started_by.as_deref().filter(|mark| !mark.is_empty()).map(Arc::from),
            launch_type,
            overrides: request.overrides.clone().map(Arc::new),
            cpu: effective.cpu,
            memory: effective.memory,
            host_ports: known.resolved.host_ports.clone(),
            desired: DesiredStatus::Running,
            known: TaskStatus::Pending,
            containers: vec![TaskContainer::default(); known.resolved.containers.len()],
            tags: all_tags(request, cluster, &known.record)?,
            created_at: turn.now,
            verdict: None,
            life: Life::default(),
            stop: None,
            version: 1,
        };
        Ok(Self { template, requires })
    }

    fn need(&self) -> Need<'_> {
        Need {
            cpu: self.template.cpu,
            memory: self.template.memory,
            host_ports: &self.template.host_ports,
            requires: &self.requires,
        }
    }
}

/// Places up to `count` copies. The first that fits nowhere ends it: the others are like it.
///
/// # Errors
/// When there is no instance to ask: ECS does not count those that are draining.
fn place(turn: &mut Turn<'_>, cluster: &Cluster, copy: &Copy, count: usize) -> Result<Made, ApiError> {
    let mut tasks = Vec::with_capacity(count);
    let mut failures = Vec::new();
    while tasks.len() < count {
        let Some(slot) = turn.tables.pool().draw(cluster.id, copy.need(), &mut turn.entropy) else {
            failures = refusals(turn, cluster, copy);
            if tasks.is_empty() && failures.is_empty() {
                return Err(ApiError::invalid_parameter("No Container Instances were found in your cluster."));
            }
            break;
        };
        let instance = slot.instance.key.id;
        let id = TaskId::generate(turn.now, &mut turn.entropy);
        let key = TaskKey { cluster: cluster.id, id };
        let task = Arc::new(Task { key, instance, ..copy.template.clone() });
        tasks.push(id);
        turn.tables.put(Entity::Task(task.clone()));
        turn.send_start(&task);
    }
    Ok(Made::Tasks { tasks, failures })
}

/// Why each ACTIVE instance refuses one more copy.
fn refusals(turn: &Turn<'_>, cluster: &Cluster, copy: &Copy) -> Vec<types::Failure> {
    let pool = turn.tables.pool();
    pool.members(cluster.id)
        .filter_map(|slot| Some((slot, pool.fits(slot, copy.need()).err()?)))
        .filter(|(_, refusal)| *refusal != Refusal::Inactive)
        .take(limits::RUN_TASK_FAILURES)
        .map(|(slot, refusal)| types::Failure {
            arn: Some(turn.config.instance_arn(&cluster.name, slot.instance.key.id)),
            reason: Some(refusal.reason().to_owned()),
            detail: Some(refusal.to_string()),
        })
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

/// The tags of each copy: those given, those of the definition if they propagate, and the managed one.
fn all_tags(
    request: &types::RunTaskRequest,
    cluster: &Cluster,
    definition: &Definition,
) -> Result<Vec<types::Tag>, ApiError> {
    let mut all = tags::check(request.tags.as_deref())?;
    if request.propagate_tags == Some(types::PropagateTags::TaskDefinition) {
        for tag in &definition.tags {
            if all.iter().all(|given| given.key != tag.key) {
                all.push(tag.clone());
            }
        }
    }
    if request.enable_ecs_managed_tags == Some(true) {
        let (key, value) = ("aws:ecs:clusterName".to_owned(), cluster.name.to_string());
        all.push(types::Tag { key: Some(key), value: Some(value) });
    }
    if all.len() > limits::TAGS {
        return Err(ApiError::invalid_parameter(format!(
            "The task would have {} tags, those of its definition included; the maximum is {}.",
            all.len(),
            limits::TAGS
        )));
    }
    Ok(all)
}

/// What can be refused without looking at any state; answers the count.
fn check(request: &types::RunTaskRequest) -> Result<usize, ApiError> {
    refuse(
        "RunTask",
        &[
            ("capacityProviderStrategy", filled(&request.capacity_provider_strategy)),
            ("enableExecuteCommand", request.enable_execute_command == Some(true)),
            ("networkConfiguration", request.network_configuration.is_some()),
            ("placementConstraints", filled(&request.placement_constraints)),
            ("platformVersion", request.platform_version.is_some()),
            ("referenceId", request.reference_id.is_some()),
            ("volumeConfigurations", filled(&request.volume_configurations)),
            ("launchType FARGATE", request.launch_type == Some(types::LaunchType::Fargate)),
            ("launchType MANAGED_INSTANCES", request.launch_type == Some(types::LaunchType::ManagedInstances)),
        ],
    )?;
    let other = |strategy: &types::PlacementStrategy| strategy.r#type != Some(types::PlacementStrategyType::Random);
    if request.placement_strategy.as_deref().unwrap_or_default().iter().any(other) {
        refuse("RunTask", &[("placementStrategy other than random", true)])?;
    }
    if request.propagate_tags == Some(types::PropagateTags::Service) {
        let message = "propagateTags cannot be SERVICE for RunTask: a standalone task has no service.";
        return Err(ApiError::invalid_parameter(message));
    }
    idempotency::check_length(request.client_token.as_deref())?;
    check_length("startedBy", request.started_by.as_deref(), limits::STARTED_BY)?;
    check_length("group", request.group.as_deref(), limits::GROUP)?;
    let owned = [("group", &request.group, "service:"), ("startedBy", &request.started_by, "ecs-svc/")];
    for (member, value, prefix) in owned {
        if value.as_deref().is_some_and(|value| value.starts_with(prefix)) {
            let message = format!("{member} cannot begin with '{prefix}': only a service's own tasks do.");
            return Err(ApiError::invalid_parameter(message));
        }
    }
    let count = request.count.unwrap_or(1);
    match usize::try_from(count) {
        Ok(count @ 1..) if count <= limits::RUN_TASK_COUNT as usize => Ok(count),
        _ => Err(ApiError::invalid_parameter(format!(
            "Count should be between 1 and {}; it is {count}.",
            limits::RUN_TASK_COUNT
        ))),
    }
}

fn check_length(member: &str, value: Option<&str>, most: usize) -> Result<(), ApiError> {
    match value.is_some_and(|value| value.chars().count() > most) {
        false => Ok(()),
        true => Err(ApiError::invalid_parameter(format!("{member} can have at most {most} characters."))),
    }
}

impl ReadModel {
    /// The ACTIVE definition that RunTask names.
    fn runnable(&self, given: &str) -> Result<&KnownDefinition, ApiError> {
        let known = names::definition(&self.config, given)
            .and_then(|name| self.definition(name))
            .ok_or_else(|| ApiError::client("TaskDefinition not found."))?;
        match known.record.document.status {
            Some(types::TaskDefinitionStatus::Active) => Ok(known),
            _ => Err(ApiError::client("TaskDefinition is inactive")),
        }
    }
}
