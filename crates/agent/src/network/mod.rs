//! The network of awsvpc tasks on this host.
//!
//! Each task has a network namespace of its own, which its pause container holds, and in it one interface with the address
//! and hardware address that the control plane chose. It is one end of a virtual cable; the other end is a device of the host's.
//! There is no bridge: the host routes to each task's address, and a task sends everything to its gateway, which is the host
//! (both know each other's hardware address, so nobody asks). So all traffic of tasks is routed, and there is one place to
//! decide about it: [`rules`]. Tasks of other hosts are reached through one VXLAN device, whose table of hosts is
//! filled from what the control plane says ([`overlay`]); nothing is learned and nothing flooded.
//!
//! All of it is the kernel's once it is set up: an agent that is killed leaves traffic flowing, and one that starts anew
//! finds its devices by their names.
//!
//! [`TaskNetworks`] is all that the rest of the agent knows. What it takes is plain data, so that another process with the
//! rights for it may do the work. It must not know Docker, tasks' definitions or the control plane.

mod address;
mod host;
mod netlink;
mod overlay;
mod packet_filter;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

pub(crate) use address::{Mac, Range, host_in_range};
pub(crate) use host::HostNetwork;

/// Before the second try to take over, and the third: whoever else changes packet rules as a machine starts may be done by then.
const TAKE_OVER_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// The id of a security group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct GroupId(pub(crate) String);

/// The interface of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interface {
    /// Whose it is; devices are named after it.
    pub(crate) task_arn: String,
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// Its hardware address.
    pub(crate) mac: Mac,
    /// Where it sends everything.
    pub(crate) gateway: Ipv4Addr,
    /// The security groups it wears.
    pub(crate) groups: BTreeSet<GroupId>,
}

/// What the control plane says about the task network. Always the whole of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Topology {
    /// All ranges from which tasks have addresses, on whatever host.
    pub(crate) ranges: BTreeSet<Range>,
    /// This host.
    pub(crate) own: Option<Place>,
    /// The other hosts, by their ids.
    pub(crate) peers: BTreeMap<String, Place>,
    /// Groups that tasks of this host wear, and those that their rules name.
    pub(crate) groups: BTreeMap<GroupId, Group>,
}

/// Where a host is, and which tasks it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its address outside the task network; none if other hosts cannot reach it.
    pub(crate) underlay: Option<Ipv4Addr>,
    /// Its tasks have addresses from these. The first address of each is the host's own.
    pub(crate) blocks: BTreeSet<Range>,
}

/// A security group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// What its tasks may be sent.
    pub(crate) ingress: Vec<Rule>,
    /// What its tasks may send.
    pub(crate) egress: Vec<Rule>,
    /// Addresses of its tasks, on whatever host.
    pub(crate) members: BTreeSet<Ipv4Addr>,
}

/// Something that a group allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Which packets.
    pub(crate) protocol: Protocol,
    /// From or to these addresses …
    pub(crate) ranges: BTreeSet<Range>,
    /// … or the tasks of these groups.
    pub(crate) groups: BTreeSet<GroupId>,
}

/// The packets that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// All.
    All,
    /// TCP to these ports, first and last.
    Tcp((u16, u16)),
    /// UDP to these ports, first and last.
    Udp((u16, u16)),
    /// ICMP, of this type and code.
    Icmp(Option<(u8, Option<u8>)>),
    /// Another protocol, by its number.
    Number(u8),
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// It would not work later either.
    #[error("{0}")]
    Refused(String),
    /// It may work later.
    #[error("{0}")]
    Failed(String),
    /// The control plane has not said yet what it takes.
    #[error("{0}")]
    NotYet(String),
}

/// Makes and removes networks of tasks on this host. Doing anything twice is harmless.
pub(crate) trait TaskNetworks: Send + Sync + 'static {
    /// Whether this host has what it takes: the rights, the programs, the kernel. Leaves nothing behind.
    fn self_test(&self) -> impl Future<Output = Result<(), NetworkError>> + Send;

    /// These tasks have interfaces already; whatever else an earlier agent left behind goes. Comes first: until then no task
    /// is connected, and the rules of none taken away. A failure leaves nothing forgotten.
    fn restore(&self, interfaces: Vec<Interface>) -> impl Future<Output = Result<(), NetworkError>> + Send;

    /// Gives the network namespace of process `pid` its interface.
    fn attach(&self, interface: Interface, pid: u32) -> impl Future<Output = Result<(), NetworkError>> + Send;

    /// Takes away a task's interface, if it has one.
    fn detach(&self, task_arn: &str) -> impl Future<Output = Result<(), NetworkError>> + Send;

    /// The task network is this now. Said again, it puts right what others may have changed.
    fn set_topology(&self, topology: Topology) -> impl Future<Output = Result<(), NetworkError>> + Send;
}

/// Takes over the networks of an earlier agent's tasks, and tries whether there can be more if that is `offered`.
pub(crate) async fn take_over(
    networks: &impl TaskNetworks,
    existing: Vec<Interface>,
    offered: bool,
) -> Result<(), NetworkError> {
    let mut pauses = TAKE_OVER_PAUSES.iter();
    loop {
        let outcome = match networks.restore(existing.clone()).await {
            Ok(()) if offered => networks.self_test().await,
            restored => restored,
        };
        match (outcome, pauses.next()) {
            (Err(NetworkError::Failed(_)), Some(pause)) => sleep(*pause).await,
            (outcome, _) => return outcome,
        }
    }
}
