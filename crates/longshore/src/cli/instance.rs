//! `longshore instance`: the machines that joined.

use clap::{Args, Subcommand};

use super::{DataDirArgs, OutputArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// List the machines' access keys, each with its container instances and how they are
    List(ListInstancesArgs),
    /// Make a machine's access key useless at once: its sessions are closed, its tasks count as lost
    ///
    /// Its containers run on until somebody stops them on that machine, which can no longer be told to.
    Revoke(RevokeInstanceArgs),
    /// Say that a cluster's vanished machines are gone, so that the mass-loss brake gives them up
    ///
    /// The brake holds when many machines vanish at once, because that looks like a network failure. What was given up
    /// and returns after all is told to stop the tasks that were replaced.
    Evict(EvictArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListInstancesArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// This cluster alone [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeInstanceArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// The machine's access key id (LSIN…), or the ARN of one of its container instances
    #[arg(value_name = "KEY_ID|ARN")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct EvictArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// The cluster whose vanished machines are gone
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
}
