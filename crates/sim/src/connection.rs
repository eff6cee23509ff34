//! The connections of agents.
//!
//! Within a connection messages keep their order and none is lost alone, as TCP has it: what cannot be delivered stalls,
//! and is delivered late or never. A connection may be reset, which both ends notice, or die silently, which each end
//! notices by its own heartbeat limit alone.

use std::collections::VecDeque;
use std::sync::Arc;

use longshore_agent_protocol::acs::{AgentMessage, HeartbeatAckRequest, HeartbeatMessage, ServerMessage};
use longshore_api::Timestamp;
use longshore_core::ids::{InstanceKey, SessionId};

use crate::event::{ConnId, Event, Frame, Life};
use crate::oracle::{Step, broken};
use crate::plan::Sabotage;
use crate::world::World;

/// The longest that a stalled connection takes to move again once the way is free: TCP's pause between attempts.
const RETRANSMIT_MS: i64 = 20_000;
/// An agent that hears nothing for this long, and up to as much again, hangs up.
const AGENT_SILENCE_MS: i64 = 60_000;
/// A dial that nobody answers ends after this long.
const DIAL_MS: i64 = 20_000;

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) agent: usize,
    pub(crate) agent_life: Life,
    /// Whom the agent said it is.
    pub(crate) instance_arn: String,
    pub(crate) began: Timestamp,
    /// The server process that took it.
    pub(crate) server_life: Option<Life>,
    /// Who opened it, for the server.
    pub(crate) access_key_id: Arc<str>,
    /// What was published as being there when the agent dialled: its manifest must have it.
    pub(crate) expects: Vec<String>,
    /// What the server knows it as.
    pub(crate) session: Option<(SessionId, InstanceKey)>,
    /// Nothing arrives any more, on either side.
    pub(crate) broken: bool,
    /// The server has hung up, or noticed that the agent did.
    pub(crate) server_left: bool,
    /// When the server last heard anything of the agent.
    pub(crate) heard: Timestamp,
    /// When the agent last heard anything of the server, and how long it bears silence.
    agent_heard: Timestamp,
    agent_silence_ms: i64,
    last_to_agent: Timestamp,
    last_to_server: Timestamp,
    /// What arrived at a link that lets nothing through, in order.
    held_to_agent: VecDeque<Frame>,
    held_to_server: VecDeque<AgentMessage>,
}

impl World {
    /// An agent dials.
    pub(crate) fn dial(&mut self, agent: usize, life: Life) -> ConnId {
        self.network.messages += 1;
        let id = self.network.next_id();
        let agent_silence_ms = AGENT_SILENCE_MS + self.network.random.between(0, AGENT_SILENCE_MS);
        let conn = Conn {
            agent,
            agent_life: life,
            instance_arn: self.agents[agent].disk.instance_arn.clone().unwrap_or_default(),
            began: self.now,
            server_life: None,
            access_key_id: "".into(),
            expects: Vec::new(),
            session: None,
            broken: false,
            server_left: false,
            heard: self.now,
            agent_heard: self.now,
            agent_silence_ms,
            last_to_agent: self.now,
            last_to_server: self.now,
            held_to_agent: VecDeque::new(),
            held_to_server: VecDeque::new(),
        };
        self.network.conns.insert(id, conn);
        let delay = self.delay();
        self.after(delay, Event::Dial(id));
        self.after(DIAL_MS, Event::AgentHangsUp(id));
        id
    }

    fn link(&self, agent: usize) -> crate::network::Link {
        self.hosts[self.agents[agent].host].link
    }

    /// Whether a dial that arrives now reaches the server: the handshake needs both ways.
    pub(crate) fn gets_through(&self, id: ConnId) -> bool {
        let conn = self.network.conns.get(&id).filter(|conn| !conn.broken);
        conn.is_some_and(|conn| self.link(conn.agent) == crate::network::Link::Whole)
    }

    pub(crate) fn send_to_agent(&mut self, id: ConnId, frame: Frame) {
        let delay = self.delay();
        let now = self.now;
        let Some(conn) = self.network.conns.get_mut(&id).filter(|conn| !conn.broken) else { return };
        let at = conn.last_to_agent.max(now.plus_millis(delay));
        conn.last_to_agent = at;
        self.network.messages += u64::from(!matches!(frame, Frame::Heartbeat(_)));
        self.at(at, Event::ToAgent(id, frame));
    }

    pub(crate) fn send_to_server(&mut self, id: ConnId, message: AgentMessage) -> Step {
        // What is sent is what the other side reads.
        let text = message.encode();
        let message = match AgentMessage::decode(&text) {
            Ok(Some(message)) => message,
            other => return broken(0, format!("the agent's message {text} reads as {other:?}")),
        };
        let delay = self.delay();
        let now = self.now;
        let Some(conn) = self.network.conns.get_mut(&id).filter(|conn| !conn.broken) else { return Ok(()) };
        let at = conn.last_to_server.max(now.plus_millis(delay));
        conn.last_to_server = at;
        self.network.messages += u64::from(!matches!(message, AgentMessage::HeartbeatAck(_)));
        self.at(at, Event::ToServer(id, Box::new(message)));
        Ok(())
    }

    /// The connection is reset: nothing arrives any more, and both ends notice within `noticed_ms`.
    pub(crate) fn break_conn(&mut self, id: ConnId, noticed_ms: i64) {
        let Some(conn) = self.network.conns.get_mut(&id).filter(|conn| !conn.broken) else { return };
        conn.broken = true;
        let link = self.link(self.network.conns[&id].agent);
        let agent = self.network.random.between(0, noticed_ms);
        let server = self.network.random.between(0, noticed_ms);
        // An end that cannot be reached is not told.
        if link.hears() {
            self.after(agent, Event::AgentHangsUp(id));
        }
        if link.speaks() {
            self.after(server, Event::ServerHangsUp(id));
        }
    }

    /// Nothing arrives any more, and nobody is told.
    pub(crate) fn conn_dies_silently(&mut self, id: ConnId) {
        if let Some(conn) = self.network.conns.get_mut(&id) {
            conn.broken = true;
        }
    }

    pub(crate) fn conns_of(&self, agent: usize) -> Vec<ConnId> {
        self.network.conns.iter().filter(|(_, conn)| conn.agent == agent).map(|(id, _)| *id).collect()
    }

    /// Some connection is reset, or dies.
    pub(crate) fn some_conn_fails(&mut self, silently: bool) {
        let whole: Vec<ConnId> = self.network.conns.iter().filter(|(_, c)| !c.broken).map(|(id, _)| *id).collect();
        let Some(&id) = self.network.random.pick(&whole) else { return };
        self.trace(format_args!("connection {id} {}", if silently { "dies silently" } else { "is reset" }));
        match silently {
            true => self.conn_dies_silently(id),
            false => self.break_conn(id, 1_000),
        }
    }

    /// The way is free again: what was held back moves on, or TCP has given up.
    pub(crate) fn conn_recovers(&mut self, id: ConnId) {
        let gives_up = self.network.random.per_mille(300);
        let pause = self.network.random.between(0, RETRANSMIT_MS);
        let now = self.now;
        let Some(conn) = self.network.conns.get_mut(&id) else { return };
        if conn.broken || gives_up {
            conn.broken = false;
            return self.break_conn(id, RETRANSMIT_MS);
        }
        let at = now.plus_millis(pause);
        conn.last_to_agent = conn.last_to_agent.max(at);
        conn.last_to_server = conn.last_to_server.max(at);
        let (to_agent, to_server) = (conn.last_to_agent, conn.last_to_server);
        let frames = std::mem::take(&mut conn.held_to_agent);
        let messages = std::mem::take(&mut conn.held_to_server);
        frames.into_iter().for_each(|frame| self.at(to_agent, Event::ToAgent(id, frame)));
        messages.into_iter().for_each(|message| self.at(to_server, Event::ToServer(id, Box::new(message))));
    }

    /// The server's process has died. Its kernel resets its connections, unless the whole machine went down.
    pub(crate) fn server_is_gone(&mut self, life: Life, silently: bool) {
        let theirs = self.network.conns.iter().filter(|(_, conn)| conn.server_life == Some(life));
        for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            match silently {
                true => self.conn_dies_silently(id),
                false => self.break_conn(id, 1_000),
            }
        }
    }

    /// Something arrives at the server's end; `None` when it does not get there.
    pub(crate) fn arrives_at_server(&mut self, id: ConnId, message: AgentMessage) -> Option<AgentMessage> {
        let conn = self.network.conns.get(&id).filter(|conn| !conn.broken)?;
        let held = !self.link(conn.agent).speaks();
        let now = self.now;
        let conn = self.network.conns.get_mut(&id)?;
        if held {
            conn.held_to_server.push_back(message);
            return None;
        }
        conn.heard = now;
        Some(message)
    }

    /// A frame arrives at an agent.
    pub(crate) fn frame_arrives(&mut self, id: ConnId, frame: Frame) -> Step {
        let Some(conn) = self.network.conns.get(&id).filter(|conn| !conn.broken) else { return Ok(()) };
        let (agent, life) = (conn.agent, conn.agent_life);
        let held = !self.link(agent).hears();
        let now = self.now;
        let Some(conn) = self.network.conns.get_mut(&id) else { return Ok(()) };
        if held {
            conn.held_to_agent.push_back(frame);
            return Ok(());
        }
        conn.agent_heard = now;
        let current = self.agents[agent].is_session(life, id);
        if !current && self.plan.sabotage != Some(Sabotage::ObeyOldSession) {
            return Ok(());
        }
        match frame {
            Frame::Heartbeat(message_id) => {
                self.send_to_server(id, AgentMessage::HeartbeatAck(HeartbeatAckRequest { message_id }))
            }
            Frame::Message(text) => match ServerMessage::decode(&text) {
                Ok(Some(message)) => self.order(agent, life, id, message),
                other => broken(0, format!("the server's message {text} reads as {other:?}")),
            },
            _ if !current => Ok(()),
            Frame::Opened => {
                self.trace(format_args!("agent {agent}: session {id} is open"));
                self.session_opened(agent);
                self.after_silence(id);
                Ok(())
            }
            Frame::Refused(refusal) => {
                self.trace(format_args!("agent {agent}: session {id} is refused: {refusal}"));
                self.session_refused(agent, life, refusal)
            }
            Frame::Closed => {
                self.trace(format_args!("agent {agent}: session {id} was closed"));
                self.network.conns.remove(&id);
                self.session_over(agent, life, true)
            }
        }
    }

    fn after_silence(&mut self, id: ConnId) {
        if let Some(conn) = self.network.conns.get(&id) {
            let at = conn.agent_heard.plus_millis(conn.agent_silence_ms);
            self.at(at, Event::AgentListens(id));
        }
    }

    /// The agent looks whether its server has fallen silent.
    pub(crate) fn agent_listens(&mut self, id: ConnId) -> Step {
        let Some(conn) = self.network.conns.get(&id) else { return Ok(()) };
        let (agent, life) = (conn.agent, conn.agent_life);
        if !self.agents[agent].is_session(life, id) {
            return Ok(());
        }
        if conn.agent_heard.plus_millis(conn.agent_silence_ms) > self.now {
            self.after_silence(id);
            return Ok(());
        }
        self.trace(format_args!("agent {agent}: session {id} has fallen silent"));
        self.break_conn(id, 1_000);
        self.session_lost(agent, life, false)
    }

    /// The agent's end of a connection learns that it is dead, or has waited long enough for its beginning.
    pub(crate) fn agent_hangs_up(&mut self, id: ConnId) -> Step {
        let Some(conn) = self.network.conns.get(&id) else { return Ok(()) };
        let (agent, life, dead) = (conn.agent, conn.agent_life, conn.broken);
        let waits = self.agents[agent].dials(life, id);
        if !self.agents[agent].is_session(life, id) || !(dead || waits) {
            return Ok(());
        }
        self.break_conn(id, 1_000);
        self.trace(format_args!("agent {agent}: session {id} is dead"));
        self.session_lost(agent, life, !waits)
    }

    /// The server's end says that it is there.
    pub(crate) fn heartbeat(&mut self, id: ConnId) {
        let pause = self.server.heartbeats.every_ms;
        let alive = self.server_end_lives(id);
        if alive {
            let number = self.network.next_id();
            let message = HeartbeatMessage { message_id: format!("heartbeat-{number}"), healthy: true };
            // Encoded as any message would be; what is on the wire must be readable.
            debug_assert!(ServerMessage::decode(&ServerMessage::Heartbeat(message.clone()).encode()).is_ok());
            self.send_to_agent(id, Frame::Heartbeat(message.message_id));
            self.after(pause, Event::Heartbeat(id));
        }
    }

    /// Whether the process that took a connection still lives and holds it.
    pub(crate) fn server_end_lives(&self, id: ConnId) -> bool {
        let conn = self.network.conns.get(&id);
        self.server.process.is_some()
            && conn.is_some_and(|conn| conn.server_life == Some(self.server.life) && !conn.server_left)
    }
}
