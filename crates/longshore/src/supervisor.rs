//! Keeps one `longshore server` and one `longshore agent` running: what `longshore up` is while it lives.
//!
//! Each is a process of its own, in a process group of its own, so that either can be killed alone, and neither dies
//! of a Ctrl-C meant for the supervisor, or of the supervisor's own death. A supervisor that starts where another died
//! takes the living processes over by what `up.json` says of them.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use longshore_api::ecs::types::ContainerInstance;
use tokio::process::Child;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::client::EcsClient;
use crate::data_dir::{AccessKey, DataDir, ServerFacts, UpLock, UpRecord};
use crate::error::CliError;
use crate::machine_key::{self, MachineKey};
use crate::process::{Process, ProcessId};
use crate::settings::{SERVER_VARIABLES, Settings};

/// The one cluster that `up` makes, as the ECS console does for a new account.
pub(crate) const CLUSTER: &str = "default";
/// The attribute by which `up` knows the container instances of its own data directory.
const OWNER_ATTRIBUTE: &str = "longshore.up";
/// How long a process may take to end by itself. The agent writes its state; the server gives requests under way 20 s.
pub(crate) const GRACE: Duration = Duration::from_secs(25);
/// The exit code of an agent that is not to be started again, because it would be refused again.
const ENDED_FOR_GOOD: i32 = 5;
/// Between two looks at something that no event announces: a file, an answer of the API.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// The same, when it has taken long already.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// What a shell may have for other purposes: other keys, another region, and a proxy, of which there is none on the way to
/// a server on the same machine.
const FOREIGN_TO_THE_AGENT: [&str; 14] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_REGION",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "LONGSHORE_CA_FILE",
    "LONGSHORE_AGENT_CONFIG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
];

/// What to keep running.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) data_dir: DataDir,
    pub(crate) settings: Settings,
}

/// The supervisor's knowledge, written to `up.json` whenever it changes. It is the only writer.
struct Ledger {
    data_dir: DataDir,
    record: Mutex<UpRecord>,
}

impl Ledger {
    fn update(&self, change: impl FnOnce(&mut UpRecord)) {
        // Nothing panics while it holds the lock, and a record that is written is whole either way.
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        // The record serves those who come later; that it could not be written (a full disk) must not stop what
        // runs. They then find an older record, whose processes they verify before they touch them.
        if let Err(error) = self.data_dir.write_record(&record) {
            tracing::warn!("up.json is out of date: {}", error.with_causes());
        }
    }

    fn id(&self) -> String {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).id.clone()
    }
}

/// Runs until `stop`, then ends the agent and the server, in this order. `lock` makes it the only one of its directory.
pub(crate) async fn run(plan: Plan, lock: UpLock, stop: CancellationToken) -> Result<(), CliError> {
    write_first_agent_config(&plan.data_dir)?;
    let before = plan.data_dir.record()?.unwrap_or_default();
    let (old_server, old_agent) = take_over(&plan, &before).await?;
    let id = if before.id.is_empty() { new_id()? } else { before.id };
    let ledger = Ledger {
        data_dir: plan.data_dir.clone(),
        record: Mutex::new(UpRecord {
            id,
            settings: plan.settings.clone(),
            supervisor: Some(ProcessId::of_this()?),
            instance_arns: before.instance_arns,
            left_behind: before.left_behind,
            ..UpRecord::default()
        }),
    };
    ledger.update(|_| {});

    // The agent ends first, so that its last reports find a server; a server that cannot be started ends the agent.
    let (stop_server, stop_agent) = (CancellationToken::new(), stop.child_token());
    let server = async {
        let start = || start_server(&plan);
        let note = |id| ledger.update(|record| record.server = counted(id, &mut record.ends));
        let kept = keep("server", old_server, start, note, &stop_server).await;
        stop_agent.cancel();
        kept.map(|_| ())
    };
    let agent = async {
        let kept = keep_agent(&plan, &ledger, old_agent, &stop_agent).await;
        stop_server.cancel();
        kept
    };
    let (server, agent) = tokio::join!(server, agent);
    ledger.update(|record| {
        record.supervisor = None;
        record.ready = false;
    });
    drop(lock);
    server.and(agent)
}

/// Keeps the agent running from the moment there is a server for it to register with.
async fn keep_agent(
    plan: &Plan,
    ledger: &Ledger,
    adopted: Option<Process>,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let server = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        server = await_server(&plan.data_dir) => server,
    };
    let (facts, key) = server?;
    let id = ledger.id();
    // An agent that registers with a cluster that is not there waits before it tries again: the cluster comes first.
    // If it cannot be made now, announcing tries again, and containers that run have their agent all the same.
    if let Err(error) = make_cluster(&plan.data_dir).await {
        tracing::warn!("{}", error.with_causes());
    }
    let key = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        key = await_machine_key(plan, &facts, &key) => key,
    };
    let start = || start_agent(plan, &id, &facts, &key);
    let ended = Notify::new();
    let note = |id: Option<ProcessId>| {
        ledger.update(|record| {
            record.ready &= id.is_some();
            record.agent = counted(id, &mut record.ends);
        });
        if id.is_none() {
            ended.notify_one();
        }
    };
    let announce = async {
        loop {
            announce_when_ready(plan, ledger).await;
            ended.notified().await;
        }
    };
    let kept = tokio::select! {
        kept = keep("agent", adopted, start, note, stop) => kept?,
        () = announce => Kept::Stopped,
    };
    if kept == Kept::EndedForGood {
        // Other machines' agents need the server all the same; whoever waits for this one learns it from the record.
        tracing::error!(log = %plan.data_dir.log("agent").display(), "the agent is not started again: it says that this cannot help");
        ledger.update(|record| record.agent_gave_up = true);
        stop.cancelled().await;
    }
    Ok(())
}

/// Passes a process's identity on; its absence is an end, and is counted.
fn counted(id: Option<ProcessId>, ends: &mut u32) -> Option<ProcessId> {
    if id.is_none() {
        *ends += 1;
    }
    id
}

/// The processes that a dead supervisor left, if they are what the plan would start. What is not is ended: a server at
/// another address, an agent with another number of instances, or a process of another build.
async fn take_over(plan: &Plan, before: &UpRecord) -> Result<(Option<Process>, Option<Process>), CliError> {
    let dir = plan.data_dir.path();
    let mut server = before.server.and_then(|id| id.hold("server", Some(dir)));
    let mut agent = before.agent.and_then(|id| id.hold("agent", Some(dir)));
    let same_server = plan.settings.same_server(&before.settings);
    let old_server = server.take_if(|server| !same_server || !server.is_this_build());
    // Without its server, an agent's address and key may be out of date too.
    let old_agent =
        agent.take_if(|agent| server.is_none() || plan.settings != before.settings || !agent.is_this_build());
    for process in [old_agent, old_server].into_iter().flatten() {
        process.stop(GRACE).await?;
    }
    Ok((server, agent))
}

/// How keeping a process running came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// It was to stop.
    Stopped,
    /// It ended with the code that says not to start it again.
    EndedForGood,
}

/// Keeps one process running until `stop`, then ends it. `adopted` is one that runs already.
async fn keep(
    name: &'static str,
    adopted: Option<Process>,
    mut start: impl FnMut() -> Result<Child, CliError>,
    note: impl Fn(Option<ProcessId>),
    stop: &CancellationToken,
) -> Result<Kept, CliError> {
    let mut backoff = Backoff::new();
    let mut next = match adopted {
        Some(process) => {
            tracing::info!(pid = process.id().pid, "{name} runs already, taken over");
            Some((process, None))
        }
        None => None,
    };
    while !stop.is_cancelled() {
        let (process, child) = match next.take() {
            Some(running) => running,
            None => {
                let child = start()?;
                let process = Process::of_child(name, child.id().unwrap_or_default() as i32)?;
                tracing::info!(pid = process.id().pid, "{name} started");
                (process, Some(child))
            }
        };
        let began = Instant::now();
        note(Some(process.id()));
        tokio::select! {
            () = process.ended() => {}
            () = stop.cancelled() => {
                process.stop(GRACE).await?;
                tracing::info!("{name} stopped");
            }
        }
        let status = reap(child).await;
        note(None);
        if stop.is_cancelled() {
            break;
        }
        if status.is_some_and(|status| status.code() == Some(ENDED_FOR_GOOD)) {
            return Ok(Kept::EndedForGood);
        }
        let status = status.map_or_else(|| "status unknown: it was taken over".to_owned(), |status| status.to_string());
        let pause = backoff.after(began.elapsed());
        tracing::warn!(pause_ms = pause.as_millis() as u64, "{name} ended ({status}), starts again after a pause");
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(Kept::Stopped)
}

/// Collects a child's exit status; that of somebody else's child is not ours to know.
async fn reap(child: Option<Child>) -> Option<ExitStatus> {
    child?.wait().await.ok()
}

fn start_server(plan: &Plan) -> Result<Child, CliError> {
    let mut command = own_command("server");
    command.arg("--data-dir").arg(plan.data_dir.path());
    command.args(plan.settings.server_arguments()).arg("--log-file").arg(plan.data_dir.log("server"));
    for variable in SERVER_VARIABLES {
        command.env_remove(variable);
    }
    spawn(command, "server", plan.data_dir.open_log("server")?)
}

/// What the agent must be told goes by environment, which no other user of the machine can read, unlike a command
/// line; what a person may want to change is in the file.
fn start_agent(plan: &Plan, id: &str, server: &ServerFacts, key: &MachineKey) -> Result<Child, CliError> {
    let mut command = own_command("agent");
    command.arg("--config").arg(plan.data_dir.agent_config());
    for foreign in FOREIGN_TO_THE_AGENT {
        command.env_remove(foreign);
    }
    command
        .env("ECS_CLUSTER", CLUSTER)
        .env("ECS_BACKEND_HOST", &server.endpoint)
        .env("ECS_DATADIR", plan.data_dir.agent())
        .env("ECS_LOGFILE", plan.data_dir.log("agent"))
        .env("LONGSHORE_UP_ID", id)
        .env("AWS_DEFAULT_REGION", &server.region);
    if let MachineKey::Owner(key) = key {
        command.env("AWS_ACCESS_KEY_ID", &key.access_key_id).env("AWS_SECRET_ACCESS_KEY", &key.secret_access_key);
        if let Some(certificate) = server.ca_file.as_ref().or(server.cert_file.as_ref()) {
            command.env("LONGSHORE_CA_FILE", certificate);
        }
    }
    for (name, value) in plan.settings.agent_variables() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    spawn(command, "agent", plan.data_dir.open_log("agent")?)
}

/// This very executable, even after a rebuild has replaced the file it was started from: server, agent and supervisor
/// are always of one version.
pub(crate) fn own_command(subcommand: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("longshore").arg(subcommand).stdin(Stdio::null());
    command
}

fn spawn(mut command: Command, name: &'static str, log: File) -> Result<Child, CliError> {
    let fail = |source| CliError::Start { what: name, source };
    command.stdout(log.try_clone().map_err(fail)?).stderr(log).process_group(0);
    tokio::process::Command::from(command).spawn().map_err(fail)
}

/// Waits until a server of this directory listens. How long that may take is for whoever waits for `ready` to say.
async fn await_server(data_dir: &DataDir) -> Result<(ServerFacts, AccessKey), CliError> {
    loop {
        // A file that another server left names a process that is no more.
        let living = |facts: &ServerFacts| {
            let id = ProcessId::of(facts.pid);
            id.is_some_and(|id| id.hold("server", Some(data_dir.path())).is_some())
        };
        if let (Some(facts), Some(key)) = (data_dir.server()?.filter(living), data_dir.root_access_key()?) {
            return Ok((facts, key));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until all instances are connected, and says so in the record.
async fn announce_when_ready(plan: &Plan, ledger: &Ledger) {
    let id = ledger.id();
    let mut complaint = String::new();
    let mut pause = LOOK_EVERY;
    loop {
        match connected_instances(&plan.data_dir, &id).await {
            Ok(arns) if arns.len() >= plan.settings.instances as usize => {
                tracing::info!(instances = arns.len(), "all container instances are connected");
                ledger.update(|record| {
                    record.now_has(arns);
                    record.ready = true;
                    // What ended before counts no more: whoever waits next waits for the next start.
                    record.ends = 0;
                });
                return;
            }
            Ok(_) => {}
            Err(error) => {
                // Said once, not at every look.
                if error.with_causes() != complaint {
                    complaint = error.with_causes();
                    tracing::warn!("{complaint}");
                }
            }
        }
        // Quick while a start takes as long as it should; unhurried when something is wrong.
        sleep(pause).await;
        pause = (pause * 11 / 10).min(LOOK_AT_LEAST_EVERY);
    }
}

/// Waits until the agent has a key of its own, which takes a server that answers.
async fn await_machine_key(plan: &Plan, server: &ServerFacts, owner: &AccessKey) -> MachineKey {
    let mut backoff = Backoff::new();
    loop {
        match machine_key::of(&plan.data_dir, server, owner.clone()).await {
            Ok(key) => return key,
            Err(error) => tracing::warn!("the agent has no key yet: {}", error.with_causes()),
        }
        sleep(backoff.after(Duration::ZERO)).await;
    }
}

async fn make_cluster(data_dir: &DataDir) -> Result<(), CliError> {
    match EcsClient::for_data_dir(data_dir)? {
        Some(client) => client.create_cluster(CLUSTER).await,
        None => Ok(()),
    }
}

/// The instances of the directory with this id that are connected now.
pub(crate) async fn connected_instances(data_dir: &DataDir, id: &str) -> Result<Vec<String>, CliError> {
    let Some(client) = EcsClient::for_data_dir(data_dir)? else {
        return Ok(Vec::new());
    };
    match client.container_instances(CLUSTER).await {
        Ok(instances) => Ok(owned_and_connected(instances, id)),
        Err(_) => make_cluster(data_dir).await.map(|()| Vec::new()),
    }
}

fn owned_and_connected(instances: Vec<ContainerInstance>, id: &str) -> Vec<String> {
    let owned = |instance: &ContainerInstance| {
        instance
            .attributes
            .iter()
            .flatten()
            .any(|attribute| attribute.name == OWNER_ATTRIBUTE && attribute.value.as_deref() == Some(id))
    };
    instances
        .into_iter()
        .filter(|instance| instance.agent_connected == Some(true) && owned(instance))
        .filter_map(|instance| instance.container_instance_arn)
        .collect()
}

/// The file a person may change the agent's settings in, with the one default that `up` has a different opinion on.
fn write_first_agent_config(data_dir: &DataDir) -> Result<(), CliError> {
    let path = data_dir.agent_config();
    if path.exists() {
        return Ok(());
    }
    // Images built on this machine are in no registry: asking one first would cost seconds for each task.
    std::fs::write(&path, "ECS_IMAGE_PULL_BEHAVIOR=prefer-cached\n").map_err(CliError::file("write", &path))
}

/// A name for this data directory that no other has. The kernel gives out such names.
fn new_id() -> Result<String, CliError> {
    let path = std::path::Path::new("/proc/sys/kernel/random/uuid");
    let uuid = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
    Ok(uuid.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use longshore_api::ecs::types::Attribute;

    use super::*;

    fn instance(arn: &str, owner: Option<&str>, connected: bool) -> ContainerInstance {
        ContainerInstance {
            container_instance_arn: Some(arn.to_owned()),
            agent_connected: Some(connected),
            attributes: owner.map(|owner| {
                vec![Attribute {
                    name: OWNER_ATTRIBUTE.to_owned(),
                    value: Some(owner.to_owned()),
                    ..Attribute::default()
                }]
            }),
            ..ContainerInstance::default()
        }
    }

    #[test]
    fn instances_of_others_and_lost_ones_do_not_count() {
        let instances = vec![
            instance("mine", Some("me"), true),
            instance("lost", Some("me"), false),
            instance("yours", Some("you"), true),
            instance("anybody's", None, true),
        ];
        assert_eq!(owned_and_connected(instances, "me"), ["mine"]);
    }

    #[test]
    fn the_agents_settings_are_written_once_and_then_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(folder.path()).unwrap();
        write_first_agent_config(&data_dir).unwrap();
        let path = data_dir.agent_config();
        assert!(std::fs::read_to_string(&path).unwrap().contains("prefer-cached"));
        std::fs::write(&path, "ECS_LOGLEVEL=debug\n").unwrap();
        write_first_agent_config(&data_dir).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "ECS_LOGLEVEL=debug\n");
    }

    #[tokio::test]
    async fn a_process_that_dies_is_started_again_and_one_told_to_stop_is_not() {
        let stop = CancellationToken::new();
        let seen = Mutex::new(Vec::new());
        let start = || {
            tokio::process::Command::new("sh")
                .args(["-c", "exec sleep 600"])
                .spawn()
                .map_err(|source| CliError::Start { what: "server", source })
        };
        let note = |id: Option<ProcessId>| {
            let mut seen = seen.lock().unwrap();
            seen.push(id);
            match id {
                // Kill the first; stop when there is a second.
                Some(id) if seen.len() == 1 => {
                    let pid = rustix::process::Pid::from_raw(id.pid).unwrap();
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                }
                Some(_) => stop.cancel(),
                None => {}
            }
        };
        assert_eq!(keep("server", None, start, note, &stop).await.unwrap(), Kept::Stopped);
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false]);
        assert_ne!(seen[0], seen[2]);
        for id in seen.into_iter().flatten() {
            assert_ne!(ProcessId::of(id.pid), Some(id), "process {} still lives", id.pid);
        }
    }

    #[tokio::test]
    async fn one_that_says_it_cannot_help_is_not_started_again() {
        let start = || {
            tokio::process::Command::new("sh")
                .args(["-c", "exit 5"])
                .spawn()
                .map_err(|source| CliError::Start { what: "agent", source })
        };
        let kept = keep("agent", None, start, |_| {}, &CancellationToken::new()).await;
        assert_eq!(kept.unwrap(), Kept::EndedForGood);
    }
}
