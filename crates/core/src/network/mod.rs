//! The network of awsvpc tasks: subnets, the blocks of addresses that hosts have of them, the address of each task, and security
//! groups (DESIGN §4).
//!
//! A **subnet** is a range of addresses, and perhaps a zone. A host is given **blocks** of a subnet when tasks are first placed
//! there: durable, so that a route to a block is a route to its host for as long as a task may be there. A task's address is out of a
//! block of its host, and held, as its ports are, until its agent says STOPPED ([`book`] derives all that from the records).
//! **Security groups** are sets of rules that agents enforce.
//!
//! Subnets and groups come from the configuration. An id that is not there is refused, or adopted, which makes a record of it
//! ([`request`]). What agents are told is derived from the snapshot ([`news`]).

mod book;
mod config;
mod describe;
mod news;
mod range;
mod request;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use book::{AddressBook, Host, Room, zone};
pub use config::{Direction, InvalidSetting, NetworkConfig, OtherEnd, Rule, SecurityGroup, Subnet, Transport};
pub(crate) use describe::{attachments, describe, interfaces};
pub(crate) use news::{HostNetwork, News, host_network, numbers_rise, tell, welcome};
pub use range::{InvalidRange, Ipv4Range};
pub(crate) use request::{NetworkRequest, requested};

use crate::cell::Turn;
use crate::entity::{Entity, EntityKey};
use crate::ids::{InstanceKey, TaskId};
use crate::names;
use crate::placement::Refusal;
use crate::placement::pool::host_of;
use crate::tables::Tables;

/// The capability by which instances offer to connect awsvpc tasks.
pub(crate) const TASK_ENI: &str = "ecs.capability.task-eni";

/// A block of a subnet's addresses that a host has for its tasks. Durable; written when a task is placed on a host that has no
/// free address of the subnet, given to another host when that needs one, none is left and no task holds an address of it, and
/// removed when the host has neither instances nor tasks any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The addresses. No two blocks meet.
    pub range: Ipv4Range,
    /// The subnet it was cut from.
    pub subnet: Arc<str>,
    /// The host, as [`host_of`](crate::placement::pool::host_of) names it.
    pub host: Arc<str>,
}

/// How a task is connected. Durable, as a part of the task; written when it is placed. It says what agents need, whatever
/// becomes of the subnet in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskNetwork {
    /// The subnet.
    pub subnet: Arc<str>,
    /// The subnet's addresses when the task was placed.
    pub range: Ipv4Range,
    /// Its own.
    pub address: Ipv4Addr,
    /// Its security groups.
    pub groups: Vec<Arc<str>>,
}

impl TaskNetwork {
    /// The subnet's gateway: no machine, the task's host answers for it.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        gateway(self.range)
    }

    /// The hardware address: unique because the address is, and locally administered.
    pub(crate) fn mac(&self) -> String {
        let [a, b, c, d] = self.address.octets();
        format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }

    /// The name that EC2 would give the address.
    pub(crate) fn dns_name(&self, region: &str) -> String {
        let [a, b, c, d] = self.address.octets();
        let domain = match region {
            "us-east-1" => "ec2.internal".to_owned(),
            region => format!("{region}.compute.internal"),
        };
        format!("ip-{a}-{b}-{c}-{d}.{domain}")
    }
}

/// Gives a task on an instance an address, and its host a block first if it needs one.
///
/// # Errors
/// When there is none.
pub(crate) fn connect(
    turn: &mut Turn<'_>,
    instance: InstanceKey,
    request: &NetworkRequest,
) -> Result<Arc<TaskNetwork>, Refusal> {
    let record = turn.tables.view().instances.get(&instance).ok_or(Refusal::Inactive)?;
    let host = host_of(record);
    let room = turn.tables.addresses().room(record, request)?;
    let Room { subnet, range, is_new } = &room;
    if *is_new {
        let block = Block { range: *range, subnet: subnet.id.clone(), host };
        turn.tables.put(Entity::Block(Arc::new(block)));
    }
    let address = turn.tables.addresses().draw(&room, &mut turn.entropy).ok_or(Refusal::Addresses)?;
    let groups = request.groups.clone();
    Ok(Arc::new(TaskNetwork { subnet: subnet.id.clone(), range: subnet.range, address, groups }))
}

/// Takes back the blocks of hosts that are gone.
pub(crate) fn expire(turn: &mut Turn<'_>) {
    while turn.has_room() {
        let idle = turn.tables.addresses().idle().next().map(|block| block.range.first());
        let Some(first) = idle else { break };
        turn.tables.remove(&EntityKey::Block(first));
    }
}

/// When the next block is to be taken back: at once.
pub(crate) fn next_due(tables: &Tables) -> Option<Timestamp> {
    tables.addresses().idle().next().map(|_| Timestamp::from_millis(0))
}

/// The id of a task's interface: derived, so that nothing has to be kept.
pub(crate) fn interface_id(task: TaskId) -> String {
    format!("eni-{:017x}", names::mix(task.0 ^ INTERFACE) >> 60)
}

/// The id at the end of the ARN of a task's attachment: derived, so that nothing has to be kept.
pub(crate) fn attachment_id(task: TaskId) -> String {
    names::uuid(names::mix(task.0 ^ ATTACHMENT))
}

/// What tells the ids that are derived from one task apart. Containers use its small numbers.
const INTERFACE: u128 = 1 << 64;
const ATTACHMENT: u128 = 2 << 64;

/// The subnet's second address, as in a VPC.
fn gateway(subnet: Ipv4Range) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.first().to_bits().saturating_add(1))
}

/// Whether tasks can have an address of a subnet: all but its first, the gateway and the last.
fn is_for_tasks(subnet: Ipv4Range, address: Ipv4Addr) -> bool {
    subnet.has(address) && address != subnet.first() && address != gateway(subnet) && address != subnet.last()
}
