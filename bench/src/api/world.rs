//! What there is to be asked about, made by calls of the API, through the wire or in this process.

use serde_json::{Value, json};

/// Calls an operation, which must succeed.
pub(crate) type Call<'a> = dyn FnMut(&str, &Value) -> Value + 'a;

/// What one RunTask starts at most.
const COPIES: usize = 10;

/// A cluster and the definition of its tasks.
pub(crate) fn prepare(call: &mut Call<'_>) {
    call("CreateCluster", &json!({}));
    let container = json!({ "name": "main", "image": "bench", "cpu": 1, "memory": 6, "essential": true });
    call("RegisterTaskDefinition", &json!({ "family": "bench", "containerDefinitions": [container] }));
}

/// One task.
pub(crate) fn run_task() -> Value {
    json!({ "taskDefinition": "bench" })
}

/// As many tasks as one call may start.
pub(crate) fn run_tasks() -> Value {
    json!({ "taskDefinition": "bench", "count": COPIES })
}

/// A definition like those of real services: a program and its side-car.
pub(crate) fn definition() -> Value {
    let variables = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| json!({ "name": name, "value": format!("the value of {name}") })).collect()
    };
    let log = json!({ "logDriver": "json-file", "options": { "max-size": "10m", "max-file": "3" } });
    json!({
        "family": "service",
        "networkMode": "bridge",
        "containerDefinitions": [
            {
                "name": "web",
                "image": "registry.example/shop/web:2026-11-22",
                "cpu": 256,
                "memory": 512,
                "memoryReservation": 256,
                "essential": true,
                "portMappings": [{ "containerPort": 8080, "hostPort": 0, "protocol": "tcp" }],
                "environment": variables(&["MODE", "LOG_LEVEL", "DATABASE_HOST", "DATABASE_NAME", "CACHE_HOST", "REGION"]),
                "ulimits": [{ "name": "nofile", "softLimit": 65536, "hardLimit": 65536 }],
                "dockerLabels": { "team": "shop", "tier": "front" },
                "logConfiguration": log,
            },
            {
                "name": "metrics",
                "image": "registry.example/metrics:7",
                "cpu": 32,
                "memory": 64,
                "essential": false,
                "links": ["web"],
                "command": ["metrics", "--target", "http://web:8080/metrics", "--every", "15s"],
                "environment": variables(&["MODE", "LOG_LEVEL"]),
                "logConfiguration": log,
            },
        ],
        "tags": [{ "key": "team", "value": "shop" }, { "key": "stage", "value": "production" }],
    })
}

/// Runs so many tasks; their ARNs.
pub(crate) fn run(call: &mut Call<'_>, count: usize) -> Vec<String> {
    let mut arns = Vec::new();
    while arns.len() < count {
        let answer = call("RunTask", &run_tasks());
        let tasks = answer["tasks"].as_array().expect("tasks");
        arns.extend(tasks.iter().map(|task| task["taskArn"].as_str().expect("an ARN").to_owned()));
    }
    arns
}

/// Says of tasks what an agent says once they run.
pub(crate) fn report_running(call: &mut Call<'_>, arns: &[String]) {
    for arn in arns {
        let port = json!({ "bindIP": "0.0.0.0", "containerPort": 8080, "hostPort": 32768, "protocol": "tcp" });
        let container = json!({
            "containerName": "main",
            "runtimeId": "ab".repeat(32),
            "imageDigest": format!("sha256:{}", "cd".repeat(32)),
            "status": "RUNNING",
            "networkBindings": [port],
        });
        let report = json!({
            "task": arn,
            "status": "RUNNING",
            "containers": [container],
            "pullStartedAt": 1_763_800_000.125,
            "pullStoppedAt": 1_763_800_001.25,
        });
        call("SubmitTaskStateChange", &report);
    }
}

/// DescribeTasks of these.
pub(crate) fn describe(arns: &[String]) -> Value {
    json!({ "tasks": arns })
}
