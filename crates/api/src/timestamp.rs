//! Points in time, in milliseconds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the epoch; on the wire a JSON number of seconds with a fraction.
///
/// Millisecond steps survive the wire exactly: a double carries them for 285,000 years.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time `millis` after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time moved by `millis`, which may be negative; stops at the ends of the range.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `other` to this, negative when `other` is later.
    pub const fn since(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

/// Seconds with three decimals, as on the wire.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let millis = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:03}", millis / 1000, millis % 1000)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // `as` saturates at the ends and takes NaN to zero; JSON cannot say NaN.
        Ok(Self((seconds * 1000.0).round() as i64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_wire_form_is_seconds_with_a_fraction() {
        let time = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(serde_json::to_string(&time).unwrap(), "1700000000.123");
        assert_eq!(serde_json::from_str::<Timestamp>("1700000000").unwrap().as_millis(), 1_700_000_000_000);
        assert!(serde_json::from_str::<Timestamp>("\"2024-01-01\"").is_err());
        assert_eq!(time.to_string(), "1700000000.123");
        assert_eq!(Timestamp::from_millis(-5).to_string(), "-0.005");
    }

    #[test]
    fn arithmetic_saturates() {
        let late = Timestamp::from_millis(i64::MAX);
        assert_eq!(late.plus_millis(1), late);
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(7)), -2);
    }

    proptest! {
        #[test]
        fn milliseconds_survive_the_wire(millis in -4_000_000_000_000_i64..400_000_000_000_000) {
            let time = Timestamp::from_millis(millis);
            let text = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time);
        }
    }
}
