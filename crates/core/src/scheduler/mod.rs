//! External schedulers: a cluster can name one, and then it decides where the cluster's tasks go.
//!
//! RunTask makes PROVISIONING tasks, and an effect has the shell ask: [`ReadModel::scheduler_question`] is what it asks, and a
//! scheduler's placements come back as a command, to be held against the pool like any other. A scheduler is never believed: what
//! it says is a wish. What it does not decide about in time goes the way of the cluster's fallback.

mod asking;
mod question;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use longshore_api::admin::{
    ClusterScheduler, DescribeClusterSchedulerRequest, DescribeClusterSchedulerResponse, SchedulerFallback,
    SetClusterSchedulerRequest, SetClusterSchedulerResponse, UnsetClusterSchedulerRequest,
    UnsetClusterSchedulerResponse,
};
use longshore_api::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cell::{Effect, Turn};
use crate::entity::{Cluster, Entity};
use crate::ids::{ClusterId, InstanceKey, TaskKey};
use crate::names;
use crate::read::ReadModel;
use crate::task::waiting::{WaitingFor, advance};
pub(crate) use asking::Asking;
pub use question::{Answer, AskedTask, Candidate, PlacementRefused, Question, Wish};

/// Seconds that a scheduler has unless its cluster says otherwise.
const DEADLINE_S: i32 = 5;

/// The external scheduler of a cluster. Durable, with its cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulerHook {
    /// Where it is asked.
    pub url: Arc<str>,
    /// How long it may take to decide about a task.
    pub deadline_s: i32,
    /// What becomes of a task that it does not decide about in time.
    pub fallback: SchedulerFallback,
    /// When it was named so, or changed.
    #[serde(default)]
    pub since: Timestamp,
}

impl SchedulerHook {
    /// When a task must be decided about, if ever. Tasks that waited when the scheduler was changed have the whole deadline from
    /// then, so that it is asked about them at all.
    pub(crate) fn decide_by(&self, created_at: Timestamp) -> Option<Timestamp> {
        match self.fallback {
            SchedulerFallback::Wait => None,
            SchedulerFallback::Place | SchedulerFallback::Stop => {
                Some(created_at.max(self.since).plus_millis(i64::from(self.deadline_s) * 1_000))
            }
        }
    }

    fn shown(&self) -> ClusterScheduler {
        let Self { url, deadline_s, fallback, since: _ } = self;
        ClusterScheduler { deadline_seconds: *deadline_s, fallback: *fallback, url: url.to_string() }
    }
}

/// SetClusterScheduler.
pub(crate) fn set(
    turn: &mut Turn<'_>,
    request: &SetClusterSchedulerRequest,
) -> Result<SetClusterSchedulerResponse, ApiError> {
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    check_url(&request.url)?;
    let mut hook = SchedulerHook {
        url: request.url.as_str().into(),
        deadline_s: request.deadline_seconds.unwrap_or(DEADLINE_S),
        fallback: request.fallback.unwrap_or_default(),
        since: turn.now,
    };
    let scheduler = hook.shown();
    // Who says the same again and again must not put the deadlines off for ever.
    if let Some(same) = cluster.scheduler.as_ref().filter(|before| before.shown() == scheduler) {
        hook.since = same.since;
    }
    put(turn, &cluster, Some(hook));
    turn.ask_scheduler(cluster.id);
    Ok(SetClusterSchedulerResponse { scheduler })
}

/// UnsetClusterScheduler.
pub(crate) fn unset(
    turn: &mut Turn<'_>,
    request: &UnsetClusterSchedulerRequest,
) -> Result<UnsetClusterSchedulerResponse, ApiError> {
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    put(turn, &cluster, None);
    Ok(UnsetClusterSchedulerResponse { cluster: cluster.name.to_string() })
}

/// DescribeClusterScheduler.
pub(crate) fn describe(
    view: &ReadModel,
    request: &DescribeClusterSchedulerRequest,
) -> Result<DescribeClusterSchedulerResponse, ApiError> {
    let cluster = view.cluster(request.cluster.as_deref())?;
    Ok(DescribeClusterSchedulerResponse {
        cluster: cluster.name.to_string(),
        scheduler: cluster.scheduler.as_ref().map(SchedulerHook::shown),
        waiting_tasks: i32::try_from(view.asking.count(cluster.id)).unwrap_or(i32::MAX),
    })
}

fn put(turn: &mut Turn<'_>, cluster: &Cluster, scheduler: Option<SchedulerHook>) {
    if cluster.scheduler != scheduler {
        turn.tables.put(Entity::Cluster(Arc::new(Cluster { scheduler, ..cluster.clone() })));
    }
}

/// Whoever asks knows more of URLs; this is so that nothing is stored that can never be asked.
fn check_url(url: &str) -> Result<(), ApiError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let plain = url.chars().all(|c| c.is_ascii_graphic() && !"@?#".contains(c));
    match rest.filter(|rest| plain && !rest.is_empty() && !rest.starts_with('/')) {
        Some(_) => Ok(()),
        None => Err(ApiError::invalid_parameter(format!(
            "The url '{url}' of a scheduler is to be of the form http://host:port/path or https://host:port/path."
        ))),
    }
}

/// Places tasks as a scheduler wishes, as far as one command may; answers what became of the first wishes, in their order. The
/// rest is to be sent again.
pub(crate) fn place(turn: &mut Turn<'_>, cluster: &str, wishes: &[Wish]) -> Vec<Result<(), PlacementRefused>> {
    let mut fits = advance::Fits::new();
    let mut done = Vec::with_capacity(wishes.len());
    for wish in wishes {
        if !advance::has_room(turn) {
            break;
        }
        done.push(fulfil(turn, cluster, wish, &mut fits).map_err(|(reason, detail)| PlacementRefused {
            task_arn: wish.task_arn.clone(),
            container_instance_arn: wish.container_instance_arn.clone(),
            reason,
            detail,
        }));
    }
    done
}

fn fulfil(turn: &mut Turn<'_>, cluster: &str, wish: &Wish, fits: &mut advance::Fits) -> Result<(), (String, String)> {
    let refuse = |reason: &str, detail: &str| (reason.to_owned(), detail.to_owned());
    let view = turn.tables.view();
    let here = view.clusters.get(cluster).cloned().ok_or_else(|| refuse("MISSING", "the cluster is not there"))?;
    let task = names::task(turn.config, &here, &wish.task_arn).ok().flatten();
    let task = task.and_then(|id| view.tasks.get(&TaskKey { cluster: here.id, id })).cloned();
    let task = task.ok_or_else(|| refuse("MISSING", "there is no such task in the cluster"))?;
    let Some(waiting) = task.waiting.as_ref().filter(|waiting| waiting.on == WaitingFor::Scheduler) else {
        return Err(refuse("DECIDED", &format!("the task waits for no scheduler: it is {}", task.last_status())));
    };
    let instance = names::instance(turn.config, &here, &wish.container_instance_arn).ok().flatten();
    let key = instance.map(|id| InstanceKey { cluster: here.id, id });
    let key = key.filter(|key| turn.tables.pool().slot(*key).is_some());
    let key = key.ok_or_else(|| refuse("MISSING", "there is no such container instance in the cluster"))?;
    advance::place_on(turn, &task, waiting, key, fits)
}

impl Turn<'_> {
    /// Has the scheduler of a cluster asked about the tasks that wait for it.
    pub(crate) fn ask_scheduler(&mut self, cluster: ClusterId) {
        let ask = Effect::AskScheduler { cluster };
        if !self.effects.contains(&ask) {
            self.effects.push(ask);
        }
    }
}
