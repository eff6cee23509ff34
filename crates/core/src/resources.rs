//! Units and ports: what tasks ask for and instances offer.
//!
//! Definitions, placement and instances compute on these types only, so that MiB are never added to CPU units.

use std::fmt;

use serde::{Deserialize, Serialize};

/// CPU units: 1,024 of them are one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CpuUnits(pub u32);

/// Memory in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemoryMib(pub u32);

impl CpuUnits {
    /// CPU units of a number from a document, where absent, zero and negative all mean none.
    pub fn from_document(units: Option<i32>) -> Self {
        Self(units.and_then(|units| u32::try_from(units).ok()).unwrap_or(0))
    }

    /// The sum; a sum beyond the type stays at its end, and no instance has that much.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl MemoryMib {
    /// MiB of a number from a document, where absent, zero and negative all mean that nothing was given.
    pub fn from_document(mib: Option<i32>) -> Option<Self> {
        mib.and_then(|mib| u32::try_from(mib).ok()).filter(|mib| *mib > 0).map(Self)
    }

    /// The sum; a sum beyond the type stays at its end, and no instance has that much.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The same amount in bytes.
    pub fn bytes(self) -> i64 {
        i64::from(self.0) * (1 << 20)
    }
}

impl fmt::Display for CpuUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MemoryMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, which ECS assumes when nothing is said.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The word in documents and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// Its number, never 0.
    pub port: u16,
    /// Its protocol: tcp/53 and udp/53 are two ports.
    pub protocol: Protocol,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.as_str())
    }
}

/// How the containers of a task reach the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkMode {
    /// Docker's bridge, with ports mapped to the host. What ECS assumes when nothing is said.
    #[default]
    Bridge,
    /// The network of the host itself.
    Host,
    /// No network.
    None,
    /// A network interface of its own.
    Awsvpc,
}

impl NetworkMode {
    /// The word in documents and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
            Self::Awsvpc => "awsvpc",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_documents_are_clamped_to_what_they_can_mean() {
        assert_eq!(CpuUnits::from_document(None), CpuUnits(0));
        assert_eq!(CpuUnits::from_document(Some(-3)), CpuUnits(0));
        assert_eq!(CpuUnits::from_document(Some(50)), CpuUnits(50));
        assert_eq!(MemoryMib::from_document(Some(0)), None);
        assert_eq!(MemoryMib::from_document(Some(-1)), None);
        assert_eq!(MemoryMib::from_document(Some(6)), Some(MemoryMib(6)));
    }

    #[test]
    fn sums_never_wrap() {
        assert_eq!(CpuUnits(u32::MAX).saturating_add(CpuUnits(1)), CpuUnits(u32::MAX));
        assert_eq!(MemoryMib(u32::MAX).saturating_add(MemoryMib(1)), MemoryMib(u32::MAX));
        assert_eq!(MemoryMib(u32::MAX).bytes(), i64::from(u32::MAX) * 1_048_576);
    }
}
