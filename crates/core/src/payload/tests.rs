//! Payloads as the agent gets them, whole.

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::{LaunchType, TaskOverride};
use serde_json::{Value, json};

use super::{TaskFacts, start, stop};
use crate::entity::TaskGpu;
use crate::task_definition::overrides::merge;
use crate::task_definition::resolve;
use crate::task_definition::tests::{definition, registered};

const TASK: &str = "arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef";
const CLUSTER: &str = "arn:aws:ecs:us-east-1:000000000000:cluster/default";

/// The payload of a definition, on the wire, with `config` and `hostConfig` opened up.
fn payload(request: &Value, overrides: Value, launch_type: LaunchType) -> Value {
    payload_with(request, overrides, launch_type, &[])
}

fn payload_with(request: &Value, overrides: Value, launch_type: LaunchType, gpus: &[TaskGpu]) -> Value {
    let document = registered(request);
    let overrides: Option<TaskOverride> = serde_json::from_value(overrides).unwrap();
    let effective = merge(&document, &resolve(&document), overrides.as_ref()).unwrap();
    let arns: Vec<String> = (0..effective.containers.len()).map(|n| format!("arn:container/{n}")).collect();
    let task: acs::Task = start(&TaskFacts {
        task_arn: TASK,
        cluster_arn: CLUSTER,
        definition: &document,
        effective: &effective,
        container_arns: &arns,
        gpus,
        group: Some("family:web"),
        launch_type,
        log_driver_mode: "non-blocking",
        interface: None,
    });
    let mut task = serde_json::to_value(task).unwrap();
    for container in task["containers"].as_array_mut().unwrap() {
        for key in ["config", "hostConfig"] {
            let text = container["dockerConfig"][key].as_str().expect("a string of JSON").to_owned();
            container["dockerConfig"][key] = serde_json::from_str(&text).expect("JSON");
        }
    }
    task
}

fn first_container(container: Value) -> Value {
    payload(&definition(json!({}), container), json!(null), LaunchType::Ec2)["containers"][0].clone()
}

#[test]
fn a_small_task() {
    let request = json!({"family": "f_producer", "containerDefinitions": [{
        "name": "producer", "image": "producer-consumer", "cpu": 50, "memory": 50, "essential": true,
        "environment": [{"name": "MODE", "value": "producer"}],
    }]});
    assert_eq!(
        payload(&request, json!(null), LaunchType::Ec2),
        json!({
            "arn": TASK,
            "desiredStatus": "RUNNING",
            "taskClusterArn": CLUSTER,
            "family": "f_producer",
            "version": "3",
            "networkMode": "bridge",
            "launchType": "EC2",
            "group": "family:web",
            "containers": [{
                "name": "producer",
                "image": "producer-consumer",
                "containerArn": "arn:container/0",
                "essential": true,
                "environment": {"AWS_EXECUTION_ENV": "AWS_ECS_EC2", "MODE": "producer"},
                "cpu": 50,
                "memory": 50,
                "dockerConfig": {
                    "version": "1.17",
                    "config": {},
                    "hostConfig": {"NetworkMode": "bridge", "CapAdd": [], "CapDrop": []},
                },
            }],
        })
    );
}

/// Every member that travels, once.
fn rich() -> Value {
    serde_json::from_str(include_str!("tests/rich.json")).unwrap()
}

#[test]
fn a_rich_task() {
    let expected: Value = serde_json::from_str(include_str!("tests/rich.payload.json")).unwrap();
    assert_eq!(payload(&rich(), json!(null), LaunchType::External), expected);
}

#[test]
fn volumes_secrets_and_logins() {
    let request: Value = serde_json::from_str(include_str!("tests/storage.json")).unwrap();
    let expected: Value = serde_json::from_str(include_str!("tests/storage.payload.json")).unwrap();
    assert_eq!(payload(&request, json!(null), LaunchType::Ec2), expected);
}

#[test]
fn gpus_are_named_with_the_container_that_has_them() {
    let request = definition(json!({}), json!({"resourceRequirements": [{"type": "GPU", "value": "2"}]}));
    let gpus = ["GPU-a", "GPU-b"].map(|id| TaskGpu { container: 0, id: id.into() });
    let task = payload_with(&request, json!(null), LaunchType::External, &gpus);
    let association = |id: &str| json!({"containers": ["app"], "type": "gpu", "name": id, "content": {"encoding": "identity", "value": ""}});
    assert_eq!(task["associations"], json!([association("GPU-a"), association("GPU-b")]));
    assert_eq!(task["containers"][0]["dockerConfig"]["version"], "1.40");
}

#[test]
fn with_a_role_the_agent_asks_ecr_by_it() {
    let request = definition(
        json!({"executionRoleArn": "reader"}),
        json!({"image": "012345678910.dkr.ecr.eu-west-1.amazonaws.com/app:7"}),
    );
    let task = payload(&request, json!(null), LaunchType::Ec2);
    let data = &task["containers"][0]["registryAuthentication"]["ecrAuthData"];
    assert_eq!(*data, json!({"region": "eu-west-1", "registryId": "012345678910", "useExecutionRole": true}));
}

#[test]
fn overrides_are_merged_before_they_are_sent() {
    let overrides = json!({"cpu": "1024", "containerOverrides": [{"name": "app", "command": ["other"], "cpu": 7, "memory": 512, "memoryReservation": 300,
        "environment": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]}]});
    let task = payload(&rich(), overrides, LaunchType::Ec2);
    let container = &task["containers"][0];
    assert_eq!(task["cpu"], json!(1.0));
    assert_eq!(container["command"], json!(["other"]));
    assert_eq!(container["environment"], json!({"A": "2", "AWS_EXECUTION_ENV": "mine", "B": "3"}));
    assert_eq!((&container["cpu"], &container["memory"]), (&json!(7), &json!(512)));
    let host = &container["dockerConfig"]["hostConfig"];
    assert_eq!(host["MemoryReservation"], json!(300 << 20));
    assert_eq!(host["MemorySwap"], json!((512 + 32) << 20));
    assert!(container.get("overrides").is_none() && task.get("overrides").is_none());
}

#[test]
fn both_network_modes_are_said() {
    for mode in ["bridge", "host", "none"] {
        let task = payload(&definition(json!({"networkMode": mode}), json!({})), json!(null), LaunchType::Ec2);
        assert_eq!(task["networkMode"], mode);
        assert_eq!(task["containers"][0]["dockerConfig"]["hostConfig"]["NetworkMode"], mode);
    }
    let task = payload(
        &definition(json!({"networkMode": "host"}), json!({"portMappings": [{"containerPort": 80}]})),
        json!(null),
        LaunchType::Ec2,
    );
    assert_eq!(
        task["containers"][0]["portMappings"],
        json!([{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}])
    );
}

#[test]
fn empty_lists_of_words_keep_those_of_the_image() {
    let container = first_container(json!({"command": [], "entryPoint": [], "user": ""}));
    assert!(container.get("command").is_none() && container.get("entryPoint").is_none());
    assert_eq!(container["dockerConfig"]["config"], json!({}));
}

#[test]
fn a_log_driver_that_says_nothing_of_delivery_gets_the_default() {
    let options = |given: Value| {
        let logging = json!({"logConfiguration": {"logDriver": "json-file", "options": given}});
        first_container(logging)["dockerConfig"]["hostConfig"]["LogConfig"]["Config"].clone()
    };
    assert_eq!(options(json!(null)), json!({"mode": "non-blocking", "max-buffer-size": "10m"}));
    assert_eq!(options(json!({"mode": ""})), options(json!(null)));
    assert_eq!(options(json!({"mode": "blocking"})), json!({"mode": "blocking"}));
    let own = json!({"mode": "non-blocking", "max-buffer-size": "1m"});
    assert_eq!(options(own.clone()), own);
}

#[test]
fn a_policy_that_is_not_enabled_is_not_sent() {
    assert!(first_container(json!({"restartPolicy": {"enabled": false}})).get("restartPolicy").is_none());
}

#[test]
fn only_tasks_of_ec2_are_told_that_they_are() {
    let task = payload(&definition(json!({}), json!({})), json!(null), LaunchType::External);
    assert!(task["containers"][0]["environment"].get("AWS_EXECUTION_ENV").is_none());
}

#[test]
fn a_stop_order_is_small() {
    let order = serde_json::to_value(stop(TASK)).unwrap();
    assert_eq!(order["arn"], TASK);
    assert_eq!(order["desiredStatus"], "STOPPED");
    let containers = order.get("containers").and_then(Value::as_array);
    assert!(containers.is_none_or(Vec::is_empty));
}
