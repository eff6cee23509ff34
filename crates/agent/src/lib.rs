//! The container agent: registers this machine as one or more container instances, takes orders from the control plane,
//! drives Docker, reports what becomes of the tasks.
//!
//! It must not know the server: the two meet in `longshore_agent_protocol` and in the API's types. A control plane that
//! speaks the agent protocol may be anybody's.
//!
//! Begin reading at [`run`], then `shell` (the loop around an instance's engine, and what must be durable before what) and
//! [`engine`] (the decisions, pure). `engine::docker` drives Docker, `session` holds the two websockets, `register` says what
//! the machine can do, `logs` reads what containers printed, `state` keeps what survives the process. [`join`](join()) binds
//! a machine to a server, [`drain`](drain()) takes it out of placement; `notice` does so when the machine is about to go,
//! `disk` sees to it that images do not fill it, and `gpu` finds out which GPUs it has.

mod backoff;
mod cgroup;
mod config;
mod disk;
mod drain;
pub mod engine;
mod facts;
mod files;
mod gpu;
mod identity;
mod join;
mod logs;
mod network;
mod notice;
mod pause;
mod register;
mod roles;
mod session;
mod shell;
mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longshore_client::{Client, Loopback, S3Error, chain, now};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use config::{
    AgentConfig, ConfigError, ConfigFiles, ConfigLocation, ConfigObject, Credentials, DiskConfig, GpuConfig,
    ImageCleanupConfig, LogConfig, LogFormat, LogLevel, LogRollover, NoticeConfig, ObjectError, PerInstance,
    RegistryAuth, RegistryLogin, SecretEndpoints, Sizes, TaskLimitsConfig, Unsupported,
};
use disk::DiskGuard;
use drain::Instances;
pub use drain::{DrainError, DrainRequest, Drained, drain};
pub use identity::{FileError, rebind};
pub use join::{JoinError, JoinRequest, Joined, join};
pub use longshore_client::{CallError, ClientError, Fingerprint, FingerprintError};
pub use register::RegisterError;
pub use state::StateError;

use cgroup::CgroupKeeper;
use engine::docker::http::HttpDocker;
use engine::docker::{Docker, EngineVersion, PullLimits};
use engine::image::CleanupRules;
use engine::{Engine, EngineConfig, HostResources, ImagePullBehavior, TaskLimits, TaskRecord};
use facts::AgentFacts;
pub use gpu::GpuError;
use gpu::Gpus;
use register::{Host, TaskNetworkOffer};
use session::tcs::{RuntimeHealth, RuntimeStatus};
use session::{Endpoints, Identity, acs, tcs};
use shell::images::{self, Images};
use shell::network::TaskNetwork;
use shell::registry::ServerRegistry;
use shell::resource::env_file::ObjectStore;
use shell::watcher;
use shell::{CONCURRENT_SUBMITS, Instance, Shared};
use state::{Change, Loaded, State};

/// Messages of a session that may wait for the instance's loop; more, and the socket waits.
const SESSION_QUEUE: usize = 64;
/// Cleaned-up tasks an engine remembers: some hours of a busy instance, at about a hundred bytes each.
const REMEMBERED_TASKS: usize = 1000;

/// How the agent ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was told to leave; state is saved, containers run on.
    Clean,
}

/// Why the agent ended by itself.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// This machine could not be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The server cannot be called at all.
    #[error("cannot talk to the server")]
    Client(#[from] ClientError),
    /// The control plane does not take this machine back.
    #[error(
        "delete {state_dir}/agent.redb to register as a new instance, if the control plane has forgotten {arn} for good: it does not take this one back"
    )]
    Rejoin {
        /// Why.
        source: Box<RegisterError>,
        /// As what it was registered.
        arn: String,
        /// Where that is saved.
        state_dir: String,
    },
    /// GPUs are to be offered, and cannot.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The saved state belongs to another cluster.
    #[error(
        "ECS_CLUSTER is {configured:?}, but this data directory belongs to cluster {saved:?}: set ECS_CLUSTER back, or delete {state_dir}/agent.redb to register as a new instance"
    )]
    ClusterChanged {
        /// Now.
        configured: String,
        /// Then.
        saved: String,
        /// Where that is saved.
        state_dir: String,
    },
    /// The endpoint of the object store is none.
    #[error("set AWS_ENDPOINT_URL_S3 to the object store that environment files are in, or to nothing")]
    ObjectStore(#[from] S3Error),
    /// Tasks cannot be bounded, and somebody insists on it.
    #[error(
        "ECS_ENABLE_TASK_CPU_MEM_LIMIT is true, but tasks cannot be bounded here ({why}): repair that, or unset it"
    )]
    NoTaskLimits {
        /// What is missing.
        why: String,
    },
    /// A part of the agent ended that should never end.
    #[error("the agent's {part} failed: {why}")]
    Failed {
        /// Which.
        part: &'static str,
        /// What is known.
        why: String,
    },
}

impl AgentError {
    /// The process's exit code: 5 when starting again cannot help, else 1.
    pub const fn exit_code(&self) -> u8 {
        match self {
            // Only a refusal that lasts is told as one.
            Self::ClusterChanged { .. }
            | Self::Rejoin { .. }
            | Self::Client(_)
            | Self::NoTaskLimits { .. }
            | Self::ObjectStore(_) => 5,
            Self::Register(error) => {
                if error.is_terminal() {
                    5
                } else {
                    1
                }
            }
            Self::State(_) | Self::Gpu(_) | Self::Failed { .. } => 1,
        }
    }
}

/// Runs the agent until `shutdown` is cancelled. Containers outlive it.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<Exit, AgentError> {
    tell(&config);
    let dir = config.checkpoint.then_some(config.data_dir.as_path());
    let (state, writer, loaded) = State::open(dir)?;
    let outcome = tokio::select! {
        outcome = serve(&config, &state, loaded) => outcome,
        () = shutdown.cancelled() => Ok(Exit::Clean),
    };
    // Whatever `serve` had under way is dropped by now. A call to Docker that was cut off is made up for at the next start.
    if let Err(panic) = tokio::task::spawn_blocking(move || writer.close()).await {
        warn!(%panic, "the last changes may not be saved");
    }
    info!("left; containers run on");
    outcome
}

fn tell(config: &AgentConfig) {
    for variable in &config.unsupported {
        warn!(variable = variable.name, why = variable.why, "this variable is set and has no effect");
    }
    for warning in &config.warnings {
        warn!("{warning}");
    }
}

/// Registers, connects, and drives tasks; ends only by failing.
async fn serve(config: &AgentConfig, state: &State, loaded: Loaded) -> Result<Exit, AgentError> {
    check_cluster(config, &loaded)?;
    let api = Client::new(config.client())?;
    let docker = HttpDocker::new(&config.docker_host).with_logins(config.engine_auth.clone());
    let engine_version = wait_for_docker(&docker).await;
    let mut host = Host::read(config.host_id.as_deref(), loaded.host_id.as_deref())?;
    let cgroups = CgroupKeeper::new(config.task_limits.cgroup_root.clone());
    host.task_limits = can_bound_tasks(config, &cgroups, &docker).await?;
    host.volume_drivers = docker.volume_drivers().await.unwrap_or_else(|error| {
        warn!(%error, "the Docker Engine does not tell its volume drivers; tasks get none but its own");
        Vec::new()
    });
    let network = TaskNetwork::new(&host.id, &format!("{} {}", host.id, config.data_dir.display()));
    host.task_network = find_task_network(config, &network, &loaded).await;
    host.gpus = Gpus::find(&config.gpus).await?;
    let (shares, warning) = host.shares(config)?;
    if let Some(warning) = warning {
        warn!("{warning}");
    }
    let disk = DiskGuard::new(disks(config, &docker).await, config.disk.min_free_mib);
    state.write(vec![Change::Cluster(config.cluster.clone()), Change::HostId(host.id.clone())]);
    let (registry, door) = registry(config, &api).await;
    let secrets = config.secret_stores(&api)?;
    let objects = ObjectStore::new(config.object_store.clone(), config.own_keys.clone())?;
    let shared = Arc::new(Shared {
        docker,
        registry,
        state: state.clone(),
        api,
        submits: Semaphore::new(CONCURRENT_SUBMITS),
        images: Images::new(state.clone(), &loaded.images),
        host_ports: Arc::default(),
        cgroups,
        pull_limits: PullLimits { total: config.image_pull_timeout, inactivity: config.image_pull_inactivity_timeout },
        roles: Arc::default(),
        secrets,
        objects,
        disk,
        look_every: watcher::LOOK_EVERY,
        network,
        docker_lost: Notify::new(),
    });
    let initially = RuntimeHealth { status: RuntimeStatus::Initializing, since: now(), reason: None };
    let (docker_health_sender, docker_health) = watch::channel(initially.clone());
    let (health_sender, health) = watch::channel(initially);

    let mut parts = Parts::default();
    if let Some(door) = door {
        parts.start("way to the registry", door.serve());
    }
    // From the first instance on: what its containers do while the others register must not be missed.
    let (joining, joined) = mpsc::unbounded_channel();
    parts.start("view of Docker", watcher::run(shared.clone(), joined, docker_health_sender));
    let guarded = shared.clone();
    parts.start("guard of the disk", async move { guarded.disk.watch(docker_health, health_sender).await });
    let keeper = shared.clone();
    parts.start("task network", async move { keeper.network.keep().await });
    // Nothing would be acknowledged any more, and nothing started: better to start anew.
    parts.start("writer of state", state.clone().writer_gone());

    let mut identities = loaded.identities;
    let mut starter = Starter {
        config,
        shared: &shared,
        version: &engine_version.version,
        health,
        bounds: host.task_limits,
        joining,
    };
    let mut questions = Vec::new();
    let mut unregistered = Vec::new();
    for (index, resources) in (0..).zip(shares) {
        let saved = identities.remove(&index).unwrap_or_default();
        // An instance that has a name looks after its tasks at once, whether its server is there or not.
        let gate = saved.instance_arn.clone().map(|arn| {
            let (gate, registered) = watch::channel(false);
            questions.push(starter.start(&mut parts, index, &arn, &resources, &saved, registered));
            gate
        });
        unregistered.push((index, resources, saved, gate));
    }
    let mut arns = Vec::new();
    for (index, resources, saved, gate) in unregistered {
        let arn = tokio::select! {
            registered = register_instance(config, &shared, &host, &engine_version, index, &saved) => registered?,
            failure = parts.first_failure() => return Err(failure),
        };
        match gate {
            Some(gate) => drop(gate.send(true)),
            None => {
                let (_, registered) = watch::channel(true);
                questions.push(starter.start(&mut parts, index, &arn, &resources, &saved, registered));
            }
        }
        arns.push(arn);
    }
    for (index, identity) in &identities {
        if let Some(instance) = &identity.instance_arn {
            warn!(instance, index, "this instance is beyond LONGSHORE_INSTANCES: its containers run on unattended");
        }
    }
    if config.checkpoint {
        say_who_we_are(config, arns.clone());
    }
    if config.notice.file.is_some() || config.notice.hook.is_some() {
        let instances = Instances { api: shared.api.clone(), cluster: config.cluster.clone(), arns };
        let watch = notice::watch(config.notice.clone(), instances, state.clone(), loaded.notice);
        parts.start("watch for termination notices", watch);
    }
    if let Some(rules) = cleanup_rules(config) {
        let interval = config.image_cleanup.interval;
        parts.start("clean-up of images", images::clean(shared, questions, rules, interval));
    }
    Err(parts.first_failure().await)
}

/// The server's registry, and the door by which the Engine gets there. Without one images come from elsewhere.
async fn registry(config: &AgentConfig, api: &Client) -> (Option<ServerRegistry>, Option<Loopback>) {
    if !config.engine_is_here() {
        info!("images are not pulled from the server: the Docker Engine may be on another machine");
        return (None, None);
    }
    match Loopback::open(config.registry_port, api.transport().clone(), api.origin().clone()).await {
        Ok(door) => (Some(ServerRegistry::new(api.clone(), &config.region, &door)), Some(door)),
        Err(error) => {
            warn!(%error, "images are not pulled from the server: no port on the loopback interface can be had");
            (None, None)
        }
    }
}

/// For people, and for draining.
fn say_who_we_are(config: &AgentConfig, container_instance_arns: Vec<String>) {
    let facts = AgentFacts {
        pid: std::process::id(),
        server: config.backend_host.clone(),
        cluster: config.cluster.clone(),
        container_instance_arns,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    if let Err(error) = facts.write(&config.data_dir) {
        // The agent works without; draining will say what is missing.
        warn!(error = chain(&error), "the file about this agent cannot be written");
    }
}

fn check_cluster(config: &AgentConfig, loaded: &Loaded) -> Result<(), AgentError> {
    match &loaded.cluster {
        Some(saved) if *saved != config.cluster => Err(AgentError::ClusterChanged {
            configured: config.cluster.clone(),
            saved: saved.clone(),
            state_dir: config.data_dir.display().to_string(),
        }),
        _ => Ok(()),
    }
}

/// What a pull fills, and what suffers when it is full.
async fn disks(config: &AgentConfig, docker: &HttpDocker) -> Vec<PathBuf> {
    let of_docker = docker.data_root().await.unwrap_or_else(|error| {
        warn!(%error, "the disk of the Docker Engine is not guarded");
        None
    });
    of_docker.into_iter().chain([config.data_dir.clone()]).collect()
}

/// Whether tasks that are to be bounded may come. Who insists on it must not get an agent without.
async fn can_bound_tasks(
    config: &AgentConfig,
    cgroups: &CgroupKeeper,
    docker: &HttpDocker,
) -> Result<bool, AgentError> {
    /// What is only busy is not refused: nothing is offered later that was not offered now.
    const ATTEMPTS: u32 = 3;
    const PAUSE: Duration = Duration::from_millis(300);
    if config.task_limits.wanted == Some(false) {
        return Ok(false);
    }
    let mut found = cgroups.ready(docker).await;
    for _ in 1..ATTEMPTS {
        if found.is_err() {
            sleep(PAUSE).await;
            found = cgroups.ready(docker).await;
        }
    }
    match found {
        Ok(_) => Ok(true),
        Err(why) if config.task_limits.wanted == Some(true) => Err(AgentError::NoTaskLimits { why }),
        Err(why) => {
            warn!(why, "tasks cannot be bounded as a whole on this machine; those that ask for it are not placed here");
            Ok(false)
        }
    }
}

/// Finds what there is of the networks of tasks, and whether there can be more.
async fn find_task_network(config: &AgentConfig, network: &TaskNetwork, loaded: &Loaded) -> Option<TaskNetworkOffer> {
    let tasks = loaded.identities.values().flat_map(|identity| records(&identity.tasks));
    let existing: Vec<_> =
        tasks.filter_map(|task| engine::existing_interface(&task.definition, &task.resources)).collect();
    if !config.task_network && existing.is_empty() {
        return None;
    }
    let has_tasks = !existing.is_empty();
    match network::take_over(&network.host, existing, config.task_network).await {
        Ok(()) if config.task_network => Some(TaskNetworkOffer { address: register::host_address(config).await }),
        Ok(()) => None,
        Err(error) if has_tasks => {
            warn!(why = %error, "the network of the awsvpc tasks of this machine cannot be looked after; no more are placed here");
            None
        }
        Err(error) => {
            info!(why = %error, "tasks of network mode awsvpc cannot run here; they are not placed on this machine");
            None
        }
    }
}

/// Docker may come up after us.
async fn wait_for_docker(docker: &impl Docker) -> EngineVersion {
    let mut backoff = watcher::RECONNECT;
    loop {
        match docker.version().await {
            Ok(version) => return version,
            Err(error) => {
                let pause = backoff.next();
                warn!(%error, ?pause, "waiting for the Docker Engine");
                sleep(pause).await;
            }
        }
    }
}

/// Registers one instance and saves what it is called before anything relies on it.
async fn register_instance(
    config: &AgentConfig,
    shared: &Shared<HttpDocker>,
    host: &Host,
    version: &EngineVersion,
    index: u32,
    saved: &state::Identity,
) -> Result<String, AgentError> {
    let known = saved.instance_arn.as_deref();
    let token = client_token(shared, index, saved).await;
    let registered = register::register(&shared.api, config, host, version, index, known, token).await;
    let arn = registered.map_err(|source| match known {
        Some(arn) if source.is_terminal() => AgentError::Rejoin {
            source: Box::new(source),
            arn: arn.to_owned(),
            state_dir: config.data_dir.display().to_string(),
        },
        _ => AgentError::Register(source),
    })?;
    info!(instance = arn, index, rejoined = known.is_some(), "registered");
    save(shared, Change::InstanceArn { identity: index, arn: arn.clone() }).await;
    Ok(arn)
}

/// The token of a registration. That of the first is saved before it is used: an agent that is killed before it has saved
/// what it is called asks again with the same token, and is told the same name.
async fn client_token(shared: &Shared<HttpDocker>, index: u32, saved: &state::Identity) -> String {
    match (&saved.instance_arn, &saved.client_token) {
        (Some(_), _) => register::new_client_token(),
        (None, Some(token)) => token.clone(),
        (None, None) => {
            let token = register::new_client_token();
            save(shared, Change::ClientToken { identity: index, token: token.clone() }).await;
            token
        }
    }
}

async fn save(shared: &Shared<HttpDocker>, change: Change) {
    let ticket = shared.state.write(vec![change]);
    shared.state.durable(ticket).await;
}

/// When images go, if they ever do: who prefers cached images wants them kept.
fn cleanup_rules(config: &AgentConfig) -> Option<CleanupRules> {
    let cleanup = &config.image_cleanup;
    if cleanup.disabled || config.image_pull_behavior == ImagePullBehavior::PreferCached {
        return None;
    }
    Some(CleanupRules {
        minimum_age_ms: millis(cleanup.minimum_age),
        images_per_round: cleanup.delete_per_cycle as usize,
        untracked: cleanup.untracked,
        untracked_age_ms: millis(cleanup.non_ecs_minimum_age),
        container_age_ms: millis(config.task_cleanup_wait),
        containers_per_round: cleanup.non_ecs_containers_per_cycle as usize,
        exclude: cleanup.exclude.iter().cloned().collect(),
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn restored_engine(
    config: &AgentConfig,
    resources: &HostResources,
    cgroups: bool,
    arn: &str,
    saved: &state::Identity,
) -> Engine {
    let mut engine = Engine::new(EngineConfig {
        cluster: config.cluster.clone(),
        container_instance_arn: arn.to_owned(),
        stop_timeout_s: millis(config.container_stop_timeout) / 1000,
        create_timeout_ms: millis(config.container_create_timeout),
        start_timeout_ms: millis(config.container_start_timeout),
        task_cleanup_wait_ms: millis(config.task_cleanup_wait),
        task_cleanup_jitter_ms: millis(config.task_cleanup_jitter),
        image_pull_behavior: config.image_pull_behavior,
        manifest_pull_timeout_ms: millis(config.manifest_pull_timeout),
        image_pull_timeout_ms: millis(config.image_pull_timeout),
        pull_dependents_upfront: config.pull_dependents_upfront,
        dynamic_host_port_range: config.dynamic_host_port_range,
        exclude_ipv6_port_binding: config.exclude_ipv6_port_binding,
        awslogs_as: config.awslogs_as,
        limits: TaskLimits { cgroups, pids: config.task_limits.pids },
        volumes: config.volumes.clone(),
        gpu_access: config.gpus.access.clone(),
        resources: resources.clone(),
        remembered_tasks: REMEMBERED_TASKS,
    });
    engine.restore(records(&saved.tasks), saved.timeline);
    engine
}

/// The saved records. One that cannot be read is left alone, with its containers: guessing would be worse.
fn records(saved: &BTreeMap<String, Vec<u8>>) -> Vec<TaskRecord> {
    saved
        .iter()
        .filter_map(|(arn, bytes)| match TaskRecord::from_json(bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                warn!(task = arn, %error, "the saved record of a task cannot be read; its containers are left alone");
                None
            }
        })
        .collect()
}

/// What every instance is started with.
struct Starter<'a> {
    config: &'a AgentConfig,
    shared: &'a Arc<Shared<HttpDocker>>,
    /// The Engine's.
    version: &'a str,
    health: watch::Receiver<RuntimeHealth>,
    /// Tasks that are to be bounded may come.
    bounds: bool,
    /// To the watcher of Docker.
    joining: mpsc::UnboundedSender<(String, mpsc::UnboundedSender<engine::Input>)>,
}

impl Starter<'_> {
    /// Starts an instance's loop, and its sessions once it is `registered`. Who looks after images asks the instance by the
    /// returned sender.
    fn start(
        &mut self,
        parts: &mut Parts,
        index: u32,
        arn: &str,
        resources: &HostResources,
        saved: &state::Identity,
        registered: watch::Receiver<bool>,
    ) -> mpsc::Sender<images::Question> {
        let (config, api) = (self.config, self.shared.api.clone());
        let identity = Arc::new(Identity {
            cluster: config.cluster.clone(),
            instance_arn: arn.to_owned(),
            docker_version: self.version.to_owned(),
        });
        let endpoints = Arc::new(Endpoints::new(api.clone(), identity.clone()));
        let (events, session_events) = mpsc::channel(SESSION_QUEUE);
        let current_session = Arc::new(acs::CurrentSession::default());
        let heartbeat = Arc::new(Notify::new());
        let (live_tasks_sender, live_tasks) = watch::channel(0);
        let inputs = mpsc::unbounded_channel();
        // The watcher is gone only when all ends.
        let _ = self.joining.send((arn.to_owned(), inputs.0.clone()));
        let (log_requests, requests) = mpsc::channel(logs::QUEUE);
        parts.start("reader of logs", logs::serve(self.shared.clone(), arn.to_owned(), requests));
        let acs = acs::run(acs::Context {
            identity: identity.clone(),
            endpoints: endpoints.clone(),
            api: api.clone(),
            events,
            current: current_session.clone(),
            roles: self.shared.roles.clone(),
            heartbeat: heartbeat.clone(),
            logs: log_requests,
            timing: acs::Timing::usual(),
        });
        let tcs = tcs::run(tcs::Context {
            identity,
            endpoints,
            api,
            heartbeat,
            live_tasks,
            runtime: self.health.clone(),
            metrics: !config.disable_metrics,
            timing: tcs::Timing::usual(),
        });
        parts.start("ACS session", once(registered.clone(), acs));
        parts.start("TCS session", once(registered, tcs));
        let (asks, questions) = mpsc::channel(1);
        let instance = Instance {
            shared: self.shared.clone(),
            index,
            arn: arn.to_owned(),
            engine: restored_engine(config, resources, self.bounds, arn, saved),
            questions,
            session_events,
            current_session,
            inputs,
            live_tasks: live_tasks_sender,
        };
        parts.start("task loop", instance.run());
        asks
    }
}

/// Does `work` as soon as `ready` is true.
async fn once(mut ready: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    // Without its sender, the last word counts; if that was no, everything is about to end.
    if ready.wait_for(|ready| *ready).await.is_err() {
        std::future::pending::<()>().await;
    }
    work.await;
}
/// The tasks that make up the agent; all end when this is dropped.
#[derive(Default)]
struct Parts {
    running: JoinSet<&'static str>,
}

impl Parts {
    fn start(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            part.await;
            name
        });
    }

    /// None of the parts ends unless something is wrong.
    async fn first_failure(&mut self) -> AgentError {
        match self.running.join_next().await {
            Some(Ok(part)) => AgentError::Failed { part, why: "it ended".into() },
            Some(Err(panic)) => AgentError::Failed { part: "work", why: panic.to_string() },
            None => AgentError::Failed { part: "work", why: "there is none".into() },
        }
    }
}

#[cfg(test)]
mod tests;
