//! The task network in network namespaces of its own: hosts and tasks are namespaces, the cable between hosts a pair of devices.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::address::Scope;
use super::overlay::VNI;
use super::rules::OVERLAY_PORT;
use super::{
    Group, GroupId, HostNetwork, Interface, Mac, NetworkError, Place, Protocol, Range, Rule, TaskNetworks, Topology,
};

/// A device that was just switched on may lose a packet, and this machine may be slow: what fails so often is blocked.
const TRIES: usize = 3;
const TRY: Duration = Duration::from_millis(400);
const PORT: u16 = 8080;

/// Whether namespaces can be made here. Who tests without being root tests the rest.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

/// A network namespace with a process in it.
struct Space {
    name: String,
    process: Child,
}

impl Space {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("lsn-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(&["ip", "netns", "add", &name]);
        let process = Command::new("ip").args(["netns", "exec", &name, "sleep", "120"]).spawn().unwrap();
        let space = Self { name, process };
        // `ip` moves there before it becomes the process that was asked for.
        let (here, deadline) = (std::fs::read_link("/proc/self/ns/net").unwrap(), 500);
        for _ in 0..deadline {
            if std::fs::read_link(format!("/proc/{}/ns/net", space.pid())).is_ok_and(|there| there != here) {
                return space;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the process of a namespace did not start");
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn exec(&self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        run(&[&["ip", "netns", "exec", &self.name][..], &words].concat())
    }

    /// Does `work` on a thread in this namespace.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let body = || {
                let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            };
            scope.spawn(body).join().unwrap()
        })
    }

    /// Waits for `work` in this namespace.
    fn wait<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> T {
        self.within(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { work().await })
        })
    }

    /// Answers every connection with its source address, until dropped.
    fn listen(&self, port: u16) -> Listening<'_> {
        let listener = self.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut connection) = connection else { continue };
                let from = connection.peer_addr().unwrap().ip().to_string();
                // More than one packet, full ones among them.
                let text = format!("{from} {}", "x".repeat(100_000));
                let _ = connection.write_all(text.as_bytes());
            }
        });
        Listening { space: self, port, done }
    }

    /// Connects, and says as whom.
    fn reach(&self, address: Ipv4Addr, port: u16) -> Option<Ipv4Addr> {
        self.within(|| {
            let connect = |_| TcpStream::connect_timeout(&SocketAddr::from((address, port)), TRY).ok();
            let mut connection = (0..TRIES).find_map(connect)?;
            connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut text = String::new();
            connection.read_to_string(&mut text).ok()?;
            assert_eq!(text.len(), text.find(' ').unwrap() + 100_001);
            text.split(' ').next()?.parse().ok()
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

struct Listening<'a> {
    space: &'a Space,
    port: u16,
    done: Arc<AtomicBool>,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        let port = self.port;
        // So that it looks. In a namespace without a loopback interface it looks no more, and ends with the process.
        self.space.within(|| drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port))));
    }
}

fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// A host: a namespace that forwards nothing by itself, as Docker leaves it, with a network of tasks.
struct Host {
    space: Space,
    id: String,
    network: HostNetwork,
    underlay: Ipv4Addr,
}

impl Host {
    fn new(number: u8) -> Self {
        let space = Space::new();
        space.exec("ip link set lo up");
        space.exec("iptables -P FORWARD DROP");
        let underlay = Ipv4Addr::new(192, 0, 2, number);
        space.exec(&format!("ip address add {underlay}/32 dev lo"));
        let id = format!("host-{number}");
        let network = HostNetwork::new(&id, &id);
        space.wait(|| network.restore(Vec::new())).unwrap();
        Self { space, network, id, underlay }
    }

    fn place(&self, block: &str) -> Place {
        Place { underlay: Some(self.underlay), blocks: BTreeSet::from([range(block)]) }
    }

    fn tell(&self, topology: Topology) {
        self.space.wait(|| self.network.set_topology(topology)).unwrap();
    }

    fn attach(&self, interface: &Interface, task: &Space) -> Result<(), NetworkError> {
        self.space.wait(|| self.network.attach(interface.clone(), task.pid()))
    }

    /// A task with that address.
    fn task(&self, address: &str, groups: &[&str]) -> Task {
        let (space, interface) = (Space::new(), interface(address, groups));
        self.attach(&interface, &space).unwrap();
        Task { space, interface }
    }

    fn detach(&self, task: &Task) {
        self.space.wait(|| self.network.detach(&task.interface.task_arn)).unwrap();
    }

    /// How many packets the overlay has taken in.
    fn taken_in(&self) -> u64 {
        let overlay = Scope::of(&self.id).overlay();
        let devices = self.space.within(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let line = devices.lines().find_map(|line| line.trim().strip_prefix(&format!("{overlay}:")));
        line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Everything that the task network has on this host.
    fn traces(&self) -> Vec<String> {
        let rules = self.space.exec("iptables-save");
        let links = self.space.exec("ip -o link");
        let ours = |line: &&str| line.contains(": ls") || line.contains("LS");
        rules.lines().chain(links.lines()).filter(ours).map(str::to_owned).collect()
    }
}

struct Task {
    space: Space,
    interface: Interface,
}

impl Task {
    fn address(&self) -> Ipv4Addr {
        self.interface.address
    }
}

fn range(text: &str) -> Range {
    text.parse().unwrap()
}

fn interface(address: &str, groups: &[&str]) -> Interface {
    let address: Ipv4Addr = address.parse().unwrap();
    let [a, b, c, d] = address.octets();
    Interface {
        task_arn: format!("arn:aws:ecs:us-east-1:000000000000:task/default/{address}"),
        address,
        mac: Mac([0x0a, 0x58, a, b, c, d]),
        gateway: Ipv4Addr::new(10, 212, 0, 1),
        groups: groups.iter().map(|group| GroupId((*group).to_owned())).collect(),
    }
}

fn anywhere(protocol: Protocol) -> Rule {
    Rule { protocol, ranges: BTreeSet::from([Range::everything()]), groups: BTreeSet::new() }
}

fn open() -> Group {
    Group { ingress: vec![anywhere(Protocol::All)], egress: vec![anywhere(Protocol::All)], ..Group::default() }
}

fn groups(groups: &[(&str, Group)]) -> BTreeMap<GroupId, Group> {
    groups.iter().map(|(id, group)| (GroupId((*id).to_owned()), group.clone())).collect()
}

fn topology(own: &Host, block: &str, peers: &[(&Host, &str)], of_groups: &[(&str, Group)]) -> Topology {
    Topology {
        ranges: BTreeSet::from([range("10.212.0.0/14")]),
        own: Some(own.place(block)),
        peers: peers.iter().map(|(host, block)| (host.id.clone(), host.place(block))).collect(),
        groups: groups(of_groups),
    }
}

/// Hosts on one wire, with a machine beside them that knows nothing of tasks.
fn connect(hosts: &[&Host]) -> Space {
    let outside = Space::new();
    outside.exec("ip link set lo up");
    outside.exec("ip link add wire type bridge");
    outside.exec("ip address add 192.0.2.254/24 dev wire");
    outside.exec("ip link set wire up");
    for host in hosts {
        let (name, address) = (&host.space.name, host.underlay);
        let port = format!("to{}", address.octets()[3]);
        outside.exec(&format!("ip link add {port} type veth peer name wan netns {name}"));
        outside.exec(&format!("ip link set {port} master wire up"));
        host.space.exec(&format!("ip address delete {address}/32 dev lo"));
        host.space.exec(&format!("ip address add {address}/24 dev wan"));
        host.space.exec("ip link set wan up");
        host.space.exec("ip route add default via 192.0.2.254");
    }
    outside
}

#[test]
fn tasks_of_a_host_reach_each_other_and_leave_nothing_behind() {
    if !is_root() {
        return;
    }
    let host = Host::new(1);
    host.tell(topology(&host, "10.212.3.64/26", &[], &[("open", open())]));
    let (a, b) = (host.task("10.212.3.65", &["open"]), host.task("10.212.3.66", &["open"]));
    let _listening = b.space.listen(PORT);
    assert_eq!(a.space.reach(b.address(), PORT), Some(a.address()));
    assert_eq!(b.space.reach(b.address(), PORT), Some(b.address()), "a task reaches itself");
    assert_eq!(b.space.reach(Ipv4Addr::LOCALHOST, PORT), Some(Ipv4Addr::LOCALHOST));
    assert!(host.space.reach(b.address(), PORT).is_some(), "the host reaches its tasks");
    let inside = a.space.exec("ip -o address show dev eth0");
    assert!(inside.contains("inet 10.212.3.65/32") && !inside.contains("inet6"), "{inside}");
    assert!(a.space.exec("ip link show eth0").contains("0a:58:0a:d4:03:41"));

    host.detach(&a);
    assert_eq!(b.space.reach(a.address(), PORT), None);
    assert!(host.space.reach(b.address(), PORT).is_some(), "the other one stays");
    for task in [&b, &a] {
        host.detach(task);
    }
    assert_eq!(host.traces(), Vec::<String>::new());
}

#[test]
fn tasks_reach_each_other_across_hosts() {
    if !is_root() {
        return;
    }
    let (one, two) = (Host::new(1), Host::new(2));
    let outside = connect(&[&one, &two]);
    let rules = [("open", open())];
    one.tell(topology(&one, "10.212.1.0/24", &[(&two, "10.212.2.0/24")], &rules));
    two.tell(topology(&two, "10.212.2.0/24", &[(&one, "10.212.1.0/24")], &rules));
    let (a, b) = (one.task("10.212.1.5", &["open"]), two.task("10.212.2.5", &["open"]));
    let _at_a = a.space.listen(PORT);
    let _at_b = b.space.listen(PORT);
    assert_eq!(a.space.reach(b.address(), PORT), Some(a.address()));
    assert_eq!(b.space.reach(a.address(), PORT), Some(b.address()));
    assert_eq!(one.space.reach(b.address(), PORT), Some(Ipv4Addr::new(10, 212, 1, 0)), "as itself in the task network");
    // What leaves the task network has the host's address; what comes from outside finds no way in.
    let _outside = outside.listen(PORT);
    assert_eq!(a.space.reach(Ipv4Addr::new(192, 0, 2, 254), PORT), Some(one.underlay));
    assert_eq!(outside.reach(a.address(), PORT), None);
    // A block that moves away, and comes back.
    one.tell(topology(&one, "10.212.1.0/24", &[(&two, "10.212.9.0/24")], &rules));
    assert_eq!(a.space.reach(b.address(), PORT), None);
    one.tell(topology(&one, "10.212.1.0/24", &[(&two, "10.212.2.0/24")], &rules));
    assert_eq!(a.space.reach(b.address(), PORT), Some(a.address()));
    // A host that is not a peer may send what it likes.
    two.tell(topology(&two, "10.212.2.0/24", &[(&Host::new(7), "10.212.1.0/24")], &rules));
    assert_eq!(a.space.reach(b.address(), PORT), None);
    // The last peer goes: so does the overlay.
    two.tell(topology(&two, "10.212.2.0/24", &[], &rules));
    assert!(!two.traces().iter().any(|line| line.contains("lsvx")), "{:?}", two.traces());
}

#[test]
fn security_groups_block_and_allow() {
    if !is_root() {
        return;
    }
    let host = Host::new(1);
    let from_web = Rule {
        protocol: Protocol::Tcp((PORT, PORT)),
        ranges: BTreeSet::new(),
        groups: BTreeSet::from([GroupId("web".to_owned())]),
    };
    let told = |members: &[&str], database: Group| {
        let mut web = open();
        web.members = members.iter().map(|address| address.parse().unwrap()).collect();
        host.tell(topology(&host, "10.212.3.0/24", &[], &[("web", web), ("database", database)]));
    };
    let database = Group { ingress: vec![from_web], ..Group::default() };
    told(&[], database.clone());
    let (web, other, db) =
        (host.task("10.212.3.5", &["web"]), host.task("10.212.3.6", &["web"]), host.task("10.212.3.7", &["database"]));
    let _database = [db.space.listen(PORT), db.space.listen(PORT + 1)];
    let _web = web.space.listen(PORT);
    assert_eq!(web.space.reach(db.address(), PORT), None, "nobody is a member yet");
    told(&["10.212.3.5"], database.clone());
    assert_eq!(web.space.reach(db.address(), PORT), Some(web.address()));
    assert_eq!(web.space.reach(db.address(), PORT + 1), None, "another port");
    assert_eq!(other.space.reach(db.address(), PORT), None, "not a member");
    assert_eq!(host.space.reach(db.address(), PORT), None, "the host is no member either");
    assert_eq!(db.space.reach(web.address(), PORT), None, "the database may not send, only answer");
    told(&["10.212.3.5"], Group { egress: vec![anywhere(Protocol::Tcp((PORT, PORT)))], ..database.clone() });
    assert_eq!(db.space.reach(web.address(), PORT), Some(db.address()));
    told(&["10.212.3.5"], Group { ingress: vec![anywhere(Protocol::Icmp(None))], ..Group::default() });
    assert_eq!(web.space.reach(db.address(), PORT), None);
    told(&["10.212.3.5"], Group { ingress: vec![anywhere(Protocol::Number(6))], ..Group::default() });
    assert_eq!(web.space.reach(db.address(), PORT), Some(web.address()));
    // A task cannot pretend to be another one.
    told(&["10.212.3.5"], database);
    db.space.exec("ip address add 10.212.3.5/32 dev eth0");
    assert!(other.space.reach(db.address(), PORT).is_none());
    other.space.exec("ip address add 10.212.3.5/32 dev eth0");
    other.space.exec("ip route replace default via 10.212.0.1 dev eth0 onlink src 10.212.3.5");
    assert_eq!(other.space.reach(db.address(), PORT), None);
}

/// Hosts of one network differ in what theirs carries: what a task may send, every host can take.
#[test]
fn jumbo_frames_of_one_host_are_not_for_tasks() {
    if !is_root() {
        return;
    }
    let (large, small) = (Host::new(1), Host::new(2));
    let _outside = connect(&[&large, &small]);
    large.space.exec("ip link set wan mtu 9001");
    small.space.exec("ip link set wan mtu 1400");
    for (host, other, mtu) in [(&large, &small, 1450), (&small, &large, 1350)] {
        host.tell(topology(host, "10.212.1.0/24", &[(other, "10.212.2.0/24")], &[("open", open())]));
        let task = host.task("10.212.1.5", &["open"]);
        for shown in [
            task.space.exec("ip -o link show eth0"),
            host.space.exec(&format!("ip -o link show {}", Scope::of(&host.id).overlay())),
        ] {
            assert!(shown.contains(&format!(" mtu {mtu} ")), "{shown}");
        }
    }
}

/// A container sends as whom it likes: it is no host of the overlay, and does not become one on the way out either.
#[test]
fn only_a_host_speaks_for_its_tasks() {
    if !is_root() {
        return;
    }
    let (one, two) = (Host::new(1), Host::new(2));
    let _outside = connect(&[&one, &two]);
    let rules = [("open", open())];
    one.tell(topology(&one, "10.212.1.0/24", &[(&two, "10.212.2.0/24")], &rules));
    two.tell(topology(&two, "10.212.2.0/24", &[(&one, "10.212.1.0/24")], &rules));
    let task = one.task("10.212.1.5", &["open"]);
    let container = Space::new();
    one.space.exec(&format!("ip link add docker9 type veth peer name eth0 netns {}", container.name));
    one.space.exec("ip address add 172.30.0.1/24 dev docker9");
    one.space.exec("ip link set docker9 up");
    one.space.exec("iptables -I FORWARD -i docker9 -j ACCEPT");
    one.space.exec("iptables -t nat -A POSTROUTING -s 172.30.0.0/24 -o wan -j MASQUERADE");
    container.exec("ip address add 172.30.0.2/24 dev eth0");
    container.exec("ip link set eth0 up");
    container.exec("ip route add default via 172.30.0.1");
    let neither_filters = "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0";
    one.space.exec(neither_filters);
    for device in ["docker9", &Scope::of(&one.id).device(&task.interface.task_arn)] {
        one.space.exec(&format!("sysctl -qw net.ipv4.conf.{device}.rp_filter=0"));
    }
    let sends = |space: &Space, from: Ipv4Addr, to: &Host| {
        let before = to.taken_in();
        space.within(|| {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            for _ in 0..TRIES {
                socket.send_to(&of_the_overlay(), (to.underlay, OVERLAY_PORT)).unwrap();
                thread::sleep(TRY);
            }
        });
        to.taken_in() > before
    };
    assert!(sends(&two.space, two.underlay, &one), "the other host itself");
    for space in [&container, &task.space] {
        assert!(!sends(space, Ipv4Addr::UNSPECIFIED, &one), "as itself");
        assert!(!sends(space, Ipv4Addr::UNSPECIFIED, &two), "as its host");
        space.exec("ip address add 192.0.2.2/32 dev lo");
        assert!(!sends(space, two.underlay, &one), "as the other host");
    }
}

/// No rule sees it, so none gets through: not to the host, and not through it, even if it forwards.
#[test]
fn tasks_have_no_way_for_ipv6() {
    if !is_root() || !std::path::Path::new("/proc/sys/net/ipv6").exists() {
        return;
    }
    let (host, other) = (Host::new(1), Host::new(2));
    let _outside = connect(&[&host, &other]);
    host.space.exec("sysctl -qw net.ipv6.conf.all.forwarding=1");
    host.space.exec("ip -6 address add fd00::1/128 dev lo nodad");
    host.tell(topology(&host, "10.212.3.0/24", &[(&other, "10.212.4.0/24")], &[("open", open())]));
    let task = host.task("10.212.3.5", &["open"]);
    let scope = Scope::of(&host.id);
    let device = scope.device(&task.interface.task_arn);
    let gets_there = || {
        let at_host = host.space.within(|| UdpSocket::bind("[fd00::1]:0").unwrap());
        at_host.set_read_timeout(Some(TRY)).unwrap();
        let to = at_host.local_addr().unwrap();
        let from_task = task.space.within(|| UdpSocket::bind("[fd00::5]:0").unwrap());
        (0..TRIES).any(|_| from_task.send_to(b"hello", to).is_ok() && at_host.recv(&mut [0; 5]).is_ok())
    };
    task.space.exec("ip -6 address add fd00::5/128 dev eth0 nodad");
    task.space.exec("ip -6 route add default dev eth0");
    let gateway = Mac::of_cable(task.interface.mac);
    task.space.exec(&format!("ip -6 neighbour replace fd00::1 dev eth0 lladdr {gateway}"));
    assert!(!gets_there());
    for device in [&device, &scope.overlay()] {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
        assert_eq!(host.space.within(|| std::fs::read_to_string(&path).unwrap()).trim(), "1", "{path}");
    }
    // A device of an agent that did not know.
    host.space.exec(&format!("sysctl -qw net.ipv6.conf.{device}.disable_ipv6=0"));
    assert!(gets_there(), "the test sees what gets through");
    let next = HostNetwork::new(&host.id, &host.id);
    host.space.wait(|| next.restore(vec![task.interface.clone()])).unwrap();
    assert!(!gets_there());
}

/// What the overlay takes for a frame to everybody.
fn of_the_overlay() -> Vec<u8> {
    let [_, a, b, c] = VNI.to_be_bytes();
    let header = [8, 0, 0, 0, a, b, c, 0];
    let ethernet = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0];
    [&header[..], &ethernet, &[0; 46]].concat()
}

#[test]
fn a_new_agent_finds_what_the_one_before_left() {
    if !is_root() {
        return;
    }
    let host = Host::new(1);
    let told = || topology(&host, "10.212.3.0/24", &[], &[("open", open())]);
    host.tell(told());
    let (a, b, gone) =
        (host.task("10.212.3.5", &["open"]), host.task("10.212.3.6", &["open"]), host.task("10.212.3.7", &["open"]));
    let _listening = b.space.listen(PORT);
    // Doing it again changes nothing.
    host.attach(&a.interface, &a.space).unwrap();
    assert_eq!(a.space.reach(b.address(), PORT), Some(a.address()));

    let next = HostNetwork::new(&host.id, &host.id);
    host.space.wait(|| next.restore(vec![a.interface.clone(), b.interface.clone()])).unwrap();
    assert_eq!(a.space.reach(b.address(), PORT), Some(a.address()), "nothing was interrupted");
    assert_eq!(gone.space.exec("ip -o link show"), gone.space.exec("ip -o link show lo"), "leftovers are gone");
    // Without the control plane no new task is connected, and those that are there are left alone.
    let early = host.space.wait(|| next.attach(gone.interface.clone(), gone.space.pid()));
    assert!(matches!(early, Err(NetworkError::NotYet(_))), "{early:?}");
    host.space.wait(|| next.set_topology(told())).unwrap();
    host.space.wait(|| next.attach(gone.interface.clone(), gone.space.pid())).unwrap();
    for task in [&a, &gone] {
        assert_eq!(task.space.reach(b.address(), PORT), Some(task.address()));
    }
    // Somebody threw all rules away, of one table or of all.
    let stand = || host.space.wait(|| next.rules_stand()).unwrap();
    assert!(stand());
    for table in ["filter", "nat", "mangle"] {
        host.space.exec(&format!("iptables -t {table} -F"));
        assert!(!stand());
        host.space.wait(|| next.set_topology(told())).unwrap();
        assert!(stand(), "{table}");
    }
    for table in ["filter", "nat", "mangle"] {
        host.space.exec(&format!("iptables -t {table} -F"));
    }
    assert_eq!(a.space.reach(b.address(), PORT), None, "FORWARD is closed");
    host.space.wait(|| next.set_topology(told())).unwrap();
    assert_eq!(a.space.reach(b.address(), PORT), Some(a.address()));
    // An agent whose tasks are all gone leaves nothing.
    let last = HostNetwork::new(&host.id, &host.id);
    host.space.wait(|| last.restore(Vec::new())).unwrap();
    assert_eq!(host.traces(), Vec::<String>::new());
}

/// Without its guard anybody could write to the overlay of an earlier agent.
#[test]
fn the_overlay_goes_before_its_guard() {
    if !is_root() {
        return;
    }
    let (one, two) = (Host::new(1), Host::new(2));
    let _outside = connect(&[&one, &two]);
    one.tell(topology(&one, "10.212.1.0/24", &[(&two, "10.212.2.0/24")], &[("open", open())]));
    let task = one.task("10.212.1.5", &["open"]);
    // The last task of an agent that has heard nothing yet.
    let next = HostNetwork::new(&one.id, &one.id);
    one.space.wait(|| next.restore(vec![task.interface.clone()])).unwrap();
    assert!(one.traces().iter().any(|line| line.contains("HOSTS")), "left as it was");
    one.space.wait(|| next.detach(&task.interface.task_arn)).unwrap();
    assert_eq!(one.traces(), Vec::<String>::new());
}

/// The rules of tasks that run go with them alone, whatever goes wrong as the agent starts.
#[test]
fn a_start_that_fails_takes_nobodys_rules_away() {
    if !is_root() {
        return;
    }
    let host = Host::new(1);
    host.tell(topology(&host, "10.212.3.0/24", &[], &[("open", open()), ("closed", Group::default())]));
    let [a, b, gone] = ["10.212.3.5", "10.212.3.6", "10.212.3.7"].map(|address| host.task(address, &["open"]));
    let closed = host.task("10.212.3.8", &["closed"]);
    let _listening = [b.space.listen(PORT), closed.space.listen(PORT)];
    let as_before = || {
        assert!(a.space.reach(b.address(), PORT).is_some());
        assert_eq!(a.space.reach(closed.address(), PORT), None);
    };
    // One that never came so far as to look.
    let unknowing = HostNetwork::new(&host.id, &host.id);
    host.space.wait(|| unknowing.detach("arn:aws:ecs:us-east-1:000000000000:task/default/another")).unwrap();
    as_before();
    host.space.wait(|| unknowing.set_topology(Topology::default())).unwrap();
    as_before();
    let other = Host::new(2);
    host.space
        .wait(|| unknowing.set_topology(topology(&host, "10.212.3.0/24", &[(&other, "10.212.4.0/24")], &[])))
        .unwrap();
    assert!(!host.traces().iter().any(|line| line.contains("lsvx")), "no overlay without its guard");
    as_before();
    // One that failed: the kernel does not give up this device.
    host.space.exec("ip link set lo down");
    host.space.exec(&format!("ip link set lo name {}lo", Scope::of(&host.id).device_prefix()));
    let failed = HostNetwork::new(&host.id, &host.id);
    let interfaces = [&a, &b, &gone, &closed].map(|task| task.interface.clone()).to_vec();
    host.space.wait(|| failed.restore(interfaces)).unwrap_err();
    host.space.wait(|| failed.detach(&gone.interface.task_arn)).unwrap();
    as_before();
}

/// A host whose packet rules somebody else is changing.
#[derive(Default)]
struct Busy {
    fails: AtomicU32,
    restored: AtomicU32,
}

impl TaskNetworks for Busy {
    async fn self_test(&self) -> Result<(), NetworkError> {
        assert!(self.restored.load(Ordering::SeqCst) > 0, "what is there comes first");
        match self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |fails| fails.checked_sub(1)) {
            Ok(_) => Err(NetworkError::Failed("locked".to_owned())),
            Err(_) => Ok(()),
        }
    }

    async fn restore(&self, interfaces: Vec<Interface>) -> Result<(), NetworkError> {
        assert_eq!(interfaces.len(), 1);
        self.restored.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn attach(&self, _: Interface, _: u32) -> Result<(), NetworkError> {
        unreachable!("nothing is attached")
    }

    async fn detach(&self, _: &str) -> Result<(), NetworkError> {
        unreachable!("nothing is detached")
    }

    async fn set_topology(&self, _: Topology) -> Result<(), NetworkError> {
        unreachable!("nothing was told")
    }
}

#[tokio::test]
async fn taking_over_is_tried_again_and_comes_before_the_test() {
    let existing = || vec![interface("10.212.3.5", &[])];
    for (fails, offered, works) in [(0, true, true), (1, true, true), (3, true, false), (9, false, true)] {
        let host = Busy { fails: fails.into(), ..Busy::default() };
        assert_eq!(super::take_over(&host, existing(), offered).await.is_ok(), works, "{fails} {offered}");
    }
}

#[test]
fn an_address_goes_to_another_task_while_its_old_interface_is_still_there() {
    if !is_root() {
        return;
    }
    let host = Host::new(1);
    host.tell(topology(&host, "10.212.3.0/24", &[], &[("open", open())]));
    let (old, other) = (host.task("10.212.3.5", &["open"]), host.task("10.212.3.6", &["open"]));
    let (space, mut interface) = (Space::new(), old.interface.clone());
    interface.task_arn.push_str("-next");
    host.attach(&interface, &space).unwrap();
    let _new = space.listen(PORT);
    assert_eq!(other.space.reach(old.address(), PORT), Some(other.address()));
    host.detach(&old);
    assert_eq!(other.space.reach(old.address(), PORT), Some(other.address()));
}

#[test]
fn what_cannot_work_is_said() {
    if !is_root() {
        return;
    }
    let host = Host::new(1);
    host.space.wait(|| host.network.self_test()).unwrap();
    assert_eq!(host.traces(), Vec::<String>::new());

    let space = Space::new();
    let refused = |interface: &Interface| host.attach(interface, &space).unwrap_err().to_string();
    assert!(refused(&interface("10.212.3.5", &[])).contains("not described the task network yet"));
    host.tell(topology(&host, "10.212.3.0/24", &[], &[("open", open())]));
    assert!(refused(&interface("10.212.3.5", &["sg-7"])).contains("security group sg-7"));
    host.space.exec("ip link add lan type veth peer name nal");
    host.space.exec("ip address add 10.213.0.1/24 dev lan");
    let why = refused(&interface("10.212.3.5", &["open"]));
    assert!(why.contains("10.213.0.0/24") && why.contains("lan"), "{why}");
    host.space.exec("ip link delete lan");
    let own = host.attach(&interface("10.212.3.5", &["open"]), &host.space).unwrap_err().to_string();
    assert!(own.contains("no network namespace of its own"), "{own}");
    host.space.exec("ip link add dummy9 type veth peer name dummy8");
    host.space.exec("ip link set dummy9 up");
    host.space.exec("ip route add 10.212.3.9/32 dev dummy9");
    let why = refused(&interface("10.212.3.9", &["open"]));
    assert!(why.contains("routed to dummy9 already"), "{why}");
}
