//! What decides inside an agent: our real engine, or the model of the official agent's. Both take the same inputs, and
//! their shell is the same.

use longshore_agent::engine::{Action, Desired, Engine, Input, Status, TaskRecord};
use longshore_api::Timestamp;

use crate::official::{self, Official};

/// Whose agent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Official,
}

#[derive(Debug)]
pub(crate) enum Brain {
    Ours(Box<Engine>),
    Official(Box<Official>),
}

/// What an agent keeps of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Ours(Box<TaskRecord>),
    Official(Box<official::TaskRecord>),
}

/// What a brain asks its shell to do.
#[derive(Debug)]
pub(crate) enum Act {
    Save { record: Record, durable: bool },
    Forget(String),
    SaveTimeline(i64),
    Do(Action),
}

/// What a brain thinks of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) running: bool,
    pub(crate) stopped: bool,
    pub(crate) stopping: bool,
    pub(crate) reported_stopped: bool,
    /// By name: whether it runs, whether it has ended, whether it is essential, whether it was removed.
    pub(crate) containers: Vec<ContainerView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerView {
    pub(crate) name: String,
    pub(crate) essential: bool,
    pub(crate) running: bool,
    pub(crate) removed: bool,
}

impl Record {
    pub(crate) fn arn(&self) -> &str {
        match self {
            Self::Ours(record) => record.arn(),
            Self::Official(record) => record.arn(),
        }
    }
}

impl Brain {
    pub(crate) fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Act> {
        match self {
            Self::Ours(engine) => engine.handle(now, input).into_iter().map(act).collect(),
            Self::Official(model) => model.handle(now, input),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Ours(engine) => engine.next_deadline(),
            Self::Official(model) => model.next_deadline(),
        }
    }

    /// Every record, in the order of their ARNs.
    pub(crate) fn records(&self) -> Vec<Record> {
        match self {
            Self::Ours(engine) => engine.tasks().map(|record| Record::Ours(Box::new(record.clone()))).collect(),
            Self::Official(model) => model.records().map(|record| Record::Official(Box::new(record.clone()))).collect(),
        }
    }

    pub(crate) fn view(&self, arn: &str) -> Option<View> {
        match self {
            Self::Ours(engine) => engine.task(arn).map(view_of_ours),
            Self::Official(model) => model.record(arn).map(view_of_official),
        }
    }
}

fn act(action: Action) -> Act {
    match action {
        Action::Save { record, durable } => Act::Save { record: Record::Ours(record), durable },
        Action::Forget { task_arn } => Act::Forget(task_arn),
        Action::SaveTimeline(timeline) => Act::SaveTimeline(timeline),
        action => Act::Do(action),
    }
}

fn view_of_ours(record: &TaskRecord) -> View {
    let containers = record.containers.iter().map(|container| ContainerView {
        name: container.name.clone(),
        essential: container.essential,
        running: container.known == Status::Running,
        removed: container.removed,
    });
    View {
        running: record.known == Status::Running,
        stopped: record.known == Status::Stopped,
        stopping: record.desired == Desired::Stopped,
        reported_stopped: record.reported == Status::Stopped,
        containers: containers.collect(),
    }
}

fn view_of_official(record: &official::TaskRecord) -> View {
    let containers = record.containers.iter().map(|container| ContainerView {
        name: container.name.clone(),
        essential: container.essential,
        running: container.known == official::Status::Running,
        removed: container.removed,
    });
    View {
        running: record.known() == official::Status::Running,
        stopped: record.known() == official::Status::Stopped,
        stopping: record.stopping,
        reported_stopped: record.sent == official::Status::Stopped,
        containers: containers.collect(),
    }
}
