//! `longshore up --run FILE`: registers a task definition, runs it, and shows the task's life and its containers'
//! output as they happen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_api::Timestamp;
use longshore_api::ecs::types::{Container, ListTasksRequest, Task, TaskStopCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::client::EcsClient;
use crate::data_dir::DataDir;
use crate::engine::{self, Engine};
use crate::error::CliError;
use crate::output::{Output, seconds};
use crate::registered::Registered;
use crate::supervisor::CLUSTER;

/// Between two looks at the task. A status that came and went in between still shows by its time stamps.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a task may take to run; an image that is pulled takes its time.
const RUNNING_TAKES_AT_MOST: Duration = Duration::from_secs(300);
/// How long a new task's output is shown before the command goes on.
const WATCH_NEW: Duration = Duration::from_secs(4);
/// The same for a task that ran before: enough to see that it lives.
const WATCH_OLD: Duration = Duration::from_millis(1200);
/// Of its earlier output, so many lines.
const OLD_LINES: u32 = 3;
/// Output that was written before the task was seen to have stopped arrives within this.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(300);

/// A task definition as it stands in a file.
#[derive(Debug)]
pub(crate) struct Definition {
    path: PathBuf,
    family: String,
    json: Vec<u8>,
}

impl Definition {
    /// Reads the file; all it must have to be run is a family, the rest is for the API to judge.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        #[derive(serde::Deserialize)]
        struct Head {
            family: String,
        }
        let json = std::fs::read(path).map_err(CliError::file("read", path))?;
        let head: Head =
            serde_json::from_slice(&json).map_err(|source| CliError::Definition { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), family: head.family, json })
    }

    pub(crate) fn family(&self) -> &str {
        &self.family
    }
}

/// Registers and runs the definition, unless a task of its family runs already; shows the task and returns its ARN.
pub(crate) async fn run(data_dir: &DataDir, definition: Definition, output: &mut Output) -> Result<String, CliError> {
    output.begin();
    let client = EcsClient::for_data_dir(data_dir)?.ok_or_else(|| CliError::NotRunning {
        program: "longshore".to_owned(),
        data_dir: data_dir.path().to_owned(),
    })?;
    let of_family = ListTasksRequest {
        cluster: Some(CLUSTER.to_owned()),
        family: Some(definition.family.clone()),
        ..ListTasksRequest::default()
    };
    let running = client.list_tasks(of_family).await?;
    let (task, watch_for, old_lines) = match running.into_iter().next() {
        Some(task) => {
            output.tick(format_args!("a task of {} runs already: {task}", definition.family));
            (task, WATCH_OLD, Some(OLD_LINES))
        }
        None => (start(&client, data_dir, definition, output).await?, WATCH_NEW, None),
    };
    let follower = Follower { client: &client, output, watch_for, old_lines, seen: BTreeSet::new(), lines: None };
    follower.follow(&task).await?;
    Ok(task)
}

async fn start(
    client: &EcsClient,
    data_dir: &DataDir,
    definition: Definition,
    output: &mut Output,
) -> Result<String, CliError> {
    let registered = revision(client, data_dir, definition, output).await?;
    let answer = client.run_task(CLUSTER, &registered).await?;
    let task = answer.tasks.unwrap_or_default().into_iter().find_map(|task| task.task_arn);
    let task = task.ok_or_else(|| CliError::NotPlaced {
        definition: registered.rsplit('/').next().unwrap_or(&registered).to_owned(),
        reasons: answer
            .failures
            .unwrap_or_default()
            .into_iter()
            .map(|failure| {
                let reason = failure.reason.unwrap_or_else(|| "no reason given".to_owned());
                let reason = failure.arn.map_or_else(|| reason.clone(), |arn| format!("{reason} on {arn}"));
                failure.detail.map_or_else(|| reason.clone(), |detail| format!("{reason} ({detail})"))
            })
            .collect::<Vec<_>>()
            .join("; "),
    })?;
    output.tick(format_args!("task accepted: {task}"));
    Ok(task)
}

/// The revision to run: the newest one, if it is this very definition; else a new one.
async fn revision(
    client: &EcsClient,
    data_dir: &DataDir,
    definition: Definition,
    output: &mut Output,
) -> Result<String, CliError> {
    let Definition { path, family, json } = definition;
    let before = Registered::read(data_dir)?;
    if let Some(arn) = before.revision(&family, &json)
        && client.newest_revision(&family).await?.as_deref() == Some(arn)
    {
        output.tick(format_args!("{} is registered as {arn}", path.display()));
        return Ok(arn.to_owned());
    }
    let arn = client.register_task_definition(json.clone()).await?;
    output.tick(format_args!("{} registered as {arn}", path.display()));
    before.write(data_dir, &family, &json, &arn)?;
    Ok(arn)
}

/// Shows each thing about one task once, when it is first seen.
struct Follower<'a> {
    client: &'a EcsClient,
    output: &'a Output,
    watch_for: Duration,
    /// How many lines of output from before are shown; without a number, all.
    old_lines: Option<u32>,
    seen: BTreeSet<String>,
    lines: Option<mpsc::Receiver<String>>,
}

impl Follower<'_> {
    async fn follow(mut self, arn: &str) -> Result<(), CliError> {
        let arns = [arn.to_owned()];
        let deadline = Instant::now() + RUNNING_TAKES_AT_MOST;
        let mut watch_until = None;
        loop {
            let tasks = self.client.describe_tasks(CLUSTER, &arns).await?;
            let Some(task) = tasks.into_iter().next() else {
                return Ok(());
            };
            self.show(&task);
            let status = task.last_status.as_deref().unwrap_or_default();
            if self.lines.is_none() && status != "PENDING" {
                self.lines = Some(self.open_logs(&task)?);
            }
            if status == "STOPPED" {
                self.pass_lines_for(LAST_WORDS_WITHIN).await;
                return match task.stop_code {
                    Some(TaskStopCode::TaskFailedToStart) => {
                        Err(CliError::TaskFailed { reason: task.stopped_reason.unwrap_or_default() })
                    }
                    _ => Ok(()),
                };
            }
            if status == "RUNNING" {
                let until = *watch_until.get_or_insert_with(|| Instant::now() + self.watch_for);
                if Instant::now() > until {
                    self.output.note("the task runs on");
                    return Ok(());
                }
            } else if Instant::now() > deadline {
                self.output.note(format_args!("the task is still {status}; it is followed no longer"));
                return Ok(());
            }
            self.pass_lines_for(LOOK_EVERY).await;
        }
    }

    /// What is new about the task, each with the time since it was created.
    fn show(&mut self, task: &Task) {
        for (when, what) in life(task) {
            if self.seen.insert(what.clone()) {
                let after = when
                    .zip(task.created_at)
                    .map_or_else(String::new, |(when, created)| format!("+{}", seconds(millis(when.since(created)))));
                self.output.line(format_args!("  {} {what}", self.output.dim(&format!("{after:>9}"))));
            }
        }
    }

    fn open_logs(&self, task: &Task) -> Result<mpsc::Receiver<String>, CliError> {
        let engine = Engine::from_environment()?;
        let (sender, receiver) = mpsc::channel(engine::LINES_WAITING_AT_MOST);
        for container in task.containers.iter().flatten() {
            if let (Some(id), Some(name)) = (&container.runtime_id, &container.name) {
                engine.follow_output(id, name, self.old_lines, sender.clone());
            }
        }
        Ok(receiver)
    }

    async fn pass_lines_for(&mut self, duration: Duration) {
        let end = sleep(duration);
        tokio::pin!(end);
        loop {
            let line = async {
                match &mut self.lines {
                    Some(lines) => lines.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut end => return,
                line = line => match line {
                    Some(line) => self.output.line(format_args!("  {line}")),
                    // All output has ended.
                    None => {
                        end.as_mut().await;
                        return;
                    }
                },
            }
        }
    }
}

/// The steps of a task's life that are behind it, in order, each with its time if the API tells it.
fn life(task: &Task) -> Vec<(Option<Timestamp>, String)> {
    let status = task.last_status.as_deref().unwrap_or_default();
    let mut steps = Vec::new();
    let mut step = |when: Option<Timestamp>, what: &str| {
        if when.is_some() {
            steps.push((when, what.to_owned()));
        }
    };
    step(task.created_at, "PENDING: placed");
    step(task.pull_started_at, "image wanted");
    step(task.pull_stopped_at, "pull ended");
    step(task.started_at, "RUNNING");
    step(task.stopping_at, "stopping");
    step(task.execution_stopped_at, "containers ended");
    if status == "STOPPED" {
        let reason = task.stopped_reason.as_deref().unwrap_or("no reason given");
        steps.push((task.stopped_at, format!("STOPPED: {reason}")));
        let ends = task.containers.iter().flatten().map(|container| (task.stopped_at, end_of(container)));
        steps.extend(ends);
    }
    steps
}

fn end_of(container: &Container) -> String {
    let name = container.name.as_deref().unwrap_or("container");
    let exit = container
        .exit_code
        .map_or_else(|| "has no exit code".to_owned(), |code| format!("ended with exit code {code}"));
    let reason = container.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{name} {exit}{reason}")
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(second * 1000))
    }

    fn words(task: &Task) -> Vec<String> {
        life(task).into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn a_life_is_told_as_far_as_it_has_come() {
        let mut task = Task { created_at: at(1), last_status: Some("PENDING".into()), ..Task::default() };
        assert_eq!(words(&task), ["PENDING: placed"]);
        task.last_status = Some("RUNNING".into());
        task.started_at = at(2);
        assert_eq!(words(&task), ["PENDING: placed", "RUNNING"]);
    }

    #[test]
    fn an_end_names_its_reason_and_every_exit_code() {
        let task = Task {
            created_at: at(1),
            stopped_at: at(3),
            last_status: Some("STOPPED".into()),
            stopped_reason: Some("Essential container in task exited".into()),
            containers: Some(vec![
                Container { name: Some("a".into()), exit_code: Some(0), ..Container::default() },
                Container {
                    name: Some("b".into()),
                    reason: Some("CannotPullContainerError: no".into()),
                    ..Container::default()
                },
            ]),
            ..Task::default()
        };
        assert_eq!(
            words(&task),
            [
                "PENDING: placed",
                "STOPPED: Essential container in task exited",
                "a ended with exit code 0",
                "b has no exit code: CannotPullContainerError: no",
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_definition_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.json");
        std::fs::write(&path, r#"{"containerDefinitions":[]}"#).unwrap();
        let message = Definition::read(&path).unwrap_err().to_string();
        assert!(message.contains("task.json") && message.contains("family"), "{message}");
        std::fs::write(&path, r#"{"family":"web"}"#).unwrap();
        assert_eq!(Definition::read(&path).unwrap().family, "web");
    }
}
