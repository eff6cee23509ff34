//! `--detach`: an agent that outlives the command which starts it, in a session of its own.
//!
//! The command returns when the server says that the instances are connected. Who is registered as what the agent writes
//! to `agent.json`; that it is this agent, its process id there says. An agent that runs already holds its state file, and
//! is waited for in the same way. One that takes long, because its server is away, is left to go on trying.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_agent::AgentConfig;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::settings;
use crate::cli::RunArgs;
use crate::client::EcsClient;
use crate::data_dir::read_json;
use crate::environment::quoted;
use crate::error::CliError;
use crate::logging;
use crate::output::Output;
use crate::process::Process;
use crate::supervisor::own_command;

const NAME: &str = "agent";
/// From its start to its sessions, before somebody is told that it takes longer. Registration takes a tenth of a second; an agent whose Docker Engine is just starting
/// waits for it.
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Of the log, so much is shown with an error.
const TAIL_BYTES: u64 = 16 * 1024;
const TAIL_LINES: usize = 12;

/// The part of `agent.json` that says who wrote it, and as what it is registered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    pid: i32,
    cluster: String,
    container_instance_arns: Vec<String>,
}

/// Starts the agent unless it runs, waits until it is connected, and says how to go on.
pub(super) async fn start(args: &RunArgs, program: &str) -> Result<(), CliError> {
    let config = settings::load(args).await?;
    let mut output = Output::new();
    if runs(&config.data_dir) {
        output.note("its agent runs already; nothing is changed");
        let registered = await_connected(&config, None, std::future::pending(), CONNECTED_WITHIN).await;
        let registered = registered.map_err(|_| never_connected(&logging::agent_log(&config.log), 0))?;
        return said(&registered, None, &mut output, program);
    }
    let log = Log::open(&config)?;
    let agent = spawn(args, &log)?;
    match await_connected(&config, Some(agent.id().pid), agent.ended(), CONNECTED_WITHIN).await {
        Ok(registered) => said(&registered, Some(&log.path), &mut output, program),
        Err(Late::Ended) => Err(never_connected(&log.path, log.began)),
        // Its server may come up after it, with nobody there to start it again.
        Err(Late::TimeIsOver) => Err(CliError::StillTrying {
            pid: agent.id().pid,
            log: log.path.clone(),
            tail: said_since(&log.path, log.began),
        }),
    }
}

/// Whether an agent uses this directory: it holds a lock on its state for as long as it lives.
fn runs(data_dir: &Path) -> bool {
    let state = File::open(data_dir.join("agent.redb"));
    state.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn spawn(args: &RunArgs, log: &Log) -> Result<Process, CliError> {
    let fail = |source| CliError::Start { what: NAME, source };
    let mut command = own_command(NAME);
    command.arg("--background");
    if let Some(config) = &args.config {
        command.arg("--config").arg(config.argument());
    }
    for (name, value) in settings::variables(&args.host) {
        command.env(name, value);
    }
    // What joins has no business in a process that stays.
    command.env_remove("LONGSHORE_TOKEN");
    command.env("ECS_LOGFILE", &log.path);
    command.stdout(log.file.try_clone().map_err(fail)?).stderr(log.file.try_clone().map_err(fail)?);
    let child = command.spawn().map_err(fail)?;
    // Not waited for: it is to outlive this process, which knows of its end by the pidfd.
    Process::of_child(NAME, child.id() as i32)
}

/// Why an agent is not connected yet.
#[derive(Debug, PartialEq, Eq)]
enum Late {
    Ended,
    TimeIsOver,
}

/// Waits until the server says that all instances of the agent are connected: of the one with process id `pid`, if that
/// is known.
async fn await_connected(
    config: &AgentConfig,
    pid: Option<i32>,
    ended: impl Future<Output = ()>,
    within: Duration,
) -> Result<Registered, Late> {
    let connected = async {
        loop {
            // What cannot be read or asked now may be a moment later.
            if let Some(registered) = look(config, pid).await {
                return registered;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = ended => Err(Late::Ended),
        registered = timeout(within, connected) => registered.map_err(|_| Late::TimeIsOver),
    }
}

async fn look(config: &AgentConfig, pid: Option<i32>) -> Option<Registered> {
    let registered: Registered = read_json(&config.data_dir.join("agent.json")).ok()??;
    if pid.is_some_and(|pid| pid != registered.pid) {
        return None;
    }
    let client = EcsClient::of_agent(config).ok()?;
    let arns = &registered.container_instance_arns;
    let instances = client.describe_container_instances(&registered.cluster, arns).await.ok()?;
    let connected = instances.iter().filter(|instance| instance.agent_connected == Some(true)).count();
    (!arns.is_empty() && connected == arns.len()).then_some(registered)
}

fn said(registered: &Registered, log: Option<&Path>, output: &mut Output, program: &str) -> Result<(), CliError> {
    for arn in &registered.container_instance_arns {
        output.tick(format_args!("container instance {arn} is connected"));
    }
    let (pid, program) = (registered.pid, quoted(program));
    let log = log.map_or_else(String::new, |log| format!(", it logs to {}", log.display()));
    output.note(format_args!("the agent runs in the background: process {pid}{log}"));
    output.blank();
    output.line("Before maintenance, let this machine take no new tasks, and wait until its tasks are gone:");
    output.line(format_args!("  {program} agent drain --wait"));
    output.line("Stop the agent, which leaves tasks running, and start it again, also after a reboot:");
    output.line(format_args!("  kill {pid}"));
    output.line(format_args!("  {program} agent --detach"));
    Ok(())
}

/// With the end of what was logged after `began`.
fn never_connected(log: &Path, began: u64) -> CliError {
    CliError::NeverReady { what: "the agent does not connect", log: log.to_owned(), tail: said_since(log, began) }
}

fn said_since(log: &Path, began: u64) -> String {
    let tail = tail(log, began);
    if tail.is_empty() { "(nothing was said)".to_owned() } else { tail }
}

/// The agent's log, and where this start begins in it.
struct Log {
    path: PathBuf,
    file: File,
    began: u64,
}

impl Log {
    /// The usual place, or beside the agent's state for whoever may not write there.
    fn open(config: &AgentConfig) -> Result<Self, CliError> {
        let usual = logging::agent_log(&config.log);
        let open = |path: &Path| {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            File::options().create(true).append(true).open(path)
        };
        let (path, file) = match open(&usual) {
            Ok(file) => (usual, file),
            Err(error) if config.log.file.is_some() => return Err(CliError::file("open the log", &usual)(error)),
            Err(_) => {
                let path = config.data_dir.join("ecs-agent.log");
                let file = open(&path).map_err(CliError::file("open the log", &path))?;
                (path, file)
            }
        };
        // Relative to where the agent will be, too.
        let path = std::path::absolute(&path).map_err(CliError::file("find the absolute path of", &path))?;
        let began = file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Self { path, file, began })
    }
}

/// The last lines of a file, of those after its first `began` bytes; empty if it cannot be read.
fn tail(path: &Path, began: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let len = file.metadata()?.len();
        // A shorter file than before was begun since.
        let began = if len < began { 0 } else { began };
        file.seek(SeekFrom::Start(began.max(len.saturating_sub(TAIL_BYTES))))?;
        file.read_to_end(&mut text)
    });
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_agent_that_runs_is_known_by_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!runs(folder.path()));
        let state = File::create(folder.path().join("agent.redb")).unwrap();
        assert!(!runs(folder.path()));
        state.lock().unwrap();
        assert!(runs(folder.path()));
        drop(state);
        assert!(!runs(folder.path()));
    }

    #[tokio::test]
    async fn an_agent_that_ended_is_told_from_one_that_takes_long() {
        let folder = tempfile::tempdir().unwrap();
        let env = [
            ("ECS_DATADIR", folder.path().to_str().unwrap()),
            ("ECS_BACKEND_HOST", "http://127.0.0.1:1"),
            ("AWS_DEFAULT_REGION", "r"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = AgentConfig::load(Some(Path::new("/dev/null")), env).unwrap();
        let ended = await_connected(&config, None, async {}, CONNECTED_WITHIN).await;
        assert_eq!(ended.unwrap_err(), Late::Ended);
        let lives_on = await_connected(&config, None, std::future::pending(), Duration::from_millis(1)).await;
        assert_eq!(lives_on.unwrap_err(), Late::TimeIsOver);
    }

    #[test]
    fn an_error_shows_what_this_start_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        assert_eq!(tail(&path, 7), "");
        writeln!(file, "one\ntwo").unwrap();
        assert_eq!(tail(&path, 7), "one\ntwo");
        for line in 0..2 * TAIL_LINES {
            writeln!(file, "line {line}").unwrap();
        }
        assert_eq!(tail(&path, 7).lines().count(), TAIL_LINES);
        fs::write(&path, "anew").unwrap();
        assert_eq!(tail(&path, 7), "anew");
        assert_eq!(tail(&folder.path().join("none"), 0), "");
    }
}
