//! What a configuration becomes, and which ones are refused.

use std::path::Path;

use super::*;

const BASE: [(&str, &str); 3] =
    [("ECS_BACKEND_HOST", "http://127.0.0.1:8080/"), ("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hush")];

/// With the variables that no agent can do without, unless they are given.
fn load(file: &str, env: &[(&str, &str)]) -> Result<AgentConfig, ConfigError> {
    let base = BASE.iter().filter(|(name, _)| !env.iter().any(|(other, _)| other == name));
    load_bare(file, &base.chain(env).copied().collect::<Vec<_>>())
}

fn load_bare(file: &str, env: &[(&str, &str)]) -> Result<AgentConfig, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("given.config");
    std::fs::write(&path, file).unwrap();
    let data_dir = dir.path().join("data").display().to_string();
    let base = [("ECS_DATADIR", data_dir.as_str())];
    let env = base.iter().filter(|(name, _)| !env.iter().any(|(other, _)| other == name)).chain(env);
    AgentConfig::load(Some(&path), env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[track_caller]
fn error(env: &[(&str, &str)]) -> String {
    load("", env).unwrap_err().to_string()
}

fn unsupported(config: &AgentConfig) -> Vec<&str> {
    config.unsupported.iter().map(|variable| variable.name.as_str()).collect()
}

#[test]
fn defaults_are_those_of_the_official_agent() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.cluster, "default");
    assert_eq!(config.backend_host, "http://127.0.0.1:8080");
    assert_eq!(config.region, "us-east-1");
    assert_eq!(config.reserved_ports, [22, 2375, 2376, 51678, 51679]);
    assert_eq!(config.logging_drivers, ["json-file", "none"]);
    assert_eq!(config.awslogs_as, AwslogsAs::Awslogs);
    assert_eq!(config.disk.min_free_mib, None);
    assert_eq!((config.notice.file, config.notice.hook), (None, None));
    assert_eq!(config.task_cleanup_wait, Duration::from_secs(10800));
    assert_eq!(config.task_cleanup_jitter, Duration::ZERO);
    assert_eq!(config.container_stop_timeout, Duration::from_secs(30));
    assert_eq!(config.manifest_pull_timeout, Duration::from_secs(60));
    assert_eq!(config.image_pull_behavior, ImagePullBehavior::Default);
    assert_eq!(config.instances, 1);
    assert!(config.checkpoint && config.exclude_ipv6_port_binding && !config.external);
    let cleanup = ImageCleanupConfig {
        disabled: false,
        interval: Duration::from_secs(1800),
        minimum_age: Duration::from_secs(3600),
        delete_per_cycle: 5,
        untracked: false,
        non_ecs_minimum_age: Duration::from_secs(3600),
        non_ecs_containers_per_cycle: 5,
        exclude: Vec::new(),
    };
    assert_eq!(config.image_cleanup, cleanup);
    let log = LogConfig {
        file: None,
        level: None,
        level_on_instance: None,
        rollover: LogRollover::Size,
        format: LogFormat::Logfmt,
        max_file_size_mb: 5.0,
        max_roll_count: 24,
    };
    assert_eq!(config.log, log);
    assert_eq!(config.sizes.cpu, PerInstance::Unset);
    assert!(config.unsupported.is_empty() && config.warnings.is_empty());
}

/// Every variable that a replacement of the official agent should know, with a value that asks for something, and whether it
/// has an effect here. One that is neither honoured nor told about would be a setting that is silently ignored.
#[test]
fn every_variable_is_honoured_or_told_about() {
    const HONOURED: bool = true;
    const TOLD: bool = false;
    for (name, value, expected) in [
        ("ECS_CLUSTER", "prod", HONOURED),
        ("ECS_BACKEND_HOST", "https://h:1", HONOURED),
        ("AWS_DEFAULT_REGION", "eu-west-1", HONOURED),
        ("AWS_REGION", "eu-west-1", HONOURED),
        ("ECS_EXTERNAL", "true", HONOURED),
        ("DOCKER_HOST", "tcp://127.0.0.1:2375", HONOURED),
        ("ECS_DATADIR", "/nonexistent", HONOURED),
        ("ECS_CHECKPOINT", "false", HONOURED),
        ("ECS_HOST_DATA_DIR", "/var/lib/ecs", TOLD),
        ("ECS_RESERVED_PORTS", "[22]", HONOURED),
        ("ECS_RESERVED_PORTS_UDP", "[53]", HONOURED),
        ("ECS_RESERVED_MEMORY", "64", HONOURED),
        ("ECS_AVAILABLE_LOGGING_DRIVERS", "[\"awslogs\"]", HONOURED),
        ("ECS_DISABLE_PRIVILEGED", "true", HONOURED),
        ("ECS_SELINUX_CAPABLE", "true", HONOURED),
        ("ECS_APPARMOR_CAPABLE", "true", HONOURED),
        ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "1m", HONOURED),
        ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", "1m", HONOURED),
        ("ECS_CONTAINER_STOP_TIMEOUT", "1m", HONOURED),
        ("ECS_CONTAINER_START_TIMEOUT", "1m", HONOURED),
        ("ECS_CONTAINER_CREATE_TIMEOUT", "1m", HONOURED),
        ("ECS_MANIFEST_PULL_TIMEOUT", "30s", HONOURED),
        ("ECS_IMAGE_PULL_BEHAVIOR", "once", HONOURED),
        ("ECS_IMAGE_PULL_TIMEOUT", "1h", HONOURED),
        ("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "2m", HONOURED),
        ("ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", "true", HONOURED),
        ("ECS_DISABLE_IMAGE_CLEANUP", "true", HONOURED),
        ("ECS_IMAGE_CLEANUP_INTERVAL", "10m", HONOURED),
        ("ECS_IMAGE_MINIMUM_CLEANUP_AGE", "2h", HONOURED),
        ("ECS_NUM_IMAGES_DELETE_PER_CYCLE", "1", HONOURED),
        ("ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP", "true", HONOURED),
        ("NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE", "2h", HONOURED),
        ("NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE", "1", HONOURED),
        ("ECS_EXCLUDE_UNTRACKED_IMAGE", "alpine:latest", HONOURED),
        ("ECS_INSTANCE_ATTRIBUTES", "{\"a\":\"b\"}", HONOURED),
        ("ECS_CONTAINER_INSTANCE_TAGS", "{\"a\":\"b\"}", HONOURED),
        ("ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", "ec2_instance", TOLD),
        ("ECS_ENABLE_TASK_IAM_ROLE", "true", TOLD),
        ("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", "true", TOLD),
        ("ECS_ENABLE_TASK_CPU_MEM_LIMIT", "true", HONOURED),
        ("ECS_CGROUP_PATH", "/sys/fs/cgroup", HONOURED),
        ("ECS_CGROUP_CPU_PERIOD", "50ms", TOLD),
        ("ECS_TASK_PIDS_LIMIT", "100", HONOURED),
        ("ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2", "true", TOLD),
        ("ECS_DYNAMIC_HOST_PORT_RANGE", "4000-5000", HONOURED),
        ("ECS_EXCLUDE_IPV6_PORTBINDING", "false", HONOURED),
        ("ECS_ENABLE_CONTAINER_METADATA", "true", TOLD),
        ("ECS_TASK_METADATA_RPS_LIMIT", "1,2", TOLD),
        ("ECS_DISABLE_METRICS", "true", HONOURED),
        ("ECS_POLL_METRICS", "true", TOLD),
        ("ECS_POLLING_METRICS_WAIT_DURATION", "20s", TOLD),
        ("ECS_DISABLE_DOCKER_HEALTH_CHECK", "true", HONOURED),
        ("ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", "true", HONOURED),
        ("ECS_ENABLE_SPOT_INSTANCE_DRAINING", "true", TOLD),
        ("ECS_ENABLE_GPU_SUPPORT", "true", HONOURED),
        ("ECS_NVIDIA_RUNTIME", "nvidia", HONOURED),
        ("ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE", "true", TOLD),
        ("ECS_ENABLE_TASK_ENI", "false", HONOURED),
        ("ECS_CNI_PLUGINS_PATH", "/cni", TOLD),
        ("ECS_AWSVPC_BLOCK_IMDS", "true", TOLD),
        ("ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES", "[]", TOLD),
        ("ECS_ENABLE_HIGH_DENSITY_ENI", "true", TOLD),
        ("ECS_UPDATES_ENABLED", "true", TOLD),
        ("ECS_UPDATE_DOWNLOAD_DIR", "/tmp", TOLD),
        ("ECS_ENGINE_AUTH_TYPE", "docker", HONOURED),
        ("ECS_ENGINE_AUTH_DATA", "{}", HONOURED),
        ("ECS_LOGLEVEL", "debug", HONOURED),
        ("ECS_LOGLEVEL_ON_INSTANCE", "warn", HONOURED),
        ("ECS_LOGFILE", "/var/log/ecs/ecs-agent.log", HONOURED),
        ("ECS_LOG_ROLLOVER_TYPE", "hourly", HONOURED),
        ("ECS_LOG_OUTPUT_FORMAT", "json", HONOURED),
        ("ECS_LOG_MAX_FILE_SIZE_MB", "0.5", HONOURED),
        ("ECS_LOG_MAX_ROLL_COUNT", "3", HONOURED),
        ("ECS_LOG_DRIVER", "awslogs", TOLD),
        ("ECS_LOG_OPTS", "{}", TOLD),
        ("ECS_AUDIT_LOGFILE", "/log/audit.log", TOLD),
        ("ECS_AUDIT_LOGFILE_DISABLED", "false", TOLD),
        ("HTTP_PROXY", "http://p:1", HONOURED),
        ("HTTPS_PROXY", "http://p:1", HONOURED),
        ("NO_PROXY", "h", HONOURED),
        ("http_proxy", "http://p:1", HONOURED),
        ("https_proxy", "http://p:1", HONOURED),
        ("no_proxy", "h", HONOURED),
        ("AWS_ACCESS_KEY_ID", "AKIA", HONOURED),
        ("AWS_SECRET_ACCESS_KEY", "hush", HONOURED),
        ("AWS_SESSION_TOKEN", "t", HONOURED),
        ("AWS_PROFILE", "p", HONOURED),
        ("AWS_SHARED_CREDENTIALS_FILE", "/f", HONOURED),
        ("AWS_EC2_METADATA_DISABLED", "false", HONOURED),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://h", HONOURED),
        ("AWS_ENDPOINT_URL", "http://h:1", HONOURED),
        ("AWS_ENDPOINT_URL_ECS", "http://h:1", HONOURED),
        ("SSL_CERT_FILE", "/f", HONOURED),
        ("SSL_CERT_DIR", "/d", HONOURED),
        ("LONGSHORE_CA_FILE", "/f", HONOURED),
        ("LONGSHORE_EFS_HOSTS", "{\"fs-1\":\"nas\"}", HONOURED),
        ("LONGSHORE_ENVIRONMENT_FILE_BUCKETS", "conf, more.conf", HONOURED),
        ("LONGSHORE_INSTANCES", "2", HONOURED),
        ("LONGSHORE_CPU", "256", HONOURED),
        ("LONGSHORE_MEMORY", "256", HONOURED),
        ("LONGSHORE_ZONE", "a", HONOURED),
        ("LONGSHORE_HOST_ID", "h", HONOURED),
        ("LONGSHORE_HOST_ADDRESS", "192.0.2.7", HONOURED),
        ("LONGSHORE_UP_ID", "u", HONOURED),
        ("LONGSHORE_REGISTRY_PORT", "0", HONOURED),
        ("LONGSHORE_AWSLOGS_AS", "json-file", HONOURED),
        ("LONGSHORE_DISK_MIN_FREE", "500", HONOURED),
        ("LONGSHORE_TERMINATION_NOTICE_FILE", "/run/notice", HONOURED),
        ("LONGSHORE_TERMINATION_NOTICE_HOOK", "/bin/notice", HONOURED),
        ("LONGSHORE_TERMINATION_NOTICE_INTERVAL", "2s", HONOURED),
        // Not in the list, but somebody's mistake.
        ("ECS_CLUSTR", "prod", TOLD),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().display().to_string();
        let auth = [("ECS_ENGINE_AUTH_TYPE", "docker"), ("ECS_ENGINE_AUTH_DATA", "{}")];
        let base = [("ECS_DATADIR", dir.as_str())];
        let asked = [(name, value)];
        let env = BASE.iter().chain(&base).chain(&auth).chain(&asked);
        let env = env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut source = Source::load(&ConfigFiles::from(Some("/dev/null")), env).unwrap();
        let config = AgentConfig::read(&mut source).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(source.unasked().all(|(unasked, _)| unasked != name), expected, "{name}: whether it is read");
        assert_eq!(!unsupported(&config).contains(&name), expected, "{name}: whether it is told about");
    }
}

#[test]
fn a_variable_that_asks_for_what_is_done_anyway_is_not_told_about() {
    let config = load(
        "ECS_AWSVPC_BLOCK_IMDS=true\nECS_GPU=\nECS_POLL_METRICS=false\n",
        &[
            ("ECS_AWSVPC_BLOCK_IMDS", "false"),
            ("ECS_TYPO", "1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(unsupported(&config), ["ECS_TYPO"]);
    let config = load("ECS_AWSVPC_BLOCK_IMDS=true", &[]).unwrap();
    assert!(config.unsupported[0].to_string().contains("awsvpc"));
}

#[test]
fn environment_wins_over_the_file_and_lines_without_equals_are_skipped() {
    let file = "# a heading\nECS_CLUSTER = from-file \nnonsense\nECS_INSTANCE_ATTRIBUTES={\"a\":\"b=c\"}\r\nECS_CONTAINER_STOP_TIMEOUT=1m\n";
    let config = load(file, &[("ECS_CONTAINER_STOP_TIMEOUT", "2m")]).unwrap();
    assert_eq!(config.cluster, "from-file");
    assert_eq!(config.instance_attributes["a"], "b=c");
    assert_eq!(config.container_stop_timeout, Duration::from_secs(120));
}

#[test]
fn what_was_saved_in_the_data_directory_comes_last() {
    let dir = tempfile::tempdir().unwrap();
    let saved = "ECS_CLUSTER=saved\nLONGSHORE_ZONE=saved\nECS_DATADIR=/elsewhere\nECS_RESERVED_MEMORY=7\n";
    std::fs::write(dir.path().join("ecs.config"), saved).unwrap();
    let data_dir = dir.path().display().to_string();
    let config = load("LONGSHORE_ZONE=file\n", &[("ECS_DATADIR", &data_dir), ("ECS_CLUSTER", "environment")]).unwrap();
    assert_eq!((config.cluster.as_str(), config.reserved_memory_mib), ("environment", 7));
    assert_eq!(config.sizes.zone, PerInstance::All("file".into()));
    assert_eq!(config.data_dir, dir.path());
}

#[test]
fn an_empty_value_is_no_value() {
    let config = load("ECS_CLUSTER=\n", &[("ECS_CHECKPOINT", "")]).unwrap();
    assert_eq!(config.cluster, "default");
    assert!(config.checkpoint);
}

#[test]
fn bad_values_name_variable_value_and_what_would_do() {
    let message = error(&[("ECS_CONTAINER_STOP_TIMEOUT", "soon")]);
    assert!(
        message.contains("ECS_CONTAINER_STOP_TIMEOUT=\"soon\"")
            && message.contains("30s")
            && message.contains("environment"),
        "{message}"
    );
    for (name, value, part) in [
        ("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "1s", "at least 60s"),
        ("ECS_IMAGE_CLEANUP_INTERVAL", "9m", "at least 600s"),
        ("ECS_MANIFEST_PULL_TIMEOUT", "29s", "at least 30s"),
        ("ECS_NUM_IMAGES_DELETE_PER_CYCLE", "0", "from 1"),
        ("ECS_EXTERNAL", "yes", "true or false"),
        ("ECS_RESERVED_PORTS", "[70000]", "ECS_RESERVED_PORTS"),
        ("ECS_AVAILABLE_LOGGING_DRIVERS", "[\"jsonfile\"]", "json-file"),
        ("ECS_IMAGE_PULL_BEHAVIOR", "never", "prefer-cached"),
        ("LONGSHORE_INSTANCES", "0", "from 1 to 256"),
        ("LONGSHORE_AWSLOGS_AS", "syslog", "must be json-file"),
        ("LONGSHORE_DISK_MIN_FREE", "5%", "MiB to leave free"),
        ("LONGSHORE_EFS_HOSTS", "{\"fs-1\":\"nas,soft\"}", "host names or addresses"),
        ("LONGSHORE_ENVIRONMENT_FILE_BUCKETS", "conf/fleet", "names of buckets"),
        ("LONGSHORE_TERMINATION_NOTICE_FILE", "notice", "absolute path"),
        ("LONGSHORE_TERMINATION_NOTICE_INTERVAL", "100ms", "at least 1s"),
        ("ECS_BACKEND_HOST", "", "ECS_BACKEND_HOST is not set"),
        ("ECS_BACKEND_HOST", "", "longshore agent join"),
        ("ECS_BACKEND_HOST", "ftp://x", "https://host:port"),
        ("ECS_BACKEND_HOST", "https://x/path", "https://host:port"),
        ("AWS_SECRET_ACCESS_KEY", "", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_ACCESS_KEY_ID", "", "AWS_ACCESS_KEY_ID"),
        ("ECS_DYNAMIC_HOST_PORT_RANGE", "9-8", "low-high"),
        ("DOCKER_HOST", "ssh://x", "unix:///"),
        ("ECS_LOGLEVEL", "loud", "crit, error"),
        ("ECS_LOG_ROLLOVER_TYPE", "daily", "hourly"),
        ("ECS_LOG_OUTPUT_FORMAT", "xml", "logfmt"),
        ("ECS_LOG_MAX_FILE_SIZE_MB", "-1", "megabytes"),
        ("HTTPS_PROXY", "socks5://user:secret@p", "http://proxy:3128"),
        ("http_proxy", "https://p", "http_proxy"),
    ] {
        let message = error(&[(name, value)]);
        assert!(message.contains(part) && message.contains(name), "{name}: {message}");
        assert!(!message.contains("secret@"), "{message}");
    }
}

#[test]
fn a_server_without_a_scheme_is_reached_with_tls_as_the_official_agent_does() {
    for (given, expected) in [
        ("10.0.0.1:80", "https://10.0.0.1:80"),
        ("server.example", "https://server.example"),
        ("https://[::1]:8470/", "https://[::1]:8470"),
    ] {
        assert_eq!(load("", &[("ECS_BACKEND_HOST", given)]).unwrap().backend_host, expected);
    }
    let by_the_way = [("AWS_ENDPOINT_URL", "http://all:1"), ("AWS_ENDPOINT_URL_ECS", "http://ecs:1")];
    assert_eq!(load("", &by_the_way).unwrap().backend_host, "http://127.0.0.1:8080");
    let without = |names: &[(&str, &str)]| load_bare("", &[&BASE[1..], names].concat()).unwrap().backend_host;
    assert_eq!(without(&by_the_way), "http://ecs:1");
    assert_eq!(without(&by_the_way[..1]), "http://all:1");
}

#[test]
fn sizes_are_one_for_all_or_one_for_each() {
    let config = load(
        "",
        &[
            ("LONGSHORE_INSTANCES", "3"),
            ("LONGSHORE_CPU", "1024"),
            ("LONGSHORE_MEMORY", "256, 512,1024"),
            ("LONGSHORE_ZONE", "a,b,a"),
        ],
    )
    .unwrap();
    let all = |get: &dyn Fn(u32) -> String| [get(0), get(1), get(2)].join(" ");
    assert_eq!(all(&|index| config.sizes.cpu.get(index).unwrap().to_string()), "1024 1024 1024");
    assert_eq!(all(&|index| config.sizes.memory_mib.get(index).unwrap().to_string()), "256 512 1024");
    assert_eq!(all(&|index| config.sizes.zone.get(index).unwrap().clone()), "a b a");
    assert_eq!(load("", &[]).unwrap().sizes.cpu.get(0), None);
    for (name, value, part) in [
        ("LONGSHORE_CPU", "1024,512", "a list of 3 (LONGSHORE_INSTANCES), not of 2"),
        ("LONGSHORE_CPU", "1024,,512", "list of"),
        ("LONGSHORE_CPU", "2", "1024 for each CPU, at least 128"),
        ("LONGSHORE_CPU", "256,two,256", "\"two\""),
        ("LONGSHORE_MEMORY", "1", "at least 6"),
        ("LONGSHORE_ZONE", "a b", "letters"),
    ] {
        let message = error(&[("LONGSHORE_INSTANCES", "3"), (name, value)]);
        assert!(message.contains(part) && message.contains(name), "{message}");
    }
}

#[test]
fn keys_may_come_from_the_aws_credentials_file() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let file = home.path().join(".aws/credentials");
    std::fs::write(
        &file,
        "[default]\naws_access_key_id=A\naws_secret_access_key=a\n[p]\naws_access_key_id=B\naws_secret_access_key=b\n",
    )
    .unwrap();
    let (home, file) = (home.path().display().to_string(), file.display().to_string());
    let key = |env: &[(&str, &str)]| {
        let base = [("ECS_BACKEND_HOST", "http://h:1")];
        load_bare("", &[&base, env].concat()).map(|config| config.credentials.access_key_id)
    };
    assert_eq!(key(&[("HOME", &home)]).unwrap(), "A");
    assert_eq!(key(&[("HOME", &home), ("AWS_PROFILE", "p")]).unwrap(), "B");
    assert_eq!(key(&[("AWS_SHARED_CREDENTIALS_FILE", &file), ("AWS_PROFILE", "p")]).unwrap(), "B");
    assert_eq!(key(&[("HOME", &home), ("AWS_ACCESS_KEY_ID", "C"), ("AWS_SECRET_ACCESS_KEY", "c")]).unwrap(), "C");
    let message = |env: &[(&str, &str)]| key(env).unwrap_err().to_string();
    assert!(message(&[("HOME", &home), ("AWS_PROFILE", "x")]).contains("profile \"x\""));
    assert!(message(&[("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")]).contains("/nonexistent"));
    assert!(message(&[("HOME", "/nonexistent")]).contains("AWS_ACCESS_KEY_ID is not set"));
}

#[test]
fn log_levels_are_those_of_the_official_agent() {
    for (given, expected) in [("crit", "error"), ("WARN", "warn"), ("debug", "debug"), ("none", "off")] {
        let log = load("", &[("ECS_LOGLEVEL", given), ("ECS_LOGLEVEL_ON_INSTANCE", given)]).unwrap().log;
        assert_eq!((log.level.unwrap().as_str(), log.level_on_instance.unwrap().as_str()), (expected, expected));
    }
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let config = load(
        "",
        &[
            ("AWS_SESSION_TOKEN", "hush-token"),
            ("HTTPS_PROXY", "http://user:hush@p:1"),
            ("ECS_ENGINE_AUTH_TYPE", "docker"),
            ("ECS_ENGINE_AUTH_DATA", r#"{"r":{"username":"u","password":"hush"}}"#),
        ],
    )
    .unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let error = AgentConfig::load(Some(Path::new("/nonexistent/ecs.config")), []).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ecs.config"));
}

#[test]
fn secrets_are_elsewhere_only_if_another_endpoint_is_named() {
    let own = load("", &[("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:8080")]).unwrap().secrets;
    assert_eq!((own.ssm, own.secrets_manager), (None, None));
    let foreign = load("AWS_ENDPOINT_URL_SECRETS_MANAGER=https://asm.example:443\n", &[]).unwrap().secrets;
    assert_eq!((foreign.ssm, foreign.secrets_manager.as_deref()), (None, Some("https://asm.example:443")));
    assert!(error(&[("AWS_ENDPOINT_URL_SSM", "ftp://x")]).contains("AWS_ENDPOINT_URL_SSM"));
}
