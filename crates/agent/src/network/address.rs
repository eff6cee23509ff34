//! Addresses of the task network: ranges, hardware addresses, and the names that devices and chains are given.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use aws_lc_rs::digest;

/// A range of IPv4 addresses, `10.0.3.0/24`. Bits below the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Range {
    first: Ipv4Addr,
    prefix: u8,
}

impl Range {
    /// The range of that prefix length that the address lies in; none for a prefix beyond 32.
    pub(crate) fn around(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let mask = match prefix {
            0 => 0,
            1..=32 => u32::MAX << (32 - prefix),
            _ => return None,
        };
        Some(Self { first: Ipv4Addr::from(u32::from(address) & mask), prefix })
    }

    /// The one address.
    pub(crate) fn only(address: Ipv4Addr) -> Self {
        Self { first: address, prefix: 32 }
    }

    /// Every address.
    pub(crate) fn everything() -> Self {
        Self { first: Ipv4Addr::UNSPECIFIED, prefix: 0 }
    }

    /// Its network address.
    pub(crate) fn first(self) -> Ipv4Addr {
        self.first
    }

    /// Length of its prefix.
    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the address lies in it.
    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        Self::around(address, self.prefix) == Some(self)
    }

    /// Whether it is every address.
    pub(crate) fn is_everything(self) -> bool {
        self.prefix == 0
    }

    /// Whether the two have an address in common.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Range {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (address, prefix) = host_in_range(text)?;
        Self::around(address, prefix).ok_or_else(|| NotAnAddress(text.to_owned()))
    }
}

/// Reads `10.0.0.1/24`: an address and the length of its network's prefix.
pub(crate) fn host_in_range(text: &str) -> Result<(Ipv4Addr, u8), NotAnAddress> {
    let wrong = || NotAnAddress(text.to_owned());
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, prefix))
}

/// What was read is no address, range or hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address")]
pub(crate) struct NotAnAddress(pub(crate) String);

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// The address of the overlay's end on a host: every host knows every other's without asking.
    pub(crate) fn of_host(host_id: &str) -> Self {
        let hash = hash("longshore overlay", host_id);
        // Locally administered, for one station.
        Self([0x02, hash[0], hash[1], hash[2], hash[3], hash[4]])
    }

    /// The address of the host's end of a task's cable: the task is told, so that it need not ask.
    pub(crate) fn of_cable(interface: Mac) -> Self {
        let [_, b, c, d, e, f] = interface.0;
        Self([0x06, b, c, d, e, f ^ 0x01])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for Mac {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let wrong = || NotAnAddress(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        let is_one_station = bytes[0] & 1 == 0;
        match (parts.next(), is_one_station) {
            (None, true) => Ok(Self(bytes)),
            _ => Err(wrong()),
        }
    }
}

/// What tells this agent's devices and chains from those of another agent that shares the host's network: tests do, and
/// `longshore up` beside an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope(String);

/// The kernel takes 15 characters.
const DEVICE_NAME_MAX: usize = 15;

impl Scope {
    /// The scope of an agent, whatever tells it from others.
    pub(crate) fn of(agent: &str) -> Self {
        Self(hex::encode(&hash("longshore scope", agent)[..2]))
    }

    /// The number of an overlay that is made for a moment: neither the real one's nor that of another agent that starts now.
    pub(crate) fn trial_vni(&self) -> u32 {
        0xff_0000 | u32::from_str_radix(&self.0, 16).unwrap_or_default()
    }

    /// What the names of all task devices on the host begin with.
    pub(crate) fn device_prefix(&self) -> String {
        format!("ls{}-", self.0)
    }

    /// The host's end of a task's cable.
    pub(crate) fn device(&self, task_arn: &str) -> String {
        let name = format!("{}{}", self.device_prefix(), short(task_arn));
        debug_assert!(name.len() <= DEVICE_NAME_MAX);
        name
    }

    /// The overlay's device.
    pub(crate) fn overlay(&self) -> String {
        format!("lsvx{}", self.0)
    }

    /// A chain of packet rules.
    pub(crate) fn chain(&self, name: &str) -> String {
        format!("{}{name}", self.chain_prefix())
    }

    /// What the names of all chains begin with.
    pub(crate) fn chain_prefix(&self) -> String {
        format!("LS{}-", self.0)
    }
}

/// Eight characters in place of a long name.
pub(crate) fn short(name: &str) -> String {
    hex::encode(&hash("longshore name", name)[..4])
}

fn hash(what: &str, name: &str) -> [u8; 8] {
    let hash = digest::digest(&digest::SHA256, format!("{what}\0{name}").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range: Range = "10.0.3.7/24".parse().unwrap();
        assert_eq!(range.to_string(), "10.0.3.0/24");
        assert!(range.contains(Ipv4Addr::new(10, 0, 3, 255)));
        assert!(!range.contains(Ipv4Addr::new(10, 0, 4, 0)));
        assert!(range.overlaps("10.0.0.0/16".parse().unwrap()));
        assert!("10.0.0.0/16".parse::<Range>().unwrap().overlaps(range));
        assert!(!range.overlaps("10.0.2.0/24".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Range>().unwrap().is_everything());
        assert_eq!(host_in_range("10.0.0.1/24"), Ok((Ipv4Addr::new(10, 0, 0, 1), 24)));
        for wrong in ["", "10.0.0.1", "10.0.0.1/33", "10.0.0/8", "10.0.0.1/", "::/0"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hardware_addresses() {
        let mac: Mac = "02:00:0a:00:03:05".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:0a:00:03:05");
        for wrong in
            ["", "02:00:0a:00:03", "02:00:0a:00:03:05:06", "02:00:0a:00:03:5", "01:00:00:00:00:01", "zz:00:0a:00:03:05"]
        {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
        assert_ne!(Mac::of_cable(mac), mac);
        assert_ne!(Mac::of_host("a"), Mac::of_host("b"));
    }

    #[test]
    fn names_fit_the_kernel() {
        let scope = Scope::of("some host");
        let device = scope.device("arn:aws:ecs:eu-central-1:123456789012:task/default/0123456789abcdef");
        assert_eq!(device.len(), DEVICE_NAME_MAX);
        assert!(scope.overlay().len() <= DEVICE_NAME_MAX);
        assert!(!scope.overlay().starts_with(&scope.device_prefix()));
        // iptables takes 28 characters.
        assert!(scope.chain(&format!("group-out-{}", short("sg-1"))).len() <= 28);
    }
}
