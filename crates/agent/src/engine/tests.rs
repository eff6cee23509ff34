//! The engine against a model of Docker, of the disk and of a control plane.
//!
//! `world` is that model; `life` and `session` tell stories in it and compare the trace of actions; `random` lets anything happen in any order and
//! checks what must always hold; `config` looks at settings alone.

mod config;
mod life;
mod random;
mod session;
mod world;
