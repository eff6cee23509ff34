//! An Engine in memory, for tests of what drives it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use super::*;

/// Containers in a table, and what the test wants to go wrong.
#[derive(Default)]
pub(crate) struct FakeDocker {
    table: Mutex<Table>,
    /// Pulls wait for a permit; tests hand them out.
    pub(crate) pulls: Gate,
}

pub(crate) struct Gate(pub(crate) Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

#[derive(Default)]
struct Table {
    down: bool,
    images: Vec<String>,
    containers: BTreeMap<String, Container>,
    listeners: Vec<mpsc::Sender<ContainerEvent>>,
    /// Listeners whose events are dropped.
    neglected: Vec<mpsc::Sender<ContainerEvent>>,
    calls: Vec<String>,
}

impl FakeDocker {
    pub(crate) fn with_image(name: &str) -> Self {
        let fake = Self::default();
        fake.lock().images.push(name.to_owned());
        fake
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// Turns the Engine off (its event streams break) or on.
    pub(crate) fn set_down(&self, down: bool) {
        let mut table = self.lock();
        table.down = down;
        table.listeners.clear();
        table.neglected.clear();
    }

    /// Drops all events of those who listen now; their streams stay open.
    pub(crate) fn drop_events(&self) {
        let mut table = self.lock();
        let listeners = std::mem::take(&mut table.listeners);
        table.neglected.extend(listeners);
    }

    /// `create name`, `start id` … in the order they were made, successful or not.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    pub(crate) fn containers(&self) -> Vec<Container> {
        self.lock().containers.values().cloned().collect()
    }

    /// Ends every process with this code; tells so unless the Engine is down.
    pub(crate) fn end_all(&self, exit_code: i32) {
        let mut table = self.lock();
        let mut events = Vec::new();
        for container in table.containers.values_mut() {
            container.phase = Phase::Exited { exit_code };
            events.push(ContainerEvent {
                id: container.id.clone(),
                instance_arn: container.labels[LABEL_INSTANCE].clone(),
                task_arn: container.labels[LABEL_TASK].clone(),
                container_name: container.labels[LABEL_CONTAINER].clone(),
                kind: EventKind::Died { exit_code },
            });
        }
        for listener in &table.listeners {
            for event in &events {
                listener.try_send(event.clone()).unwrap();
            }
        }
    }

    fn call(&self, text: String) -> Result<std::sync::MutexGuard<'_, Table>, DockerError> {
        let mut table = self.lock();
        if table.down {
            return Err(DockerError::Unavailable { endpoint: "fake".into(), cause: "down".into() });
        }
        table.calls.push(text);
        Ok(table)
    }
}

impl Table {
    fn find(&mut self, id: &str) -> Result<&mut Container, DockerError> {
        self.containers
            .values_mut()
            .find(|container| container.id == id || container.name == id)
            .ok_or_else(|| DockerError::NotFound(format!("No such container: {id}")))
    }
}

impl Docker for FakeDocker {
    async fn version(&self) -> Result<EngineVersion, DockerError> {
        drop(self.call("version".into())?);
        Ok(EngineVersion { version: "fake".into(), api: ApiVersion::new(1, 41), max_api: ApiVersion::new(1, 41) })
    }

    async fn inspect_image(&self, name: &str) -> Result<Image, DockerError> {
        let table = self.call(format!("inspect-image {name}"))?;
        if table.images.iter().any(|image| image == name) {
            return Ok(Image { id: "sha256:1".into(), digest: None });
        }
        Err(DockerError::NotFound(format!("No such image: {name}")))
    }

    async fn pull(&self, name: &str, _: PullLimits) -> Result<(), DockerError> {
        drop(self.call(format!("pull {name}"))?);
        self.pulls.0.acquire().await.unwrap().forget();
        self.call(format!("pulled {name}"))?.images.push(name.into());
        Ok(())
    }

    async fn create(&self, name: &str, body: &Value, _: Duration) -> Result<String, DockerError> {
        let mut table = self.call(format!("create {name}"))?;
        if table.find(name).is_ok() {
            return Err(DockerError::Conflict(format!("{name} is in use")));
        }
        let id = format!("id-of-{name}");
        let container = Container {
            id: id.clone(),
            name: name.into(),
            labels: serde_json::from_value(body["Labels"].clone()).unwrap(),
            image_id: "sha256:1".into(),
            phase: Phase::Created,
            error: String::new(),
            oom_killed: false,
            started_at_ms: None,
            finished_at_ms: None,
            ports: Vec::new(),
            health: None,
        };
        table.containers.insert(id.clone(), container);
        Ok(id)
    }

    async fn start(&self, id: &str, _: Duration) -> Result<(), DockerError> {
        let mut table = self.call(format!("start {id}"))?;
        let container = table.find(id)?;
        container.phase = Phase::Running;
        container.started_at_ms = Some(1);
        Ok(())
    }

    async fn stop(&self, id: &str, _: Duration) -> Result<(), DockerError> {
        let mut table = self.call(format!("stop {id}"))?;
        table.find(id)?.phase = Phase::Exited { exit_code: 0 };
        Ok(())
    }

    async fn inspect(&self, id_or_name: &str) -> Result<Container, DockerError> {
        let mut table = self.call(format!("inspect {id_or_name}"))?;
        table.find(id_or_name).cloned()
    }

    async fn remove(&self, id: &str) -> Result<(), DockerError> {
        let mut table = self.call(format!("remove {id}"))?;
        let id = table.find(id)?.id.clone();
        table.containers.remove(&id);
        Ok(())
    }

    async fn list(&self, _: &str) -> Result<Vec<Listed>, DockerError> {
        let table = self.call("list".into())?;
        let listed = table.containers.values().map(|container| Listed {
            id: container.id.clone(),
            labels: container.labels.clone(),
            running: container.phase == Phase::Running,
        });
        Ok(listed.collect())
    }

    async fn events(&self) -> Result<mpsc::Receiver<ContainerEvent>, DockerError> {
        let (sender, receiver) = mpsc::channel(64);
        self.call("events".into())?.listeners.push(sender);
        Ok(receiver)
    }
}
