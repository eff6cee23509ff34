//! Secrets Manager, as far as it is served: what fills secrets, and the one call by which agents read them.
//!
//! awsJson like ECS. The types are written by hand and checked by the same walk over shapes.

pub mod error;
mod shapes;
#[cfg(test)]
mod tests;
mod types;

use crate::service::operations;
use crate::ssm::error::VALIDATION_EXCEPTION;
use shapes::{CREATE_SECRET, DELETE_SECRET, GET_SECRET_VALUE, PUT_SECRET_VALUE};
pub use types::{
    CreateSecretRequest, CreateSecretResponse, DeleteSecretRequest, DeleteSecretResponse, GetSecretValueRequest,
    GetSecretValueResponse, PutSecretValueRequest, PutSecretValueResponse, Tag,
};

/// The service in `X-Amz-Target`, before the dot.
pub const TARGET_PREFIX: &str = "secretsmanager";
/// What credentials for it are scoped to.
pub const SIGNING_NAME: &str = "secretsmanager";

operations! {
    refused with VALIDATION_EXCEPTION;
    /// Reads a version of a secret.
    GetSecretValue(GetSecretValueRequest => GetSecretValueResponse, GET_SECRET_VALUE),
    /// Makes a secret, perhaps with its first version.
    CreateSecret(CreateSecretRequest => CreateSecretResponse, CREATE_SECRET),
    /// Makes a further version of a secret.
    PutSecretValue(PutSecretValueRequest => PutSecretValueResponse, PUT_SECRET_VALUE),
    /// Removes a secret, at once or after a time in which its name is held.
    DeleteSecret(DeleteSecretRequest => DeleteSecretResponse, DELETE_SECRET),
}
