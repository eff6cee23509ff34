//! What a task needs beside its containers: volumes, a cgroup, a network, secrets, logins … Each is a resource.
//!
//! The engine plans resources from the payload ([`plan`]), asks the shell to make each before the containers that need it go on,
//! and to remove it when the task is cleaned up. It does not know how. Making and removing are idempotent: an agent that died
//! meanwhile asks again. What a resource made that must not be written down (secret values) stays in memory, and is made again
//! after a restart if a container still needs it.

pub(crate) mod cgroup;
pub(crate) mod env_file;
mod login;
pub(crate) mod network;
mod secret;
pub(crate) mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_agent_protocol::acs;
use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

use super::EngineConfig;
use super::container::{ContainerRecord, Status};
use super::input::DockerError;
use crate::config::RegistryLogin;
use cgroup::CgroupSpec;
use env_file::EnvironmentFilesSpec;
use network::NetworkSpec;
use volume::VolumeSpec;

pub use login::WantedLogin;
pub use secret::{SecretPlace, SecretSource, SecretTarget, WantedSecret};

/// A resource of a task, told from its others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKey {
    /// The volume of that name.
    Volume(String),
    /// The cgroup that bounds all containers together.
    Cgroup,
    /// The task's own network.
    Network,
    /// Values that containers or their log drivers get, and nobody else may read.
    Secrets,
    /// The environment files of that container.
    EnvironmentFiles(String),
    /// The login with which that container's image is pulled.
    Login(String),
}

/// What the shell is to make. It holds names of secrets, never their values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResourceSpec {
    /// Secrets to fetch.
    Secrets(Vec<WantedSecret>),
    /// A volume of Docker.
    Volume(VolumeSpec),
    /// The task's cgroup.
    Cgroup(CgroupSpec),
    /// Files of variables to fetch.
    EnvironmentFiles(EnvironmentFilesSpec),
    /// The task's own network.
    Network(NetworkSpec),
    /// A login to fetch.
    Login(WantedLogin),
}

/// A resource that a task needs. Durable: what was made is used and removed as it was planned, whatever the configuration says
/// by then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// Which.
    pub key: ResourceKey,
    pub(crate) spec: ResourceSpec,
    /// The only container that needs it; none means every one but `after`.
    pub(crate) container: Option<String>,
    /// What of a container waits for it.
    pub(crate) before: Before,
    /// A container that must run first.
    pub(crate) after: Option<String>,
    /// Whether what it made may be gone when an agent starts anew (it was in memory only, or the kernel's, and the machine has
    /// started anew, too), so that it is made again before a container goes past what waits for it.
    pub(crate) volatile: bool,
    /// Whether it goes as soon as the task's containers have ended, not when the task is cleaned up.
    pub(crate) brief: bool,
}

/// What of a container waits for a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Before {
    /// The pull of its image.
    Pull,
    /// Its creation.
    Create,
    /// Its creation, which names it, and every start.
    Start,
}

impl Before {
    /// Whether what waits so waits with this step.
    fn holds(self, step: Self) -> bool {
        self == step || (self, step) == (Self::Start, Self::Create)
    }
}

/// How far a resource has come. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceStatus {
    /// Nothing was asked for.
    #[default]
    None,
    /// It may exist, wholly or in part.
    Intended,
    /// It exists.
    Made,
    /// It does not exist any more.
    Removed,
}

/// What is known of a resource. Durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceRecord {
    /// As what it was planned when the task came.
    pub resource: Resource,
    /// How far it has come.
    pub known: ResourceStatus,
    /// What the shell said of it.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
}

/// What is to be remembered of a resource that was made, by name: the parent cgroup of the containers, say. No secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(pub BTreeMap<String, String>);

impl ResourceRecord {
    pub(crate) fn new(resource: Resource) -> Self {
        Self { resource, known: ResourceStatus::None, facts: Facts::default() }
    }
}

impl Facts {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the shell made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// What is to be remembered.
    pub facts: Facts,
    /// What containers get of it, by their names; in memory only.
    pub provided: BTreeMap<String, Provided>,
}

/// What a container gets from resources. Its values are secret: they are never printed.
#[derive(Clone, Default, PartialEq)]
pub struct Provided {
    /// Variables of its environment.
    pub environment: BTreeMap<String, String>,
    /// Options of its log driver.
    pub log_options: BTreeMap<String, String>,
    /// The login for its image.
    pub login: Option<Arc<RegistryLogin>>,
}

impl std::fmt::Debug for Provided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provided")
            .field("environment", &self.environment.keys())
            .field("log_options", &self.log_options.keys())
            .finish_non_exhaustive()
    }
}

/// Why a resource was not made or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceError {
    /// Something that it takes is not there yet: credentials, the network's description, Docker itself. That is waited for,
    /// however long it takes, and counts as no try.
    NotYet(String),
    /// Whoever is needed for it does not answer: the same may succeed later.
    Again(String),
    /// It cannot be made; `Error: …` in the words that users know, or what follows `ResourceInitializationError: `.
    Refused(String),
}

impl From<DockerError> for ResourceError {
    fn from(error: DockerError) -> Self {
        match error {
            DockerError::Unreached(_) | DockerError::Unavailable(_) => Self::NotYet(error.to_string()),
            DockerError::Timeout => Self::Again(error.to_string()),
            DockerError::NotFound(why) | DockerError::NameInUse(why) | DockerError::Failed(why) => Self::Refused(why),
        }
    }
}

/// Tries to make a resource before the task fails; the pauses between them add up to about half a minute.
const TRIES: u32 = 6;
const PAUSE_MS: i64 = 1_000;
const PAUSE_MAX_MS: i64 = 30_000;

/// The resources of a task, in the order in which they are asked for; an error names what is wrong with the payload.
pub(crate) fn plan(config: &EngineConfig, task: &acs::Task) -> Result<Vec<Resource>, String> {
    let mut planned = volume::plan(config, task)?;
    planned.extend(cgroup::plan(config, task));
    planned.extend(login::plan(task)?);
    // What a secret says about a variable counts more than what a file does: the first decides.
    planned.extend(secret::plan(task)?);
    planned.extend(env_file::plan(task)?);
    planned.extend(network::plan(task)?);
    Ok(planned)
}

/// What resources have for a container that is to be created.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared<'a> {
    /// What is to be remembered of each that was made.
    pub(crate) facts: BTreeMap<&'a ResourceKey, &'a Facts>,
    /// What they give to the container; the first that names something decides.
    pub(crate) provided: Vec<&'a Provided>,
}

impl Prepared<'_> {
    /// The variables of its environment, but for those that its definition has.
    pub(crate) fn environment(&self) -> BTreeMap<&str, &str> {
        merged(self.provided.iter().map(|provided| &provided.environment))
    }

    /// Options of its log driver.
    pub(crate) fn log_options(&self) -> BTreeMap<&str, &str> {
        merged(self.provided.iter().map(|provided| &provided.log_options))
    }

    /// The cgroup that it is put in, as Docker calls it.
    pub(crate) fn cgroup_parent(&self) -> Option<&str> {
        self.facts.get(&ResourceKey::Cgroup).and_then(|facts| cgroup::parent(facts))
    }

    /// The login for its image.
    pub(crate) fn login(&self) -> Option<Arc<RegistryLogin>> {
        self.provided.iter().find_map(|provided| provided.login.clone())
    }
}

fn merged<'a>(all: impl Iterator<Item = &'a BTreeMap<String, String>>) -> BTreeMap<&'a str, &'a str> {
    let mut merged = BTreeMap::new();
    for (name, value) in all.flatten() {
        merged.entry(name.as_str()).or_insert(value.as_str());
    }
    merged
}

/// What is under way for a resource. Volatile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    pub(crate) in_flight: bool,
    failures: u32,
    /// How often something that it takes was not there, since such a thing came last.
    waits: u32,
    retry_at: Option<Timestamp>,
    provided: BTreeMap<String, Provided>,
    /// It was made by this agent, or needs no other.
    at_hand: bool,
}

/// A resource with what is under way for it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) resource: Resource,
    pub(crate) work: Work,
}

/// What a resource needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing now, or until then.
    Wait(Option<Timestamp>),
    /// To be made.
    Make,
}

impl Planned {
    pub(crate) fn new(resource: Resource) -> Self {
        Self { resource, work: Work::default() }
    }

    /// What it needs for the task to go on.
    pub(crate) fn next(&self, known: ResourceStatus, containers: &[ContainerRecord], now: Timestamp) -> Next {
        let Resource { volatile, after, .. } = &self.resource;
        let there = known == ResourceStatus::Made && (self.work.at_hand || !volatile);
        if there || known == ResourceStatus::Removed || self.work.in_flight || !self.is_awaited(containers) {
            return Next::Wait(None);
        }
        let runs = |name: &String| containers.iter().any(|c| c.name == *name && c.known == Status::Running);
        if !after.as_ref().is_none_or(runs) {
            return Next::Wait(None);
        }
        match self.work.retry_at.filter(|at| *at > now) {
            Some(at) => Next::Wait(Some(at)),
            None => Next::Make,
        }
    }

    /// Whether that container must wait for it.
    pub(crate) fn holds(&self, known: ResourceStatus, container: &str, before: Before) -> bool {
        let there = known == ResourceStatus::Made && (self.work.at_hand || !self.resource.volatile);
        !there && self.resource.before.holds(before) && self.serves(container)
    }

    fn serves(&self, container: &str) -> bool {
        match &self.resource.container {
            Some(only) => only == container,
            None => self.resource.after.as_deref() != Some(container),
        }
    }

    /// Whether a container still has to go past the step that waits for it.
    fn is_awaited(&self, containers: &[ContainerRecord]) -> bool {
        let before = |c: &ContainerRecord, past| (c.known < past || c.docker_id.is_none()) && !c.start_intended;
        let waits = |c: &&ContainerRecord| match self.resource.before {
            Before::Pull => before(c, Status::Pulled),
            Before::Create => before(c, Status::Created),
            Before::Start => c.known < Status::Running || c.restarts.next.is_some(),
        };
        containers.iter().filter(waits).any(|c| self.serves(&c.name))
    }

    /// It was made, or not. Answers with what is to be told about that, or with the reason for which the task fails.
    pub(crate) fn made(
        &mut self,
        record: &mut ResourceRecord,
        now: Timestamp,
        result: Result<Made, ResourceError>,
    ) -> Result<Option<String>, String> {
        self.work.in_flight = false;
        let why = match result {
            Ok(made) => {
                record.known = record.known.max(ResourceStatus::Made);
                record.facts = made.facts;
                self.work = Work { provided: made.provided, at_hand: true, ..Work::default() };
                return Ok(None);
            }
            Err(ResourceError::NotYet(why)) => {
                self.work.waited(now);
                return Ok((self.work.waits == 1).then(|| format!("waits: {why}")));
            }
            Err(ResourceError::Again(why)) if self.work.failures + 1 < TRIES => {
                self.work.failed(now);
                return Ok(Some(format!("is tried again: {why}")));
            }
            Err(ResourceError::Again(why) | ResourceError::Refused(why)) => why,
        };
        let named = why.split_once(": ").is_some_and(|(name, _)| name.ends_with("Error") && !name.contains(' '));
        Err(if named { why } else { format!("ResourceInitializationError: {why}") })
    }

    /// Something that it may have waited for has come.
    pub(crate) fn prerequisite_came(&mut self) {
        if std::mem::take(&mut self.work.waits) > 0 {
            self.work.retry_at = None;
        }
    }

    /// Whether it can be asked to go now, and if not, when.
    pub(crate) fn may_go(&self, now: Timestamp) -> Result<(), Option<Timestamp>> {
        match (self.work.in_flight, self.work.retry_at.filter(|at| *at > now)) {
            (true, _) => Err(None),
            (false, Some(at)) => Err(Some(at)),
            (false, None) => Ok(()),
        }
    }

    /// It was removed, or not; then that is tried again for ever, and this says why it had to be, the first time.
    pub(crate) fn removed(
        &mut self,
        record: &mut ResourceRecord,
        now: Timestamp,
        result: Result<(), ResourceError>,
    ) -> Option<String> {
        self.work.in_flight = false;
        match result {
            Ok(()) => {
                record.known = ResourceStatus::Removed;
                None
            }
            Err(ResourceError::NotYet(why)) => {
                self.work.waited(now);
                (self.work.waits == 1).then_some(why)
            }
            Err(ResourceError::Again(why) | ResourceError::Refused(why)) => {
                self.work.failed(now);
                (self.work.failures == 1).then_some(why)
            }
        }
    }

    /// What it gives to a container.
    pub(crate) fn provided(&self, container: &str) -> Option<&Provided> {
        self.work.provided.get(container)
    }

    /// The clock jumped.
    pub(crate) fn clock_set(&mut self, by_ms: i64) {
        self.work.retry_at = self.work.retry_at.map(|at| at.plus_millis(by_ms));
    }
}

impl Work {
    fn failed(&mut self, now: Timestamp) {
        self.retry_at = Some(pause(now, self.failures));
        // No longer a wait: what comes now ends this pause no sooner.
        self.waits = 0;
        self.failures = self.failures.saturating_add(1);
    }

    fn waited(&mut self, now: Timestamp) {
        self.retry_at = Some(pause(now, self.waits));
        self.waits = self.waits.saturating_add(1);
    }
}

/// When the next try is due, after so many.
fn pause(now: Timestamp, earlier: u32) -> Timestamp {
    now.plus_millis(PAUSE_MS.saturating_mul(1 << earlier.min(10)).min(PAUSE_MAX_MS))
}
