//! Ranges of IPv4 addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A range such as `10.212.0.0/14`. Ranges are ordered by where they begin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ipv4Range {
    first: u32,
    prefix: u8,
}

/// Not a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a range of IPv4 addresses such as 10.212.0.0/16, with every bit behind the prefix 0")]
pub struct InvalidRange;

impl Ipv4Range {
    /// The range that begins at `first`.
    ///
    /// # Errors
    /// When the prefix is longer than 32 bits, or bits behind it are set.
    pub fn new(first: Ipv4Addr, prefix: u8) -> Result<Self, InvalidRange> {
        let range = Self { first: first.to_bits(), prefix };
        let aligned = prefix <= 32 && u64::from(range.first).is_multiple_of(range.size());
        if aligned { Ok(range) } else { Err(InvalidRange) }
    }

    /// All addresses there are.
    pub const fn everywhere() -> Self {
        Self { first: 0, prefix: 0 }
    }

    /// Where it begins.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first)
    }

    /// Where it ends.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.saturating_add((self.size() - 1).try_into().unwrap_or(u32::MAX)))
    }

    /// How many bits its addresses have in common.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// How many addresses it has.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix.min(32)))
    }

    /// Whether an address lies in it.
    pub fn has(self, address: Ipv4Addr) -> bool {
        (self.first()..=self.last()).contains(&address)
    }

    /// Whether all of another range lies in it.
    pub fn covers(self, other: Self) -> bool {
        self.has(other.first()) && self.has(other.last())
    }

    /// Whether they have an address in common: then one covers the other.
    pub fn meets(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The first range with so long a prefix within this one that begins at `from` or later and meets none of `taken`, which are
    /// in order and do not meet each other.
    pub(super) fn gap(self, prefix: u8, taken: impl Iterator<Item = Self>) -> Option<Self> {
        let size = 1u64 << (32 - u32::from(prefix.clamp(self.prefix, 32)));
        let mut from = u64::from(self.first);
        for other in taken.filter(|other| other.meets(self)) {
            if u64::from(other.first) >= from + size {
                break;
            }
            from = from.max((u64::from(other.first) + other.size()).next_multiple_of(size));
        }
        let first = u32::try_from(from).ok().map(Ipv4Addr::from_bits)?;
        Self::new(first, prefix.max(self.prefix)).ok().filter(|gap| self.covers(*gap))
    }
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

impl fmt::Debug for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Ipv4Range {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (first, prefix) = text.split_once('/').ok_or(InvalidRange)?;
        let digits = !prefix.is_empty() && prefix.len() <= 2 && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| digits).ok_or(InvalidRange)?;
        Self::new(first.parse().map_err(|_| InvalidRange)?, prefix)
    }
}

impl Serialize for Ipv4Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ipv4Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Ipv4Range {
        text.parse().unwrap_or_else(|_| panic!("{text} is a range"))
    }

    #[test]
    fn ranges_are_read_and_written_alike() {
        for text in ["0.0.0.0/0", "10.212.0.0/14", "10.0.0.4/30", "255.255.255.255/32"] {
            assert_eq!(range(text).to_string(), text);
        }
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/24", "10.0.0.0/+8", "10.0.0/8", "::/0"] {
            assert_eq!(text.parse::<Ipv4Range>(), Err(InvalidRange), "{text}");
        }
        assert_eq!(range("10.212.0.0/14").last(), Ipv4Addr::new(10, 215, 255, 255));
        assert_eq!((range("0.0.0.0/0").size(), range("1.2.3.4/32").size()), (1 << 32, 1));
        assert_eq!(range("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn a_gap_is_the_first_that_meets_nothing() {
        let gap = |within: &str, prefix, taken: &[&str]| {
            let found = range(within).gap(prefix, taken.iter().map(|text| range(text)));
            found.map_or_else(|| "none".to_owned(), |found| found.to_string())
        };
        assert_eq!(gap("10.0.0.0/24", 26, &[]), "10.0.0.0/26");
        assert_eq!(gap("10.0.0.0/24", 26, &["9.0.0.0/8", "10.0.0.0/26", "10.0.0.128/26"]), "10.0.0.64/26");
        assert_eq!(gap("10.0.0.0/24", 26, &["10.0.0.0/30", "10.0.0.64/30", "10.0.0.192/26"]), "10.0.0.128/26");
        assert_eq!(gap("10.0.0.0/24", 26, &["10.0.0.0/25", "10.0.0.128/25"]), "none");
        assert_eq!(gap("10.0.0.0/24", 26, &["10.0.0.0/8"]), "none");
        assert_eq!(gap("10.0.0.0/28", 26, &[]), "10.0.0.0/28", "a block is no larger than what it is cut from");
        assert_eq!(gap("255.255.255.0/24", 25, &["255.255.255.0/25", "255.255.255.128/25"]), "none");
    }
}
