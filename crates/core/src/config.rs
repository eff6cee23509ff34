//! What a cell is told once, at start.

use std::sync::Arc;

use longshore_api::arn::Scope;

/// The configuration of a cell. It does not change while the cell runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellConfig {
    /// The region and account in every ARN.
    pub scope: Scope,
    /// The availability zone of instances that name none of their own.
    pub zone: Arc<str>,
    /// How long and how many stopped tasks are kept.
    pub retention: Retention,
}

/// How long stopped tasks stay describable (DESIGN §3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A stopped task lives at least this long, in milliseconds.
    pub at_least_ms: i64,
    /// And at most this long, in milliseconds.
    pub at_most_ms: i64,
    /// Beyond `at_least_ms` no more than this many stopped tasks are kept.
    pub count: usize,
}

impl Default for Retention {
    /// An hour as ECS promises, a day and 100,000 tasks (about 100 MB) at most.
    fn default() -> Self {
        Self { at_least_ms: 3_600_000, at_most_ms: 24 * 3_600_000, count: 100_000 }
    }
}

impl CellConfig {
    /// The configuration for a region and an account, with zone `<region>a` and the default retention.
    pub fn new(region: &str, account_id: &str) -> Self {
        Self {
            scope: Scope::new(region, account_id),
            zone: format!("{region}a").into(),
            retention: Retention::default(),
        }
    }
}
