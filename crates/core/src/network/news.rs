//! What our agents are told of the network: which host has which addresses, and what security groups allow.
//!
//! It is told whole when a session opens, and in part when something changes. Whatever changes goes through the tables, which
//! note what of it matters to others ([`News`]); when the command is done, effects are made of that, ahead of all orders that
//! could need it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_agent_protocol::acs;

use super::config::{Direction, OtherEnd, Rule, Transport};
use super::{AddressBook, Host, Ipv4Range, SecurityGroup, Subnet, TASK_ENI};
use crate::cell::{Effect, NetworkNews, Turn};
use crate::entity::Instance;
use crate::ids::{InstanceKey, SessionId};
use crate::instance::AgentKind;
use crate::placement::pool::host_of;
use crate::read::ReadModel;

/// What changed of the network since it was last told.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    /// Hosts whose blocks or address are others.
    pub(crate) hosts: BTreeSet<Arc<str>>,
    /// Those of them that had no blocks: they were told of nobody.
    pub(crate) newcomers: BTreeSet<Arc<str>>,
    /// Groups that a rule names and that have other members.
    pub(crate) groups: BTreeSet<Arc<str>>,
    /// Groups that have tasks on a host on which they had none: its agents may not know them, or know what was true long ago.
    pub(crate) arrivals: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// What the snapshot has of a host with blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostNetwork {
    /// At which address other hosts reach it.
    pub(crate) address: Option<Ipv4Addr>,
    /// Its blocks.
    pub(crate) blocks: Vec<Ipv4Range>,
}

/// Whether an instance connects awsvpc tasks and understands what only our agents are told.
pub(crate) fn listens(instance: &Instance) -> bool {
    instance.attributes.contains_key(TASK_ENI) && AgentKind::of(instance) == AgentKind::Longshore
}

/// Tells an agent whose session has just opened everything.
pub(crate) fn welcome(turn: &mut Turn<'_>, instance: InstanceKey, session: SessionId, sequence: u64) {
    let Some(record) = turn.tables.view().instances.get(&instance).filter(|record| listens(record)) else { return };
    let news = everything(turn, &host_of(record));
    turn.effects.push(Effect::Network { instance, session, sequence, news });
}

/// All that a host is to know.
fn everything(turn: &Turn<'_>, host: &str) -> NetworkNews {
    let known = turn.tables.addresses().host(host);
    let groups = turn.tables.view().with_named(known.into_iter().flat_map(Host::groups));
    NetworkNews { complete: true, hosts: Vec::new(), groups }
}

/// Tells everybody whom it concerns what changed in this command, ahead of its other effects. All sessions of a host are told the
/// same under the same number, so that an agent of several instances may take each message from whichever session brings it
/// first, and ignore what the others bring later.
pub(crate) fn tell(turn: &mut Turn<'_>) {
    let News { hosts, newcomers, groups, arrivals } = turn.tables.take_news();
    let mut concerned = concerned(turn, &groups, &arrivals);
    if !hosts.is_empty() {
        // Who has no addresses has nobody to reach, and is told of all when it has some.
        for host in turn.tables.view().hosts.keys().chain(&hosts) {
            concerned.entry(host.clone()).or_default();
        }
    }
    // Who was told everything in this command knows this, too.
    let welcomed = |effect: &Effect| match effect {
        Effect::Network { instance, .. } => Some(*instance),
        _ => None,
    };
    let welcomed: BTreeSet<InstanceKey> = turn.effects.iter().filter_map(welcomed).collect();
    let mut told = Vec::new();
    for (host, groups) in &concerned {
        let Some(known) = turn.tables.addresses().host(host) else { continue };
        let news = match newcomers.contains(host) {
            true => everything(turn, host),
            false => NetworkNews {
                complete: false,
                hosts: hosts.iter().cloned().collect(),
                groups: groups.iter().cloned().collect(),
            },
        };
        for instance in known.instances().filter(|instance| !welcomed.contains(instance)) {
            let listens = turn.tables.view().instances.get(&instance).is_some_and(|record| listens(record));
            let session = turn.sessions.get(instance).filter(|_| listens);
            told.extend(session.map(|session| (instance, session, news.clone())));
        }
    }
    if !told.is_empty() {
        let sequence = turn.next_sequence();
        let effects =
            told.into_iter().map(|(instance, session, news)| Effect::Network { instance, session, sequence, news });
        turn.effects.splice(0..0, effects);
    }
}

/// Which groups are news to which hosts: those that arrived there, with those that their rules name, and those with other
/// members that a rule of a group there names.
fn concerned(
    turn: &Turn<'_>,
    groups: &BTreeSet<Arc<str>>,
    arrivals: &BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
    let view = turn.tables.view();
    let mut concerned: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
    for (host, arrived) in arrivals {
        concerned.entry(host.clone()).or_default().extend(view.with_named(arrived.iter()));
    }
    for group in groups {
        let naming = view.config.network.naming(group);
        for host in naming.flat_map(|naming| turn.tables.addresses().sites_of(&naming.id)) {
            concerned.entry(host.clone()).or_default().insert(group.clone());
        }
    }
    concerned
}

/// Whether the numbers of what each session is told of the network rise, from those that were given out before this command on:
/// an agent takes what has a lower number than the last that it obeyed for old news.
pub(crate) fn numbers_rise(effects: &[Effect], before: u64) -> bool {
    let mut last: BTreeMap<InstanceKey, u64> = BTreeMap::new();
    effects.iter().all(|effect| match effect {
        Effect::Network { instance, sequence, .. } => last.insert(*instance, *sequence).unwrap_or(before) < *sequence,
        _ => true,
    })
}

impl ReadModel {
    /// A subnet, configured or adopted.
    pub(crate) fn subnet(&self, id: &str) -> Option<Arc<Subnet>> {
        let configured = self.config.network.subnet(id).cloned();
        configured.or_else(|| self.subnets.get(id).cloned())
    }

    /// Whether a range lies in a subnet, configured or adopted.
    pub(crate) fn subnet_covers(&self, range: Ipv4Range) -> bool {
        let configured = self.config.network.subnets.iter().any(|subnet| subnet.range.covers(range));
        configured || self.subnets.values().any(|subnet| subnet.range.covers(range))
    }

    /// A security group, configured or adopted. The default one is always there.
    pub(crate) fn security_group(&self, id: &str) -> Option<Arc<SecurityGroup>> {
        let configured = self.config.network.group(id).cloned();
        let default = || (id == super::NetworkConfig::DEFAULT_GROUP).then(|| Arc::new(SecurityGroup::open(id)));
        configured.or_else(|| self.groups.get(id).cloned()).or_else(default)
    }

    /// The groups, and those that their rules name.
    fn with_named<'a>(&self, groups: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
        let mut all = BTreeSet::new();
        for id in groups {
            all.insert(id.clone());
            all.extend(self.security_group(id).iter().flat_map(|group| group.named().cloned()));
        }
        all.into_iter().collect()
    }

    /// News in the protocol's words.
    pub(crate) fn network_message(
        &self,
        instance: InstanceKey,
        timeline: i64,
        message_id: String,
        news: &NetworkNews,
    ) -> Option<acs::ServerMessage> {
        let cluster = self.cluster_names.get(&instance.cluster)?;
        let has_blocks =
            || self.instances.get(&instance).is_some_and(|instance| self.hosts.contains_key(&host_of(instance)));
        let peers = match news.complete {
            true if !has_blocks() => Vec::new(),
            true => self.hosts.iter().map(|(host, network)| peer(host, Some(network))).collect(),
            false => news.hosts.iter().map(|host| peer(host, self.hosts.get(host))).collect(),
        };
        Some(acs::ServerMessage::Network(acs::NetworkMessage {
            message_id,
            container_instance_arn: self.config.instance_arn(cluster, instance.id),
            timeline,
            complete: news.complete,
            ranges: self.config.network.ranges().iter().map(ToString::to_string).collect(),
            peers,
            groups: news.groups.iter().map(|id| self.group_message(id)).collect(),
        }))
    }

    /// A group that is not there any more allows nothing.
    fn group_message(&self, id: &Arc<str>) -> acs::SecurityGroup {
        let known = self.security_group(id);
        let members = match self.config.network.is_named(id) {
            true => self.members(id).map(|address| address.to_string()).collect(),
            false => Vec::new(),
        };
        acs::SecurityGroup {
            id: id.to_string(),
            rules: known.iter().flat_map(|group| &group.rules).map(rule).collect(),
            members,
        }
    }

    /// The addresses of the tasks of a group that a rule names.
    fn members(&self, id: &Arc<str>) -> impl Iterator<Item = Ipv4Addr> {
        let (first, last) = ((id.clone(), Ipv4Addr::UNSPECIFIED), (id.clone(), Ipv4Addr::BROADCAST));
        self.group_members.range(first..=last).map(|(_, address)| *address)
    }
}

/// What the snapshot has of a host; nothing if it has no blocks.
pub(crate) fn host_network(book: &AddressBook, host: &str) -> Option<HostNetwork> {
    let known = book.host(host).filter(|known| !known.blocks().is_empty())?;
    Some(HostNetwork { address: known.address(), blocks: book.ranges_of(host) })
}

fn peer(host: &Arc<str>, network: Option<&Arc<HostNetwork>>) -> acs::NetworkPeer {
    acs::NetworkPeer {
        host_id: host.to_string(),
        host_address: network.and_then(|network| network.address).map(|address| address.to_string()),
        blocks: network.iter().flat_map(|network| &network.blocks).map(ToString::to_string).collect(),
    }
}

fn rule(rule: &Rule) -> acs::SecurityGroupRule {
    let (range, group_id) = match &rule.other {
        OtherEnd::Range(range) => (Some(range.to_string()), None),
        OtherEnd::Group(id) => (None, Some(id.to_string())),
    };
    let direction = match rule.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let protocol = match rule.protocol {
        Transport::All => "-1",
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Icmp => "icmp",
    };
    acs::SecurityGroupRule {
        direction: direction.to_owned(),
        protocol: protocol.to_owned(),
        from_port: rule.ports.map(|(first, _)| i64::from(first)),
        to_port: rule.ports.map(|(_, last)| i64::from(last)),
        range,
        group_id,
    }
}
