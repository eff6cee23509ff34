//! What telemetry was seen: counts only, volatile, bounded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use longshore_api::Timestamp;

use crate::limits::MAX_TELEMETRY_INSTANCES;

/// What one instance published since its session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TelemetryCounts {
    /// Metrics messages.
    pub metrics: u64,
    /// Health messages.
    pub health: u64,
    /// Instance status messages.
    pub instance_status: u64,
    /// Tasks in the last metrics message.
    pub tasks_in_last: usize,
    /// When the last message came.
    pub last_at: Timestamp,
}

/// The counts of every instance with a telemetry session, by its ARN as the agent gives it.
#[derive(Debug, Default)]
pub struct Telemetry {
    instances: Mutex<BTreeMap<String, TelemetryCounts>>,
}

impl Telemetry {
    /// The counts of an instance, if it has published anything in its session.
    pub fn counts(&self, instance_arn: &str) -> Option<TelemetryCounts> {
        self.with(|instances| instances.get(instance_arn).copied())
    }

    /// Counts a message.
    pub(super) fn count(&self, instance_arn: &str, at: Timestamp, message: impl FnOnce(&mut TelemetryCounts)) {
        self.with(|instances| {
            if !instances.contains_key(instance_arn) {
                if instances.len() >= MAX_TELEMETRY_INSTANCES {
                    return;
                }
                instances.insert(instance_arn.to_owned(), TelemetryCounts::default());
            }
            if let Some(counts) = instances.get_mut(instance_arn) {
                message(counts);
                counts.last_at = at;
            }
        });
    }

    /// Forgets an instance whose session ended.
    pub(super) fn forget(&self, instance_arn: &str) {
        self.with(|instances| instances.remove(instance_arn));
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<String, TelemetryCounts>) -> T) -> T {
        f(&mut self.instances.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_grow_per_instance_and_end_with_it() {
        let telemetry = Telemetry::default();
        let at = Timestamp::from_millis(5);
        telemetry.count("a", at, |counts| counts.metrics += 1);
        telemetry.count("a", at, |counts| counts.metrics += 1);
        telemetry.count("b", at, |counts| counts.health += 1);
        assert_eq!(telemetry.counts("a").unwrap().metrics, 2);
        assert_eq!(telemetry.counts("b").unwrap().last_at, at);
        telemetry.forget("a");
        assert_eq!(telemetry.counts("a"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let telemetry = Telemetry::default();
        for index in 0..=MAX_TELEMETRY_INSTANCES {
            telemetry.count(&index.to_string(), Timestamp::default(), |counts| counts.health += 1);
        }
        assert_eq!(telemetry.counts(&MAX_TELEMETRY_INSTANCES.to_string()), None);
        assert!(telemetry.counts("0").is_some());
    }
}
