//! Amazon ECS: its types, operations, errors and the way a request comes in.

mod decode;
mod generated;
#[cfg(test)]
mod tests;

pub use generated::error;
pub use generated::operation::{JSON_VERSION, Operation, SIGNING_NAME, TARGET_PREFIX};
pub use generated::request::Request;
pub use generated::response::Response;
pub use generated::shapes;
pub use generated::types;
