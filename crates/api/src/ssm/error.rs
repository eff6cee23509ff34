//! Errors of the Parameter Store.

use crate::error::ErrorCode;

/// A member breaks its limits, or a rule of names and values.
pub const VALIDATION_EXCEPTION: ErrorCode = ErrorCode::new("ValidationException", 400);
/// There is no such parameter.
pub const PARAMETER_NOT_FOUND: ErrorCode = ErrorCode::new("ParameterNotFound", 400);
/// There is one already, and it is not to be overwritten.
pub const PARAMETER_ALREADY_EXISTS: ErrorCode = ErrorCode::new("ParameterAlreadyExists", 400);
/// As many parameters as there may be.
pub const PARAMETER_LIMIT_EXCEEDED: ErrorCode = ErrorCode::new("ParameterLimitExceeded", 400);
/// A path of more levels than there may be.
pub const HIERARCHY_LEVEL_LIMIT_EXCEEDED_EXCEPTION: ErrorCode =
    ErrorCode::new("HierarchyLevelLimitExceededException", 400);
/// A parameter keeps its type.
pub const HIERARCHY_TYPE_MISMATCH_EXCEPTION: ErrorCode = ErrorCode::new("HierarchyTypeMismatchException", 400);
/// The key that the value is encrypted under cannot be used.
pub const INVALID_KEY_ID: ErrorCode = ErrorCode::new("InvalidKeyId", 400);
