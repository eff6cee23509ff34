//! The rules of registration.

use serde_json::{Value, json};

use super::{container, definition, try_register};

/// A definition is refused with `ClientException`, and the message has every one of `words`.
pub(super) fn refused(request: &Value, words: &[&str]) {
    match try_register(request) {
        Ok(_) => panic!("accepted: {request}"),
        Err(error) => {
            assert_eq!(error.code.name, "ClientException", "{request}");
            for word in words {
                assert!(error.message.contains(word), "'{}' lacks '{word}'", error.message);
            }
        }
    }
}

/// A definition is accepted.
pub(super) fn accepted(request: &Value) {
    if let Err(error) = try_register(request) {
        panic!("{error} for {request}");
    }
}

/// Members of one container: those that are accepted, and those that are refused with a message that names the
/// container and has the words.
pub(super) fn container_rules(accept: &[Value], refuse: &[(Value, &str)]) {
    for member in accept {
        accepted(&definition(json!({}), member.clone()));
    }
    for (member, words) in refuse {
        refused(&definition(json!({}), member.clone()), &["'app'", words]);
    }
}

/// The same for members of the task.
pub(super) fn task_rules(accept: &[Value], refuse: &[(Value, &str)]) {
    for member in accept {
        accepted(&definition(member.clone(), json!({})));
    }
    for (member, words) in refuse {
        refused(&definition(member.clone(), json!({})), &[words]);
    }
}

#[test]
fn families() {
    let long = "f".repeat(255);
    let longer = "f".repeat(256);
    task_rules(
        &[json!({"family": "f_producer-1"}), json!({"family": long})],
        &[
            (json!({"family": ""}), "Family should not be null or empty."),
            (json!({"family": "a b"}), "Family contains invalid characters."),
            (json!({"family": "größe"}), "Family contains invalid characters."),
            (json!({"family": "a:1"}), "'a:1'"),
            (json!({"family": longer}), "255"),
        ],
    );
}

#[test]
fn containers_of_a_task() {
    let many = |count: usize| -> Vec<Value> { (0..count).map(|n| container(&format!("c{n}"))).collect() };
    let optional = |name: &str| json!({"name": name, "image": "busybox", "memory": 64, "essential": false});
    task_rules(
        &[json!({"containerDefinitions": many(10)}), json!({"containerDefinitions": [container("a"), optional("b")]})],
        &[
            (json!({"containerDefinitions": []}), "Container list cannot be empty."),
            (json!({"containerDefinitions": many(11)}), "Too many containers."),
            (
                json!({"containerDefinitions": [container("a"), container("a")]}),
                "Container names must be unique within a Task Definition. 'a' is there twice.",
            ),
            (json!({"containerDefinitions": [optional("a"), optional("b")]}), "at least one essential container"),
            (
                json!({"containerDefinitions": [{"image": "busybox", "memory": 6}]}),
                "Container.name should not be null or empty.",
            ),
            (json!({"containerDefinitions": [container("")]}), "Container.name should not be null or empty."),
            (json!({"containerDefinitions": [container("a b")]}), "Container.name contains invalid characters."),
        ],
    );
}

#[test]
fn images() {
    container_rules(
        &[json!({"image": "localhost:5000/a/b:1"}), json!({"image": "012345678910.dkr.ecr.us-east-1.amazonaws.com/x"})],
        &[
            (json!({"image": null}), "Container.image should not be null or empty."),
            (json!({"image": ""}), "Container.image should not be null or empty."),
            (json!({"image": "Bad Image"}), "Container.image contains invalid characters."),
            (json!({"image": "busybox:"}), "'busybox:'"),
            (json!({"image": "busybox@sha256:12"}), "a digest is"),
        ],
    );
}

#[test]
fn cpu_and_memory_of_a_container() {
    container_rules(
        &[
            json!({"memory": 6}),
            json!({"memory": null, "memoryReservation": 6}),
            json!({"memory": 0, "memoryReservation": 6}),
            json!({"memory": 64, "memoryReservation": 64}),
            json!({"cpu": 0}),
            json!({"cpu": i32::MAX}),
        ],
        &[
            (
                json!({"memory": null}),
                "Invalid setting for container 'app'. At least one of 'memory' or 'memoryReservation' must be specified.",
            ),
            (json!({"memory": 0, "memoryReservation": 0}), "At least one of 'memory' or 'memoryReservation'"),
            (json!({"memory": 5}), "Invalid 'memory' setting for container 'app'. The minimum is 6 MiB."),
            (json!({"memory": -64}), "Invalid 'memory' setting"),
            (json!({"memoryReservation": 5}), "Invalid 'memoryReservation' setting"),
            (json!({"memory": 64, "memoryReservation": 65}), "Invalid 'memoryReservation' setting"),
            (json!({"cpu": -1}), "Invalid 'cpu' setting for container 'app'."),
        ],
    );
}

#[test]
fn cpu_and_memory_of_a_task() {
    task_rules(
        &[
            json!({"cpu": "128", "memory": "64"}),
            json!({"cpu": "1 vCPU", "memory": "0.5 GB"}),
            json!({"cpu": "196608"}),
        ],
        &[
            (json!({"cpu": "127"}), "Invalid 'cpu' setting for task."),
            (json!({"cpu": "196609"}), "Invalid 'cpu' setting for task."),
            (json!({"cpu": "much"}), "'much'"),
            (json!({"cpu": ""}), "Invalid 'cpu' setting for task."),
            (json!({"memory": "5"}), "Invalid 'memory' setting for task."),
            (json!({"memory": "1 TB"}), "'1 TB'"),
            (json!({"memory": "63"}), "The 'memory' setting for container 'app' is greater than for the task."),
        ],
    );
    accepted(&definition(json!({"memory": "64"}), json!({"memory": null})));
    refused(
        &definition(json!({"cpu": "128"}), json!({"cpu": 129})),
        &["The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'."],
    );
    let two = json!([
        {"name": "a", "image": "i", "memoryReservation": 40},
        {"name": "b", "image": "i", "memoryReservation": 40},
    ]);
    accepted(&definition(json!({"memory": "80", "containerDefinitions": two}), json!({})));
    refused(&definition(json!({"memory": "79", "containerDefinitions": two}), json!({})), &["'memoryReservation'"]);
}

#[test]
fn environments() {
    let environment = |name: &str, value: &str| json!({"environment": [{"name": name, "value": value}]});
    container_rules(
        &[environment("A", ""), environment("a.b-c", "=x\ny"), json!({"environment": [{"name": "A"}]})],
        &[
            (environment("", "x"), "A variable has no name."),
            (json!({"environment": [{"value": "x"}]}), "A variable has no name."),
            (environment("A=B", "x"), "'A=B'"),
            (environment("A", "x\0"), "null character"),
        ],
    );
}

#[test]
fn ports_of_a_container() {
    let ports = |mapping: Value| json!({"portMappings": [mapping]});
    let two = |one: Value, other: Value| json!({"portMappings": [one, other]});
    let name = "n".repeat(64);
    let long_name = "n".repeat(65);
    container_rules(
        &[
            ports(json!({"containerPort": 1})),
            ports(json!({"containerPort": 65535, "hostPort": 65535, "protocol": "udp"})),
            ports(json!({"containerPort": 80, "name": name, "appProtocol": "grpc"})),
            ports(json!({"containerPortRange": "7000-7010"})),
            two(json!({"containerPort": 80}), json!({"containerPort": 80})),
            two(json!({"containerPort": 80, "hostPort": 8080}), json!({"containerPort": 80, "hostPort": 8081})),
            two(
                json!({"containerPort": 53, "hostPort": 53}),
                json!({"containerPort": 53, "hostPort": 53, "protocol": "udp"}),
            ),
            two(json!({"containerPortRange": "1-5"}), json!({"containerPortRange": "3-9", "protocol": "udp"})),
            two(json!({"containerPortRange": "1-5"}), json!({"containerPort": 6})),
        ],
        &[
            (ports(json!({})), "Invalid 'containerPort' setting for container 'app'."),
            (ports(json!({"hostPort": 80})), "Invalid 'containerPort' setting"),
            (ports(json!({"containerPort": 0})), "Invalid 'containerPort' setting"),
            (ports(json!({"containerPort": 65536})), "Invalid 'containerPort' setting"),
            (ports(json!({"containerPort": 80, "hostPort": -1})), "Invalid 'hostPort' setting"),
            (ports(json!({"containerPort": 80, "hostPort": 65536})), "Invalid 'hostPort' setting"),
            (ports(json!({"containerPort": 80, "name": "Web"})), "'Web'"),
            (ports(json!({"containerPort": 80, "name": "-web"})), "'-web'"),
            (ports(json!({"containerPort": 80, "name": long_name})), "64"),
            (ports(json!({"containerPortRange": "7010-7000"})), "Invalid 'containerPortRange' setting"),
            (ports(json!({"containerPortRange": "7000"})), "'7000'"),
            (ports(json!({"containerPortRange": "0-5"})), "'0-5'"),
            (ports(json!({"containerPortRange": "1-65536"})), "'1-65536'"),
            (ports(json!({"containerPortRange": "+1-5"})), "'+1-5'"),
            (ports(json!({"containerPortRange": "1-5", "containerPort": 80})), "stands alone"),
            (ports(json!({"containerPortRange": "1-5", "hostPort": 80})), "stands alone"),
            (two(json!({"containerPortRange": "1-5"}), json!({"containerPortRange": "5-9"})), "overlaps"),
            (two(json!({"containerPortRange": "1-5"}), json!({"containerPort": 5})), "overlaps"),
            (
                two(json!({"containerPort": 80, "hostPort": 90}), json!({"containerPort": 81, "hostPort": 90})),
                "Port 90/tcp",
            ),
            (
                two(json!({"containerPort": 80, "name": "p"}), json!({"containerPort": 81, "name": "p"})),
                "'p' is there twice",
            ),
        ],
    );
    let ranges: Vec<Value> =
        (0..101).map(|n| json!({"containerPortRange": format!("{}-{}", n * 2 + 1, n * 2 + 2)})).collect();
    accepted(&definition(json!({}), json!({"portMappings": ranges[..100]})));
    refused(&definition(json!({}), json!({"portMappings": ranges})), &["up to 100"]);
}

#[test]
fn ports_by_network_mode() {
    let with =
        |mode: &str, mapping: Value| definition(json!({"networkMode": mode}), json!({"portMappings": [mapping]}));
    accepted(&with("bridge", json!({"containerPort": 80, "hostPort": 8080})));
    accepted(&with("host", json!({"containerPort": 80})));
    accepted(&with("host", json!({"containerPort": 80, "hostPort": 80})));
    accepted(&definition(json!({"networkMode": "none"}), json!({"portMappings": []})));
    refused(
        &with("none", json!({"containerPort": 80})),
        &["Port mappings are not supported when networkMode=none.", "'app'"],
    );
    refused(
        &with("host", json!({"containerPort": 80, "hostPort": 8080})),
        &["When networkMode=host, the host ports and container ports in port mappings must match.", "'app'"],
    );
    refused(&with("host", json!({"containerPortRange": "1-5"})), &["networkMode=host"]);
    refused(
        &with("awsvpc", json!({"containerPort": 80, "hostPort": 8080})),
        &["When networkMode=awsvpc, the host ports and container ports in port mappings must match."],
    );
    let same = |mode: &str, mapping: Value| {
        json!({"family": "f", "networkMode": mode, "containerDefinitions": [
            {"name": "a", "image": "i", "memory": 6, "portMappings": [mapping]},
            {"name": "b", "image": "i", "memory": 6, "portMappings": [mapping]},
        ]})
    };
    refused(
        &same("host", json!({"containerPort": 80})),
        &["Port 80/tcp of the host is mapped by container 'a' already", "'b'"],
    );
    refused(&same("bridge", json!({"containerPort": 80, "hostPort": 80})), &["Port 80/tcp"]);
    accepted(&same("bridge", json!({"containerPort": 80})));
}

/// Two containers, `a` and `b`, with members laid over the first and the second.
pub(super) fn pair(mode: &str, a: Value, b: Value) -> Value {
    let first = definition(json!({}), a)["containerDefinitions"][0].clone();
    let mut second = definition(json!({}), b)["containerDefinitions"][0].clone();
    second["name"] = json!("other");
    json!({"family": "f", "networkMode": mode, "containerDefinitions": [first, second]})
}

#[test]
fn links_and_dependencies() {
    let on = |name: &str, condition: &str| json!({"dependsOn": [{"containerName": name, "condition": condition}]});
    let healthy = json!({"healthCheck": {"command": ["CMD", "true"]}});
    let optional = json!({"essential": false});
    let none = json!({});
    accepted(&pair("bridge", json!({"links": ["other:db", "other"]}), none.clone()));
    accepted(&pair("bridge", on("other", "START"), none.clone()));
    accepted(&pair("bridge", on("other", "SUCCESS"), optional.clone()));
    accepted(&pair("bridge", on("other", "COMPLETE"), optional));
    accepted(&pair("bridge", on("other", "HEALTHY"), healthy));
    for (mode, a, b, words) in [
        ("host", json!({"links": ["other"]}), none.clone(), "Links are not supported when networkMode=host."),
        ("awsvpc", json!({"links": ["other"]}), none.clone(), "Links are not supported when networkMode=awsvpc."),
        ("bridge", json!({"links": ["missing"]}), none.clone(), "Container 'missing'"),
        ("bridge", json!({"links": ["app"]}), none.clone(), "Container 'app'"),
        ("bridge", json!({"links": ["other:"]}), none.clone(), "'other:'"),
        ("bridge", json!({"links": [""]}), none.clone(), "Invalid 'links' setting"),
        (
            "bridge",
            on("missing", "START"),
            none.clone(),
            "Cannot depend on container + 'missing' because it does not exist",
        ),
        (
            "bridge",
            on("other", "SUCCESS"),
            none.clone(),
            "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container",
        ),
        ("bridge", on("other", "COMPLETE"), none.clone(), "cannot be an essential container"),
        ("bridge", on("other", "HEALTHY"), none.clone(), "needs a 'healthCheck' on container 'other'"),
        ("bridge", on("app", "START"), none.clone(), "cyclic"),
        ("bridge", on("other", "START"), on("app", "START"), "app, other"),
        ("bridge", json!({"links": ["other"]}), on("app", "START"), "cyclic"),
        (
            "bridge",
            json!({"dependsOn": [{"containerName": "other", "condition": "START"}, {"containerName": "other", "condition": "START"}]}),
            none,
            "'other' is there twice",
        ),
    ] {
        refused(&pair(mode, a, b), &["'app'", words]);
    }
}

#[test]
fn health_checks_and_times() {
    let health = |member: &str, value: i32| {
        let mut health = json!({"command": ["CMD-SHELL", "true"]});
        health[member] = json!(value);
        json!({"healthCheck": health})
    };
    let restart = |member: &str, value: Value| {
        let mut policy = json!({"enabled": true});
        policy[member] = value;
        json!({"restartPolicy": policy})
    };
    container_rules(
        &[
            health("interval", 5),
            health("timeout", 60),
            health("retries", 10),
            health("startPeriod", 0),
            json!({"stopTimeout": 1, "startTimeout": 120}),
            restart("restartAttemptPeriod", json!(60)),
            restart("ignoredExitCodes", json!(vec![0; 50])),
        ],
        &[
            (json!({"healthCheck": {"command": []}}), "CMD or CMD-SHELL"),
            (json!({"healthCheck": {"command": ["CMD"]}}), "CMD or CMD-SHELL"),
            (json!({"healthCheck": {"command": ["curl", "x"]}}), "CMD or CMD-SHELL"),
            (health("interval", 4), "'interval' is 4 and must be between 5 and 300."),
            (health("interval", 301), "'interval'"),
            (health("timeout", 1), "'timeout'"),
            (health("retries", 11), "'retries'"),
            (health("startPeriod", 301), "'startPeriod'"),
            (json!({"stopTimeout": 0}), "Invalid 'stopTimeout' setting"),
            (json!({"startTimeout": -1}), "Invalid 'startTimeout' setting"),
            (restart("restartAttemptPeriod", json!(59)), "'restartAttemptPeriod'"),
            (restart("restartAttemptPeriod", json!(1801)), "'restartAttemptPeriod'"),
            (restart("ignoredExitCodes", json!(vec![0; 51])), "up to 50"),
        ],
    );
}

#[test]
fn names_and_addresses() {
    container_rules(
        &[
            json!({"dnsServers": ["10.0.0.2", "fd00::1"], "dnsSearchDomains": ["example.com"]}),
            json!({"extraHosts": [{"hostname": "db", "ipAddress": "10.0.0.9"}], "hostname": "web"}),
        ],
        &[
            (json!({"dnsServers": ["dns.example.com"]}), "Invalid 'dnsServers' setting"),
            (json!({"dnsSearchDomains": [""]}), "Invalid 'dnsSearchDomains' setting"),
            (json!({"extraHosts": [{"hostname": "db", "ipAddress": "there"}]}), "'there'"),
            (json!({"extraHosts": [{"hostname": "a:b", "ipAddress": "10.0.0.9"}]}), "'a:b'"),
        ],
    );
    let awsvpc = json!({"networkMode": "awsvpc"});
    refused(&definition(awsvpc.clone(), json!({"hostname": "x"})), &["Invalid 'hostname' setting for container 'app'"]);
    let hosts = json!({"extraHosts": [{"hostname": "db", "ipAddress": "10.0.0.9"}]});
    refused(&definition(awsvpc, hosts), &["Invalid 'extraHosts' setting for container 'app'"]);
}
