//! `longshore scheduler`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use longshore_api::admin::{SCHEDULER_DEADLINE_SECONDS, SchedulerFallback};

use super::value::duration;
use super::{OutputArgs, ReachArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum SchedulerCommand {
    /// Name the scheduler of a cluster: from then on it decides where the tasks of RunTask go
    ///
    /// It is asked by POST with JSON: `cluster`, `tasks` (each with what it needs and up to 100 `candidates`), `refused`; and
    /// answers with JSON: `placements`, each with `taskArn` and `containerInstanceArn`.
    #[command(
        after_help = "Examples:\n  longshore scheduler set batch --url http://127.0.0.1:8000/\n  longshore scheduler set batch --url https://packer.example/place --deadline 30s --fallback wait"
    )]
    Set(SetSchedulerArgs),
    /// Show the scheduler of a cluster, and how many tasks wait for it
    ///
    /// With --output json one object: `cluster`, `scheduler` (`url`, `deadlineSeconds`, `fallback`; absent if there is none),
    /// `waitingTasks`.
    Show(ShowSchedulerArgs),
    /// Take the scheduler of a cluster away: the server places its tasks itself, also those that wait
    ///
    /// Of those that wait, what fits nowhere is STOPPED at once, unless it may wait for room (the tag longshore:max-wait).
    Unset(UnsetSchedulerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetSchedulerArgs {
    /// The cluster
    pub(crate) cluster: String,
    /// Where the scheduler is asked
    #[arg(long)]
    pub(crate) url: String,
    /// How long it may take to decide about a task, up to an hour
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = deadline)]
    pub(crate) deadline: Duration,
    /// What becomes of a task that it does not decide about in time; counts for tasks that wait already, too
    #[arg(long, value_enum, default_value_t)]
    pub(crate) fallback: Fallback,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowSchedulerArgs {
    /// The cluster
    pub(crate) cluster: String,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UnsetSchedulerArgs {
    /// The cluster
    pub(crate) cluster: String,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// What becomes of a task that a scheduler does not decide about in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fallback {
    /// The server places it; what fits nowhere stops, unless it may wait
    #[default]
    Place,
    /// It stops
    Stop,
    /// It waits on
    Wait,
}

impl From<Fallback> for SchedulerFallback {
    fn from(fallback: Fallback) -> Self {
        match fallback {
            Fallback::Place => Self::Place,
            Fallback::Stop => Self::Stop,
            Fallback::Wait => Self::Wait,
        }
    }
}

fn deadline(text: &str) -> Result<Duration, String> {
    let given = duration(text)?;
    let longest_s = SCHEDULER_DEADLINE_SECONDS.end().unsigned_abs();
    match given.as_secs() <= u64::from(longest_s) {
        true => Ok(given),
        false => Err("a scheduler has an hour at most".to_owned()),
    }
}
