//! Task definitions: what a user may ask for, what it amounts to, and what it needs of an instance.
//!
//! [`register`] checks a definition and fills in what ECS fills in; the document is kept as it then is. [`resolve`] reads
//! such a document once into the numbers and ports that the cell computes on. [`overrides::merge`] lays the overrides of
//! one task over it; [`crate::payload`] turns the result into what an agent is told.
//!
//! A member of a definition is treated in one of three ways, and never accepted and ignored:
//! obeyed (the payload carries it to any agent), required (it needs an instance with an attribute, see [`requires`]), or
//! refused by name (see `validate::support`).

pub mod coverage;
mod defaults;
pub(crate) mod deletion;
pub(crate) mod gpu;
mod image;
mod limits;
pub(crate) mod operations;
pub mod overrides;
pub mod requires;
mod resolve;
pub mod secret;
mod size;
mod validate;

#[cfg(test)]
pub(crate) mod tests;

use longshore_api::ecs::types::{RegisterTaskDefinitionRequest, TaskDefinition};
use longshore_api::{ApiError, Timestamp};

pub(crate) use deletion::Deletions;
pub use gpu::GpuDemand;
pub(crate) use image::ImageReference;
pub(crate) use limits::DEFAULT_RESTART_PERIOD_S;
pub use overrides::{EffectiveContainer, EffectiveTask, merge};
pub use requires::RequiredAttribute;
pub(crate) use resolve::network_mode;
pub use resolve::{Resolved, ResolvedContainer, resolve};
pub(crate) use secret::SecretSource;
pub(crate) use validate::{is_fargate_size, no_fargate_size};

/// What the cell gives a definition at registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The ARN, with family and revision.
    pub arn: String,
    /// The revision.
    pub revision: i32,
    /// The ARN of the principal that registers it.
    pub registered_by: String,
    /// When.
    pub now: Timestamp,
}

/// Makes the document of a new revision: checked, and with everything that ECS fills in.
///
/// # Errors
/// `ClientException` in ECS's words for what ECS refuses, and for what Longshore cannot obey.
pub fn register(request: &RegisterTaskDefinitionRequest, identity: Registration) -> Result<TaskDefinition, ApiError> {
    validate::check(request)?;
    let document = defaults::fill(request, identity);
    let length = document.to_json().len();
    if length > limits::DEFINITION_BYTES {
        return Err(ApiError::client(format!(
            "Actual length: '{length}'. Max allowed length is '{}' bytes. Make the task definition smaller.",
            limits::DEFINITION_BYTES
        )));
    }
    Ok(document)
}
