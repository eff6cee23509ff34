//! The agent's configuration: `ecs.config` files and `ECS_*` variables, as the official agent names them.
//!
//! Order, low to high: built-in defaults, `/var/lib/ecs/ecs.config`, `/etc/ecs/ecs.config` (or the file given),
//! environment. Nothing else in the crate reads a file of configuration or a variable. A value that cannot be meant is
//! an error that names the variable: a misspelt time-out that silently became a default costs somebody an evening.

mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::engine::ImagePullBehavior;
use value::{go_bool, go_duration};

/// Where the installer and the operator put `ecs.config`, low to high.
const DEFAULT_FILES: [&str; 2] = ["/var/lib/ecs/ecs.config", "/etc/ecs/ecs.config"];

/// Log drivers that the Engine may have; a configured name outside this list is a spelling mistake.
const KNOWN_LOGGING_DRIVERS: [&str; 10] =
    ["json-file", "syslog", "journald", "none", "gelf", "fluentd", "awslogs", "splunk", "logentries", "sumologic"];

/// Most identities one process may hold. Each is a registration, two websockets and an engine: a hundred of them is
/// already a simulation of a fleet, not a way to run one.
const MAX_INSTANCES: u32 = 256;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file that was asked for cannot be read.
    #[error("cannot read the configuration file {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A variable has a value that means nothing.
    #[error("{name}={value:?} (from {origin}) is not usable: it must be {expected}")]
    BadValue {
        /// The variable.
        name: &'static str,
        /// Its value as found.
        value: String,
        /// The environment, or the file.
        origin: String,
        /// What would be accepted.
        expected: String,
    },
    /// A variable without which the agent cannot start is missing.
    #[error("{name} is not set: set it to {expected}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
}

/// Keys for signing calls to the control plane.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// Present with temporary keys.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Everything an agent process needs to know before it starts.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Cluster name or ARN, as typed: it travels verbatim.
    pub cluster: String,
    /// Whether somebody named the cluster; the one we fall back to may be created.
    pub cluster_is_set: bool,
    /// Base URL of the ECS API, `http://host:port`, without a trailing slash.
    pub backend_host: String,
    /// Region for signatures.
    pub region: String,
    /// Keys for signatures.
    pub credentials: Credentials,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// Whether state is kept at all.
    pub checkpoint: bool,
    /// The Engine's endpoint, `unix://…` or `tcp://…`.
    pub docker_host: String,
    /// Advertise `ecs.capability.external`.
    pub external: bool,
    /// Container instances this process stands for.
    pub instances: u32,
    /// Overrides the machine id as identity of the host.
    pub host_id: Option<String>,
    /// TCP ports no task may have.
    pub reserved_ports: Vec<u16>,
    /// UDP ports no task may have.
    pub reserved_ports_udp: Vec<u16>,
    /// MiB kept from tasks.
    pub reserved_memory_mib: u64,
    /// Log drivers to advertise.
    pub logging_drivers: Vec<String>,
    /// Do not advertise privileged containers.
    pub disable_privileged: bool,
    /// Custom attributes, for the first registration.
    pub instance_attributes: BTreeMap<String, String>,
    /// Tags of the container instance.
    pub instance_tags: BTreeMap<String, String>,
    /// How long a stopped task's containers are kept.
    pub task_cleanup_wait: Duration,
    /// Grace before SIGKILL when the container names none.
    pub container_stop_timeout: Duration,
    /// Limit on the Engine's `start`.
    pub container_start_timeout: Duration,
    /// Limit on the Engine's `create`.
    pub container_create_timeout: Duration,
    /// When to pull.
    pub image_pull_behavior: ImagePullBehavior,
    /// Limit on a whole pull.
    pub image_pull_timeout: Duration,
    /// Limit on silence during a pull.
    pub image_pull_inactivity_timeout: Duration,
    /// Pull images before `dependsOn` is satisfied.
    pub pull_dependents_upfront: bool,
    /// First and last host port for dynamic ports; none leaves them to Docker's own range.
    pub dynamic_host_port_range: Option<(u16, u16)>,
    /// Leave `::` bindings out of reports.
    pub exclude_ipv6_port_binding: bool,
    /// Do not send telemetry about resources.
    pub disable_metrics: bool,
    /// Do not advertise container health checks, do not send their results.
    pub disable_docker_health_check: bool,
    /// The data directory of the `longshore up` that started this agent: an attribute of its instances.
    pub up_id: Option<String>,
    /// `ECS_LOGLEVEL`, for whoever sets up logging: `error`, `warn`, `info` or `debug`.
    pub log_level: Option<&'static str>,
    /// `ECS_*` variables that were set and have no effect here.
    pub unsupported: Vec<String>,
}

impl AgentConfig {
    /// Reads the configuration. With `config_file` that file alone is read and must exist; without, those of the usual
    /// places that exist. `env` wins over files.
    pub fn load(
        config_file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source::default();
        match config_file {
            Some(path) => source.add_file(path, true)?,
            None => {
                for path in DEFAULT_FILES {
                    source.add_file(Path::new(path), false)?;
                }
            }
        }
        for (name, value) in env {
            source.add(&name, &value, "the environment");
        }
        Self::from_source(source)
    }

    fn from_source(mut source: Source) -> Result<Self, ConfigError> {
        let s = &mut source;
        let datadir = s.text("ECS_DATADIR");
        let mut config = Self {
            cluster_is_set: s.text("ECS_CLUSTER").is_some(),
            cluster: s.text("ECS_CLUSTER").unwrap_or_else(|| "default".into()),
            backend_host: s.backend_host()?,
            region: s.text("AWS_DEFAULT_REGION").or_else(|| s.text("AWS_REGION")).unwrap_or_else(|| "us-east-1".into()),
            credentials: s.credentials()?,
            checkpoint: s.boolean("ECS_CHECKPOINT", true)?,
            data_dir: datadir.map_or_else(|| PathBuf::from("/var/lib/ecs/data"), PathBuf::from),
            docker_host: s.docker_host()?,
            external: s.boolean("ECS_EXTERNAL", false)?,
            instances: s.integer("LONGSHORE_INSTANCES", 1, 1, u64::from(MAX_INSTANCES))? as u32,
            host_id: s.text("LONGSHORE_HOST_ID"),
            reserved_ports: s.json(
                "ECS_RESERVED_PORTS",
                "a JSON list of port numbers",
                vec![22, 2375, 2376, 51678, 51679],
            )?,
            reserved_ports_udp: s.json("ECS_RESERVED_PORTS_UDP", "a JSON list of port numbers", Vec::new())?,
            reserved_memory_mib: s.integer("ECS_RESERVED_MEMORY", 0, 0, u64::from(u32::MAX))?,
            logging_drivers: s.logging_drivers()?,
            disable_privileged: s.boolean("ECS_DISABLE_PRIVILEGED", false)?,
            instance_attributes: s.json("ECS_INSTANCE_ATTRIBUTES", "a JSON object of strings", BTreeMap::new())?,
            instance_tags: s.json("ECS_CONTAINER_INSTANCE_TAGS", "a JSON object of strings", BTreeMap::new())?,
            task_cleanup_wait: s.duration("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", 3 * HOUR, 1)?,
            container_stop_timeout: s.duration("ECS_CONTAINER_STOP_TIMEOUT", 30, 1)?,
            container_start_timeout: s.duration("ECS_CONTAINER_START_TIMEOUT", 3 * MINUTE, 45)?,
            container_create_timeout: s.duration("ECS_CONTAINER_CREATE_TIMEOUT", 4 * MINUTE, MINUTE)?,
            image_pull_behavior: s.image_pull_behavior()?,
            image_pull_timeout: s.duration("ECS_IMAGE_PULL_TIMEOUT", 2 * HOUR, 1)?,
            image_pull_inactivity_timeout: s.duration("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", MINUTE, MINUTE)?,
            pull_dependents_upfront: s.boolean("ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", false)?,
            dynamic_host_port_range: s.dynamic_host_port_range()?,
            exclude_ipv6_port_binding: s.boolean("ECS_EXCLUDE_IPV6_PORTBINDING", true)?,
            disable_metrics: s.boolean("ECS_DISABLE_METRICS", false)?,
            disable_docker_health_check: s.boolean("ECS_DISABLE_DOCKER_HEALTH_CHECK", false)?,
            up_id: s.text("LONGSHORE_UP_ID"),
            log_level: s.log_level()?,
            unsupported: Vec::new(),
        };
        config.unsupported = source.untouched();
        Ok(config)
    }
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// Values with where they came from, and which of them somebody asked for.
#[derive(Default)]
struct Source {
    values: BTreeMap<String, (String, String)>,
    asked: BTreeSet<&'static str>,
}

impl Source {
    fn add(&mut self, name: &str, value: &str, origin: &str) {
        self.values.insert(name.to_owned(), (value.to_owned(), origin.to_owned()));
    }

    /// One `KEY=VALUE` per line, split at the first `=`, trimmed; no quotes, no comments: a line without `=` is
    /// skipped. That is how the official tooling reads the file.
    fn add_file(&mut self, path: &Path, required: bool) -> Result<(), ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(source) => {
                return Err(ConfigError::Unreadable { path: path.to_owned(), source });
            }
        };
        let origin = path.display().to_string();
        for line in text.lines() {
            if let Some((name, value)) = line.split_once('=') {
                self.add(name.trim(), value.trim(), &origin);
            }
        }
        Ok(())
    }

    /// The value, if it is set to something.
    fn text(&mut self, name: &'static str) -> Option<String> {
        self.asked.insert(name);
        let (value, _) = self.values.get(name)?;
        (!value.is_empty()).then(|| value.clone())
    }

    fn parsed<T>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        match self.text(name) {
            None => Ok(default),
            Some(value) => parse(&value).map_err(|expected| self.bad(name, expected)),
        }
    }

    fn bad(&self, name: &'static str, expected: String) -> ConfigError {
        let (value, origin) = self.values.get(name).cloned().unwrap_or_default();
        ConfigError::BadValue { name, value, origin, expected }
    }

    fn boolean(&mut self, name: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.parsed(name, default, |text| go_bool(text).map_err(str::to_owned))
    }

    fn duration(&mut self, name: &'static str, default_s: u64, min_s: u64) -> Result<Duration, ConfigError> {
        self.parsed(name, Duration::from_secs(default_s), |text| {
            let duration = go_duration(text).map_err(str::to_owned)?;
            if duration < Duration::from_secs(min_s) {
                return Err(format!("at least {min_s}s"));
            }
            Ok(duration)
        })
    }

    fn integer(&mut self, name: &'static str, default: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
        self.parsed(name, default, |text| match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(format!("a whole number from {min} to {max}")),
        })
    }

    fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        default: T,
    ) -> Result<T, ConfigError> {
        self.parsed(name, default, |text| serde_json::from_str(text).map_err(|error| format!("{expected} ({error})")))
    }

    fn logging_drivers(&mut self) -> Result<Vec<String>, ConfigError> {
        const NAME: &str = "ECS_AVAILABLE_LOGGING_DRIVERS";
        let drivers: Vec<String> =
            self.json(NAME, "a JSON list of strings", vec!["json-file".into(), "none".into()])?;
        match drivers.iter().find(|driver| !KNOWN_LOGGING_DRIVERS.contains(&driver.as_str())) {
            None => Ok(drivers),
            Some(_) => Err(self.bad(NAME, format!("a JSON list out of {}", KNOWN_LOGGING_DRIVERS.join(", ")))),
        }
    }

    fn image_pull_behavior(&mut self) -> Result<ImagePullBehavior, ConfigError> {
        self.parsed("ECS_IMAGE_PULL_BEHAVIOR", ImagePullBehavior::Default, |text| match text {
            "default" => Ok(ImagePullBehavior::Default),
            "always" => Ok(ImagePullBehavior::Always),
            "once" => Ok(ImagePullBehavior::Once),
            "prefer-cached" => Ok(ImagePullBehavior::PreferCached),
            _ => Err("default, always, once or prefer-cached".into()),
        })
    }

    fn log_level(&mut self) -> Result<Option<&'static str>, ConfigError> {
        self.parsed("ECS_LOGLEVEL", None, |text| match text.to_ascii_lowercase().as_str() {
            "crit" | "error" => Ok(Some("error")),
            "warn" => Ok(Some("warn")),
            "info" => Ok(Some("info")),
            "debug" => Ok(Some("debug")),
            _ => Err("crit, error, warn, info or debug".into()),
        })
    }

    fn dynamic_host_port_range(&mut self) -> Result<Option<(u16, u16)>, ConfigError> {
        self.parsed("ECS_DYNAMIC_HOST_PORT_RANGE", None, |text| {
            let range = text
                .split_once('-')
                .and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)));
            match range {
                Some((low, high)) if 0 < low && low <= high => Ok(Some((low, high))),
                _ => Err("low-high, two ports in rising order".into()),
            }
        })
    }

    fn backend_host(&mut self) -> Result<String, ConfigError> {
        const NAME: &str = "ECS_BACKEND_HOST";
        let value = self.text(NAME).ok_or(ConfigError::Missing {
            name: NAME,
            expected: "the control plane's URL, for example http://10.0.0.5:8470",
        })?;
        // The official agent takes a value without a scheme as https; so do we, and then refuse it for what it is.
        let usable = value
            .strip_prefix("http://")
            .is_some_and(|rest| rest.parse::<http::uri::Authority>().is_ok() || authority_ok(rest));
        if !usable {
            return Err(
                self.bad(NAME, "an http:// URL with its scheme (TLS to the control plane is not supported yet)".into())
            );
        }
        Ok(value.trim_end_matches('/').to_owned())
    }

    fn credentials(&mut self) -> Result<Credentials, ConfigError> {
        let mut required =
            |name: &'static str, expected: &'static str| self.text(name).ok_or(ConfigError::Missing { name, expected });
        Ok(Credentials {
            access_key_id: required("AWS_ACCESS_KEY_ID", "the access key id the control plane gave this machine")?,
            secret_access_key: required(
                "AWS_SECRET_ACCESS_KEY",
                "the secret access key that belongs to AWS_ACCESS_KEY_ID",
            )?,
            session_token: self.text("AWS_SESSION_TOKEN"),
        })
    }

    fn docker_host(&mut self) -> Result<String, ConfigError> {
        self.parsed("DOCKER_HOST", "unix:///var/run/docker.sock".to_owned(), |text| {
            if text.starts_with("unix:///") || text.starts_with("tcp://") {
                Ok(text.to_owned())
            } else {
                Err("unix:///path or tcp://host:port".into())
            }
        })
    }

    /// `ECS_*` variables with a value that nobody asked for.
    fn untouched(self) -> Vec<String> {
        self.values
            .into_iter()
            .filter(|(name, (value, _))| {
                name.starts_with("ECS_") && !value.is_empty() && !self.asked.contains(name.as_str())
            })
            .map(|(name, _)| name)
            .collect()
    }
}

/// `host:port/` and nothing after the slash.
fn authority_ok(rest: &str) -> bool {
    rest.strip_suffix('/').is_some_and(|authority| authority.parse::<http::uri::Authority>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: [(&str, &str); 3] = [
        ("ECS_BACKEND_HOST", "http://127.0.0.1:8080/"),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
    ];

    fn load(file: &str, env: &[(&str, &str)]) -> Result<AgentConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ecs.config");
        std::fs::write(&path, file).unwrap();
        let env = BASE
            .iter()
            .filter(|(name, _)| !env.iter().any(|(other, _)| other == name))
            .chain(env)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AgentConfig::load(Some(&path), env)
    }

    fn error(env: &[(&str, &str)]) -> String {
        load("", env).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_the_official_agent() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.cluster, "default");
        assert_eq!(config.backend_host, "http://127.0.0.1:8080");
        assert_eq!(config.region, "us-east-1");
        assert_eq!(config.reserved_ports, [22, 2375, 2376, 51678, 51679]);
        assert_eq!(config.logging_drivers, ["json-file", "none"]);
        assert_eq!(config.task_cleanup_wait, Duration::from_secs(10800));
        assert_eq!(config.container_stop_timeout, Duration::from_secs(30));
        assert_eq!(config.image_pull_behavior, ImagePullBehavior::Default);
        assert_eq!(config.instances, 1);
        assert!(config.checkpoint && config.exclude_ipv6_port_binding && !config.external);
        assert_eq!(config.unsupported, Vec::<String>::new());
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
        assert!(error(&[("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "1s")]).contains("at least 60s"));
        assert!(error(&[("ECS_EXTERNAL", "yes")]).contains("true or false"));
        assert!(error(&[("ECS_RESERVED_PORTS", "[70000]")]).contains("ECS_RESERVED_PORTS"));
        assert!(error(&[("ECS_AVAILABLE_LOGGING_DRIVERS", "[\"jsonfile\"]")]).contains("json-file"));
        assert!(error(&[("ECS_IMAGE_PULL_BEHAVIOR", "never")]).contains("prefer-cached"));
        assert!(error(&[("LONGSHORE_INSTANCES", "0")]).contains("from 1 to 256"));
        assert!(error(&[("ECS_BACKEND_HOST", "")]).contains("ECS_BACKEND_HOST is not set"));
        assert!(error(&[("ECS_BACKEND_HOST", "10.0.0.1:80")]).contains("http://"));
        assert!(error(&[("ECS_BACKEND_HOST", "https://x")]).contains("TLS"));
        assert!(error(&[("AWS_SECRET_ACCESS_KEY", "")]).contains("AWS_SECRET_ACCESS_KEY"));
        assert!(error(&[("ECS_DYNAMIC_HOST_PORT_RANGE", "9-8")]).contains("low-high"));
        assert!(error(&[("DOCKER_HOST", "ssh://x")]).contains("unix:///"));
        assert!(error(&[("ECS_LOGLEVEL", "loud")]).contains("crit, error"));
    }

    #[test]
    fn log_levels_are_those_of_the_official_agent() {
        for (given, expected) in [("crit", "error"), ("WARN", "warn"), ("debug", "debug")] {
            assert_eq!(load("", &[("ECS_LOGLEVEL", given)]).unwrap().log_level, Some(expected));
        }
        assert_eq!(load("", &[]).unwrap().log_level, None);
    }

    #[test]
    fn variables_without_effect_are_listed_once() {
        let config =
            load("ECS_ENABLE_TASK_ENI=true\nECS_GPU=\n", &[("ECS_ENABLE_TASK_ENI", "false"), ("ECS_TYPO", "1")])
                .unwrap();
        assert_eq!(config.unsupported, ["ECS_ENABLE_TASK_ENI", "ECS_TYPO"]);
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let config = load("", &[("AWS_SESSION_TOKEN", "hush-token")]).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist() {
        let error = AgentConfig::load(Some(Path::new("/nonexistent/ecs.config")), []).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/ecs.config"));
    }
}
