//! Which servers to believe: trust roots, pinned certificates, fingerprints.

mod fingerprint;
mod pinned;
mod roots;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

pub use fingerprint::{Fingerprint, FingerprintError, PresentedCertificate};

pub(crate) use fingerprint::Recorder;
use pinned::Verifier;

/// Where trust roots come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustSources {
    /// Certificates in PEM that the server is known by. With them the system's roots are not asked: a machine bound to one
    /// server must not be taken over by whoever can get a public certificate.
    pub pinned_pem: Option<String>,
    /// A PEM file with certificates to trust besides.
    pub ca_file: Option<PathBuf>,
    /// A PEM file instead of the system's (`SSL_CERT_FILE`).
    pub cert_file: Option<PathBuf>,
    /// Folders of PEM files instead of the system's, separated by colons (`SSL_CERT_DIR`).
    pub cert_dir: Option<String>,
}

/// Why trust cannot be established.
#[derive(Debug, Error)]
pub enum TrustError {
    /// A file that was named cannot be read.
    #[error("cannot read the certificates in {path}", path = path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to trust in it.
    #[error("{from} holds no certificate in PEM form that can be trusted")]
    NoCertificate {
        /// The file, or what else it was.
        from: String,
    },
    /// This machine has no trust roots.
    #[error(
        "this machine has no trust roots to verify a server with: install ca-certificates, or name the server's CA file"
    )]
    NoRoots,
    /// The TLS library refuses; it should not.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// What to verify servers with. Clones share what was loaded; loading waits until TLS is needed.
#[derive(Clone, Default)]
pub struct Trust {
    sources: Arc<TrustSources>,
    loaded: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Trust {
    /// From these sources.
    pub fn new(sources: TrustSources) -> Self {
        Self { sources: Arc::new(sources), loaded: Arc::default() }
    }

    /// Reads the certificates, unless that was done before, so that errors show up early.
    ///
    /// # Errors
    /// When a file cannot be read, or nothing is left to trust.
    pub fn load(&self) -> Result<(), TrustError> {
        self.config().map(drop)
    }

    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        if let Some(config) = self.loaded.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(verifying(&self.sources)?);
        Ok(self.loaded.get_or_init(|| config).clone())
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.sources).finish()
    }
}

/// The one provider of cryptography, named explicitly: a second one in the tree must not make a difference.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn verifying(sources: &TrustSources) -> Result<ClientConfig, TrustError> {
    let mut named = Vec::new();
    if let Some(pem) = &sources.pinned_pem {
        named.extend(roots::from_pem(pem.as_bytes(), "the pinned certificate")?);
    }
    if let Some(path) = &sources.ca_file {
        named.extend(roots::from_file(path)?);
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(named.iter().cloned());
    if sources.pinned_pem.is_none() {
        let system = roots::system(sources.cert_file.as_deref(), sources.cert_dir.as_deref())?;
        store.add_parsable_certificates(system);
    }
    let webpki =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build().map_err(
            |error| match error {
                VerifierBuilderError::NoRootAnchors => TrustError::NoRoots,
                other => TrustError::Setup(other.to_string()),
            },
        )?;
    client_config(Arc::new(Verifier { webpki, pinned: named }))
}

/// A configuration that believes everybody and keeps what they present.
pub(crate) fn recording(recorder: Arc<Recorder>) -> Result<ClientConfig, TrustError> {
    client_config(recorder)
}

fn client_config(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, TrustError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate as PEM, for a file that keeps it.
pub(crate) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
