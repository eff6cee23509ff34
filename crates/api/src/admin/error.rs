//! Errors that only the administration answers.

use crate::ErrorCode;

/// The container does not exist yet: its task is still being started.
pub const CONTAINER_NOT_CREATED: ErrorCode = ErrorCode::new("ContainerNotCreatedException", 400);
/// What the container printed cannot be had: it was removed, or its log driver gives nothing back.
pub const LOGS_UNAVAILABLE: ErrorCode = ErrorCode::new("LogsUnavailableException", 400);
