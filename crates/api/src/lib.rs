//! The service models as Rust: typed requests, answers and documents, operation and error tables,
//! ARNs and timestamps. Everything that crosses a boundary of Longshore is written in these words.
//!
//! What it must not know: sockets, signatures, HTTP, the clock, any behaviour of a service. It says
//! what a request *is*, never what it *does*.
//!
//! Where to begin: [`ecs`] for the service itself (`ecs::Request::decode` is the way in from the
//! wire), [`admin`] for what Longshore adds to it, [`sts`], [`ssm`], [`secrets_manager`] and [`ecr`] for
//! the other services of AWS as far as they are served, [`shape`] for how untrusted values are checked,
//! [`arn`] for names. The files under
//! `ecs/generated` come from `models/` by `cargo run -p xtask -- codegen`.
//!
//! JSON passes through non-generic functions here (`from_json`, `to_json`, `from_value`), so that
//! the many instantiations of serde are compiled once, in this crate, and not in each user of it.

pub mod admin;
pub mod arn;
pub mod ecr;
pub mod ecs;
pub mod error;
mod json;
pub mod operation;
pub mod secrets_manager;
mod sensitive;
mod service;
pub mod shape;
pub mod ssm;
pub mod sts;
mod timestamp;

pub use error::{ApiError, ErrorCode};
pub use json::{JsonError, UnknownValue};
pub use sensitive::Sensitive;
pub use timestamp::Timestamp;
