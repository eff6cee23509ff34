//! `identity.json`: the server this machine is bound to, and the access key it has there. Written by joining.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use longshore_client::{Origin, Trust, TrustSources};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::{self, Readers};

const FILE: &str = "identity.json";

/// What a machine that has joined is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineIdentity {
    /// The server's URL, `https://host:port`.
    pub(crate) server: String,
    pub(crate) region: String,
    /// The name of the cluster whose instances this machine may register.
    pub(crate) cluster: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    /// What the server is verified with, if not with the system's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_pem: Option<String>,
    /// By what the server was recognised when the machine joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_fingerprint: Option<String>,
    /// How many container instances the key is for.
    pub(crate) instances: u32,
}

/// Why a file of the data directory cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what we wrote.
    #[error("{path} is damaged ({cause}): {advice}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its secrets.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
}

impl MachineIdentity {
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// The identity in this data directory; `None` on a machine that has not joined.
    pub(crate) fn read(data_dir: &Path) -> Result<Option<Self>, FileError> {
        read_json(&Self::path(data_dir), "delete it and join this machine again")
    }

    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), FileError> {
        write_json(&Self::path(data_dir), self, Readers::Owner)
    }

    /// Whether `url` is the server that this machine is bound to.
    pub(crate) fn is_bound_to(&self, url: &str) -> bool {
        let origin = |url: &str| Origin::of(url).map(|(origin, _)| origin);
        origin(&self.server).is_ok_and(|ours| origin(url) == Ok(ours))
    }

    /// Whether `cluster`, name or ARN, is the one that this machine is bound to.
    pub(crate) fn is_in(&self, cluster: &str) -> bool {
        cluster.rsplit('/').next() == Some(self.cluster.as_str())
    }

    pub(crate) fn trust(&self, besides: &TrustSources) -> Trust {
        Trust::new(TrustSources { pinned_pem: self.ca_pem.clone(), ..besides.clone() })
    }
}

/// Binds a machine that has joined to its server's new URL and certificates: for whoever runs both, and knows that it is
/// the same server. Key and cluster stay. Nothing happens on a machine that has not joined.
///
/// # Errors
/// When the identity cannot be read or written.
pub fn rebind(data_dir: &Path, server: &str, ca_pem: Option<String>) -> Result<(), FileError> {
    match MachineIdentity::read(data_dir)? {
        Some(identity) if identity.server != server || identity.ca_pem != ca_pem => {
            // The fingerprint by which the server was recognised then says nothing about it now.
            MachineIdentity { server: server.to_owned(), ca_pem, ca_fingerprint: None, ..identity }.write(data_dir)
        }
        _ => Ok(()),
    }
}

impl fmt::Debug for MachineIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineIdentity")
            .field("server", &self.server)
            .field("cluster", &self.cluster)
            .field("access_key_id", &self.access_key_id)
            .field("instances", &self.instances)
            .finish_non_exhaustive()
    }
}

/// Reads a file of ours; `None` if it is not there.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    advice: &'static str,
) -> Result<Option<T>, FileError> {
    let text = files::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let Some(text) = text else {
        return Ok(None);
    };
    // The parser's own words may repeat what it found, which may be a secret.
    let parsed = serde_json::from_str(&text).map(Some);
    parsed.map_err(|error| {
        let cause = format!("line {}, column {}", error.line(), error.column());
        FileError::Damaged { path: path.to_owned(), cause, advice }
    })
}

/// Writes a file of ours, atomically.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T, readers: Readers) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let mut text = serde_json::to_string_pretty(value).map_err(|error| failed(io::Error::other(error)))?;
    text.push('\n');
    files::write(path, text.as_bytes(), readers).map_err(failed)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    pub(crate) fn identity(server: &str) -> MachineIdentity {
        MachineIdentity {
            server: server.into(),
            region: "eu-central-1".into(),
            cluster: "prod".into(),
            access_key_id: "LSINABCDEFGHIJKLMNOP".into(),
            secret_access_key: "hush".into(),
            ca_pem: None,
            ca_fingerprint: None,
            instances: 2,
        }
    }

    #[test]
    fn what_was_written_is_read_again_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MachineIdentity::read(dir.path()).unwrap(), None);
        let identity = identity("https://h:1");
        identity.write(dir.path()).unwrap();
        assert_eq!(MachineIdentity::read(dir.path()).unwrap(), Some(identity.clone()));
        let mode = std::fs::metadata(MachineIdentity::path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{identity:?}").contains("hush"));
    }

    #[test]
    fn a_damaged_file_is_named_with_the_way_out_and_without_its_secret() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(MachineIdentity::path(dir.path()), r#"{"server":1,"secretAccessKey":"hush"}"#).unwrap();
        let error = MachineIdentity::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("identity.json") && error.contains("join") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_server_that_moved_is_followed_and_the_key_stays() {
        let dir = tempfile::tempdir().unwrap();
        rebind(dir.path(), "https://h:2", None).unwrap();
        assert_eq!(MachineIdentity::read(dir.path()).unwrap(), None);
        let identity = MachineIdentity { ca_fingerprint: Some("sha256:00".into()), ..identity("https://h:1") };
        identity.write(dir.path()).unwrap();
        rebind(dir.path(), "https://h:1", None).unwrap();
        assert_eq!(MachineIdentity::read(dir.path()).unwrap(), Some(identity.clone()));
        rebind(dir.path(), "https://h:2", Some("pem".into())).unwrap();
        let (server, ca_pem) = ("https://h:2".into(), Some("pem".into()));
        let moved = MachineIdentity { server, ca_pem, ca_fingerprint: None, ..identity };
        assert_eq!(MachineIdentity::read(dir.path()).unwrap(), Some(moved));
    }

    #[test]
    fn a_server_is_the_same_however_its_url_is_spelt() {
        let identity = identity("https://h:1");
        assert!(identity.is_bound_to("https://h:1/"));
        for other in ["http://h:1", "https://h:2", "https://other:1", "h"] {
            assert!(!identity.is_bound_to(other), "{other}");
        }
        assert!(identity.is_in("prod") && identity.is_in("arn:aws:ecs:r:1:cluster/prod") && !identity.is_in("x"));
    }
}
