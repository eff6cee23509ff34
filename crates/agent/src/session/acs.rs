//! The ACS session: orders in, acknowledgements out.
//!
//! [`run`] dials, serves, hangs up and dials again until it is dropped. What arrives goes to the instance's loop with the
//! session's number; an order of a session that is over is not obeyed, and an answer to it is not sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use longshore_agent_protocol::DecodeError;
use longshore_agent_protocol::acs::{
    AgentMessage, HeartbeatAckRequest, NackRequest, PayloadMessage, ReadTaskLogsMessage, ServerMessage, UpdateMessage,
};
use longshore_client::{Client, Stream};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::{debug, info, warn};

use super::dial::{DialError, dial};
use super::{AGENT_HASH, AGENT_VERSION, Endpoints, Identity};
use crate::backoff::{Backoff, jittered};
use crate::roles::ExecutionRoles;

/// Answers that may wait for the socket. The engine answers each message at most a few times.
const OUTGOING: usize = 256;
/// A session that lived this long was a good one: the next dial starts with the shortest pause.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// The clocks of a session; tests turn them faster.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// Silence after which we hang up, and how much more at most.
    pub(crate) silence: (Duration, Duration),
    /// Age at which we hang up, and how much more at most.
    pub(crate) age: (Duration, Duration),
    /// For one frame to leave.
    pub(crate) write: Duration,
    /// Between dials.
    pub(crate) backoff: Backoff,
    /// Between dials while our key is not accepted.
    pub(crate) denied: Backoff,
    /// At most, before dialling again after the server closed the session: it did the same to all other agents.
    pub(crate) spread: Duration,
    /// After being told that the instance is inactive.
    pub(crate) inactive: Duration,
}

impl Timing {
    /// The official agent's figures, but for the pauses while the server is away: those are shorter.
    pub(crate) const fn usual() -> Self {
        Self {
            silence: (Duration::from_secs(60), Duration::from_secs(60)),
            age: (Duration::from_secs(30 * 60), Duration::from_secs(5 * 60)),
            write: Duration::from_secs(3 * 60),
            backoff: Backoff::while_away(),
            denied: Backoff::while_denied(),
            spread: Duration::from_secs(1),
            inactive: Duration::from_secs(3600),
        }
    }
}

/// Which session is the current one, and what came of sessions so far.
#[derive(Default)]
pub(crate) struct CurrentSession {
    /// Zero is none.
    number: AtomicU64,
    /// Credentials or a manifest got through.
    heard: AtomicBool,
}

impl CurrentSession {
    #[cfg(test)]
    pub(crate) fn numbered(session: u64) -> Arc<Self> {
        Arc::new(Self { number: AtomicU64::new(session), heard: AtomicBool::default() })
    }

    pub(crate) fn is(&self, session: u64) -> bool {
        self.number.load(Ordering::Acquire) == session
    }

    /// The instance's loop has taken what a session begins with, rather than dropped it with a session that broke.
    pub(crate) fn was_heard(&self) {
        self.heard.store(true, Ordering::Release);
    }
}

/// What the instance's loop learns.
#[derive(Debug)]
pub(crate) enum Event {
    /// A session began; answers to its messages go to `outgoing`.
    Opened { outgoing: mpsc::Sender<AgentMessage> },
    /// A message came.
    Message { session: u64, message: Box<ServerMessage> },
    /// The session is over.
    Closed,
    /// The control plane says the instance was deregistered.
    Deregistered,
}

/// All that dialling and serving need.
pub(crate) struct Context {
    pub(crate) identity: Arc<Identity>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) api: Client,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) current: Arc<CurrentSession>,
    /// Whose credentials are there.
    pub(crate) roles: Arc<ExecutionRoles>,
    /// Rung at each heartbeat: time to look after one's own health.
    pub(crate) heartbeat: Arc<Notify>,
    /// Requests for what containers printed.
    pub(crate) logs: mpsc::Sender<ReadTaskLogsMessage>,
    pub(crate) timing: Timing,
}

/// How a session ended.
enum End {
    /// We closed it, because it was old: dial again at once.
    Expired,
    /// The server closed it in an orderly way, or is gone: dial again soon.
    Orderly(String),
    /// Otherwise: pause first.
    Broken(String),
    /// The instance's loop is gone.
    Leaving,
}

/// Keeps a session open until dropped or until nobody reads the events.
pub(crate) async fn run(context: Context) {
    let timing = &context.timing;
    let mut pauses = Pauses { away: timing.backoff.clone(), denied: timing.denied.clone() };
    let mut number = 0;
    loop {
        // "Send me credentials" is for a process that has none, or too few.
        let lacks_credentials = !context.current.heard.load(Ordering::Acquire) || context.roles.are_missed();
        let pause = match connect(&context, lacks_credentials).await {
            Ok(mut socket) => {
                number += 1;
                let began = Instant::now();
                let end = session(&context, number, &mut socket).await;
                match pauses.after(&context, end, began.elapsed()) {
                    Some(pause) => pause,
                    None => return,
                }
            }
            Err(error) => match pauses.after_failure(&context, &error).await {
                Some(pause) => pause,
                None => return,
            },
        };
        sleep(pause).await;
    }
}

/// The message in a frame. Of a payload with tasks that cannot be read, the others are carried out.
fn read(text: &str) -> Result<Option<ServerMessage>, DecodeError> {
    ServerMessage::decode(text).or_else(|error| {
        let payload = PayloadMessage::salvage(text).ok_or(error)?;
        for (task, why) in payload.tasks.iter().filter_map(|task| Some((&task.arn, task.unreadable.as_ref()?))) {
            warn!(task, why, "a task of a payload cannot be read");
        }
        Ok(Some(ServerMessage::Payload(payload)))
    })
}

/// How long to wait before the next dial.
struct Pauses {
    away: Backoff,
    denied: Backoff,
}

impl Pauses {
    /// After a session; `None` when nobody is interested any more.
    fn after(&mut self, context: &Context, end: End, lived: Duration) -> Option<Duration> {
        self.denied.reset();
        if lived >= GOOD_AFTER {
            self.away.reset();
        }
        match end {
            End::Leaving => None,
            End::Expired => Some(Duration::ZERO),
            // One that ends as soon as it begins is treated like a refusal, or both sides would spin.
            End::Orderly(why) if lived >= Duration::from_secs(1) => {
                info!(%why, "ACS session ended, dialling again");
                self.away.reset();
                Some(jittered(Duration::ZERO, context.timing.spread))
            }
            End::Orderly(why) | End::Broken(why) => {
                let pause = self.away.next();
                warn!(%why, ?pause, "ACS session ended");
                Some(pause)
            }
        }
    }

    /// After a dial that failed; `None` when nobody is interested any more.
    async fn after_failure(&mut self, context: &Context, error: &DialError) -> Option<Duration> {
        let instance = &context.identity.instance_arn;
        if error.is_inactive_instance() {
            let pause = context.timing.inactive;
            warn!(
                instance,
                ?pause,
                "this container instance was deregistered: its agent has nothing to do. To register anew, stop the agent, delete agent.redb in ECS_DATADIR, and start it again"
            );
            return context.events.send(Event::Deregistered).await.is_ok().then_some(pause);
        }
        if error.is_denied() {
            let pause = self.denied.next();
            warn!(
                instance,
                %error,
                ?pause,
                "the server does not accept this machine's access key for this instance: if it was revoked, delete identity.json and agent.redb in ECS_DATADIR and join again"
            );
            return Some(pause);
        }
        if let DialError::Refused { clock_corrected: true, .. } = error {
            return Some(Duration::ZERO);
        }
        if let DialError::Unreachable { .. } = error {
            context.endpoints.doubt();
        }
        let pause = self.away.next();
        warn!(%error, ?pause, "cannot open the ACS session");
        Some(pause)
    }
}

async fn connect(context: &Context, lacks_credentials: bool) -> Result<WebSocketStream<Stream>, DialError> {
    let endpoints = context.endpoints.discover().await?;
    let docker_version = format!("DockerVersion: {}", context.identity.docker_version);
    let parameters = BTreeMap::from([
        ("agentHash", AGENT_HASH),
        ("agentVersion", AGENT_VERSION),
        ("clusterArn", &context.identity.cluster),
        ("containerInstanceArn", &context.identity.instance_arn),
        ("dockerVersion", &docker_version),
        ("protocolVersion", "2"),
        ("sendCredentials", if lacks_credentials { "true" } else { "false" }),
        ("seqNum", "1"),
    ]);
    let endpoint = endpoints.endpoint.as_deref().unwrap_or_default();
    let dialled = dial(endpoint, &parameters, &context.api).await?;
    info!(endpoint, "ACS session open");
    Ok(dialled.socket)
}

async fn session(context: &Context, number: u64, socket: &mut WebSocketStream<Stream>) -> End {
    let (outgoing, answers) = mpsc::channel(OUTGOING);
    context.current.number.store(number, Ordering::Release);
    let end = if context.events.send(Event::Opened { outgoing }).await.is_err() {
        End::Leaving
    } else {
        serve(context, number, socket, answers).await
    };
    context.current.number.store(0, Ordering::Release);
    if context.events.send(Event::Closed).await.is_err() {
        return End::Leaving;
    }
    end
}

async fn serve(
    context: &Context,
    number: u64,
    socket: &mut WebSocketStream<Stream>,
    mut answers: mpsc::Receiver<AgentMessage>,
) -> End {
    let timing = &context.timing;
    let expiry = Instant::now() + jittered(timing.age.0, timing.age.1);
    let mut silence = Instant::now() + jittered(timing.silence.0, timing.silence.1);
    loop {
        tokio::select! {
            frame = socket.next() => {
                let text = match frame {
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Close(frame))) => return end_of(frame),
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return end_of_error(&error),
                    None => return End::Orderly("the connection was closed".into()),
                };
                match read(&text) {
                    Ok(Some(message)) => {
                        silence = Instant::now() + jittered(timing.silence.0, timing.silence.1);
                        if let Some(end) = take(context, number, socket, message).await {
                            return end;
                        }
                    }
                    Ok(None) => debug!("a message of an unknown type was ignored"),
                    Err(error) => warn!(%error, "an ACS message cannot be read"),
                }
            }
            Some(answer) = answers.recv() => {
                if let Some(end) = send(timing, socket, &answer).await {
                    return end;
                }
            }
            () = sleep_until(silence) => return End::Broken("the control plane fell silent".into()),
            () = sleep_until(expiry) => {
                let frame = CloseFrame {
                    code: CloseCode::Normal,
                    reason: "ConnectionExpired: Reconnect to continue".into(),
                };
                let _ = timeout(timing.write, socket.close(Some(frame))).await;
                debug!("the ACS session was old enough");
                return End::Expired;
            }
        }
    }
}

/// Passes a message on, or answers it where the answer is always the same.
async fn take(
    context: &Context,
    number: u64,
    socket: &mut WebSocketStream<Stream>,
    message: ServerMessage,
) -> Option<End> {
    let answer = match message {
        ServerMessage::Heartbeat(heartbeat) => {
            context.heartbeat.notify_one();
            AgentMessage::HeartbeatAck(HeartbeatAckRequest { message_id: heartbeat.message_id })
        }
        ServerMessage::ReadTaskLogs(request) => {
            // It is no order: one that finds no room is not answered, and whoever wants to know asks again.
            if context.logs.try_send(request).is_err() {
                debug!("too many requests for logs are waiting; one was dropped");
            }
            return None;
        }
        ServerMessage::StageUpdate(update) | ServerMessage::PerformUpdate(update) => {
            AgentMessage::Nack(no_updates(context, update))
        }
        message => {
            let event = Event::Message { session: number, message: Box::new(message) };
            return context.events.send(event).await.is_err().then_some(End::Leaving);
        }
    };
    send(&context.timing, socket, &answer).await
}

fn no_updates(context: &Context, update: UpdateMessage) -> NackRequest {
    NackRequest {
        cluster: update.cluster_arn,
        container_instance: context.identity.instance_arn.clone(),
        message_id: update.message_id,
        reason: "Updates are disabled".into(),
    }
}

async fn send(timing: &Timing, socket: &mut WebSocketStream<Stream>, message: &AgentMessage) -> Option<End> {
    match timeout(timing.write, socket.send(Message::text(message.encode()))).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(end_of_error(&error)),
        Err(_) => Some(End::Broken("the control plane takes nothing".into())),
    }
}

/// Codes with which a server says "come again"; any other is a reason to pause.
fn end_of(frame: Option<CloseFrame>) -> End {
    match frame {
        None => End::Orderly("closed without a code".into()),
        Some(frame) => {
            let why = format!("closed with {}: {}", u16::from(frame.code), frame.reason);
            match u16::from(frame.code) {
                1000 | 1001 | 1005 | 1006 | 1011 => End::Orderly(why),
                _ => End::Broken(why),
            }
        }
    }
}

fn end_of_error(error: &WsError) -> End {
    let why = error.to_string();
    match error {
        // A vanished peer is an end of file in the protocol's eyes, 1006.
        WsError::ConnectionClosed | WsError::AlreadyClosed | WsError::Io(_) => End::Orderly(why),
        WsError::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            End::Orderly(why)
        }
        _ => End::Broken(why),
    }
}

#[cfg(test)]
mod tests {
    use longshore_agent_protocol::acs::{HeartbeatMessage, PayloadMessage};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::session::fake_server::{FakeServer, Session};

    struct Agent {
        events: mpsc::Receiver<Event>,
        current: Arc<CurrentSession>,
        roles: Arc<ExecutionRoles>,
        heartbeat: Arc<Notify>,
        logs: mpsc::Receiver<ReadTaskLogsMessage>,
        task: JoinHandle<()>,
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn fast() -> Timing {
        let pause = Duration::from_millis(5);
        Timing { backoff: Backoff::new(pause, pause, 1.0, 0.0), spread: pause, ..Timing::usual() }
    }

    fn start(server: &FakeServer, timing: Timing) -> Agent {
        let identity = Arc::new(Identity {
            cluster: "c".into(),
            instance_arn: "arn:aws:ecs:r:1:container-instance/c/i".into(),
            docker_version: "20.10.24".into(),
        });
        let api = server.client();
        let (sender, events) = mpsc::channel(16);
        let current = Arc::new(CurrentSession::default());
        let roles = Arc::<ExecutionRoles>::default();
        let heartbeat = Arc::new(Notify::new());
        let (log_requests, logs) = mpsc::channel(1);
        let context = Context {
            endpoints: Arc::new(Endpoints::new(api.clone(), identity.clone())),
            identity,
            api,
            events: sender,
            current: current.clone(),
            roles: roles.clone(),
            heartbeat: heartbeat.clone(),
            logs: log_requests,
            timing,
        };
        Agent { events, current, roles, heartbeat, logs, task: tokio::spawn(run(context)) }
    }

    async fn opened(agent: &mut Agent) -> mpsc::Sender<AgentMessage> {
        loop {
            if let Event::Opened { outgoing } = agent.events.recv().await.unwrap() {
                return outgoing;
            }
        }
    }

    fn heartbeat(id: &str) -> ServerMessage {
        ServerMessage::Heartbeat(HeartbeatMessage { message_id: id.into(), healthy: true })
    }

    async fn answers_heartbeat(session: &mut Session) {
        session.send(&heartbeat("h")).await;
        let expected = AgentMessage::HeartbeatAck(HeartbeatAckRequest { message_id: "h".into() });
        assert_eq!(session.receive().await, expected);
    }

    #[tokio::test]
    async fn dials_as_the_protocol_has_it_and_answers_heartbeats() {
        let mut server = FakeServer::with_endpoints().await;
        let mut agent = start(&server, fast());
        let mut session = server.session("/acs/").await;
        assert_eq!(
            session.target,
            format!(
                "/acs/ws?agentHash=00000000&agentVersion={AGENT_VERSION}&clusterArn=c\
                 &containerInstanceArn=arn%3Aaws%3Aecs%3Ar%3A1%3Acontainer-instance%2Fc%2Fi\
                 &dockerVersion=DockerVersion%3A+20.10.24&protocolVersion=2&sendCredentials=true&seqNum=1"
            )
        );
        opened(&mut agent).await;
        answers_heartbeat(&mut session).await;
        agent.heartbeat.notified().await;
    }

    #[tokio::test]
    async fn dials_with_tls_where_the_server_says_so() {
        let mut server = FakeServer::with_tls_endpoints().await;
        let mut agent = start(&server, fast());
        let mut session = server.session("/acs/").await;
        opened(&mut agent).await;
        answers_heartbeat(&mut session).await;
    }

    #[tokio::test]
    async fn a_key_that_is_not_accepted_is_tried_at_its_own_pace() {
        let mut server = FakeServer::with_endpoints().await;
        for _ in 0..3 {
            server.refuse_session(403, r#"{"AccessDeniedException":"not you"}"#);
        }
        let mut timing = fast();
        timing.backoff = Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600), 1.0, 0.0);
        timing.denied = Backoff::new(Duration::from_millis(5), Duration::from_millis(5), 1.0, 0.0);
        let mut agent = start(&server, timing);
        server.session("/acs/").await;
        opened(&mut agent).await;
    }

    #[tokio::test]
    async fn passes_orders_on_and_answers_back_and_refuses_updates() {
        let mut server = FakeServer::with_endpoints().await;
        let mut agent = start(&server, fast());
        let mut session = server.session("/acs/").await;
        let outgoing = opened(&mut agent).await;

        session.send_text(r#"{"type":"Unheard","message":{}}"#).await;
        session.send_text("not JSON").await;
        let payload = ServerMessage::Payload(PayloadMessage { message_id: "p".into(), ..PayloadMessage::default() });
        session.send(&payload).await;
        let Some(Event::Message { session: 1, message }) = agent.events.recv().await else {
            panic!("no message of the first session");
        };
        assert_eq!(*message, payload);

        let nack = AgentMessage::Nack(NackRequest::default());
        outgoing.send(nack.clone()).await.unwrap();
        assert_eq!(session.receive().await, nack);
        session.send_text(r#"{"type":"PerformUpdateMessage","message":{"messageId":"u","clusterArn":"C"}}"#).await;
        let AgentMessage::Nack(nack) = session.receive().await else {
            panic!("updates are not refused");
        };
        assert_eq!((nack.message_id.as_str(), nack.cluster.as_str()), ("u", "C"));
    }

    #[tokio::test]
    async fn requests_for_logs_pass_the_engine_by_and_never_hold_the_session_up() {
        let mut server = FakeServer::with_endpoints().await;
        let mut agent = start(&server, fast());
        let mut session = server.session("/acs/").await;
        opened(&mut agent).await;
        for id in ["one", "two", "three"] {
            let request = ReadTaskLogsMessage { message_id: id.into(), ..ReadTaskLogsMessage::default() };
            session.send(&ServerMessage::ReadTaskLogs(request)).await;
        }
        answers_heartbeat(&mut session).await;
        assert_eq!(agent.logs.recv().await.unwrap().message_id, "one");
        assert!(agent.logs.try_recv().is_err() && agent.events.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_lost_session_is_replaced_and_no_longer_current() {
        let mut server = FakeServer::with_endpoints().await;
        let mut agent = start(&server, fast());
        let first = server.session("/acs/").await;
        let outgoing = opened(&mut agent).await;
        assert!(agent.current.is(1));
        drop(first);
        let mut second = server.session("/acs/").await;
        assert!(matches!(agent.events.recv().await, Some(Event::Closed)));
        opened(&mut agent).await;
        assert!(agent.current.is(2) && outgoing.is_closed());
        answers_heartbeat(&mut second).await;
    }

    #[tokio::test]
    async fn credentials_are_asked_for_until_they_got_through_and_while_a_task_misses_some() {
        let mut server = FakeServer::with_endpoints().await;
        let agent = start(&server, fast());
        let mut asks = async |expected: bool| {
            let session = server.session("/acs/").await;
            assert!(session.target.contains(&format!("sendCredentials={expected}")), "{}", session.target);
            session
        };
        let first = asks(true).await;
        drop(first);
        // Whatever the first session brought was lost with it.
        let second = asks(true).await;
        agent.current.was_heard();
        drop(second);
        let third = asks(false).await;
        agent.roles.miss("task");
        drop(third);
        asks(true).await;
    }

    #[tokio::test]
    async fn silence_ends_a_session() {
        let mut server = FakeServer::with_endpoints().await;
        let short = (Duration::from_millis(50), Duration::ZERO);
        let mut timing = fast();
        timing.silence = short;
        let _agent = start(&server, timing);
        let mut first = server.session("/acs/").await;
        assert_eq!(first.text().await, None);
        server.session("/acs/").await;
    }

    #[tokio::test]
    async fn age_ends_a_session_in_good_order() {
        let mut server = FakeServer::with_endpoints().await;
        let mut timing = fast();
        timing.age = (Duration::from_millis(50), Duration::ZERO);
        let _agent = start(&server, timing);
        let mut first = server.session("/acs/").await;
        let frame = first.socket.recv().await.unwrap().unwrap();
        let axum::extract::ws::Message::Close(Some(frame)) = frame else {
            panic!("not closed in order: {frame:?}");
        };
        assert_eq!(frame.code, 1000);
        server.session("/acs/").await;
    }

    #[tokio::test]
    async fn a_deregistered_instance_says_so_and_waits_long() {
        let mut server = FakeServer::with_endpoints().await;
        server.refuse_session(400, r#"{"InactiveInstanceException":"gone"}"#);
        let mut agent = start(&server, fast());
        assert!(matches!(agent.events.recv().await, Some(Event::Deregistered)));
        let soon = timeout(Duration::from_millis(100), server.session("/acs/")).await;
        assert!(soon.is_err());
    }

    #[tokio::test]
    async fn any_other_refusal_is_followed_by_another_dial() {
        let mut server = FakeServer::with_endpoints().await;
        server.refuse_session(400, r#"{"InvalidClusterException":"no"}"#);
        server.refuse_session(502, "<html>");
        let _agent = start(&server, fast());
        server.session("/acs/").await;
    }

    #[tokio::test]
    async fn a_wrong_clock_is_corrected() {
        let mut server = FakeServer::with_endpoints().await;
        server.set_clock_ahead_ms(3_600_000);
        let _agent = start(&server, Timing::usual());
        server.session("/acs/").await;
        assert!(server.call("DiscoverPollEndpoint").await["cluster"] == "c");
    }
}
