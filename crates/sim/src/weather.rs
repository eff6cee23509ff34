//! How hard it blows: each run has its own weather.

use longshore_core::config::{LossPolicy, Retention};

use crate::brain::Kind;
use crate::catalog::CLUSTERS;
use crate::random::Random;

/// The weather of a run. Some kinds of fault are left out altogether, because rare combinations hide behind frequent ones.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Machines.
    pub(crate) hosts: usize,
    /// The container instances: where they live, whose agent they have, and in which cluster they are.
    pub(crate) homes: Vec<(usize, Kind, &'static str)>,
    /// Machines have keys of their own, got by joining; else all share the owner's.
    pub(crate) joined: bool,
    pub(crate) clients: usize,
    /// Milliseconds between a client's requests, on average.
    pub(crate) client_pause_ms: i64,
    /// Milliseconds between an operator's interventions, on average; 0 when there is no operator.
    pub(crate) operator_pause_ms: i64,
    /// Milliseconds between faults, on average.
    pub(crate) fault_pause_ms: i64,
    /// The kinds of faults of this run.
    pub(crate) faults: Vec<Fault>,
    /// Calls in a thousand that lose their request, their response, arrive late or twice.
    pub(crate) lost_calls: i64,
    /// The longest that a message takes.
    pub(crate) delay_ms: i64,
    /// The longest that a part of the network is gone.
    pub(crate) partition_ms: i64,
    /// The longest that a commit takes.
    pub(crate) commit_ms: i64,
    /// The longest that an agent's save takes.
    pub(crate) save_ms: i64,
    pub(crate) retention: Retention,
    pub(crate) loss: LossPolicy,
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
    /// Every commit takes seconds.
    DiskSlow,
    Fenced,
    AgentCrash,
    /// The agent's disk takes nothing for a while: it is full, or slow.
    AgentDiskStuck,
    /// The agent restarts, and offers more or less than before.
    AgentResized,
    ConnectionReset,
    /// A connection dies, and neither end is told.
    SilentDeath,
    /// An agent dials although it has a session.
    SecondSession,
    /// A machine reaches nobody, or is reached by nobody, or both, for a while.
    Partition,
    /// Several machines are gone at once.
    MassLoss,
    DockerRestart,
    HostReboot,
    /// A machine is gone for good.
    MachineDies,
    /// Somebody removes a container behind its agent's back.
    ContainerRemoved,
    /// The server's clock is set.
    ServerClockJumps,
    /// A machine's clock is set.
    HostClockJumps,
}

const FAULTS: [Fault; 20] = [
    Fault::ServerCrash,
    Fault::CommitFails,
    Fault::CommitLost,
    Fault::DiskFull,
    Fault::DiskSlow,
    Fault::Fenced,
    Fault::AgentCrash,
    Fault::AgentDiskStuck,
    Fault::AgentResized,
    Fault::ConnectionReset,
    Fault::SilentDeath,
    Fault::SecondSession,
    Fault::Partition,
    Fault::MassLoss,
    Fault::DockerRestart,
    Fault::HostReboot,
    Fault::MachineDies,
    Fault::ContainerRemoved,
    Fault::ServerClockJumps,
    Fault::HostClockJumps,
];

impl Weather {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::of(seed, "weather");
        let faults = FAULTS.into_iter().filter(|_| random.per_mille(500)).collect();
        let hosts = [1, 2, 3, 3, 4, 6][random.below(6)];
        let kept_ms = one_of(&mut random, &[20_000, 60_000, 3_600_000]);
        let kept = one_of(&mut random, &[5, 1_000]) as usize;
        Self {
            faults,
            hosts,
            homes: homes(&mut random, hosts),
            joined: random.per_mille(600),
            loss: loss(&mut random),
            retention: Retention { at_least_ms: kept_ms, at_most_ms: 2 * kept_ms, count: kept },
            clients: one_of(&mut random, &[1, 2, 4]) as usize,
            client_pause_ms: one_of(&mut random, &[500, 1_500, 4_000]),
            operator_pause_ms: one_of(&mut random, &[0, 6_000, 25_000]),
            fault_pause_ms: one_of(&mut random, &[1_500, 5_000, 15_000]),
            lost_calls: one_of(&mut random, &[0, 20, 150]),
            delay_ms: one_of(&mut random, &[5, 50, 1_000]),
            partition_ms: one_of(&mut random, &[5_000, 40_000, 120_000]),
            commit_ms: one_of(&mut random, &[2, 20, 500]),
            save_ms: one_of(&mut random, &[2, 30, 500]),
            cleanup_ms: one_of(&mut random, &[5_000, 60_000, 3_600_000]),
            docker_errors: one_of(&mut random, &[0, 10, 60]),
        }
    }

    /// The sky clears: what is under way takes its time, nothing fails any more.
    pub(crate) fn clear(&mut self) {
        self.faults.clear();
        self.lost_calls = 0;
        self.docker_errors = 0;
        self.operator_pause_ms = 0;
        self.delay_ms = self.delay_ms.min(50);
        self.commit_ms = self.commit_ms.min(20);
        self.save_ms = self.save_ms.min(30);
    }
}

fn one_of(random: &mut Random, choices: &[i64]) -> i64 {
    random.pick(choices).copied().unwrap_or_default()
}

/// The first machine has two instances of our agent, unless all agents are official: those have one machine each. Now and
/// then the last machine is in a cluster of its own.
fn homes(random: &mut Random, hosts: usize) -> Vec<(usize, Kind, &'static str)> {
    let officials = random.below(3);
    let apart = hosts > 1 && random.per_mille(300);
    let kind = |host: usize| match officials {
        0 => Kind::Ours,
        1 if host.is_multiple_of(2) => Kind::Ours,
        1 => Kind::Official,
        _ if hosts > 2 => Kind::Official,
        _ => Kind::Ours,
    };
    let cluster = |host: usize| if apart && host + 1 == hosts { CLUSTERS[1] } else { CLUSTERS[0] };
    let twin = (kind(0) == Kind::Ours).then_some(0);
    twin.into_iter().chain(0..hosts).map(|host| (host, kind(host), cluster(host))).collect()
}

fn loss(random: &mut Random) -> LossPolicy {
    let lost_after_ms = [Some(8_000), Some(20_000), Some(60_000), None][random.below(4)];
    LossPolicy {
        lost_after_ms,
        official_lost_after_ms: lost_after_ms.map(|ms| ms * one_of(random, &[1, 3])),
        return_grace_ms: one_of(random, &[2_000, 30_000]),
        official_return_grace_ms: one_of(random, &[2_000, 60_000]),
        brake_percent: one_of(random, &[30, 30, 60]) as u32,
        ..LossPolicy::default()
    }
}
