//! The messages that a control plane and a container-instance agent exchange over their two websockets: ACS (orders and
//! acknowledgements) and TCS (telemetry), in both directions, as the ECS agent protocol has them.
//!
//! It must not know sockets, clocks, signatures or what any message makes somebody do: `server` and `agent` meet here and
//! nowhere else, and `core` builds payloads from these types. State changes travel as ordinary API calls, so they are in
//! `longshore_api::ecs`.
//!
//! Begin reading at [`acs::ServerMessage`] and [`acs::Task`]; `object` holds the one rule by which every message is read and
//! written (unknown members ignored, `null` means absent, names matched without regard to case, wrong types refused).
#![forbid(unsafe_code)]

mod envelope;
mod object;

pub mod acs;
pub mod frame;
pub mod tcs;
#[cfg(test)]
mod tests;

pub use envelope::DecodeError;
pub use object::Secret;
