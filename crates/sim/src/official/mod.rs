//! The official agent, as far as the control plane and Docker can tell: a model of what AGENT-PROTOCOL §2, §3 and §5 say of it.
//!
//! A pure state machine behind the same door as our engine: inputs in, actions out. It differs where the official agent
//! does: a waiting queue whose head blocks all behind it, reports in a queue per task with batched containers and a flush
//! tick, manifests acknowledged only when they are news, no memory of tasks once they are cleaned up, and no RUNNING after
//! a restart for a task that has ended meanwhile.

mod container;
mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use longshore_agent::engine::{Action, ContainerKey, Input, SubmitOutcome};
use longshore_agent_protocol::acs;
use longshore_api::Timestamp;

use crate::brain::{Act, Record};
use crate::random::Random;
use container::{ContainerRecord, Work, docker_name, hear, next};
use report::{Change, request};

/// Containers of stopped tasks are kept at least so long. The official default is three hours; with seconds an order that
/// waited in a stalled connection could meet an agent that has forgotten its task.
pub(crate) const LEAST_CLEANUP_MS: i64 = 180_000;
/// A batch of container changes waits so long for company, at least and at most.
const FLUSH_MS: (i64, i64) = (10_000, 30_000);

/// How far a container has come, and a task: as far as the last of its containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    #[default]
    None,
    Pulled,
    Created,
    Running,
    Stopped,
}

/// What the agent keeps of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TaskRecord {
    pub(crate) definition: acs::Task,
    pub(crate) stopping: bool,
    pub(crate) admitted: bool,
    pub(crate) containers: Vec<ContainerRecord>,
    /// What the control plane has accepted.
    pub(crate) sent: Status,
    pending_sent: bool,
    reason: String,
    execution_stopped_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Task {
    record: TaskRecord,
    work: Vec<Work>,
    queue: VecDeque<Change>,
    outstanding: bool,
    resend_at: Option<Timestamp>,
    resend_pause_ms: i64,
    batch: Vec<(usize, Status)>,
    flush_at: Option<Timestamp>,
    /// The last status for which a report was queued.
    queued: Status,
}

/// What the agent is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) cluster: String,
    pub(crate) cpu: i64,
    pub(crate) memory_mib: i64,
    pub(crate) cleanup_ms: i64,
}

/// The agent of one container instance.
#[derive(Debug)]
pub(crate) struct Official {
    config: Config,
    tasks: BTreeMap<String, Task>,
    waiting: VecDeque<String>,
    deadlines: BTreeSet<(Timestamp, String)>,
    /// The highest timeline or sequence number seen.
    newest: i64,
    /// The latest manifest, until its stops are verified.
    manifest: Option<String>,
    random: Random,
    acts: Vec<Act>,
}

impl TaskRecord {
    fn new(definition: acs::Task) -> Self {
        let containers = definition.containers.iter().map(|container| ContainerRecord {
            name: container.name.clone(),
            essential: container.essential,
            ..ContainerRecord::default()
        });
        Self {
            containers: containers.collect(),
            definition,
            stopping: false,
            admitted: false,
            sent: Status::None,
            pending_sent: false,
            reason: String::new(),
            execution_stopped_at: None,
            stopped_at: None,
        }
    }

    pub(crate) fn arn(&self) -> &str {
        &self.definition.arn
    }

    /// A task without containers was never known here: it counts as stopped.
    pub(crate) fn known(&self) -> Status {
        self.containers.iter().map(|container| container.known).min().unwrap_or(Status::Stopped)
    }

    fn demand(&self) -> (i64, i64, BTreeSet<(String, i64)>) {
        let sum = |of: fn(&acs::Container) -> i64| self.definition.containers.iter().map(of).sum::<i64>();
        let cpu = self.definition.cpu.map_or_else(|| sum(|c| c.cpu), |vcpus| (vcpus * 1024.0) as i64);
        let memory = self.definition.memory.unwrap_or_else(|| sum(|c| c.memory));
        let mappings = self.definition.containers.iter().flat_map(|container| &container.port_mappings);
        let fixed = mappings.filter_map(|mapping| {
            let port = mapping.host_port.filter(|port| *port > 0)?;
            Some((mapping.protocol.clone().unwrap_or_else(|| "tcp".to_owned()), port))
        });
        (cpu, memory, fixed.collect())
    }
}

impl Task {
    fn new(record: TaskRecord) -> Self {
        Self {
            work: vec![Work::default(); record.containers.len()],
            queued: record.sent,
            record,
            queue: VecDeque::new(),
            outstanding: false,
            resend_at: None,
            resend_pause_ms: 1_000,
            batch: Vec::new(),
            flush_at: None,
        }
    }

    /// From its record: Docker is asked first, and what was never accepted is sent again.
    fn restored(record: TaskRecord) -> Self {
        let mut task = Self::new(record);
        task.work.iter_mut().for_each(|work| work.unverified = true);
        let unsent = task.record.containers.iter().enumerate().filter(|(_, c)| c.known >= Status::Running);
        task.batch = unsent.filter(|(_, c)| c.sent < c.known).map(|(index, c)| (index, c.known)).collect();
        task
    }

    fn position(&self, key: &ContainerKey) -> Option<usize> {
        self.record.containers.iter().position(|container| container.name == key.name)
    }
}

impl Official {
    pub(crate) fn new(config: Config, random: Random, records: Vec<TaskRecord>, timeline: i64) -> Self {
        let tasks: BTreeMap<String, Task> =
            records.into_iter().map(|record| (record.arn().to_owned(), Task::restored(record))).collect();
        let waiting = tasks.iter().filter(|(_, task)| !task.record.admitted).map(|(arn, _)| arn.clone()).collect();
        Self {
            config,
            deadlines: tasks.keys().map(|arn| (Timestamp::from_millis(i64::MIN), arn.clone())).collect(),
            tasks,
            waiting,
            newest: timeline,
            manifest: None,
            random,
            acts: Vec::new(),
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &TaskRecord> {
        self.tasks.values().map(|task| &task.record)
    }

    pub(crate) fn record(&self, arn: &str) -> Option<&TaskRecord> {
        self.tasks.get(arn).map(|task| &task.record)
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Act> {
        match input {
            Input::Payload(message) => self.payload(now, message),
            Input::Manifest(message) => self.manifest(message),
            Input::StopVerificationAck(message) => self.stops_verified(now, message),
            Input::DockerReady { .. } => self.docker_ready(now),
            Input::Submitted { task_arn, outcome } => self.submitted(now, &task_arn, outcome),
            Input::Tick => {}
            news => self.container_news(now, news),
        }
        while let Some((at, arn)) = self.deadlines.first().cloned().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, arn.clone()));
            self.advance(now, &arn);
        }
        std::mem::take(&mut self.acts)
    }

    fn ack(&mut self, cluster: String, container_instance: String, message_id: String) {
        let ack = acs::AckRequest { cluster, container_instance, message_id };
        self.acts.push(Act::Do(Action::Reply(acs::AgentMessage::Ack(ack))));
    }

    fn payload(&mut self, now: Timestamp, message: acs::PayloadMessage) {
        let acs::PayloadMessage { message_id, cluster_arn, container_instance_arn, seq_num, tasks, .. } = message;
        if message_id.is_empty() || cluster_arn.is_empty() || container_instance_arn.is_empty() {
            return;
        }
        self.newest = self.newest.max(seq_num);
        let (stops, starts): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|task| task.desired_status == acs::DesiredStatus::Stopped);
        for task in stops {
            self.stop_order(now, task);
        }
        for definition in starts {
            // A known task is left alone: only its desired status would matter, and that is RUNNING or over.
            let arn = definition.arn.clone();
            if !self.tasks.contains_key(&arn) {
                let task = Task::new(TaskRecord::new(definition));
                self.save(&task.record);
                self.tasks.insert(arn.clone(), task);
                self.waiting.push_back(arn);
            }
        }
        self.admit(now);
        self.ack(cluster_arn, container_instance_arn, message_id);
    }

    fn stop_order(&mut self, now: Timestamp, definition: acs::Task) {
        let arn = definition.arn.clone();
        match self.tasks.get_mut(&arn) {
            Some(task) => task.record.stopping = true,
            None => {
                let unknown = acs::Task { arn: arn.clone(), ..acs::Task::default() };
                let mut task = Task::new(TaskRecord::new(unknown));
                task.record.stopping = true;
                task.record.admitted = true;
                task.record.reason = "TaskStateError: Agent could not progress task's state to stopped".to_owned();
                self.tasks.insert(arn.clone(), task);
            }
        }
        self.changed(&arn);
        self.advance(now, &arn);
    }

    fn manifest(&mut self, message: acs::TaskManifestMessage) {
        let acs::TaskManifestMessage { message_id, cluster_arn, container_instance_arn, timeline, tasks, .. } = message;
        // One that knows less than the agent does is passed over, without an acknowledgement.
        if timeline <= self.newest {
            return;
        }
        self.newest = timeline;
        self.manifest = Some(message_id.clone());
        self.acts.push(Act::SaveTimeline(timeline));
        let wanted: BTreeSet<&str> = tasks
            .iter()
            .filter(|task| task.desired_status == acs::DesiredStatus::Running)
            .map(|task| task.task_arn.as_str())
            .collect();
        let unwanted = self.tasks.values().map(|task| &task.record);
        let unwanted = unwanted.filter(|task| task.known() < Status::Stopped && !wanted.contains(task.arn()));
        let stop_candidates: Vec<_> = unwanted
            .map(|task| acs::TaskIdentifier {
                task_arn: task.arn().to_owned(),
                task_cluster_arn: task.definition.task_cluster_arn.clone().unwrap_or_default(),
                desired_status: acs::DesiredStatus::Stopped,
            })
            .collect();
        self.ack(cluster_arn, container_instance_arn, message_id.clone());
        if !stop_candidates.is_empty() {
            let message = acs::TaskStopVerificationMessage { message_id, stop_candidates };
            self.acts.push(Act::Do(Action::Reply(acs::AgentMessage::TaskStopVerification(message))));
        }
    }

    fn stops_verified(&mut self, now: Timestamp, message: acs::TaskStopVerificationAck) {
        if self.manifest.as_ref() != Some(&message.message_id) {
            return;
        }
        self.manifest = None;
        for task in message.stop_tasks {
            if let Some(known) = self.tasks.get_mut(&task.task_arn) {
                known.record.stopping = true;
                self.changed(&task.task_arn);
                self.advance(now, &task.task_arn);
            }
        }
    }

    /// At the start, and when Docker is back: every container that may exist is looked at.
    fn docker_ready(&mut self, now: Timestamp) {
        let arns: Vec<String> = self.tasks.keys().cloned().collect();
        for arn in arns {
            let Some(task) = self.tasks.get_mut(&arn) else { continue };
            for (container, work) in task.record.containers.iter().zip(&mut task.work) {
                work.unverified = false;
                work.not_before = None;
                work.look |= container.known < Status::Stopped && container.known >= Status::Pulled;
            }
            self.advance(now, &arn);
        }
    }

    fn container_news(&mut self, now: Timestamp, news: Input) {
        let (Input::ImageInspected { container, .. }
        | Input::ImagePulled { container, .. }
        | Input::Created { container, .. }
        | Input::Started { container, .. }
        | Input::Stopped { container, .. }
        | Input::Inspected { container, .. }
        | Input::Removed { container, .. }
        | Input::Died { container, .. }
        | Input::HealthChanged { container, .. }) = &news
        else {
            return;
        };
        let arn = container.task_arn.clone();
        let Some(task) = self.tasks.get_mut(&arn) else { return };
        let Some(index) = task.position(container) else { return };
        let before = task.record.clone();
        let work = &mut task.work[index];
        work.in_flight &= matches!(news, Input::Died { .. } | Input::HealthChanged { .. });
        let known = &mut task.record.containers[index];
        hear(known, work, now, news);
        if before.containers[index].known < known.known && known.known >= Status::Running {
            task.batch.push((index, known.known));
        }
        let changed = before != task.record;
        if changed {
            self.changed(&arn);
        }
        self.advance(now, &arn);
    }

    fn submitted(&mut self, now: Timestamp, arn: &str, outcome: SubmitOutcome) {
        let Some(task) = self.tasks.get_mut(arn) else { return };
        task.outstanding = false;
        match outcome {
            SubmitOutcome::Accepted | SubmitOutcome::Dropped(_) => {
                task.resend_pause_ms = 1_000;
                if let Some(change) = task.queue.pop_front() {
                    task.record.sent = task.record.sent.max(change.reached);
                    task.record.pending_sent = true;
                    for (index, status) in change.containers {
                        let container = &mut task.record.containers[index];
                        container.sent = container.sent.max(status);
                    }
                    self.changed(arn);
                }
            }
            SubmitOutcome::Failed(_) => {
                task.resend_at = Some(now.plus_millis(task.resend_pause_ms));
                task.resend_pause_ms = (task.resend_pause_ms * 13 / 10).min(30_000);
            }
        }
        self.advance(now, arn);
    }

    fn save(&mut self, record: &TaskRecord) {
        self.acts.push(Act::Save { record: Record::Official(Box::new(record.clone())), durable: true });
    }

    fn changed(&mut self, arn: &str) {
        if let Some(record) = self.tasks.get(arn).map(|task| task.record.clone()) {
            self.save(&record);
        }
    }

    /// Lets tasks in, in the order in which they came: one that does not fit holds up all behind it.
    fn admit(&mut self, now: Timestamp) {
        while let Some(arn) = self.waiting.front().cloned() {
            let Some(task) = self.tasks.get(&arn) else {
                self.waiting.pop_front();
                continue;
            };
            if !task.record.stopping && !self.fits(&task.record) {
                return;
            }
            self.waiting.pop_front();
            if let Some(task) = self.tasks.get_mut(&arn) {
                task.record.admitted = true;
            }
            self.changed(&arn);
            self.advance(now, &arn);
        }
    }

    fn fits(&self, wanted: &TaskRecord) -> bool {
        let (mut cpu, mut memory, ports) = wanted.demand();
        let held = self.tasks.values().map(|task| &task.record);
        for task in held.filter(|task| task.admitted && task.known() < Status::Stopped) {
            let (more_cpu, more_memory, taken) = task.demand();
            cpu += more_cpu;
            memory += more_memory;
            if !taken.is_disjoint(&ports) {
                return false;
            }
        }
        cpu <= self.config.cpu && memory <= self.config.memory_mib
    }

    /// Everything that can be done for a task now.
    fn advance(&mut self, now: Timestamp, arn: &str) {
        let Some(mut task) = self.tasks.remove(arn) else { return };
        let (before, first_act) = (task.record.clone(), self.acts.len());
        let mut wake: Option<Timestamp> = None;
        if task.record.admitted || task.record.stopping {
            for index in 0..task.record.containers.len() {
                if let Some(action) = next(&self.config, &mut task, index, now, &mut wake) {
                    task.work[index].in_flight = true;
                    self.acts.push(Act::Do(action));
                }
            }
            let ended = |container: &ContainerRecord| container.essential && container.known == Status::Stopped;
            if task.record.containers.iter().any(ended) && !task.record.stopping {
                task.record.stopping = true;
                task.record.execution_stopped_at = Some(now);
                wake = Some(now);
            }
        }
        let stopped_now = task.record.known() == Status::Stopped && task.record.stopped_at.is_none();
        if stopped_now {
            task.record.stopped_at = Some(now);
        }
        self.queue_reports(&mut task, now, &mut wake);
        let forgotten = self.clean_up(&mut task, now, &mut wake);
        if task.record != before && !forgotten {
            // Before whatever this turn ordered: the record is on disk first.
            let record = Record::Official(Box::new(task.record.clone()));
            self.acts.insert(first_act, Act::Save { record, durable: true });
        }
        self.deadlines.extend(wake.map(|at| (at, arn.to_owned())));
        match forgotten {
            true => self.acts.push(Act::Forget(arn.to_owned())),
            false => drop(self.tasks.insert(arn.to_owned(), task)),
        }
        if stopped_now {
            self.waiting.retain(|waiting| waiting != arn);
            self.admit(now);
        }
    }

    /// Queues what the task's status calls for, and sends the first of the queue.
    fn queue_reports(&mut self, task: &mut Task, now: Timestamp, wake: &mut Option<Timestamp>) {
        let known = task.record.known();
        let digest = task.record.containers.iter().any(|container| container.digest.is_some());
        let queue = |task: &mut Task, status, reached| {
            let containers = std::mem::take(&mut task.batch);
            task.flush_at = None;
            task.queue.push_back(Change { status, reached, containers });
        };
        if digest && !task.record.pending_sent && task.queue.is_empty() && known < Status::Running {
            queue(task, "PENDING", Status::None);
        }
        if known >= Status::Running && known > task.queued {
            task.queued = known;
            let status = if known == Status::Stopped { "STOPPED" } else { "RUNNING" };
            queue(task, status, known);
        }
        if !task.batch.is_empty() && known < Status::Stopped {
            let pause = self.random.between(FLUSH_MS.0, FLUSH_MS.1);
            let at = *task.flush_at.get_or_insert(now.plus_millis(pause));
            match at <= now {
                true => queue(task, if known == Status::Running { "RUNNING" } else { "PENDING" }, Status::None),
                false => earliest(wake, at),
            }
        }
        match task.resend_at.filter(|at| *at > now) {
            Some(at) => earliest(wake, at),
            None => {
                task.resend_at = None;
                if let Some(change) = task.queue.front().filter(|_| !task.outstanding) {
                    let change = Box::new(request(&self.config, &task.record, change));
                    task.outstanding = true;
                    self.acts.push(Act::Do(Action::Submit { task_arn: task.record.arn().to_owned(), change }));
                }
            }
        }
    }

    /// Removes the containers of a task that has been stopped long enough, and then forgets it.
    fn clean_up(&mut self, task: &mut Task, now: Timestamp, wake: &mut Option<Timestamp>) -> bool {
        let Some(at) = task.record.stopped_at.map(|at| at.plus_millis(self.config.cleanup_ms)) else { return false };
        if task.record.sent != Status::Stopped || task.work.iter().any(|work| work.unverified) {
            return false;
        }
        if at > now {
            earliest(wake, at);
            return false;
        }
        for (container, work) in task.record.containers.iter().zip(&mut task.work) {
            if container.removed || work.in_flight {
                continue;
            }
            if let Some(at) = work.not_before.filter(|at| *at > now) {
                earliest(wake, at);
                continue;
            }
            work.in_flight = true;
            let key = ContainerKey { task_arn: task.record.arn().to_owned(), name: container.name.clone() };
            let target = docker_name(&task.record, &container.name);
            self.acts.push(Act::Do(Action::Remove { container: key, target }));
        }
        task.record.containers.iter().all(|container| container.removed)
    }
}

fn earliest(wake: &mut Option<Timestamp>, at: Timestamp) {
    *wake = Some(wake.map_or(at, |known| known.min(at)));
}
