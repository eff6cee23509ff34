//! Container instances: registration, sessions, loss and return, draining and deregistration, Describe and List.

pub(crate) mod agent_update;
pub(crate) mod brake;
pub(crate) mod deregister;
pub(crate) mod describe;
pub(crate) mod ending;
pub(crate) mod filter;
pub(crate) mod health;
mod identity_document;
pub(crate) mod liveness;
pub(crate) mod lost;
pub(crate) mod register;
pub(crate) mod session;
pub(crate) mod silence;
pub(crate) mod state;
mod status;
#[cfg(test)]
mod tests;

pub use liveness::AgentKind;
pub use session::SessionRefusal;
pub use status::InstanceStatus;
