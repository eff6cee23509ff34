//! The rules of registration, second part: what reaches the kernel or other services, and what is not supported.

use serde_json::{Value, json};

use super::definition;
use super::rules::{accepted, container_rules, pair, refused, task_rules};

#[test]
fn linux_parameters() {
    let linux = |parameters: Value| json!({"linuxParameters": parameters});
    let tmpfs = |path: &str, size: i32, option: &str| {
        linux(json!({"tmpfs": [{"containerPath": path, "size": size, "mountOptions": [option]}]}))
    };
    container_rules(
        &[
            linux(json!({"capabilities": {"add": ["ALL"], "drop": ["SYS_ADMIN"]}})),
            linux(
                json!({"devices": [{"hostPath": "/dev/null"}, {"hostPath": "/dev/zero", "containerPath": "/dev/z", "permissions": ["read"]}]}),
            ),
            linux(json!({"maxSwap": 0, "swappiness": 100, "sharedMemorySize": 1, "initProcessEnabled": true})),
            linux(json!({"swappiness": 60})),
            tmpfs("/tmp", 1, "uid=5"),
        ],
        &[
            (linux(json!({"capabilities": {"add": ["CAP_CHOWN"]}})), "'CAP_CHOWN'"),
            (linux(json!({"capabilities": {"drop": ["all"]}})), "'all'"),
            (linux(json!({"devices": [{"hostPath": "null"}]})), "absolute"),
            (linux(json!({"devices": [{"hostPath": "/dev/null", "containerPath": "null"}]})), "absolute"),
            (linux(json!({"sharedMemorySize": 0})), "sharedMemorySize"),
            (linux(json!({"maxSwap": -1})), "maxSwap"),
            (linux(json!({"swappiness": 101})), "swappiness"),
            (json!({"memory": null, "memoryReservation": 32, "linuxParameters": {"maxSwap": 32}}), "maxSwap"),
            (tmpfs("tmp", 1, "rw"), "'tmp'"),
            (tmpfs("/tmp", 0, "rw"), "'size'"),
            (tmpfs("/tmp", 1, "fast"), "'fast'"),
            (tmpfs("/tmp", 1, "uid=5,exec"), "'uid=5,exec'"),
        ],
    );
}

#[test]
fn ulimits_sysctls_and_security() {
    let ulimit = |soft: i32, hard: i32| json!({"ulimits": [{"name": "nofile", "softLimit": soft, "hardLimit": hard}]});
    let sysctl = |name: &str, value: &str| json!({"systemControls": [{"namespace": name, "value": value}]});
    container_rules(
        &[
            ulimit(1024, 1024),
            ulimit(1024, -1),
            ulimit(-1, -1),
            sysctl("net.ipv4.tcp_keepalive_time", "500"),
            sysctl("kernel.msgmax", "9"),
            sysctl("fs.mqueue.msg_max", "9"),
            json!({"dockerSecurityOptions": ["no-new-privileges", "label:type:x"]}),
        ],
        &[
            (ulimit(2, 1), "Invalid 'ulimits' setting"),
            (ulimit(-1, 1), "Invalid 'ulimits' setting"),
            (ulimit(-2, 1), "Invalid 'ulimits' setting"),
            (
                json!({"ulimits": [{"name": "core", "softLimit": 0, "hardLimit": 0}, {"name": "core", "softLimit": 0, "hardLimit": 0}]}),
                "'core' is there twice",
            ),
            (sysctl("vm.swappiness", "1"), "'vm.swappiness'"),
            (sysctl("net.core.somaxconn", ""), "has no value"),
            (json!({"systemControls": [{"value": "1"}]}), "Invalid 'systemControls' setting"),
            (json!({"dockerSecurityOptions": [""]}), "Invalid 'dockerSecurityOptions' setting"),
        ],
    );
    let net = sysctl("net.core.somaxconn", "1");
    refused(&definition(json!({"networkMode": "host"}), net), &["'app'", "networkMode=host"]);
    refused(&definition(json!({"ipcMode": "host"}), sysctl("kernel.sem", "1")), &["'app'", "ipcMode=host"]);
}

#[test]
fn logging_secrets_and_volumes() {
    let log = |driver: &str, options: Value| json!({"logConfiguration": {"logDriver": driver, "options": options}});
    let secret = |name: &str, from: &str| json!({"secrets": [{"name": name, "valueFrom": from}], "environment": [{"name": "TAKEN", "value": ""}]});
    let not_yet = "Longshore does not support it yet.";
    container_rules(
        &[
            log("json-file", json!({"max-size": "1m"})),
            log("syslog", json!({})),
            log("awslogs", json!({"awslogs-group": "g", "awslogs-region": "r"})),
        ],
        &[
            (
                log("awslogs", json!({"awslogs-group": "g"})),
                "Log driver awslogs requires options: awslogs-region, awslogs-group",
            ),
            (secret("S", "arn:aws:s3:::bucket/x"), "Invalid 'secrets' setting for container 'app'. 'valueFrom' of 'S'"),
            (secret("S", ""), "'valueFrom' of 'S'"),
            (secret("S", "arn:aws:ssm:us-east-1:1:secret:x"), "'valueFrom' of 'S'"),
            (secret("TAKEN", "parameter"), "The secret name must be unique and not shared"),
            (secret("S", "arn:aws:ssm:us-east-1:1:parameter/x"), not_yet),
            (secret("S", "arn:aws:secretsmanager:us-east-1:1:secret:x-AbCdEf"), not_yet),
            (json!({"mountPoints": [{"sourceVolume": "data", "containerPath": "/d"}]}), "Unknown volume 'data'."),
            (json!({"volumesFrom": [{"sourceContainer": "missing"}]}), "Unknown container 'missing'."),
        ],
    );
    task_rules(
        &[json!({"volumes": []})],
        &[
            (json!({"volumes": [{}]}), "Invalid 'volumes' setting for task."),
            (json!({"volumes": [{"name": "a"}, {"name": "a"}]}), "unique"),
            (json!({"volumes": [{"name": "a"}]}), not_yet),
        ],
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let secret = json!([{"name": "s", "valueFrom": "p"}]);
    for (field, member) in [
        ("credentialSpecs", json!({"credentialSpecs": ["credentialspec:arn:aws:s3:::b/x"]})),
        ("dockerSecurityOptions", json!({"dockerSecurityOptions": ["credentialspec:file://x"]})),
        ("environmentFiles", json!({"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::b/x.env"}]})),
        (
            "firelensConfiguration",
            json!({"firelensConfiguration": {"type": "fluentbit"}, "logConfiguration": {"logDriver": "awsfirelens"}}),
        ),
        (
            "logConfiguration.secretOptions",
            json!({"logConfiguration": {"logDriver": "json-file", "secretOptions": secret}}),
        ),
        ("repositoryCredentials", json!({"repositoryCredentials": {"credentialsParameter": "x"}})),
        ("resourceRequirements", json!({"resourceRequirements": [{"type": "GPU", "value": "1"}]})),
        ("secrets", json!({"secrets": secret})),
        ("versionConsistency", json!({"versionConsistency": "enabled"})),
    ] {
        let words = format!("Invalid '{field}' setting for container 'app'. Longshore does not support it yet.");
        refused(&definition(json!({}), member), &[&words]);
    }
    for (field, member) in [
        ("ephemeralStorage", json!({"ephemeralStorage": {"sizeInGiB": 21}})),
        ("executionRoleArn", json!({"executionRoleArn": "r"})),
        ("inferenceAccelerators", json!({"inferenceAccelerators": [{"deviceName": "a", "deviceType": "b"}]})),
        (
            "placementConstraints",
            json!({"placementConstraints": [{"type": "memberOf", "expression": "attribute:rack exists"}]}),
        ),
        (
            "runtimePlatform.operatingSystemFamily",
            json!({"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}}),
        ),
        ("taskRoleArn", json!({"taskRoleArn": "r"})),
        ("trustedExecutionConfiguration", json!({"trustedExecutionConfiguration": {"isolationMode": "SHARED"}})),
    ] {
        let words = format!("Invalid '{field}' setting for task. Longshore does not support it yet.");
        refused(&definition(member, json!({})), &[&words]);
    }
    let volume = pair("bridge", json!({"volumesFrom": [{"sourceContainer": "other"}]}), json!({}));
    refused(&volume, &["Invalid 'volumesFrom' setting for container 'app'. Longshore does not support it yet."]);
    let mut mount = definition(json!({"volumes": [{"name": "v"}]}), json!({}));
    mount["containerDefinitions"][0]["mountPoints"] = json!([{"sourceVolume": "v", "containerPath": "/v"}]);
    refused(&mount, &["Invalid 'mountPoints' setting for container 'app'. Longshore does not support it yet."]);
}

#[test]
fn compatibilities() {
    let fargate = |task: Value| {
        let mut whole = definition(json!({"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc"}), json!({}));
        for (key, value) in task.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        whole
    };
    accepted(&definition(json!({"requiresCompatibilities": ["EC2", "EXTERNAL"]}), json!({})));
    accepted(&definition(json!({"enableFaultInjection": false}), json!({})));
    accepted(&definition(json!({"networkMode": "awsvpc", "requiresCompatibilities": ["EC2"]}), json!({})));
    let external = json!({"networkMode": "awsvpc", "requiresCompatibilities": ["EXTERNAL"]});
    refused(&definition(external, json!({})), &["not compatible with EXTERNAL"]);
    refused(&fargate(json!({"networkMode": "bridge"})), &["Fargate only supports network mode ‘awsvpc’."]);
    refused(&fargate(json!({})), &["Fargate requires that 'cpu' be defined at the task level."]);
    refused(&fargate(json!({"cpu": "256"})), &["Fargate requires that 'memory' be defined at the task level."]);
    refused(&fargate(json!({"cpu": "256", "memory": "4096"})), &["No Fargate configuration exists for given values."]);
    refused(
        &fargate(json!({"cpu": "256", "memory": "512"})),
        &["Invalid 'requiresCompatibilities' setting for task. FARGATE:", "does not support it yet"],
    );
    refused(&definition(json!({"requiresCompatibilities": ["MANAGED_INSTANCES"]}), json!({})), &["MANAGED_INSTANCES"]);
    refused(&definition(json!({"enableFaultInjection": true}), json!({})), &["Invalid 'enableFaultInjection' setting"]);
    let external =
        json!({"enableFaultInjection": true, "networkMode": "host", "requiresCompatibilities": ["EXTERNAL"]});
    refused(&definition(external, json!({})), &["not compatible with EXTERNAL"]);
}

#[test]
fn a_definition_has_64_kib() {
    let with = |length: usize| definition(json!({}), json!({"command": ["x".repeat(length)]}));
    accepted(&with(60 * 1024));
    refused(&with(64 * 1024), &["Max allowed length is '65536' bytes."]);
}
