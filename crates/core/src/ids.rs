//! Internal identities. Things are owned by these, never by a name that a caller chose.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use longshore_api::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entropy::Entropy;

/// A cluster's identity: the commit number of its creation. A name that is deleted and created anew gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// A session of an agent with this server process. Volatile; unique while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// A new id: 48 bits of milliseconds, then 80 bits of entropy.
            ///
            /// The time comes first so that new entities land next to each other in every ordered map
            /// and in the store, and a listing comes in order of creation.
            pub fn generate(now: Timestamp, entropy: &mut Entropy) -> Self {
                let time = (now.as_millis().max(0) as u128) & 0xffff_ffff_ffff;
                let random = (u128::from(entropy.next_u64()) << 16) | u128::from(entropy.next_u64() >> 48);
                Self((time << 80) | random)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                match (text.len(), digits) {
                    (32, true) => u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidId),
                    _ => Err(InvalidId),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A container instance's identity: the 32 hex digits at the end of its ARN.
    InstanceId
);
hex_id!(
    /// A task's identity: the 32 hex digits at the end of its ARN.
    TaskId
);

hex_id!(
    /// What tasks that wait have in common that the same instances can take; made from what they ask for.
    KindId
);

/// The text is not 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has 32 lower-case hex digits")]
pub struct InvalidId;

/// Where an instance is kept: its cluster and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceKey {
    /// The cluster it registered into.
    pub cluster: ClusterId,
    /// Its id.
    pub id: InstanceId,
}

/// Where a task is kept: its cluster and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The cluster it runs in.
    pub cluster: ClusterId,
    /// Its id.
    pub id: TaskId,
}

/// A task definition's identity: family and revision, never reused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DefinitionKey {
    /// The family name.
    pub family: Arc<str>,
    /// The revision, from 1.
    pub revision: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_by_time_and_round_trip() {
        let mut entropy = Entropy::from_seed([7; 32]);
        let early = TaskId::generate(Timestamp::from_millis(1_000), &mut entropy);
        let late = TaskId::generate(Timestamp::from_millis(1_001), &mut entropy);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(early.to_string().len(), 32);
    }

    #[test]
    fn an_id_is_nothing_but_32_lower_case_hex_digits() {
        for bad in ["", "abc", "0123456789ABCDEF0123456789ABCDEF", "+123456789abcdef0123456789abcdef"] {
            assert_eq!(bad.parse::<TaskId>(), Err(InvalidId), "{bad}");
        }
    }
}
