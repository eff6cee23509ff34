//! DescribeContainerInstances and ListContainerInstances.

use longshore_api::ecs::{Response, types};
use longshore_api::{ApiError, admin};

use crate::cluster::missing;
use crate::entity::{Cluster, Instance};
use crate::ids::{InstanceId, InstanceKey};
use crate::instance::filter::{self, Candidate};
use crate::instance::health;
use crate::limits;
use crate::names;
use crate::placement::pool::HOST_ID;
use crate::read::{Page, ReadModel, Usage, bad_token, page};
use crate::resources::{HostPort, Protocol};

/// DescribeContainerInstances.
pub(crate) fn describe(
    view: &ReadModel,
    request: &types::DescribeContainerInstancesRequest,
) -> Result<Response, ApiError> {
    let cluster = view.cluster(request.cluster.as_deref())?;
    let given = &request.container_instances;
    if given.is_empty() || given.len() > limits::DESCRIBE {
        return Err(ApiError::invalid_parameter(match given.is_empty() {
            true => "Container instance cannot be empty.".to_owned(),
            false => format!("Container instances can have at most {} items.", limits::DESCRIBE),
        }));
    }
    let include = request.include.as_deref().unwrap_or_default();
    let include = Include {
        tags: include.contains(&types::ContainerInstanceField::Tags),
        health: include.contains(&types::ContainerInstanceField::ContainerInstanceHealth),
    };
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for given in given {
        let id = names::instance(&view.config, cluster, given)?;
        match id.and_then(|id| view.instances.get(&InstanceKey { cluster: cluster.id, id })) {
            Some(instance) => found.push(document(view, cluster, instance, view.usage.get(&instance.key), include)),
            None => failures.push(missing(match given.starts_with("arn:") {
                true => given.clone(),
                false => view.config.scope.container_instance(&cluster.name, given),
            })),
        }
    }
    let (container_instances, failures) = (Some(found), Some(failures));
    Ok(types::DescribeContainerInstancesResponse { container_instances, failures }.into())
}

/// ListContainerInstances, in the order of registration.
pub(crate) fn list(view: &ReadModel, request: &types::ListContainerInstancesRequest) -> Result<Response, ApiError> {
    let cluster = view.cluster(request.cluster.as_deref())?;
    let query = filter::compile(request.filter.as_deref())?;
    let after = match request.next_token.as_deref() {
        None => InstanceId(0),
        Some(token) => token.parse().map_err(|_| bad_token())?,
    };
    let from = InstanceKey { cluster: cluster.id, id: InstanceId(after.0.saturating_add(1)) };
    let to = InstanceKey { cluster: cluster.id, id: InstanceId(u128::MAX) };
    let listed = view.instances.range(from..=to).filter(|(_, instance)| instance.status.is_listed(request.status));
    let meant = |instance: &Instance| match &query {
        Some(query) => query.matches(&Candidate::new(view, instance)),
        None => true,
    };
    let ids = listed.filter(|(_, instance)| meant(instance)).map(|(key, _)| key.id);
    let Page { items, next } = page(ids, request.max_results, InstanceId::to_string);
    let arns = items.into_iter().map(|id| view.config.instance_arn(&cluster.name, id)).collect();
    Ok(types::ListContainerInstancesResponse { container_instance_arns: Some(arns), next_token: next }.into())
}

/// What an answer shows beyond what it always does.
#[derive(Clone, Copy)]
pub(crate) struct Include {
    pub(crate) tags: bool,
    pub(crate) health: bool,
}

impl Include {
    /// What operations that change an instance answer.
    pub(crate) const TAGS: Self = Self { tags: true, health: false };
}

/// The instance as the API shows it, with what is used of it; nothing is when that is not known.
pub(crate) fn document(
    view: &ReadModel,
    cluster: &Cluster,
    instance: &Instance,
    usage: Option<&Usage>,
    include: Include,
) -> types::ContainerInstance {
    let unused = unused(instance);
    let usage = usage.unwrap_or(&unused);
    let count = |count: u32| Some(i32::try_from(count).unwrap_or(i32::MAX));
    let registered_gpus = (!instance.gpus.is_empty()).then(|| ids(instance.gpus.iter()));
    let remaining_gpus =
        registered_gpus.is_some().then(|| ids(instance.gpus.iter().filter(|id| !usage.gpus.contains(id))));
    types::ContainerInstance {
        container_instance_arn: Some(view.config.instance_arn(&cluster.name, instance.key.id)),
        capacity_provider_name: instance.capacity_provider().map(str::to_owned),
        ec2_instance_id: instance.ec2_instance_id.as_deref().map(str::to_owned),
        version: Some(instance.version),
        version_info: Some(instance.version_info.clone().unwrap_or_default()),
        registered_resources: Some(resources(
            i64::from(instance.cpu.0),
            i64::from(instance.memory.0),
            &instance.reserved_ports,
            registered_gpus,
        )),
        remaining_resources: Some(resources(
            usage.cpu_free,
            usage.memory_free,
            &used_ports(instance, usage),
            remaining_gpus,
        )),
        status: Some(instance.status.as_str().to_owned()),
        agent_connected: Some(usage.connected),
        running_tasks_count: count(usage.running),
        pending_tasks_count: count(usage.pending),
        attributes: Some(instance.attributes.iter().map(attribute).collect()),
        registered_at: Some(instance.registered_at),
        attachments: Some(Vec::new()),
        tags: Some(if include.tags { instance.tags.clone() } else { Vec::new() }),
        health_status: include.health.then(|| health::document(&usage.health)),
        ..types::ContainerInstance::default()
    }
}

/// The instance at a glance, for `longshore instance list`.
pub(crate) fn state(view: &ReadModel, cluster: &Cluster, instance: &Instance) -> admin::ContainerInstanceState {
    let usage = view.usage.get(&instance.key);
    let count = |count: Option<u32>| count.map_or(0, |count| i32::try_from(count).unwrap_or(i32::MAX));
    let version = instance.version_info.as_ref().and_then(|info| info.agent_version.clone());
    admin::ContainerInstanceState {
        container_instance_arn: view.config.instance_arn(&cluster.name, instance.key.id),
        status: instance.status.as_str().to_owned(),
        agent_connected: usage.is_some_and(|usage| usage.connected),
        disconnected_at: usage.and_then(|usage| usage.disconnected_at).or(instance.heard_at),
        lost_at: instance.lost_at,
        running_tasks_count: count(usage.map(|usage| usage.running)),
        pending_tasks_count: count(usage.map(|usage| usage.pending)),
        host: instance.attributes.get(HOST_ID).and_then(|host| host.as_deref()).map(str::to_owned),
        agent_version: version.filter(|version| !version.is_empty()),
    }
}

fn unused(instance: &Instance) -> Usage {
    Usage {
        cpu_free: i64::from(instance.cpu.0),
        memory_free: i64::from(instance.memory.0),
        ports: [].into(),
        gpus: [].into(),
        pending: 0,
        running: 0,
        connected: false,
        disconnected_at: None,
        health: health::Checks::default(),
    }
}

fn attribute((name, value): (&std::sync::Arc<str>, &Option<std::sync::Arc<str>>)) -> types::Attribute {
    types::Attribute {
        name: name.to_string(),
        value: value.as_deref().map(str::to_owned),
        target_type: None,
        target_id: None,
    }
}

fn used_ports(instance: &Instance, usage: &Usage) -> Vec<HostPort> {
    let mut ports: Vec<HostPort> = instance.reserved_ports.iter().chain(usage.ports.iter()).copied().collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn ids<'a>(gpus: impl Iterator<Item = &'a std::sync::Arc<str>>) -> Vec<String> {
    gpus.map(ToString::to_string).collect()
}

/// The resources that ECS knows: four, and the GPUs of an instance that has some. PORTS lists the ports that are taken, GPU
/// what is there.
fn resources(cpu: i64, memory: i64, ports: &[HostPort], gpus: Option<Vec<String>>) -> Vec<types::Resource> {
    let mut resources = vec![
        number("CPU", cpu),
        number("MEMORY", memory),
        set("PORTS", ports, Protocol::Tcp),
        set("PORTS_UDP", ports, Protocol::Udp),
    ];
    let of_gpus = |ids| types::Resource { string_set_value: Some(ids), ..resource("GPU", "STRINGSET") };
    resources.extend(gpus.map(of_gpus));
    resources
}

fn number(name: &str, value: i64) -> types::Resource {
    types::Resource { integer_value: Some(i32::try_from(value).unwrap_or(i32::MAX)), ..resource(name, "INTEGER") }
}

fn set(name: &str, ports: &[HostPort], protocol: Protocol) -> types::Resource {
    let listed = ports.iter().filter(|port| port.protocol == protocol).map(|port| port.port.to_string());
    types::Resource { string_set_value: Some(listed.collect()), ..resource(name, "STRINGSET") }
}

/// ECS always answers the numbers that a resource does not have as zero.
fn resource(name: &str, kind: &str) -> types::Resource {
    types::Resource {
        name: Some(name.to_owned()),
        r#type: Some(kind.to_owned()),
        double_value: Some(0.0),
        long_value: Some(0),
        integer_value: Some(0),
        string_set_value: None,
    }
}
