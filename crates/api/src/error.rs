//! Errors as AWS services answer them.

use std::fmt;

use crate::ecs;

/// The name and HTTP status of an error, as the wire shows them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ErrorCode {
    /// The `__type` of the answer.
    pub name: &'static str,
    /// The HTTP status of the answer.
    pub status: u16,
}

impl ErrorCode {
    /// A code; the tables of the services and of this module hold them all.
    pub const fn new(name: &'static str, status: u16) -> Self {
        Self { name, status }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

// Codes of the protocol, common to all services. The statuses are those AWS uses for JSON services:
// all signature troubles are 400 there, though query services answer 403 to the same ones.

/// The body is no JSON, or a member has the wrong JSON type.
pub const SERIALIZATION_EXCEPTION: ErrorCode = ErrorCode::new("SerializationException", 400);
/// The target names no operation of the service.
pub const UNKNOWN_OPERATION_EXCEPTION: ErrorCode = ErrorCode::new("UnknownOperationException", 400);
/// The request carries no signature.
pub const MISSING_AUTHENTICATION_TOKEN_EXCEPTION: ErrorCode =
    ErrorCode::new("MissingAuthenticationTokenException", 400);
/// The signature lacks a part.
pub const INCOMPLETE_SIGNATURE_EXCEPTION: ErrorCode = ErrorCode::new("IncompleteSignatureException", 400);
/// The signature does not match, or its time is too far off.
pub const INVALID_SIGNATURE_EXCEPTION: ErrorCode = ErrorCode::new("InvalidSignatureException", 400);
/// The access key is not known.
pub const UNRECOGNIZED_CLIENT_EXCEPTION: ErrorCode = ErrorCode::new("UnrecognizedClientException", 400);
/// The session token has run out.
pub const EXPIRED_TOKEN_EXCEPTION: ErrorCode = ErrorCode::new("ExpiredTokenException", 400);
/// The caller may not do this.
pub const ACCESS_DENIED_EXCEPTION: ErrorCode = ErrorCode::new("AccessDeniedException", 400);
/// Too much at once: come back later.
pub const THROTTLING_EXCEPTION: ErrorCode = ErrorCode::new("ThrottlingException", 400);
/// Retry soon: starting, stopping, or not the leader.
pub const SERVICE_UNAVAILABLE: ErrorCode = ErrorCode::new("ServiceUnavailableException", 503);
/// The body is over the limit.
pub const REQUEST_ENTITY_TOO_LARGE: ErrorCode = ErrorCode::new("RequestEntityTooLargeException", 413);
/// Something broke on our side.
pub const INTERNAL_FAILURE: ErrorCode = ErrorCode::new("InternalFailure", 500);

/// An error for a caller, with what only we may know kept beside it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// What is sent as `__type`.
    pub code: ErrorCode,
    /// What is sent as `message`.
    pub message: String,
    /// Logged once, never sent.
    pub context: Option<String>,
    /// Task ARNs that `ConflictException` sends as `resourceIds`; empty for everything else.
    pub resource_ids: Vec<String>,
}

impl ApiError {
    /// An error without private context.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), context: None, resource_ids: Vec::new() }
    }

    /// `ClientException`.
    pub fn client(message: impl Into<String>) -> Self {
        Self::new(ecs::error::CLIENT_EXCEPTION, message)
    }

    /// `InvalidParameterException`.
    pub fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new(ecs::error::INVALID_PARAMETER_EXCEPTION, message)
    }

    /// `ServerException`.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(ecs::error::SERVER_EXCEPTION, message)
    }

    /// Adds what belongs in our log and not in the answer.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Adds the resources a `ConflictException` names.
    #[must_use]
    pub fn with_resource_ids(mut self, resource_ids: Vec<String>) -> Self {
        self.resource_ids = resource_ids;
        self
    }
}
