//! What happens, and to whom. The world's queue holds these in the order of their times.

use longshore_agent::engine::{Action, Input};
use longshore_agent_protocol::acs::AgentMessage;
use longshore_api::ecs::{Request, Response};
use longshore_api::{ApiError, Timestamp, admin};
use longshore_core::Principal;
use longshore_core::identity;
use longshore_core::instance::SessionRefusal;
use longshore_core::pipeline::Committed;

use crate::operator::Errand;

/// A connection between an agent and the server.
pub(crate) type ConnId = u64;
/// A call of the API.
pub(crate) type CallId = u64;
/// Which life of a process something belongs to: what an earlier life awaited means nothing to a later one.
pub(crate) type Life = u64;

/// What a call asks for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Ecs(Request),
    Admin(admin::Request),
}

/// What a call is told.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "few are under way at once, and tests match through them")]
pub(crate) enum Told {
    Ecs(Response),
    Admin(identity::Answer),
}

/// The end of a call.
pub(crate) type Answer = Result<Told, ApiError>;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    ServerStart,
    /// The server's thread comes to look at what it has to do.
    ServerStep(Life),
    /// The disk has done what it will do with the batch under way.
    CommitWritten(Life),
    /// The server learns what became of it.
    CommitReported(Life, Committed),
    ServerLoads(Life),
    ServerProbes(Life),
    ServerTick(Life, Timestamp),
    DiskHasRoom,

    /// A request arrives at the server.
    Request {
        call: CallId,
        principal: Principal,
        ask: Box<Ask>,
    },
    /// Its answer arrives at the caller.
    Response {
        call: CallId,
        answer: Box<Answer>,
    },
    /// The caller gives up, or learns that nobody is there.
    CallFails(CallId),
    /// A machine's network works again.
    LinkHeals(usize),

    /// A connection's first bytes arrive at the server.
    Dial(ConnId),
    ToAgent(ConnId, Frame),
    ToServer(ConnId, Box<AgentMessage>),
    AgentHangsUp(ConnId),
    ServerHangsUp(ConnId),
    /// The server's end is due to say that it is there.
    Heartbeat(ConnId),
    /// An end looks whether the other has fallen silent.
    AgentListens(ConnId),
    ServerListens(ConnId),

    AgentStart(usize),
    AgentRegisters(usize, Life),
    AgentDials(usize, Life),
    AgentTick(usize, Life, Timestamp),
    AgentSaved(usize, Life, u64),
    AgentInput(usize, Life, Box<Input>),
    AgentSubmits {
        agent: usize,
        life: Life,
        task_arn: String,
        request: Box<Request>,
        tries: u32,
    },
    AgentLooksAtDocker(usize, Life),
    /// An operator sets an instance up from nothing.
    Reinstall(usize),

    /// Docker carries out what an agent asked for.
    DockerDoes {
        agent: usize,
        life: Life,
        action: Box<Action>,
    },
    /// A container's process ends by itself.
    ContainerEnds {
        host: usize,
        id: String,
        exit_code: i32,
        out_of_memory: bool,
    },
    ContainerHealthy {
        host: usize,
        id: String,
    },
    DockerUp(usize),

    ClientWakes(usize),
    OperatorWakes,
    /// The operator tries again.
    Errand(Box<Errand>),
    /// The operator gives up what has not come back.
    OperatorTidiesUp,
    Fault,
    StormEnds,
}

/// What travels from the server to an agent over a connection.
#[derive(Debug)]
pub(crate) enum Frame {
    Opened,
    Refused(SessionRefusal),
    Heartbeat(String),
    /// A message as it is on the wire.
    Message(String),
    Closed,
}
