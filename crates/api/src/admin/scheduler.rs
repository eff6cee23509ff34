//! The external scheduler of a cluster: who decides where its tasks go, instead of the server.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::shapes::{INTEGER, NAME, STRING, request, within};
use crate::json::wire_json;
use crate::shape::{Kind, Member, Shape};

/// How long a scheduler may take to decide about a task, in seconds.
pub const SCHEDULER_DEADLINE_SECONDS: RangeInclusive<i32> = 1..=3_600;

/// Names the scheduler of a cluster, or changes it. Tasks that wait for the one before are given to the new one, which has its
/// whole deadline for them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetClusterSchedulerRequest {
    /// Name or ARN; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Within [`SCHEDULER_DEADLINE_SECONDS`]; 5 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<i32>,
    /// What becomes of a task that it does not decide about in time; `place` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<SchedulerFallback>,
    /// Where it is asked: `http://` or `https://`, a host, and perhaps a port and a path.
    pub url: String,
}

/// What becomes of a task that a scheduler does not decide about in time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerFallback {
    /// The server places it, as if there were no scheduler.
    #[default]
    Place,
    /// It is stopped.
    Stop,
    /// It waits on.
    Wait,
}

impl SchedulerFallback {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Stop => "stop",
            Self::Wait => "wait",
        }
    }
}

/// The scheduler as it is now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetClusterSchedulerResponse {
    /// It.
    pub scheduler: ClusterScheduler,
}

/// Takes the scheduler of a cluster away: tasks that wait for it are placed by the server, and stopped if they fit nowhere and
/// may not wait for room. Without one nothing changes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsetClusterSchedulerRequest {
    /// Name or ARN; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// It is taken away.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsetClusterSchedulerResponse {
    /// The cluster's name.
    pub cluster: String,
}

/// Asks for the scheduler of a cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeClusterSchedulerRequest {
    /// Name or ARN; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// The scheduler of a cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeClusterSchedulerResponse {
    /// The cluster's name.
    pub cluster: String,
    /// Absent if the server places its tasks itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<ClusterScheduler>,
    /// How many tasks wait for it.
    pub waiting_tasks: i32,
}

/// An external scheduler.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterScheduler {
    /// How long it may take to decide about a task.
    pub deadline_seconds: i32,
    /// What becomes of a task that it does not decide about in time.
    pub fallback: SchedulerFallback,
    /// Where it is asked.
    pub url: String,
}

wire_json!(
    SetClusterSchedulerRequest,
    SetClusterSchedulerResponse,
    UnsetClusterSchedulerRequest,
    UnsetClusterSchedulerResponse,
    DescribeClusterSchedulerRequest,
    DescribeClusterSchedulerResponse,
);

static FALLBACK: Shape = Shape::new("SchedulerFallback", Kind::Enum(&["place", "stop", "wait"]));

pub(super) static SET_CLUSTER_SCHEDULER: Shape = request(
    "SetClusterSchedulerRequest",
    &[
        Member::optional("cluster", &STRING).within(NAME),
        Member::optional("deadlineSeconds", &INTEGER).within(within(SCHEDULER_DEADLINE_SECONDS)),
        Member::optional("fallback", &FALLBACK),
        Member::required("url", &STRING).within(NAME),
    ],
);

pub(super) static UNSET_CLUSTER_SCHEDULER: Shape =
    request("UnsetClusterSchedulerRequest", &[Member::optional("cluster", &STRING).within(NAME)]);

pub(super) static DESCRIBE_CLUSTER_SCHEDULER: Shape =
    request("DescribeClusterSchedulerRequest", &[Member::optional("cluster", &STRING).within(NAME)]);
