//! Requests, answers and what they are made of. An absent member is left out, times are seconds since the epoch.

use serde::{Deserialize, Serialize};

use crate::json::wire_json;
use crate::{Sensitive, Timestamp};

/// Asks for a token. Answered with `ClusterNotFoundException` for an unknown cluster, except that the cluster `default` is
/// made when there is none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateJoinTokenRequest {
    /// Name or ARN of the cluster that machines join with it; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How many machines may join with it, within [`USES`](super::USES); 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<i32>,
    /// When it expires, within [`EXPIRES_IN_SECONDS`](super::EXPIRES_IN_SECONDS); an hour if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i32>,
}

/// The token that was made.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateJoinTokenResponse {
    /// What is kept of it.
    pub join_token: JoinToken,
    /// `<tokenId>.<secret>`: what the machine is given. Shown this once.
    pub token: Sensitive<String>,
}

/// A join token, without its secret.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// `LSTK` and 16 characters of A–Z and 2–7.
    pub token_id: String,
    /// The name of the cluster it leads to.
    pub cluster: String,
    /// How many machines could join with it.
    pub uses: i32,
    /// How many machines still can.
    pub uses_left: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires, or expired.
    pub expires_at: Timestamp,
    /// It was revoked: nobody joins with it any more.
    pub revoked: bool,
}

/// Asks for a page of tokens, in the order of their ids.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListJoinTokensRequest {
    /// How many at most, 1 to 100; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i32>,
    /// From the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A page of tokens.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListJoinTokensResponse {
    /// The tokens.
    pub join_tokens: Vec<JoinToken>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Revokes a token; revoking it again changes nothing. An unknown one is `ResourceNotFoundException`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeJoinTokenRequest {
    /// Which.
    pub token_id: String,
}

/// The token that was revoked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeJoinTokenResponse {
    /// As it is now.
    pub join_token: JoinToken,
}

/// Signed with a join token: its id is the access key id, its secret the secret access key.
///
/// A token that is revoked, has expired or has no uses left is answered with `AccessDeniedException`; an unknown one with
/// `UnrecognizedClientException`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinContainerInstanceRequest {
    /// Chosen by the machine and kept until it has the answer: the same token and client token are one join, answered with
    /// the same key however often it is asked, for one use. With another number of instances it is `ConflictException`.
    pub client_token: String,
    /// How many container instances the machine will be, within [`INSTANCES`](super::INSTANCES); 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<i32>,
}

/// The machine's own access key, and what it is bound to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinContainerInstanceResponse {
    /// `LSIN` and 16 characters of A–Z and 2–7.
    pub access_key_id: String,
    /// 40 characters.
    pub secret_access_key: Sensitive<String>,
    /// The name of the cluster whose instances it may register.
    pub cluster: String,
    /// The region to sign for.
    pub region: String,
    /// The account in every ARN.
    pub account_id: String,
}

/// Asks for a page of identities and container instances.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListInstanceIdentitiesRequest {
    /// Name or ARN of a cluster; all clusters if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How many at most, 1 to 100; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i32>,
    /// From the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A page of identities and container instances.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListInstanceIdentitiesResponse {
    /// First one entry for every container instance, in the order of clusters and registration, whichever key registered it;
    /// then one for every identity that has no container instance.
    pub instance_identities: Vec<InstanceIdentity>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Who may act for a container instance: a row of `longshore instance list`.
///
/// Listed by container instance and not by identity, because one key can have registered very many (the owner's), none yet
/// (a machine that just joined), or a few.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceIdentity {
    /// The access key that registered the instance.
    pub access_key_id: String,
    /// The cluster's name.
    pub cluster: String,
    /// The identity behind the key; absent when the owner's key registered the instance, or the identity is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The container instance; absent for an identity without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_instance: Option<ContainerInstanceState>,
}

/// A machine's identity: what it got for its token.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its access key.
    pub access_key_id: String,
    /// The name of the cluster it belongs to.
    pub cluster: String,
    /// The token it joined with.
    pub token_id: String,
    /// How many container instances it may have at once.
    pub instances: i32,
    /// When it joined.
    pub created_at: Timestamp,
    /// When its key was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// What an operator wants to know of a container instance at a glance.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerInstanceState {
    /// Its ARN.
    pub container_instance_arn: String,
    /// ACTIVE, DRAINING, DEREGISTERING or INACTIVE, as DescribeContainerInstances has it.
    pub status: String,
    /// Its agent has a session.
    pub agent_connected: bool,
    /// Its agent was last heard of then, if it is not connected now and was since the server began to serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<Timestamp>,
    /// It was declared lost then, and has not returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// Its tasks that are RUNNING.
    pub running_tasks_count: i32,
    /// Its tasks that are on their way to it.
    pub pending_tasks_count: i32,
    /// The attribute `longshore.host-id`: instances of one host have the same; absent for the official agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The version its agent named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
}

/// Revokes the identity with this key, or the one that registered this container instance: exactly one of the two is named.
/// Revoking it again changes nothing; the owner's key cannot be revoked.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeInstanceIdentityRequest {
    /// The identity's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The ARN of one of its container instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_instance: Option<String>,
}

/// The identity that was revoked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeInstanceIdentityResponse {
    /// As it is now.
    pub identity: Identity,
}

/// Gives up whatever has vanished in a cluster, and releases its mass-loss brake if that is engaged.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseMassLossBrakeRequest {
    /// Name or ARN. Named always, also `default`: this stops tasks.
    pub cluster: String,
}

/// What the release did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseMassLossBrakeResponse {
    /// The cluster's name.
    pub cluster: String,
    /// How many container instances are declared lost for it.
    pub evicted: i32,
}

wire_json!(
    CreateJoinTokenRequest,
    CreateJoinTokenResponse,
    ListJoinTokensRequest,
    ListJoinTokensResponse,
    RevokeJoinTokenRequest,
    RevokeJoinTokenResponse,
    JoinContainerInstanceRequest,
    JoinContainerInstanceResponse,
    ListInstanceIdentitiesRequest,
    ListInstanceIdentitiesResponse,
    RevokeInstanceIdentityRequest,
    RevokeInstanceIdentityResponse,
    ReleaseMassLossBrakeRequest,
    ReleaseMassLossBrakeResponse,
);
