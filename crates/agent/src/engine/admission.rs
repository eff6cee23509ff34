//! What of the host is taken, and whether a task fits.
//!
//! The control plane counts exactly and sends only what fits; this account catches what it cannot see, such as a task that
//! has not stopped yet. A task that does not fit waits alone: it does not hold up those behind it.

use std::collections::{BTreeMap, BTreeSet};

use longshore_agent_protocol::acs;

use super::HostResources;
use super::container_config::{counted_memory_mib, network_mode};
use super::gpu;
use super::input::Protocol;
use super::ports;

/// Tasks that may wait for their share at once. The control plane sends what fits, so a few wait at a time; a flood must not
/// fill memory and disk (a record is about two kilobytes).
pub(crate) const MAX_WAITING_TASKS: usize = 10_000;

/// What a task needs of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    cpu: i64,
    memory_mib: i64,
    ports: Vec<(Protocol, u16)>,
    gpus: Vec<String>,
}

impl Demand {
    pub(crate) fn of(task: &acs::Task) -> Self {
        let units = |vcpus: f64| (vcpus * 1024.0).round() as i64;
        let cpu = match task.cpu.filter(|vcpus| *vcpus > 0.0) {
            Some(vcpus) => units(vcpus),
            None => task.containers.iter().fold(0i64, |sum, container| sum.saturating_add(container.cpu.max(0))),
        };
        let memory_mib = match task.memory.filter(|mib| *mib > 0) {
            Some(mib) => mib,
            None => task.containers.iter().map(counted_memory_mib).fold(0i64, i64::saturating_add),
        };
        let mode = network_mode(task);
        let mut host_ports = Vec::new();
        for port in task.containers.iter().flat_map(|container| ports::published(container).unwrap_or_default()) {
            let taken = match mode {
                "host" => Some(port.container_port),
                "bridge" => port.host_port,
                _ => None,
            };
            host_ports.extend(taken.map(|taken| (port.protocol, taken)));
        }
        // Two containers of a host-mode task may name one port: they share the network anyway.
        host_ports.sort_unstable();
        host_ports.dedup();
        Self { cpu, memory_mib, ports: host_ports, gpus: gpu::of_task(task).map(str::to_owned).collect() }
    }
}

/// What is taken, by whom.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    total: HostResources,
    cpu: i64,
    memory_mib: i64,
    ports: BTreeMap<(Protocol, u16), String>,
    gpus: BTreeMap<String, String>,
}

impl Ledger {
    pub(crate) fn new(total: HostResources) -> Self {
        Self { total, cpu: 0, memory_mib: 0, ports: BTreeMap::new(), gpus: BTreeMap::new() }
    }

    /// Why a task does not fit, if so.
    pub(crate) fn refusal(&self, demand: &Demand) -> Option<String> {
        let short = |what: &str, wanted: i64, taken: i64, total: i64| {
            (wanted > 0 && wanted > total.saturating_sub(taken)).then(|| {
                format!("it needs {wanted} {what}, {taken} of the instance's {total} are taken by other tasks")
            })
        };
        short("CPU units", demand.cpu, self.cpu, self.total.cpu)
            .or_else(|| short("MiB of memory", demand.memory_mib, self.memory_mib, self.total.memory_mib))
            .or_else(|| demand.ports.iter().find_map(|port| self.port_refusal(*port)))
            .or_else(|| demand.gpus.iter().find_map(|id| self.gpu_refusal(id)))
    }

    fn port_refusal(&self, (protocol, port): (Protocol, u16)) -> Option<String> {
        let named = format!("host port {port}/{}", protocol.as_str());
        if self.reserved(protocol).contains(&port) {
            return Some(format!("{named} is reserved on this instance"));
        }
        self.ports.get(&(protocol, port)).map(|task| format!("{named} is taken by task {task}"))
    }

    fn reserved(&self, protocol: Protocol) -> &[u16] {
        match protocol {
            Protocol::Tcp => &self.total.reserved_ports,
            Protocol::Udp => &self.total.reserved_ports_udp,
        }
    }

    /// Ports that are not to be given to whoever takes any.
    pub(crate) fn promised_ports(&self, protocol: Protocol) -> BTreeSet<u16> {
        let taken = self.ports.range((protocol, 0)..=(protocol, u16::MAX)).map(|((_, port), _)| *port);
        taken.chain(self.reserved(protocol).iter().copied()).collect()
    }

    fn gpu_refusal(&self, id: &str) -> Option<String> {
        self.gpus.get(id).map(|task| format!("GPU {id} is taken by task {task}"))
    }

    pub(crate) fn take(&mut self, task_arn: &str, demand: &Demand) {
        self.cpu = self.cpu.saturating_add(demand.cpu);
        self.memory_mib = self.memory_mib.saturating_add(demand.memory_mib);
        for port in &demand.ports {
            self.ports.insert(*port, task_arn.to_owned());
        }
        self.gpus.extend(demand.gpus.iter().map(|id| (id.clone(), task_arn.to_owned())));
    }

    pub(crate) fn release(&mut self, task_arn: &str, demand: &Demand) {
        self.cpu = self.cpu.saturating_sub(demand.cpu);
        self.memory_mib = self.memory_mib.saturating_sub(demand.memory_mib);
        for port in &demand.ports {
            if self.ports.get(port).is_some_and(|task| task == task_arn) {
                self.ports.remove(port);
            }
        }
        self.gpus.retain(|id, task| task != task_arn || !demand.gpus.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(cpu: i64, memory: i64, mode: &str, ports: &[(i64, i64)]) -> acs::Task {
        let mapping = |(container_port, host_port): &(i64, i64)| acs::PortMapping {
            container_port: Some(*container_port),
            host_port: Some(*host_port),
            ..acs::PortMapping::default()
        };
        acs::Task {
            network_mode: Some(mode.to_owned()),
            containers: vec![acs::Container {
                cpu,
                memory,
                port_mappings: ports.iter().map(mapping).collect(),
                ..acs::Container::default()
            }],
            ..acs::Task::default()
        }
    }

    #[test]
    fn what_is_taken_is_refused_with_its_reason_and_free_again_after_release() {
        let mut ledger = Ledger::new(HostResources {
            cpu: 1024,
            memory_mib: 100,
            reserved_ports: vec![22],
            ..HostResources::default()
        });
        let first = Demand::of(&task(1000, 60, "bridge", &[(80, 8080)]));
        assert_eq!(ledger.refusal(&first), None);
        ledger.take("first", &first);
        for (task, expected) in [
            (task(25, 0, "bridge", &[]), "needs 25 CPU units, 1000 of the instance's 1024"),
            (task(24, 41, "bridge", &[]), "needs 41 MiB of memory, 60 of the instance's 100"),
            (task(0, 0, "bridge", &[(1, 8080)]), "host port 8080/tcp is taken by task first"),
            (task(0, 0, "host", &[(8080, 0)]), "host port 8080/tcp is taken by task first"),
            (task(0, 0, "host", &[(22, 22)]), "host port 22/tcp is reserved"),
        ] {
            let why = ledger.refusal(&Demand::of(&task)).unwrap_or_default();
            assert!(why.contains(expected), "{why}");
        }
        assert_eq!(ledger.refusal(&Demand::of(&task(24, 40, "bridge", &[(80, 0), (81, 0)]))), None);
        ledger.release("first", &first);
        assert_eq!(ledger.refusal(&first), None);
    }

    #[test]
    fn a_gpu_is_one_tasks_until_it_is_released() {
        let with = |id: &str| {
            let association =
                acs::Association { association_type: "gpu".into(), name: id.into(), ..acs::Association::default() };
            Demand::of(&acs::Task { associations: vec![association], ..task(0, 0, "bridge", &[]) })
        };
        let mut ledger = Ledger::new(HostResources::default());
        ledger.take("first", &with("GPU-1"));
        assert_eq!(ledger.refusal(&with("GPU-2")), None);
        assert_eq!(ledger.refusal(&with("GPU-1")).as_deref(), Some("GPU GPU-1 is taken by task first"));
        ledger.release("second", &with("GPU-1"));
        assert!(ledger.refusal(&with("GPU-1")).is_some());
        ledger.release("first", &with("GPU-1"));
        assert_eq!(ledger.refusal(&with("GPU-1")), None);
    }

    #[test]
    fn a_task_level_limit_and_a_reservation_count_instead() {
        let mut limited = task(4000, 900, "bridge", &[]);
        limited.cpu = Some(0.5);
        limited.memory = Some(64);
        assert_eq!(Demand::of(&limited), Demand { cpu: 512, memory_mib: 64, ..Demand::default() });
        let mut reserved = task(0, 900, "bridge", &[]);
        reserved.containers[0].docker_config = Some(acs::DockerConfig {
            host_config: Some(r#"{"MemoryReservation":33554432}"#.to_owned()),
            ..acs::DockerConfig::default()
        });
        assert_eq!(Demand::of(&reserved).memory_mib, 32);
    }
}
