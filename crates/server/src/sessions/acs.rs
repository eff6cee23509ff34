//! One ACS session, from the orchestrator's consent to its end.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::upgrade::OnUpgrade;
use longshore_agent_protocol::acs::{AgentMessage, HeartbeatMessage, ServerMessage};
use longshore_api::arn::{Arn, Resource};
use longshore_core::Principal;
use longshore_core::cell::{AgentInfo, Command, Reply};
use longshore_core::ids::{InstanceKey, SessionId};
use longshore_core::instance::SessionRefusal;
use longshore_wire::request_id::RequestId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::socket::{self, Close, End, Heard, Reader, Writer};
use super::{Handshake, LineEnd, Refusal, Sessions};
use crate::clock;
use crate::limits::MAX_ACS_MESSAGE_BYTES;
use crate::orchestrator::Orchestrator;

/// What an agent says of itself in the URL.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    instance_arn: String,
    agent: AgentInfo,
    /// From version 2 on agents answer heartbeats, so that their silence means something.
    answers_heartbeats: bool,
    /// It has no credentials of any role: it was just started.
    wants_credentials: bool,
}

impl Parameters {
    pub(super) fn of(handshake: &Handshake) -> Result<Self, Refusal> {
        let cluster = handshake.required("clusterArn")?;
        let instance_arn = handshake.required("containerInstanceArn")?;
        check_cluster(&cluster, &instance_arn)?;
        let parameter = |name| handshake.parameter(name).unwrap_or_default();
        Ok(Self {
            instance_arn,
            agent: AgentInfo {
                agent_version: parameter("agentVersion"),
                agent_hash: parameter("agentHash"),
                docker_version: parameter("dockerVersion"),
            },
            answers_heartbeats: parameter("protocolVersion").parse::<u32>().is_ok_and(|version| version >= 2),
            wants_credentials: parameter("sendCredentials") == "true",
        })
    }
}

/// An agent names its cluster as it was typed, by name or ARN. It must be the one in its instance's ARN; old ARNs have none.
pub(super) fn check_cluster(cluster: &str, instance_arn: &str) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::invalid("InvalidInstanceException", message));
    let Ok(Arn { resource: Resource::ContainerInstance { cluster: of_instance, .. }, .. }) = instance_arn.parse()
    else {
        return invalid("The container instance is not named by its ARN.");
    };
    let name = cluster.rsplit_once('/').map_or(cluster, |(_, name)| name);
    if of_instance.is_some_and(|of_instance| of_instance != name) {
        return Err(Refusal::invalid("InvalidClusterException", "The container instance is in another cluster."));
    }
    Ok(())
}

/// A session that is about to begin.
pub(super) struct Session {
    pub(super) sessions: Arc<Sessions>,
    pub(super) orchestrator: Arc<dyn Orchestrator>,
    pub(super) principal: Principal,
    pub(super) parameters: Parameters,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Session {
    /// Asks the orchestrator, answers the handshake, and lives until the session ends. Once the orchestrator has said yes it
    /// is told of the end, whatever happens in between.
    pub(super) async fn run(self, on_upgrade: OnUpgrade, accepted: oneshot::Sender<Result<(), Refusal>>) {
        let line = self.sessions.add_line();
        let session = line.id;
        match self.introduce(session).await {
            Ok(instance) => {
                let was_here = self.sessions.was_here(instance, Instant::now());
                let belonging = self.sessions.belongs(instance, session);
                let mut heard = Instant::now();
                let end = match accepted.send(Ok(())) {
                    Ok(()) => {
                        if self.parameters.wants_credentials || !was_here {
                            self.sessions.renew_credentials(&*self.orchestrator, instance, &|_| true);
                        }
                        self.live(on_upgrade, instance, line, &mut heard).await
                    }
                    Err(_) => End::Peer,
                };
                drop(belonging);
                self.sessions.remove_line(session);
                let silent_ms = self.sessions.limits.silent_ms(heard.elapsed());
                let heard_at = clock::cell().now.plus_millis(-silent_ms);
                self.orchestrator.command(Command::SessionClosed { instance, session, heard_at }).await;
                tracing::info!(instance = %instance.id, session = session.0, reason = end.reason(), "agent session ended");
            }
            Err(refusal) => {
                self.sessions.remove_line(session);
                let _ = accepted.send(Err(refusal));
            }
        }
    }

    async fn introduce(&self, session: SessionId) -> Result<InstanceKey, Refusal> {
        let command = Command::SessionOpened {
            instance_arn: self.parameters.instance_arn.clone(),
            session,
            principal: self.principal.clone(),
            agent: self.parameters.agent.clone(),
        };
        match self.orchestrator.command(command).await {
            Reply::Session(Ok(instance)) => Ok(instance),
            Reply::Session(Err(refusal)) => Err(Refusal::of(refusal)),
            Reply::Api(_) | Reply::Admin(_) | Reply::Secrets(_) | Reply::Placed(_) | Reply::None => {
                Err(Refusal::server("The control plane cannot take sessions at the moment."))
            }
        }
    }

    /// Lives until the session ends; `heard` is when the agent was last heard of.
    async fn live(&self, on_upgrade: OnUpgrade, instance: InstanceKey, line: LineEnd, heard: &mut Instant) -> End {
        let Some((mut reader, mut writer)) = socket::open(on_upgrade, MAX_ACS_MESSAGE_BYTES).await else {
            return End::Peer;
        };
        let session = line.id;
        tracing::info!(
            instance = %instance.id,
            session = session.0,
            agent_version = %self.parameters.agent.agent_version.escape_default(),
            "agent session began"
        );
        let end = self.converse(&mut reader, &mut writer, instance, line, heard).await;
        // The peer's close is waited for on the side: the orchestrator should know at once.
        self.sessions.tasks.spawn(socket::finish(reader, writer, end));
        end
    }

    /// Sends what is wanted, hears what comes, until something ends it.
    async fn converse(
        &self,
        reader: &mut Reader,
        writer: &mut Writer,
        instance: InstanceKey,
        mut line: LineEnd,
        silent_from: &mut Instant,
    ) -> End {
        let limits = &self.sessions.limits;
        let mut heartbeat = interval_at(Instant::now() + limits.heartbeat_every, limits.heartbeat_every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        *silent_from = Instant::now();
        // One command at a time; until it is done nothing more is read, so an agent cannot fill the orchestrator's queue.
        let mut command: Option<BoxFuture<'static, Reply>> = None;
        loop {
            let step = tokio::select! {
                biased;
                () = self.sessions.stop.cancelled() => Err(End::Ours(Close::STOPPING)),
                close = &mut line.close => Err(End::Ours(close.unwrap_or(Close::STOPPING))),
                Some(message) = line.queue.recv() => writer.text(message.encode()).await,
                _reply = done(&mut command), if command.is_some() => {
                    command = None;
                    Ok(())
                }
                heard = reader.next(), if command.is_none() => heard.map(|heard| {
                    *silent_from = Instant::now();
                    if let Heard::Text(text) = heard {
                        command = self.hear(&text, instance, line.id);
                    }
                }),
                _ = heartbeat.tick() => self.beat(writer).await,
                () = sleep_until(*silent_from + limits.silence) => Err(End::Ours(Close::SILENT)),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn beat(&self, writer: &mut Writer) -> Result<(), End> {
        let message = HeartbeatMessage { message_id: RequestId::random().to_string(), healthy: true };
        writer.text(ServerMessage::Heartbeat(message).encode()).await?;
        match self.parameters.answers_heartbeats {
            true => Ok(()),
            false => writer.ping().await,
        }
    }

    /// What an agent's message asks of the orchestrator. Acknowledgements ask nothing: what an agent has not reported on is
    /// sent again at its next connect, acknowledged or not, and it takes it twice without harm.
    fn hear(&self, text: &str, instance: InstanceKey, session: SessionId) -> Option<BoxFuture<'static, Reply>> {
        match AgentMessage::decode(text) {
            Ok(Some(AgentMessage::TaskStopVerification(message))) => {
                let candidates = message.stop_candidates.into_iter().map(|task| task.task_arn).collect();
                let command = Command::StopCandidates { instance, session, message_id: message.message_id, candidates };
                return Some(self.orchestrator.command(command));
            }
            Ok(Some(AgentMessage::Nack(nack))) => {
                tracing::warn!(instance = %instance.id, message_id = ?nack.message_id, reason = ?nack.reason, "agent refuses a message");
            }
            Ok(Some(message)) => tracing::debug!(instance = %instance.id, message = message.type_name(), "from agent"),
            Ok(None) => tracing::debug!(instance = %instance.id, "agent sent a message of an unknown type"),
            Err(error) => tracing::warn!(instance = %instance.id, %error, "agent sent a message that cannot be read"),
        }
        None
    }
}

/// The reply to the command under way.
async fn done(command: &mut Option<BoxFuture<'static, Reply>>) -> Reply {
    match command {
        Some(command) => command.await,
        None => std::future::pending().await,
    }
}

impl Refusal {
    pub(super) fn of(refusal: SessionRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            SessionRefusal::AccessDenied => Self::access_denied(message),
            SessionRefusal::Unavailable => Self::server(message),
            SessionRefusal::InvalidInstance | SessionRefusal::InvalidCluster | SessionRefusal::Inactive => {
                Self::invalid(refusal.name(), message)
            }
        }
    }
}
