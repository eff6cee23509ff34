//! Sessions of agents: who is connected, and what an agent is told when it connects.
//!
//! Sessions are volatile. What is sent is always derived from the entities: after a reconnect the manifest and
//! everything that the agent has not reported on goes out again, and agents take it twice without harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::ecs::types;

use crate::cell::{AgentInfo, CloseReason, Effect, Turn};
use crate::decision::Decision;
use crate::entity::{Entity, Instance};
use crate::ids::{InstanceKey, SessionId, TaskId, TaskKey};
use crate::instance::InstanceStatus;
use crate::limits;
use crate::names;
use crate::network;
use crate::principal::Principal;
use crate::read::ReadModel;
use crate::task::status::{DesiredStatus, TaskStatus};

/// Why a session is refused. Agents know these names (AGENT-PROTOCOL §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefusal {
    /// The ARN is of no instance here.
    #[error("the container instance is not registered here")]
    InvalidInstance,
    /// The cluster does not exist.
    #[error("the cluster does not exist")]
    InvalidCluster,
    /// The instance was deregistered. Agents do not come back for an hour.
    #[error("the container instance was deregistered")]
    Inactive,
    /// Another access key registered the instance.
    #[error("the container instance was registered by another access key")]
    AccessDenied,
    /// The state cannot be written at the moment.
    #[error("the control plane cannot take sessions at the moment: try again")]
    Unavailable,
}

impl SessionRefusal {
    /// The name in the body of the refusal.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidInstance => "InvalidInstanceException",
            Self::InvalidCluster => "InvalidClusterException",
            Self::Inactive => "InactiveInstanceException",
            Self::AccessDenied => "AccessDeniedException",
            Self::Unavailable => "ServerException",
        }
    }
}

/// The sessions that are open, by instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    open: BTreeMap<InstanceKey, Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    id: SessionId,
    opened_at: Timestamp,
}

impl Sessions {
    pub(crate) fn get(&self, instance: InstanceKey) -> Option<SessionId> {
        self.open.get(&instance).map(|session| session.id)
    }

    /// Forgets every session and answers the orders to close them.
    pub(crate) fn close_all(&mut self, reason: CloseReason) -> Vec<Effect> {
        let open = std::mem::take(&mut self.open);
        open.into_iter().map(|(instance, Session { id, .. })| Effect::Close { instance, session: id, reason }).collect()
    }
}

/// An agent opened a session. The newest one of an instance counts; the one before it is closed.
pub(crate) fn opened(
    turn: &mut Turn<'_>,
    principal: &Principal,
    arn: &str,
    session: SessionId,
    agent: &AgentInfo,
) -> Result<InstanceKey, SessionRefusal> {
    let instance = match turn.tables.view().admit(principal, arn) {
        Ok(instance) => instance.clone(),
        Err(refusal) => return Err(refused(turn, principal, arn, refusal)),
    };
    let key = instance.key;
    let opened = Session { id: session, opened_at: turn.now };
    if let Some(Session { id: older, .. }) = turn.sessions.open.insert(key, opened) {
        turn.effects.push(Effect::Close { instance: key, session: older, reason: CloseReason::Replaced });
        turn.note(Decision::SessionReplaced { instance: key, older, newer: session });
    }
    turn.tables.connected(key);
    turn.liveness.forget(turn.now, key);
    welcome(turn, &instance, agent);
    tell(turn, key, session);
    Ok(key)
}

/// A session ended. An older one than the current says nothing about the agent.
pub(crate) fn closed(turn: &mut Turn<'_>, instance: InstanceKey, session: SessionId, heard_at: Timestamp) {
    if turn.sessions.get(instance) == Some(session) {
        end(turn, instance, heard_at);
    }
}

/// Closes the session of an instance, if it has one: its loss clock starts now.
pub(crate) fn close(turn: &mut Turn<'_>, instance: InstanceKey, reason: CloseReason) {
    if let Some(session) = turn.sessions.get(instance) {
        turn.effects.push(Effect::Close { instance, session, reason });
        end(turn, instance, turn.now);
    }
}

/// The instance has no session any more. What is said of when its agent was heard of must lie within the session.
fn end(turn: &mut Turn<'_>, key: InstanceKey, heard_at: Timestamp) {
    let Some(session) = turn.sessions.open.remove(&key) else { return };
    let heard_at = heard_at.max(session.opened_at).min(turn.now);
    turn.tables.disconnected(key, Some(heard_at));
    let instance = turn.tables.view().instances.get(&key);
    if let Some(instance) = instance.filter(|instance| instance.status != InstanceStatus::Inactive) {
        let lost_at = turn.liveness.vanish(&turn.config.loss, instance, heard_at, heard_at);
        turn.note(Decision::InstanceVanished { instance: key, heard_at, lost_at });
    }
}

/// Notes what an operator should know: that a key reaches for an instance that is not its own, or that is gone.
fn refused(turn: &mut Turn<'_>, principal: &Principal, arn: &str, refusal: SessionRefusal) -> SessionRefusal {
    match refusal {
        SessionRefusal::AccessDenied | SessionRefusal::Inactive => {
            let (instance_arn, access_key_id) = (arn.into(), principal.access_key_id.clone());
            turn.note(Decision::SessionRefused { instance_arn, access_key_id, refusal });
        }
        SessionRefusal::InvalidInstance | SessionRefusal::InvalidCluster | SessionRefusal::Unavailable => {}
    }
    refusal
}

/// An agent asks which of the tasks that the manifest does not want it may stop: those that we do not want either.
pub(crate) fn confirm_stops(
    turn: &mut Turn<'_>,
    instance: InstanceKey,
    session: SessionId,
    message_id: String,
    candidates: Vec<String>,
) {
    if turn.sessions.get(instance) != Some(session) {
        return;
    }
    let wanted = |arn: &String| {
        let named = names::task_arn_parts(turn.config, arn);
        let task = named.and_then(|(_, id)| turn.tables.view().tasks.get(&TaskKey { cluster: instance.cluster, id }));
        task.is_some_and(|task| {
            task.instance == Some(instance.id)
                && task.desired == DesiredStatus::Running
                && task.known != TaskStatus::Stopped
        })
    };
    let tasks: Vec<String> = candidates.into_iter().filter(|arn| !wanted(arn)).collect();
    turn.effects.push(Effect::ConfirmStops { instance, session, message_id, tasks });
}

impl ReadModel {
    /// The instance that a session or a telemetry stream claims to be of.
    ///
    /// # Errors
    /// Why the claim is refused; only the access key that registered an instance speaks for it.
    pub fn admit(&self, principal: &Principal, arn: &str) -> Result<&Arc<Instance>, SessionRefusal> {
        let (cluster, id) = names::instance_arn_parts(&self.config, arn).ok_or(SessionRefusal::InvalidInstance)?;
        let cluster =
            self.clusters.get(&*cluster).filter(|cluster| cluster.active).ok_or(SessionRefusal::InvalidCluster)?;
        let key = InstanceKey { cluster: cluster.id, id };
        let instance = self.instances.get(&key).ok_or(SessionRefusal::InvalidInstance)?;
        let own = instance.principal == principal.access_key_id && self.is_alive(principal);
        match (own, instance.status) {
            (false, _) => Err(SessionRefusal::AccessDenied),
            (true, InstanceStatus::Inactive) => Err(SessionRefusal::Inactive),
            (true, InstanceStatus::Active | InstanceStatus::Draining | InstanceStatus::Deregistering) => Ok(instance),
        }
    }
}

/// Writes down what a session changes of an instance. It was lost no longer than until now; and agents name their versions
/// when they connect: the official one does not when it registers.
fn welcome(turn: &mut Turn<'_>, instance: &Arc<Instance>, agent: &AgentInfo) {
    let version_info = Some(shortened(types::VersionInfo {
        agent_version: Some(agent.agent_version.clone()),
        agent_hash: Some(agent.agent_hash.clone()),
        docker_version: Some(agent.docker_version.clone()),
    }));
    if instance.version_info != version_info || instance.lost_at.is_some() {
        let (lost_at, heard_at, version) = (None, None, instance.version + 1);
        let next = Instance { version_info, lost_at, heard_at, version, ..Instance::clone(instance) };
        turn.tables.put(Entity::Instance(Arc::new(next)));
    }
    if let Some(lost_at) = instance.lost_at {
        let view = turn.tables.view();
        let key = |&id: &TaskId| TaskKey { cluster: instance.key.cluster, id };
        let slot = turn.tables.pool().slot(instance.key);
        let tasks = slot.into_iter().flat_map(|slot| &slot.tasks);
        let stale = tasks.filter(|id| view.tasks.get(&key(id)).is_some_and(|task| task.is_stale())).count();
        let lost_for_ms = turn.now.since(lost_at);
        turn.note(Decision::InstanceReturned { instance: instance.key, lost_for_ms, stale });
    }
    if instance.status == InstanceStatus::Deregistering {
        turn.liveness.begin_ending(turn.now, instance.key);
    }
}

/// Versions as they are kept: they are shown to people, and no record may grow with what an agent says of itself.
pub(crate) fn shortened(info: types::VersionInfo) -> types::VersionInfo {
    let cut = |text: Option<String>| text.map(|text| text.chars().take(limits::VERSION).collect());
    types::VersionInfo {
        agent_version: cut(info.agent_version),
        agent_hash: cut(info.agent_hash),
        docker_version: cut(info.docker_version),
    }
}

/// Sends the manifest, then every order that the agent has not carried out: first the orders to stop stale copies, whose
/// replacements may run elsewhere by now.
fn tell(turn: &mut Turn<'_>, instance: InstanceKey, session: SessionId) {
    let Some(slot) = turn.tables.pool().slot(instance) else { return };
    let tasks: Vec<TaskId> = slot.tasks.iter().copied().collect();
    let view = turn.tables.view();
    let mut tasks: Vec<_> =
        tasks.iter().filter_map(|&id| view.tasks.get(&TaskKey { cluster: instance.cluster, id })).cloned().collect();
    tasks.sort_by_key(|task| !task.is_stale());
    let listed = tasks.iter().map(|task| (task.key, task.desired)).collect();
    // What an instance that is being deregistered has not begun is about to be stopped.
    let starts = view.instances.get(&instance).is_some_and(|record| record.status != InstanceStatus::Deregistering);
    let sequence = turn.next_sequence();
    network::welcome(turn, instance, session, sequence);
    turn.effects.push(Effect::Manifest { instance, session, sequence, tasks: listed });
    for task in &tasks {
        match (task.desired, task.known) {
            // A task that ever ran is never ordered to start again: one ARN, one copy.
            (DesiredStatus::Running, TaskStatus::Pending) if starts => turn.send_start(task),
            (DesiredStatus::Stopped, TaskStatus::Pending | TaskStatus::Running) => turn.send_stop(task),
            // What waits is on no instance.
            (_, TaskStatus::Provisioning)
            | (DesiredStatus::Running, TaskStatus::Pending | TaskStatus::Running | TaskStatus::Stopped)
            | (DesiredStatus::Stopped, TaskStatus::Stopped) => {}
        }
    }
}
