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
use longshore_wire::request_id::RequestId;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tracing::{debug, info, warn};

use super::dial::{DialError, Dialled, dial};
use super::{AGENT_HASH, AGENT_VERSION, Endpoints, Identity};
use crate::api_client::{Signer, now};
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
}

impl Timing {
    pub(crate) const fn official() -> Self {
        Self {
            cycle: Duration::from_secs(20),
            silence: (Duration::from_secs(60), Duration::from_secs(60)),
            age: (Duration::from_secs(30 * 60), Duration::from_secs(5 * 60)),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 2.0, 0.2),
        }
    }
}

/// All that dialling and publishing need.
pub(crate) struct Context {
    pub(crate) identity: Arc<Identity>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) signer: Arc<Signer>,
    /// Rung at each ACS heartbeat.
    pub(crate) heartbeat: Arc<Notify>,
    /// Tasks that run or are to run.
    pub(crate) live_tasks: watch::Receiver<usize>,
    pub(crate) runtime: watch::Receiver<RuntimeHealth>,
    /// Publish about resources at all.
    pub(crate) metrics: bool,
    pub(crate) timing: Timing,
}

/// Keeps a session open until dropped.
pub(crate) async fn run(context: Context) {
    let mut backoff = context.timing.backoff.clone();
    loop {
        let began = Instant::now();
        let pause = match connect(&context).await {
            Ok(mut dialled) => {
                let (why, orderly) = publish(&context, &mut dialled).await;
                if began.elapsed() >= GOOD_AFTER {
                    backoff.reset();
                }
                debug!(%why, "TCS session ended");
                if orderly && began.elapsed() >= Duration::from_secs(1) { Duration::ZERO } else { backoff.next() }
            }
            Err(error) => {
                if let DialError::Unreachable { .. } = error {
                    context.endpoints.doubt();
                }
                let pause = backoff.next();
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
    let dialled = dial(endpoint, &parameters, &context.signer).await?;
    info!(endpoint, "TCS session open");
    Ok(dialled)
}

/// Publishes until the session ends; says why it did, and whether to dial again at once.
async fn publish(context: &Context, dialled: &mut Dialled) -> (String, bool) {
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
                Some(Ok(Message::Close(_))) | None => return ("closed".into(), true),
                Some(Ok(_)) => {}
                Some(Err(error)) => return (error.to_string(), true),
            },
            () = context.heartbeat.notified() => heartbeat_seen = true,
            _ = cycle.tick() => {
                for message in due(context, std::mem::take(&mut heartbeat_seen)) {
                    if let Err(why) = send(context, dialled, &message).await {
                        return (why, false);
                    }
                }
            }
            () = sleep_until(silence) => return ("the control plane fell silent".into(), false),
            () = sleep_until(expiry) => {
                let _ = timeout(WRITE_LIMIT, dialled.socket.close(None)).await;
                return ("it was old enough".into(), true);
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
    let added = context.signer.sign("GET", &dialled.target, &headers, body.as_bytes())?;
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
            signer: api.signer().clone(),
            heartbeat: heartbeat.clone(),
            live_tasks,
            runtime,
            metrics: true,
            timing: Timing { cycle: Duration::from_millis(20), ..Timing::official() },
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
