//! Every rule with its negative, through one funnel each: a definition in JSON in, a document or a refusal out.

mod arbitrary;
mod invalid;
mod kernel_and_support;
mod lifecycle;
mod merging;
mod rules;

use longshore_api::ecs::types::{RegisterTaskDefinitionRequest, TaskDefinition};
use longshore_api::{ApiError, Timestamp};
use serde_json::{Value, json};

use super::{Registration, RequiredAttribute, Resolved, register, resolve};
use crate::resources::{CpuUnits, HostPort, MemoryMib, NetworkMode, Protocol};

/// A container that every rule allows.
pub(crate) fn container(name: &str) -> Value {
    json!({"name": name, "image": "busybox", "memory": 64})
}

/// A definition of such a container, with members of the task and of the container laid over it.
pub(crate) fn definition(task: Value, first: Value) -> Value {
    let mut whole = json!({"family": "web", "containerDefinitions": [container("app")]});
    lay_over(&mut whole["containerDefinitions"][0], first);
    lay_over(&mut whole, task);
    whole
}

/// Members of `over` replace those of `base`; null removes.
fn lay_over(base: &mut Value, over: Value) {
    let (Value::Object(base), Value::Object(over)) = (base, over) else { panic!("both are objects") };
    for (key, value) in over {
        if value.is_null() {
            base.remove(&key);
        } else {
            base.insert(key, value);
        }
    }
}

pub(crate) fn identity() -> Registration {
    Registration {
        arn: "arn:aws:ecs:us-east-1:000000000000:task-definition/web:3".to_owned(),
        revision: 3,
        registered_by: "arn:aws:iam::000000000000:root".to_owned(),
        now: Timestamp::from_millis(1_700_000_000_123),
    }
}

pub(crate) fn try_register(request: &Value) -> Result<TaskDefinition, ApiError> {
    let request = RegisterTaskDefinitionRequest::from_value(request).expect("a request of the right shape");
    register(&request, identity())
}

pub(crate) fn registered(request: &Value) -> TaskDefinition {
    try_register(request).unwrap_or_else(|error| panic!("{error} for {request}"))
}

fn resolved(request: &Value) -> Resolved {
    resolve(&registered(request))
}

fn attribute(name: &str) -> RequiredAttribute {
    RequiredAttribute { name: name.to_owned(), value: None }
}

#[test]
fn what_ecs_fills_in() {
    let request = definition(
        json!({}),
        json!({"portMappings": [{"containerPort": 80}], "healthCheck": {"command": ["CMD", "true"]}}),
    );
    let document: Value = serde_json::from_slice(&registered(&request).to_json()).unwrap();
    assert_eq!(
        document,
        json!({
            "taskDefinitionArn": "arn:aws:ecs:us-east-1:000000000000:task-definition/web:3",
            "family": "web",
            "revision": 3,
            "status": "ACTIVE",
            "registeredAt": 1_700_000_000.123,
            "registeredBy": "arn:aws:iam::000000000000:root",
            "compatibilities": ["EXTERNAL", "EC2"],
            "volumes": [],
            "placementConstraints": [],
            "requiresAttributes": [
                {"name": "com.amazonaws.ecs.capability.docker-remote-api.1.24"},
                {"name": "ecs.capability.container-health-check"},
            ],
            "containerDefinitions": [{
                "name": "app",
                "image": "busybox",
                "cpu": 0,
                "memory": 64,
                "essential": true,
                "environment": [],
                "mountPoints": [],
                "volumesFrom": [],
                "systemControls": [],
                "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
                "healthCheck": {"command": ["CMD", "true"], "interval": 30, "timeout": 5, "retries": 3},
            }],
        })
    );
}

#[test]
fn what_the_user_says_is_kept() {
    let request = definition(
        json!({"networkMode": "host", "cpu": ".5 vCPU", "memory": "1GB", "requiresCompatibilities": ["EC2"]}),
        json!({
            "essential": true, "cpu": 7, "environment": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
            "portMappings": [{"containerPort": 53, "protocol": "udp", "name": "dns", "appProtocol": "http"}],
        }),
    );
    let document: Value = serde_json::from_slice(&registered(&request).to_json()).unwrap();
    assert_eq!(document["cpu"], "512");
    assert_eq!(document["memory"], "1024");
    assert_eq!(document["networkMode"], "host");
    assert_eq!(document["requiresCompatibilities"], json!(["EC2"]));
    let container = &document["containerDefinitions"][0];
    assert_eq!(container["environment"], json!([{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]));
    assert_eq!(
        container["portMappings"],
        json!([{"containerPort": 53, "hostPort": 53, "protocol": "udp", "name": "dns", "appProtocol": "http"}])
    );
}

#[test]
fn what_says_where_things_come_from_is_described() {
    let task = json!({
        "executionRoleArn": "reader",
        "volumes": [{"name": "a"}, {"name": "b", "dockerVolumeConfiguration": {"driver": "local"}}],
    });
    let container = json!({
        "mountPoints": [{"sourceVolume": "a", "containerPath": "/a", "readOnly": true}],
        "secrets": [{"name": "S", "valueFrom": "p"}],
        "versionConsistency": "enabled",
    });
    let document: Value = serde_json::from_slice(&registered(&definition(task, container.clone())).to_json()).unwrap();
    assert_eq!(document["executionRoleArn"], "reader");
    assert_eq!(
        document["volumes"],
        json!([{"name": "a"}, {"name": "b", "dockerVolumeConfiguration": {"driver": "local", "scope": "task"}}])
    );
    for (key, value) in container.as_object().unwrap() {
        assert_eq!(document["containerDefinitions"][0][key], *value);
    }
}

#[test]
fn a_port_range_gets_no_host_port() {
    let request = definition(json!({}), json!({"portMappings": [{"containerPortRange": "7000-7002"}]}));
    let document: Value = serde_json::from_slice(&registered(&request).to_json()).unwrap();
    let mappings = &document["containerDefinitions"][0]["portMappings"];
    assert_eq!(*mappings, json!([{"containerPortRange": "7000-7002", "protocol": "tcp"}]));
}

#[test]
fn a_task_reserves_the_sum_of_its_containers() {
    let found = resolved(&json!({"family": "web", "containerDefinitions": [
        {"name": "a", "image": "i", "cpu": 50, "memory": 50},
        {"name": "b", "image": "i", "cpu": 10, "memory": 100, "memoryReservation": 30, "essential": false},
        {"name": "c", "image": "i", "memory": 0, "memoryReservation": 7},
    ]}));
    assert_eq!((found.cpu, found.memory), (CpuUnits(60), MemoryMib(87)));
    assert_eq!((found.task_cpu, found.task_memory), (None, None));
    assert_eq!(found.network_mode, NetworkMode::Bridge);
    assert!(found.external);
    assert_eq!(found.containers[2].memory, None);
    let essential: Vec<bool> = found.containers.iter().map(|container| container.essential).collect();
    assert_eq!(essential, [true, false, true]);
}

#[test]
fn limits_of_the_task_come_before_those_of_its_containers() {
    let found = resolved(&definition(json!({"cpu": "11 vCPU", "memory": "2048"}), json!({"cpu": 10})));
    assert_eq!((found.cpu, found.memory), (CpuUnits(11_264), MemoryMib(2048)));
    assert_eq!(
        found.requires,
        [attribute("ecs.capability.increased-task-cpu-limit"), attribute("ecs.capability.task-cpu-mem-limit")]
    );
}

#[test]
fn fixed_ports_are_reserved_and_picked_ones_are_not() {
    let ports = json!([
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 81},
        {"containerPort": 53, "hostPort": 53, "protocol": "udp"},
        {"containerPort": 53, "hostPort": 53, "protocol": "tcp"},
    ]);
    let port = |port, protocol| HostPort { port, protocol };
    let bridge = resolved(&definition(json!({}), json!({"portMappings": ports})));
    assert_eq!(bridge.host_ports, [port(53, Protocol::Tcp), port(53, Protocol::Udp), port(8080, Protocol::Tcp)]);
    let ports = json!([{"containerPort": 80}, {"containerPort": 53, "hostPort": 0, "protocol": "udp"}]);
    let host = resolved(&definition(json!({"networkMode": "host"}), json!({"portMappings": ports})));
    assert_eq!(host.host_ports, [port(53, Protocol::Udp), port(80, Protocol::Tcp)]);
}

/// One member of a definition, and the attributes it takes.
#[test]
fn members_that_need_something_of_the_instance() {
    let api = |version: &str| format!("com.amazonaws.ecs.capability.docker-remote-api.{version}");
    let driver = |name: &str| format!("com.amazonaws.ecs.capability.logging-driver.{name}");
    let logging = |name: &str| json!({"logConfiguration": {"logDriver": name, "options": {"awslogs-group": "g", "awslogs-region": "r"}}});
    let text = str::to_owned;
    for (member, attributes) in [
        (json!({}), vec![]),
        (json!({"privileged": true}), vec![text("com.amazonaws.ecs.capability.privileged-container")]),
        (json!({"privileged": false, "readonlyRootFilesystem": false}), vec![]),
        (json!({"readonlyRootFilesystem": true}), vec![api("1.17")]),
        (json!({"dockerLabels": {"a": "b"}}), vec![api("1.18")]),
        (json!({"ulimits": [{"name": "core", "softLimit": 0, "hardLimit": 0}]}), vec![api("1.18")]),
        (json!({"memoryReservation": 32}), vec![api("1.21")]),
        (json!({"linuxParameters": {"sharedMemorySize": 1}}), vec![api("1.22")]),
        (json!({"linuxParameters": {"tmpfs": [{"containerPath": "/t", "size": 1}]}}), vec![api("1.22")]),
        (json!({"linuxParameters": {"maxSwap": 0}}), vec![api("1.20")]),
        (json!({"linuxParameters": {"initProcessEnabled": true}}), vec![api("1.25")]),
        (json!({"systemControls": [{"namespace": "net.core.somaxconn", "value": "1"}]}), vec![api("1.24")]),
        (
            json!({"healthCheck": {"command": ["CMD", "x"]}}),
            vec![api("1.24"), text("ecs.capability.container-health-check")],
        ),
        (json!({"startTimeout": 5}), vec![text("ecs.capability.container-ordering")]),
        (json!({"stopTimeout": 5}), vec![]),
        (json!({"restartPolicy": {"enabled": true}}), vec![text("ecs.capability.container-restart-policy")]),
        (json!({"restartPolicy": {"enabled": false}}), vec![]),
        (
            json!({"portMappings": [{"containerPortRange": "1-2"}]}),
            vec![text("ecs.capability.network.container-port-range")],
        ),
        (json!({"dockerSecurityOptions": ["no-new-privileges"]}), vec![]),
        (json!({"dockerSecurityOptions": ["apparmor:x"]}), vec![text("com.amazonaws.ecs.capability.apparmor")]),
        (json!({"dockerSecurityOptions": ["label:x"]}), vec![text("com.amazonaws.ecs.capability.selinux")]),
        (logging("json-file"), vec![api("1.18"), driver("json-file")]),
        (logging("awslogs"), vec![api("1.18"), api("1.19"), driver("awslogs")]),
        (logging("fluentd"), vec![api("1.18"), api("1.20"), driver("fluentd")]),
        (
            json!({"image": "012345678910.dkr.ecr.eu-west-1.amazonaws.com/app:1"}),
            vec![api("1.19"), text("com.amazonaws.ecs.capability.ecr-auth")],
        ),
    ] {
        let found = resolved(&definition(json!({}), member.clone())).requires;
        let expected: Vec<_> = attributes.iter().map(|name| attribute(name)).collect();
        assert_eq!(found, expected, "{member}");
    }
}

/// What a role fetches, and what makes volumes.
#[test]
fn what_comes_from_elsewhere_needs_something_of_the_instance() {
    let role = json!({"executionRoleArn": "r"});
    let secrets = |from: &str| json!({"secrets": [{"name": "S", "valueFrom": from}]});
    let secret = "arn:aws:secretsmanager:us-east-1:1:secret:x-AbCdEf";
    let options = |from: &str| json!({"logConfiguration": {"logDriver": "syslog", "secretOptions": [{"name": "S", "valueFrom": from}]}});
    for (member, wanted) in [
        (secrets("p"), "ecs.capability.secrets.ssm.environment-variables"),
        (secrets(secret), "ecs.capability.secrets.asm.environment-variables"),
        (options("p"), "ecs.capability.secrets.ssm.bootstrap.log-driver"),
        (options(secret), "ecs.capability.secrets.asm.bootstrap.log-driver"),
        (
            json!({"repositoryCredentials": {"credentialsParameter": "x"}}),
            "ecs.capability.private-registry-authentication.secretsmanager",
        ),
        (json!({"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::b/x.env"}]}), "ecs.capability.env-files.s3"),
        (
            json!({"image": "012345678910.dkr.ecr.eu-west-1.amazonaws.com/app"}),
            "ecs.capability.execution-role-ecr-pull",
        ),
    ] {
        let found = resolved(&definition(role.clone(), member.clone())).requires;
        assert!(found.contains(&attribute(wanted)), "{member}: {found:?}");
    }
    let volume = |kind: Value| {
        let mut volume = json!({"name": "v"});
        lay_over(&mut volume, kind);
        resolved(&definition(json!({"volumes": [volume]}), json!({}))).requires
    };
    let api = attribute("com.amazonaws.ecs.capability.docker-remote-api.1.25");
    let plugin = |name: &str| vec![api.clone(), attribute(&format!("ecs.capability.docker-plugin.{name}"))];
    let efs = attribute("ecs.capability.efs");
    assert_eq!(volume(json!({"host": {"sourcePath": "/srv"}})), []);
    assert_eq!(volume(json!({"dockerVolumeConfiguration": {}})), plugin("local"));
    assert_eq!(volume(json!({"dockerVolumeConfiguration": {"driver": "rexray/ebs:0.11"}})), plugin("rexray/ebs.0.11"));
    assert_eq!(volume(json!({"efsVolumeConfiguration": {"fileSystemId": "fs"}})), [api.clone(), efs.clone()]);
    assert_eq!(
        volume(json!({"efsVolumeConfiguration": {"fileSystemId": "fs", "transitEncryption": "ENABLED"}})),
        [api, efs, attribute("ecs.capability.efsAuth")]
    );
}

#[test]
fn members_of_the_task_that_need_something_of_the_instance() {
    for (member, attributes) in [
        (json!({"cpu": "256"}), vec![attribute("ecs.capability.task-cpu-mem-limit")]),
        (json!({"memory": "256"}), vec![attribute("ecs.capability.task-cpu-mem-limit")]),
        (json!({"pidMode": "host"}), vec![attribute("ecs.capability.pid-ipc-namespace-sharing")]),
        (json!({"ipcMode": "none"}), vec![attribute("ecs.capability.pid-ipc-namespace-sharing")]),
        (json!({"runtimePlatform": {"operatingSystemFamily": "LINUX"}}), vec![]),
        (
            json!({"runtimePlatform": {"cpuArchitecture": "ARM64"}}),
            vec![RequiredAttribute { name: "ecs.cpu-architecture".to_owned(), value: Some("arm64".to_owned()) }],
        ),
        (
            json!({"runtimePlatform": {"cpuArchitecture": "X86_64"}}),
            vec![RequiredAttribute { name: "ecs.cpu-architecture".to_owned(), value: Some("x86_64".to_owned()) }],
        ),
    ] {
        let found = resolved(&definition(member.clone(), json!({}))).requires;
        assert_eq!(found, attributes, "{member}");
    }
}

#[test]
fn faults_are_for_ec2_in_the_hosts_network() {
    let found = resolved(&definition(json!({"enableFaultInjection": true, "networkMode": "host"}), json!({})));
    assert_eq!(found.requires, [attribute("ecs.capability.fault-injection")]);
    assert!(!found.external);
}
