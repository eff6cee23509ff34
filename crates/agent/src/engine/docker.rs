//! The container runtime as the agent needs it, and nothing more.
//!
//! [`Docker`] is the narrow door; [`HttpDocker`](http::HttpDocker) goes through it to a Docker Engine, the tests' fake
//! to a table in memory. A driver performs one call and says what happened. It decides nothing: when to pull, create or
//! stop is the pure engine's business, in what order the shell's.

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod http;
mod wire;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::config::RegistryLogin;

/// Which container instance a container belongs to: several may share one Engine.
pub(crate) const LABEL_INSTANCE: &str = "longshore.container-instance-arn";
/// Which task a container belongs to.
pub(crate) const LABEL_TASK: &str = "com.amazonaws.ecs.task-arn";
/// Which container of the task it is.
pub(crate) const LABEL_CONTAINER: &str = "com.amazonaws.ecs.container-name";

/// Why a call to the Engine did not do what it should.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub(crate) enum DockerError {
    /// The Engine knows no such image or container.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or the container is in the wrong state.
    #[error("{0}")]
    Conflict(String),
    /// The Engine understood and refused, or failed.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The Engine's words.
        message: String,
    },
    /// The Engine began to do it and failed on the way.
    #[error("{0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer from the Engine to {call} within {}s", limit.as_secs())]
    Timeout {
        /// Which call.
        call: &'static str,
        /// How long we waited.
        limit: Duration,
    },
    /// The Engine cannot be reached, or hung up.
    #[error("the Docker Engine at {endpoint} cannot be reached: {cause}")]
    Unavailable {
        /// Whether it was asked to do what the call says: then it may have done it.
        asked: bool,
        /// Where we tried.
        endpoint: String,
        /// What the system said.
        cause: String,
    },
    /// The answer is not what the Engine API promises.
    #[error("the Engine's answer to {call} makes no sense: {detail}")]
    Protocol {
        /// Which call.
        call: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// The Engine we talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineVersion {
    /// `20.10.24`
    pub(crate) version: String,
    /// The API version in use.
    pub(crate) api: ApiVersion,
    /// The newest the Engine has.
    pub(crate) max_api: ApiVersion,
}

/// A version of the Engine API; ordered by number, not by text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// A local image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// `sha256:…`, the configuration's digest.
    pub(crate) id: String,
    /// `sha256:…`, the registry's digest; absent for images that were never in a registry.
    pub(crate) digest: Option<String>,
}

/// The call that takes longer than a whole pull may take.
pub(crate) const PULL: &str = "pull";
/// The call that fell silent.
pub(crate) const PULL_PROGRESS: &str = "the progress of a pull";

/// Limits on a pull.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PullLimits {
    pub(crate) total: Duration,
    pub(crate) inactivity: Duration,
}

/// A volume to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VolumeRequest {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A volume as the Engine sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) driver: String,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// How the Engine keeps the cgroups of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupSetup {
    /// `cgroupfs`, `systemd`, or `none`.
    pub(crate) driver: String,
    /// `1` or `2`.
    pub(crate) version: String,
}

/// A container as the Engine sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// Without the leading slash.
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) image_id: String,
    pub(crate) phase: Phase,
    /// Number of its process on the host; 0 where none runs.
    pub(crate) pid: u32,
    /// What the Engine noted about a failed start.
    pub(crate) error: String,
    pub(crate) oom_killed: bool,
    pub(crate) started_at_ms: Option<i64>,
    pub(crate) finished_at_ms: Option<i64>,
    pub(crate) ports: Vec<PublishedPort>,
    /// Absent without a health check.
    pub(crate) health: Option<Health>,
    /// It has a terminal: its two output streams are one.
    pub(crate) tty: bool,
}

/// What the health check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// `healthy`, `unhealthy`, `starting`.
    pub(crate) status: String,
    /// What the last check printed.
    pub(crate) output: Option<String>,
}

/// A container in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) running: bool,
    /// `sha256:…` of its image.
    pub(crate) image_id: String,
    pub(crate) created_at_ms: i64,
}

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedImage {
    /// `sha256:…`, the configuration's digest.
    pub(crate) id: String,
    /// `web:1`
    pub(crate) tags: Vec<String>,
    /// `web@sha256:…`
    pub(crate) digests: Vec<String>,
    pub(crate) created_at_ms: i64,
    pub(crate) size: u64,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Made, never started.
    Created,
    /// Its process exists (running, paused, being restarted).
    Running,
    /// Its process ended.
    Exited {
        /// The process's own code, 128+n after signal n.
        exit_code: i32,
    },
}

/// A container port that the host forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishedPort {
    pub(crate) container_port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub(crate) protocol: String,
    pub(crate) host_ip: String,
    pub(crate) host_port: u16,
}

/// Which part of a container's output to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogQuery {
    /// Nothing before this time: seconds and nanoseconds since the epoch.
    pub(crate) since: Option<(i64, u32)>,
    /// Of what is there, so many of the last lines.
    pub(crate) tail: Option<i64>,
    /// Go on with what is printed from now on, until the container stops.
    pub(crate) follow: bool,
}

/// A container's output as the Engine streams it, each entry with its time. Nobody reads ahead of whoever holds this.
pub(crate) type LogChunks = mpsc::Receiver<Result<Bytes, DockerError>>;

/// Something happened to one of our containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerEvent {
    pub(crate) id: String,
    /// From its labels.
    pub(crate) instance_arn: String,
    /// From its labels.
    pub(crate) task_arn: String,
    /// From its labels: the name in the task definition.
    pub(crate) container_name: String,
    pub(crate) kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// The process ended.
    Died {
        /// 128+n after signal n.
        exit_code: i32,
    },
    /// A health check changed its mind: `healthy`, `unhealthy`, `starting`.
    Health(String),
}

/// The calls the agent makes.
pub(crate) trait Docker: Send + Sync + 'static {
    /// Asks who is there; also the ping.
    fn version(&self) -> impl Future<Output = Result<EngineVersion, DockerError>> + Send;

    /// What is made anew whenever the daemon starts, so that another answer means another process; none where there is no such
    /// thing.
    fn life(&self) -> impl Future<Output = Result<Option<String>, DockerError>> + Send;

    /// The local image of that name.
    fn inspect_image(&self, name: &str) -> impl Future<Output = Result<Image, DockerError>> + Send;

    /// All images but those that are only layers of others.
    fn images(&self) -> impl Future<Output = Result<Vec<ListedImage>, DockerError>> + Send;

    /// Removes a name of an image, and the image with its last name. One that a container uses, running or not, stays.
    fn remove_image(&self, reference: &str) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Fetches an image, with this login or else with what the machine is configured with.
    fn pull(
        &self,
        name: &str,
        login: Option<&RegistryLogin>,
        limits: PullLimits,
    ) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Gives an image another name; whatever had it loses it.
    fn tag(&self, image: &str, name: &str) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Makes an image of one layer, given as a tar archive; `change` is an instruction as in a Dockerfile.
    fn import(
        &self,
        archive: Vec<u8>,
        name: &str,
        change: &str,
    ) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// How the Engine keeps the cgroups of containers.
    fn cgroups(&self) -> impl Future<Output = Result<CgroupSetup, DockerError>> + Send;

    /// Makes a volume; one of that name and driver that exists is fine, whatever its options.
    fn create_volume(&self, request: &VolumeRequest) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// The volume of that name.
    fn inspect_volume(&self, name: &str) -> impl Future<Output = Result<Volume, DockerError>> + Send;

    /// Removes a volume, unless a container uses it, running or not.
    fn remove_volume(&self, name: &str) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// What its registry says an image is: `sha256:…`.
    fn digest(
        &self,
        name: &str,
        login: Option<&RegistryLogin>,
        limit: Duration,
    ) -> impl Future<Output = Result<String, DockerError>> + Send;

    /// Creates a container from a body in the Engine API's vocabulary; the answer is its id.
    fn create(
        &self,
        name: &str,
        body: &serde_json::Value,
        limit: Duration,
    ) -> impl Future<Output = Result<String, DockerError>> + Send;

    /// Starts a container; one that runs already is fine.
    fn start(&self, id: &str, limit: Duration) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Stops a container: its stop signal, then SIGKILL after `grace`. One that is stopped already is fine. Returns when
    /// the process is gone.
    fn stop(&self, id: &str, grace: Duration) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// How a container is doing, by id or name.
    fn inspect(&self, id_or_name: &str) -> impl Future<Output = Result<Container, DockerError>> + Send;

    /// Removes a container with its anonymous volumes.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// All containers, running or not, that carry all these labels (`key` or `key=value`).
    fn list(&self, labels: &[&str]) -> impl Future<Output = Result<Vec<Listed>, DockerError>> + Send;

    /// What a container printed, as far as its log driver gives it back.
    fn logs(&self, id: &str, query: &LogQuery) -> impl Future<Output = Result<LogChunks, DockerError>> + Send;

    /// Events of containers that carry [`LABEL_INSTANCE`], from now on. The channel closes when the stream ends;
    /// whoever listens then subscribes anew and looks at everything, for what happened in between is not told.
    fn events(&self) -> impl Future<Output = Result<mpsc::Receiver<ContainerEvent>, DockerError>> + Send;
}

/// The part of an image's name that says where it is from: neither tag nor digest.
pub(crate) fn repository(name: &str) -> &str {
    http::split_reference(name).0
}

impl ApiVersion {
    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl DockerError {
    /// Whether the same call may work when the Engine is back.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The error of something that comes before the call itself.
    fn before_asking(self) -> Self {
        match self {
            Self::Unavailable { endpoint, cause, .. } => Self::Unavailable { asked: false, endpoint, cause },
            other => other,
        }
    }
}
