//! What RunTask and StartTask have in common: the same checks, and the task that is put on an instance.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::types::{self, LaunchType, PropagateTags};

use crate::cell::Turn;
use crate::entity::{Cluster, Definition, Life, Task, TaskContainer, TaskGpu};
use crate::event::Milestones;
use crate::ids::{InstanceId, InstanceKey, TaskId, TaskKey};
use crate::limits;
use crate::names;
use crate::network::{self, AddressBook, NetworkRequest};
use crate::placement::{Need, Placement, Refusal, Strategy};
use crate::read::{KnownDefinition, ReadModel};
use crate::tags;
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task_definition::{self, EffectiveTask, GpuDemand, RequiredAttribute, gpu};

/// The capability by which instances offer the launch type EXTERNAL.
const EXTERNAL: &str = "ecs.capability.external";

/// The members that both requests have.
pub(super) struct Launch<'a> {
    pub(super) task_definition: &'a str,
    pub(super) overrides: Option<&'a types::TaskOverride>,
    pub(super) group: Option<&'a str>,
    pub(super) started_by: Option<&'a str>,
    pub(super) launch_type: Option<LaunchType>,
    pub(super) tags: Option<&'a [types::Tag]>,
    pub(super) propagate_tags: Option<PropagateTags>,
    pub(super) managed_tags: bool,
    pub(super) network: Option<&'a types::NetworkConfiguration>,
    pub(super) constraints: &'a [types::PlacementConstraint],
    pub(super) strategy: &'a [types::PlacementStrategy],
}

impl Launch<'_> {
    /// What can be refused without looking at any state.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        if self.propagate_tags == Some(PropagateTags::Service) {
            let message = "propagateTags cannot be SERVICE here: a standalone task has no service.";
            return Err(ApiError::invalid_parameter(message));
        }
        for (member, value, most, owned) in [
            ("startedBy", self.started_by, limits::STARTED_BY, "ecs-svc/"),
            ("group", self.group, limits::GROUP, "service:"),
        ] {
            let value = value.unwrap_or_default();
            if value.chars().count() > most {
                return Err(ApiError::invalid_parameter(format!("{member} longer than {most}.")));
            }
            if value.starts_with(owned) {
                let message = format!("{member} cannot begin with '{owned}': only a service's own tasks do.");
                return Err(ApiError::invalid_parameter(message));
            }
        }
        Ok(())
    }

    /// What every copy has in common; there is room for `count` of them.
    pub(super) fn prepare(&self, turn: &mut Turn<'_>, cluster: &Cluster, count: usize) -> Result<Copy, ApiError> {
        let strategy = Strategy::read(self.strategy)?;
        let resolved = turn.tables.view().runnable(self.task_definition)?.resolved.clone();
        let constraints = turn.tables.constraints(&resolved.member_of, self.constraints)?;
        let mode = resolved.network_mode;
        let network = network::requested(turn, mode, self.launch_type, self.network)?;
        let view = turn.tables.view();
        let known = view.runnable(self.task_definition)?;
        let effective = task_definition::merge(&known.record.document, &known.resolved, self.overrides)?;
        if view.tasks.len() + count > limits::TASKS {
            let message = format!("The number of tasks has reached its limit of {}.", limits::TASKS);
            return Err(ApiError::client(message));
        }
        let launch_type = self.launch_type.unwrap_or(LaunchType::Ec2);
        let requires = requires(known, &effective, launch_type)?;
        let group: Arc<str> = match self.group {
            None | Some("") => format!("family:{}", known.record.key.family).into(),
            Some(group) => group.into(),
        };
        let gpus = effective.gpus();
        let needs = (requires.as_slice(), known.resolved.host_ports.as_slice(), least(&gpus));
        let placement = Placement::new(needs, network.as_ref(), constraints, strategy, group.clone());
        let template = Task {
            key: TaskKey { cluster: cluster.id, id: TaskId(0) },
            instance: InstanceId(0),
            definition: known.record.key.clone(),
            group: group.clone(),
            started_by: self.started_by.filter(|mark| !mark.is_empty()).map(Arc::from),
            launch_type,
            overrides: self.overrides.cloned().map(Arc::new),
            cpu: effective.cpu,
            memory: effective.memory,
            host_ports: known.resolved.host_ports.clone(),
            network: None,
            gpus: Vec::new(),
            desired: DesiredStatus::Running,
            known: TaskStatus::Pending,
            containers: vec![TaskContainer::default(); known.resolved.containers.len()],
            tags: self.all_tags(cluster, &known.record)?,
            created_at: turn.now,
            verdict: None,
            life: Life::default(),
            stop: None,
            milestones: Milestones::default(),
            version: 1,
        };
        Ok(Copy { template, gpus, requires, network, placement })
    }

    /// The tags of each copy: those given, those of the definition if they propagate, and the managed one, which as in ECS
    /// does not count.
    fn all_tags(&self, cluster: &Cluster, definition: &Definition) -> Result<Vec<types::Tag>, ApiError> {
        let mut all = tags::check(self.tags)?;
        if self.propagate_tags == Some(PropagateTags::TaskDefinition) {
            for tag in &definition.tags {
                if all.iter().all(|given| given.key != tag.key) {
                    all.push(tag.clone());
                }
            }
        }
        if all.len() > limits::TAGS {
            return Err(ApiError::invalid_parameter(format!(
                "The task would have {} tags, those of its definition included; the maximum is {}.",
                all.len(),
                limits::TAGS
            )));
        }
        if self.managed_tags {
            let (key, value) = ("aws:ecs:clusterName".to_owned(), cluster.name.to_string());
            all.push(types::Tag { key: Some(key), value: Some(value) });
        }
        Ok(all)
    }
}

fn requires(
    known: &KnownDefinition,
    effective: &EffectiveTask,
    launch_type: LaunchType,
) -> Result<Vec<RequiredAttribute>, ApiError> {
    let mut requires = effective.requires.clone();
    let compatible = match launch_type {
        LaunchType::External => known.resolved.external,
        LaunchType::Fargate => known.resolved.fargate,
        LaunchType::Ec2 | LaunchType::ManagedInstances => true,
    };
    if !compatible {
        let message = format!("Task definition does not support launch_type {launch_type}.");
        return Err(ApiError::invalid_parameter(message));
    }
    if launch_type == LaunchType::External {
        requires.push(RequiredAttribute { name: EXTERNAL.to_owned(), value: None });
    }
    // A size that the definition has is one of the table; overrides can make it another.
    let (cpu, memory) = (effective.task_cpu.unwrap_or_default(), effective.task_memory.unwrap_or_default());
    if launch_type == LaunchType::Fargate && !task_definition::is_fargate_size(cpu, memory) {
        return Err(ApiError::invalid_parameter(task_definition::no_fargate_size(cpu, memory)));
    }
    Ok(requires)
}

/// How many GPUs an instance must have free.
fn least(gpus: &[GpuDemand]) -> u32 {
    gpus.iter().map(|demand| demand.least()).fold(0, u32::saturating_add)
}

/// What every copy has in common, made once.
pub(super) struct Copy {
    template: Task,
    gpus: Vec<GpuDemand>,
    requires: Vec<RequiredAttribute>,
    network: Option<NetworkRequest>,
    placement: Placement,
}

impl Copy {
    /// What one copy needs of an instance.
    pub(super) fn need<'a>(&'a self, addresses: &'a AddressBook) -> Need<'a> {
        Need {
            cpu: self.template.cpu,
            memory: self.template.memory,
            host_ports: &self.template.host_ports,
            gpus: least(&self.gpus),
            requires: &self.requires,
            network: self.network.as_ref().map(|request| (addresses, request)),
            placement: &self.placement,
        }
    }

    /// The instance that the next copy goes to, if one can take it.
    pub(super) fn choose(&self, turn: &mut Turn<'_>) -> Option<InstanceId> {
        let (pool, addresses) = turn.tables.scheduler();
        let chosen = pool.choose(self.template.key.cluster, self.need(addresses), &mut turn.entropy)?;
        Some(chosen.instance.key.id)
    }

    /// Puts one copy on an instance, and orders it to run once that is durable.
    ///
    /// # Errors
    /// When there is no address for it after all; to be asked first is what [`Copy::need`] is for.
    pub(super) fn place(&self, turn: &mut Turn<'_>, instance: InstanceId) -> Result<Arc<Task>, Refusal> {
        let cluster = self.template.key.cluster;
        let home = InstanceKey { cluster, id: instance };
        let network = self.network.as_ref().map(|request| network::connect(turn, home, request)).transpose()?;
        let gpus = self.deal(turn, home);
        let key = TaskKey { cluster, id: TaskId::generate(turn.now, &mut turn.entropy) };
        let task = turn.tables.put_task(Task { key, instance, network, gpus, ..self.template.clone() });
        turn.send_start(&task);
        Ok(task)
    }

    /// The GPUs that one copy gets on an instance.
    fn deal(&self, turn: &Turn<'_>, instance: InstanceKey) -> Vec<TaskGpu> {
        let pool = turn.tables.pool();
        match pool.slot(instance).filter(|_| !self.gpus.is_empty()) {
            Some(slot) => gpu::deal(&self.gpus, &pool.gpus_free(slot).cloned().collect::<Vec<_>>()),
            None => Vec::new(),
        }
    }
}

/// Why an instance did not take a copy, as ECS answers it.
pub(super) fn failure(turn: &Turn<'_>, cluster: &Cluster, instance: InstanceId, refusal: &Refusal) -> types::Failure {
    types::Failure {
        arn: Some(turn.config.instance_arn(&cluster.name, instance)),
        reason: Some(refusal.reason().to_owned()),
        detail: Some(refusal.to_string()),
    }
}

impl ReadModel {
    /// The ACTIVE definition that a request names.
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
