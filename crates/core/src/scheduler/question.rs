//! What a scheduler is asked, and what it may answer: JSON both ways. Members that it does not know it must ignore, as we do.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::ecs::types::Tag;
use serde::{Deserialize, Serialize};

use super::SchedulerHook;
use crate::entity::{Cluster, Instance, Task};
use crate::ids::{ClusterId, InstanceId, InstanceKey, KindId, TaskId, TaskKey};
use crate::limits;
use crate::network::{AddressBook, NetworkRequest};
use crate::placement::explain;
use crate::placement::{Constraints, Expressions, Need, Placement};
use crate::read::ReadModel;
use crate::resources::HostPort;
use crate::task::fit::required_for;
use crate::task_definition::{self, GpuDemand};

/// Tasks that wait for a decision, and where each could go.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Where it is asked.
    #[serde(skip)]
    pub hook: SchedulerHook,
    /// The last task of `tasks`: whoever asks on begins behind it.
    #[serde(skip)]
    pub last: Option<TaskId>,
    /// How many tasks wait, asked about here or not.
    #[serde(skip)]
    pub waiting: usize,
    /// The cluster's ARN.
    pub cluster: String,
    /// The tasks, oldest first.
    pub tasks: Vec<AskedTask>,
    /// More tasks wait; they are asked about next.
    pub more_tasks: bool,
    /// Wishes of the last answer that could not be fulfilled.
    pub refused: Vec<PlacementRefused>,
}

/// A task that waits for a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedTask {
    /// Its ARN.
    pub task_arn: String,
    /// Its definition's ARN.
    pub task_definition_arn: String,
    /// Its group.
    pub group: String,
    /// The caller's mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_by: Option<String>,
    /// As asked for.
    pub launch_type: String,
    /// The capacity provider whose instances alone can take it, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider_name: Option<String>,
    /// CPU units that it reserves.
    pub cpu: u32,
    /// Memory that it reserves, in MiB.
    pub memory: u32,
    /// GPUs that it needs at least.
    pub gpus: u32,
    /// Its fixed host ports, as `80/tcp`.
    pub host_ports: Vec<String>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it goes the way of the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decide_by: Option<Timestamp>,
    /// Container instances that can take it now, [`limits::SCHEDULER_CANDIDATES`] at most.
    pub candidates: Arc<[Candidate]>,
}

/// A container instance that can take a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its ARN.
    pub container_instance_arn: String,
    /// CPU units that no task has.
    pub remaining_cpu: i64,
    /// Memory that no task has, in MiB.
    pub remaining_memory: i64,
    /// CPU units that it has altogether.
    pub registered_cpu: u32,
    /// Memory that it has altogether, in MiB.
    pub registered_memory: u32,
    /// Its tasks that run.
    pub running_tasks_count: u32,
    /// Its tasks that were placed and do not run yet.
    pub pending_tasks_count: u32,
    /// Its attributes, but for those that say what its agent can do.
    pub attributes: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

/// What a scheduler answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Where tasks are to go. Those that it does not name wait on.
    pub placements: Vec<Wish>,
}

/// Where a scheduler wants a task.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// The task's ARN or id.
    pub task_arn: String,
    /// The container instance's ARN or id.
    pub container_instance_arn: String,
}

/// A wish that could not be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementRefused {
    /// As the scheduler named it.
    pub task_arn: String,
    /// As the scheduler named it.
    pub container_instance_arn: String,
    /// In ECS's words for failures; `DECIDED` if the task waits for no scheduler any more.
    pub reason: String,
    /// For people.
    pub detail: String,
}

impl ReadModel {
    /// The clusters in which tasks wait for a scheduler.
    pub fn clusters_asking(&self) -> Vec<ClusterId> {
        self.asking.clusters().collect()
    }

    /// The name of a cluster.
    pub fn cluster_name(&self, cluster: ClusterId) -> Option<&Arc<str>> {
        self.cluster_names.get(&cluster)
    }

    /// What the scheduler of a cluster is to be asked: about the tasks behind `after`, or from the beginning when there are none
    /// behind it. `None` if there is nothing to ask, or nobody. It looks at every instance, once for each kind of task.
    pub fn scheduler_question(
        &self,
        cluster: ClusterId,
        after: Option<TaskId>,
        refused: Vec<PlacementRefused>,
    ) -> Option<Question> {
        let cluster = self.clusters.get(self.cluster_names.get(&cluster)?)?;
        let hook = cluster.scheduler.clone()?;
        let most = limits::SCHEDULER_TASKS;
        let mut keys: Vec<TaskKey> = self.asking.behind(cluster.id, after).take(most).collect();
        if keys.is_empty() {
            keys = self.asking.behind(cluster.id, None).take(most).collect();
        }
        let mut kinds: BTreeMap<KindId, Arc<[Candidate]>> = BTreeMap::new();
        let key = |id| InstanceKey { cluster: cluster.id, id: InstanceId(id) };
        let instances = self.instances.range(key(0)..=key(u128::MAX)).count();
        let tasks: Vec<AskedTask> =
            keys.iter().filter_map(|key| self.asked(cluster, instances, *key, &mut kinds)).collect();
        let waiting = self.asking.count(cluster.id);
        let more_tasks = waiting > tasks.len();
        let last = keys.last().map(|key| key.id);
        let cluster = self.config.cluster_arn(&cluster.name);
        (!tasks.is_empty()).then_some(Question { hook, last, waiting, cluster, tasks, more_tasks, refused })
    }

    fn asked(
        &self,
        cluster: &Cluster,
        instances: usize,
        key: TaskKey,
        kinds: &mut BTreeMap<KindId, Arc<[Candidate]>>,
    ) -> Option<AskedTask> {
        let task = self.tasks.get(&key)?;
        let waiting = task.waiting.as_ref()?;
        let known = self.definitions.get(&task.definition)?;
        let effective =
            task_definition::merge(&known.record.document, &known.resolved, task.overrides.as_deref()).ok()?;
        let gpus = effective.gpus().into_iter().map(GpuDemand::least).fold(0, u32::saturating_add);
        let candidates = match kinds.get(&waiting.kind) {
            Some(candidates) => candidates.clone(),
            None => {
                let candidates: Arc<[Candidate]> = self.candidates(cluster, instances, task, gpus).into();
                kinds.insert(waiting.kind, candidates.clone());
                candidates
            }
        };
        Some(AskedTask {
            task_arn: self.config.task_arn(&cluster.name, key.id),
            task_definition_arn: self.config.definition_arn(&task.definition),
            group: task.group.to_string(),
            started_by: task.started_by.as_deref().map(str::to_owned),
            launch_type: task.launch_type.as_str().to_owned(),
            capacity_provider_name: task.capacity_provider.as_deref().map(str::to_owned),
            cpu: task.cpu.0,
            memory: task.memory.0,
            gpus,
            host_ports: task.host_ports.iter().map(HostPort::to_string).collect(),
            tags: task.tags.clone(),
            created_at: task.created_at,
            decide_by: cluster.scheduler.as_ref().and_then(|hook| hook.decide_by(task.created_at)),
            candidates,
        })
    }

    /// The instances that can take a task, and others of its kind, at most so many. Of more of them, those behind a place that
    /// follows from the task: other kinds are offered others, and so may be the same kind in another question.
    fn candidates(&self, cluster: &Cluster, instances: usize, task: &Task, gpus: u32) -> Vec<Candidate> {
        let Some((waiting, known)) = task.waiting.as_ref().zip(self.definitions.get(&task.definition)) else {
            return Vec::new();
        };
        let merged = task_definition::merge(&known.record.document, &known.resolved, task.overrides.as_deref());
        let of_call = Constraints::read(&mut Expressions::default(), &known.resolved.member_of, &waiting.constraints);
        // Both were accepted with the task.
        let (Ok(effective), Ok(constraints)) = (merged, of_call) else { return Vec::new() };
        let named = waiting.network.as_ref().and_then(|network| network.awsvpc_configuration.as_ref());
        let network = named.map(|network| NetworkRequest::about(self, Some(&network.subnets)));
        let Ok(network) = network.transpose() else { return Vec::new() };
        let network = network.map(|subnets| (AddressBook::of(self), subnets));
        let placement = Placement::of(constraints, task.group.clone());
        let need = Need {
            cpu: task.cpu,
            memory: task.memory,
            host_ports: &task.host_ports,
            gpus,
            requires: &required_for(&effective, task.launch_type, task.capacity_provider.as_deref()),
            network: network.as_ref().map(|(book, subnets)| (book, subnets)),
            placement: &placement,
        };
        let key = |id| InstanceKey { cluster: cluster.id, id: InstanceId(id) };
        // Ids begin with the time, the task's is later than all: its random end says where to begin.
        let skipped = (task.key.id.0 % (instances.max(1) as u128)) as usize;
        let all = || self.instances.range(key(0)..=key(u128::MAX)).map(|(_, instance)| instance);
        let turned = all().skip(skipped).chain(all().take(skipped));
        explain::takers(self, cluster, turned, &need)
            .take(limits::SCHEDULER_CANDIDATES)
            .map(|instance| self.candidate(cluster, instance))
            .collect()
    }

    fn candidate(&self, cluster: &Cluster, instance: &Instance) -> Candidate {
        let usage = self.usage.get(&instance.key);
        let own =
            |name: &str| !name.starts_with("ecs.capability.") && !name.starts_with("com.amazonaws.ecs.capability.");
        let attributes = instance.attributes.iter().filter(|(name, _)| own(name));
        Candidate {
            container_instance_arn: self.config.instance_arn(&cluster.name, instance.key.id),
            remaining_cpu: usage.map_or(i64::from(instance.cpu.0), |usage| usage.cpu_free),
            remaining_memory: usage.map_or(i64::from(instance.memory.0), |usage| usage.memory_free),
            registered_cpu: instance.cpu.0,
            registered_memory: instance.memory.0,
            running_tasks_count: usage.map_or(0, |usage| usage.running),
            pending_tasks_count: usage.map_or(0, |usage| usage.pending),
            attributes: attributes.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }
}
