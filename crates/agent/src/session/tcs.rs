//! The TCS session: telemetry out, acknowledgements in.
//!
//! Published are: that the instance is idle, while it is; and the container runtime's state, after each ACS heartbeat.
//! Resource use and container health of running tasks are not measured yet: nothing is published about them rather than
//! something untrue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{HOST, HeaderMap, HeaderValue};
use longshore_agent_protocol::frame::Frame;
use longshore_agent_protocol::tcs::{
    AgentMessage, InstanceStatus, InstanceStatusMetadata, MetricsMetadata, PublishInstanceStatusRequest,
    PublishMetricsRequest, ServerMessage,
};
use longshore_api::Timestamp;
use longshore_client::{Client, now};
use longshore_wire::request_id::RequestId;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tracing::{debug, info, warn};

use super::dial::{DialError, Dialled, dial};
use super::{AGENT_HASH, AGENT_VERSION, Endpoints, Identity};
use crate::backoff::{Backoff, jittered};

const GOOD_AFTER: Duration = Duration::from_secs(60);
const WRITE_LIMIT: Duration = Duration::from_secs(180);

/// How the container runtime is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuntimeHealth {
    pub(crate) status: RuntimeStatus,
    /// When it changed.
    pub(crate) since: Timestamp,
    pub(crate) reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuntimeStatus {
    Initializing,
    Ok,
    Impaired,
}

/// The clocks of a session; tests turn them faster.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// Between publications.
    pub(crate) cycle: Duration,
    /// Silence after which we hang up, and how much more at most.
    pub(crate) silence: (Duration, Duration),
    /// Age at which we hang up, and how much more at most.
    pub(crate) age: (Duration, Duration),
    /// Between dials.
    pub(crate) backoff: Backoff,
    /// Between dials while our key is not accepted, or the instance is inactive: the ACS session says so.
    pub(crate) denied: Backoff,
    /// At most, before dialling again after the server closed the session.
    pub(crate) spread: Duration,
}

impl Timing {
    /// The official agent's figures, but for the pauses while the server is away: those are shorter.
    pub(crate) const fn usual() -> Self {
        Self {
            cycle: Duration::from_secs(20),
            silence: (Duration::from_secs(60), Duration::from_secs(60)),
            age: (Duration::from_secs(30 * 60), Duration::from_secs(5 * 60)),
            backoff: Backoff::while_away(),
            denied: Backoff::while_denied(),
            spread: Duration::from_secs(1),
        }
    }
}

/// All that dialling and publishing need.
pub(crate) struct Context {
    pub(crate) identity: Arc<Identity>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) api: Client,
    /// Rung at each ACS heartbeat.
    pub(crate) heartbeat: Arc<Notify>,
    /// Tasks that run or are to run.
    pub(crate) live_tasks: watch::Receiver<usize>,
    pub(crate) runtime: watch::Receiver<RuntimeHealth>,
    /// Publish about resources at all.
    pub(crate) metrics: bool,
    pub(crate) timing: Timing,
}

/// How a session ended.
enum End {
    /// We closed it, because it was old.
    Expired,
    /// The server closed it, or is gone.
    Orderly(String),
    /// Otherwise.
    Broken(String),
}

/// Keeps a session open until dropped.
pub(crate) async fn run(context: Context) {
    let timing = &context.timing;
    let (mut away, mut denied) = (timing.backoff.clone(), timing.denied.clone());
    loop {
        let began = Instant::now();
        let pause = match connect(&context).await {
            Ok(mut dialled) => {
                denied.reset();
                let end = publish(&context, &mut dialled).await;
                let lived = began.elapsed();
                if lived >= GOOD_AFTER {
                    away.reset();
                }
                match end {
                    End::Expired => Duration::ZERO,
                    End::Orderly(why) if lived >= Duration::from_secs(1) => {
                        debug!(%why, "TCS session ended, dialling again");
                        jittered(Duration::ZERO, timing.spread)
                    }
                    End::Orderly(why) | End::Broken(why) => {
                        debug!(%why, "TCS session ended");
                        away.next()
                    }
                }
            }
            Err(error) => {
                if let DialError::Unreachable { .. } = error {
                    context.endpoints.doubt();
                }
                let hopeless = error.is_denied() || error.is_inactive_instance();
                let pause = if hopeless { denied.next() } else { away.next() };
                debug!(%error, ?pause, "cannot open the TCS session");
                pause
            }
        };
        sleep(pause).await;
    }
}

async fn connect(context: &Context) -> Result<Dialled, DialError> {
    let endpoints = context.endpoints.discover().await?;
    let identity = &context.identity;
    // Other names than those of the ACS session, and the bare version: so the protocol has it.
    let parameters = BTreeMap::from([
        ("agentHash", AGENT_HASH),
        ("agentVersion", AGENT_VERSION),
        ("cluster", &identity.cluster),
        ("containerInstance", &identity.instance_arn),
        ("dockerVersion", &identity.docker_version),
    ]);
    let endpoint = endpoints.telemetry_endpoint.as_deref().unwrap_or_default();
    let dialled = dial(endpoint, &parameters, &context.api).await?;
    info!(endpoint, "TCS session open");
    Ok(dialled)
}

/// Publishes until the session ends.
async fn publish(context: &Context, dialled: &mut Dialled) -> End {
    let timing = &context.timing;
    let expiry = Instant::now() + jittered(timing.age.0, timing.age.1);
    let mut silence = Instant::now() + jittered(timing.silence.0, timing.silence.1);
    let mut cycle = interval(timing.cycle);
    cycle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heartbeat_seen = false;
    loop {
        tokio::select! {
            frame = dialled.socket.next() => match frame {
                Some(Ok(Message::Text(text))) => match ServerMessage::decode(&text) {
                    Ok(Some(_)) => silence = Instant::now() + jittered(timing.silence.0, timing.silence.1),
                    Ok(None) => debug!("a telemetry message of an unknown type was ignored"),
                    Err(error) => warn!(%error, "a telemetry message cannot be read"),
                },
                Some(Ok(Message::Close(_))) | None => return End::Orderly("closed".into()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return End::Orderly(error.to_string()),
            },
            () = context.heartbeat.notified() => heartbeat_seen = true,
            _ = cycle.tick() => {
                for message in due(context, std::mem::take(&mut heartbeat_seen)) {
                    if let Err(why) = send(context, dialled, &message).await {
                        return End::Broken(why);
                    }
                }
            }
            () = sleep_until(silence) => return End::Broken("the control plane fell silent".into()),
            () = sleep_until(expiry) => {
                let _ = timeout(WRITE_LIMIT, dialled.socket.close(None)).await;
                return End::Expired;
            }
        }
    }
}

/// What this cycle has to say.
fn due(context: &Context, heartbeat_seen: bool) -> Vec<AgentMessage> {
    let identity = &context.identity;
    let mut messages = Vec::new();
    if context.metrics && *context.live_tasks.borrow() == 0 {
        messages.push(AgentMessage::Metrics(PublishMetricsRequest {
            metadata: Some(MetricsMetadata {
                cluster: identity.cluster.clone(),
                container_instance: identity.instance_arn.clone(),
                message_id: RequestId::random().to_string(),
                fin: true,
                idle: true,
            }),
            task_metrics: Vec::new(),
            timestamp: Some(now()),
        }));
    }
    if heartbeat_seen {
        let health = context.runtime.borrow().clone();
        let status = match health.status {
            RuntimeStatus::Initializing => "INITIALIZING",
            RuntimeStatus::Ok => "OK",
            RuntimeStatus::Impaired => "IMPAIRED",
        };
        messages.push(AgentMessage::InstanceStatus(PublishInstanceStatusRequest {
            metadata: Some(InstanceStatusMetadata {
                cluster: identity.cluster.clone(),
                container_instance: identity.instance_arn.clone(),
                request_id: RequestId::random().to_string(),
            }),
            statuses: vec![InstanceStatus {
                check_type: "ContainerRuntime".into(),
                status: status.into(),
                last_status_change: Some(health.since),
                last_updated: Some(now()),
                status_reason: health.reason,
            }],
            timestamp: Some(now()),
        }));
    }
    messages
}

/// Sends one message in its signed frame.
async fn send(context: &Context, dialled: &mut Dialled, message: &AgentMessage) -> Result<(), String> {
    let body = message.encode();
    let host = HeaderValue::try_from(&dialled.authority).map_err(|error| error.to_string())?;
    let headers = HeaderMap::from_iter([(HOST, host)]);
    let added = context.api.signer().sign("GET", &dialled.target, &headers, body.as_bytes())?;
    let mut block = vec![("Host".to_owned(), dialled.authority.clone())];
    for (name, value) in added {
        let value = value.to_str().map_err(|error| error.to_string())?;
        let name = match name.as_str() {
            "authorization" => "Authorization",
            "x-amz-date" => "X-Amz-Date",
            _ => "X-Amz-Security-Token",
        };
        block.push((name.to_owned(), value.to_owned()));
    }
    block.sort_unstable();
    let frame = Frame { headers: block, body };
    match timeout(WRITE_LIMIT, dialled.socket.send(Message::text(frame.encode()))).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("the control plane takes nothing".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fake_server::{FakeServer, TestKey};
    use longshore_wire::sigv4;

    #[tokio::test]
    async fn publishes_idleness_and_runtime_state_in_signed_frames() {
        let mut server = FakeServer::with_endpoints().await;
        let identity =
            Arc::new(Identity { cluster: "c".into(), instance_arn: "arn:i".into(), docker_version: "20.10.24".into() });
        let api = server.client();
        let heartbeat = Arc::new(Notify::new());
        let (live, live_tasks) = watch::channel(0);
        let (_runtime, runtime) = watch::channel(RuntimeHealth {
            status: RuntimeStatus::Impaired,
            since: now(),
            reason: Some("gone".into()),
        });
        let context = Context {
            endpoints: Arc::new(Endpoints::new(api.clone(), identity.clone())),
            identity,
            api,
            heartbeat: heartbeat.clone(),
            live_tasks,
            runtime,
            metrics: true,
            timing: Timing { cycle: Duration::from_millis(20), ..Timing::usual() },
        };
        let agent = tokio::spawn(run(context));
        let mut session = server.session("/tcs/").await;
        assert!(session.target.starts_with("/tcs/ws?agentHash="));
        assert!(session.target.ends_with("&cluster=c&containerInstance=arn%3Ai&dockerVersion=20.10.24"));

        let frame = Frame::decode(&session.text().await.unwrap()).unwrap();
        verify(&session.target, &frame);
        let Ok(Some(AgentMessage::Metrics(metrics))) = AgentMessage::decode(&frame.body) else {
            panic!("no metrics: {}", frame.body);
        };
        assert!(metrics.metadata.unwrap().idle && metrics.task_metrics.is_empty());

        live.send_replace(1);
        heartbeat.notify_one();
        let status = loop {
            let frame = Frame::decode(&session.text().await.unwrap()).unwrap();
            if let Ok(Some(AgentMessage::InstanceStatus(status))) = AgentMessage::decode(&frame.body) {
                break status;
            }
        };
        assert_eq!(status.statuses[0].status, "IMPAIRED");
        assert_eq!(status.statuses[0].status_reason.as_deref(), Some("gone"));
        agent.abort();
    }

    /// The frame's signature covers its JSON, under the handshake's URL.
    fn verify(target: &str, frame: &Frame) {
        let mut request = http::Request::get(target);
        for (name, value) in &frame.headers {
            request = request.header(name, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        sigv4::Verifier::new("us-east-1", "ecs")
            .verify(&sigv4::Request::new(&head, frame.body.as_bytes()), &TestKey, now())
            .unwrap();
    }
}
