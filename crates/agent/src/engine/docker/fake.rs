//! An Engine in memory, for tests of what drives it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::config::RegistryLogin;

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
    /// How often it came back.
    life: u32,
    images: Vec<ListedImage>,
    containers: BTreeMap<String, Container>,
    volumes: BTreeMap<String, VolumeRequest>,
    listeners: Vec<mpsc::Sender<ContainerEvent>>,
    /// What containers printed, by id: pieces of the Engine's stream.
    output: BTreeMap<String, Vec<Bytes>>,
    /// Who follows it.
    followers: Vec<(String, mpsc::Sender<Result<Bytes, DockerError>>)>,
    /// Listeners whose events are dropped.
    neglected: Vec<mpsc::Sender<ContainerEvent>>,
    calls: Vec<String>,
    /// The beginning of the call that panics, once.
    panics_at: Option<String>,
}

impl FakeDocker {
    pub(crate) fn with_image(name: &str) -> Self {
        let fake = Self::default();
        fake.lock().images.push(image(name, 1));
        fake
    }

    /// Adds an image that was built at that time.
    pub(crate) fn add_image(&self, name: &str, created_at_ms: i64) {
        self.lock().images.push(image(name, created_at_ms));
    }

    pub(crate) fn image_tags(&self) -> Vec<String> {
        self.lock().images.iter().flat_map(|image| image.tags.clone()).collect()
    }

    /// Adds a container of somebody's, as if it had been there before; its id is `id-of-` its name.
    pub(crate) fn add_container(&self, name: &str, labels: &[(&str, &str)], phase: Phase, finished_at_ms: i64) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut container = container(name, labels);
        container.phase = phase;
        container.started_at_ms = Some(1);
        container.finished_at_ms = Some(finished_at_ms);
        self.lock().containers.insert(container.id.clone(), container);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// A container prints, in a piece of the Engine's stream.
    pub(crate) fn prints(&self, id: &str, piece: impl Into<Bytes>) {
        let (mut table, piece) = (self.lock(), piece.into());
        for (_, follower) in table.followers.iter().filter(|(of, _)| of == id) {
            // One that left needs nothing.
            let _ = follower.try_send(Ok(piece.clone()));
        }
        table.output.entry(id.to_owned()).or_default().push(piece);
    }

    /// How often a container's output was asked for.
    pub(crate) fn streams_opened(&self) -> usize {
        self.lock().calls.iter().filter(|call| call.starts_with("logs ")).count()
    }

    /// Turns the Engine off (its event streams break) or on.
    pub(crate) fn set_down(&self, down: bool) {
        let mut table = self.lock();
        table.life += u32::from(table.down && !down);
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

    /// The next call that begins like this panics.
    pub(crate) fn panic_at(&self, call: &str) {
        self.lock().panics_at = Some(call.to_owned());
    }

    fn call(&self, text: String) -> Result<std::sync::MutexGuard<'_, Table>, DockerError> {
        let mut table = self.lock();
        if table.down {
            return Err(DockerError::Unavailable { asked: false, endpoint: "fake".into(), cause: "down".into() });
        }
        if table.panics_at.as_ref().is_some_and(|call| text.starts_with(call)) {
            table.panics_at = None;
            drop(table);
            panic!("as the test wants it");
        }
        table.calls.push(text);
        Ok(table)
    }
}

fn image(name: &str, created_at_ms: i64) -> ListedImage {
    let digests = vec![format!("{name}@sha256:0")];
    ListedImage { id: format!("sha256:{name}"), tags: vec![name.to_owned()], digests, created_at_ms, size: 1 }
}

fn container(name: &str, labels: BTreeMap<String, String>) -> Container {
    Container {
        id: format!("id-of-{name}"),
        name: name.into(),
        labels,
        image_id: "sha256:1".into(),
        phase: Phase::Created,
        pid: 0,
        error: String::new(),
        oom_killed: false,
        started_at_ms: None,
        finished_at_ms: None,
        ports: Vec::new(),
        health: None,
        tty: false,
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

    async fn life(&self) -> Result<Option<String>, DockerError> {
        Ok(Some(self.lock().life.to_string()))
    }

    async fn inspect_image(&self, name: &str) -> Result<Image, DockerError> {
        let table = self.call(format!("inspect-image {name}"))?;
        if let Some(image) = table.images.iter().find(|image| image.tags.iter().any(|tag| tag == name)) {
            return Ok(Image { id: image.id.clone(), digest: None });
        }
        Err(DockerError::NotFound(format!("No such image: {name}")))
    }

    async fn images(&self) -> Result<Vec<ListedImage>, DockerError> {
        Ok(self.call("images".into())?.images.clone())
    }

    async fn remove_image(&self, reference: &str) -> Result<(), DockerError> {
        let mut table = self.call(format!("remove-image {reference}"))?;
        table.images.retain(|image| !image.tags.iter().any(|tag| tag == reference));
        Ok(())
    }

    async fn tag(&self, image: &str, name: &str) -> Result<(), DockerError> {
        let mut table = self.call(format!("tag {image} {name}"))?;
        table.images.iter_mut().for_each(|known| known.tags.retain(|tag| tag != name));
        let tagged =
            table.images.iter_mut().find(|known| known.digests.iter().chain(&known.tags).any(|it| it == image));
        tagged.ok_or_else(|| DockerError::NotFound(format!("No such image: {image}")))?.tags.push(name.to_owned());
        Ok(())
    }

    async fn pull(&self, name: &str, _: Option<&RegistryLogin>, _: PullLimits) -> Result<(), DockerError> {
        drop(self.call(format!("pull {name}"))?);
        self.pulls.0.acquire().await.unwrap().forget();
        self.call(format!("pulled {name}"))?.images.push(image(name, 1));
        Ok(())
    }

    async fn import(&self, archive: Vec<u8>, name: &str, change: &str) -> Result<(), DockerError> {
        let mut table = self.call(format!("import {name} {} {change}", archive.len()))?;
        table.images.push(image(name, 1));
        Ok(())
    }

    async fn cgroups(&self) -> Result<CgroupSetup, DockerError> {
        drop(self.call("cgroups".into())?);
        Ok(CgroupSetup { driver: "none".into(), version: "2".into() })
    }

    async fn create_volume(&self, request: &VolumeRequest) -> Result<(), DockerError> {
        let mut table = self.call(format!("create-volume {}", request.name))?;
        table.volumes.entry(request.name.clone()).or_insert_with(|| request.clone());
        Ok(())
    }

    async fn inspect_volume(&self, name: &str) -> Result<Volume, DockerError> {
        let table = self.call(format!("inspect-volume {name}"))?;
        let found = table.volumes.get(name).cloned();
        let volume = |VolumeRequest { driver, options, labels, .. }| Volume { driver, options, labels };
        found.map(volume).ok_or_else(|| DockerError::NotFound(format!("get {name}: no such volume")))
    }

    async fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        let removed = self.call(format!("remove-volume {name}"))?.volumes.remove(name);
        removed.map(drop).ok_or_else(|| DockerError::NotFound(format!("get {name}: no such volume")))
    }

    async fn digest(&self, name: &str, _: Option<&RegistryLogin>, _: Duration) -> Result<String, DockerError> {
        Err(DockerError::NotFound(format!("{name} is in no registry")))
    }

    async fn create(&self, name: &str, body: &Value, _: Duration) -> Result<String, DockerError> {
        let mut table = self.call(format!("create {name}"))?;
        if table.find(name).is_ok() {
            return Err(DockerError::Conflict(format!("{name} is in use")));
        }
        let mut container = container(name, serde_json::from_value(body["Labels"].clone()).unwrap());
        container.image_id = format!("sha256:{}", body["Image"].as_str().unwrap());
        let id = container.id.clone();
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
        let found = table.find(id)?;
        if found.phase == Phase::Running {
            return Err(DockerError::Conflict(format!("You cannot remove a running container {id}")));
        }
        let id = found.id.clone();
        table.containers.remove(&id);
        Ok(())
    }

    async fn list(&self, labels: &[&str]) -> Result<Vec<Listed>, DockerError> {
        let table = self.call("list".into())?;
        let carries = |container: &&Container| {
            labels.iter().all(|label| match label.split_once('=') {
                Some((key, value)) => container.labels.get(key).is_some_and(|have| have == value),
                None => container.labels.contains_key(*label),
            })
        };
        let listed = table.containers.values().filter(carries).map(|container| Listed {
            id: container.id.clone(),
            labels: container.labels.clone(),
            running: container.phase == Phase::Running,
            image_id: container.image_id.clone(),
            created_at_ms: 1,
        });
        Ok(listed.collect())
    }

    async fn logs(&self, id: &str, query: &LogQuery) -> Result<LogChunks, DockerError> {
        let mut table = self.call(format!("logs {id} {query:?}"))?;
        let pieces = table.output.get(id).cloned().unwrap_or_default();
        let (sender, receiver) = mpsc::channel(pieces.len() + 64);
        for piece in pieces {
            sender.try_send(Ok(piece)).unwrap();
        }
        if query.follow {
            table.followers.push((id.to_owned(), sender));
        }
        Ok(receiver)
    }

    async fn events(&self) -> Result<mpsc::Receiver<ContainerEvent>, DockerError> {
        let (sender, receiver) = mpsc::channel(64);
        self.call("events".into())?.listeners.push(sender);
        Ok(receiver)
    }
}
