//! The machine, and what its instances offer of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use longshore_wire::request_id::RequestId;

use super::RegisterError;
use crate::config::AgentConfig;
use crate::engine::HostResources;
use crate::gpu::Gpus;

/// What the machine is, read once.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) cpus: u64,
    pub(crate) memory_mib: u64,
    /// Instances with the same id share ports.
    pub(crate) id: String,
    /// SELinux is on.
    pub(crate) selinux: bool,
    /// AppArmor is on.
    pub(crate) apparmor: bool,
    /// Tasks can be bounded by cgroups.
    pub(crate) task_limits: bool,
    /// The Engine's.
    pub(crate) volume_drivers: Vec<String>,
    /// It can give tasks networks of their own; other hosts reach it at this address, if they do.
    pub(crate) task_network: Option<TaskNetworkOffer>,
    /// Those that tasks can have; its instances share them.
    pub(crate) gpus: Gpus,
}

/// What a host with a task network says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskNetworkOffer {
    /// Where other hosts reach this one.
    pub(crate) address: Option<Ipv4Addr>,
}

impl Host {
    /// Reads the machine; its id is, in this order, the configured one, the one saved, the machine's, a new one.
    pub(crate) fn read(configured_id: Option<&str>, saved_id: Option<&str>) -> Result<Self, RegisterError> {
        let meminfo = std::fs::read_to_string("/proc/meminfo")
            .map_err(|source| RegisterError::Host { what: "/proc/meminfo", source })?;
        let cpus = std::thread::available_parallelism()
            .map_err(|source| RegisterError::Host { what: "the number of CPUs", source })?;
        let id = configured_id
            .or(saved_id)
            .map(str::to_owned)
            .or_else(|| machine_id(Path::new("/etc/machine-id")))
            .unwrap_or_else(|| RequestId::random().to_string().replace('-', ""));
        Ok(Self {
            cpus: cpus.get() as u64,
            memory_mib: mem_total_mib(&meminfo),
            id,
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            apparmor: std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            task_limits: false,
            volume_drivers: Vec::new(),
            task_network: None,
            gpus: Gpus::default(),
        })
    }

    /// What instance `index` has for tasks: what was set for it, else an equal share.
    pub(crate) fn share(&self, config: &AgentConfig, index: u32) -> Result<HostResources, RegisterError> {
        let instances = u64::from(config.instances);
        let (cpu, memory_mib) = (self.cpu(), self.memory_for_tasks(config));
        if memory_mib / instances == 0 {
            return Err(RegisterError::NoMemory {
                total_mib: self.memory_mib,
                reserved_mib: config.reserved_memory_mib,
                instances: config.instances,
            });
        }
        // One that offers more than there is would take tasks that can never be as large as they ask to be.
        let within = |variable, set: Option<&u32>, available: u64, unit| match set {
            None => Ok(available / instances),
            Some(offered) if u64::from(*offered) > available => {
                Err(RegisterError::TooLarge { variable, index, offered: u64::from(*offered), available, unit })
            }
            Some(offered) => Ok(u64::from(*offered)),
        };
        let cpu = within("LONGSHORE_CPU", config.sizes.cpu.get(index), cpu, "CPU units")?;
        let memory_unit = "MiB of memory for tasks (ECS_RESERVED_MEMORY not counted)";
        let memory_mib = within("LONGSHORE_MEMORY", config.sizes.memory_mib.get(index), memory_mib, memory_unit)?;
        Ok(HostResources {
            cpu: i64::try_from(cpu).unwrap_or(i64::MAX),
            memory_mib: i64::try_from(memory_mib).unwrap_or(i64::MAX),
            reserved_ports: config.reserved_ports.clone(),
            reserved_ports_udp: config.reserved_ports_udp.clone(),
            gpus: self.gpus.ids.clone(),
        })
    }

    /// What each of the machine's instances offers, and a warning if it is more than there is: that is allowed, for
    /// simulating a fleet.
    pub(crate) fn shares(&self, config: &AgentConfig) -> Result<(Vec<HostResources>, Option<String>), RegisterError> {
        let shares: Vec<HostResources> =
            (0..config.instances).map(|index| self.share(config, index)).collect::<Result<_, _>>()?;
        let sum = |of: fn(&HostResources) -> i64| {
            shares.iter().map(|share| u64::try_from(of(share)).unwrap_or(0)).fold(0, u64::saturating_add)
        };
        let (cpu, memory_mib) = (sum(|share| share.cpu), sum(|share| share.memory_mib));
        let more = cpu > self.cpu() || memory_mib > self.memory_for_tasks(config);
        let warning = more.then(|| {
            format!(
                "the instances together offer {cpu} CPU units and {memory_mib} MiB, but this machine has {} and {}: tasks may get less than they ask for (LONGSHORE_CPU, LONGSHORE_MEMORY)",
                self.cpu(),
                self.memory_for_tasks(config)
            )
        });
        Ok((shares, warning))
    }

    /// In CPU units.
    const fn cpu(&self) -> u64 {
        self.cpus * 1024
    }

    const fn memory_for_tasks(&self, config: &AgentConfig) -> u64 {
        self.memory_mib.saturating_sub(config.reserved_memory_mib)
    }
}

/// Where other hosts reach this one: what was set, else the address with which it speaks to its server, else to the world.
pub(crate) async fn host_address(config: &AgentConfig) -> Option<Ipv4Addr> {
    /// An address of nobody (RFC 5737): nothing is sent there, it only asks for a route.
    const OUTSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 9);
    if config.host_address.is_some() {
        return config.host_address;
    }
    let server = addresses(&config.backend_host).await;
    server.into_iter().chain([OUTSIDE]).filter_map(source_address).find(|address| !address.is_loopback())
}

async fn addresses(url: &str) -> Vec<SocketAddr> {
    let uri: http::Uri = url.parse().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(443);
    match uri.host() {
        Some(host) => tokio::net::lookup_host((host, port)).await.map(Iterator::collect).unwrap_or_default(),
        None => Vec::new(),
    }
}

/// The address that a packet to there would come from.
fn source_address(to: SocketAddr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(to).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => Some(address),
        _ => None,
    }
}

fn machine_id(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    (!id.is_empty() && id != "uninitialized").then(|| id.to_owned())
}

fn mem_total_mib(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, host};
    use super::*;

    fn sizes(env: &[(&str, &str)]) -> (Vec<(i64, i64)>, Option<String>) {
        let (shares, warning) = host().shares(&config(env)).unwrap();
        (shares.iter().map(|share| (share.cpu, share.memory_mib)).collect(), warning)
    }

    #[test]
    fn instances_share_the_machine_equally() {
        let (sizes, warning) = sizes(&[("LONGSHORE_INSTANCES", "3"), ("ECS_RESERVED_MEMORY", "100")]);
        assert_eq!(sizes, [(682, 300); 3]);
        assert_eq!(warning, None);
    }

    #[test]
    fn instances_may_be_of_mixed_sizes() {
        let (mixed, warning) = sizes(&[("LONGSHORE_INSTANCES", "2"), ("LONGSHORE_CPU", "256, 1024")]);
        assert_eq!(mixed, [(256, 500), (1024, 500)]);
        assert_eq!(warning, None);
        let (large, warning) = sizes(&[("LONGSHORE_INSTANCES", "3"), ("LONGSHORE_MEMORY", "1000")]);
        assert_eq!(large, [(682, 1000); 3]);
        assert!(warning.unwrap().contains("3000 MiB, but this machine has 2048 and 1000"));
    }

    #[test]
    fn one_instance_cannot_be_larger_than_the_machine() {
        for (variable, value, figures) in [("LONGSHORE_CPU", "2049", "2048"), ("LONGSHORE_MEMORY", "901", "900")] {
            let config = config(&[(variable, value), ("ECS_RESERVED_MEMORY", "100")]);
            let error = host().shares(&config).unwrap_err();
            let text = error.to_string();
            assert!(error.is_terminal() && text.contains(value) && text.contains(figures), "{text}");
        }
    }

    #[test]
    fn reserving_everything_is_refused() {
        let error = host().shares(&config(&[("ECS_RESERVED_MEMORY", "1000")])).unwrap_err();
        assert!(error.is_terminal());
        assert!(error.to_string().contains("ECS_RESERVED_MEMORY is 1000"));
    }

    #[test]
    fn memory_is_read_in_whole_mib() {
        assert_eq!(mem_total_mib("MemFree: 1 kB\nMemTotal:       24684300 kB\n"), 24105);
        assert_eq!(mem_total_mib(""), 0);
    }
}
