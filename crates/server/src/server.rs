//! The assembly of a server, and its life from start to shutdown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::CellConfig;
use longshore_store::EmbeddedStore;
use longshore_wire::page_token::PageTokens;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access_key::{KeyRing, RootAccessKey, ServerKey};
use crate::auth::Authenticator;
use crate::config::{ServerConfig, TlsConfig};
use crate::descriptors;
use crate::edge::Edge;
use crate::error::ServerError;
use crate::files;
use crate::launcher;
use crate::registry::{REGISTRY_DIR, Registry};
use crate::runner::{LoadError, Perform, Runner};
use crate::scheduler::{Performers, Schedulers};
use crate::scope;
use crate::sessions::Sessions;
use crate::task_roles::TaskRoles;
use crate::tls::Tls;
use crate::vault::Vault;

/// The name of the file in the data directory that says where the server listens, while it does.
pub const SERVER_FILE: &str = "server.json";
/// The name of the store's directory in the data directory.
pub const STORE_DIR: &str = "store";

/// What the page token key is derived for; another text would make tokens that callers hold invalid.
const PAGE_TOKEN_PURPOSE: &str = "page-token";
/// The same for the registry's tokens.
const REGISTRY_TOKEN_PURPOSE: &str = "registry-token";

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A server that listens.
pub struct RunningServer {
    local_addr: SocketAddr,
    endpoint: String,
    server_file: PathBuf,
    config: ServerConfig,
    runner: Runner,
    sessions: Arc<Sessions>,
    edge: JoinHandle<()>,
    stop: CancellationToken,
}

/// What `server.json` holds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerFile<'a> {
    endpoint: &'a str,
    pid: u32,
    region: &'a str,
    account_id: &'a str,
    /// The address it listens on, which may be all of them.
    listen: SocketAddr,
    /// The certificate that the server was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    cert_file: Option<&'a Path>,
    /// The certificate of the server's own authority, for `longshore agent join --ca-file` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    /// It and the system's roots, for `AWS_CA_BUNDLE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_bundle: Option<PathBuf>,
    /// What a machine that joins pins, for `--ca-fingerprint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_fingerprint: Option<&'a str>,
}

impl Server {
    /// Starts a server: checks the configuration, makes or loads the keys, loads the store, listens. When this returns,
    /// requests are answered and `server.json` says where.
    pub async fn start(config: ServerConfig) -> Result<RunningServer, ServerError> {
        config.check()?;
        let listen_error = |source| ServerError::Listen { listen: config.listen, source };
        // The port first: it is what most often is taken, and nothing was touched yet. Who connects now waits a moment.
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;

        descriptors::raise(&config.limits, &config.session_limits);
        let sessions = Arc::new(Sessions::new(config.session_limits.clone().within(&config.loss)));
        let schedulers = Arc::new(Schedulers::default());
        let runner = {
            let performers = Performers { sessions: Arc::clone(&sessions), schedulers: Arc::clone(&schedulers) };
            let (config, performer) = (config.clone(), Arc::new(performers) as Arc<dyn Perform>);
            let loaded = tokio::task::spawn_blocking(move || load(&config, performer)).await;
            loaded.map_err(|_| ServerError::StartPanicked)??
        };
        let parts = Parts { config, listener, local_addr, sessions, schedulers, runner: runner.clone() };
        match parts.assemble() {
            Ok(running) => Ok(running),
            Err(error) => {
                runner.stop();
                runner.ended().await;
                Err(error)
            }
        }
    }
}

/// Leads and loads the store. From here on the data directory is ours alone.
fn load(config: &ServerConfig, performer: Arc<dyn Perform>) -> Result<Runner, ServerError> {
    files::create_data_dir(&config.data_dir)?;
    let store = EmbeddedStore::open(config.data_dir.join(STORE_DIR))?;
    let mut cell = CellConfig::new(&config.region, &config.account_id);
    cell.zone = config.zone.as_str().into();
    cell.loss = config.loss;
    cell.network = config.network.clone();
    cell.scaling.launchers = config.launchers.iter().map(|launcher| (launcher.name.clone(), launcher.size)).collect();
    cell.scaling.scale_in_after_ms = i64::try_from(config.scale_in_after.as_millis()).unwrap_or(i64::MAX);
    let started = Runner::start(cell, Box::new(store), performer, config.limits.max_waiting_requests);
    started.map_err(|error| match error {
        LoadError::Record(_) | LoadError::Inconsistent(_) => {
            ServerError::Records { data_dir: config.data_dir.clone(), source: error }
        }
        other => other.into(),
    })
}

/// What a server is made of, once its state is loaded.
struct Parts {
    config: ServerConfig,
    listener: TcpListener,
    local_addr: SocketAddr,
    sessions: Arc<Sessions>,
    schedulers: Arc<Schedulers>,
    runner: Runner,
}

impl Parts {
    fn assemble(self) -> Result<RunningServer, ServerError> {
        let Self { config, listener, local_addr, sessions, schedulers, runner } = self;
        scope::bind(&config)?;
        let root_key = RootAccessKey::load_or_create(&config.data_dir)?;
        let server_key = ServerKey::load_or_create(&config.data_dir)?;
        let known = runner.clone();
        let keys = KeyRing::new(root_key, &server_key, move |access_key_id: &str| known.role_of(access_key_id));
        let task_roles = Arc::new(TaskRoles::new(&server_key));
        sessions.issue_with(Arc::clone(&task_roles));
        let vault = Vault::open(&config.secrets_key()?, runner.snapshot().sealed_under().as_deref())?;
        let tls = Tls::start(&config, local_addr)?.map(Arc::new);
        let acceptor = tls.as_ref().map(|tls| tls.acceptor()).transpose()?;
        let edge = Edge::new(
            Authenticator::new(&config.region, &config.account_id, keys).with_task_roles(task_roles),
            Arc::new(runner.clone()),
            Arc::clone(&sessions),
            PageTokens::new(server_key.derive(PAGE_TOKEN_PURPOSE)),
            config.limits.clone(),
            local_addr,
        )
        .keeping(vault);
        let registry = config.data_dir.join(REGISTRY_DIR);
        let registry = Arc::new(Registry::new(registry, server_key.derive(REGISTRY_TOKEN_PURPOSE)));
        let endpoint = match &tls {
            None => format!("http://{}", reachable(local_addr)),
            Some(tls) => format!("https://{}:{}", tls.local_host(), local_addr.port()),
        };
        let server_file = config.data_dir.join(SERVER_FILE);
        write_server_file(&server_file, &endpoint, local_addr, &config, tls.as_deref())?;
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&registry).keep_clean(stop.clone()));
        let edge = edge.with_registry(registry).behind(acceptor);
        let edge = tokio::spawn(Arc::new(edge).serve(listener, stop.clone()));
        for launcher in &config.launchers {
            tokio::spawn(launcher::serve(launcher.clone(), runner.clone(), stop.clone()));
        }
        tokio::spawn(Arc::clone(&sessions).keep_credentials(Arc::new(runner.clone())));
        tokio::spawn(schedulers.serve(runner.clone(), stop.clone()));
        if let Some(tls) = tls {
            tokio::spawn(tls.keep_current(stop.clone()));
        }
        tracing::info!(%endpoint, data_dir = %config.data_dir.display(), region = config.region, "listening");
        Ok(RunningServer { local_addr, endpoint, server_file, config, runner, sessions, edge, stop })
    }
}

impl RunningServer {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The URL that clients of this machine use.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The agents' sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Waits until the server can no longer work by itself, because the orchestrator has ended. Then shut it down and start
    /// anew; the log says why.
    pub async fn failed(&self) {
        self.runner.stopped().cancelled().await;
    }

    /// Stops in order: no new connections, requests under way are answered, agents are told to come back, everything is
    /// durable, the store is closed.
    pub async fn shutdown(self) {
        tracing::info!("stopping");
        self.stop.cancel();
        let grace = self.config.limits.shutdown_grace;
        let (edge, ()) = tokio::join!(self.edge, self.sessions.stop(grace));
        if edge.is_err() {
            tracing::error!("the edge panicked");
        }
        // While the store is still ours: a successor may write its own file as soon as it is not.
        if let Err(error) = std::fs::remove_file(&self.server_file) {
            tracing::warn!(%error, file = %self.server_file.display(), "cannot remove");
        }
        self.runner.stop();
        self.runner.ended().await;
        tracing::info!("stopped");
    }
}

fn write_server_file(
    path: &Path,
    endpoint: &str,
    listen: SocketAddr,
    config: &ServerConfig,
    tls: Option<&Tls>,
) -> Result<(), ServerError> {
    let (ca_file, ca_bundle) = tls.and_then(Tls::ca_files).unzip();
    let file = ServerFile {
        endpoint,
        pid: std::process::id(),
        region: &config.region,
        account_id: &config.account_id,
        listen,
        cert_file: match &config.tls {
            Some(TlsConfig::Given { cert, .. }) => Some(cert),
            Some(TlsConfig::Own { .. }) | None => None,
        },
        ca_file,
        ca_bundle,
        ca_fingerprint: tls.map(Tls::fingerprint),
    };
    files::replace(path, &serde_json::to_vec(&file).unwrap_or_default(), files::PUBLIC_MODE)
}

/// The address by which a client of this machine reaches a listener: "any address" is no destination.
pub(crate) fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}
