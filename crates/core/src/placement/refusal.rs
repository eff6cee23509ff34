use std::fmt;
use std::sync::Arc;

use crate::resources::HostPort;

/// Why an instance cannot take a task, and by how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not ACTIVE.
    Inactive,
    /// Its agent is not connected.
    Agent,
    /// It lacks an attribute that the definition requires.
    Attribute {
        /// The attribute's name.
        name: String,
    },
    /// Too little CPU.
    Cpu {
        /// Units missing.
        missing: i64,
    },
    /// Too little memory.
    Memory {
        /// MiB missing.
        missing: i64,
    },
    /// None of the subnets is for its zone.
    Zone {
        /// The zone it is in.
        zone: String,
    },
    /// The subnets have no free address for it.
    Addresses,
    /// Too few GPUs that no other container has.
    Gpu {
        /// GPUs missing.
        missing: i64,
    },
    /// A host port is taken.
    Port {
        /// The first one that is.
        port: HostPort,
    },
    /// It does not satisfy a constraint of type `memberOf`.
    MemberOf {
        /// The constraint's expression.
        expression: Arc<str>,
    },
    /// A task of the same group is there, and the constraint `distinctInstance` was given.
    DistinctInstance {
        /// The group.
        group: Arc<str>,
    },
}

impl Refusal {
    /// The reason as ECS writes it into a `Failure`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Inactive => "INACTIVE",
            Self::Agent => "AGENT",
            Self::Attribute { .. } | Self::Zone { .. } => "ATTRIBUTE",
            Self::Addresses => "RESOURCE:ENI",
            Self::Cpu { .. } => "RESOURCE:CPU",
            Self::Memory { .. } => "RESOURCE:MEMORY",
            Self::Gpu { .. } => "RESOURCE:GPU",
            Self::Port { .. } => "RESOURCE:PORTS",
            Self::MemberOf { .. } => "MemberOf placement constraint unsatisfied.",
            Self::DistinctInstance { .. } => "DistinctInstance placement constraint unsatisfied.",
        }
    }
}

/// The detail of a `Failure`: what a person needs to know beyond the reason.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inactive => f.write_str("the instance is not ACTIVE"),
            Self::Agent => f.write_str("the agent is not connected"),
            Self::Attribute { name } => write!(f, "the instance lacks the attribute {name}"),
            Self::Zone { zone } => write!(f, "none of the subnets is in the instance's zone {zone}"),
            Self::Addresses => f.write_str("the subnets have no free address"),
            Self::Cpu { missing } => write!(f, "{missing} CPU units too few"),
            Self::Memory { missing } => write!(f, "{missing} MiB of memory too few"),
            Self::Gpu { missing } => write!(f, "{missing} GPUs too few"),
            Self::Port { port } => write!(f, "host port {port} is taken"),
            Self::MemberOf { expression } => write!(f, "the instance does not satisfy {expression}"),
            Self::DistinctInstance { group } => write!(f, "a task of the group {group} is there already"),
        }
    }
}
