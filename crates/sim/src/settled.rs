//! What must be true once nothing fails any more and everybody has had time (invariants 7, 15 and 16).

use longshore_core::entity::Task;
use longshore_core::instance::InstanceStatus;
use longshore_core::task::status::{DesiredStatus, TaskStatus};
use longshore_store::{MemoryStore, Store};

use crate::agent::Agent;
use crate::brain::ContainerView;
use crate::catalog;
use crate::clock::Clock;
use crate::docker::State;
use crate::oracle::{Step, Violation, broken, ensure, id_of};
use crate::server;
use crate::world::World;

impl World {
    /// Cell, engines and Docker agree, and so do memories and disks.
    pub(crate) fn check_settled(&self) -> Step {
        if self.network.open_calls() > 0 || !self.clients.idle() {
            return broken(7, format!("{} calls were never answered", self.network.open_calls()));
        }
        let down = |agent: &Agent| !self.hosts[agent.host].gone && agent.brain().is_none();
        if let Some(down) = self.agents.iter().position(down) {
            return broken(7, format!("agent {down} did not come back"));
        }
        self.check_stored()?;
        for task in self.oracle.tasks.values() {
            self.check_task(task)?;
        }
        self.check_containers()?;
        self.check_agents()
    }

    /// What the server knows, what clients see and what the disk holds are one.
    fn check_stored(&self) -> Step {
        let Some(process) = &self.server.process else { return broken(7, "the server did not come back".to_owned()) };
        if process.pipeline.read_only() {
            return broken(7, "the server still refuses writes".to_owned());
        }
        let (open, up) = (process.sessions.len(), self.agents.iter().filter(|agent| agent.is_up()).count());
        if open != up {
            return broken(7, format!("{open} sessions are open, there are {up} agents"));
        }
        if !process.idle() {
            return broken(7, "commands were never answered".to_owned());
        }
        let cell = process.pipeline.cell();
        let disk = &self.server.disk;
        if server::stored(cell)? != disk.entities() {
            return broken(16, "the disk does not hold what the cell knows".to_owned());
        }
        let mut store = MemoryStore::open(disk.snapshot());
        store.lead().map_err(|error| Violation::new(16, error.to_string()))?;
        let again = server::load(&self.server.config, &mut store).or_else(|why| broken(16, why))?;
        if again.entities().ne(cell.entities()) || again.sequence() != cell.sequence() {
            return broken(16, "a cell loaded from the disk differs from the one that wrote it".to_owned());
        }
        self.oracle.is_durable(&process.snapshot, disk)
    }

    /// A task that was never placed is over, or there is no room for it.
    fn check_unplaced(&self, task: &Task) -> Step {
        let Some(waiting) = &task.waiting else {
            let over = task.known == TaskStatus::Stopped && task.stop.is_some();
            return ensure(over, 21, || format!("task {} is {:?} and nowhere", task.key.id, task.known));
        };
        // What others need, such as a port or an attribute, is for the cell's own tests.
        let plain = waiting.constraints.is_empty() && catalog::PLAIN.contains(&&*task.definition.family);
        let Some(process) = self.server.process.as_ref().filter(|_| plain) else { return Ok(()) };
        let here = process.snapshot.instances().filter(|record| record.key.cluster == task.key.cluster);
        for record in here.filter(|record| record.status == InstanceStatus::Active && record.lost_at.is_none()) {
            let id = record.key.id.to_string();
            let serves = |agent: &&Agent| agent.is_up() && agent.disk.instance_arn.as_deref().map(id_of) == Some(&id);
            if self.agents.iter().find(serves).is_none() {
                continue;
            }
            let held = self.oracle.tasks.values().filter(|other| other.home() == Some(record.key));
            let held = held.filter(|other| other.known != TaskStatus::Stopped);
            let (cpu, memory) = held.fold((0, 0), |(cpu, memory), held| (cpu + held.cpu.0, memory + held.memory.0));
            let fits = record.cpu.0 >= cpu + task.cpu.0 && record.memory.0 >= memory + task.memory.0;
            ensure(!fits, 21, || format!("task {} waits, and {id} has room for it", task.key.id))?;
        }
        Ok(())
    }

    /// A task runs where it was placed, or has stopped for a reason.
    fn check_task(&self, task: &Task) -> Step {
        let id = task.key.id.to_string();
        let Some(instance) = task.instance.map(|id| id.to_string()) else {
            return self.check_unplaced(task);
        };
        let agent = self
            .agents
            .iter()
            .find(|agent| agent.is_up() && agent.disk.instance_arn.as_deref().map(id_of) == Some(instance.as_str()));
        let Some(agent) = agent else {
            // Its machine is gone, or another instance by now: nobody will ever say what became of it.
            let over = task.last_status() == TaskStatus::Stopped && task.stop.is_some();
            return ensure(over, 7, || format!("task {id} is {:?} on {instance}, which is gone", task.last_status()));
        };
        let running = self.hosts[agent.host]
            .containers
            .values()
            .filter(|container| id_of(&container.key.task_arn) == id && container.state == State::Running);
        let running = running.count();
        let arn = self.server.config.scope.task(agent.cluster, &id);
        let view = agent.brain().and_then(|brain| brain.view(&arn));
        match (task.desired, task.known) {
            (DesiredStatus::Stopped, TaskStatus::Stopped) => {
                let invariant = if task.verdict.is_some() { 15 } else { 7 };
                ensure(running == 0 && task.stop.is_some(), invariant, || {
                    format!("task {id} is STOPPED ({:?}), {running} containers run", task.stop)
                })
            }
            (DesiredStatus::Running, TaskStatus::Running) => {
                let ended = |container: &ContainerView| container.essential && !container.running;
                match view {
                    Some(view) if view.running && !view.containers.iter().any(ended) => {
                        let alive = view.containers.iter().filter(|container| container.running).count();
                        ensure(alive == running, 7, || {
                            format!("task {id}: {running} containers run, the agent knows of {alive}")
                        })
                    }
                    view => broken(7, format!("task {id} is RUNNING, the agent says {view:?}")),
                }
            }
            (desired, known) => {
                // A stale copy that is left alone is a container that should not be there.
                let invariant = if task.is_stale() { 15 } else { 7 };
                let text = format!("task {id} is to be {desired:?} and is still {known}; the agent: {view:?}");
                broken(invariant, text)
            }
        }
    }

    /// Every container belongs to a task that its agent knows; every running one to a task that is to run.
    fn check_containers(&self) -> Step {
        for agent in self.agents.iter().filter(|agent| agent.is_up()) {
            let Some(brain) = agent.brain() else { continue };
            let containers = self.hosts[agent.host].containers.values();
            let theirs =
                containers.filter(|container| Some(&container.instance_arn) == agent.disk.instance_arn.as_ref());
            for container in theirs {
                let name = format!("{:?} ({})", container.key, container.id);
                let view = brain.view(&container.key.task_arn);
                let known = view.as_ref().and_then(|v| v.containers.iter().find(|c| c.name == container.key.name));
                match known {
                    None => return broken(15, format!("container {name} belongs to nobody")),
                    Some(known) if known.removed => {
                        return broken(15, format!("container {name} was removed and is there"));
                    }
                    Some(_) => {}
                }
                let task = self.oracle.tasks.get(id_of(&container.key.task_arn));
                let wanted = task.is_some_and(|task| task.last_status() == TaskStatus::Running);
                if container.state == State::Running && !wanted {
                    return broken(15, format!("container {name} runs, its task does not"));
                }
            }
        }
        Ok(())
    }

    /// What an agent has saved is what it knows. Where a clock was set, times in memory follow it and those on disk do not.
    fn check_agents(&self) -> Step {
        for (index, agent) in self.agents.iter().enumerate() {
            let clock_was_set = self.hosts[agent.host].clock != Clock::default();
            let Some(brain) = agent.brain().filter(|_| !clock_was_set) else { continue };
            if !agent.disk.holds(&brain.records()) {
                return broken(16, format!("agent {index} has not saved what it knows"));
            }
        }
        Ok(())
    }
}
