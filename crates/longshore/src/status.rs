//! `longshore status`: the server, clusters, their machines and tasks at a glance, and what is wrong with what to do next.

mod problems;
mod report;

use longshore_api::ecs::types::ContainerInstance;
use std::collections::BTreeMap;

use crate::cli::{Format, StatusArgs};
use crate::client::EcsClient;
use crate::error::CliError;
use crate::output::{self, Output, harmless, print_json};
use crate::reach::Reach;
use crate::table::Table;
use problems::problems;
use report::{Amount, ClusterReport, InstanceReport, Problem, Report, ServerReport};

/// Runs the command.
pub(crate) async fn status(args: &StatusArgs, program: &str) -> Result<(), CliError> {
    let reach = Reach::new(&args.reach, program);
    let reached = reach.connect()?;
    let report = match gather(&reached.client, &reached.endpoint, args.cluster.as_deref()).await {
        Ok(report) => report,
        Err(CliError::Call(error)) if error.code().is_empty() && error.is_passing() => {
            if args.output.output == Format::Json {
                print_json(&Report::of_nobody(&reached.endpoint))?;
            }
            return Err(CliError::Unreachable {
                endpoint: reached.endpoint,
                next_step: match reach.server_log() {
                    Some(log) => format!("start the server (`longshore up`), or look into {}", log.display()),
                    None => "see whether the server runs, and whether this machine reaches it".to_owned(),
                },
                source: Box::new(CliError::Call(error)),
            });
        }
        Err(error) => return Err(error),
    };
    match args.output.output {
        Format::Json => print_json(&report),
        Format::Table => output::print(&(text(&report) + &verdict(&report, &Output::new()))),
    }
}

/// What is wrong, and what to do about it.
fn verdict(report: &Report, output: &Output) -> String {
    if report.problems.is_empty() {
        return format!("{} nothing is wrong\n", output.green("✔"));
    }
    let cross = output.red("✘");
    let line = |it: &Problem| format!("{cross} {}\n  {}\n", harmless(&it.problem), harmless(&it.next_step));
    report.problems.iter().map(line).collect()
}

/// Asks for everything there is to know.
async fn gather(client: &EcsClient, endpoint: &str, cluster: Option<&str>) -> Result<Report, CliError> {
    let server = client.describe_server().await?;
    let now = longshore_client::now();
    let mut clusters = Vec::new();
    let mut container_instances = Vec::new();
    for cluster in client.clusters(cluster).await?.iter().filter(|one| one.status.as_deref() == Some("ACTIVE")) {
        let name = cluster.cluster_name.clone().unwrap_or_default();
        let described = client.container_instances(&name).await?;
        let described: BTreeMap<String, ContainerInstance> = described
            .into_iter()
            .filter_map(|instance| Some((instance.container_instance_arn.clone()?, instance)))
            .collect();
        let states = client.instance_identities(Some(name)).await?;
        let instances: Vec<InstanceReport> = states
            .iter()
            .filter_map(|row| {
                let state = row.container_instance.as_ref()?;
                let instance = described.get(&state.container_instance_arn)?;
                Some(InstanceReport::new(&row.cluster, state, instance))
            })
            .collect();
        clusters.push(ClusterReport::new(cluster, &instances));
        container_instances.extend(instances);
    }
    let problems = problems(&server, &clusters, &container_instances, now);
    let server = ServerReport::new(endpoint, server);
    Ok(Report { server, clusters, container_instances, problems })
}

fn text(report: &Report) -> String {
    let server = &report.server;
    let mut text = format!(
        "server {} (version {}, region {}, account {})\n\n",
        server.endpoint, server.version, server.region, server.account_id
    );
    let mut clusters =
        Table::new(["CLUSTER", "INSTANCES", "CONNECTED", "TASKS RUNNING", "PENDING", "CPU USED", "MEMORY USED"]);
    for cluster in &report.clusters {
        clusters.row([
            cluster.name.clone(),
            cluster.instances.to_string(),
            cluster.connected.to_string(),
            cluster.running_tasks.to_string(),
            cluster.pending_tasks.to_string(),
            used(cluster.cpu),
            used(cluster.memory),
        ]);
    }
    text.push_str(&clusters.text());
    text.push('\n');
    if report.container_instances.is_empty() {
        return text;
    }
    let mut instances =
        Table::new(["INSTANCE", "CLUSTER", "STATUS", "AGENT", "TASKS", "CPU USED", "MEMORY USED", "ZONE", "HOST"]);
    for instance in &report.container_instances {
        instances.row([
            crate::task::last_part(Some(&instance.arn)).to_owned(),
            instance.cluster.clone(),
            if instance.lost { format!("{} lost", instance.status) } else { instance.status.clone() },
            if instance.connected { "connected" } else { "not connected" }.to_owned(),
            match instance.pending_tasks {
                0 => instance.running_tasks.to_string(),
                pending => format!("{} +{pending} pending", instance.running_tasks),
            },
            used(instance.cpu),
            used(instance.memory),
            instance.zone.clone().unwrap_or_default(),
            instance.host.clone().unwrap_or_default(),
        ]);
    }
    text.push_str(&instances.text());
    text.push('\n');
    text
}

/// `12 of 2048`.
fn used(amount: Amount) -> String {
    format!("{} of {}", amount.used, amount.total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::tests::{cluster, instance};

    #[test]
    fn the_tables_say_what_is_used_of_what_there_is() {
        let instances = [instance("a", true), InstanceReport { lost: true, ..instance("b", false) }];
        let report = Report {
            clusters: vec![cluster("prod", &instances)],
            container_instances: instances.to_vec(),
            ..Report::of_nobody("http://h:1")
        };
        let text = text(&report);
        assert!(text.starts_with("server http://h:1 ("), "{text}");
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "prod 2 1 4 2 200 of 2048 400 of 4096",
            "a prod ACTIVE connected 2 +1 pending 100 of 1024 200 of 2048 z1 h1",
            "b prod ACTIVE lost not connected",
        ] {
            assert!(squeezed.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn programs_get_the_names_that_the_help_promises() {
        let report = Report { clusters: vec![cluster("prod", &[instance("a", true)])], ..Report::of_nobody("u") };
        let json = serde_json::to_value(&report).unwrap();
        let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&json), ["clusters", "containerInstances", "problems", "server"]);
        assert_eq!(
            names(&json["server"]),
            ["accountId", "availabilityZone", "endpoint", "reachable", "readOnly", "region", "version"]
        );
        assert_eq!(json["clusters"][0]["cpu"], serde_json::json!({"used": 100, "total": 1024}));
    }
}
