//! The agent's shell: it carries inputs to the brain and what the brain asks for to disk, Docker and control plane.
//!
//! It does what the product's does, with the same order between saving and acting: replies, submits and whatever changes
//! containers wait for every durable save before them; looking and pulling do not. It may die between any two events; what
//! its disk has not taken by then is lost from some point on.

use std::collections::BTreeSet;

use longshore_agent::engine::{Action, ContainerKey, FoundContainer, Input, SubmitOutcome};
use longshore_agent_protocol::acs::{
    AgentMessage, DesiredStatus, ServerMessage, TaskIdentifier, TaskManifestMessage, TaskStopVerificationMessage,
};
use longshore_api::ecs::{Request, Response, error};
use longshore_api::{ApiError, Timestamp};

use crate::agent::{Change, Session};
use crate::brain::{Act, Brain, Kind};
use crate::event::{Ask, ConnId, Event, Life};
use crate::network::Caller;
use crate::oracle::{Step, broken};
use crate::plan::Sabotage;
use crate::world::World;

/// Attempts of one submit before our engine is told that it failed.
const SUBMIT_TRIES: u32 = 3;
/// The official agent's attempts, and the longest pause between two.
const OFFICIAL_SUBMIT_TRIES: u32 = 298;
const OFFICIAL_SUBMIT_PAUSE_MS: i64 = 300_000;
/// Smaller jumps of a clock are drift.
const LEAST_JUMP_MS: i64 = 1_000;
/// The shell looks at the clock at least this often: a clock that was set must not leave a deadline hanging.
const LONGEST_SLEEP_MS: i64 = 60_000;

impl World {
    /// What an agent's clock shows. The official agent's timers only count, whatever the machine's clock does.
    pub(crate) fn agent_time(&self, index: usize) -> Timestamp {
        let agent = &self.agents[index];
        match agent.kind {
            Kind::Ours => self.hosts[agent.host].clock.read(self.now),
            Kind::Official => self.now,
        }
    }

    /// A machine's clock was set. Our shells notice by a clock that only counts.
    pub(crate) fn clock_was_set(&mut self, host: usize, by_ms: i64) {
        for agent in self.agents.iter_mut().filter(|agent| agent.host == host && agent.kind == Kind::Ours) {
            if let Some(process) = &mut agent.process {
                process.clock_set_ms += by_ms;
            }
        }
    }

    /// The agent lists its containers, once Docker answers.
    pub(crate) fn agent_looks_at_docker(&mut self, index: usize, life: Life) -> Step {
        let agent = &self.agents[index];
        let host = &self.hosts[agent.host];
        if !host.up || agent.brain_life() != Some(life) {
            return Ok(());
        }
        let found = host.list(agent.disk.instance_arn.as_deref().unwrap_or_default());
        if self.plan.sabotage == Some(Sabotage::RestartExited) {
            for ended in found.iter().filter(|found| !found.running) {
                let (container, docker_id) = (ended.container.clone(), ended.docker_id.clone());
                self.docker_does(index, life, Action::Start { container, docker_id, timeout_ms: 1_000 })?;
            }
        }
        let docker = self.hosts[self.agents[index].host].docker();
        self.agent_input(index, life, Input::DockerReady { docker, found })
    }

    pub(crate) fn stop_everything(&mut self, index: usize) -> Step {
        let Some(life) = self.agents[index].brain_life() else { return Ok(()) };
        for FoundContainer { container, docker_id: target, .. } in self.running_of(index) {
            self.docker_does(index, life, Action::Stop { container, target, grace_s: 1 })?;
        }
        Ok(())
    }

    fn running_of(&self, index: usize) -> Vec<FoundContainer> {
        let host = &self.hosts[self.agents[index].host];
        let arn = self.agents[index].disk.instance_arn.clone().unwrap_or_default();
        host.list(&arn).into_iter().filter(|found| found.running).collect()
    }

    /// A message of a session.
    pub(crate) fn order(&mut self, index: usize, life: Life, conn: ConnId, message: ServerMessage) -> Step {
        self.oracle.obeyed(index, conn)?;
        if self.plan.sabotage == Some(Sabotage::RunTwice) {
            self.run_again(index, life, &message)?;
        }
        let input = match message {
            ServerMessage::Payload(message) => Input::Payload(message),
            ServerMessage::TaskManifest(message) => {
                self.doubts(index, conn, &message)?;
                Input::Manifest(message)
            }
            ServerMessage::TaskStopVerificationAck(message) => Input::StopVerificationAck(message),
            other => return broken(0, format!("nobody sends {}", other.type_name())),
        };
        self.agent_input(index, life, input)
    }

    /// Now and then an agent asks about everything that it runs, whatever the manifest says: it may be told to stop only what
    /// nobody wants.
    fn doubts(&mut self, index: usize, conn: ConnId, manifest: &TaskManifestMessage) -> Step {
        if self.calm || !self.agents[index].random.per_mille(100) {
            return Ok(());
        }
        let arns: BTreeSet<String> = self.running_of(index).into_iter().map(|found| found.container.task_arn).collect();
        let candidate = |task_arn| TaskIdentifier {
            task_arn,
            task_cluster_arn: manifest.cluster_arn.clone(),
            desired_status: DesiredStatus::Stopped,
        };
        let stop_candidates = arns.into_iter().map(candidate).collect();
        let message_id = manifest.message_id.clone();
        let message = TaskStopVerificationMessage { message_id, stop_candidates };
        self.send_to_server(conn, AgentMessage::TaskStopVerification(message))
    }

    /// An order that came before is carried out as if it were new.
    fn run_again(&mut self, index: usize, life: Life, message: &ServerMessage) -> Step {
        let ServerMessage::Payload(payload) = message else { return Ok(()) };
        let starts = payload.tasks.iter().filter(|task| task.desired_status == DesiredStatus::Running);
        for task in starts {
            let known = self.hosts[self.agents[index].host].containers.values().find(|c| c.key.task_arn == task.arn);
            if let Some((container, docker_id)) = known.map(|known| (known.key.clone(), known.id.clone())) {
                self.docker_does(index, life, Action::Start { container, docker_id, timeout_ms: 1_000 })?;
            }
        }
        Ok(())
    }

    /// Something happened to an agent. Its shell looks at the clock, and says so first if that was set.
    pub(crate) fn agent_input(&mut self, index: usize, life: Life, input: Input) -> Step {
        let process = self.agents[index].alive(life).filter(|process| process.brain.is_some());
        let by_ms = process.map_or(0, |process| std::mem::take(&mut process.clock_set_ms));
        if by_ms.abs() >= LEAST_JUMP_MS {
            self.brain_hears(index, life, Input::ClockSet { by_ms })?;
        }
        self.brain_hears(index, life, input)
    }

    fn brain_hears(&mut self, index: usize, life: Life, input: Input) -> Step {
        let now = self.agent_time(index);
        let Some(brain) = self.agents[index].alive(life).and_then(|process| process.brain.as_mut()) else {
            return Ok(());
        };
        let name = input_name(&input);
        let acts = brain.handle(now, input);
        self.trace(format_args!("agent {index}: {name}, {} actions", acts.len()));
        for act in acts {
            self.perform_act(index, life, act)?;
        }
        self.plan_agent_tick(index);
        Ok(())
    }

    pub(crate) fn agent_tick(&mut self, index: usize, life: Life, at: Timestamp) -> Step {
        match self.agents[index].alive(life).filter(|process| process.tick_at == Some(at)) {
            None => Ok(()),
            Some(process) => {
                process.tick_at = None;
                self.agent_input(index, life, Input::Tick)
            }
        }
    }

    /// Plans when the shell wakes for its brain's next deadline: its clock says how long that is, and may be wrong.
    pub(crate) fn plan_agent_tick(&mut self, index: usize) {
        let now = self.now;
        let shown = self.agent_time(index);
        let agent = &mut self.agents[index];
        let life = agent.life;
        let Some(process) = agent.process.as_mut() else { return };
        let due = process.brain.as_ref().and_then(Brain::next_deadline);
        // A deadline of now or before was looked at already: the brain must not be asked in a circle.
        let pause = due.map(|due| due.as_millis().saturating_sub(shown.as_millis()).clamp(1, LONGEST_SLEEP_MS));
        let at = pause.map(|pause| now.plus_millis(pause));
        if let Some(at) = at.filter(|at| process.tick_at.is_none_or(|planned| *at < planned)) {
            process.tick_at = Some(at);
            self.at(at, Event::AgentTick(index, life, at));
        }
    }

    fn perform_act(&mut self, index: usize, life: Life, act: Act) -> Step {
        let Some(process) = self.agents[index].alive(life) else { return Ok(()) };
        match act {
            Act::Save { record, durable } => {
                let ticket = process.write(Change::Put(record));
                if durable {
                    process.barrier = ticket;
                }
                self.plan_save(index, life);
            }
            Act::Forget(arn) => {
                process.write(Change::Drop { arn });
                self.plan_save(index, life);
            }
            Act::SaveTimeline(timeline) => {
                process.barrier = process.write(Change::Timeline(timeline));
                self.plan_save(index, life);
            }
            Act::Do(Action::Log { task_arn, message, .. }) => {
                self.trace(format_args!("agent {index}: {task_arn} {message}"));
            }
            Act::Do(
                action @ (Action::InspectImage { .. }
                | Action::ResolveDigest { .. }
                | Action::PullImage { .. }
                | Action::Inspect { .. }
                | Action::FindContainers { .. }),
            ) => self.begin(index, life, action)?,
            Act::Do(action) if process.barrier <= process.saved => self.begin(index, life, action)?,
            Act::Do(action) => process.waiting.push_back((process.barrier, action)),
        }
        Ok(())
    }

    fn plan_save(&mut self, index: usize, life: Life) {
        let longest = self.weather.save_ms;
        let now = self.now;
        let agent = &mut self.agents[index];
        let pause = agent.random.between(0, longest);
        let stuck = agent.disk.stuck_until.map_or(0, |until| until.since(now).max(0));
        let Some(process) = agent.alive(life).filter(|process| !process.saving) else { return };
        process.saving = true;
        let ticket = process.next_ticket;
        self.after(pause + stuck, Event::AgentSaved(index, life, ticket));
    }

    /// The disk has taken everything up to a ticket; what waited for it begins.
    pub(crate) fn agent_saved(&mut self, index: usize, life: Life, ticket: u64) -> Step {
        let drops = self.plan.sabotage == Some(Sabotage::DropSave);
        let agent = &mut self.agents[index];
        if agent.disk.stuck_until.is_some_and(|until| until > self.now) {
            // It became full or slow while it wrote: it tries again.
            if let Some(process) = agent.alive(life) {
                process.saving = false;
            }
            self.plan_save(index, life);
            return Ok(());
        }
        let disk = &mut agent.disk;
        let Some(process) = agent.process.as_mut().filter(|_| agent.life == life) else { return Ok(()) };
        process.saving = false;
        process.saved = ticket;
        while let Some((_, change)) = process.unsaved.pop_front_if(|(number, _)| *number <= ticket) {
            let dropped =
                drops && matches!(&change, Change::Put(record) if record.arn().ends_with(['0', '1', '2', '3']));
            if !dropped {
                disk.apply(change);
            }
        }
        let mut begun = Vec::new();
        while let Some((_, action)) = process.waiting.pop_front_if(|(barrier, _)| *barrier <= ticket) {
            begun.push(action);
        }
        let more = !process.unsaved.is_empty();
        for action in begun {
            self.begin(index, life, action)?;
        }
        if more {
            self.plan_save(index, life);
        }
        Ok(())
    }

    /// Begins an action whose saves are durable.
    fn begin(&mut self, index: usize, life: Life, action: Action) -> Step {
        match action {
            Action::Reply(message) => match self.agents[index].alive(life).map(|process| process.session) {
                Some(Session::Open(conn)) => self.send_to_server(conn, message),
                _ => Ok(()),
            },
            Action::Submit { task_arn, change } => {
                let request = Box::new(Request::SubmitTaskStateChange(change));
                self.agent_submits(index, life, task_arn, request, 1);
                Ok(())
            }
            action => {
                let takes = self.docker_takes(self.agents[index].host, &action);
                self.after(takes, Event::DockerDoes { agent: index, life, action: Box::new(action) });
                Ok(())
            }
        }
    }

    pub(crate) fn agent_submits(
        &mut self,
        agent: usize,
        life: Life,
        task_arn: String,
        request: Box<Request>,
        tries: u32,
    ) {
        if self.agents[agent].alive(life).is_none() {
            return;
        }
        if let Request::SubmitTaskStateChange(change) = &*request {
            let status = change.status.as_deref().unwrap_or_default();
            self.trace(format_args!("agent {agent}: submits {status} of {task_arn}"));
        }
        let principal = self.principal_of(agent);
        let again = request.clone();
        self.call(principal, Ask::Ecs(*request), Caller::Submit { agent, life, task_arn, request: again, tries });
    }

    pub(crate) fn submitted(
        &mut self,
        index: usize,
        life: Life,
        task_arn: String,
        request: Box<Request>,
        tries: u32,
        answer: Option<Result<Response, ApiError>>,
    ) -> Step {
        let kind = self.agents[index].kind;
        let most = match kind {
            Kind::Ours => SUBMIT_TRIES,
            Kind::Official => OFFICIAL_SUBMIT_TRIES,
        };
        // The official agent tries again what may pass, and hears of a refusal at once.
        let passes = |refused: &ApiError| kind == Kind::Ours || refused.code.status >= 500;
        let outcome = match answer {
            Some(Ok(_)) => SubmitOutcome::Accepted,
            Some(Err(refused)) if refused.code == error::INVALID_PARAMETER_EXCEPTION => {
                self.oracle.report_dropped(&task_arn, self.now)?;
                SubmitOutcome::Dropped(refused.message)
            }
            Some(Err(refused)) if !passes(&refused) => SubmitOutcome::Failed(refused.message),
            _ if tries < most => {
                let pause = self.submit_pause(index, tries);
                let tries = tries + 1;
                self.after(pause, Event::AgentSubmits { agent: index, life, task_arn, request, tries });
                return Ok(());
            }
            Some(Err(refused)) => SubmitOutcome::Failed(refused.message),
            None => SubmitOutcome::Failed("no answer".to_owned()),
        };
        self.agent_input(index, life, Input::Submitted { task_arn, outcome })
    }

    fn submit_pause(&mut self, index: usize, tries: u32) -> i64 {
        let agent = &mut self.agents[index];
        match agent.kind {
            Kind::Ours => agent.random.between(100, 1_000),
            Kind::Official => {
                let base = agent.random.between(30, 60);
                base.saturating_mul(1 << tries.min(13)).min(OFFICIAL_SUBMIT_PAUSE_MS)
            }
        }
    }
}

fn input_name(input: &Input) -> String {
    let short = |name: &str, key: &ContainerKey, result: &dyn std::fmt::Debug| {
        let id = key.task_arn.rsplit('/').next().unwrap_or_default();
        format!("{name} {id}/{} {result:?}", key.name)
    };
    match input {
        Input::Payload(message) => {
            let orders = message.tasks.iter().map(|task| format!("{:?} {}", task.desired_status, task.arn));
            format!("payload {}: {}", message.seq_num, orders.collect::<Vec<_>>().join(", "))
        }
        Input::Manifest(message) => format!("manifest {} of {} tasks", message.timeline, message.tasks.len()),
        Input::StopVerificationAck(message) => format!("{} stops verified", message.stop_tasks.len()),
        Input::DockerReady { found, .. } => format!("Docker has {} containers", found.len()),
        Input::ImageInspected { container, result } => short("image", container, result),
        Input::DigestResolved { container, result } => short("digest", container, result),
        Input::ImagePulled { container, result } => short("pulled", container, result),
        Input::Created { container, result } => short("created", container, result),
        Input::Started { container, result } => short("started", container, result),
        Input::Stopped { container, result } => short("stopped", container, result),
        Input::Inspected { container, result } => short("inspected", container, &result.as_ref().map(|i| &i.state)),
        Input::Removed { container, result } => short("removed", container, result),
        Input::Died { container, exit_code } => short("died", container, exit_code),
        Input::HealthChanged { container, health } => short("health", container, &health.status),
        Input::Submitted { task_arn, outcome } => format!("submitted {task_arn} {outcome:?}"),
        Input::ResourceMade { key, result, .. } => format!("made {key:?} {result:?}"),
        Input::ResourceRemoved { key, result, .. } => format!("removed {key:?} {result:?}"),
        Input::ContainersFound { task_arn, result } => {
            format!("found {:?} of {task_arn}", result.as_ref().map(Vec::len))
        }
        Input::PrerequisiteCame { .. } => "what was waited for has come".to_owned(),
        Input::ClockSet { by_ms } => format!("clock set by {by_ms} ms"),
        Input::Tick => "tick".to_owned(),
    }
}
