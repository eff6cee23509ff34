//! Agents: what survives them, their processes, registration and sessions. What their shell does is in `shell`.

use std::collections::{BTreeMap, VecDeque};

use longshore_agent::engine::{
    Action, AwslogsAs, Engine, EngineConfig, GpuAccess, HostResources, ImagePullBehavior, TaskLimits, TaskRecord,
    VolumeRules,
};
use longshore_api::ecs::{Operation, Response, error, types};
use longshore_api::{ApiError, Timestamp, admin, error as common};
use longshore_core::instance::SessionRefusal;
use longshore_core::{Principal, Role, identity};
use serde_json::{Value, json};

use crate::brain::{Brain, Kind, Record};
use crate::catalog;
use crate::docker::LONGEST_CALL_MS;
use crate::event::{Answer, Ask, ConnId, Event, Life, Told};
use crate::network::Caller;
use crate::official::{self, Official};
use crate::oracle::{Step, broken, ensure};
use crate::random::Random;
use crate::server::owner;
use crate::world::World;

/// The first pause between dials; they grow by half, to the kind's longest.
const FIRST_PAUSE_MS: i64 = 250;
/// Our agent's longest pause, without jitter.
pub(crate) const OUR_LONGEST_PAUSE_MS: i64 = 15_000;
/// The official agent's.
const OFFICIAL_LONGEST_PAUSE_MS: i64 = 120_000;
/// A session that lived so long has proved that the control plane works: the next pause is the first.
const GOOD_AFTER_MS: i64 = 60_000;
/// How long an agent keeps away that was told that its instance is no more.
const PARKED_MS: i64 = 3_600_000;

/// A container instance: what survives its agent, and the agent's process.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) host: usize,
    pub(crate) kind: Kind,
    pub(crate) cluster: &'static str,
    /// What it offers from its next start on.
    pub(crate) offer: Offer,
    pub(crate) disk: AgentDisk,
    pub(crate) life: Life,
    pub(crate) process: Option<AgentProcess>,
    /// Registrations that began with nothing on the disk: each is another instance for the control plane.
    pub(crate) births: u32,
    /// The operator will set it up from nothing.
    pub(crate) to_be_reinstalled: bool,
    pub(crate) random: Random,
}

/// The resources of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) cpu: i64,
    pub(crate) memory_mib: i64,
}

impl Default for Offer {
    /// What an instance offers at first.
    fn default() -> Self {
        Self { cpu: 1_024, memory_mib: 1_024 }
    }
}

/// What an agent has saved.
#[derive(Debug, Default)]
pub(crate) struct AgentDisk {
    pub(crate) instance_arn: Option<String>,
    records: BTreeMap<String, Record>,
    timeline: i64,
    /// It takes nothing before then: it is full, or slow.
    pub(crate) stuck_until: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct AgentProcess {
    pub(crate) brain: Option<Brain>,
    /// Writes that the disk has not taken, each with its ticket.
    pub(crate) unsaved: VecDeque<(u64, Change)>,
    pub(crate) next_ticket: u64,
    pub(crate) saved: u64,
    /// The ticket that what follows waits for.
    pub(crate) barrier: u64,
    pub(crate) waiting: VecDeque<(u64, Action)>,
    pub(crate) session: Session,
    opened_at: Timestamp,
    pause_ms: i64,
    pub(crate) tick_at: Option<Timestamp>,
    pub(crate) saving: bool,
    /// How far the machine's clock was set since the shell looked at it last.
    pub(crate) clock_set_ms: i64,
}

#[derive(Debug)]
pub(crate) enum Change {
    Put(Record),
    Drop { arn: String },
    Timeline(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    None,
    Dialling(ConnId),
    Open(ConnId),
}

impl Agent {
    pub(crate) fn new(host: usize, kind: Kind, cluster: &'static str, random: Random) -> Self {
        let (offer, disk) = (Offer::default(), AgentDisk::default());
        Self { host, kind, cluster, offer, disk, life: 0, process: None, births: 0, to_be_reinstalled: false, random }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The life of the brain that runs, if one does.
    pub(crate) fn brain_life(&self) -> Option<Life> {
        self.process.as_ref().filter(|process| process.brain.is_some()).map(|_| self.life)
    }

    pub(crate) fn brain(&self) -> Option<&Brain> {
        self.process.as_ref()?.brain.as_ref()
    }

    /// Whether that connection is its session.
    pub(crate) fn is_session(&self, life: Life, conn: ConnId) -> bool {
        let session = self.process.as_ref().filter(|_| self.life == life).map(|process| process.session);
        session == Some(Session::Open(conn)) || session == Some(Session::Dialling(conn))
    }

    /// Whether it waits for that connection to begin.
    pub(crate) fn dials(&self, life: Life, conn: ConnId) -> bool {
        let process = self.process.as_ref().filter(|_| self.life == life);
        process.is_some_and(|process| process.session == Session::Dialling(conn))
    }

    pub(crate) fn alive(&mut self, life: Life) -> Option<&mut AgentProcess> {
        let current = self.life == life;
        self.process.as_mut().filter(|_| current)
    }

    fn longest_pause_ms(&self) -> i64 {
        match self.kind {
            Kind::Ours => OUR_LONGEST_PAUSE_MS,
            Kind::Official => OFFICIAL_LONGEST_PAUSE_MS,
        }
    }
}

impl AgentDisk {
    /// Whether it holds exactly these records.
    pub(crate) fn holds(&self, records: &[Record]) -> bool {
        self.records.values().eq(records)
    }

    /// The records as the next agent reads them: ours are written and read back.
    fn read(&self) -> Result<Vec<Record>, serde_json::Error> {
        let read = |record: &Record| match record {
            Record::Ours(record) => TaskRecord::from_json(&record.to_json()).map(|read| Record::Ours(Box::new(read))),
            Record::Official(record) => Ok(Record::Official(record.clone())),
        };
        self.records.values().map(read).collect()
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Put(record) => drop(self.records.insert(record.arn().to_owned(), record)),
            Change::Drop { arn } => drop(self.records.remove(&arn)),
            Change::Timeline(timeline) => self.timeline = timeline,
        }
    }
}

impl AgentProcess {
    fn new(now: Timestamp) -> Self {
        Self {
            brain: None,
            unsaved: VecDeque::new(),
            next_ticket: 0,
            saved: 0,
            barrier: 0,
            waiting: VecDeque::new(),
            session: Session::None,
            opened_at: now,
            pause_ms: FIRST_PAUSE_MS,
            tick_at: None,
            saving: false,
            clock_set_ms: 0,
        }
    }

    pub(crate) fn write(&mut self, change: Change) -> u64 {
        self.next_ticket += 1;
        self.unsaved.push_back((self.next_ticket, change));
        self.next_ticket
    }
}

impl World {
    pub(crate) fn agent_starts(&mut self, index: usize) {
        let now = self.now;
        let agent = &mut self.agents[index];
        if agent.process.is_some() || self.hosts[agent.host].gone {
            return;
        }
        agent.life += 1;
        let life = agent.life;
        agent.process = Some(AgentProcess::new(now));
        self.trace(format_args!("agent {index}: life {life} begins"));
        self.agent_registers(index, life);
    }

    /// The process dies; the disk has taken some of what it was given. Its kernel closes its connections, unless the whole
    /// machine goes down.
    pub(crate) fn agent_crashes(&mut self, index: usize, machine: bool) {
        let agent = &mut self.agents[index];
        let Some(process) = agent.process.take() else { return };
        let kept = agent.random.below(process.unsaved.len() + 1);
        let lost = process.unsaved.len() - kept;
        let kept = process.unsaved.into_iter().take(kept).map(|(_, change)| change);
        for change in kept {
            if let Change::Put(Record::Ours(record)) = &change
                && record.containers.iter().any(|container| container.start_intended && !container.started)
            {
                // Should Docker be another one by then, nobody will know that it was never asked to start it.
                self.oracle.excuse(record.arn());
            }
            agent.disk.apply(change);
        }
        let back_ms = 2 * LONGEST_CALL_MS + agent.random.between(0, 10_000);
        self.trace(format_args!("agent {index}: dies, {lost} saves are lost"));
        for id in self.conns_of(index) {
            match machine {
                true => self.conn_dies_silently(id),
                false => self.break_conn(id, 1_000),
            }
        }
        self.after(back_ms, Event::AgentStart(index));
    }

    /// Who an agent is for the control plane: its machine, if that has joined.
    pub(crate) fn principal_of(&self, index: usize) -> Principal {
        let identity = self.hosts[self.agents[index].host].identity.as_deref();
        identity.map_or_else(owner, |key| Principal::new(Role::Instance, key, "000000000000"))
    }

    pub(crate) fn agent_registers(&mut self, index: usize, life: Life) {
        if self.agents[index].alive(life).is_none() {
            return;
        }
        if self.weather.joined && self.hosts[self.agents[index].host].identity.is_none() {
            return self.agent_joins(index, life);
        }
        let document = self.registration(index);
        let principal = self.principal_of(index);
        if let Some(request) = catalog::request(Operation::RegisterContainerInstance, &document) {
            self.call(principal, Ask::Ecs(request), Caller::Register { agent: index, life });
        }
    }

    /// The machine of an agent joins, with a token that the operator has made. The client token is the machine's, and
    /// saved before it is used.
    fn agent_joins(&mut self, index: usize, life: Life) {
        let agent = &self.agents[index];
        let Some(token) = self.join_tokens.get(agent.cluster).cloned() else {
            return self.after(700, Event::AgentRegisters(index, life));
        };
        let here = self.agents.iter().filter(|other| other.host == agent.host).count();
        // An official agent that dies before it has saved its ARN leaves an instance behind.
        let instances = if agent.kind == Kind::Official { 20 } else { here };
        let client_token = format!("join-{}-{}", agent.host, self.hosts[agent.host].joins);
        let request = admin::JoinContainerInstanceRequest { client_token, instances: i32::try_from(instances).ok() };
        let principal = Principal::new(Role::JoinToken, &token, "000000000000");
        let ask = Ask::Admin(admin::Request::JoinContainerInstance(request));
        self.call(principal, ask, Caller::Join { agent: index, life });
    }

    pub(crate) fn joined(&mut self, index: usize, life: Life, answer: Option<Answer>) -> Step {
        let host = self.agents[index].host;
        let joins = self.hosts[host].joins;
        if let Some(Ok(Told::Admin(identity::Answer::Joined { access_key_id, .. }))) = answer {
            let known = self.oracle.joined((host, joins), &access_key_id);
            self.hosts[host].identity = Some(access_key_id.to_string());
            known?;
        }
        if self.agents[index].alive(life).is_some() {
            let pause = self.agents[index].random.between(10, 1_000);
            self.after(pause, Event::AgentRegisters(index, life));
        }
        Ok(())
    }

    fn registration(&self, index: usize) -> Value {
        let agent = &self.agents[index];
        let host = &self.hosts[agent.host].name;
        let mut attributes = vec![
            json!({"name": "com.amazonaws.ecs.capability.docker-remote-api.1.18"}),
            json!({"name": "com.amazonaws.ecs.capability.docker-remote-api.1.24"}),
            json!({"name": "ecs.capability.container-ordering"}),
            json!({"name": "ecs.capability.container-health-check"}),
        ];
        // The official agent's token is new at every start; ours is saved with what it is for.
        let client_token = match agent.kind {
            Kind::Ours => format!("agent-{index}-{}", agent.births),
            Kind::Official => format!("official-{index}-{}", agent.life),
        };
        if agent.kind == Kind::Ours {
            attributes.push(json!({"name": "longshore.host-id", "value": host}));
            attributes.push(json!({"name": "ecs.capability.container-restart-policy"}));
        }
        let mut document = json!({
            "cluster": agent.cluster,
            "clientToken": client_token,
            "attributes": attributes,
            "totalResources": [
                {"name": "CPU", "type": "INTEGER", "integerValue": agent.offer.cpu},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": agent.offer.memory_mib},
                {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]},
            ],
        });
        if let Some(arn) = &agent.disk.instance_arn {
            document["containerInstanceArn"] = json!(arn);
        }
        document
    }

    /// The answer to a registration: from now on it is an instance.
    pub(crate) fn registered(&mut self, index: usize, life: Life, answer: Option<Result<Response, ApiError>>) -> Step {
        if self.agents[index].alive(life).is_none() {
            return Ok(());
        }
        let instance = match answer {
            Some(Ok(Response::RegisterContainerInstance(response))) => response.container_instance.unwrap_or_default(),
            Some(Err(refused)) if !may_pass(&refused) => {
                self.trace(format_args!("agent {index}: is refused for good: {}", refused.message));
                self.agents[index].process = None;
                self.reinstall_later(index);
                return Ok(());
            }
            _ => {
                let pause = self.agents[index].random.between(200, 3_000);
                self.after(pause, Event::AgentRegisters(index, life));
                return Ok(());
            }
        };
        self.check_echo(index, &instance)?;
        let arn = instance.container_instance_arn.unwrap_or_default();
        let agent = &self.agents[index];
        // An official agent that dies before it has saved its ARN is another one when it comes back.
        if agent.kind == Kind::Ours || agent.disk.instance_arn.is_some() {
            self.oracle.instance_of((index, agent.births), &arn)?;
        }
        if self.agents[index].kind == Kind::Ours {
            self.oracle.lives_on(&arn, self.agents[index].host);
        }
        self.agents[index].disk.instance_arn = Some(arn.clone());
        self.brain_begins(index, life, arn)
    }

    /// An agent looks for what it sent in the answer, and ends when something is missing.
    fn check_echo(&self, index: usize, instance: &types::ContainerInstance) -> Step {
        let sent = &self.registration(index)["attributes"];
        let echoed = |name: &Value| {
            instance.attributes.iter().flatten().any(|attribute| Some(attribute.name.as_str()) == name.as_str())
        };
        let lost = sent.as_array().into_iter().flatten().find(|attribute| !echoed(&attribute["name"]));
        ensure(lost.is_none(), 0, || format!("agent {index} registered, and attribute {lost:?} was lost"))
    }

    fn brain_begins(&mut self, index: usize, life: Life, arn: String) -> Step {
        let cleanup_ms = self.weather.cleanup_ms;
        let agent = &mut self.agents[index];
        let records =
            agent.disk.read().or_else(|error| broken(16, format!("a saved record cannot be read: {error}")))?;
        if !agent.disk.holds(&records) {
            return broken(16, "a saved record reads as another".to_owned());
        }
        let timeline = agent.disk.timeline;
        let brain = match agent.kind {
            Kind::Ours => {
                let mut engine = Engine::new(engine_config(agent.cluster, arn, cleanup_ms, agent.offer));
                let ours = records.into_iter().filter_map(|record| match record {
                    Record::Ours(record) => Some(*record),
                    Record::Official(_) => None,
                });
                engine.restore(ours.collect(), timeline);
                Brain::Ours(Box::new(engine))
            }
            Kind::Official => {
                let Offer { cpu, memory_mib } = agent.offer;
                let (cluster, cleanup_ms) = (agent.cluster.to_owned(), cleanup_ms.max(official::LEAST_CLEANUP_MS));
                let config = official::Config { cluster, cpu, memory_mib, cleanup_ms };
                let theirs = records.into_iter().filter_map(|record| match record {
                    Record::Official(record) => Some(*record),
                    Record::Ours(_) => None,
                });
                let random = Random::of(self.plan.seed, &format!("official {index} {life}"));
                Brain::Official(Box::new(Official::new(config, random, theirs.collect(), timeline)))
            }
        };
        if let Some(process) = agent.alive(life) {
            (process.brain, process.clock_set_ms) = (Some(brain), 0);
        }
        self.trace(format_args!("agent {index}: engine begins"));
        self.after(20, Event::AgentLooksAtDocker(index, life));
        self.after(30, Event::AgentDials(index, life));
        self.plan_agent_tick(index);
        Ok(())
    }

    pub(crate) fn agent_dials(&mut self, index: usize, life: Life) {
        if self.agents[index].alive(life).is_none_or(|process| process.session != Session::None) {
            return;
        }
        self.open_session(index, life);
    }

    /// The agent opens a session, whatever it had before is over for it.
    fn open_session(&mut self, index: usize, life: Life) {
        let conn = self.dial(index, life);
        self.oracle.dialled(index, conn);
        if let Some(process) = self.agents[index].alive(life) {
            process.session = Session::Dialling(conn);
        }
    }

    /// Some agent opens a session although it has one.
    pub(crate) fn second_session(&mut self, index: usize) {
        if let Some(life) = self.agents[index].brain_life() {
            self.trace(format_args!("agent {index}: opens another session"));
            self.open_session(index, life);
        }
    }

    pub(crate) fn session_opened(&mut self, index: usize) {
        let now = self.now;
        if let Some(process) = &mut self.agents[index].process
            && let Session::Dialling(conn) = process.session
        {
            process.session = Session::Open(conn);
            process.opened_at = now;
        }
    }

    /// The control plane does not take the session.
    pub(crate) fn session_refused(&mut self, index: usize, life: Life, refusal: SessionRefusal) -> Step {
        let arn = self.agents[index].disk.instance_arn.clone().unwrap_or_default();
        match refusal {
            SessionRefusal::Inactive => {
                self.oracle.told_inactive(&arn)?;
                if let Some(process) = self.agents[index].alive(life) {
                    process.session = Session::None;
                }
                self.after(PARKED_MS, Event::AgentDials(index, life));
                self.reinstall_later(index);
                return Ok(());
            }
            // It was given back so long ago that nobody remembers it.
            SessionRefusal::InvalidInstance => {
                self.oracle.told_inactive(&arn)?;
                self.reinstall_later(index);
            }
            SessionRefusal::InvalidCluster | SessionRefusal::AccessDenied | SessionRefusal::Unavailable => {}
        }
        self.session_over(index, life, false)
    }

    /// A session, or the attempt at one, ended otherwise than by the server's word.
    pub(crate) fn session_lost(&mut self, index: usize, life: Life, orderly: bool) -> Step {
        if self.plan.sabotage == Some(crate::plan::Sabotage::StopOnLostSession) {
            self.stop_everything(index)?;
        }
        self.session_over(index, life, orderly)
    }

    pub(crate) fn session_over(&mut self, index: usize, life: Life, orderly: bool) -> Step {
        let now = self.now;
        let agent = &mut self.agents[index];
        let longest = agent.longest_pause_ms();
        let jitter = agent.random.between(0, 200);
        let Some(process) = agent.alive(life) else { return Ok(()) };
        let lived_ms = match std::mem::replace(&mut process.session, Session::None) {
            Session::Open(_) => now.since(process.opened_at),
            Session::Dialling(_) | Session::None => 0,
        };
        if lived_ms >= GOOD_AFTER_MS {
            process.pause_ms = FIRST_PAUSE_MS;
        }
        // One that ends as soon as it begins is treated like a refusal, or both sides would spin.
        let pause = match orderly && lived_ms >= 1_000 {
            true => {
                process.pause_ms = FIRST_PAUSE_MS;
                jitter / 4
            }
            false => {
                let pause = process.pause_ms;
                process.pause_ms = (pause * 3 / 2).min(longest);
                pause + pause * jitter / 1_000
            }
        };
        self.after(pause, Event::AgentDials(index, life));
        Ok(())
    }
}

/// Whether trying to register again may help. Another answer ends the agent for good.
fn may_pass(refused: &ApiError) -> bool {
    refused.code == common::SERVICE_UNAVAILABLE
        || refused.code == error::CLUSTER_NOT_FOUND_EXCEPTION
        || refused.code.status >= 500
}

fn engine_config(cluster: &str, arn: String, task_cleanup_wait_ms: i64, offer: Offer) -> EngineConfig {
    EngineConfig {
        cluster: cluster.to_owned(),
        container_instance_arn: arn,
        stop_timeout_s: 5,
        create_timeout_ms: 60_000,
        start_timeout_ms: 60_000,
        task_cleanup_wait_ms,
        task_cleanup_jitter_ms: 0,
        manifest_pull_timeout_ms: 60_000,
        image_pull_timeout_ms: 7_200_000,
        image_pull_behavior: ImagePullBehavior::Default,
        pull_dependents_upfront: false,
        dynamic_host_port_range: None,
        exclude_ipv6_port_binding: true,
        awslogs_as: AwslogsAs::Awslogs,
        limits: TaskLimits::default(),
        volumes: VolumeRules::default(),
        gpu_access: GpuAccess::Requests,
        resources: HostResources {
            cpu: offer.cpu,
            memory_mib: offer.memory_mib,
            reserved_ports: vec![22],
            ..HostResources::default()
        },
        remembered_tasks: 1_000,
    }
}
