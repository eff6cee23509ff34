//! The loop with a fake Docker and a fake control plane: order, concurrency, loss of either.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::engine::docker::Phase;
use crate::engine::docker::fake::FakeDocker;
use crate::engine::{EngineConfig, HostResources, ImagePullBehavior};
use crate::session::acs::{CurrentSession, Event};
use crate::session::fake_server::FakeServer;
use crate::session::tcs::{RuntimeHealth, RuntimeStatus};
use crate::state::{Loaded, Writer};

const INSTANCE: &str = "arn:aws:ecs:us-east-1:1:container-instance/c/i";
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    server: FakeServer,
    dir: tempfile::TempDir,
    shared: Arc<Shared<FakeDocker>>,
    events: mpsc::Sender<Event>,
    answers: mpsc::Receiver<AgentMessage>,
    parts: Vec<JoinHandle<()>>,
    writer: Option<Writer>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.parts.iter().for_each(JoinHandle::abort);
    }
}

fn config() -> EngineConfig {
    EngineConfig {
        cluster: "c".into(),
        container_instance_arn: INSTANCE.into(),
        stop_timeout_s: 30,
        create_timeout_ms: 60_000,
        start_timeout_ms: 60_000,
        task_cleanup_wait_ms: 3_600_000,
        image_pull_behavior: ImagePullBehavior::PreferCached,
        pull_dependents_upfront: false,
        dynamic_host_port_range: None,
        exclude_ipv6_port_binding: true,
        resources: HostResources { cpu: 4096, memory_mib: 4096, ..HostResources::default() },
        remembered_tasks: 10,
    }
}

impl World {
    /// A running loop with an open session. `current` is the number of the session that counts; the open one has 1.
    async fn start(docker: FakeDocker, current: u64) -> Self {
        let server = FakeServer::start(|_| (200, json!({ "acknowledgment": "ok" }))).await;
        Self::with(docker, current, server, PATIENCE).await
    }

    async fn with(docker: FakeDocker, current: u64, server: FakeServer, look_every: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (state, writer, _) = State::open(Some(dir.path())).unwrap();
        let shared = Arc::new(Shared {
            docker,
            state,
            api: server.client(),
            submits: Semaphore::new(CONCURRENT_SUBMITS),
            pull_limits: PullLimits { total: PATIENCE, inactivity: PATIENCE },
            look_every,
            docker_lost: Notify::new(),
        });
        let (events, session_events) = mpsc::channel(16);
        let (outgoing, answers) = mpsc::channel(16);
        let inputs = mpsc::unbounded_channel();
        let listeners = watcher::Listeners::from([(INSTANCE.to_owned(), inputs.0.clone())]);
        let (health, _) =
            watch::channel(RuntimeHealth { status: RuntimeStatus::Initializing, since: now(), reason: None });
        let instance = Instance {
            shared: shared.clone(),
            index: 0,
            engine: Engine::new(config()),
            session_events,
            current_session: CurrentSession::numbered(current),
            inputs,
            live_tasks: watch::channel(0).0,
        };
        let parts = vec![tokio::spawn(instance.run()), tokio::spawn(watcher::run(shared.clone(), listeners, health))];
        events.send(Event::Opened { outgoing }).await.unwrap();
        Self { server, dir, shared, events, answers, parts, writer: Some(writer) }
    }

    async fn order(&self, text: Value) {
        let envelope = json!({ "type": "PayloadMessage", "message": text });
        let message = ServerMessage::decode(&envelope.to_string()).unwrap().unwrap();
        let event = Event::Message { session: 1, message: Box::new(message) };
        self.events.send(event).await.unwrap();
    }

    async fn change(&mut self, task: &str, status: &str) -> Value {
        loop {
            let call = self.server.call("SubmitTaskStateChange");
            let change = timeout(PATIENCE, call).await.unwrap();
            if change["status"] == status && change["task"] == task {
                return change;
            }
        }
    }

    async fn answer(&mut self) -> AgentMessage {
        timeout(PATIENCE, self.answers.recv()).await.unwrap().unwrap()
    }

    /// What a process that starts now would find: a copy of the file as it is on disk.
    fn on_disk(&self) -> Loaded {
        let copy = tempfile::tempdir().unwrap();
        let file = "agent.redb";
        std::fs::copy(self.dir.path().join(file), copy.path().join(file)).unwrap();
        State::open(Some(copy.path())).unwrap().2
    }
}

fn run_task(id: &str, image: &str) -> Value {
    order(id, "RUNNING", json!([{ "name": "main", "image": image, "essential": true, "memory": 16 }]))
}

fn order(id: &str, desired: &str, containers: Value) -> Value {
    json!({
        "messageId": id, "clusterArn": "arn:c", "containerInstanceArn": INSTANCE, "generatedAt": 1, "seqNum": 1,
        "tasks": [{ "arn": task(id), "family": "f", "version": "1", "desiredStatus": desired, "containers": containers }],
    })
}

fn task(id: &str) -> String {
    format!("arn:aws:ecs:us-east-1:1:task/c/{id}")
}

#[tokio::test]
async fn what_is_acknowledged_is_on_disk() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.order(run_task("a", "web")).await;
    assert!(matches!(world.answer().await, AgentMessage::Ack(_)));
    assert!(world.on_disk().identities[&0].tasks.contains_key(&task("a")));
}

#[tokio::test]
async fn no_container_is_created_and_nothing_acknowledged_while_the_disk_refuses() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    // A writer that is gone makes nothing durable any more, like a disk that is full.
    world.writer.take().unwrap().close();
    world.order(run_task("a", "web")).await;
    let waiting = timeout(Duration::from_millis(200), world.answers.recv()).await;
    assert!(waiting.is_err());
    let calls = world.shared.docker.calls();
    assert!(!calls.iter().any(|call| call.starts_with("create")), "{calls:?}");
}

#[tokio::test]
async fn a_slow_pull_holds_up_only_its_own_task() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.order(run_task("slow", "remote")).await;
    world.order(run_task("quick", "web")).await;
    world.change(&task("quick"), "RUNNING").await;
    world.shared.docker.pulls.0.add_permits(1);
    world.change(&task("slow"), "RUNNING").await;
}

#[tokio::test]
async fn an_order_of_a_session_that_is_over_is_not_obeyed() {
    let mut world = World::start(FakeDocker::with_image("web"), 2).await;
    world.order(run_task("a", "web")).await;
    let silence = timeout(Duration::from_millis(100), world.answers.recv()).await;
    assert!(silence.is_err());
    assert!(world.shared.docker.containers().is_empty());
}

#[tokio::test]
async fn an_end_that_docker_tells_of_is_reported() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.order(run_task("a", "web")).await;
    world.change(&task("a"), "RUNNING").await;
    world.shared.docker.end_all(5);
    let change = world.change(&task("a"), "STOPPED").await;
    assert_eq!(change["containers"][0]["exitCode"], 5);
}

#[tokio::test]
async fn an_end_while_docker_was_away_is_found_out() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.order(run_task("a", "web")).await;
    world.change(&task("a"), "RUNNING").await;
    world.shared.docker.set_down(true);
    world.shared.docker.end_all(6);
    world.shared.docker.set_down(false);
    let change = world.change(&task("a"), "STOPPED").await;
    assert_eq!(change["containers"][0]["exitCode"], 6);
}

#[tokio::test]
async fn work_waits_for_docker_and_goes_on_when_it_is_back() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.shared.docker.set_down(true);
    world.order(run_task("a", "web")).await;
    assert!(matches!(world.answer().await, AgentMessage::Ack(_)));
    world.shared.docker.set_down(false);
    world.change(&task("a"), "RUNNING").await;
    let containers = world.shared.docker.containers();
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0].phase, Phase::Running);
}

#[tokio::test]
async fn an_end_whose_event_was_lost_is_found_out() {
    let server = FakeServer::start(|_| (200, json!({ "acknowledgment": "ok" }))).await;
    let mut world = World::with(FakeDocker::with_image("web"), 1, server, Duration::from_millis(50)).await;
    world.order(run_task("a", "web")).await;
    world.change(&task("a"), "RUNNING").await;
    world.shared.docker.drop_events();
    world.shared.docker.end_all(7);
    let change = world.change(&task("a"), "STOPPED").await;
    assert_eq!(change["containers"][0]["exitCode"], 7);
}

#[tokio::test]
async fn a_report_that_a_server_does_not_take_yet_is_soon_sent_again() {
    let refusals = std::sync::atomic::AtomicU32::new(3);
    let server = FakeServer::start(move |_| {
        let left = refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let status = if left.is_ok() { 503 } else { 200 };
        (status, json!({ "acknowledgment": "ok" }))
    })
    .await;
    let mut world = World::with(FakeDocker::with_image("web"), 1, server, PATIENCE).await;
    world.order(run_task("a", "web")).await;
    // The engine itself would wait five seconds after each.
    timeout(Duration::from_secs(10), async {
        for _ in 0..4 {
            world.change(&task("a"), "RUNNING").await;
        }
    })
    .await
    .unwrap();
}
