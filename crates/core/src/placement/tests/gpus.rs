//! GPUs, from registration to placement and back.

use longshore_api::ecs::Operation::{
    DescribeContainerInstances, RegisterContainerInstance, RegisterTaskDefinition, RunTask,
};
use serde_json::{Value, json};

use crate::fixture::{Lab, definition, offer};

/// A definition whose container wants GPUs.
fn wanting(family: &str, value: &str) -> Value {
    let mut request = definition(family, 10, 10, &[]);
    request["containerDefinitions"][0]["resourceRequirements"] = json!([{"type": "GPU", "value": value}]);
    request
}

/// An instance with GPUs, on a host of that name.
fn with_gpus(lab: &mut Lab, key: u32, host: &str, ids: &[&str]) -> String {
    let mut offered = offer(host, 1_000, 1_000);
    offered["platformDevices"] = ids.iter().map(|id| json!({"id": id, "type": "GPU"})).collect();
    let arn = lab.register(key, &offered);
    lab.connect(key, &arn);
    arn
}

/// The ids of the GPU resource: those registered, and those that remain.
fn resources(lab: &mut Lab, instance: &str) -> (Value, Value) {
    lab.cell.snapshot();
    let answer = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [instance]}));
    let gpus = |list: &str| {
        let resources = answer["containerInstances"][0][list].as_array().expect("resources");
        let gpu = resources.iter().find(|resource| resource["name"] == "GPU");
        gpu.map_or(Value::Null, |gpu| gpu["stringSetValue"].clone())
    };
    (gpus("registeredResources"), gpus("remainingResources"))
}

fn gpu_ids(task: &Value) -> Value {
    task["containers"][0]["gpuIds"].clone()
}

#[test]
fn a_gpu_belongs_to_one_container_until_its_task_has_ended() {
    let mut lab = Lab::new();
    let instance = with_gpus(&mut lab, 1, "host", &["GPU-b", "GPU-a", "GPU-b"]);
    assert_eq!(resources(&mut lab, &instance), (json!(["GPU-a", "GPU-b"]), json!(["GPU-a", "GPU-b"])));
    lab.ok(0, RegisterTaskDefinition, &wanting("one", "1"));
    let answer = lab.ok(0, RunTask, &json!({"taskDefinition": "one", "count": 3}));
    let given: Vec<Value> = answer["tasks"].as_array().expect("tasks").iter().map(gpu_ids).collect();
    assert_eq!(given, [json!(["GPU-a"]), json!(["GPU-b"])]);
    assert_eq!(answer["failures"][0]["reason"], "RESOURCE:GPU");
    assert_eq!(answer["failures"][0]["detail"], "1 GPUs too few");
    assert_eq!(resources(&mut lab, &instance), (json!(["GPU-a", "GPU-b"]), json!([])));
    let first = answer["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned();
    assert_eq!(gpu_ids(&lab.describe(&first)), json!(["GPU-a"]));
    lab.report(1, &first, "STOPPED");
    assert_eq!(resources(&mut lab, &instance).1, json!(["GPU-a"]));
    let again = lab.run("one");
    assert_eq!(gpu_ids(&lab.describe(&again)), json!(["GPU-a"]));
}

#[test]
fn all_is_what_is_free_and_one_at_least() {
    let mut lab = Lab::new();
    with_gpus(&mut lab, 1, "host", &["GPU-a", "GPU-b", "GPU-c"]);
    lab.ok(0, RegisterTaskDefinition, &wanting("one", "1"));
    lab.ok(0, RegisterTaskDefinition, &wanting("all", "ALL"));
    lab.run("one");
    let all = lab.run("all");
    assert_eq!(gpu_ids(&lab.describe(&all)), json!(["GPU-b", "GPU-c"]));
    let answer = lab.ok(0, RunTask, &json!({"taskDefinition": "all"}));
    assert_eq!(answer["failures"][0]["reason"], "RESOURCE:GPU");
}

#[test]
fn instances_of_one_host_share_its_gpus() {
    let mut lab = Lab::new();
    with_gpus(&mut lab, 1, "host", &["GPU-a"]);
    with_gpus(&mut lab, 2, "host", &["GPU-a"]);
    let other = with_gpus(&mut lab, 3, "other", &["GPU-a"]);
    lab.ok(0, RegisterTaskDefinition, &wanting("one", "1"));
    let answer = lab.ok(0, RunTask, &json!({"taskDefinition": "one", "count": 3}));
    let tasks = answer["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.iter().filter(|task| task["containerInstanceArn"] == other.as_str()).count(), 1);
    assert_eq!((tasks.len(), answer["failures"].as_array().map(Vec::len)), (2, Some(3)));
}

#[test]
fn an_override_takes_the_place_of_what_the_definition_wants() {
    let mut lab = Lab::new();
    with_gpus(&mut lab, 1, "host", &["GPU-a", "GPU-b"]);
    lab.ok(0, RegisterTaskDefinition, &wanting("one", "1"));
    let overrides = |value: &str| json!({"containerOverrides": [{"name": "main", "resourceRequirements": [{"type": "GPU", "value": value}]}]});
    let answer = lab.ok(0, RunTask, &json!({"taskDefinition": "one", "overrides": overrides("2")}));
    assert_eq!(gpu_ids(&answer["tasks"][0]), json!(["GPU-a", "GPU-b"]));
    let (code, _) = lab.refused(0, RunTask, &json!({"taskDefinition": "one", "overrides": overrides("0")}));
    assert_eq!(code, "InvalidParameterException");
}

#[test]
fn what_is_no_gpu_is_refused_by_name() {
    let mut lab = Lab::new();
    let mut offered = offer("host", 1_000, 1_000);
    offered["platformDevices"] = json!([{"id": "0", "type": "NEURON_DEVICE"}]);
    let (code, message) = lab.refused(1, RegisterContainerInstance, &offered);
    assert!(code == "UnsupportedFeatureException" && message.contains("platformDevices"), "{code}: {message}");
    for (id, words) in [("", "1 to 128"), (&*"x".repeat(129), "1 to 128")] {
        offered["platformDevices"] = json!([{"id": id, "type": "GPU"}]);
        let (code, message) = lab.refused(1, RegisterContainerInstance, &offered);
        assert!(code == "ClientException" && message.contains(words), "{code}: {message}");
    }
}
