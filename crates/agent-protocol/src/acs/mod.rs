//! ACS: orders from the control plane to an agent, and the agent's acknowledgements.

mod message;
mod salvage;
mod network;
mod task;

pub use message::*;
pub use network::*;
pub use task::*;
