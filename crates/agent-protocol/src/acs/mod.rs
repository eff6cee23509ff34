//! ACS: orders from the control plane to an agent, and the agent's acknowledgements.

mod message;
mod network;
mod salvage;
mod task;

pub use message::*;
pub use network::*;
pub use task::*;
