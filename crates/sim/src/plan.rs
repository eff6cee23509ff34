//! What a run is to be like, and the deliberate mistakes that prove that the invariants notice.

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
    /// A report that a task has stopped is acknowledged, and what the task held is never given back.
    ForgetRelease,
    /// The server takes an agent for silent that it has just heard.
    EvictConnected,
    /// The loss clock starts before the agent was last heard of.
    EvictEarly,
    /// The server never notices that an agent has fallen silent.
    NeverEvict,
    /// Whenever the mass-loss brake engages, somebody releases it.
    IgnoreBrake,
    /// Stale copies on an instance that is back are not told to stop.
    KeepStaleCopies,
    /// An agent does what an old session says.
    ObeyOldSession,
    /// Tasks are placed on instances that drain.
    PlaceOnDraining,
    /// An agent that restarts believes its records instead of Docker.
    AdoptUnverified,
    /// An agent carries out an order to start twice when it comes twice.
    RunTwice,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::ReplyBeforeCommit,
        Self::LyingDisk,
        Self::DropSave,
        Self::ReuseSequence,
        Self::MisdeliverStart,
        Self::StopOnLostSession,
        Self::ForgetToken,
        Self::RestartExited,
        Self::ForgetRelease,
        Self::EvictConnected,
        Self::EvictEarly,
        Self::NeverEvict,
        Self::IgnoreBrake,
        Self::KeepStaleCopies,
        Self::ObeyOldSession,
        Self::PlaceOnDraining,
        Self::AdoptUnverified,
        Self::RunTwice,
    ];

    /// The invariants that are there to notice it.
    pub fn breaks(self) -> &'static [u8] {
        match self {
            Self::ReplyBeforeCommit => &[18],
            Self::LyingDisk => &[4, 5],
            Self::DropSave => &[7, 15],
            Self::ReuseSequence => &[1],
            Self::MisdeliverStart | Self::RestartExited | Self::RunTwice => &[2],
            Self::StopOnLostSession | Self::ObeyOldSession => &[12],
            Self::ForgetToken => &[11],
            Self::ForgetRelease | Self::AdoptUnverified => &[7],
            Self::EvictConnected | Self::EvictEarly | Self::NeverEvict => &[19],
            // Released by nobody who may, it gives up what is missing at once.
            Self::IgnoreBrake => &[19, 20],
            Self::KeepStaleCopies => &[15],
            Self::PlaceOnDraining => &[10],
        }
    }
}
