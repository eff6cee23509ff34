//! ExplainPlacement: everything that keeps a definition's tasks from an instance, not only the first thing.
//!
//! Placement asks the writer's pool and is told one reason, fast. This asks the snapshot and takes its time: it is for the
//! one person who wonders. That the two agree is what the tests are about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::admin::{
    Amount, ExplainPlacementRequest, ExplainPlacementResponse, InstanceVerdict, NeededAttribute, PlacementRefusal,
    TaskNeeds,
};
use longshore_api::ecs::types::TaskDefinitionStatus;
use longshore_api::{ApiError, admin};

use crate::entity::{Cluster, Instance};
use crate::ids::{InstanceId, InstanceKey};
use crate::instance::InstanceStatus;
use crate::instance::filter::Candidate;
use crate::limits;
use crate::names;
use crate::network::{AddressBook, NetworkRequest};
use crate::placement::pool::{HOST_ID, host_of, ports_held};
use crate::placement::{Constraints, Expressions, Need, Placement, Refusal, advice};
use crate::query::Facts;
use crate::read::{KnownDefinition, ReadModel, Usage};
use crate::resources::{HostPort, NetworkMode};
use crate::task::status::TaskStatus;
use crate::task_definition::{self, GpuDemand, RequiredAttribute};

/// ExplainPlacement.
pub(crate) fn explain(
    view: &ReadModel,
    request: &ExplainPlacementRequest,
) -> Result<ExplainPlacementResponse, ApiError> {
    let cluster = view.cluster(request.cluster.as_deref())?;
    let known = runnable(view, &request.task_definition)?;
    let effective = task_definition::merge(&known.record.document, &known.resolved, None)?;
    let addresses = match known.resolved.network_mode {
        NetworkMode::Awsvpc => Some((AddressBook::of(view), NetworkRequest::about(view, request.subnets.as_deref())?)),
        NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None => None,
    };
    let given = request.placement_constraints.as_deref().unwrap_or_default();
    let constraints = Constraints::read(&mut Expressions::default(), &known.resolved.member_of, given)?;
    let group = request.group.as_deref().filter(|group| !group.is_empty());
    let group = group.map_or_else(|| format!("family:{}", known.record.key.family).into(), Arc::from);
    let placement = Placement::of(constraints, group);
    let need = Need {
        cpu: effective.cpu,
        memory: effective.memory,
        host_ports: &known.resolved.host_ports,
        gpus: effective.gpus().into_iter().map(GpuDemand::least).fold(0, u32::saturating_add),
        requires: &effective.requires,
        network: addresses.as_ref().map(|(book, subnets)| (book, subnets)),
        placement: &placement,
    };
    let count = request.count.unwrap_or(1);
    let ports = TakenPorts::of(view, need.host_ports);
    let gpus = TakenGpus::of(view, need.gpus);
    let verdicts: Vec<(Arc<str>, InstanceVerdict)> = in_service(view, cluster)
        .map(|instance| (host_of(instance), judge(view, cluster, instance, &need, (&ports, &gpus))))
        .collect();
    let fitting = fitting(&verdicts, !need.host_ports.is_empty()).min(addresses_left(&need));
    let placeable = i32::try_from(fitting.min(i64::from(count))).unwrap_or(count);
    let mut instances: Vec<InstanceVerdict> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
    let mut response = ExplainPlacementResponse {
        cluster: cluster.name.to_string(),
        task_definition: view.config.definition_arn(&known.record.key),
        count,
        needs: needs(&need),
        placeable,
        refused: advice::count(&instances),
        ..ExplainPlacementResponse::default()
    };
    response.verdict = advice::verdict(&response, &instances);
    response.advice = advice::advice(&response, &instances);
    response.more_instances = instances.len() > limits::EXPLAINED_INSTANCES;
    instances.truncate(limits::EXPLAINED_INSTANCES);
    response.instances = instances;
    Ok(response)
}

/// The ACTIVE definition that is asked about.
fn runnable<'a>(view: &'a ReadModel, given: &str) -> Result<&'a KnownDefinition, ApiError> {
    let known = names::definition(&view.config, given).and_then(|name| view.definition(name)).ok_or_else(|| {
        ApiError::client(format!(
            "TaskDefinition not found: there is no {given}, or no ACTIVE revision of it; `aws ecs list-task-definitions` \
             lists what there is."
        ))
    })?;
    match known.record.document.status {
        Some(TaskDefinitionStatus::Active) => Ok(known),
        _ => Err(ApiError::client(format!(
            "TaskDefinition is inactive: {given} was deregistered, and nothing new runs from it."
        ))),
    }
}

/// The instances that could ever be placed on.
fn in_service<'a>(view: &'a ReadModel, cluster: &Cluster) -> impl Iterator<Item = &'a Arc<Instance>> {
    let key = |id| InstanceKey { cluster: cluster.id, id: InstanceId(id) };
    let all = view.instances.range(key(0)..=key(u128::MAX)).map(|(_, instance)| instance);
    all.filter(|instance| instance.status != InstanceStatus::Inactive)
}

/// Of these instances, those that can take a task now.
pub(crate) fn takers<'a>(
    view: &ReadModel,
    cluster: &Cluster,
    instances: impl Iterator<Item = &'a Arc<Instance>>,
    need: &Need<'_>,
) -> impl Iterator<Item = &'a Arc<Instance>> {
    let (ports, gpus) = (TakenPorts::of(view, need.host_ports), TakenGpus::of(view, need.gpus));
    instances.filter(move |instance| {
        let active = instance.status == InstanceStatus::Active;
        active && judge(view, cluster, instance, need, (&ports, &gpus)).refusals.is_empty()
    })
}

/// How many copies fit altogether. A fixed host port is had once on each host, however many instances that is.
fn fitting(verdicts: &[(Arc<str>, InstanceVerdict)], fixed_ports: bool) -> i64 {
    let open = verdicts.iter().filter(|(_, verdict)| verdict.copies > 0);
    match fixed_ports {
        true => open.map(|(host, _)| host).collect::<BTreeSet<_>>().len() as i64,
        false => open.map(|(_, verdict)| verdict.copies).fold(0, i64::saturating_add),
    }
}

fn judge(
    view: &ReadModel,
    cluster: &Cluster,
    instance: &Arc<Instance>,
    need: &Need<'_>,
    (ports, gpus): (&TakenPorts, &TakenGpus),
) -> InstanceVerdict {
    let usage = view.usage.get(&instance.key);
    let (cpu, memory) = (i64::from(instance.cpu.0), i64::from(instance.memory.0));
    let cpu = Amount { free: usage.map_or(cpu, |usage| usage.cpu_free), registered: cpu };
    let memory = Amount { free: usage.map_or(memory, |usage| usage.memory_free), registered: memory };
    let mut refusals: Vec<PlacementRefusal> = state(instance, usage);
    let missing = |needed: u32, amount: Amount| (i64::from(needed) - amount.free).max(0);
    if let missing @ 1.. = missing(need.cpu.0, cpu) {
        refusals.push(PlacementRefusal { missing: Some(missing), ..refusal(&Refusal::Cpu { missing }) });
    }
    if let missing @ 1.. = missing(need.memory.0, memory) {
        refusals.push(PlacementRefusal { missing: Some(missing), ..refusal(&Refusal::Memory { missing }) });
    }
    refusals.extend(need.host_ports.iter().filter_map(|port| ports.refusal(&host_of(instance), *port)));
    let gpus_free = gpus.free(instance);
    if let missing @ 1.. = i64::from(need.gpus) - gpus_free {
        refusals.push(PlacementRefusal { missing: Some(missing), ..refusal(&Refusal::Gpu { missing }) });
    }
    refusals.extend(need.requires.iter().filter_map(|required| lacks(instance, required)));
    if let Some(refused) = need.network.and_then(|(book, subnets)| book.room(instance, subnets).err()) {
        refusals.push(refusal(&refused));
    }
    let candidate = Candidate::for_placement(view, instance);
    let unmet = need.placement.constraints.member_of.iter().filter(|member_of| !member_of.admits(&candidate));
    refusals.extend(unmet.map(|unmet| refusal(&Refusal::MemberOf { expression: unmet.expression().clone() })));
    refusals.extend(neighbour(need, &candidate));
    let copies = match refusals.is_empty() {
        false => 0,
        true => copies(need, cpu.free, memory.free, gpus_free),
    };
    InstanceVerdict {
        container_instance_arn: view.config.instance_arn(&cluster.name, instance.key.id),
        host: instance.attributes.get(HOST_ID).and_then(|host| host.as_deref()).map(str::to_owned),
        cpu,
        memory,
        copies,
        refusals,
    }
}

/// How many copies an instance takes that takes one.
fn copies(need: &Need<'_>, cpu_free: i64, memory_free: i64, gpus_free: i64) -> i64 {
    let of = |free: i64, each: u32| free.checked_div(i64::from(each)).unwrap_or(i64::MAX);
    let alone = !need.host_ports.is_empty() || need.placement.constraints.distinct_instance;
    let most = if alone { 1 } else { i64::from(*admin::COUNT.end()) };
    let resources = of(cpu_free, need.cpu.0).min(of(memory_free, need.memory.0)).min(of(gpus_free, need.gpus));
    resources.min(most).min(addresses_left(need))
}

/// How many copies the subnets have addresses for, at most.
fn addresses_left(need: &Need<'_>) -> i64 {
    need.network.map_or(i64::MAX, |(book, subnets)| book.left(subnets))
}

/// What keeps every task away.
fn state(instance: &Instance, usage: Option<&Usage>) -> Vec<PlacementRefusal> {
    let mut refusals = Vec::new();
    if instance.status != InstanceStatus::Active {
        let detail = format!("it is {}", instance.status.as_str());
        refusals.push(PlacementRefusal { detail, ..refusal(&Refusal::Inactive) });
    }
    if !usage.is_some_and(|usage| usage.connected) {
        let since = instance.heard_at.or(usage.and_then(|usage| usage.disconnected_at));
        let lost = if instance.lost_at.is_some() { ", and given up" } else { "" };
        let detail = format!("its agent is not connected{lost}");
        refusals.push(PlacementRefusal { detail, since, ..refusal(&Refusal::Agent) });
    }
    refusals
}

fn lacks(instance: &Instance, required: &RequiredAttribute) -> Option<PlacementRefusal> {
    let attribute = NeededAttribute { name: required.name.clone(), value: required.value.clone() };
    let mut refused = refusal(&Refusal::Attribute { name: required.name.clone() });
    match (instance.attributes.get(required.name.as_str()), &required.value) {
        (None, _) => {}
        (Some(_), None) => return None,
        (Some(actual), Some(wanted)) if actual.as_deref() == Some(wanted.as_str()) => return None,
        (Some(actual), Some(wanted)) => {
            let actual = actual.as_deref().unwrap_or_default();
            refused.detail = format!("its attribute {} is {actual:?}, not {wanted:?}", required.name);
            refused.actual_value = Some(actual.to_owned());
        }
    }
    Some(PlacementRefusal { attribute: Some(attribute), ..refused })
}

/// A task of the same group, where that is in the way.
fn neighbour(need: &Need<'_>, candidate: &Candidate<'_>) -> Option<PlacementRefusal> {
    let group = need.placement.group();
    let there =
        need.placement.constraints.distinct_instance && candidate.any_task_group(&mut |other| *other == **group);
    there.then(|| refusal(&Refusal::DistinctInstance { group: group.clone() }))
}

fn refusal(refusal: &Refusal) -> PlacementRefusal {
    PlacementRefusal { reason: refusal.reason().to_owned(), detail: refusal.to_string(), ..PlacementRefusal::default() }
}

fn needs(need: &Need<'_>) -> TaskNeeds {
    let attribute =
        |required: &RequiredAttribute| NeededAttribute { name: required.name.clone(), value: required.value.clone() };
    let constraints = &need.placement.constraints;
    TaskNeeds {
        cpu: i64::from(need.cpu.0),
        memory: i64::from(need.memory.0),
        host_ports: need.host_ports.iter().map(HostPort::to_string).collect(),
        attributes: need.requires.iter().map(attribute).collect(),
        member_of: constraints.member_of.iter().map(|member_of| member_of.expression().to_string()).collect(),
        distinct_from: constraints.distinct_instance.then(|| need.placement.group().to_string()),
    }
}

/// Those of the wanted host ports that are taken, by host, and by which task; by none if the instance keeps them for itself.
#[derive(Default)]
struct TakenPorts(BTreeMap<(Arc<str>, HostPort), Option<String>>);

impl TakenPorts {
    /// Looks at tasks only where one of the ports is taken by some.
    fn of(view: &ReadModel, wanted: &[HostPort]) -> Self {
        let mut taken = BTreeMap::new();
        if wanted.is_empty() {
            return Self(taken);
        }
        let mut holders = BTreeSet::new();
        for instance in view.instances.values().filter(|instance| instance.status != InstanceStatus::Inactive) {
            for port in instance.reserved_ports.iter().filter(|port| wanted.contains(port)) {
                taken.insert((host_of(instance), *port), None);
            }
            let used = view.usage.get(&instance.key).map_or(&[][..], |usage| &usage.ports);
            if used.iter().any(|port| wanted.contains(port)) {
                holders.insert(instance.key);
            }
        }
        let held = holders.iter().flat_map(|instance| view.task_index.held_on(*instance));
        for task in held.filter_map(|key| view.tasks.get(&key)) {
            if task.known == TaskStatus::Stopped {
                continue;
            }
            let Some(instance) = task.home().and_then(|home| view.instances.get(&home)) else { continue };
            let Some(cluster) = view.cluster_names.get(&task.key.cluster) else { continue };
            for port in ports_held(task).into_iter().filter(|port| wanted.contains(port)) {
                let arn = view.config.task_arn(cluster, task.key.id);
                taken.entry((host_of(instance), port)).or_insert(Some(arn));
            }
        }
        Self(taken)
    }

    fn refusal(&self, host: &Arc<str>, port: HostPort) -> Option<PlacementRefusal> {
        let held_by = self.0.get(&(host.clone(), port))?;
        let by = match held_by {
            Some(task) => format!("by task {}", advice::short(task)),
            None => "by the instance itself".to_owned(),
        };
        Some(PlacementRefusal {
            detail: format!("host port {port} is taken {by}"),
            port: Some(port.to_string()),
            held_by: held_by.clone(),
            ..refusal(&Refusal::Port { port })
        })
    }
}

/// The GPUs that tasks have, by host.
#[derive(Default)]
struct TakenGpus(BTreeSet<(Arc<str>, Arc<str>)>);

impl TakenGpus {
    /// Looks only if some are wanted.
    fn of(view: &ReadModel, wanted: u32) -> Self {
        let in_service = view.instances.values().filter(|instance| instance.status != InstanceStatus::Inactive);
        let with_gpus = in_service.filter(|instance| wanted > 0 && !instance.gpus.is_empty());
        let taken = with_gpus.flat_map(|instance| {
            let host = host_of(instance);
            let ids = view.usage.get(&instance.key).map_or(&[][..], |usage| &usage.gpus);
            ids.iter().map(move |id| (host.clone(), id.clone()))
        });
        Self(taken.collect())
    }

    fn free(&self, instance: &Instance) -> i64 {
        let host = host_of(instance);
        instance.gpus.iter().filter(|id| !self.0.contains(&(host.clone(), (*id).clone()))).count() as i64
    }
}

#[cfg(test)]
mod tests;
