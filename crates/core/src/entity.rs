//! The durable entities, and how each is written to the store.
//!
//! An entity is stored whole, as JSON, under a key whose first byte names its kind. Reservations, counters and
//! indexes are never stored: [`crate::tables`] derives them from these.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::ecs::types;
use serde::{Deserialize, Serialize};

use crate::capacity::{CapacityProvider, Fleet, FleetKey};
use crate::cluster::ContainerInsights;
use crate::ids::{ClusterId, DefinitionKey, InstanceId, InstanceKey, TaskId, TaskKey};
use crate::instance::InstanceStatus;
use crate::network::{Block, SecurityGroup, Subnet, TaskNetwork};
use crate::resources::{CpuUnits, HostPort, MemoryMib};
use crate::scheduler::SchedulerHook;
use crate::secret::{Parameter, StoredSecret};
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task::waiting::Waiting;

/// A cluster. Durable; written by the operations of [`crate::cluster`], its tags by `tags::operations` too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Internal identity.
    pub id: ClusterId,
    /// The name in its ARN.
    pub name: Arc<str>,
    /// Deleted clusters stay describable as INACTIVE until their name is used again.
    pub active: bool,
    /// Tags given at creation, as `tags::operations` changed them since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<types::Tag>,
    /// The setting `containerInsights`.
    #[serde(default, skip_serializing_if = "ContainerInsights::is_disabled")]
    pub container_insights: ContainerInsights,
    /// As given, with what ECS fills in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<types::ClusterConfiguration>,
    /// The names of the capacity providers that are associated with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capacity_providers: Vec<Arc<str>>,
    /// How tasks are spread over them where the caller does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_strategy: Vec<types::CapacityProviderStrategyItem>,
    /// Who decides where its tasks go, if not we.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerHook>,
}

impl Cluster {
    /// An ACTIVE cluster with nothing but a name.
    pub fn new(id: ClusterId, name: &str) -> Self {
        Self {
            id,
            name: name.into(),
            active: true,
            tags: Vec::new(),
            container_insights: ContainerInsights::Disabled,
            configuration: None,
            capacity_providers: Vec::new(),
            default_strategy: Vec::new(),
            scheduler: None,
        }
    }
}

/// A revision of a task definition. Durable; written by register, deregister, delete and the end of a deletion, its tags by
/// `tags::operations` too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Family and revision.
    pub key: DefinitionKey,
    /// The document as Describe answers it, with status and times.
    pub document: Arc<types::TaskDefinition>,
    /// Tags given at registration, as `tags::operations` changed them since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<types::Tag>,
    /// When its deletion was complete: from then on the API knows it no more. The record stays until the last stopped task
    /// that is described with it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// A family's counter: revisions are never reused, not even after deletion. Durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// The family name.
    pub name: Arc<str>,
    /// The highest revision ever registered.
    pub last_revision: i32,
}

/// A container instance. Durable; written when it registers or its attributes, agent or status change, its tags by
/// `tags::operations` too, and never because a task was placed on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Cluster and id.
    pub key: InstanceKey,
    /// The access key that registered it: sessions and reports are accepted from no other.
    pub principal: Arc<str>,
    /// CPU units offered.
    pub cpu: CpuUnits,
    /// Memory offered, in MiB.
    pub memory: MemoryMib,
    /// Host ports that tasks cannot have (the agent's `PORTS` and `PORTS_UDP`).
    pub reserved_ports: Vec<HostPort>,
    /// Attributes, by name; an empty value is an attribute without one.
    pub attributes: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// The ids of its GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Arc<str>>,
    /// Tags sent at the first registration, as `tags::operations` changed them since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<types::Tag>,
    /// Versions of agent and Docker, from registration or the last session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_info: Option<types::VersionInfo>,
    /// Its id at EC2, from its identity document; machines of elsewhere have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ec2_instance_id: Option<Arc<str>>,
    /// When it registered first.
    pub registered_at: Timestamp,
    /// What may happen on it. Written by the operations on it, never by its agent.
    #[serde(default, skip_serializing_if = "InstanceStatus::is_active")]
    pub status: InstanceStatus,
    /// When it was given up because its agent was not heard of; cleared by its next session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// When its agent was last heard of before it was given up; goes with `lost_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// When it became INACTIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactive_at: Option<Timestamp>,
    /// Grows with every change.
    pub version: i64,
}

impl Instance {
    /// The capacity provider that it says it belongs to.
    pub fn capacity_provider(&self) -> Option<&str> {
        self.attributes.get(crate::capacity::ATTRIBUTE)?.as_deref()
    }
}

/// A task. Durable; its existence, until `known` is STOPPED, is the reservation of what it needs.
///
/// Writers: `desired` RunTask, StopTask and the verdict; `verdict` the cell when it gives the instance up; `known`,
/// `containers` and the times between `created_at` and `stopped_at` the reports of the agent; `tags` RunTask, StartTask and
/// `tags::operations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Cluster and id.
    pub key: TaskKey,
    /// The only instance it is ever placed on; none while it waits, nor when it stopped waiting without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What it waits for, and what placement needs to know again; none once it was placed, or is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Arc<Waiting>>,
    /// The capacity provider whose instances it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_provider: Option<Arc<str>>,
    /// How long it may run, counted from `life.started_at`, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_run_ms: Option<i64>,
    /// What it was made from.
    pub definition: DefinitionKey,
    /// `family:<family>` unless the caller says otherwise.
    pub group: Arc<str>,
    /// The caller's mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_by: Option<Arc<str>>,
    /// EC2, FARGATE or EXTERNAL as asked for, EC2 when nothing was.
    pub launch_type: types::LaunchType,
    /// What the caller overrode, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Arc<types::TaskOverride>>,
    /// CPU units reserved.
    pub cpu: CpuUnits,
    /// Memory reserved, in MiB.
    pub memory: MemoryMib,
    /// Fixed host ports reserved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
    /// How an awsvpc task is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Arc<TaskNetwork>>,
    /// GPUs reserved, each for one container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<TaskGpu>,
    /// What we want.
    pub desired: DesiredStatus,
    /// What the agent said last. [`Task::last_status`] is what the API shows.
    pub known: TaskStatus,
    /// The cell's own judgement that the task is over, because its instance is lost or was given back without its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// One per container of the definition, in its order.
    pub containers: Vec<TaskContainer>,
    /// Tags, given or propagated, as `tags::operations` changed them since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<types::Tag>,
    /// When RunTask made it.
    pub created_at: Timestamp,
    /// The rest of its life line.
    #[serde(default, skip_serializing_if = "Life::is_empty")]
    pub life: Life,
    /// Why it stopped or is to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Grows with every change.
    pub version: i64,
}

/// A GPU of its instance that a container of a task has for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskGpu {
    /// The container, by its place in the definition.
    pub container: usize,
    /// The GPU's id.
    pub id: Arc<str>,
}

/// The judgement that a task is over although its agent did not say so. What the task holds on its instance is held on
/// ("stale") until the agent says STOPPED, or the instance is INACTIVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// When it was given: `stoppedAt` for the API.
    pub at: Timestamp,
    /// When its agent said STOPPED after all, or its instance became INACTIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
}

impl Task {
    /// What the API, the counters and every waiter see: the verdict if there is one, else what the agent said last.
    pub fn last_status(&self) -> TaskStatus {
        match self.verdict {
            Some(_) => TaskStatus::Stopped,
            None => self.known,
        }
    }

    /// What the API shows as wanted: a task that ended by itself is wanted STOPPED from then on.
    pub fn desired_status(&self) -> DesiredStatus {
        match self.last_status() {
            TaskStatus::Stopped => DesiredStatus::Stopped,
            TaskStatus::Provisioning | TaskStatus::Pending | TaskStatus::Running => self.desired,
        }
    }

    /// Over for the API, while its instance may still run it.
    pub fn is_stale(&self) -> bool {
        self.verdict.is_some() && self.known != TaskStatus::Stopped
    }

    /// Since when nothing is left of it but its record; retention counts from then on.
    pub fn over_since(&self) -> Option<Timestamp> {
        let settled_at = self.verdict.and_then(|verdict| verdict.settled_at);
        settled_at.or(self.life.stopped_at).filter(|_| self.known == TaskStatus::Stopped)
    }

    /// The address that it holds: until its agent says STOPPED.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        let network = self.network.as_deref().filter(|_| self.known != TaskStatus::Stopped)?;
        Some(network.address)
    }

    /// Where it runs or ran, if it was ever placed.
    pub fn home(&self) -> Option<InstanceKey> {
        Some(InstanceKey { cluster: self.key.cluster, id: self.instance? })
    }
}

/// The times of a task after its creation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// The agent was heard of for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connectivity_at: Option<Timestamp>,
    /// First image pull began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_started_at: Option<Timestamp>,
    /// Last image pull ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_stopped_at: Option<Timestamp>,
    /// RUNNING was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The order to stop was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping_at: Option<Timestamp>,
    /// The first essential container ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_stopped_at: Option<Timestamp>,
    /// STOPPED was reported, or the verdict given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
}

impl Life {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a task stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// ECS's code.
    pub code: types::TaskStopCode,
    /// ECS's sentence, or the caller's.
    pub reason: Arc<str>,
}

/// A container of a task, as reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskContainer {
    /// What the agent said last.
    #[serde(default, rename = "s")]
    pub status: TaskStatus,
    /// Everything known once it was created; boxed because a task that waits has none of it.
    #[serde(default, rename = "d", skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<ContainerDetail>>,
}

/// What an agent reports of a container beyond its status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerDetail {
    /// The process's exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// `<ErrorName>: <detail>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// Docker's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_id: Option<Arc<str>>,
    /// The digest that was pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Arc<str>>,
    /// Published ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_bindings: Vec<types::NetworkBinding>,
}

/// The remembered answer to a client token. Durable until it expires, or newer ones need its room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Which operation, in which cluster, by which token.
    pub key: TokenKey,
    /// The SHA-256 of the request it came with, in hex: tells another one apart, and keeps neither its size nor its secrets.
    pub request: Arc<str>,
    /// What it made, in order.
    pub made: Made,
    /// When it is forgotten.
    pub expires_at: Timestamp,
}

/// A client token in its scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenKey {
    /// The operation's wire name.
    pub operation: Arc<str>,
    /// The cluster.
    pub cluster: ClusterId,
    /// The token as the client sent it.
    pub token: Arc<str>,
}

/// What a command with a client token made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Made {
    /// Tasks of RunTask, and the failures it answered.
    Tasks {
        /// The tasks, in the order of the answer.
        tasks: Vec<TaskId>,
        /// The failures, verbatim; of an old token perhaps only the first (`limits::CLIENT_TOKEN_FAILURES`).
        failures: Vec<types::Failure>,
    },
    /// The instance of RegisterContainerInstance.
    Instance(InstanceId),
}

/// A join token. Durable; written by the operations on tokens and by joining. Its secret is derived from its id at the edge
/// and kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id, with which a join is signed.
    pub id: Arc<str>,
    /// The name of the cluster it leads to.
    pub cluster: Arc<str>,
    /// How many machines may join with it.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl JoinToken {
    /// When it became useless, or will.
    pub fn ends_at(&self) -> Timestamp {
        self.revoked_at.map_or(self.expires_at, |revoked_at| revoked_at.min(self.expires_at))
    }
}

/// A machine that joined: the access key it was given, and what the key is bound to. Durable; written when the machine joins
/// and when it is revoked. The key's secret is derived from its id at the edge and kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The key.
    pub access_key_id: Arc<str>,
    /// The name of the cluster whose instances it may register. By name, as the machine's own configuration has it: a
    /// cluster that is deleted and made again takes its machines back.
    pub cluster: Arc<str>,
    /// The token it joined with, and what it said to have the same answer again.
    pub join: JoinKey,
    /// How many container instances it may have at once.
    pub instances: u32,
    /// When it joined.
    pub created_at: Timestamp,
    /// When its key was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// One machine's join: repeated with the same two it is the same join.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JoinKey {
    /// The join token's id.
    pub token: Arc<str>,
    /// The client token that the machine chose.
    pub client_token: Arc<str>,
}

/// An account setting as somebody set it; what nobody set is not stored. Durable; written by the operations of
/// [`crate::settings`] alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSetting {
    /// Whose, and which.
    pub key: SettingKey,
    /// One of the values that ECS documents for it.
    pub value: Arc<str>,
}

/// An account setting of a principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SettingKey {
    /// The principal's ARN. The root user's settings are the account's defaults.
    pub principal: Arc<str>,
    /// The setting.
    pub name: types::SettingName,
}

/// The identity of any entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityKey {
    /// By name.
    Cluster(Arc<str>),
    /// By family and revision.
    Definition(DefinitionKey),
    /// By name.
    Family(Arc<str>),
    /// By cluster and id.
    Instance(InstanceKey),
    /// By cluster and id.
    Task(TaskKey),
    /// By operation, cluster and token.
    Token(TokenKey),
    /// By id.
    JoinToken(Arc<str>),
    /// By access key id.
    Identity(Arc<str>),
    /// By principal and name.
    Setting(SettingKey),
    /// By name.
    Parameter(Arc<str>),
    /// By name.
    Secret(Arc<str>),
    /// By id.
    Subnet(Arc<str>),
    /// By id.
    SecurityGroup(Arc<str>),
    /// By its first address.
    Block(Ipv4Addr),
    /// By name.
    CapacityProvider(Arc<str>),
    /// By cluster and capacity provider.
    Fleet(FleetKey),
}

/// Any entity, shared between the writer, the snapshots and the commit under way.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    /// A cluster.
    Cluster(Arc<Cluster>),
    /// A task definition.
    Definition(Arc<Definition>),
    /// A family counter.
    Family(Arc<Family>),
    /// A container instance.
    Instance(Arc<Instance>),
    /// A task.
    Task(Arc<Task>),
    /// A client token.
    Token(Arc<Token>),
    /// A join token.
    JoinToken(Arc<JoinToken>),
    /// A machine that joined.
    Identity(Arc<Identity>),
    /// An account setting.
    Setting(Arc<AccountSetting>),
    /// A parameter of SSM.
    Parameter(Arc<Parameter>),
    /// A secret of Secrets Manager.
    Secret(Arc<StoredSecret>),
    /// A subnet that was adopted.
    Subnet(Arc<Subnet>),
    /// A security group that was adopted.
    SecurityGroup(Arc<SecurityGroup>),
    /// Addresses of a host.
    Block(Arc<Block>),
    /// A capacity provider.
    CapacityProvider(Arc<CapacityProvider>),
    /// What is under way between a capacity provider and its launcher.
    Fleet(Arc<Fleet>),
}

impl Entity {
    /// Where it is kept.
    pub fn key(&self) -> EntityKey {
        match self {
            Self::Cluster(cluster) => EntityKey::Cluster(cluster.name.clone()),
            Self::Definition(definition) => EntityKey::Definition(definition.key.clone()),
            Self::Family(family) => EntityKey::Family(family.name.clone()),
            Self::Instance(instance) => EntityKey::Instance(instance.key),
            Self::Task(task) => EntityKey::Task(task.key),
            Self::Token(token) => EntityKey::Token(token.key.clone()),
            Self::JoinToken(token) => EntityKey::JoinToken(token.id.clone()),
            Self::Identity(identity) => EntityKey::Identity(identity.access_key_id.clone()),
            Self::Setting(setting) => EntityKey::Setting(setting.key.clone()),
            Self::Parameter(parameter) => EntityKey::Parameter(parameter.name.clone()),
            Self::Secret(secret) => EntityKey::Secret(secret.name.clone()),
            Self::Subnet(subnet) => EntityKey::Subnet(subnet.id.clone()),
            Self::SecurityGroup(group) => EntityKey::SecurityGroup(group.id.clone()),
            Self::Block(block) => EntityKey::Block(block.range.first()),
            Self::CapacityProvider(provider) => EntityKey::CapacityProvider(provider.name.clone()),
            Self::Fleet(fleet) => EntityKey::Fleet(fleet.key.clone()),
        }
    }

    /// The value as stored. Fails only if a map key were no string, which no entity has.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::Cluster(entity) => serde_json::to_vec(entity),
            Self::Definition(entity) => serde_json::to_vec(entity),
            Self::Family(entity) => serde_json::to_vec(entity),
            Self::Instance(entity) => serde_json::to_vec(entity),
            Self::Task(entity) => serde_json::to_vec(entity),
            Self::Token(entity) => serde_json::to_vec(entity),
            Self::JoinToken(entity) => serde_json::to_vec(entity),
            Self::Identity(entity) => serde_json::to_vec(entity),
            Self::Setting(entity) => serde_json::to_vec(entity),
            Self::Parameter(entity) => serde_json::to_vec(entity),
            Self::Secret(entity) => serde_json::to_vec(entity),
            Self::Subnet(entity) => serde_json::to_vec(entity),
            Self::SecurityGroup(entity) => serde_json::to_vec(entity),
            Self::Block(entity) => serde_json::to_vec(entity),
            Self::CapacityProvider(entity) => serde_json::to_vec(entity),
            Self::Fleet(entity) => serde_json::to_vec(entity),
        }
    }

    /// Reads a stored entity back.
    ///
    /// # Errors
    /// A key of no known kind, a value that is not of that kind, or one whose own key differs.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let (kind, _) = key.split_first().ok_or(DecodeError::UnknownKind { kind: 0 })?;
        let entity = match kind {
            b'c' => Self::Cluster(Arc::new(parse(key, value)?)),
            b'd' => Self::Definition(Arc::new(parse(key, value)?)),
            b'f' => Self::Family(Arc::new(parse(key, value)?)),
            b'i' => Self::Instance(Arc::new(parse(key, value)?)),
            b't' => Self::Task(Arc::new(parse(key, value)?)),
            b'k' => Self::Token(Arc::new(parse(key, value)?)),
            b'j' => Self::JoinToken(Arc::new(parse(key, value)?)),
            b'a' => Self::Identity(Arc::new(parse(key, value)?)),
            b's' => Self::Setting(Arc::new(parse(key, value)?)),
            b'p' => Self::Parameter(Arc::new(parse(key, value)?)),
            b'v' => Self::Secret(Arc::new(parse(key, value)?)),
            b'n' => Self::Subnet(Arc::new(parse(key, value)?)),
            b'g' => Self::SecurityGroup(Arc::new(parse(key, value)?)),
            b'b' => Self::Block(Arc::new(parse(key, value)?)),
            b'o' => Self::CapacityProvider(Arc::new(parse(key, value)?)),
            b'l' => Self::Fleet(Arc::new(parse(key, value)?)),
            &kind => return Err(DecodeError::UnknownKind { kind }),
        };
        match entity.key().encode() == key {
            true => Ok(entity),
            false => Err(DecodeError::Misplaced { key: printable(key) }),
        }
    }
}

fn parse<'de, T: Deserialize<'de>>(key: &[u8], value: &'de [u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(value).map_err(|source| DecodeError::Value { key: printable(key), source })
}

fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

impl EntityKey {
    /// The key as stored: entities of one kind, and tasks of one cluster, lie together and in order.
    pub fn encode(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(32);
        match self {
            Self::Cluster(name) => put(&mut key, b'c', &[name.as_bytes()]),
            Self::JoinToken(id) => put(&mut key, b'j', &[id.as_bytes()]),
            Self::Identity(access_key_id) => put(&mut key, b'a', &[access_key_id.as_bytes()]),
            Self::Setting(SettingKey { principal, name }) => {
                put(&mut key, b's', &[principal.as_bytes(), b"\0", name.as_str().as_bytes()]);
            }
            Self::Parameter(name) => put(&mut key, b'p', &[name.as_bytes()]),
            Self::Secret(name) => put(&mut key, b'v', &[name.as_bytes()]),
            Self::Subnet(id) => put(&mut key, b'n', &[id.as_bytes()]),
            Self::SecurityGroup(id) => put(&mut key, b'g', &[id.as_bytes()]),
            Self::Block(first) => put(&mut key, b'b', &[&first.octets()]),
            Self::CapacityProvider(name) => put(&mut key, b'o', &[name.as_bytes()]),
            Self::Fleet(FleetKey { cluster, provider }) => {
                put(&mut key, b'l', &[&cluster.0.to_be_bytes(), provider.as_bytes()]);
            }
            Self::Family(name) => put(&mut key, b'f', &[name.as_bytes()]),
            Self::Definition(DefinitionKey { family, revision }) => {
                put(&mut key, b'd', &[family.as_bytes(), b"\0", &revision.to_be_bytes()]);
            }
            Self::Instance(InstanceKey { cluster, id }) => {
                put(&mut key, b'i', &[&cluster.0.to_be_bytes(), &id.0.to_be_bytes()]);
            }
            Self::Task(TaskKey { cluster, id }) => {
                put(&mut key, b't', &[&cluster.0.to_be_bytes(), &id.0.to_be_bytes()]);
            }
            Self::Token(TokenKey { operation, cluster, token }) => {
                let parts: [&[u8]; 4] = [&cluster.0.to_be_bytes(), operation.as_bytes(), b"\0", token.as_bytes()];
                put(&mut key, b'k', &parts);
            }
        }
        key
    }
}

fn put(key: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
}

/// A stored record that cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No entity has such a key.
    #[error("a record of unknown kind {kind:#04x}: was this store written by a newer longshore?")]
    UnknownKind {
        /// The first byte of the key.
        kind: u8,
    },
    /// The value does not say what the key promises.
    #[error("the record {key} is not readable")]
    Value {
        /// The key, escaped.
        key: String,
        /// What the reader met.
        source: serde_json::Error,
    },
    /// The value belongs to another key.
    #[error("the record {key} lies under a key that is not its own")]
    Misplaced {
        /// The key, escaped.
        key: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An instance and a task as the first release wrote them, before instances had statuses and tasks verdicts.
    const OLD_INSTANCE: &str = r#"{"key":{"cluster":1,"id":"018bcfe56803c26b4dddc10cfd59c080"},"principal":"AKIA1","cpu":1000,
        "memory":1000,"reserved_ports":[{"port":22,"protocol":"tcp"}],"attributes":{"longshore.host-id":"host-1","rack":null},
        "version_info":{"agentVersion":"1.0.0"},"registered_at":1700000000.003,"version":2}"#;
    const OLD_TASK: &str = r#"{"key":{"cluster":1,"id":"018bcfe56807aaaaaaaaaaaaaaaaaaaa"},
        "instance":"018bcfe56803c26b4dddc10cfd59c080","definition":{"family":"web","revision":1},"group":"family:web",
        "launch_type":"EC2","cpu":100,"memory":100,"desired":"RUNNING","known":"RUNNING",
        "containers":[{"s":"RUNNING","d":{"runtime_id":"abc"}}],"created_at":1700000000.007,
        "life":{"connectivity_at":1700000001.5,"started_at":1700000002.25},"version":3}"#;

    /// The record without the spaces of the literals above.
    fn compact(text: &str) -> String {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        value.to_string()
    }

    fn read_back(text: &str, key: &EntityKey) -> Entity {
        let entity = Entity::decode(&key.encode(), text.as_bytes()).expect("old records load");
        let written = entity.encode().expect("JSON");
        let written = String::from_utf8(written).expect("text");
        assert_eq!(compact(&written), compact(text), "what has nothing new to say is written as before");
        entity
    }

    #[test]
    fn records_of_the_first_release_load_and_are_written_as_they_were() {
        let cluster = ClusterId(1);
        let id: InstanceId = "018bcfe56803c26b4dddc10cfd59c080".parse().expect("an id");
        let Entity::Instance(instance) = read_back(OLD_INSTANCE, &EntityKey::Instance(InstanceKey { cluster, id }))
        else {
            panic!("an instance")
        };
        assert_eq!((instance.status, instance.lost_at), (InstanceStatus::Active, None));
        let id: TaskId = "018bcfe56807aaaaaaaaaaaaaaaaaaaa".parse().expect("an id");
        let Entity::Task(task) = read_back(OLD_TASK, &EntityKey::Task(TaskKey { cluster, id })) else {
            panic!("a task")
        };
        assert_eq!((task.last_status(), task.is_stale()), (TaskStatus::Running, false));
    }

    #[test]
    fn a_verdict_and_a_status_survive_the_store() {
        let cluster = ClusterId(1);
        let at = Timestamp::from_millis(1_700_000_000_123);
        let Ok(Entity::Instance(old)) = Entity::decode(
            &EntityKey::Instance(InstanceKey { cluster, id: InstanceId(0x018b_cfe5_6803_c26b_4ddd_c10c_fd59_c080) })
                .encode(),
            OLD_INSTANCE.as_bytes(),
        ) else {
            panic!("an instance")
        };
        let (status, lost_at) = (InstanceStatus::Deregistering, Some(at));
        let instance = Entity::Instance(Arc::new(Instance { status, lost_at, ..Instance::clone(&old) }));
        let stored = instance.encode().expect("JSON");
        assert_eq!(Entity::decode(&instance.key().encode(), &stored).expect("reads"), instance);
        let id = TaskId(0x018b_cfe5_6807_aaaa_aaaa_aaaa_aaaa_aaaa);
        let Ok(Entity::Task(old)) =
            Entity::decode(&EntityKey::Task(TaskKey { cluster, id }).encode(), OLD_TASK.as_bytes())
        else {
            panic!("a task")
        };
        let verdict = Some(Verdict { at, settled_at: None });
        let task = Task { verdict, ..Task::clone(&old) };
        assert!(task.is_stale() && task.last_status() == TaskStatus::Stopped && task.over_since().is_none());
        let task = Entity::Task(Arc::new(task));
        let stored = task.encode().expect("JSON");
        assert_eq!(Entity::decode(&task.key().encode(), &stored).expect("reads"), task);
    }
}
