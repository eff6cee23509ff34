//! A table of invalid definitions: each is refused with `ClientException` and a message that names the container and the
//! field. Every other member of the definition is as it should be.

use serde_json::{Value, json};

use super::rules::refused;
use super::{container, definition};

/// What is wrong with the container `app`, the field that the message must name, and words it must have.
fn of_a_container() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let ports = |mappings: Value| json!({"portMappings": mappings});
    let health = |over: (&str, i32)| json!({"healthCheck": {"command": ["CMD", "true"], (over.0): over.1}});
    let linux = |parameters: Value| json!({"linuxParameters": parameters});
    let tmpfs = |tmpfs: Value| json!({"linuxParameters": {"tmpfs": [tmpfs]}});
    let log = |driver: &str, options: Value| json!({"logConfiguration": {"logDriver": driver, "options": options}});
    let secret = |from: &str| json!({"secrets": [{"name": "S", "valueFrom": from}]});
    let needs = |requirement: Value| json!({"resourceRequirements": [requirement]});
    let eleven: Vec<Value> =
        (0..11).map(|n| json!({"type": "s3", "value": format!("arn:aws:s3:::b/{n}.env")})).collect();
    vec![
        ("no image", "image", json!({"image": null}), "Container.image should not be null or empty."),
        ("an image with a space", "image", json!({"image": "Not An Image"}), "Not An Image"),
        ("an image without a tag's text", "image", json!({"image": "busybox:"}), "busybox:"),
        ("a short digest", "image", json!({"image": "busybox@sha256:12"}), "digest"),
        ("negative CPU", "cpu", json!({"cpu": -1}), "negative"),
        ("no memory at all", "memory", json!({"memory": null}), "At least one of 'memory' or 'memoryReservation'"),
        ("memory below the minimum", "memory", json!({"memory": 5}), "6 MiB"),
        ("a reservation below the minimum", "memoryReservation", json!({"memoryReservation": 3}), "6 MiB"),
        ("a reservation above the limit", "memoryReservation", json!({"memoryReservation": 65}), "hard limit"),
        ("a variable without a name", "environment", json!({"environment": [{"value": "x"}]}), "no name"),
        ("a variable with '=' in its name", "environment", json!({"environment": [{"name": "A=B"}]}), "A=B"),
        ("eleven environment files", "environmentFiles", json!({"environmentFiles": eleven}), "up to 10"),
        (
            "an environment file that is no object",
            "environmentFiles",
            json!({"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::bucket"}]}),
            "arn:aws:s3:::bucket",
        ),
        (
            "an environment file of another extension",
            "environmentFiles",
            json!({"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::bucket/x.txt"}]}),
            ".env",
        ),
        ("no container port", "containerPort", ports(json!([{"hostPort": 80}])), "between 1 and 65535"),
        ("a container port that is too large", "containerPort", ports(json!([{"containerPort": 65_536}])), "65535"),
        ("a negative host port", "hostPort", ports(json!([{"containerPort": 80, "hostPort": -1}])), "65535"),
        (
            "one host port twice",
            "hostPort",
            ports(json!([{"containerPort": 80, "hostPort": 90}, {"containerPort": 81, "hostPort": 90}])),
            "90/tcp",
        ),
        ("a port name in capitals", "portMappings", ports(json!([{"containerPort": 80, "name": "Web"}])), "Web"),
        (
            "a port name twice",
            "portMappings",
            ports(json!([{"containerPort": 80, "name": "p"}, {"containerPort": 81, "name": "p"}])),
            "twice",
        ),
        ("a port range backwards", "containerPortRange", ports(json!([{"containerPortRange": "9-5"}])), "9-5"),
        (
            "a port range with a port",
            "containerPortRange",
            ports(json!([{"containerPortRange": "5-9", "containerPort": 5}])),
            "stands alone",
        ),
        (
            "port ranges that overlap",
            "containerPortRange",
            ports(json!([{"containerPortRange": "5-9"}, {"containerPortRange": "9-12"}])),
            "overlaps",
        ),
        ("a link to nobody", "links", json!({"links": ["ghost:g"]}), "ghost"),
        ("a link to itself", "links", json!({"links": ["app"]}), "not another container"),
        ("a link without an alias", "links", json!({"links": ["other:"]}), "other:"),
        (
            "a dependency on nobody",
            "dependsOn",
            json!({"dependsOn": [{"containerName": "ghost", "condition": "START"}]}),
            "Cannot depend on container + 'ghost' because it does not exist",
        ),
        (
            "a dependency on itself",
            "dependsOn",
            json!({"dependsOn": [{"containerName": "app", "condition": "START"}]}),
            "cyclic",
        ),
        (
            "HEALTHY without a health check",
            "dependsOn",
            json!({"dependsOn": [{"containerName": "other", "condition": "HEALTHY"}]}),
            "healthCheck",
        ),
        (
            "COMPLETE of an essential container",
            "dependsOn",
            json!({"dependsOn": [{"containerName": "other", "condition": "COMPLETE"}]}),
            "cannot be an essential container",
        ),
        (
            "SUCCESS of an essential container",
            "dependsOn",
            json!({"dependsOn": [{"containerName": "other", "condition": "SUCCESS"}]}),
            "cannot be an essential container",
        ),
        ("a health check without a command", "healthCheck", json!({"healthCheck": {"command": []}}), "CMD"),
        (
            "a health check that is no CMD",
            "healthCheck",
            json!({"healthCheck": {"command": ["curl", "x"]}}),
            "CMD-SHELL",
        ),
        ("an interval that is too short", "healthCheck", health(("interval", 4)), "'interval' is 4"),
        ("a timeout that is too long", "healthCheck", health(("timeout", 61)), "'timeout' is 61"),
        ("no retries", "healthCheck", health(("retries", 0)), "'retries' is 0"),
        ("a start period that is too long", "healthCheck", health(("startPeriod", 301)), "'startPeriod' is 301"),
        ("no time to start", "startTimeout", json!({"startTimeout": 0}), "at least 1"),
        ("no time to stop", "stopTimeout", json!({"stopTimeout": 0}), "at least 1"),
        (
            "a restart too soon",
            "restartPolicy",
            json!({"restartPolicy": {"enabled": true, "restartAttemptPeriod": 59}}),
            "between 60 and 1800",
        ),
        (
            "51 exit codes to ignore",
            "restartPolicy",
            json!({"restartPolicy": {"enabled": true, "ignoredExitCodes": vec![0; 51]}}),
            "up to 50",
        ),
        (
            "a DNS server that is no address",
            "dnsServers",
            json!({"dnsServers": ["dns.example.com"]}),
            "dns.example.com",
        ),
        ("an empty search domain", "dnsSearchDomains", json!({"dnsSearchDomains": [""]}), "not a domain"),
        (
            "a host without an address",
            "extraHosts",
            json!({"extraHosts": [{"hostname": "db", "ipAddress": "there"}]}),
            "there",
        ),
        ("a user with three parts", "user", json!({"user": "a:b:c"}), "a:b:c"),
        ("a negative uid", "user", json!({"user": "-1"}), "-1"),
        (
            "a security option that nobody knows",
            "dockerSecurityOptions",
            json!({"dockerSecurityOptions": ["x:y"]}),
            "x:y",
        ),
        ("a label without a value", "dockerSecurityOptions", json!({"dockerSecurityOptions": ["label"]}), "label"),
        (
            "a capability with CAP_",
            "linuxParameters.capabilities",
            linux(json!({"capabilities": {"add": ["CAP_KILL"]}})),
            "CAP_KILL",
        ),
        (
            "a device that is no path",
            "linuxParameters.devices",
            linux(json!({"devices": [{"hostPath": "null"}]})),
            "absolute",
        ),
        ("no shared memory", "linuxParameters.sharedMemorySize", linux(json!({"sharedMemorySize": 0})), "1 MiB"),
        ("negative swap", "linuxParameters.maxSwap", linux(json!({"maxSwap": -1})), "0 or greater"),
        ("swappiness beyond 100", "linuxParameters.swappiness", linux(json!({"swappiness": 101})), "between 0 and 100"),
        (
            "a tmpfs that is no path",
            "linuxParameters.tmpfs",
            tmpfs(json!({"containerPath": "tmp", "size": 1})),
            "absolute",
        ),
        ("a tmpfs without a size", "linuxParameters.tmpfs", tmpfs(json!({"containerPath": "/t", "size": 0})), "'size'"),
        (
            "a tmpfs with an unknown option",
            "linuxParameters.tmpfs",
            tmpfs(json!({"containerPath": "/t", "size": 1, "mountOptions": ["fast"]})),
            "fast",
        ),
        (
            "a soft limit above the hard one",
            "ulimits",
            json!({"ulimits": [{"name": "nofile", "softLimit": 2, "hardLimit": 1}]}),
            "nofile",
        ),
        (
            "a ulimit twice",
            "ulimits",
            json!({"ulimits": [{"name": "core", "softLimit": 0, "hardLimit": 0}, {"name": "core", "softLimit": 0, "hardLimit": 0}]}),
            "twice",
        ),
        (
            "a sysctl without a namespace",
            "systemControls",
            json!({"systemControls": [{"namespace": "vm.swappiness", "value": "1"}]}),
            "vm.swappiness",
        ),
        (
            "a sysctl without a value",
            "systemControls",
            json!({"systemControls": [{"namespace": "net.core.somaxconn"}]}),
            "no value",
        ),
        (
            "awslogs without a group",
            "logConfiguration",
            log("awslogs", json!({"awslogs-region": "us-east-1"})),
            "Log driver awslogs requires options: awslogs-region, awslogs-group",
        ),
        ("splunk without a token", "logConfiguration", log("splunk", json!({"splunk-url": "u"})), "splunk-token"),
        ("a log mode that nobody knows", "logConfiguration", log("json-file", json!({"mode": "fast"})), "'mode'"),
        (
            "a log buffer without a size",
            "logConfiguration",
            log("json-file", json!({"mode": "non-blocking", "max-buffer-size": "25 MB"})),
            "max-buffer-size",
        ),
        (
            "two ways to find a log's lines",
            "logConfiguration",
            log(
                "awslogs",
                json!({"awslogs-region": "r", "awslogs-group": "g", "awslogs-datetime-format": "%Y", "awslogs-multiline-pattern": "x"}),
            ),
            "awslogs-multiline-pattern",
        ),
        (
            "a log secret that is none",
            "logConfiguration",
            json!({"logConfiguration": {"logDriver": "json-file",
            "secretOptions": [{"name": "s", "valueFrom": "arn:aws:s3:::b"}]}}),
            "arn:aws:s3:::b",
        ),
        ("awsfirelens without a router", "logConfiguration", log("awsfirelens", json!({})), "firelensConfiguration"),
        (
            "a router that nobody sends to",
            "firelensConfiguration",
            json!({"firelensConfiguration": {"type": "fluentbit"}}),
            "awsfirelens log driver",
        ),
        (
            "a router with an unknown option",
            "firelensConfiguration",
            json!({"firelensConfiguration": {"type": "fluentbit", "options": {"config-file-type": "http"}}}),
            "config-file-type",
        ),
        ("a secret in S3", "secrets", secret("arn:aws:s3:::bucket/x"), "arn:aws:s3:::bucket/x"),
        ("a secret without a place", "secrets", secret(""), "'valueFrom' of 'S'"),
        ("a secret of the wrong service", "secrets", secret("arn:aws:ssm:us-east-1:1:secret:x"), "'valueFrom' of 'S'"),
        (
            "a secret with a variable's name",
            "secrets",
            json!({"secrets": [{"name": "A", "valueFrom": "p"}], "environment": [{"name": "A", "value": ""}]}),
            "The secret name must be unique",
        ),
        (
            "credentials that are no secret",
            "repositoryCredentials",
            json!({"repositoryCredentials": {"credentialsParameter": "arn:aws:ssm:us-east-1:1:parameter/x"}}),
            "credentialsParameter",
        ),
        ("a credential specification that is none", "credentialSpecs", json!({"credentialSpecs": ["x"]}), "MyARN"),
        (
            "two credential specifications",
            "credentialSpecs",
            json!({"credentialSpecs": ["credentialspec:arn:a", "credentialspec:arn:b"]}),
            "one",
        ),
        ("no GPU", "resourceRequirements", needs(json!({"type": "GPU", "value": "0"})), "GPU"),
        (
            "a GPU with neither value nor strategy",
            "resourceRequirements",
            needs(json!({"type": "GPU"})),
            "sharingStrategy",
        ),
        (
            "an accelerator that the task has not",
            "resourceRequirements",
            needs(json!({"type": "InferenceAccelerator", "value": "device_1"})),
            "device_1",
        ),
        ("one Neuron device", "resourceRequirements", needs(json!({"type": "NeuronDevice", "value": "1"})), "ALL"),
        (
            "a mount of no volume",
            "mountPoints",
            json!({"mountPoints": [{"sourceVolume": "ghost", "containerPath": "/x"}]}),
            "Unknown volume 'ghost'.",
        ),
        (
            "a mount at no path",
            "mountPoints",
            json!({"mountPoints": [{"sourceVolume": "data", "containerPath": "x"}]}),
            "absolute",
        ),
        (
            "two mounts at one path",
            "mountPoints",
            json!({"mountPoints": [{"sourceVolume": "data", "containerPath": "/x"}, {"sourceVolume": "data", "containerPath": "/x"}]}),
            "there once",
        ),
        (
            "volumes of nobody",
            "volumesFrom",
            json!({"volumesFrom": [{"sourceContainer": "ghost"}]}),
            "Unknown container 'ghost'.",
        ),
        ("volumes of itself", "volumesFrom", json!({"volumesFrom": [{"sourceContainer": "app"}]}), "another container"),
    ]
}

#[test]
fn of_each_container_it_says_which_field_is_wrong() {
    let cases = of_a_container();
    assert!(cases.len() >= 60, "{}", cases.len());
    for (what, field, member, words) in cases {
        let mut request = definition(json!({"volumes": [{"name": "data"}]}), member);
        request["containerDefinitions"].as_array_mut().expect("containers").push(container("other"));
        refused(&request, &["'app'", field, words]);
        assert!(!what.is_empty());
    }
}

/// What is wrong with the task, the field that the message must name, and words it must have.
fn of_a_task() -> Vec<(Value, &'static str, &'static str)> {
    let volume = |volume: Value| {
        let mut named = json!({"name": "data"});
        for (key, value) in volume.as_object().expect("an object") {
            named[key] = value.clone();
        }
        json!({"volumes": [named]})
    };
    let efs = |over: Value| {
        let mut efs = json!({"fileSystemId": "fs-1"});
        for (key, value) in over.as_object().expect("an object") {
            efs[key] = value.clone();
        }
        volume(json!({"efsVolumeConfiguration": efs}))
    };
    let proxy = |name: &str, properties: Value| json!({"networkMode": "awsvpc", "proxyConfiguration": {"containerName": name, "properties": properties}});
    let constraint =
        |expression: &str| json!({"placementConstraints": [{"type": "memberOf", "expression": expression}]});
    let launched =
        json!({"volumes": [{"name": "a", "configuredAtLaunch": true}, {"name": "b", "configuredAtLaunch": true}]});
    vec![
        (json!({"family": ""}), "Family", "should not be null or empty."),
        (json!({"family": "a:b"}), "Family", "contains invalid characters."),
        (json!({"containerDefinitions": []}), "Container", "list cannot be empty."),
        (json!({"cpu": "127"}), "'cpu'", "Invalid 'cpu' setting for task."),
        (json!({"cpu": "some"}), "'cpu'", "some"),
        (json!({"memory": "5"}), "'memory'", "Invalid 'memory' setting for task."),
        (json!({"memory": "63"}), "'memory'", "greater than for the task"),
        (json!({"taskRoleArn": "arn:aws:s3:::x"}), "taskRoleArn", "Role is not valid"),
        (json!({"executionRoleArn": "arn:aws:iam::1:role/x"}), "executionRoleArn", "Role is not valid"),
        (json!({"executionRoleArn": "a role"}), "executionRoleArn", "Role is not valid"),
        (constraint(""), "placementConstraints", "not valid"),
        (constraint("attribute:a =="), "placementConstraints", "not valid"),
        (constraint("nonsense == 1"), "placementConstraints", "nonsense"),
        (json!({"proxyConfiguration": {"containerName": "app"}}), "proxyConfiguration", "awsvpc"),
        (proxy("ghost", json!([])), "proxyConfiguration", "ghost"),
        (proxy("app", json!([])), "proxyConfiguration", "IgnoredUID"),
        (proxy("app", json!([{"name": "IgnoredUID", "value": "1"}])), "proxyConfiguration", "AppPorts"),
        (json!({"volumes": [{}]}), "volumes", "must be unique"),
        (json!({"volumes": [{"name": "a"}, {"name": "a"}]}), "volumes", "must be unique"),
        (launched, "volumes", "configured at launch"),
        (volume(json!({"host": {"sourcePath": "x"}})), "volumes", "host.sourcePath 'x'"),
        (volume(json!({"host": {}, "dockerVolumeConfiguration": {}})), "volumes", "only one of"),
        (volume(json!({"dockerVolumeConfiguration": {"autoprovision": true}})), "volumes", "autoprovision"),
        (efs(json!({"fileSystemId": ""})), "volumes", "fileSystemId"),
        (efs(json!({"transitEncryptionPort": 0})), "volumes", "transitEncryptionPort"),
        (efs(json!({"authorizationConfig": {"iam": "ENABLED"}})), "volumes", "transitEncryption"),
        (
            efs(
                json!({"rootDirectory": "/x", "transitEncryption": "ENABLED", "authorizationConfig": {"accessPointId": "p"}}),
            ),
            "volumes",
            "rootDirectory",
        ),
        (json!({"enableFaultInjection": true}), "enableFaultInjection", "networkMode host"),
    ]
}

#[test]
fn of_the_task_it_says_which_field_is_wrong() {
    for (member, field, words) in of_a_task() {
        refused(&definition(member, json!({})), &[field, words]);
    }
}

/// What a definition for Fargate must not have, besides.
#[test]
fn of_a_definition_for_fargate_it_says_what_fargate_has_not() {
    let fargate = |task: Value, first: Value| {
        let mut whole =
            json!({"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"});
        for (key, value) in task.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        definition(whole, first)
    };
    let awslogs = json!({"logDriver": "awslogs", "options": {"awslogs-region": "r", "awslogs-group": "g"}});
    let role = json!({"executionRoleArn": "arn:aws:iam::000000000000:role/x"});
    for (task, first, words) in [
        (json!({"networkMode": "bridge"}), json!({}), ["awsvpc", "Fargate only supports network mode"]),
        (json!({"cpu": null}), json!({}), ["'cpu'", "defined at the task level"]),
        (json!({"memory": "8192"}), json!({}), ["'memory' 8192", "No Fargate configuration exists for given values."]),
        (json!({"cpu": "300"}), json!({}), ["'cpu' 300", "No Fargate configuration exists"]),
        (json!({"pidMode": "host"}), json!({}), ["pidMode", "Fargate"]),
        (json!({"ipcMode": "task"}), json!({}), ["ipcMode", "Fargate"]),
        (
            json!({"volumes": [{"name": "v", "host": {"sourcePath": "/x"}}]}),
            json!({}),
            ["'v'", "host.sourcePath should not be set for volumes in Fargate."],
        ),
        (
            json!({"placementConstraints": [{"type": "memberOf", "expression": "attribute:a exists"}]}),
            json!({}),
            ["placementConstraints", "Fargate"],
        ),
        (json!({}), json!({"privileged": true}), ["'app'", "privileged"]),
        (json!({}), json!({"linuxParameters": {"maxSwap": 1}}), ["'app'", "linuxParameters.maxSwap"]),
        (
            json!({}),
            json!({"linuxParameters": {"capabilities": {"add": ["NET_ADMIN"]}}}),
            ["'app'", "linuxParameters.capabilities"],
        ),
        (json!({}), json!({"stopTimeout": 121}), ["'app'", "stopTimeout"]),
        (json!({}), json!({"startTimeout": 1}), ["'app'", "startTimeout"]),
        (json!({}), json!({"logConfiguration": {"logDriver": "syslog"}}), ["'app'", "not syslog"]),
        (
            json!({}),
            json!({"logConfiguration": awslogs}),
            ["'app'", "execution role ARN to support log driver awslogs"],
        ),
        (role, json!({"logConfiguration": awslogs}), ["'app'", "awslogs-stream-prefix"]),
        (
            json!({}),
            json!({"image": "012345678910.dkr.ecr.us-east-1.amazonaws.com/x"}),
            ["'app'", "execution role ARN to support ECR images"],
        ),
        (
            json!({}),
            json!({"portMappings": [{"containerPort": 80, "hostPort": 81}]}),
            ["'app'", "host ports and container ports in port mappings must match"],
        ),
    ] {
        refused(&fargate(task, first), &words);
    }
}
