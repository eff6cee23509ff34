//! The server: everything between sockets and the deterministic core.
//!
//! Edge (HTTP, signatures, typed requests), sessions (agents' websockets), runner (the one thread that drives the core and the
//! store), and their assembly. It must not know what an operation means: that is the core's; nor how an agent works: the two
//! meet in the agent protocol.
//!
//! Begin with [`Server`], which puts the parts together; then [`edge`] for the life of a request, [`runner`] for commits,
//! [`sessions`] for agents. [`orchestrator::Orchestrator`] is the seam between the network and the core.

pub mod access_key;
mod auth;
mod clock;
mod config;
mod descriptors;
pub mod edge;
mod error;
mod files;
pub mod launcher;
pub mod limits;
mod logs;
pub mod orchestrator;
mod registry;
pub mod runner;
mod scheduler;
mod scope;
mod server;
pub mod sessions;
mod socket;
mod task_roles;
mod tls;
mod vault;

pub use auth::Authenticator;
pub use config::{ServerConfig, TlsConfig};
pub use error::ServerError;
pub use server::{RunningServer, SERVER_FILE, STORE_DIR, Server};
