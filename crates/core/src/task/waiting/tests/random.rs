//! Whatever happens, in whatever order: nothing has more than there is, nobody waits for what is there, and nobody is overtaken by
//! one of his kind.

use std::collections::BTreeMap;

use longshore_api::ecs::Operation::{RegisterTaskDefinition, RunTask, StopTask, UpdateContainerInstancesState};
use serde_json::json;

use super::{restart, tags};
use crate::entity::Task;
use crate::entropy::Entropy;
use crate::fixture::{Lab, definition};
use crate::ids::{InstanceId, InstanceKey, SessionId, TaskId};
use crate::instance::InstanceStatus;
use crate::task::status::TaskStatus;

/// Families: CPU, memory, host port.
const FAMILIES: [(&str, u32, u32, Option<u16>); 4] =
    [("small", 100, 50, None), ("large", 700, 500, None), ("port", 50, 50, Some(80)), ("tall", 50, 800, None)];
const MACHINES: u32 = 3;
const STEPS: usize = 120;

struct Rig {
    lab: Lab,
    chance: Entropy,
    /// Instance and session of each machine, by its number from one.
    machines: Vec<(String, Option<(InstanceKey, SessionId)>)>,
    tasks: Vec<String>,
    /// Where each task was seen.
    homes: BTreeMap<TaskId, InstanceId>,
}

impl Rig {
    fn new(seed: u8) -> Self {
        let mut lab = Lab::new();
        for (family, cpu, memory, port) in FAMILIES {
            let ports: Vec<u16> = port.into_iter().collect();
            lab.ok(0, RegisterTaskDefinition, &definition(family, cpu.into(), memory.into(), &ports));
        }
        let offer = |key: u32| crate::fixture::offer(&format!("host-{key}"), 1_000, 1_000);
        let machines = (1..=MACHINES).map(|key| (lab.register(key, &offer(key)), None)).collect();
        Self { lab, chance: Entropy::from_seed([seed; 32]), machines, tasks: Vec::new(), homes: BTreeMap::new() }
    }

    fn step(&mut self) {
        let machine = self.chance.below(self.machines.len());
        match self.chance.below(12) {
            0..4 => self.run(),
            4..7 => self.end(),
            7 => {
                if let Some(task) = self.any_task() {
                    self.lab.ok(0, StopTask, &json!({"task": task}));
                }
            }
            8 => match self.machines[machine].1.take() {
                Some((instance, session)) => drop(self.lab.disconnect(instance, session)),
                None => self.connect(machine),
            },
            9 => self.connect(machine),
            10 => {
                let status = if self.chance.below(3) == 0 { "DRAINING" } else { "ACTIVE" };
                let request = json!({"containerInstances": [self.machines[machine].0], "status": status});
                self.lab.ok(0, UpdateContainerInstancesState, &request);
            }
            _ => {
                restart(&mut self.lab);
                self.machines.iter_mut().for_each(|machine| machine.1 = None);
            }
        }
    }

    fn connect(&mut self, machine: usize) {
        let key = machine as u32 + 1;
        let arn = self.machines[machine].0.clone();
        self.machines[machine].1 = Some(self.lab.connect(key, &arn));
    }

    fn run(&mut self) {
        let (family, ..) = FAMILIES[self.chance.below(FAMILIES.len())];
        let wait = ["1s", "1h"][self.chance.below(2)];
        let count = 1 + self.chance.below(3);
        let tags = tags(&[("longshore:max-wait", wait)]);
        let answer = self.lab.ok(0, RunTask, &json!({"taskDefinition": family, "count": count, "tags": tags}));
        let made = answer["tasks"].as_array().expect("tasks");
        assert_eq!(made.len(), count);
        self.tasks.extend(made.iter().map(|task| task["taskArn"].as_str().expect("an ARN").to_owned()));
    }

    fn any_task(&mut self) -> Option<String> {
        let at = self.chance.below(self.tasks.len());
        self.tasks.get(at).cloned()
    }

    /// A task's agent says that it ended.
    fn end(&mut self) {
        let Some(arn) = self.any_task() else { return };
        let shown = self.lab.describe(&arn);
        let home = shown["containerInstanceArn"].as_str();
        let Some(at) = self.machines.iter().position(|(arn, _)| Some(arn.as_str()) == home) else { return };
        if shown["lastStatus"] != "STOPPED" {
            self.lab.report(at as u32 + 1, &arn, "STOPPED");
        }
    }

    fn check(&mut self) {
        let snapshot = self.lab.cell.snapshot();
        let held = |id: InstanceId| {
            let here = snapshot.tasks().filter(move |task| task.instance == Some(id));
            here.filter(|task| task.known != TaskStatus::Stopped)
        };
        for instance in snapshot.instances() {
            let id = instance.key.id;
            let (cpu, memory) = held(id).fold((0, 0), |(cpu, memory), task| (cpu + task.cpu.0, memory + task.memory.0));
            let ports = held(id).filter(|task| !task.host_ports.is_empty()).count();
            assert!(cpu <= 1_000 && memory <= 1_000 && ports <= 1, "{id} has {cpu}, {memory}, {ports}");
            let connected =
                self.machines.iter().any(|(_, session)| session.is_some_and(|(key, _)| key == instance.key));
            if instance.status != InstanceStatus::Active || !connected {
                continue;
            }
            let fits = |task: &&std::sync::Arc<Task>| {
                let room = cpu + task.cpu.0 <= 1_000 && memory + task.memory.0 <= 1_000;
                room && (task.host_ports.is_empty() || ports == 0)
            };
            let waits = snapshot.tasks().filter(|task| task.waiting.is_some()).find(fits);
            assert_eq!(waits, None, "{id} has room for it: {cpu}, {memory}, {ports}");
        }
        for task in snapshot.tasks() {
            if let Some(id) = task.instance {
                let known = *self.homes.entry(task.key.id).or_insert(id);
                assert_eq!(known, id, "a task is placed once");
            }
            let placed = |other: &&std::sync::Arc<Task>| {
                let same = other.definition == task.definition && other.instance.is_some();
                same && other.created_at > task.created_at
            };
            let overtaken = task.waiting.is_some().then(|| snapshot.tasks().find(placed)).flatten();
            assert_eq!(overtaken, None, "{task:?} was overtaken");
        }
    }
}

#[test]
fn whatever_happens_nobody_waits_for_what_is_there() {
    let mut waited = 0;
    for seed in 1..=24 {
        let mut rig = Rig::new(seed);
        for _ in 0..STEPS {
            rig.step();
            rig.lab.pass(10);
            rig.check();
            waited += rig.lab.cell.snapshot().tasks().filter(|task| task.waiting.is_some()).count();
        }
    }
    assert!(waited > 1_000, "{waited}: hardly anybody waited");
}
