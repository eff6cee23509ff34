//! Where the output of a task's container is to be had, and what it means that it is not. Read from the snapshot alone: what
//! containers print never enters the cell.

use longshore_api::ecs::error::{
    RESOURCE_NOT_FOUND_EXCEPTION, SERVER_EXCEPTION, TARGET_NOT_CONNECTED_EXCEPTION, UNSUPPORTED_FEATURE_EXCEPTION,
};
use longshore_api::error::THROTTLING_EXCEPTION;
use longshore_api::{ApiError, admin};

use crate::entity::Task;
use crate::ids::{InstanceKey, TaskKey};
use crate::instance::AgentKind;
use crate::names;
use crate::principal::Principal;
use crate::read::{KnownDefinition, ReadModel};
use crate::task::status::TaskStatus;

/// A container of a task, and the instance whose agent can read what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// The task.
    pub task_arn: String,
    /// The container's name.
    pub container: String,
    /// Where the task is.
    pub instance: InstanceKey,
    /// The same, as its agent knows it.
    pub instance_arn: String,
    /// What the API says of the task.
    pub status: TaskStatus,
    /// Docker made the container, as far as its agent has told.
    pub created: bool,
    /// Why the container, or the task, ended.
    pub why: Option<String>,
}

impl ReadModel {
    /// Where the logs are that a request asks for.
    ///
    /// # Errors
    /// When `principal` may not ask, when there is no such task or container, and when the instance's agent is none of ours or
    /// is not connected.
    pub fn log_source(
        &self,
        principal: &Principal,
        request: &admin::GetTaskLogsRequest,
    ) -> Result<LogSource, ApiError> {
        self.authorise_admin(principal, &request.clone().into())?;
        let cluster = self.cluster(request.cluster.as_deref())?;
        let id = names::task(&self.config, cluster, &request.task)?;
        let task = id.and_then(|id| self.tasks.get(&TaskKey { cluster: cluster.id, id })).ok_or_else(|| {
            let message = format!(
                "There is no task {} in cluster {}: `longshore ps --all` lists those that are remembered.",
                request.task, cluster.name
            );
            ApiError::new(RESOURCE_NOT_FOUND_EXCEPTION, message)
        })?;
        let known = self.definitions.get(&task.definition);
        let (index, container) = container(task, known, request.container.as_deref())?;
        let detail = task.containers.get(index).and_then(|container| container.detail.as_deref());
        let stop = task.stop.as_ref().map(|stop| stop.reason.to_string());
        let home = task.home().ok_or_else(|| no_instance(task))?;
        let source = LogSource {
            task_arn: self.config.task_arn(&cluster.name, task.key.id),
            container,
            instance: home,
            instance_arn: self.config.instance_arn(&cluster.name, home.id),
            status: task.last_status(),
            created: detail.is_some_and(|detail| detail.runtime_id.is_some()),
            why: detail.and_then(|detail| detail.reason.as_deref().map(str::to_owned)).or(stop),
        };
        self.check_agent(&source)?;
        Ok(source)
    }

    /// Whether there is an agent that can be asked.
    fn check_agent(&self, source: &LogSource) -> Result<(), ApiError> {
        let instance = self.instances.get(&source.instance).ok_or_else(|| source.not_connected("is forgotten"))?;
        if AgentKind::of(instance) == AgentKind::Official {
            let message = format!(
                "The container instance {} has an agent that does not give logs: only Longshore's own does. Use `docker logs` \
                 on that machine.",
                source.instance_arn
            );
            return Err(ApiError::new(UNSUPPORTED_FEATURE_EXCEPTION, message));
        }
        match self.usage.get(&source.instance).is_some_and(|usage| usage.connected) {
            true => Ok(()),
            false => Err(source.not_connected("is not connected")),
        }
    }
}

/// A task that was never placed has printed nothing, and nobody can be asked.
fn no_instance(task: &Task) -> ApiError {
    match &task.stop {
        None => ApiError::new(
            admin::error::CONTAINER_NOT_CREATED,
            format!("The task {} waits for an instance (PROVISIONING): it has printed nothing yet.", task.key.id),
        ),
        Some(stop) => ApiError::new(
            admin::error::LOGS_UNAVAILABLE,
            format!("The task {} was never placed, so it printed nothing: {}", task.key.id, stop.reason),
        ),
    }
}

impl LogSource {
    /// The agent cannot be asked.
    fn not_connected(&self, what: &str) -> ApiError {
        let message = format!(
            "The agent of {} {what}, and only it can read what ran there: see `longshore instance list`, and the agent's log \
             on that machine.",
            self.instance_arn
        );
        ApiError::new(TARGET_NOT_CONNECTED_EXCEPTION, message)
    }

    /// The agent was asked and went away, or does not answer.
    pub fn silent(&self) -> ApiError {
        self.not_connected("does not answer")
    }

    /// What it means that the agent has no logs to give.
    pub fn refusal(&self, failure: &admin::LogFailure) -> ApiError {
        let Self { container, task_arn, .. } = self;
        let why = self.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let (code, message) = match (failure.reason, self.status, self.created) {
            (admin::LogFailureReason::NoContainer, TaskStatus::Provisioning | TaskStatus::Pending, _) => (
                admin::error::CONTAINER_NOT_CREATED,
                format!("Container {container} of {task_arn} was not created yet; its task is PENDING."),
            ),
            (admin::LogFailureReason::NoContainer, TaskStatus::Stopped, false) => (
                admin::error::LOGS_UNAVAILABLE,
                format!("Container {container} of {task_arn} was never created, so it printed nothing{why}"),
            ),
            (admin::LogFailureReason::NoContainer, TaskStatus::Running, false) => (
                admin::error::CONTAINER_NOT_CREATED,
                format!("Container {container} of {task_arn} was not created yet, or is waiting for others."),
            ),
            (admin::LogFailureReason::NoContainer, _, true) => (
                admin::error::LOGS_UNAVAILABLE,
                format!(
                    "Container {container} of {task_arn} was removed, and what it printed with it: agents keep stopped \
                     containers for ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION, three hours unless that says otherwise."
                ),
            ),
            (admin::LogFailureReason::Unreadable, ..) => (
                admin::error::LOGS_UNAVAILABLE,
                format!(
                    "Docker gives nothing back of what container {container} of {task_arn} prints ({}): look where its log \
                     driver sends it, or use the log driver json-file or journald.",
                    failure.message
                ),
            ),
            (admin::LogFailureReason::Engine, ..) => (
                SERVER_EXCEPTION,
                format!("The agent of {} could not read the logs: {}", self.instance_arn, failure.message),
            ),
            (admin::LogFailureReason::Busy, ..) => (
                THROTTLING_EXCEPTION,
                format!("Rate exceeded: the agent of {} reads too many logs already.", self.instance_arn),
            ),
        };
        ApiError::new(code, message)
    }
}

/// The container that is meant, and its place in the definition.
fn container(task: &Task, known: Option<&KnownDefinition>, given: Option<&str>) -> Result<(usize, String), ApiError> {
    let containers = known.map_or(&[][..], |known| known.resolved.containers.as_slice());
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    match (given, names.as_slice()) {
        (None, [only]) => Ok((0, (*only).to_owned())),
        (Some(given), _) if names.contains(&given) => {
            let index = names.iter().position(|name| *name == given).unwrap_or_default();
            Ok((index, given.to_owned()))
        }
        (None, _) => Err(ApiError::invalid_parameter(format!(
            "Say which container: task {} has {}.",
            task.key.id,
            names.join(", ")
        ))),
        (Some(given), _) => Err(ApiError::invalid_parameter(format!(
            "Task {} has no container {given}; it has {}.",
            task.key.id,
            names.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::ecs::Operation;
    use serde_json::{Value, json};

    use super::*;
    use crate::fixture::{Lab, definition, offer, principal};

    fn ask(lab: &mut Lab, task: &str, container: Option<&str>) -> Result<LogSource, ApiError> {
        let request = admin::GetTaskLogsRequest {
            task: task.to_owned(),
            container: container.map(str::to_owned),
            ..admin::GetTaskLogsRequest::default()
        };
        lab.cell.snapshot().log_source(&principal(0), &request)
    }

    fn refused(lab: &mut Lab, task: &str, container: Option<&str>) -> (&'static str, String) {
        let error = ask(lab, task, container).expect_err("refused");
        (error.code.name, error.message)
    }

    /// A running task of containers `a` and `b`.
    fn pair(lab: &mut Lab) -> String {
        let mut document = definition("pair", 1, 6, &[]);
        let main = document["containerDefinitions"][0].clone();
        let named = |name: &str| {
            let mut container = main.clone();
            container["name"] = Value::from(name);
            container
        };
        document["containerDefinitions"] = json!([named("a"), named("b")]);
        lab.ok(0, Operation::RegisterTaskDefinition, &document);
        lab.run("pair")
    }

    fn said(source: &LogSource, reason: admin::LogFailureReason) -> (&'static str, String) {
        let error = source.refusal(&admin::LogFailure { message: "docker's words".to_owned(), reason });
        (error.code.name, error.message)
    }

    #[test]
    fn a_container_is_named_or_the_only_one() {
        let mut lab = Lab::new();
        let instance = lab.instance(1, 1024, 1024);
        let task = pair(&mut lab);
        let source = ask(&mut lab, &task, Some("b")).expect("a source");
        assert_eq!((source.container.as_str(), &source.instance_arn), ("b", &instance));
        let (code, message) = refused(&mut lab, &task, None);
        assert!(code == "InvalidParameterException" && message.ends_with("has a, b."), "{message}");
        assert!(refused(&mut lab, &task, Some("c")).1.contains("no container c; it has a, b."));
        lab.ok(0, Operation::RegisterTaskDefinition, &definition("one", 1, 6, &[]));
        let one = lab.run("one");
        let id = one.rsplit('/').next().expect("an id");
        assert_eq!(ask(&mut lab, id, None).expect("a source").container, "main");
        assert_eq!(refused(&mut lab, &"0".repeat(32), None).0, "ResourceNotFoundException");
    }

    #[test]
    fn only_an_agent_of_ours_that_is_there_is_asked() {
        let mut lab = Lab::new();
        lab.ok(0, Operation::RegisterTaskDefinition, &definition("one", 1, 6, &[]));
        let arn = lab.register(1, &offer("h", 1024, 1024));
        let (instance, session) = lab.connect(1, &arn);
        let task = lab.run("one");
        assert!(ask(&mut lab, &task, None).is_ok());
        lab.disconnect(instance, session);
        assert_eq!(refused(&mut lab, &task, None).0, "TargetNotConnectedException");
        let mut foreign = Lab::new();
        foreign.ok(0, Operation::RegisterTaskDefinition, &definition("one", 1, 6, &[]));
        let mut offer = offer("h", 1024, 1024);
        offer["attributes"] = json!([]);
        let arn = foreign.register(1, &offer);
        foreign.connect(1, &arn);
        let task = foreign.run("one");
        let (code, message) = refused(&mut foreign, &task, None);
        assert!(code == "UnsupportedFeatureException" && message.contains("docker logs"), "{message}");
    }

    #[test]
    fn what_a_missing_container_means_depends_on_its_task() {
        use admin::LogFailureReason::{Engine, NoContainer, Unreadable};
        let mut lab = Lab::new();
        lab.instance(1, 1024, 1024);
        lab.ok(0, Operation::RegisterTaskDefinition, &definition("one", 1, 6, &[]));
        let task = lab.run("one");
        let source = ask(&mut lab, &task, None).expect("a source");
        let (code, message) = said(&source, NoContainer);
        assert!(code == "ContainerNotCreatedException" && message.contains("PENDING"), "{message}");
        let report = json!({
            "cluster": "default", "task": task, "status": "RUNNING", "reason": "",
            "containers": [{"containerName": "main", "runtimeId": "ab", "status": "RUNNING"}],
        });
        lab.ok(1, Operation::SubmitTaskStateChange, &report);
        let source = ask(&mut lab, &task, None).expect("a source");
        let (code, message) = said(&source, NoContainer);
        assert!(code == "LogsUnavailableException" && message.contains("was removed"), "{message}");
        let (code, message) = said(&source, Unreadable);
        assert!(code == "LogsUnavailableException" && message.contains("json-file"), "{message}");
        assert_eq!(said(&source, Engine).0, "ServerException");
        let failed = lab.run("one");
        let report = json!({
            "cluster": "default", "task": failed, "status": "STOPPED", "reason": "CannotPullContainerError: no",
        });
        lab.ok(1, Operation::SubmitTaskStateChange, &report);
        let source = ask(&mut lab, &failed, None).expect("a source");
        let (code, message) = said(&source, NoContainer);
        assert!(code == "LogsUnavailableException" && message.contains("never created"), "{message}");
        assert!(message.contains("CannotPullContainerError: no"), "{message}");
    }
}
