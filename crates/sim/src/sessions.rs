//! The server's side of agents' connections: sessions, heartbeats, and what the cell has sent over them.

use std::collections::BTreeSet;

use longshore_agent_protocol::acs::{AgentMessage, DesiredStatus, ServerMessage};
use longshore_api::ecs::types::{ContainerInstanceStatus, UpdateContainerInstancesStateRequest};
use longshore_api::ecs::{Request, Response, types};
use longshore_api::{Timestamp, admin};
use longshore_core::cell::{AgentInfo, Command, Delivery, Effect};
use longshore_core::config::LossPolicy;
use longshore_core::ids::{InstanceKey, SessionId};
use longshore_core::instance::SessionRefusal;
use longshore_core::{Decision, Principal};

use crate::event::{CallId, ConnId, Event, Frame, Told};
use crate::oracle::{Step, broken, ensure, id_of};
use crate::plan::Sabotage;
use crate::server::{Waiter, owner};
use crate::world::World;

/// How often the server speaks, and how long it bears an agent's silence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeats {
    pub(crate) every_ms: i64,
    pub(crate) silence_ms: i64,
}

impl Heartbeats {
    /// As the server sets them: silence is noticed before an instance is to be lost.
    pub(crate) fn of(loss: &LossPolicy) -> Self {
        let lost_after_ms = loss.lost_after_ms.into_iter().chain(loss.official_lost_after_ms).min();
        let least = |default: i64, share: fn(i64) -> i64| lost_after_ms.map_or(default, |ms| share(ms).min(default));
        Self { every_ms: least(20_000, |ms| ms / 4), silence_ms: least(45_000, |ms| ms * 5 / 8) }
    }
}

impl World {
    /// Takes a request that is for the cell. Here some mistakes of the shell have their place.
    pub(crate) fn take_request(&mut self, call: CallId, principal: Principal, mut request: Request) {
        match (self.plan.sabotage, &mut request) {
            (Some(Sabotage::ForgetToken), Request::RunTask(request)) => request.client_token = None,
            (Some(Sabotage::ForgetRelease), Request::SubmitTaskStateChange(change))
                if change.status.as_deref() == Some("STOPPED") && self.server.random.per_mille(200) =>
            {
                let acknowledgment = Some("ok".to_owned());
                let response: Response = types::SubmitTaskStateChangeResponse { acknowledgment }.into();
                return self.respond(call, Some(Ok(Told::Ecs(response))));
            }
            (Some(Sabotage::PlaceOnDraining), Request::RunTask(_)) => self.undrain(),
            _ => {}
        }
        self.submit(Waiter::Call(call), Command::Api { principal, request });
    }

    /// Every draining instance takes tasks again, and nobody has asked for that.
    fn undrain(&mut self) {
        for (cluster, arn) in self.oracle.draining() {
            let request = UpdateContainerInstancesStateRequest {
                cluster: Some(cluster),
                container_instances: vec![arn],
                status: ContainerInstanceStatus::Active,
            };
            let request = Request::UpdateContainerInstancesState(Box::new(request));
            self.submit(Waiter::Nobody, Command::Api { principal: owner(), request });
        }
    }

    /// An agent dials.
    pub(crate) fn dialled(&mut self, id: ConnId) {
        if !self.gets_through(id) {
            return;
        }
        let life = self.server.life;
        if self.server.process.is_none() {
            return self.break_conn(id, 10);
        }
        let Some(conn) = self.network.conns.get_mut(&id) else { return };
        conn.server_life = Some(life);
        conn.heard = self.now;
        let (agent, instance_arn) = (conn.agent, conn.instance_arn.clone());
        let Some(process) = &mut self.server.process else { return };
        process.next_session += 1;
        let session = SessionId(process.next_session);
        let agent_info = AgentInfo {
            agent_version: "1.0.0".to_owned(),
            agent_hash: "simulated".to_owned(),
            docker_version: "DockerVersion: 20.10.24".to_owned(),
        };
        self.oracle.vigil.opening(&instance_arn);
        let expects = self.oracle.lives_there(&instance_arn);
        let principal = self.principal_of(agent);
        if let Some(conn) = self.network.conns.get_mut(&id) {
            (conn.expects, conn.access_key_id) = (expects, principal.access_key_id.clone());
        }
        let command = Command::SessionOpened { instance_arn, session, principal, agent: agent_info };
        self.submit(Waiter::Session(id, session), command);
    }

    /// The cell has taken a session, or not.
    pub(crate) fn session_answered(
        &mut self,
        id: ConnId,
        session: SessionId,
        answer: Result<InstanceKey, SessionRefusal>,
    ) {
        let silence_ms = self.server.heartbeats.silence_ms;
        let Some(conn) = self.network.conns.get_mut(&id) else { return };
        let instance = match answer {
            Ok(instance) => instance,
            Err(refusal) => {
                conn.server_left = true;
                self.oracle.vigil.refused(&conn.instance_arn);
                return self.send_to_agent(id, Frame::Refused(refusal));
            }
        };
        let (left, heard) = (conn.server_left, conn.heard);
        self.oracle.vigil.connected(instance.id, session, heard);
        if left {
            return self.session_ends(instance, session, heard);
        }
        conn.session = Some((session, instance));
        if let Some(process) = &mut self.server.process {
            process.sessions.insert(session, id);
        }
        self.send_to_agent(id, Frame::Opened);
        self.after(self.server.heartbeats.every_ms, Event::Heartbeat(id));
        self.at(heard.plus_millis(silence_ms), Event::ServerListens(id));
        if self.plan.sabotage == Some(Sabotage::EvictConnected) {
            self.after(5_000, Event::ServerListens(id));
        }
    }

    /// The shell tells the cell that a session is over, and when its agent was last heard of by the server's clock.
    fn session_ends(&mut self, instance: InstanceKey, session: SessionId, heard: Timestamp) {
        let silent_ms = self.now.since(heard);
        let early_ms = if self.plan.sabotage == Some(Sabotage::EvictEarly) { 6_000 } else { 0 };
        let heard_at = self.server_time().plus_millis(-silent_ms - early_ms);
        self.oracle.vigil.disconnected(instance.id, session, heard);
        self.submit(Waiter::Nobody, Command::SessionClosed { instance, session, heard_at });
    }

    /// Once everything is released, no instance has two sessions.
    pub(crate) fn newest_sessions_win(&self) -> Step {
        let sessions = self.server.process.iter().flat_map(|process| process.sessions.values());
        let instances = sessions.filter_map(|conn| self.network.conns.get(conn)?.session).map(|(_, instance)| instance);
        let mut seen = BTreeSet::new();
        let twice = instances.into_iter().find(|instance| !seen.insert(*instance));
        ensure(twice.is_none(), 12, || format!("{twice:?} has two sessions"))
    }

    /// A key that was revoked has no sessions any more.
    pub(crate) fn key_is_dead(&self, access_key_id: &str) -> Step {
        let sessions = self.server.process.iter().flat_map(|process| process.sessions.values());
        let theirs = |conn: &&ConnId| self.network.conns.get(conn).is_some_and(|c| *c.access_key_id == *access_key_id);
        let open = sessions.into_iter().find(theirs);
        ensure(open.is_none(), 12, || format!("{access_key_id} was revoked, and its session over {open:?} is open"))
    }

    /// A message of an agent arrives.
    pub(crate) fn message_arrives(&mut self, id: ConnId, message: AgentMessage) {
        let Some(message) = self.arrives_at_server(id, message) else { return };
        let Some(conn) = self.network.conns.get(&id).filter(|conn| !conn.server_left) else { return };
        let Some((session, instance)) = conn.session else { return };
        if !self.server_end_lives(id) {
            return;
        }
        self.oracle.vigil.heard(instance.id, session, self.now);
        if let AgentMessage::TaskStopVerification(message) = message {
            let candidates = message.stop_candidates.into_iter().map(|task| task.task_arn).collect();
            let message_id = message.message_id;
            let command = Command::StopCandidates { instance, session, message_id, candidates };
            self.submit(Waiter::Nobody, command);
        }
    }

    /// The server looks whether an agent has fallen silent.
    pub(crate) fn server_listens(&mut self, id: ConnId) {
        if !self.server_end_lives(id) {
            return;
        }
        let silence_ms = self.server.heartbeats.silence_ms;
        let Some(conn) = self.network.conns.get(&id) else { return };
        let due = conn.heard.plus_millis(silence_ms);
        match self.plan.sabotage {
            Some(Sabotage::NeverEvict) => {}
            // It takes the connection for silent, and it is not: the agent goes on with it.
            Some(Sabotage::EvictConnected) => {
                if let Some((session, instance)) = conn.session {
                    let heard = conn.began;
                    self.submit_closed(instance, session, heard);
                }
            }
            _ if due > self.now => self.at(due, Event::ServerListens(id)),
            _ => {
                self.trace(format_args!("server: connection {id} has fallen silent"));
                self.server_hangs_up(id);
                self.break_conn(id, 1_000);
            }
        }
    }

    /// Tells the cell of the end of a session that has not ended.
    fn submit_closed(&mut self, instance: InstanceKey, session: SessionId, heard: Timestamp) {
        let silent_ms = self.now.since(heard);
        let heard_at = self.server_time().plus_millis(-silent_ms);
        self.submit(Waiter::Nobody, Command::SessionClosed { instance, session, heard_at });
    }

    /// The server notices that an agent is gone.
    pub(crate) fn server_hangs_up(&mut self, id: ConnId) {
        let ours = self.server_end_lives(id);
        let Some(conn) = self.network.conns.get_mut(&id) else { return };
        conn.server_left = true;
        let (session, heard) = (conn.session, conn.heard);
        if let (Some((session, instance)), true) = (session, ours) {
            if let Some(process) = &mut self.server.process {
                process.sessions.remove(&session);
            }
            self.session_ends(instance, session, heard);
        }
    }

    pub(crate) fn perform(&mut self, effect: &Effect, durable: u64) -> Step {
        if let Effect::Note(decision) = effect {
            return self.noted(decision);
        }
        if let Effect::Start { instance, sequence, .. }
        | Effect::Stop { instance, sequence, .. }
        | Effect::Manifest { instance, sequence, .. } = effect
        {
            if *sequence > durable {
                return broken(18, format!("an effect of number {sequence} was released at durable {durable}"));
            }
            let sequence = match self.plan.sabotage {
                Some(Sabotage::ReuseSequence) => sequence.saturating_sub(10 * (self.server.life - 1)),
                _ => *sequence,
            };
            self.oracle.sequence_sent(*instance, sequence)?;
        }
        let now = self.server_time();
        let Some(process) = self.server.process.as_mut() else { return Ok(()) };
        match process.snapshot.render(effect, now) {
            None => Ok(()),
            Some(Delivery::Close { session, .. }) => {
                self.close(session);
                Ok(())
            }
            Some(Delivery::Send { session, message, .. }) => self.deliver(session, &message),
        }
    }

    /// The server closes a session on the cell's order.
    fn close(&mut self, session: SessionId) {
        let closed = self.server.process.as_mut().and_then(|process| process.sessions.remove(&session));
        let conns = &self.network.conns;
        let life = Some(self.server.life);
        let of_session = |conn: &crate::connection::Conn| {
            conn.server_life == life && conn.session.is_some_and(|(known, _)| known == session)
        };
        let conn = closed.or_else(|| conns.iter().find(|(_, conn)| of_session(conn)).map(|(id, _)| *id));
        let Some(id) = conn else { return };
        if let Some(known) = self.network.conns.get_mut(&id) {
            known.server_left = true;
            if let Some((session, instance)) = known.session {
                self.oracle.vigil.dismissed(instance.id, session, self.now);
            }
        }
        self.send_to_agent(id, Frame::Closed);
    }

    fn deliver(&mut self, session: SessionId, message: &ServerMessage) -> Step {
        let process = self.server.process.as_ref();
        let Some(&conn) = process.and_then(|process| process.sessions.get(&session)) else { return Ok(()) };
        if self.plan.sabotage == Some(Sabotage::KeepStaleCopies) && self.stops_stale_copy(message) {
            return Ok(());
        }
        self.trace(format_args!("server sends {} over {conn}", message.type_name()));
        if let (ServerMessage::TaskManifest(manifest), Some(known)) = (message, self.network.conns.get(&conn)) {
            self.oracle.manifest_sent(manifest, &known.expects)?;
        }
        if self.plan.sabotage == Some(Sabotage::MisdeliverStart) {
            self.misdeliver(conn, message);
        }
        self.send_to_agent(conn, Frame::Message(message.encode()));
        Ok(())
    }

    fn stops_stale_copy(&self, message: &ServerMessage) -> bool {
        let ServerMessage::Payload(payload) = message else { return false };
        payload.tasks.iter().any(|task| {
            task.desired_status == DesiredStatus::Stopped
                && self.oracle.tasks.get(id_of(&task.arn)).is_some_and(|known| known.verdict.is_some())
        })
    }

    /// Sends a payload to another session as well, with that instance's name on it.
    fn misdeliver(&mut self, not_to: ConnId, message: &ServerMessage) {
        let ServerMessage::Payload(payload) = message else { return };
        let others =
            self.network.conns.iter().filter(|(id, conn)| **id != not_to && !conn.broken && conn.session.is_some());
        let Some((other, agent)) = others.map(|(id, conn)| (*id, conn.agent)).next() else { return };
        let mut payload = payload.clone();
        payload.container_instance_arn = self.agents[agent].disk.instance_arn.clone().unwrap_or_default();
        self.send_to_agent(other, Frame::Message(ServerMessage::Payload(payload).encode()));
    }

    /// The cell tells what it has decided.
    fn noted(&mut self, decision: &Decision) -> Step {
        self.trace(format_args!("server: {decision}"));
        match decision {
            Decision::BrakeEngaged { cluster, .. } => {
                self.oracle.vigil.brake_engaged(cluster, self.now)?;
                if self.plan.sabotage == Some(Sabotage::IgnoreBrake) {
                    let request = admin::ReleaseMassLossBrakeRequest { cluster: cluster.to_string() };
                    let request = admin::Request::ReleaseMassLossBrake(request);
                    self.submit(Waiter::Nobody, Command::Admin { principal: owner(), request });
                }
                Ok(())
            }
            Decision::BrakeReleased { cluster, why, .. } => self.oracle.vigil.brake_released(cluster, *why, self.now),
            Decision::InstanceReturned { .. } => {
                self.returns += 1;
                Ok(())
            }
            Decision::InstanceLost { .. } => {
                self.losses += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
