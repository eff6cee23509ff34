//! RegisterContainerInstance: an agent comes for the first time, or comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use crate::attributes::is_built_in;
use crate::capacity::fleet;
use crate::cell::Turn;
use crate::entity::{Cluster, Entity, Instance, Made};
use crate::event::Milestones;
use crate::idempotency::{self, Scope, Seen};
use crate::identity;
use crate::ids::{InstanceId, InstanceKey};
use crate::instance::InstanceStatus;
use crate::instance::describe::{Include, document};
use crate::instance::identity_document::IdentityDocument;
use crate::instance::session;
use crate::limits;
use crate::names;
use crate::placement::pool::HOST_ID;
use crate::principal::Principal;
use crate::resources::{CpuUnits, HostPort, MemoryMib, Protocol};
use crate::tags;

/// The attribute that an instance has in any case.
const ZONE: &str = "ecs.availability-zone";

const TOKENS: Scope = Scope { operation: "RegisterContainerInstance", most: limits::REGISTRATION_TOKENS };

/// RegisterContainerInstance. With an ARN it updates that instance in place; its tasks stay.
pub(crate) fn register(
    turn: &mut Turn<'_>,
    principal: &Principal,
    request: &types::RegisterContainerInstanceRequest,
) -> Result<Response, ApiError> {
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    let offer = Offer::read(turn, request)?;
    idempotency::check(request.client_token.as_deref())?;
    let arn = request.container_instance_arn.as_deref().filter(|arn| !arn.is_empty());
    // A token names one start of one agent: what it sends along may have changed by a retry, and does not matter. Who names
    // its instance repeats itself anyway; remembered, such tokens would be many, and fill the room of everybody's.
    let token = request.client_token.as_deref().filter(|_| arn.is_none());
    let seen = idempotency::look_up(turn, TOKENS, cluster.id, token, Vec::new);
    let known = match (arn, &seen) {
        (Some(arn), _) => Some(returning(turn, principal, &cluster, arn)?),
        (None, Seen::Repeated(Made::Instance(id))) => {
            let key = InstanceKey { cluster: cluster.id, id: *id };
            let known = turn.tables.view().instances.get(&key);
            match known.filter(|known| known.principal == principal.access_key_id) {
                Some(known) if known.status == InstanceStatus::Inactive => return Err(not_registered(*id)),
                known => known.cloned(),
            }
        }
        (None, _) => None,
    };
    let host = offer.attributes.get(HOST_ID).and_then(Option::as_ref);
    identity::check_host(turn, principal, known.as_deref(), host)?;
    let instance = match known {
        Some(known) => update(turn, &known, offer)?,
        None => add(turn, principal, &cluster, offer)?,
    };
    if let Seen::Fresh(fresh) = seen {
        idempotency::remember(turn, fresh, Made::Instance(instance.key.id));
    }
    let usage = turn.tables.usage(instance.key);
    let container_instance = Some(document(turn.tables.view(), &cluster, &instance, usage.as_ref(), Include::TAGS));
    Ok(types::RegisterContainerInstanceResponse { container_instance }.into())
}

/// What an agent offers, read from its request.
struct Offer {
    cpu: CpuUnits,
    memory: MemoryMib,
    reserved_ports: Vec<HostPort>,
    gpus: Vec<Arc<str>>,
    attributes: BTreeMap<Arc<str>, Option<Arc<str>>>,
    tags: Vec<types::Tag>,
    version_info: Option<types::VersionInfo>,
    ec2_instance_id: Option<Arc<str>>,
}

impl Offer {
    fn read(turn: &Turn<'_>, request: &types::RegisterContainerInstanceRequest) -> Result<Self, ApiError> {
        let resources = request.total_resources.as_deref().unwrap_or_default();
        let mut reserved_ports = ports(resources, "PORTS", Protocol::Tcp)?;
        reserved_ports.extend(ports(resources, "PORTS_UDP", Protocol::Udp)?);
        reserved_ports.sort_unstable();
        reserved_ports.dedup();
        if reserved_ports.len() > limits::RESERVED_PORTS {
            let (most, sent) = (limits::RESERVED_PORTS, reserved_ports.len());
            return Err(ApiError::client(format!("PORTS and PORTS_UDP can reserve at most {most} ports, not {sent}.")));
        }
        let machine = IdentityDocument::read(request.instance_identity_document.as_deref())?;
        Ok(Self {
            cpu: CpuUnits(integer(resources, "CPU")?),
            memory: MemoryMib(integer(resources, "MEMORY")?),
            reserved_ports,
            gpus: gpus(request.platform_devices.as_deref().unwrap_or_default())?,
            ec2_instance_id: machine.instance_id.clone(),
            attributes: attributes(turn, machine, request.attributes.as_deref().unwrap_or_default())?,
            tags: tags::check(request.tags.as_deref())?,
            version_info: request.version_info.clone().map(session::shortened),
        })
    }
}

fn find<'a>(resources: &'a [types::Resource], name: &str) -> Option<&'a types::Resource> {
    resources.iter().find(|resource| resource.name.as_deref() == Some(name))
}

fn integer(resources: &[types::Resource], name: &str) -> Result<u32, ApiError> {
    let value = find(resources, name).and_then(|resource| resource.integer_value);
    value.and_then(|value| u32::try_from(value).ok()).ok_or_else(|| {
        ApiError::client(format!("totalResources must have {name} with an integerValue of 0 or more; it is {value:?}."))
    })
}

fn ports(resources: &[types::Resource], name: &str, protocol: Protocol) -> Result<Vec<HostPort>, ApiError> {
    let listed = find(resources, name).and_then(|resource| resource.string_set_value.as_deref()).unwrap_or_default();
    let parse = |text: &String| match text.parse() {
        Ok(port @ 1..) => Ok(HostPort { port, protocol }),
        _ => Err(ApiError::client(format!("totalResources {name} has {text:?}, which is no port from 1 to 65535."))),
    };
    listed.iter().map(parse).collect()
}

/// The ids of the GPUs. There are no other devices whose tasks run here.
fn gpus(devices: &[types::PlatformDevice]) -> Result<Vec<Arc<str>>, ApiError> {
    crate::unsupported::refuse(
        "RegisterContainerInstance",
        &[("platformDevices", devices.iter().any(|device| device.r#type != types::PlatformDeviceType::Gpu))],
    )?;
    if devices.len() > limits::GPUS {
        let message = format!("platformDevices can have at most {} items; {} were sent.", limits::GPUS, devices.len());
        return Err(ApiError::client(message));
    }
    if let Some(bad) = devices.iter().find(|device| device.id.is_empty() || device.id.len() > limits::ATTRIBUTE) {
        return Err(ApiError::client(format!("The id {:?} in platformDevices must have 1 to 128 characters.", bad.id)));
    }
    let ids: std::collections::BTreeSet<Arc<str>> = devices.iter().map(|device| device.id.as_str().into()).collect();
    Ok(ids.into_iter().collect())
}

/// What the agent sent, and what it did not send of what the control plane adds.
fn attributes(
    turn: &Turn<'_>,
    machine: IdentityDocument,
    sent: &[types::Attribute],
) -> Result<BTreeMap<Arc<str>, Option<Arc<str>>>, ApiError> {
    if sent.len() > limits::ATTRIBUTES {
        let message = format!("attributes can have at most {} items; {} were sent.", limits::ATTRIBUTES, sent.len());
        return Err(ApiError::client(message));
    }
    let mut attributes = BTreeMap::new();
    for attribute in sent {
        if attribute.name.is_empty() || attribute.name.len() > limits::ATTRIBUTE {
            return Err(ApiError::client(format!(
                "The attribute name {:?} must have 1 to 128 characters.",
                attribute.name
            )));
        }
        if attribute.value.as_ref().is_some_and(|value| value.len() > limits::ATTRIBUTE) {
            return Err(ApiError::client(format!(
                "The value of attribute {} has more than 128 characters.",
                attribute.name
            )));
        }
        attributes.insert(attribute.name.as_str().into(), attribute.value.as_deref().map(Arc::from));
    }
    for (name, value) in machine.attributes() {
        attributes.entry(name).or_insert(value);
    }
    attributes.entry(ZONE.into()).or_insert_with(|| Some(turn.config.zone.clone()));
    Ok(attributes)
}

/// The instance that comes back: it must be in service in this cluster, and registered by the same key.
fn returning(turn: &Turn<'_>, principal: &Principal, cluster: &Cluster, arn: &str) -> Result<Arc<Instance>, ApiError> {
    let id = names::instance(turn.config, cluster, arn)?;
    let known = id
        .and_then(|id| turn.tables.view().instances.get(&InstanceKey { cluster: cluster.id, id }))
        .ok_or_else(|| not_registered(id_of(arn)))?;
    match (known.principal == principal.access_key_id, known.status) {
        (false, _) => Err(ApiError::new(
            error::ACCESS_DENIED_EXCEPTION,
            format!("The container instance {arn} was registered by another access key."),
        )),
        (true, InstanceStatus::Inactive) => Err(not_registered(id_of(arn))),
        (true, InstanceStatus::Active | InstanceStatus::Draining | InstanceStatus::Deregistering) => Ok(known.clone()),
    }
}

fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// In ECS's words; agents give up on it, until an operator clears their data directory.
fn not_registered(instance: impl std::fmt::Display) -> ApiError {
    ApiError::client(format!("Referenced container instance {instance} not registered."))
}

fn add(turn: &mut Turn<'_>, principal: &Principal, cluster: &Cluster, offer: Offer) -> Result<Arc<Instance>, ApiError> {
    identity::check_room(turn, principal)?;
    if turn.tables.pool().count(cluster.id) >= limits::INSTANCES_PER_CLUSTER {
        let most = limits::INSTANCES_PER_CLUSTER;
        let message = format!("The cluster has reached its limit of {most} container instances.");
        return Err(ApiError::client(message));
    }
    let id = InstanceId::generate(turn.now, &mut turn.entropy);
    let instance = Arc::new(Instance {
        key: InstanceKey { cluster: cluster.id, id },
        principal: principal.access_key_id.clone(),
        cpu: offer.cpu,
        memory: offer.memory,
        reserved_ports: offer.reserved_ports,
        gpus: offer.gpus,
        attributes: offer.attributes,
        tags: offer.tags,
        version_info: offer.version_info,
        ec2_instance_id: offer.ec2_instance_id,
        registered_at: turn.now,
        status: InstanceStatus::Active,
        lost_at: None,
        heard_at: None,
        inactive_at: None,
        agent_connected: false,
        milestones: Milestones::default(),
        version: 1,
    });
    turn.tables.put(Entity::Instance(instance.clone()));
    fleet::registered(turn, &instance);
    // An agent that registers and never opens a session is missing like any other.
    turn.liveness.vanish(&turn.config.loss, &instance, turn.now, turn.now);
    Ok(instance)
}

/// Agents send their custom attributes only the first time, so of these what is not sent again stays. What they can do they
/// send each time: a capability that is not among it is gone (a newer agent was replaced by an older one). Tags they send each
/// time as well; but once it is registered they are the owner's, who may have changed them.
fn update(turn: &mut Turn<'_>, known: &Arc<Instance>, offer: Offer) -> Result<Arc<Instance>, ApiError> {
    let custom = known.attributes.iter().filter(|(name, _)| !is_built_in(name));
    let mut attributes: BTreeMap<_, _> = custom.map(|(name, value)| (name.clone(), value.clone())).collect();
    attributes.extend(offer.attributes);
    if attributes.len() > limits::ATTRIBUTES {
        let (most, all) = (limits::ATTRIBUTES, attributes.len());
        return Err(ApiError::client(format!("An instance can have at most {most} attributes; it would have {all}.")));
    }
    let mut next = Instance {
        cpu: offer.cpu,
        memory: offer.memory,
        reserved_ports: offer.reserved_ports,
        gpus: offer.gpus,
        attributes,
        version_info: offer.version_info.or_else(|| known.version_info.clone()),
        ec2_instance_id: offer.ec2_instance_id.or_else(|| known.ec2_instance_id.clone()),
        ..Instance::clone(known)
    };
    if next == **known {
        return Ok(known.clone());
    }
    next.version += 1;
    let next = Arc::new(next);
    turn.tables.put(Entity::Instance(next.clone()));
    Ok(next)
}
