//! The engine: what to do next for every task of a container instance.
//!
//! A synchronous, deterministic state machine. [`Engine::handle`] takes one thing that happened with the time, and answers with
//! the actions that follow; it does no IO, reads no clock, draws no random number and never panics. Whoever drives it (the
//! agent's loop, the simulator) performs the actions and feeds the results back.
//!
//! It must not know tokio, Docker's client, sockets or files. Begin reading at [`Engine::handle`], then `task` (what a task
//! needs next), `container` (what one container needs next), `container_config` (a payload's container in Docker's words) and
//! `report` (what the control plane is told). `image` decides which images may go; it is the machine's, not an instance's.

pub mod action;
mod admission;
mod awslogs;
mod container;
mod container_config;
mod dependency;
pub(crate) mod docker;
mod gpu;
pub(crate) mod image;
pub mod input;
pub(crate) mod internal;
mod orders;
mod ports;
mod record;
mod report;
pub(crate) mod resource;
mod restart;
mod support;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use longshore_api::Timestamp;

pub use action::{Action, ContainerSpec, LogLevel};
pub use container::{ContainerRecord, Status};
pub use gpu::GpuAccess;
pub use input::{
    ContainerKey, DockerError, DockerLife, FoundContainer, Health, HealthStatus, ImageInfo, Input, Inspection,
    PortBinding, Protocol, PullError, RunState, SubmitOutcome,
};
pub use ports::PortsToFind;
pub use record::{Desired, TaskRecord};
pub use resource::cgroup::{CgroupSpec, TaskLimits};
pub use resource::env_file::EnvironmentFilesSpec;
pub use resource::network::NetworkSpec;
pub(crate) use resource::network::existing as existing_interface;
pub use resource::volume::{VolumeRules, VolumeScope, VolumeSpec};
pub use resource::{
    Facts, Made, Provided, Resource, ResourceError, ResourceKey, ResourceRecord, ResourceSpec, ResourceStatus,
};
pub use resource::{SecretPlace, SecretSource, SecretTarget, WantedLogin, WantedSecret};
pub use restart::{Restart, Restarts};

use admission::{Ledger, MAX_WAITING_TASKS};
use container::{Step, Work};
use orders::Orders;
use task::{Context, Task};

/// What the engine has to know about its host and its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// The cluster as configured, name or ARN: label of containers, `cluster` of submits.
    pub cluster: String,
    /// The instance that this engine is: label of containers.
    pub container_instance_arn: String,
    /// `ECS_CONTAINER_STOP_TIMEOUT`, in seconds.
    pub stop_timeout_s: i64,
    /// `ECS_CONTAINER_CREATE_TIMEOUT`.
    pub create_timeout_ms: i64,
    /// `ECS_CONTAINER_START_TIMEOUT`.
    pub start_timeout_ms: i64,
    /// `ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION`.
    pub task_cleanup_wait_ms: i64,
    /// `ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER`.
    pub task_cleanup_jitter_ms: i64,
    /// `ECS_IMAGE_PULL_BEHAVIOR`.
    pub image_pull_behavior: ImagePullBehavior,
    /// `ECS_MANIFEST_PULL_TIMEOUT`.
    pub manifest_pull_timeout_ms: i64,
    /// `ECS_IMAGE_PULL_TIMEOUT`: for all attempts together.
    pub image_pull_timeout_ms: i64,
    /// `ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT`.
    pub pull_dependents_upfront: bool,
    /// `ECS_DYNAMIC_HOST_PORT_RANGE`; none leaves dynamic ports to Docker's own range.
    pub dynamic_host_port_range: Option<(u16, u16)>,
    /// `ECS_EXCLUDE_IPV6_PORTBINDING`.
    pub exclude_ipv6_port_binding: bool,
    /// `LONGSHORE_AWSLOGS_AS`.
    pub awslogs_as: AwslogsAs,
    /// What a task can be bounded with.
    pub limits: TaskLimits,
    /// What there is to know of volumes.
    pub volumes: VolumeRules,
    /// `ECS_NVIDIA_RUNTIME`, or what stands for it.
    pub gpu_access: GpuAccess,
    /// What was registered.
    pub resources: HostResources,
    /// How many cleaned-up tasks are remembered, so that a late payload for one is answered STOPPED instead of run again.
    pub remembered_tasks: usize,
}

/// What the instance has for tasks, as registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResources {
    /// CPU units.
    pub cpu: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// TCP ports that are not for tasks.
    pub reserved_ports: Vec<u16>,
    /// UDP ports that are not for tasks.
    pub reserved_ports_udp: Vec<u16>,
    /// GPUs, by their ids.
    pub gpus: Vec<String>,
}

/// When images are pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePullBehavior {
    /// Pull; a local image will do if that fails.
    #[default]
    Default,
    /// Pull; if that fails, the task fails.
    Always,
    /// Pull what no task here has pulled yet, or what was cleaned up since; if that fails, the task fails.
    Once,
    /// Pull only what is not on this host.
    PreferCached,
}

/// Where the log driver `awslogs` leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AwslogsAs {
    /// To CloudWatch Logs, by Docker's driver of that name.
    #[default]
    Awslogs,
    /// Into files of this machine, by Docker's `json-file`.
    JsonFile,
}

/// The engine of one container instance.
#[derive(Clone, Debug)]
pub struct Engine {
    config: EngineConfig,
    tasks: BTreeMap<String, Task>,
    /// Which Docker was there last.
    docker: Option<DockerLife>,
    ledger: Ledger,
    /// Tasks that wait for their share of the host, in order of arrival.
    waiting: BTreeSet<(Timestamp, String)>,
    /// Tasks that have something to do when time has passed.
    deadlines: BTreeSet<(Timestamp, String)>,
    /// Cleaned-up tasks, in order of their end.
    remembered: BTreeSet<(Timestamp, String)>,
    orders: Orders,
}

impl Engine {
    /// An engine without tasks.
    pub fn new(config: EngineConfig) -> Self {
        Self {
            docker: None,
            ledger: Ledger::new(config.resources.clone()),
            config,
            tasks: BTreeMap::new(),
            waiting: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            remembered: BTreeSet::new(),
            orders: Orders::default(),
        }
    }

    /// Takes over what an earlier agent saved: its records and the timeline of its last manifest (0 if none). Nothing is done for
    /// the tasks' containers before [`Input::DockerReady`] says what there is.
    pub fn restore(&mut self, records: Vec<TaskRecord>, timeline: i64) {
        self.orders.saw(timeline);
        for record in records {
            self.orders.saw(record.seq_num);
            let task = Task::restored(record);
            let record = &task.record;
            if record.admitted && record.known < Status::Stopped {
                self.ledger.take(record.arn(), &task.demand);
            }
            if record.cleaned {
                self.remembered.insert((record.stopped_at.unwrap_or_default(), record.arn().to_owned()));
            }
            // Each is looked at once, whatever else happens: it may have something to report or to clean up.
            self.deadlines.insert((Timestamp::from_millis(i64::MIN), record.arn().to_owned()));
            self.tasks.insert(record.arn().to_owned(), task);
        }
    }

    /// One thing happened at `now`; answers with what follows from it.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Action> {
        let mut turn = Turn { now, actions: Vec::new() };
        match input {
            Input::Payload(message) => self.payload(&mut turn, message),
            Input::Manifest(message) => self.manifest(&mut turn, message),
            Input::StopVerificationAck(message) => self.stop_verified(&mut turn, message),
            Input::DockerReady { docker, found } => self.docker_ready(&mut turn, docker, found),
            Input::Submitted { task_arn, outcome } => self.submitted(&mut turn, &task_arn, outcome),
            Input::ContainersFound { task_arn, result } => self.containers_found(&mut turn, task_arn, result),
            Input::ResourceMade { task_arn, key, result } => {
                let told = self.tasks.get_mut(&task_arn).and_then(|task| task.resource_made(now, &key, result));
                if let Some(told) = told {
                    turn.log(LogLevel::Warn, &task_arn, format!("{key:?} {told}"));
                }
                self.advance(&mut turn, task_arn);
            }
            Input::ResourceRemoved { task_arn, key, result } => {
                let trouble = self.tasks.get_mut(&task_arn).and_then(|task| task.resource_removed(now, &key, result));
                if let Some(why) = trouble {
                    turn.log(LogLevel::Warn, &task_arn, format!("{key:?} cannot be removed yet: {why}"));
                }
                self.advance(&mut turn, task_arn);
            }
            Input::PrerequisiteCame { task_arn } => self.prerequisite_came(&mut turn, task_arn),
            Input::ClockSet { by_ms } => self.clock_set(by_ms),
            Input::Tick => {}
            result => self.container_news(&mut turn, result),
        }
        while let Some((at, arn)) = self.deadlines.first().cloned().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, arn.clone()));
            self.advance(&mut turn, arn);
        }
        turn.actions
    }

    /// When a [`Input::Tick`] is due, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The images, as task definitions spell them, of all containers that were not cleaned up: those that exist, and those
    /// that are yet to be made.
    pub(crate) fn images_in_use(&self) -> BTreeSet<String> {
        let definitions = self.tasks.values().flat_map(|task| &task.record.definition.containers);
        definitions.map(|container| container.image.clone()).collect()
    }

    /// All tasks, in the order of their ARNs; among them stopped and cleaned-up ones that are only remembered.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskRecord> {
        self.tasks.values().map(|task| &task.record)
    }

    /// The task of that ARN.
    pub fn task(&self, arn: &str) -> Option<&TaskRecord> {
        self.tasks.get(arn).map(|task| &task.record)
    }

    /// News of one container: the result of a step, or an event.
    fn container_news(&mut self, turn: &mut Turn, input: Input) {
        let now = turn.now;
        let config = &self.config;
        let arn = match input {
            Input::ImageInspected { container: key, result } => {
                if let Some((container, work)) = awaiting(&mut self.tasks, &key, Step::InspectImage) {
                    container::image_inspected(container, work, now, config, result);
                }
                key.task_arn
            }
            Input::DigestResolved { container: key, result } => {
                if let Some((container, work)) = awaiting(&mut self.tasks, &key, Step::ResolveDigest) {
                    container::digest_resolved(container, work, now, result);
                }
                key.task_arn
            }
            Input::ImagePulled { container: key, result } => {
                if let Some((container, work)) = awaiting(&mut self.tasks, &key, Step::PullImage) {
                    container::image_pulled(container, work, now, config, result);
                    if let Some(task) = self.tasks.get_mut(&key.task_arn) {
                        task.record.pull_stopped_at = Some(now);
                    }
                }
                key.task_arn
            }
            Input::Created { container: key, result } => {
                if let Some((container, work)) = awaiting(&mut self.tasks, &key, Step::Create) {
                    container::created(container, work, now, config.create_timeout_ms, result);
                }
                key.task_arn
            }
            Input::Started { container: key, result } => {
                if let Some((container, work)) = awaiting(&mut self.tasks, &key, Step::Start) {
                    container::started(container, work, now, config.start_timeout_ms, result);
                }
                key.task_arn
            }
            Input::Stopped { container: key, result } => {
                if let Some((container, work)) = awaiting(&mut self.tasks, &key, Step::Stop) {
                    container::stopped(container, work, now, result);
                }
                key.task_arn
            }
            Input::Inspected { container: key, result } => {
                let stopping = self.task(&key.task_arn).is_some_and(|task| task.desired == Desired::Stopped);
                let policy = self.task(&key.task_arn).and_then(|task| restart::policy(task, &key.name));
                if let Some((container, work)) = awaiting(&mut self.tasks, &key, Step::Inspect)
                    && let Some(news) = container::inspected(container, work, now, stopping, policy.as_ref(), result)
                {
                    turn.log(LogLevel::Info, &key.task_arn, format!("container {}: {news}", key.name));
                }
                key.task_arn
            }
            Input::Removed { container: key, result } => {
                if let Some((container, work)) = awaiting(&mut self.tasks, &key, Step::Remove)
                    && let Some(trouble) = container::removed(container, work, now, result)
                {
                    turn.log(LogLevel::Warn, &key.task_arn, format!("container {}: {trouble}", key.name));
                }
                key.task_arn
            }
            Input::Died { container: key, exit_code } => {
                if let Some((_, work)) = living(&mut self.tasks, &key) {
                    work.died_with = Some(exit_code);
                    work.inspect_wanted = true;
                }
                key.task_arn
            }
            Input::HealthChanged { container: key, health } => {
                if let Some((container, _)) = living(&mut self.tasks, &key) {
                    container::health_is(container, now, health);
                }
                key.task_arn
            }
            Input::Payload(_)
            | Input::Manifest(_)
            | Input::StopVerificationAck(_)
            | Input::DockerReady { .. }
            | Input::Submitted { .. }
            | Input::ContainersFound { .. }
            | Input::ResourceMade { .. }
            | Input::ResourceRemoved { .. }
            | Input::PrerequisiteCame { .. }
            | Input::ClockSet { .. }
            | Input::Tick => return,
        };
        self.advance(turn, arn);
    }

    /// What the control plane said to a report.
    fn submitted(&mut self, turn: &mut Turn, task_arn: &str, outcome: SubmitOutcome) {
        match &outcome {
            SubmitOutcome::Accepted => {}
            SubmitOutcome::Dropped(why) => {
                turn.log(LogLevel::Warn, task_arn, format!("the control plane refused a report for good: {why}"));
            }
            SubmitOutcome::Failed(why) => {
                turn.log(
                    LogLevel::Warn,
                    task_arn,
                    format!("a report did not get through, it will be sent again: {why}"),
                );
            }
        }
        if let Some(task) = self.tasks.get_mut(task_arn) {
            task.submitted(turn.now, !matches!(outcome, SubmitOutcome::Failed(_)));
        }
        self.advance(turn, task_arn.to_owned());
    }

    /// Docker can be asked again: every container that may exist is asked about.
    fn docker_ready(&mut self, turn: &mut Turn, docker: Option<DockerLife>, found: Vec<FoundContainer>) {
        self.docker = docker;
        let found: BTreeMap<ContainerKey, FoundContainer> =
            found.into_iter().map(|container| (container.container.clone(), container)).collect();
        for (key, container) in &found {
            if !self.tasks.contains_key(&key.task_arn) {
                let state = if container.running { "running" } else { "stopped" };
                let message =
                    format!("{state} container {} of a task unknown to this agent is left alone", container.docker_id);
                turn.log(LogLevel::Warn, &key.task_arn, message);
            }
        }
        let arns: Vec<String> = self.tasks.keys().cloned().collect();
        for arn in arns {
            if let Some(task) = self.tasks.get_mut(&arn) {
                task.docker_ready(turn.now, &found);
            }
            self.advance(turn, arn);
        }
    }

    /// Resources of that task, or of any, need not wait any longer.
    fn prerequisite_came(&mut self, turn: &mut Turn, task_arn: Option<String>) {
        let arns = task_arn.map_or_else(|| self.tasks.keys().cloned().collect(), |arn| vec![arn]);
        for arn in arns {
            if let Some(task) = self.tasks.get_mut(&arn) {
                task.prerequisite_came();
            }
            self.advance(turn, arn);
        }
    }

    /// Docker's answer about the containers of a task that is not known here.
    fn containers_found(
        &mut self,
        turn: &mut Turn,
        task_arn: String,
        result: Result<Vec<FoundContainer>, DockerError>,
    ) {
        if let Ok(found) = &result
            && !found.is_empty()
        {
            let message = format!("{} containers of a task that this agent did not know are stopped", found.len());
            turn.log(LogLevel::Warn, &task_arn, message);
        }
        if let Some(task) = self.tasks.get_mut(&task_arn) {
            task.containers_found(turn.now, result);
        }
        self.advance(turn, task_arn);
    }

    /// The clock jumped: everything that waits for a time waits for the same span as before.
    fn clock_set(&mut self, by_ms: i64) {
        let deadlines = std::mem::take(&mut self.deadlines);
        self.deadlines = deadlines.into_iter().map(|(at, arn)| (at.plus_millis(by_ms), arn)).collect();
        self.tasks.values_mut().for_each(|task| task.clock_set(by_ms));
    }

    /// Lets a task do what it can, and then those that waited for what it gave up.
    fn advance(&mut self, turn: &mut Turn, task_arn: String) {
        let mut queue = VecDeque::from([task_arn]);
        while let Some(arn) = queue.pop_front() {
            self.admit(turn, &arn);
            let Some(task) = self.tasks.get_mut(&arn) else {
                continue;
            };
            let before = (task.record.known, task.record.cleaned);
            if let Some(at) = task.deadline.take() {
                self.deadlines.remove(&(at, arn.clone()));
            }
            let context = Context { config: &self.config, docker: &self.docker, ledger: &self.ledger, now: turn.now };
            turn.actions.extend(task.step(&context));
            if let Some(at) = task.deadline {
                self.deadlines.insert((at, arn.clone()));
            }
            let record = &task.record;
            if before.0 < Status::Stopped && record.known == Status::Stopped {
                self.waiting.remove(&(record.received_at, arn.clone()));
                if record.admitted {
                    self.ledger.release(&arn, &task.demand);
                    queue.extend(self.waiting.iter().map(|(_, waiting)| waiting.clone()));
                }
            }
            if !before.1 && record.cleaned {
                self.remembered.insert((record.stopped_at.unwrap_or_default(), arn));
                self.forget_oldest(turn);
            }
        }
    }

    /// Takes the task's share of the host, if it waits for it and it is free.
    fn admit(&mut self, turn: &mut Turn, arn: &str) {
        let Some(task) = self.tasks.get_mut(arn).filter(|task| task.waits_for_admission()) else {
            return;
        };
        let place = (task.record.received_at, arn.to_owned());
        match self.ledger.refusal(&task.demand) {
            None => {
                self.ledger.take(arn, &task.demand);
                task.admit();
                self.waiting.remove(&place);
            }
            Some(why) if self.waiting.len() >= MAX_WAITING_TASKS && !self.waiting.contains(&place) => {
                task.refuse(format!(
                    "TaskStateError: Agent could not progress task's state to running: {MAX_WAITING_TASKS} tasks wait \
                     for their share of this instance already, and {why}"
                ));
            }
            Some(why) => {
                if self.waiting.insert(place) {
                    turn.log(LogLevel::Warn, arn, format!("the task waits: {why}"));
                }
            }
        }
    }

    fn forget_oldest(&mut self, turn: &mut Turn) {
        while self.remembered.len() > self.config.remembered_tasks {
            let Some((_, task_arn)) = self.remembered.pop_first() else {
                return;
            };
            if let Some(at) = self.tasks.remove(&task_arn).and_then(|task| task.deadline) {
                self.deadlines.remove(&(at, task_arn.clone()));
            }
            turn.actions.push(Action::Forget { task_arn });
        }
    }
}

/// What one call of [`Engine::handle`] amounts to.
#[derive(Debug)]
struct Turn {
    now: Timestamp,
    actions: Vec<Action>,
}

impl Turn {
    fn log(&mut self, level: LogLevel, task_arn: &str, message: String) {
        self.actions.push(Action::Log { level, task_arn: task_arn.to_owned(), message });
    }
}

/// The container, if it awaits the result of that step.
fn awaiting<'a>(
    tasks: &'a mut BTreeMap<String, Task>,
    key: &ContainerKey,
    step: Step,
) -> Option<(&'a mut ContainerRecord, &'a mut Work)> {
    tasks.get_mut(&key.task_arn)?.awaiting(&key.name, step)
}

/// The container, if it has not ended.
fn living<'a>(
    tasks: &'a mut BTreeMap<String, Task>,
    key: &ContainerKey,
) -> Option<(&'a mut ContainerRecord, &'a mut Work)> {
    tasks.get_mut(&key.task_arn)?.living(&key.name)
}
