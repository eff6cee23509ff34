//! The processes under test: started with an environment of their own, and killed with the handle that started them.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::json;
use tempfile::TempDir;

use crate::client::{Access, EcsClient};

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something awaited.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Settings of whoever runs the benchmarks must not reach the processes under test.
const FOREIGN: [&str; 3] = ["AWS_", "ECS_", "LONGSHORE_"];

/// A directory on the disk that the repository is on: what is measured is durable, so a memory file system would lie.
pub(crate) fn scratch() -> TempDir {
    let target = Path::new("target");
    let parent = if target.is_dir() { target } else { Path::new(".") };
    tempfile::Builder::new().prefix("bench-").tempdir_in(parent).expect("a directory for the run")
}

/// Sockets for thousands of agents on our side.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a limit may be raised to its maximum");
}

/// The release binary: `LONGSHORE_BIN`, or the one next to this program.
pub(crate) fn binary() -> PathBuf {
    let path = std::env::var_os("LONGSHORE_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let own = std::env::current_exe().expect("this program has a path");
        own.with_file_name("longshore")
    });
    assert!(path.exists(), "{} is not there: cargo build --release -p longshore", path.display());
    path
}

/// A child process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    fn start(arguments: &[&str], variables: &[(&str, String)], log: &Path) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let foreign = |name: &str| FOREIGN.iter().any(|prefix| name.starts_with(prefix));
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(foreign) {
                command.env_remove(name);
            }
        }
        let child = command
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn();
        Self(child.expect("the binary starts"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        self.0.wait().expect("a child of ours");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("a child that runs");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long this program's host takes to run a program of the same size that does nothing; ms.
pub(crate) fn start_nothing() -> f64 {
    let began = Instant::now();
    let done = Command::new(binary()).arg("--version").stdout(Stdio::null()).status();
    assert!(done.expect("the binary starts").success(), "the binary knows its version");
    crate::floor::ms_since(began)
}

/// A server that listens.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) access: Access,
}

impl Server {
    /// Starts one over `dir/data`, and waits until it says where it listens.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_at(dir, "127.0.0.1:0", &[])
    }

    /// The same at an address, with further arguments.
    pub(crate) fn start_at(dir: &Path, listen: &str, more: &[&str]) -> Self {
        let data = dir.join("data");
        let data_text = data.to_str().expect("a path in UTF-8");
        let arguments = [&["server", "--data-dir", data_text, "--listen", listen], more].concat();
        let mut process = Process::start(&arguments, &[], &dir.join("server.log"));
        let began = Instant::now();
        loop {
            if let Some(access) = Access::of(&data, process.pid()) {
                return Self { process, access };
            }
            let ended = process.0.try_wait().expect("a child of ours");
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "the server does not start:\n{}", tail(dir));
            sleep(LOOK_EVERY);
        }
    }
}

/// An agent of the cluster `default`.
pub(crate) struct Agent(pub(crate) Process);

impl Agent {
    /// Starts one on this machine's Docker Engine. Containers are left to the caller: nothing is removed while it
    /// measures.
    pub(crate) fn start(dir: &Path, access: &Access) -> Self {
        Self::start_as(dir, access, "agent", &[])
    }

    /// The same under a name, with further settings.
    pub(crate) fn start_as(dir: &Path, access: &Access, name: &str, more: &[(&'static str, String)]) -> Self {
        let mut variables = agent_settings(&dir.join(name), access);
        variables.extend_from_slice(more);
        // Without a file named, it would read this machine's own settings.
        let config = dir.join("ecs.config");
        File::create(&config).expect("an empty configuration");
        let config = config.to_str().expect("a path in UTF-8");
        Self(Process::start(&["agent", "--config", config], &variables, &dir.join(format!("{name}.log"))))
    }

    /// Waits until the only instance is connected; its ARN.
    pub(crate) async fn connected(&self, client: &mut EcsClient, dir: &Path) -> String {
        let began = Instant::now();
        loop {
            let listed = client.call("ListContainerInstances", &json!({})).await;
            if let Some(arn) = listed["containerInstanceArns"][0].as_str() {
                let request = json!({ "containerInstances": [arn] });
                let described = client.call("DescribeContainerInstances", &request).await;
                if described["containerInstances"][0]["agentConnected"] == true {
                    return arn.to_owned();
                }
            }
            assert!(began.elapsed() < PATIENCE, "the agent does not connect:\n{}", tail(dir));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The settings of an agent of the cluster `default` that keeps its state in `data`.
pub(crate) fn agent_settings(data: &Path, access: &Access) -> Vec<(&'static str, String)> {
    fs::create_dir_all(data).expect("a directory for the agent");
    let mut variables = access.variables().to_vec();
    variables.extend([
        ("ECS_CLUSTER", "default".to_owned()),
        ("ECS_DATADIR", data.display().to_string()),
        ("ECS_LOGFILE", data.join("ecs-agent.log").display().to_string()),
        ("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached".to_owned()),
    ]);
    variables
}

/// The ends of the logs in `dir`, for a failure.
pub(crate) fn tail(dir: &Path) -> String {
    let end_of = |name: &str| {
        let text = fs::read_to_string(dir.join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    };
    format!("server: {}\nagent: {}", end_of("server.log"), end_of("agent.log"))
}
