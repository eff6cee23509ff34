//! The network: what of it works for each machine, and the calls of the API. Connections are in `connection`.
//!
//! Calls overtake each other, lose their request or their answer, arrive late, or arrive twice. A machine may be cut off
//! in either direction or both.

use std::collections::BTreeMap;

use longshore_api::ecs::{Request, Response};
use longshore_api::{ApiError, admin};
use longshore_core::Principal;

use crate::connection::Conn;
use crate::event::{Answer, Ask, CallId, ConnId, Event, Life, Told};
use crate::operator::Errand;
use crate::oracle::Step;
use crate::random::Random;
use crate::world::World;

/// A caller gives up after this long.
pub(crate) const PATIENCE_MS: i64 = 5_000;
/// A request that arrives after its caller gave up is so much later, at most: late enough to meet what came after it.
pub(crate) const LATE_MS: i64 = 30_000;

/// What of a machine's network works. TCP needs both ways for a connection to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Link {
    #[default]
    Whole,
    /// What the machine sends is lost: it hears the control plane, and is not heard.
    Mute,
    /// What is sent to it is lost: its requests arrive, answers and orders do not.
    Deaf,
    /// Both.
    Cut,
}

impl Link {
    pub(crate) fn speaks(self) -> bool {
        matches!(self, Self::Whole | Self::Deaf)
    }

    pub(crate) fn hears(self) -> bool {
        matches!(self, Self::Whole | Self::Mute)
    }
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) random: Random,
    calls: BTreeMap<CallId, Call>,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    next: u64,
    /// Everything that was ever sent, by anybody, except heartbeats.
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
    Operator(Errand),
    Join { agent: usize, life: Life },
    Register { agent: usize, life: Life },
    Submit { agent: usize, life: Life, task_arn: String, request: Box<Request>, tries: u32 },
}

impl Caller {
    fn agent(&self) -> Option<usize> {
        match self {
            Self::Client { .. } | Self::Operator(_) => None,
            Self::Join { agent, .. } | Self::Register { agent, .. } | Self::Submit { agent, .. } => Some(*agent),
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    /// It arrives when its caller has given up.
    Late,
    /// It arrives, and again later: somebody between caller and server sent it once more.
    Twice,
    /// It arrives, its answer does not.
    Unanswered,
}

impl Network {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, calls: BTreeMap::new(), conns: BTreeMap::new(), next: 0, messages: 0 }
    }

    /// Calls that nobody has answered.
    pub(crate) fn open_calls(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Whether a request may be carried out twice without anybody having asked for two things.
fn may_repeat(ask: &Ask) -> bool {
    match ask {
        Ask::Ecs(Request::RunTask(request)) => request.client_token.is_some(),
        // It has no client token.
        Ask::Ecs(Request::StartTask(_)) => false,
        Ask::Admin(admin::Request::CreateJoinToken(_)) => false,
        Ask::Ecs(_) | Ask::Admin(_) => true,
    }
}

impl World {
    pub(crate) fn delay(&mut self) -> i64 {
        let longest = self.weather.delay_ms;
        self.network.random.between(0, longest)
    }

    fn link_of(&self, caller: &Caller) -> Link {
        caller.agent().map(|agent| self.hosts[self.agents[agent].host].link).unwrap_or_default()
    }

    fn fate(&mut self, caller: &Caller, ask: &Ask) -> Fate {
        if !self.link_of(caller).speaks() {
            // What TCP holds back may still be delivered once the link is whole.
            return if self.network.random.per_mille(300) { Fate::Late } else { Fate::Lost };
        }
        if !self.network.random.per_mille(self.weather.lost_calls) {
            return Fate::Arrives;
        }
        match self.network.random.below(4) {
            0 => Fate::Lost,
            1 => Fate::Late,
            2 if may_repeat(ask) => Fate::Twice,
            _ => Fate::Unanswered,
        }
    }

    /// Makes a call. Its answer, or its failure, comes to the caller.
    pub(crate) fn call(&mut self, principal: Principal, ask: Ask, caller: Caller) {
        self.network.messages += 1;
        let id = self.network.next_id();
        let fate = self.fate(&caller, &ask);
        let delay = self.delay();
        let late = self.network.random.between(0, LATE_MS);
        self.network.calls.insert(id, Call { caller, loses_answer: fate == Fate::Unanswered });
        let arrives = |ask| Event::Request { call: id, principal: principal.clone(), ask: Box::new(ask) };
        match fate {
            Fate::Arrives | Fate::Unanswered => self.after(delay, arrives(ask)),
            Fate::Lost => self.trace(format_args!("call {id} is lost")),
            Fate::Late => self.after(PATIENCE_MS + late, arrives(ask)),
            Fate::Twice => {
                self.after(delay, arrives(ask.clone()));
                self.after(delay + late, arrives(ask));
            }
        }
        if matches!(fate, Fate::Lost | Fate::Late) {
            self.after(PATIENCE_MS, Event::CallFails(id));
        }
    }

    /// The server answers a call; or its process is gone, which is an answer too.
    pub(crate) fn respond(&mut self, id: CallId, answer: Option<Answer>) {
        let Some(call) = self.network.calls.get(&id) else { return };
        let lost = call.loses_answer || !self.link_of(&call.caller).hears();
        let delay = self.delay();
        match answer {
            _ if lost => self.after(PATIENCE_MS, Event::CallFails(id)),
            Some(answer) => self.after(delay, Event::Response { call: id, answer: Box::new(answer) }),
            None => self.after(delay, Event::CallFails(id)),
        }
    }

    pub(crate) fn call_ends(&mut self, id: CallId, answer: Option<Answer>) -> Step {
        let Some(Call { caller, .. }) = self.network.calls.remove(&id) else { return Ok(()) };
        match caller {
            Caller::Client { client, request } => self.client_hears(client, request, ecs(answer)),
            Caller::Operator(errand) => self.operator_hears(errand, answer),
            Caller::Join { agent, life } => self.joined(agent, life, answer),
            Caller::Register { agent, life } => self.registered(agent, life, ecs(answer)),
            Caller::Submit { agent, life, task_arn, request, tries } => {
                self.submitted(agent, life, task_arn, request, tries, ecs(answer))
            }
        }
    }

    /// Part of a machine's network stops working for a while.
    pub(crate) fn link_fails(&mut self, host: usize, link: Link, lasts_ms: i64) {
        self.trace(format_args!("host {host} is {link:?} for {lasts_ms} ms"));
        self.hosts[host].link = link;
        self.hosts[host].link_whole_at = self.now.plus_millis(lasts_ms);
        self.after(lasts_ms, Event::LinkHeals(host));
    }

    /// The machine's network works again, unless it failed once more meanwhile.
    pub(crate) fn link_heals(&mut self, host: usize) {
        if self.hosts[host].link == Link::Whole || self.hosts[host].link_whole_at > self.now {
            return;
        }
        self.trace(format_args!("host {host} is whole again"));
        self.hosts[host].link = Link::Whole;
        let theirs = self.network.conns.iter().filter(|(_, conn)| self.agents[conn.agent].host == host);
        for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.conn_recovers(id);
        }
    }
}

/// An answer to a caller that asked for something of ECS.
fn ecs(answer: Option<Answer>) -> Option<Result<Response, ApiError>> {
    match answer? {
        Ok(Told::Ecs(response)) => Some(Ok(response)),
        Ok(Told::Admin(_)) => None,
        Err(refused) => Some(Err(refused)),
    }
}
