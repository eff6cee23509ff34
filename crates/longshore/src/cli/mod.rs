//! The command line: what can be typed, and the help one gets. A module for each noun.

mod agent;
mod image;
mod instance;
mod launcher;
mod network;
mod reach;
mod scheduler;
mod server;
mod status;
mod store;
mod task;
mod token;
mod up;
mod value;
mod why;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use agent::{AgentArgs, AgentCommand, DrainArgs, HostArgs, JoinArgs, RunArgs};
pub(crate) use image::{ImageCommand, ListImagesArgs, PushArgs, RemoveImagesArgs};
pub(crate) use instance::{EvictArgs, InstanceCommand, ListInstancesArgs, RevokeInstanceArgs};
pub(crate) use network::{ListNetworksArgs, NetworkArgs, NetworkCommand};
pub(crate) use reach::ReachArgs;
pub(crate) use scheduler::{SchedulerCommand, SetSchedulerArgs, ShowSchedulerArgs, UnsetSchedulerArgs};
pub(crate) use server::{DEFAULT_LISTEN, LossArgs, ServerArgs, TlsArgs};
pub(crate) use status::StatusArgs;
pub(crate) use store::{BackupArgs, CheckArgs, DumpArgs, Kind, RestoreArgs, StoreCommand};
pub(crate) use task::{LogsArgs, PsArgs, TaskArgs, WhichTask};
pub(crate) use token::{CreateTokenArgs, ListTokensArgs, RevokeTokenArgs, TokenCommand};
#[cfg(test)]
pub(crate) use up::SizeArgs;
pub(crate) use up::{DownArgs, UpArgs};
pub(crate) use value::{LostAfter, OrDefault, Pair, Token, duration_text};
pub(crate) use why::WhyArgs;

pub(crate) const DEFAULT_DATA_DIR: &str = "/var/lib/longshore";

/// Runs containers on your own machines behind the Amazon ECS API.
///
/// `longshore up` starts everything on this machine. `longshore server` and `longshore agent` are its two halves, for
/// machines of their own: `longshore token create` on the server's machine prints what to type on the others.
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
    ///
    /// Settings are remembered in the data directory: what is not given is as it was the last time. An empty value
    /// (--cpu '') and --tls=false or --insecure=false go back to the default.
    Up(UpArgs),
    /// Stop what `up` started: the tasks on its instances, the agent, the server
    Down(DownArgs),
    /// Run the control plane: the ECS API, and the endpoints that agents connect to
    Server(ServerArgs),
    /// Run the agent: make this machine a container instance of a cluster
    ///
    /// A machine joins once (`longshore agent join`); `longshore agent` starts its agent again. Settings are those of
    /// the official agent, from /etc/ecs/ecs.config and ECS_* variables: ECS_DATADIR, ECS_IMAGE_PULL_BEHAVIOR,
    /// ECS_LOGFILE and the rest. Instead of joining, ECS_CLUSTER, ECS_BACKEND_HOST (the server's URL) and the usual
    /// AWS_* variables for keys and region can be set by hand.
    Agent(AgentArgs),
    /// Show the server, its clusters, their machines and tasks, and what is wrong
    ///
    /// Ends with exit code 1 if the server does not answer. With --output json one object: `server` (endpoint, reachable, readOnly, version,
    /// region, accountId, availabilityZone), `clusters` and `containerInstances` with their CPU, memory and tasks, `problems` (each with
    /// `problem` and `nextStep`).
    #[command(after_help = "Examples:\n  longshore status\n  longshore status --cluster prod --output json")]
    Status(StatusArgs),
    /// List tasks: where they run, since when, on which ports, and why they stopped
    ///
    /// Newest first. With --output json one object: `tasks`, each as DescribeTasks of the ECS API has it.
    #[command(
        after_help = "Examples:\n  longshore ps\n  longshore ps --all --family web\n  longshore ps --output json | jq -r '.tasks[].taskArn'"
    )]
    Ps(PsArgs),
    /// Show one task: the steps of its life with their times, its containers, where it runs
    ///
    /// With --output json one object: `task`, as DescribeTasks of the ECS API has it, `containerInstance`, as
    /// DescribeContainerInstances has it (null if that is forgotten), and `life`: each step with `step`, `at` (seconds since
    /// 1970), `afterCreation` and `afterPrevious` (seconds).
    #[command(
        after_help = "Examples:\n  longshore task 01a202f71f50bcb6\n  longshore task arn:aws:ecs:…:task/default/… --output json"
    )]
    Task(TaskArgs),
    /// Show what a task's containers printed, through the agent of their machine
    ///
    /// Standard output comes on standard output, standard error on standard error, both as they were printed; with several
    /// containers each line begins with its container's name. Containers that have stopped can be read until their agent
    /// removes them (three hours later, unless its ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION says otherwise).
    ///
    /// With --follow it goes on until the task has stopped, also when the server is started anew meanwhile. With --output
    /// json one object a line: `time`, `container`, `stream`, and `message`, or `messageBase64` if that is no UTF-8; `partial` is
    /// true if the line goes on in the next one.
    #[command(
        after_help = "Examples:\n  longshore logs 01a202f71f50bcb6\n  longshore logs -f --tail 20 01a202f71f50bcb6\n  longshore logs --since 10m --container web --timestamps 01a202f71f50bcb6"
    )]
    Logs(LogsArgs),
    /// Say where a task definition could run, and everything that stands in its way elsewhere
    ///
    /// Nothing is run. With --output json one object, as the server's operation ExplainPlacement answers: `needs`, `placeable`,
    /// `instances` (each with `copies` and `refusals`), `verdict`, `advice`. Ends with exit code 3 if not all copies fit.
    #[command(after_help = "Examples:\n  longshore why web\n  longshore why web:3 --count 10 --cluster prod")]
    Why(WhyArgs),
    /// Create, list and revoke the tokens that machines join with
    #[command(subcommand)]
    Token(TokenCommand),
    /// Hand images to the server for its machines; list and remove them
    #[command(subcommand)]
    Image(ImageCommand),
    /// List the machines that joined and their container instances; revoke one, or give vanished ones up
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// List the subnets, security groups and addresses of awsvpc tasks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Name, show or take away the external scheduler of a cluster
    #[command(subcommand)]
    Scheduler(SchedulerCommand),
    /// Check, back up, restore or dump a data directory's store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print shell lines that point the AWS CLI and SDKs at a running server
    ///
    /// Use it as  eval "$(longshore env)". Calls to ECS, ECR and STS go to this server; its key, its region and, with TLS and its
    /// own authority, its certificate bundle are those of every AWS call of the shell.
    Env(DataDirArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DataDirArgs {
    /// Folder that holds all state, and by which the other commands find what runs
    #[arg(long, value_name = "DIR", env = "LONGSHORE_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    pub(crate) data_dir: PathBuf,
}

/// `--flag`, `--flag=true`, `--flag=false`; in the environment also 1 and 0.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    }
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// JSON, for programs
    Json,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Columns for people, or JSON for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: Format,
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
            "longshore up --cpu 1024,2048 --memory 512 --zone a,b --tls --tls-name n --instance-lost-after never",
            "longshore up --tls=false --insecure=false --cpu= --mass-loss-brake 50",
            "longshore up --tls-cert c --tls-key k",
            "longshore down --data-dir d --keep-tasks",
            "longshore server --data-dir d --listen [::1]:1 --region r --account-id 123456789012 --zone z",
            "longshore server --task-network 10.0.0.0/14 --subnet subnet-a=10.0.0.0/16@a --task-dns 10.0.0.2 --adopt-networks",
            "longshore network list --output json",
            "longshore scheduler set batch --url http://h:1/place --deadline 1m30s --fallback wait",
            "longshore scheduler show batch --output json",
            "longshore scheduler unset batch",
            "longshore server --tls --tls-name a --tls-name b --instance-lost-after 90s --mass-loss-brake 30 --log-file l",
            "longshore agent --config f",
            "longshore agent --cpu 512 --memory 256 --zone z --instances 2 --attribute a=b --tag c=d --tag e=",
            "longshore agent join --server https://h:1 --token T --ca-fingerprint sha256:00 --detach --cpu 1",
            "longshore agent join --server https://h:1 --token T --ca-file p",
            "longshore agent join --server http://h:1 --token T --insecure",
            "longshore agent join --server https://h:1 --token-file f",
            "longshore agent join --server https://h:1 --token-file -",
            "longshore agent drain",
            "longshore agent drain --wait",
            "longshore agent drain --wait 5m",
            "longshore agent drain --undo",
            "longshore token create --cluster c --uses 3 --expires 1h30m --server https://h:1",
            "longshore token list --output json --data-dir d",
            "longshore token revoke LSTK0000000000000000",
            "longshore image push web:1 --as team/web:1 --data-dir d",
            "longshore image list --output json --endpoint http://h:1",
            "longshore image remove web:1 web@sha256:ab",
            "longshore instance list --cluster c --output json",
            "longshore instance revoke LSIN0000000000000000",
            "longshore instance evict --cluster c",
            "longshore store check --data-dir d --output json",
            "longshore store backup f --force --with-keys",
            "longshore store restore f --force",
            "longshore store dump --kind tasks --kind tokens --with-values",
            "longshore env --data-dir d",
            "longshore status --output json --endpoint http://h:1",
            "longshore ps --all --cluster c --family f --instance i --data-dir d",
            "longshore ps -a",
            "longshore task 01a2 --cluster c --output json",
            "longshore logs 01a2 -f --container c --tail 0 --since 10m --timestamps",
            "longshore why f:1 --cluster c --count 3",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let line = "longshore agent join --server https://h:1 --token LSTKA.hush";
        let shown = format!("{:?}", Cli::try_parse_from(line.split(' ')).unwrap());
        assert!(shown.contains("https://h:1") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "longshore",
            "longshore up --instances 0",
            "longshore up --listen localhost",
            "longshore up --cpu much",
            "longshore up --tls-cert c",
            "longshore up --tls --tls-cert c --tls-key k",
            "longshore up --instance-lost-after soon",
            "longshore up --mass-loss-brake 101",
            "longshore server --account-id 12",
            "longshore server --subnet subnet-a",
            "longshore server --task-network 10.0.0.1/16",
            "longshore agent --attribute nothing",
            "longshore agent join --server https://h:1",
            "longshore agent join --token T",
            "longshore agent join --server https://h:1 --token T --token-file f",
            "longshore agent join --server https://h:1 --token T --ca-file p --ca-fingerprint f",
            "longshore agent drain --wait --undo",
            "longshore token create --uses 0",
            "longshore token create --expires never",
            "longshore token list --output yaml",
            "longshore instance evict",
            "longshore store backup",
            "longshore store dump --kind nonsense",
            "longshore task",
            "longshore logs 01a2 --tail -1",
            "longshore logs 01a2 --since yesterday",
            "longshore why",
            "longshore why f --count 0",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
