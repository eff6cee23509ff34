//! Whatever is asked, the answer is a document or a refusal; and every document can be worked with.

use longshore_api::ecs::types::{LaunchType, RegisterTaskDefinitionRequest, TaskDefinition, TaskOverride};
use proptest::prelude::*;
use proptest::strategy::{Union, ValueTree};
use serde_json::{Map, Value, json};

use super::identity;
use crate::payload::{self, TaskFacts};
use crate::resources::{CpuUnits, MemoryMib};
use crate::task_definition::overrides::merge;
use crate::task_definition::{register, resolve};

/// Words that are often right, so that definitions get past the first rules, and now and then are not.
const SECRET: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:s-AbCdEf";

fn word() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] = &[
        "a",
        "b",
        "c",
        "app:a",
        "CMD",
        "busybox:1",
        "x/y@z",
        "net.core.somaxconn",
        "/tmp",
        "10.0.0.1",
        "1-5",
        "ro",
        "CHOWN",
        "512",
        "1 vCPU",
        "",
        "\0",
        "ü",
    ];
    prop_oneof![
        8 => prop::sample::select(WORDS).prop_map(Value::from),
        1 => ".{0,9}".prop_map(Value::from),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    const EDGES: &[i32] = &[i32::MIN, -1, 0, 1, 5, 6, 30, 60, 64, 128, 300, 65_535, 65_536, i32::MAX];
    prop_oneof![
        4 => prop::sample::select(EDGES).prop_map(Value::from),
        1 => any::<i32>().prop_map(Value::from),
    ]
}

fn one_of(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(words).prop_map(Value::from).boxed()
}

fn list(of: impl Strategy<Value = Value> + 'static, most: usize) -> BoxedStrategy<Value> {
    prop::collection::vec(of, 0..=most).prop_map(Value::from).boxed()
}

/// An object that always has the first members, and any of the others.
fn object(
    required: Vec<(&'static str, BoxedStrategy<Value>)>,
    optional: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Value> {
    let member = |(key, value): (&'static str, BoxedStrategy<Value>)| {
        value.prop_map(move |value| (key.to_owned(), value)).boxed()
    };
    let required: Vec<_> = required.into_iter().map(member).collect();
    let others = if optional.is_empty() {
        Just(Vec::new()).boxed()
    } else {
        prop::collection::vec(Union::new(optional.into_iter().map(member)), 0..4).boxed()
    };
    (required, others)
        .prop_map(|(required, others)| Value::Object(others.into_iter().chain(required).collect::<Map<_, _>>()))
        .boxed()
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

/// One of the values that are right here, or now and then anything.
fn like<T: Copy + Into<Value> + std::fmt::Debug + 'static>(right: &'static [T]) -> BoxedStrategy<Value> {
    prop_oneof![
        24 => prop::sample::select(right).prop_map(Into::into),
        1 => word(),
        1 => number(),
    ]
    .prop_filter("of the right type", {
        let kind = std::mem::discriminant(&right[0].into());
        move |value| std::mem::discriminant(value) == kind
    })
    .boxed()
}

fn linux() -> BoxedStrategy<Value> {
    let devices = object(
        vec![("hostPath", like(&["/dev/null"]))],
        vec![("containerPath", like(&["/dev/zero"])), ("permissions", list(one_of(&["read", "mknod"]), 2))],
    );
    let tmpfs = object(
        vec![("containerPath", like(&["/a", "/b"])), ("size", like(&[1, 64]))],
        vec![("mountOptions", list(like(&["ro", "uid=1"]), 2))],
    );
    let capabilities = || list(like(&["ALL", "CHOWN"]), 2);
    object(
        vec![],
        vec![
            ("capabilities", object(vec![], vec![("add", capabilities()), ("drop", capabilities())])),
            ("devices", list(devices, 2)),
            ("initProcessEnabled", flag()),
            ("sharedMemorySize", like(&[1, 64])),
            ("tmpfs", list(tmpfs, 2)),
            ("maxSwap", like(&[0, 64])),
            ("swappiness", like(&[0, 100])),
        ],
    )
}

fn logging() -> BoxedStrategy<Value> {
    let options = Just(json!({"awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p"})).boxed();
    object(vec![("logDriver", one_of(&["json-file", "awslogs", "splunk", "awsfirelens"]))], vec![("options", options)])
}

fn ports() -> BoxedStrategy<Value> {
    let protocol = || ("protocol", one_of(&["tcp", "udp"]));
    let single = object(
        vec![("containerPort", like(&[1, 80, 443, 65_535]))],
        vec![("hostPort", like(&[0, 1, 80, 443])), protocol(), ("name", like(&["p", "q"]))],
    );
    let range = object(vec![("containerPortRange", like(&["100-105", "103-110"]))], vec![protocol()]);
    list(prop_oneof![4 => single, 1 => range], 3)
}

fn dependencies() -> BoxedStrategy<Value> {
    list(
        object(
            vec![("containerName", like(&["b", "c"])), ("condition", one_of(&["START", "SUCCESS", "HEALTHY"]))],
            vec![],
        ),
        2,
    )
}

fn health_check() -> BoxedStrategy<Value> {
    let command = prop_oneof![9 => Just(json!(["CMD", "true"])), 1 => list(word(), 2)].boxed();
    object(
        vec![("command", command)],
        vec![
            ("interval", like(&[5, 300])),
            ("timeout", like(&[2, 60])),
            ("retries", like(&[1, 10])),
            ("startPeriod", like(&[0, 300])),
        ],
    )
}

fn restart_policy() -> BoxedStrategy<Value> {
    object(
        vec![("enabled", flag())],
        vec![("restartAttemptPeriod", like(&[60, 1800])), ("ignoredExitCodes", list(number(), 2))],
    )
}

fn environment() -> BoxedStrategy<Value> {
    list(object(vec![("name", like(&["A", "B", "AWS_EXECUTION_ENV"]))], vec![("value", word().boxed())]), 3)
}

fn container(name: &'static str) -> BoxedStrategy<Value> {
    let names: &'static [&'static str] = match name {
        "a" => &["a"],
        "b" => &["b"],
        _ => &["c"],
    };
    let ulimit = object(
        vec![("name", one_of(&["core", "nofile"])), ("softLimit", like(&[0, 1])), ("hardLimit", like(&[1, -1]))],
        vec![],
    );
    let sysctl =
        object(vec![("namespace", like(&["net.core.somaxconn", "kernel.sem"])), ("value", like(&["1"]))], vec![]);
    let host = object(vec![("hostname", like(&["db"])), ("ipAddress", like(&["10.0.0.1"]))], vec![]);
    let secret = object(vec![("name", like(&["S", "A"])), ("valueFrom", like(&["p", SECRET]))], vec![]);
    let file = object(vec![("type", one_of(&["s3"])), ("value", like(&["arn:aws:s3:::b/x.env"]))], vec![]);
    let mount = object(
        vec![("sourceVolume", like(&["v"])), ("containerPath", like(&["/v", "/w"]))],
        vec![("readOnly", flag())],
    );
    let credentials = object(vec![("credentialsParameter", like(&["login", SECRET]))], vec![]);
    object(
        vec![
            ("name", like(names)),
            ("image", like(&["busybox", "012345678910.dkr.ecr.eu-west-1.amazonaws.com/app"])),
            ("memory", like(&[6, 64, 128])),
        ],
        vec![
            ("cpu", like(&[0, 10, 2048])),
            ("memoryReservation", like(&[0, 6, 64])),
            ("essential", flag()),
            ("command", list(word(), 2)),
            ("entryPoint", list(word(), 2)),
            ("environment", environment()),
            ("portMappings", ports()),
            ("links", list(like(&["b", "c:x"]), 2)),
            ("dependsOn", dependencies()),
            ("healthCheck", health_check()),
            ("restartPolicy", restart_policy()),
            ("linuxParameters", linux()),
            ("logConfiguration", logging()),
            ("ulimits", list(ulimit, 2)),
            ("systemControls", list(sysctl, 2)),
            ("extraHosts", list(host, 2)),
            ("dnsServers", list(like(&["10.0.0.2", "fd00::1"]), 2)),
            ("dockerSecurityOptions", list(like(&["label:x", "no-new-privileges"]), 2)),
            ("stopTimeout", like(&[1, 30])),
            ("startTimeout", like(&[1, 30])),
            ("privileged", flag()),
            ("user", word().boxed()),
            ("mountPoints", list(mount, 2)),
            ("volumesFrom", list(object(vec![("sourceContainer", like(&["b", "c"]))], vec![("readOnly", flag())]), 1)),
            ("secrets", list(secret, 1)),
            ("environmentFiles", list(file, 1)),
            ("repositoryCredentials", credentials),
        ],
    )
}

fn volume() -> BoxedStrategy<Value> {
    let docker = object(vec![], vec![("scope", one_of(&["task", "shared"])), ("driver", like(&["local", "nfs:1"]))]);
    let efs = object(vec![("fileSystemId", like(&["fs-1"]))], vec![("transitEncryption", one_of(&["ENABLED"]))]);
    object(
        vec![("name", like(&["v"]))],
        vec![
            ("host", object(vec![], vec![("sourcePath", like(&["/srv", ""]))])),
            ("dockerVolumeConfiguration", docker),
            ("efsVolumeConfiguration", efs),
        ],
    )
}

fn request() -> impl Strategy<Value = Value> {
    let containers = (container("a"), prop::option::of(container("b")), prop::option::of(container("c"))).prop_map(
        |(first, second, third)| [Some(first), second, third].into_iter().flatten().collect::<Vec<_>>().into(),
    );
    object(
        vec![("family", like(&["f", "g_1-x"])), ("containerDefinitions", containers.boxed())],
        vec![
            ("networkMode", one_of(&["bridge", "host", "none", "awsvpc"])),
            ("cpu", like(&["256", "12 vCPU"])),
            ("memory", like(&["512", "1GB"])),
            ("pidMode", one_of(&["host", "task"])),
            ("ipcMode", one_of(&["host", "task", "none"])),
            ("requiresCompatibilities", list(one_of(&["EC2", "EXTERNAL", "FARGATE"]), 2)),
            ("enableFaultInjection", flag()),
            ("executionRoleArn", like(&["reader", "arn:aws:iam::000000000000:role/reader"])),
            ("volumes", list(volume(), 1)),
        ],
    )
}

fn overrides() -> impl Strategy<Value = Value> {
    let change = object(
        vec![("name", like(&["a", "b"]))],
        vec![
            ("command", list(word(), 2)),
            ("cpu", like(&[0, 20])),
            ("memory", like(&[6, 128])),
            ("memoryReservation", like(&[6, 64])),
            ("environment", environment()),
        ],
    );
    let members = vec![("cpu", like(&["256"])), ("memory", like(&["512"])), ("containerOverrides", list(change, 2))];
    object(vec![], members)
}

/// What must hold of every document that was registered.
fn check(document: &TaskDefinition, overrides: &TaskOverride) -> Result<(), TestCaseError> {
    let stored =
        TaskDefinition::from_json(&document.to_json()).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let resolved = resolve(&stored);
    prop_assert_eq!(&resolved, &resolve(document), "a document reads back as it was written");
    prop_assert!(!resolved.containers.is_empty());
    prop_assert!(resolved.containers.iter().any(|container| container.essential));
    prop_assert!(resolved.memory > MemoryMib(0), "a task reserves memory");
    let sum = resolved.containers.iter().map(|container| container.cpu).fold(CpuUnits(0), CpuUnits::saturating_add);
    prop_assert!(resolved.cpu >= sum);
    prop_assert!(resolved.host_ports.is_sorted() && resolved.requires.is_sorted());
    let effective = merge(document, &resolved, None).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!((effective.cpu, effective.memory), (resolved.cpu, resolved.memory));
    prop_assert_eq!(&effective.requires, &resolved.requires);
    for effective in [Some(effective), merge(document, &resolved, Some(overrides)).ok()].into_iter().flatten() {
        prop_assert_eq!(effective.containers.len(), resolved.containers.len());
        prop_assert!(effective.requires.is_sorted());
        let facts = TaskFacts {
            task_arn: "arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef",
            cluster_arn: "arn:aws:ecs:us-east-1:000000000000:cluster/default",
            definition: document,
            effective: &effective,
            container_arns: &[],
            gpus: &[],
            group: None,
            launch_type: LaunchType::Ec2,
            log_driver_mode: "non-blocking",
            interface: None,
        };
        let task = payload::start(&facts);
        prop_assert_eq!(&task, &payload::start(&facts), "the same inputs give the same payload");
        for volume in &task.volumes {
            let objects = [
                ("host", volume.host.is_some()),
                ("docker", volume.docker_volume_configuration.is_some()),
                ("efs", volume.efs_volume_configuration.is_some()),
            ];
            let given: Vec<&str> = objects.iter().filter(|(_, given)| *given).map(|(kind, _)| *kind).collect();
            prop_assert_eq!(given, volume.volume_type.as_deref().into_iter().collect::<Vec<_>>());
        }
        for container in &task.containers {
            let docker = container.docker_config.as_ref().expect("always there");
            let config: Value = serde_json::from_str(docker.config.as_deref().unwrap_or_default()).expect("JSON");
            prop_assert_eq!(config.get("Env"), None, "it would wipe out the agent's variables");
            prop_assert_eq!(config.get("Healthcheck").is_some(), container.health_check_type.is_some());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_request_is_answered_and_every_document_can_be_worked_with(request in request(), overrides in overrides()) {
        let request = RegisterTaskDefinitionRequest::from_value(&request).expect("a request of the right shape");
        let overrides: TaskOverride = serde_json::from_value(overrides).expect("overrides of the right shape");
        match register(&request, identity()) {
            Ok(document) => check(&document, &overrides)?,
            Err(error) => {
                prop_assert_eq!(error.code.name, "ClientException");
                prop_assert!(error.message.ends_with('.'), "{}", error.message);
            }
        }
    }
}

/// The property above would hold of nothing if every request were refused.
#[test]
fn many_arbitrary_requests_are_accepted() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = (0..512)
        .filter(|_| {
            let request = request().new_tree(&mut runner).expect("a request").current();
            let request = RegisterTaskDefinitionRequest::from_value(&request).expect("a request of the right shape");
            register(&request, identity()).is_ok()
        })
        .count();
    assert!(accepted > 100, "{accepted}");
}
