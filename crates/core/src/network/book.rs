//! Which host has which addresses, and which of them tasks hold. Private to the writer, derived from blocks, instances and tasks,
//! in whatever order they come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_agent_protocol::acs;

use super::{Block, Ipv4Range, NetworkRequest, Subnet};
use crate::entity::{Instance, Task};
use crate::entropy::Entropy;
use crate::ids::{InstanceKey, TaskKey};
use crate::instance::InstanceStatus;
use crate::placement::Refusal;
use crate::placement::pool::host_of;

/// The attribute in which an instance has its zone.
const ZONE: &str = "ecs.availability-zone";

/// The addresses of all hosts and tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressBook {
    /// By where they begin; no two meet.
    blocks: BTreeMap<Ipv4Addr, Arc<Block>>,
    hosts: BTreeMap<Arc<str>, Host>,
    /// The hosts that have blocks and no instances.
    vacant: BTreeSet<Arc<str>>,
    held: BTreeMap<Ipv4Addr, Holding>,
}

/// A host, as far as other hosts and its own tasks are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its instances in service, each with the address at which it says the host is reached.
    instances: BTreeMap<InstanceKey, Option<Ipv4Addr>>,
    /// Where its blocks begin.
    blocks: BTreeSet<Ipv4Addr>,
}

/// A task that holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holding {
    task: TaskKey,
    /// Its security groups.
    groups: Vec<Arc<str>>,
}

/// Where a task's address would come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// The subnet.
    pub(crate) subnet: Arc<Subnet>,
    /// The range that has a free address.
    pub(crate) range: Ipv4Range,
    /// Whether the host is to be given that range first.
    pub(crate) is_new: bool,
}

impl Room {
    /// Whether a task can have an address of it: the first one of a block is the host's own in the network of tasks.
    fn offers(&self, address: Ipv4Addr) -> bool {
        address != self.range.first() && self.subnet.offers(address)
    }
}

impl Host {
    /// The address at which other hosts reach it: of several that its instances say, the newest one's.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.instances.values().rev().find_map(|address| *address)
    }

    /// Where its blocks begin.
    pub(crate) fn blocks(&self) -> &BTreeSet<Ipv4Addr> {
        &self.blocks
    }
}

impl AddressBook {
    /// A block came or went; answers its host.
    pub(crate) fn block_changed(&mut self, old: Option<&Arc<Block>>, new: Option<&Arc<Block>>) {
        if let Some(old) = old {
            self.blocks.remove(&old.range.first());
            self.host_changed(&old.host, |host| {
                host.blocks.remove(&old.range.first());
            });
        }
        if let Some(new) = new {
            self.blocks.insert(new.range.first(), new.clone());
            self.host_changed(&new.host, |host| {
                host.blocks.insert(new.range.first());
            });
        }
    }

    /// An instance came, changed, or went.
    pub(crate) fn instance_changed(&mut self, old: Option<&Arc<Instance>>, new: Option<&Arc<Instance>>) {
        let in_service = |instance: &&Arc<Instance>| instance.status != InstanceStatus::Inactive;
        let of = |instance: &Arc<Instance>| (host_of(instance), said_address(instance));
        let (before, after) = (old.filter(in_service).map(of), new.filter(in_service).map(of));
        let Some(key) = new.or(old).map(|instance| instance.key) else { return };
        if before == after {
            return;
        }
        if let Some((host, _)) = before {
            self.host_changed(&host, |host| {
                host.instances.remove(&key);
            });
        }
        if let Some((host, address)) = after {
            self.host_changed(&host, |host| {
                host.instances.insert(key, address);
            });
        }
    }

    /// A task came, changed, or went.
    pub(crate) fn task_changed(&mut self, old: Option<&Task>, new: Option<&Task>) {
        if let Some(address) = old.and_then(Task::address) {
            self.held.remove(&address);
        }
        if let Some((address, task)) = new.and_then(|new| Some((new.address()?, new))) {
            let groups = task.network.iter().flat_map(|network| network.groups.iter().cloned()).collect();
            self.held.insert(address, Holding { task: task.key, groups });
        }
    }

    /// Changes what is known of a host, and forgets one of which nothing is known.
    fn host_changed(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Host)) {
        let host = self.hosts.entry(name.clone()).or_default();
        change(host);
        match host.instances.is_empty() && !host.blocks.is_empty() {
            true => self.vacant.insert(name.clone()),
            false => self.vacant.remove(name),
        };
        if *host == Host::default() {
            self.hosts.remove(name);
        }
    }

    /// The block that begins at an address.
    pub(crate) fn block(&self, first: Ipv4Addr) -> Option<&Arc<Block>> {
        self.blocks.get(&first)
    }

    /// One host.
    pub(crate) fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.get(name)
    }

    /// The blocks of a host.
    pub(crate) fn ranges_of(&self, host: &str) -> Vec<Ipv4Range> {
        let blocks = self.hosts.get(host).into_iter().flat_map(|host| &host.blocks);
        blocks.filter_map(|first| self.blocks.get(first)).map(|block| block.range).collect()
    }

    /// Every block, in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.values()
    }

    /// How many addresses tasks hold.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The security groups of the tasks of a host.
    pub(crate) fn groups_of(&self, host: &str) -> BTreeSet<Arc<str>> {
        let blocks = self.hosts.get(host).into_iter().flat_map(|host| &host.blocks);
        let ranges = blocks.filter_map(|first| self.blocks.get(first)).map(|block| block.range);
        let holdings = ranges.flat_map(|range| self.held.range(range.first()..=range.last()));
        holdings.flat_map(|(_, holding)| holding.groups.iter().cloned()).collect()
    }

    /// Blocks of hosts without instances, of which no task holds an address: nobody will ever need them.
    pub(crate) fn idle(&self) -> impl Iterator<Item = &Arc<Block>> {
        let hosts = self.vacant.iter().filter_map(|host| self.hosts.get(host));
        let blocks = hosts.flat_map(|host| &host.blocks).filter_map(|first| self.blocks.get(first));
        blocks.filter(|block| self.held.range(block.range.first()..=block.range.last()).next().is_none())
    }

    /// Where a task on an instance could have its address, in the order in which the subnets were named.
    ///
    /// # Errors
    /// Why it could have none.
    pub(crate) fn room(&self, instance: &Instance, request: &NetworkRequest) -> Result<Room, Refusal> {
        let zone = zone(instance);
        let here = |subnet: &&Arc<Subnet>| subnet.zone.as_deref().is_none_or(|wanted| wanted == zone);
        let mut subnets = request.subnets.iter().filter(here).peekable();
        if subnets.peek().is_none() {
            return Err(Refusal::Zone { zone: zone.to_owned() });
        }
        let host = host_of(instance);
        subnets.find_map(|subnet| self.room_in(&host, subnet, request.block_prefix)).ok_or(Refusal::Addresses)
    }

    fn room_in(&self, host: &str, subnet: &Arc<Subnet>, block_prefix: u8) -> Option<Room> {
        let own = self.hosts.get(host).into_iter().flat_map(|host| &host.blocks);
        let mut own = own.filter_map(|first| self.blocks.get(first)).filter(|block| subnet.range.covers(block.range));
        if let Some(block) = own.find(|block| self.has_free(subnet, block.range)) {
            return Some(Room { subnet: subnet.clone(), range: block.range, is_new: false });
        }
        let before = self.blocks.range(..subnet.range.first()).next_back();
        let taken = before.into_iter().chain(self.blocks.range(subnet.range.first()..=subnet.range.last()));
        let range = subnet.range.gap(block_prefix, taken.map(|(_, block)| block.range))?;
        Some(Room { subnet: subnet.clone(), range, is_new: true })
    }

    fn has_free(&self, subnet: &Subnet, range: Ipv4Range) -> bool {
        let held =
            self.held.range(range.first()..=range.last()).filter(|(address, _)| subnet.offers(**address)).count();
        let kept =
            BTreeSet::from([range.first(), subnet.range.first(), super::gateway(subnet.range), subnet.range.last()]);
        let kept = kept.into_iter().filter(|kept| range.has(*kept)).count();
        ((held + kept) as u64) < range.size()
    }

    /// A free address, drawn at random: one that was given back a moment ago is in the memory of who spoke with its last task.
    pub(crate) fn draw(&self, room: &Room, entropy: &mut Entropy) -> Option<Ipv4Addr> {
        let size = usize::try_from(room.range.size()).unwrap_or(usize::MAX);
        let start = entropy.below(size);
        let at = |offset: usize| Ipv4Addr::from_bits(room.range.first().to_bits().wrapping_add(offset as u32));
        let mut all = (start..size).chain(0..start).map(at);
        all.find(|address| room.offers(*address) && !self.held.contains_key(address))
    }

    /// Whether every address that is held lies in a block, and no two blocks meet.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut end: Option<&Arc<Block>> = None;
        for block in self.blocks.values() {
            if let Some(last) = end.replace(block).filter(|last| last.range.meets(block.range)) {
                return Err(format!("the blocks {} and {} overlap", last.range, block.range));
            }
        }
        let block_of = |address: Ipv4Addr| self.blocks.range(..=address).next_back().map(|(_, block)| block);
        let outside = |address: &&Ipv4Addr| block_of(**address).is_none_or(|block| !block.range.has(**address));
        match self.held.keys().find(outside) {
            Some(address) => Err(format!("{address} is held and in no block")),
            None => Ok(()),
        }
    }
}

/// The zone that an instance is in, as far as its agent says.
pub(crate) fn zone(instance: &Instance) -> &str {
    instance.attributes.get(ZONE).and_then(|zone| zone.as_deref()).unwrap_or_default()
}

/// The address at which the agent of an instance says its host is reached.
fn said_address(instance: &Instance) -> Option<Ipv4Addr> {
    instance.attributes.get(acs::HOST_ADDRESS).and_then(|said| said.as_deref())?.parse().ok()
}
