//! The overlay: the way to tasks of other hosts.
//!
//! One VXLAN device per host. Everything that it would otherwise learn or ask for is told by the control plane: each peer's
//! hardware address follows from its host id, which host of the underlay it is behind, and a route leads to each of its blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use rtnetlink::packet_route::AddressFamily;

use super::address::{Mac, Range, Scope};
use super::netlink::{self, Netlink};
use super::rules::OVERLAY_PORT;
use super::{NetworkError, Topology};

/// The overlay's number, the same on all hosts. Who runs two control planes on the same hosts separates them by machines.
pub(super) const VNI: u32 = 0x4c_53;
/// What VXLAN over IPv4 adds to a packet: Ethernet, IP, UDP and its own header.
const OVERHEAD: u32 = 50;
/// What every machine's network carries. One that carries more may have peers that do not.
const USUAL_MTU: u32 = 1500;

/// What this host's end of the overlay looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The host's address outside the task network.
    local: Ipv4Addr,
    /// The host's own address in it.
    own: Ipv4Addr,
    /// The other hosts, by the hardware address of their end.
    peers: BTreeMap<Mac, Peer>,
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    underlay: Ipv4Addr,
    /// Its own address in the task network.
    own: Ipv4Addr,
    blocks: BTreeSet<Range>,
}

impl Plan {
    /// None where this host has no tasks, or cannot be reached, or no other host has tasks.
    pub(super) fn of(topology: &Topology) -> Option<Self> {
        let own = topology.own.as_ref()?;
        let peers: BTreeMap<Mac, Peer> = topology
            .peers
            .iter()
            .filter_map(|(id, place)| {
                let peer = Peer {
                    underlay: place.underlay?,
                    own: place.blocks.first()?.first(),
                    blocks: place.blocks.clone(),
                };
                Some((Mac::of_host(id), peer))
            })
            .collect();
        if peers.is_empty() {
            return None;
        }
        Some(Self { local: own.underlay?, own: own.blocks.first()?.first(), peers })
    }

    /// Underlay addresses and blocks of the other hosts.
    pub(super) fn peers(&self) -> BTreeMap<Ipv4Addr, BTreeSet<Range>> {
        let mut all: BTreeMap<Ipv4Addr, BTreeSet<Range>> = BTreeMap::new();
        for peer in self.peers.values() {
            all.entry(peer.underlay).or_default().extend(peer.blocks.iter().copied());
        }
        all
    }
}

/// How large the packets of tasks may be, so that they fit into the overlay's, whether a task needs it or not: the same on every
/// host whose network carries what is usual, since what one sends another must be able to take.
pub(super) async fn task_mtu(netlink: &Netlink, underlay: Option<Ipv4Addr>) -> Result<u32, NetworkError> {
    let by_address = match underlay {
        None => None,
        Some(underlay) => {
            netlink.addresses().await?.into_iter().find(|(_, _, local)| *local == underlay).map(|(index, ..)| index)
        }
    };
    let index = match by_address {
        Some(index) => Some(index),
        None => netlink.routes().await?.into_iter().find(|(to, ..)| to.is_everything()).and_then(|(_, index, _)| index),
    };
    let links = netlink.links().await?;
    let outer = links.iter().find(|link| Some(link.index) == index).map_or(USUAL_MTU, |link| link.mtu);
    Ok(outer.min(USUAL_MTU).saturating_sub(OVERHEAD))
}

/// Removes the kernel's overlay, if there is one.
pub(super) async fn remove(netlink: &Netlink, scope: &Scope) -> Result<(), NetworkError> {
    match netlink.link(&scope.overlay()).await? {
        Some(link) => netlink.remove(link.index).await,
        None => Ok(()),
    }
}

/// Makes the kernel's overlay what the plan says.
pub(super) async fn reconcile(
    netlink: &Netlink,
    scope: &Scope,
    host_id: &str,
    plan: &Plan,
) -> Result<(), NetworkError> {
    let name = scope.overlay();
    let found = netlink.link(&name).await?;
    let mtu = task_mtu(netlink, Some(plan.local)).await?;
    let mac = Mac::of_host(host_id);
    let alias = format!("longshore overlay {VNI} from {} port {OVERLAY_PORT}", plan.local);
    let index = match found {
        Some(link) if link.alias == alias && link.mac == Some(mac) && link.mtu == mtu => link.index,
        found => {
            if let Some(link) = found {
                netlink.remove(link.index).await?;
            }
            let overlay = netlink::Overlay { name: &name, vni: VNI, port: OVERLAY_PORT, local: plan.local, mac, mtu };
            netlink.add_overlay(&overlay).await?;
            let gone = || NetworkError::Failed("the overlay's device is gone as soon as it was made".to_owned());
            netlink.link(&name).await?.ok_or_else(gone)?.index
        }
    };
    netlink.alias(index, &alias).await?;
    netlink::without_ipv6(&name)?;
    netlink.up(index).await?;
    own_address(netlink, index, plan.own).await?;
    hosts(netlink, index, plan).await?;
    routes(netlink, index, plan).await
}

async fn own_address(netlink: &Netlink, index: u32, own: Ipv4Addr) -> Result<(), NetworkError> {
    netlink.address(index, own, 32).await?;
    for (device, range, address) in netlink.addresses().await? {
        if device == index && address != own {
            netlink.remove_address(index, address, range.prefix()).await?;
        }
    }
    Ok(())
}

/// Who is behind which address.
async fn hosts(netlink: &Netlink, index: u32, plan: &Plan) -> Result<(), NetworkError> {
    for (mac, peer) in &plan.peers {
        netlink.forward(index, *mac, peer.underlay).await?;
        netlink.neighbour(index, peer.own, *mac).await?;
    }
    for ((_, mac), entry) in netlink.neighbours(index, AddressFamily::Bridge).await? {
        if !mac.is_some_and(|mac| plan.peers.contains_key(&mac)) {
            netlink.remove_neighbour(entry).await?;
        }
    }
    for ((address, mac), entry) in netlink.neighbours(index, AddressFamily::Inet).await? {
        let peer = mac.and_then(|mac| plan.peers.get(&mac));
        if peer.map(|peer| peer.own) != address {
            netlink.remove_neighbour(entry).await?;
        }
    }
    Ok(())
}

async fn routes(netlink: &Netlink, index: u32, plan: &Plan) -> Result<(), NetworkError> {
    let mut wanted = BTreeSet::new();
    for peer in plan.peers.values() {
        for block in &peer.blocks {
            netlink.route_by(*block, peer.own, index, Some(plan.own)).await?;
            wanted.insert(*block);
        }
    }
    for (to, device, route) in netlink.routes().await? {
        if device == Some(index) && !wanted.contains(&to) {
            netlink.remove_route(route).await?;
        }
    }
    Ok(())
}
