//! The agent alone, on the real Engine: what it needs while it is connected and has nothing to do.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::process::{CpuMeter, memory_text};
use crate::spawn::{Agent, Server, scratch};

/// How long to look.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of rest over which CPU is counted.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// From the connection to the first look: whatever is done once is over.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) fn run(options: &Options) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = scratch();
    let server = Server::start(dir.path());
    let agent = Agent::start(dir.path(), &server.access);
    runtime.block_on(async {
        let mut client = server.access.connect().await;
        client.call("CreateCluster", &json!({})).await;
        agent.connected(&mut client, dir.path()).await;
    });
    std::thread::sleep(SETTLE);
    let pids = [agent.0.pid(), server.process.pid()];
    let meters = pids.map(CpuMeter::start);
    std::thread::sleep(Duration::from_secs(options.seconds));
    let [agent_ms, server_ms] = meters.map(|meter| meter.used_us() / 1e3 * 60.0 / options.seconds as f64);
    println!("| figure | value | aim |");
    println!("|---|---|---|");
    println!("| agent's memory at rest, connected | {} | ≤ 15 MiB |", memory_text(pids[0]));
    println!("| agent's CPU at rest, over {} s | {agent_ms:.1} ms per minute | |", options.seconds);
    println!("| server's CPU at rest with this agent | {server_ms:.1} ms per minute | |");
}
