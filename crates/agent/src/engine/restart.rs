//! Restart policies: a container that has ended is started again in place, and nobody is told.
//!
//! The Docker container stays the same, and so do its name, its id and its ports. That it is to be started again is as durable as
//! the intention of its first start, and names the Docker that is asked: whatever dies in between, no run follows another but by
//! the policy. Docker's time of a run's beginning tells that run from the next.

use longshore_agent_protocol::acs;
use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

use super::container::{self, ContainerRecord};
use super::input::{DockerLife, HealthStatus};
use super::record::{Desired, TaskRecord};

/// A policy that says nothing else asks for so many seconds between two starts.
const DEFAULT_PERIOD_S: i64 = 60;

/// What a container's restart policy has made of it. Durable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restarts {
    /// How often it was started again.
    pub count: u32,
    /// When that was last.
    pub last_at: Option<Timestamp>,
    /// The restart that is meant, until it is known to have happened.
    pub next: Option<Restart>,
}

/// A restart that is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// When the run began that it follows, by Docker's clock.
    pub after: Timestamp,
    /// Set before Docker is asked.
    pub asked: bool,
}

/// A run that is over, as Docker tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) exit_code: i32,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

/// What follows from a container that Docker says has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is to be started again.
    Restart {
        /// Whether that was decided just now.
        decided: bool,
    },
    /// It has ended for good.
    End,
    /// It may have run again, and must not be started a third time.
    Unsure,
}

impl Restarts {
    /// Whether there is nothing to be kept.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The policy that is in force for a container: none once its task is to stop.
pub(crate) fn policy(task: &TaskRecord, container: &str) -> Option<acs::RestartPolicy> {
    let definition = task.definition.containers.iter().find(|definition| definition.name == container)?;
    let policy = definition.restart_policy.clone().filter(|policy| policy.enabled)?;
    (task.desired == Desired::Running).then_some(policy)
}

/// What follows from the end of a run. `unsure` says that an answer of Docker's was missed, `docker` who says that it has ended.
pub(crate) fn after_end(
    container: &mut ContainerRecord,
    policy: Option<&acs::RestartPolicy>,
    now: Timestamp,
    ended: Ended,
    unsure: bool,
    docker: &Option<DockerLife>,
) -> Verdict {
    if let Some(meant) = container.restarts.next.take() {
        if ended.started_at.is_none_or(|began| began == meant.after) {
            let unsure = unsure && meant.asked && !container::same(&container.start_asked_of, docker);
            return match policy {
                None => Verdict::End,
                Some(_) if unsure => Verdict::Unsure,
                Some(_) => {
                    container.restarts.next = Some(meant);
                    Verdict::Restart { decided: false }
                }
            };
        }
        // It was started again, and that run is over, too.
        container.restarts.next = Some(meant);
        happened(container, ended.started_at.map_or(now, |began| began.min(now)));
    }
    let (Some(policy), Some(after)) = (policy, ended.started_at) else {
        return Verdict::End;
    };
    if !allows(policy, container, now, ended) {
        return Verdict::End;
    }
    container.restarts.next = Some(Restart { after, asked: false });
    if let Some(health) = &mut container.health {
        (health.status, health.output) = (HealthStatus::Unknown, None);
        container.health_since = Some(now);
    }
    Verdict::Restart { decided: true }
}

/// Whether the policy has a container that ended so started again: not after an exit code that it ignores, and only if the
/// container ran long enough.
fn allows(policy: &acs::RestartPolicy, container: &ContainerRecord, now: Timestamp, ended: Ended) -> bool {
    let ignored = policy.ignored_exit_codes.contains(&i64::from(ended.exit_code));
    let began = container.restarts.last_at.or(container.started_at).or(ended.started_at);
    // An agent that was away hears of the end late.
    let finished = ended.finished_at.map_or(now, |at| at.min(now));
    let ran_ms = began.map_or(0, |began| finished.since(began));
    let period_s = policy.restart_attempt_period.unwrap_or(DEFAULT_PERIOD_S);
    !ignored && ran_ms >= period_s.saturating_mul(1000)
}

/// Docker is about to be asked to start the container, for the first time or again. Says whether that is news that must be
/// durable first.
pub(crate) fn intend_start(container: &mut ContainerRecord, docker: &Option<DockerLife>) -> bool {
    let again = container.restarts.next.as_mut().is_some_and(|next| !std::mem::replace(&mut next.asked, true));
    let news = again || !container.start_intended || container.start_asked_of != *docker;
    if news {
        container.start_intended = true;
        container.start_asked_of.clone_from(docker);
    }
    news
}

/// The container runs at `at`: if it was to be started again, it was.
pub(crate) fn happened(container: &mut ContainerRecord, at: Timestamp) {
    if container.restarts.next.take().is_some_and(|next| next.asked) {
        container.restarts.count = container.restarts.count.saturating_add(1);
        container.restarts.last_at = Some(at);
    }
}
