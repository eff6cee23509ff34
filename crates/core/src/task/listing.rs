//! ListTasks, and the index that spares it from reading every task.

use imbl::OrdSet;
use longshore_api::ApiError;
use longshore_api::ecs::types::{self, LaunchType};
use longshore_api::ecs::{Response, error};

use crate::entity::{Cluster, Task};
use crate::ids::{ClusterId, InstanceId, InstanceKey, TaskId, TaskKey};
use crate::names;
use crate::read::{Page, ReadModel, bad_token, page};
use crate::task::status::DesiredStatus;

/// What tasks of a cluster can have in common and a caller can look for. None of it changes in the life of a task.
#[derive(Clone, Copy, Debug)]
enum Facet<'a> {
    /// Every task has it.
    Any,
    Family(&'a str),
    StartedBy(&'a str),
    Instance(InstanceId),
    /// Any but EC2, which nearly every task has.
    LaunchType(LaunchType),
}

/// A facet of one cluster and one desired status, as a number: small, and copied without counting references. Should two be
/// the same, a listing reads more tasks than it needs; what it answers is checked against each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FacetKey(u64);

impl Facet<'_> {
    fn key(self, cluster: ClusterId, desired: DesiredStatus) -> FacetKey {
        let id;
        let (kind, value): (u8, &[u8]) = match self {
            Facet::Any => (0, &[]),
            Facet::Family(family) => (1, family.as_bytes()),
            Facet::StartedBy(mark) => (2, mark.as_bytes()),
            Facet::Instance(instance) => {
                id = instance.0.to_be_bytes();
                (3, &id)
            }
            Facet::LaunchType(launch_type) => (4, launch_type.as_str().as_bytes()),
        };
        let head = [kind, desired as u8];
        FacetKey(hash(head.iter().chain(&cluster.0.to_be_bytes()).chain(value)))
    }
}

/// FNV-1a: short, and the same on every machine and in every release.
fn hash<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The tasks of every facet, in the order of their creation. Derived. A placement costs three to five entries, the end of a
/// task as many again; what agents report in between costs none.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskIndex {
    entries: OrdSet<(FacetKey, TaskId)>,
}

impl TaskIndex {
    /// A task came, changed, or went.
    pub(crate) fn change(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let desired = |task: Option<&Task>| task.map(Task::desired_status);
        if desired(old) == desired(new) {
            return;
        }
        for (task, key) in old.into_iter().flat_map(facets) {
            self.entries.remove(&(key, task));
        }
        for (task, key) in new.into_iter().flat_map(facets) {
            self.entries.insert((key, task));
        }
    }

    /// Whether it is what a recount of these tasks gives. Each is looked up: that is quicker than counting anew.
    pub(crate) fn holds_exactly<'a>(&self, tasks: impl Iterator<Item = &'a Task>) -> bool {
        let mut expected = 0;
        let held = tasks.flat_map(facets).all(|(task, key)| {
            expected += 1;
            self.entries.contains(&(key, task))
        });
        held && expected == self.entries.len()
    }

    /// The tasks of an instance, wanted or not; now and then one of another instance.
    pub(crate) fn on(&self, instance: InstanceKey) -> impl Iterator<Item = TaskKey> {
        let both = [DesiredStatus::Running, DesiredStatus::Stopped].into_iter();
        let facets = both.map(move |desired| Facet::Instance(instance.id).key(instance.cluster, desired));
        let ids = facets.flat_map(|facet| self.after(facet, TaskId(0)));
        ids.map(move |id| TaskKey { cluster: instance.cluster, id })
    }

    /// The tasks of a facet that were created after another one.
    fn after(&self, facet: FacetKey, task: TaskId) -> impl Iterator<Item = TaskId> {
        let first = TaskId(task.0.saturating_add(1));
        self.entries.range((facet, first)..=(facet, TaskId(u128::MAX))).map(|(_, id)| *id)
    }
}

fn facets(task: &Task) -> impl Iterator<Item = (TaskId, FacetKey)> {
    let (TaskKey { cluster, id }, desired) = (task.key, task.desired_status());
    let launch_type = (task.launch_type != LaunchType::Ec2).then_some(Facet::LaunchType(task.launch_type));
    let always = [Facet::Any, Facet::Family(&task.definition.family), Facet::Instance(task.instance)];
    let sometimes = [task.started_by.as_deref().map(Facet::StartedBy), launch_type];
    always.into_iter().chain(sometimes.into_iter().flatten()).map(move |facet| (id, facet.key(cluster, desired)))
}

/// ListTasks, in the order of creation.
pub(crate) fn list(view: &ReadModel, request: &types::ListTasksRequest) -> Result<Response, ApiError> {
    let cluster = view.cluster(request.cluster.as_deref())?;
    let filter = Filter::new(view, cluster, request)?;
    let after = match request.next_token.as_deref() {
        None => TaskId(0),
        Some(token) => token.parse().map_err(|_| bad_token())?,
    };
    let listed = filter.into_iter().flat_map(move |filter| {
        let candidates = view.task_index.after(filter.facet().key(cluster.id, filter.desired), after);
        let task = |id| view.tasks.get(&TaskKey { cluster: cluster.id, id });
        candidates.filter_map(task).filter(move |task| filter.matches(task))
    });
    let Page { items, next } = page(listed, request.max_results, |task| task.key.id.to_string());
    let arns = items.into_iter().map(|task| view.config.task_arn(&cluster.name, task.key.id)).collect();
    let response = types::ListTasksResponse { task_arns: Some(arns), next_token: next };
    Ok(Response::ListTasks(Box::new(response)))
}

/// The filters of ListTasks. They combine, but for `startedBy`.
#[derive(Clone, Copy)]
struct Filter<'a> {
    desired: DesiredStatus,
    family: Option<&'a str>,
    started_by: Option<&'a str>,
    instance: Option<InstanceId>,
    launch_type: Option<LaunchType>,
}

impl<'a> Filter<'a> {
    /// `None` when no task can match.
    fn new(
        view: &ReadModel,
        cluster: &Cluster,
        request: &'a types::ListTasksRequest,
    ) -> Result<Option<Self>, ApiError> {
        let given = |value: &'a Option<String>| value.as_deref().filter(|value| !value.is_empty());
        let others = [&request.family, &request.service_name, &request.container_instance, &request.daemon_name];
        let filtered = others.into_iter().any(|other| given(other).is_some()) || request.launch_type.is_some();
        // The documentation wants `startedBy` alone; ECS takes `desiredStatus` with it, and workflow engines rely on that.
        if given(&request.started_by).is_some() && filtered {
            return Err(ApiError::invalid_parameter("cannot specify startedBy with other arguments"));
        }
        // There is no service yet, so that whichever is named is unknown.
        if given(&request.service_name).is_some() {
            return Err(ApiError::new(error::SERVICE_NOT_FOUND_EXCEPTION, "Service not found."));
        }
        let instance = match given(&request.container_instance) {
            None => None,
            Some(name) => match names::instance(&view.config, cluster, name)? {
                // Nothing runs on an instance of elsewhere.
                None => return Ok(None),
                found => found,
            },
        };
        // There is no daemon yet.
        if given(&request.daemon_name).is_some() {
            return Ok(None);
        }
        let desired = match request.desired_status {
            None | Some(types::DesiredStatus::Running) => DesiredStatus::Running,
            Some(types::DesiredStatus::Stopped) => DesiredStatus::Stopped,
            // ECS never sets it.
            Some(types::DesiredStatus::Pending) => return Ok(None),
        };
        Ok(Some(Self {
            desired,
            family: given(&request.family),
            started_by: given(&request.started_by),
            instance,
            launch_type: request.launch_type,
        }))
    }

    /// The most selective facet that the filters name.
    fn facet(&self) -> Facet<'a> {
        let launch_type = self.launch_type.filter(|launch_type| *launch_type != LaunchType::Ec2);
        match (self.started_by, self.instance, self.family, launch_type) {
            (Some(mark), ..) => Facet::StartedBy(mark),
            (None, Some(id), ..) => Facet::Instance(id),
            (None, None, Some(family), _) => Facet::Family(family),
            (None, None, None, Some(launch_type)) => Facet::LaunchType(launch_type),
            (None, None, None, None) => Facet::Any,
        }
    }

    fn matches(&self, task: &Task) -> bool {
        self.desired == task.desired_status()
            && self.family.is_none_or(|family| *task.definition.family == *family)
            && self.started_by.is_none_or(|mark| task.started_by.as_deref() == Some(mark))
            && self.instance.is_none_or(|instance| instance == task.instance)
            && self.launch_type.is_none_or(|launch_type| launch_type == task.launch_type)
    }
}
