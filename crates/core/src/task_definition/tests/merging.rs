//! Overrides laid over a definition.

use longshore_api::ApiError;
use longshore_api::ecs::types::TaskOverride;
use serde_json::{Value, json};

use super::{attribute, definition, registered};
use crate::resources::{CpuUnits, MemoryMib};
use crate::task_definition::overrides::{EffectiveTask, merge};
use crate::task_definition::resolve;

fn merged(request: &Value, overrides: Value) -> Result<EffectiveTask, ApiError> {
    let document = registered(request);
    let overrides: Option<TaskOverride> = serde_json::from_value(overrides).expect("overrides of the right shape");
    merge(&document, &resolve(&document), overrides.as_ref())
}

fn base() -> Value {
    definition(
        json!({"executionRoleArn": "reader"}),
        json!({
            "secrets": [{"name": "TOKEN", "valueFrom": "token"}],
            "cpu": 10, "memory": 64, "memoryReservation": 32, "command": ["serve"],
            "environment": [{"name": "MODE", "value": "slow"}, {"name": "KEEP", "value": "1"}, {"name": "KEEP", "value": "2"}],
        }),
    )
}

#[test]
fn without_overrides_the_definition_applies() {
    for overrides in [json!(null), json!({}), json!({"containerOverrides": []})] {
        let task = merged(&base(), overrides).unwrap();
        assert_eq!((task.cpu, task.memory), (CpuUnits(10), MemoryMib(32)));
        let container = &task.containers[0];
        assert_eq!(container.command.as_deref(), Some(&["serve".to_owned()][..]));
        // Of a name that is there twice, the last value counts, as it does for a process.
        let environment: Vec<_> =
            container.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(environment, [("KEEP", "2"), ("MODE", "slow")]);
    }
}

#[test]
fn every_override_is_laid_over() {
    let overrides = json!({"cpu": "1 vCPU", "memory": "200", "containerOverrides": [{
        "name": "app", "cpu": 20, "memory": 128, "memoryReservation": 100, "command": ["work", "hard"],
        "environment": [{"name": "MODE", "value": "fast"}, {"name": "NEW", "value": "x"}],
    }]});
    let task = merged(&base(), overrides).unwrap();
    assert_eq!((task.cpu, task.memory), (CpuUnits(1024), MemoryMib(200)));
    assert_eq!((task.task_cpu, task.task_memory), (Some(CpuUnits(1024)), Some(MemoryMib(200))));
    assert_eq!(
        task.requires,
        [
            attribute("com.amazonaws.ecs.capability.docker-remote-api.1.21"),
            attribute("ecs.capability.secrets.ssm.environment-variables"),
            attribute("ecs.capability.task-cpu-mem-limit")
        ]
    );
    let container = &task.containers[0];
    assert_eq!(container.cpu, CpuUnits(20));
    assert_eq!((container.memory, container.memory_reservation), (Some(MemoryMib(128)), Some(MemoryMib(100))));
    assert_eq!(container.command, Some(vec!["work".to_owned(), "hard".to_owned()]));
    let environment: Vec<_> = container.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(environment, [("KEEP", "2"), ("MODE", "fast"), ("NEW", "x")]);
}

#[test]
fn reservations_follow_the_containers() {
    let task =
        merged(&base(), json!({"containerOverrides": [{"name": "app", "cpu": 0, "memoryReservation": 64}]})).unwrap();
    assert_eq!((task.cpu, task.memory), (CpuUnits(0), MemoryMib(64)));
}

#[test]
fn files_of_variables_and_the_role_take_the_place_of_those_of_the_definition() {
    let file = |name: &str| json!([{"type": "s3", "value": format!("arn:aws:s3:::b/{name}.env")}]);
    let request = definition(
        json!({"executionRoleArn": "reader"}),
        json!({"environmentFiles": file("a"), "image": "012345678910.dkr.ecr.eu-west-1.amazonaws.com/app"}),
    );
    let files = |task: &EffectiveTask| task.containers[0].environment_files[0].value.clone();
    let plain = merged(&request, json!(null)).unwrap();
    assert_eq!((files(&plain).as_str(), plain.execution_role.as_deref()), ("arn:aws:s3:::b/a.env", Some("reader")));
    let overrides =
        json!({"executionRoleArn": "other", "containerOverrides": [{"name": "app", "environmentFiles": file("b")}]});
    let changed = merged(&request, overrides.clone()).unwrap();
    assert_eq!((files(&changed).as_str(), changed.execution_role.as_deref()), ("arn:aws:s3:::b/b.env", Some("other")));
    assert_eq!(plain.requires, changed.requires);
    // What only the overrides bring, only they can require.
    let bare = definition(json!({}), json!({"image": "012345678910.dkr.ecr.eu-west-1.amazonaws.com/app"}));
    let requires = merged(&bare, overrides).unwrap().requires;
    assert_eq!(requires, changed.requires);
    for name in ["ecs.capability.env-files.s3", "ecs.capability.execution-role-ecr-pull"] {
        assert!(requires.contains(&attribute(name)), "{name}");
    }
}

#[test]
fn overrides_that_ecs_refuses() {
    let long = "x".repeat(8192);
    for (overrides, words) in [
        (
            json!({"containerOverrides": [{"name": "db"}]}),
            "Override for container named db is not a container in the TaskDefinition.",
        ),
        (json!({"containerOverrides": [{"command": ["x"]}]}), "Container name is required"),
        (json!({"containerOverrides": [{"name": "app"}, {"name": "app"}]}), "'app' is there twice"),
        (json!({"containerOverrides": [{"name": "app", "cpu": -1}]}), "'cpu'"),
        (json!({"containerOverrides": [{"name": "app", "memory": 5}]}), "'memory'"),
        (json!({"containerOverrides": [{"name": "app", "memoryReservation": 0}]}), "'memoryReservation'"),
        (json!({"containerOverrides": [{"name": "app", "memoryReservation": 65}]}), "greater than 'memory'"),
        (json!({"containerOverrides": [{"name": "app", "memory": 31}]}), "greater than 'memory'"),
        (json!({"containerOverrides": [{"name": "app", "environment": [{"name": "", "value": "x"}]}]}), "no name"),
        (
            json!({"containerOverrides": [{"name": "app", "command": [long]}]}),
            "Container Overrides length must be at most 8192",
        ),
        (
            json!({"containerOverrides": [{"name": "app", "environmentFiles": [{"type": "s3", "value": "x"}]}]}),
            "'environmentFiles'",
        ),
        (json!({"executionRoleArn": "arn:aws:iam::1:role/r"}), "Role is not valid."),
        (json!({"containerOverrides": [{"name": "app", "environment": [{"name": "TOKEN", "value": "x"}]}]}), "'TOKEN'"),
        (json!({"taskRoleArn": "r", "cpu": "x"}), "Invalid 'cpu' setting for task."),
        (json!({"cpu": "x"}), "Invalid 'cpu' setting for task."),
        (json!({"cpu": "127"}), "Invalid 'cpu' setting for task."),
        (json!({"memory": "x"}), "Invalid 'memory' setting for task."),
        (json!({"memory": "63"}), "The 'memory' setting for container 'app' is greater than for the task."),
        (
            json!({"cpu": "128", "containerOverrides": [{"name": "app", "cpu": 129}]}),
            "The sum of all container 'cpu' values",
        ),
    ] {
        let error = merged(&base(), overrides.clone()).expect_err("refused");
        assert_eq!(error.code.name, "InvalidParameterException", "{overrides}");
        assert!(error.message.contains(words), "'{}' lacks '{words}'", error.message);
    }
}

#[test]
fn overrides_that_are_not_supported_are_refused_by_name() {
    for (field, overrides) in [
        ("taskRoleArn", json!({"taskRoleArn": "r"})),
        ("ephemeralStorage", json!({"ephemeralStorage": {"sizeInGiB": 21}})),
        ("inferenceAcceleratorOverrides", json!({"inferenceAcceleratorOverrides": [{}]})),
        (
            "resourceRequirements",
            json!({"containerOverrides": [{"name": "app", "resourceRequirements": [{"type": "GPU", "sharingStrategy": {"nvidiaMps": {"memory": 1024}}}]}]}),
        ),
    ] {
        let error = merged(&base(), overrides).expect_err("refused");
        assert_eq!(error.code.name, "UnsupportedFeatureException");
        assert!(error.message.contains(&format!("Invalid '{field}' setting")), "{}", error.message);
        assert!(error.message.contains("Longshore does not support it yet."), "{}", error.message);
    }
}

#[test]
fn the_environment_is_not_shown_in_debug_output() {
    let shown = format!("{:?}", merged(&base(), json!(null)).unwrap());
    assert!(shown.contains("MODE") && !shown.contains("slow"), "{shown}");
}
