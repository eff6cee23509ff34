//! The attributes of an instance: for what works here and nothing else, since placement believes them.

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::Attribute;

use super::Host;
use crate::config::AgentConfig;
use crate::engine::AwslogsAs;
use crate::engine::docker::{ApiVersion, EngineVersion};
use crate::session::AGENT_VERSION;

const CAPABILITY: &str = "com.amazonaws.ecs.capability.";

/// The Engine API that each log driver came with.
const DRIVERS_SINCE: [(&str, u32); 10] = [
    ("awslogs", 21),
    ("fluentd", 20),
    ("gelf", 20),
    ("journald", 19),
    ("json-file", 18),
    ("logentries", 25),
    ("none", 19),
    ("splunk", 22),
    ("sumologic", 29),
    ("syslog", 18),
];

/// What instance `index` says of itself; custom attributes belong to the first registration alone.
pub(super) fn of(config: &AgentConfig, host: &Host, engine: &EngineVersion, index: u32, first: bool) -> Vec<Attribute> {
    let mut names: Vec<(String, Option<String>)> = Vec::new();
    if first {
        let custom = config.instance_attributes.iter();
        names.extend(custom.map(|(name, value)| (name.clone(), Some(value.clone()))));
    }
    let mut flag = |name: String| names.push((name, None));
    flag("ecs.capability.container-ordering".into());
    flag("ecs.capability.container-restart-policy".into());
    flag("ecs.capability.full-sync".into());
    flag("ecs.capability.private-registry-authentication.secretsmanager".into());
    for provider in ["ssm", "asm"] {
        flag(format!("ecs.capability.secrets.{provider}.environment-variables"));
        flag(format!("ecs.capability.secrets.{provider}.bootstrap.log-driver"));
    }
    flag("ecs.capability.network.container-port-range".into());
    if !config.disable_privileged {
        flag(format!("{CAPABILITY}privileged-container"));
    }
    for minor in remote_api_minors(engine.max_api) {
        flag(format!("{CAPABILITY}docker-remote-api.1.{minor}"));
    }
    for driver in config.logging_drivers.iter().filter(|driver| has_driver(engine, driver)) {
        flag(format!("{CAPABILITY}logging-driver.{driver}"));
    }
    let keeps_awslogs = config.awslogs_as == AwslogsAs::JsonFile;
    if keeps_awslogs && !config.logging_drivers.iter().any(|driver| driver == "awslogs") {
        flag(format!("{CAPABILITY}logging-driver.awslogs"));
    }
    if config.selinux_capable && host.selinux {
        flag(format!("{CAPABILITY}selinux"));
    }
    if config.apparmor_capable && host.apparmor {
        flag(format!("{CAPABILITY}apparmor"));
    }
    if host.task_limits {
        flag("ecs.capability.task-cpu-mem-limit".into());
        flag("ecs.capability.increased-task-cpu-limit".into());
    }
    for driver in &host.volume_drivers {
        // Who asks for a plugin may leave out the tag that stands for none.
        for name in driver.strip_suffix(":latest").into_iter().chain([driver.as_str()]) {
            flag(format!("ecs.capability.docker-plugin.{}", name.replace(':', ".")));
        }
    }
    flag("ecs.capability.pid-ipc-namespace-sharing".into());
    flag("ecs.capability.efs".into());
    flag("ecs.capability.env-files.s3".into());
    if host.task_network.is_some() {
        flag("ecs.capability.task-eni".into());
    }
    if config.engine_is_here() && engine.max_api >= ApiVersion::new(1, 19) {
        flag(format!("{CAPABILITY}ecr-auth"));
        flag(format!("{CAPABILITY}execution-role-ecr-pull"));
    }
    if !config.disable_docker_health_check && engine.max_api >= ApiVersion::new(1, 24) {
        flag("ecs.capability.container-health-check".into());
    }
    if let Some(driver) = &host.gpus.driver {
        flag(format!("ecs.capability.nvidia-driver-version.{driver}"));
    }
    if config.external {
        flag("ecs.capability.external".into());
    }
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    for (name, value) in [
        ("ecs.os-type", "linux"),
        ("ecs.os-family", "LINUX"),
        ("ecs.cpu-architecture", architecture),
        ("longshore.host-id", &host.id),
        ("longshore.agent", AGENT_VERSION),
        ("longshore.instance-index", &index.to_string()),
    ] {
        names.push((name.into(), Some(value.into())));
    }
    let address = host.task_network.and_then(|network| network.address);
    names.extend(address.map(|address| (acs::HOST_ADDRESS.into(), Some(address.to_string()))));
    let driver = host.gpus.driver.iter();
    names.extend(driver.map(|driver| ("ecs.capability.gpu-driver-version".into(), Some(driver.clone()))));
    names.extend(config.sizes.zone.get(index).map(|zone| ("ecs.availability-zone".into(), Some(zone.clone()))));
    // People are to see that these logs are not where the definition says.
    names.extend(keeps_awslogs.then(|| ("longshore.awslogs-as".into(), Some("json-file".into()))));
    names.extend(config.up_id.iter().map(|id| ("longshore.up".into(), Some(id.clone()))));
    names.into_iter().map(|(name, value)| Attribute { name, value, target_id: None, target_type: None }).collect()
}

/// The API versions that ECS has names for, as far as the Engine goes.
fn remote_api_minors(max: ApiVersion) -> impl Iterator<Item = u32> {
    const UNNAMED: [u32; 3] = [26, 27, 31];
    (17..=32).filter(move |minor| !UNNAMED.contains(minor) && ApiVersion::new(1, *minor) <= max)
}

fn has_driver(engine: &EngineVersion, driver: &str) -> bool {
    let since = DRIVERS_SINCE.iter().find(|(name, _)| *name == driver);
    since.is_none_or(|(_, minor)| ApiVersion::new(1, *minor) <= engine.max_api)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::host::TaskNetworkOffer;
    use super::super::tests::{config, engine, host};
    use super::*;

    fn names(env: &[(&str, &str)], engine: &EngineVersion, index: u32, first: bool) -> Vec<String> {
        let text = |attribute: Attribute| match attribute.value {
            Some(value) => format!("{}={value}", attribute.name),
            None => attribute.name,
        };
        let network = TaskNetworkOffer { address: Some(Ipv4Addr::new(192, 0, 2, 7)) };
        of(&config(env), &Host { task_network: Some(network), ..host() }, engine, index, first)
            .into_iter()
            .map(text)
            .collect()
    }

    /// The list that placement sees. What is added here must work: `engine::support` refuses the rest.
    #[test]
    fn golden_list() {
        let env = [
            ("ECS_INSTANCE_ATTRIBUTES", r#"{"rack":"7"}"#),
            ("ECS_AVAILABLE_LOGGING_DRIVERS", r#"["json-file","awslogs","none"]"#),
            ("ECS_EXTERNAL", "true"),
            ("ECS_SELINUX_CAPABLE", "true"),
            ("ECS_APPARMOR_CAPABLE", "true"),
            ("LONGSHORE_INSTANCES", "2"),
            ("LONGSHORE_ZONE", "a,b"),
            ("LONGSHORE_UP_ID", "u"),
        ];
        let expected = "rack=7
            ecs.capability.container-ordering
            ecs.capability.container-restart-policy
            ecs.capability.full-sync
            ecs.capability.private-registry-authentication.secretsmanager
            ecs.capability.secrets.ssm.environment-variables
            ecs.capability.secrets.ssm.bootstrap.log-driver
            ecs.capability.secrets.asm.environment-variables
            ecs.capability.secrets.asm.bootstrap.log-driver
            ecs.capability.network.container-port-range
            com.amazonaws.ecs.capability.privileged-container
            com.amazonaws.ecs.capability.docker-remote-api.1.17
            com.amazonaws.ecs.capability.docker-remote-api.1.18
            com.amazonaws.ecs.capability.docker-remote-api.1.19
            com.amazonaws.ecs.capability.docker-remote-api.1.20
            com.amazonaws.ecs.capability.docker-remote-api.1.21
            com.amazonaws.ecs.capability.docker-remote-api.1.22
            com.amazonaws.ecs.capability.docker-remote-api.1.23
            com.amazonaws.ecs.capability.docker-remote-api.1.24
            com.amazonaws.ecs.capability.docker-remote-api.1.25
            com.amazonaws.ecs.capability.docker-remote-api.1.28
            com.amazonaws.ecs.capability.docker-remote-api.1.29
            com.amazonaws.ecs.capability.docker-remote-api.1.30
            com.amazonaws.ecs.capability.docker-remote-api.1.32
            com.amazonaws.ecs.capability.logging-driver.json-file
            com.amazonaws.ecs.capability.logging-driver.awslogs
            com.amazonaws.ecs.capability.logging-driver.none
            com.amazonaws.ecs.capability.selinux
            ecs.capability.task-cpu-mem-limit
            ecs.capability.increased-task-cpu-limit
            ecs.capability.docker-plugin.local
            ecs.capability.docker-plugin.vieux/sshfs
            ecs.capability.docker-plugin.vieux/sshfs.latest
            ecs.capability.docker-plugin.rexray.1
            ecs.capability.pid-ipc-namespace-sharing
            ecs.capability.efs
            ecs.capability.env-files.s3
            ecs.capability.task-eni
            com.amazonaws.ecs.capability.ecr-auth
            com.amazonaws.ecs.capability.execution-role-ecr-pull
            ecs.capability.container-health-check
            ecs.capability.nvidia-driver-version.535.1
            ecs.capability.external
            ecs.os-type=linux
            ecs.os-family=LINUX
            ecs.cpu-architecture=ARCHITECTURE
            longshore.host-id=host
            longshore.agent=VERSION
            longshore.instance-index=1
            longshore.host-address=192.0.2.7
            ecs.capability.gpu-driver-version=535.1
            ecs.availability-zone=b
            longshore.up=u";
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { std::env::consts::ARCH };
        let expected = expected.replace("ARCHITECTURE", architecture).replace("VERSION", AGENT_VERSION);
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(names(&env, &engine(), 1, true), expected);
        assert_eq!(names(&env, &engine(), 1, false), expected[1..]);
    }

    #[test]
    fn a_host_offers_only_what_it_can() {
        let host = Host { task_limits: false, task_network: None, ..host() };
        let names: Vec<String> =
            of(&config(&[]), &host, &engine(), 0, true).into_iter().map(|attribute| attribute.name).collect();
        for absent in ["ecs.capability.task-cpu-mem-limit", "ecs.capability.task-eni", acs::HOST_ADDRESS] {
            assert!(!names.iter().any(|name| name == absent), "{absent} in {names:?}");
        }
    }

    #[test]
    fn whoever_keeps_awslogs_here_takes_such_tasks_and_says_so() {
        let own = names(&[("LONGSHORE_AWSLOGS_AS", "json-file")], &engine(), 0, false);
        let both = [
            ("LONGSHORE_AWSLOGS_AS", "json-file"),
            ("ECS_AVAILABLE_LOGGING_DRIVERS", r#"["json-file","none","awslogs"]"#),
        ];
        for names in [own, names(&both, &engine(), 0, false)] {
            let count = |name: &str| names.iter().filter(|have| *have == name).count();
            assert_eq!(count("com.amazonaws.ecs.capability.logging-driver.awslogs"), 1);
            assert_eq!(count("longshore.awslogs-as=json-file"), 1);
        }
        assert!(!names(&[], &engine(), 0, false).iter().any(|name| name.contains("awslogs")));
    }

    #[test]
    fn what_is_switched_off_or_too_new_for_the_engine_is_left_out() {
        let old = EngineVersion { max_api: ApiVersion::new(1, 20), ..engine() };
        let env = [("ECS_DISABLE_PRIVILEGED", "true"), ("ECS_AVAILABLE_LOGGING_DRIVERS", r#"["awslogs","syslog"]"#)];
        let names = names(&env, &old, 0, true);
        for absent in
            ["privileged", "awslogs", "health-check", "api.1.21", "selinux", "external", "zone", "longshore.up"]
        {
            assert!(!names.iter().any(|name| name.contains(absent)), "{absent} in {names:?}");
        }
        assert!(names.iter().any(|name| name.ends_with("logging-driver.syslog")));
    }
}
