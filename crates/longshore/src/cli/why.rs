//! `longshore why`: where a task could run, and why not elsewhere.

use clap::Args;

use super::{OutputArgs, ReachArgs};

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// FAMILY (its latest ACTIVE revision), FAMILY:REVISION, or an ARN
    #[arg(value_name = "TASK_DEFINITION")]
    pub(crate) task_definition: String,
    /// The cluster to run it in
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: String,
    /// How many copies
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) count: i32,
    /// A subnet that RunTask would name, for a definition with network mode awsvpc; all of them without it. May be repeated
    #[arg(long = "subnet", value_name = "ID")]
    pub(crate) subnets: Vec<String>,
    /// An expression of the cluster query language that the instance must satisfy, besides those of the definition
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) member_of: Vec<String>,
    /// Not where a task of the same group is
    #[arg(long)]
    pub(crate) distinct_instance: bool,
    /// The group of the tasks [default: family:FAMILY]
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
