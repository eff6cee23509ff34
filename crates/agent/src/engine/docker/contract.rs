//! The driver against a real Engine: each call and each field the agent relies on.
//!
//! Needs Docker; without it these tests say so and pass. Containers are called `lsagent-test-…` and are removed.

use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::http::HttpDocker;
use super::*;

pub(crate) const SOCKET: &str = "/var/run/docker.sock";
pub(crate) const IMAGE: &str = "lsagent-test:1";
const LIMIT: Duration = Duration::from_secs(60);

const PROGRAM: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void leave(int signal) { (void)signal; _exit(7); }
int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "wait";
    if (!strcmp(mode, "exit")) return argc > 2 ? atoi(argv[2]) : 0;
    if (!strcmp(mode, "hog")) for (;;) memset(malloc(1 << 20), 1, 1 << 20);
    signal(SIGTERM, strcmp(mode, "stubborn") ? leave : SIG_IGN);
    for (;;) pause();
}
"#;

/// Builds the image once: one static program in nothing.
static READY: LazyLock<bool> = LazyLock::new(|| {
    if !std::path::Path::new(SOCKET).exists() {
        eprintln!("no Docker at {SOCKET}: the driver's contract is not tested here");
        return false;
    }
    let there = Command::new("docker")
        .args(["image", "inspect", IMAGE])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    if there.success() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("program.c"), PROGRAM).unwrap();
    let script = format!(
        "cd {} && gcc -static -O1 -o program program.c && tar -c program | docker import -c 'ENTRYPOINT [\"/program\"]' - {IMAGE}",
        dir.path().display()
    );
    let built = Command::new("sh").args(["-ec", &script]).status().unwrap();
    assert!(built.success());
    true
});

/// A container's name; the container is removed with it.
struct Name(String);

impl Name {
    fn new(what: &str) -> Self {
        Self(format!("lsagent-test-{what}-{}", std::process::id()))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.0]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

pub(crate) fn engine() -> Option<HttpDocker> {
    READY.then(|| HttpDocker::new(&format!("unix://{SOCKET}")))
}

fn body(name: &Name, command: &[&str], host: Value) -> Value {
    json!({
        "Image": IMAGE,
        "Cmd": command,
        "ExposedPorts": { "80/tcp": {} },
        "Labels": {
            LABEL_INSTANCE: format!("arn:instance/{}", name.0),
            LABEL_TASK: format!("arn:task/{}", name.0),
            LABEL_CONTAINER: "main",
        },
        "HostConfig": host,
    })
}

async fn create(docker: &HttpDocker, name: &Name, command: &[&str], host: Value) -> String {
    docker.create(&name.0, &body(name, command, host), LIMIT).await.unwrap()
}

#[tokio::test]
async fn the_version_is_negotiated() {
    let Some(docker) = engine() else { return };
    let version = docker.version().await.unwrap();
    assert!(!version.version.is_empty());
    assert!(version.api <= version.max_api);
    assert!(version.api >= ApiVersion::new(1, 24));
}

#[tokio::test]
async fn one_daemon_lives_one_life() {
    let Some(docker) = engine() else { return };
    let life = docker.life().await.unwrap();
    assert!(life.is_some());
    assert_eq!(docker.life().await.unwrap(), life);
}

#[tokio::test]
async fn images_are_found_by_name() {
    let Some(docker) = engine() else { return };
    let image = docker.inspect_image(IMAGE).await.unwrap();
    assert!(image.id.starts_with("sha256:"));
    assert_eq!(image.digest, None);
    let error = docker.inspect_image("lsagent-test:missing").await.unwrap_err();
    assert!(matches!(error, DockerError::NotFound(_)), "{error:?}");
}

#[tokio::test]
async fn an_image_loses_one_name_at_a_time_and_stays_while_a_container_needs_it() {
    let Some(docker) = engine() else { return };
    let tag = format!("lsagent-test-rm-{}:1", std::process::id());
    // Another image than the others' tests use, and never one of a registry.
    let make = format!("tar -cT /dev/null | docker import -c 'CMD [\"x\"]' -m {tag} - {tag} >/dev/null");
    assert!(Command::new("sh").args(["-ec", &make]).status().unwrap().success());
    docker.tag(&tag, &format!("{tag}b")).await.unwrap();
    let of_tag = |images: Vec<ListedImage>| images.into_iter().find(|image| image.tags.contains(&tag));
    let image = of_tag(docker.images().await.unwrap()).unwrap();
    assert_eq!((image.tags.len(), image.digests.len()), (2, 0));
    assert!(image.created_at_ms > 1_500_000_000_000);
    docker.remove_image(&format!("{tag}b")).await.unwrap();

    let name = Name::new("rmi");
    let body = json!({ "Image": tag });
    docker.create(&name.0, &body, LIMIT).await.unwrap();
    let error = docker.remove_image(&tag).await.unwrap_err();
    assert!(matches!(error, DockerError::Conflict(_)), "{error:?}");
    docker.remove(&name.0).await.unwrap();
    docker.remove_image(&tag).await.unwrap();
    assert_eq!(of_tag(docker.images().await.unwrap()), None);
    let error = docker.remove_image(&tag).await.unwrap_err();
    assert!(matches!(error, DockerError::NotFound(_)), "{error:?}");
}

#[tokio::test]
async fn a_pull_without_a_registry_fails_with_a_reason() {
    let Some(docker) = engine() else { return };
    let limits = PullLimits { total: LIMIT, inactivity: Duration::from_secs(5) };
    // Nothing listens there. The Engine resolves registry names one at a time: where names cannot be resolved, one pull of a
    // foreign image holds up all others, and this one is then given up.
    let error = docker.pull("127.0.0.1:9/lsagent-test:1", None, limits).await.unwrap_err();
    let slow = matches!(error, DockerError::Timeout { call: PULL_PROGRESS, .. });
    assert!(slow || error.to_string().contains("127.0.0.1:9"), "{error:?}");
    let error = docker.digest("127.0.0.1:9/lsagent-test:1", None, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:9"), "{error:?}");
    let impatient = PullLimits { total: Duration::ZERO, inactivity: LIMIT };
    let error = docker.pull("lsagent-test:x", None, impatient).await.unwrap_err();
    assert!(matches!(error, DockerError::Timeout { call: PULL, .. }));
}

#[tokio::test]
async fn a_container_lives_and_ends() {
    let Some(docker) = engine() else { return };
    let name = Name::new("life");
    let ports = json!({ "PortBindings": { "80/tcp": [{ "HostPort": "0" }] }, "Memory": 16 << 20 });
    let id = create(&docker, &name, &[], ports).await;

    let created = docker.inspect(&name.0).await.unwrap();
    assert_eq!((&created.id, &created.name), (&id, &name.0));
    assert_eq!(created.phase, Phase::Created);
    assert_eq!((created.started_at_ms, created.finished_at_ms), (None, None));
    assert!(created.image_id.starts_with("sha256:"));
    assert_eq!(created.labels[LABEL_CONTAINER], "main");
    assert_eq!(created.health, None);

    docker.start(&id, LIMIT).await.unwrap();
    docker.start(&id, LIMIT).await.unwrap();
    let running = docker.inspect(&id).await.unwrap();
    assert_eq!(running.phase, Phase::Running);
    assert!(running.started_at_ms.is_some() && running.finished_at_ms.is_none());
    let port = &running.ports[0];
    assert_eq!((port.container_port, port.protocol.as_str()), (80, "tcp"));
    assert!(port.host_port > 0 && !port.host_ip.is_empty());

    let label = format!("{LABEL_INSTANCE}=arn:instance/{}", name.0);
    let listed = docker.list(&[&label]).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, listed[0].running), (&id, true));
    assert_eq!(listed[0].image_id, created.image_id);
    assert!(listed[0].created_at_ms > 1_500_000_000_000);
    let task_label = format!("{LABEL_TASK}=arn:task/{}", name.0);
    assert_eq!(docker.list(&[&label, &task_label]).await.unwrap().len(), 1);
    assert_eq!(docker.list(&[&label, "com.amazonaws.ecs.task-arn=another"]).await.unwrap(), []);
    assert_eq!(listed[0].labels[LABEL_TASK], format!("arn:task/{}", name.0));

    docker.stop(&id, Duration::from_secs(30)).await.unwrap();
    docker.stop(&id, Duration::from_secs(30)).await.unwrap();
    let stopped = docker.inspect(&id).await.unwrap();
    assert_eq!(stopped.phase, Phase::Exited { exit_code: 7 });
    assert!(stopped.finished_at_ms >= running.started_at_ms && !stopped.oom_killed);
    assert!(!docker.list(&[&label]).await.unwrap()[0].running);

    docker.remove(&id).await.unwrap();
    for result in [
        docker.remove(&id).await,
        docker.start(&id, LIMIT).await,
        docker.stop(&id, Duration::ZERO).await,
        docker.inspect(&id).await.map(drop),
    ] {
        assert!(matches!(result, Err(DockerError::NotFound(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_name_is_given_once() {
    let Some(docker) = engine() else { return };
    let name = Name::new("twice");
    create(&docker, &name, &[], json!({})).await;
    let error = docker.create(&name.0, &body(&name, &[], json!({})), LIMIT).await.unwrap_err();
    assert!(matches!(error, DockerError::Conflict(_)), "{error:?}");
}

#[tokio::test]
async fn creating_without_the_image_says_so() {
    let Some(docker) = engine() else { return };
    let name = Name::new("noimage");
    let mut body = body(&name, &[], json!({}));
    body["Image"] = json!("lsagent-test:missing");
    let error = docker.create(&name.0, &body, LIMIT).await.unwrap_err();
    assert!(matches!(&error, DockerError::NotFound(message) if message.contains("lsagent-test:missing")));
}

#[tokio::test]
async fn a_command_that_does_not_exist_fails_the_start() {
    let Some(docker) = engine() else { return };
    let name = Name::new("nocommand");
    let mut body = body(&name, &[], json!({}));
    body["Entrypoint"] = json!(["/nonexistent"]);
    let id = docker.create(&name.0, &body, LIMIT).await.unwrap();
    let error = docker.start(&id, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent"), "{error:?}");
    let container = docker.inspect(&id).await.unwrap();
    assert!(container.error.contains("/nonexistent"), "{container:?}");
    assert_eq!(container.started_at_ms, None);
}

#[tokio::test]
async fn a_host_port_is_given_once() {
    let Some(docker) = engine() else { return };
    let (first, second) = (Name::new("port1"), Name::new("port2"));
    let id = create(&docker, &first, &[], json!({ "PortBindings": { "80/tcp": [{ "HostPort": "0" }] } })).await;
    docker.start(&id, LIMIT).await.unwrap();
    let port = docker.inspect(&id).await.unwrap().ports[0].host_port;
    let host = json!({ "PortBindings": { "80/tcp": [{ "HostPort": port.to_string() }] } });
    let id = create(&docker, &second, &[], host).await;
    let error = docker.start(&id, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("already allocated"), "{error:?}");
}

#[tokio::test]
async fn what_ignores_the_stop_signal_is_killed() {
    let Some(docker) = engine() else { return };
    let name = Name::new("stubborn");
    let id = create(&docker, &name, &["stubborn"], json!({})).await;
    docker.start(&id, LIMIT).await.unwrap();
    docker.stop(&id, Duration::from_secs(1)).await.unwrap();
    let stopped = docker.inspect(&id).await.unwrap();
    assert_eq!(stopped.phase, Phase::Exited { exit_code: 137 });
}

#[tokio::test]
async fn events_tell_of_ends_and_health() {
    let Some(docker) = engine() else { return };
    let name = Name::new("events");
    let mut events = docker.events().await.unwrap();
    let mut body = body(&name, &[], json!({}));
    body["Healthcheck"] = json!({ "Test": ["CMD", "/program", "exit", "1"], "Interval": 50_000_000, "Retries": 1 });
    let id = docker.create(&name.0, &body, LIMIT).await.unwrap();
    docker.start(&id, LIMIT).await.unwrap();

    let mut next = async || loop {
        let event = timeout(LIMIT, events.recv()).await.unwrap().unwrap();
        // Other tests' containers speak here too.
        if event.id == id {
            return event;
        }
    };
    let event = next().await;
    assert_eq!(event.kind, EventKind::Health("unhealthy".into()));
    assert_eq!(event.instance_arn, format!("arn:instance/{}", name.0));
    assert_eq!(event.task_arn, format!("arn:task/{}", name.0));
    assert_eq!(event.container_name, "main");
    let health = docker.inspect(&id).await.unwrap().health.unwrap();
    assert_eq!((health.status.as_str(), health.output.as_deref()), ("unhealthy", Some("")));

    docker.stop(&id, LIMIT).await.unwrap();
    loop {
        // Health may change its mind once more before the end.
        if next().await.kind == (EventKind::Died { exit_code: 7 }) {
            return;
        }
    }
}

#[tokio::test]
async fn the_kernels_kill_for_memory_is_told_from_others() {
    let Some(docker) = engine() else { return };
    // The kernel's word about memory reaches the Engine by another way than the end does: sometimes after it, and on
    // a busy machine not at all, because the cgroup is gone before anybody has read it.
    for attempt in 0..5 {
        let name = Name::new(&format!("oom{attempt}"));
        let mut events = docker.events().await.unwrap();
        let id = create(&docker, &name, &["hog"], json!({ "Memory": 8 << 20, "MemorySwap": 8 << 20 })).await;
        docker.start(&id, LIMIT).await.unwrap();
        while timeout(LIMIT, events.recv()).await.unwrap().unwrap().id != id {}
        let told = async {
            loop {
                let ended = docker.inspect(&id).await.unwrap();
                assert_eq!(ended.phase, Phase::Exited { exit_code: 137 });
                if ended.oom_killed {
                    return;
                }
            }
        };
        if timeout(Duration::from_secs(5), told).await.is_ok() {
            return;
        }
    }
    panic!("the Engine told of none of five kills for memory");
}

#[tokio::test]
async fn the_pause_image_is_imported_and_runs_as_the_first_process() {
    let Some(docker) = engine() else { return };
    docker.import(crate::pause::archive(), crate::pause::image(), crate::pause::IMPORT_CHANGE).await.unwrap();
    docker.inspect_image(crate::pause::image()).await.unwrap();
    let name = Name::new("pause");
    let mut body = body(&name, &[], json!({ "NetworkMode": "none" }));
    body["Image"] = json!(crate::pause::image());
    body["Cmd"] = Value::Null;
    let id = docker.create(&name.0, &body, LIMIT).await.unwrap();
    docker.start(&id, LIMIT).await.unwrap();
    assert_eq!(docker.inspect(&id).await.unwrap().phase, Phase::Running);
    docker.stop(&id, Duration::from_secs(30)).await.unwrap();
    assert_eq!(docker.inspect(&id).await.unwrap().phase, Phase::Exited { exit_code: 0 });
    docker.remove(&id).await.unwrap();
}

#[tokio::test]
async fn volumes_come_and_go() {
    let Some(docker) = engine() else { return };
    let name = format!("lsagent-test-volume-{}", std::process::id());
    assert!(matches!(docker.inspect_volume(&name).await, Err(DockerError::NotFound(_))));
    assert!(matches!(docker.remove_volume(&name).await, Err(DockerError::NotFound(_))));
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let request = VolumeRequest {
        name: name.clone(),
        driver: "local".into(),
        options: map(&[("type", "tmpfs"), ("device", "tmpfs")]),
        labels: map(&[("team", "a")]),
    };
    docker.create_volume(&request).await.unwrap();
    docker.create_volume(&request).await.unwrap();
    let volume = docker.inspect_volume(&name).await.unwrap();
    assert_eq!(
        (volume.driver, volume.options, volume.labels),
        (request.driver.clone(), request.options, request.labels)
    );

    let user = Name::new("volume-user");
    let id = create(&docker, &user, &[], json!({ "Binds": [format!("{name}:/data")] })).await;
    assert!(matches!(docker.remove_volume(&name).await, Err(DockerError::Conflict(_))));
    docker.remove(&id).await.unwrap();
    docker.remove_volume(&name).await.unwrap();
    let unknown = VolumeRequest { name, driver: "lsagent-no-such-driver".into(), ..VolumeRequest::default() };
    assert!(docker.create_volume(&unknown).await.is_err());
}

#[tokio::test]
async fn the_engine_says_how_it_keeps_cgroups_and_volumes() {
    let Some(docker) = engine() else { return };
    assert!(docker.volume_drivers().await.unwrap().contains(&"local".to_owned()));
    let setup = docker.cgroups().await.unwrap();
    assert!(["cgroupfs", "systemd", "none"].contains(&setup.driver.as_str()), "{setup:?}");
    assert!(["1", "2"].contains(&setup.version.as_str()), "{setup:?}");
}
