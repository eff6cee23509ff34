//! From an untrusted JSON value to a typed request.

use serde_json::Value;

use super::{Operation, Request, error};
use crate::error::ErrorCode;
use crate::shape::{self, Violation, ViolationKind};

impl Request {
    /// Checks `value` against the operation's input shape and types it.
    ///
    /// The check comes first, because it can say *where* something is wrong; serde cannot.
    pub fn decode(operation: Operation, value: &Value) -> Result<Self, Violation> {
        let input = operation.facts().input;
        shape::check(input, value).map_err(|violation| violation.with_code(rejection(operation)))?;
        // The tables and the types are made from one model: what passed above fits. Should that ever
        // be untrue, the caller is told so instead of the process dying.
        Self::parse(operation, value).map_err(|cause| Violation::new(ViolationKind::Unreadable(cause.to_string())))
    }
}

/// The code with which ECS refuses a request that lacks a member or breaks a limit.
///
/// Its front knows no common validation error: each family of operations answers with its own.
/// Registering, describing and deregistering a task definition, and what agents call, say `ClientException`
/// ("Container.image should not be null or empty."); the others say `InvalidParameterException`
/// ("Cluster must match …", "Tasks cannot be empty."). Wrong JSON types never get this far: they are
/// `SerializationException` everywhere.
fn rejection(operation: Operation) -> ErrorCode {
    match operation {
        Operation::RegisterTaskDefinition
        | Operation::DeregisterTaskDefinition
        | Operation::DescribeTaskDefinition
        | Operation::RegisterDaemonTaskDefinition
        | Operation::RegisterContainerInstance
        | Operation::DiscoverPollEndpoint
        | Operation::SubmitTaskStateChange
        | Operation::SubmitContainerStateChange
        | Operation::SubmitAttachmentStateChanges => error::CLIENT_EXCEPTION,
        _ => error::INVALID_PARAMETER_EXCEPTION,
    }
}
