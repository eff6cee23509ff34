//! An event in EventBridge's ECS format.
//!
//! It is made of what is known now of the task or instance, taken back to what was known at its milestone as far as that
//! goes: statuses, version and times are those of then, and nothing that came with a later status is told.

use longshore_api::Timestamp;
use longshore_api::ecs::types;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::cursor::Subject;
use super::iso;
use super::milestone::{InstanceState, Milestone, TaskState};
use crate::entity::{Cluster, Instance, Task};
use crate::ids::ClusterId;
use crate::instance::describe::{self as instance, Include};
use crate::read::ReadModel;
use crate::task::describe as task;
use crate::task::status::{DesiredStatus, TaskStatus};

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DetailType {
    /// Of a task.
    Task,
    /// Of a container instance.
    ContainerInstance,
}

impl DetailType {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Task, Self::ContainerInstance];

    /// As `detail-type` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "ECS Task State Change",
            Self::ContainerInstance => "ECS Container Instance State Change",
        }
    }

    pub(super) fn of(subject: Subject) -> Self {
        match subject {
            Subject::Task(_) => Self::Task,
            Subject::Instance(_) => Self::ContainerInstance,
        }
    }
}

/// The envelope of every event.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Event<'a> {
    version: &'static str,
    id: String,
    detail_type: &'static str,
    source: &'static str,
    account: &'a str,
    time: String,
    region: &'a str,
    resources: [String; 1],
    detail: Value,
}

/// The event as JSON; nothing if the cluster's name was taken by another one since.
pub(super) fn render(view: &ReadModel, number: u64, subject: Subject) -> Option<String> {
    let cluster = cluster(view, subject.cluster())?;
    let (arn, at, detail) = match subject {
        Subject::Task(key) => {
            let record = view.tasks.get(&key)?;
            let milestone = record.milestones.of(number)?;
            (view.config.task_arn(&cluster.name, key.id), milestone.at, of_task(view, cluster, record, milestone))
        }
        Subject::Instance(key) => {
            let record = view.instances.get(&key)?;
            let milestone = record.milestones.of(number)?;
            let arn = view.config.instance_arn(&cluster.name, key.id);
            (arn, milestone.at, of_instance(view, cluster, record, milestone))
        }
    };
    let scope = &view.config.scope;
    let event = Event {
        version: "0",
        id: id(number, &arn),
        detail_type: DetailType::of(subject).as_str(),
        source: "aws.ecs",
        account: &scope.account,
        time: iso::whole_seconds(at),
        region: &scope.region,
        resources: [arn],
        detail: detail?,
    };
    serde_json::to_string(&event).ok()
}

fn cluster(view: &ReadModel, id: ClusterId) -> Option<&Cluster> {
    view.clusters.get(view.cluster_names.get(&id)?).map(AsRef::as_ref)
}

/// The task as DescribeTasks has it.
fn of_task(view: &ReadModel, cluster: &Cluster, record: &Task, milestone: &Milestone<TaskState>) -> Option<Value> {
    let mut document = task::document(view, cluster, record, false);
    if record.version != milestone.version {
        take_back(&mut document, milestone);
    }
    detail(serde_json::to_value(document).ok()?, milestone.at)
}

/// Takes a task's document back to a milestone.
fn take_back(document: &mut types::Task, milestone: &Milestone<TaskState>) {
    let TaskState(last, desired) = milestone.state;
    document.version = Some(milestone.version);
    document.last_status = Some(last.as_str().to_owned());
    document.desired_status = Some(desired.as_str().to_owned());
    let times = [
        &mut document.connectivity_at,
        &mut document.pull_started_at,
        &mut document.pull_stopped_at,
        &mut document.started_at,
        &mut document.stopping_at,
        &mut document.execution_stopped_at,
        &mut document.stopped_at,
    ];
    for time in times {
        *time = time.filter(|time| *time <= milestone.at);
    }
    if document.connectivity_at.is_none() {
        document.connectivity = None;
    }
    if last == TaskStatus::Provisioning {
        document.container_instance_arn = None;
        document.attachments = None;
    }
    if desired == DesiredStatus::Running {
        document.stop_code = None;
        document.stopped_reason = None;
    }
    for container in document.containers.iter_mut().flatten() {
        let known = container.last_status.as_deref().and_then(TaskStatus::from_report);
        // Containers of a task that waits are PENDING.
        let then = last.max(TaskStatus::Pending);
        if known.is_some_and(|known| known > then) {
            container.last_status = Some(then.as_str().to_owned());
        }
        if last != TaskStatus::Stopped {
            container.exit_code = None;
            container.reason = None;
        }
    }
}

/// The instance as DescribeContainerInstances has it.
fn of_instance(
    view: &ReadModel,
    cluster: &Cluster,
    record: &Instance,
    milestone: &Milestone<InstanceState>,
) -> Option<Value> {
    let InstanceState(status, connected) = milestone.state;
    let include = Include { tags: false, health: false };
    let document = types::ContainerInstance {
        version: Some(milestone.version),
        status: Some(status.as_str().to_owned()),
        agent_connected: Some(connected),
        ..instance::document(view, cluster, record, view.usage.get(&record.key), include)
    };
    let mut value = serde_json::to_value(document).ok()?;
    value.as_object_mut()?.insert("clusterArn".to_owned(), view.config.cluster_arn(&cluster.name).into());
    detail(value, milestone.at)
}

/// Finishes a document: times as events write them, and without tags, which events do not tell.
fn detail(mut document: Value, at: Timestamp) -> Option<Value> {
    let members = document.as_object_mut()?;
    members.remove("tags");
    for (name, value) in members.iter_mut() {
        if let (true, Some(seconds)) = (name.ends_with("At"), value.as_f64()) {
            let time = Timestamp::from_millis((seconds * 1_000.0).round() as i64);
            *value = iso::with_millis(time).into();
        }
    }
    members.insert("updatedAt".to_owned(), iso::with_millis(at).into());
    Some(document)
}

/// The id of an event: a UUID that follows from the event, so that one that is told twice is known again.
fn id(number: u64, arn: &str) -> String {
    let digest = Sha256::new().chain_update(number.to_be_bytes()).chain_update(arn).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    // Version 8: made in a way of one's own.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
