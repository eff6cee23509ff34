//! The control plane: the real pipeline over a simulated disk, in a process that may die at any moment.

use std::collections::BTreeMap;

use longshore_agent_protocol::acs::{AgentMessage, ServerMessage};
use longshore_api::ecs::Request;
use longshore_api::{Timestamp, error};
use longshore_core::cell::{AgentInfo, Cell, Command, Delivery, Effect, Reply};
use longshore_core::entity::Entity;
use longshore_core::ids::SessionId;
use longshore_core::instance::SessionRefusal;
use longshore_core::pipeline::{Batch, Committed, Pipeline, Release, Step as Todo, Ticket};
use longshore_core::read::ReadModel;
use longshore_core::{CellConfig, Principal, Role};
use longshore_store::{self as store, CommitError, CommitNumber, MemoryDisk, MemoryStore, Store, Term, Write};

use crate::event::{CallId, ConnId, Event, Frame, Life};
use crate::oracle::{Step, Violation, broken};
use crate::plan::Sabotage;
use crate::random::Random;
use crate::world::World;

/// How often a store that could not be written is asked whether it can be by now.
const PROBE_MS: i64 = 1_000;

/// The machine of the control plane.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) disk: MemoryDisk,
    pub(crate) life: Life,
    pub(crate) process: Option<Process>,
    pub(crate) config: CellConfig,
    random: Random,
    /// What the next commit meets.
    pub(crate) next_fault: Option<CommitFault>,
    /// What a lying disk really holds.
    honest: Option<MemoryDisk>,
    /// Commits and loads since the beginning.
    pub(crate) commits: u64,
    pub(crate) loads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitFault {
    Fails,
    OutcomeLost,
    Fenced,
}

/// A process of the server.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pipeline: Pipeline,
    store: MemoryStore,
    term: Term,
    /// What clients read.
    pub(crate) snapshot: ReadModel,
    waiting: BTreeMap<Ticket, Waiting>,
    next_ticket: Ticket,
    next_session: u64,
    pub(crate) sessions: BTreeMap<SessionId, ConnId>,
    committing: Option<store::Batch>,
    loading: bool,
    step_planned: bool,
    probe_planned: bool,
    tick_at: Option<Timestamp>,
}

/// Who waits for a reply, and the number of the state that the reply saw.
#[derive(Debug)]
struct Waiting {
    who: Waiter,
    saw: u64,
}

#[derive(Clone, Copy, Debug)]
enum Waiter {
    Call(CallId),
    Session(ConnId, SessionId),
    Nobody,
}

impl Process {
    /// Whether every command was answered.
    pub(crate) fn idle(&self) -> bool {
        self.waiting.is_empty() && self.committing.is_none()
    }
}

impl Server {
    pub(crate) fn new(config: CellConfig, random: Random) -> Self {
        Self {
            disk: MemoryDisk::new(),
            life: 0,
            process: None,
            config,
            random,
            next_fault: None,
            honest: None,
            commits: 0,
            loads: 0,
        }
    }

    /// Leads, and loads the state from the disk.
    fn load(&mut self, store: &mut MemoryStore) -> Result<(Term, Cell), String> {
        let term = store.lead().map_err(|error| error.to_string())?;
        self.loads += 1;
        Ok((term, load(&self.config, store)?))
    }
}

/// The state that a store holds.
pub(crate) fn load(config: &CellConfig, store: &mut MemoryStore) -> Result<Cell, String> {
    let mut cell = Cell::new(config.clone());
    let mut unreadable = None;
    let loaded = store.load(&mut |key, value| match Entity::decode(key, value) {
        Ok(entity) => cell.load(entity),
        Err(error) => unreadable = Some(error.to_string()),
    });
    let last = loaded.map_err(|error| error.to_string())?;
    cell.loaded(last.0);
    match unreadable {
        Some(error) => Err(error),
        None => cell.check().map(|()| cell).map_err(|violation| violation.to_string()),
    }
}

/// What a store holds that holds this cell.
pub(crate) fn stored(cell: &Cell) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Violation> {
    let encoded = |entity: Entity| {
        let value = entity.encode().or_else(|error| broken(16, error.to_string()))?;
        Ok((entity.key().encode(), value))
    };
    cell.entities().map(encoded).collect()
}

/// A batch in the store's words.
fn encode(batch: &Batch) -> Result<store::Batch, serde_json::Error> {
    let mut groups = Vec::with_capacity(batch.groups.len());
    for group in &batch.groups {
        let mut writes = Vec::with_capacity(group.changes.len());
        for change in &group.changes {
            let key = change.key.encode();
            writes.push(match &change.new {
                Some(entity) => Write::Put { key, value: entity.encode()? },
                None => Write::Delete { key },
            });
        }
        groups.push(store::Group { number: CommitNumber(group.number), writes });
    }
    Ok(store::Batch { groups })
}

impl World {
    pub(crate) fn server_starts(&mut self) -> Step {
        if self.server.process.is_some() {
            return Ok(());
        }
        self.server.life += 1;
        let life = self.server.life;
        let mut store = MemoryStore::open(self.server.disk.clone());
        let (term, mut cell) = self.server.load(&mut store).or_else(|why| broken(16, why))?;
        self.trace(format_args!("server {life} serves from number {}", cell.sequence()));
        let snapshot = cell.snapshot();
        self.server.process = Some(Process {
            pipeline: Pipeline::new(cell),
            store,
            term,
            snapshot,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            next_session: 0,
            sessions: BTreeMap::new(),
            committing: None,
            loading: false,
            step_planned: false,
            probe_planned: false,
            tick_at: None,
        });
        self.check_published()?;
        self.plan_step(life);
        Ok(())
    }

    /// The process dies. What it was committing may be durable: nothing of it, some groups, all of it.
    pub(crate) fn server_crashes(&mut self) {
        let Some(mut process) = self.server.process.take() else { return };
        let mut kept = 0;
        if let Some(batch) = process.committing.take().filter(|_| !self.server.random.per_mille(300)) {
            kept = self.server.random.below(batch.groups.len() + 1);
            self.server.disk.tear_next_commit(kept);
            // The process that would have heard the answer is gone.
            let _ = process.store.commit(process.term, &batch);
        }
        if let Some(honest) = self.server.honest.take() {
            self.server.disk = honest;
        }
        let life = self.server.life;
        self.trace(format_args!("server {life} dies, {kept} groups of its last batch are kept"));
        let calls = process.waiting.values().filter_map(|waiting| match waiting.who {
            Waiter::Call(call) => Some(call),
            Waiter::Session(..) | Waiter::Nobody => None,
        });
        let calls = calls.collect();
        self.server_is_gone(life, calls);
        let down_ms = self.server.random.between(100, 8_000);
        self.after(down_ms, Event::ServerStart);
    }

    fn plan_step(&mut self, life: Life) {
        let pause = self.server.random.between(0, 2);
        if let Some(process) = self.server.process.as_mut().filter(|process| !process.step_planned) {
            process.step_planned = true;
            self.after(pause, Event::ServerStep(life));
        }
    }

    fn submit(&mut self, who: Waiter, command: Command) {
        let entropy = self.server.random.fork();
        let now = self.now;
        let life = self.server.life;
        let Some(process) = self.server.process.as_mut() else { return };
        let ticket = process.next_ticket;
        process.next_ticket += 1;
        process.pipeline.submit(ticket, now, entropy, command);
        let saw = process.pipeline.cell().sequence();
        process.waiting.insert(ticket, Waiting { who, saw });
        self.plan_step(life);
    }

    /// A request arrives: read from the snapshot, or a command for the cell.
    pub(crate) fn request(&mut self, call: CallId, key: u32, mut request: Request) -> Step {
        let answer = match &self.server.process {
            None => {
                self.respond(call, None);
                return Ok(());
            }
            Some(process) => {
                let principal = principal(key);
                match process.snapshot.authorise(&principal, &request) {
                    Ok(authorised) => process.snapshot.answer(authorised),
                    Err(denied) => Some(Err(denied)),
                }
            }
        };
        if let Some(answer) = answer {
            self.respond(call, Some(answer));
            return Ok(());
        }
        if let (Some(Sabotage::ForgetToken), Request::RunTask(request)) = (self.plan.sabotage, &mut request) {
            request.client_token = None;
        }
        self.trace(format_args!("server takes {} of call {call}", request.operation().name()));
        self.submit(Waiter::Call(call), Command::Api { principal: principal(key), request });
        Ok(())
    }

    /// An agent dials.
    pub(crate) fn dialled(&mut self, id: ConnId) {
        let life = self.server.life;
        let Some(conn) = self.network.conns.get_mut(&id).filter(|conn| !conn.broken) else { return };
        let agent = conn.agent;
        let Some(process) = self.server.process.as_mut() else {
            self.break_conn(id, 10);
            return;
        };
        conn.server_life = Some(life);
        process.next_session += 1;
        let session = SessionId(process.next_session);
        let Some(instance_arn) = self.agents[agent].disk.instance_arn.clone() else { return };
        let info = AgentInfo {
            agent_version: "1.0.0".to_owned(),
            agent_hash: "simulated".to_owned(),
            docker_version: "DockerVersion: 20.10.24".to_owned(),
        };
        let command =
            Command::SessionOpened { instance_arn, session, principal: principal(self.agents[agent].key), agent: info };
        self.submit(Waiter::Session(id, session), command);
    }

    /// A message of an agent arrives.
    pub(crate) fn message_arrives(&mut self, id: ConnId, message: AgentMessage) {
        let Some(conn) = self.network.conns.get(&id).filter(|conn| !conn.broken && !conn.server_left) else { return };
        let Some((session, instance)) = conn.session else { return };
        if conn.server_life != Some(self.server.life) || self.server.process.is_none() {
            return;
        }
        if let AgentMessage::TaskStopVerification(message) = message {
            let candidates = message.stop_candidates.into_iter().map(|task| task.task_arn).collect();
            let message_id = message.message_id;
            let command = Command::StopCandidates { instance, session, message_id, candidates };
            self.submit(Waiter::Nobody, command);
        }
    }

    /// The server notices that an agent is gone.
    pub(crate) fn server_hangs_up(&mut self, id: ConnId) {
        let Some(conn) = self.network.conns.get_mut(&id) else { return };
        let session = conn.session.filter(|_| !conn.server_left);
        conn.server_left = true;
        let ours = conn.server_life == Some(self.server.life);
        if let (Some((session, instance)), true, Some(process)) = (session, ours, &mut self.server.process) {
            process.sessions.remove(&session);
            self.submit(Waiter::Nobody, Command::SessionClosed { instance, session, heard_at: self.now });
        }
    }

    /// Carries out the pipeline's steps until it waits.
    pub(crate) fn server_step(&mut self, life: Life) -> Step {
        if let Some(process) = self.alive(life) {
            process.step_planned = false;
        }
        loop {
            let Some(process) = self.alive(life) else { return Ok(()) };
            match process.pipeline.step() {
                Todo::Commit(batch) => return self.begin_commit(life, &batch),
                Todo::Release(release) => self.release(*release)?,
                Todo::Reload if !process.loading => {
                    process.loading = true;
                    let pause = self.server.random.between(10, 3_000);
                    self.after(pause, Event::ServerLoads(life));
                    return Ok(());
                }
                Todo::Reload => return Ok(()),
                Todo::Wait => break,
            }
        }
        self.plan_tick(life);
        Ok(())
    }

    fn plan_tick(&mut self, life: Life) {
        let now = self.now;
        let Some(process) = self.alive(life) else { return };
        let due = process.pipeline.cell().next_deadline().map(|at| at.max(now));
        if let Some(at) = due.filter(|at| process.tick_at.is_none_or(|planned| *at < planned)) {
            process.tick_at = Some(at);
            self.at(at, Event::ServerTick(life, at));
        }
    }

    pub(crate) fn server_tick(&mut self, life: Life, at: Timestamp) {
        let Some(process) = self.alive(life).filter(|process| process.tick_at == Some(at)) else { return };
        process.tick_at = None;
        if !process.pipeline.read_only() {
            self.submit(Waiter::Nobody, Command::Tick);
        } else {
            // The runner looks again whenever something happens; here a later tick stands for that.
            let again = at.plus_millis(PROBE_MS);
            process.tick_at = Some(again);
            self.at(again, Event::ServerTick(life, again));
        }
    }

    fn alive(&mut self, life: Life) -> Option<&mut Process> {
        let current = self.server.life == life;
        self.server.process.as_mut().filter(|_| current)
    }

    fn begin_commit(&mut self, life: Life, batch: &Batch) -> Step {
        let encoded = encode(batch).or_else(|error| broken(16, error.to_string()))?;
        let longest = self.weather.commit_ms;
        let pause = self.server.random.between(0, longest);
        if let Some(process) = self.alive(life) {
            process.committing = Some(encoded);
        }
        self.after(pause, Event::CommitWritten(life));
        if self.plan.sabotage == Some(Sabotage::ReplyBeforeCommit)
            && let Some(process) = self.alive(life)
        {
            let release = process.pipeline.committed(Committed::Durable);
            self.release(release)?;
        }
        Ok(())
    }

    pub(crate) fn commit_written(&mut self, life: Life) -> Step {
        let fault = self.server.next_fault.take();
        let disk = self.server.disk.clone();
        let lies = self.plan.sabotage == Some(Sabotage::LyingDisk) && self.server.random.per_mille(100);
        if lies && self.server.honest.is_none() {
            self.server.honest = Some(disk.snapshot());
        }
        let before = disk.number();
        let Some(process) = self.server.process.as_mut().filter(|_| self.server.life == life) else { return Ok(()) };
        let Some(batch) = process.committing.take() else { return Ok(()) };
        let kept = self.server.random.below(batch.groups.len() + 1);
        match fault {
            None => {}
            Some(CommitFault::Fails) => disk.fail_next_commit(kept),
            Some(CommitFault::OutcomeLost) => disk.lose_next_commit(kept),
            Some(CommitFault::Fenced) => drop(disk.fence()),
        }
        let result = process.store.commit(process.term, &batch);
        let outcome = match &result {
            Ok(()) => Committed::Durable,
            Err(CommitError::Failed { durable, .. }) => Committed::Failed { durable: durable.0 },
            Err(CommitError::Unknown { .. } | CommitError::Fenced { .. }) => Committed::Lost,
        };
        if fault == Some(CommitFault::Fenced) && (result.is_ok() || disk.number() != before) {
            return broken(1, "a commit under an old term was not refused".to_owned());
        }
        self.server.commits += 1;
        self.trace(format_args!("commit of {} groups: {outcome:?}, durable {}", batch.groups.len(), disk.number()));
        let pause = self.server.random.between(0, 2);
        self.after(pause, Event::CommitReported(life, outcome));
        Ok(())
    }

    pub(crate) fn commit_reported(&mut self, life: Life, outcome: Committed) -> Step {
        let disk = self.server.disk.clone();
        let Some(process) = self.alive(life) else { return Ok(()) };
        let release = process.pipeline.committed(outcome);
        let taken_back = matches!(outcome, Committed::Failed { .. });
        if taken_back && stored(process.pipeline.cell())? != disk.entities() {
            return broken(16, "after a failed commit the cell is not what the disk holds".to_owned());
        }
        if process.pipeline.read_only() && !process.probe_planned {
            process.probe_planned = true;
            self.after(PROBE_MS, Event::ServerProbes(life));
        }
        self.release(release)?;
        self.plan_step(life);
        Ok(())
    }

    pub(crate) fn server_probes(&mut self, life: Life) {
        let Some(process) = self.alive(life) else { return };
        process.probe_planned = process.pipeline.read_only();
        if process.probe_planned {
            process.pipeline.probe();
            self.after(PROBE_MS, Event::ServerProbes(life));
            self.plan_step(life);
        }
    }

    pub(crate) fn server_loads(&mut self, life: Life) -> Step {
        let Some(mut process) = self.server.process.take_if(|_| self.server.life == life) else { return Ok(()) };
        let (term, cell) = self.server.load(&mut process.store).or_else(|why| broken(16, why))?;
        self.trace(format_args!("server {life} loads again, from number {}", cell.sequence()));
        process.term = term;
        process.loading = false;
        let release = process.pipeline.reload(cell);
        self.server.process = Some(process);
        self.release(release)?;
        self.plan_step(life);
        Ok(())
    }

    /// Publish, then answer, then act: and nothing that saw state which is not durable.
    fn release(&mut self, release: Release) -> Step {
        if let Some(snapshot) = release.snapshot {
            if let Some(process) = self.server.process.as_mut() {
                process.snapshot = snapshot;
            }
            self.check_published()?;
        }
        let durable = self.server.disk.number().0;
        for (ticket, reply) in release.replies {
            let waiting = self.server.process.as_mut().and_then(|process| process.waiting.remove(&ticket));
            let Some(Waiting { who, saw }) = waiting else {
                return broken(18, format!("the reply of ticket {ticket} was released twice, or nobody asked"));
            };
            if saw > durable && !says_unavailable(&reply) {
                return broken(
                    18,
                    format!("a reply that saw number {saw} was released at durable {durable}: {reply:?}"),
                );
            }
            self.reply(who, reply);
        }
        for effect in &release.effects {
            self.perform(effect, durable)?;
        }
        Ok(())
    }

    fn reply(&mut self, who: Waiter, reply: Reply) {
        match (who, reply) {
            (Waiter::Call(call), Reply::Api(answer)) => {
                if let Err(error) = &answer {
                    let code = error.code.name;
                    self.trace(format_args!("call {call} is answered {code}: {}", error.message));
                }
                self.respond(call, Some(answer));
            }
            (Waiter::Session(conn, session), Reply::Session(Ok(instance))) => {
                let Some(known) = self.network.conns.get_mut(&conn) else { return };
                if known.server_left {
                    return self
                        .submit(Waiter::Nobody, Command::SessionClosed { instance, session, heard_at: self.now });
                }
                known.session = Some((session, instance));
                if let Some(process) = &mut self.server.process {
                    process.sessions.insert(session, conn);
                }
                self.send_to_agent(conn, Frame::Opened);
            }
            (Waiter::Session(conn, _), Reply::Session(Err(refusal))) => {
                self.send_to_agent(conn, Frame::Refused(refusal));
                if let Some(known) = self.network.conns.get_mut(&conn) {
                    known.server_left = true;
                }
            }
            _ => {}
        }
    }

    fn perform(&mut self, effect: &Effect, durable: u64) -> Step {
        if let Effect::Start { instance, sequence, .. }
        | Effect::Stop { instance, sequence, .. }
        | Effect::Manifest { instance, sequence, .. } = effect
        {
            if *sequence > durable {
                return broken(18, format!("an effect of number {sequence} was released at durable {durable}"));
            }
            let sequence = match self.plan.sabotage {
                Some(Sabotage::ReuseSequence) => sequence.saturating_sub(10 * (self.server.life - 1)),
                _ => *sequence,
            };
            self.oracle.sequence_sent(*instance, sequence)?;
        }
        let now = self.now;
        let Some(process) = self.server.process.as_mut() else { return Ok(()) };
        match process.snapshot.render(effect, now) {
            None => {}
            Some(Delivery::Close { session, .. }) => {
                if let Some(conn) = process.sessions.remove(&session) {
                    if let Some(known) = self.network.conns.get_mut(&conn) {
                        known.server_left = true;
                    }
                    self.send_to_agent(conn, Frame::Closed);
                }
            }
            Some(Delivery::Send { session, message, .. }) => {
                let Some(&conn) = process.sessions.get(&session) else { return Ok(()) };
                self.trace(format_args!("server sends {} over {conn}", message.type_name()));
                if self.plan.sabotage == Some(Sabotage::MisdeliverStart) {
                    self.misdeliver(conn, &message);
                }
                self.send_to_agent(conn, Frame::Message(message.encode()));
            }
        }
        Ok(())
    }

    /// Sends a payload to another session as well, with that instance's name on it.
    fn misdeliver(&mut self, not_to: ConnId, message: &ServerMessage) {
        let ServerMessage::Payload(payload) = message else { return };
        let others =
            self.network.conns.iter().filter(|(id, conn)| **id != not_to && !conn.broken && conn.session.is_some());
        let Some((other, agent)) = others.map(|(id, conn)| (*id, conn.agent)).next() else { return };
        let mut payload = payload.clone();
        payload.container_instance_arn = self.agents[agent].disk.instance_arn.clone().unwrap_or_default();
        self.send_to_agent(other, Frame::Message(ServerMessage::Payload(payload).encode()));
    }

    /// The published snapshot shows what is durable, and nothing of it goes back.
    fn check_published(&mut self) -> Step {
        let Some(process) = &self.server.process else { return Ok(()) };
        self.oracle.published(&process.snapshot, self.now)?;
        self.published += 1;
        if self.published.is_multiple_of(16) {
            self.oracle.is_durable(&process.snapshot, &self.server.disk)?;
        }
        Ok(())
    }
}

fn says_unavailable(reply: &Reply) -> bool {
    match reply {
        Reply::Api(Err(refused)) | Reply::Admin(Err(refused)) => refused.code == error::SERVICE_UNAVAILABLE,
        Reply::Session(refused) => *refused == Err(SessionRefusal::Unavailable),
        Reply::None => true,
        Reply::Api(Ok(_)) | Reply::Admin(Ok(_)) => false,
    }
}

/// The owner of a numbered access key.
pub(crate) fn principal(key: u32) -> Principal {
    Principal::new(Role::Owner, &format!("AKIA{key:016}"), "000000000000")
}
