//! DescribeTasks and ListTasks, and the task as the API shows it.

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use crate::cluster::missing;
use crate::config::CellConfig;
use crate::entity::{Cluster, ContainerDetail, Task};
use crate::ids::{InstanceId, InstanceKey, TaskId, TaskKey};
use crate::limits;
use crate::names;
use crate::read::{KnownDefinition, Page, ReadModel, bad_token, page};
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task_definition::ResolvedContainer;
use crate::task_definition::overrides::sizes;

/// DescribeTasks.
pub(crate) fn describe(view: &ReadModel, request: &types::DescribeTasksRequest) -> Result<Response, ApiError> {
    let cluster = view.cluster(request.cluster.as_deref())?;
    if request.tasks.is_empty() || request.tasks.len() > limits::DESCRIBE {
        return Err(ApiError::invalid_parameter(match request.tasks.is_empty() {
            true => "Tasks cannot be empty.".to_owned(),
            false => format!("Tasks can have at most {} items.", limits::DESCRIBE),
        }));
    }
    let with_tags = request.include.as_deref().unwrap_or_default().contains(&types::TaskField::Tags);
    let mut tasks = Vec::with_capacity(request.tasks.len());
    let mut failures = Vec::new();
    for given in &request.tasks {
        let id = names::task(&view.config, cluster, given)?;
        match id.and_then(|id| view.tasks.get(&TaskKey { cluster: cluster.id, id })) {
            Some(task) => tasks.push(document(view, cluster, task, with_tags)),
            None => failures.push(missing(match given.starts_with("arn:") {
                true => given.clone(),
                false => view.config.scope.task(&cluster.name, given),
            })),
        }
    }
    let response = types::DescribeTasksResponse { tasks: Some(tasks), failures: Some(failures) };
    Ok(Response::DescribeTasks(Box::new(response)))
}

/// ListTasks, in the order of creation.
pub(crate) fn list(view: &ReadModel, request: &types::ListTasksRequest) -> Result<Response, ApiError> {
    let cluster = view.cluster(request.cluster.as_deref())?;
    let filter = Filter::new(view, cluster, request)?;
    let after = match request.next_token.as_deref() {
        None => TaskId(0),
        Some(token) => token.parse().map_err(|_| bad_token())?,
    };
    let from = TaskKey { cluster: cluster.id, id: TaskId(after.0.saturating_add(1)) };
    let to = TaskKey { cluster: cluster.id, id: TaskId(u128::MAX) };
    let all = view.tasks.range(from..=to).take(if filter.nothing { 0 } else { usize::MAX });
    let matching = all.map(|(_, task)| task).filter(|task| filter.matches(task));
    let Page { items, next } = page(matching, request.max_results, |task| task.key.id.to_string());
    let arns = items.into_iter().map(|task| view.config.task_arn(&cluster.name, task.key.id)).collect();
    let response = types::ListTasksResponse { task_arns: Some(arns), next_token: next };
    Ok(Response::ListTasks(Box::new(response)))
}

/// The filters of ListTasks. They combine, but for `startedBy`, which stands alone.
struct Filter<'a> {
    desired: Option<DesiredStatus>,
    family: Option<&'a str>,
    started_by: Option<&'a str>,
    instance: Option<Option<InstanceId>>,
    launch_type: Option<types::LaunchType>,
    nothing: bool,
}

impl<'a> Filter<'a> {
    fn new(view: &ReadModel, cluster: &Cluster, request: &'a types::ListTasksRequest) -> Result<Self, ApiError> {
        let given = |value: &'a Option<String>| value.as_deref().filter(|value| !value.is_empty());
        let others = [&request.family, &request.service_name, &request.container_instance, &request.daemon_name];
        if given(&request.started_by).is_some()
            && (others.into_iter().any(|other| given(other).is_some()) || request.desired_status.is_some())
        {
            return Err(ApiError::invalid_parameter("startedBy must be the only filter that you use."));
        }
        // There is no service yet, so that whichever is named is unknown.
        if given(&request.service_name).is_some() {
            return Err(ApiError::new(error::SERVICE_NOT_FOUND_EXCEPTION, "Service not found."));
        }
        let instance = match given(&request.container_instance) {
            None => None,
            Some(name) => Some(names::instance(&view.config, cluster, name)?),
        };
        let desired = match request.desired_status {
            None | Some(types::DesiredStatus::Running) => Some(DesiredStatus::Running),
            Some(types::DesiredStatus::Stopped) => Some(DesiredStatus::Stopped),
            Some(types::DesiredStatus::Pending) => None,
        };
        Ok(Self {
            desired,
            family: given(&request.family),
            started_by: given(&request.started_by),
            instance,
            launch_type: request.launch_type,
            // ECS never sets a desired status of PENDING, and there is no daemon yet.
            nothing: desired.is_none() || given(&request.daemon_name).is_some(),
        })
    }

    fn matches(&self, task: &Task) -> bool {
        self.desired.is_none_or(|desired| desired == effective_desired(task))
            && self.family.is_none_or(|family| *task.definition.family == *family)
            && self.started_by.is_none_or(|mark| task.started_by.as_deref() == Some(mark))
            && self.instance.is_none_or(|instance| instance == Some(task.instance))
            && self.launch_type.is_none_or(|launch_type| launch_type == task.launch_type)
    }
}

/// A task that ended by itself is wanted STOPPED from then on.
fn effective_desired(task: &Task) -> DesiredStatus {
    match task.last_status() {
        TaskStatus::Stopped => DesiredStatus::Stopped,
        TaskStatus::Pending | TaskStatus::Running => task.desired,
    }
}

/// The task as Describe, RunTask and StopTask answer it.
pub(crate) fn document(view: &ReadModel, cluster: &Cluster, task: &Task, with_tags: bool) -> types::Task {
    let config = &view.config;
    let instance = view.instances.get(&InstanceKey { cluster: cluster.id, id: task.instance });
    let attribute = |name: &str| {
        let value = instance.and_then(|instance| instance.attributes.get(name));
        value.and_then(|value| value.as_deref()).map(str::to_owned)
    };
    let life = &task.life;
    let known = view.definitions.get(&task.definition);
    let task_arn = config.task_arn(&cluster.name, task.key.id);
    types::Task {
        attachments: Some(Vec::new()),
        attributes: Some(attribute("ecs.cpu-architecture").map(architecture).into_iter().collect()),
        availability_zone: attribute("ecs.availability-zone"),
        cluster_arn: Some(config.cluster_arn(&cluster.name)),
        connectivity: life.connectivity_at.map(|_| types::Connectivity::Connected),
        connectivity_at: life.connectivity_at,
        container_instance_arn: Some(config.instance_arn(&cluster.name, task.instance)),
        containers: Some(containers(config, cluster, task, &task_arn, known)),
        cpu: Some(task.cpu.to_string()),
        created_at: Some(task.created_at),
        desired_status: Some(effective_desired(task).as_str().to_owned()),
        enable_execute_command: Some(false),
        execution_stopped_at: life.execution_stopped_at,
        group: Some(task.group.to_string()),
        health_status: Some(types::HealthStatus::Unknown),
        last_status: Some(task.last_status().as_str().to_owned()),
        launch_type: Some(task.launch_type),
        memory: Some(task.memory.to_string()),
        overrides: Some(overrides(task, known)),
        pull_started_at: life.pull_started_at,
        pull_stopped_at: life.pull_stopped_at,
        started_at: life.started_at,
        started_by: task.started_by.as_deref().map(str::to_owned),
        stop_code: task.stop.as_ref().map(|stop| stop.code),
        stopped_at: life.stopped_at,
        stopped_reason: task.stop.as_ref().map(|stop| stop.reason.to_string()),
        stopping_at: life.stopping_at,
        tags: Some(if with_tags { task.tags.clone() } else { Vec::new() }),
        task_arn: Some(task_arn),
        task_definition_arn: Some(config.definition_arn(&task.definition)),
        version: Some(task.version),
        ..types::Task::default()
    }
}

fn architecture(value: String) -> types::Attribute {
    types::Attribute { name: "ecs.cpu-architecture".to_owned(), value: Some(value), target_type: None, target_id: None }
}

/// The overrides as ECS shows them: an entry for every container, whether it has any or not.
fn overrides(task: &Task, known: Option<&KnownDefinition>) -> types::TaskOverride {
    let mut shown = task.overrides.as_deref().cloned().unwrap_or_default();
    let given = shown.container_overrides.get_or_insert_default();
    for definition in container_definitions(known) {
        if !given.iter().any(|container| container.name == definition.name) {
            given.push(types::ContainerOverride { name: definition.name.clone(), ..Default::default() });
        }
    }
    shown.inference_accelerator_overrides.get_or_insert_default();
    shown
}

fn container_definitions(known: Option<&KnownDefinition>) -> &[types::ContainerDefinition] {
    known.and_then(|known| known.record.document.container_definitions.as_deref()).unwrap_or_default()
}

fn containers(
    config: &CellConfig,
    cluster: &Cluster,
    task: &Task,
    task_arn: &str,
    known: Option<&KnownDefinition>,
) -> Vec<types::Container> {
    let resolved = known.map_or(&[][..], |known| known.resolved.containers.as_slice());
    let changes = task.overrides.as_deref().and_then(|overrides| overrides.container_overrides.as_deref());
    let nothing = ContainerDetail::default();
    // With the verdict over a task its containers are over, whatever their agent said last.
    let floor = if task.verdict.is_some() { TaskStatus::Stopped } else { TaskStatus::Pending };
    container_definitions(known)
        .iter()
        .zip(&task.containers)
        .enumerate()
        .map(|(index, (definition, container))| {
            let detail = container.detail.as_deref().unwrap_or(&nothing);
            let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
            types::Container {
                container_arn: Some(config.container_arn(&cluster.name, task.key.id, index)),
                task_arn: Some(task_arn.to_owned()),
                name: definition.name.clone(),
                image: definition.image.clone(),
                image_digest: text(&detail.image_digest),
                runtime_id: text(&detail.runtime_id),
                last_status: Some(container.status.max(floor).as_str().to_owned()),
                exit_code: detail.exit_code,
                reason: text(&detail.reason),
                network_bindings: Some(detail.network_bindings.clone()),
                network_interfaces: Some(Vec::new()),
                health_status: Some(types::HealthStatus::Unknown),
                ..sized(resolved.get(index), changes.unwrap_or_default())
            }
        })
        .collect()
}

/// A container with its CPU and memory, overrides applied, as text.
fn sized(container: Option<&ResolvedContainer>, changes: &[types::ContainerOverride]) -> types::Container {
    let Some(container) = container else { return types::Container::default() };
    let change = changes.iter().find(|change| change.name.as_deref() == Some(&container.name));
    let (cpu, memory, memory_reservation) = sizes(container, change);
    types::Container {
        cpu: Some(cpu.to_string()),
        memory: memory.map(|mib| mib.to_string()),
        memory_reservation: memory_reservation.map(|mib| mib.to_string()),
        ..types::Container::default()
    }
}
