//! `longshore agent`: run, join, drain.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use longshore_agent::ConfigLocation;

use super::up::SizeArgs;
use super::value::{Pair, Token, duration};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AgentArgs {
    #[command(subcommand)]
    pub(crate) command: Option<AgentCommand>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Make this machine a container instance of a server's cluster, and run its agent
    ///
    /// `longshore token create` on the server's machine prints this command with its values. The machine receives an
    /// access key of its own, kept in ECS_DATADIR/identity.json (mode 0600), and is bound to that server from then on;
    /// the token is not needed again. Repeating the command is harmless: a machine that joined already just starts.
    Join(Box<JoinArgs>),
    /// Let this machine's instances take no new tasks, for maintenance
    ///
    /// Their tasks run on until somebody stops them; services move theirs to other instances. --undo takes it back.
    Drain(DrainArgs),
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Read settings from this file alone, or from s3://bucket/key [default: /var/lib/ecs/ecs.config, then
    /// /etc/ecs/ecs.config]
    ///
    /// An object is fetched anew at each start, with AWS credentials from where the AWS tools look for them, from the
    /// store that AWS_ENDPOINT_URL_S3 names. The files in the usual places count for more than it, the environment for
    /// more than both. While the store is out of reach, its last copy in ECS_DATADIR is used.
    #[arg(long, value_name = "FILE|s3://…", env = "LONGSHORE_AGENT_CONFIG", value_parser = config_location())]
    pub(crate) config: Option<ConfigLocation>,
    /// Return when the instances are registered and connected, and let the agent run in the background
    ///
    /// When that takes longer than a minute, because the server is away for instance, the command fails and the agent
    /// goes on trying.
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// What --detach starts in the background
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) background: bool,
}

/// What this machine offers as container instances.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HostArgs {
    /// Container instances of this machine; they share its Docker Engine and its host ports [default: 1]
    #[arg(long, value_name = "N", env = "LONGSHORE_INSTANCES", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) instances: Option<u32>,
    #[command(flatten)]
    pub(crate) sizes: SizeArgs,
    /// Take tasks that log to CloudWatch (awslogs), and keep their logs on this machine: json-file
    #[arg(long, value_name = "DRIVER", env = "LONGSHORE_AWSLOGS_AS", value_parser = ["json-file"])]
    pub(crate) awslogs_as: Option<String>,
    /// A custom attribute of the instances, for placement constraints; repeatable
    #[arg(long = "attribute", value_name = "NAME=VALUE")]
    pub(crate) attributes: Vec<Pair>,
    /// A tag of the instances; repeatable
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<Pair>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct JoinArgs {
    /// URL of the server, as this machine reaches it
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// What `longshore token create` printed; while this runs, other users of this machine see it in process lists
    #[arg(long, env = "LONGSHORE_TOKEN", hide_env_values = true, required_unless_present = "token_file")]
    pub(crate) token: Option<Token>,
    /// Read the token from this file, or from standard input if it is -
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// Trust the server whose certificate chain holds a certificate with this fingerprint, sha256:… in hex
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) ca_fingerprint: Option<String>,
    /// Trust the authorities in this file (PEM) instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "ca_fingerprint")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Join over plain HTTP beyond this machine, on a network that is trusted: the key that is received can be read
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DrainArgs {
    /// Wait until no task is left, for at most this long [default without a value: as long as it takes]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, value_parser = duration)]
    #[expect(clippy::option_option, reason = "not given, given without a limit, given with one")]
    pub(crate) wait: Option<Option<Duration>>,
    /// Take new tasks again
    #[arg(long, conflicts_with = "wait")]
    pub(crate) undo: bool,
    /// Read settings from this file alone, or from s3://bucket/key, as the agent was told to
    #[arg(long, value_name = "FILE|s3://…", env = "LONGSHORE_AGENT_CONFIG", value_parser = config_location())]
    pub(crate) config: Option<ConfigLocation>,
}

fn config_location() -> impl TypedValueParser<Value = ConfigLocation> {
    PathBufValueParser::new().try_map(ConfigLocation::try_from)
}
