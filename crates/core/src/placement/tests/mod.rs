//! Placement against a reference that knows none of its indexes: it asks every instance, and compares all of them.

mod gpus;
mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::ecs::types::{self, PlacementConstraint, PlacementConstraintType, PlacementStrategy};

use super::pool::{HOST_ID, Pool};
use super::{Constraints, Expressions, Need, Placement, Strategy};
use crate::entity::{Instance, Life, Task, TaskGpu};
use crate::entropy::Entropy;
use crate::ids::{ClusterId, DefinitionKey, InstanceId, InstanceKey, TaskId, TaskKey};
use crate::instance::InstanceStatus;
use crate::resources::{CpuUnits, HostPort, MemoryMib, Protocol};
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task_definition::RequiredAttribute;

const CLUSTER: ClusterId = ClusterId(1);

/// An instance as the reference knows it.
#[derive(Clone, Debug)]
struct Machine {
    instance: Arc<Instance>,
    connected: bool,
}

impl Machine {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.instance.attributes.get(name).and_then(|value| value.as_deref())
    }
}

/// A task's demand in the words of a request.
#[derive(Clone, Debug, Default)]
struct Wish {
    cpu: u32,
    memory: u32,
    ports: Vec<u16>,
    gpus: u32,
    requires: Vec<RequiredAttribute>,
    group: &'static str,
    member_of: Vec<usize>,
    distinct: bool,
    strategy: Vec<(types::PlacementStrategyType, &'static str)>,
}

/// What an expression means, in plain words.
type Meaning = fn(&Machine, &[&Task]) -> bool;

/// Expressions beside what they mean.
const EXPRESSIONS: [(&str, Meaning); 5] = [
    ("attribute:rack == r1", |machine, _| machine.attribute("rack") == Some("r1")),
    ("attribute:rack exists and not(attribute:zone in [z1, z2])", |machine, _| {
        machine.instance.attributes.contains_key("rack") && !matches!(machine.attribute("zone"), Some("z1" | "z2"))
    }),
    ("attribute:zone =~ z[0-1]", |machine, _| matches!(machine.attribute("zone"), Some("z0" | "z1"))),
    ("task:group != b", |_, tasks| !tasks.iter().any(|task| &*task.group == "b" && wanted(task))),
    ("runningTasksCount < 3", |_, tasks| tasks.iter().filter(|task| task.known == TaskStatus::Running).count() < 3),
];

fn wanted(task: &Task) -> bool {
    task.desired == DesiredStatus::Running && task.known != TaskStatus::Stopped
}

/// The pool beside what it was made from.
struct World {
    pool: Pool,
    machines: BTreeMap<InstanceId, Machine>,
    tasks: BTreeMap<TaskId, Task>,
    expressions: Expressions,
    chance: Entropy,
    numbers: u128,
}

impl World {
    fn new(seed: u8) -> Self {
        Self {
            pool: Pool::default(),
            machines: BTreeMap::new(),
            tasks: BTreeMap::new(),
            expressions: Expressions::default(),
            chance: Entropy::from_seed([seed; 32]),
            numbers: 0,
        }
    }

    fn number(&mut self) -> u128 {
        self.numbers += 1;
        self.numbers
    }

    /// A machine more, connected.
    fn machine(&mut self, cpu: u32, memory: u32, attributes: &[(&str, &str)]) -> InstanceId {
        let id = InstanceId(self.number());
        let attributes =
            attributes.iter().map(|(name, value)| (Arc::from(*name), (!value.is_empty()).then(|| Arc::from(*value))));
        let instance = Arc::new(Instance {
            key: InstanceKey { cluster: CLUSTER, id },
            principal: "AKIA".into(),
            cpu: CpuUnits(cpu),
            memory: MemoryMib(memory),
            reserved_ports: Vec::new(),
            // Those of one host have the same.
            gpus: ["g0", "g1", "g2"][..(cpu % 4) as usize].iter().map(|id| Arc::from(*id)).collect(),
            attributes: attributes.collect(),
            tags: Vec::new(),
            version_info: None,
            ec2_instance_id: None,
            registered_at: Timestamp::from_millis(0),
            status: InstanceStatus::Active,
            lost_at: None,
            heard_at: None,
            inactive_at: None,
            version: 1,
        });
        self.pool.instance_changed(None, Some(&instance));
        self.pool.set_connected(instance.key, true, None);
        self.machines.insert(id, Machine { instance, connected: true });
        id
    }

    fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut Instance)) {
        let machine = self.machines.get_mut(&id).expect("known");
        let old = machine.instance.clone();
        change(Arc::make_mut(&mut machine.instance));
        self.pool.instance_changed(Some(&old), Some(&machine.instance));
    }

    fn connect(&mut self, id: InstanceId, connected: bool) {
        let machine = self.machines.get_mut(&id).expect("known");
        machine.connected = connected;
        self.pool.set_connected(machine.instance.key, connected, None);
    }

    /// An instance goes; its tasks ended before.
    fn deregister(&mut self, id: InstanceId) {
        for task in self.on(id).into_iter().map(|task| task.key.id).collect::<Vec<_>>() {
            self.stop(task);
        }
        let machine = self.machines.remove(&id).expect("known");
        self.pool.instance_changed(Some(&machine.instance), None);
    }

    fn run(&mut self, id: InstanceId, wish: &Wish) -> TaskId {
        let free = self.gpus_free(&self.machines[&id]).into_iter().take(wish.gpus as usize);
        let gpus: Vec<TaskGpu> = free.map(|id| TaskGpu { id, container: 0 }).collect();
        assert_eq!(gpus.len(), wish.gpus as usize, "a GPU is given to two");
        let task = Task {
            key: TaskKey { cluster: CLUSTER, id: TaskId(self.number()) },
            instance: Some(id),
            waiting: None,
            capacity_provider: None,
            max_run_ms: None,
            definition: DefinitionKey { family: "f".into(), revision: 1 },
            group: wish.group.into(),
            started_by: None,
            launch_type: types::LaunchType::Ec2,
            overrides: None,
            cpu: CpuUnits(wish.cpu),
            memory: MemoryMib(wish.memory),
            host_ports: ports(wish),
            gpus,
            network: None,
            desired: DesiredStatus::Running,
            known: TaskStatus::Pending,
            verdict: None,
            containers: Vec::new(),
            tags: Vec::new(),
            created_at: Timestamp::from_millis(0),
            life: Life::default(),
            stop: None,
            version: 1,
        };
        self.pool.task_changed(None, Some(&task));
        let id = task.key.id;
        self.tasks.insert(id, task);
        id
    }

    fn report(&mut self, id: TaskId, change: impl FnOnce(&mut Task)) {
        let task = self.tasks.get_mut(&id).expect("known");
        let old = task.clone();
        change(task);
        self.pool.task_changed(Some(&old), Some(task));
    }

    fn stop(&mut self, id: TaskId) {
        self.report(id, |task| {
            task.desired = DesiredStatus::Stopped;
            task.known = TaskStatus::Stopped;
        });
        let task = self.tasks.remove(&id).expect("known");
        self.pool.task_changed(Some(&task), None);
    }

    fn on(&self, id: InstanceId) -> Vec<&Task> {
        self.tasks.values().filter(|task| task.instance == Some(id)).collect()
    }

    fn placement(&mut self, wish: &Wish) -> Placement {
        let member_of = wish.member_of.iter().map(|&at| PlacementConstraint {
            r#type: Some(PlacementConstraintType::MemberOf),
            expression: Some(EXPRESSIONS[at].0.to_owned()),
        });
        let distinct = wish.distinct.then_some(PlacementConstraint {
            r#type: Some(PlacementConstraintType::DistinctInstance),
            expression: None,
        });
        let given: Vec<PlacementConstraint> = member_of.chain(distinct).collect();
        let constraints = Constraints::read(&mut self.expressions, &[], &given).expect("good constraints");
        let strategy: Vec<PlacementStrategy> = wish
            .strategy
            .iter()
            .map(|(kind, field)| PlacementStrategy { r#type: Some(*kind), field: Some((*field).to_owned()) })
            .collect();
        let strategy = Strategy::read(&strategy).expect("a good strategy");
        Placement::new((&wish.requires, &ports(wish), wish.gpus), None, constraints, strategy, wish.group.into())
    }

    /// What the engine chooses.
    fn choose(&mut self, wish: &Wish) -> Option<InstanceId> {
        let (placement, host_ports) = (self.placement(wish), ports(wish));
        let need = Need {
            cpu: CpuUnits(wish.cpu),
            memory: MemoryMib(wish.memory),
            host_ports: &host_ports,
            gpus: wish.gpus,
            requires: &wish.requires,
            network: None,
            placement: &placement,
        };
        let mut chance = self.chance.fork();
        self.pool.choose(CLUSTER, need, &mut chance).map(|slot| slot.instance.key.id)
    }

    /// What it could choose: everything that fits, and of that the best.
    fn reference(&self, wish: &Wish) -> Vec<InstanceId> {
        let mut ranked: Vec<(Vec<i64>, InstanceId)> = Vec::new();
        for (id, machine) in &self.machines {
            if self.fits(wish, machine) {
                ranked.push((self.rank(wish, machine), *id));
            }
        }
        let best = ranked.iter().map(|(rank, _)| rank.clone()).min();
        ranked.into_iter().filter(|(rank, _)| Some(rank) == best.as_ref()).map(|(_, id)| id).collect()
    }

    fn fits(&self, wish: &Wish, machine: &Machine) -> bool {
        let tasks = self.on(machine.instance.key.id);
        let (cpu, memory) = self.free(machine);
        let shared = self.on_host_of(machine);
        let free = |port: &HostPort| !shared.iter().any(|task| task.host_ports.contains(port));
        let has = |required: &RequiredAttribute| match &required.value {
            None => machine.instance.attributes.contains_key(required.name.as_str()),
            Some(value) => machine.attribute(&required.name) == Some(value),
        };
        machine.instance.status == InstanceStatus::Active
            && machine.connected
            && i64::from(wish.cpu) <= cpu
            && i64::from(wish.memory) <= memory
            && ports(wish).iter().all(free)
            && self.gpus_free(machine).len() >= wish.gpus as usize
            && wish.requires.iter().all(has)
            && wish.member_of.iter().all(|&at| EXPRESSIONS[at].1(machine, &tasks))
            && !(wish.distinct && tasks.iter().any(|task| &*task.group == wish.group && wanted(task)))
    }

    /// The tasks of all instances that are on the same host.
    fn on_host_of(&self, machine: &Machine) -> Vec<&Task> {
        let own = machine.attribute(HOST_ID);
        let same = |other: &&Machine| match own {
            None => other.instance.key == machine.instance.key,
            Some(host) => other.attribute(HOST_ID) == Some(host),
        };
        self.machines.values().filter(same).flat_map(|other| self.on(other.instance.key.id)).collect()
    }

    fn gpus_free(&self, machine: &Machine) -> Vec<Arc<str>> {
        let shared = self.on_host_of(machine);
        let taken = |id: &Arc<str>| shared.iter().any(|task| task.gpus.iter().any(|gpu| gpu.id == *id));
        machine.instance.gpus.iter().filter(|id| !taken(id)).cloned().collect()
    }

    fn free(&self, machine: &Machine) -> (i64, i64) {
        let tasks = self.on(machine.instance.key.id);
        let cpu: u32 = tasks.iter().map(|task| task.cpu.0).sum();
        let memory: u32 = tasks.iter().map(|task| task.memory.0).sum();
        let Instance { cpu: all_cpu, memory: all_memory, .. } = &*machine.instance;
        (i64::from(all_cpu.0) - i64::from(cpu), i64::from(all_memory.0) - i64::from(memory))
    }

    fn rank(&self, wish: &Wish, machine: &Machine) -> Vec<i64> {
        let random = |kind: &types::PlacementStrategyType| *kind == types::PlacementStrategyType::Random;
        let steps = wish.strategy.iter().take_while(|(kind, _)| !random(kind));
        let group = |same: &dyn Fn(&Machine) -> bool| {
            let there = self.tasks.values().filter(|task| &*task.group == wish.group && wanted(task));
            there.filter(|task| task.instance.is_some_and(|id| same(&self.machines[&id]))).count() as i64
        };
        steps
            .map(|(_, field)| match *field {
                "cpu" => self.free(machine).0,
                "memory" => self.free(machine).1,
                "instanceId" => group(&|other| other.instance.key == machine.instance.key),
                field => {
                    let name = field.strip_prefix("attribute:").expect("a field");
                    group(&|other| other.attribute(name) == machine.attribute(name))
                }
            })
            .collect()
    }
}

fn ports(wish: &Wish) -> Vec<HostPort> {
    wish.ports.iter().map(|&port| HostPort { port, protocol: Protocol::Tcp }).collect()
}

fn pick<T: Clone>(chance: &mut Entropy, of: &[T]) -> T {
    of[chance.below(of.len())].clone()
}

fn arbitrary_wish(chance: &mut Entropy) -> Wish {
    use types::PlacementStrategyType::{Binpack, Random, Spread};
    let steps = [
        (Random, ""),
        (Spread, "instanceId"),
        (Spread, "attribute:zone"),
        (Spread, "attribute:rack"),
        (Binpack, "cpu"),
        (Binpack, "memory"),
    ];
    let required =
        |name: &str, value: Option<&str>| RequiredAttribute { name: name.to_owned(), value: value.map(str::to_owned) };
    let requires = [vec![], vec![], vec![required("rack", None)], vec![required("zone", Some("z1"))]];
    Wish {
        cpu: pick(chance, &[0, 1, 10, 25, 60, 120]),
        memory: pick(chance, &[0, 1, 10, 25, 60, 120]),
        ports: pick(chance, &[vec![], vec![], vec![], vec![80], vec![81], vec![80, 81]]),
        gpus: pick(chance, &[0, 0, 0, 0, 1, 2]),
        requires: pick(chance, &requires),
        group: pick(chance, &["a", "a", "b", "c"]),
        member_of: (0..EXPRESSIONS.len()).filter(|_| chance.below(8) == 0).collect(),
        distinct: chance.below(5) == 0,
        strategy: (0..chance.below(6)).map(|_| pick(chance, &steps)).collect(),
    }
}

/// Something happens that is no placement.
fn disturb(world: &mut World) {
    let mut chance = world.chance.fork();
    let machines: Vec<InstanceId> = world.machines.keys().copied().collect();
    let tasks: Vec<TaskId> = world.tasks.keys().copied().collect();
    match chance.below(if tasks.is_empty() { 8 } else { 14 }) {
        0 if machines.len() < 40 => {
            let rack = pick(&mut chance, &["r1", "r2", "r3", "r4"]);
            let zone = pick(&mut chance, &["z0", "z1", "z2", ""]);
            let host = format!("h{}", chance.below(60));
            let all = [("rack", rack), ("zone", zone), (HOST_ID, host.as_str())];
            let size = |chance: &mut Entropy| 20 + chance.below(200) as u32;
            let (cpu, memory) = (size(&mut chance), size(&mut chance));
            world.machine(cpu, memory, &all[chance.below(3)..]);
        }
        1 if machines.len() > 12 => world.deregister(pick(&mut chance, &machines)),
        2 => {
            let status = pick(&mut chance, &[InstanceStatus::Active, InstanceStatus::Active, InstanceStatus::Draining]);
            world.change(pick(&mut chance, &machines), |instance| instance.status = status);
        }
        3 => world.connect(pick(&mut chance, &machines), chance.clone().below(4) > 0),
        4 => {
            let rack = pick(&mut chance, &["r1", "r2", "r5"]);
            let change = |instance: &mut Instance| drop(instance.attributes.insert("rack".into(), Some(rack.into())));
            world.change(pick(&mut chance, &machines), change);
        }
        5 => {
            let name = pick(&mut chance, &["rack", "zone", HOST_ID]);
            world.change(pick(&mut chance, &machines), |instance| drop(instance.attributes.remove(name)));
        }
        6 => {
            let memory = MemoryMib(chance.below(300) as u32);
            world.change(pick(&mut chance, &machines), |instance| instance.memory = memory);
        }
        7 => {}
        8 | 9 => world.report(pick(&mut chance, &tasks), |task| {
            if task.known == TaskStatus::Pending {
                task.known = TaskStatus::Running;
            }
        }),
        10 => world.report(pick(&mut chance, &tasks), |task| task.desired = DesiredStatus::Stopped),
        _ => world.stop(pick(&mut chance, &tasks)),
    }
}

#[test]
fn what_is_chosen_is_among_the_best_of_what_fits_whatever_happens_meanwhile() {
    let mut placed = 0;
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..15 {
            world.machine(150, 150, &[("rack", "r1"), ("zone", "z1")]);
        }
        let mut chance = world.chance.fork();
        let wishes: Vec<Wish> = (0..12).map(|_| arbitrary_wish(&mut chance)).collect();
        for _ in 0..400 {
            for _ in 0..chance.below(3) {
                disturb(&mut world);
            }
            let wish = pick(&mut chance, &wishes);
            let best = world.reference(&wish);
            match world.choose(&wish) {
                Some(chosen) => {
                    assert!(best.contains(&chosen), "{chosen:?} is not among {best:?} for {wish:?}");
                    world.run(chosen, &wish);
                    placed += 1;
                }
                None => assert_eq!(best, [], "nothing was chosen for {wish:?}"),
            }
        }
    }
    assert!(placed > 8_000, "{placed}");
}

/// More neighbours than are looked at one by one, and more kinds of tasks than have room.
#[test]
fn large_groups_and_many_kinds_are_placed_alike() {
    use types::PlacementStrategyType::{Binpack, Spread};
    let mut world = World::new(7);
    for number in 0..150_u32 {
        let (zone, rack) = (format!("z{}", number % 3), format!("r{}", number % 7));
        world.machine(100 + number % 5, 100 + number % 11, &[("zone", &zone), ("rack", &rack)]);
    }
    let strategies = [
        vec![(Spread, "instanceId")],
        vec![(Spread, "attribute:zone"), (Spread, "instanceId"), (Binpack, "memory")],
        vec![(Binpack, "cpu"), (Spread, "instanceId")],
    ];
    for round in 0..600 {
        let distinct = round % 4 == 3;
        let strategy = strategies[round % 3].clone();
        // Nobody else has this port.
        let ports = if round % 2 == 0 { vec![1_000 + round as u16] } else { Vec::new() };
        let wish = Wish { cpu: 1, memory: 1, group: "a", distinct, strategy, ports, ..Wish::default() };
        let best = world.reference(&wish);
        let chosen = world.choose(&wish);
        assert!(chosen.map_or(best.is_empty(), |chosen| best.contains(&chosen)), "{chosen:?} of {best:?}");
        if let Some(chosen) = chosen {
            world.run(chosen, &wish);
        }
        if round % 5 == 4 {
            disturb(&mut world);
        }
    }
    assert!(world.tasks.len() > 300);
}

/// Whether each of `expected` outcomes was drawn as often as the others: chi-square, with a bound that one in a million
/// good ones misses (by the approximation of Wilson and Hilferty).
fn is_uniform(drawn: &BTreeMap<InstanceId, u32>, expected: usize) -> bool {
    let total: u32 = drawn.values().sum();
    let each = f64::from(total) / expected as f64;
    let hit: f64 = drawn.values().map(|&count| (f64::from(count) - each).powi(2) / each).sum();
    let missed = (expected - drawn.len()) as f64 * each;
    let freedom = expected as f64 - 1.0;
    let spread = 2.0 / (9.0 * freedom);
    hit + missed < freedom * (1.0 - spread + 4.75 * spread.sqrt()).powi(3)
}

fn draw_often(world: &mut World, wish: &Wish, times: u32) -> BTreeMap<InstanceId, u32> {
    let mut drawn = BTreeMap::new();
    for _ in 0..times {
        *drawn.entry(world.choose(wish).expect("some fit")).or_insert(0) += 1;
    }
    drawn
}

#[test]
fn random_is_uniform_over_what_fits_be_that_much_or_little() {
    use types::PlacementStrategyType::{Random, Spread};
    // Of so many, so many fit: found by drawing, by drawing from a view, by listing.
    for (machines, fitting) in [(40, 40), (60, 20), (900, 30), (3_000, 12)] {
        let mut world = World::new(3);
        for number in 0..machines {
            let fits = number % (machines / fitting) == 0;
            let zone = format!("z{}", number / (machines / fitting) % 2);
            let memory = if fits { 100 } else { 5 };
            world.machine(100, memory, &[("zone", &zone), ("rack", if number % 5 == 0 { "r1" } else { "r2" })]);
        }
        let wish = Wish { cpu: 10, memory: 10, group: "a", ..Wish::default() };
        let times = fitting * 200;
        let drawn = draw_often(&mut world, &wish, times);
        assert!(is_uniform(&drawn, fitting as usize), "{machines} {drawn:?}");
        // Spread over zones and drawn in them: both zones are equal as long as nothing runs.
        let strategy = vec![(Spread, "attribute:zone"), (Random, "")];
        let drawn = draw_often(&mut world, &Wish { strategy, ..wish.clone() }, times);
        assert!(is_uniform(&drawn, fitting as usize), "{machines} {drawn:?}");
        let only = world.reference(&Wish { member_of: vec![0], ..wish.clone() });
        let drawn = draw_often(&mut world, &Wish { member_of: vec![0], ..wish }, times);
        assert!(is_uniform(&drawn, only.len()), "{machines} {drawn:?}");
    }
    let skewed: BTreeMap<InstanceId, u32> = (0..10).map(|id| (InstanceId(id), 100 + 10 * id as u32)).collect();
    assert!(!is_uniform(&skewed, 10), "the test sees what is not uniform");
}

#[test]
fn the_same_chance_chooses_the_same() {
    use types::PlacementStrategyType::{Random, Spread};
    let chosen = |seed| {
        let mut world = World::new(seed);
        for number in 0..50 {
            world.machine(100, 100, &[("zone", ["z0", "z1", "z2"][number % 3])]);
        }
        let mut all = Vec::new();
        for strategy in [vec![], vec![(Spread, "attribute:zone"), (Random, "")]] {
            let wish = Wish { cpu: 1, memory: 1, group: "a", strategy, ..Wish::default() };
            for _ in 0..20 {
                let id = world.choose(&wish).expect("room");
                world.run(id, &wish);
                all.push(id);
            }
        }
        all
    };
    assert_eq!(chosen(1), chosen(1));
    assert_ne!(chosen(1), chosen(2));
}
