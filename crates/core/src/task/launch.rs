//! What RunTask and StartTask have in common: the same checks, and the task that is put on an instance.

use std::sync::Arc;

use longshore_api::ecs::types::{self, LaunchType, PropagateTags};
use longshore_api::{ApiError, Timestamp};

use crate::cell::Turn;
use crate::entity::{Cluster, Definition, Life, Task, TaskContainer};
use crate::event::Milestones;
use crate::ids::{InstanceId, KindId, TaskId, TaskKey};
use crate::limits;
use crate::names;
use crate::placement::Refusal;
use crate::read::{KnownDefinition, ReadModel};
use crate::tags;
use crate::task::fit::{Asked, Fit};
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task::waiting::{Waiting, WaitingFor};

/// The members that both requests have.
#[derive(Clone)]
pub(super) struct Launch<'a> {
    pub(super) task_definition: &'a str,
    pub(super) overrides: Option<&'a types::TaskOverride>,
    pub(super) group: Option<&'a str>,
    pub(super) started_by: Option<&'a str>,
    pub(super) launch_type: Option<LaunchType>,
    /// The capacity provider that these copies are for.
    pub(super) provider: Option<Arc<str>>,
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
        let known = turn.tables.view().runnable(self.task_definition)?;
        let (definition, containers) = (known.record.clone(), known.resolved.containers.len());
        let group: Arc<str> = match self.group {
            None | Some("") => format!("family:{}", definition.key.family).into(),
            Some(group) => group.into(),
        };
        let asked = Asked {
            definition: &definition.key,
            overrides: self.overrides,
            launch_type: self.launch_type,
            provider: self.provider.as_deref(),
            group: &group,
            network: self.network,
            constraints: self.constraints,
            strategy: self.strategy,
        };
        let fit = asked.resolve(turn, cluster.id)?;
        if turn.tables.view().tasks.len() + count > limits::TASKS {
            let message = format!("The number of tasks has reached its limit of {}.", limits::TASKS);
            return Err(ApiError::client(message));
        }
        let template = Task {
            key: TaskKey { cluster: cluster.id, id: TaskId(0) },
            instance: None,
            waiting: None,
            capacity_provider: self.provider.clone(),
            max_run_ms: None,
            definition: definition.key.clone(),
            group: group.clone(),
            started_by: self.started_by.filter(|mark| !mark.is_empty()).map(Arc::from),
            launch_type: self.launch_type.unwrap_or(LaunchType::Ec2),
            overrides: self.overrides.cloned().map(Arc::new),
            cpu: fit.effective.cpu,
            memory: fit.effective.memory,
            host_ports: fit.host_ports.clone(),
            network: None,
            gpus: Vec::new(),
            desired: DesiredStatus::Running,
            known: TaskStatus::Pending,
            containers: vec![TaskContainer::default(); containers],
            tags: self.all_tags(cluster, &definition)?,
            created_at: turn.now,
            verdict: None,
            life: Life::default(),
            stop: None,
            milestones: Milestones::default(),
            version: 1,
        };
        Ok(Copy { template, fit })
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

/// What every copy has in common, made once.
pub(super) struct Copy {
    pub(super) template: Task,
    pub(super) fit: Fit,
}

impl Copy {
    /// Puts one copy on an instance, and orders it to run once that is durable.
    ///
    /// # Errors
    /// When there is no address for it after all; to be asked first is what [`Fit::need`] is for.
    pub(super) fn place(&self, turn: &mut Turn<'_>, instance: InstanceId) -> Result<Arc<Task>, Refusal> {
        let mut task = self.template.clone();
        self.fit.settle(turn, instance, &mut task)?;
        task.key.id = TaskId::generate(turn.now, &mut turn.entropy);
        let task = turn.tables.put_task(task);
        turn.send_start(&task);
        Ok(task)
    }

    /// How its copies wait.
    pub(super) fn waiting(&self, launch: &Launch<'_>, on: WaitingFor, until: Option<Timestamp>) -> Waiting {
        let mut waiting = Waiting {
            on,
            until,
            kind: KindId(0),
            constraints: launch.constraints.to_vec(),
            strategy: launch.strategy.to_vec(),
            network: launch.network.cloned(),
        };
        waiting.kind = self.fit.kind(&self.template, &waiting);
        waiting
    }

    /// Makes one copy that waits.
    pub(super) fn wait(&self, turn: &mut Turn<'_>, waiting: &Arc<Waiting>) -> Arc<Task> {
        let mut task =
            Task { waiting: Some(waiting.clone()), known: TaskStatus::Provisioning, ..self.template.clone() };
        task.key.id = TaskId::generate(turn.now, &mut turn.entropy);
        turn.tables.put_task(task)
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
