//! The Parameter Store of Systems Manager, as far as it is served: what fills parameters, and the one call by which agents
//! read them.
//!
//! awsJson like ECS. The types are written by hand and checked by the same walk over shapes.

pub mod error;
mod shapes;
#[cfg(test)]
mod tests;
mod types;

use crate::service::operations;
use error::VALIDATION_EXCEPTION;
use shapes::{DELETE_PARAMETER, GET_PARAMETERS, PUT_PARAMETER};
pub use types::{
    DeleteParameterRequest, DeleteParameterResult, GetParametersRequest, GetParametersResult, Parameter, ParameterTier,
    ParameterType, PutParameterRequest, PutParameterResult, Tag,
};

/// The service in `X-Amz-Target`, before the dot.
pub const TARGET_PREFIX: &str = "AmazonSSM";
/// What credentials for it are scoped to.
pub const SIGNING_NAME: &str = "ssm";

operations! {
    refused with VALIDATION_EXCEPTION;
    /// Reads up to ten parameters.
    GetParameters(GetParametersRequest => GetParametersResult, GET_PARAMETERS),
    /// Makes a parameter, or a further version of one.
    PutParameter(PutParameterRequest => PutParameterResult, PUT_PARAMETER),
    /// Removes a parameter with all its versions.
    DeleteParameter(DeleteParameterRequest => DeleteParameterResult, DELETE_PARAMETER),
}
