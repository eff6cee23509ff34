//! The few answers of the Engine API that we read, and how they become our types.
//!
//! Only fields we use are named: what an Engine adds or drops elsewhere does not concern us.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{
    Container, ContainerEvent, EventKind, Health, Image, LABEL_CONTAINER, LABEL_INSTANCE, LABEL_TASK, Phase,
    PublishedPort,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    pub(super) version: String,
    pub(super) api_version: String,
    #[serde(rename = "MinAPIVersion")]
    pub(super) min_api_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    pub(super) docker_root_dir: PathBuf,
}

#[derive(Deserialize)]
pub(super) struct ErrorBody {
    pub(super) message: String,
}

#[derive(Deserialize)]
pub(super) struct Created {
    #[serde(rename = "Id")]
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    id: String,
    labels: Option<BTreeMap<String, String>>,
    state: String,
    #[serde(default, rename = "ImageID")]
    image_id: String,
    #[serde(default)]
    created: i64,
}

impl From<Listed> for super::Listed {
    fn from(listed: Listed) -> Self {
        Self {
            running: is_running(&listed.state),
            id: listed.id,
            labels: listed.labels.unwrap_or_default(),
            image_id: listed.image_id,
            created_at_ms: listed.created.saturating_mul(1000),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedImage {
    id: String,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    size: u64,
}

impl From<ListedImage> for super::ListedImage {
    fn from(listed: ListedImage) -> Self {
        // Older Engines write `<none>` where there is nothing.
        let real = |names: Option<Vec<String>>| {
            names.unwrap_or_default().into_iter().filter(|name| !name.contains("<none>")).collect()
        };
        Self {
            id: listed.id,
            tags: real(listed.repo_tags),
            digests: real(listed.repo_digests),
            created_at_ms: listed.created.saturating_mul(1000),
            size: listed.size,
        }
    }
}

/// The Engine's words for a container that has a process.
fn is_running(status: &str) -> bool {
    matches!(status, "running" | "paused" | "restarting")
}

/// A network; only when it was made matters.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Network {
    pub(super) created: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeInspect {
    driver: String,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

impl From<VolumeInspect> for super::Volume {
    fn from(inspect: VolumeInspect) -> Self {
        Self {
            driver: inspect.driver,
            options: inspect.options.unwrap_or_default(),
            labels: inspect.labels.unwrap_or_default(),
        }
    }
}

/// What the Engine says of itself, as far as cgroups go. Engines that know only the first version do not name it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CgroupInfo {
    #[serde(default)]
    cgroup_driver: String,
    #[serde(default)]
    cgroup_version: String,
}

/// What the Engine says of its plugins.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PluginInfo {
    pub(super) plugins: Plugins,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Plugins {
    pub(super) volume: Option<Vec<String>>,
}

impl From<CgroupInfo> for super::CgroupSetup {
    fn from(info: CgroupInfo) -> Self {
        let version = if info.cgroup_version.is_empty() { "1".to_owned() } else { info.cgroup_version };
        Self { driver: info.cgroup_driver, version }
    }
}

/// What a registry says of an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Distribution {
    pub(super) descriptor: Descriptor,
}

/// What an image is in its registry; only its name matters.
#[derive(Deserialize)]
pub(super) struct Descriptor {
    pub(super) digest: String,
}

/// One line of a pull's progress; only the error matters.
#[derive(Deserialize)]
pub(super) struct PullProgress {
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageInspect {
    id: String,
    repo_digests: Option<Vec<String>>,
}

impl From<ImageInspect> for Image {
    fn from(inspect: ImageInspect) -> Self {
        let digest = inspect
            .repo_digests
            .unwrap_or_default()
            .iter()
            .find_map(|digest| digest.split_once('@').map(|(_, digest)| digest.to_owned()));
        Self { id: inspect.id, digest }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerInspect {
    id: String,
    name: String,
    image: String,
    state: State,
    config: Config,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    exit_code: i32,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    finished_at: String,
    health: Option<HealthState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthState {
    status: String,
    log: Option<Vec<HealthLog>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthLog {
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    tty: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_ip: String,
    host_port: String,
}

impl From<ContainerInspect> for Container {
    fn from(inspect: ContainerInspect) -> Self {
        let state = inspect.state;
        let started_at_ms = instant_ms(&state.started_at);
        let phase = match state.status.as_str() {
            "created" => Phase::Created,
            status if is_running(status) => Phase::Running,
            // exited, dead, removing
            _ => Phase::Exited { exit_code: state.exit_code },
        };
        Self {
            tty: inspect.config.tty,
            id: inspect.id,
            name: inspect.name.trim_start_matches('/').to_owned(),
            labels: inspect.config.labels.unwrap_or_default(),
            image_id: inspect.image,
            phase,
            pid: state.pid,
            error: state.error,
            oom_killed: state.oom_killed,
            started_at_ms,
            finished_at_ms: instant_ms(&state.finished_at),
            ports: published(inspect.network_settings),
            health: state.health.filter(|health| health.status != "none").map(|health| Health {
                output: health.log.and_then(|mut log| log.pop()).map(|last| last.output),
                status: health.status,
            }),
        }
    }
}

fn published(settings: NetworkSettings) -> Vec<PublishedPort> {
    let mut published = Vec::new();
    for (port, bindings) in settings.ports.unwrap_or_default() {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let Ok(container_port) = number.parse() else {
            continue;
        };
        for binding in bindings.unwrap_or_default() {
            if let Ok(host_port) = binding.host_port.parse() {
                published.push(PublishedPort {
                    container_port,
                    protocol: protocol.to_owned(),
                    host_ip: binding.host_ip,
                    host_port,
                });
            }
        }
    }
    published
}

/// The Engine writes the year 1 for "never".
fn instant_ms(text: &str) -> Option<i64> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    let ms = instant.as_millisecond();
    (ms > 0).then_some(ms)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    action: String,
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default, rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

impl Event {
    /// The event in our words; `None` for what does not concern us.
    pub(super) fn into_ours(self) -> Option<ContainerEvent> {
        let mut attributes = self.actor.attributes;
        let kind = match self.action.as_str() {
            "die" => EventKind::Died { exit_code: attributes.get("exitCode")?.parse().ok()? },
            action => EventKind::Health(action.strip_prefix("health_status: ")?.to_owned()),
        };
        Some(ContainerEvent {
            id: self.actor.id,
            instance_arn: attributes.remove(LABEL_INSTANCE)?,
            task_arn: attributes.remove(LABEL_TASK)?,
            container_name: attributes.remove(LABEL_CONTAINER)?,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_was_never_in_a_registry_has_no_digest() {
        for digests in ["null", "[]"] {
            let inspect: ImageInspect =
                serde_json::from_str(&format!(r#"{{"Id":"sha256:1","RepoDigests":{digests}}}"#)).unwrap();
            assert_eq!(Image::from(inspect).digest, None);
        }
        let inspect: ImageInspect =
            serde_json::from_str(r#"{"Id":"sha256:1","RepoDigests":["web@sha256:2"]}"#).unwrap();
        assert_eq!(Image::from(inspect).digest.as_deref(), Some("sha256:2"));
    }

    #[test]
    fn what_is_none_is_no_name() {
        let listed: ListedImage = serde_json::from_str(
            r#"{"Id":"sha256:1","RepoTags":["<none>:<none>"],"RepoDigests":["<none>@<none>"],"Created":2,"Size":3}"#,
        )
        .unwrap();
        let listed = super::super::ListedImage::from(listed);
        assert!(listed.tags.is_empty() && listed.digests.is_empty());
        assert_eq!((listed.created_at_ms, listed.size), (2000, 3));
    }

    #[test]
    fn fields_that_newer_engines_drop_may_be_absent() {
        let inspect: ContainerInspect = serde_json::from_str(
            r#"{"Id":"1","Name":"/n","Image":"sha256:1","Config":{},
                "State":{"Status":"exited","ExitCode":3,"StartedAt":"0001-01-01T00:00:00Z"}}"#,
        )
        .unwrap();
        let container = Container::from(inspect);
        assert_eq!(container.name, "n");
        assert_eq!(container.phase, Phase::Exited { exit_code: 3 });
        assert_eq!(container.started_at_ms, None);
        assert!(container.ports.is_empty() && container.labels.is_empty());
    }
}
