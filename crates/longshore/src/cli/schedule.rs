//! `longshore schedule`: what runs again and again.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::value::{Pair, duration};
use super::{OutputArgs, ReachArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Make a schedule
    ///
    /// Tasks are run as RunTask does it, with the same checks. They are marked: `startedBy` is schedule/NAME, the tag
    /// longshore:schedule is NAME, and the group is schedule:NAME unless --group says otherwise.
    #[command(
        after_help = "Examples:\n  longshore schedule create nightly --cron '0 3 * * ? *' --timezone Europe/Berlin --task-definition report\n  \
                            longshore schedule create sync --rate '5 minutes' --overlap skip --task-definition sync:7\n  \
                            longshore schedule create once --at 2027-01-01T00:00:00 --task-definition fireworks --count 3"
    )]
    Create(Box<CreateScheduleArgs>),
    /// List the schedules: when each is due next, and what came of it last
    List(ListSchedulesArgs),
    /// Show a schedule with its history, newest first
    Show(OneScheduleArgs),
    /// Keep a schedule from being due until it is resumed
    Pause(OneScheduleArgs),
    /// Make a paused schedule due again; what was due meanwhile is not made up for
    Resume(OneScheduleArgs),
    /// Invoke a schedule now, also one that is paused or over
    Run(OneScheduleArgs),
    /// Forget a schedule and its history; its tasks go on
    Delete(OneScheduleArgs),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("when").required(true).args(["cron", "rate", "at"]))]
pub(crate) struct CreateScheduleArgs {
    /// 1 to 64 letters, digits and - _ .
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Six fields, as EventBridge Scheduler has them: minutes hours day-of-month month day-of-week year
    #[arg(long, value_name = "FIELDS")]
    pub(crate) cron: Option<String>,
    /// Again and again: '1 minute', '5 minutes', '12 hours', '7 days'; the first time now, or at --start
    #[arg(long, value_name = "VALUE UNIT")]
    pub(crate) rate: Option<String>,
    /// Once: yyyy-mm-ddThh:mm:ss
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// FAMILY (its latest ACTIVE revision at that time), FAMILY:REVISION, or an ARN
    #[arg(long, value_name = "NAME")]
    pub(crate) task_definition: String,
    /// The cluster to run it in
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: String,
    /// How many copies each time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10))]
    pub(crate) count: i32,
    /// The time zone of --cron, --at, --start and --end
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(crate) timezone: String,
    /// While tasks of an earlier invocation are not STOPPED: run beside them, run nothing, or stop them first
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    pub(crate) overlap: Overlap,
    /// How often an invocation is tried again [default: 185]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=185))]
    pub(crate) retries: Option<i32>,
    /// For how long it is tried again, and made up for when no server ran: from 60s to 1d [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) retry_window: Option<Duration>,
    /// After what it is tried again: tasks that could not be placed, or also tasks that failed
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub(crate) retry_on: RetryAfter,
    /// Not due earlier: yyyy-mm-ddThh:mm:ss
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,
    /// Not due later: yyyy-mm-ddThh:mm:ss
    #[arg(long, value_name = "TIME")]
    pub(crate) end: Option<String>,
    /// The group of the tasks [default: schedule:NAME]
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// EC2, FARGATE or EXTERNAL
    #[arg(long, value_name = "TYPE")]
    pub(crate) launch_type: Option<String>,
    /// JSON file with `overrides` as RunTask has them
    #[arg(long, value_name = "FILE")]
    pub(crate) overrides: Option<PathBuf>,
    /// JSON file with `networkConfiguration` as RunTask has it
    #[arg(long, value_name = "FILE")]
    pub(crate) network: Option<PathBuf>,
    /// A tag of the tasks; repeatable
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<Pair>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What happens while tasks of an earlier invocation are not STOPPED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overlap {
    #[default]
    Allow,
    Skip,
    Replace,
}

/// After what an invocation is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RetryAfter {
    #[default]
    Placement,
    Exit,
}

#[derive(Debug, Args)]
pub(crate) struct ListSchedulesArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OneScheduleArgs {
    /// The schedule
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
