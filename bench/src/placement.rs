//! The scheduler alone: commands into the core on one thread, without store and sockets. How many placements a second, how
//! that changes with the number of instances, and how long one decision takes when the cluster is empty, fragmented and full.

use std::hint::black_box;

use clap::Args;
use longshore_api::Timestamp;
use longshore_api::ecs::types::{self, PlacementConstraintType, PlacementStrategyType};
use longshore_api::ecs::{Request, Response};
use longshore_core::cell::{AgentInfo, Cell, Command, Reply};
use longshore_core::entropy::Entropy;
use longshore_core::ids::SessionId;
use longshore_core::limits::GROUPS_PER_BATCH;
use longshore_core::{CellConfig, Principal, Role};

use crate::process::cpu_us;
use crate::stats::Samples;

/// How much to place.
#[derive(Args)]
pub(crate) struct Options {
    /// The cluster on which placements per second are counted.
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Placements per figure.
    #[arg(long, default_value_t = 200_000)]
    tasks: usize,
    /// Clusters on which growth is looked at.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,100000")]
    sizes: Vec<usize>,
    /// Decisions per quantile.
    #[arg(long, default_value_t = 20_000)]
    decisions: usize,
}

/// Copies per RunTask where placements per second are counted.
const COUNT: i32 = 10;

/// A way to place, with the least that is expected of it on the machine that the aims are for.
struct Way {
    name: &'static str,
    strategy: &'static [(PlacementStrategyType, &'static str)],
    member_of: Option<&'static str>,
    aim: f64,
}

const RACKS: &str = "attribute:rack in [r1, r3, r5, r7] and attribute:ecs.instance-type =~ m5.*";

const WAYS: [Way; 6] = [
    Way { name: "random", strategy: &[], member_of: None, aim: 100_000.0 },
    Way {
        name: "binpack(memory)",
        strategy: &[(PlacementStrategyType::Binpack, "memory")],
        member_of: None,
        aim: 100_000.0,
    },
    Way {
        name: "spread(az), binpack(cpu)",
        strategy: &[
            (PlacementStrategyType::Spread, "attribute:ecs.availability-zone"),
            (PlacementStrategyType::Binpack, "cpu"),
        ],
        member_of: None,
        aim: 100_000.0,
    },
    Way { name: "random, memberOf", strategy: &[], member_of: Some(RACKS), aim: 50_000.0 },
    Way {
        name: "spread(az), binpack(cpu), memberOf",
        strategy: &[
            (PlacementStrategyType::Spread, "attribute:ecs.availability-zone"),
            (PlacementStrategyType::Binpack, "cpu"),
        ],
        member_of: Some(RACKS),
        aim: 50_000.0,
    },
    Way {
        name: "spread(az), spread(instanceId)",
        strategy: &[
            (PlacementStrategyType::Spread, "attribute:ecs.availability-zone"),
            (PlacementStrategyType::Spread, "instanceId"),
        ],
        member_of: None,
        aim: 0.0,
    },
];

/// Sizes of instances: CPU units and MiB.
const SIZES: [(i32, i32); 5] = [(2_048, 4_096), (4_096, 8_192), (4_096, 16_384), (8_192, 16_384), (8_192, 8_192)];
/// A task: so small that every instance takes several.
const TASK: (i32, i32) = (32, 64);

pub(crate) fn run(options: &Options) {
    throughput(options);
    growth(options);
    decisions(options);
}

fn throughput(options: &Options) {
    let floor = scan_ns(options.instances);
    println!("| {} instances, {COUNT} copies per RunTask | placements/s | CPU µs each | aim |", options.instances);
    println!("|---|---|---|---|");
    println!(
        "| floor: one look at every instance's free amounts, {} | {:.0} | {:.2} | |",
        flat(),
        1e9 / floor,
        floor / 1e3
    );
    let cluster = Bench::new(options.instances);
    for way in &WAYS {
        let us = cluster.clone().place(way, options.tasks);
        let rate = 1e6 / us;
        let aim = match way.aim {
            0.0 => String::new(),
            aim => format!("≥ {aim:.0}: {}", if rate >= aim { "met" } else { "missed" }),
        };
        println!("| {} | {rate:.0} ({:.1} × the floor) | {us:.2} | {aim} |", way.name, rate * floor / 1e9);
    }
}

fn growth(options: &Options) {
    let head: Vec<String> = options.sizes.iter().map(|size| format!(" {size}")).collect();
    println!("\n| CPU µs per placement, by instances |{} | largest ÷ smallest | ÷ log₂ |", head.join(" |") + " |");
    println!("|---|{}---|---|", "---|".repeat(options.sizes.len()));
    let clusters: Vec<Bench> = options.sizes.iter().map(|&size| Bench::new(size)).collect();
    let log = |size: Option<&usize>| size.map_or(1.0, |&size| (size as f64).log2());
    let most = log(options.sizes.last()) / log(options.sizes.first());
    let floors: Vec<f64> = options.sizes.iter().map(|&size| touch_us(size)).collect();
    let each: Vec<String> = floors.iter().map(|us| format!(" {us:.3}")).collect();
    let factor = floors.last().unwrap_or(&0.0) / floors.first().unwrap_or(&1.0);
    println!(
        "| floor: writing to a record of 1 KiB that is drawn |{} | {factor:.2} | {:.2} |",
        each.join(" |"),
        factor / most
    );
    for way in &WAYS {
        // As many as every one of them has room for.
        let us: Vec<f64> =
            clusters.iter().map(|cluster| cluster.clone().place(way, cluster.room(options.tasks))).collect();
        let each: Vec<String> = us.iter().map(|us| format!(" {us:.2}")).collect();
        let factor = us.last().unwrap_or(&0.0) / us.first().unwrap_or(&1.0);
        println!("| {} |{} | {factor:.2} | {:.2} |", way.name, each.join(" |"), factor / most);
    }
}

fn decisions(options: &Options) {
    println!(
        "\n| one RunTask of one copy, CPU µs | instances | empty: p50 | p99 | fragmented: p50 | p99 | full: p50 | p99 | aim |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for &size in options.sizes.iter().filter(|&&size| size >= 10_000) {
        let empty = Bench::new(size);
        let mut full = empty.clone();
        full.fill();
        let mut fragmented = full.clone();
        fragmented.stop_some();
        for way in &WAYS {
            let mut cells = String::new();
            let mut worst: f64 = 0.0;
            for state in [&empty, &fragmented, &full] {
                let samples = state.clone().decide(way, options.decisions);
                worst = worst.max(samples.quantile(0.99));
                cells += &format!(" {:.1} | {:.1} |", samples.median(), samples.quantile(0.99));
            }
            let met = if worst <= 100.0 { "met" } else { "missed" };
            println!("| {} | {size} |{cells} p99 ≤ 100: {met} |", way.name);
        }
    }
}

/// What the table calls the floor.
fn flat() -> &'static str {
    "in one flat array"
}

/// Nanoseconds to look at as many pairs of free amounts, one after the other: what choosing without an index costs at least.
fn scan_ns(instances: usize) -> f64 {
    let free: Vec<(u32, u32)> = (0..instances).map(|at| (at as u32 % 8_192, at as u32 % 16_384)).collect();
    let times = 2_000;
    let began = cpu_us();
    for round in 0..times {
        let least = black_box((round % 64, round % 128));
        let best = free.iter().filter(|free| free.0 >= least.0 && free.1 >= least.1).min();
        black_box(best);
    }
    (cpu_us() - began) * 1e3 / f64::from(times)
}

/// µs to write to all of one of as many records of a KiB, drawn at random: how memory answers when more of it is in use.
fn touch_us(instances: usize) -> f64 {
    const LINES: usize = 16;
    let mut records = vec![[0_u64; 8 * LINES]; instances];
    let mut chance = Entropy::from_seed([5; 32]);
    let times = 200_000;
    let began = cpu_us();
    for _ in 0..times {
        let record = &mut records[chance.below(instances)];
        (0..LINES).for_each(|line| record[8 * line] += 1);
    }
    black_box(&records);
    (cpu_us() - began) / f64::from(times)
}

/// A cell with one cluster.
#[derive(Clone)]
struct Bench {
    cell: Cell,
    entropy: Entropy,
    now: Timestamp,
    instances: Vec<String>,
    tasks: Vec<String>,
}

fn principal() -> Principal {
    Principal::new(Role::Owner, "bench", "000000000000")
}

impl Bench {
    fn new(instances: usize) -> Self {
        let mut bench = Self {
            cell: Cell::new(CellConfig::new("us-east-1", "000000000000")),
            entropy: Entropy::from_seed([7; 32]),
            now: Timestamp::from_millis(1_700_000_000_000),
            instances: Vec::new(),
            tasks: Vec::new(),
        };
        bench.call(types::CreateClusterRequest::default());
        for (family, (cpu, memory)) in [("web", TASK), ("big", (TASK.0 * 32, TASK.1 * 32))] {
            bench.call(definition(family, cpu, memory));
        }
        for index in 0..instances {
            bench.join(index);
        }
        bench.cell.snapshot();
        bench
    }

    fn apply(&mut self, command: Command) -> Reply {
        let entropy = self.entropy.fork();
        self.cell.apply(self.now, entropy, command).reply
    }

    fn call(&mut self, request: impl Into<Request>) -> Response {
        match self.apply(Command::Api { principal: principal(), request: request.into() }) {
            Reply::Api(Ok(answer)) => answer,
            other => panic!("refused: {other:?}"),
        }
    }

    fn join(&mut self, index: usize) {
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
        let (cpu, memory) = SIZES[index % SIZES.len()];
        let kind = ["m5.large", "m5.xlarge", "c6.large", "r6.2xlarge", "m5.4xlarge"][index % SIZES.len()];
        let request = types::RegisterContainerInstanceRequest {
            total_resources: Some(vec![number("CPU", cpu), number("MEMORY", memory)]),
            attributes: Some(vec![
                attribute("com.amazonaws.ecs.capability.docker-remote-api.1.18", None),
                attribute("com.amazonaws.ecs.capability.docker-remote-api.1.21", None),
                attribute("ecs.availability-zone", Some(format!("us-east-1{}", ["a", "b", "c"][index / 7 % 3]))),
                attribute("ecs.instance-type", Some(kind.to_owned())),
                attribute("rack", Some(format!("r{}", index / 11 % 8))),
            ]),
            ..types::RegisterContainerInstanceRequest::default()
        };
        let Response::RegisterContainerInstance(answer) = self.call(request) else { panic!("another answer") };
        let instance_arn = answer.container_instance.and_then(|known| known.container_instance_arn).expect("an ARN");
        self.instances.push(instance_arn.clone());
        let session = SessionId(index as u64 + 1);
        let agent = AgentInfo::default();
        let opened = self.apply(Command::SessionOpened { instance_arn, session, principal: principal(), agent });
        assert!(matches!(opened, Reply::Session(Ok(_))), "the session opens");
    }

    fn run(&mut self, family: &str, way: Option<&Way>, count: i32) -> types::RunTaskResponse {
        match self.call(request(family, way, count)) {
            Response::RunTask(answer) => *answer,
            other => panic!("{other:?} is another answer"),
        }
    }

    /// How many tasks may be placed so that every way has room for them on the instances that it may use.
    fn room(&self, most: usize) -> usize {
        most.min(self.instances.len() * 4)
    }

    /// Places so many tasks; µs of CPU for each, publications included.
    fn place(mut self, way: &Way, tasks: usize) -> f64 {
        // The first of a kind looks at all instances, once.
        self.run("web", Some(way), 1);
        let calls = tasks / COUNT as usize;
        let requests = vec![request("web", Some(way), COUNT); calls];
        let mut placed = 0;
        let began = cpu_us();
        for (at, request) in requests.into_iter().enumerate() {
            let Response::RunTask(answer) = self.call(request) else { panic!("another answer") };
            placed += answer.tasks.map_or(0, |tasks| tasks.len());
            if at % GROUPS_PER_BATCH == 0 {
                black_box(self.cell.snapshot());
            }
        }
        let us = cpu_us() - began;
        assert_eq!(placed, calls * COUNT as usize, "everything fits");
        us / placed as f64
    }

    /// Places large tasks until none fits, and small ones in what is left. Some instances then have CPU and no memory, others the reverse.
    fn fill(&mut self) {
        for family in ["big", "web"] {
            loop {
                let answer = self.run(family, None, COUNT);
                let arns = answer.tasks.into_iter().flatten().filter_map(|task| task.task_arn);
                if family == "big" {
                    self.tasks.extend(arns);
                }
                if answer.failures.is_some_and(|failures| !failures.is_empty()) {
                    break;
                }
            }
        }
    }

    /// Ends one large task in 37.
    fn stop_some(&mut self) {
        let tasks = std::mem::take(&mut self.tasks);
        for task in tasks.into_iter().step_by(37) {
            self.call(types::StopTaskRequest { task: task.clone(), ..types::StopTaskRequest::default() });
            let request = types::SubmitTaskStateChangeRequest {
                task: Some(task),
                status: Some("STOPPED".to_owned()),
                ..types::SubmitTaskStateChangeRequest::default()
            };
            self.call(request);
        }
    }

    /// Asks for one copy so many times; µs of CPU of each, placed or not: whoever shares the processor would be most of the last
    /// hundredth of a clock on the wall.
    fn decide(mut self, way: &Way, times: usize) -> Samples {
        self.run("web", Some(way), 1);
        let requests = vec![request("web", Some(way), 1); times];
        let mut samples = Vec::with_capacity(times);
        for (at, request) in requests.into_iter().enumerate() {
            let began = cpu_us();
            black_box(self.call(request));
            samples.push(cpu_us() - began);
            if at % GROUPS_PER_BATCH == 0 {
                black_box(self.cell.snapshot());
            }
        }
        Samples::new(samples)
    }
}

fn request(family: &str, way: Option<&Way>, count: i32) -> types::RunTaskRequest {
    let strategy = way
        .into_iter()
        .flat_map(|way| way.strategy)
        .map(|(kind, field)| types::PlacementStrategy { r#type: Some(*kind), field: Some((*field).to_owned()) });
    let member_of = way.and_then(|way| way.member_of).map(|expression| types::PlacementConstraint {
        r#type: Some(PlacementConstraintType::MemberOf),
        expression: Some(expression.to_owned()),
    });
    types::RunTaskRequest {
        task_definition: family.to_owned(),
        count: Some(count),
        placement_strategy: Some(strategy.collect()),
        placement_constraints: Some(member_of.into_iter().collect()),
        ..types::RunTaskRequest::default()
    }
}

fn definition(family: &str, cpu: i32, memory: i32) -> types::RegisterTaskDefinitionRequest {
    types::RegisterTaskDefinitionRequest {
        family: family.to_owned(),
        container_definitions: vec![types::ContainerDefinition {
            name: Some("main".to_owned()),
            image: Some("main".to_owned()),
            cpu: Some(cpu),
            memory: Some(memory),
            essential: Some(true),
            ..types::ContainerDefinition::default()
        }],
        ..types::RegisterTaskDefinitionRequest::default()
    }
}
