//! Administration over the same door: what Longshore has and ECS has not.
//!
//! `POST /` with `X-Amz-Target: Longshore.<Operation>`, awsJson 1.1, signed like any request for `ecs`, errors in the same
//! form. A client makes a request's body with `to_json` and reads the answer with `from_json`; the server comes in by
//! [`Request::decode`], as it does for [`crate::ecs`].

pub mod error;
mod logs;
mod look;
mod network;
mod placement;
mod scheduler;
mod shapes;
#[cfg(test)]
mod tests;
mod types;

use crate::ecs::error::INVALID_PARAMETER_EXCEPTION;
use crate::service::operations;

use logs::{GET_TASK_LOGS, SUBMIT_TASK_LOGS};
pub use logs::{
    GetTaskLogsRequest, GetTaskLogsResponse, LogEntry, LogFailure, LogFailureReason, LogStream, SubmitTaskLogsRequest,
    SubmitTaskLogsResponse, TAIL, WAIT_SECONDS,
};
use look::{DESCRIBE_SERVER, FIND_TASKS};
pub use look::{DescribeServerRequest, DescribeServerResponse, FindTasksRequest, FindTasksResponse};
use network::DESCRIBE_NETWORK;
pub use network::{DescribeNetworkRequest, DescribeNetworkResponse, NetworkHost, NetworkSecurityGroup, NetworkSubnet};
use placement::EXPLAIN_PLACEMENT;
pub use placement::{
    Amount, COUNT, ExplainPlacementRequest, ExplainPlacementResponse, InstanceVerdict, NeededAttribute,
    PlacementRefusal, RefusalCount, TaskNeeds,
};
pub use scheduler::{
    ClusterScheduler, DescribeClusterSchedulerRequest, DescribeClusterSchedulerResponse, SCHEDULER_DEADLINE_SECONDS,
    SchedulerFallback, SetClusterSchedulerRequest, SetClusterSchedulerResponse, UnsetClusterSchedulerRequest,
    UnsetClusterSchedulerResponse,
};
use scheduler::{DESCRIBE_CLUSTER_SCHEDULER, SET_CLUSTER_SCHEDULER, UNSET_CLUSTER_SCHEDULER};
use shapes::{
    CREATE_JOIN_TOKEN, JOIN_CONTAINER_INSTANCE, LIST_INSTANCE_IDENTITIES, LIST_JOIN_TOKENS, RELEASE_MASS_LOSS_BRAKE,
    REVOKE_INSTANCE_IDENTITY, REVOKE_JOIN_TOKEN,
};
pub use shapes::{EXPIRES_IN_SECONDS, INSTANCES, USES};
pub use types::{
    ContainerInstanceState, CreateJoinTokenRequest, CreateJoinTokenResponse, Identity, InstanceIdentity,
    JoinContainerInstanceRequest, JoinContainerInstanceResponse, JoinToken, ListInstanceIdentitiesRequest,
    ListInstanceIdentitiesResponse, ListJoinTokensRequest, ListJoinTokensResponse, ReleaseMassLossBrakeRequest,
    ReleaseMassLossBrakeResponse, RevokeInstanceIdentityRequest, RevokeInstanceIdentityResponse,
    RevokeJoinTokenRequest, RevokeJoinTokenResponse,
};

/// The service in `X-Amz-Target`, before the dot.
pub const TARGET_PREFIX: &str = "Longshore";

operations! {
    refused with INVALID_PARAMETER_EXCEPTION;
    /// Makes a token with which machines join a cluster.
    CreateJoinToken(CreateJoinTokenRequest => CreateJoinTokenResponse, CREATE_JOIN_TOKEN),
    /// Lists the tokens, also those that run out or were revoked less than a day ago.
    ListJoinTokens(ListJoinTokensRequest => ListJoinTokensResponse, LIST_JOIN_TOKENS),
    /// Makes a token useless. Machines that joined with it stay.
    RevokeJoinToken(RevokeJoinTokenRequest => RevokeJoinTokenResponse, REVOKE_JOIN_TOKEN),
    /// A machine joins: signed with a token, answered with an access key.
    JoinContainerInstance(
        JoinContainerInstanceRequest => JoinContainerInstanceResponse,
        JOIN_CONTAINER_INSTANCE
    ),
    /// Lists who may act for which container instance.
    ListInstanceIdentities(
        ListInstanceIdentitiesRequest => ListInstanceIdentitiesResponse,
        LIST_INSTANCE_IDENTITIES
    ),
    /// Makes an instance's access key useless and closes its sessions; its instances go the way of lost ones.
    RevokeInstanceIdentity(
        RevokeInstanceIdentityRequest => RevokeInstanceIdentityResponse,
        REVOKE_INSTANCE_IDENTITY
    ),
    /// Says that a cluster's vanished instances are gone for good: they are evicted now.
    ReleaseMassLossBrake(ReleaseMassLossBrakeRequest => ReleaseMassLossBrakeResponse, RELEASE_MASS_LOSS_BRAKE),
    /// Says what the server is.
    DescribeServer(DescribeServerRequest => DescribeServerResponse, DESCRIBE_SERVER),
    /// Finds tasks by the first characters of their ids.
    FindTasks(FindTasksRequest => FindTasksResponse, FIND_TASKS),
    /// Says where a task could run, and everything that stands in its way elsewhere.
    ExplainPlacement(ExplainPlacementRequest => ExplainPlacementResponse, EXPLAIN_PLACEMENT),
    /// Says which subnets and security groups there are, and which host has which addresses.
    DescribeNetwork(DescribeNetworkRequest => DescribeNetworkResponse, DESCRIBE_NETWORK),
    /// Names the external scheduler of a cluster.
    SetClusterScheduler(SetClusterSchedulerRequest => SetClusterSchedulerResponse, SET_CLUSTER_SCHEDULER),
    /// Takes the external scheduler of a cluster away.
    UnsetClusterScheduler(UnsetClusterSchedulerRequest => UnsetClusterSchedulerResponse, UNSET_CLUSTER_SCHEDULER),
    /// Says which external scheduler a cluster has.
    DescribeClusterScheduler(
        DescribeClusterSchedulerRequest => DescribeClusterSchedulerResponse,
        DESCRIBE_CLUSTER_SCHEDULER
    ),
    /// Reads what a container of a task printed, through the agent that has it.
    GetTaskLogs(GetTaskLogsRequest => GetTaskLogsResponse, GET_TASK_LOGS),
    /// An agent's answer to the request above.
    SubmitTaskLogs(SubmitTaskLogsRequest => SubmitTaskLogsResponse, SUBMIT_TASK_LOGS),
}
