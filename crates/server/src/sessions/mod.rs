//! Sessions of agents: the two websockets by which each container instance hangs on the control plane.
//!
//! ACS (`acs`) carries orders and their acknowledgements, TCS (`tcs`) telemetry. Nothing here decides anything: a session
//! turns what an agent says into commands of the orchestrator, and what the orchestrator wants sent ([`Perform`])
//! into frames. Nothing here is durable: whatever is lost with a session is derived again when the agent returns, so a
//! session in trouble is simply closed.

mod acs;
mod socket;
mod status;
mod tcs;
mod telemetry;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use longshore_agent_protocol::acs::ServerMessage;
use longshore_api::Timestamp;
use longshore_core::Principal;
use longshore_core::cell::{CloseReason, Delivery};
use longshore_core::ids::{InstanceKey, SessionId, TaskId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::clock;
use crate::limits::{MAX_QUEUED_MESSAGES, RENEWAL_SLOTS, RENEWAL_TICK, SessionLimits};
use crate::orchestrator::Orchestrator;
use crate::runner::Perform;
use crate::task_roles::TaskRoles;
use socket::Close;
pub use telemetry::{Telemetry, TelemetryCounts};

/// A websocket that may be opened: who asks, with which URL, over which connection.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) principal: Principal,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) on_upgrade: hyper::upgrade::OnUpgrade,
}

impl Handshake {
    /// A parameter of the URL, decoded; empty ones count as absent.
    fn parameter(&self, name: &str) -> Option<String> {
        longshore_wire::query::parameter(&self.query, name).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<String, Refusal> {
        self.parameter(name).ok_or_else(|| Refusal::bad_request(format!("The URL lacks the parameter '{name}'.")))
    }
}

/// Why a websocket is not opened, in the words that agents know (AGENT-PROTOCOL §2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) name: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self { status, name, message: message.into() }
    }

    pub(crate) fn access_denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    fn invalid(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, name, message)
    }

    fn server(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServerException", message)
    }
}

/// All sessions of this process.
pub struct Sessions {
    lines: Mutex<HashMap<SessionId, Line>>,
    /// Which sessions are open of an instance; for a moment there may be two, of which the later one counts.
    of_instances: Mutex<BTreeSet<(InstanceKey, SessionId)>>,
    /// When the last session of an instance ended, of those that had one within the hour.
    left: Mutex<BTreeMap<InstanceKey, Instant>>,
    last_id: AtomicU64,
    permits: Arc<Semaphore>,
    limits: SessionLimits,
    telemetry: Telemetry,
    /// Where credentials of tasks' roles come from. Set before the first session; without it none are sent.
    task_roles: OnceLock<Arc<TaskRoles>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The orchestrator's end of an ACS session.
struct Line {
    queue: mpsc::Sender<Box<ServerMessage>>,
    /// Used once, to close it from this side.
    close: Option<oneshot::Sender<Close>>,
}

/// The session's end of a [`Line`].
struct LineEnd {
    id: SessionId,
    queue: mpsc::Receiver<Box<ServerMessage>>,
    close: oneshot::Receiver<Close>,
}

impl Sessions {
    /// No sessions, within these limits.
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            lines: Mutex::default(),
            of_instances: Mutex::default(),
            left: Mutex::default(),
            last_id: AtomicU64::new(0),
            permits: Arc::new(Semaphore::new(limits.max_sessions)),
            limits,
            telemetry: Telemetry::default(),
            task_roles: OnceLock::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// The telemetry that was seen last.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// How many ACS sessions are open.
    pub fn connected(&self) -> usize {
        self.lines().len()
    }

    /// How many websockets are open, of both kinds.
    pub(crate) fn open(&self) -> usize {
        self.limits.max_sessions.saturating_sub(self.permits.available_permits())
    }

    /// Closes all sessions (agents come back at once, to whoever serves then) and waits until they are gone.
    pub async fn stop(&self, grace: Duration) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(grace, self.tasks.wait()).await;
    }

    /// Opens an ACS session, once the orchestrator accepts it.
    pub(crate) async fn open_acs(
        self: &Arc<Self>,
        handshake: Handshake,
        orchestrator: Arc<dyn Orchestrator>,
    ) -> Result<(), Refusal> {
        let permit = self.permit()?;
        let parameters = acs::Parameters::of(&handshake)?;
        let session = acs::Session {
            sessions: Arc::clone(self),
            orchestrator,
            principal: handshake.principal,
            parameters,
            _permit: permit,
        };
        // In a task of its own: should the caller go away now, the orchestrator still learns that the session ended.
        let (accepted, answer) = oneshot::channel();
        self.tasks.spawn(session.run(handshake.on_upgrade, accepted));
        answer.await.unwrap_or_else(|_| Err(Refusal::server("The session ended before it began.")))
    }

    /// Opens a TCS session of an instance that exists.
    pub(crate) fn open_tcs(
        self: &Arc<Self>,
        handshake: Handshake,
        authenticator: Arc<Authenticator>,
        orchestrator: Arc<dyn Orchestrator>,
    ) -> Result<(), Refusal> {
        let permit = self.permit()?;
        let session = tcs::Session::new(Arc::clone(self), authenticator, orchestrator, &handshake, permit)?;
        self.tasks.spawn(session.run(handshake.on_upgrade));
        Ok(())
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.stop.is_cancelled() {
            return Err(Refusal::server("The server is stopping."));
        }
        Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| Refusal::server("Too many agents are connected to this server."))
    }

    /// Makes a line before the orchestrator knows of the session: what it wants sent may come before its answer is seen.
    fn add_line(&self) -> LineEnd {
        let id = SessionId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let (queue_in, queue) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let (close_in, close) = oneshot::channel();
        self.lines().insert(id, Line { queue: queue_in, close: Some(close_in) });
        LineEnd { id, queue, close }
    }

    fn remove_line(&self, id: SessionId) {
        self.lines().remove(&id);
    }

    /// Notes that a session was accepted as this instance's, until the guard is dropped.
    fn belongs(&self, instance: InstanceKey, session: SessionId) -> Belonging<'_> {
        self.of_instances.lock().unwrap_or_else(PoisonError::into_inner).insert((instance, session));
        Belonging { sessions: self, entry: (instance, session) }
    }

    /// Whether an instance has a session, or had one within the hour in which every credential is renewed: else those that its agent
    /// has may be no good any more.
    fn was_here(&self, instance: InstanceKey, now: Instant) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.get(&instance).is_some_and(|left| now - *left < RENEWED_WITHIN) || self.session_of(instance).is_some()
    }

    /// The latest session of an instance.
    fn session_of(&self, instance: InstanceKey) -> Option<SessionId> {
        let all = self.of_instances.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.range((instance, SessionId(0))..=(instance, SessionId(u64::MAX)));
        own.map(|(_, session)| *session).next_back()
    }

    /// Forgets who left long ago.
    fn forget_the_gone(&self, now: Instant) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|_, left| now - *left < RENEWED_WITHIN);
    }

    /// Sends a message that is about no state of the orchestrator. Whether there is a session, and room in its queue: nothing
    /// depends on it but whoever wants it sent, so an agent is not cut off for it.
    pub(crate) fn send(&self, instance: InstanceKey, message: ServerMessage) -> bool {
        let session = self.session_of(instance);
        let lines = self.lines();
        session
            .and_then(|session| lines.get(&session))
            .is_some_and(|line| line.queue.try_send(Box::new(message)).is_ok())
    }

    /// Sends credentials with what needs them from now on.
    pub(crate) fn issue_with(&self, task_roles: Arc<TaskRoles>) {
        let _ = self.task_roles.set(task_roles);
    }

    /// Sends an agent fresh credentials of the tasks that are chosen.
    pub(crate) fn renew_credentials(
        &self,
        orchestrator: &dyn Orchestrator,
        instance: InstanceKey,
        chosen: &dyn Fn(TaskId) -> bool,
    ) {
        let Some(task_roles) = self.task_roles.get() else { return };
        for holder in &orchestrator.role_holders(instance, chosen) {
            self.send(instance, task_roles.renewal(holder, clock::now()));
        }
    }

    /// Renews credentials for as long as the server lives: each task's once an hour, some every minute. The minutes are those of
    /// the clock, so that a server that is started again and again leaves out none of them for good.
    pub(crate) async fn keep_credentials(self: Arc<Self>, orchestrator: Arc<dyn Orchestrator>) {
        let mut minute = tokio::time::interval(RENEWAL_TICK);
        let mut renewed = minute_of(clock::now()) - 1;
        loop {
            tokio::select! {
                _ = minute.tick() => {}
                () = self.stop.cancelled() => return,
            }
            // Two ticks may fall into one minute, and none into the next.
            let now = minute_of(clock::now());
            for minute in renewed.max(now - RENEWAL_SLOTS) + 1..=now {
                self.renew_due(&*orchestrator, minute).await;
            }
            renewed = now;
            self.forget_the_gone(Instant::now());
        }
    }

    /// Renews the credentials whose part of the hour it is; lets others at this thread meanwhile.
    async fn renew_due(&self, orchestrator: &dyn Orchestrator, minute: i64) {
        let slot = minute.rem_euclid(RENEWAL_SLOTS);
        for instance in self.connected_instances() {
            self.renew_credentials(orchestrator, instance, &|task| slot_of(task) == slot);
            tokio::task::yield_now().await;
        }
    }

    fn connected_instances(&self) -> BTreeSet<InstanceKey> {
        let all = self.of_instances.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(instance, _)| *instance).collect()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<SessionId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Within what time every credential is renewed.
const RENEWED_WITHIN: Duration = RENEWAL_TICK.saturating_mul(RENEWAL_SLOTS as u32);

/// Which minute since 1970 it is.
fn minute_of(now: Timestamp) -> i64 {
    now.as_millis().div_euclid(RENEWAL_TICK.as_millis() as i64)
}

/// In which part of the hour a task's credentials are renewed. The end of an id is random.
fn slot_of(task: TaskId) -> i64 {
    (task.0 % RENEWAL_SLOTS as u128) as i64
}

/// A session that was accepted as an instance's.
struct Belonging<'a> {
    sessions: &'a Sessions,
    entry: (InstanceKey, SessionId),
}

impl Drop for Belonging<'_> {
    fn drop(&mut self) {
        self.sessions.of_instances.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.entry);
        let mut left = self.sessions.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.insert(self.entry.0, Instant::now());
    }
}

impl Perform for Sessions {
    /// A session that is gone needs nothing, and one that cannot keep up is closed; both agents come back and are told
    /// everything anew.
    fn perform(&self, delivery: Delivery) {
        match delivery {
            Delivery::Send { session, mut message, .. } => {
                if let Some(task_roles) = self.task_roles.get() {
                    task_roles.complete(&mut message, clock::now());
                }
                let mut lines = self.lines();
                let Some(line) = lines.get_mut(&session) else { return };
                if line.queue.try_send(message).is_err() {
                    line.close(Close::OVERFLOW);
                }
            }
            Delivery::Close { session, reason, .. } => {
                if let Some(line) = self.lines().get_mut(&session) {
                    line.close(match reason {
                        CloseReason::Replaced => Close::REPLACED,
                        CloseReason::Deregistered => Close::DEREGISTERED,
                        CloseReason::Revoked => Close::REVOKED,
                        CloseReason::StateReset => Close::STATE_RESET,
                    });
                }
            }
        }
    }
}

impl Line {
    fn close(&mut self, close: Close) {
        if let Some(sender) = self.close.take() {
            let _ = sender.send(close);
        }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("connected", &self.connected()).finish_non_exhaustive()
    }
}

/// An agent's ear, for tests of what is sent.
#[cfg(test)]
pub(crate) struct Ear(LineEnd);

#[cfg(test)]
impl Ear {
    pub(crate) async fn heard(&mut self) -> Option<ServerMessage> {
        self.0.queue.recv().await.map(|message| *message)
    }
}

#[cfg(test)]
impl Sessions {
    /// A session of an instance, for good.
    pub(crate) fn agent_of(&self, instance: InstanceKey) -> Ear {
        let line = self.add_line();
        std::mem::forget(self.belongs(instance, line.id));
        Ear(line)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{self, BoxFuture, FutureExt as _};
    use longshore_agent_protocol::acs::HeartbeatMessage;
    use longshore_api::{ApiError, admin, ecs};
    use longshore_core::CellConfig;
    use longshore_core::cell::{Command, Reply};
    use longshore_core::identity::Answer;
    use longshore_core::ids::{ClusterId, InstanceId};
    use longshore_core::instance::SessionRefusal;
    use longshore_core::logs::LogSource;
    use longshore_core::read::ReadModel;
    use longshore_core::secret::{self, RoleHolder};
    use tokio::sync::watch;

    use super::*;
    use crate::access_key::ServerKey;

    const INSTANCE: InstanceKey = InstanceKey { cluster: ClusterId(1), id: InstanceId(2) };

    fn send(session: SessionId) -> Delivery {
        let message = Box::new(ServerMessage::Heartbeat(HeartbeatMessage::default()));
        Delivery::Send { instance: INSTANCE, session, message }
    }

    #[test]
    fn what_is_wanted_reaches_its_session_and_no_other() {
        let sessions = Sessions::new(SessionLimits::default());
        let (mut one, mut two) = (sessions.add_line(), sessions.add_line());
        assert_ne!(one.id, two.id);
        sessions.perform(send(two.id));
        assert!(two.queue.try_recv().is_ok() && one.queue.try_recv().is_err());
        sessions.perform(Delivery::Close { instance: INSTANCE, session: one.id, reason: CloseReason::Replaced });
        assert_eq!(one.close.try_recv().unwrap(), Close::REPLACED);
        sessions.remove_line(two.id);
        sessions.perform(send(two.id));
        assert_eq!(sessions.connected(), 1);
    }

    #[test]
    fn a_message_goes_to_the_latest_session_of_its_instance() {
        let sessions = Sessions::new(SessionLimits::default());
        let message = || ServerMessage::Heartbeat(HeartbeatMessage::default());
        assert!(!sessions.send(INSTANCE, message()));
        let (mut one, mut two) = (sessions.add_line(), sessions.add_line());
        // In whichever order they were accepted.
        let later = sessions.belongs(INSTANCE, two.id);
        let earlier = sessions.belongs(INSTANCE, one.id);
        assert!(sessions.send(INSTANCE, message()));
        assert!(two.queue.try_recv().is_ok() && one.queue.try_recv().is_err());
        drop(later);
        assert!(sessions.send(INSTANCE, message()) && one.queue.try_recv().is_ok());
        drop(earlier);
        assert!(!sessions.send(INSTANCE, message()));
    }

    /// Knows which tasks of the one instance have roles, and nothing else.
    struct Holding(Vec<(TaskId, RoleHolder)>);

    impl Orchestrator for Holding {
        fn call(&self, _: Principal, _: ecs::Request) -> BoxFuture<'static, Result<ecs::Response, ApiError>> {
            future::ready(Err(ApiError::server("not here"))).boxed()
        }

        fn administer(&self, _: Principal, _: admin::Request) -> BoxFuture<'static, Result<Answer, ApiError>> {
            future::ready(Err(ApiError::server("not here"))).boxed()
        }

        fn secrets(&self, _: Principal, _: secret::Request) -> BoxFuture<'static, Result<secret::Answer, ApiError>> {
            future::ready(Err(ApiError::server("not here"))).boxed()
        }

        fn secret_name(&self, _: &str) -> Option<Arc<str>> {
            None
        }

        fn role_holders(&self, instance: InstanceKey, chosen: &dyn Fn(TaskId) -> bool) -> Vec<RoleHolder> {
            let own = self.0.iter().filter(|(task, _)| instance == INSTANCE && chosen(*task));
            own.map(|(_, holder)| holder.clone()).collect()
        }

        fn authorise(&self, _: &Principal, _: &ecs::Request) -> Result<(), ApiError> {
            Ok(())
        }

        fn authorise_admin(&self, _: &Principal, _: &admin::Request) -> Result<(), ApiError> {
            Ok(())
        }

        fn log_source(&self, _: &Principal, _: &admin::GetTaskLogsRequest) -> Result<LogSource, ApiError> {
            Err(ApiError::server("not here"))
        }

        fn admit(&self, _: &Principal, _: &str) -> Result<(), SessionRefusal> {
            Ok(())
        }

        fn view(&self) -> Arc<ReadModel> {
            Arc::new(ReadModel::empty(Arc::new(CellConfig::new("us-east-1", "000000000000"))))
        }

        fn publications(&self) -> watch::Receiver<()> {
            watch::Sender::default().subscribe()
        }

        fn command(&self, _: Command) -> BoxFuture<'static, Reply> {
            future::ready(Reply::None).boxed()
        }
    }

    #[tokio::test]
    async fn the_credentials_of_every_task_are_renewed_once_an_hour() {
        let holder = |number: u128| {
            let holder = RoleHolder {
                task_arn: format!("arn:aws:ecs:us-east-1:000000000000:task/default/{number:032x}"),
                cluster_arn: "c".to_owned(),
                role_arn: "arn:aws:iam::000000000000:role/fetch".to_owned(),
            };
            (TaskId(number), holder)
        };
        let holding = Holding((0..600).map(holder).collect());
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::new(SessionLimits::default());
        sessions.issue_with(Arc::new(TaskRoles::new(&ServerKey::load_or_create(dir.path()).unwrap())));
        let mut ear = sessions.agent_of(INSTANCE);
        let mut renewed = BTreeSet::new();
        // Whenever the server was started.
        let start = minute_of(clock::now());
        for minute in start..start + RENEWAL_SLOTS {
            sessions.renew_due(&holding, minute).await;
            let mut of_this_minute = 0;
            while let Ok(message) = ear.0.queue.try_recv() {
                let ServerMessage::IamRoleCredentials(message) = *message else { panic!("{message:?}") };
                assert!(renewed.insert(message.task_arn), "twice in an hour");
                of_this_minute += 1;
            }
            assert!(of_this_minute < 60, "{of_this_minute} at once");
        }
        assert_eq!(renewed.len(), 600);
        // One that has just started is told everything at once.
        sessions.renew_credentials(&holding, INSTANCE, &|_| true);
        assert_eq!(ear.0.queue.len(), 600);
    }

    #[test]
    fn who_was_away_for_long_is_known_to_have_been() {
        let sessions = Sessions::new(SessionLimits::default());
        let now = Instant::now();
        assert!(!sessions.was_here(INSTANCE, now), "after a start of the server nobody was");
        let line = sessions.add_line();
        let belonging = sessions.belongs(INSTANCE, line.id);
        assert!(sessions.was_here(INSTANCE, now + 2 * RENEWED_WITHIN), "it is");
        drop(belonging);
        let (soon, late) = (now + RENEWED_WITHIN / 2, now + 2 * RENEWED_WITHIN);
        sessions.forget_the_gone(soon);
        assert!(sessions.was_here(INSTANCE, soon) && !sessions.was_here(INSTANCE, late));
        sessions.forget_the_gone(late);
        assert!(sessions.left.lock().unwrap().is_empty());
    }

    #[test]
    fn a_session_that_does_not_keep_up_is_closed_and_blocks_nobody() {
        let sessions = Sessions::new(SessionLimits::default());
        let mut slow = sessions.add_line();
        for _ in 0..MAX_QUEUED_MESSAGES {
            sessions.perform(send(slow.id));
        }
        assert!(slow.close.try_recv().is_err());
        sessions.perform(send(slow.id));
        assert_eq!(slow.close.try_recv().unwrap(), Close::OVERFLOW);
    }
}
