//! What the control plane is told, and when.
//!
//! Reports are derived: the difference between what is known and what the control plane has accepted. So nothing is lost when the
//! agent dies with reports unsent, and at most one is under way per task, in order: RUNNING before STOPPED, also when the task
//! has ended by the time the first can be sent.

use longshore_api::Timestamp;
use longshore_api::ecs::types::{ContainerStateChange, SubmitTaskStateChangeRequest};

use super::EngineConfig;
use super::container::{ContainerRecord, Status};
use super::ports::{self, PublishedPort};
use super::record::{Desired, TaskRecord};

/// A container's change that goes with no change of its task waits this long for company.
pub(crate) const FLUSH_MS: i64 = 10_000;
/// Limits of the API; longer text is cut.
const MAX_REASON: usize = 1024;
const MAX_DIGEST: usize = 255;
const MAX_RUNTIME_ID: usize = 255;

/// A report under way: once accepted, this is what the control plane has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// None stands for PENDING.
    pub(crate) status: Status,
    /// Positions of containers, with the status reported; one may be in it twice.
    pub(crate) containers: Vec<(usize, Status)>,
}

/// What is to be reported next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Now(Report),
    /// Container changes that wait for company.
    Batched(Report),
}

/// What is to be reported next.
pub(crate) fn due(task: &TaskRecord) -> Due {
    let containers = || reported_containers(task);
    let bindings_missing = task.containers.iter().any(|c| c.started && c.bindings.is_none());
    if task.reached_running && task.reported < Status::Running {
        if bindings_missing {
            return Due::Nothing;
        }
        let mut changes = changes(task);
        if task.known == Status::Stopped {
            changes.retain(|(_, status)| *status == Status::Running);
        }
        return Due::Now(Report { status: Status::Running, containers: changes });
    }
    if task.known == Status::Stopped {
        if task.reported == Status::Stopped {
            return Due::Nothing;
        }
        let unsent = containers().filter(|(_, c)| c.reported < Status::Stopped);
        let containers = unsent.map(|(position, _)| (position, Status::Stopped)).collect();
        return Due::Now(Report { status: Status::Stopped, containers });
    }
    if let Some(report) = digests(task) {
        return Due::Now(report);
    }
    let changes = changes(task);
    if changes.is_empty() { Due::Nothing } else { Due::Batched(Report { status: task.reported, containers: changes }) }
}

/// The containers that the control plane knows, by position.
fn reported_containers(task: &TaskRecord) -> impl Iterator<Item = (usize, &ContainerRecord)> {
    task.containers.iter().enumerate().filter(|(_, container)| !container.is_internal())
}

/// What the images of a task are, once that is known of all and one is yet to be pulled: other tasks of the same deployment are to
/// run the same.
fn digests(task: &TaskRecord) -> Option<Report> {
    let known = |container: &ContainerRecord| container.image_digest.is_some() || container.known >= Status::Pulled;
    let containers: Vec<(usize, &ContainerRecord)> = reported_containers(task).collect();
    let all_known = containers.iter().all(|(_, container)| known(container));
    if task.reported != Status::None || task.desired == Desired::Stopped || !all_known {
        return None;
    }
    let news = |container: &ContainerRecord| container.image_digest.is_some() && container.reported == Status::None;
    if !containers.iter().any(|(_, container)| news(container) && container.known == Status::None) {
        return None;
    }
    let containers = containers.into_iter().filter(|(_, container)| news(container));
    let containers = containers.map(|(position, _)| (position, Status::Pulled)).collect();
    Some(Report { status: Status::None, containers })
}

/// Every change of a container that was not reported.
fn changes(task: &TaskRecord) -> Vec<(usize, Status)> {
    let mut changes = Vec::new();
    for (position, container) in reported_containers(task) {
        if container.started && container.bindings.is_some() && container.reported < Status::Running {
            changes.push((position, Status::Running));
        }
        if container.known == Status::Stopped && container.reported < Status::Stopped {
            changes.push((position, Status::Stopped));
        }
    }
    changes
}

/// The request that carries a report.
pub(crate) fn request(config: &EngineConfig, task: &TaskRecord, report: &Report) -> SubmitTaskStateChangeRequest {
    let containers = report.containers.iter().filter_map(|(position, status)| {
        let published =
            task.definition.containers.get(*position).and_then(|container| ports::published(container).ok());
        let published = published.unwrap_or_default();
        task.containers.get(*position).map(|container| container_change(config, container, &published, *status))
    });
    let stopped = report.status == Status::Stopped;
    SubmitTaskStateChangeRequest {
        cluster: Some(config.cluster.clone()),
        task: Some(task.definition.arn.clone()),
        status: Some(word(report.status)),
        reason: Some(if stopped { cut(&task.reason, MAX_REASON) } else { String::new() }),
        containers: Some(containers.collect()),
        pull_started_at: task.pull_started_at,
        pull_stopped_at: task.pull_stopped_at,
        execution_stopped_at: task.execution_stopped_at.filter(|_| stopped),
        ..SubmitTaskStateChangeRequest::default()
    }
}

/// A status in the words of the API.
fn word(status: Status) -> String {
    let word = match status {
        Status::Stopped => "STOPPED",
        Status::Running => "RUNNING",
        Status::None | Status::Pulled | Status::Created => "PENDING",
    };
    word.to_owned()
}

fn container_change(
    config: &EngineConfig,
    container: &ContainerRecord,
    published: &[PublishedPort],
    status: Status,
) -> ContainerStateChange {
    let stopped = status == Status::Stopped;
    let ran = status >= Status::Running;
    let bindings = container.bindings.as_deref().filter(|_| ran).unwrap_or_default();
    let bindings = ports::network_bindings(published, bindings, config.exclude_ipv6_port_binding);
    ContainerStateChange {
        container_name: Some(container.name.clone()),
        image_digest: container.image_digest.as_deref().map(|digest| cut(digest, MAX_DIGEST)),
        runtime_id: container.docker_id.as_deref().filter(|_| container.started).map(|id| cut(id, MAX_RUNTIME_ID)),
        exit_code: container.exit_code.filter(|_| stopped),
        network_bindings: (!bindings.is_empty()).then_some(bindings),
        reason: container.reason.as_deref().filter(|_| stopped).map(|reason| cut(reason, MAX_REASON)),
        status: Some(word(status)),
    }
}

/// The first `limit` bytes of `text`, without the half of a character.
fn cut(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].to_owned()
}

/// The report was accepted, or refused for good: either way the control plane's view is settled.
pub(crate) fn settle(task: &mut TaskRecord, report: &Report) {
    task.reported = task.reported.max(report.status);
    for (position, status) in &report.containers {
        if let Some(container) = task.containers.get_mut(*position) {
            container.reported = container.reported.max(*status);
        }
    }
}

/// The control plane asks again about a task that has stopped: STOPPED is due once more, with all containers.
pub(crate) fn repeat_stopped(task: &mut TaskRecord) {
    task.reported = Status::Running;
    for container in &mut task.containers {
        container.reported = Status::Running;
    }
}

/// When a batch that became due at `since` is sent.
pub(crate) fn flush_at(since: Timestamp) -> Timestamp {
    since.plus_millis(FLUSH_MS)
}
