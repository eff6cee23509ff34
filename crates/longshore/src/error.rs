//! Why a command failed, in words for the person who typed it: the message says what to do; what the system said is its
//! source, and is printed after it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use longshore_agent::{AgentError, ConfigError, DrainError, FileError, FingerprintError, JoinError};
use longshore_client::{CallError, ClientError, RegistryError};
use longshore_server::ServerError;
use longshore_store::StoreError;
use thiserror::Error;

use crate::store::Refusal;

/// Every way in which a command of this binary ends badly.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    #[error("cannot {doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },

    #[error("remove {} and try again: it is not what Longshore writes there", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },

    #[error("start Longshore first ({program} up --data-dir {dir}): nothing runs in {dir}", dir = data_dir.display())]
    NotRunning { program: String, data_dir: PathBuf },

    #[error(
        "choose another address (--listen 127.0.0.1:PORT, with make: LISTEN=127.0.0.1:PORT), \
         or stop what listens on {address} already"
    )]
    AddressTaken { address: SocketAddr },

    #[error("choose an address of this machine with --listen: {address} cannot be listened on")]
    AddressUnusable { address: SocketAddr, source: std::io::Error },

    #[error(
        "add --tls, or --insecure if the network is trusted: --listen {listen} would offer plain HTTP to other machines"
    )]
    PlainHttpBeyondLoopback { listen: SocketAddr },

    #[error(
        "stop Longshore first ({program} down --keep-tasks --data-dir {dir}; without --keep-tasks the tasks are stopped too): \
         it runs in {dir} with {running}, not with {wanted}",
        dir = data_dir.display()
    )]
    RunsDifferently { program: String, data_dir: PathBuf, running: String, wanted: String },

    #[error("try again when the other `longshore up` of {} has finished starting or stopping", data_dir.display())]
    Busy { data_dir: PathBuf },

    #[error("look into {} to see why {what}; its last lines:\n{tail}", log.display())]
    NeverReady { what: &'static str, log: PathBuf, tail: String },

    #[error(
        "look into {log} to see why the agent is not connected yet: it goes on trying in the background, until \
         `kill {pid}`; its last lines:\n{tail}",
        log = log.display()
    )]
    StillTrying { pid: i32, log: PathBuf, tail: String },

    #[error("see what process {pid} ({name}) waits for in /proc/{pid}/stack: it does not end, not even by SIGKILL")]
    Unkillable { name: &'static str, pid: i32 },

    #[error("cannot {doing} process {pid} ({name})")]
    Process { doing: &'static str, name: &'static str, pid: i32, source: std::io::Error },

    #[error("cannot start {what}")]
    Start { what: &'static str, source: std::io::Error },

    #[error("run `longshore why {definition}` to see what stands in the way: no task was started: {reasons}")]
    NotPlaced { definition: String, reasons: String },

    #[error(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key of the server at {endpoint}: `longshore env` on its \
         machine prints them; or name its data directory with --data-dir"
    )]
    NoKey { endpoint: String },

    #[error("`longshore status` lists the clusters there are: there is no ACTIVE cluster {name}")]
    NoCluster { name: String },

    #[error("`longshore ps --all` lists the tasks that are remembered: none is or begins with {given}")]
    NoTask { given: String },

    #[error("choose one of its containers ({containers}): the task has no container {name}")]
    NoContainer { name: String, containers: String },

    #[error("type more of the id: {given} is the beginning of several{cut}:\n{table}")]
    AmbiguousTask { given: String, cut: &'static str, table: String },

    #[error("{next_step}: the server at {endpoint} does not answer")]
    Unreachable { endpoint: String, next_step: String, source: Box<CliError> },

    #[error("follow the advice, or ask for fewer copies: {placeable} of {count} fit")]
    DoesNotFit { placeable: i32, count: i32 },

    #[error("correct the task definition or its image and run it again: the task did not start: {reason}")]
    TaskFailed { reason: String },

    #[error(
        "say by which name task definitions will know it (--as NAME), without a registry: those that name {name} mean the \
         registry {registry}, not the server"
    )]
    ImageOfAnotherRegistry { name: String, registry: String },

    #[error(
        "say by which name and tag task definitions will know it (--as NAME:TAG): {name} has its digest for a name"
    )]
    ImageWithoutTag { name: String },

    #[error("`longshore image list` shows the images there are: the server keeps no {name}")]
    NoImage { name: String },

    #[error(transparent)]
    Registry(RegistryError),

    #[error(transparent)]
    Call(CallError),

    #[error(transparent)]
    Client(Box<ClientError>),

    #[error("check that the Docker Engine runs and that this user may use it: cannot {doing}: {reason}")]
    Docker { doing: &'static str, reason: String },

    #[error(transparent)]
    Store(Box<StoreError>),

    #[error(transparent)]
    StoreRefused(#[from] Refusal),

    #[error("start it without --supervise: that is for `longshore up --detach` itself")]
    Settings { source: serde_json::Error },

    #[error("correct {}: it must be the JSON of a task definition, with its family", path.display())]
    Definition { path: PathBuf, source: serde_json::Error },

    #[error("correct {}: it must be the JSON of {member}, as RunTask has it", path.display())]
    Member { member: &'static str, path: PathBuf, source: serde_json::Error },

    #[error("correct {}: it has something that is no part of {member}, as RunTask has it", path.display())]
    UnknownMember { member: &'static str, path: PathBuf },

    #[error("correct {flag}: {given} is none; it is written like {example}")]
    Argument { flag: &'static str, given: String, example: &'static str },

    #[error("start the server again: it can no longer work, and the log says why")]
    ServerFailed,

    #[error(transparent)]
    Server(Box<ServerError>),

    #[error(transparent)]
    AgentConfig(Box<ConfigError>),

    #[error("copy --ca-fingerprint from what `longshore token create` printed")]
    Fingerprint(#[source] FingerprintError),

    #[error(transparent)]
    Join(Box<JoinError>),

    #[error(transparent)]
    MachineKey(Box<FileError>),

    #[error(transparent)]
    Drain(Box<DrainError>),

    #[error(transparent)]
    Agent(Box<AgentError>),
}

impl CliError {
    /// An error of the file system, ready for `map_err`.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    /// The message, and after it the causes.
    pub(crate) fn with_causes(&self) -> String {
        with_causes(self)
    }

    /// The agent's codes mean something to what starts it; everything else is 1.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Agent(error) => ExitCode::from(error.exit_code()),
            Self::DoesNotFit { .. } => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

/// An error and its causes, outermost first.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use longshore_agent::RegisterError;

    use super::*;

    #[test]
    fn the_cause_is_said_once_and_last() {
        let error = CliError::file("read", Path::new("/x"))(std::io::ErrorKind::NotFound.into());
        assert_eq!(error.with_causes(), "cannot read /x: entity not found");
        let cause = || CallError::Transport {
            operation: "RegisterContainerInstance",
            endpoint: "http://h:1".to_owned(),
            cause: "connection refused".to_owned(),
        };
        let rejoin = AgentError::Rejoin {
            source: Box::new(RegisterError::Refused(cause())),
            arn: "arn:i".to_owned(),
            state_dir: "/d".to_owned(),
        };
        for error in [AgentError::Register(RegisterError::Failed(cause())), rejoin] {
            let said = CliError::Agent(Box::new(error)).with_causes();
            assert!(
                said.ends_with(": RegisterContainerInstance: no answer from http://h:1: connection refused"),
                "{said}"
            );
            assert_eq!(said.matches("RegisterContainerInstance").count(), 1, "{said}");
        }
    }
}
