//! Errors of Secrets Manager.

use crate::error::ErrorCode;

/// There is no such secret, or none of its versions is meant.
pub const RESOURCE_NOT_FOUND_EXCEPTION: ErrorCode = ErrorCode::new("ResourceNotFoundException", 400);
/// There is one already.
pub const RESOURCE_EXISTS_EXCEPTION: ErrorCode = ErrorCode::new("ResourceExistsException", 400);
/// A member breaks a rule.
pub const INVALID_PARAMETER_EXCEPTION: ErrorCode = ErrorCode::new("InvalidParameterException", 400);
/// It cannot be done to a secret in this state.
pub const INVALID_REQUEST_EXCEPTION: ErrorCode = ErrorCode::new("InvalidRequestException", 400);
/// As many as there may be.
pub const LIMIT_EXCEEDED_EXCEPTION: ErrorCode = ErrorCode::new("LimitExceededException", 400);
/// The value could not be encrypted.
pub const ENCRYPTION_FAILURE: ErrorCode = ErrorCode::new("EncryptionFailure", 400);
/// The value could not be decrypted.
pub const DECRYPTION_FAILURE: ErrorCode = ErrorCode::new("DecryptionFailure", 400);
