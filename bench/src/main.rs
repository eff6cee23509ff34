//! Longshore's benchmarks. Each prints its figure beside a floor or a peer measured in the same run, because machines
//! are shared and noisy: what counts is the ratio.
//!
//! `make bench` runs them all; `cargo run --release -p longshore-bench -- --help` lists them. `cell` runs the
//! orchestrator inside this process; the others start the release binary and look at it from outside, as a client, an
//! agent or the kernel does.

mod agent;
mod all;
mod api;
mod cell;
mod client;
mod docker;
mod facts;
mod fake_agent;
mod fleet;
mod floor;
mod loss;
mod overhead;
mod placement;
mod process;
mod server;
mod spawn;
mod stats;
mod steps;
mod tasks;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What to measure.
#[derive(Parser)]
#[command(about = "Longshore's benchmarks: figures with their floors, as Markdown")]
enum Bench {
    /// Places tasks on instances through the real runner and store, without sockets.
    Cell(cell::Options),
    /// The scheduler alone: placements per second and decision times in the core, without store and sockets.
    Placement(placement::Options),
    /// The server alone: its start, its memory, and RunTask one after the other beside the disk's own fsync.
    Server(server::Options),
    /// The API through the wire: requests per second, and where the server's time goes.
    Api(api::Options),
    /// The floor of `api`: a server that answers everything with the same number of bytes. Started by it.
    #[command(hide = true)]
    Responder(api::ResponderOptions),
    /// The agent alone: memory and CPU while it is connected and has nothing to do.
    Agent(agent::Options),
    /// RunTask until RUNNING beside the Docker Engine's own create and start.
    Overhead(overhead::Options),
    /// RunTask until RUNNING on a thousand agents with real sockets: tasks per second, CPU and memory for each.
    Tasks(tasks::Options),
    /// The agents of `tasks`. Started by it.
    #[command(hide = true)]
    Agents(fake_agent::Options),
    /// A thousand agents with real sockets in this process, and their return after the server was killed.
    Fleet(fleet::Options),
    /// An agent that falls silent: how long until its task runs elsewhere.
    Loss(loss::Options),
    /// Everything, as one Markdown document.
    All(all::Options),
}

fn main() {
    match Bench::parse() {
        Bench::Cell(options) => cell::run(&options),
        Bench::Placement(options) => placement::run(&options),
        Bench::Server(options) => server::run(&options),
        Bench::Api(options) => api::run(&options),
        Bench::Responder(options) => api::respond(&options),
        Bench::Agent(options) => agent::run(&options),
        Bench::Overhead(options) => overhead::run(&options),
        Bench::Tasks(options) => tasks::run(&options),
        Bench::Agents(options) => fake_agent::run(&options),
        Bench::Fleet(options) => fleet::run(&options),
        Bench::Loss(options) => loss::run(&options),
        Bench::All(options) => all::run(&options),
    }
}
