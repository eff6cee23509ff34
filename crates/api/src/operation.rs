//! What a model says about an operation, whatever the service.

use crate::error::ErrorCode;
use crate::shape::Shape;

/// A row of a service's operation table.
#[derive(Debug)]
pub struct OperationFacts {
    /// The name on the wire.
    pub name: &'static str,
    /// The shape of its request.
    pub input: &'static Shape,
    /// The shape of its answer.
    pub output: &'static Shape,
    /// The errors the model names for it.
    pub errors: &'static [ErrorCode],
    /// It changes nothing.
    pub readonly: bool,
    /// Doing it twice is doing it once.
    pub idempotent: bool,
}
