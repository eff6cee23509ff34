//! The agent's configuration: `ecs.config` files and `ECS_*` variables, as the official agent names them.
//!
//! Order, low to high: built-in defaults, what the machine was told when it joined (`identity.json`, then `ecs.config`, both
//! in its data directory), what was fetched from an object store, `/var/lib/ecs/ecs.config`, `/etc/ecs/ecs.config` (or the
//! file given instead of these), environment. Nothing else in the crate reads a file of configuration or a variable. A value
//! that cannot be meant is an error that names the variable: a misspelt time-out that silently became a default costs somebody
//! an evening.

pub(crate) mod credential_chain;
mod credentials;
pub(crate) mod environment_files;
mod gpu;
mod image_cleanup;
mod location;
mod log;
mod machine;
mod registry_auth;
mod secrets;
pub(crate) mod server;
mod sizes;
pub(crate) mod source;
mod task_limits;
#[cfg(test)]
mod tests;
mod unsupported;
mod value;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use longshore_api::admin::INSTANCES;
use longshore_client::{ClientConfig, Proxies, S3Config, Trust, TrustSources};
use thiserror::Error;

use crate::engine::{AwslogsAs, ImagePullBehavior, VolumeRules};
use crate::identity::{FileError, MachineIdentity};
use credential_chain::CredentialChain;
use environment_files::OwnKeys;
use source::{HOUR, MINUTE, Source};

pub use credentials::Credentials;
pub use gpu::GpuConfig;
pub use image_cleanup::ImageCleanupConfig;
pub use location::{ConfigFiles, ConfigLocation, ConfigObject, ObjectError};
pub use log::{LogConfig, LogFormat, LogLevel, LogRollover};
pub use machine::{DiskConfig, NoticeConfig};
pub(crate) use registry_auth::registry_of;
pub use registry_auth::{RegistryAuth, RegistryLogin};
pub use secrets::SecretEndpoints;
pub use sizes::{PerInstance, Sizes};
pub use task_limits::TaskLimitsConfig;
pub use unsupported::Unsupported;

/// Log drivers that the Engine may have; a configured name outside this list is a spelling mistake.
const KNOWN_LOGGING_DRIVERS: [&str; 10] =
    ["json-file", "syslog", "journald", "none", "gelf", "fluentd", "awslogs", "splunk", "logentries", "sumologic"];

/// Where Engines find the server's registry: beside the ports that agents have always had.
const REGISTRY_PORT: u16 = 51680;

/// What the server's logs call this agent.
pub(crate) const USER_AGENT: &str = concat!("longshore-agent/", env!("CARGO_PKG_VERSION"));

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
    /// As above, for a value that is not to be shown.
    #[error("{name} (from {origin}) is not usable: it must be {expected}")]
    BadSecret {
        /// The variable.
        name: &'static str,
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
    /// The AWS credentials file lacks what was asked for.
    #[error("{path} holds no keys for the profile {profile:?} (AWS_PROFILE)", path = path.display())]
    NoProfile {
        /// The profile.
        profile: String,
        /// The file.
        path: PathBuf,
    },
    /// A setting contradicts what this machine has joined.
    #[error(
        "{name}={value:?} (from {origin}), but this machine has joined {to}: take the setting back; or, to leave {to}, delete {identity} and {state} and join again",
        identity = data_dir.join("identity.json").display(),
        state = data_dir.join("agent.redb").display()
    )]
    Bound {
        /// The variable.
        name: &'static str,
        /// Its value as found.
        value: String,
        /// The environment, or the file.
        origin: String,
        /// The server or cluster that this machine is bound to.
        to: String,
        /// Where that is written.
        data_dir: PathBuf,
    },
    /// The settings are in an object store, and cannot be had.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A file of the data directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Everything an agent process needs to know before it starts.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Cluster name or ARN, as typed: it travels verbatim.
    pub cluster: String,
    /// Whether somebody named the cluster; the one we fall back to may be created.
    pub cluster_is_set: bool,
    /// Base URL of the ECS API, `https://host:port` or `http://host:port`, without a trailing slash.
    pub backend_host: String,
    /// What the server is verified with.
    pub trust: Trust,
    /// Proxies on the way to it.
    pub proxies: Proxies,
    /// Region for signatures.
    pub region: String,
    /// Keys for signatures.
    pub credentials: Credentials,
    /// Where secrets are to be had.
    pub secrets: SecretEndpoints,
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
    /// What each of them offers.
    pub sizes: Sizes,
    /// Overrides the machine id as identity of the host.
    pub host_id: Option<String>,
    /// Whether tasks may have networks of their own, where that works.
    pub task_network: bool,
    /// Where other hosts reach this one; what is not set is found out.
    pub host_address: Option<Ipv4Addr>,
    /// TCP ports no task may have.
    pub reserved_ports: Vec<u16>,
    /// UDP ports no task may have.
    pub reserved_ports_udp: Vec<u16>,
    /// MiB kept from tasks.
    pub reserved_memory_mib: u64,
    /// Log drivers to advertise.
    pub logging_drivers: Vec<String>,
    /// What becomes of containers that are to log with `awslogs`.
    pub awslogs_as: AwslogsAs,
    /// Do not advertise privileged containers.
    pub disable_privileged: bool,
    /// Advertise SELinux, where the host has it.
    pub selinux_capable: bool,
    /// Advertise AppArmor, where the host has it.
    pub apparmor_capable: bool,
    /// What is done about GPUs.
    pub gpus: GpuConfig,
    /// Custom attributes, for the first registration.
    pub instance_attributes: BTreeMap<String, String>,
    /// Tags of the container instance.
    pub instance_tags: BTreeMap<String, String>,
    /// How long a stopped task's containers are kept.
    pub task_cleanup_wait: Duration,
    /// Up to how much longer, by chance, so that not all are removed at once.
    pub task_cleanup_jitter: Duration,
    /// When images are removed.
    pub image_cleanup: ImageCleanupConfig,
    /// How the room on this machine's disks is guarded.
    pub disk: DiskConfig,
    /// Where it is told that this machine will be taken away.
    pub notice: NoticeConfig,
    /// Logins to private registries.
    pub engine_auth: RegistryAuth,
    /// The port on 127.0.0.1 at which the Engine finds the server's registry; a free one where it is taken.
    pub registry_port: u16,
    /// Grace before SIGKILL when the container names none.
    pub container_stop_timeout: Duration,
    /// Limit on the Engine's `start`.
    pub container_start_timeout: Duration,
    /// Limit on the Engine's `create`.
    pub container_create_timeout: Duration,
    /// When to pull.
    pub image_pull_behavior: ImagePullBehavior,
    /// Limit on finding out an image's digest.
    pub manifest_pull_timeout: Duration,
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
    /// How tasks are bounded.
    pub task_limits: TaskLimitsConfig,
    /// What there is to know of volumes.
    pub volumes: VolumeRules,
    /// Where environment files are.
    pub(crate) object_store: S3Config,
    /// Those that tasks get with this machine's own keys.
    pub(crate) own_keys: OwnKeys,
    /// Do not send telemetry about resources.
    pub disable_metrics: bool,
    /// Do not advertise container health checks, do not send their results.
    pub disable_docker_health_check: bool,
    /// The data directory of the `longshore up` that started this agent: an attribute of its instances.
    pub up_id: Option<String>,
    /// For whoever sets up logging.
    pub log: LogConfig,
    /// Variables that were set and have no effect here.
    pub unsupported: Vec<Unsupported>,
    /// What is allowed and may not be meant.
    pub warnings: Vec<String>,
}

impl AgentConfig {
    /// Reads the configuration. `env` wins over files; lowest are what was saved when this machine joined, and what it was
    /// told then.
    pub fn load(
        files: impl Into<ConfigFiles>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let files = files.into();
        let mut config = Self::read(&mut Source::load(&files, env)?)?;
        if let ConfigFiles::UsualAbove(ConfigObject { name, .. }) = &files {
            config.own_keys.settings = Some(name.clone());
        }
        if let ConfigFiles::UsualAbove(ConfigObject { name, stale: Some(why), .. }) = &files {
            let warning = format!(
                "the settings are those that {name} had when it was fetched last: it is out of reach now: {why}"
            );
            config.warnings.push(warning);
        }
        Ok(config)
    }

    /// Whether the Engine is on this machine for certain, so that it can be led through the agent.
    pub(crate) fn engine_is_here(&self) -> bool {
        self.docker_host.starts_with("unix:")
    }

    /// How to call the server.
    pub fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new(&*self.backend_host, &*self.region, self.credentials.for_signing());
        client.trust = self.trust.clone();
        client.proxies = self.proxies.clone();
        client.user_agent = USER_AGENT;
        client
    }

    fn read(s: &mut Source) -> Result<Self, ConfigError> {
        let data_dir = s.data_dir();
        let identity = MachineIdentity::read(&data_dir)?;
        let identity = identity.as_ref();
        let (cluster, cluster_is_set) = server::cluster(s, identity)?;
        let instances = instances(s, identity)?;
        let backend_host = server::backend_host(s, identity)?;
        let region = server::region(s, identity);
        let credentials = Credentials::read(s, identity)?;
        let external = s.boolean("ECS_EXTERNAL", false)?;
        let mut config = Self {
            cluster,
            cluster_is_set,
            secrets: SecretEndpoints::read(s, &backend_host)?,
            backend_host,
            trust: trust(s, identity),
            proxies: server::proxies(s)?,
            region: region.clone(),
            credentials: credentials.clone(),
            checkpoint: s.boolean("ECS_CHECKPOINT", true)?,
            data_dir,
            docker_host: s.docker_host()?,
            external,
            instances,
            sizes: Sizes::read(s, instances)?,
            host_id: s.text("LONGSHORE_HOST_ID"),
            task_network: s.boolean("ECS_ENABLE_TASK_ENI", true)?,
            host_address: s.parsed("LONGSHORE_HOST_ADDRESS", None, |text| match text.parse::<Ipv4Addr>() {
                Ok(address) if !address.is_loopback() && !address.is_unspecified() => Ok(Some(address)),
                _ => Err("an IPv4 address of this host that other hosts reach".to_owned()),
            })?,
            reserved_ports: s.json(
                "ECS_RESERVED_PORTS",
                "a JSON list of port numbers",
                vec![22, 2375, 2376, 51678, 51679],
            )?,
            reserved_ports_udp: s.json("ECS_RESERVED_PORTS_UDP", "a JSON list of port numbers", Vec::new())?,
            reserved_memory_mib: s.integer("ECS_RESERVED_MEMORY", 0, 0, u64::from(u32::MAX))?,
            awslogs_as: s.awslogs_as()?,
            logging_drivers: s.logging_drivers()?,
            disable_privileged: s.boolean("ECS_DISABLE_PRIVILEGED", false)?,
            selinux_capable: s.boolean("ECS_SELINUX_CAPABLE", false)?,
            apparmor_capable: s.boolean("ECS_APPARMOR_CAPABLE", false)?,
            gpus: GpuConfig::read(s, external)?,
            instance_attributes: s.json("ECS_INSTANCE_ATTRIBUTES", "a JSON object of strings", BTreeMap::new())?,
            instance_tags: s.json("ECS_CONTAINER_INSTANCE_TAGS", "a JSON object of strings", BTreeMap::new())?,
            task_cleanup_wait: s.duration("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", 3 * HOUR, 1)?,
            task_cleanup_jitter: s.duration("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", 0, 0)?,
            image_cleanup: ImageCleanupConfig::read(s)?,
            disk: DiskConfig::read(s)?,
            notice: NoticeConfig::read(s)?,
            engine_auth: RegistryAuth::read(s)?,
            registry_port: s.port("LONGSHORE_REGISTRY_PORT", REGISTRY_PORT)?,
            container_stop_timeout: s.duration("ECS_CONTAINER_STOP_TIMEOUT", 30, 1)?,
            container_start_timeout: s.duration("ECS_CONTAINER_START_TIMEOUT", 3 * MINUTE, 45)?,
            container_create_timeout: s.duration("ECS_CONTAINER_CREATE_TIMEOUT", 4 * MINUTE, MINUTE)?,
            image_pull_behavior: s.image_pull_behavior()?,
            manifest_pull_timeout: s.duration("ECS_MANIFEST_PULL_TIMEOUT", MINUTE, 30)?,
            image_pull_timeout: s.duration("ECS_IMAGE_PULL_TIMEOUT", 2 * HOUR, 1)?,
            image_pull_inactivity_timeout: s.duration("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", MINUTE, MINUTE)?,
            pull_dependents_upfront: s.boolean("ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", false)?,
            dynamic_host_port_range: s.dynamic_host_port_range()?,
            exclude_ipv6_port_binding: s.boolean("ECS_EXCLUDE_IPV6_PORTBINDING", true)?,
            task_limits: TaskLimitsConfig::read(s)?,
            volumes: s.volumes(region)?,
            object_store: location::store_config(s)?,
            own_keys: {
                let chain = CredentialChain::read(s)?.but_for(&credentials);
                OwnKeys::read(s, chain)?
            },
            disable_metrics: s.boolean("ECS_DISABLE_METRICS", false)?,
            disable_docker_health_check: s.boolean("ECS_DISABLE_DOCKER_HEALTH_CHECK", false)?,
            up_id: s.text("LONGSHORE_UP_ID"),
            log: LogConfig::read(s)?,
            unsupported: Vec::new(),
            warnings: Vec::new(),
        };
        config.warnings.extend(identity.and_then(|identity| key_warning(s, identity)));
        config.unsupported = unsupported::of(s);
        Ok(config)
    }
}

/// How many instances; a machine that has joined may have as many as it joined for.
fn instances(source: &mut Source, identity: Option<&MachineIdentity>) -> Result<u32, ConfigError> {
    let joined_for = identity.map(|identity| identity.instances);
    match (source.instances()?, joined_for) {
        (Some(wanted), Some(most)) if wanted > most => Err(source.bad(
            "LONGSHORE_INSTANCES",
            format!(
                "at most {most}, for which this machine has joined; for more, delete its identity.json and join again"
            ),
        )),
        (wanted, joined_for) => Ok(wanted.or(joined_for).unwrap_or(1)),
    }
}

fn trust(source: &mut Source, identity: Option<&MachineIdentity>) -> Trust {
    let sources: TrustSources = server::trust_sources(source);
    match identity {
        Some(identity) => identity.trust(&sources),
        None => Trust::new(sources),
    }
}

/// Keys in the environment are often there for other reasons.
fn key_warning(source: &mut Source, identity: &MachineIdentity) -> Option<String> {
    const NAME: &str = "AWS_ACCESS_KEY_ID";
    source.text(NAME).filter(|key| *key != identity.access_key_id)?;
    let (_, origin) = source.value_and_origin(NAME);
    Some(format!("{NAME} (from {origin}) is used instead of the key that this machine received when it joined"))
}

/// Variables with a grammar of their own.
impl Source {
    /// Each instance is a registration, two websockets and an engine: a hundred of them is already a simulation of a fleet,
    /// not a way to run one.
    pub(crate) fn instances(&mut self) -> Result<Option<u32>, ConfigError> {
        self.parsed("LONGSHORE_INSTANCES", None, |text| match text.parse::<i32>() {
            Ok(count) if INSTANCES.contains(&count) => Ok(Some(count.unsigned_abs())),
            _ => Err(format!("a whole number from {} to {}", INSTANCES.start(), INSTANCES.end())),
        })
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

    fn awslogs_as(&mut self) -> Result<AwslogsAs, ConfigError> {
        self.parsed("LONGSHORE_AWSLOGS_AS", AwslogsAs::Awslogs, |text| match text {
            "json-file" => Ok(AwslogsAs::JsonFile),
            _ => Err("json-file".into()),
        })
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

    fn volumes(&mut self, region: String) -> Result<VolumeRules, ConfigError> {
        const EFS_HOSTS: &str = "LONGSHORE_EFS_HOSTS";
        const HOSTS_BY_ID: &str = "a JSON object of host names or addresses by file system id";
        let efs_hosts: BTreeMap<String, String> = self.json(EFS_HOSTS, HOSTS_BY_ID, BTreeMap::new())?;
        // It becomes one of the options of a mount, and they are told apart by commas.
        if efs_hosts.values().any(|host| host.is_empty() || host.contains(',')) {
            return Err(self.bad(EFS_HOSTS, HOSTS_BY_ID.to_owned()));
        }
        Ok(VolumeRules { match_shared: self.boolean("ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", false)?, region, efs_hosts })
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

    fn docker_host(&mut self) -> Result<String, ConfigError> {
        self.parsed("DOCKER_HOST", "unix:///var/run/docker.sock".to_owned(), |text| {
            if text.starts_with("unix:///") || text.starts_with("tcp://") {
                Ok(text.to_owned())
            } else {
                Err("unix:///path or tcp://host:port".into())
            }
        })
    }
}
