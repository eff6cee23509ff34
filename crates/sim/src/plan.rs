//! What a run is to be like.

use crate::random::Random;

/// A run. Two runs of the same plan are the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long clients work and faults happen, in milliseconds of simulated time.
    pub storm_ms: i64,
    /// A deliberate mistake of the simulated shells, to prove that the invariants notice.
    pub sabotage: Option<Sabotage>,
    /// Print every line of the trace.
    pub loud: bool,
}

impl Plan {
    /// The ordinary run of a seed: two minutes of storm.
    pub fn of(seed: u64) -> Self {
        Self { seed, storm_ms: 120_000, sabotage: None, loud: false }
    }
}

/// Mistakes that the shells around core and engine could make. None of them is in the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The server releases replies and effects when a commit begins instead of when it has ended.
    ReplyBeforeCommit,
    /// The disk says that a commit is durable, and forgets it in a crash.
    LyingDisk,
    /// The agent's disk says that the records of some tasks are durable, and never writes them.
    DropSave,
    /// After a restart the server starts anew to count the messages of its agents.
    ReuseSequence,
    /// An order to run a task goes to a second instance as well.
    MisdeliverStart,
    /// An agent that loses its session stops its containers.
    StopOnLostSession,
    /// The server processes a repeated request with a client token as a new one.
    ForgetToken,
    /// An agent that restarts starts exited containers again.
    RestartExited,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ReplyBeforeCommit,
        Self::LyingDisk,
        Self::DropSave,
        Self::ReuseSequence,
        Self::MisdeliverStart,
        Self::StopOnLostSession,
        Self::ForgetToken,
        Self::RestartExited,
    ];
}

/// How hard it blows. Each run has its own weather: some kinds of fault are left out altogether, because rare
/// combinations hide behind frequent ones.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Machines; the first has two container instances.
    pub(crate) hosts: usize,
    pub(crate) clients: usize,
    /// Milliseconds between a client's requests, on average.
    pub(crate) client_pause_ms: i64,
    /// Milliseconds between faults, on average.
    pub(crate) fault_pause_ms: i64,
    /// The kinds of faults of this run.
    pub(crate) faults: Vec<Fault>,
    /// Calls in a thousand that lose their request, their response, or arrive after the caller gave up.
    pub(crate) lost_calls: i64,
    /// The longest that a message takes.
    pub(crate) delay_ms: i64,
    /// The longest that a commit takes.
    pub(crate) commit_ms: i64,
    /// The longest that an agent's save takes.
    pub(crate) save_ms: i64,
    /// How long stopped tasks are kept at least.
    pub(crate) kept_ms: i64,
    /// How many stopped tasks are kept beyond that.
    pub(crate) kept: usize,
    /// How long agents keep the containers of stopped tasks.
    pub(crate) cleanup_ms: i64,
    /// Docker calls in a thousand that fail or time out.
    pub(crate) docker_errors: i64,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    ServerCrash,
    CommitFails,
    CommitLost,
    DiskFull,
    Fenced,
    AgentCrash,
    ConnectionBreaks,
    /// An agent dials although it has a session.
    SecondSession,
    /// An instance reaches nobody for a while.
    Partition,
    DockerRestart,
    HostReboot,
    /// Somebody removes a container behind its agent's back.
    ContainerRemoved,
}

const FAULTS: [Fault; 12] = [
    Fault::ServerCrash,
    Fault::CommitFails,
    Fault::CommitLost,
    Fault::DiskFull,
    Fault::Fenced,
    Fault::AgentCrash,
    Fault::ConnectionBreaks,
    Fault::SecondSession,
    Fault::Partition,
    Fault::DockerRestart,
    Fault::HostReboot,
    Fault::ContainerRemoved,
];

impl Weather {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::of(seed, "weather");
        let faults = FAULTS.into_iter().filter(|_| random.per_mille(600)).collect();
        let mut one_of = |choices: &[i64]| random.pick(choices).copied().unwrap_or_default();
        Self {
            faults,
            hosts: one_of(&[1, 2, 3]) as usize,
            clients: one_of(&[1, 2, 4]) as usize,
            client_pause_ms: one_of(&[500, 1_500, 4_000]),
            fault_pause_ms: one_of(&[1_500, 5_000, 15_000]),
            lost_calls: one_of(&[0, 20, 150]),
            delay_ms: one_of(&[5, 50, 1_000]),
            commit_ms: one_of(&[2, 20, 500]),
            save_ms: one_of(&[2, 30, 500]),
            kept_ms: one_of(&[20_000, 60_000, 3_600_000]),
            kept: one_of(&[5, 1_000]) as usize,
            cleanup_ms: one_of(&[5_000, 60_000, 3_600_000]),
            docker_errors: one_of(&[0, 10, 60]),
        }
    }

    /// The sky clears: what is under way takes its time, nothing fails any more.
    pub(crate) fn clear(&mut self) {
        self.faults.clear();
        self.lost_calls = 0;
        self.docker_errors = 0;
        self.delay_ms = self.delay_ms.min(50);
        self.commit_ms = self.commit_ms.min(20);
        self.save_ms = self.save_ms.min(30);
    }
}
