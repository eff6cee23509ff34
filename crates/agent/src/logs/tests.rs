//! The reader over a fake Docker and a fake control plane.

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::stream::tests::frame;
use super::*;
use crate::engine::docker::Phase;
use crate::engine::docker::fake::FakeDocker;
use crate::session::fake_server::FakeServer;
use crate::shell::tests::shared;
use crate::state::State;

const INSTANCE: &str = "arn:aws:ecs:us-east-1:1:container-instance/c/i";
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    server: FakeServer,
    shared: Arc<Shared<FakeDocker>>,
    requests: mpsc::Sender<ReadTaskLogsMessage>,
    reader: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl World {
    /// A container `main` of task `t` that is ours, and one of somebody else's.
    async fn start() -> Self {
        let docker = FakeDocker::default();
        for (name, instance) in [("ours", INSTANCE), ("theirs", "arn:aws:ecs:us-east-1:1:container-instance/c/other")] {
            let task = if name == "ours" { "t" } else { "u" };
            let labels = [(LABEL_INSTANCE, instance), (LABEL_TASK, task), (LABEL_CONTAINER, "main")];
            docker.add_container(name, &labels, Phase::Running, 0);
        }
        let server = FakeServer::start(|_| (200, json!({}))).await;
        let (state, _writer, _) = State::open(None).unwrap();
        let shared = Arc::new(shared(docker, state, &server));
        let (requests, asked) = mpsc::channel(QUEUE);
        let reader = tokio::spawn(serve(shared.clone(), INSTANCE.to_owned(), asked));
        Self { server, shared, requests, reader }
    }

    fn prints(&self, second: i64, text: &str) {
        self.shared.docker.prints("id-of-ours", frame(second, false, text.as_bytes()));
    }

    async fn ask(&self, task: &str, position: Option<&str>, wait: i64) {
        let request = ReadTaskLogsMessage {
            message_id: "m".into(),
            task_arn: task.into(),
            container_name: "main".into(),
            position: position.map(str::to_owned),
            wait,
            ..ReadTaskLogsMessage::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// What was submitted.
    async fn answer(&mut self) -> Value {
        let answer = timeout(PATIENCE, self.server.call("SubmitTaskLogs")).await.expect("an answer");
        assert_eq!(answer["requestId"], "m");
        answer
    }
}

fn words(answer: &Value) -> Vec<String> {
    let entries = answer["entries"].as_array().unwrap();
    let text = |entry: &Value| STANDARD.decode(entry["data"].as_str().unwrap()).unwrap();
    entries.iter().map(|entry| String::from_utf8(text(entry)).unwrap()).collect()
}

#[tokio::test]
async fn what_is_there_is_read_to_its_end() {
    let mut world = World::start().await;
    world.prints(1, "one\n");
    world.prints(2, "two\n");
    world.ask("t", None, 0).await;
    let answer = world.answer().await;
    assert_eq!((words(&answer), &answer["end"]), (vec!["one\n".to_owned(), "two\n".to_owned()], &json!(true)));
    assert_eq!(answer["entries"][0]["time"], "1970-01-01T00:00:01.000000005Z");
    world.prints(3, "three\n");
    let position = answer["position"].as_str().unwrap().to_owned();
    world.ask("t", Some(&position), 0).await;
    assert_eq!(words(&world.answer().await), ["three\n"]);
}

#[tokio::test]
async fn who_follows_gets_new_lines_from_the_same_stream() {
    let mut world = World::start().await;
    world.prints(1, "one\n");
    world.ask("t", None, 10_000).await;
    let mut answer = world.answer().await;
    assert_eq!((words(&answer), &answer["end"]), (vec!["one\n".to_owned()], &json!(false)));
    for second in 2..5 {
        let position = answer["position"].as_str().unwrap().to_owned();
        world.ask("t", Some(&position), 10_000).await;
        world.prints(second, "more\n");
        answer = world.answer().await;
        assert_eq!(words(&answer), ["more\n"]);
    }
    assert_eq!(world.shared.docker.streams_opened(), 1);
    // A position that nobody keeps a stream for is as good.
    world.ask("t", Some("1.000000005/1/1.000000005"), 10_000).await;
    assert_eq!(words(&world.answer().await), ["more\n", "more\n", "more\n"]);
    assert_eq!(world.shared.docker.streams_opened(), 2);
}

#[tokio::test]
async fn only_containers_of_this_instance_are_read() {
    let mut world = World::start().await;
    world.shared.docker.prints("id-of-theirs", frame(1, false, b"secret\n"));
    for task in ["u", "unknown"] {
        world.ask(task, None, 0).await;
        let answer = world.answer().await;
        assert_eq!((&answer["failure"]["reason"], &answer["position"]), (&json!("NO_CONTAINER"), &Value::Null));
    }
    world.shared.docker.set_down(true);
    world.ask("t", None, 0).await;
    assert_eq!(world.answer().await["failure"]["reason"], "ENGINE");
}

#[tokio::test]
async fn a_position_that_is_none_is_not_the_beginning() {
    let mut world = World::start().await;
    world.prints(1, "one\n");
    world.ask("t", Some("mangled"), 0).await;
    let answer = world.answer().await;
    assert_eq!((&answer["failure"]["reason"], &answer["entries"]), (&json!("ENGINE"), &json!([])));
    assert!(answer["failure"]["message"].as_str().unwrap().contains("position"), "{answer}");
    assert_eq!(world.shared.docker.streams_opened(), 0);
}

#[test]
fn a_driver_that_only_writes_is_told_from_an_engine_that_fails() {
    let refused = |message: &str| DockerError::Refused { status: 501, message: message.into() };
    let reason = |error| failure(error).reason;
    assert_eq!(reason(refused("configured logging driver does not support reading")), LogFailureReason::Unreadable);
    assert_eq!(reason(refused("disk on fire")), LogFailureReason::Engine);
    assert_eq!(reason(DockerError::NotFound("x".into())), LogFailureReason::NoContainer);
}
