//! The rules of registration, second part: what reaches the kernel or other services, and what is not supported.

use serde_json::{Value, json};

use super::rules::{accepted, container_rules, pair, refused, task_rules};
use super::{definition, registered};

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
    const NO_ROLE: &str =
        "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'.";
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
            (secret("S", "arn:aws:ssm:us-east-1:1:parameter/x"), NO_ROLE),
            (secret("S", "arn:aws:secretsmanager:us-east-1:1:secret:x-AbCdEf"), NO_ROLE),
            (
                json!({"logConfiguration": {"logDriver": "splunk", "options": {"splunk-url": "u"}, "secretOptions": [{"name": "splunk-token", "valueFrom": "p"}]}}),
                NO_ROLE,
            ),
            (
                json!({"repositoryCredentials": {"credentialsParameter": "x"}}),
                "Private repository authentication requires that the task definition specify a value for executionRoleArn.",
            ),
            (json!({"mountPoints": [{"sourceVolume": "data", "containerPath": "/d"}]}), "Unknown volume 'data'."),
            (json!({"volumesFrom": [{"sourceContainer": "missing"}]}), "Unknown container 'missing'."),
        ],
    );
    task_rules(
        &[
            json!({"volumes": []}),
            json!({"volumes": [{"name": "a"}, {"name": "b", "host": {}}, {"name": "c", "host": {"sourcePath": "/srv"}}]}),
            json!({"volumes": [{"name": "a", "dockerVolumeConfiguration": {"scope": "shared", "autoprovision": true}}]}),
            json!({"volumes": [{"name": "a", "efsVolumeConfiguration": {"fileSystemId": "fs-1", "transitEncryption": "ENABLED"}}]}),
            json!({"executionRoleArn": "r"}),
            json!({"executionRoleArn": "arn:aws:iam::000000000000:role/path/r"}),
        ],
        &[
            (json!({"volumes": [{}]}), "Invalid 'volumes' setting for task."),
            (json!({"volumes": [{"name": "a"}, {"name": "a"}]}), "unique"),
        ],
    );
}

#[test]
fn what_a_role_fetches_is_accepted_with_a_role() {
    let role = json!({"executionRoleArn": "r"});
    let from = |from: &str| json!([{"name": "S", "valueFrom": from}]);
    for member in [
        json!({"secrets": from("arn:aws:ssm:us-east-1:1:parameter/x")}),
        json!({"secrets": from("arn:aws:secretsmanager:us-east-1:1:secret:x-AbCdEf:key::")}),
        json!({"logConfiguration": {"logDriver": "syslog", "secretOptions": from("p")}}),
        json!({"repositoryCredentials": {"credentialsParameter": "x"}}),
        json!({"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::b/x.env"}]}),
        json!({"versionConsistency": "enabled"}),
    ] {
        accepted(&definition(role.clone(), member));
    }
    accepted(&pair("bridge", json!({"volumesFrom": [{"sourceContainer": "other", "readOnly": true}]}), json!({})));
    let mount = json!({"mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}]});
    accepted(&definition(json!({"volumes": [{"name": "v"}]}), mount));
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
    for (whole, expected) in [
        (fargate(json!({"cpu": "256", "memory": "512"})), json!(["EC2", "FARGATE"])),
        // One that says nothing is for Fargate too if it follows the rules.
        (fargate(json!({"cpu": "256", "memory": "512", "requiresCompatibilities": []})), json!(["EC2", "FARGATE"])),
        (fargate(json!({"cpu": "256", "memory": "513", "requiresCompatibilities": []})), json!(["EC2"])),
    ] {
        assert_eq!(json!(registered(&whole).compatibilities), expected, "{whole}");
    }
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
