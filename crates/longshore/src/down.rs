//! `longshore down`: ends what `longshore up` started for a data directory, and nothing else.

use std::time::Duration;

use longshore_api::ecs::types::ListTasksRequest;
use tokio::time::{Instant, sleep};

use crate::cli::DownArgs;
use crate::client::EcsClient;
use crate::data_dir::{DataDir, UpRecord};
use crate::engine::Engine;
use crate::error::CliError;
use crate::output::Output;
use crate::process::{Process, ProcessId};
use crate::supervisor::{CLUSTER, GRACE};
use crate::up::SUPERVISOR_STOPS_WITHIN;

/// What the stopped tasks' reason will be.
const REASON: &str = "longshore down";
/// The default time a container gets before SIGKILL (30 s), and what agent and Engine need around it. Containers with a
/// longer `stopTimeout` are stopped by the Engine afterwards.
const TASKS_STOP_WITHIN: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the command.
pub(crate) async fn down(args: DownArgs) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let mut output = Output::new();
    let Some(record) = data_dir.record()? else {
        output.note(format_args!("nothing to stop: nothing was started in {}", data_dir.shown()));
        return Ok(());
    };
    let processes = Processes::find(&record, &data_dir);
    let mut tasks_left = !args.keep_tasks;
    if tasks_left && processes.server.is_some() && processes.agent.is_some() {
        match stop_tasks(&data_dir, &record, &mut output).await {
            Ok(all) => tasks_left = !all,
            Err(error) => output.note(format_args!("{}; their containers are stopped directly", error.with_causes())),
        }
    }
    let any = processes.stop(&mut output).await?;
    // With neither server nor agent to do it, the labels still say which containers are ours.
    let mut stopped = 0;
    let attended = record.instance_arns.iter().filter(|_| tasks_left);
    for arn in attended.chain(record.left_behind.iter().filter(|_| !args.keep_tasks)) {
        stopped += Engine::from_environment()?.stop_containers_of(arn).await?;
    }
    if stopped > 0 {
        output.tick(format_args!("{stopped} container(s) stopped"));
    }
    if !any && stopped == 0 {
        output.note(format_args!("nothing to stop: nothing runs in {}", data_dir.shown()));
    }
    forget_processes(&data_dir, record)
}

/// Stops all tasks of this directory's instances through the API, and waits; whether all have stopped in time.
async fn stop_tasks(data_dir: &DataDir, record: &UpRecord, output: &mut Output) -> Result<bool, CliError> {
    let Some(client) = EcsClient::for_data_dir(data_dir)? else {
        return Ok(false);
    };
    let mut tasks = Vec::new();
    for arn in &record.instance_arns {
        let of_instance = ListTasksRequest {
            cluster: Some(CLUSTER.to_owned()),
            container_instance: Some(arn.clone()),
            ..ListTasksRequest::default()
        };
        tasks.extend(client.list_tasks(of_instance).await?);
    }
    if tasks.is_empty() {
        return Ok(true);
    }
    for task in &tasks {
        client.stop_task(CLUSTER, task, REASON).await?;
    }
    let deadline = Instant::now() + TASKS_STOP_WITHIN;
    while Instant::now() < deadline {
        let states = client.describe_tasks(CLUSTER, &tasks).await?;
        if states.iter().all(|task| task.last_status.as_deref() == Some("STOPPED")) {
            output.tick(format_args!("{} task(s) stopped", tasks.len()));
            return Ok(true);
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

/// What of the record still lives.
struct Processes {
    supervisor: Option<Process>,
    agent: Option<Process>,
    server: Option<Process>,
}

impl Processes {
    fn find(record: &UpRecord, data_dir: &DataDir) -> Self {
        let ours = |id: Option<ProcessId>, name| id?.hold(name, Some(data_dir.path()));
        Self {
            // In the foreground its command line may spell the directory in another way; its start time suffices.
            supervisor: record.supervisor.and_then(|id| id.hold("up", None)),
            agent: ours(record.agent, "agent"),
            server: ours(record.server, "server"),
        }
    }

    /// Ends them in an order in which nobody starts anybody again; whether there was anything to end.
    async fn stop(self, output: &mut Output) -> Result<bool, CliError> {
        let any = self.supervisor.is_some() || self.agent.is_some() || self.server.is_some();
        // The supervisor ends its children first. What it leaves, or what has none, is ended here.
        if let Some(supervisor) = self.supervisor {
            supervisor.stop(SUPERVISOR_STOPS_WITHIN).await?;
        }
        for (name, process) in [("agent", self.agent), ("server", self.server)] {
            if let Some(process) = process {
                process.stop(GRACE).await?;
                output.tick(format_args!("{name} stopped"));
            }
        }
        Ok(any)
    }
}

/// Leaves the identity of the directory, and removes that of processes which are no more.
fn forget_processes(data_dir: &DataDir, record: UpRecord) -> Result<(), CliError> {
    data_dir.write_record(&UpRecord { supervisor: None, agent: None, server: None, ready: false, ..record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_record_of_processes_that_are_no_more_touches_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(folder.path()).unwrap();
        // The pid of this very test, as if it had been given out again.
        let reused = ProcessId { pid: std::process::id() as i32, start_time: 1 };
        let record = UpRecord {
            id: "id".into(),
            supervisor: Some(reused),
            agent: Some(reused),
            server: Some(reused),
            ..UpRecord::default()
        };
        data_dir.write_record(&record).unwrap();
        assert!(!Processes::find(&record, &data_dir).stop(&mut Output::new()).await.unwrap());
        forget_processes(&data_dir, record).unwrap();
        let left = data_dir.record().unwrap().unwrap();
        assert_eq!((left.id.as_str(), left.server, left.agent), ("id", None, None));
    }
}
