//! The whole agent: a control plane that is fake, a Docker Engine that is real.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use longshore_agent_protocol::acs::AgentMessage;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::engine::docker::LABEL_INSTANCE;
use crate::engine::docker::contract::{self, IMAGE, SOCKET};
use crate::session::fake_server::{Call, FakeServer, Session, endpoints};

const PATIENCE: Duration = Duration::from_secs(60);

/// A control plane for one test, whose containers are removed with it.
struct Plane {
    server: FakeServer,
    instance_prefix: String,
    dir: tempfile::TempDir,
}

impl Drop for Plane {
    fn drop(&mut self) {
        let script = format!(
            "docker ps -aq --filter label={LABEL_INSTANCE} | xargs -r docker inspect -f '{{{{.Id}}}} {{{{index .Config.Labels \"{LABEL_INSTANCE}\"}}}}' | grep -F '{}' | cut -d' ' -f1 | xargs -r docker rm -f >/dev/null",
            self.instance_prefix
        );
        let _ = Command::new("sh").args(["-c", &script]).status();
    }
}

impl Plane {
    async fn start(name: &str) -> Self {
        Self::answering(name, answer).await
    }

    async fn answering(name: &str, answer: impl Fn(&Call, &str, &str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let instance_prefix = format!("arn:lsagent-test:{name}:{}/", std::process::id());
        let base = Arc::new(std::sync::Mutex::new(String::new()));
        let (known, prefix) = (base.clone(), instance_prefix.clone());
        let server = FakeServer::start(move |call| answer(call, &prefix, &known.lock().unwrap())).await;
        *base.lock().unwrap() = server.base.clone();
        Self { server, instance_prefix, dir: tempfile::tempdir().unwrap() }
    }

    fn config(&self, more: &[(&str, &str)]) -> AgentConfig {
        let credentials = crate::session::fake_server::credentials();
        let dir = self.dir.path().display().to_string();
        let docker = format!("unix://{SOCKET}");
        let base = [
            ("ECS_BACKEND_HOST", self.server.base.as_str()),
            ("AWS_ACCESS_KEY_ID", &credentials.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key),
            ("ECS_DATADIR", &dir),
            ("DOCKER_HOST", &docker),
            ("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached"),
        ];
        let env = base.iter().chain(more);
        let env = env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AgentConfig::load(Some(Path::new("/dev/null")), env).unwrap()
    }

    fn agent(&self, more: &[(&str, &str)]) -> Running {
        let stop = CancellationToken::new();
        let outcome = tokio::spawn(run(self.config(more), stop.clone()));
        Running { stop, outcome }
    }

    fn task_arn(&self) -> String {
        format!("{}task", self.instance_prefix)
    }

    async fn session(&mut self) -> Session {
        timeout(PATIENCE, self.server.session("/acs/")).await.unwrap()
    }

    /// The next state change that says `status`.
    async fn state_change(&mut self, status: &str) -> Value {
        loop {
            let call = self.server.call("SubmitTaskStateChange");
            let change = timeout(PATIENCE, call).await.unwrap();
            if change["status"] == status {
                return change;
            }
        }
    }
}

struct Running {
    stop: CancellationToken,
    outcome: JoinHandle<Result<Exit, AgentError>>,
}

impl Running {
    async fn leave(self) -> Result<Exit, AgentError> {
        self.stop.cancel();
        self.outcome.await.unwrap()
    }
}

fn answer(call: &Call, prefix: &str, base: &str) -> (u16, Value) {
    match call.operation.as_str() {
        "DiscoverPollEndpoint" => (200, endpoints(base)),
        "RegisterContainerInstance" => {
            let attributes = call.body["attributes"].as_array().unwrap();
            let index = attributes.iter().find(|attribute| attribute["name"] == "longshore.instance-index").unwrap();
            let arn = format!("{prefix}{}", index["value"].as_str().unwrap());
            (200, json!({ "containerInstance": { "containerInstanceArn": arn, "attributes": attributes } }))
        }
        _ => (200, json!({ "acknowledgment": "ok" })),
    }
}

/// A payload with one task of one container.
fn payload(plane: &Plane, message_id: &str, seq_num: i64, desired: &str, command: &[&str]) -> String {
    let task = json!({
        "arn": plane.task_arn(),
        "family": "lsagent-test",
        "version": "1",
        "desiredStatus": desired,
        "networkMode": "bridge",
        "containers": [{
            "name": "main",
            "image": IMAGE,
            "essential": true,
            "cpu": 10,
            "memory": 16,
            "command": command,
            "portMappings": [{ "containerPort": 80, "hostPort": 0, "protocol": "tcp" }],
            "dockerConfig": { "version": "1.17", "config": "{}", "hostConfig": "{\"NetworkMode\":\"bridge\"}" },
        }],
    });
    json!({
        "type": "PayloadMessage",
        "message": {
            "clusterArn": "arn:cluster",
            "containerInstanceArn": format!("{}0", plane.instance_prefix),
            "messageId": message_id,
            "generatedAt": 1,
            "seqNum": seq_num,
            "tasks": [task],
        },
    })
    .to_string()
}

async fn acked(session: &mut Session, message_id: &str) {
    let answer = timeout(PATIENCE, session.receive()).await.unwrap();
    let AgentMessage::Ack(ack) = answer else {
        panic!("not acknowledged: {answer:?}");
    };
    assert_eq!(ack.message_id, message_id);
}

fn containers_of(plane: &Plane) -> usize {
    let output = Command::new("docker")
        .args(["ps", "-aq", "--filter"])
        .arg(format!("label=com.amazonaws.ecs.task-arn={}", plane.task_arn()))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_runs_is_stopped_and_is_reported() {
    if contract::engine().is_none() {
        return;
    }
    let mut plane = Plane::start("life").await;
    let agent = plane.agent(&[]);
    let mut session = plane.session().await;
    session.send_text(&payload(&plane, "p1", 1, "RUNNING", &[])).await;
    acked(&mut session, "p1").await;
    let running = plane.state_change("RUNNING").await;
    let container = &running["containers"][0];
    assert_eq!(running["task"], plane.task_arn().as_str());
    assert_eq!(running["cluster"], "default");
    assert_eq!(container["containerName"], "main");
    assert_eq!(container["runtimeId"].as_str().unwrap().len(), 64);
    assert_eq!(container["networkBindings"][0]["containerPort"], 80);

    session.send_text(&payload(&plane, "p2", 2, "STOPPED", &[])).await;
    acked(&mut session, "p2").await;
    let stopped = plane.state_change("STOPPED").await;
    assert_eq!(stopped["containers"][0]["exitCode"], 7);
    assert_eq!(agent.leave().await.unwrap(), Exit::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ends_by_itself_is_reported_with_its_code() {
    if contract::engine().is_none() {
        return;
    }
    let mut plane = Plane::start("ends").await;
    let _agent = plane.agent(&[("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "1s")]);
    let mut session = plane.session().await;
    session.send_text(&payload(&plane, "p1", 1, "RUNNING", &["exit", "3"])).await;
    let stopped = plane.state_change("STOPPED").await;
    assert_eq!(stopped["containers"][0]["exitCode"], 3);
    // Cleaning up is the end of it.
    timeout(PATIENCE, async {
        while containers_of(&plane) > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_survive_the_agent_and_are_taken_over() {
    if contract::engine().is_none() {
        return;
    }
    let mut plane = Plane::start("survive").await;
    let agent = plane.agent(&[]);
    let mut session = plane.session().await;
    session.send_text(&payload(&plane, "p1", 1, "RUNNING", &[])).await;
    let first = plane.state_change("RUNNING").await;
    drop(session);
    agent.leave().await.unwrap();
    assert_eq!(containers_of(&plane), 1);

    let agent = plane.agent(&[]);
    let again = plane.server.call("RegisterContainerInstance").await;
    assert_eq!(again["containerInstanceArn"], format!("{}0", plane.instance_prefix));
    let mut session = plane.session().await;
    // The control plane is not sure: the same order again must not start a second container.
    session.send_text(&payload(&plane, "p1", 1, "RUNNING", &[])).await;
    acked(&mut session, "p1").await;
    assert_eq!(containers_of(&plane), 1);
    session.send_text(&payload(&plane, "p2", 2, "STOPPED", &[])).await;
    let stopped = plane.state_change("STOPPED").await;
    let runtime_id = &first["containers"][0]["runtimeId"];
    assert_eq!(&stopped["containers"][0]["runtimeId"], runtime_id);
    agent.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_the_agent_was_away_is_reported() {
    if contract::engine().is_none() {
        return;
    }
    let mut plane = Plane::start("away").await;
    let agent = plane.agent(&[]);
    let mut session = plane.session().await;
    session.send_text(&payload(&plane, "p1", 1, "RUNNING", &[])).await;
    let running = plane.state_change("RUNNING").await;
    drop(session);
    agent.leave().await.unwrap();
    let id = running["containers"][0]["runtimeId"].as_str().unwrap();
    let stopped = Command::new("docker").args(["stop", id]).output().unwrap();
    assert!(stopped.status.success());

    let agent = plane.agent(&[]);
    let stopped = plane.state_change("STOPPED").await;
    assert_eq!(stopped["containers"][0]["exitCode"], 7);
    agent.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_server_is_away_at_boot_looks_after_its_tasks_and_goes_on_trying() {
    if contract::engine().is_none() {
        return;
    }
    let away = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_away = away.clone();
    let mut plane = Plane::answering("boot", move |call, prefix, base| {
        let registers = call.operation == "RegisterContainerInstance";
        if registers && is_away.load(std::sync::atomic::Ordering::Relaxed) {
            return (503, json!({ "__type": "ServerException", "message": "no leader" }));
        }
        answer(call, prefix, base)
    })
    .await;
    let agent = plane.agent(&[]);
    let mut session = plane.session().await;
    session.send_text(&payload(&plane, "p1", 1, "RUNNING", &[])).await;
    let running = plane.state_change("RUNNING").await;
    drop(session);
    agent.leave().await.unwrap();

    away.store(true, std::sync::atomic::Ordering::Relaxed);
    let agent = plane.agent(&[]);
    plane.server.call("RegisterContainerInstance").await;
    let id = running["containers"][0]["runtimeId"].as_str().unwrap();
    assert!(Command::new("docker").args(["stop", id]).output().unwrap().status.success());
    let stopped = plane.state_change("STOPPED").await;
    assert_eq!(stopped["containers"][0]["exitCode"], 7);

    away.store(false, std::sync::atomic::Ordering::Relaxed);
    plane.session().await;
    agent.leave().await.unwrap();
    let facts = AgentFacts::read(plane.dir.path()).unwrap().unwrap();
    assert_eq!(facts.container_instance_arns, [format!("{}0", plane.instance_prefix)]);
    assert_eq!((facts.server, facts.pid), (plane.server.base.clone(), std::process::id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_instances_share_one_engine() {
    if contract::engine().is_none() {
        return;
    }
    let mut plane = Plane::start("several").await;
    let agent = plane.agent(&[("LONGSHORE_INSTANCES", "2")]);
    let (first, second) = (plane.session().await, plane.session().await);
    let mut sessions = [first, second];
    sessions.sort_by_key(|session| session.target.clone());
    assert!(sessions[0].target.contains("%2F0&") && sessions[1].target.contains("%2F1&"));
    sessions[1].send_text(&payload(&plane, "p1", 1, "RUNNING", &[]).replace("/0", "/1")).await;
    plane.state_change("RUNNING").await;
    agent.leave().await.unwrap();
}

#[tokio::test]
async fn a_first_registration_whose_answer_was_lost_is_repeated_and_not_made_twice() {
    if contract::engine().is_none() {
        return;
    }
    let lost = std::sync::atomic::AtomicBool::new(false);
    let mut plane = Plane::answering("token", move |call, prefix, base| {
        let registers = call.operation == "RegisterContainerInstance";
        if registers && !lost.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return (200, json!({}));
        }
        answer(call, prefix, base)
    })
    .await;
    plane.agent(&[]).outcome.await.unwrap().unwrap_err();
    let first = plane.server.call("RegisterContainerInstance").await;
    let agent = plane.agent(&[]);
    plane.session().await;
    let second = plane.server.call("RegisterContainerInstance").await;
    assert_eq!(first["clientToken"], second["clientToken"]);
    agent.leave().await.unwrap();
    // Who knows its name updates itself, each time anew.
    let agent = plane.agent(&[]);
    plane.session().await;
    let third = plane.server.call("RegisterContainerInstance").await;
    assert_ne!(second["clientToken"], third["clientToken"]);
    agent.leave().await.unwrap();
}

#[tokio::test]
async fn another_cluster_is_not_joined_with_old_state() {
    if contract::engine().is_none() {
        return;
    }
    let mut plane = Plane::start("cluster").await;
    let agent = plane.agent(&[]);
    plane.session().await;
    agent.leave().await.unwrap();
    let error = plane.agent(&[("ECS_CLUSTER", "other")]).outcome.await.unwrap().unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("\"other\""), "{error}");
}
