//! Agents: the real engine in a simulated shell.
//!
//! The shell does what the product's does, with the same order between saving and acting: replies, submits and whatever
//! changes containers wait for every durable save before them; looking and pulling do not. It may die between any two
//! events; what its disk has not taken by then is lost from some point on.

use std::collections::{BTreeMap, VecDeque};

use longshore_agent::engine::{
    Action, Engine, EngineConfig, HostResources, ImagePullBehavior, Input, SubmitOutcome, TaskRecord,
};
use longshore_agent_protocol::acs::ServerMessage;
use longshore_api::ecs::{Operation, Request, Response, error};
use longshore_api::{ApiError, Timestamp};
use serde_json::json;

use crate::catalog;
use crate::docker::LONGEST_CALL_MS;
use crate::event::{ConnId, Event, Life};
use crate::network::Caller;
use crate::oracle::{Step, broken};
use crate::plan::Sabotage;
use crate::random::Random;
use crate::world::World;

/// Pauses between dials grow from the first to the last.
const FIRST_PAUSE_MS: i64 = 250;
const LAST_PAUSE_MS: i64 = 30_000;
/// Attempts of one submit before the engine is told that it failed.
const SUBMIT_TRIES: u32 = 3;
/// What every instance offers.
pub(crate) const CPU: i64 = 1_024;
pub(crate) const MEMORY_MIB: i64 = 1_024;

/// A container instance: what survives its agent, and the agent's process.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) host: usize,
    /// Its access key.
    pub(crate) key: u32,
    pub(crate) disk: AgentDisk,
    pub(crate) life: Life,
    process: Option<AgentProcess>,
    /// It reaches nobody.
    pub(crate) cut_off: bool,
    random: Random,
}

/// What an agent has saved.
#[derive(Debug, Default)]
pub(crate) struct AgentDisk {
    pub(crate) instance_arn: Option<String>,
    records: BTreeMap<String, TaskRecord>,
    timeline: i64,
}

#[derive(Debug)]
struct AgentProcess {
    engine: Option<Engine>,
    /// Writes that the disk has not taken, each with its ticket.
    unsaved: VecDeque<(u64, Change)>,
    next_ticket: u64,
    saved: u64,
    /// The ticket that what follows waits for.
    barrier: u64,
    waiting: VecDeque<(u64, Action)>,
    session: Session,
    pause_ms: i64,
    tick_at: Option<Timestamp>,
    saving: bool,
}

#[derive(Debug)]
enum Change {
    Put(Box<TaskRecord>),
    Drop { arn: String },
    Timeline(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    None,
    Dialling(ConnId),
    Open(ConnId),
}

impl Agent {
    pub(crate) fn new(host: usize, key: u32, random: Random) -> Self {
        Self { host, key, disk: AgentDisk::default(), life: 0, process: None, cut_off: false, random }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The life of the engine that runs, if one does.
    pub(crate) fn engine_life(&self) -> Option<Life> {
        self.process.as_ref().filter(|process| process.engine.is_some()).map(|_| self.life)
    }

    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.process.as_ref()?.engine.as_ref()
    }

    /// Whether that connection is its session.
    pub(crate) fn is_session(&self, life: Life, conn: ConnId) -> bool {
        let session = self.process.as_ref().filter(|_| self.life == life).map(|process| process.session);
        session == Some(Session::Open(conn)) || session == Some(Session::Dialling(conn))
    }

    pub(crate) fn session_opened(&mut self) {
        if let Some(process) = &mut self.process
            && let Session::Dialling(conn) = process.session
        {
            process.session = Session::Open(conn);
            process.pause_ms = FIRST_PAUSE_MS;
        }
    }

    fn alive(&mut self, life: Life) -> Option<&mut AgentProcess> {
        let current = self.life == life;
        self.process.as_mut().filter(|_| current)
    }
}

impl AgentDisk {
    /// Whether it holds exactly these records.
    pub(crate) fn holds<'a>(&'a self, records: impl Iterator<Item = &'a TaskRecord>) -> bool {
        self.records.values().eq(records)
    }

    /// The records as the next agent reads them: written and read back.
    fn read(&self) -> Result<Vec<TaskRecord>, serde_json::Error> {
        self.records.values().map(|record| TaskRecord::from_json(&record.to_json())).collect()
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(record) => drop(self.records.insert(record.arn().to_owned(), *record)),
            Change::Drop { arn } => drop(self.records.remove(&arn)),
            Change::Timeline(timeline) => self.timeline = timeline,
        }
    }
}

impl AgentProcess {
    fn write(&mut self, change: Change) -> u64 {
        self.next_ticket += 1;
        self.unsaved.push_back((self.next_ticket, change));
        self.next_ticket
    }
}

impl World {
    pub(crate) fn agent_starts(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        if agent.process.is_some() {
            return;
        }
        agent.life += 1;
        let life = agent.life;
        agent.process = Some(AgentProcess {
            engine: None,
            unsaved: VecDeque::new(),
            next_ticket: 0,
            saved: 0,
            barrier: 0,
            waiting: VecDeque::new(),
            session: Session::None,
            pause_ms: FIRST_PAUSE_MS,
            tick_at: None,
            saving: false,
        });
        self.trace(format_args!("agent {index}: life {life} begins"));
        self.agent_registers(index, life);
    }

    /// The process dies; the disk has taken some of what it was given.
    pub(crate) fn agent_crashes(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        let Some(process) = agent.process.take() else { return };
        let kept = agent.random.below(process.unsaved.len() + 1);
        let lost = process.unsaved.len() - kept;
        process.unsaved.into_iter().take(kept).for_each(|(_, change)| agent.disk.apply(change));
        let back_ms = 2 * LONGEST_CALL_MS + agent.random.between(0, 10_000);
        self.trace(format_args!("agent {index}: dies, {lost} saves are lost"));
        let theirs = self.network.conns.iter().filter(|(_, conn)| conn.agent == index).map(|(id, _)| *id);
        for id in theirs.collect::<Vec<_>>() {
            self.break_conn(id, 1_000);
        }
        self.after(back_ms, Event::AgentStart(index));
    }

    pub(crate) fn agent_registers(&mut self, index: usize, life: Life) {
        if self.agents[index].alive(life).is_none() {
            return;
        }
        let agent = &self.agents[index];
        let host = &self.hosts[agent.host].name;
        let attributes = [
            ("longshore.host-id", Some(host.as_str())),
            ("com.amazonaws.ecs.capability.docker-remote-api.1.18", None),
            ("com.amazonaws.ecs.capability.docker-remote-api.1.24", None),
            ("ecs.capability.container-ordering", None),
            ("ecs.capability.container-health-check", None),
        ];
        let attributes = attributes.map(|(name, value)| match value {
            Some(value) => json!({"name": name, "value": value}),
            None => json!({"name": name}),
        });
        let mut document = json!({
            "cluster": "default",
            "clientToken": format!("agent-{}", agent.key),
            "attributes": attributes,
            "totalResources": [
                {"name": "CPU", "type": "INTEGER", "integerValue": CPU},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": MEMORY_MIB},
                {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]},
            ],
        });
        if let Some(arn) = &agent.disk.instance_arn {
            document["containerInstanceArn"] = json!(arn);
        }
        let key = agent.key;
        if let Some(request) = catalog::request(Operation::RegisterContainerInstance, &document) {
            self.call(key, request, Caller::Register { agent: index, life });
        }
    }

    /// The answer to a registration: from now on it is an instance.
    pub(crate) fn registered(&mut self, index: usize, life: Life, answer: Option<Result<Response, ApiError>>) -> Step {
        if self.agents[index].alive(life).is_none() {
            return Ok(());
        }
        let Some(Ok(Response::RegisterContainerInstance(response))) = answer else {
            let pause = self.agents[index].random.between(200, 3_000);
            self.after(pause, Event::AgentRegisters(index, life));
            return Ok(());
        };
        let arn = response.container_instance.and_then(|instance| instance.container_instance_arn).unwrap_or_default();
        let agent = &mut self.agents[index];
        if agent.disk.instance_arn.as_ref().is_some_and(|known| *known != arn) {
            return broken(11, format!("agent {index} was {:?} and is now {arn}", agent.disk.instance_arn));
        }
        agent.disk.instance_arn = Some(arn.clone());
        self.oracle.instance_of(self.agents[index].key, &arn)?;
        let agent = &mut self.agents[index];
        let mut engine = Engine::new(engine_config(arn, self.weather.cleanup_ms));
        let records =
            agent.disk.read().or_else(|error| broken(16, format!("a saved record cannot be read: {error}")))?;
        if !agent.disk.holds(records.iter()) {
            return broken(16, "a saved record reads as another".to_owned());
        }
        engine.restore(records, agent.disk.timeline);
        if let Some(process) = agent.alive(life) {
            process.engine = Some(engine);
        }
        self.trace(format_args!("agent {index}: engine begins"));
        self.after(20, Event::AgentLooksAtDocker(index, life));
        self.after(30, Event::AgentDials(index, life));
        self.plan_agent_tick(index);
        Ok(())
    }

    /// The agent lists its containers, once Docker answers.
    pub(crate) fn agent_looks_at_docker(&mut self, index: usize, life: Life) -> Step {
        let agent = &self.agents[index];
        let host = &self.hosts[agent.host];
        if !host.up || agent.engine_life() != Some(life) {
            return Ok(());
        }
        let found = host.list(agent.disk.instance_arn.as_deref().unwrap_or_default());
        if self.plan.sabotage == Some(Sabotage::RestartExited) {
            for ended in found.iter().filter(|found| !found.running) {
                let (container, docker_id) = (ended.container.clone(), ended.docker_id.clone());
                self.docker_does(index, life, Action::Start { container, docker_id, timeout_ms: 1_000 })?;
            }
        }
        self.agent_input(index, life, Input::DockerReady { found })
    }

    pub(crate) fn agent_dials(&mut self, index: usize, life: Life) {
        if self.agents[index].alive(life).is_none_or(|process| process.session != Session::None) {
            return;
        }
        self.open_session(index, life);
    }

    /// The agent opens a session, whatever it had before is over for it.
    pub(crate) fn open_session(&mut self, index: usize, life: Life) {
        let conn = self.dial(index, life);
        if let Some(process) = self.agents[index].alive(life) {
            process.session = Session::Dialling(conn);
        }
        // A dial that nobody answers ends too.
        self.after(20_000, Event::AgentHangsUp(conn));
    }

    /// Some agent opens a session although it has one.
    pub(crate) fn second_session(&mut self, index: usize) {
        if let Some(life) = self.agents[index].engine_life() {
            self.trace(format_args!("agent {index}: opens another session"));
            self.open_session(index, life);
        }
    }

    /// The agent's end of a connection notices that it is dead, or has waited long enough for its beginning.
    pub(crate) fn agent_hangs_up(&mut self, id: ConnId) -> Step {
        let Some(conn) = self.network.conns.get(&id) else { return Ok(()) };
        let (index, life, dead) = (conn.agent, conn.agent_life, conn.broken);
        let waits = self.agents[index].alive(life).is_some_and(|process| process.session == Session::Dialling(id));
        if !self.agents[index].is_session(life, id) || !(dead || waits) {
            return Ok(());
        }
        if !dead {
            self.break_conn(id, 1_000);
        }
        self.trace(format_args!("agent {index}: session {id} is dead"));
        if self.plan.sabotage == Some(Sabotage::StopOnLostSession) {
            self.stop_everything(index)?;
        }
        self.session_over(index, life, false)
    }

    fn stop_everything(&mut self, index: usize) -> Step {
        let Some(life) = self.agents[index].engine_life() else { return Ok(()) };
        let host = &self.hosts[self.agents[index].host];
        let arn = self.agents[index].disk.instance_arn.clone().unwrap_or_default();
        for found in host.list(&arn).into_iter().filter(|found| found.running) {
            let action = Action::Stop { container: found.container, target: found.docker_id, grace_s: 1 };
            self.docker_does(index, life, action)?;
        }
        Ok(())
    }

    pub(crate) fn session_over(&mut self, index: usize, life: Life, orderly: bool) -> Step {
        let agent = &mut self.agents[index];
        let jitter = agent.random.between(0, 100);
        let Some(process) = agent.alive(life) else { return Ok(()) };
        process.session = Session::None;
        let pause = if orderly { jitter } else { process.pause_ms + jitter };
        process.pause_ms = (process.pause_ms * 3 / 2).min(LAST_PAUSE_MS);
        self.after(pause, Event::AgentDials(index, life));
        Ok(())
    }

    /// A message of the current session.
    pub(crate) fn order(&mut self, index: usize, life: Life, message: ServerMessage) -> Step {
        let input = match message {
            ServerMessage::Payload(message) => Input::Payload(message),
            ServerMessage::TaskManifest(message) => Input::Manifest(message),
            ServerMessage::TaskStopVerificationAck(message) => Input::StopVerificationAck(message),
            other => return broken(0, format!("nobody sends {}", other.type_name())),
        };
        self.agent_input(index, life, input)
    }

    pub(crate) fn agent_input(&mut self, index: usize, life: Life, input: Input) -> Step {
        let now = self.now;
        let Some(engine) = self.agents[index].alive(life).and_then(|process| process.engine.as_mut()) else {
            return Ok(());
        };
        let name = input_name(&input);
        let actions = engine.handle(now, input);
        self.trace(format_args!("agent {index}: {name}, {} actions", actions.len()));
        for action in actions {
            self.perform_action(index, life, action)?;
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

    fn plan_agent_tick(&mut self, index: usize) {
        let now = self.now;
        let agent = &mut self.agents[index];
        let life = agent.life;
        let Some(process) = agent.process.as_mut() else { return };
        // A deadline of now or before was looked at already: the engine must not be asked in a circle.
        let due = process.engine.as_ref().and_then(Engine::next_deadline).map(|at| at.max(now.plus_millis(1)));
        if let Some(at) = due.filter(|at| process.tick_at.is_none_or(|planned| *at < planned)) {
            process.tick_at = Some(at);
            self.at(at, Event::AgentTick(index, life, at));
        }
    }

    fn perform_action(&mut self, index: usize, life: Life, action: Action) -> Step {
        let Some(process) = self.agents[index].alive(life) else { return Ok(()) };
        match action {
            Action::Save { record, durable } => {
                let ticket = process.write(Change::Put(record));
                if durable {
                    process.barrier = ticket;
                }
                self.plan_save(index, life);
            }
            Action::Forget { task_arn } => {
                process.write(Change::Drop { arn: task_arn });
                self.plan_save(index, life);
            }
            Action::SaveTimeline(timeline) => {
                process.barrier = process.write(Change::Timeline(timeline));
                self.plan_save(index, life);
            }
            Action::Log { task_arn, message, .. } => self.trace(format_args!("agent {index}: {task_arn} {message}")),
            Action::InspectImage { .. }
            | Action::PullImage { .. }
            | Action::Inspect { .. }
            | Action::FindContainers { .. } => {
                self.begin(index, life, action)?;
            }
            action if process.barrier <= process.saved => self.begin(index, life, action)?,
            action => process.waiting.push_back((process.barrier, action)),
        }
        Ok(())
    }

    fn plan_save(&mut self, index: usize, life: Life) {
        let longest = self.weather.save_ms;
        let agent = &mut self.agents[index];
        let pause = agent.random.between(0, longest);
        let Some(process) = agent.alive(life).filter(|process| !process.saving) else { return };
        process.saving = true;
        let ticket = process.next_ticket;
        self.after(pause, Event::AgentSaved(index, life, ticket));
    }

    /// The disk has taken everything up to a ticket; what waited for it begins.
    pub(crate) fn agent_saved(&mut self, index: usize, life: Life, ticket: u64) -> Step {
        let drops = self.plan.sabotage == Some(Sabotage::DropSave);
        let agent = &mut self.agents[index];
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
        let key = self.agents[agent].key;
        let again = request.clone();
        self.call(key, *request, Caller::Submit { agent, life, task_arn, request: again, tries });
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
        let outcome = match answer {
            Some(Ok(_)) => SubmitOutcome::Accepted,
            Some(Err(refused)) if refused.code == error::INVALID_PARAMETER_EXCEPTION => {
                self.oracle.report_dropped(&task_arn, self.now)?;
                SubmitOutcome::Dropped(refused.message)
            }
            _ if tries < SUBMIT_TRIES => {
                let pause = self.agents[index].random.between(100, 1_000);
                let tries = tries + 1;
                self.after(pause, Event::AgentSubmits { agent: index, life, task_arn, request, tries });
                return Ok(());
            }
            Some(Err(refused)) => SubmitOutcome::Failed(refused.message),
            None => SubmitOutcome::Failed("no answer".to_owned()),
        };
        self.agent_input(index, life, Input::Submitted { task_arn, outcome })
    }
}

fn engine_config(arn: String, task_cleanup_wait_ms: i64) -> EngineConfig {
    EngineConfig {
        cluster: "default".to_owned(),
        container_instance_arn: arn,
        stop_timeout_s: 5,
        create_timeout_ms: 60_000,
        start_timeout_ms: 60_000,
        task_cleanup_wait_ms,
        task_cleanup_jitter_ms: 0,
        image_pull_behavior: ImagePullBehavior::Default,
        image_pull_timeout_ms: 7_200_000,
        pull_dependents_upfront: false,
        dynamic_host_port_range: None,
        exclude_ipv6_port_binding: true,
        resources: HostResources {
            cpu: CPU,
            memory_mib: MEMORY_MIB,
            reserved_ports: vec![22],
            reserved_ports_udp: Vec::new(),
        },
        remembered_tasks: 1_000,
    }
}

fn input_name(input: &Input) -> String {
    let short = |name: &str, key: &longshore_agent::engine::ContainerKey, result: &dyn std::fmt::Debug| {
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
        Input::DockerReady { found } => format!("Docker has {} containers", found.len()),
        Input::ImageInspected { container, result } => short("image", container, result),
        Input::ImagePulled { container, result } => short("pulled", container, result),
        Input::Created { container, result } => short("created", container, result),
        Input::Started { container, result } => short("started", container, result),
        Input::Stopped { container, result } => short("stopped", container, result),
        Input::Inspected { container, result } => short("inspected", container, &result.as_ref().map(|i| &i.state)),
        Input::Removed { container, result } => short("removed", container, result),
        Input::Died { container, exit_code } => short("died", container, exit_code),
        Input::HealthChanged { container, health } => short("health", container, &health.status),
        Input::ContainersFound { task_arn, result } => format!("found of {task_arn}: {result:?}"),
        Input::ClockSet { by_ms } => format!("clock set by {by_ms} ms"),
        Input::Submitted { task_arn, outcome } => format!("submitted {task_arn} {outcome:?}"),
        Input::Tick => "tick".to_owned(),
    }
}
