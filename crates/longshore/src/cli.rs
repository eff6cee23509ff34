//! The command line: what can be typed, and the help one gets.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Where the API listens unless told otherwise: this machine only, on a port that nothing well known uses.
pub(crate) const DEFAULT_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8470));
const DEFAULT_DATA_DIR: &str = "/var/lib/longshore";

/// Runs containers on your own machines behind the Amazon ECS API.
///
/// `longshore up` starts everything on this machine. `longshore server` and `longshore agent` are its two halves, for
/// machines of their own.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a server and an agent on this machine, and keep them running
    ///
    /// Both are processes of their own and are started again if they die. Running it once more changes nothing that
    /// runs. Without --detach it stays in the foreground until Ctrl-C, which stops server and agent and leaves tasks
    /// running.
    Up(UpArgs),
    /// Stop what `up` started: the tasks on its instances, the agent, the server
    Down(DownArgs),
    /// Run the control plane: the ECS API, and the endpoints that agents connect to
    Server(ServerArgs),
    /// Run the agent: make this machine a container instance of a cluster
    ///
    /// Settings are those of the official agent, from /etc/ecs/ecs.config and ECS_* variables: ECS_CLUSTER,
    /// ECS_BACKEND_HOST (the server's URL), ECS_DATADIR, ECS_IMAGE_PULL_BEHAVIOR and the rest, with the usual AWS_*
    /// variables for keys and region. LONGSHORE_INSTANCES=N makes this machine N container instances.
    Agent(AgentArgs),
    /// Print shell lines that point the AWS CLI and SDKs at a running server
    ///
    /// Use it as  eval "$(longshore env)". Calls to ECS go to this server; its key and region are
    /// those of every AWS call of the shell.
    Env(DataDirArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DataDirArgs {
    /// Folder that holds all state, and by which the other commands find what runs
    #[arg(long, value_name = "DIR", env = "LONGSHORE_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InsecureArgs {
    /// Offer the API beyond this machine although it is plain HTTP: requests are signed, but can be read on the way
    #[arg(long, env = "LONGSHORE_INSECURE")]
    pub(crate) insecure: bool,
}

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
    /// Return when the instances are registered, and keep running in the background
    #[arg(long)]
    pub(crate) detach: bool,
    /// Then register the task definition in FILE, run it, and show what becomes of it
    ///
    /// FILE is what `aws ecs register-task-definition --cli-input-json` takes. If a task of its family runs already,
    /// that one is shown and none is added.
    #[arg(long, value_name = "FILE")]
    pub(crate) run: Option<PathBuf>,
    /// What --detach starts in the background
    #[arg(long, hide = true, conflicts_with_all = ["detach", "run"])]
    pub(crate) supervise: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Leave the tasks running; the next `up` takes them over
    #[arg(long)]
    pub(crate) keep_tasks: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Address of the API; port 0 takes a free one, named in server.json
    #[arg(long, value_name = "ADDRESS:PORT", env = "LONGSHORE_LISTEN", default_value_t = DEFAULT_LISTEN)]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) insecure: InsecureArgs,
    /// Region that clients sign for; it is part of every ARN, so choose it before the first start
    #[arg(long, env = "LONGSHORE_REGION", default_value = "us-east-1")]
    pub(crate) region: String,
    /// Twelve digits; part of every ARN like the region
    #[arg(long, value_name = "ID", env = "LONGSHORE_ACCOUNT_ID", default_value = "000000000000", value_parser = account_id)]
    pub(crate) account_id: String,
    /// Availability zone of instances that do not name one [default: the region followed by "a"]
    #[arg(long, env = "LONGSHORE_ZONE")]
    pub(crate) zone: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Read settings from this file alone [default: /var/lib/ecs/ecs.config, then /etc/ecs/ecs.config]
    #[arg(long, value_name = "FILE", env = "LONGSHORE_AGENT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

fn account_id(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("an account id is exactly twelve digits".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_manual_are_understood() {
        for line in [
            "longshore up --instances 3 --data-dir d --listen 127.0.0.1:0 --detach --run f.json",
            "longshore down --data-dir d --keep-tasks",
            "longshore server --data-dir d --listen [::1]:1 --region r --account-id 123456789012 --zone z",
            "longshore agent --config f",
            "longshore env --data-dir d",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "longshore",
            "longshore up --instances 0",
            "longshore up --listen localhost",
            "longshore server --account-id 12",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
