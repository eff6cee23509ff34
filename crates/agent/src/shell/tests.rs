//! The loop with a fake Docker and a fake control plane: order, concurrency, loss of either.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::disk::DiskGuard;
use crate::engine::docker::fake::FakeDocker;
use crate::engine::docker::{LABEL_CONTAINER, Phase};
use crate::engine::image::CleanupRules;
use crate::engine::{AwslogsAs, EngineConfig, GpuAccess, HostResources, ImagePullBehavior, TaskLimits, VolumeRules};
use crate::session::acs::{CurrentSession, Event};
use crate::session::fake_server::FakeServer;
use crate::session::tcs::{RuntimeHealth, RuntimeStatus};
use crate::state::{Loaded, Writer};

mod credentials;

const INSTANCE: &str = "arn:aws:ecs:us-east-1:1:container-instance/c/i";
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    server: FakeServer,
    dir: tempfile::TempDir,
    shared: Arc<Shared<FakeDocker>>,
    events: mpsc::Sender<Event>,
    answers: mpsc::Receiver<AgentMessage>,
    parts: Vec<JoinHandle<()>>,
    questions: Vec<mpsc::Sender<Question>>,
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
        task_cleanup_jitter_ms: 0,
        image_pull_behavior: ImagePullBehavior::PreferCached,
        manifest_pull_timeout_ms: 60_000,
        image_pull_timeout_ms: 7_200_000,
        pull_dependents_upfront: false,
        dynamic_host_port_range: None,
        exclude_ipv6_port_binding: true,
        awslogs_as: AwslogsAs::Awslogs,
        limits: TaskLimits::default(),
        volumes: VolumeRules::default(),
        gpu_access: GpuAccess::Requests,
        resources: HostResources { cpu: 4096, memory_mib: 4096, ..HostResources::default() },
        remembered_tasks: 10,
    }
}

/// All around a loop, with nothing on this machine.
pub(crate) fn shared(docker: FakeDocker, state: State, server: &FakeServer) -> Shared<FakeDocker> {
    Shared {
        docker,
        images: Images::new(state.clone(), &BTreeMap::new()),
        registry: None,
        host_ports: Arc::default(),
        state,
        api: server.client(),
        submits: Semaphore::new(CONCURRENT_SUBMITS),
        cgroups: CgroupKeeper::new("/nonexistent".into()),
        pull_limits: PullLimits { total: PATIENCE, inactivity: PATIENCE },
        disk: DiskGuard::new(Vec::new(), None),
        look_every: PATIENCE,
        network: TaskNetwork::new("host", "test"),
        docker_lost: Notify::new(),
        roles: Arc::default(),
        secrets: SecretStores::of_server(&server.client(), "us-east-1"),
        objects: ObjectStore::nobodys(),
    }
}

impl World {
    /// A running loop with an open session. `current` is the number of the session that counts; the open one has 1.
    async fn start(docker: FakeDocker, current: u64) -> Self {
        let server = FakeServer::start(|_| (200, json!({ "acknowledgment": "ok" }))).await;
        Self::with(docker, current, server, PATIENCE, config()).await
    }

    /// The same with other settings.
    async fn with_config(docker: FakeDocker, config: EngineConfig) -> Self {
        let server = FakeServer::start(|_| (200, json!({ "acknowledgment": "ok" }))).await;
        Self::with(docker, 1, server, PATIENCE, config).await
    }

    async fn with(
        docker: FakeDocker,
        current: u64,
        server: FakeServer,
        look_every: Duration,
        config: EngineConfig,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (state, writer, _) = State::open(Some(dir.path())).unwrap();
        let shared = Arc::new(Shared { look_every, ..shared(docker, state, &server) });
        let (events, session_events) = mpsc::channel(16);
        let (outgoing, answers) = mpsc::channel(16);
        let inputs = mpsc::unbounded_channel();
        let (asks, questions) = mpsc::channel(1);
        let (joining, joined) = mpsc::unbounded_channel();
        joining.send((INSTANCE.to_owned(), inputs.0.clone())).unwrap();
        let (health, _) =
            watch::channel(RuntimeHealth { status: RuntimeStatus::Initializing, since: now(), reason: None });
        let instance = Instance {
            shared: shared.clone(),
            index: 0,
            arn: INSTANCE.into(),
            engine: Engine::new(config),
            questions,
            session_events,
            current_session: CurrentSession::numbered(current),
            inputs,
            live_tasks: watch::channel(0).0,
        };
        let parts = vec![tokio::spawn(instance.run()), tokio::spawn(watcher::run(shared.clone(), joined, health))];
        events.send(Event::Opened { outgoing }).await.unwrap();
        Self { server, dir, shared, events, answers, parts, questions: vec![asks], writer: Some(writer) }
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
async fn a_step_that_panics_is_done_over() {
    for call in ["create", "start", "inspect", "stop"] {
        let mut world = World::start(FakeDocker::with_image("web"), 1).await;
        world.shared.docker.panic_at(call);
        world.order(run_task("a", "web")).await;
        world.change(&task("a"), "RUNNING").await;
        world.order(order("a", "STOPPED", json!([]))).await;
        world.change(&task("a"), "STOPPED").await;
    }
}

#[tokio::test]
async fn an_end_whose_event_was_lost_is_found_out() {
    let server = FakeServer::start(|_| (200, json!({ "acknowledgment": "ok" }))).await;
    let mut world = World::with(FakeDocker::with_image("web"), 1, server, Duration::from_millis(50), config()).await;
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
    let mut world = World::with(FakeDocker::with_image("web"), 1, server, PATIENCE, config()).await;
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

const OTHER_INSTANCE: &str = "arn:aws:ecs:us-east-1:1:container-instance/c/other";

/// Labels of a container of task `id`.
fn labels<'a>(instance: &'a str, task: &'a str) -> [(&'a str, &'a str); 3] {
    [(LABEL_INSTANCE, instance), (LABEL_TASK, task), (LABEL_CONTAINER, "main")]
}

#[tokio::test]
async fn a_copy_of_an_unknown_task_is_stopped_before_the_order_is_answered_and_another_instances_is_not() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    let stale = task("stale");
    world.shared.docker.add_container("ours", &labels(INSTANCE, &stale), Phase::Running, 0);
    world.shared.docker.add_container("theirs", &labels(OTHER_INSTANCE, &stale), Phase::Running, 0);
    world.shared.docker.add_container("another-task", &labels(INSTANCE, &task("other")), Phase::Running, 0);
    world.order(order("stale", "STOPPED", json!([]))).await;
    let change = world.change(&stale, "STOPPED").await;
    let [container] = change["containers"].as_array().unwrap().as_slice() else { panic!("{change}") };
    assert_eq!((&container["containerName"], &container["exitCode"]), (&json!("main"), &json!(0)));
    assert_eq!(container["runtimeId"], "id-of-ours");
    assert_eq!(change["reason"], "");
    let running = world.shared.docker.containers().into_iter().filter(|container| container.phase == Phase::Running);
    assert_eq!(running.map(|container| container.name).collect::<Vec<_>>(), ["another-task", "theirs"]);
    let touched = world.shared.docker.calls().into_iter().filter(|call| call.ends_with("theirs")).count();
    assert_eq!(touched, 0);
}

#[tokio::test]
async fn an_unknown_task_has_not_stopped_while_docker_cannot_be_asked() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.shared.docker.add_container("ours", &labels(INSTANCE, &task("stale")), Phase::Running, 0);
    world.shared.docker.set_down(true);
    world.order(order("stale", "STOPPED", json!([]))).await;
    assert!(matches!(world.answer().await, AgentMessage::Ack(_)));
    let silence = timeout(Duration::from_millis(200), world.server.call("SubmitTaskStateChange")).await;
    assert!(silence.is_err(), "{silence:?}");
    world.shared.docker.set_down(false);
    world.change(&task("stale"), "STOPPED").await;
    assert!(world.shared.docker.calls().contains(&"stop id-of-ours".to_owned()));
}

#[tokio::test]
async fn a_listener_that_joins_late_hears_at_once_and_of_its_own_alone() {
    let world = World::start(FakeDocker::with_image("web"), 1).await;
    world.shared.docker.add_container("ours", &labels(INSTANCE, &task("a")), Phase::Running, 0);
    world.shared.docker.add_container("theirs", &labels(OTHER_INSTANCE, &task("b")), Phase::Running, 0);
    let (joining, joined) = mpsc::unbounded_channel();
    let (health, _) = watch::channel(RuntimeHealth { status: RuntimeStatus::Initializing, since: now(), reason: None });
    let watching = tokio::spawn(watcher::run(world.shared.clone(), joined, health));
    for (instance, expected) in [(INSTANCE, "a"), (OTHER_INSTANCE, "b")] {
        let (news, mut heard) = mpsc::unbounded_channel();
        joining.send((instance.to_owned(), news)).unwrap();
        let Some(Input::DockerReady { found, .. }) = timeout(PATIENCE, heard.recv()).await.unwrap() else {
            panic!("something else comes first");
        };
        let tasks: Vec<_> = found.into_iter().map(|found| found.container.task_arn).collect();
        assert_eq!(tasks, [task(expected)]);
    }
    watching.abort();
}

fn rules() -> CleanupRules {
    CleanupRules {
        minimum_age_ms: 0,
        images_per_round: 5,
        untracked: false,
        untracked_age_ms: 0,
        container_age_ms: 60_000,
        containers_per_round: 2,
        exclude: BTreeSet::new(),
    }
}

#[tokio::test]
async fn an_image_goes_when_the_last_task_that_used_it_was_cleaned_up() {
    let config = EngineConfig { task_cleanup_wait_ms: 0, ..config() };
    let mut world = World::with_config(FakeDocker::with_image("web"), config).await;
    world.shared.docker.add_image("foreign", 1);
    world.order(run_task("a", "web")).await;
    world.change(&task("a"), "RUNNING").await;
    images::round(&world.shared, &world.questions, &rules(), now()).await.unwrap();
    assert_eq!(world.shared.docker.image_tags(), ["web", "foreign"]);
    world.shared.docker.end_all(0);
    world.change(&task("a"), "STOPPED").await;
    timeout(PATIENCE, async {
        while !world.shared.docker.containers().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    // The loop has heard of the removal when it has answered anything asked after it.
    timeout(PATIENCE, async {
        while world.shared.docker.image_tags().len() > 1 {
            images::round(&world.shared, &world.questions, &rules(), now()).await.unwrap();
        }
    })
    .await
    .unwrap();
    assert_eq!(world.shared.docker.image_tags(), ["foreign"]);
}

#[tokio::test]
async fn while_room_is_scarce_unused_images_go_at_once() {
    const HOUR: Duration = Duration::from_secs(3600);
    let world = World::start(FakeDocker::with_image("web"), 1).await;
    world.shared.images.find(&world.shared.docker, "web", "web").await.unwrap();
    let (shared, questions) = (world.shared.clone(), world.questions.clone());
    let cleaning = tokio::spawn(images::clean(shared, questions, rules(), HOUR));
    sleep(Duration::from_millis(20)).await;
    assert_eq!(world.shared.docker.image_tags(), ["web"], "the next round is an hour away");
    world.shared.disk.ring();
    timeout(PATIENCE, async {
        while !world.shared.docker.image_tags().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    cleaning.abort();
}

#[tokio::test]
async fn an_image_whose_task_is_about_to_create_its_container_stays() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.shared.docker.add_image("init", 1);
    let waits = json!([
        { "name": "main", "image": "web", "essential": true, "dependsOn": [{ "containerName": "init", "condition": "SUCCESS" }] },
        { "name": "init", "image": "init", "essential": false },
    ]);
    // Both images were used once, so both could go.
    for name in ["web", "init"] {
        world.shared.images.find(&world.shared.docker, name, name).await.unwrap();
    }
    world.order(order("a", "RUNNING", waits)).await;
    assert!(matches!(world.answer().await, AgentMessage::Ack(_)));
    images::round(&world.shared, &world.questions, &rules(), now()).await.unwrap();
    assert_eq!(world.shared.docker.image_tags(), ["web", "init"]);
}

#[tokio::test]
async fn once_means_once_for_all_instances_and_again_after_the_clean_up() {
    let config = EngineConfig { image_pull_behavior: ImagePullBehavior::Once, ..config() };
    let mut world = World::with_config(FakeDocker::default(), config).await;
    let pulls = |world: &World| world.shared.docker.calls().iter().filter(|call| *call == "pull web").count();
    // Another instance of this process pulls it.
    world.shared.docker.pulls.0.add_permits(2);
    let limits = world.shared.pull_limits;
    world.shared.images.pull(&world.shared.docker, "web", None, None, limits).await.unwrap();
    world.order(run_task("a", "web")).await;
    world.change(&task("a"), "RUNNING").await;
    assert_eq!(pulls(&world), 1);
    // What was kept on disk says so after a restart, too.
    let ticket = world.shared.state.write(Vec::new());
    world.shared.state.durable(ticket).await;
    let restarted = Images::new(world.shared.state.clone(), &world.on_disk().images);
    assert!(restarted.find(&world.shared.docker, "web", "web").await.unwrap().pulled);

    world.shared.docker.end_all(0);
    world.change(&task("a"), "STOPPED").await;
    world.shared.docker.remove_image("web").await.unwrap();
    images::round(&world.shared, &world.questions, &rules(), now()).await.unwrap();
    world.order(run_task("b", "web")).await;
    world.change(&task("b"), "RUNNING").await;
    assert_eq!(pulls(&world), 2);
}

#[tokio::test]
async fn what_was_resolved_is_pulled_and_gets_the_name() {
    let world = World::start(FakeDocker::default(), 1).await;
    let docker = &world.shared.docker;
    docker.pulls.0.add_permits(2);
    let limits = world.shared.pull_limits;
    world.shared.images.pull(docker, "r:5000/web:1", Some("sha256:1"), None, limits).await.unwrap();
    let calls = docker.calls();
    let order = ["pull r:5000/web@sha256:1", "tag r:5000/web@sha256:1 r:5000/web:1", "inspect-image r:5000/web:1"];
    let positions = order.map(|wanted| calls.iter().position(|call| call == wanted));
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{calls:?}");
    // One that is named by its digest has no other name.
    world.shared.images.pull(docker, "web@sha256:2", Some("sha256:2"), None, limits).await.unwrap();
    assert!(!docker.calls().iter().any(|call| call.starts_with("tag web@sha256:2")));
}

#[tokio::test]
async fn foreign_containers_and_images_go_on_demand_only_and_never_what_runs_or_is_a_tasks() {
    let world = World::start(FakeDocker::with_image("web"), 1).await;
    let docker = &world.shared.docker;
    let ended = Phase::Exited { exit_code: 0 };
    let fresh = now().as_millis();
    docker.add_container("old-1", &[], ended, 1);
    docker.add_container("old-2", &[], ended, 1);
    docker.add_container("old-3", &[], ended, 1);
    docker.add_container("just-ended", &[], ended, fresh);
    docker.add_container("runs", &[], Phase::Running, 0);
    docker.add_container("another-agents", &labels(OTHER_INSTANCE, "arn:t"), ended, 1);
    docker.add_container("official-agents", &[(LABEL_TASK, "arn:t")], ended, 1);
    let names = || docker.containers().into_iter().map(|container| container.name).collect::<Vec<_>>();
    images::round(&world.shared, &world.questions, &rules(), now()).await.unwrap();
    assert_eq!((names().len(), docker.image_tags().len()), (7, 1));

    let on_demand = CleanupRules { untracked: true, ..rules() };
    images::round(&world.shared, &world.questions, &on_demand, now()).await.unwrap();
    assert_eq!(names(), ["another-agents", "just-ended", "official-agents", "old-3", "runs"]);
    images::round(&world.shared, &world.questions, &on_demand, now()).await.unwrap();
    assert_eq!(names(), ["another-agents", "just-ended", "official-agents", "runs"]);
    assert_eq!(docker.image_tags(), Vec::<String>::new());
}
