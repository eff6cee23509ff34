//! What a cell is told once, at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::arn::Scope;

use crate::instance::AgentKind;
use crate::network::NetworkConfig;

/// The configuration of a cell. It does not change while the cell runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellConfig {
    /// The region and account in every ARN.
    pub scope: Scope,
    /// The availability zone of instances that name none of their own.
    pub zone: Arc<str>,
    /// How long and how many stopped tasks are kept.
    pub retention: Retention,
    /// When an instance that is not heard of is lost.
    pub loss: LossPolicy,
    /// The networks of awsvpc tasks.
    pub network: NetworkConfig,
    /// How capacity providers scale.
    pub scaling: ScalingConfig,
}

/// How capacity providers scale, as far as ECS has no field for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingConfig {
    /// The launchers, by name, and between how many machines each may have: what ECS's clients set on an Auto Scaling group.
    pub launchers: BTreeMap<Arc<str>, FleetSize>,
    /// For how long machines have to be more than needed before some are removed, in milliseconds.
    pub scale_in_after_ms: i64,
    /// For how long a task waits for machines, in milliseconds.
    pub provision_for_ms: i64,
}

/// Between how many machines a launcher may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetSize {
    /// At least.
    pub minimum: u32,
    /// At most.
    pub maximum: u32,
}

impl Default for FleetSize {
    fn default() -> Self {
        Self { minimum: 0, maximum: 100 }
    }
}

impl Default for ScalingConfig {
    /// Fifteen minutes each, as ECS documents.
    fn default() -> Self {
        Self { launchers: BTreeMap::new(), scale_in_after_ms: 900_000, provision_for_ms: 900_000 }
    }
}

/// When an instance that is not heard of is lost, and when that is held back (DESIGN §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossPolicy {
    /// How long an instance with our agent may be without a session, in milliseconds; `None` for ever.
    pub lost_after_ms: Option<i64>,
    /// The same for the official agent.
    pub official_lost_after_ms: Option<i64>,
    /// How long after the cell began to serve our agents have time to come before their clock starts, in milliseconds.
    pub return_grace_ms: i64,
    /// The same for the official agent.
    pub official_return_grace_ms: i64,
    /// When more than this many percent of a cluster's hosts vanish within the window, nothing is evicted there.
    pub brake_percent: u32,
    /// The window, in milliseconds.
    pub brake_window_ms: i64,
}

/// What of the policy is about one kind of agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossClock {
    /// How long it may be without a session, in milliseconds; `None` for ever.
    pub lost_after_ms: Option<i64>,
    /// How long after the cell began to serve its clock starts, in milliseconds.
    pub grace_ms: i64,
}

impl Default for LossPolicy {
    /// A minute for our agent, five for the official one, which backs off up to two and a half and keeps a silent socket for
    /// two. The grace is twice the longest back-off: 15 seconds and 2.5 minutes.
    fn default() -> Self {
        Self {
            lost_after_ms: Some(60_000),
            official_lost_after_ms: Some(300_000),
            return_grace_ms: 30_000,
            official_return_grace_ms: 300_000,
            brake_percent: 30,
            brake_window_ms: 60_000,
        }
    }
}

impl LossPolicy {
    /// What holds for a kind of agent.
    pub fn clock(&self, kind: AgentKind) -> LossClock {
        match kind {
            AgentKind::Longshore => LossClock { lost_after_ms: self.lost_after_ms, grace_ms: self.return_grace_ms },
            AgentKind::Official => {
                LossClock { lost_after_ms: self.official_lost_after_ms, grace_ms: self.official_return_grace_ms }
            }
        }
    }

    /// The same patience with every agent, as an operator asks for by one number.
    #[must_use]
    pub fn lost_after(self, lost_after_ms: Option<i64>) -> Self {
        Self { lost_after_ms, official_lost_after_ms: lost_after_ms, ..self }
    }
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
    /// The configuration for a region and an account, with zone `<region>a` and the default retention
    /// and loss policy.
    pub fn new(region: &str, account_id: &str) -> Self {
        Self {
            scope: Scope::new(region, account_id),
            zone: format!("{region}a").into(),
            retention: Retention::default(),
            loss: LossPolicy::default(),
            network: NetworkConfig::default(),
            scaling: ScalingConfig::default(),
        }
    }
}
