//! The read model: a snapshot of all entities that any thread may read, and the answers of Describe and List.
//!
//! Its maps are persistent: taking a snapshot copies nothing, and the writer goes on while readers read. What a
//! reader sees is always one committed state.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use longshore_api::ecs::types::{LaunchType, TaskDefinitionFamilyStatus, TaskDefinitionStatus};
use longshore_api::ecs::{self, Request, Response};
use longshore_api::{ApiError, Timestamp};

use crate::capacity::{self, CapacityProvider, Fleet, FleetKey};
use crate::cluster;
use crate::config::CellConfig;
use crate::entity::{AccountSetting, Cluster, Definition, Family, Identity, Instance, JoinToken, SettingKey, Task};
use crate::event;
use crate::identity::Authorised;
use crate::ids::{ClusterId, DefinitionKey, InstanceKey, TaskKey};
use crate::instance::health::Checks;
use crate::network::{HostNetwork, SecurityGroup, Subnet};
use crate::resources::HostPort;
use crate::schedule::Schedule;
use crate::scheduler::Asking;
use crate::secret::{Parameter, StoredSecret};
use crate::task::listing::TaskIndex;
use crate::task::status::TaskStatus;
use crate::task_definition::Resolved;
use crate::{attributes, instance, names, settings, tags, task, task_definition};

/// A snapshot. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct ReadModel {
    pub(crate) config: Arc<CellConfig>,
    pub(crate) clusters: OrdMap<Arc<str>, Arc<Cluster>>,
    /// Derived: the name of each cluster, by id.
    pub(crate) cluster_names: OrdMap<ClusterId, Arc<str>>,
    pub(crate) providers: OrdMap<Arc<str>, Arc<CapacityProvider>>,
    pub(crate) fleets: OrdMap<FleetKey, Arc<Fleet>>,
    pub(crate) families: OrdMap<Arc<str>, Arc<Family>>,
    pub(crate) definitions: OrdMap<DefinitionKey, KnownDefinition>,
    /// Derived: the definitions that the API knows.
    pub(crate) definitions_by_status: OrdSet<(TaskDefinitionStatus, DefinitionKey)>,
    /// Derived: the families that have any of these, ACTIVE or INACTIVE.
    pub(crate) families_by_status: OrdSet<(TaskDefinitionFamilyStatus, Arc<str>)>,
    pub(crate) instances: OrdMap<InstanceKey, Arc<Instance>>,
    /// Derived: the instances that each access key registered.
    pub(crate) instances_by_key: OrdSet<(Arc<str>, InstanceKey)>,
    pub(crate) tasks: OrdMap<TaskKey, Arc<Task>>,
    /// Derived.
    pub(crate) task_index: TaskIndex,
    /// Derived, but for its horizon.
    pub(crate) events: event::Log,
    /// The commit number given out last; as of the publication.
    pub(crate) sequence: u64,
    /// Derived: the tasks that wait for the scheduler of their cluster.
    pub(crate) asking: Asking,
    pub(crate) join_tokens: OrdMap<Arc<str>, Arc<JoinToken>>,
    pub(crate) identities: OrdMap<Arc<str>, Arc<Identity>>,
    pub(crate) settings: OrdMap<SettingKey, Arc<AccountSetting>>,
    pub(crate) parameters: OrdMap<Arc<str>, Arc<Parameter>>,
    pub(crate) secrets: OrdMap<Arc<str>, Arc<StoredSecret>>,
    pub(crate) schedules: OrdMap<Arc<str>, Arc<Schedule>>,
    /// Those that were adopted.
    pub(crate) subnets: OrdMap<Arc<str>, Arc<Subnet>>,
    /// Those that were adopted.
    pub(crate) groups: OrdMap<Arc<str>, Arc<SecurityGroup>>,
    /// Derived: the hosts that have blocks of addresses.
    pub(crate) hosts: OrdMap<Arc<str>, Arc<HostNetwork>>,
    /// Derived: the addresses of the tasks of those groups that a rule names.
    pub(crate) group_members: OrdSet<(Arc<str>, Ipv4Addr)>,
    /// Derived; as of the publication.
    pub(crate) usage: OrdMap<InstanceKey, Usage>,
    /// Volatile; as of the publication: the clusters whose mass-loss brake is engaged.
    pub(crate) braked: Arc<BTreeSet<ClusterId>>,
    /// Derived; `instances` as of the publication. Who counts nothing is not in it.
    pub(crate) counters: OrdMap<ClusterId, Counters>,
}

/// A definition's document and what the core computes on.
#[derive(Clone, Debug)]
pub(crate) struct KnownDefinition {
    pub(crate) record: Arc<Definition>,
    pub(crate) resolved: Arc<Resolved>,
}

/// What an instance has left, derived from its tasks; and whether its agent is connected, which is volatile.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu_free: i64,
    pub(crate) memory_free: i64,
    pub(crate) ports: Arc<[HostPort]>,
    /// GPUs that tasks have.
    pub(crate) gpus: Arc<[Arc<str>]>,
    pub(crate) pending: u32,
    pub(crate) running: u32,
    pub(crate) connected: bool,
    /// When the last session since this cell began ended, while none is open.
    pub(crate) disconnected_at: Option<Timestamp>,
    /// What its agent said of its health last, in this session. Volatile.
    pub(crate) health: Checks,
}

/// How many of each a cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) instances: usize,
    pub(crate) pending: usize,
    pub(crate) running: usize,
    /// Those of the above that were launched as EXTERNAL.
    pub(crate) external_pending: usize,
    pub(crate) external_running: usize,
    /// Those that were launched as FARGATE.
    pub(crate) fargate_pending: usize,
    pub(crate) fargate_running: usize,
}

impl Counters {
    pub(crate) fn add(&mut self, task: &Task) {
        self.each_of(task, |counter| *counter += 1);
    }

    pub(crate) fn remove(&mut self, task: &Task) {
        self.each_of(task, |counter| *counter -= 1);
    }

    fn each_of(&mut self, task: &Task, change: impl Fn(&mut usize)) {
        let (all, external, fargate) = match task.last_status() {
            // To callers a task that waits is one that is pending.
            TaskStatus::Provisioning | TaskStatus::Pending => {
                (&mut self.pending, &mut self.external_pending, &mut self.fargate_pending)
            }
            TaskStatus::Running => (&mut self.running, &mut self.external_running, &mut self.fargate_running),
            TaskStatus::Stopped => return,
        };
        change(all);
        match task.launch_type {
            LaunchType::External => change(external),
            LaunchType::Fargate => change(fargate),
            LaunchType::Ec2 | LaunchType::ManagedInstances => {}
        }
    }
}

impl ReadModel {
    /// A cell's state before anything happened.
    pub fn empty(config: Arc<CellConfig>) -> Self {
        Self {
            config,
            clusters: OrdMap::new(),
            cluster_names: OrdMap::new(),
            providers: OrdMap::new(),
            fleets: OrdMap::new(),
            families: OrdMap::new(),
            definitions: OrdMap::new(),
            definitions_by_status: OrdSet::new(),
            families_by_status: OrdSet::new(),
            instances: OrdMap::new(),
            instances_by_key: OrdSet::new(),
            tasks: OrdMap::new(),
            task_index: TaskIndex::default(),
            events: event::Log::default(),
            sequence: 0,
            asking: Asking::default(),
            join_tokens: OrdMap::new(),
            identities: OrdMap::new(),
            settings: OrdMap::new(),
            parameters: OrdMap::new(),
            secrets: OrdMap::new(),
            schedules: OrdMap::new(),
            subnets: OrdMap::new(),
            groups: OrdMap::new(),
            hosts: OrdMap::new(),
            group_members: OrdSet::new(),
            usage: OrdMap::new(),
            braked: Arc::default(),
            counters: OrdMap::new(),
        }
    }

    /// Answers a request that only reads; `None` when the request is for the cell.
    pub fn answer(&self, authorised: Authorised<'_, Request>) -> Option<Result<Response, ApiError>> {
        Some(match authorised.request() {
            Request::DescribeClusters(request) => cluster::describe::describe(self, request),
            Request::ListClusters(request) => cluster::describe::list(self, request),
            Request::DescribeCapacityProviders(request) => capacity::describe(self, request),
            Request::ListAccountSettings(request) => settings::list(self, authorised.principal(), request),
            Request::DescribeTaskDefinition(request) => task_definition::operations::describe(self, request),
            Request::ListTaskDefinitions(request) => task_definition::operations::list(self, request),
            Request::ListTaskDefinitionFamilies(request) => task_definition::operations::list_families(self, request),
            Request::DescribeContainerInstances(request) => instance::describe::describe(self, request),
            Request::ListContainerInstances(request) => instance::describe::list(self, request),
            Request::UpdateContainerAgent(request) => instance::agent_update::update(self, request),
            Request::ListAttributes(request) => attributes::list(self, request),
            Request::ListTagsForResource(request) => tags::list(self, request),
            Request::DescribeTasks(request) => task::describe::describe(self, request),
            Request::ListTasks(request) => task::listing::list(self, request),
            _ => return None,
        })
    }

    /// The ACTIVE cluster that a request means.
    pub(crate) fn cluster(&self, given: Option<&str>) -> Result<&Arc<Cluster>, ApiError> {
        names::cluster(&self.config, given)?
            .and_then(|name| self.clusters.get(&*name))
            .filter(|cluster| cluster.active)
            .ok_or_else(|| ApiError::new(ecs::error::CLUSTER_NOT_FOUND_EXCEPTION, "Cluster not found."))
    }

    /// How many tasks there are, running and stopped.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Every task, in the order of cluster and creation. For checkers and tools, not for requests.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// Every instance.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values()
    }

    /// How many agents are connected.
    pub fn connected_agents(&self) -> usize {
        self.usage.values().filter(|usage| usage.connected).count()
    }
}

/// One page of a listing: at most `max` items that lie behind `after`, and the token for the rest.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<String>,
}

/// Cuts a page out of `items`, which come in order and behind the cursor. The cursor is the last item's own key, so
/// that what comes and goes meanwhile neither repeats nor loses anything that stays.
pub(crate) fn page<T>(items: impl Iterator<Item = T>, max: Option<i32>, cursor: impl Fn(&T) -> String) -> Page<T> {
    page_of(items, max, crate::limits::PAGE, cursor)
}

/// As [`page`], for a listing whose pages have another size at most.
pub(crate) fn page_of<T>(
    items: impl Iterator<Item = T>,
    max: Option<i32>,
    most: usize,
    cursor: impl Fn(&T) -> String,
) -> Page<T> {
    let size = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(most).clamp(1, most);
    let mut items: Vec<T> = items.take(size + 1).collect();
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(cursor);
    Page { items, next }
}

/// Several ascending sequences as one. They are few: each item looks at all of them.
pub(crate) fn merged<T: Ord, S: Iterator<Item = T>>(sequences: impl IntoIterator<Item = S>) -> impl Iterator<Item = T> {
    let head = |mut sequence: S| Some((sequence.next()?, sequence));
    let mut heads: Vec<(T, S)> = sequences.into_iter().filter_map(head).collect();
    std::iter::from_fn(move || {
        let least = (0..heads.len()).min_by(|&one, &other| heads[one].0.cmp(&heads[other].0))?;
        let (item, rest) = &mut heads[least];
        match rest.next() {
            Some(next) => Some(std::mem::replace(item, next)),
            None => Some(heads.swap_remove(least).0),
        }
    })
}

/// A `nextToken` that is none of ours.
pub(crate) fn bad_token() -> ApiError {
    ApiError::invalid_parameter("Invalid token: start the listing again without nextToken.")
}
