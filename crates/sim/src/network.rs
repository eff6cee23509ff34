//! The network: calls of the API, and the connections of agents.
//!
//! Within a connection messages keep their order; across connections and calls they overtake each other. A connection
//! breaks silently: both ends notice, each in its own time. A call may lose its request or its answer, or arrive when
//! its caller has given up and sent another.

use std::collections::BTreeMap;

use longshore_agent_protocol::acs::{AgentMessage, ServerMessage};
use longshore_api::ecs::{Request, Response};
use longshore_api::{ApiError, Timestamp};
use longshore_core::ids::{InstanceKey, SessionId};

use crate::event::{CallId, ConnId, Event, Frame, Life};
use crate::oracle::{Step, broken};
use crate::random::Random;
use crate::world::World;

/// A caller gives up after this long.
const PATIENCE_MS: i64 = 5_000;
/// A request that arrives after its caller gave up is so much later, at most: late enough to meet what came after it.
const LATE_MS: i64 = 30_000;
/// An end that does not speak notices a broken connection by its own clocks, at the latest after this long.
const NOTICED_MS: i64 = 60_000;

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) random: Random,
    calls: BTreeMap<CallId, Call>,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    next: u64,
    /// Everything that was ever sent, by anybody.
    pub(crate) messages: u64,
}

#[derive(Debug)]
struct Call {
    caller: Caller,
    /// The answer will not arrive.
    loses_answer: bool,
}

/// Who made a call.
#[derive(Debug)]
pub(crate) enum Caller {
    Client { client: usize, request: u64 },
    Register { agent: usize, life: Life },
    Submit { agent: usize, life: Life, task_arn: String, request: Box<Request>, tries: u32 },
}

impl Caller {
    fn agent(&self) -> Option<usize> {
        match self {
            Self::Client { .. } => None,
            Self::Register { agent, .. } | Self::Submit { agent, .. } => Some(*agent),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) agent: usize,
    pub(crate) agent_life: Life,
    /// The server process that took it.
    pub(crate) server_life: Option<Life>,
    /// What the server knows it as.
    pub(crate) session: Option<(SessionId, InstanceKey)>,
    /// Nothing arrives any more, on either side.
    pub(crate) broken: bool,
    /// The server has hung up, or noticed that the agent did.
    pub(crate) server_left: bool,
    last_to_agent: Timestamp,
    last_to_server: Timestamp,
}

impl Network {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, calls: BTreeMap::new(), conns: BTreeMap::new(), next: 0, messages: 0 }
    }

    /// Calls that nobody has answered.
    pub(crate) fn open_calls(&self) -> usize {
        self.calls.len()
    }
}

impl World {
    fn delay(&mut self) -> i64 {
        let longest = self.weather.delay_ms;
        self.network.random.between(0, longest)
    }

    /// Makes a call. Its answer, or its failure, comes to the caller.
    pub(crate) fn call(&mut self, key: u32, request: Request, caller: Caller) {
        self.network.next += 1;
        self.network.messages += 1;
        let id = self.network.next;
        let cut_off = caller.agent().is_some_and(|agent| self.agents[agent].cut_off);
        let unlucky = self.network.random.per_mille(self.weather.lost_calls);
        // 0: the request is lost; 1: it is late; 2: the answer is lost.
        let fate = self.network.random.below(3);
        let arrives_in = match (cut_off, unlucky, fate) {
            (true, _, _) | (false, true, 0) => None,
            (false, true, 1) => Some(PATIENCE_MS + self.network.random.between(0, LATE_MS)),
            _ => Some(self.delay()),
        };
        self.network.calls.insert(id, Call { caller, loses_answer: unlucky && fate == 2 });
        match arrives_in {
            Some(ms) => self.after(ms, Event::Request { call: id, key, request: Box::new(request) }),
            None => self.trace(format_args!("call {id} is lost")),
        }
        if arrives_in.is_none_or(|ms| ms >= PATIENCE_MS) {
            self.after(PATIENCE_MS, Event::CallFails(id));
        }
    }

    /// The server answers a call; or its process is gone, which is an answer too.
    pub(crate) fn respond(&mut self, id: CallId, answer: Option<Result<Response, ApiError>>) {
        let Some(call) = self.network.calls.get(&id) else { return };
        let lost = call.loses_answer || call.caller.agent().is_some_and(|agent| self.agents[agent].cut_off);
        let delay = self.delay();
        match answer {
            _ if lost => self.after(PATIENCE_MS, Event::CallFails(id)),
            Some(answer) => self.after(delay, Event::Response { call: id, answer: Box::new(answer) }),
            None => self.after(delay, Event::CallFails(id)),
        }
    }

    pub(crate) fn call_ends(&mut self, id: CallId, answer: Option<Result<Response, ApiError>>) -> Step {
        let Some(Call { caller, .. }) = self.network.calls.remove(&id) else { return Ok(()) };
        match caller {
            Caller::Client { client, request } => self.client_hears(client, request, answer),
            Caller::Register { agent, life } => self.registered(agent, life, answer),
            Caller::Submit { agent, life, task_arn, request, tries } => {
                self.submitted(agent, life, task_arn, request, tries, answer)
            }
        }
    }

    /// An agent dials.
    pub(crate) fn dial(&mut self, agent: usize, life: Life) -> ConnId {
        self.network.next += 1;
        self.network.messages += 1;
        let id = self.network.next;
        let conn = Conn {
            agent,
            agent_life: life,
            server_life: None,
            session: None,
            broken: false,
            server_left: false,
            last_to_agent: self.now,
            last_to_server: self.now,
        };
        self.network.conns.insert(id, conn);
        let delay = self.delay();
        self.after(delay, Event::Dial(id));
        if self.agents[agent].cut_off {
            self.break_conn(id, 1_000);
        }
        id
    }

    pub(crate) fn send_to_agent(&mut self, id: ConnId, frame: Frame) {
        let delay = self.delay();
        let now = self.now;
        let Some(conn) = self.network.conns.get_mut(&id).filter(|conn| !conn.broken) else { return };
        let at = conn.last_to_agent.max(now.plus_millis(delay));
        conn.last_to_agent = at;
        self.network.messages += 1;
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
        self.network.messages += 1;
        self.at(at, Event::ToServer(id, Box::new(message)));
        Ok(())
    }

    /// Nothing arrives over this connection any more; both ends notice within `noticed_ms`.
    pub(crate) fn break_conn(&mut self, id: ConnId, noticed_ms: i64) {
        let Some(conn) = self.network.conns.get_mut(&id).filter(|conn| !conn.broken) else { return };
        conn.broken = true;
        let agent = self.network.random.between(0, noticed_ms);
        let server = self.network.random.between(0, noticed_ms);
        self.after(agent, Event::AgentHangsUp(id));
        self.after(server, Event::ServerHangsUp(id));
    }

    /// Some connection breaks.
    pub(crate) fn break_some_conn(&mut self) {
        let whole: Vec<ConnId> = self.network.conns.iter().filter(|(_, c)| !c.broken).map(|(id, _)| *id).collect();
        if let Some(&id) = self.network.random.pick(&whole) {
            self.trace(format_args!("connection {id} breaks"));
            self.break_conn(id, NOTICED_MS);
        }
    }

    /// An instance reaches nobody.
    pub(crate) fn cut_off(&mut self, agent: usize) {
        self.agents[agent].cut_off = true;
        let theirs: Vec<ConnId> =
            self.network.conns.iter().filter(|(_, c)| c.agent == agent).map(|(id, _)| *id).collect();
        for id in theirs {
            self.break_conn(id, NOTICED_MS);
        }
    }

    /// The server's process has died: its connections reset, its calls fail.
    pub(crate) fn server_is_gone(&mut self, life: Life, waiting: Vec<CallId>) {
        let theirs: Vec<ConnId> =
            self.network.conns.iter().filter(|(_, c)| c.server_life == Some(life)).map(|(id, _)| *id).collect();
        for id in theirs {
            self.break_conn(id, 1_000);
        }
        for call in waiting {
            self.respond(call, None);
        }
    }

    /// A frame arrives at an agent.
    pub(crate) fn frame_arrives(&mut self, id: ConnId, frame: Frame) -> Step {
        let Some(conn) = self.network.conns.get(&id).filter(|conn| !conn.broken) else { return Ok(()) };
        let (agent, life) = (conn.agent, conn.agent_life);
        if !self.agents[agent].is_session(life, id) {
            return Ok(());
        }
        match frame {
            Frame::Opened => {
                self.trace(format_args!("agent {agent}: session {id} is open"));
                self.agents[agent].session_opened();
                Ok(())
            }
            Frame::Refused(refusal) => {
                self.trace(format_args!("agent {agent}: session {id} is refused: {refusal}"));
                self.session_over(agent, life, false)
            }
            Frame::Closed => {
                self.trace(format_args!("agent {agent}: session {id} was closed"));
                self.network.conns.remove(&id);
                self.session_over(agent, life, true)
            }
            Frame::Message(text) => match ServerMessage::decode(&text) {
                Ok(Some(message)) => self.order(agent, life, message),
                other => broken(0, format!("the server's message {text} reads as {other:?}")),
            },
        }
    }
}
