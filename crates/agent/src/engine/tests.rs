//! The engine against a model of Docker, of the disk and of a control plane.
//!
//! `world` is that model, `host` its part for what tasks need beside containers; `life`, `session`, `restart` and `recovery` tell stories in it and compare the trace of actions; `random` lets
//! anything happen in any order and checks what must always hold, `faults` lets one thing go wrong at each step; `config` and `image`
//! look at decisions alone, `records` at what earlier releases saved, `secret` at what must be in no record, `storage` and
//! `network` at what tasks need beside containers, `gpu` at who sees which GPU.

mod config;
mod faults;
mod gpu;
mod host;
mod image;
mod life;
mod network;
mod random;
mod records;
mod recovery;
mod restart;
mod secret;
mod session;
mod storage;
mod world;
