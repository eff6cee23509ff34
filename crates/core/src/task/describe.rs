//! DescribeTasks, and the task as the API shows it.

use longshore_api::ApiError;
use longshore_api::ecs::{Response, types};

use crate::cluster::missing;
use crate::config::CellConfig;
use crate::entity::{Cluster, ContainerDetail, Task};
use crate::ids::TaskKey;
use crate::limits;
use crate::names;
use crate::network;
use crate::read::{KnownDefinition, ReadModel};
use crate::task::status::TaskStatus;
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

/// The platform version that FARGATE tasks say they run on: the latest that Linux has.
pub(crate) const FARGATE_PLATFORM: &str = "1.4.0";

/// The task as Describe, RunTask and StopTask answer it.
pub(crate) fn document(view: &ReadModel, cluster: &Cluster, task: &Task, with_tags: bool) -> types::Task {
    let config = &view.config;
    let instance = task.home().and_then(|home| view.instances.get(&home));
    let attribute = |name: &str| {
        let value = instance.and_then(|instance| instance.attributes.get(name));
        value.and_then(|value| value.as_deref()).map(str::to_owned)
    };
    let life = &task.life;
    let known = view.definitions.get(&task.definition);
    let task_arn = config.task_arn(&cluster.name, task.key.id);
    let fargate = task.launch_type == types::LaunchType::Fargate;
    types::Task {
        attachments: Some(network::attachments(config, task)),
        attributes: Some(attribute("ecs.cpu-architecture").map(architecture).into_iter().collect()),
        availability_zone: attribute("ecs.availability-zone"),
        cluster_arn: Some(config.cluster_arn(&cluster.name)),
        connectivity: connectivity(view, task),
        connectivity_at: life.connectivity_at,
        capacity_provider_name: task.capacity_provider.as_deref().map(str::to_owned),
        container_instance_arn: task.instance.map(|id| config.instance_arn(&cluster.name, id)),
        containers: Some(containers(config, cluster, task, &task_arn, known)),
        cpu: Some(task.cpu.to_string()),
        created_at: Some(task.created_at),
        desired_status: Some(task.desired_status().as_str().to_owned()),
        enable_execute_command: Some(false),
        execution_stopped_at: life.execution_stopped_at,
        group: Some(task.group.to_string()),
        health_status: Some(types::HealthStatus::Unknown),
        last_status: Some(task.last_status().as_str().to_owned()),
        launch_type: Some(task.launch_type),
        memory: Some(task.memory.to_string()),
        overrides: Some(overrides(task, known)),
        platform_family: fargate.then(|| "Linux".to_owned()),
        platform_version: fargate.then(|| FARGATE_PLATFORM.to_owned()),
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

/// Whether what is known of a task is of now: a live one whose agent is away is shown as it was heard of last. `None` until it
/// was heard of.
fn connectivity(view: &ReadModel, task: &Task) -> Option<types::Connectivity> {
    task.life.connectivity_at?;
    let away = task.home().and_then(|home| view.usage.get(&home)).is_some_and(|usage| !usage.connected);
    Some(match away && task.last_status() != TaskStatus::Stopped {
        true => types::Connectivity::Disconnected,
        false => types::Connectivity::Connected,
    })
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
                network_interfaces: Some(network::interfaces(task)),
                health_status: Some(types::HealthStatus::Unknown),
                gpu_ids: gpus(task, index),
                ..sized(resolved.get(index), changes.unwrap_or_default())
            }
        })
        .collect()
}

/// The GPUs that a container has for itself, if it has any.
fn gpus(task: &Task, container: usize) -> Option<Vec<String>> {
    let own = task.gpus.iter().filter(|gpu| gpu.container == container);
    let ids: Vec<String> = own.map(|gpu| gpu.id.to_string()).collect();
    (!ids.is_empty()).then_some(ids)
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
