//! The network of awsvpc tasks, as the control plane tells it to our own agents.
//!
//! * An agent says that it can connect awsvpc tasks with the attribute `ecs.capability.task-eni`, and at which address of its
//!   host other hosts reach it with the attribute [`HOST_ADDRESS`]; both when it registers, so the latter may change whenever
//!   it starts.
//! * The control plane gives each host ([`HOST_ID`]) blocks of addresses out of the subnets, and each task an address out of a
//!   block of its host. The task's payload has it as its one `ElasticNetworkInterface`: MAC, `ipv4Addresses`, the gateway as
//!   `ip/prefix` of the subnet (the gateway is no machine: the host answers for it), name servers if any were configured (else
//!   those of the host), and the ids of the task's security groups.
//! * When a session opens the agent gets a complete [`NetworkMessage`]; later ones that change what they name. They come
//!   before the payloads of tasks that need them and are not acknowledged: all of it is sent again in the next session.
//! * An address may be given to another task as soon as its task was reported STOPPED, perhaps while the old interface is still
//!   being taken down. What is taken down must therefore be found by its task and never by its address.

use crate::object::object;

/// The attribute by which our agent names the machine it runs on.
pub const HOST_ID: &str = "longshore.host-id";

/// The attribute by which our agent says at which IPv4 address the hosts of other tasks reach its host. Without it the host's
/// tasks are reached from that host alone.
pub const HOST_ADDRESS: &str = "longshore.host-address";

object! {
    /// What a host needs to know of the network around its awsvpc tasks.
    pub struct NetworkMessage {
        /// Names the message; it is not acknowledged.
        message_id: String = "messageId",
        /// The instance whose session this is. Several instances of a host are told the same.
        container_instance_arn: String = "containerInstanceArn",
        /// Tells old from new, through all sessions of a host: of a peer or group that two messages name, what the one with the
        /// higher number says is true; `complete` forgets what was not heard since.
        timeline: i64 = "timeline",
        /// Whether this is all there is: a peer or group that it does not name is gone. Else what it does not name stays.
        complete: bool = "complete",
        /// The address ranges of all tasks, such as `10.212.0.0/14`; there is always one. What goes from one of them to one of
        /// them keeps its source address, what leaves them is masqueraded.
        ranges: Vec<String> = "ranges" always,
        /// The hosts that have tasks, the receiver's own among them. Each replaces what was known of that host.
        peers: Vec<NetworkPeer> = "peers" always,
        /// The groups that matter on the host. Each replaces what was known of that group.
        groups: Vec<SecurityGroup> = "groups" always,
    }

    /// A host with tasks.
    pub struct NetworkPeer {
        /// Its [`HOST_ID`].
        host_id: String = "hostId",
        /// Its [`HOST_ADDRESS`], if it has said one: where what is for its tasks goes.
        host_address: Option<String> = "hostAddress",
        /// The addresses of its tasks, such as `10.212.3.64/26`; the first one of each is the host's own and no task's. None: the
        /// host has no tasks any more.
        blocks: Vec<String> = "blocks" always,
    }

    /// A security group. A task may send and receive what one of its groups allows, and the answers to it.
    pub struct SecurityGroup {
        /// Its id, `sg-…`.
        id: String = "id",
        /// What it allows; nothing else is.
        rules: Vec<SecurityGroupRule> = "rules" always,
        /// The addresses of the tasks that belong to it; only of groups that a rule of this host's groups names.
        members: Vec<String> = "members",
    }

    /// What a security group allows.
    pub struct SecurityGroupRule {
        /// `ingress` or `egress`.
        direction: String = "direction",
        /// `tcp`, `udp` or `icmp`; `-1` is every protocol.
        protocol: String = "protocol",
        /// The first destination port; absent means every port.
        from_port: Option<i64> = "fromPort",
        /// The last one.
        to_port: Option<i64> = "toPort",
        /// The other end, as a range: `0.0.0.0/0` is everywhere. Exactly one of this and `group_id` is there.
        range: Option<String> = "range",
        /// The other end, as a group: its `members`.
        group_id: Option<String> = "groupId",
    }
}
