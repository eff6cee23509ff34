//! The clocks of machines: each is off by something, and may be set while the world goes on.

use longshore_api::Timestamp;

/// How far a machine's clock is from the world's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    off_ms: i64,
}

impl Clock {
    /// What it shows.
    pub(crate) fn read(self, now: Timestamp) -> Timestamp {
        now.plus_millis(self.off_ms)
    }

    /// Somebody sets it forward, or back.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.off_ms += by_ms;
    }
}
