//! Logs that were meant for CloudWatch, on a machine from which nothing reaches it.
//!
//! `awslogs` stands in most task definitions. An operator may have such containers log into files of this machine instead,
//! with Docker's `json-file`; what they print stays readable through Docker. The definition itself is left as it is.

use longshore_agent_protocol::acs;
use serde_json::{Map, Value, json};

use super::AwslogsAs;

const AWSLOGS: &str = "awslogs";
/// What a container may keep on this disk: CloudWatch has room for everything, a machine has not. The oldest file goes.
const KEPT_FILES: &str = "4";
/// Size of each of them.
const KEPT_FILE_SIZE: &str = "32m";
/// Options of delivery, which mean the same to every log driver of Docker.
const OPTIONS_OF_ALL_DRIVERS: [&str; 2] = ["mode", "max-buffer-size"];

/// What takes the place of a log configuration; none if it stays.
pub(super) fn replacement(awslogs_as: AwslogsAs, log_config: &Value) -> Option<Value> {
    if awslogs_as != AwslogsAs::JsonFile || member(log_config, "Type")?.as_str()? != AWSLOGS {
        return None;
    }
    let given = member(log_config, "Config").and_then(Value::as_object);
    let kept = given.into_iter().flatten().filter(|(name, _)| OPTIONS_OF_ALL_DRIVERS.contains(&name.as_str()));
    let mut options: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    options.insert("max-file".to_owned(), json!(KEPT_FILES));
    options.insert("max-size".to_owned(), json!(KEPT_FILE_SIZE));
    Some(json!({ "Type": "json-file", "Config": options }))
}

/// For people: which containers of a task log elsewhere than their definition says.
pub(super) fn notice(awslogs_as: AwslogsAs, task: &acs::Task) -> Option<String> {
    let moved: Vec<&str> = task
        .containers
        .iter()
        .filter(|container| log_config(container).is_some_and(|log| replacement(awslogs_as, &log).is_some()))
        .map(|container| container.name.as_str())
        .collect();
    (!moved.is_empty()).then(|| {
        format!(
            "logs of {} go to json-file on this machine, not to CloudWatch Logs (LONGSHORE_AWSLOGS_AS): `longshore logs` \
             shows them",
            moved.join(", ")
        )
    })
}

fn log_config(container: &acs::Container) -> Option<Value> {
    let host_config = container.docker_config.as_ref()?.host_config.as_deref()?;
    let host_config: Value = serde_json::from_str(host_config).ok()?;
    member(&host_config, "LogConfig").cloned()
}

/// Docker reads its own members without regard to case.
fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.as_object()?.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awslogs() -> Value {
        json!({ "Type": "awslogs", "Config": {
            "awslogs-group": "/ecs/web", "awslogs-region": "r", "awslogs-stream": "web/main/1",
            "mode": "non-blocking", "max-buffer-size": "10m",
        }})
    }

    #[test]
    fn only_awslogs_is_replaced_and_only_if_asked_for() {
        let kept = replacement(AwslogsAs::JsonFile, &awslogs()).unwrap();
        assert_eq!(
            kept,
            json!({ "Type": "json-file", "Config": {
                "mode": "non-blocking", "max-buffer-size": "10m", "max-file": "4", "max-size": "32m",
            }})
        );
        assert_eq!(replacement(AwslogsAs::Awslogs, &awslogs()), None);
        assert_eq!(replacement(AwslogsAs::JsonFile, &json!({ "Type": "syslog", "Config": {} })), None);
        assert_eq!(replacement(AwslogsAs::JsonFile, &json!({})), None);
    }

    #[test]
    fn people_are_told_whose_logs_are_elsewhere() {
        let container = |name: &str, driver: &str| acs::Container {
            name: name.to_owned(),
            docker_config: Some(acs::DockerConfig {
                host_config: Some(json!({ "LogConfig": { "Type": driver } }).to_string()),
                ..acs::DockerConfig::default()
            }),
            ..acs::Container::default()
        };
        let task = acs::Task {
            containers: vec![container("web", "awslogs"), container("side", "json-file")],
            ..acs::Task::default()
        };
        let told = notice(AwslogsAs::JsonFile, &task).unwrap();
        assert!(told.starts_with("logs of web go to json-file"), "{told}");
        assert_eq!(notice(AwslogsAs::Awslogs, &task), None);
    }
}
