//! Registration: what this machine has and can do, told to the control plane, and what it is called since.

mod attributes;
mod host;

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_api::ecs::Operation;
use longshore_api::ecs::types::{
    Attribute, PlatformDevice, PlatformDeviceType, RegisterContainerInstanceRequest, RegisterContainerInstanceResponse,
    Resource, Tag, VersionInfo,
};
use longshore_client::{CallError, Client};
use longshore_wire::request_id::RequestId;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::backoff::Backoff;
use crate::config::AgentConfig;
use crate::engine::HostResources;
use crate::engine::docker::EngineVersion;
use crate::gpu::Gpus;
use crate::session::{AGENT_HASH, AGENT_VERSION};

pub(crate) use host::{Host, TaskNetworkOffer, host_address};

const OPERATION: Operation = Operation::RegisterContainerInstance;
/// For how long a registration that is beyond the server's limits is tried again, as the official agent does it.
const PATIENCE: Duration = Duration::from_secs(3600);
/// The first so many failures in a row are told, then one in so many: a server may be away for days.
const TOLD: u32 = 10;

/// Why the agent is not registered.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// The control plane will not have it; trying again changes nothing.
    #[error("the control plane refuses this instance")]
    Refused(#[source] CallError),
    /// The control plane cannot be reached, or does not work.
    #[error("cannot register")]
    Failed(#[source] CallError),
    /// There is no such cluster.
    #[error("create the cluster {cluster:?} (`aws ecs create-cluster`), or set ECS_CLUSTER to one that exists")]
    NoCluster {
        /// The cluster as configured.
        cluster: String,
        /// The server's words.
        source: CallError,
    },
    /// The key is not good for this.
    #[error(
        "the server does not accept this machine's access key: if it was revoked, delete identity.json and agent.redb in \
         ECS_DATADIR and join again"
    )]
    NotAccepted(#[source] CallError),
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
    /// An instance is configured to be larger than the machine.
    #[error("{variable} is {offered} for instance {index}, but this machine has {available} {unit}: lower it")]
    TooLarge {
        /// The setting.
        variable: &'static str,
        /// Which instance.
        index: u32,
        /// What it is to offer.
        offered: u64,
        /// What there is.
        available: u64,
        /// Of what.
        unit: &'static str,
    },
    /// The control plane gave an instance that it knew another name.
    #[error("the control plane registered {was} as {now}: it does not know its own instance any more")]
    Renamed {
        /// What we are called.
        was: String,
        /// What it calls us.
        now: String,
    },
}

impl RegisterError {
    /// Whether a supervisor should leave the agent stopped.
    pub(crate) const fn is_terminal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::AttributesLost { .. } | Self::NoMemory { .. } | Self::TooLarge { .. } => true,
            Self::Failed(_)
            | Self::NoCluster { .. }
            | Self::NotAccepted(_)
            | Self::Host { .. }
            | Self::Renamed { .. } => false,
        }
    }
}

/// A client token that no registration had yet.
pub(crate) fn new_client_token() -> String {
    RequestId::random().to_string()
}

/// Registers instance `index`, anew or as `known_arn`; the answer is its ARN. The same token makes the same instance.
pub(crate) async fn register(
    api: &Client,
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
    .map_err(|error| classify(error, config))?;
    let unreadable = |cause: String| RegisterError::Failed(CallError::Answer { operation: OPERATION.name(), cause });
    let instance = RegisterContainerInstanceResponse::from_json(&answer)
        .map_err(|error| unreadable(error.to_string()))?
        .container_instance
        .ok_or_else(|| unreadable("no containerInstance".into()))?;
    validate_echo(
        request.attributes.as_deref().unwrap_or_default(),
        instance.attributes.as_deref().unwrap_or_default(),
    )?;
    let arn = instance
        .container_instance_arn
        .filter(|arn| !arn.is_empty())
        .ok_or_else(|| unreadable("no containerInstanceArn".into()))?;
    match known_arn {
        Some(known) if known != arn => Err(RegisterError::Renamed { was: known.to_owned(), now: arn }),
        _ => Ok(arn),
    }
}

/// The official agent creates the cluster it falls back to; a cluster that somebody named must exist.
async fn create_default_cluster(api: &Client, config: &AgentConfig) -> Result<(), RegisterError> {
    let body = serde_json::json!({ "clusterName": config.cluster }).to_string();
    api.call(Operation::CreateCluster, body.into_bytes()).await.map(drop).map_err(|error| classify(error, config))
}

fn classify(error: CallError, config: &AgentConfig) -> RegisterError {
    match error.code() {
        "ClusterNotFoundException" => RegisterError::NoCluster { cluster: config.cluster.clone(), source: error },
        _ if error.is_denied() => RegisterError::NotAccepted(error),
        "InvalidParameterException" | "ClientException" => RegisterError::Refused(error),
        _ => RegisterError::Failed(error),
    }
}

/// One registration, tried again as its failure deserves: as long as it takes while the server is away or busy, for a while
/// when it has no room for us. All attempts carry the same client token.
async fn call(api: &Client, body: &[u8]) -> Result<bytes::Bytes, CallError> {
    let mut away = Backoff::while_away();
    let mut beyond_limits = Backoff::new(Duration::from_secs(3), Duration::from_secs(192), 2.0, 0.2);
    let deadline = Instant::now() + PATIENCE;
    let mut failures = 0;
    loop {
        let error = match api.call(OPERATION, body.to_vec()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let pause = if error.is_passing() || error.code() == "ServerException" {
            away.next()
        } else if error.code() == "LimitExceededException" && Instant::now() < deadline {
            beyond_limits.next()
        } else {
            return Err(error);
        };
        failures += 1;
        if failures <= TOLD || failures % TOLD == 0 {
            warn!(%error, ?pause, failures, "registration failed, trying again");
        }
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
        attributes: Some(attributes::of(config, host, engine, index, known_arn.is_none())),
        tags: (!tags.is_empty()).then_some(tags),
        total_resources: Some(resources(&host.share(config, index)?)),
        version_info: Some(VersionInfo {
            agent_hash: Some(AGENT_HASH.into()),
            agent_version: Some(AGENT_VERSION.into()),
            docker_version: Some(format!("DockerVersion: {}", engine.version)),
        }),
        platform_devices: platform_devices(&host.gpus),
    })
}

fn platform_devices(gpus: &Gpus) -> Option<Vec<PlatformDevice>> {
    let device = |id: &String| PlatformDevice { id: id.clone(), r#type: PlatformDeviceType::Gpu };
    (!gpus.ids.is_empty()).then(|| gpus.ids.iter().map(device).collect())
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::docker::ApiVersion;

    pub(super) fn config(env: &[(&str, &str)]) -> AgentConfig {
        let base = [
            ("ECS_BACKEND_HOST", "http://127.0.0.1:1"),
            ("ECS_DATADIR", "/nonexistent"),
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ];
        let env = base.iter().chain(env);
        let env = env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AgentConfig::load(Some(Path::new("/dev/null")), env).unwrap()
    }

    pub(super) fn host() -> Host {
        Host {
            cpus: 2,
            memory_mib: 1000,
            id: "host".into(),
            selinux: true,
            apparmor: false,
            task_limits: true,
            volume_drivers: vec!["local".into(), "vieux/sshfs:latest".into(), "rexray:1".into()],
            task_network: None,
            gpus: Gpus { driver: Some("535.1".into()), ids: vec!["GPU-1".into(), "GPU-2".into()] },
        }
    }

    pub(super) fn engine() -> EngineVersion {
        EngineVersion { version: "20.10.24".into(), api: ApiVersion::new(1, 41), max_api: ApiVersion::new(1, 41) }
    }

    #[test]
    fn the_request_says_what_the_machine_has() {
        let config = config(&[
            ("ECS_INSTANCE_ATTRIBUTES", r#"{"rack":"7"}"#),
            ("ECS_CONTAINER_INSTANCE_TAGS", r#"{"owner":"me"}"#),
        ]);
        let first = request(&config, &host(), &engine(), 4, None, "t1".into()).unwrap();
        assert_eq!(first.tags.unwrap().len(), 1);
        let devices: Vec<String> = first.platform_devices.unwrap().into_iter().map(|device| device.id).collect();
        assert_eq!(devices, ["GPU-1", "GPU-2"]);
        assert_eq!(host().share(&config, 0).unwrap().gpus, devices);
        assert_eq!(platform_devices(&Gpus::default()), None);
        let total = first.total_resources.unwrap();
        assert_eq!(total[0].integer_value, Some(2048));
        assert_eq!(total[1].integer_value, Some(1000));
        assert_eq!(total[2].string_set_value.as_deref().unwrap(), ["22", "2375", "2376", "51678", "51679"]);

        let again = request(&config, &host(), &engine(), 4, Some("arn:i"), "t2".into()).unwrap();
        assert_eq!(again.container_instance_arn.as_deref(), Some("arn:i"));
        let first_has_more = first.attributes.unwrap().len() - again.attributes.unwrap().len();
        assert_eq!(first_has_more, 1, "custom attributes belong to the first registration");
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
}
