//! `longshore task`: one task's life, with the time of each step; and how the other commands find the task that is meant.

mod find;
mod kept_logs;
mod life;

use std::fmt::Write as _;
use std::time::Duration;

use longshore_api::ecs::types::{Container, ContainerInstance, NetworkBinding, Tag, Task};
use serde::Serialize;

use crate::cli::{Format, TaskArgs};
use crate::client::EcsClient;
use crate::error::CliError;
use crate::output::{self, harmless, print_json, seconds, time_text};
use crate::reach::Reach;
use crate::table::Table;
pub(crate) use find::{Found, find};
use kept_logs::{KeptLog, kept_logs};
use life::{Step, life};

/// What `--output json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    task: &'a Task,
    container_instance: Option<&'a ContainerInstance>,
    life: &'a [Step],
    kept_logs: &'a [KeptLog],
}

/// Runs the command.
pub(crate) async fn task(args: &TaskArgs, program: &str) -> Result<(), CliError> {
    let client = Reach::new(&args.reach, program).connect()?.client;
    let found = find(&client, &args.which).await?;
    let (task, instance) = described(&client, &found).await?;
    let (instance, steps) = (instance.as_ref(), life(&task));
    let kept = kept_logs(&client, &task, instance).await;
    match args.output.output {
        Format::Json => {
            print_json(&Document { task: &task, container_instance: instance, life: &steps, kept_logs: &kept })
        }
        Format::Table => output::print(&text(&task, instance, &steps, &kept)),
    }
}

/// The task, and the instance it is on as far as that is remembered.
async fn described(client: &EcsClient, found: &Found) -> Result<(Task, Option<ContainerInstance>), CliError> {
    let task = client.describe_task(&found.cluster, &found.arn).await?;
    let task = task.ok_or_else(|| CliError::NoTask { given: found.arn.clone() })?;
    let instance = match &task.container_instance_arn {
        Some(arn) => client.describe_container_instances(&found.cluster, std::slice::from_ref(arn)).await?,
        None => Vec::new(),
    };
    Ok((task, instance.into_iter().next()))
}

fn text(task: &Task, instance: Option<&ContainerInstance>, steps: &[Step], kept_logs: &[KeptLog]) -> String {
    let mut text = format!("{}\n", task.task_arn.as_deref().unwrap_or("task"));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<12} {}", harmless(&value));
        }
    };
    let given = |value: &Option<String>| value.clone().unwrap_or_default();
    line("definition", last_part(task.task_definition_arn.as_deref()).to_owned());
    line("status", status_text(task));
    line("stop code", task.stop_code.map(|code| code.as_str().to_owned()).unwrap_or_default());
    line("reason", given(&task.stopped_reason));
    line("instance", place(task, instance));
    kept_logs.iter().for_each(|kept| line("log", kept.text()));
    line("reserves", format!("{} CPU units, {} MiB", given(&task.cpu), given(&task.memory)));
    line("group", given(&task.group));
    line("started by", given(&task.started_by));
    line("tags", tags(task.tags.as_deref().unwrap_or_default()));
    text.push_str("\nLife\n");
    for step in steps {
        let (after, took) = (seconds(duration(step.after_creation)), seconds(duration(step.after_previous)));
        let _ = writeln!(text, "  {:<18} {}  {after:>11}  {:>11}", step.name, time_text(step.at), format!("+{took}"));
    }
    text.push_str("\nContainers\n");
    let mut table = Table::new(["NAME", "STATUS", "EXIT", "IMAGE", "PORTS", "DOCKER ID", "REASON"]);
    for container in task.containers.iter().flatten() {
        table.row([
            given(&container.name),
            given(&container.last_status),
            container.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            image(container),
            ports(container.network_bindings.iter().flatten()),
            given(&container.runtime_id).chars().take(12).collect(),
            given(&container.reason),
        ]);
    }
    for row in table.text().lines() {
        let _ = writeln!(text, "  {row}");
    }
    text
}

/// `RUNNING`, or on the way to something else.
pub(crate) fn status_text(task: &Task) -> String {
    let (last, desired) = (task.last_status.as_deref().unwrap_or("-"), task.desired_status.as_deref());
    match desired {
        Some("STOPPED") if last != "STOPPED" => format!("{last}, stopping"),
        _ => last.to_owned(),
    }
}

/// What is last in an ARN.
pub(crate) fn last_part(arn: Option<&str>) -> &str {
    arn.and_then(|arn| arn.rsplit('/').next()).unwrap_or_default()
}

/// `8080->80/tcp`, for each port that the host forwards; once for IPv4 and IPv6.
pub(crate) fn ports<'a>(bindings: impl Iterator<Item = &'a NetworkBinding>) -> String {
    let mut shown: Vec<String> = Vec::new();
    for binding in bindings {
        let (Some(host), Some(container)) = (binding.host_port, binding.container_port) else { continue };
        let protocol = binding.protocol.as_ref().map_or("tcp", |protocol| protocol.as_str());
        let port = format!("{host}->{container}/{protocol}");
        if !shown.contains(&port) {
            shown.push(port);
        }
    }
    shown.join(",")
}

fn place(task: &Task, instance: Option<&ContainerInstance>) -> String {
    if task.container_instance_arn.is_none() {
        let over = task.last_status.as_deref() == Some("STOPPED");
        return if over { "none: it was never placed" } else { "none: it waits for one" }.to_owned();
    }
    let id = last_part(task.container_instance_arn.as_deref());
    let Some(instance) = instance else { return format!("{id} (forgotten)") };
    let attribute = |name: &str| {
        let mut all = instance.attributes.iter().flatten();
        all.find(|attribute| attribute.name == name).and_then(|attribute| attribute.value.clone())
    };
    let mut text = id.to_owned();
    if let Some(host) = attribute("longshore.host-id") {
        let _ = write!(text, ", host {host}");
    }
    if let Some(zone) = attribute("ecs.availability-zone").or_else(|| task.availability_zone.clone()) {
        let _ = write!(text, ", zone {zone}");
    }
    match (instance.status.as_deref(), instance.agent_connected) {
        (_, Some(false)) => text.push_str(", its agent is not connected"),
        (Some(status), _) if status != "ACTIVE" => {
            let _ = write!(text, ", {status}");
        }
        _ => {}
    }
    text
}

fn image(container: &Container) -> String {
    let digest = container.image_digest.as_deref().map(|digest| digest.chars().take(19).collect::<String>());
    let image = container.image.clone().unwrap_or_default();
    digest.map_or_else(|| image.clone(), |digest| format!("{image} ({digest})"))
}

fn tags(tags: &[Tag]) -> String {
    let shown = tags
        .iter()
        .map(|tag| format!("{}={}", tag.key.as_deref().unwrap_or_default(), tag.value.as_deref().unwrap_or_default()));
    shown.collect::<Vec<_>>().join(", ")
}

fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}

#[cfg(test)]
mod tests {
    use longshore_api::Timestamp;
    use longshore_api::ecs::types::{Attribute, TaskStopCode, TransportProtocol};

    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn sample() -> (Task, ContainerInstance) {
        let at = |ms| Some(Timestamp::from_millis(ms));
        let binding = |ip: &str| NetworkBinding {
            bind_ip: some(ip),
            host_port: Some(8080),
            container_port: Some(80),
            protocol: Some(TransportProtocol::Tcp),
            ..NetworkBinding::default()
        };
        let web = Container {
            name: some("web"),
            last_status: some("STOPPED"),
            exit_code: Some(3),
            image: some("web:1"),
            runtime_id: Some("ab".repeat(32)),
            network_bindings: Some(vec![binding("0.0.0.0"), binding("::")]),
            ..Container::default()
        };
        let task = Task {
            task_arn: some("arn:aws:ecs:r:1:task/prod/01a2"),
            task_definition_arn: some("arn:aws:ecs:r:1:task-definition/web:7"),
            container_instance_arn: some("arn:aws:ecs:r:1:container-instance/prod/77"),
            last_status: some("STOPPED"),
            desired_status: some("STOPPED"),
            stop_code: Some(TaskStopCode::EssentialContainerExited),
            stopped_reason: some("Essential container in task exited"),
            cpu: some("10"),
            memory: some("16"),
            group: some("family:web"),
            tags: Some(vec![Tag { key: some("team"), value: some("blue") }]),
            created_at: at(0),
            started_at: at(1_500),
            stopped_at: at(61_500),
            containers: Some(vec![web]),
            ..Task::default()
        };
        let host = Attribute { name: "longshore.host-id".into(), value: some("h1"), ..Attribute::default() };
        let zone = Attribute { name: "ecs.availability-zone".into(), value: some("eu-1a"), ..Attribute::default() };
        let instance = ContainerInstance {
            attributes: Some(vec![host, zone]),
            agent_connected: Some(true),
            status: some("DRAINING"),
            ..ContainerInstance::default()
        };
        (task, instance)
    }

    #[test]
    fn a_task_that_has_no_instance_says_why() {
        let nowhere = |status: &str| Task { last_status: Some(status.to_owned()), ..Task::default() };
        assert_eq!(place(&nowhere("PROVISIONING"), None), "none: it waits for one");
        assert_eq!(place(&nowhere("STOPPED"), None), "none: it was never placed");
    }

    #[test]
    fn a_task_is_told_from_its_creation_to_its_exit_codes() {
        let (task, instance) = sample();
        let text = text(&task, Some(&instance), &life(&task), &[]);
        for part in [
            "arn:aws:ecs:r:1:task/prod/01a2\n",
            "  definition   web:7\n",
            "  stop code    EssentialContainerExited\n",
            "  reason       Essential container in task exited\n",
            "  instance     77, host h1, zone eu-1a, DRAINING\n",
            "  tags         team=blue\n",
            "  created            1970-01-01 00:00:00 UTC      0.000 s     +0.000 s\n",
            "  started            1970-01-01 00:00:01 UTC        1.5 s       +1.5 s\n",
            "  stopped            1970-01-01 00:01:01 UTC       61.5 s      +60.0 s\n",
            "  web   STOPPED  3     web:1  8080->80/tcp  abababababab  -\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("started by"), "{text}");
    }

    #[test]
    fn an_instance_that_is_forgotten_or_gone_says_so() {
        let (task, instance) = sample();
        assert_eq!(place(&task, None), "77 (forgotten)");
        let gone = ContainerInstance { agent_connected: Some(false), ..instance };
        assert!(place(&task, Some(&gone)).ends_with("not connected"));
        let stopping = Task { last_status: some("RUNNING"), ..task };
        assert_eq!(status_text(&stopping), "RUNNING, stopping");
    }

    #[test]
    fn programs_get_the_documents_of_the_api_and_the_steps() {
        let (task, instance) = sample();
        let steps = life(&task);
        let document = Document { task: &task, container_instance: Some(&instance), life: &steps, kept_logs: &[] };
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!(json["task"]["stoppedReason"], "Essential container in task exited");
        assert_eq!(json["containerInstance"]["status"], "DRAINING");
        let step = &json["life"][1];
        assert_eq!((&step["step"], &step["at"], &step["afterCreation"]), (&"started".into(), &1.5.into(), &1.5.into()));
    }
}
