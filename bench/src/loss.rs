//! An agent that falls silent without a word: how long until the control plane gives its task up, and a client that
//! watches has a replacement ordered elsewhere.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::EcsClient;
use crate::docker;
use crate::floor::ms_since;
use crate::spawn::{Agent, Server, scratch, tail};
use crate::stats::Samples;

/// How often, and how long the control plane waits.
#[derive(Args)]
pub(crate) struct Options {
    /// Silent losses, in turn of the one and the other agent.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// `--instance-lost-after`, in seconds.
    #[arg(long, default_value_t = 4)]
    lost_after: u64,
    /// An image that is there already; `make bench` builds this one.
    #[arg(long, default_value = "localhost/producer-consumer:1")]
    image: String,
}

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const INSTANCE_LABEL: &str = "longshore.container-instance-arn";
/// What may come on top of the time that the control plane waits.
const AIM_MS: f64 = 1_000.0;

pub(crate) fn run(options: &Options) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(options));
}

async fn measure(options: &Options) {
    let dir = scratch();
    let lost_after = format!("{}s", options.lost_after);
    let server = Server::start_at(dir.path(), "127.0.0.1:0", &["--instance-lost-after", &lost_after]);
    let mut client = server.access.connect().await;
    client.call("CreateCluster", &json!({})).await;
    let container = json!({
        "name": "main", "image": options.image, "cpu": 10, "memory": 32, "essential": true,
        "environment": [{ "name": "MODE", "value": "producer" }],
    });
    client.call("RegisterTaskDefinition", &json!({ "family": "loss", "containerDefinitions": [container] })).await;
    let start = |name: &str| {
        let host = [("LONGSHORE_HOST_ID", name.to_owned())];
        Agent::start_as(dir.path(), &server.access, name, &host)
    };
    let mut bench = Bench { client, dir: dir.path(), agents: vec![] };
    for name in ["agent-a", "agent-b"] {
        let agent = start(name);
        let arn = bench.newly_connected().await;
        bench.agents.push((agent, arn));
    }

    let (mut verdicts, mut replacements) = (Vec::new(), Vec::new());
    let mut task = bench.run_task().await;
    for _ in 0..options.rounds {
        bench.until_status(&task, "RUNNING").await;
        let host = task["containerInstanceArn"].clone();
        bench.agent(&host).signal(Signal::STOP);
        let silent = Instant::now();
        bench.until_status(&task, "STOPPED").await;
        verdicts.push(ms_since(silent));
        let replacement = bench.run_task().await;
        replacements.push(ms_since(silent));
        assert_ne!(replacement["containerInstanceArn"], host, "the replacement went to the silent machine");
        // It comes back, and is told to stop the copy that was given up before anything else.
        bench.agent(&host).signal(Signal::CONT);
        bench.until_free(&host).await;
        task = replacement;
    }
    for (_, arn) in &bench.agents {
        for id in docker::labelled(INSTANCE_LABEL, arn).await {
            docker::remove(&id).await;
        }
    }

    let waited_ms = options.lost_after as f64 * 1e3;
    let (verdicts, replacements) = (Samples::new(verdicts), Samples::new(replacements));
    let worst = replacements.quantile(1.0);
    let verdict = if worst <= waited_ms + AIM_MS { "met" } else { "missed" };
    println!("| figure, {} silent losses | value | aim |", options.rounds);
    println!("|---|---|---|");
    println!("| floor: `--instance-lost-after`, counted from the last sign of life | {waited_ms:.0} ms | |");
    println!("| silence to the verdict STOPPED, as a client sees it | {} ms | |", verdicts.median_text());
    println!(
        "| silence to the replacement's order | {} ms, worst {worst:.0} | worst ≤ lost-after + {AIM_MS:.0} ms: {verdict} |",
        replacements.median_text(),
    );
}

struct Bench<'a> {
    client: EcsClient,
    dir: &'a Path,
    agents: Vec<(Agent, String)>,
}

impl Bench<'_> {
    /// The ARN of an instance that is connected and not known yet.
    async fn newly_connected(&mut self) -> String {
        let began = Instant::now();
        loop {
            for instance in self.client.instances().await {
                let arn = instance["containerInstanceArn"].as_str().unwrap_or_default();
                if instance["agentConnected"] == true && self.agents.iter().all(|(_, known)| known != arn) {
                    return arn.to_owned();
                }
            }
            self.wait(began, "an agent that connects").await;
        }
    }

    fn agent(&self, arn: &Value) -> &crate::spawn::Process {
        let found = self.agents.iter().find(|(_, known)| arn == known.as_str());
        &found.expect("an agent of ours").0.0
    }

    async fn run_task(&mut self) -> Value {
        let mut answer = self.client.call("RunTask", &json!({ "taskDefinition": "loss" })).await;
        assert!(!answer["tasks"][0].is_null(), "no task was placed: {answer}");
        answer["tasks"][0].take()
    }

    async fn until_status(&mut self, task: &Value, status: &str) {
        let began = Instant::now();
        loop {
            let described = self.client.call("DescribeTasks", &json!({ "tasks": [task["taskArn"]] })).await;
            if described["tasks"][0]["lastStatus"] == status {
                return;
            }
            self.wait(began, status).await;
        }
    }

    /// Waits until an instance is connected and holds nothing.
    async fn until_free(&mut self, arn: &Value) {
        let began = Instant::now();
        loop {
            let request = json!({ "containerInstances": [arn] });
            let described = self.client.call("DescribeContainerInstances", &request).await;
            let instance = &described["containerInstances"][0];
            if instance["agentConnected"] == true && instance["remainingResources"] == instance["registeredResources"] {
                return;
            }
            self.wait(began, "an instance that is free again").await;
        }
    }

    async fn wait(&self, began: Instant, what: &str) {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}:\n{}", tail(self.dir));
        sleep(LOOK_EVERY).await;
    }
}
