//! What the cell decides on its own, told so that an operator can follow it. Nothing depends on a decision being read.

use std::fmt;
use std::sync::Arc;

use longshore_api::Timestamp;

use crate::ids::{InstanceKey, SessionId};
use crate::instance::{InstanceStatus, SessionRefusal};

/// A decision with what led to it; [`fmt::Display`] puts it into one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The cell begins to serve: agents that were connected elsewhere have time to come.
    ReturnsAwaited {
        /// How many instances have no session.
        instances: usize,
    },
    /// An instance has no session any more: its loss clock runs.
    InstanceVanished {
        /// Which.
        instance: InstanceKey,
        /// When its agent was last heard of.
        heard_at: Timestamp,
        /// When it will be lost; `None` when it never is, or the brake of its cluster holds.
        lost_at: Option<Timestamp>,
    },
    /// An instance is given up, and its tasks with it.
    InstanceLost {
        /// Which.
        instance: InstanceKey,
        /// For how long its agent was not heard of.
        silent_ms: i64,
        /// How many of its tasks get the verdict.
        tasks: usize,
    },
    /// A lost instance is back.
    InstanceReturned {
        /// Which.
        instance: InstanceKey,
        /// How long ago it was lost.
        lost_for_ms: i64,
        /// How many of its tasks were given up meanwhile, and are told to stop.
        stale: usize,
    },
    /// A newer session of an instance took the place of an older one.
    SessionReplaced {
        /// Whose.
        instance: InstanceKey,
        /// The one that is closed.
        older: SessionId,
        /// The one that counts.
        newer: SessionId,
    },
    /// Somebody asked for a session of an instance that is not theirs, or not in service any more.
    SessionRefused {
        /// As they named it.
        instance_arn: Arc<str>,
        /// Who asked.
        access_key_id: Arc<str>,
        /// Why not.
        refusal: SessionRefusal,
    },
    /// Too many hosts of a cluster vanished at once: nothing is evicted there until they return or an operator says so.
    BrakeEngaged {
        /// The cluster's name.
        cluster: Arc<str>,
        /// How many hosts vanished.
        vanished: usize,
        /// Of how many.
        of: usize,
    },
    /// Eviction goes on in a cluster.
    BrakeReleased {
        /// The cluster's name.
        cluster: Arc<str>,
        /// By what.
        why: Released,
        /// How many hosts are still missing.
        missing: usize,
    },
    /// An invocation of a schedule failed, and is not tried again.
    ScheduleFailed {
        /// The schedule's name.
        schedule: Arc<str>,
        /// Why, as far as it is known.
        why: Option<Arc<str>>,
    },
    /// Due times of a schedule were noticed too late.
    ScheduleMissed {
        /// The schedule's name.
        schedule: Arc<str>,
        /// How many.
        times: u32,
    },
    /// Something about the machines of a capacity provider.
    Fleet {
        /// The name of the cluster.
        cluster: Arc<str>,
        /// The name of the provider.
        provider: Arc<str>,
        /// What.
        news: FleetNews,
    },
    /// An instance's status was changed on request; INACTIVE follows when none of its tasks is left.
    StatusChanged {
        /// Whose.
        instance: InstanceKey,
        /// What it was.
        from: InstanceStatus,
        /// What it is.
        to: InstanceStatus,
    },
}

/// What happens to the machines of a capacity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetNews {
    /// Its launcher is asked for more.
    Adding {
        /// How many.
        machines: usize,
        /// `CapacityProviderReservation`, in percent.
        reservation: usize,
    },
    /// Machines are needed, and its launcher is not asked: it has enough to do.
    TooManyOrders {
        /// How many orders are under way.
        orders: usize,
    },
    /// An order that failed is taken back: nobody needs its machines any more.
    Withdrawn {
        /// The order's number.
        order: u64,
        /// How many of them have not come.
        machines: usize,
    },
    /// Machines that were asked for did not register within their warm-up.
    Missing {
        /// The order's number.
        order: u64,
        /// How many.
        machines: usize,
    },
    /// Instances without tasks are drained, to be removed.
    Draining {
        /// How many.
        machines: usize,
    },
    /// Their launcher is asked to remove machines.
    Removing {
        /// How many.
        machines: usize,
    },
    /// The launcher did not do what it was asked for.
    LauncherFailed {
        /// The order's number.
        order: u64,
        /// How often in a row.
        failures: u32,
        /// Why, as far as it said.
        reason: Arc<str>,
    },
}

/// What released the mass-loss brake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Enough hosts came back.
    Returned,
    /// An operator said that the others are gone.
    Operator,
}

impl Decision {
    /// Whether an operator should look.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::InstanceLost { .. }
            | Self::SessionRefused { .. }
            | Self::BrakeEngaged { .. }
            | Self::ScheduleFailed { .. }
            | Self::ScheduleMissed { .. } => true,
            Self::Fleet { news, .. } => matches!(
                news,
                FleetNews::Missing { .. } | FleetNews::LauncherFailed { .. } | FleetNews::TooManyOrders { .. }
            ),
            Self::ReturnsAwaited { .. }
            | Self::InstanceVanished { .. }
            | Self::InstanceReturned { .. }
            | Self::SessionReplaced { .. }
            | Self::BrakeReleased { .. }
            | Self::StatusChanged { .. } => false,
        }
    }

    /// The instance it is about, if it is about one.
    pub fn instance(&self) -> Option<InstanceKey> {
        match self {
            Self::InstanceVanished { instance, .. }
            | Self::InstanceLost { instance, .. }
            | Self::InstanceReturned { instance, .. }
            | Self::SessionReplaced { instance, .. }
            | Self::StatusChanged { instance, .. } => Some(*instance),
            Self::ReturnsAwaited { .. }
            | Self::SessionRefused { .. }
            | Self::BrakeEngaged { .. }
            | Self::BrakeReleased { .. }
            | Self::ScheduleFailed { .. }
            | Self::ScheduleMissed { .. }
            | Self::Fleet { .. } => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReturnsAwaited { instances } => {
                write!(f, "{instances} container instances have no session yet: their agents have time to return")
            }
            Self::InstanceVanished { instance, lost_at: Some(lost_at), heard_at } => {
                let seconds = seconds(lost_at.since(*heard_at));
                write!(f, "container instance {} vanished: lost if it is silent for {seconds}", instance.id)
            }
            Self::InstanceVanished { instance, lost_at: None, .. } => {
                write!(f, "container instance {} vanished: nothing is evicted", instance.id)
            }
            Self::InstanceLost { instance, silent_ms, tasks } => {
                let silent = seconds(*silent_ms);
                write!(f, "container instance {} is lost with {tasks} tasks: silent for {silent}", instance.id)
            }
            Self::InstanceReturned { instance, lost_for_ms, stale } => {
                let ago = seconds(*lost_for_ms);
                write!(f, "container instance {} is back, lost {ago} ago: {stale} stale tasks are stopped", instance.id)
            }
            Self::SessionReplaced { instance, older, newer } => {
                write!(f, "container instance {}: session {} replaces session {}", instance.id, newer.0, older.0)
            }
            Self::SessionRefused { instance_arn, access_key_id, refusal } => {
                write!(f, "the access key {access_key_id} gets no session of {instance_arn}: {refusal}")
            }
            Self::BrakeEngaged { cluster, vanished, of } => {
                write!(f, "mass-loss brake: {vanished} of {of} hosts of cluster {cluster} vanished: nothing is evicted")
            }
            Self::BrakeReleased { cluster, why, missing } => {
                let why = match why {
                    Released::Returned => "enough hosts are back",
                    Released::Operator => "an operator gave the missing up",
                };
                write!(f, "mass-loss brake of cluster {cluster} released: {why}, {missing} missing")
            }
            Self::ScheduleFailed { schedule, why } => {
                write!(
                    f,
                    "an invocation of the schedule {schedule} failed: {}",
                    why.as_deref().unwrap_or("no task was placed")
                )
            }
            Self::ScheduleMissed { schedule, times } => write!(f, "the schedule {schedule} missed {times} due times"),
            Self::Fleet { cluster, provider, news } => {
                write!(f, "capacity provider {provider} of cluster {cluster}: {news}")
            }
            Self::StatusChanged { instance, from, to } => {
                write!(f, "container instance {} goes from {} to {}", instance.id, from.as_str(), to.as_str())
            }
        }
    }
}

impl fmt::Display for FleetNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adding { machines, reservation } => {
                write!(f, "asking for {machines} more machines: CapacityProviderReservation is {reservation}")
            }
            Self::TooManyOrders { orders } => {
                write!(f, "more machines are needed, but not asked for: {orders} orders are under way already")
            }
            Self::Withdrawn { order, machines } => {
                write!(f, "order {order} is taken back: its {machines} machines are not needed any more")
            }
            Self::Missing { order, machines } => {
                write!(f, "{machines} machines of order {order} did not come: they are not waited for any longer")
            }
            Self::Draining { machines } => write!(f, "draining {machines} instances that nobody needs"),
            Self::Removing { machines } => write!(f, "removing {machines} machines"),
            Self::LauncherFailed { order, failures, reason } => {
                write!(f, "the launcher failed at order {order}, {failures} times now: {reason}")
            }
        }
    }
}

/// A span of time for people: whole seconds once there is one.
pub(crate) fn seconds(ms: i64) -> String {
    match ms {
        1_000 => "1 second".to_owned(),
        ..1_000 => format!("{ms} milliseconds"),
        _ => format!("{} seconds", ms / 1_000),
    }
}
