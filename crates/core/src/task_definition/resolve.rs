//! What the cell computes on, read from a document once.

use std::sync::Arc;

use longshore_api::ecs::types::{self, Compatibility, PortMapping, TaskDefinition, TransportProtocol};

use super::requires::{self, RequiredAttribute};
use super::size;
use crate::placement::MemberOf;
use crate::resources::{CpuUnits, HostPort, MemoryMib, NetworkMode, Protocol};

/// What a definition amounts to. Derived from the document, never persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// How its containers reach the network.
    pub network_mode: NetworkMode,
    /// Its containers, in the order of the document.
    pub containers: Vec<ResolvedContainer>,
    /// CPU units that a task reserves: those of the task, else the sum of the containers.
    pub cpu: CpuUnits,
    /// Memory that a task reserves: that of the task, else the sum over the containers of the reservation or the limit.
    pub memory: MemoryMib,
    /// CPU limit of the task as a whole.
    pub task_cpu: Option<CpuUnits>,
    /// Memory limit of the task as a whole.
    pub task_memory: Option<MemoryMib>,
    /// The ports of the host that a task needs, sorted; ports that the agent picks are not among them.
    pub host_ports: Vec<HostPort>,
    /// What a task needs of an instance, sorted by name.
    pub requires: Vec<RequiredAttribute>,
    /// Its placement constraints, all of type `memberOf`.
    pub member_of: Vec<Arc<MemberOf>>,
    /// Whether it may run with launch type EXTERNAL.
    pub external: bool,
    /// Whether it may run with launch type FARGATE.
    pub fargate: bool,
}

/// What a container amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedContainer {
    /// Its name, unique in the definition.
    pub name: String,
    /// Whether the task ends with it.
    pub essential: bool,
    /// CPU units.
    pub cpu: CpuUnits,
    /// Hard limit of its memory.
    pub memory: Option<MemoryMib>,
    /// Memory it reserves, when that is not the limit.
    pub memory_reservation: Option<MemoryMib>,
}

/// What containers ask for together, unless the task as a whole says otherwise. Agents count in the same way.
pub(super) fn reserved(
    task: (Option<CpuUnits>, Option<MemoryMib>),
    containers: impl Iterator<Item = (CpuUnits, Option<MemoryMib>, Option<MemoryMib>)>,
) -> (CpuUnits, MemoryMib) {
    let none = (CpuUnits(0), MemoryMib(0));
    let (cpu, memory) = containers.fold(none, |(cpu, memory), (units, limit, reservation)| {
        let mib = reservation.or(limit).unwrap_or_default();
        (cpu.saturating_add(units), memory.saturating_add(mib))
    });
    (task.0.unwrap_or(cpu), task.1.unwrap_or(memory))
}

/// Reads a document that [`super::register`] made. Total: whatever is missing reads as its default.
pub fn resolve(document: &TaskDefinition) -> Resolved {
    let network_mode = network_mode(document);
    let definitions = document.container_definitions.as_deref().unwrap_or_default();
    let containers: Vec<ResolvedContainer> = definitions
        .iter()
        .map(|container| ResolvedContainer {
            name: container.name.clone().unwrap_or_default(),
            essential: container.essential.unwrap_or(true),
            cpu: CpuUnits::from_document(container.cpu),
            memory: MemoryMib::from_document(container.memory),
            memory_reservation: MemoryMib::from_document(container.memory_reservation),
        })
        .collect();
    let task_cpu = document.cpu.as_deref().and_then(size::task_cpu);
    let task_memory = document.memory.as_deref().and_then(size::task_memory);
    let (cpu, memory) = reserved(
        (task_cpu, task_memory),
        containers.iter().map(|container| (container.cpu, container.memory, container.memory_reservation)),
    );
    let mut host_ports: Vec<HostPort> = definitions
        .iter()
        .flat_map(|container| container.port_mappings.as_deref().unwrap_or_default())
        .filter_map(|mapping| host_port(mapping, network_mode))
        .collect();
    host_ports.sort_unstable();
    host_ports.dedup();
    let constraints = document.placement_constraints.iter().flatten();
    let member_of = constraints.map(|constraint| constraint.expression.as_deref().unwrap_or_default());
    let compatibilities = document.compatibilities.as_deref().unwrap_or_default();
    Resolved {
        network_mode,
        containers,
        cpu,
        memory,
        task_cpu,
        task_memory,
        host_ports,
        requires: requires::attributes(document),
        member_of: member_of.map(|expression| Arc::new(MemberOf::stored(expression))).collect(),
        external: compatibilities.contains(&Compatibility::External),
        fargate: compatibilities.contains(&Compatibility::Fargate),
    }
}

/// The network mode of a document. One that is not supported has been refused at registration.
pub(crate) fn network_mode(document: &TaskDefinition) -> NetworkMode {
    match document.network_mode {
        None | Some(types::NetworkMode::Bridge) => NetworkMode::Bridge,
        Some(types::NetworkMode::Host) => NetworkMode::Host,
        Some(types::NetworkMode::None) => NetworkMode::None,
        Some(types::NetworkMode::Awsvpc) => NetworkMode::Awsvpc,
    }
}

/// The port of the host that a mapping fixes.
fn host_port(mapping: &PortMapping, mode: NetworkMode) -> Option<HostPort> {
    let port = match mode {
        NetworkMode::Bridge => mapping.host_port,
        NetworkMode::Host => mapping.container_port,
        // What an awsvpc task listens on is at an address of its own.
        NetworkMode::None | NetworkMode::Awsvpc => None,
    };
    let protocol = match mapping.protocol {
        None | Some(TransportProtocol::Tcp) => Protocol::Tcp,
        Some(TransportProtocol::Udp) => Protocol::Udp,
    };
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)?;
    Some(HostPort { port, protocol })
}
