//! The AWS protocols as a server speaks them: signatures, awsJson, awsQuery, page tokens, request ids.
//!
//! Everything here is a pure function over bytes and headers; the one input that is not an argument is the randomness of
//! [`request_id`]. The crate knows no socket, no runtime, no operation and no state: who may do what is for the edge, what an
//! operation means is for the core. Server and agent share it, so what one signs the other verifies with the same code.
//!
//! Begin with [`sigv4`] (its `verify` half is the gate every request passes), then [`aws_json`] and [`aws_query`];
//! [`protocol`] is how an error is told to whoever speaks any of them.

pub mod aws_json;
pub mod aws_query;
mod crypto;
pub mod limits;
pub mod page_token;
pub mod protocol;
pub mod query;
pub mod request_id;
pub mod sigv4;
