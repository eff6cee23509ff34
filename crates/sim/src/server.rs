//! The control plane: the real pipeline over a simulated disk, in a process that may die at any moment.

use std::collections::BTreeMap;

use longshore_api::{Timestamp, admin, error};
use longshore_core::cell::{Cell, Command, Reply};
use longshore_core::clock::{CellClock, Reading};
use longshore_core::entity::Entity;
use longshore_core::ids::SessionId;
use longshore_core::instance::SessionRefusal;
use longshore_core::pipeline::{Batch, Committed, Pipeline, Release, Step as Todo, Ticket};
use longshore_core::read::ReadModel;
use longshore_core::{CellConfig, Principal, Role, identity};
use longshore_store::{self as store, CommitError, CommitNumber, MemoryDisk, MemoryStore, Store, Term, Write};

use crate::clock::Clock;
use crate::event::{Answer, Ask, CallId, ConnId, Event, Life, Told};
use crate::oracle::{Step, Violation, broken};
use crate::plan::Sabotage;
use crate::random::Random;
use crate::sessions::Heartbeats;
use crate::world::World;

/// How often a store that could not be written is asked whether it can be by now.
const PROBE_MS: i64 = 1_000;
/// The longest commit of a disk that has become slow.
pub(crate) const SLOW_COMMIT_MS: i64 = 6_000;

/// The machine of the control plane.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) disk: MemoryDisk,
    pub(crate) life: Life,
    pub(crate) process: Option<Process>,
    pub(crate) config: CellConfig,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    /// What the next commit meets.
    pub(crate) next_fault: Option<CommitFault>,
    /// Every commit takes seconds until then.
    pub(crate) slow_until: Option<Timestamp>,
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
    pub(crate) next_session: u64,
    /// The cell's clock, and how far it has leapt as far as the cell was told.
    time: CellClock,
    leapt_ms: i64,
    /// When the clock was read last, and what it showed.
    read: (Timestamp, Timestamp),
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
pub(crate) enum Waiter {
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
            heartbeats: Heartbeats::of(&config.loss),
            config,
            clock: Clock::default(),
            random,
            next_fault: None,
            slow_until: None,
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
        self.oracle.vigil.server_begins(self.now);
        let snapshot = cell.snapshot();
        self.server.process = Some(Process {
            pipeline: Pipeline::new(cell),
            store,
            term,
            snapshot,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            next_session: 0,
            time: CellClock::default(),
            leapt_ms: 0,
            read: (self.now, self.server.clock.read(self.now)),
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
        let silently = self.server.random.per_mille(300);
        self.trace(format_args!("server {life} dies, {kept} groups of its last batch are kept"));
        let calls = process.waiting.values().filter_map(|waiting| match waiting.who {
            Waiter::Call(call) => Some(call),
            Waiter::Session(..) | Waiter::Nobody => None,
        });
        for call in calls.collect::<Vec<_>>() {
            self.respond(call, None);
        }
        self.server_is_gone(life, silently);
        self.oracle.vigil.hindered(self.now);
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

    /// What the server's clock shows its cell, which is told when it leaps.
    pub(crate) fn server_time(&mut self) -> Timestamp {
        let shown = self.server.clock.read(self.now);
        let Some(process) = &mut self.server.process else { return shown };
        let Reading { now, leapt_ms } = process.time.read(shown, self.now.as_millis());
        let by_ms = leapt_ms - std::mem::replace(&mut process.leapt_ms, leapt_ms);
        self.oracle.shows(now);
        let (before, then) = std::mem::replace(&mut process.read, (self.now, now));
        if now > shown || now.since(then) < self.now.since(before) {
            // The clock was set back: for the cell time passes slowly.
            self.oracle.vigil.hindered(self.now);
        }
        if by_ms > 0 {
            self.oracle.leapt(by_ms, self.now);
            let entropy = self.server.random.fork();
            let ticket = process.next_ticket;
            process.next_ticket += 1;
            process.pipeline.submit(ticket, now, entropy, Command::ClockLeapt { by_ms });
            let saw = process.pipeline.cell().sequence();
            process.waiting.insert(ticket, Waiting { who: Waiter::Nobody, saw });
        }
        now
    }

    pub(crate) fn submit(&mut self, who: Waiter, command: Command) {
        let entropy = self.server.random.fork();
        let now = self.server_time();
        let life = self.server.life;
        let Some(process) = self.server.process.as_mut() else { return };
        let ticket = process.next_ticket;
        process.next_ticket += 1;
        if matches!(command, Command::Tick) {
            self.oracle.vigil.deciding(now, self.now);
        }
        process.pipeline.submit(ticket, now, entropy, command);
        let saw = process.pipeline.cell().sequence();
        process.waiting.insert(ticket, Waiting { who, saw });
        self.plan_step(life);
    }

    /// A request arrives: answered from the snapshot, or a command for the cell.
    pub(crate) fn request(&mut self, call: CallId, principal: Principal, ask: Ask) -> Step {
        let Some(process) = &self.server.process else {
            self.respond(call, None);
            return Ok(());
        };
        if let Some(answer) = read(&process.snapshot, &principal, &ask) {
            self.respond(call, Some(answer));
            return Ok(());
        }
        let name = match &ask {
            Ask::Ecs(request) => request.operation().name(),
            Ask::Admin(request) => request.operation().name(),
        };
        self.trace(format_args!("server takes {name} of call {call}"));
        match ask {
            Ask::Ecs(request) => self.take_request(call, principal, request),
            Ask::Admin(request) => {
                match &request {
                    admin::Request::ReleaseMassLossBrake(request) => {
                        self.oracle.vigil.released(&request.cluster, self.now);
                    }
                    admin::Request::RevokeInstanceIdentity(_) => self.oracle.vigil.blurs(self.now),
                    _ => {}
                }
                self.submit(Waiter::Call(call), Command::Admin { principal, request });
            }
        }
        Ok(())
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

    /// Plans when the server's thread wakes for its cell's next deadline: the clock says how long that is, and may be wrong.
    fn plan_tick(&mut self, life: Life) {
        let now = self.now;
        let shown = self.server_time();
        let Some(process) = self.alive(life) else { return };
        let due = process.pipeline.cell().next_deadline().map(|due| now.plus_millis(due.since(shown).max(0)));
        if let Some(at) = due.filter(|at| process.tick_at.is_none_or(|planned| *at < planned)) {
            process.tick_at = Some(at);
            self.at(at, Event::ServerTick(life, at));
        }
    }

    pub(crate) fn server_tick(&mut self, life: Life, at: Timestamp) {
        let Some(process) = self.alive(life).filter(|process| process.tick_at == Some(at)) else { return };
        process.tick_at = None;
        if process.pipeline.read_only() {
            // The runner looks again whenever something happens; here a later tick stands for that.
            let again = at.plus_millis(PROBE_MS);
            process.tick_at = Some(again);
            return self.at(again, Event::ServerTick(life, again));
        }
        let shown = self.server_time();
        let due = self.alive(life).and_then(|process| process.pipeline.cell().next_deadline());
        match due.is_some_and(|due| due <= shown) {
            true => self.submit(Waiter::Nobody, Command::Tick),
            // The clock was set back, or what was due is not any more.
            false => self.plan_tick(life),
        }
    }

    pub(crate) fn alive(&mut self, life: Life) -> Option<&mut Process> {
        let current = self.server.life == life;
        self.server.process.as_mut().filter(|_| current)
    }

    fn begin_commit(&mut self, life: Life, batch: &Batch) -> Step {
        let encoded = encode(batch).or_else(|error| broken(16, error.to_string()))?;
        let slow = self.server.slow_until.is_some_and(|until| until > self.now);
        let longest = if slow { SLOW_COMMIT_MS } else { self.weather.commit_ms };
        let pause = self.server.random.between(longest / 8, longest);
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
        if self.server.slow_until.is_some_and(|until| until.plus_millis(SLOW_COMMIT_MS) > self.now) {
            self.oracle.vigil.hindered(self.now);
            self.oracle.vigil.blurs(self.now);
        }
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
        if outcome != Committed::Durable {
            process.sessions.clear();
            self.oracle.vigil.server_begins(self.now);
        }
        let Some(process) = self.alive(life) else { return Ok(()) };
        if taken_back && stored(process.pipeline.cell())? != disk.entities() {
            return broken(16, "after a failed commit the cell is not what the disk holds".to_owned());
        }
        if process.pipeline.read_only() && !process.probe_planned {
            process.probe_planned = true;
            self.after(PROBE_MS, Event::ServerProbes(life));
        }
        self.release(release)?;
        if outcome != Committed::Durable {
            // Whatever was told of brakes was told of a state that is taken back.
            self.oracle.vigil.server_begins(self.now);
        }
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
        self.oracle.vigil.server_begins(self.now);
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
        self.newest_sessions_win()
    }

    fn reply(&mut self, who: Waiter, reply: Reply) {
        match (who, reply) {
            (Waiter::Call(call), Reply::Api(answer)) => self.answer(call, answer.map(Told::Ecs)),
            (Waiter::Call(call), Reply::Admin(answer)) => self.answer(call, answer.map(Told::Admin)),
            (Waiter::Session(conn, session), Reply::Session(answer)) => self.session_answered(conn, session, answer),
            _ => {}
        }
    }

    fn answer(&mut self, call: CallId, answer: Answer) {
        if let Err(error) = &answer {
            self.trace(format_args!("call {call} is answered {}: {}", error.code.name, error.message));
        }
        self.respond(call, Some(answer));
    }

    /// The published snapshot shows what is durable, and nothing of it goes back.
    fn check_published(&mut self) -> Step {
        let Some(process) = &self.server.process else { return Ok(()) };
        if self.oracle.vigil.lacks_names(&process.snapshot) {
            let disk = self.server.disk.entities();
            let known = disk.iter().filter_map(|(key, value)| Entity::decode(key, value).ok());
            known.for_each(|entity| self.oracle.vigil.learns(&entity));
        }
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
        Reply::Api(Err(refused)) | Reply::Admin(Err(refused)) | Reply::Secrets(Err(refused)) => {
            refused.code == error::SERVICE_UNAVAILABLE
        }
        Reply::Session(refused) => *refused == Err(SessionRefusal::Unavailable),
        Reply::None => true,
        // Nobody here asks a scheduler.
        Reply::Placed(_) => false,
        Reply::Api(Ok(_)) | Reply::Admin(Ok(_)) | Reply::Secrets(Ok(_)) => false,
    }
}

/// What the edge answers without the cell: what is not allowed, and what only reads.
fn read(snapshot: &ReadModel, principal: &Principal, ask: &Ask) -> Option<Answer> {
    match ask {
        Ask::Ecs(request) => match snapshot.authorise(principal, request) {
            Ok(authorised) => snapshot.answer(authorised).map(|answer| answer.map(Told::Ecs)),
            Err(denied) => Some(Err(denied)),
        },
        Ask::Admin(request) => match snapshot.authorise_admin(principal, request) {
            Ok(authorised) => {
                let complete = |response| Told::Admin(identity::Answer::Complete(response));
                snapshot.answer_admin(authorised).map(|answer| answer.map(complete))
            }
            Err(denied) => Some(Err(denied)),
        },
    }
}

/// The owner of everything: clients, operators, and agents without a key of their own.
pub(crate) fn owner() -> Principal {
    Principal::new(Role::Owner, "AKIA0000000000000001", "000000000000")
}
