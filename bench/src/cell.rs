//! Core and store alone: a million tasks on ten thousand instances, placed, durable, answered, and their payloads made; then
//! the process is killed, and what it answered for is counted again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Args, ValueEnum};
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
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Tasks to place.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: usize,
    /// Instances to place them on, in three zones.
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Copies per RunTask.
    #[arg(long, default_value_t = 10)]
    count: i32,
    /// RunTask calls under way at once.
    #[arg(long, default_value_t = 1_024)]
    callers: usize,
    /// Place them here, one way alone, and go on until killed: what this program starts of itself.
    #[arg(long, hide = true, requires = "way")]
    data: Option<PathBuf>,
    /// Which way.
    #[arg(long, hide = true)]
    way: Option<Way>,
}

/// How tasks are placed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// Anywhere.
    Random,
    /// Over the zones, then where the least memory is left; each needs one of [`PORTS`] ports of its host.
    Packed,
}

/// Host ports that definitions of [`Way::Packed`] ask for, one each: as many of them fit on a host.
const PORTS: usize = 128;
/// Tasks that an instance has CPU and memory for: a tenth more than there are, so that the last ones have to be looked for.
const ROOM: i32 = 110;
/// CPU units and MiB of a task.
const TASK: i32 = 50;
/// Tasks placed after the measurement until the process is killed in the middle of its work.
const UNTIL_KILLED: usize = 20_000;

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Packed => "spread(az), binpack(memory), one of 128 host ports each",
        }
    }

    fn families(self) -> usize {
        match self {
            Self::Random => 1,
            Self::Packed => PORTS,
        }
    }

    fn strategy(self) -> Vec<types::PlacementStrategy> {
        let by = |r#type, field: &str| types::PlacementStrategy { r#type: Some(r#type), field: Some(field.to_owned()) };
        match self {
            Self::Random => Vec::new(),
            Self::Packed => vec![
                by(types::PlacementStrategyType::Spread, "attribute:ecs.availability-zone"),
                by(types::PlacementStrategyType::Binpack, "memory"),
            ],
        }
    }
}

/// Counts what would be sent to agents.
#[derive(Default)]
struct Count(AtomicU64);

impl Perform for Count {
    fn perform(&self, _delivery: Delivery) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn run(options: &Options) {
    if let (Some(data), Some(way)) = (&options.data, options.way) {
        return place_until_killed(options, data, way);
    }
    for way in [Way::Random, Way::Packed] {
        println!("\n| {} tasks on {} instances, {} | value | aim |", options.tasks, options.instances, way.name());
        println!("|---|---|---|");
        measure(options, way);
    }
}

/// One way in a process of its own, which is killed in the middle of its work; and a recount of what it left.
fn measure(options: &Options, way: Way) {
    let dir = scratch();
    let acknowledged = killed(options, way, dir.path());
    let began = Instant::now();
    let again = start(dir.path(), Arc::default());
    let restart = began.elapsed().as_secs_f64();
    let found = again.snapshot().task_count();
    let lost = acknowledged.saturating_sub(found);
    println!("| tasks answered when it was killed with SIGKILL under load | {acknowledged} | |");
    println!("| of them lost, {found} found | {lost} | 0: {} |", if lost == 0 { "met" } else { "missed" });
    println!("| load and recount of every reservation afterwards | {restart:.2} s | |");
    again.stop();
}

/// Lets a process place until it has answered for some more than were to be measured, and kills it; how many it answered for.
fn killed(options: &Options, way: Way, dir: &Path) -> usize {
    let own = std::env::current_exe().expect("this program has a path");
    let way = way.to_possible_value().expect("a way that can be named");
    let mut command = std::process::Command::new(own);
    command.arg("cell").args(["--way", way.get_name()]).arg("--data").arg(dir);
    for (name, value) in [
        ("--tasks", options.tasks),
        ("--instances", options.instances),
        ("--count", options.count as usize),
        ("--callers", options.callers),
    ] {
        command.args([name, &value.to_string()]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("this program starts");
    let output = child.stdout.take().expect("what it prints");
    let mut acknowledged = 0;
    let mut alive = true;
    for line in BufReader::new(output).lines() {
        let line = line.expect("text");
        match line.strip_prefix(ANSWERED).map(str::parse) {
            Some(Ok(count)) => acknowledged = count,
            _ => println!("{line}"),
        }
        if alive && acknowledged >= options.tasks + UNTIL_KILLED {
            child.kill().expect("a child that runs");
            alive = false;
        }
    }
    child.wait().expect("a child of ours");
    assert!(!alive, "it ended by itself");
    acknowledged
}

/// How it says for how many tasks callers have their answer.
const ANSWERED: &str = "answered ";

/// Places, says what that cost, and goes on placing.
fn place_until_killed(options: &Options, dir: &Path, way: Way) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sent = Arc::new(Count::default());
    let runner = start(dir, sent.clone());
    let empty_kib = resident_kib(std::process::id()).unwrap_or_default();
    runtime.block_on(prepare(&runner, options.instances, way));
    let ready_kib = resident_kib(std::process::id()).unwrap_or_default();
    let (cpu, wall) = (cpu_us(), Instant::now());
    let placed = runtime.block_on(place(&runner, options, way, options.tasks, |_| ()));
    let (cpu, wall) = (cpu_us() - cpu, wall.elapsed().as_secs_f64());
    let full_kib = resident_kib(std::process::id()).unwrap_or_default();
    assert_eq!(runner.snapshot().task_count(), placed, "every task that was answered is there");
    let verdict = |met: bool| if met { "met" } else { "missed" };
    let (rate, cost) = (placed as f64 / wall, cpu / placed as f64);
    println!(
        "| placements per second, durable, {} per RunTask | {rate:.0} | ≥ 50,000: {} |",
        options.count,
        verdict(rate >= 50e3)
    );
    println!("| CPU µs per task, all threads | {cost:.2} | ≤ 15: {} |", verdict(cost <= 15.0));
    let each = (full_kib.saturating_sub(ready_kib) * 1024) as f64 / placed as f64;
    println!("| memory per task | {each:.0} bytes | ≤ 1,600: {} |", verdict(each <= 1_600.0));
    println!("| memory before | {empty_kib} KiB empty, {ready_kib} KiB with instances | |");
    println!("| payloads made for agents | {} | |", sent.0.load(Ordering::Relaxed));
    runtime.block_on(place(&runner, options, way, usize::MAX, |more| println!("{ANSWERED}{}", placed + more)));
}

fn start(dir: &Path, sent: Arc<Count>) -> Runner {
    let store = EmbeddedStore::open(dir).expect("the store opens");
    let config = CellConfig::new("us-east-1", "000000000000");
    Runner::start(config, Box::new(store), sent, usize::MAX).expect("the runner starts")
}

async fn call(runner: &Runner, request: impl Into<Request>) -> Response {
    runner.call(principal(), request.into()).await.expect("the request is good")
}

fn principal() -> Principal {
    Principal::new(Role::Owner, "bench", "000000000000")
}

/// A cluster, its definitions, and instances with connected agents.
async fn prepare(runner: &Runner, instances: usize, way: Way) {
    call(runner, types::CreateClusterRequest::default()).await;
    for index in 0..way.families() {
        call(runner, definition(index, way)).await;
    }
    let mut joining: FuturesUnordered<_> = (0..instances).map(|index| join(runner, index)).collect();
    while joining.next().await.is_some() {}
}

fn family(index: usize) -> String {
    format!("producer-{index}")
}

fn definition(index: usize, way: Way) -> types::RegisterTaskDefinitionRequest {
    let port = types::PortMapping {
        container_port: Some(80),
        host_port: i32::try_from(9_000 + index).ok(),
        ..types::PortMapping::default()
    };
    types::RegisterTaskDefinitionRequest {
        family: family(index),
        container_definitions: vec![types::ContainerDefinition {
            name: Some("producer".to_owned()),
            image: Some("producer-consumer".to_owned()),
            cpu: Some(TASK),
            memory: Some(TASK),
            essential: Some(true),
            port_mappings: matches!(way, Way::Packed).then(|| vec![port]),
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
    let attribute = |name: &str, value: Option<String>| types::Attribute {
        name: name.to_owned(),
        value,
        target_type: None,
        target_id: None,
    };
    let request = types::RegisterContainerInstanceRequest {
        total_resources: Some(vec![number("CPU", ROOM * TASK), number("MEMORY", ROOM * TASK)]),
        attributes: Some(vec![
            attribute("com.amazonaws.ecs.capability.docker-remote-api.1.17", None),
            attribute("com.amazonaws.ecs.capability.docker-remote-api.1.18", None),
            attribute("com.amazonaws.ecs.capability.docker-remote-api.1.21", None),
            attribute("ecs.capability.container-ordering", None),
            attribute("ecs.availability-zone", Some(format!("us-east-1{}", ["a", "b", "c"][index % 3]))),
        ]),
        ..types::RegisterContainerInstanceRequest::default()
    };
    let Response::RegisterContainerInstance(answer) = call(runner, request).await else { panic!("another answer") };
    let instance_arn = answer.container_instance.and_then(|instance| instance.container_instance_arn).expect("an ARN");
    let session = SessionId(index as u64 + 1);
    let command = Command::SessionOpened { instance_arn, session, principal: principal(), agent: AgentInfo::default() };
    assert!(matches!(runner.command(command).await, Reply::Session(Ok(_))), "the session opens");
}

/// Calls RunTask until `tasks` are placed, one definition after the other; answers how many were, and tells so with every answer.
async fn place(runner: &Runner, options: &Options, way: Way, tasks: usize, mut told: impl FnMut(usize)) -> usize {
    let one = |call_number: usize| {
        let request = types::RunTaskRequest {
            task_definition: family(call_number % way.families()),
            count: Some(options.count),
            placement_strategy: Some(way.strategy()),
            ..types::RunTaskRequest::default()
        };
        call(runner, request)
    };
    let calls = tasks.div_ceil(options.count.max(1) as usize);
    let mut under_way: FuturesUnordered<_> = (0..options.callers.min(calls)).map(one).collect();
    let mut begun = under_way.len();
    let mut placed = 0;
    while let Some(answer) = under_way.next().await {
        let Response::RunTask(answer) = answer else { panic!("another answer") };
        let refused = answer.failures.iter().flatten().next();
        assert_eq!(refused, None, "everything fits");
        placed += answer.tasks.map_or(0, |tasks| tasks.len());
        told(placed);
        if begun < calls {
            under_way.push(one(begun));
            begun += 1;
        }
    }
    placed
}
