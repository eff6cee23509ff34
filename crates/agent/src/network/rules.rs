//! Packet rules of the task network, as `iptables-restore --noflush` reads them. Pure: state in, text out.
//!
//! What a task sends is looked at where it arrives at the host (`mangle`, PREROUTING), what a task is sent where it leaves the host
//! for the task (`mangle`, POSTROUTING): so each direction is decided in one place, for traffic between tasks of a host, from
//! another host, from outside and from the host itself, whatever other rules the host has. What was accepted there is let
//! through FORWARD past Docker's closed policy, and what leaves the task network takes the host's address.
//!
//! Everything is rendered anew for every change and put into force at once per table: there is no state that rules could
//! drift from, and nothing is ever half done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;

use super::address::{Range, Scope, short};
use super::{Group, GroupId, Protocol, Rule};

/// UDP port of the overlay: not 4789, which Docker's own overlay listens on, and beyond those that the kernel and the agent
/// choose from for whoever wants any (32768 to 60999): who got it would keep the overlay from coming up, or hear nothing.
pub(crate) const OVERLAY_PORT: u16 = 61_682;

/// All that the rules depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    /// Tasks of this host, by the host's end of their cable.
    pub(crate) tasks: BTreeMap<String, FilteredTask>,
    /// Groups that they wear, and those whose members their rules name.
    pub(crate) groups: BTreeMap<GroupId, Group>,
    /// All ranges of the task network, on whatever host.
    pub(crate) ranges: BTreeSet<Range>,
    /// Other hosts: underlay address and blocks.
    pub(crate) peers: BTreeMap<Ipv4Addr, BTreeSet<Range>>,
}

impl Filter {
    /// One that needs everything of the kernel that rules may ever need.
    pub(crate) fn specimen() -> Self {
        let (address, peer) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1));
        let everything = BTreeSet::from([Range::only(peer)]);
        let allow = |protocol| Rule { protocol, ranges: everything.clone(), groups: BTreeSet::new() };
        let protocols =
            [Protocol::Tcp((80, 80)), Protocol::Udp((0, 9)), Protocol::Icmp(Some((8, Some(0)))), Protocol::Number(47)];
        let id = GroupId("specimen".to_owned());
        let group = Group { ingress: protocols.map(allow).to_vec(), ..Group::default() };
        let task = FilteredTask { address, groups: BTreeSet::from([id.clone()]) };
        Self {
            tasks: BTreeMap::from([("ls0000-specimen".to_owned(), task)]),
            groups: BTreeMap::from([(id, group)]),
            ranges: everything.clone(),
            peers: BTreeMap::from([(peer, everything)]),
        }
    }
}

/// A task of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilteredTask {
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// The groups it wears.
    pub(crate) groups: BTreeSet<GroupId>,
}

/// What the kernel has of ours now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// Chains, by table.
    chains: BTreeMap<String, BTreeSet<String>>,
    /// Jumps from the kernel's own chains to ours, by table: `PREROUTING -j LS…`.
    hooks: BTreeMap<String, BTreeSet<String>>,
}

impl Present {
    /// Reads what `iptables-save` prints.
    pub(crate) fn read(scope: &Scope, saved: &str) -> Self {
        let prefix = scope.chain_prefix();
        let mut present = Self::default();
        let mut table = String::new();
        for line in saved.lines() {
            if let Some(name) = line.strip_prefix('*') {
                name.trim().clone_into(&mut table);
            } else if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                if chain.starts_with(&prefix) {
                    present.chains.entry(table.clone()).or_default().insert(chain.to_owned());
                }
            } else if let Some(rule) = line.strip_prefix("-A ")
                && !rule.starts_with(&prefix)
                && rule.split(' ').any(|word| word.starts_with(&prefix))
            {
                present.hooks.entry(table.clone()).or_default().insert(rule.trim().to_owned());
            }
        }
        present
    }
}

/// A table's rules in the making.
struct Table<'a> {
    name: &'static str,
    scope: &'a Scope,
    chains: BTreeSet<String>,
    /// Place in a chain of the kernel's, and ours to jump to.
    hooks: Vec<(&'static str, String)>,
    rules: String,
}

impl<'a> Table<'a> {
    fn new(name: &'static str, scope: &'a Scope) -> Self {
        Self { name, scope, chains: BTreeSet::new(), hooks: Vec::new(), rules: String::new() }
    }

    /// Makes one of our chains, entered from the kernel's at `place` (`-A CHAIN` or `-I CHAIN 1`).
    fn hooked(&mut self, place: &'static str, name: &str) -> String {
        let chain = self.chain(name);
        self.hooks.push((place, chain.clone()));
        chain
    }

    fn chain(&mut self, name: &str) -> String {
        let chain = self.scope.chain(name);
        self.chains.insert(chain.clone());
        chain
    }

    fn rule(&mut self, chain: &str, rule: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.rules, "-A {chain} {rule}");
    }

    /// The text of the table, which also takes away what is present and no longer wanted.
    fn render(self, present: &Present, out: &mut String) {
        let had_chains = present.chains.get(self.name).cloned().unwrap_or_default();
        let mut had_hooks = present.hooks.get(self.name).cloned().unwrap_or_default();
        if self.chains.is_empty() && had_chains.is_empty() && had_hooks.is_empty() {
            return;
        }
        let _ = writeln!(out, "*{}", self.name);
        // To name a chain here is to make it, or to empty it.
        for chain in self.chains.union(&had_chains) {
            let _ = writeln!(out, ":{chain} - [0:0]");
        }
        for hook in &self.hooks {
            if !had_hooks.remove(&hooked(hook)) {
                let (place, chain) = hook;
                let _ = writeln!(out, "{place} -j {chain}");
            }
        }
        for hook in had_hooks {
            let _ = writeln!(out, "-D {hook}");
        }
        out.push_str(&self.rules);
        for chain in had_chains.difference(&self.chains) {
            let _ = writeln!(out, "-X {chain}");
        }
        out.push_str("COMMIT\n");
    }
}

/// What to give to `iptables-restore --noflush`; empty if there is nothing to do. Without tasks and peers, all is taken away.
pub(crate) fn render(scope: &Scope, filter: &Filter, present: &Present) -> String {
    let mut out = String::new();
    for table in [checks(scope, filter), passage(scope, filter), way_out(scope, filter)] {
        table.render(present, &mut out);
    }
    out
}

/// Whether the kernel still comes by all of our chains. Others throw away all rules of a table at once, not one of ours.
pub(crate) fn stand(scope: &Scope, filter: &Filter, present: &Present) -> bool {
    [checks(scope, filter), passage(scope, filter), way_out(scope, filter)].iter().all(|table| {
        let hooks = present.hooks.get(table.name);
        table.hooks.iter().all(|hook| hooks.is_some_and(|hooks| hooks.contains(&hooked(hook))))
    })
}

/// A hook as it is saved.
fn hooked((place, chain): &(&'static str, String)) -> String {
    let from = place.split(' ').nth(1).unwrap_or_default();
    format!("{from} -j {chain}")
}

/// What tasks may send and be sent.
fn checks<'a>(scope: &'a Scope, filter: &Filter) -> Table<'a> {
    let mut table = Table::new("mangle", scope);
    if filter.tasks.is_empty() && filter.peers.is_empty() {
        return table;
    }
    let devices = format!("{}+", scope.device_prefix());
    let from = table.hooked("-A PREROUTING", "FROM");
    let to = table.hooked("-A POSTROUTING", "TO");
    if !filter.peers.is_empty() {
        overlay_checks(&mut table, scope, filter, &from);
    }
    let worn: BTreeSet<&GroupId> = filter.tasks.values().flat_map(|task| &task.groups).collect();
    for group in worn {
        let Some(rules) = filter.groups.get(group) else {
            // Nobody knows what it allows: nothing.
            continue;
        };
        let (chain_out, chain_in) = (table.chain(&out_of(group)), table.chain(&into(group)));
        for rule in &rules.egress {
            group_rule(&mut table, filter, &chain_out, "-d", rule);
        }
        for rule in &rules.ingress {
            group_rule(&mut table, filter, &chain_in, "-s", rule);
        }
    }
    for (device, task) in &filter.tasks {
        let name = device.rsplit('-').next().unwrap_or_default();
        let (sends, gets) = (table.chain(&format!("from-{name}")), table.chain(&format!("to-{name}")));
        table.rule(&from, &format!("-i {device} -j {sends}"));
        table.rule(&to, &format!("-o {device} -j {gets}"));
        table.rule(&sends, &format!("! -s {}/32 -j DROP", task.address));
        for (chain, of_group) in [(&sends, out_of as fn(&GroupId) -> String), (&gets, into)] {
            table.rule(chain, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
            for group in task.groups.iter().filter(|group| filter.groups.contains_key(*group)) {
                table.rule(chain, &format!("-j {}", scope.chain(&of_group(group))));
            }
            table.rule(chain, "-j DROP");
        }
    }
    table.rule(&from, &format!("-i {devices} -j DROP"));
    table.rule(&to, &format!("-o {devices} -j DROP"));
    table
}

fn out_of(group: &GroupId) -> String {
    format!("group-out-{}", short(&group.0))
}

fn into(group: &GroupId) -> String {
    format!("group-in-{}", short(&group.0))
}

/// The overlay is for hosts that the control plane named, and each speaks for its own tasks.
///
/// A container may give its packets whatever source it likes: a host is believed only on the device that leads to it. Nor may
/// a container write to another host's overlay, where it would be taken for this host, whose address it leaves with.
fn overlay_checks(table: &mut Table<'_>, scope: &Scope, filter: &Filter, from: &str) {
    let (hosts, inner) = (table.chain("HOSTS"), table.chain("INNER"));
    let overlay = format!("-p udp -m udp --dport {OVERLAY_PORT}");
    table.rule(from, &format!("{overlay} -m addrtype --dst-type LOCAL -j {hosts}"));
    table.rule(from, &format!("-i {} -j {inner}", scope.overlay()));
    for (address, blocks) in &filter.peers {
        table.rule(from, &format!("-d {address}/32 {overlay} -j {hosts}"));
        table.rule(&hosts, &format!("-s {address}/32 -m rpfilter -j ACCEPT"));
        for block in blocks {
            table.rule(&inner, &format!("-s {block} -j ACCEPT"));
        }
    }
    table.rule(&hosts, "-j DROP");
    table.rule(&inner, "-j DROP");
}

/// One rule of a group, for all that it names.
fn group_rule(table: &mut Table<'_>, filter: &Filter, chain: &str, end: &str, rule: &Rule) {
    let what = protocol(&rule.protocol);
    let ranges = rule.ranges.iter().copied();
    let members = rule.groups.iter().filter_map(|group| filter.groups.get(group)).flat_map(|group| &group.members);
    let ends: BTreeSet<Range> = ranges.chain(members.map(|address| Range::only(*address))).collect();
    for range in ends {
        let range = if range.is_everything() { String::new() } else { format!("{end} {range} ") };
        table.rule(chain, &format!("{range}{what}-j ACCEPT"));
    }
}

fn protocol(protocol: &Protocol) -> String {
    let ports = |name: &str, (first, last): (u16, u16)| match (first, last) {
        (0, u16::MAX) => format!("-p {name} "),
        (first, last) if first == last => format!("-p {name} -m {name} --dport {first} "),
        (first, last) => format!("-p {name} -m {name} --dport {first}:{last} "),
    };
    match protocol {
        Protocol::All => String::new(),
        Protocol::Tcp(range) => ports("tcp", *range),
        Protocol::Udp(range) => ports("udp", *range),
        Protocol::Icmp(None) => "-p icmp ".to_owned(),
        Protocol::Icmp(Some((kind, None))) => format!("-p icmp -m icmp --icmp-type {kind} "),
        Protocol::Icmp(Some((kind, Some(code)))) => format!("-p icmp -m icmp --icmp-type {kind}/{code} "),
        Protocol::Number(number) => format!("-p {number} "),
    }
}

/// What was accepted for tasks gets through, whatever FORWARD does with the rest.
fn passage<'a>(scope: &'a Scope, filter: &Filter) -> Table<'a> {
    let mut table = Table::new("filter", scope);
    if filter.tasks.is_empty() && filter.peers.is_empty() {
        return table;
    }
    let (devices, overlay) = (format!("{}+", scope.device_prefix()), scope.overlay());
    let forward = table.hooked("-I FORWARD 1", "FORWARD");
    if !filter.peers.is_empty() {
        table.rule(&forward, &format!("-i {devices} -o {overlay} -j ACCEPT"));
        // Answers to what a container on a bridge of Docker's asked in the name of its host.
        table.rule(&forward, &format!("-i {overlay} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
        table.rule(&forward, &format!("-i {overlay} ! -o {devices} -j REJECT --reject-with icmp-host-unreachable"));
    }
    table.rule(&forward, &format!("-o {devices} -j ACCEPT"));
    // No task and no host has it: without this it would leave by the default route.
    for range in &filter.ranges {
        table.rule(&forward, &format!("-i {devices} -d {range} -j REJECT --reject-with icmp-host-unreachable"));
    }
    // What a container on one of Docker's bridges is sent is Docker's to say.
    for bridge in ["docker+", "br-+"] {
        table.rule(&forward, &format!("-i {devices} -o {bridge} -j RETURN"));
    }
    table.rule(&forward, &format!("-i {devices} -j ACCEPT"));
    table
}

/// What leaves the task network takes the host's address.
fn way_out<'a>(scope: &'a Scope, filter: &Filter) -> Table<'a> {
    let mut table = Table::new("nat", scope);
    if filter.tasks.is_empty() {
        return table;
    }
    let leave = table.hooked("-A POSTROUTING", "LEAVE");
    table.rule(&leave, &format!("-o {}+ -j RETURN", scope.device_prefix()));
    if !filter.peers.is_empty() {
        table.rule(&leave, &format!("-o {} -j RETURN", scope.overlay()));
    }
    for task in filter.tasks.values() {
        table.rule(&leave, &format!("-s {}/32 -j MASQUERADE", task.address));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(group: &str) -> GroupId {
        GroupId(group.to_owned())
    }

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    fn rule(protocol: Protocol, ranges: &[&str], groups: &[&str]) -> Rule {
        Rule {
            protocol,
            ranges: ranges.iter().map(|text| range(text)).collect(),
            groups: groups.iter().map(|group| id(group)).collect(),
        }
    }

    /// Two tasks: one of the web, open to the world; one database, open to the web.
    fn filter() -> Filter {
        let task = |address: &str, group: &str| FilteredTask {
            address: address.parse().unwrap(),
            groups: BTreeSet::from([id(group)]),
        };
        let web = Group {
            ingress: vec![
                rule(Protocol::Tcp((80, 80)), &["0.0.0.0/0"], &[]),
                rule(Protocol::Udp((0, u16::MAX)), &["192.0.2.0/24"], &[]),
                rule(Protocol::Icmp(Some((8, Some(0)))), &["0.0.0.0/0"], &[]),
                rule(Protocol::Number(47), &["192.0.2.0/24"], &[]),
            ],
            egress: vec![rule(Protocol::All, &["0.0.0.0/0"], &[])],
            members: BTreeSet::from(["10.212.3.65".parse().unwrap(), "10.212.9.9".parse().unwrap()]),
        };
        let database = Group {
            ingress: vec![rule(Protocol::Tcp((5432, 5439)), &["10.212.7.0/24"], &["web", "unknown"])],
            ..Group::default()
        };
        Filter {
            tasks: BTreeMap::from([
                ("ls1a2b-11111111".to_owned(), task("10.212.3.65", "web")),
                ("ls1a2b-22222222".to_owned(), task("10.212.3.66", "database")),
            ]),
            groups: BTreeMap::from([(id("web"), web), (id("database"), database)]),
            ranges: BTreeSet::from([range("10.212.0.0/14")]),
            peers: BTreeMap::from([(
                Ipv4Addr::new(192, 0, 2, 2),
                BTreeSet::from([range("10.212.4.0/26"), range("10.212.9.0/26")]),
            )]),
        }
    }

    fn rendered(filter: &Filter, present: &Present) -> String {
        // Whatever the scope is called, the golden text calls it 1a2b.
        let scope = Scope::of("host");
        render(&scope, filter, present)
            .replace(&scope.chain_prefix(), "LS1a2b-")
            .replace(&scope.device_prefix(), "ls1a2b-")
            .replace(&scope.overlay(), "lsvx1a2b")
    }

    #[test]
    fn nobody_is_given_the_port_of_the_overlay() {
        let chosen_from = 32_768..=60_999;
        assert!(!chosen_from.contains(&OVERLAY_PORT) && OVERLAY_PORT >= 1024);
    }

    #[test]
    fn golden_rules() {
        let text = rendered(&filter(), &Present::default());
        let text = text.replace(&short("web"), "WEB").replace(&short("database"), "DATABASE");
        assert_eq!(text, include_str!("golden.rules"), "\n{text}");
    }

    /// What is rendered, saved and read again is known as ours, and only that goes.
    #[test]
    fn the_second_time_only_rules_are_written() {
        let scope = Scope::of("host");
        let first = render(&scope, &filter(), &Present::default());
        let saved =
            format!("{first}*nat\n:POSTROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A POSTROUTING -j DOCKER\nCOMMIT\n");
        let saved = saved.replace("-I FORWARD 1 ", "-A FORWARD ");
        let present = Present::read(&scope, &saved);
        let again = render(&scope, &filter(), &present);
        for hook in ["-A PREROUTING", "-A POSTROUTING", "-I FORWARD"] {
            assert!(first.contains(hook) && !again.contains(hook), "{hook} in {again}");
        }
        assert!(!again.contains("-X ") && !again.contains("-D "), "{again}");

        assert!(stand(&scope, &filter(), &present) && stand(&scope, &Filter::default(), &Present::default()));
        for gone in ["PREROUTING -j LS", "FORWARD -j LS", "POSTROUTING -j LS"] {
            let flushed: Vec<&str> = saved.lines().filter(|line| !line.contains(gone)).collect();
            assert!(!stand(&scope, &filter(), &Present::read(&scope, &flushed.join("\n"))), "{gone}");
        }

        let mut one_task = filter();
        one_task.tasks.pop_last();
        let fewer = render(&scope, &one_task, &present);
        for gone in ["from-22222222", "to-22222222"] {
            assert!(fewer.contains(&format!("-X {}\n", scope.chain(gone))), "{fewer}");
        }

        let none = render(&scope, &Filter::default(), &present);
        assert!(!none.lines().any(|line| line.starts_with("-A")), "{none}");
        for gone in ["-D PREROUTING -j", "-D POSTROUTING -j", "-D FORWARD -j", "-X "] {
            assert!(none.contains(gone), "{gone} in {none}");
        }
        assert!(!none.contains("DOCKER"), "{none}");
        let other = Present::read(&Scope::of("another host"), &saved);
        assert_eq!(render(&scope, &Filter::default(), &other), "", "what is another agent's is left alone");
    }

    #[test]
    fn without_tasks_only_the_overlay_is_guarded() {
        let no_tasks = Filter { tasks: BTreeMap::new(), ..filter() };
        let text = rendered(&no_tasks, &Present::default());
        assert!(text.contains("-A LS1a2b-HOSTS -j DROP") && !text.contains("-to-") && !text.contains("*nat"), "{text}");
        assert_eq!(rendered(&Filter { peers: BTreeMap::new(), ..no_tasks }, &Present::default()), "");
    }
}
