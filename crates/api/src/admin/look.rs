//! What a person looks at first: the server itself, and tasks by the first characters of their ids.

use serde::{Deserialize, Serialize};

use super::shapes::{NAME, STRING, request};
use crate::json::wire_json;
use crate::shape::{Limits, Member, Shape};

/// Asks the server what it is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeServerRequest {}

/// What the server is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeServerResponse {
    /// Its version, as `0.1.0`.
    pub version: String,
    /// The region in every ARN.
    pub region: String,
    /// The account in every ARN.
    pub account_id: String,
    /// The availability zone of instances that name none.
    pub availability_zone: String,
    /// Its store cannot be written, because the disk is full for instance: reads go on, writes are refused until it can.
    pub read_only: bool,
    /// The clusters whose mass-loss brake is engaged: nothing that vanished is given up there.
    pub braked_clusters: Vec<String>,
}

/// Asks for the tasks whose ids begin so.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FindTasksRequest {
    /// Name or ARN of a cluster; all clusters if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The first characters of the id, or all of them: `0`–`9` and `a`–`f`.
    pub id_prefix: String,
}

/// The tasks that were found.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FindTasksResponse {
    /// Their ARNs, in the order of clusters and creation; some, if there are many.
    pub task_arns: Vec<String>,
    /// There are more than are listed.
    pub more: bool,
}

wire_json!(DescribeServerRequest, DescribeServerResponse, FindTasksRequest, FindTasksResponse);

pub(super) static DESCRIBE_SERVER: Shape = request("DescribeServerRequest", &[]);

pub(super) static FIND_TASKS: Shape = request(
    "FindTasksRequest",
    &[
        Member::optional("cluster", &STRING).within(NAME),
        Member::required("idPrefix", &STRING).within(Limits { min: Some(1), max: Some(32) }),
    ],
);
