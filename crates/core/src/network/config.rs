//! Subnets and security groups as an operator configures them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ipv4Range, is_for_tasks};
use crate::limits;

/// The networks of awsvpc tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Where subnets are cut from that nobody configured: the default one, and those that are adopted.
    pub range: Ipv4Range,
    /// The configured subnets, none of which meets another.
    pub subnets: Vec<Arc<Subnet>>,
    /// The configured security groups.
    pub groups: Vec<Arc<SecurityGroup>>,
    /// Whether unknown ids of subnets and security groups are made true when they are first used.
    pub adopt: bool,
    /// The name servers of tasks; those of their host when there are none.
    pub dns: Vec<Ipv4Addr>,
    /// The prefix of the blocks that hosts are given; of small subnets it is longer.
    pub block_prefix: u8,
}

/// A subnet. One that was adopted is durable; written when its id is first used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id, `subnet-…`.
    pub id: Arc<str>,
    /// Its addresses.
    pub range: Ipv4Range,
    /// The availability zone of the instances that it is for; without one it is for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
}

/// A security group. One that was adopted is durable; written when its id is first used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Its id, `sg-…`.
    pub id: Arc<str>,
    /// What it allows; nothing else is.
    pub rules: Vec<Rule>,
}

/// What a security group allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which way.
    pub direction: Direction,
    /// Of which protocol.
    pub protocol: Transport,
    /// To which ports, the last included; `None` is every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    /// From or to whom.
    pub other: OtherEnd,
}

/// Which way a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the task.
    Ingress,
    /// By the task.
    Egress,
}

/// A protocol over IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Each of them.
    All,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
}

/// Who a task speaks with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherEnd {
    /// Everybody in a range.
    Range(Ipv4Range),
    /// The tasks of a security group.
    Group(Arc<str>),
}

/// A setting of the network that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSetting(String);

impl Default for NetworkConfig {
    /// One subnet of 65,536 addresses for everybody, in a range that neither Docker nor home networks take by default; the rest
    /// of the range is for subnets that are adopted.
    fn default() -> Self {
        let range = Ipv4Range::new(Ipv4Addr::new(10, 212, 0, 0), 14).unwrap_or_else(|_| Ipv4Range::everywhere());
        Self::within(range)
    }
}

impl NetworkConfig {
    /// The id of the subnet that there is when none is configured.
    pub const DEFAULT_SUBNET: &str = "subnet-00000000";
    /// The id of the security group of tasks that name none. It allows everything, unless it is configured.
    pub const DEFAULT_GROUP: &str = "sg-00000000";

    /// What there is when only the range is configured: its first quarter is the default subnet.
    pub fn within(range: Ipv4Range) -> Self {
        let first = range.gap(range.prefix().saturating_add(2).min(limits::LONGEST_SUBNET_PREFIX), std::iter::empty());
        let default = Subnet { id: Self::DEFAULT_SUBNET.into(), range: first.unwrap_or(range), zone: None };
        Self {
            range,
            subnets: vec![Arc::new(default)],
            groups: Vec::new(),
            adopt: false,
            dns: Vec::new(),
            block_prefix: limits::BLOCK_PREFIX,
        }
    }

    /// Whether it can be obeyed.
    ///
    /// # Errors
    /// What contradicts what.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        for range in self.subnets.iter().map(|subnet| subnet.range).chain([self.range]) {
            if !limits::SUBNET_PREFIXES.contains(&range.prefix()) {
                let (shortest, longest) = (limits::SUBNET_PREFIXES.start(), limits::SUBNET_PREFIXES.end());
                return Err(InvalidSetting(format!("{range} must have a prefix from /{shortest} to /{longest}")));
            }
        }
        for (index, subnet) in self.subnets.iter().enumerate() {
            if let Some(other) = self.subnets[..index].iter().find(|other| other.range.meets(subnet.range)) {
                return Err(InvalidSetting(format!("the subnets {} and {} overlap", other.id, subnet.id)));
            }
        }
        let mut ids = BTreeSet::new();
        let all = self.subnets.iter().map(|subnet| &subnet.id).chain(self.groups.iter().map(|group| &group.id));
        if let Some(twice) = all.into_iter().find(|id| !ids.insert(*id)) {
            return Err(InvalidSetting(format!("{twice} is configured twice")));
        }
        let known = |id: &Arc<str>| **id == *Self::DEFAULT_GROUP || ids.contains(id);
        match self.groups.iter().flat_map(|group| group.named()).find(|id| !self.adopt && !known(id)) {
            Some(id) => Err(InvalidSetting(format!("a rule names the security group {id}, which is not configured"))),
            None => Ok(()),
        }
    }

    /// The prefix of the blocks that hosts are given of a subnet: of a small one they are small, so that many hosts have one.
    pub(crate) fn block_prefix_in(&self, subnet: Ipv4Range) -> u8 {
        let small = subnet.prefix().saturating_add(limits::SUBNET_BLOCK_BITS);
        self.block_prefix.max(small.min(limits::LONGEST_BLOCK_PREFIX))
    }

    /// A subnet that is configured.
    pub fn subnet(&self, id: &str) -> Option<&Arc<Subnet>> {
        self.subnets.iter().find(|subnet| &*subnet.id == id)
    }

    /// A group that is configured.
    pub fn group(&self, id: &str) -> Option<&Arc<SecurityGroup>> {
        self.groups.iter().find(|group| &*group.id == id)
    }

    /// Whether a rule of a configured group names the group: then its members matter. Adopted groups name none.
    pub(crate) fn is_named(&self, id: &str) -> bool {
        self.naming(id).next().is_some()
    }

    /// The configured groups of which a rule names the group.
    pub(crate) fn naming(&self, id: &str) -> impl Iterator<Item = &Arc<SecurityGroup>> {
        self.groups.iter().filter(move |group| group.named().any(|named| &**named == id))
    }

    /// Every range that tasks have addresses of.
    pub(crate) fn ranges(&self) -> Vec<Ipv4Range> {
        let others = self.subnets.iter().map(|subnet| subnet.range).filter(|range| !self.range.covers(*range));
        std::iter::once(self.range).chain(others).collect()
    }
}

impl Subnet {
    /// Whether a task can have the address.
    pub(crate) fn offers(&self, address: Ipv4Addr) -> bool {
        is_for_tasks(self.range, address)
    }
}

impl SecurityGroup {
    /// A group that allows everything.
    pub(crate) fn open(id: &str) -> Self {
        let rule = |direction| Rule {
            direction,
            protocol: Transport::All,
            ports: None,
            other: OtherEnd::Range(Ipv4Range::everywhere()),
        };
        Self { id: id.into(), rules: vec![rule(Direction::Ingress), rule(Direction::Egress)] }
    }

    /// The groups that its rules name.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.iter().filter_map(|rule| match &rule.other {
            OtherEnd::Group(id) => Some(id),
            OtherEnd::Range(_) => None,
        })
    }
}

/// Whether it is an id as EC2 makes them, or as people invent them.
pub(super) fn is_id(kind: &str, text: &str) -> bool {
    let end = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    (1..=limits::NETWORK_ID).contains(&end.len())
        && end.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl FromStr for Subnet {
    type Err = InvalidSetting;

    /// `subnet-ID=RANGE` or `subnet-ID=RANGE@ZONE`.
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let wrong = || {
            InvalidSetting(format!(
                "{text:?} is no subnet: write subnet-ID=RANGE or subnet-ID=RANGE@ZONE, such as subnet-a=10.1.0.0/16"
            ))
        };
        let (id, rest) = text.split_once('=').filter(|(id, _)| is_id("subnet", id)).ok_or_else(wrong)?;
        let (range, zone) = match rest.split_once('@') {
            Some((range, zone)) if !zone.is_empty() => (range, Some(zone.into())),
            Some(_) => return Err(wrong()),
            None => (rest, None),
        };
        Ok(Self { id: id.into(), range: range.parse().map_err(|_| wrong())?, zone })
    }
}

impl FromStr for SecurityGroup {
    type Err = InvalidSetting;

    /// `sg-ID=RULE,RULE`, a rule being `in|out all|icmp|tcp|udp [PORT[-PORT]] RANGE|sg-ID`. As with a new group of EC2, tasks may
    /// connect to everywhere unless a rule says `out`.
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let wrong = || {
            InvalidSetting(format!(
                "{text:?} is no security group: write sg-ID=RULE,RULE, such as sg-web=in tcp 80 0.0.0.0/0"
            ))
        };
        let (id, rest) = text.split_once('=').filter(|(id, _)| is_id("sg", id)).ok_or_else(wrong)?;
        let rules = rest.split(',').map(str::trim).filter(|rule| !rule.is_empty());
        let mut rules = rules.map(str::parse).collect::<Result<Vec<Rule>, _>>()?;
        if rules.iter().all(|rule| rule.direction == Direction::Ingress) {
            rules.extend(Self::open(id).rules.into_iter().filter(|rule| rule.direction == Direction::Egress));
        }
        Ok(Self { id: id.into(), rules })
    }
}

impl FromStr for Rule {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let wrong = || {
            InvalidSetting(format!(
                "{text:?} is no rule: write in|out all|icmp|tcp|udp [PORT[-PORT]] RANGE|sg-ID, such as in tcp 80-81 10.0.0.0/8"
            ))
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (direction, protocol, ports, other) = match *words {
            [direction, protocol, ports, other] => (direction, protocol, Some(ports), other),
            [direction, protocol, other] => (direction, protocol, None, other),
            _ => return Err(wrong()),
        };
        let direction = match direction {
            "in" => Direction::Ingress,
            "out" => Direction::Egress,
            _ => return Err(wrong()),
        };
        let protocol = match (protocol, ports) {
            ("tcp", _) => Transport::Tcp,
            ("udp", _) => Transport::Udp,
            ("icmp", None) => Transport::Icmp,
            ("all", None) => Transport::All,
            _ => return Err(wrong()),
        };
        let ports = match ports {
            None => None,
            Some(ports) => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let (first, last): (u16, u16) =
                    (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
                Some((first, last)).filter(|_| first <= last).map(Some).ok_or_else(wrong)?
            }
        };
        let other = match is_id("sg", other) {
            true => OtherEnd::Group(other.into()),
            false => OtherEnd::Range(other.parse().map_err(|_| wrong())?),
        };
        Ok(Self { direction, protocol, ports, other })
    }
}

impl std::fmt::Display for Rule {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let direction = match self.direction {
            Direction::Ingress => "in",
            Direction::Egress => "out",
        };
        let protocol = match self.protocol {
            Transport::All => "all",
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Icmp => "icmp",
        };
        write!(f, "{direction} {protocol} ")?;
        match self.ports {
            Some((first, last)) if first == last => write!(f, "{first} ")?,
            Some((first, last)) => write!(f, "{first}-{last} ")?,
            None => {}
        }
        match &self.other {
            OtherEnd::Range(range) => write!(f, "{range}"),
            OtherEnd::Group(id) => f.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read() {
        let subnet: Subnet = "subnet-0a=10.1.0.0/16@eu-central-1b".parse().expect("a subnet");
        assert_eq!(
            (&*subnet.id, subnet.range.to_string(), subnet.zone.as_deref()),
            ("subnet-0a", "10.1.0.0/16".to_owned(), Some("eu-central-1b"))
        );
        for text in [
            "",
            "subnet-0a",
            "10.1.0.0/16",
            "sg-1=10.1.0.0/16",
            "subnet-=10.1.0.0/16",
            "subnet-A=10.1.0.0/16",
            "subnet-a=10.1.0.1/16",
            "subnet-a=10.1.0.0/16@",
        ] {
            let error = text.parse::<Subnet>().expect_err(text).to_string();
            assert!(error.contains("subnet-ID=RANGE"), "{error}");
        }
    }

    #[test]
    fn groups_are_read_and_let_out_what_nobody_keeps_in() {
        let shown = |text: &str| {
            let group: SecurityGroup = text.parse().unwrap_or_else(|error| panic!("{error}"));
            group.rules.iter().map(Rule::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            shown("sg-web=in tcp 80-81 0.0.0.0/0, in all sg-web"),
            ["in tcp 80-81 0.0.0.0/0", "in all sg-web", "out all 0.0.0.0/0"]
        );
        assert_eq!(shown("sg-db=out udp 53 10.0.0.2/32"), ["out udp 53 10.0.0.2/32"]);
        assert_eq!(shown("sg-shut="), ["out all 0.0.0.0/0"]);
        for text in [
            "in tcp",
            "in tcp 0.0.0.0",
            "up all 0.0.0.0/0",
            "in all 80 0.0.0.0/0",
            "in tcp 81-80 0.0.0.0/0",
            "in sctp 0.0.0.0/0",
            "in tcp 70000 sg-1",
        ] {
            let error = format!("sg-1={text}").parse::<SecurityGroup>().expect_err(text).to_string();
            assert!(error.contains("in|out"), "{error}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let subnet = |text: &str| text.parse::<Subnet>().expect("a subnet");
        let group = |text: &str| text.parse::<SecurityGroup>().expect("a group");
        let check = |subnets: &[&str], groups: &[&str]| {
            let subnets = subnets.iter().map(|text| Arc::new(subnet(text)));
            let groups = groups.iter().map(|text| Arc::new(group(text)));
            let config =
                NetworkConfig { subnets: subnets.collect(), groups: groups.collect(), ..NetworkConfig::default() };
            config.check().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(NetworkConfig::default().check(), Ok(()));
        assert_eq!(
            check(&["subnet-a=10.1.0.0/16", "subnet-b=10.2.0.0/16"], &["sg-a=in all sg-00000000, in all sg-a"]),
            ""
        );
        assert!(check(&["subnet-a=10.1.0.0/16", "subnet-b=10.1.2.0/24"], &[]).contains("overlap"));
        assert!(check(&["subnet-a=10.1.0.0/16", "subnet-a=10.2.0.0/16"], &[]).contains("twice"));
        assert!(check(&["subnet-a=10.1.0.0/29"], &[]).contains("/28"));
        assert!(check(&[], &["sg-a=in all sg-b"]).contains("sg-b"));
    }
}
