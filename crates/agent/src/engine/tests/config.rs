//! A payload's settings in Docker's words, and what is refused.

use longshore_agent_protocol::acs;
use serde_json::{Value, json};

use super::world::*;
use crate::engine::container_config::{container_spec, docker_name};
use crate::engine::resource::Prepared;
use crate::engine::*;

fn body(task: &acs::Task) -> Value {
    container_spec(&config(), task, &task.containers[0], &Prepared::default()).unwrap().body
}

/// The settings of a task with one container, as `change` makes it.
fn with(change: impl FnOnce(&mut acs::Task)) -> acs::Task {
    let mut task = task("t", vec![container("main")]);
    change(&mut task);
    task
}

fn docker_config(config: &str, host_config: &str) -> Option<acs::DockerConfig> {
    Some(acs::DockerConfig {
        version: Some("1.25".to_owned()),
        config: Some(config.to_owned()),
        host_config: Some(host_config.to_owned()),
    })
}

#[test]
fn the_whole_of_a_plain_container() {
    let task = with(|task| {
        let main = &mut task.containers[0];
        main.cpu = 50;
        main.memory = 50;
        main.command = Some(vec!["run".to_owned()]);
        main.environment.insert("MODE".to_owned(), "producer".to_owned());
    });
    assert_eq!(
        body(&task),
        json!({
            "Image": "img",
            "Cmd": ["run"],
            "Env": ["MODE=producer"],
            "ExposedPorts": {},
            "Labels": {
                "com.amazonaws.ecs.task-arn": "t",
                "com.amazonaws.ecs.container-name": "main",
                "com.amazonaws.ecs.task-definition-family": "fam",
                "com.amazonaws.ecs.task-definition-version": "1",
                "com.amazonaws.ecs.cluster": "default",
                "longshore.container-instance-arn": INSTANCE,
            },
            "HostConfig": {
                "NetworkMode": "bridge",
                "CpuShares": 50,
                "Memory": 52_428_800,
                "PortBindings": {},
                "AutoRemove": false,
                "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            },
        })
    );
}

#[test]
fn awslogs_is_kept_on_the_machine_where_that_is_wanted() {
    let log_config = r#"{"LogConfig":{"Type":"awslogs","Config":{"awslogs-group":"g","mode":"blocking"}}}"#;
    let task = with(|task| task.containers[0].docker_config = docker_config("{}", log_config));
    let kept = EngineConfig { awslogs_as: AwslogsAs::JsonFile, ..config() };
    let spec = container_spec(&kept, &task, &task.containers[0], &Prepared::default()).unwrap();
    assert_eq!(
        spec.body["HostConfig"]["LogConfig"],
        json!({"Type": "json-file", "Config": {"mode": "blocking", "max-file": "4", "max-size": "32m"}})
    );
    assert_eq!(body(&task)["HostConfig"]["LogConfig"]["Type"], "awslogs");
}

/// A change to the task, a place in the settings, and what is there.
#[test]
fn settings() {
    type Change = fn(&mut acs::Task);
    let cases: [(Change, &str, Value); 23] = [
        (|t| t.containers[0].cpu = 0, "/HostConfig/CpuShares", json!(2)),
        (|t| t.containers[0].cpu = 999_999, "/HostConfig/CpuShares", json!(262_144)),
        (|t| t.containers[0].memory = 0, "/HostConfig/Memory", Value::Null),
        (|t| t.containers[0].memory = 1, "/HostConfig/Memory", json!(4_194_304)),
        (|t| t.memory = Some(64), "/HostConfig/Memory", Value::Null),
        (|t| t.network_mode = Some("host".to_owned()), "/HostConfig/NetworkMode", json!("host")),
        (|t| t.network_mode = Some("none".to_owned()), "/HostConfig/PortBindings", Value::Null),
        (|t| t.pid_mode = Some("host".to_owned()), "/HostConfig/PidMode", json!("host")),
        (|t| t.containers[0].entry_point = Some(Vec::new()), "/Entrypoint", json!([])),
        (|t| t.containers[0].entry_point = None, "/Entrypoint", Value::Null),
        (
            |t| {
                t.containers[0].command = Some(vec!["a".to_owned()]);
                t.containers[0].overrides = Some(r#"{"command":["b","c"],"cpu":3}"#.to_owned());
            },
            "/Cmd",
            json!(["b", "c"]),
        ),
        (
            |t| t.containers[0] = with_port(t.containers[0].clone(), 80, 8080),
            "/HostConfig/PortBindings",
            json!({"80/tcp": [{"HostPort": "8080"}]}),
        ),
        (|t| t.containers[0] = with_port(t.containers[0].clone(), 80, 0), "/ExposedPorts", json!({"80/tcp": {}})),
        // Scalars replace, objects merge, lists replace, null changes nothing, Docker's names match in any case.
        (|t| t.containers[0].docker_config = docker_config(r#"{"User":"app"}"#, ""), "/User", json!("app")),
        (|t| t.containers[0].docker_config = docker_config(r#"{"image":"other"}"#, ""), "/Image", json!("other")),
        (
            |t| t.containers[0].docker_config = docker_config("null", r#"{"Memory":1048576}"#),
            "/HostConfig/Memory",
            json!(1_048_576),
        ),
        (
            |t| t.containers[0].docker_config = docker_config("", r#"{"NetworkMode":null}"#),
            "/HostConfig/NetworkMode",
            json!("bridge"),
        ),
        (|t| t.containers[0].docker_config = docker_config(r#"{"Env":["A=b"]}"#, ""), "/Env", json!(["A=b"])),
        (
            |t| {
                t.containers[0].docker_config =
                    docker_config(r#"{"Labels":{"mine":"1","com.amazonaws.ecs.task-arn":"x"}}"#, "")
            },
            "/Labels/com.amazonaws.ecs.task-arn",
            json!("t"),
        ),
        // What is ours to decide stays ours in every spelling.
        (
            |t| {
                t.containers[0].docker_config =
                    docker_config(r#"{"labels":{"mine":"1","com.amazonaws.ecs.task-arn":"x"}}"#, "")
            },
            "/labels",
            Value::Null,
        ),
        (
            |t| t.containers[0].docker_config = docker_config("", r#"{"autoRemove":true}"#),
            "/HostConfig/autoRemove",
            Value::Null,
        ),
        (
            |t| t.containers[0].docker_config = docker_config(r#"{"Labels":{"mine":"1"}}"#, ""),
            "/Labels/mine",
            json!("1"),
        ),
        (
            |t| {
                t.containers[0].docker_config =
                    docker_config("", r#"{"RestartPolicy":{"Name":"always"},"AutoRemove":true}"#)
            },
            "/HostConfig/RestartPolicy/Name",
            json!("no"),
        ),
    ];
    for (change, place, expected) in cases {
        let body = body(&with(change));
        assert_eq!(body.pointer(place).unwrap_or(&Value::Null), &expected, "{place}");
    }
}

#[test]
fn port_bindings_of_docker_config_merge_with_the_mappings() {
    let task = with(|task| {
        task.containers[0] = with_port(task.containers[0].clone(), 80, 8080);
        task.containers[0].docker_config = docker_config("", r#"{"PortBindings":{"90/tcp":[{"HostPort":"9090"}]}}"#);
    });
    assert_eq!(
        body(&task)["HostConfig"]["PortBindings"],
        json!({"80/tcp": [{"HostPort": "8080"}], "90/tcp": [{"HostPort": "9090"}]})
    );
}

#[test]
fn links_name_docker_containers() {
    let mut web = container("web");
    web.links = vec!["db:database".to_owned(), "cache".to_owned()];
    let task = task("t", vec![web, container("db"), container("cache")]);
    let expected = [format!("{}:database", docker_name(&task, "db")), format!("{}:cache", docker_name(&task, "cache"))];
    assert_eq!(body(&task)["HostConfig"]["Links"], json!(expected));
}

#[test]
fn volumes_of_other_containers_are_mounted_by_their_docker_names() {
    let mut task = task("t", vec![container("web"), container("data"), container("logs")]);
    let from = |name: &str, read_only| acs::VolumeFrom { source_container: name.to_owned(), read_only };
    task.containers[0].volumes_from = vec![from("data", Some(true)), from("logs", None)];
    let expected = [format!("{}:ro", docker_name(&task, "data")), format!("{}:rw", docker_name(&task, "logs"))];
    assert_eq!(body(&task)["HostConfig"]["VolumesFrom"], json!(expected));
}

#[test]
fn names_are_the_same_every_time_and_fit_docker() {
    let mut task = task("arn:aws:ecs:us-east-1:000000000000:task/default/0123", Vec::new());
    task.family = Some("f_producer".to_owned());
    task.version = Some("12".to_owned());
    let name = docker_name(&task, "my_side.car");
    assert!(name.starts_with("ecs-f_producer-12-mysidecar-"), "{name}");
    let unique = name.rsplit('-').next().unwrap();
    assert!(unique.len() == 20 && unique.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    assert_eq!(docker_name(&task, "my_side.car"), name);
    assert_ne!(docker_name(&task, "mysidecar"), name, "the same letters, another container");
    task.arn.push('4');
    assert_ne!(docker_name(&task, "my_side.car"), name, "another task");
}

/// What cannot be honoured stops the task with a reason that names it, and nothing is asked of Docker.
#[test]
fn refusals_name_what_cannot_be_honoured() {
    type Change = fn(&mut acs::Task);
    let cases: [(Change, &str); 21] = [
        (|t| t.containers.clear(), "containers is empty"),
        (|t| t.network_mode = Some("nat".to_owned()), "networkMode nat is not supported"),
        (|t| t.network_mode = Some("awsvpc".to_owned()), "elasticNetworkInterfaces is empty"),
        (|t| t.elastic_network_interfaces.push(acs::ElasticNetworkInterface::default()), "elasticNetworkInterfaces"),
        (|t| t.proxy_configuration = Some(acs::ProxyConfiguration::default()), "proxyConfiguration"),
        (|t| t.role_credentials = Some(acs::IamRoleCredentials::default()), "taskRoleArn"),
        (|t| t.attachments.push(acs::Attachment::default()), "attachments"),
        (|t| t.enable_fault_injection = Some(true), "enableFaultInjection"),
        (|t| t.containers.push(container("main")), "\"main\" is empty or not unique"),
        (|t| t.containers[0].mount_points.push(acs::MountPoint::default()), "container main: mountPoints names"),
        (|t| t.containers[0].name = "~internal~ecs~pause".to_owned(), "is the agent's own"),
        (|t| t.containers[0].environment_files.push(acs::EnvironmentFile::default()), "environmentFiles"),
        (|t| t.containers[0].secrets.push(acs::SecretReference::default()), "container main: secret "),
        (
            |t| t.containers[0].registry_authentication = Some(acs::RegistryAuthentication::default()),
            "registryAuthentication has the unknown type",
        ),
        (
            |t| t.containers[0].firelens_configuration = Some(acs::FirelensConfiguration::default()),
            "firelensConfiguration",
        ),
        (|t| t.containers[0].managed_agents.push(acs::ManagedAgent::default()), "enableExecuteCommand"),
        (|t| t.containers[0].overrides = Some("{".to_owned()), "container main: overrides is not JSON"),
        (|t| t.containers[0].overrides = Some(r#"{"command":"x"}"#.to_owned()), "not a list of strings"),
        (|t| t.containers[0].docker_config = docker_config("[]", ""), "dockerConfig.config is not a JSON object"),
        (
            |t| t.containers[0].docker_config = docker_config("", r#"{"LogConfig":{"Type":"awsfirelens"}}"#),
            "awsfirelens",
        ),
        (
            |t| t.containers[0] = with_port(t.containers[0].clone(), 0, 0),
            "container main: portMappings.containerPort is 0, not a port",
        ),
    ];
    for (change, expected) in cases {
        let mut world = World::new(config());
        world.payload(vec![with(change)]);
        world.settle();
        let reason = &world.control_plane["t"].reason;
        assert!(reason.starts_with("UnrecogniedTaskError: Error loading task - "), "{reason}");
        assert!(reason.contains(expected), "{reason} should name {expected}");
        assert_eq!(world.control_plane["t"].status, "STOPPED");
        assert!(world.docker.containers.is_empty());
    }
}

#[test]
fn a_health_check_type_needs_a_health_check() {
    let mut world = World::new(config());
    world.payload(vec![with(|task| task.containers[0].health_check_type = Some("docker".to_owned()))]);
    world.settle();
    assert_eq!(
        world.control_plane["t"].reason,
        "DockerClientConfigError: docker health check is nil while container health check type is DOCKER"
    );
    let mut world = World::new(config());
    world.payload(vec![with(|task| {
        task.containers[0].health_check_type = Some("docker".to_owned());
        task.containers[0].docker_config = docker_config(r#"{"Healthcheck":{"Test":["CMD","true"]}}"#, "");
    })]);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");
}

#[test]
fn credentials_are_not_saved() {
    let mut world = World::new(config());
    world.payload(vec![with(|task| {
        task.role_credentials = Some(acs::IamRoleCredentials {
            secret_access_key: "hidden".to_owned().into(),
            ..acs::IamRoleCredentials::default()
        });
    })]);
    let record = world.engine.task("t").unwrap();
    assert!(!String::from_utf8(record.to_json()).unwrap().contains("hidden"));
    assert_eq!(TaskRecord::from_json(&record.to_json()).unwrap(), *record);
}
