//! From RunTask to RUNNING through the wire: a release server, a thousand agents with real sockets in a process of their own,
//! and clients that call RunTask until everything runs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use crate::client::{Access, EcsClient};
use crate::process::{CpuMeter, anonymous_kib, memory_text};
use crate::spawn::{Server, raise_descriptor_limit, scratch, tail};

/// How much to run, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// Tasks to run.
    #[arg(long, default_value_t = 200_000)]
    tasks: usize,
    /// Agents, each with one container instance.
    #[arg(long, default_value_t = 1_000)]
    agents: usize,
    /// Copies per RunTask.
    #[arg(long, default_value_t = 10)]
    count: usize,
    /// Connections on which RunTask is called, one call at a time on each.
    #[arg(long, default_value_t = 16)]
    clients: usize,
}

/// How long everything together may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at how many run.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const AIM_PER_SECOND: f64 = 5_000.0;
const AIM_BYTES: f64 = 1_600.0;

pub(crate) fn run(options: &Options) {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(options));
}

async fn measure(options: &Options) {
    let dir = scratch();
    let server = Server::start(dir.path());
    let mut client = server.access.connect().await;
    client.call("CreateCluster", &json!({})).await;
    client.call("RegisterTaskDefinition", &definition()).await;
    let agents = Agents::start(&server.access, options.agents);
    let before_kib = anonymous_kib(server.process.pid()).unwrap_or_default();

    let (server_cpu, agents_cpu) = (CpuMeter::start(server.process.pid()), CpuMeter::start(agents.0.id()));
    let own_cpu = crate::process::cpu_us();
    let began = Instant::now();
    let calls = options.tasks.div_ceil(options.count);
    let request = json!({ "taskDefinition": "web", "count": options.count });
    let one = |index: usize| {
        let (access, request) = (&server.access, &request);
        async move {
            let mut client = access.connect().await;
            for _ in (index..calls).step_by(options.clients) {
                let answer = client.call("RunTask", request).await;
                assert_eq!(answer["tasks"].as_array().map(Vec::len), Some(options.count), "{}", answer["failures"]);
            }
        }
    };
    join_all((0..options.clients).map(one)).await;
    let answered = began.elapsed().as_secs_f64();
    let placed = calls * options.count;
    // The connection of before has been quiet for too long to be still there.
    let mut client = server.access.connect().await;
    while running(&mut client).await < placed {
        assert!(began.elapsed() < PATIENCE, "not everything runs:\n{}", tail(dir.path()));
        sleep(LOOK_EVERY).await;
    }
    let wall = began.elapsed().as_secs_f64();
    let each = |us: f64| us / placed as f64;
    let rate = placed as f64 / wall;
    let verdict = |met: bool| if met { "met" } else { "missed" };
    println!(
        "| {placed} tasks on {} agents, {} per RunTask, {} clients | value | aim |",
        options.agents, options.count, options.clients
    );
    println!("|---|---|---|");
    println!(
        "| tasks per second, first RunTask to last RUNNING | {rate:.0} | ≥ {AIM_PER_SECOND:.0}: {} |",
        verdict(rate >= AIM_PER_SECOND)
    );
    println!("| of which RunTask answered after | {:.0} % of that time | |", 100.0 * answered / wall);
    println!("| server's CPU per task | {:.1} µs | |", each(server_cpu.used_us()));
    for (thread, us) in server_cpu.used_us_by_thread() {
        if each(us) >= 1.0 {
            println!("| of which threads `{thread}` | {:.1} µs | |", each(us));
        }
    }
    println!("| agents' CPU per task | {:.1} µs | |", each(agents_cpu.used_us()));
    println!("| clients' CPU per task | {:.1} µs | |", each(crate::process::cpu_us() - own_cpu));
    let grown = anonymous_kib(server.process.pid()).unwrap_or_default().saturating_sub(before_kib);
    let bytes = grown as f64 * 1024.0 / placed as f64;
    println!(
        "| server's memory per live task | {bytes:.0} bytes | ≤ {AIM_BYTES:.0}: {} |",
        verdict(bytes <= AIM_BYTES)
    );
    println!("| server's memory with all of them | {} | |", memory_text(server.process.pid()));
}

async fn running(client: &mut EcsClient) -> usize {
    let answer = client.call("DescribeClusters", &json!({})).await;
    answer["clusters"][0]["runningTasksCount"].as_u64().and_then(|count| usize::try_from(count).ok()).expect("a count")
}

fn definition() -> serde_json::Value {
    json!({
        "family": "web",
        "containerDefinitions": [{ "name": "main", "image": "web", "cpu": 10, "memory": 10, "essential": true }],
    })
}

/// The process with the agents; killed when dropped.
struct Agents(Child);

impl Agents {
    /// Starts it, and waits until all are connected.
    fn start(access: &Access, count: usize) -> Self {
        let own = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(own);
        command.args(["agents", "--count", &count.to_string()]).envs(access.variables());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("this program starts");
        let output = child.stdout.take().expect("what it prints");
        let agents = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("text");
        assert_eq!(line, "connected\n", "the agents connect");
        agents
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
