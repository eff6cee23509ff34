//! The cell: commands in; replies, changes and effects out.
//!
//! [`Cell::apply`] is the whole of it: a plain function of the state, the command, the time and the entropy. It does
//! no IO and awaits nothing. Commands that answer an API request are found under the noun they are about.

use std::sync::Arc;

use longshore_agent_protocol::{acs, tcs};
use longshore_api::ecs::{self, Request, Response, error};
use longshore_api::{ApiError, Timestamp, admin};

use crate::config::CellConfig;
use crate::decision::Decision;
use crate::entity::{Entity, Task};
use crate::entropy::Entropy;
use crate::ids::{ClusterId, InstanceKey, SessionId, TaskKey};
use crate::instance::liveness::Liveness;
use crate::instance::session::{self, SessionRefusal, Sessions};
use crate::principal::Principal;
use crate::read::ReadModel;
use crate::scheduler::{self, PlacementRefused, Wish};
use crate::tables::{Change, Tables};
use crate::task::status::DesiredStatus;
use crate::{
    attributes, capacity, cluster, event, identity, instance, limits, network, schedule, secret, settings, tags, task,
    task_definition,
};

mod check;
#[cfg(test)]
mod tests;

pub use check::Violation;

/// Something for the cell to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// A request of the API, verified and typed by the edge.
    Api {
        /// Who signed it.
        principal: Principal,
        /// What it asks.
        request: Request,
    },
    /// A request of the administration, verified and typed by the edge.
    Admin {
        /// Who signed it.
        principal: Principal,
        /// What it asks.
        request: admin::Request,
    },
    /// A request about parameters and secrets, verified and typed by the edge, its values encrypted.
    Secrets {
        /// Who signed it.
        principal: Principal,
        /// What it asks.
        request: secret::Request,
    },
    /// An agent opened a session.
    SessionOpened {
        /// The ARN it gave.
        instance_arn: String,
        /// The session, unique in this process.
        session: SessionId,
        /// Who signed the handshake.
        principal: Principal,
        /// The versions it named.
        agent: AgentInfo,
    },
    /// A session ended, for whatever reason.
    SessionClosed {
        /// Whose it was.
        instance: InstanceKey,
        /// Which it was.
        session: SessionId,
        /// When the agent was last heard of: its loss clock starts there, not when the silence was noticed.
        heard_at: Timestamp,
    },
    /// An agent published how its instance is.
    InstanceStatus {
        /// The ARN it gave.
        instance_arn: String,
        /// Who signed it.
        principal: Principal,
        /// What was checked.
        statuses: Vec<tcs::InstanceStatus>,
    },
    /// An agent asks which tasks that the manifest lacks it may stop.
    StopCandidates {
        /// Who asks.
        instance: InstanceKey,
        /// In which session.
        session: SessionId,
        /// The manifest's message id.
        message_id: String,
        /// Task ARNs.
        candidates: Vec<String>,
    },
    /// An external scheduler says where tasks of its cluster are to go.
    Place {
        /// The cluster's name.
        cluster: Arc<str>,
        /// Its wishes.
        wishes: Vec<Wish>,
    },
    /// The clock was set forward, or the machine slept: so much time did not really pass.
    ClockLeapt {
        /// How much, in milliseconds.
        by_ms: i64,
    },
    /// A launcher has carried out an order, or has not.
    LauncherAnswered(capacity::LauncherAnswer),
    /// Time has passed.
    Tick,
}

/// What an agent says of itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its version, for example `1.105.1`.
    pub agent_version: String,
    /// Its build.
    pub agent_hash: String,
    /// As sent, for example `DockerVersion: 20.10.24`.
    pub docker_version: String,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To an API request.
    Api(Result<Response, ApiError>),
    /// To a request of the administration.
    Admin(Result<identity::Answer, ApiError>),
    /// To a request about parameters and secrets.
    Secrets(Result<secret::Answer, ApiError>),
    /// To a session that was opened.
    Session(Result<InstanceKey, SessionRefusal>),
    /// To the wishes of a scheduler: what became of the first of them, in their order. The rest is to be sent again.
    Placed(Vec<Result<(), PlacementRefused>>),
    /// To everything else.
    None,
}

/// Something to do once the state that led to it is durable. Doing it twice is harmless.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Order a task to run.
    Start {
        /// Where.
        instance: InstanceKey,
        /// In which session.
        session: SessionId,
        /// `seqNum` and message id.
        sequence: u64,
        /// What.
        task: TaskKey,
    },
    /// Order a task to stop.
    Stop {
        /// Where.
        instance: InstanceKey,
        /// In which session.
        session: SessionId,
        /// `seqNum` and message id.
        sequence: u64,
        /// What.
        task: TaskKey,
    },
    /// Say what the network of awsvpc tasks is. Only agents of ours are told.
    Network {
        /// Whom.
        instance: InstanceKey,
        /// In which session.
        session: SessionId,
        /// `timeline` and message id.
        sequence: u64,
        /// What of it.
        news: NetworkNews,
    },
    /// Say which tasks the instance is to have.
    Manifest {
        /// Whom.
        instance: InstanceKey,
        /// In which session.
        session: SessionId,
        /// `timeline` and message id.
        sequence: u64,
        /// All tasks there that are not STOPPED.
        tasks: Vec<(TaskKey, DesiredStatus)>,
    },
    /// Confirm which stop candidates are to be stopped.
    ConfirmStops {
        /// Whom.
        instance: InstanceKey,
        /// In which session.
        session: SessionId,
        /// The manifest's message id.
        message_id: String,
        /// Task ARNs.
        tasks: Vec<String>,
    },
    /// Close a session.
    Close {
        /// Whose.
        instance: InstanceKey,
        /// Which.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// Ask the scheduler of a cluster about the tasks that wait for it.
    AskScheduler {
        /// Of which cluster.
        cluster: ClusterId,
    },
    /// Tell operators what was decided.
    Note(Decision),
}

/// What of the network is told: its words are taken from the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkNews {
    /// Everything: then `hosts` says nothing.
    pub complete: bool,
    /// The hosts whose blocks or address changed.
    pub hosts: Vec<Arc<str>>,
    /// The security groups.
    pub groups: Vec<Arc<str>>,
}

/// Why a session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A newer session of the same instance counts.
    Replaced,
    /// The access key that opened it was revoked. The agent may come back as often as it likes: it is refused.
    Revoked,
    /// The instance was deregistered: its agent is told so when it comes back.
    Deregistered,
    /// The state was taken back or loaded anew: what was sent is derived again from it.
    StateReset,
}

/// An effect in the agent protocol's words.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// Send a message.
    Send {
        /// To whom.
        instance: InstanceKey,
        /// In which session.
        session: SessionId,
        /// What; boxed because payloads are large.
        message: Box<acs::ServerMessage>,
    },
    /// Close a session.
    Close {
        /// Whose.
        instance: InstanceKey,
        /// Which.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
}

/// A command's changes, to be made durable together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The commit number: greater than that of every earlier group.
    pub number: u64,
    /// In order; empty when only the number is to move.
    pub changes: Vec<Change>,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer, to be given once `group` and everything before it is durable.
    pub reply: Reply,
    /// The changes, if any.
    pub group: Option<Group>,
    /// To be performed once `group` is durable.
    pub effects: Vec<Effect>,
}

/// All orchestration state, and the one function that changes it.
#[derive(Clone, Debug)]
pub struct Cell {
    config: Arc<CellConfig>,
    tables: Tables,
    /// Volatile.
    sessions: Sessions,
    /// Volatile.
    liveness: Liveness,
    /// Volatile.
    reviews: capacity::Reviews,
    /// The commit number given out last.
    sequence: u64,
}

/// One command under way: what handlers may touch.
pub(crate) struct Turn<'a> {
    pub(crate) config: &'a CellConfig,
    pub(crate) tables: &'a mut Tables,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) liveness: &'a mut Liveness,
    pub(crate) reviews: &'a mut capacity::Reviews,
    pub(crate) now: Timestamp,
    pub(crate) entropy: Entropy,
    pub(crate) effects: Vec<Effect>,
    sequence: &'a mut u64,
}

impl Turn<'_> {
    /// The next commit number. Messages to agents and new clusters are numbered with it.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        *self.sequence += 1;
        *self.sequence
    }

    /// Tells operators what was decided.
    pub(crate) fn note(&mut self, decision: Decision) {
        self.effects.push(Effect::Note(decision));
    }

    /// Does something as a whole: if it fails, it is as if it had not been begun. A command of its own needs no such care.
    ///
    /// # Errors
    /// Those of what is done.
    pub(crate) fn whole<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let (changes, effects) = (self.tables.changes_made(), self.effects.len());
        let done = act(self);
        if done.is_err() {
            self.tables.take_back(changes);
            self.effects.truncate(effects);
        }
        done
    }

    /// Whether one more change fits this command's group.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_for(1)
    }

    /// Whether so many changes more fit this command's group.
    pub(crate) fn has_room_for(&self, changes: usize) -> bool {
        // One is left for the horizon of events, which moves when something is forgotten.
        self.tables.changes_made() + changes < limits::CHANGES_PER_GROUP
    }

    /// Orders a task to run, if its agent is connected; else it is ordered when the agent connects.
    pub(crate) fn send_start(&mut self, task: &Task) {
        let Some(instance) = task.home() else { return };
        if let Some(session) = self.sessions.get(instance) {
            let sequence = self.next_sequence();
            self.effects.push(Effect::Start { instance, session, sequence, task: task.key });
        }
    }

    /// Orders a task to stop, if its agent is connected; else it is ordered when the agent connects.
    pub(crate) fn send_stop(&mut self, task: &Task) {
        let Some(instance) = task.home() else { return };
        if let Some(session) = self.sessions.get(instance) {
            let sequence = self.next_sequence();
            self.effects.push(Effect::Stop { instance, session, sequence, task: task.key });
        }
    }
}

impl Cell {
    /// A cell without entities.
    pub fn new(config: CellConfig) -> Self {
        let config = Arc::new(config);
        Self {
            tables: Tables::new(config.clone()),
            config,
            sessions: Sessions::default(),
            liveness: Liveness::default(),
            reviews: capacity::Reviews::default(),
            sequence: 0,
        }
    }

    /// Puts in an entity from the store. Only before the first command.
    pub fn load(&mut self, entity: Entity) {
        self.tables.load(entity);
    }

    /// Ends loading: `sequence` is the last commit number that the store holds. The next command is the first one served:
    /// from it on agents have time to come before their absence counts.
    pub fn loaded(&mut self, sequence: u64) {
        self.tables.take_news();
        self.sequence = sequence;
        self.liveness.reset();
    }

    /// The commit number given out last.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<CellConfig> {
        &self.config
    }

    /// Every entity: what a store that holds this state holds. For checkers and tools, not for requests.
    pub fn entities(&self) -> impl Iterator<Item = Entity> {
        self.tables.entities()
    }

    /// Which host has which addresses, and which of them tasks hold.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> &network::AddressBook {
        self.tables.addresses()
    }

    /// The tasks that wait.
    #[cfg(test)]
    pub(crate) fn line(&self) -> &task::waiting::Line {
        self.tables.line()
    }

    /// A snapshot of now.
    pub fn snapshot(&mut self) -> ReadModel {
        let braked = self.liveness.engaged().clone();
        ReadModel { braked, sequence: self.sequence, ..self.tables.publish() }
    }

    /// When the next [`Command::Tick`] has something to do; `None` when nothing is due ever.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let forgotten = task::retention::next_due(&self.tables, self.config.retention);
        let retired = instance::deregister::next_expiry(&self.tables);
        let deleted = self.tables.deletions().next_due();
        let loss = match self.liveness.has_begun() || self.tables.pool().slots().is_empty() {
            true => self.liveness.next_due(),
            // The first command starts the clocks; if nobody else comes, a tick is the first.
            false => Some(Timestamp::from_millis(0)),
        };
        let ended = secret::next_due(&self.tables);
        let network = network::next_due(&self.tables);
        let line = task::waiting::advance::next_due(&self.tables, &self.liveness);
        let joined = identity::next_due(&self.tables);
        let scheduled = schedule::next_due(&self.tables);
        let scaling = capacity::review::next_due(&self.tables, &self.reviews);
        let all = [forgotten, retired, deleted, loss, network, ended, line, joined, scheduled, scaling];
        all.into_iter().flatten().min()
    }

    /// Whether a command could change durable state; one that could not is safe while the store cannot be written.
    pub fn may_write(command: &Command) -> bool {
        match command {
            Command::Api { .. }
            | Command::Admin { .. }
            | Command::Secrets { .. }
            | Command::SessionOpened { .. }
            | Command::LauncherAnswered(_)
            | Command::Place { .. }
            | Command::Tick => true,
            Command::SessionClosed { .. }
            | Command::InstanceStatus { .. }
            | Command::StopCandidates { .. }
            | Command::ClockLeapt { .. } => false,
        }
    }

    /// Applies a command.
    pub fn apply(&mut self, now: Timestamp, entropy: Entropy, command: Command) -> Outcome {
        if let Command::ClockLeapt { by_ms } = command {
            self.liveness.leap(by_ms);
            return Outcome { reply: Reply::None, group: None, effects: Vec::new() };
        }
        let before = self.sequence;
        self.tables.begin(event::Stamp { number: before + 1, at: now });
        let mut turn = Turn {
            config: &self.config,
            tables: &mut self.tables,
            sessions: &mut self.sessions,
            liveness: &mut self.liveness,
            reviews: &mut self.reviews,
            now,
            entropy,
            effects: Vec::new(),
            sequence: &mut self.sequence,
        };
        if !turn.liveness.has_begun() {
            instance::lost::begin(&mut turn);
        }
        let reply = perform(&mut turn, command);
        event::move_horizon(&mut turn);
        network::tell(&mut turn);
        let effects = std::mem::take(&mut turn.effects);
        debug_assert!(network::numbers_rise(&effects, before), "old news: {effects:?}");
        let changes = self.tables.take_changes();
        debug_assert!(changes.len() <= limits::CHANGES_PER_GROUP, "{} changes in one group", changes.len());
        // A handler that refuses has changed nothing; should one have, it is as if it had not.
        if let Reply::Api(Err(_)) | Reply::Admin(Err(_)) | Reply::Secrets(Err(_)) = reply {
            changes.iter().rev().for_each(|change| self.tables.revert(change));
            self.tables.take_news();
            self.sequence = before;
            return Outcome { reply, group: None, effects: Vec::new() };
        }
        if !changes.is_empty() && self.sequence == before {
            self.sequence += 1;
        }
        let group = (self.sequence > before).then_some(Group { number: self.sequence, changes });
        Outcome { reply, group, effects }
    }

    /// Takes groups back that will never be durable, newest first, and with them the numbers they had. Sessions are
    /// closed: what agents were told is derived anew when they return.
    pub fn revert<'a>(&mut self, groups: impl DoubleEndedIterator<Item = &'a Group>, sequence: u64) -> Vec<Effect> {
        for group in groups.rev() {
            group.changes.iter().rev().for_each(|change| self.tables.revert(change));
        }
        self.tables.take_news();
        self.sequence = sequence;
        self.reset_sessions()
    }

    /// Forgets all sessions; the effects close them.
    pub fn reset_sessions(&mut self) -> Vec<Effect> {
        let closed = self.sessions.close_all(CloseReason::StateReset);
        for effect in &closed {
            if let Effect::Close { instance, .. } = effect {
                self.tables.disconnected(*instance, None);
            }
        }
        self.liveness.reset();
        closed
    }
}

fn perform(turn: &mut Turn<'_>, command: Command) -> Reply {
    match command {
        Command::Api { principal, request } => Reply::Api(request_of(turn, &principal, &request)),
        Command::Admin { principal, request } => Reply::Admin(administer(turn, &principal, &request)),
        Command::Secrets { principal, request } => Reply::Secrets(secret::perform(turn, &principal, &request)),
        Command::SessionOpened { instance_arn, session, principal, agent } => {
            Reply::Session(session::opened(turn, &principal, &instance_arn, session, &agent))
        }
        Command::SessionClosed { instance, session, heard_at } => {
            session::closed(turn, instance, session, heard_at);
            Reply::None
        }
        Command::InstanceStatus { instance_arn, principal, statuses } => {
            instance::health::reported(turn, &principal, &instance_arn, &statuses);
            Reply::None
        }
        Command::StopCandidates { instance, session, message_id, candidates } => {
            session::confirm_stops(turn, instance, session, message_id, candidates);
            Reply::None
        }
        Command::LauncherAnswered(answer) => {
            capacity::fleet::answered(turn, answer);
            Reply::None
        }
        Command::Place { cluster, wishes } => Reply::Placed(scheduler::place(turn, &cluster, &wishes)),
        // It is about the clocks of the cell, not about what they measure.
        Command::ClockLeapt { .. } => Reply::None,
        Command::Tick => {
            instance::lost::tick(turn);
            schedule::tick(turn);
            instance::silence::tick(turn);
            task::retention::expire(turn);
            task_definition::deletion::expire(turn);
            instance::deregister::expire(turn);
            identity::expire(turn);
            secret::expire(turn);
            network::expire(turn);
            task::waiting::advance::tick(turn);
            capacity::review::tick(turn);
            Reply::None
        }
    }
}

/// Every operation that changes something, once it is authorised. Those that only read are answered by [`ReadModel::answer`].
fn request_of(turn: &mut Turn<'_>, principal: &Principal, request: &Request) -> Result<Response, ApiError> {
    let authorised = turn.tables.view().authorise(principal, request)?;
    match authorised.request() {
        Request::CreateCluster(request) => cluster::create::create(turn, principal, request),
        Request::UpdateCluster(request) => cluster::update::update(turn, request),
        Request::UpdateClusterSettings(request) => cluster::update::update_settings(turn, request),
        Request::PutClusterCapacityProviders(request) => cluster::update::put_capacity_providers(turn, request),
        Request::DeleteCluster(request) => cluster::delete::delete(turn, request),
        Request::CreateCapacityProvider(request) => capacity::create(turn, request),
        Request::UpdateCapacityProvider(request) => capacity::update(turn, request),
        Request::DeleteCapacityProvider(request) => capacity::delete(turn, request),
        Request::PutAccountSetting(request) => settings::put(turn, principal, request),
        Request::PutAccountSettingDefault(request) => settings::put_default(turn, request),
        Request::DeleteAccountSetting(request) => settings::delete(turn, principal, request),
        Request::RegisterTaskDefinition(request) => task_definition::operations::register(turn, principal, request),
        Request::DeregisterTaskDefinition(request) => task_definition::operations::deregister(turn, request),
        Request::DeleteTaskDefinitions(request) => task_definition::deletion::delete(turn, request),
        Request::RegisterContainerInstance(request) => instance::register::register(turn, principal, request),
        Request::UpdateContainerInstancesState(request) => instance::state::update(turn, request),
        Request::DeregisterContainerInstance(request) => instance::deregister::deregister(turn, request),
        Request::PutAttributes(request) => attributes::put(turn, request),
        Request::DeleteAttributes(request) => attributes::delete(turn, request),
        Request::TagResource(request) => tags::tag(turn, request),
        Request::UntagResource(request) => tags::untag(turn, request),
        Request::RunTask(request) => task::run::run(turn, request),
        Request::StartTask(request) => task::start::start(turn, request),
        Request::StopTask(request) => task::stop::stop(turn, request),
        Request::SubmitTaskStateChange(request) => task::report::submit_task(turn, principal, request),
        Request::SubmitContainerStateChange(request) => task::report::submit_container(turn, principal, request),
        Request::SubmitAttachmentStateChanges(request) => task::report::submit_attachments(request),
        // A read that came this way is answered from the state it would meet.
        other => turn.tables.view().answer(authorised).unwrap_or_else(|| Err(unimplemented(other.operation()))),
    }
}

fn administer(
    turn: &mut Turn<'_>,
    principal: &Principal,
    request: &admin::Request,
) -> Result<identity::Answer, ApiError> {
    let authorised = turn.tables.view().authorise_admin(principal, request)?;
    identity::administer(turn, authorised)
}

/// The answer of an operation that does not work yet: it never pretends.
fn unimplemented(operation: ecs::Operation) -> ApiError {
    let name = operation.name();
    ApiError::new(error::UNSUPPORTED_FEATURE_EXCEPTION, format!("Longshore does not implement {name} yet."))
}
