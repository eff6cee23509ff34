//! `longshore agent join`: binds this machine to a server, which gives it an access key of its own.
//!
//! Whatever moment it is killed at, doing the same again completes it: the client token is saved before it is used, and the
//! server answers the same token with the same key. What is secret goes over a connection whose other end is known.

mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_api::admin::{JoinContainerInstanceRequest, JoinContainerInstanceResponse, Operation};
use longshore_client::{CallError, Client, ClientConfig, ClientError, ConnectError, Fingerprint, Origin, TrustError};
use longshore_wire::request_id::RequestId;
use longshore_wire::sigv4::{Credentials, Secret};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::config::source::{SAVED_FILE, Source};
use crate::config::{ConfigError, ConfigFiles, USER_AGENT, server};
use crate::files::{self, Readers};
use crate::identity::{FileError, MachineIdentity, read_json, write_json};

const OPERATION: Operation = Operation::JoinContainerInstance;
/// While it goes on, what a repetition needs. Removed when the machine has joined.
const STARTED_FILE: &str = "join.json";
/// Somebody waits at a terminal: a server that is away for longer is an error.
const ATTEMPTS: u32 = 4;

/// A machine that wants to join.
#[derive(Clone)]
pub struct JoinRequest {
    /// The server's URL.
    pub server: String,
    /// `<tokenId>.<secret>`
    pub token: String,
    /// Believe a server that presents a certificate with this fingerprint, its own or its issuer's.
    pub ca_fingerprint: Option<Fingerprint>,
    /// Believe a server with a certificate from this file's issuers.
    pub ca_file: Option<PathBuf>,
    /// Join over plain HTTP although the server is another machine.
    pub insecure: bool,
    /// Variables that were set by flags (`LONGSHORE_CPU`, …): they hold now, and are saved for later starts.
    pub settings: BTreeMap<String, String>,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("server", &self.server)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A machine that has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The server's URL.
    pub server: String,
    /// The cluster whose instances this machine may register.
    pub cluster: String,
    /// The public half of its own access key.
    pub access_key_id: String,
    /// It had joined before; the token was not used.
    pub already: bool,
    /// Where this is kept.
    pub identity_file: PathBuf,
}

/// Why a machine has not joined. Nothing is bound then.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of the data directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token is none.
    #[error("that is not a join token: it has the form LSTK….<secret>, as `longshore token create` prints it")]
    Token,
    /// The server is none.
    #[error("{server:?} is not the URL of a server: it has the form https://host:port")]
    Server {
        /// What was given.
        server: String,
    },
    /// A setting cannot be saved.
    #[error("{name} cannot be saved: its value holds a line break")]
    Setting {
        /// Which.
        name: String,
    },
    /// The machine is bound to another server.
    #[error(
        "this machine has joined {bound_to} (cluster {cluster}): to leave that server, stop the agent, delete {identity} and agent.redb beside it, and join again",
        identity = identity_file.display()
    )]
    BoundElsewhere {
        /// That server.
        bound_to: String,
        /// The cluster there.
        cluster: String,
        /// Where that is written.
        identity_file: PathBuf,
    },
    /// The machine has joined for fewer instances.
    #[error(
        "this machine has joined for {joined_for} instances: for {wanted}, stop the agent, delete {identity} and agent.redb beside it, and join again with a new token",
        identity = identity_file.display()
    )]
    MoreInstances {
        /// So many.
        joined_for: u32,
        /// And now.
        wanted: u32,
        /// Where that is written.
        identity_file: PathBuf,
    },
    /// The key would travel in clear.
    #[error(
        "{server} is plain HTTP to another machine: whoever listens could take this machine's access key. Start the server with --tls and use its https:// URL, or add --insecure on a network that is trusted"
    )]
    PlainHttp {
        /// The server.
        server: String,
    },
    /// Plain HTTP presents no certificate.
    #[error(
        "{server} is plain HTTP, which presents no certificate: use the server's https:// URL with --ca-fingerprint and --ca-file"
    )]
    NothingToVerify {
        /// The server.
        server: String,
    },
    /// The server is not the one that was meant.
    #[error(
        "{server} presents no certificate with the fingerprint {wanted}, but {}: this is another server, or its certificate was made anew (`longshore token create` prints the fingerprint)",
        presented.join(" and ")
    )]
    OtherFingerprint {
        /// The server.
        server: String,
        /// The fingerprint that was given.
        wanted: Fingerprint,
        /// Those of what it presents.
        presented: Vec<String>,
    },
    /// There is nobody.
    #[error("cannot reach {server}")]
    Unreachable {
        /// The server.
        server: String,
        /// Why not.
        source: ConnectError,
    },
    /// What to trust cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The server cannot be called at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There was no answer.
    #[error(
        "the server could not be asked (if its certificate is not trusted, name that with --ca-fingerprint, which `longshore token create` prints, or with --ca-file)"
    )]
    NoAnswer {
        /// What happened.
        source: CallError,
    },
    /// The server does not take the token.
    #[error(
        "the server refuses the token ({message}): tokens expire and are used up. Make a new one on the server's machine with `longshore token create`"
    )]
    Refused {
        /// The server's words.
        message: String,
    },
    /// The server did not do it.
    #[error(transparent)]
    Call(CallError),
}

/// What a repetition of the same join needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    server: String,
    token_id: String,
    instances: u32,
    client_token: String,
}

/// Joins, unless this machine has joined already. Settings other than those of the request come from `files`
/// and `env`, as in [`AgentConfig::load`](crate::AgentConfig::load).
pub async fn join(
    request: JoinRequest,
    files: impl Into<ConfigFiles>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Joined, JoinError> {
    let env = env.into_iter().chain(request.settings.clone());
    let mut source = Source::load(&files.into(), env)?;
    let data_dir = source.data_dir();
    let origin = match Origin::of(&request.server) {
        Ok((origin, path)) if matches!(path.as_str(), "" | "/") => origin,
        _ => return Err(JoinError::Server { server: request.server }),
    };
    if let Some(identity) = MachineIdentity::read(&data_dir)? {
        return joined_already(&identity, &origin, &request, &mut source, &data_dir);
    }
    let credentials = token(&request.token)?;
    let instances = source.instances()?.unwrap_or(1);
    let mut client = ClientConfig::new(origin.url(), server::region(&mut source, None), credentials);
    client.user_agent = USER_AGENT;
    client.proxies = server::proxies(&mut source)?;
    let known = verify::how(&request, &origin, &client.proxies, server::trust_sources(&mut source)).await?;
    client.trust = known.trust;

    let started = start(&data_dir, &origin, &client.credentials, instances)?;
    save_settings(&data_dir, &request.settings)?;
    let answer = ask(client, &started).await?;
    let identity = MachineIdentity {
        server: origin.url(),
        region: answer.region,
        cluster: answer.cluster,
        access_key_id: answer.access_key_id,
        secret_access_key: answer.secret_access_key.into_inner(),
        ca_pem: known.ca_pem,
        ca_fingerprint: request.ca_fingerprint.map(|fingerprint| fingerprint.to_string()),
        instances,
    };
    identity.write(&data_dir)?;
    forget_start(&data_dir)?;
    Ok(joined(&identity, &data_dir, false))
}

/// The join is complete: whoever deletes the identity and joins anew wants another key, not this one again.
fn forget_start(data_dir: &Path) -> Result<(), FileError> {
    let path = data_dir.join(STARTED_FILE);
    files::remove(&path).map_err(|source| FileError::Write { path, source })
}

fn joined(identity: &MachineIdentity, data_dir: &Path, already: bool) -> Joined {
    Joined {
        server: identity.server.clone(),
        cluster: identity.cluster.clone(),
        access_key_id: identity.access_key_id.clone(),
        already,
        identity_file: MachineIdentity::path(data_dir),
    }
}

fn joined_already(
    identity: &MachineIdentity,
    origin: &Origin,
    request: &JoinRequest,
    source: &mut Source,
    data_dir: &Path,
) -> Result<Joined, JoinError> {
    let identity_file = MachineIdentity::path(data_dir);
    if !identity.is_bound_to(&origin.url()) {
        let (bound_to, cluster) = (identity.server.clone(), identity.cluster.clone());
        return Err(JoinError::BoundElsewhere { bound_to, cluster, identity_file });
    }
    match source.instances()? {
        Some(wanted) if wanted > identity.instances => {
            Err(JoinError::MoreInstances { joined_for: identity.instances, wanted, identity_file })
        }
        _ => {
            forget_start(data_dir)?;
            save_settings(data_dir, &request.settings)?;
            Ok(joined(identity, data_dir, true))
        }
    }
}

/// The token as what it is to the server: an access key.
fn token(token: &str) -> Result<Credentials, JoinError> {
    match token.trim().split_once('.') {
        Some((id, secret)) if id.starts_with("LSTK") && !secret.is_empty() => {
            Ok(Credentials { access_key_id: id.to_owned(), secret: Secret::new(secret), session_token: None })
        }
        _ => Err(JoinError::Token),
    }
}

/// Notes what is about to be asked, or finds that it was asked before.
fn start(data_dir: &Path, origin: &Origin, credentials: &Credentials, instances: u32) -> Result<Started, JoinError> {
    let path = data_dir.join(STARTED_FILE);
    let mut started = Started {
        server: origin.url(),
        token_id: credentials.access_key_id.clone(),
        instances,
        client_token: String::new(),
    };
    let before: Option<Started> = read_json(&path, "delete it")?;
    if let Some(before) = before {
        started.client_token = before.client_token.clone();
        if started == before {
            return Ok(before);
        }
    }
    started.client_token = RequestId::random().to_string();
    write_json(&path, &started, Readers::Owner)?;
    Ok(started)
}

/// Asks for the key.
async fn ask(mut client: ClientConfig, started: &Started) -> Result<JoinContainerInstanceResponse, JoinError> {
    let request = JoinContainerInstanceRequest {
        client_token: started.client_token.clone(),
        instances: Some(i32::try_from(started.instances).unwrap_or(i32::MAX)),
    };
    let body = request.to_json();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5), 2.0, 0.2);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let error = match Client::new(client.clone())?.call(OPERATION, body.clone()).await {
            Ok(answer) => {
                return JoinContainerInstanceResponse::from_json(&answer).map_err(|error| {
                    JoinError::Call(CallError::Answer { operation: OPERATION.name(), cause: error.to_string() })
                });
            }
            Err(error) => error,
        };
        match servers_region(&error) {
            Some(region) if region != client.region && attempts < ATTEMPTS => client.region = region,
            _ if error.is_passing() && attempts < ATTEMPTS => sleep(backoff.next()).await,
            _ => return Err(refusal(error)),
        }
    }
}

fn refusal(error: CallError) -> JoinError {
    match error {
        CallError::Api { ref code, ref message, .. } if error.is_denied() => {
            JoinError::Refused { message: format!("{code}: {message}") }
        }
        CallError::Transport { .. } => JoinError::NoAnswer { source: error },
        other => JoinError::Call(other),
    }
}

/// A machine that joins does not know the server's region, and signatures name one. A server that is asked in another says
/// which it would be: `Credential should be scoped to the region 'eu-west-1', not 'us-east-1'.`
fn servers_region(error: &CallError) -> Option<String> {
    let CallError::Api { message, .. } = error else {
        return None;
    };
    let (_, rest) = message.split_once("to the region '")?;
    let (region, _) = rest.split_once('\'')?;
    Some(region.to_owned())
}

/// Adds `settings` to those saved earlier.
fn save_settings(data_dir: &Path, settings: &BTreeMap<String, String>) -> Result<(), JoinError> {
    if let Some((name, _)) = settings.iter().find(|(_, value)| value.contains(['\n', '\r'])) {
        return Err(JoinError::Setting { name: name.clone() });
    }
    if settings.is_empty() {
        return Ok(());
    }
    let path = data_dir.join(SAVED_FILE);
    let before = files::read(&path).map_err(|source| FileError::Read { path: path.clone(), source })?;
    let name_of = |line: &str| line.split('=').next().unwrap_or(line).trim().to_owned();
    let kept = before.iter().flat_map(|text| text.lines()).filter(|line| !settings.contains_key(&name_of(line)));
    let mut text = String::new();
    for line in kept.map(str::to_owned).chain(settings.iter().map(|(name, value)| format!("{name}={value}"))) {
        text.push_str(&line);
        text.push('\n');
    }
    files::write(&path, text.as_bytes(), Readers::Everybody).map_err(|source| FileError::Write { path, source })?;
    Ok(())
}

#[cfg(test)]
mod tests;
