//! `longshore events`: what happens to tasks and container instances.

use clap::{Args, ValueEnum};

use super::{OutputArgs, ReachArgs};

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on (or since --since), also when the server is started anew meanwhile
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Begin behind this cursor, which an earlier run printed with --output json [default: the oldest event that is remembered;
    /// with --follow: now]
    #[arg(long, value_name = "CURSOR")]
    pub(crate) since: Option<String>,
    /// Of this cluster alone [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Of this kind alone [default: all]
    #[arg(long = "type", value_name = "KIND", value_enum)]
    pub(crate) kind: Option<EventKind>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A kind of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventKind {
    /// Of tasks
    Task,
    /// Of container instances
    Instance,
}
