//! One start of a container, cut into the steps that clocks on this machine can tell apart.

use std::time::SystemTime;

use serde_json::Value;

/// Wall clock, in ms since the epoch: Docker and the control plane stamp with the same one.
pub(crate) fn clock_ms() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

/// When things happened, in ms since the epoch.
pub(crate) struct Marks {
    pub(crate) asked: f64,
    /// RunTask or create was answered.
    pub(crate) answered: f64,
    /// The Engine's `Created`: it has read the request to create.
    pub(crate) created: f64,
    /// The Engine's `State.StartedAt`: the process runs.
    pub(crate) started: f64,
    /// The control plane's `startedAt`; truncated to whole ms. `None` for a direct start.
    pub(crate) known: Option<f64>,
    /// The caller knows that it runs.
    pub(crate) seen: f64,
}

impl Marks {
    /// The Engine's two stamps, from `inspect`.
    pub(crate) fn engine_stamps(inspected: &Value) -> (f64, f64) {
        (stamp(&inspected["Created"]), stamp(&inspected["State"]["StartedAt"]))
    }

    pub(crate) fn total(&self) -> f64 {
        self.seen - self.asked
    }

    /// From the Engine's beginning to create until the process runs: the same work whoever asks for it.
    pub(crate) fn engine(&self) -> f64 {
        self.started - self.created
    }
}

fn stamp(text: &Value) -> f64 {
    let text = text.as_str().expect("a time of the Engine");
    let at: jiff::Timestamp = text.parse().expect("a time of the Engine in RFC 3339");
    at.as_nanosecond() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_engines_stamps_are_read_to_the_nanosecond() {
        let inspected =
            json!({"Created": "1970-01-01T00:00:01.5Z", "State": {"StartedAt": "1970-01-01T00:00:01.750500000Z"}});
        assert_eq!(Marks::engine_stamps(&inspected), (1_500.0, 1_750.5));
    }
}
