//! `longshore up` and `longshore down`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::server::InsecureArgs;
use super::value::{numbers, zones};
use super::{DataDirArgs, LossArgs, TlsArgs};

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Container instances to register; they share this machine's Docker Engine and its host ports [default: 1]
    #[arg(long, value_name = "N", env = "LONGSHORE_INSTANCES", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) instances: Option<u32>,
    /// Address of the API; port 0 takes a free one [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LONGSHORE_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) insecure: InsecureArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) sizes: SizeArgs,
    #[command(flatten)]
    pub(crate) loss: LossArgs,
    /// Return when the instances are registered, and keep running in the background
    #[arg(long)]
    pub(crate) detach: bool,
    /// Then register the task definition in FILE, run it, and show what becomes of it
    ///
    /// FILE is what `aws ecs register-task-definition --cli-input-json` takes. If a task of its family runs already,
    /// that one is shown and none is added; if FILE was registered before and nothing newer was, that revision is run.
    #[arg(long, value_name = "FILE")]
    pub(crate) run: Option<PathBuf>,
    /// What --detach starts in the background: all settings, as JSON
    #[arg(long, hide = true, value_name = "SETTINGS", conflicts_with_all = ["detach", "run"])]
    pub(crate) supervise: Option<String>,
}

/// What an instance offers.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SizeArgs {
    /// CPU units (1024 for each core) an instance offers; a list gives each its own [default: its share of the machine]
    #[arg(long, value_name = "UNITS[,…]", env = "LONGSHORE_CPU", value_parser = numbers)]
    pub(crate) cpu: Option<String>,
    /// MiB an instance offers; a list gives each its own [default: its share of the machine]
    #[arg(long, value_name = "MIB[,…]", env = "LONGSHORE_MEMORY", value_parser = numbers)]
    pub(crate) memory: Option<String>,
    /// Availability zone of the instance; a list gives each its own [default: the server's]
    #[arg(long, value_name = "ZONE[,…]", env = "LONGSHORE_ZONE", value_parser = zones)]
    pub(crate) zone: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Leave the tasks running; the next `up` takes them over
    #[arg(long)]
    pub(crate) keep_tasks: bool,
}
