//! RunTask until a client sees RUNNING, beside the Engine's own create and start: what all of Longshore adds to Docker.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::EcsClient;
use crate::docker;
use crate::floor::Floor;
use crate::process::CpuMeter;
use crate::spawn::{Agent, Server, scratch, tail};
use crate::stats::Samples;
use crate::steps::{Marks, clock_ms};

/// What to run and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// Pairs of one direct start and one RunTask.
    #[arg(long, default_value_t = 200)]
    pairs: usize,
    /// Milliseconds between an answer of DescribeTasks and the next question.
    #[arg(long, default_value_t = 1)]
    poll_ms: u64,
    /// An image that is there already; `make bench` builds this one.
    #[arg(long, default_value = "localhost/producer-consumer:1")]
    image: String,
}

/// Pairs before the first that counts.
const WARM_UP: usize = 5;
/// After each start and its clean-up: what the Engine and the agent still have to do must not meet the next one.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a container may take to start or stop.
const PATIENCE_MS: f64 = 30_000.0;
const TASK_LABEL: &str = "com.amazonaws.ecs.task-arn";
const INSTANCE_LABEL: &str = "longshore.container-instance-arn";

pub(crate) fn run(options: &Options) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let image = &options.image;
        assert!(docker::has_image(image).await, "the Engine has no image {image}: run scripts/example-image");
        let dir = scratch();
        let server = Server::start(dir.path());
        let agent = Agent::start(dir.path(), &server.access);
        let mut client = server.access.connect().await;
        client.call("CreateCluster", &json!({})).await;
        client.call("RegisterTaskDefinition", &definition(image)).await;
        let instance = agent.connected(&mut client, dir.path()).await;
        let mut bench = Bench { client, dir: dir.path(), poll: Duration::from_millis(options.poll_ms) };
        let meters = [CpuMeter::start(agent.0.pid()), CpuMeter::start(server.process.pid())];
        let pairs = bench.pairs(options.pairs).await;
        let tasks = (1 + WARM_UP + options.pairs) as f64;
        let cpu_ms = meters.map(|meter| meter.used_us() / 1e3 / tasks);
        for id in docker::labelled(INSTANCE_LABEL, &instance).await {
            docker::remove(&id).await;
        }
        pairs.print(options);
        let [agent_ms, server_ms] = cpu_ms;
        println!("\nCPU per task from RunTask to STOPPED: agent {agent_ms:.2} ms, server {server_ms:.2} ms with all that is asked meanwhile.");
    });
}

fn definition(image: &str) -> Value {
    let container = json!({
        "name": "main",
        "image": image,
        "cpu": 10,
        "memory": 32,
        "essential": true,
        "environment": [{ "name": "MODE", "value": "producer" }],
    });
    json!({ "family": "bench", "containerDefinitions": [container] })
}

struct Bench<'a> {
    client: EcsClient,
    dir: &'a Path,
    poll: Duration,
}

/// What was measured; index by index the same pair.
#[derive(Default)]
struct Pairs {
    direct: Vec<Marks>,
    ours: Vec<Marks>,
    fsync: Vec<f64>,
}

impl Bench<'_> {
    async fn pairs(&mut self, count: usize) -> Pairs {
        let mut pairs = Pairs::default();
        let mut floor = Floor::new(self.dir);
        // The first task shows what the agent makes of the definition: the direct starts ask for exactly that.
        let (_, inspected) = self.through_us().await;
        let body = direct_body(&inspected);
        for pair in 0..WARM_UP + count {
            let (direct, ours) = if pair % 2 == 0 {
                let direct = direct(pair, &body).await;
                (direct, self.through_us().await.0)
            } else {
                let (ours, _) = self.through_us().await;
                (direct(pair, &body).await, ours)
            };
            let fsync = floor.append();
            if pair >= WARM_UP {
                pairs.direct.push(direct);
                pairs.ours.push(ours);
                pairs.fsync.push(fsync);
            }
        }
        pairs
    }

    /// RunTask until DescribeTasks says RUNNING; then, untimed, what the Engine has to say, and away with it.
    async fn through_us(&mut self) -> (Marks, Value) {
        let asked = clock_ms();
        let ran = self.client.call("RunTask", &json!({ "taskDefinition": "bench" })).await;
        let answered = clock_ms();
        let arn = ran["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("not placed: {ran}")).to_owned();
        let (task, seen) = self.until("RUNNING", &arn, self.poll).await;
        let ids = docker::labelled(TASK_LABEL, &arn).await;
        let id = ids.first().expect("a running task has a container");
        let inspected = docker::inspect(id).await;
        let (created, started) = Marks::engine_stamps(&inspected);
        let known = task["startedAt"].as_f64().map(|seconds| seconds * 1e3);
        self.client.call("StopTask", &json!({ "task": arn })).await;
        self.until("STOPPED", &arn, Duration::from_millis(20)).await;
        docker::remove(id).await;
        sleep(SETTLE).await;
        (Marks { asked, answered, created, started, known, seen }, inspected)
    }

    /// Asks until the task has this status; the task, and when that was known.
    async fn until(&mut self, status: &str, arn: &str, pause: Duration) -> (Value, f64) {
        let (request, began) = (json!({ "tasks": [arn] }), clock_ms());
        loop {
            let mut described = self.client.call("DescribeTasks", &request).await;
            let (task, now) = (described["tasks"][0].take(), clock_ms());
            if task["lastStatus"] == status {
                return (task, now);
            }
            let hopeless = task["lastStatus"] == "STOPPED" || now - began > PATIENCE_MS;
            assert!(!hopeless, "the task does not become {status}: {task}\n{}", tail(self.dir));
            sleep(pause).await;
        }
    }
}

/// Creates and starts a container as the agent does, each call with an answer to wait for.
async fn direct(number: usize, body: &Value) -> Marks {
    let name = format!("longshore-bench-{}-{number}", std::process::id());
    let asked = clock_ms();
    let id = docker::create(&name, body).await;
    let answered = clock_ms();
    docker::start(&id).await;
    let seen = clock_ms();
    let (created, started) = Marks::engine_stamps(&docker::inspect(&id).await);
    docker::remove(&id).await;
    sleep(SETTLE).await;
    Marks { asked, answered, created, started, known: None, seen }
}

/// The request that makes such a container again. As many labels, but none by which the agent would take it for its own.
fn direct_body(inspected: &Value) -> Value {
    let mut body = inspected["Config"].clone();
    let labels = body["Labels"].as_object().cloned().unwrap_or_default();
    body["Labels"] = labels.into_iter().map(|(name, value)| (format!("longshore-bench.{name}"), value)).collect();
    body["HostConfig"] = inspected["HostConfig"].clone();
    if let Some(body) = body.as_object_mut() {
        // The old container's id.
        body.remove("Hostname");
    }
    body
}

impl Pairs {
    fn print(&self, options: &Options) {
        let of = |marks: &[Marks], value: &dyn Fn(&Marks) -> f64| Samples::new(marks.iter().map(value).collect());
        let row = |what: &str, times: &Samples, aim: &str| {
            println!("| {what} | {} | {:.2} | {aim} |", times.median_text(), times.quantile(0.9));
        };
        println!("| figure, {} pairs | p50 ms | p90 ms | aim |", options.pairs);
        println!("|---|---|---|---|");
        row("peer: direct create + start", &of(&self.direct, &Marks::total), "");
        let seen = format!("RunTask to RUNNING, asked {} ms after each answer", options.poll_ms);
        row(&seen, &of(&self.ours, &Marks::total), "");
        let pairs = self.ours.iter().zip(&self.direct);
        let difference = |value: &dyn Fn(&Marks) -> f64| {
            Samples::new(pairs.clone().map(|(ours, direct)| value(ours) - value(direct)).collect())
        };
        let added = difference(&Marks::total);
        let verdict = if added.median() <= 20.0 { "met" } else { "missed" };
        row("**added by Longshore, by pairs**", &added, &format!("p50 ≤ 20 ms: {verdict}"));
        // The Engine's own time varies by more than we add; the same difference without it is the sharper figure.
        row("of which outside the Engine, by pairs", &difference(&|m| m.total() - m.engine()), "");
        row("floor: append 1 KiB and fdatasync", &Samples::new(self.fsync.clone()), "");
        println!("\n| step of RunTask to RUNNING | p50 ms | p90 ms | |");
        println!("|---|---|---|---|");
        row("RunTask answered (one commit)", &of(&self.ours, &|m| m.answered - m.asked), "");
        row("answered → Engine begins to create", &of(&self.ours, &|m| m.created - m.answered), "");
        row("begins to create → process runs", &of(&self.ours, &Marks::engine), "");
        let known = |m: &Marks| m.known.unwrap_or(m.seen);
        row("process runs → control plane knows", &of(&self.ours, &|m| known(m) - m.started), "startedAt, whole ms");
        row("control plane knows → client sees (one commit)", &of(&self.ours, &|m| m.seen - known(m)), "");
        println!("\n| step of direct create + start | p50 ms | p90 ms | |");
        println!("|---|---|---|---|");
        row("asked → Engine begins to create", &of(&self.direct, &|m| m.created - m.asked), "");
        row("begins to create → process runs", &of(&self.direct, &Marks::engine), "");
        row("of which create answered → process runs", &of(&self.direct, &|m| m.started - m.answered), "");
        row("process runs → start answered", &of(&self.direct, &|m| m.seen - m.started), "");
        row("Engine's part, ours minus direct, by pairs", &difference(&Marks::engine), "");
    }
}
