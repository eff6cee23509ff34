//! The runner: the threads around the cell.
//!
//! One thread, *cell*, owns the [`Pipeline`] and is the only one to touch the state. Another, *commit*, owns the store:
//! it encodes batches and makes them durable. A third, *effects*, puts effects into the agents' words and drops old
//! snapshots, so that neither costs the cell anything. Requests that only read never come here: they are answered on
//! the caller's thread from the last published snapshot.

mod committer;
mod inbox;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use longshore_api::{ApiError, Timestamp, admin, ecs, error};
use longshore_core::cell::{Command, Delivery, Effect, Reply};
use longshore_core::clock::Reading;
use longshore_core::entropy::Entropy;
use longshore_core::identity::Answer;
use longshore_core::ids::{ClusterId, InstanceKey, TaskId};
use longshore_core::instance::SessionRefusal;
use longshore_core::logs::LogSource;
use longshore_core::pipeline::{Batch, Pipeline, Release, Step, Ticket};
use longshore_core::read::ReadModel;
use longshore_core::secret::{self, RoleHolder};
use longshore_core::{CellConfig, Decision, Principal, Role};
use longshore_store::Store;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock;
use crate::orchestrator::Orchestrator;
use committer::Committer;
pub use committer::LoadError;
use inbox::{Event, Inbox};

/// How often a store that could not be written is asked whether it can be by now.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Releases whose effects wait to be performed. Each keeps a snapshot alive, and putting a task into words costs more than
/// placing it: when the effects thread is this far behind, the cell waits for it instead of filling memory.
const WAITING_AFTERMATHS: usize = 64;

/// Performs what the cell ordered. Called on a thread of the runner: it must not block.
pub trait Perform: Send + Sync + 'static {
    /// Sends a message to an agent, or closes its session; nothing happens when the session is gone.
    fn perform(&self, delivery: Delivery);

    /// Asks the external scheduler of a cluster about the tasks that wait for it. Without any there is nothing to do.
    fn ask_scheduler(&self, _cluster: ClusterId) {}
}

/// The way to the cell. Cheap to clone; the threads end when [`Runner::stop`] is called.
#[derive(Clone)]
pub struct Runner {
    inbox: Arc<Inbox>,
    snapshot: Arc<ArcSwap<ReadModel>>,
    /// The store cannot be written.
    read_only: Arc<AtomicBool>,
    stopped: CancellationToken,
    threads: Arc<watch::Sender<()>>,
}

impl Runner {
    /// Loads the store, and starts the threads.
    ///
    /// # Errors
    /// When the store cannot be led or loaded, or what it holds breaks an invariant.
    pub fn start(
        config: CellConfig,
        store: Box<dyn Store>,
        performer: Arc<dyn Perform>,
        max_waiting: usize,
    ) -> Result<Self, LoadError> {
        let mut committer = Committer::new(config, store);
        let mut cell = committer.load()?;
        let snapshot = Arc::new(ArcSwap::from_pointee(cell.snapshot()));
        let inbox = Arc::new(Inbox::new(max_waiting));
        let runner = Self {
            inbox: inbox.clone(),
            snapshot: snapshot.clone(),
            read_only: Arc::default(),
            stopped: CancellationToken::new(),
            threads: Arc::new(watch::Sender::new(())),
        };
        let (to_commit, commits) = channel();
        let (to_effects, effects) = sync_channel(WAITING_AFTERMATHS);
        runner.spawn("effects", move || perform_effects(&effects, &*performer))?;
        let answers = inbox.clone();
        runner.spawn("commit", move || committer.run(&commits, &answers))?;
        let entropy = seed()?;
        let worker = Worker {
            pipeline: Pipeline::new(cell),
            inbox,
            snapshot,
            read_only: runner.read_only.clone(),
            to_commit,
            to_effects,
            entropy,
            waiting: Waiting::default(),
            leapt_ms: clock::cell().leapt_ms,
            next_probe: None,
        };
        runner.spawn("cell", move || worker.run())?;
        Ok(runner)
    }

    /// The state that clients may see now.
    pub fn snapshot(&self) -> Arc<ReadModel> {
        self.snapshot.load_full()
    }

    /// What kind of access key this is, as far as clients may see by now.
    pub(crate) fn role_of(&self, access_key_id: &str) -> Option<Role> {
        self.snapshot.load().role_of(access_key_id)
    }

    /// Ends the threads once what was submitted is answered.
    pub fn stop(&self) {
        self.inbox.close();
    }

    /// Cancelled when a thread of the runner has ended, for whatever reason.
    pub fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// Waits until every thread has ended and the store is closed.
    pub async fn ended(&self) {
        self.threads.closed().await;
    }

    /// Starts a thread whose end, by return or by panic, is seen by the server. Without one of them the others are of no use:
    /// they end too, and whoever waits for an answer is told so.
    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), LoadError> {
        let ends = Ends {
            inbox: self.inbox.clone(),
            _stopped: self.stopped.clone().drop_guard(),
            _alive: self.threads.subscribe(),
        };
        let run = move || {
            let _ends = ends;
            body();
        };
        thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(|source| LoadError::Thread { source })
    }

    /// Adds what no snapshot knows.
    fn with_own_state(&self, response: admin::Response) -> admin::Response {
        match response {
            admin::Response::DescribeServer(server) => {
                let read_only = self.read_only.load(Ordering::Relaxed);
                admin::DescribeServerResponse { read_only, ..server }.into()
            }
            other => other,
        }
    }

    fn submit(&self, command: Command) -> Result<oneshot::Receiver<Reply>, ApiError> {
        let (answer, reply) = oneshot::channel();
        match self.inbox.submit(command, answer) {
            Ok(()) => Ok(reply),
            Err(inbox::Refused::Full) => Err(ApiError::new(
                error::THROTTLING_EXCEPTION,
                "Rate exceeded: too many requests are waiting. Try again with growing pauses.",
            )),
            Err(inbox::Refused::Closed) => Err(stopping()),
        }
    }
}

impl Orchestrator for Runner {
    fn call(&self, principal: Principal, request: ecs::Request) -> BoxFuture<'static, Result<ecs::Response, ApiError>> {
        // Authorised here for what is only read; the cell decides anew, by the state that a command meets.
        let snapshot = self.snapshot.load();
        match snapshot.authorise(&principal, &request).map(|authorised| snapshot.answer(authorised)) {
            Ok(Some(answer)) => return future::ready(answer).boxed(),
            Err(denied) => return future::ready(Err(denied)).boxed(),
            Ok(None) => {}
        }
        match self.submit(Command::Api { principal, request }) {
            Err(refused) => future::ready(Err(refused)).boxed(),
            Ok(reply) => async move {
                match reply.await {
                    Ok(Reply::Api(answer)) => answer,
                    Ok(Reply::Admin(_) | Reply::Secrets(_) | Reply::Session(_) | Reply::Placed(_) | Reply::None)
                    | Err(_) => Err(stopping()),
                }
            }
            .boxed(),
        }
    }

    fn administer(
        &self,
        principal: Principal,
        request: admin::Request,
    ) -> BoxFuture<'static, Result<Answer, ApiError>> {
        let snapshot = self.snapshot.load();
        match snapshot.authorise_admin(&principal, &request).map(|authorised| snapshot.answer_admin(authorised)) {
            Ok(Some(answer)) => {
                let complete = |response| Answer::Complete(self.with_own_state(response));
                return future::ready(answer.map(complete)).boxed();
            }
            Err(denied) => return future::ready(Err(denied)).boxed(),
            Ok(None) => {}
        }
        match self.submit(Command::Admin { principal, request }) {
            Err(refused) => future::ready(Err(refused)).boxed(),
            Ok(reply) => async move {
                match reply.await {
                    Ok(Reply::Admin(answer)) => answer,
                    Ok(Reply::Api(_) | Reply::Secrets(_) | Reply::Session(_) | Reply::Placed(_) | Reply::None)
                    | Err(_) => Err(stopping()),
                }
            }
            .boxed(),
        }
    }

    fn secrets(
        &self,
        principal: Principal,
        request: secret::Request,
    ) -> BoxFuture<'static, Result<secret::Answer, ApiError>> {
        match self.snapshot.load().answer_secrets(&principal, &request) {
            Ok(Some(answer)) => return future::ready(Ok(answer)).boxed(),
            Err(refused) => return future::ready(Err(refused)).boxed(),
            Ok(None) => {}
        }
        match self.submit(Command::Secrets { principal, request }) {
            Err(refused) => future::ready(Err(refused)).boxed(),
            Ok(reply) => async move {
                match reply.await {
                    Ok(Reply::Secrets(answer)) => answer,
                    Ok(Reply::Api(_) | Reply::Admin(_) | Reply::Session(_) | Reply::Placed(_) | Reply::None)
                    | Err(_) => Err(stopping()),
                }
            }
            .boxed(),
        }
    }

    fn role_holders(&self, instance: InstanceKey, chosen: &dyn Fn(TaskId) -> bool) -> Vec<RoleHolder> {
        self.snapshot.load().role_holders(instance, chosen)
    }

    fn secret_name(&self, given: &str) -> Option<Arc<str>> {
        self.snapshot.load().secret_name(given)
    }

    fn authorise(&self, principal: &Principal, request: &ecs::Request) -> Result<(), ApiError> {
        self.snapshot.load().authorise(principal, request).map(drop)
    }

    fn authorise_admin(&self, principal: &Principal, request: &admin::Request) -> Result<(), ApiError> {
        self.snapshot.load().authorise_admin(principal, request).map(drop)
    }

    fn log_source(&self, principal: &Principal, request: &admin::GetTaskLogsRequest) -> Result<LogSource, ApiError> {
        self.snapshot.load().log_source(principal, request)
    }

    fn admit(&self, principal: &Principal, instance_arn: &str) -> Result<(), SessionRefusal> {
        self.snapshot.load().admit(principal, instance_arn).map(drop)
    }

    fn command(&self, command: Command) -> BoxFuture<'static, Reply> {
        // What a session says is never refused for lack of room: each session has few commands under way.
        let (answer, reply) = oneshot::channel();
        match self.inbox.submit_always(command, answer) {
            Err(_) => future::ready(Reply::None).boxed(),
            Ok(()) => reply.map(|reply| reply.unwrap_or(Reply::None)).boxed(),
        }
    }
}

/// What happens when a thread of the runner ends.
struct Ends {
    inbox: Arc<Inbox>,
    _stopped: DropGuard,
    _alive: watch::Receiver<()>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}

fn stopping() -> ApiError {
    ApiError::new(error::SERVICE_UNAVAILABLE, "The server is stopping. Try again in a moment.")
}

fn seed() -> Result<Entropy, LoadError> {
    let mut seed = [0u8; 32];
    rand::fill(&mut seed).map_err(|_| LoadError::Randomness)?;
    Ok(Entropy::from_seed(seed))
}

/// What the cell's thread owns.
struct Worker {
    pipeline: Pipeline,
    inbox: Arc<Inbox>,
    snapshot: Arc<ArcSwap<ReadModel>>,
    read_only: Arc<AtomicBool>,
    to_commit: Sender<CommitOrder>,
    to_effects: SyncSender<Aftermath>,
    entropy: Entropy,
    waiting: Waiting,
    /// How far the clock has leapt, as far as the cell was told.
    leapt_ms: i64,
    next_probe: Option<Instant>,
}

/// The ticket of a command whose answer nobody waits for.
const NOBODY: Ticket = Ticket::MAX;

/// Who waits for which answer. Tickets are given in order and mostly taken in order.
#[derive(Default)]
struct Waiting {
    /// The ticket of the first one in `answers`.
    first: Ticket,
    answers: VecDeque<Option<oneshot::Sender<Reply>>>,
}

impl Waiting {
    fn add(&mut self, answer: oneshot::Sender<Reply>) -> Ticket {
        self.answers.push_back(Some(answer));
        self.first + self.answers.len() as Ticket - 1
    }

    fn take(&mut self, ticket: Ticket) -> Option<oneshot::Sender<Reply>> {
        let index = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        let answer = self.answers.get_mut(index).and_then(Option::take);
        while let Some(None) = self.answers.front() {
            self.answers.pop_front();
            self.first += 1;
        }
        answer
    }
}

/// For the commit thread.
pub(crate) enum CommitOrder {
    /// Make this durable.
    Commit(Batch),
    /// Lead and load again.
    Load,
}

/// For the effects thread: what is to be done, the snapshot to read for it, and one to be dropped.
struct Aftermath {
    snapshot: Arc<ReadModel>,
    effects: Vec<Effect>,
    old: Option<Arc<ReadModel>>,
}

impl Worker {
    fn run(mut self) {
        loop {
            let pause = self.pause();
            let Some(events) = self.inbox.take(pause, self.pipeline.has_room()) else { return };
            for event in events {
                self.handle(event);
            }
            self.wake();
            self.advance();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Command(command, answer) => {
                let ticket = self.waiting.add(answer);
                self.submit(ticket, command);
            }
            Event::Committed(outcome) => {
                let release = self.pipeline.committed(outcome);
                if self.pipeline.read_only() && self.next_probe.is_none() {
                    tracing::error!("the store cannot be written: reads go on, writes are refused until it can");
                    self.next_probe = Some(Instant::now() + PROBE_EVERY);
                } else if !self.pipeline.read_only() && self.next_probe.take().is_some() {
                    tracing::info!("the store can be written again");
                }
                self.read_only.store(self.pipeline.read_only(), Ordering::Relaxed);
                self.release(release);
            }
            Event::Loaded(cell) => {
                self.next_probe = None;
                let release = self.pipeline.reload(*cell);
                self.read_only.store(self.pipeline.read_only(), Ordering::Relaxed);
                self.release(release);
            }
        }
    }

    /// Does what the passing of time asks for.
    fn wake(&mut self) {
        if self.next_probe.is_some_and(|at| at <= Instant::now()) {
            self.pipeline.probe();
            self.next_probe = Some(Instant::now() + PROBE_EVERY);
        }
        if self.deadline().is_some_and(|at| at <= self.now()) {
            self.submit(NOBODY, Command::Tick);
        }
    }

    /// When time asks for something, unless it could not be done: what is overdue waits for room like any command.
    fn deadline(&self) -> Option<Timestamp> {
        let able = !self.pipeline.read_only() && self.pipeline.has_room();
        self.pipeline.cell().next_deadline().filter(|_| able)
    }

    /// Carries out the pipeline's steps until it waits.
    fn advance(&mut self) {
        loop {
            match self.pipeline.step() {
                Step::Commit(batch) => return self.order(CommitOrder::Commit(batch)),
                Step::Reload if self.inbox.begin_loading() => return self.order(CommitOrder::Load),
                Step::Release(release) => self.release(*release),
                Step::Reload | Step::Wait => return,
            }
        }
    }

    /// The commit thread ends only after this one; should it have panicked, the inbox was abandoned.
    fn order(&self, order: CommitOrder) {
        drop(self.to_commit.send(order));
    }

    fn submit(&mut self, ticket: Ticket, command: Command) {
        let now = self.now();
        let entropy = self.entropy.fork();
        self.pipeline.submit(ticket, now, entropy, command);
    }

    /// Publish, then answer, then act.
    fn release(&mut self, release: Release) {
        let (current, old) = match release.snapshot {
            Some(snapshot) => {
                let current = Arc::new(snapshot);
                let old = self.snapshot.swap(current.clone());
                (current, Some(old))
            }
            None => (self.snapshot.load_full(), None),
        };
        for (ticket, reply) in release.replies {
            if let Some(answer) = self.waiting.take(ticket) {
                // A caller that no longer waits needs no answer.
                drop(answer.send(reply));
                self.inbox.answered();
            }
        }
        // Last, and at once: each order wakes that thread, which then takes the processor from whoever waits for a reply.
        if old.is_some() || !release.effects.is_empty() {
            self.after(Aftermath { snapshot: current, effects: release.effects, old });
        }
    }

    fn after(&self, aftermath: Aftermath) {
        drop(self.to_effects.send(aftermath));
    }

    /// The time for the cell, which is told when it leapt.
    fn now(&mut self) -> Timestamp {
        let Reading { now, leapt_ms } = clock::cell();
        let by_ms = leapt_ms - std::mem::replace(&mut self.leapt_ms, leapt_ms);
        if by_ms > 0 {
            tracing::warn!(by_ms, "the clock was set forward, or the machine slept: nobody is given up for that");
            let entropy = self.entropy.fork();
            self.pipeline.submit(NOBODY, now, entropy, Command::ClockLeapt { by_ms });
        }
        now
    }

    /// How long the thread may sleep when nobody asks for anything.
    fn pause(&mut self) -> Option<Duration> {
        let now = self.now();
        let deadline = self.deadline().map(|at| Duration::from_millis(at.since(now).max(0).unsigned_abs()));
        let probe = self.next_probe.map(|at| at.saturating_duration_since(Instant::now()));
        deadline.into_iter().chain(probe).min()
    }
}

fn perform_effects(orders: &Receiver<Aftermath>, performer: &dyn Perform) {
    for Aftermath { snapshot, effects, old } in orders {
        for effect in &effects {
            match effect {
                Effect::Note(decision) => tell(decision),
                Effect::AskScheduler { cluster } => performer.ask_scheduler(*cluster),
                effect => {
                    if let Some(delivery) = snapshot.render(effect, clock::now()) {
                        performer.perform(delivery);
                    }
                }
            }
        }
        drop(old);
    }
}

/// One line for each thing that the cell decided on its own.
fn tell(decision: &Decision) {
    let instance = decision.instance().map(|instance| tracing::field::display(instance.id));
    match decision.is_warning() {
        true => tracing::warn!(instance, "{decision}"),
        false => tracing::info!(instance, "{decision}"),
    }
}
