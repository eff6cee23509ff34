//! The server alone: how fast it starts, what it needs at rest, and what RunTask costs beside the write it waits for.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::client::EcsClient;
use crate::fake_agent::FakeAgent;
use crate::floor::{Floor, ms_since};
use crate::process::{CpuMeter, cpu_us, memory_text};
use crate::spawn::{Server, scratch, start_nothing};
use crate::stats::Samples;

/// How often to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Starts of the server, each with an empty and with an existing data directory.
    #[arg(long, default_value_t = 15)]
    starts: usize,
    /// RunTask calls, one after the other, each beside a write of the floor.
    #[arg(long, default_value_t = 1_500)]
    calls: usize,
}

/// Calls before the first that counts: connections, caches and the store's first segment.
const WARM_UP: usize = 50;
/// How long a server rests before its memory is read.
const REST: Duration = Duration::from_secs(3);

pub(crate) fn run(options: &Options) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("| figure | value | aim |");
    println!("|---|---|---|");
    starts(&runtime, options.starts);
    idle(&runtime);
    sequential(&runtime, options.calls);
}

fn starts(runtime: &Runtime, count: usize) {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..count {
        let dir = scratch();
        times[0].push(start_nothing());
        for time in &mut times[1..] {
            let began = Instant::now();
            let server = Server::start(dir.path());
            runtime.block_on(async { server.access.connect().await.call("ListClusters", &json!({})).await });
            time.push(ms_since(began));
            server.process.stop();
        }
    }
    let [nothing, first, again] = times.map(Samples::new);
    println!("| floor: the binary started for `--version`, {count} times | {} ms | |", nothing.median_text());
    for (what, time) in [("empty data directory, keys to be made", first), ("existing data directory", again)] {
        let worst = time.quantile(1.0);
        println!("| start to first signed answer, {what} | {} ms, worst {worst:.0} | ≤ 100 ms |", time.median_text());
    }
}

fn idle(runtime: &Runtime) {
    let dir = scratch();
    let server = Server::start(dir.path());
    runtime.block_on(async { server.access.connect().await.call("ListClusters", &json!({})).await });
    std::thread::sleep(REST);
    println!("| memory at rest, after the first answer | {} | ≤ 30 MiB |", memory_text(server.process.pid()));
}

fn sequential(runtime: &Runtime, calls: usize) {
    let dir = scratch();
    let server = Server::start(dir.path());
    let mut client = runtime.block_on(prepare(&server));
    let agent = FakeAgent::start(&server.access);
    let mut floor = Floor::new(dir.path());
    let measured = runtime.block_on(async {
        for _ in 0..WARM_UP {
            floor.append();
            floor.write_in_place();
            run_task(&mut client).await;
        }
        side_by_side(&mut client, &mut floor, calls).await
    });
    measured.print(calls);
    let before = cpu_us();
    for _ in 0..calls {
        floor.append();
    }
    println!("| CPU per write of the floor | {:.0} µs | |", (cpu_us() - before) / calls as f64);
    let pid = server.process.pid();
    for (what, operation) in [("RunTask", true), ("DescribeTasks of one task", false)] {
        let request = json!({ "tasks": [measured.last] });
        let (meter, began) = (CpuMeter::start(pid), Instant::now());
        runtime.block_on(async {
            for _ in 0..calls {
                match operation {
                    true => drop(run_task(&mut client).await),
                    false => drop(client.call("DescribeTasks", &request).await),
                }
            }
        });
        let each = |total: f64| total / calls as f64;
        let (wall, cpu) = (each(ms_since(began)), each(meter.used_us()));
        println!("| server CPU per {what}, one after the other | {cpu:.0} µs ({wall:.2} ms wall) | |");
    }
    let placed = (WARM_UP + 2 * calls) as u64;
    agent.await_payloads(placed);
    println!("| memory with {placed} tasks and one agent | {} | |", memory_text(pid));
}

/// A cluster and a definition.
async fn prepare(server: &Server) -> EcsClient {
    let mut client = server.access.connect().await;
    client.call("CreateCluster", &json!({})).await;
    let container = json!({ "name": "main", "image": "bench", "cpu": 1, "memory": 6, "essential": true });
    let definition = json!({ "family": "bench", "containerDefinitions": [container] });
    client.call("RegisterTaskDefinition", &definition).await;
    client
}

/// Runs one task, which must be placed; its ARN.
async fn run_task(client: &mut EcsClient) -> Value {
    let mut answer = client.call("RunTask", &json!({ "taskDefinition": "bench" })).await;
    assert_eq!(answer["failures"], json!([]), "there is room for every task");
    answer["tasks"][0]["taskArn"].take()
}

/// Times in ms of the same rounds.
#[derive(Default)]
struct Measured {
    append: Vec<f64>,
    in_place: Vec<f64>,
    run_task: Vec<f64>,
    describe: Vec<f64>,
    last: Value,
}

/// Each round does each thing once; which comes first changes, so that none always follows the same other.
async fn side_by_side(client: &mut EcsClient, floor: &mut Floor, rounds: usize) -> Measured {
    let mut measured = Measured::default();
    for round in 0..rounds {
        for step in 0..4 {
            match (round + step) % 4 {
                0 => measured.append.push(floor.append()),
                1 => {
                    let began = Instant::now();
                    measured.last = run_task(client).await;
                    measured.run_task.push(ms_since(began));
                }
                2 => measured.in_place.push(floor.write_in_place()),
                _ if measured.last.is_string() => {
                    let request = json!({ "tasks": [measured.last] });
                    let began = Instant::now();
                    client.call("DescribeTasks", &request).await;
                    measured.describe.push(ms_since(began));
                }
                _ => {}
            }
        }
    }
    measured
}

impl Measured {
    fn print(&self, calls: usize) {
        let [append, in_place, run_task, describe] =
            [&self.append, &self.in_place, &self.run_task, &self.describe].map(|times| Samples::new(times.clone()));
        let row = |what: &str, times: &Samples, aim: &str| {
            println!("| {what} | {} ms, p99 {:.2} | {aim} |", times.median_text(), times.quantile(0.99));
        };
        row(&format!("floor: append 1 KiB and fdatasync, {calls} times"), &append, "");
        row("floor: write 1 KiB in place and fdatasync", &in_place, "");
        let within = |fsync: f64, taken: f64| {
            let most = (1.5 * fsync).max(fsync + 0.5);
            format!("≤ {most:.2} ms: {}", if taken <= most { "met" } else { "missed" })
        };
        let p50 = within(append.median(), run_task.median());
        let p99 = within(append.quantile(0.99), run_task.quantile(0.99));
        row(&format!("RunTask, {calls} one after the other, interleaved"), &run_task, &format!("p50 {p50}; p99 {p99}"));
        let differences = self.run_task.iter().zip(&self.append).map(|(run, floor)| run - floor).collect();
        println!("| RunTask minus floor, by pairs | {} ms | |", Samples::new(differences).median_text());
        row("DescribeTasks of one task: what wire and signature cost", &describe, "");
    }
}
