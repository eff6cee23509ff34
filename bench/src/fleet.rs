//! A thousand agents: the agent's own code over real sockets, against the release server.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::join_all;
use longshore_agent::AgentConfig;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client::{Access, EcsClient};
use crate::floor::ms_since;
use crate::process::{CpuMeter, anonymous_kib, memory_text};
use crate::spawn::{Server, agent_settings, raise_descriptor_limit, scratch, tail};
use crate::stats::Samples;

/// How many, and how often they are made to return.
#[derive(Args)]
pub(crate) struct Options {
    /// Agents in this process.
    #[arg(long, default_value_t = 4)]
    agents: u32,
    /// Container instances of each.
    #[arg(long, default_value_t = 250)]
    instances: u32,
    /// How often the server is killed and started again at once.
    #[arg(long, default_value_t = 7)]
    storms: usize,
    /// Seconds that the server stays away the last time: long enough for every back-off to have grown.
    #[arg(long, default_value_t = 40)]
    away: u64,
}

const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at who is connected.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// After a storm: telemetry sessions return too, and nothing of one storm is to be seen in the next.
const SETTLE: Duration = Duration::from_secs(3);
const REST: Duration = Duration::from_secs(20);
/// What a storm may take.
const AIM_MS: f64 = 5_000.0;

pub(crate) fn run(options: &Options) {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(options));
}

async fn measure(options: &Options) {
    let dir = scratch();
    let mut server = Server::start(dir.path());
    let listen = server.access.authority.clone();
    server.access.connect().await.call("CreateCluster", &json!({})).await;
    let memory_before = anonymous_kib(server.process.pid()).unwrap_or_default();
    let all = (options.agents * options.instances) as usize;

    let began = Instant::now();
    let stop = CancellationToken::new();
    let agents: Vec<_> =
        (0..options.agents).map(|index| start_agent(dir.path(), &server.access, index, options, &stop)).collect();
    await_all(&server.access, all, dir.path()).await;
    let first_ms = ms_since(began);
    sleep(SETTLE).await;
    println!("| figure | value | aim |");
    println!("|---|---|---|");
    println!("| {all} container instances registered and connected, from nothing | {first_ms:.0} ms | |");
    println!("| server's memory with them | {} | |", memory_text(server.process.pid()));
    let own = anonymous_kib(server.process.pid()).unwrap_or_default().saturating_sub(memory_before);
    println!("| of which per instance | {:.1} KiB | |", own as f64 / all as f64);
    let meter = CpuMeter::start(server.process.pid());
    sleep(REST).await;
    println!("| server's CPU for them at rest | {:.1} ms per second | |", meter.used_us() / 1e3 / REST.as_secs_f64());

    let mut floors = Vec::new();
    let mut storms = Vec::new();
    for _ in 0..options.storms {
        floors.push(floor(&server.access, all).await);
        server = restart(server, dir.path(), &listen, Duration::ZERO).await;
        let began = Instant::now();
        await_all(&server.access, all, dir.path()).await;
        storms.push(ms_since(began));
        sleep(SETTLE).await;
    }
    let (floors, storms) = (Samples::new(floors), Samples::new(storms));
    let (worst, floor_ms) = (storms.quantile(1.0), floors.median());
    let verdict = if worst <= AIM_MS { "met" } else { "missed" };
    println!("| floor: {all} connections with one signed call each, all at once | {} ms | |", floors.median_text());
    println!(
        "| storm: server killed, started again, all {all} connected, {} times | {} ms, worst {worst:.0} | worst ≤ {AIM_MS:.0} ms: {verdict} |",
        options.storms,
        storms.median_text(),
    );
    println!("| storm over floor | {:.1} | |", storms.median() / floor_ms);
    server = restart(server, dir.path(), &listen, Duration::from_secs(options.away)).await;
    let began = Instant::now();
    await_all(&server.access, all, dir.path()).await;
    println!("| the same after the server was away for {} s | {:.0} ms | |", options.away, ms_since(began));
    stop.cancel();
    join_all(agents).await;
}

/// One agent process's worth of instances, in this process.
fn start_agent(
    dir: &Path,
    access: &Access,
    index: u32,
    options: &Options,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let mut settings = agent_settings(&dir.join(format!("agent-{index}")), access);
    settings.push(("LONGSHORE_INSTANCES", options.instances.to_string()));
    settings.push(("LONGSHORE_HOST_ID", format!("bench-{index}")));
    let empty = dir.join("ecs.config");
    std::fs::write(&empty, "").expect("an empty configuration");
    let environment = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
    let config = AgentConfig::load(Some(&empty), environment).expect("settings of our own");
    let stop = stop.clone();
    tokio::spawn(async move {
        longshore_agent::run(config, stop).await.expect("an agent that lives until it is told to leave");
    })
}

/// Kills the server and starts it again at the same address after a while.
async fn restart(server: Server, dir: &Path, listen: &str, away: Duration) -> Server {
    server.process.signal(Signal::KILL);
    drop(server);
    sleep(away).await;
    Server::start_at(dir, listen, &[])
}

/// Waits until that many instances are connected.
async fn await_all(access: &Access, all: usize, dir: &Path) {
    let began = Instant::now();
    let mut client = access.connect().await;
    loop {
        let connected = client.instances().await.iter().filter(|instance| instance["agentConnected"] == true).count();
        if connected >= all {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "only {connected} of {all} are connected:\n{}", tail(dir));
        sleep(LOOK_EVERY).await;
    }
}

/// What the machine needs at least: as many connections from one process, each with a signed call that is answered.
async fn floor(access: &Access, connections: usize) -> f64 {
    let began = Instant::now();
    let one = || async {
        let mut client: EcsClient = access.connect().await;
        client.call("DescribeClusters", &json!({})).await;
        client
    };
    let kept = join_all((0..connections).map(|_| one())).await;
    let ms = ms_since(began);
    drop(kept);
    ms
}
