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
mod shapes;
#[cfg(test)]
mod tests;
mod types;

use serde_json::Value;

use crate::shape::{self, Shape, Violation, ViolationKind};

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

/// The operations: name, request, answer. One table, so that nothing is decoded that has no operation.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($request:ident => $response:ident, $shape:ident),)+) => {
        /// An operation of the administration.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Operation { $($(#[$doc])* $name,)+ }

        /// A request, typed.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request { $($(#[$doc])* $name($request),)+ }

        /// An answer, typed.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response { $($(#[$doc])* $name($response),)+ }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The operation of a name; spelled exactly so.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|operation| operation.name() == name)
            }

            /// The shape of its request.
            pub fn input(self) -> &'static Shape {
                match self { $(Self::$name => &$shape,)+ }
            }
        }

        impl Request {
            /// What it asks for.
            pub fn operation(&self) -> Operation {
                match self { $(Self::$name(_) => Operation::$name,)+ }
            }

            /// The body that asks for it.
            pub fn to_json(&self) -> Vec<u8> {
                match self { $(Self::$name(request) => request.to_json(),)+ }
            }

            /// Checks `value` against the operation's shape and types it.
            ///
            /// # Errors
            /// `SerializationException` for a wrong JSON type, `InvalidParameterException` for a missing member or one
            /// beyond its limits; both name the member.
            pub fn decode(operation: Operation, value: &Value) -> Result<Self, Violation> {
                shape::check(operation.input(), value)?;
                let unreadable = |cause: crate::JsonError| Violation::new(ViolationKind::Unreadable(cause.to_string()));
                match operation {
                    $(Operation::$name => $request::from_value(value).map(Self::$name).map_err(unreadable),)+
                }
            }
        }

        impl Response {
            /// The answer's body.
            pub fn to_json(&self) -> Vec<u8> {
                match self { $(Self::$name(response) => response.to_json(),)+ }
            }
        }

        $(impl From<$request> for Request {
            fn from(request: $request) -> Self {
                Self::$name(request)
            }
        }

        impl From<$response> for Response {
            fn from(response: $response) -> Self {
                Self::$name(response)
            }
        })+
    };
}

operations! {
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
    /// Reads what a container of a task printed, through the agent that has it.
    GetTaskLogs(GetTaskLogsRequest => GetTaskLogsResponse, GET_TASK_LOGS),
    /// An agent's answer to the request above.
    SubmitTaskLogs(SubmitTaskLogsRequest => SubmitTaskLogsResponse, SUBMIT_TASK_LOGS),
}
