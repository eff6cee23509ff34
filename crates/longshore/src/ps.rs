//! `longshore ps`: tasks as a table.

use std::time::Duration;

use longshore_api::Timestamp;
use longshore_api::ecs::types::{DesiredStatus, ListTasksRequest, Task};

use crate::cli::{Format, PsArgs, duration_text};
use crate::client::EcsClient;
use crate::error::CliError;
use crate::output::{self, print_json};
use crate::reach::Reach;
use crate::table::Table;
use crate::task::{last_part, ports, status_text};

/// Ids begin with their time; so much of one is nearly always enough to tell it from all others.
const ID_SHOWN: usize = 16;

/// Runs the command.
pub(crate) async fn ps(args: &PsArgs, program: &str) -> Result<(), CliError> {
    let client = Reach::new(&args.reach, program).connect()?.client;
    let mut tasks = Vec::new();
    for cluster in clusters(&client, args).await? {
        tasks.extend(tasks_of(&client, &cluster, args).await?);
    }
    tasks.sort_by_key(|task| std::cmp::Reverse((task.created_at, task.task_arn.clone())));
    match args.output.output {
        Format::Json => print_json(&serde_json::json!({ "tasks": tasks })),
        Format::Table => output::print(&table(&tasks, longshore_client::now())),
    }
}

/// The clusters to look at. An instance is in one.
async fn clusters(client: &EcsClient, args: &PsArgs) -> Result<Vec<String>, CliError> {
    if let Some(instance) = &args.instance {
        let of_arn = instance.rsplit_once(":container-instance/").and_then(|(_, rest)| rest.split_once('/'));
        let named = of_arn.map(|(cluster, _)| cluster.to_owned()).or_else(|| args.cluster.clone());
        return Ok(vec![named.unwrap_or_else(|| "default".to_owned())]);
    }
    let clusters = client.clusters(args.cluster.as_deref()).await?;
    Ok(clusters.into_iter().filter_map(|cluster| cluster.cluster_arn).collect())
}

async fn tasks_of(client: &EcsClient, cluster: &str, args: &PsArgs) -> Result<Vec<Task>, CliError> {
    let wanted: &[DesiredStatus] =
        if args.all { &[DesiredStatus::Running, DesiredStatus::Stopped] } else { &[DesiredStatus::Running] };
    let mut arns = Vec::new();
    for status in wanted {
        let filter = ListTasksRequest {
            cluster: Some(cluster.to_owned()),
            family: args.family.clone(),
            container_instance: args.instance.clone(),
            desired_status: Some(*status),
            ..ListTasksRequest::default()
        };
        arns.extend(client.list_tasks(filter).await?);
    }
    // One that stopped between the two lists is in both.
    arns.sort_unstable();
    arns.dedup();
    client.describe_tasks(cluster, &arns).await
}

pub(crate) fn table(tasks: &[Task], now: Timestamp) -> String {
    let shown = id_length(tasks);
    let mut table = Table::new(["ID", "CLUSTER", "DEFINITION", "STATUS", "INSTANCE", "AGE", "PORTS", "REASON"]);
    for task in tasks {
        let short = |arn: &Option<String>, length: usize| last_part(arn.as_deref()).chars().take(length).collect();
        let bindings =
            task.containers.iter().flatten().flat_map(|container| container.network_bindings.iter().flatten());
        table.row([
            short(&task.task_arn, shown),
            last_part(task.cluster_arn.as_deref()).to_owned(),
            last_part(task.task_definition_arn.as_deref()).to_owned(),
            status_text(task),
            last_part(task.container_instance_arn.as_deref()).to_owned(),
            task.created_at.map(|created| age(created, now)).unwrap_or_default(),
            ports(bindings),
            reason(task),
        ]);
    }
    table.text()
}

/// So many characters that no two ids look alike.
fn id_length(tasks: &[Task]) -> usize {
    let mut ids: Vec<&str> = tasks.iter().map(|task| last_part(task.task_arn.as_deref())).collect();
    ids.sort_unstable();
    let alike = |pair: &[&str]| pair[0].bytes().zip(pair[1].bytes()).take_while(|(one, other)| one == other).count();
    let longest = ids.windows(2).filter(|pair| pair[0] != pair[1]).map(alike).max().unwrap_or(0);
    ID_SHOWN.max(longest + 1)
}

/// The two largest units: nobody asks for the seconds of a task that is three days old.
fn age(since: Timestamp, now: Timestamp) -> String {
    let age_s = u64::try_from(now.since(since) / 1000).unwrap_or(0);
    let unit = match age_s {
        86_400.. => 3_600,
        3_600.. => 60,
        _ => 1,
    };
    duration_text(Duration::from_secs(age_s / unit * unit))
}

/// Why it stopped, with the exit codes that say more.
fn reason(task: &Task) -> String {
    let Some(reason) = &task.stopped_reason else { return String::new() };
    let codes: Vec<String> = task
        .containers
        .iter()
        .flatten()
        .filter_map(|container| {
            let code = container.exit_code.filter(|code| *code != 0)?;
            Some(format!("{} exit {code}", container.name.as_deref().unwrap_or("container")))
        })
        .collect();
    match codes.is_empty() {
        true => reason.clone(),
        false => format!("{reason} ({})", codes.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::ecs::types::Container;

    use super::*;

    fn task(id: &str, status: &str) -> Task {
        Task {
            task_arn: Some(format!("arn:aws:ecs:r:1:task/prod/{id}")),
            cluster_arn: Some("arn:aws:ecs:r:1:cluster/prod".to_owned()),
            task_definition_arn: Some("arn:aws:ecs:r:1:task-definition/web:7".to_owned()),
            last_status: Some(status.to_owned()),
            desired_status: Some(status.to_owned()),
            created_at: Some(Timestamp::from_millis(0)),
            ..Task::default()
        }
    }

    #[test]
    fn ids_are_as_long_as_it_takes_to_tell_them_apart() {
        let (one, two) = ("0123456789abcdef0000000000000000", "0123456789abcdef0010000000000000");
        assert_eq!(id_length(&[task(one, "RUNNING")]), 16);
        assert_eq!(id_length(&[task(one, "RUNNING"), task(two, "RUNNING")]), 19);
        let text = table(&[task(one, "RUNNING"), task(two, "RUNNING")], Timestamp::from_millis(90_000));
        assert!(text.contains("0123456789abcdef000  prod     web:7       RUNNING  -         1m30s"), "{text}");
    }

    #[test]
    fn a_stopped_task_says_why_and_with_which_codes() {
        let container =
            |name: &str, code| Container { name: Some(name.to_owned()), exit_code: Some(code), ..Container::default() };
        let stopped = Task {
            stopped_reason: Some("Essential container in task exited".to_owned()),
            containers: Some(vec![container("a", 3), container("b", 0)]),
            ..task("0", "STOPPED")
        };
        assert_eq!(reason(&stopped), "Essential container in task exited (a exit 3)");
        assert_eq!(reason(&task("0", "RUNNING")), "");
    }

    #[test]
    fn an_age_has_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_661, "1h1m"), (90_061, "1d1h")] {
            assert_eq!(age(Timestamp::from_millis(0), Timestamp::from_millis(seconds * 1000)), text);
        }
    }
}
