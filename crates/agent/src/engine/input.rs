//! What happens to the engine: orders, results of its own actions, and news from Docker.

use longshore_agent_protocol::acs;
use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

use super::resource::{Made, ResourceError, ResourceKey};

/// A container of a task, named as the task definition names it. Docker containers carry both parts as labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerKey {
    /// The task's ARN.
    pub task_arn: String,
    /// The container's name in its task.
    pub name: String,
}

/// One life of Docker's daemon: equal ones are the same process. What it says never happened never did, while a daemon that was
/// started anew knows nothing of what was under way when the one before it was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DockerLife(pub String);

/// One thing that happened. Every action that asks for a result gets exactly one, in any order; a result that never comes
/// (the agent died) is made up for by [`Input::DockerReady`] at the next start.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A payload arrived. Its acknowledgement is among the actions.
    Payload(acs::PayloadMessage),
    /// A manifest arrived. Acknowledgement and stop candidates are among the actions, if it is news.
    Manifest(acs::TaskManifestMessage),
    /// The answer to stop candidates arrived.
    StopVerificationAck(acs::TaskStopVerificationAck),
    /// Docker can be reached: at the agent's start, once its records are restored, and whenever Docker returns or its event
    /// stream had a gap. `found` lists the Docker containers that carry this instance's label, running or not.
    DockerReady {
        /// Which daemon it is; none where that cannot be told.
        docker: Option<DockerLife>,
        /// What there is.
        found: Vec<FoundContainer>,
    },
    /// Result of [`super::Action::InspectImage`].
    ImageInspected {
        /// The container that needs the image.
        container: ContainerKey,
        /// The image; `Ok(None)` means that there is none of that name.
        result: Result<Option<ImageInfo>, DockerError>,
    },
    /// Result of [`super::Action::ResolveDigest`].
    DigestResolved {
        /// The container that needs the image.
        container: ContainerKey,
        /// `sha256:…`
        result: Result<String, DockerError>,
    },
    /// Result of [`super::Action::PullImage`].
    ImagePulled {
        /// The container that needs the image.
        container: ContainerKey,
        /// The image as it is now.
        result: Result<ImageInfo, PullError>,
    },
    /// Result of [`super::Action::Create`].
    Created {
        /// The container.
        container: ContainerKey,
        /// The Docker id.
        result: Result<String, DockerError>,
    },
    /// Result of [`super::Action::Start`].
    Started {
        /// The container.
        container: ContainerKey,
        /// Whether Docker started it (already started counts as started).
        result: Result<(), DockerError>,
    },
    /// Result of [`super::Action::Stop`].
    Stopped {
        /// The container.
        container: ContainerKey,
        /// Whether Docker stopped it (already stopped counts as stopped).
        result: Result<(), DockerError>,
    },
    /// Result of [`super::Action::Inspect`].
    Inspected {
        /// The container.
        container: ContainerKey,
        /// What Docker says; [`DockerError::NotFound`] when there is no such container.
        result: Result<Inspection, DockerError>,
    },
    /// Result of [`super::Action::Remove`].
    Removed {
        /// The container.
        container: ContainerKey,
        /// Whether it is gone ([`DockerError::NotFound`] counts as gone).
        result: Result<(), DockerError>,
    },
    /// Result of [`super::Action::MakeResource`].
    ResourceMade {
        /// The task.
        task_arn: String,
        /// Which of its resources.
        key: ResourceKey,
        /// What was made.
        result: Result<Made, ResourceError>,
    },
    /// Result of [`super::Action::RemoveResource`].
    ResourceRemoved {
        /// The task.
        task_arn: String,
        /// Which of its resources.
        key: ResourceKey,
        /// Whether it is gone; one that never was is.
        result: Result<(), ResourceError>,
    },
    /// Something came that resources wait for ([`ResourceError::NotYet`]): credentials, the network's description. They are
    /// tried at once. Docker's return says [`Input::DockerReady`].
    PrerequisiteCame {
        /// The task that it concerns; none means any.
        task_arn: Option<String>,
    },
    /// Result of [`super::Action::FindContainers`].
    ContainersFound {
        /// The task.
        task_arn: String,
        /// Its containers on this instance, running or not.
        result: Result<Vec<FoundContainer>, DockerError>,
    },
    /// Docker's event stream: the container's process ended. A hint: the engine inspects before it believes.
    Died {
        /// The container, from the event's labels.
        container: ContainerKey,
        /// The event's exit code.
        exit_code: i32,
    },
    /// Docker's event stream: the container's health changed.
    HealthChanged {
        /// The container, from the event's labels.
        container: ContainerKey,
        /// Its health now.
        health: Health,
    },
    /// Result of [`super::Action::Submit`].
    Submitted {
        /// The task whose change was submitted.
        task_arn: String,
        /// What became of it.
        outcome: SubmitOutcome,
    },
    /// The machine's clock was set, or stood still while the machine slept: the time given with this input differs by so much
    /// from what would have passed. Every pause lasts as long as it was meant to all the same.
    ClockSet {
        /// How far the clock jumped, forward if positive.
        by_ms: i64,
    },
    /// Time passed; due at [`super::Engine::next_deadline`].
    Tick,
}

/// A Docker container found by its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundContainer {
    /// Task ARN and container name, from the labels.
    pub container: ContainerKey,
    /// Docker id.
    pub docker_id: String,
    /// Whether its process runs.
    pub running: bool,
}

/// A local image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// `sha256:…` of the repository digest; none for an image that never was in a registry.
    pub digest: Option<String>,
    /// Whether a task's pull brought it here under this name, and it was not cleaned up since.
    pub pulled: bool,
}

/// Why a pull failed, with Docker's or the registry's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullError {
    /// The image is unknown, forbidden or unusable: the same pull will not succeed later.
    Refused(String),
    /// The network or the registry failed, or fell silent: the same pull may succeed later.
    Registry(String),
    /// It took longer than a whole pull may take.
    TooLong,
    /// Docker itself cannot be reached.
    Docker(String),
}

/// Why Docker did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerError {
    /// Docker cannot be reached: it was not asked.
    Unreached(String),
    /// Docker was asked and went away; whether it did it is unknown.
    Unavailable(String),
    /// No answer in time; whether it did it is unknown.
    Timeout,
    /// There is no such container.
    NotFound(String),
    /// A container of that name exists already (create only).
    NameInUse(String),
    /// Docker refused, and says why.
    Failed(String),
}

impl std::fmt::Display for DockerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreached(why) | Self::Unavailable(why) => write!(f, "Docker cannot be reached: {why}"),
            Self::Timeout => f.write_str("Docker did not answer in time"),
            Self::NotFound(why) | Self::NameInUse(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// What Docker knows about a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Docker id.
    pub docker_id: String,
    /// Whether it runs.
    pub state: RunState,
    /// Of a container that does not run: whose word that is; none where that cannot be told.
    pub docker: Option<DockerLife>,
    /// When its process was last started, by Docker's clock: another time is another run.
    pub started_at: Option<Timestamp>,
    /// Published ports, as Docker bound them.
    pub bindings: Vec<PortBinding>,
    /// Health, if the container has a health check.
    pub health: Option<Health>,
}

/// Whether a container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Created, never started.
    Created,
    /// Running (paused and restarting count as running).
    Running,
    /// Ended.
    Exited {
        /// Exit code of its process.
        exit_code: i32,
        /// Whether the kernel killed it for its use of memory.
        oom_killed: bool,
        /// When it ended.
        finished_at: Option<Timestamp>,
        /// Docker's own complaint, if it could not start or keep it.
        error: Option<String>,
        /// Whether its process ever ran. A container that Docker failed to start has ended without ever running.
        started: bool,
    },
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Address of the host, such as `0.0.0.0` or `::`.
    pub host_ip: String,
    /// Port of the host.
    pub host_port: u16,
    /// Port inside the container.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Health of a container with a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Outcome of the checks so far.
    pub status: HealthStatus,
    /// Output of the last check.
    pub output: Option<String>,
}

/// Outcome of health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HealthStatus {
    /// Not known yet (Docker's `starting`).
    Unknown,
    /// The last check passed.
    Healthy,
    /// Too many checks failed.
    Unhealthy,
}

/// What became of a submitted state change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The control plane has it.
    Accepted,
    /// The control plane refused it for good; it must not be sent again.
    Dropped(String),
    /// It did not get there; the engine submits again after a pause.
    Failed(String),
}
