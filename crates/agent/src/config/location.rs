//! Where the file of settings is: on this machine, or in an object store.
//!
//! What comes from an object store is fetched anew at each start. A copy is kept in the data directory: a machine that starts
//! while the store is away goes on with the settings it had.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_client::{ObjectName, S3, S3Config, S3Error, Trust, TrustSources, chain};
use longshore_wire::sigv4;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::sleep;

use super::credential_chain::{CredentialChain, Found};
use super::source::Source;
use super::{ConfigError, USER_AGENT, server};
use crate::files::Readers;
use crate::identity::{read_json, write_json};

/// A file of settings has some lines.
const MOST_BYTES: usize = 256 << 10;
/// Attempts while there is no copy to go on with: a machine that boots may get its network after us.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);
/// In the data directory.
const COPY: &str = "ecs.config.fetched";
const OBJECT_PREFIX: &str = "s3://";

/// Where the file of settings is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigLocation {
    /// On this machine.
    File(PathBuf),
    /// In an object store.
    Object(ObjectName),
}

/// Files of settings, at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConfigFiles {
    /// Those in the usual places, as far as they exist.
    #[default]
    Usual,
    /// This one alone, which must exist.
    One(PathBuf),
    /// Those in the usual places, above what was fetched: the machine's own word counts for more than the fleet's.
    UsualAbove(ConfigObject),
}

/// What an object store had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigObject {
    pub(super) name: ObjectName,
    pub(super) text: String,
    /// Why it is not the one that is there now, if so.
    pub(super) stale: Option<String>,
}

/// Why an object with settings cannot be had.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// The store does not have it, or not for us.
    #[error("the settings cannot be fetched")]
    Store(#[from] S3Error),
    /// The store does not show it to strangers, and we have no keys.
    #[error("{object} cannot be fetched without AWS credentials, and there are none: {tried}")]
    NoCredentials {
        /// The object.
        object: ObjectName,
        /// Where they were looked for.
        tried: String,
    },
    /// It is not text.
    #[error("{object} is not a file of settings: it is not UTF-8 text")]
    NoText {
        /// The object.
        object: ObjectName,
    },
}

impl ObjectError {
    /// Whether what we have is still good. If the object is gone, or is none, somebody has to say what is meant instead; a store
    /// that is away, or keys that have ended, say nothing about the settings.
    fn leaves_copy_good(&self) -> bool {
        match self {
            Self::Store(S3Error::Refused { status, .. }) => *status != 404,
            Self::Store(S3Error::Transport { .. }) | Self::NoCredentials { .. } => true,
            Self::Store(S3Error::Endpoint { .. } | S3Error::TooLarge { .. }) | Self::NoText { .. } => false,
        }
    }

    fn is_passing(&self) -> bool {
        match self {
            Self::Store(error) => error.is_passing(),
            Self::NoCredentials { .. } | Self::NoText { .. } => false,
        }
    }
}

/// The copy of what was fetched last.
#[derive(Serialize, Deserialize)]
struct FetchedCopy {
    object: String,
    text: String,
}

impl TryFrom<PathBuf> for ConfigLocation {
    type Error = String;

    /// Whatever begins with `s3://` is an object, everything else a path.
    fn try_from(path: PathBuf) -> Result<Self, String> {
        match path.to_str().filter(|text| text.starts_with(OBJECT_PREFIX)) {
            None => Ok(Self::File(path)),
            Some(text) => {
                ObjectName::parse(text).map(Self::Object).map_err(|_| "an object is named s3://bucket/key".to_owned())
            }
        }
    }
}

impl fmt::Display for ConfigLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Object(name) => name.fmt(f),
        }
    }
}

impl ConfigLocation {
    /// As an argument of a command.
    pub fn argument(&self) -> std::ffi::OsString {
        match self {
            Self::File(path) => path.clone().into_os_string(),
            Self::Object(name) => name.to_string().into(),
        }
    }

    /// Fetches what is elsewhere. How to get there say `env` and the files in the usual places.
    ///
    /// # Errors
    /// When the settings are in an object that cannot be had, and there is no copy that would do.
    pub async fn fetched(&self, env: &BTreeMap<String, String>) -> Result<ConfigFiles, ConfigError> {
        match self {
            Self::File(path) => Ok(ConfigFiles::One(path.clone())),
            Self::Object(name) => object(name, env).await.map(ConfigFiles::UsualAbove),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<Option<&P>> for ConfigFiles {
    fn from(path: Option<&P>) -> Self {
        path.map_or(Self::Usual, |path| Self::One(path.as_ref().to_owned()))
    }
}

async fn object(name: &ObjectName, env: &BTreeMap<String, String>) -> Result<ConfigObject, ConfigError> {
    let mut source = Source::load(&ConfigFiles::Usual, env.clone())?;
    let copy_path = source.data_dir().join(COPY);
    let copy = copy_of(name, &copy_path);
    let mut attempts = if copy.is_some() { 1 } else { ATTEMPTS };
    loop {
        attempts -= 1;
        match fetch(name, &mut source).await? {
            Ok(text) => {
                if copy.as_ref() != Some(&text) {
                    keep(name, &text, &copy_path);
                }
                return Ok(ConfigObject { name: name.clone(), text, stale: None });
            }
            Err(error) => match &copy {
                Some(text) if error.leaves_copy_good() => {
                    let stale = format!("{} ({})", chain(&error), copy_path.display());
                    return Ok(ConfigObject { name: name.clone(), text: text.clone(), stale: Some(stale) });
                }
                None if error.is_passing() && attempts > 0 => sleep(PAUSE).await,
                _ => return Err(error.into()),
            },
        }
    }
}

/// One attempt. Keys are looked for each time: those of a role end.
async fn fetch(name: &ObjectName, source: &mut Source) -> Result<Result<String, ObjectError>, ConfigError> {
    let store = S3::new(store_config(source)?).map_err(ObjectError::Store)?;
    let found = CredentialChain::read(source)?.find().await;
    let keys: Option<sigv4::Credentials> = match &found {
        Found::Keys(keys) => Some(keys.for_signing()),
        Found::Nothing(_) => None,
    };
    Ok(match (store.get(keys.as_ref(), name, MOST_BYTES).await, found) {
        (Ok(bytes), _) => String::from_utf8(bytes.to_vec()).map_err(|_| ObjectError::NoText { object: name.clone() }),
        (Err(S3Error::Refused { status: 401 | 403, .. }), Found::Nothing(tried)) => {
            Err(ObjectError::NoCredentials { object: name.clone(), tried })
        }
        (Err(error), _) => Err(error.into()),
    })
}

/// Where objects are to be had.
pub(super) fn store_config(source: &mut Source) -> Result<S3Config, ConfigError> {
    let (of_s3, of_all) = (source.text("AWS_ENDPOINT_URL_S3"), source.text("AWS_ENDPOINT_URL"));
    let ignored = source.boolean("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", false)?;
    // LONGSHORE_CA_FILE is for the server, who is somebody else.
    let ca_file = source.text("AWS_CA_BUNDLE").map(PathBuf::from);
    let trust = TrustSources { ca_file, ..server::trust_sources(source) };
    Ok(S3Config {
        endpoint: of_s3.or(of_all).filter(|_| !ignored),
        trust: Trust::new(trust),
        proxies: server::proxies(source)?,
        user_agent: USER_AGENT,
        ..S3Config::new(server::region(source, None))
    })
}

/// What was fetched last, if it was this object. A copy that cannot be read is none.
fn copy_of(name: &ObjectName, path: &Path) -> Option<String> {
    let copy: Option<FetchedCopy> = read_json(path, "delete it").ok().flatten();
    copy.filter(|copy| copy.object == name.to_string()).map(|copy| copy.text)
}

/// It may hold logins to registries, so nobody else reads it. Without it, the next start depends on the store: no reason not to
/// start now.
fn keep(name: &ObjectName, text: &str, path: &Path) {
    let copy = FetchedCopy { object: name.to_string(), text: text.to_owned() };
    let _ = write_json(path, &copy, Readers::Owner);
}
