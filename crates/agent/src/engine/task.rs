//! One task: what is known and wanted of it, and what its containers, its report and its clean-up need next.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use longshore_agent_protocol::acs;
use longshore_api::Timestamp;

use super::EngineConfig;
use super::action::{Action, LogLevel};
use super::admission::{Demand, Ledger};
use super::container::{self, ContainerRecord, Next, Status, Step, Surroundings, Work};
use super::container_config::{container_spec, docker_name, known_bindings};
use super::dependency::{self, Dependency};
use super::input::{ContainerKey, DockerError, DockerLife, FoundContainer};
use super::internal;
use super::record::{Desired, TaskRecord};
use super::report::{self, Due, Report};
use super::resource::{self, Before, Planned, Prepared, ResourceKey, ResourceRecord, ResourceStatus};
use super::restart;
use super::support;

/// How urgently a task's record must be saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Save {
    #[default]
    No,
    /// What changed could be found out again.
    Soon,
    /// Before anything else is done.
    First,
}

/// What every task has to know about its surroundings.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a EngineConfig,
    /// Which Docker was there last.
    pub(crate) docker: &'a Option<DockerLife>,
    /// What of the host is taken.
    pub(crate) ledger: &'a Ledger,
    pub(crate) now: Timestamp,
}

/// How far the search for the containers of an unknown task has come.
#[derive(Clone, Copy, Debug, Default)]
struct Finding {
    in_flight: bool,
    failures: u32,
    retry_at: Option<Timestamp>,
}

/// A task with what is under way for it.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) record: TaskRecord,
    pub(crate) demand: Demand,
    pub(crate) work: Vec<Work>,
    dependencies: Vec<Vec<Dependency>>,
    /// In the order of the record's.
    resources: Vec<Planned>,
    outstanding: Option<Report>,
    submit_not_before: Option<Timestamp>,
    batched_since: Option<Timestamp>,
    finding: Finding,
    /// When time alone gives it something to do.
    pub(crate) deadline: Option<Timestamp>,
    save: Save,
    /// How many of its containers had ended when the record was last saved.
    ended_saved: usize,
}

/// Between submits of the same report, when one did not get through. The shell retries inside one submit, so this is the end of a
/// long wait already.
const SUBMIT_PAUSE_MS: i64 = 5_000;

impl Task {
    /// A task that a payload brought. One that cannot be run is a task that stops, and says why.
    pub(crate) fn new(config: &EngineConfig, mut definition: acs::Task, seq_num: i64, now: Timestamp) -> Self {
        let checked = support::check(config, &definition);
        // Credentials are kept in memory only.
        definition.role_credentials = None;
        definition.execution_role_credentials = None;
        if checked.is_ok() {
            internal::add(&mut definition);
        }
        let containers = definition.containers.iter().map(|container| ContainerRecord {
            name: container.name.clone(),
            docker_name: docker_name(&definition, &container.name),
            essential: container.essential,
            bindings: known_bindings(&definition, container),
            ..ContainerRecord::default()
        });
        let record = TaskRecord {
            containers: containers.collect(),
            definition,
            seq_num,
            received_at: now,
            desired: Desired::Running,
            known: Status::None,
            admitted: false,
            reached_running: false,
            reason: String::new(),
            pull_started_at: None,
            pull_stopped_at: None,
            execution_stopped_at: None,
            stopped_at: None,
            reported: Status::None,
            cleaned: false,
            to_find: false,
            resources: Vec::new(),
        };
        // What cannot be planned was refused by the check.
        let planned = resource::plan(config, &record.definition).unwrap_or_default();
        let record = TaskRecord { resources: planned.into_iter().map(ResourceRecord::new).collect(), ..record };
        let mut task = Self::around(record);
        task.save = Save::First;
        if let Err(reason) = checked {
            task.record.reason = reason;
            task.record.desired = Desired::Stopped;
        }
        task
    }

    /// A task that is not known here and was ordered to stop. Containers of it may exist all the same, if what was known of it
    /// was lost: it has not stopped before Docker says that none runs.
    pub(crate) fn unknown(config: &EngineConfig, definition: &acs::Task, seq_num: i64, now: Timestamp) -> Self {
        let named = acs::Task {
            arn: definition.arn.clone(),
            task_cluster_arn: definition.task_cluster_arn.clone(),
            ..acs::Task::default()
        };
        let mut task = Self::new(config, named, seq_num, now);
        task.record.reason = "TaskStateError: Agent could not progress task's state to stopped".to_owned();
        task.record.to_find = true;
        task
    }

    /// Docker says which containers an unknown task has: they become its containers, and are stopped like any others.
    pub(crate) fn containers_found(&mut self, now: Timestamp, result: Result<Vec<FoundContainer>, DockerError>) {
        self.finding.in_flight = false;
        if !self.record.to_find {
            return;
        }
        let Ok(found) = result else {
            self.finding.retry_at = Some(now.plus_millis(container::docker_pause(self.finding.failures)));
            self.finding.failures = self.finding.failures.saturating_add(1);
            return;
        };
        self.record.to_find = false;
        self.save = Save::First;
        for found in found {
            self.adopt(found);
        }
    }

    fn adopt(&mut self, found: FoundContainer) {
        let record = &mut self.record;
        // That it had one is all there is to say about a task whose containers end as ordered.
        record.reason.clear();
        record.reported = Status::Running;
        // Nobody names two containers alike but somebody who copies one by hand: that copy must not run on either.
        let alike = record.containers.iter().filter(|known| known.name == found.container.name).count();
        let name = if alike == 0 { found.container.name } else { format!("{}#{alike}", found.container.name) };
        record.definition.containers.push(acs::Container { name: name.clone(), ..acs::Container::default() });
        record.containers.push(ContainerRecord {
            name,
            docker_name: found.docker_id.clone(),
            docker_id: Some(found.docker_id),
            essential: true,
            known: Status::Created,
            start_intended: true,
            reported: Status::Running,
            bindings: Some(Vec::new()),
            ..ContainerRecord::default()
        });
        self.work.push(Work::to_inspect());
    }

    /// It cannot be run here, and says why.
    pub(crate) fn refuse(&mut self, reason: String) {
        self.record.reason = reason;
        self.stop();
    }

    /// A task from its record. Until Docker was seen, nothing is done for its containers.
    pub(crate) fn restored(record: TaskRecord) -> Self {
        let mut task = Self::around(record);
        for (container, work) in task.record.containers.iter().zip(&mut task.work) {
            work.unverified = true;
            work.start_unsure = container.start_intended;
        }
        task.ended_saved = task.ended();
        task
    }

    fn around(record: TaskRecord) -> Self {
        Self {
            resources: record.resources.iter().map(|known| Planned::new(known.resource.clone())).collect(),
            demand: Demand::of(&record.definition),
            work: vec![Work::default(); record.containers.len()],
            dependencies: dependency::resolve(&record.definition).unwrap_or_default(),
            record,
            outstanding: None,
            submit_not_before: None,
            batched_since: None,
            finding: Finding::default(),
            deadline: None,
            save: Save::No,
            ended_saved: 0,
        }
    }

    fn ended(&self) -> usize {
        self.record.containers.iter().filter(|container| container.known == Status::Stopped).count()
    }

    /// The container's record and work, if it awaits the result of that step.
    pub(crate) fn awaiting(&mut self, name: &str, step: Step) -> Option<(&mut ContainerRecord, &mut Work)> {
        let position = self.record.containers.iter().position(|container| container.name == name)?;
        let work = self.work.get_mut(position).filter(|work| work.in_flight == Some(step))?;
        work.in_flight = None;
        self.save = self.save.max(Save::Soon);
        Some((self.record.containers.get_mut(position)?, work))
    }

    /// The container's record and work, if it has not ended.
    pub(crate) fn living(&mut self, name: &str) -> Option<(&mut ContainerRecord, &mut Work)> {
        let position = self.record.containers.iter().position(|container| container.name == name)?;
        let container = self.record.containers.get_mut(position).filter(|c| c.known < Status::Stopped)?;
        Some((container, self.work.get_mut(position)?))
    }

    /// A resource was made, or not; answers with what is to be told about that.
    pub(crate) fn resource_made(
        &mut self,
        now: Timestamp,
        key: &ResourceKey,
        result: Result<resource::Made, resource::ResourceError>,
    ) -> Option<String> {
        let (planned, record) = self.resource(key)?;
        let outcome = planned.made(record, now, result);
        self.save = self.save.max(Save::Soon);
        match outcome {
            Ok(told) => told,
            Err(reason) => {
                if self.record.desired == Desired::Running {
                    self.refuse(reason);
                }
                None
            }
        }
    }

    /// Something that its resources may have waited for has come.
    pub(crate) fn prerequisite_came(&mut self) {
        self.resources.iter_mut().for_each(Planned::prerequisite_came);
    }

    /// A resource was removed, or not; answers with what is to be told about that.
    pub(crate) fn resource_removed(
        &mut self,
        now: Timestamp,
        key: &ResourceKey,
        result: Result<(), resource::ResourceError>,
    ) -> Option<String> {
        let (planned, record) = self.resource(key)?;
        let trouble = planned.removed(record, now, result);
        self.save = self.save.max(Save::Soon);
        trouble
    }

    fn resource(&mut self, key: &ResourceKey) -> Option<(&mut Planned, &mut ResourceRecord)> {
        let mut both = self.resources.iter_mut().zip(&mut self.record.resources);
        both.find(|(planned, _)| planned.resource.key == *key && planned.work.in_flight)
    }

    /// The task is to stop.
    pub(crate) fn stop(&mut self) {
        if self.record.desired != Desired::Stopped {
            self.record.desired = Desired::Stopped;
            self.save = Save::First;
        }
    }

    /// Its share of the host is taken.
    pub(crate) fn admit(&mut self) {
        self.record.admitted = true;
        self.save = self.save.max(Save::Soon);
    }

    /// Whether it waits for its share of the host.
    pub(crate) fn waits_for_admission(&self) -> bool {
        !self.record.admitted && self.record.desired == Desired::Running && self.record.known < Status::Stopped
    }

    /// The control plane asks for a task that has stopped: it is told again.
    pub(crate) fn repeat_stopped(&mut self) {
        if self.record.known == Status::Stopped && self.record.reported == Status::Stopped && self.outstanding.is_none()
        {
            report::repeat_stopped(&mut self.record);
            self.save = self.save.max(Save::Soon);
        }
    }

    /// Docker can be asked again, and these containers exist: each that may is to be asked about.
    pub(crate) fn docker_ready(&mut self, now: Timestamp, found: &BTreeMap<ContainerKey, FoundContainer>) {
        self.finding.retry_at = None;
        self.prerequisite_came();
        // What lies ahead was written by a clock that was wrong then, or is now.
        self.record.stopped_at = self.record.stopped_at.map(|at| at.min(now));
        for (container, work) in self.record.containers.iter_mut().zip(&mut self.work) {
            work.unverified = false;
            work.retry_at = None;
            if container.known == Status::Stopped {
                continue;
            }
            for at in [&mut container.started_at, &mut container.restarts.last_at].into_iter().flatten() {
                *at = now.min(*at);
            }
            let key = ContainerKey { task_arn: self.record.definition.arn.clone(), name: container.name.clone() };
            let found = found.get(&key);
            if container.docker_id.is_none() {
                container.docker_id = found.map(|found| found.docker_id.clone());
            }
            work.inspect_wanted |= found.is_some() || container.docker_id.is_some() || container.start_intended;
        }
    }

    /// The clock jumped: what waits for a time waits for the same span as before.
    pub(crate) fn clock_set(&mut self, by_ms: i64) {
        let record = &mut self.record;
        let times = [
            &mut self.submit_not_before,
            &mut self.batched_since,
            &mut self.deadline,
            &mut self.finding.retry_at,
            &mut record.stopped_at,
        ];
        for time in times.into_iter().flatten() {
            *time = time.plus_millis(by_ms);
        }
        for (container, work) in record.containers.iter_mut().zip(&mut self.work) {
            container::clock_set(container, work, by_ms);
        }
        self.resources.iter_mut().for_each(|planned| planned.clock_set(by_ms));
    }

    /// What became of the report under way.
    pub(crate) fn submitted(&mut self, now: Timestamp, settled: bool) {
        let Some(report) = self.outstanding.take() else {
            return;
        };
        if settled {
            report::settle(&mut self.record, &report);
            self.submit_not_before = None;
            self.save = self.save.max(Save::Soon);
        } else {
            self.submit_not_before = Some(now.plus_millis(SUBMIT_PAUSE_MS));
        }
    }

    /// Everything that can be done now. The record is saved before.
    pub(crate) fn step(&mut self, context: &Context<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.deadline = None;
        if self.record.to_find {
            self.step_find(context, &mut actions);
        } else if !self.waits_for_admission() {
            self.step_resources(context, &mut actions);
            self.step_containers(context, &mut actions);
        }
        self.step_known(context);
        self.step_report(context, &mut actions);
        self.step_cleanup(context, &mut actions);
        // That a container has ended must be on disk before anybody hears of it: it must never run again.
        if self.ended() != self.ended_saved {
            self.ended_saved = self.ended();
            self.save = Save::First;
        }
        if self.save != Save::No {
            let durable = self.save == Save::First;
            self.save = Save::No;
            actions.insert(0, Action::Save { record: Box::new(self.record.clone()), durable });
        }
        actions
    }

    fn step_find(&mut self, context: &Context<'_>, actions: &mut Vec<Action>) {
        let later = self.finding.retry_at.filter(|at| *at > context.now);
        if later.is_some() {
            self.wake_at(later);
        } else if !self.finding.in_flight {
            self.finding.in_flight = true;
            actions.push(Action::FindContainers { task_arn: self.record.definition.arn.clone() });
        }
    }

    fn step_containers(&mut self, context: &Context<'_>, actions: &mut Vec<Action>) {
        // One container's end may free or end others: go on until nothing moves.
        let mut moved = true;
        while moved {
            moved = false;
            for position in 0..self.record.containers.len() {
                let next = self.next(context, position);
                match next {
                    Next::Wait(until) => self.wake_at(until),
                    Next::Do(step) => self.perform(context, position, step, actions),
                    Next::End { reason, exit_code } => {
                        self.end(context.now, position, reason, exit_code);
                        moved = true;
                    }
                }
            }
            moved |= self.apply_essential_rule();
        }
    }

    fn next(&self, context: &Context<'_>, position: usize) -> Next {
        let (Some(container), Some(work)) = (self.record.containers.get(position), self.work.get(position)) else {
            return Next::Wait(None);
        };
        let own = self.dependencies.get(position).map(Vec::as_slice).unwrap_or_default();
        let depends = |dependencies: &Vec<Dependency>| dependencies.iter().any(|dependency| dependency.on == position);
        let dependents =
            self.dependencies.iter().zip(&self.record.containers).filter(|(dependencies, _)| depends(dependencies));
        let around = Surroundings {
            now: context.now,
            stopping: self.record.desired == Desired::Stopped,
            readiness: dependency::readiness(own, &self.record.containers, context.now),
            dependents_down: dependents.into_iter().all(|(_, c)| c.known == Status::Stopped || !c.start_intended),
            held_before_pull: self.is_held(&container.name, Before::Pull),
            held_before_create: self.is_held(&container.name, Before::Create),
            held_before_start: self.is_held(&container.name, Before::Start),
            pull_dependents_upfront: context.config.pull_dependents_upfront,
            pull_behavior: context.config.image_pull_behavior,
            pinned: self.record.definition.containers.get(position).is_some_and(is_pinned),
        };
        container::next(container, work, &around)
    }

    /// Whether the container waits for a resource.
    fn is_held(&self, container: &str, before: Before) -> bool {
        let mut both = self.resources.iter().zip(&self.record.resources);
        both.any(|(planned, record)| planned.holds(record.known, container, before))
    }

    /// What the task's resources need, for as long as it is to run; and the removal of those that go with its containers.
    fn step_resources(&mut self, context: &Context<'_>, actions: &mut Vec<Action>) {
        if self.record.desired == Desired::Stopped {
            let ended = self.record.containers.iter().all(|container| container.known == Status::Stopped);
            if ended {
                self.remove_resources(context, actions, |planned| planned.resource.brief);
            }
            return;
        }
        for position in 0..self.resources.len() {
            let (Some(planned), Some(record)) =
                (self.resources.get_mut(position), self.record.resources.get_mut(position))
            else {
                return;
            };
            match planned.next(record.known, &self.record.containers, context.now) {
                resource::Next::Wait(until) => self.wake_at(until),
                resource::Next::Make => {
                    // That it may exist is known before it does, or nobody would remove it.
                    if record.known == ResourceStatus::None {
                        record.known = ResourceStatus::Intended;
                        self.save = Save::First;
                    }
                    planned.work.in_flight = true;
                    actions.push(Action::MakeResource {
                        task_arn: self.record.definition.arn.clone(),
                        key: planned.resource.key.clone(),
                        spec: Box::new(planned.resource.spec.clone()),
                    });
                }
            }
        }
    }

    /// Removes those resources; says whether none of them is left.
    fn remove_resources(
        &mut self,
        context: &Context<'_>,
        actions: &mut Vec<Action>,
        which: impl Fn(&Planned) -> bool,
    ) -> bool {
        let mut gone = true;
        for position in 0..self.resources.len() {
            let (Some(planned), Some(record)) = (self.resources.get_mut(position), self.record.resources.get(position))
            else {
                return gone;
            };
            if !which(planned) || matches!(record.known, ResourceStatus::None | ResourceStatus::Removed) {
                continue;
            }
            gone = false;
            match planned.may_go(context.now) {
                Err(until) => self.wake_at(until),
                Ok(()) => {
                    planned.work.in_flight = true;
                    actions.push(Action::RemoveResource {
                        task_arn: self.record.definition.arn.clone(),
                        key: planned.resource.key.clone(),
                        spec: Box::new(planned.resource.spec.clone()),
                    });
                }
            }
        }
        gone
    }

    fn end(&mut self, now: Timestamp, position: usize, reason: Option<String>, exit_code: Option<i32>) {
        if let (Some(container), Some(work)) = (self.record.containers.get_mut(position), self.work.get_mut(position)) {
            let fails_task = work.fails_task;
            if container.is_internal() && self.record.reason.is_empty() {
                // Nobody is told of the container, so the task has to say it.
                self.record.reason = reason.clone().unwrap_or_default();
            }
            container::end(container, work, now, reason, exit_code);
            if fails_task {
                self.stop();
            }
        }
    }

    /// The end of an essential container is the end of its task. Says whether that is news.
    fn apply_essential_rule(&mut self) -> bool {
        let ended = |container: &&ContainerRecord| container.essential && container.known == Status::Stopped;
        let first_end = self.record.containers.iter().filter(ended).filter_map(|container| container.finished_at).min();
        if self.record.execution_stopped_at.is_none() {
            self.record.execution_stopped_at = first_end;
        }
        let news = first_end.is_some() && self.record.desired == Desired::Running;
        if news {
            let lost = |container: &ContainerRecord| container.is_internal() && container.known == Status::Stopped;
            if self.record.reason.is_empty() && self.record.containers.iter().any(lost) {
                self.record.reason = "the container that holds the namespaces of the task has ended".to_owned();
            }
            self.stop();
        }
        news
    }

    fn perform(&mut self, context: &Context<'_>, position: usize, step: Step, actions: &mut Vec<Action>) {
        let Some(definition) = self.record.definition.containers.get(position) else {
            return;
        };
        let (Some(record), Some(work)) = (self.record.containers.get_mut(position), self.work.get_mut(position)) else {
            return;
        };
        let container = ContainerKey { task_arn: self.record.definition.arn.clone(), name: record.name.clone() };
        let action = match step {
            Step::InspectImage => Action::InspectImage { container, image: definition.image.clone() },
            Step::ResolveDigest => {
                let timeout_ms = context.config.manifest_pull_timeout_ms;
                let login = prepared(&self.resources, &self.record.resources, &definition.name).login();
                Action::ResolveDigest { container, image: definition.image.clone(), login, timeout_ms }
            }
            Step::PullImage => {
                self.record.pull_started_at.get_or_insert(context.now);
                work.pull_began.get_or_insert(context.now);
                let login = prepared(&self.resources, &self.record.resources, &definition.name).login();
                let digest = record.image_digest.clone();
                Action::PullImage { container, image: definition.image.clone(), digest, login }
            }
            Step::Create => {
                let prepared = prepared(&self.resources, &self.record.resources, &definition.name);
                match container_spec(context.config, &self.record.definition, definition, &prepared) {
                    Ok(mut spec) => {
                        for wanted in &mut spec.ports_to_find {
                            wanted.except = context.ledger.promised_ports(wanted.protocol);
                        }
                        let timeout_ms = context.config.create_timeout_ms;
                        Action::Create { container, spec: Box::new(spec), timeout_ms }
                    }
                    Err(why) => {
                        work.failing = Some(format!("CannotCreateContainerError: {why}"));
                        return self.wake_at(Some(context.now));
                    }
                }
            }
            Step::Start => {
                if restart::intend_start(record, context.docker) {
                    self.save = Save::First;
                }
                let docker_id = record.target();
                Action::Start { container, docker_id, timeout_ms: context.config.start_timeout_ms }
            }
            Step::Stop => {
                let grace_s = definition.stop_timeout.filter(|s| *s >= 0).unwrap_or(context.config.stop_timeout_s);
                Action::Stop { container, target: record.target(), grace_s }
            }
            Step::Inspect => {
                work.inspect_wanted = false;
                Action::Inspect { container, target: record.target() }
            }
            Step::Remove => Action::Remove { container, target: record.target() },
        };
        work.in_flight = Some(step);
        actions.push(action);
    }

    /// The task has come as far as the container that has come least far.
    fn step_known(&mut self, context: &Context<'_>) {
        let record = &mut self.record;
        if record.known == Status::Stopped || record.to_find {
            return;
        }
        let ended = record.containers.iter().all(|container| container.known == Status::Stopped);
        // What the agent added may run although nothing else ever did.
        let own = || record.containers.iter().filter(|container| !container.is_internal());
        let (least_own, all_ran) =
            (own().map(|container| container.known).min(), own().all(|container| container.started));
        if least_own == Some(Status::Running) || (least_own == Some(Status::Stopped) && all_ran) {
            record.reached_running = true;
        }
        let least = record.containers.iter().map(|container| container.known).min();
        let known = match least {
            Some(Status::Stopped) | None if ended => Status::Stopped,
            Some(least) => least,
            None => Status::None,
        };
        if known > record.known {
            record.known = known;
            self.save = self.save.max(Save::Soon);
            if known == Status::Stopped {
                record.desired = Desired::Stopped;
                record.stopped_at = Some(context.now);
                self.save = Save::First;
            }
        }
    }

    fn step_report(&mut self, context: &Context<'_>, actions: &mut Vec<Action>) {
        if self.outstanding.is_some() {
            return;
        }
        let (report, due_at) = match report::due(&self.record) {
            Due::Nothing => {
                self.batched_since = None;
                return;
            }
            Due::Now(report) => (report, context.now),
            Due::Batched(report) => {
                let since = *self.batched_since.get_or_insert(context.now);
                (report, report::flush_at(since))
            }
        };
        let due_at = self.submit_not_before.map_or(due_at, |at| at.max(due_at));
        if due_at > context.now {
            return self.wake_at(Some(due_at));
        }
        self.batched_since = None;
        let change = Box::new(report::request(context.config, &self.record, &report));
        self.outstanding = Some(report);
        actions.push(Action::Submit { task_arn: self.record.definition.arn.clone(), change });
    }

    /// Some time after the task has stopped, and once the control plane knows, its containers go.
    fn step_cleanup(&mut self, context: &Context<'_>, actions: &mut Vec<Action>) {
        let record = &self.record;
        let (Some(stopped_at), false) = (record.stopped_at, record.cleaned) else {
            return;
        };
        if record.reported != Status::Stopped {
            return;
        }
        let wait_ms = context.config.task_cleanup_wait_ms.saturating_add(self.jitter(context.config));
        let due_at = stopped_at.plus_millis(wait_ms);
        if due_at > context.now {
            return self.wake_at(Some(due_at));
        }
        for position in 0..self.record.containers.len() {
            let done = self.record.containers.get(position).is_none_or(|container| container.removed);
            let Some(work) = self.work.get(position) else {
                continue;
            };
            let retry_at = work.retry_at.filter(|at| *at > context.now);
            match (done || work.in_flight.is_some(), retry_at) {
                (true, _) => {}
                (false, Some(at)) => self.wake_at(Some(at)),
                (false, None) if work.stop_first => self.perform(context, position, Step::Stop, actions),
                (false, None) => self.perform(context, position, Step::Remove, actions),
            }
        }
        if self.record.containers.iter().all(|container| container.removed)
            && self.remove_resources(context, actions, |_| true)
        {
            self.forget_details();
            actions.push(Action::Log {
                level: LogLevel::Info,
                task_arn: self.record.definition.arn.clone(),
                message: "removed the containers of the stopped task".to_owned(),
            });
        }
    }

    /// The task's own part of the jitter: any, but the same whenever it is asked for.
    fn jitter(&self, config: &EngineConfig) -> i64 {
        let hash = digest::digest(&digest::SHA256, self.record.definition.arn.as_bytes());
        let number = hash.as_ref().iter().take(4).fold(0, |number, byte| number << 8 | i64::from(*byte));
        number % config.task_cleanup_jitter_ms.saturating_add(1).max(1)
    }

    /// Only what is needed to say again that the task has stopped.
    fn forget_details(&mut self) {
        let full = std::mem::take(&mut self.record.definition);
        self.record.definition = acs::Task {
            arn: full.arn,
            task_cluster_arn: full.task_cluster_arn,
            family: full.family,
            version: full.version,
            ..acs::Task::default()
        };
        self.record.cleaned = true;
        self.record.resources = Vec::new();
        self.resources = Vec::new();
        self.dependencies = Vec::new();
        self.save = self.save.max(Save::Soon);
    }

    fn wake_at(&mut self, at: Option<Timestamp>) {
        self.deadline = match (self.deadline, at) {
            (Some(have), Some(at)) => Some(have.min(at)),
            (have, at) => have.or(at),
        };
    }
}

/// What its image is needs no registry to say.
fn is_pinned(container: &acs::Container) -> bool {
    internal::is_internal(&container.name) || container.image.contains('@')
}

/// What the resources that were made have for a container.
fn prepared<'a>(resources: &'a [Planned], records: &'a [ResourceRecord], container: &str) -> Prepared<'a> {
    let made = resources.iter().zip(records).filter(|(_, record)| record.known == ResourceStatus::Made);
    Prepared {
        facts: made.clone().map(|(_, record)| (&record.resource.key, &record.facts)).collect(),
        provided: made.filter_map(|(planned, _)| planned.provided(container)).collect(),
    }
}
