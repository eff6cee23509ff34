//! Core and store alone: a million tasks on ten thousand instances, placed, durable, answered, and their payloads made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use longshore_api::ecs::{Request, Response, types};
use longshore_core::cell::{AgentInfo, Command, Delivery, Reply};
use longshore_core::ids::SessionId;
use longshore_core::{CellConfig, Principal, Role};
use longshore_server::orchestrator::Orchestrator;
use longshore_server::runner::{Perform, Runner};
use longshore_store::EmbeddedStore;

use crate::process::{cpu_us, resident_kib};
use crate::spawn::scratch;

/// How much to place.
#[derive(Args)]
pub(crate) struct Options {
    /// Tasks to place.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: usize,
    /// Instances to place them on.
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Copies per RunTask.
    #[arg(long, default_value_t = 10)]
    count: i32,
    /// RunTask calls under way at once.
    #[arg(long, default_value_t = 1_024)]
    callers: usize,
}

/// Counts what would be sent to agents.
struct Count(AtomicU64);

impl Perform for Count {
    fn perform(&self, _delivery: Delivery) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn run(options: &Options) {
    let dir = scratch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sent = Arc::new(Count(AtomicU64::new(0)));
    let runner = start(dir.path(), sent.clone());
    let empty_kib = resident_kib(std::process::id()).unwrap_or_default();
    runtime.block_on(prepare(&runner, options.instances));
    let ready_kib = resident_kib(std::process::id()).unwrap_or_default();
    let (cpu, wall) = (cpu_us(), Instant::now());
    let placed = runtime.block_on(place(&runner, options));
    let (cpu, wall) = (cpu_us() - cpu, wall.elapsed().as_secs_f64());
    let full_kib = resident_kib(std::process::id()).unwrap_or_default();
    assert_eq!(runner.snapshot().task_count(), placed, "every task that was answered is there");
    stop(&runtime, runner);
    let restart = Instant::now();
    let again = start(dir.path(), sent.clone());
    let restart = restart.elapsed().as_secs_f64();
    assert_eq!(again.snapshot().task_count(), placed, "every task that was answered is there after a restart");
    stop(&runtime, again);
    println!("| figure | value | expected |");
    println!("|---|---|---|");
    println!(
        "| tasks placed and durable on {} instances, {} per RunTask | {placed} | |",
        options.instances, options.count
    );
    println!("| placements per second | {:.0} | ≥ 50,000 |", placed as f64 / wall);
    println!("| CPU µs per task, all threads | {:.2} | ≤ 15 |", cpu / placed as f64);
    println!("| memory per task | {:.0} bytes | |", (full_kib.saturating_sub(ready_kib) * 1024) as f64 / placed as f64);
    println!("| memory before | {} KiB empty, {} KiB with instances | |", empty_kib, ready_kib);
    println!("| payloads made for agents | {} | |", sent.0.load(Ordering::Relaxed));
    println!("| restart: load and recount | {restart:.2} s | |");
}

fn start(dir: &std::path::Path, sent: Arc<Count>) -> Runner {
    let store = EmbeddedStore::open(dir).expect("the store opens");
    let config = CellConfig::new("us-east-1", "000000000000");
    Runner::start(config, Box::new(store), sent, usize::MAX).expect("the runner starts")
}

fn stop(runtime: &tokio::runtime::Runtime, runner: Runner) {
    runner.stop();
    runtime.block_on(runner.ended());
}

async fn call(runner: &Runner, request: impl Into<Request>) -> Response {
    runner.call(principal(), request.into()).await.expect("the request is good")
}

fn principal() -> Principal {
    Principal::new(Role::Owner, "bench", "000000000000")
}

/// A cluster, a definition, and instances with connected agents.
async fn prepare(runner: &Runner, instances: usize) {
    call(runner, types::CreateClusterRequest::default()).await;
    call(runner, definition()).await;
    let mut joining: FuturesUnordered<_> = (0..instances).map(|index| join(runner, index)).collect();
    while joining.next().await.is_some() {}
}

fn definition() -> types::RegisterTaskDefinitionRequest {
    types::RegisterTaskDefinitionRequest {
        family: "f_producer".to_owned(),
        container_definitions: vec![types::ContainerDefinition {
            name: Some("producer".to_owned()),
            image: Some("producer-consumer".to_owned()),
            cpu: Some(50),
            memory: Some(50),
            essential: Some(true),
            ..types::ContainerDefinition::default()
        }],
        ..types::RegisterTaskDefinitionRequest::default()
    }
}

async fn join(runner: &Runner, index: usize) {
    let number = |name: &str, value: i32| types::Resource {
        name: Some(name.to_owned()),
        r#type: Some("INTEGER".to_owned()),
        integer_value: Some(value),
        ..types::Resource::default()
    };
    let attribute =
        |name: &str| types::Attribute { name: name.to_owned(), value: None, target_type: None, target_id: None };
    // Room for a hundred tasks and a bit, so that the last ones have to be looked for.
    let request = types::RegisterContainerInstanceRequest {
        total_resources: Some(vec![number("CPU", 5_120), number("MEMORY", 5_120)]),
        attributes: Some(vec![
            attribute("com.amazonaws.ecs.capability.docker-remote-api.1.17"),
            attribute("com.amazonaws.ecs.capability.docker-remote-api.1.18"),
            attribute("com.amazonaws.ecs.capability.docker-remote-api.1.21"),
            attribute("ecs.capability.container-ordering"),
        ]),
        ..types::RegisterContainerInstanceRequest::default()
    };
    let Response::RegisterContainerInstance(answer) = call(runner, request).await else { panic!("another answer") };
    let instance_arn = answer.container_instance.and_then(|instance| instance.container_instance_arn).expect("an ARN");
    let session = SessionId(index as u64 + 1);
    let command = Command::SessionOpened { instance_arn, session, principal: principal(), agent: AgentInfo::default() };
    assert!(matches!(runner.command(command).await, Reply::Session(Ok(_))), "the session opens");
}

/// Calls RunTask until all tasks are placed; answers how many were.
async fn place(runner: &Runner, options: &Options) -> usize {
    let one = || {
        call(
            runner,
            types::RunTaskRequest {
                task_definition: "f_producer".to_owned(),
                count: Some(options.count),
                ..types::RunTaskRequest::default()
            },
        )
    };
    let calls = options.tasks.div_ceil(options.count.max(1) as usize);
    let mut under_way: FuturesUnordered<_> = (0..options.callers.min(calls)).map(|_| one()).collect();
    let mut begun = under_way.len();
    let mut placed = 0;
    while let Some(answer) = under_way.next().await {
        let Response::RunTask(answer) = answer else { panic!("another answer") };
        let refused = answer.failures.iter().flatten().next();
        assert_eq!(refused, None, "everything fits");
        placed += answer.tasks.map_or(0, |tasks| tasks.len());
        if begun < calls {
            begun += 1;
            under_way.push(one());
        }
    }
    placed
}
