//! Registration: what this machine has and can do, told to the control plane, and what it is called since.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use longshore_api::ecs::types::{
    Attribute, RegisterContainerInstanceRequest, RegisterContainerInstanceResponse, Resource, Tag, VersionInfo,
};
use longshore_wire::request_id::RequestId;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::api_client::{ApiClient, CallError};
use crate::backoff::Backoff;
use crate::config::AgentConfig;
use crate::engine::HostResources;
use crate::engine::docker::{ApiVersion, EngineVersion};
use crate::session::{AGENT_HASH, AGENT_VERSION};

const OPERATION: &str = "RegisterContainerInstance";
/// For how long a throttled registration is tried again.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Attempts when the control plane cannot be reached; then the supervisor's turn.
const TRANSPORT_ATTEMPTS: u32 = 3;

/// Why the agent is not registered.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// The control plane will not have it; trying again changes nothing.
    #[error("the control plane refuses this instance")]
    Refused(#[source] CallError),
    /// The control plane cannot be reached, or does not work.
    #[error("cannot register")]
    Failed(#[source] CallError),
    /// The answer lacks attributes that were sent: placement would not see them.
    #[error("attribute validation failed: the control plane did not take over {}", missing.join(", "))]
    AttributesLost {
        /// `name=value` of those missing.
        missing: Vec<String>,
    },
    /// The machine cannot be described.
    #[error("cannot read {what}")]
    Host {
        /// What we tried to read.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is left for a task is nothing.
    #[error(
        "no memory is left for tasks: the machine has {total_mib} MiB, ECS_RESERVED_MEMORY is {reserved_mib}, LONGSHORE_INSTANCES is {instances}"
    )]
    NoMemory {
        /// Of the machine.
        total_mib: u64,
        /// Kept from tasks.
        reserved_mib: u64,
        /// Instances that share the rest.
        instances: u32,
    },
}

impl RegisterError {
    /// Whether a supervisor should leave the agent stopped.
    pub(crate) const fn is_terminal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::AttributesLost { .. } | Self::NoMemory { .. } => true,
            Self::Failed(_) | Self::Host { .. } => false,
        }
    }
}

/// What the machine is, read once.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) cpus: u64,
    pub(crate) memory_mib: u64,
    /// Instances with the same id share ports.
    pub(crate) id: String,
}

impl Host {
    /// Reads the machine; its id is, in this order, the configured one, the one saved, the machine's, a new one.
    pub(crate) fn read(configured_id: Option<&str>, saved_id: Option<&str>) -> Result<Self, RegisterError> {
        let meminfo = std::fs::read_to_string("/proc/meminfo")
            .map_err(|source| RegisterError::Host { what: "/proc/meminfo", source })?;
        let cpus = std::thread::available_parallelism()
            .map_err(|source| RegisterError::Host { what: "the number of CPUs", source })?;
        let id = configured_id
            .or(saved_id)
            .map(str::to_owned)
            .or_else(|| machine_id(Path::new("/etc/machine-id")))
            .unwrap_or_else(|| RequestId::random().to_string().replace('-', ""));
        Ok(Self { cpus: cpus.get() as u64, memory_mib: mem_total_mib(&meminfo), id })
    }

    /// What each of `config.instances` equal instances has for tasks.
    pub(crate) fn share(&self, config: &AgentConfig) -> Result<HostResources, RegisterError> {
        let instances = u64::from(config.instances);
        let memory_mib = self.memory_mib.saturating_sub(config.reserved_memory_mib) / instances;
        if memory_mib == 0 {
            return Err(RegisterError::NoMemory {
                total_mib: self.memory_mib,
                reserved_mib: config.reserved_memory_mib,
                instances: config.instances,
            });
        }
        Ok(HostResources {
            cpu: i64::try_from(self.cpus * 1024 / instances).unwrap_or(i64::MAX),
            memory_mib: i64::try_from(memory_mib).unwrap_or(i64::MAX),
            reserved_ports: config.reserved_ports.clone(),
            reserved_ports_udp: config.reserved_ports_udp.clone(),
        })
    }
}

fn machine_id(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    (!id.is_empty() && id != "uninitialized").then(|| id.to_owned())
}

fn mem_total_mib(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

/// A client token that no registration had yet.
pub(crate) fn new_client_token() -> String {
    RequestId::random().to_string()
}

/// Registers instance `index`, anew or as `known_arn`; the answer is its ARN. The same token makes the same instance.
pub(crate) async fn register(
    api: &ApiClient,
    config: &AgentConfig,
    host: &Host,
    engine: &EngineVersion,
    index: u32,
    known_arn: Option<&str>,
    client_token: String,
) -> Result<String, RegisterError> {
    let request = request(config, host, engine, index, known_arn, client_token)?;
    let body = request.to_json();
    let answer = match call(api, &body).await {
        Err(error) if !config.cluster_is_set && error.to_string().contains("Cluster not found") => {
            create_default_cluster(api, config).await?;
            call(api, &body).await
        }
        other => other,
    }
    .map_err(classify)?;
    let unreadable = |cause: String| RegisterError::Failed(CallError::Answer { operation: OPERATION, cause });
    let instance = RegisterContainerInstanceResponse::from_json(&answer)
        .map_err(|error| unreadable(error.to_string()))?
        .container_instance
        .ok_or_else(|| unreadable("no containerInstance".into()))?;
    validate_echo(
        request.attributes.as_deref().unwrap_or_default(),
        instance.attributes.as_deref().unwrap_or_default(),
    )?;
    instance
        .container_instance_arn
        .filter(|arn| !arn.is_empty())
        .ok_or_else(|| unreadable("no containerInstanceArn".into()))
}

/// The official agent creates the cluster it falls back to; a cluster that somebody named must exist.
async fn create_default_cluster(api: &ApiClient, config: &AgentConfig) -> Result<(), RegisterError> {
    let body = serde_json::json!({ "clusterName": config.cluster }).to_string();
    api.call("CreateCluster", body.into_bytes()).await.map(drop).map_err(classify)
}

fn classify(error: CallError) -> RegisterError {
    match error.code() {
        "InvalidParameterException" | "ClientException" => RegisterError::Refused(error),
        _ => RegisterError::Failed(error),
    }
}

/// One registration, tried again as its failure deserves. All attempts carry the same client token.
async fn call(api: &ApiClient, body: &[u8]) -> Result<bytes::Bytes, CallError> {
    let mut throttled = Backoff::new(Duration::from_secs(3), Duration::from_secs(192), 2.0, 0.2);
    let mut unreachable = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), 3.0, 0.2);
    let mut transport_attempts = 0;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match api.call(OPERATION, body.to_vec()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let pause = match error.code() {
            "ThrottlingException" | "ServerException" | "LimitExceededException" => throttled.next(),
            "" => {
                transport_attempts += 1;
                if transport_attempts >= TRANSPORT_ATTEMPTS {
                    return Err(error);
                }
                unreachable.next()
            }
            _ => return Err(error),
        };
        if Instant::now() + pause > deadline {
            return Err(error);
        }
        warn!(%error, ?pause, "registration failed, trying again");
        sleep(pause).await;
    }
}

fn validate_echo(sent: &[Attribute], echoed: &[Attribute]) -> Result<(), RegisterError> {
    let echoed: BTreeMap<&str, &str> =
        echoed.iter().map(|attribute| (attribute.name.as_str(), value_of(attribute))).collect();
    let missing: Vec<String> = sent
        .iter()
        .filter(|attribute| echoed.get(attribute.name.as_str()) != Some(&value_of(attribute)))
        .map(|attribute| format!("{}={}", attribute.name, value_of(attribute)))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(RegisterError::AttributesLost { missing }) }
}

fn value_of(attribute: &Attribute) -> &str {
    attribute.value.as_deref().unwrap_or_default()
}

fn request(
    config: &AgentConfig,
    host: &Host,
    engine: &EngineVersion,
    index: u32,
    known_arn: Option<&str>,
    client_token: String,
) -> Result<RegisterContainerInstanceRequest, RegisterError> {
    let tags: Vec<Tag> = config
        .instance_tags
        .iter()
        .map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) })
        .collect();
    Ok(RegisterContainerInstanceRequest {
        cluster: Some(config.cluster.clone()),
        container_instance_arn: known_arn.map(str::to_owned),
        client_token: Some(client_token),
        instance_identity_document: Some(String::new()),
        instance_identity_document_signature: Some(String::new()),
        attributes: Some(attributes(config, host, engine, index, known_arn.is_none())),
        tags: (!tags.is_empty()).then_some(tags),
        total_resources: Some(resources(&host.share(config)?)),
        version_info: Some(VersionInfo {
            agent_hash: Some(AGENT_HASH.into()),
            agent_version: Some(AGENT_VERSION.into()),
            docker_version: Some(format!("DockerVersion: {}", engine.version)),
        }),
        platform_devices: None,
    })
}

fn resources(share: &HostResources) -> Vec<Resource> {
    let integer = |name: &str, value: i64| Resource {
        name: Some(name.into()),
        r#type: Some("INTEGER".into()),
        integer_value: Some(i32::try_from(value).unwrap_or(i32::MAX)),
        ..Resource::default()
    };
    let set = |name: &str, ports: &[u16]| Resource {
        name: Some(name.into()),
        r#type: Some("STRINGSET".into()),
        string_set_value: Some(ports.iter().map(u16::to_string).collect()),
        ..Resource::default()
    };
    vec![
        integer("CPU", share.cpu),
        integer("MEMORY", share.memory_mib),
        set("PORTS", &share.reserved_ports),
        set("PORTS_UDP", &share.reserved_ports_udp),
    ]
}

/// The attributes, for what works here and nothing else: placement believes them.
fn attributes(config: &AgentConfig, host: &Host, engine: &EngineVersion, index: u32, first: bool) -> Vec<Attribute> {
    const CAPABILITY: &str = "com.amazonaws.ecs.capability.";
    let mut names: Vec<(String, Option<String>)> = Vec::new();
    if first {
        let custom = config.instance_attributes.iter();
        names.extend(custom.map(|(name, value)| (name.clone(), Some(value.clone()))));
    }
    let mut flag = |name: String| names.push((name, None));
    flag("ecs.capability.container-ordering".into());
    flag("ecs.capability.full-sync".into());
    if !config.disable_privileged {
        flag(format!("{CAPABILITY}privileged-container"));
    }
    for minor in remote_api_minors(engine.max_api) {
        flag(format!("{CAPABILITY}docker-remote-api.1.{minor}"));
    }
    for driver in &config.logging_drivers {
        flag(format!("{CAPABILITY}logging-driver.{driver}"));
    }
    if !config.disable_docker_health_check {
        flag("ecs.capability.container-health-check".into());
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
    names.extend(config.up_id.iter().map(|id| ("longshore.up".into(), Some(id.clone()))));
    names.into_iter().map(|(name, value)| Attribute { name, value, target_id: None, target_type: None }).collect()
}

/// The API versions that ECS has names for, as far as the Engine goes.
fn remote_api_minors(max: ApiVersion) -> impl Iterator<Item = u32> {
    const UNNAMED: [u32; 3] = [26, 27, 31];
    (17..=32).filter(move |minor| !UNNAMED.contains(minor) && ApiVersion::new(1, *minor) <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(env: &[(&str, &str)]) -> AgentConfig {
        let base = [
            ("ECS_BACKEND_HOST", "http://127.0.0.1:1"),
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ];
        let env = base.iter().chain(env);
        let env = env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AgentConfig::load(Some(Path::new("/dev/null")), env).unwrap()
    }

    fn host() -> Host {
        Host { cpus: 2, memory_mib: 1000, id: "host".into() }
    }

    fn engine() -> EngineVersion {
        EngineVersion { version: "20.10.24".into(), api: ApiVersion::new(1, 41), max_api: ApiVersion::new(1, 41) }
    }

    fn names(attributes: &[Attribute]) -> Vec<String> {
        let text = |attribute: &Attribute| match &attribute.value {
            Some(value) => format!("{}={value}", attribute.name),
            None => attribute.name.clone(),
        };
        attributes.iter().map(text).collect()
    }

    #[test]
    fn instances_share_the_machine_equally() {
        let config = config(&[("LONGSHORE_INSTANCES", "3"), ("ECS_RESERVED_MEMORY", "100")]);
        let share = host().share(&config).unwrap();
        assert_eq!((share.cpu, share.memory_mib), (682, 300));
    }

    #[test]
    fn reserving_everything_is_refused() {
        let config = config(&[("ECS_RESERVED_MEMORY", "1000")]);
        let error = host().share(&config).unwrap_err();
        assert!(error.is_terminal());
        assert!(error.to_string().contains("ECS_RESERVED_MEMORY is 1000"));
    }

    #[test]
    fn the_request_says_what_the_machine_has() {
        let config = config(&[
            ("ECS_INSTANCE_ATTRIBUTES", r#"{"rack":"7"}"#),
            ("ECS_CONTAINER_INSTANCE_TAGS", r#"{"owner":"me"}"#),
            ("LONGSHORE_UP_ID", "u"),
        ]);
        let first = request(&config, &host(), &engine(), 4, None, "t1".into()).unwrap();
        let attributes = names(first.attributes.as_deref().unwrap());
        for expected in [
            "rack=7",
            "com.amazonaws.ecs.capability.docker-remote-api.1.17",
            "com.amazonaws.ecs.capability.docker-remote-api.1.32",
            "com.amazonaws.ecs.capability.logging-driver.json-file",
            "com.amazonaws.ecs.capability.privileged-container",
            "ecs.os-type=linux",
            "longshore.host-id=host",
            "longshore.instance-index=4",
            "longshore.up=u",
        ] {
            assert!(attributes.iter().any(|name| name == expected), "{expected} not in {attributes:?}");
        }
        assert!(!attributes.iter().any(|name| name.ends_with("1.26")));
        assert_eq!(first.tags.unwrap().len(), 1);
        let total = first.total_resources.unwrap();
        assert_eq!(total[0].integer_value, Some(2048));
        assert_eq!(total[1].integer_value, Some(1000));
        assert_eq!(total[2].string_set_value.as_deref().unwrap(), ["22", "2375", "2376", "51678", "51679"]);

        let again = request(&config, &host(), &engine(), 4, Some("arn:i"), "t2".into()).unwrap();
        assert_eq!(again.container_instance_arn.as_deref(), Some("arn:i"));
        assert!(!names(again.attributes.as_deref().unwrap()).contains(&"rack=7".into()));
        assert_eq!((first.client_token.as_deref(), again.client_token.as_deref()), (Some("t1"), Some("t2")));
    }

    #[test]
    fn an_attribute_that_does_not_come_back_is_terminal() {
        let attribute = |name: &str, value: Option<&str>| Attribute {
            name: name.into(),
            value: value.map(str::to_owned),
            target_id: None,
            target_type: None,
        };
        let sent = [attribute("a", None), attribute("b", Some("1"))];
        let more = [attribute("c", None), attribute("b", Some("1")), attribute("a", Some(""))];
        validate_echo(&sent, &more).unwrap();
        let error = validate_echo(&sent, &[attribute("a", None), attribute("b", Some("2"))]).unwrap_err();
        assert!(error.is_terminal());
        assert!(error.to_string().ends_with("b=1"));
    }

    #[test]
    fn memory_is_read_in_whole_mib() {
        assert_eq!(mem_total_mib("MemFree: 1 kB\nMemTotal:       24684300 kB\n"), 24105);
        assert_eq!(mem_total_mib(""), 0);
    }
}
