//! The simulator: Longshore's real core and real agent engine in a simulated world, run after run, each from a seed.
//!
//! One seed is one run, bit for bit: time is simulated, chance comes from the seed, one thread takes one event after the
//! other. The world crashes processes and machines, cuts the network in one direction or both, delays, loses and repeats
//! calls, lets connections die silently, fills, slows and tears disks, sets clocks, and restarts Docker, while clients run and
//! stop tasks and an operator drains, gives back, revokes and sets up anew. After every step what DESIGN §7.1 promises must
//! hold, and once the storm is over everything must come to rest in the state that was asked for.
//!
//! Real are `longshore_core::pipeline` (with the cell inside), `longshore_core::clock`, `longshore_agent::engine`, the agent
//! protocol's codecs, and the contract of `longshore_store` as its store in memory keeps it. Simulated are the shells around
//! them: sockets, threads, files, clocks, the Docker Engine; and the official agent, of which there is a model. So this crate
//! must not know the server's and the agent's shells, nor tokio.
//!
//! Begin reading at [`simulate`], then `world` (the queue), `weather` and `faults` (what goes wrong), `server` and `sessions`
//! (the control plane's shell), `agent` and `shell` (the agents'), `official` (the model), `docker`, `oracle` (what must always
//! hold) and `settled` (what must hold in the end).

mod agent;
mod brain;
mod catalog;
mod client;
mod clock;
mod connection;
mod docker;
mod event;
mod faults;
mod network;
mod official;
mod operator;
mod oracle;
mod plan;
mod random;
mod server;
mod sessions;
mod settled;
mod shell;
mod trace;
mod weather;
mod world;

pub use oracle::Violation;
pub use plan::{Plan, Sabotage};

use world::World;

/// A run that kept every promise, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The hash of everything that happened: equal for equal plans.
    pub trace_hash: u64,
    /// Events.
    pub events: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Commits that the server attempted.
    pub commits: u64,
    /// How often the server loaded its state from the disk.
    pub loads: u64,
    /// Tasks that were acknowledged to clients.
    pub tasks: u64,
    /// Messages between the parts, heartbeats not counted.
    pub messages: u64,
    /// Instances that were given up.
    pub losses: u64,
    /// Instances that came back after that.
    pub returns: u64,
}

impl std::ops::AddAssign for Summary {
    /// Sums figures up; a sum has no trace.
    fn add_assign(&mut self, one: Self) {
        *self = Self {
            trace_hash: 0,
            events: self.events + one.events,
            faults: self.faults + one.faults,
            commits: self.commits + one.commits,
            loads: self.loads + one.loads,
            tasks: self.tasks + one.tasks,
            messages: self.messages + one.messages,
            losses: self.losses + one.losses,
            returns: self.returns + one.returns,
        };
    }
}

/// A run that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {violation}\nSIM_SEED={seed} cargo test -p longshore-sim one_seed -- --nocapture\n{}", tail.join("\n"))]
pub struct Failure {
    /// Runs it again.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// The last lines of the trace.
    pub tail: Vec<String>,
}

/// Runs a plan.
///
/// # Errors
/// The first violation, with how to see it again.
pub fn simulate(plan: Plan) -> Result<Summary, Box<Failure>> {
    let mut world = World::new(plan);
    match world.run() {
        Ok(()) => Ok(Summary {
            trace_hash: world.hash(),
            events: world.events,
            faults: world.faults,
            commits: world.server.commits,
            loads: world.server.loads,
            tasks: world.clients.tasks.len() as u64,
            messages: world.network.messages,
            losses: world.losses,
            returns: world.returns,
        }),
        Err(violation) => Err(Box::new(Failure { seed: plan.seed, violation, tail: world.tail() })),
    }
}
