//! ListTasks, and the index that spares it from reading every task.

use imbl::OrdSet;
use longshore_api::ApiError;
use longshore_api::ecs::types::{self, LaunchType};
use longshore_api::ecs::{Response, error};

use crate::entity::{Cluster, Task};
use crate::ids::{ClusterId, InstanceId, InstanceKey, TaskId, TaskKey};
use crate::names;
use crate::read::{Page, ReadModel, bad_token, merged, page};
use crate::task::status::{DesiredStatus, TaskStatus};

/// What tasks of a cluster can have in common and a caller can look for. None of it changes in the life of a task, but for where it
/// is, once, if it had to wait for that, and the last.
#[derive(Clone, Copy, Debug)]
enum Facet<'a> {
    /// Every task has one: those of all launch types together are all.
    LaunchType(LaunchType),
    Family(&'a str),
    StartedBy(&'a str),
    Instance(InstanceId),
    /// On this instance, and not wanted any more, while its agent has not said STOPPED.
    Ending(InstanceId),
}

/// A facet of one cluster and one desired status, as a number: small, and copied without counting references. Should two be
/// the same, a listing reads more tasks than it needs; what it answers is checked against each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FacetKey(u64);

impl Facet<'_> {
    fn key(self, cluster: ClusterId, desired: DesiredStatus) -> FacetKey {
        let id;
        let (kind, value): (u8, &[u8]) = match self {
            Facet::LaunchType(launch_type) => (0, launch_type.as_str().as_bytes()),
            Facet::Family(family) => (1, family.as_bytes()),
            Facet::StartedBy(mark) => (2, mark.as_bytes()),
            Facet::Instance(instance) => {
                id = instance.0.to_be_bytes();
                (3, &id)
            }
            Facet::Ending(instance) => {
                id = instance.0.to_be_bytes();
                (4, &id)
            }
        };
        let head = [kind, desired as u8];
        FacetKey(hash(head.iter().chain(&cluster.0.to_be_bytes()).chain(value)))
    }
}

/// FNV-1a: short, and the same on every machine and in every release.
fn hash<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The tasks of every facet, in the order of their creation. Derived. A placement costs three or four entries, the end of a
/// task as many again, and one more if it was ordered; what agents report in between costs none.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskIndex {
    entries: OrdSet<Entry>,
}

type Entry = (FacetKey, TaskId);

impl TaskIndex {
    /// A task came, changed, or went.
    pub(crate) fn change(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let lasts = |task: Option<&Task>| task.map(|task| (task.desired_status(), task.instance));
        if lasts(old) != lasts(new) {
            for entry in old.into_iter().flat_map(lasting) {
                self.entries.remove(&entry);
            }
            self.entries.extend(new.into_iter().flat_map(lasting));
        }
        let (before, after) = (old.and_then(ending), new.and_then(ending));
        if before != after {
            before.map(|entry| self.entries.remove(&entry));
            self.entries.extend(after);
        }
    }

    /// Whether it is what a recount of these tasks gives. Each is looked up: that is quicker than counting anew.
    pub(crate) fn holds_exactly<'a>(&self, tasks: impl Iterator<Item = &'a Task>) -> bool {
        let mut expected = 0;
        let held = tasks.flat_map(|task| lasting(task).chain(ending(task))).all(|entry| {
            expected += 1;
            self.entries.contains(&entry)
        });
        held && expected == self.entries.len()
    }

    /// The tasks that hold something on an instance, in no order: those whose agent has not said STOPPED. Now and then one of
    /// another instance.
    pub(crate) fn held_on(&self, instance: InstanceKey) -> impl Iterator<Item = TaskKey> {
        let wanted = Facet::Instance(instance.id).key(instance.cluster, DesiredStatus::Running);
        let ending = Facet::Ending(instance.id).key(instance.cluster, DesiredStatus::Stopped);
        let ids = [wanted, ending].into_iter().flat_map(|facet| self.after(facet, TaskId(0)));
        ids.map(move |id| TaskKey { cluster: instance.cluster, id })
    }

    /// The tasks that have each of these facets and were created after another one. Now and then one that has not.
    fn having(&self, facets: &[FacetKey], after: TaskId) -> Box<dyn Iterator<Item = TaskId> + '_> {
        match facets {
            [facet] => Box::new(self.after(*facet, after)),
            facets => Box::new(self.common(facets.to_vec(), after)),
        }
    }

    /// The tasks of a facet that were created after another one.
    fn after(&self, facet: FacetKey, task: TaskId) -> impl Iterator<Item = TaskId> {
        let first = TaskId(task.0.saturating_add(1));
        self.entries.range((facet, first)..=(facet, TaskId(u128::MAX))).map(|(_, id)| *id)
    }

    /// What several facets have in common. Each names its next task that is not before the one named last, until all name the
    /// same: what is rare in one facet is not searched for among the many of another.
    fn common(&self, facets: Vec<FacetKey>, mut last: TaskId) -> impl Iterator<Item = TaskId> {
        std::iter::from_fn(move || {
            let mut next = TaskId(last.0.saturating_add(1));
            loop {
                let not_before = |id: TaskId, facet| self.after(facet, TaskId(id.0.saturating_sub(1))).next();
                let agreed = facets.iter().copied().try_fold(next, not_before)?;
                if agreed == next {
                    last = next;
                    return Some(next);
                }
                next = agreed;
            }
        })
    }
}

/// The entries of a task that change with what is wanted of it alone.
fn lasting(task: &Task) -> impl Iterator<Item = Entry> {
    let (TaskKey { cluster, id }, desired) = (task.key, task.desired_status());
    let always = [Facet::LaunchType(task.launch_type), Facet::Family(&task.definition.family)];
    let some = [task.instance.map(Facet::Instance), task.started_by.as_deref().map(Facet::StartedBy)];
    let facets = always.into_iter().chain(some.into_iter().flatten());
    facets.map(move |facet| (facet.key(cluster, desired), id))
}

/// The entry of a task that is to stop, or is over for the API, while its agent has not said so.
fn ending(task: &Task) -> Option<Entry> {
    let ending = task.desired_status() == DesiredStatus::Stopped && task.known != TaskStatus::Stopped;
    let facet = Facet::Ending(task.instance.filter(|_| ending)?);
    Some((facet.key(task.key.cluster, DesiredStatus::Stopped), task.key.id))
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
        let candidates = filter.candidates(view, cluster.id, after);
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

    /// What may match, created after another task. Where nothing is filtered all do.
    fn candidates(self, view: &ReadModel, cluster: ClusterId, after: TaskId) -> impl Iterator<Item = TaskId> {
        let facets = [
            self.started_by.map(Facet::StartedBy),
            self.instance.map(Facet::Instance),
            self.family.map(Facet::Family),
            self.launch_type.map(Facet::LaunchType),
        ];
        let key = |facet: Facet<'_>| facet.key(cluster, self.desired);
        let facets: Vec<FacetKey> = facets.into_iter().flatten().map(key).collect();
        let sequences = match facets.is_empty() {
            true => LaunchType::ALL.iter().map(|launch_type| vec![key(Facet::LaunchType(*launch_type))]).collect(),
            false => vec![facets],
        };
        merged(sequences.into_iter().map(move |facets| view.task_index.having(&facets, after)))
    }

    fn matches(&self, task: &Task) -> bool {
        self.desired == task.desired_status()
            && self.family.is_none_or(|family| *task.definition.family == *family)
            && self.started_by.is_none_or(|mark| task.started_by.as_deref() == Some(mark))
            && self.instance.is_none_or(|instance| Some(instance) == task.instance)
            && self.launch_type.is_none_or(|launch_type| launch_type == task.launch_type)
    }
}

#[cfg(test)]
mod tests;
