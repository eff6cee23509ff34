//! What decides where a task may go: resolved for RunTask and StartTask from the request, and again from its record for a task
//! that waits.

use longshore_api::ApiError;
use longshore_api::ecs::types::{self, LaunchType};
use sha2::{Digest, Sha256};

use crate::capacity;
use crate::cell::Turn;
use crate::entity::{Task, TaskGpu};
use crate::ids::{ClusterId, DefinitionKey, InstanceId, InstanceKey, KindId};
use crate::network::{self, AddressBook, NetworkRequest};
use crate::placement::{Need, Placement, Refusal, Strategy};
use crate::read::KnownDefinition;
use crate::task::waiting::Waiting;
use crate::task_definition::{self, EffectiveTask, GpuDemand, RequiredAttribute, gpu};

/// The capability by which instances offer the launch type EXTERNAL.
const EXTERNAL: &str = "ecs.capability.external";

/// What is asked for a task, as far as it matters where it goes.
pub(super) struct Asked<'a> {
    pub(super) definition: &'a DefinitionKey,
    pub(super) overrides: Option<&'a types::TaskOverride>,
    pub(super) launch_type: Option<LaunchType>,
    pub(super) provider: Option<&'a str>,
    pub(super) group: &'a str,
    pub(super) network: Option<&'a types::NetworkConfiguration>,
    pub(super) constraints: &'a [types::PlacementConstraint],
    pub(super) strategy: &'a [types::PlacementStrategy],
}

/// The same, resolved: what one copy needs of an instance.
pub(crate) struct Fit {
    cluster: ClusterId,
    gpus: Vec<GpuDemand>,
    requires: Vec<RequiredAttribute>,
    network: Option<NetworkRequest>,
    placement: Placement,
    /// What is computed of the definition and the overrides.
    pub(super) effective: EffectiveTask,
    pub(super) host_ports: Vec<crate::resources::HostPort>,
}

impl Asked<'_> {
    /// Resolves it for the tasks of a cluster.
    ///
    /// # Errors
    /// As RunTask documents them.
    pub(super) fn resolve(&self, turn: &mut Turn<'_>, cluster: ClusterId) -> Result<Fit, ApiError> {
        let missing = || ApiError::client("TaskDefinition not found.");
        let strategy = Strategy::read(self.strategy)?;
        let resolved = turn.tables.view().definitions.get(self.definition).ok_or_else(missing)?.resolved.clone();
        let constraints = turn.tables.constraints(&resolved.member_of, self.constraints)?;
        let network = network::requested(turn, resolved.network_mode, self.launch_type, self.network)?;
        let known = turn.tables.view().definitions.get(self.definition).ok_or_else(missing)?;
        let effective = task_definition::merge(&known.record.document, &known.resolved, self.overrides)?;
        let requires = requires(known, &effective, self.launch_type.unwrap_or(LaunchType::Ec2), self.provider)?;
        let gpus = effective.gpus();
        let host_ports = known.resolved.host_ports.clone();
        let needs = (requires.as_slice(), host_ports.as_slice(), least(&gpus));
        let placement = Placement::new(needs, network.as_ref(), constraints, strategy, self.group.into());
        Ok(Fit { cluster, gpus, requires, network, placement, effective, host_ports })
    }
}

fn requires(
    known: &KnownDefinition,
    effective: &EffectiveTask,
    launch_type: LaunchType,
    provider: Option<&str>,
) -> Result<Vec<RequiredAttribute>, ApiError> {
    let compatible = match launch_type {
        LaunchType::External => known.resolved.external,
        LaunchType::Fargate => known.resolved.fargate,
        LaunchType::Ec2 | LaunchType::ManagedInstances => true,
    };
    if !compatible {
        let message = format!("Task definition does not support launch_type {launch_type}.");
        return Err(ApiError::invalid_parameter(message));
    }
    // A size that the definition has is one of the table; overrides can make it another.
    let (cpu, memory) = (effective.task_cpu.unwrap_or_default(), effective.task_memory.unwrap_or_default());
    if launch_type == LaunchType::Fargate && !task_definition::is_fargate_size(cpu, memory) {
        return Err(ApiError::invalid_parameter(task_definition::no_fargate_size(cpu, memory)));
    }
    Ok(required_for(effective, launch_type, provider))
}

/// What an instance must have for a task of a launch type, or of a capacity provider.
pub(crate) fn required_for(
    effective: &EffectiveTask,
    launch_type: LaunchType,
    provider: Option<&str>,
) -> Vec<RequiredAttribute> {
    let external =
        (launch_type == LaunchType::External).then(|| RequiredAttribute { name: EXTERNAL.to_owned(), value: None });
    let own = provider.and_then(capacity::required_attribute);
    effective.requires.iter().cloned().chain(external).chain(own).collect()
}

/// How many GPUs an instance must have free.
fn least(gpus: &[GpuDemand]) -> u32 {
    gpus.iter().map(|demand| demand.least()).fold(0, u32::saturating_add)
}

impl Fit {
    /// What is needed to place a task that waits, from its record.
    ///
    /// # Errors
    /// When it could not be asked for any more: its subnet is not configured any longer.
    pub(super) fn again(turn: &mut Turn<'_>, task: &Task, waiting: &Waiting) -> Result<Self, ApiError> {
        let asked = Asked {
            definition: &task.definition,
            overrides: task.overrides.as_deref(),
            launch_type: Some(task.launch_type),
            provider: task.capacity_provider.as_deref(),
            group: &task.group,
            network: waiting.network.as_ref(),
            constraints: &waiting.constraints,
            strategy: &waiting.strategy,
        };
        asked.resolve(turn, task.key.cluster)
    }

    /// What one copy needs of an instance.
    pub(super) fn need<'a>(&'a self, addresses: &'a AddressBook) -> Need<'a> {
        Need {
            cpu: self.effective.cpu,
            memory: self.effective.memory,
            host_ports: &self.host_ports,
            gpus: least(&self.gpus),
            requires: &self.requires,
            network: self.network.as_ref().map(|request| (addresses, request)),
            placement: &self.placement,
        }
    }

    /// The instances of the cluster that do not take it, and why; those that are INACTIVE are nobody's to ask.
    pub(super) fn refusals<'a>(&'a self, turn: &'a Turn<'_>) -> impl Iterator<Item = (InstanceId, Refusal)> + 'a {
        let pool = turn.tables.pool();
        pool.members(self.cluster)
            .filter_map(move |slot| {
                let refusal = pool.fits(slot, self.need(turn.tables.addresses())).err()?;
                Some((slot.instance.key.id, refusal))
            })
            .filter(|(_, refusal)| *refusal != Refusal::Inactive)
    }

    /// The instance that the next copy goes to, if one can take it.
    pub(super) fn choose(&self, turn: &mut Turn<'_>) -> Option<InstanceId> {
        let (pool, addresses) = turn.tables.scheduler();
        let chosen = pool.choose(self.cluster, self.need(addresses), &mut turn.entropy)?;
        Some(chosen.instance.key.id)
    }

    /// Gives a task what it has of its instance alone: its place, an address, GPUs.
    ///
    /// # Errors
    /// When there is no address for it after all; to be asked first is what [`Fit::need`] is for.
    pub(super) fn settle(&self, turn: &mut Turn<'_>, instance: InstanceId, task: &mut Task) -> Result<(), Refusal> {
        let home = InstanceKey { cluster: self.cluster, id: instance };
        task.network = self.network.as_ref().map(|request| network::connect(turn, home, request)).transpose()?;
        task.gpus = self.deal(turn, home);
        task.instance = Some(instance);
        Ok(())
    }

    /// The GPUs that one copy gets on an instance.
    fn deal(&self, turn: &Turn<'_>, instance: InstanceKey) -> Vec<TaskGpu> {
        let pool = turn.tables.pool();
        match pool.slot(instance).filter(|_| !self.gpus.is_empty()) {
            Some(slot) => gpu::deal(&self.gpus, &pool.gpus_free(slot).cloned().collect::<Vec<_>>()),
            None => Vec::new(),
        }
    }

    /// The name of all tasks of a cluster that the same instances can take: what fits none of them fits none of the others.
    pub(super) fn kind(&self, task: &Task, waiting: &Waiting) -> KindId {
        let (cpu, memory) = (self.effective.cpu, self.effective.memory);
        // Whose group it is of matters to what looks at groups: a constraint of the call, or a strategy.
        let looks = !(waiting.constraints.is_empty() && waiting.strategy.is_empty());
        let group = looks.then_some(&task.group);
        let own = (self.cluster, &task.definition, task.launch_type, group, &task.capacity_provider, cpu, memory);
        let asked = (&self.gpus, &self.requires, &waiting.network, &waiting.constraints, &waiting.strategy);
        let digest = Sha256::digest(format!("{own:?} {asked:?}"));
        KindId(digest.iter().take(16).fold(0, |id, byte| (id << 8) | u128::from(*byte)))
    }
}
