//! What the engine asks for. The shell performs actions in their order: a `Save` is durable before the next one begins.
//! Actions that talk to Docker or the control plane may run side by side once begun; each is answered by one [`super::Input`].

use std::sync::Arc;

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::SubmitTaskStateChangeRequest;
use serde_json::Value;

use super::input::{ContainerKey, DockerError, Input, PullError, SubmitOutcome};
use super::ports::PortsToFind;
use super::record::TaskRecord;
use super::resource::{ResourceKey, ResourceSpec};
use crate::config::RegistryLogin;

/// One thing for the shell to do. Doing one twice is harmless.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Keep the record, in place of the task's earlier one.
    Save {
        /// All that must survive the agent.
        record: Box<TaskRecord>,
        /// Whether the following actions must wait until it is on disk. If false, what changed is known to Docker or the control
        /// plane as well, so that losing it costs no more than a duplicate report.
        durable: bool,
    },
    /// Drop the task's record.
    Forget {
        /// The task.
        task_arn: String,
    },
    /// Keep the timeline of the last manifest; given to [`super::Engine::restore`] at the next start.
    SaveTimeline(i64),
    /// Send it over the ACS session, if there is one.
    Reply(acs::AgentMessage),
    /// Look for the image on this host → [`super::Input::ImageInspected`].
    InspectImage {
        /// The container that needs it.
        container: ContainerKey,
        /// The image, as the task definition spells it.
        image: String,
    },
    /// Ask the image's registry for the digest of what the image's name stands for → [`super::Input::DigestResolved`].
    ResolveDigest {
        /// The container that needs it.
        container: ContainerKey,
        /// The image, as the task definition spells it.
        image: String,
        /// Who asks the registry; none leaves it to what the machine is configured with.
        login: Option<Arc<RegistryLogin>>,
        /// How long that may take.
        timeout_ms: i64,
    },
    /// Pull the image, once, from its registry → [`super::Input::ImagePulled`].
    PullImage {
        /// The container that needs it.
        container: ContainerKey,
        /// The image, as the task definition spells it.
        image: String,
        /// What the image's name stood for when the registry was asked: that is pulled, and named so.
        digest: Option<String>,
        /// Who asks the registry; none leaves it to what the machine is configured with.
        login: Option<Arc<RegistryLogin>>,
    },
    /// Create the container → [`super::Input::Created`].
    Create {
        /// The container.
        container: ContainerKey,
        /// Name and settings.
        spec: Box<ContainerSpec>,
        /// How long Docker may take.
        timeout_ms: i64,
    },
    /// Start the container → [`super::Input::Started`].
    Start {
        /// The container.
        container: ContainerKey,
        /// Docker id.
        docker_id: String,
        /// How long Docker may take.
        timeout_ms: i64,
    },
    /// Send the container its stop signal, kill it after `grace_s` → [`super::Input::Stopped`].
    Stop {
        /// The container.
        container: ContainerKey,
        /// Docker id, or the name where the id is not known.
        target: String,
        /// Seconds between signal and kill. Docker answers only after it, so the call needs a longer time-out.
        grace_s: i64,
    },
    /// Ask Docker about the container → [`super::Input::Inspected`].
    Inspect {
        /// The container.
        container: ContainerKey,
        /// Docker id, or the name where the id is not known.
        target: String,
    },
    /// Remove the container, which has ended, with its anonymous volumes → [`super::Input::Removed`].
    Remove {
        /// The container.
        container: ContainerKey,
        /// Docker id, or the name where the id is not known.
        target: String,
    },
    /// Make the resource, or what is missing of it → [`super::Input::ResourceMade`].
    MakeResource {
        /// The task.
        task_arn: String,
        /// Which of its resources.
        key: ResourceKey,
        /// What to make.
        spec: Box<ResourceSpec>,
    },
    /// Remove the resource, or what there is of it → [`super::Input::ResourceRemoved`].
    RemoveResource {
        /// The task.
        task_arn: String,
        /// Which of its resources.
        key: ResourceKey,
        /// What was to be made.
        spec: Box<ResourceSpec>,
    },
    /// Look for containers of the task that carry this instance's label → [`super::Input::ContainersFound`].
    FindContainers {
        /// The task.
        task_arn: String,
    },
    /// Submit a state change → [`super::Input::Submitted`]. Never more than one per task at a time.
    Submit {
        /// The task.
        task_arn: String,
        /// The request.
        change: Box<SubmitTaskStateChangeRequest>,
    },
    /// Tell the operator.
    Log {
        /// How bad it is.
        level: LogLevel,
        /// The task it is about; empty when about none.
        task_arn: String,
        /// What to say.
        message: String,
    },
}

impl Action {
    /// What the engine is told where this action found no answer; a tick for one that has none.
    pub fn failed(&self, error: DockerError) -> Input {
        match self.clone() {
            Self::InspectImage { container, .. } => Input::ImageInspected { container, result: Err(error) },
            Self::ResolveDigest { container, .. } => Input::DigestResolved { container, result: Err(error) },
            Self::PullImage { container, .. } => {
                let result = Err(match error {
                    DockerError::Unreached(why) | DockerError::Unavailable(why) => PullError::Docker(why),
                    other => PullError::Registry(other.to_string()),
                });
                Input::ImagePulled { container, result }
            }
            Self::Create { container, .. } => Input::Created { container, result: Err(error) },
            Self::Start { container, .. } => Input::Started { container, result: Err(error) },
            Self::Stop { container, .. } => Input::Stopped { container, result: Err(error) },
            Self::Inspect { container, .. } => Input::Inspected { container, result: Err(error) },
            Self::Remove { container, .. } => Input::Removed { container, result: Err(error) },
            Self::MakeResource { task_arn, key, .. } => {
                Input::ResourceMade { task_arn, key, result: Err(error.into()) }
            }
            Self::RemoveResource { task_arn, key, .. } => {
                Input::ResourceRemoved { task_arn, key, result: Err(error.into()) }
            }
            Self::FindContainers { task_arn } => Input::ContainersFound { task_arn, result: Err(error) },
            Self::Submit { task_arn, .. } => {
                Input::Submitted { task_arn, outcome: SubmitOutcome::Failed(error.to_string()) }
            }
            Self::Save { .. } | Self::Forget { .. } | Self::SaveTimeline(_) | Self::Reply(_) | Self::Log { .. } => {
                Input::Tick
            }
        }
    }
}

/// How bad a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Normal course.
    Info,
    /// Something that an operator may want to look at.
    Warn,
}

/// A container to create, in the Docker Engine API's vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    /// The container's name: the same for every attempt, so that a second one finds the first one's container.
    pub name: String,
    /// Body of the create call: a container configuration with its `HostConfig`.
    pub body: Value,
    /// Ports of the host to find first, and to write into `HostConfig.PortBindings`.
    pub ports_to_find: Vec<PortsToFind>,
}
