//! `longshore status`: everything at a glance.

use clap::Args;

use super::{OutputArgs, ReachArgs};

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// This cluster alone [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
