//! The task network as the control plane describes it, and the task that makes this host's part of it so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longshore_agent_protocol::acs;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::network::{Group, GroupId, HostNetwork, Place, Protocol, Range, Rule, TaskNetworks, Topology};

/// How often rules, routes and hosts are put right although nothing was heard: others change a host's rules, too.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often to look whether rules are still there: without them tasks are open to everybody.
const RULES_EVERY: Duration = Duration::from_secs(5);
/// After a failure.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// This host's part of the task network.
#[derive(Debug)]
pub(crate) struct TaskNetwork {
    pub(crate) host: HostNetwork,
    news: Mutex<News>,
    topology: watch::Sender<Option<Topology>>,
}

/// What was heard so far. Each thing is as new as the message that was last about it: several sessions tell of one network, and
/// what one of them tells may be overtaken by what another one does.
#[derive(Debug)]
struct News {
    host_id: String,
    ranges: Dated<BTreeSet<Range>>,
    peers: BTreeMap<String, Dated<Place>>,
    groups: BTreeMap<GroupId, Dated<Group>>,
}

/// A thing, and the timeline of the message that it is from.
#[derive(Debug)]
struct Dated<T> {
    timeline: i64,
    it: T,
}

impl TaskNetwork {
    /// The part of the host of that id; `agent` tells it from that of another agent on the host.
    pub(crate) fn new(host_id: &str, agent: &str) -> Self {
        Self {
            host: HostNetwork::new(host_id, agent),
            news: Mutex::new(News::of(host_id)),
            topology: watch::Sender::new(None),
        }
    }

    /// The control plane said something.
    pub(crate) fn told(&self, message: &acs::NetworkMessage) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.take(message);
        self.topology.send_replace(Some(news.topology()));
    }

    /// Keeps the host as the control plane wants it, until dropped.
    pub(crate) async fn keep(&self) {
        let mut topology = self.topology.subscribe();
        let mut trouble = false;
        loop {
            let wanted = topology.borrow_and_update().clone();
            let mut pause = LOOK_EVERY;
            if let Some(wanted) = wanted {
                match self.host.set_topology(wanted).await {
                    Ok(()) if trouble => {
                        info!("the network of awsvpc tasks is as the control plane wants it again");
                        trouble = false;
                    }
                    Ok(()) => {}
                    Err(error) => {
                        if !std::mem::replace(&mut trouble, true) {
                            warn!(%error, "the network of awsvpc tasks is not as the control plane wants it; this is tried again");
                        }
                        pause = AGAIN_AFTER;
                    }
                }
            }
            // The sender is ours: only time, news or missing rules end this.
            let _ = timeout(pause, async {
                tokio::select! {
                    _ = topology.changed() => {}
                    () = self.rules_missing() => {}
                }
            })
            .await;
        }
    }

    /// Waits until somebody has thrown the rules away.
    async fn rules_missing(&self) {
        loop {
            sleep(RULES_EVERY).await;
            // That they cannot be read is told when they are put right.
            if let Ok(false) = self.host.rules_stand().await {
                warn!("somebody removed the packet rules of awsvpc tasks; they are put into force again");
                return;
            }
        }
    }
}

impl News {
    fn of(host_id: &str) -> Self {
        let ranges = Dated { timeline: i64::MIN, it: BTreeSet::new() };
        Self { host_id: host_id.to_owned(), ranges, peers: BTreeMap::new(), groups: BTreeMap::new() }
    }

    /// Takes a message in.
    fn take(&mut self, message: &acs::NetworkMessage) {
        let timeline = message.timeline;
        if timeline >= self.ranges.timeline {
            self.ranges = Dated { timeline, it: message.ranges.iter().filter_map(|text| read(text)).collect() };
        }
        for peer in &message.peers {
            let underlay = peer.host_address.as_deref().and_then(read);
            let place = Place { underlay, blocks: peer.blocks.iter().filter_map(|text| read(text)).collect() };
            replace(&mut self.peers, peer.host_id.clone(), timeline, place);
        }
        for group in &message.groups {
            replace(&mut self.groups, GroupId(group.id.clone()), timeline, read_group(group));
        }
        if message.complete {
            // What it names is as new as itself by now.
            self.peers.retain(|_, known| known.timeline >= timeline);
            self.groups.retain(|_, known| known.timeline >= timeline);
        }
    }

    fn topology(&self) -> Topology {
        // A host without blocks is only remembered, as one that has no tasks any more.
        let peers = self.peers.iter().filter(|(_, place)| !place.it.blocks.is_empty());
        let mut peers: BTreeMap<String, Place> = peers.map(|(id, place)| (id.clone(), place.it.clone())).collect();
        let own = peers.remove(&self.host_id);
        let groups = self.groups.iter().map(|(id, group)| (id.clone(), group.it.clone())).collect();
        Topology { ranges: self.ranges.it.clone(), own, peers, groups }
    }
}

/// Replaces what is not newer.
fn replace<K: Ord, T>(known: &mut BTreeMap<K, Dated<T>>, key: K, timeline: i64, it: T) {
    if known.get(&key).is_none_or(|known| known.timeline <= timeline) {
        known.insert(key, Dated { timeline, it });
    }
}

/// What cannot be read is left out: nothing is allowed, and nobody reached, by mistake.
fn read<T: std::str::FromStr>(text: &str) -> Option<T> {
    let read = text.parse().ok();
    if read.is_none() {
        warn!(text, "the control plane describes the task network in words that this agent does not know");
    }
    read
}

fn read_group(group: &acs::SecurityGroup) -> Group {
    let rules = |direction: &str| -> Vec<Rule> {
        group.rules.iter().filter(|rule| rule.direction == direction).filter_map(read_rule).collect()
    };
    Group {
        ingress: rules("ingress"),
        egress: rules("egress"),
        members: group.members.iter().filter_map(|text| read(text)).collect(),
    }
}

fn read_rule(rule: &acs::SecurityGroupRule) -> Option<Rule> {
    let port = |port: Option<i64>, otherwise: u16| match port {
        None | Some(-1) => Some(otherwise),
        Some(port) => u16::try_from(port).ok(),
    };
    let ports = || {
        let (first, last) = (port(rule.from_port, 0)?, port(rule.to_port, u16::MAX)?);
        // One range the wrong way round would have the host's other rules refused with it.
        (first <= last).then_some((first, last))
    };
    // Any, or one; no other number is any.
    let byte = |number: Option<i64>| match number {
        None | Some(-1) => Some(None),
        Some(number) => u8::try_from(number).ok().map(Some),
    };
    let icmp = || match (byte(rule.from_port)?, byte(rule.to_port)?) {
        (Some(kind), code) => Some(Some((kind, code))),
        (None, None) => Some(None),
        // One code of all types is nothing that ICMP has.
        (None, Some(_)) => None,
    };
    let protocol = match rule.protocol.as_str() {
        "-1" => Protocol::All,
        "tcp" | "6" => Protocol::Tcp(ports()?),
        "udp" | "17" => Protocol::Udp(ports()?),
        "icmp" | "1" => Protocol::Icmp(icmp()?),
        number => Protocol::Number(read(number)?),
    };
    let (ranges, groups) = match (&rule.range, &rule.group_id) {
        (Some(range), None) => (BTreeSet::from([read(range)?]), BTreeSet::new()),
        (None, Some(group)) => (BTreeSet::new(), BTreeSet::from([GroupId(group.clone())])),
        _ => return None,
    };
    Some(Rule { protocol, ranges, groups })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(
        timeline: i64,
        complete: bool,
        peers: serde_json::Value,
        groups: serde_json::Value,
    ) -> acs::NetworkMessage {
        serde_json::from_value(json!({
            "messageId": "m", "containerInstanceArn": "i", "timeline": timeline, "complete": complete,
            "ranges": ["10.212.0.0/14"], "peers": peers, "groups": groups,
        }))
        .unwrap()
    }

    fn peer(id: &str, address: &str, blocks: &[&str]) -> serde_json::Value {
        json!({ "hostId": id, "hostAddress": address, "blocks": blocks })
    }

    #[test]
    fn messages_add_up() {
        let mut news = News::of("me");
        let peers = json!([peer("me", "192.0.2.1", &["10.212.1.0/26"]), peer("you", "192.0.2.2", &["10.212.2.0/26"])]);
        news.take(&message(5, true, peers, json!([{ "id": "sg-1", "rules": [], "members": ["10.212.2.9"] }])));
        let topology = news.topology();
        assert_eq!(topology.own.unwrap().underlay, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(topology.peers.keys().collect::<Vec<_>>(), ["you"]);
        assert_eq!(topology.groups[&GroupId("sg-1".to_owned())].members.len(), 1);
        news.take(&message(6, false, json!([peer("they", "192.0.2.3", &["10.212.3.0/26"])]), json!([])));
        news.take(&message(6, false, json!([peer("you", "192.0.2.2", &[])]), json!([])));
        assert_eq!(news.topology().peers.keys().collect::<Vec<_>>(), ["they"]);
        assert!(news.topology().own.is_some() && !news.topology().groups.is_empty());
        news.take(&message(7, true, json!([]), json!([])));
        assert_eq!(news.topology(), Topology { ranges: news.ranges.it.clone(), ..Topology::default() });
    }

    /// Another session may have been quicker: what it told stays, and what it did not tell is news all the same.
    #[test]
    fn what_is_older_replaces_only_what_is_older_still() {
        let mut news = News::of("me");
        let group = |id: &str, member: &str| json!({ "id": id, "rules": [], "members": [member] });
        news.take(&message(5, true, json!([peer("you", "192.0.2.2", &["10.212.2.0/26"])]), json!([])));
        news.take(&message(9, false, json!([peer("you", "192.0.2.2", &[])]), json!([group("sg-1", "10.212.2.9")])));
        let late = json!([peer("you", "192.0.2.9", &["10.212.2.0/26"]), peer("they", "192.0.2.3", &["10.212.3.0/26"])]);
        let groups = json!([group("sg-1", "10.212.2.7"), group("sg-2", "10.212.2.7")]);
        for complete in [false, true] {
            news.take(&message(8, complete, late.clone(), groups.clone()));
            let topology = news.topology();
            assert_eq!(topology.peers.keys().collect::<Vec<_>>(), ["they"]);
            let members = |id: &str| topology.groups[&GroupId(id.to_owned())].members.clone();
            assert_eq!(members("sg-1"), BTreeSet::from(["10.212.2.9".parse().unwrap()]));
            assert_eq!(members("sg-2"), BTreeSet::from(["10.212.2.7".parse().unwrap()]));
        }
        news.take(&message(10, false, json!([peer("you", "192.0.2.2", &["10.212.2.0/26"])]), json!([])));
        assert_eq!(news.topology().peers.len(), 2);
    }

    #[test]
    fn rules_are_read_or_allow_nothing() {
        let rule = |protocol: &str, from: Option<i64>, to: Option<i64>, range: Option<&str>, group: Option<&str>| {
            let text = |text: &str| text.to_owned();
            read_rule(&acs::SecurityGroupRule {
                direction: text("ingress"),
                protocol: text(protocol),
                from_port: from,
                to_port: to,
                range: range.map(text),
                group_id: group.map(text),
            })
        };
        let everywhere = Some("0.0.0.0/0");
        for (protocol, from, to, expected) in [
            ("-1", None, None, Protocol::All),
            ("tcp", Some(80), Some(90), Protocol::Tcp((80, 90))),
            ("udp", None, None, Protocol::Udp((0, u16::MAX))),
            ("icmp", Some(-1), Some(-1), Protocol::Icmp(None)),
            ("icmp", Some(8), Some(0), Protocol::Icmp(Some((8, Some(0))))),
            ("icmp", Some(3), Some(-1), Protocol::Icmp(Some((3, None)))),
            ("50", None, None, Protocol::Number(50)),
        ] {
            assert_eq!(
                rule(protocol, from, to, everywhere, None).map(|rule| rule.protocol),
                Some(expected),
                "{protocol}"
            );
        }
        assert_eq!(rule("tcp", None, None, None, Some("sg-2")).unwrap().groups.len(), 1);
        for (protocol, from, to) in
            [("icmp", 300, -1), ("icmp", 8, 300), ("icmp", -1, 3), ("icmp", -2, -1), ("tcp", 90, 80), ("udp", 1, 0)]
        {
            assert_eq!(rule(protocol, Some(from), Some(to), everywhere, None), None, "{protocol} {from} {to}");
        }
        for (protocol, port, range, group) in [
            ("esp", None, everywhere, None),
            ("tcp", Some(70_000), everywhere, None),
            ("tcp", None, Some("::/0"), None),
            ("tcp", None, None, None),
            ("tcp", None, everywhere, Some("sg-2")),
        ] {
            assert_eq!(rule(protocol, port, port, range, group), None, "{protocol} {port:?} {range:?} {group:?}");
        }
    }
}
