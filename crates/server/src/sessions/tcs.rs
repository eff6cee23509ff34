//! One TCS session: every publication is verified, counted and acknowledged; how the instance is, the cell is told.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::OnUpgrade;
use longshore_agent_protocol::frame::Frame;
use longshore_agent_protocol::tcs::{
    AckPublishHealth, AckPublishInstanceStatus, AckPublishMetric, AgentMessage, HeartbeatMessage, InstanceStatus,
    ServerMessage,
};
use longshore_core::Principal;
use longshore_core::cell::Command;
use longshore_wire::sigv4;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::acs::check_cluster;
use super::socket::{self, Close, End, Heard, Reader, Writer};
use super::status::StatusNews;
use super::{Handshake, Refusal, Sessions};
use crate::auth::Authenticator;
use crate::clock;
use crate::limits::{MAX_INSTANCE_STATUS_BYTES, MAX_TCS_FRAME_BYTES};
use crate::orchestrator::Orchestrator;

/// The text of an acknowledgement. Agents read nothing but the type.
const RECEIVED: &str = "received";

/// A session whose handshake was accepted.
pub(super) struct Session {
    sessions: Arc<Sessions>,
    authenticator: Arc<Authenticator>,
    orchestrator: Arc<dyn Orchestrator>,
    principal: Principal,
    instance_arn: String,
    /// The URL of the handshake, which the signature of every frame covers.
    path: String,
    query: String,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        authenticator: Arc<Authenticator>,
        orchestrator: Arc<dyn Orchestrator>,
        handshake: &Handshake,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, Refusal> {
        let instance_arn = handshake.required("containerInstance")?;
        check_cluster(&handshake.required("cluster")?, &instance_arn)?;
        orchestrator.admit(&handshake.principal, &instance_arn).map_err(Refusal::of)?;
        Ok(Self {
            sessions,
            authenticator,
            orchestrator,
            principal: handshake.principal.clone(),
            instance_arn,
            path: handshake.path.clone(),
            query: handshake.query.clone(),
            _permit: permit,
        })
    }

    pub(super) async fn run(self, on_upgrade: OnUpgrade) {
        let Some((mut reader, mut writer)) = socket::open(on_upgrade, MAX_TCS_FRAME_BYTES).await else {
            return;
        };
        let end = self.converse(&mut reader, &mut writer).await;
        self.sessions.telemetry.forget(&self.instance_arn);
        tracing::debug!(instance = ?self.instance_arn, reason = end.reason(), "telemetry session ended");
        socket::finish(reader, writer, end).await;
    }

    async fn converse(&self, reader: &mut Reader, writer: &mut Writer) -> End {
        let limits = &self.sessions.limits;
        let mut heartbeat = interval_at(Instant::now() + limits.heartbeat_every, limits.heartbeat_every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_from = Instant::now();
        let mut news = StatusNews::default();
        loop {
            let step = tokio::select! {
                biased;
                () = self.sessions.stop.cancelled() => Err(End::Ours(Close::STOPPING)),
                // Before anything more is heard: an agent that never pauses is told of all the same.
                () = news.due() => {
                    if let Some(statuses) = news.take(Instant::now()) {
                        self.tell(statuses).await;
                    }
                    Ok(())
                }
                heard = reader.next() => match heard {
                    Ok(heard) => {
                        silent_from = Instant::now();
                        self.hear(heard, &mut news, writer).await
                    }
                    Err(end) => Err(end),
                },
                _ = heartbeat.tick() => match self.may_stay() {
                    Ok(()) => beat(writer).await,
                    Err(end) => Err(end),
                },
                () = sleep_until(silent_from + limits.silence) => Err(End::Ours(Close::SILENT)),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Whether the instance is still this key's. Nobody tells a telemetry session that its key was revoked or its instance is
    /// gone: it asks.
    fn may_stay(&self) -> Result<(), End> {
        self.orchestrator.admit(&self.principal, &self.instance_arn).map_err(|_| End::Ours(Close::NOT_ADMITTED))
    }

    async fn hear(&self, heard: Heard, news: &mut StatusNews, writer: &mut Writer) -> Result<(), End> {
        let Heard::Text(text) = heard else { return Ok(()) };
        self.may_stay()?;
        let frame = match Frame::decode(&text) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(instance = ?self.instance_arn, %error, "agent sent a telemetry frame that cannot be read");
                return Ok(());
            }
        };
        if !self.is_genuine(&frame) {
            tracing::warn!(instance = ?self.instance_arn, "agent sent a telemetry frame whose signature is not valid");
            return Err(End::Ours(Close::BAD_SIGNATURE));
        }
        match AgentMessage::decode(&frame.body) {
            Ok(Some(message)) => {
                let acknowledgement = self.take(&message);
                if let AgentMessage::InstanceStatus(status) = message {
                    self.note(status.statuses, frame.body.len(), news);
                }
                writer.text(acknowledgement.encode()).await
            }
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(instance = ?self.instance_arn, %error, "agent sent telemetry that cannot be read");
                Ok(())
            }
        }
    }

    /// Whether the frame was signed by whoever opened the session. A bare frame has no header block at all; it is as genuine
    /// as the connection it came by.
    fn is_genuine(&self, frame: &Frame) -> bool {
        if frame.headers.is_empty() {
            return true;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &frame.headers {
            let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) else {
                return false;
            };
            headers.append(name, value);
        }
        let request = sigv4::Request {
            method: "GET",
            path: &self.path,
            query: &self.query,
            headers: &headers,
            authority: None,
            body: frame.body.as_bytes(),
        };
        self.authenticator.principal(&request).is_ok_and(|principal| principal == self.principal)
    }

    /// Notes how the instance is, unless it is told at such length that it cannot be kept.
    fn note(&self, statuses: Vec<InstanceStatus>, bytes: usize, news: &mut StatusNews) {
        match bytes <= MAX_INSTANCE_STATUS_BYTES {
            true => news.heard(statuses, Instant::now()),
            false => {
                tracing::warn!(instance = ?self.instance_arn, bytes, "agent sent an instance status that is too large")
            }
        }
    }

    /// Hands on how the instance is.
    async fn tell(&self, statuses: Vec<InstanceStatus>) {
        let (instance_arn, principal) = (self.instance_arn.clone(), self.principal.clone());
        self.orchestrator.command(Command::InstanceStatus { instance_arn, principal, statuses }).await;
    }

    /// Counts a publication and makes its acknowledgement.
    fn take(&self, message: &AgentMessage) -> ServerMessage {
        let count = |change: &dyn Fn(&mut super::TelemetryCounts)| {
            self.sessions.telemetry.count(&self.instance_arn, clock::now(), change);
        };
        let message_of_ack = Some(RECEIVED.to_owned());
        match message {
            AgentMessage::Metrics(metrics) => {
                count(&|counts| {
                    counts.metrics += 1;
                    counts.tasks_in_last = metrics.task_metrics.len();
                });
                ServerMessage::AckMetric(AckPublishMetric { message: message_of_ack })
            }
            AgentMessage::Health(_) => {
                count(&|counts| counts.health += 1);
                ServerMessage::AckHealth(AckPublishHealth { message: message_of_ack })
            }
            AgentMessage::InstanceStatus(_) => {
                count(&|counts| counts.instance_status += 1);
                ServerMessage::AckInstanceStatus(AckPublishInstanceStatus { message: message_of_ack })
            }
        }
    }
}

/// Says that we live and asks the same: an agent with metrics and health checks off publishes nothing, but its websocket
/// answers pings.
async fn beat(writer: &mut Writer) -> Result<(), End> {
    writer.text(ServerMessage::Heartbeat(HeartbeatMessage { healthy: true }).encode()).await?;
    writer.ping().await
}
