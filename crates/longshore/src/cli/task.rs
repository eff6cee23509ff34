//! `longshore ps`, `task`, `logs`: tasks, one of them, and what it printed.

use std::time::Duration;

use clap::Args;

use super::value::duration;
use super::{OutputArgs, ReachArgs};

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// This cluster alone [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Tasks that have stopped or are to stop, too, as long as they are remembered
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Tasks of this family of task definitions alone
    #[arg(long, value_name = "NAME")]
    pub(crate) family: Option<String>,
    /// Tasks on this container instance alone, by its id or ARN; needs --cluster unless that is `default`
    #[arg(long, value_name = "ID")]
    pub(crate) instance: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which task is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhichTask {
    /// The task's id, the beginning of it, or its ARN
    #[arg(value_name = "TASK")]
    pub(crate) task: String,
    /// The cluster it is in [default: wherever it is]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    #[command(flatten)]
    pub(crate) which: WhichTask,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) which: WhichTask,
    /// Go on with what is printed from now on, until the task has stopped or Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// This container alone [default: all of the task's]
    #[arg(long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Of what is there, the last N lines of each container [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=1_000_000))]
    pub(crate) tail: Option<i32>,
    /// What was printed in the last so much time, like 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// Begin each line with the time it was printed at
    #[arg(long)]
    pub(crate) timestamps: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
