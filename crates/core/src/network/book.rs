//! Which host has which addresses, and which of them tasks hold. Private to the writer, derived from blocks, instances and tasks,
//! in whatever order they come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_agent_protocol::acs;

use super::request::Asked;
use super::{Block, Ipv4Range, NetworkRequest, Subnet};
use crate::entity::{Instance, Task};
use crate::entropy::Entropy;
use crate::ids::{InstanceKey, TaskKey};
use crate::instance::InstanceStatus;
use crate::placement::Refusal;
use crate::placement::pool::host_of;
use crate::read::ReadModel;

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
    /// Where the blocks begin of which no task holds an address.
    unused: BTreeSet<Ipv4Addr>,
    /// Security groups, each with the hosts that have tasks in it.
    sites: BTreeSet<(Arc<str>, Arc<str>)>,
}

/// A host, as far as other hosts and its own tasks are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its instances in service.
    instances: BTreeMap<InstanceKey, Resident>,
    /// Where its blocks begin.
    blocks: BTreeSet<Ipv4Addr>,
    /// The security groups of its tasks, and how many of them are in each.
    groups: BTreeMap<Arc<str>, usize>,
}

/// An instance in service, as its host knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resident {
    /// The key that registered it.
    principal: Arc<str>,
    /// The address at which it says the host is reached.
    address: Option<Ipv4Addr>,
    /// Whether it was given up.
    lost: bool,
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

impl Resident {
    fn of(instance: &Instance) -> Self {
        let lost = instance.lost_at.is_some();
        Self { principal: instance.principal.clone(), address: said_address(instance), lost }
    }
}

impl Host {
    /// Its oldest instance that was not given up: the key that registered it has the host, and nobody else speaks for it.
    pub(crate) fn holder(&self) -> Option<InstanceKey> {
        self.oldest(|resident| !resident.lost)
    }

    /// The address at which other hosts reach it. Any agent may say any host's name and any address: only those of the key that
    /// has the host are heard, of several the newest.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        let holder = &self.instances.get(&self.holder().or_else(|| self.oldest(|_| true))?)?.principal;
        let own = self.instances.iter().filter(|(_, resident)| resident.principal == *holder);
        own.max_by_key(|(key, resident)| (resident.address.is_some(), key.id))?.1.address
    }

    /// Ids begin with the time of registration, keys with the cluster.
    fn oldest(&self, which: impl Fn(&Resident) -> bool) -> Option<InstanceKey> {
        let among = self.instances.iter().filter(|(_, resident)| which(resident)).map(|(key, _)| *key);
        among.min_by_key(|key| key.id)
    }

    /// Where its blocks begin.
    pub(crate) fn blocks(&self) -> &BTreeSet<Ipv4Addr> {
        &self.blocks
    }

    /// Its instances in service.
    pub(crate) fn instances(&self) -> impl Iterator<Item = InstanceKey> {
        self.instances.keys().copied()
    }

    /// The security groups of its tasks.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }
}

impl AddressBook {
    /// The book as a snapshot has it, for whoever asks now and then: looks at every task. Which instances a host has is left out.
    pub(crate) fn of(view: &ReadModel) -> Self {
        let mut book = Self::default();
        for (host, network) in &view.hosts {
            for range in &network.blocks {
                book.block_changed(
                    None,
                    Some(&Arc::new(Block { range: *range, subnet: "".into(), host: host.clone() })),
                );
            }
        }
        view.tasks.values().for_each(|task| drop(book.task_changed(None, Some(task))));
        book
    }

    /// How many tasks the subnets still have addresses for, at most.
    pub(crate) fn left(&self, request: &NetworkRequest) -> i64 {
        let left = |asked: &Asked| {
            let range = asked.subnet.range;
            let blocks = self.blocks.range(range.first()..=range.last()).count();
            let held = self.held.range(range.first()..=range.last()).count();
            // The first one of a block is the host's; of the subnet the first, the gateway and the last are kept, too.
            i64::try_from(range.size()).unwrap_or(i64::MAX) - (held + blocks.max(1) + 2) as i64
        };
        request.subnets.iter().map(left).filter(|left| *left > 0).sum()
    }

    /// A block came or went; answers its host.
    pub(crate) fn block_changed(&mut self, old: Option<&Arc<Block>>, new: Option<&Arc<Block>>) {
        if let Some(old) = old {
            self.groups_within(old.range).iter().for_each(|group| self.count(group, &old.host, false));
            self.blocks.remove(&old.range.first());
            self.unused.remove(&old.range.first());
            self.host_changed(&old.host, |host| {
                host.blocks.remove(&old.range.first());
            });
        }
        if let Some(new) = new {
            self.blocks.insert(new.range.first(), new.clone());
            self.host_changed(&new.host, |host| {
                host.blocks.insert(new.range.first());
            });
            self.groups_within(new.range).iter().for_each(|group| self.count(group, &new.host, true));
            self.look_for_use(new.range);
        }
    }

    /// An instance came, changed, or went.
    pub(crate) fn instance_changed(&mut self, old: Option<&Arc<Instance>>, new: Option<&Arc<Instance>>) {
        let in_service = |instance: &&Arc<Instance>| instance.status != InstanceStatus::Inactive;
        let of = |instance: &Arc<Instance>| (host_of(instance), Resident::of(instance));
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
        if let Some((host, resident)) = after {
            self.host_changed(&host, |host| {
                host.instances.insert(key, resident);
            });
        }
    }

    /// A task came, changed, or went; answers the host on which it holds an address now, and which of its groups no other task
    /// there is in.
    pub(crate) fn task_changed(&mut self, old: Option<&Task>, new: Option<&Task>) -> Option<(Arc<str>, Vec<Arc<str>>)> {
        if let Some(address) = old.and_then(Task::address) {
            let groups = self.held.remove(&address).map(|holding| holding.groups).unwrap_or_default();
            if let Some(block) = self.block_of(address).cloned() {
                groups.iter().for_each(|group| self.count(group, &block.host, false));
                self.look_for_use(block.range);
            }
        }
        let (address, task) = new.and_then(|new| Some((new.address()?, new)))?;
        let groups: Vec<Arc<str>> = task.network.iter().flat_map(|network| network.groups.iter().cloned()).collect();
        self.held.insert(address, Holding { task: task.key, groups: groups.clone() });
        let block = self.block_of(address)?;
        let (host, first) = (block.host.clone(), block.range.first());
        self.unused.remove(&first);
        let is_first = |group: &Arc<str>| !self.sites.contains(&(group.clone(), host.clone()));
        let first = groups.iter().filter(|group| is_first(group)).cloned().collect();
        groups.iter().for_each(|group| self.count(group, &host, true));
        Some((host, first))
    }

    /// The block in which an address lies.
    fn block_of(&self, address: Ipv4Addr) -> Option<&Arc<Block>> {
        let (_, block) = self.blocks.range(..=address).next_back()?;
        Some(block).filter(|block| block.range.has(address))
    }

    /// Notes whether a task holds an address of a block.
    fn look_for_use(&mut self, block: Ipv4Range) {
        if self.held.range(block.first()..=block.last()).next().is_none() {
            self.unused.insert(block.first());
        }
    }

    /// The groups of the tasks that hold addresses of a range, each as often as it has such tasks.
    fn groups_within(&self, range: Ipv4Range) -> Vec<Arc<str>> {
        let held = self.held.range(range.first()..=range.last());
        held.flat_map(|(_, holding)| holding.groups.iter().cloned()).collect()
    }

    /// A host has one task more or less in a group.
    fn count(&mut self, group: &Arc<str>, host: &Arc<str>, joins: bool) {
        let mut left = 0;
        self.host_changed(host, |host| {
            let count = host.groups.entry(group.clone()).or_default();
            *count = if joins { *count + 1 } else { count.saturating_sub(1) };
            left = *count;
            host.groups.retain(|_, count| *count > 0);
        });
        let site = (group.clone(), host.clone());
        match left {
            0 => self.sites.remove(&site),
            _ => self.sites.insert(site),
        };
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

    /// The hosts that have tasks in a security group.
    pub(crate) fn sites_of(&self, group: &Arc<str>) -> impl Iterator<Item = &Arc<str>> {
        let of_it = self.sites.range((group.clone(), Arc::from(""))..).take_while(move |(other, _)| other == group);
        of_it.map(|(_, host)| host)
    }

    /// Blocks of hosts without instances, of which no task holds an address: nobody will ever need them.
    pub(crate) fn idle(&self) -> impl Iterator<Item = &Arc<Block>> {
        let hosts = self.vacant.iter().filter_map(|host| self.hosts.get(host));
        let unused = hosts.flat_map(|host| &host.blocks).filter(|first| self.unused.contains(first));
        unused.filter_map(|first| self.blocks.get(first))
    }

    /// Where a task on an instance could have its address, in the order in which the subnets were named.
    ///
    /// # Errors
    /// Why it could have none.
    pub(crate) fn room(&self, instance: &Instance, request: &NetworkRequest) -> Result<Room, Refusal> {
        let zone = zone(instance);
        let here = |asked: &&Asked| asked.subnet.zone.as_deref().is_none_or(|wanted| wanted == zone);
        let mut subnets = request.subnets.iter().filter(here).peekable();
        if subnets.peek().is_none() {
            return Err(Refusal::Zone { zone: zone.to_owned() });
        }
        let host = host_of(instance);
        subnets.find_map(|asked| self.room_in(&host, asked)).ok_or(Refusal::Addresses)
    }

    fn room_in(&self, host: &str, asked: &Asked) -> Option<Room> {
        let subnet = &asked.subnet;
        let own = self.hosts.get(host).into_iter().flat_map(|host| &host.blocks);
        let mut own = own.filter_map(|first| self.blocks.get(first)).filter(|block| subnet.range.covers(block.range));
        if let Some(block) = own.find(|block| self.has_free(subnet, block.range)) {
            return Some(Room { subnet: subnet.clone(), range: block.range, is_new: false });
        }
        let opening = || self.opening(subnet.range, asked.block_prefix);
        // Where there was none, none came up since; where there was one, the last copy may have taken it.
        let first = (*asked.opening.get_or_init(opening))?;
        let range = if self.is_open(first) { first } else { opening()? };
        Some(Room { subnet: subnet.clone(), range, is_new: true })
    }

    /// A range of a subnet for a host that needs one, whichever it is: one that nobody has, else a block of which no task holds an
    /// address. Looks at every block of the subnet.
    fn opening(&self, subnet: Ipv4Range, block_prefix: u8) -> Option<Ipv4Range> {
        let before = self.blocks.range(..subnet.first()).next_back();
        let taken = before.into_iter().chain(self.blocks.range(subnet.first()..=subnet.last()));
        let unused = || {
            let unused = self.unused.range(subnet.first()..=subnet.last()).filter_map(|first| self.blocks.get(first));
            unused.map(|block| block.range).find(|range| subnet.covers(*range))
        };
        subnet.gap(block_prefix, taken.map(|(_, block)| block.range)).or_else(unused)
    }

    /// Whether a range is one that nobody has, or a block of which no task holds an address.
    fn is_open(&self, range: Ipv4Range) -> bool {
        match self.blocks.get(&range.first()) {
            Some(block) => block.range == range && self.unused.contains(&range.first()),
            None => {
                self.block_of(range.first()).is_none()
                    && self.blocks.range(range.first()..=range.last()).next().is_none()
            }
        }
    }

    fn has_free(&self, subnet: &Subnet, range: Ipv4Range) -> bool {
        let held =
            self.held.range(range.first()..=range.last()).filter(|(address, _)| subnet.offers(**address)).count();
        let mut kept = [range.first(), subnet.range.first(), super::gateway(subnet.range), subnet.range.last()];
        kept.sort_unstable();
        let repeated = |index: usize| index > 0 && kept[index] == kept[index - 1];
        let kept = (0..kept.len()).filter(|index| range.has(kept[*index]) && !repeated(*index)).count();
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
        let outside = |address: &&Ipv4Addr| self.block_of(**address).is_none();
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
