//! DescribeNetwork: the subnets and security groups of awsvpc tasks, and which host has which addresses.

use serde::{Deserialize, Serialize};

use super::shapes::request;
use crate::json::wire_json;
use crate::shape::Shape;

/// Asks for the networks of awsvpc tasks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkRequest {}

/// The networks of awsvpc tasks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkResponse {
    /// The addresses that tasks can have, such as `10.212.0.0/14`.
    pub ranges: Vec<String>,
    /// Whether unknown ids of subnets and security groups are made true when they are first used.
    pub adopts: bool,
    /// The subnets, configured ones first.
    pub subnets: Vec<NetworkSubnet>,
    /// The security groups, configured ones first.
    pub security_groups: Vec<NetworkSecurityGroup>,
    /// The hosts that have addresses for tasks; some, if there are many.
    pub hosts: Vec<NetworkHost>,
    /// There are more hosts than are listed.
    pub more_hosts: bool,
}

/// A subnet.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSubnet {
    /// `subnet-…`
    pub subnet_id: String,
    /// Its addresses.
    pub range: String,
    /// The zone of the instances that it is for; absent if it is for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// It was not configured, but made when its id was first used.
    pub adopted: bool,
    /// How many addresses hosts have of it.
    pub addresses: i64,
    /// How many of them tasks hold.
    pub tasks: i64,
}

/// A security group.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSecurityGroup {
    /// `sg-…`
    pub group_id: String,
    /// What it allows, each as in the configuration: `in tcp 80 0.0.0.0/0`.
    pub rules: Vec<String>,
    /// It was not configured, but made when its id was first used.
    pub adopted: bool,
    /// How many tasks belong to it.
    pub tasks: i64,
}

/// A host with addresses for its tasks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkHost {
    /// The attribute `longshore.host-id` of its instances.
    pub host_id: String,
    /// The address at which other hosts reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_address: Option<String>,
    /// Its addresses, such as `10.212.3.64/26`.
    pub blocks: Vec<String>,
    /// How many of them tasks hold.
    pub tasks: i64,
}

wire_json!(DescribeNetworkRequest, DescribeNetworkResponse);

pub(super) static DESCRIBE_NETWORK: Shape = request("DescribeNetworkRequest", &[]);
