//! A certificate that the operator gives: read at the start, and again when its files change.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::x509::Facts;
use super::{Identity, provider};
use crate::error::ServerError;
use crate::server::reachable;

/// Certificates in one file: a chain has three, a file with more than this is something else.
const MAX_CERTIFICATES: usize = 32;

/// Where the certificate and its key are.
pub(super) struct Given {
    cert: PathBuf,
    key: PathBuf,
}

impl Given {
    pub(super) fn new(cert: PathBuf, key: PathBuf) -> Self {
        Self { cert, key }
    }

    /// Reads both files.
    pub(super) fn identity(&self, listen: SocketAddr) -> Result<Identity, ServerError> {
        let chain = read_chain(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unusable("--tls-key", &self.key, pem_problem("PRIVATE KEY", &error)))?;
        let Some((leaf, pinned)) = chain.first().zip(chain.last()) else {
            return Err(unusable("--tls-cert", &self.cert, "it holds no CERTIFICATE in PEM form".to_owned()));
        };
        let facts = Facts::of(leaf)
            .ok_or_else(|| unusable("--tls-cert", &self.cert, "its first certificate cannot be read".to_owned()))?;
        let (not_after, local_host, pinned) = (facts.not_after, local_host(&facts, listen), pinned.clone());
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let problem = format!("it is not the key of the first certificate in {}", self.cert.display());
                unusable("--tls-key", &self.key, problem)
            }
            other => unusable("--tls-key", &self.key, other.to_string()),
        })?;
        Ok(Identity { certified: Arc::new(certified), not_after, local_host, pinned })
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let problem = |error| unusable("--tls-cert", path, pem_problem("CERTIFICATE", &error));
    let certificates = CertificateDer::pem_file_iter(path).map_err(problem)?;
    certificates.take(MAX_CERTIFICATES).collect::<Result<_, _>>().map_err(problem)
}

fn unusable(setting: &'static str, path: &Path, problem: String) -> ServerError {
    ServerError::TlsFile { setting, path: path.to_owned(), problem }
}

fn pem_problem(wanted: &str, error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => format!("it holds no {wanted} in PEM form"),
        other => format!("it is not readable as PEM: {other}"),
    }
}

/// The host by which a client of this machine finds a name in the certificate: the listener's address if it is there,
/// `localhost`, or the first name, which should lead here.
fn local_host(facts: &Facts<'_>, listen: SocketAddr) -> String {
    let reachable = reachable(listen).ip();
    let plain = facts.names.iter().copied().find(|name| !name.starts_with('*'));
    match plain {
        _ if facts.addresses.contains(&reachable) => url_host(reachable),
        _ if facts.names.contains(&"localhost") => "localhost".to_owned(),
        Some(name) => name.to_owned(),
        None => url_host(facts.addresses.first().copied().unwrap_or(reachable)),
    }
}

/// An address as a URL has it.
pub(super) fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
