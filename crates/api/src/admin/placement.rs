//! ExplainPlacement: where a task could run now, and everything that stands in its way elsewhere.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::shapes::{INTEGER, NAME, STRING, request, within};
use crate::Timestamp;
use crate::ecs::shapes::PLACEMENT_CONSTRAINTS;
use crate::ecs::types::PlacementConstraint;
use crate::json::wire_json;
use crate::shape::{Kind, Limits, Member, Shape};

/// How many copies may be asked about.
pub const COUNT: RangeInclusive<i32> = 1..=10_000;

/// How many subnets may be named: as many as RunTask allows.
const SUBNETS: RangeInclusive<i32> = 1..=16;

/// Asks where copies of a task definition could run. Nothing is placed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainPlacementRequest {
    /// Name or ARN; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How many copies, within [`COUNT`]; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i32>,
    /// For definitions with `networkMode` awsvpc: the subnets that RunTask would name, at most 16; every known one if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnets: Option<Vec<String>>,
    /// The group that the tasks would belong to; `family:<family>` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// As RunTask has them: besides those of the definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement_constraints: Option<Vec<PlacementConstraint>>,
    /// `family` (its latest ACTIVE revision), `family:revision` or an ARN.
    pub task_definition: String,
}

/// What a task needs, what each container instance says to it, and what to do.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainPlacementResponse {
    /// The cluster's name.
    pub cluster: String,
    /// The definition's ARN.
    pub task_definition: String,
    /// How many copies were asked about.
    pub count: i32,
    /// What one copy needs of an instance.
    pub needs: TaskNeeds,
    /// How many copies fit altogether, as far as that is asked: at most `count`.
    pub placeable: i32,
    /// Each container instance of the cluster, in the order of registration; those that are INACTIVE are none.
    pub instances: Vec<InstanceVerdict>,
    /// There are more than are listed.
    pub more_instances: bool,
    /// How many container instances refuse, for each reason: one that refuses for several counts for each.
    pub refused: Vec<RefusalCount>,
    /// One sentence.
    pub verdict: String,
    /// What to do, most useful first; empty if all copies fit.
    pub advice: Vec<String>,
}

/// What a task needs of an instance.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskNeeds {
    /// CPU units.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
    /// Fixed host ports, as `80/tcp`.
    pub host_ports: Vec<String>,
    /// Attributes that the instance must have.
    pub attributes: Vec<NeededAttribute>,
    /// The expressions that the instance must satisfy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_of: Vec<String>,
    /// The group of which no other task may be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct_from: Option<String>,
}

/// An attribute, with its value where that matters.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NeededAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What one container instance says to the task.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceVerdict {
    /// Its ARN.
    pub container_instance_arn: String,
    /// The attribute `longshore.host-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// CPU units free, of those registered.
    pub cpu: Amount,
    /// MiB free, of those registered.
    pub memory: Amount,
    /// How many copies fit, if no other instance takes any.
    pub copies: i64,
    /// Why not one more fits; all reasons, in ECS's order. Empty if one fits.
    pub refusals: Vec<PlacementRefusal>,
}

/// Of something that can be counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// What is left.
    pub free: i64,
    /// What there is.
    pub registered: i64,
}

/// One reason for which an instance takes no copy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementRefusal {
    /// As `RunTask` writes it into a failure: `RESOURCE:CPU`, `RESOURCE:MEMORY`, `RESOURCE:PORTS`, `ATTRIBUTE`, `AGENT`,
    /// `INACTIVE`, `MemberOf placement constraint unsatisfied.`, `DistinctInstance placement constraint unsatisfied.`
    pub reason: String,
    /// In words, with by how much.
    pub detail: String,
    /// CPU units or MiB that are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<i64>,
    /// The host port that is taken, as `80/tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The ARN of the task that holds the port; absent if the instance keeps it for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// The attribute that the instance lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<NeededAttribute>,
    /// The value that it has instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual_value: Option<String>,
    /// Since when the agent is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// How often a reason was given.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalCount {
    /// As in [`PlacementRefusal`].
    pub reason: String,
    /// By how many instances.
    pub instances: i64,
}

wire_json!(ExplainPlacementRequest, ExplainPlacementResponse);

static SUBNET_LIST: Shape = Shape::new("SubnetList", Kind::List { item: &STRING, item_name: None, flattened: false });

pub(super) static EXPLAIN_PLACEMENT: Shape = request(
    "ExplainPlacementRequest",
    &[
        Member::optional("cluster", &STRING).within(NAME),
        Member::optional("count", &INTEGER).within(within(COUNT)),
        Member::optional("subnets", &SUBNET_LIST).within(within(SUBNETS)),
        Member::optional("group", &STRING).within(NAME),
        Member::optional("placementConstraints", &PLACEMENT_CONSTRAINTS).within(Limits { min: None, max: Some(10) }),
        Member::required("taskDefinition", &STRING).within(NAME),
    ],
);
