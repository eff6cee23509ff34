//! The task network of the host that this process runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::address::{Mac, Range, Scope};
use super::netlink::{self, Cable, Link, Netlink};
use super::rules::{self, Filter, FilteredTask, Present};
use super::{GroupId, Interface, NetworkError, TaskNetworks, Topology, overlay, packet_filter};

/// What a task's interface is called in the task.
const TASK_INTERFACE: &str = "eth0";
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Does the work itself, with the rights of this process.
#[derive(Debug)]
pub(crate) struct HostNetwork {
    scope: Scope,
    host_id: String,
    wanted: Mutex<Wanted>,
    /// The revision that the kernel's rules have. Held while they are changed.
    in_force: tokio::sync::Mutex<u64>,
}

/// What is to be.
#[derive(Debug, Default)]
struct Wanted {
    /// Grows with every change.
    revision: u64,
    /// By device. None before it is known which tasks an earlier agent left: then rules stay as it left them, too.
    tasks: Option<BTreeMap<String, Interface>>,
    /// None before the control plane has said anything: then rules stay as an earlier agent left them.
    topology: Option<Topology>,
}

impl HostNetwork {
    /// The network of the host of that id; `agent` tells this agent from another one on the host.
    pub(crate) fn new(host_id: &str, agent: &str) -> Self {
        Self {
            scope: Scope::of(agent),
            host_id: host_id.to_owned(),
            wanted: Mutex::default(),
            in_force: tokio::sync::Mutex::new(0),
        }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // Nobody panics while he holds it, and what it holds is whole at any time.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is wanted, and makes the kernel's rules follow.
    async fn change(&self, change: impl FnOnce(&mut Wanted)) -> Result<(), NetworkError> {
        let revision = {
            let mut wanted = self.wanted();
            change(&mut wanted);
            wanted.revision += 1;
            wanted.revision
        };
        let mut in_force = self.in_force.lock().await;
        if *in_force >= revision {
            // Whoever held the lock before took this change along.
            return Ok(());
        }
        let (revision, filter) = {
            let wanted = self.wanted();
            match wanted.filter() {
                Some(filter) => (wanted.revision, filter),
                None => return Ok(()),
            }
        };
        if filter.peers.is_empty() {
            // Its guard goes with the rules: the overlay goes before, whoever made it.
            overlay::remove(&Netlink::new()?, &self.scope).await?;
        }
        let present = Present::read(&self.scope, &packet_filter::save().await?);
        let rules = rules::render(&self.scope, &filter, &present);
        if !rules.is_empty() {
            packet_filter::restore(&rules).await?;
        }
        *in_force = revision;
        Ok(())
    }

    fn alias(task_arn: &str) -> String {
        // The kernel takes 255 characters.
        format!("longshore {}", task_arn.chars().take(200).collect::<String>())
    }

    /// Removes the device if it is the task's.
    async fn remove_cable(netlink: &Netlink, device: &str, task_arn: &str) -> Result<(), NetworkError> {
        match netlink.link(device).await? {
            Some(link) if is_for(&link, &Self::alias(task_arn)) => netlink.remove(link.index).await,
            _ => Ok(()),
        }
    }

    /// Connects the task, whatever an earlier attempt left behind.
    async fn connect(&self, interface: &Interface, namespace: OwnedFd, mtu: u32) -> Result<(), NetworkError> {
        let netlink = Netlink::new()?;
        let device = self.scope.device(&interface.task_arn);
        let alias = Self::alias(&interface.task_arn);
        let found = netlink.link(&device).await?;
        if let Some(link) = found.as_ref().filter(|link| !is_for(link, &alias)) {
            return Err(NetworkError::Refused(format!(
                "device {device} is not this task's: it is for {:?}",
                link.alias
            )));
        }
        let whole = found.is_some() && task_end(&namespace).await?.is_some_and(|end| end.mac == Some(interface.mac));
        let index = match found {
            Some(link) if whole => link.index,
            found => {
                if let Some(link) = found {
                    netlink.remove(link.index).await?;
                }
                let cable = Cable {
                    name: &device,
                    mac: Mac::of_cable(interface.mac),
                    peer: (TASK_INTERFACE, interface.mac),
                    mtu,
                };
                netlink.add_cable(&cable, &namespace).await?;
                let gone = || NetworkError::Failed("the task's network namespace is gone".to_owned());
                netlink.link(&device).await?.ok_or_else(gone)?.index
            }
        };
        netlink.alias(index, &alias).await?;
        netlink::without_ipv6(&device)?;
        netlink.up(index).await?;
        let (address, gateway) = (interface.address, interface.gateway);
        let gateway_mac = Mac::of_cable(interface.mac);
        netlink::inside(namespace, move |netlink| async move {
            for (name, is_own) in [("lo", false), (TASK_INTERFACE, true)] {
                let missing = || NetworkError::Failed(format!("the task's network namespace has no {name}"));
                let index = netlink.link(name).await?.ok_or_else(missing)?.index;
                netlink.up(index).await?;
                if is_own {
                    netlink.address(index, address, 32).await?;
                    netlink.neighbour(index, gateway, gateway_mac).await?;
                    netlink.route(Range::only(gateway), index).await?;
                    netlink.route_by(Range::everything(), gateway, index, Some(address)).await?;
                }
            }
            Ok(())
        })
        .await?;
        netlink.neighbour(index, address, interface.mac).await?;
        self.claim(&netlink, Range::only(address), index).await
    }

    /// Routes the address to the device, unless it is somebody else's. A task of ours may have had it until a moment ago.
    async fn claim(&self, netlink: &Netlink, address: Range, index: u32) -> Result<(), NetworkError> {
        let links = netlink.links().await?;
        for (to, device, _) in netlink.routes().await? {
            let other = links.iter().find(|link| Some(link.index) == device && link.index != index);
            if let Some(other) =
                other.filter(|link| to == address && !link.name.starts_with(&self.scope.device_prefix()))
            {
                return Err(NetworkError::Refused(format!("{address} is routed to {} already", other.name)));
            }
        }
        netlink.route(address, index).await
    }
}

impl Wanted {
    /// What the rules depend on; none where nothing is known that rules could be made of.
    fn filter(&self) -> Option<Filter> {
        let tasks = self.tasks.as_ref()?;
        let Some(topology) = &self.topology else {
            // Without tasks nothing has to be known: an earlier agent's rules go.
            return tasks.is_empty().then(Filter::default);
        };
        let task =
            |interface: &Interface| FilteredTask { address: interface.address, groups: interface.groups.clone() };
        Some(Filter {
            tasks: tasks.iter().map(|(device, interface)| (device.clone(), task(interface))).collect(),
            groups: topology.groups.clone(),
            ranges: topology.ranges.clone(),
            peers: overlay::Plan::of(topology).map(|plan| plan.peers()).unwrap_or_default(),
        })
    }
}

impl TaskNetworks for HostNetwork {
    async fn self_test(&self) -> Result<(), NetworkError> {
        let netlink = Netlink::new()?;
        let (near, far) =
            (format!("{}self", self.scope.device_prefix()), format!("{}peer", self.scope.device_prefix()));
        let tunnel = format!("{}t", self.scope.overlay());
        for name in [&near, &tunnel] {
            if let Some(link) = netlink.link(name).await? {
                netlink.remove(link.index).await?;
            }
        }
        let mac = Mac::of_host("self test");
        let cable = Cable { name: &near, mac, peer: (&far, Mac::of_cable(mac)), mtu: 1280 };
        netlink.add_cable(&cable, &own_namespace()?).await?;
        let overlay = netlink::Overlay {
            name: &tunnel,
            vni: self.scope.trial_vni(),
            port: rules::OVERLAY_PORT,
            local: Ipv4Addr::LOCALHOST,
            mac,
            mtu: 1280,
        };
        let added = netlink.add_overlay(&overlay).await;
        for name in [&near, &tunnel] {
            if let Some(link) = netlink.link(name).await? {
                netlink.remove(link.index).await?;
            }
        }
        added?;
        netlink::inside(own_namespace()?, |_| async { Ok(()) }).await?;
        packet_filter::save().await?;
        packet_filter::test(&rules::render(&self.scope, &Filter::specimen(), &Present::default())).await
    }

    async fn restore(&self, interfaces: Vec<Interface>) -> Result<(), NetworkError> {
        let tasks: BTreeMap<String, Interface> =
            interfaces.into_iter().map(|interface| (self.scope.device(&interface.task_arn), interface)).collect();
        let devices: BTreeSet<String> = tasks.keys().cloned().collect();
        // Before anything that may fail: their rules go only with them.
        self.wanted().tasks = Some(tasks);
        let netlink = Netlink::new()?;
        let prefix = self.scope.device_prefix();
        for Link { index, name, .. } in netlink.links().await?.into_iter().filter(|link| link.name.starts_with(&prefix))
        {
            if devices.contains(&name) {
                netlink::without_ipv6(&name)?;
            } else {
                netlink.remove(index).await?;
            }
        }
        self.change(|_| ()).await
    }

    async fn attach(&self, interface: Interface, pid: u32) -> Result<(), NetworkError> {
        let (ranges, underlay) = self.told_about(&interface)?;
        let netlink = Netlink::new()?;
        self.check_ranges(&netlink, &ranges).await?;
        let namespace = namespace_of(pid)?;
        forward_packets()?;
        let mtu = overlay::task_mtu(&netlink, underlay).await?;
        let device = self.scope.device(&interface.task_arn);
        // The rules first: there is no moment without them.
        let task = interface.clone();
        self.change(move |wanted| {
            if let Some(tasks) = &mut wanted.tasks {
                tasks.insert(device, task);
            }
        })
        .await?;
        self.connect(&interface, namespace, mtu).await
    }

    async fn detach(&self, task_arn: &str) -> Result<(), NetworkError> {
        let device = self.scope.device(task_arn);
        Self::remove_cable(&Netlink::new()?, &device, task_arn).await?;
        self.change(|wanted| {
            if let Some(tasks) = &mut wanted.tasks {
                tasks.remove(&device);
            }
        })
        .await
    }

    async fn set_topology(&self, topology: Topology) -> Result<(), NetworkError> {
        let plan = overlay::Plan::of(&topology);
        self.change(|wanted| wanted.topology = Some(topology)).await?;
        match plan {
            // Rules are made only of what is known.
            Some(_) if self.wanted().tasks.is_none() => Ok(()),
            Some(plan) => overlay::reconcile(&Netlink::new()?, &self.scope, &self.host_id, &plan).await,
            None => Ok(()),
        }
    }
}

impl HostNetwork {
    /// Whether the kernel still has the rules that it was given: whoever loads a firewall anew throws them away.
    pub(crate) async fn rules_stand(&self) -> Result<bool, NetworkError> {
        let in_force = self.in_force.lock().await;
        let filter = {
            let wanted = self.wanted();
            // What is not in force yet is about to be.
            wanted.filter().filter(|_| wanted.revision == *in_force)
        };
        match filter {
            Some(filter) if filter != Filter::default() => {
                let present = Present::read(&self.scope, &packet_filter::save().await?);
                Ok(rules::stand(&self.scope, &filter, &present))
            }
            _ => Ok(true),
        }
    }

    /// What the control plane has said that the task needs: all ranges, and this host's address outside of them.
    fn told_about(&self, interface: &Interface) -> Result<(BTreeSet<Range>, Option<Ipv4Addr>), NetworkError> {
        let wanted = self.wanted();
        if wanted.tasks.is_none() {
            return Err(NetworkError::Failed("this agent does not do the network of awsvpc tasks".to_owned()));
        }
        let silent = || NetworkError::NotYet("the control plane has not described the task network yet".to_owned());
        let topology = wanted.topology.as_ref().ok_or_else(silent)?;
        let unknown = |group: &&GroupId| !topology.groups.contains_key(*group);
        if let Some(GroupId(group)) = interface.groups.iter().find(unknown) {
            return Err(NetworkError::NotYet(format!(
                "the control plane has not described security group {group} yet"
            )));
        }
        Ok((topology.ranges.clone(), topology.own.as_ref().and_then(|own| own.underlay)))
    }

    /// A network that the host is in itself would be cut off.
    async fn check_ranges(&self, netlink: &Netlink, ranges: &BTreeSet<Range>) -> Result<(), NetworkError> {
        let links = netlink.links().await?;
        let ours = self.scope.overlay();
        for (index, network, _) in netlink.addresses().await? {
            let name = links.iter().find(|link| link.index == index).map_or("?", |link| link.name.as_str());
            if let Some(range) = ranges.iter().find(|range| range.overlaps(network)).filter(|_| name != ours) {
                return Err(NetworkError::Refused(format!(
                    "give the server another range for its subnets: {range} has addresses of {network}, which this host \
                     is in by {name}"
                )));
            }
        }
        Ok(())
    }
}

/// Whether the device is for that; one that says nothing is ours and was just made.
fn is_for(link: &Link, alias: &str) -> bool {
    link.alias.is_empty() || link.alias == alias
}

/// The task's end of its cable.
async fn task_end(namespace: &OwnedFd) -> Result<Option<Link>, NetworkError> {
    let namespace = namespace.try_clone().map_err(|error| NetworkError::Failed(error.to_string()))?;
    netlink::inside(namespace, |netlink| async move { netlink.link(TASK_INTERFACE).await }).await
}

fn own_namespace() -> Result<OwnedFd, NetworkError> {
    open(OWN_NAMESPACE)
}

/// The network namespace of a process: never this one, whose number a process that has ended may have had.
fn namespace_of(pid: u32) -> Result<OwnedFd, NetworkError> {
    let path = format!("/proc/{pid}/ns/net");
    let unreadable = |error: std::io::Error| NetworkError::Failed(format!("{path}: {error}"));
    let namespace = open(&path)?;
    let file = fs::File::from(namespace);
    let (theirs, ours) = (file.metadata().map_err(unreadable)?, fs::metadata(OWN_NAMESPACE).map_err(unreadable)?);
    if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
        return Err(NetworkError::Failed(format!("process {pid} has no network namespace of its own")));
    }
    Ok(file.into())
}

fn open(path: &str) -> Result<OwnedFd, NetworkError> {
    let file = fs::File::open(path).map_err(|error| NetworkError::Failed(format!("{path}: {error}")))?;
    Ok(file.into())
}

/// A host that has tasks with addresses of their own is a router.
fn forward_packets() -> Result<(), NetworkError> {
    let unusable = |error| NetworkError::Failed(format!("{IP_FORWARD}: {error}"));
    if fs::read_to_string(IP_FORWARD).map_err(unusable)?.trim() == "1" {
        return Ok(());
    }
    fs::write(IP_FORWARD, "1").map_err(unusable)
}
