//! What must be true once nothing fails any more and everybody has had time (invariants 7, 15 and 16).

use longshore_agent::engine::Status;
use longshore_core::entity::Task;
use longshore_core::task::status::{DesiredStatus, TaskStatus};
use longshore_store::{MemoryStore, Store};

use crate::docker::State;
use crate::oracle::{Step, Violation, broken, id_of};
use crate::server;
use crate::world::World;

impl World {
    /// Cell, engines and Docker agree, and so do memories and disks.
    pub(crate) fn check_settled(&self) -> Step {
        if self.network.open_calls() > 0 || !self.clients.idle() {
            return broken(7, format!("{} calls were never answered", self.network.open_calls()));
        }
        if let Some(down) = self.agents.iter().position(|agent| !agent.is_up() || agent.engine().is_none()) {
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
        if process.sessions.len() != self.agents.len() {
            let open = process.sessions.len();
            return broken(7, format!("{open} sessions are open, there are {} agents", self.agents.len()));
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

    /// A task runs where it was placed, or has stopped for a reason.
    fn check_task(&self, task: &Task) -> Step {
        let id = task.key.id.to_string();
        let agent = self
            .agents
            .iter()
            .find(|agent| agent.disk.instance_arn.as_deref().map(id_of) == Some(task.instance.to_string().as_str()));
        let Some(agent) = agent else { return broken(2, format!("task {id} is on no instance there is")) };
        let containers = self.hosts[agent.host].containers.values();
        let theirs: Vec<_> = containers.filter(|container| id_of(&container.key.task_arn) == id).collect();
        let running = theirs.iter().filter(|container| container.state == State::Running).count();
        let record = agent.engine().and_then(|engine| engine.tasks().find(|record| id_of(record.arn()) == id));
        match (task.desired, task.known) {
            (DesiredStatus::Stopped, TaskStatus::Stopped) => {
                if running > 0 || task.stop.is_none() {
                    return broken(7, format!("task {id} is STOPPED ({:?}), {running} containers run", task.stop));
                }
                Ok(())
            }
            (DesiredStatus::Running, TaskStatus::Running) => {
                let ended = |container: &longshore_agent::engine::ContainerRecord| {
                    container.essential && container.known != Status::Running
                };
                match record {
                    Some(record) if record.known == Status::Running && !record.containers.iter().any(ended) => {
                        let alive = record.containers.iter().filter(|c| c.known == Status::Running).count();
                        match alive == running {
                            true => Ok(()),
                            false => {
                                broken(7, format!("task {id}: {running} containers run, the agent knows of {alive}"))
                            }
                        }
                    }
                    record => broken(7, format!("task {id} is RUNNING, the agent says {:?}", record.map(|r| r.known))),
                }
            }
            (desired, known) => {
                let agent_knows = record.map(|record| (record.desired, record.known, record.reported));
                let text = format!("task {id} is to be {desired:?} and is still {known}; the agent: {agent_knows:?}");
                broken(7, text)
            }
        }
    }

    /// Every container belongs to a task that its agent knows; every running one to a task that is to run.
    fn check_containers(&self) -> Step {
        for agent in &self.agents {
            let Some(engine) = agent.engine() else { continue };
            let containers = self.hosts[agent.host].containers.values();
            let theirs =
                containers.filter(|container| Some(&container.instance_arn) == agent.disk.instance_arn.as_ref());
            for container in theirs {
                let name = format!("{:?} ({})", container.key, container.id);
                let record = engine.task(&container.key.task_arn);
                let known = record.and_then(|task| task.containers.iter().find(|c| c.name == container.key.name));
                match known {
                    None => return broken(15, format!("container {name} belongs to nobody")),
                    Some(known) if known.removed => {
                        return broken(15, format!("container {name} was removed and is there"));
                    }
                    Some(_) => {}
                }
                let task = self.oracle.tasks.get(id_of(&container.key.task_arn));
                let wanted = task.is_some_and(|task| task.known == TaskStatus::Running);
                if container.state == State::Running && !wanted {
                    return broken(15, format!("container {name} runs, its task does not"));
                }
            }
        }
        Ok(())
    }

    /// What an agent has saved is what it knows.
    fn check_agents(&self) -> Step {
        for agent in &self.agents {
            let Some(engine) = agent.engine() else { continue };
            if !agent.disk.holds(engine.tasks()) {
                return broken(16, format!("agent {} has not saved what it knows", agent.key));
            }
        }
        Ok(())
    }
}
