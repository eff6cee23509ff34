//! The cell: Longshore's orchestrator as one deterministic state machine.
//!
//! All orchestration state lives in one [`cell::Cell`]. It takes a [`cell::Command`] with the time and the
//! entropy it may use, and answers with a reply, the changes to make durable and the effects to
//! perform once they are. [`pipeline::Pipeline`] orders commands into commits and releases replies and effects
//! only after the state they saw is durable; [`read::ReadModel`] is the snapshot that answers Describe and List.
//!
//! This crate must not know of sockets, files, threads, clocks, random generators or async: everything of that
//! kind comes in as an argument. It must not iterate anything in an order that its inputs do not fix.
//!
//! Begin reading at [`cell`], then [`pipeline`], then the noun you came for: [`cluster`], [`instance`],
//! [`task_definition`], [`task`], [`placement`].

mod attributes;
pub mod capacity;
pub mod cell;
pub mod clock;
pub mod cluster;
pub mod config;
mod decision;
pub mod entity;
pub mod entropy;
#[cfg(test)]
mod fixture;
mod idempotency;
pub mod identity;
pub mod ids;
pub mod instance;
pub mod limits;
pub mod logs;
mod look;
mod messages;
mod names;
pub mod network;
pub mod operations;
pub mod payload;
pub mod pipeline;
pub mod placement;
mod principal;
pub mod query;
pub mod read;
pub mod resources;
pub mod scheduler;
pub mod secret;
pub mod settings;
mod tables;
mod tags;
pub mod task;
pub mod task_definition;
mod unsupported;

pub use config::{CellConfig, LossPolicy};
pub use decision::{Decision, Released};
pub use principal::{Principal, Role, TaskRole};
