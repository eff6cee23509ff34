//! TLS: whose certificate the server shows, and how it is kept current.
//!
//! Either the server has an authority of its own ([`own_ca`]), made at the first start, whose fingerprint a machine that
//! joins is told; or it is given a certificate ([`given`]). Both are looked at again while the server runs: the own one is
//! renewed before it expires, the given one is read again when its files change.
//!
//! The provider is named wherever a configuration is built: rustls would panic if it had to choose between two.

mod acceptor;
mod given;
mod own_ca;
mod pem;
#[cfg(test)]
mod tests;
mod x509;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use longshore_api::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{ServerConfig, TlsConfig};
use crate::error::ServerError;

pub(crate) use acceptor::Acceptor;
pub(crate) use own_ca::is_name;

/// How often the certificate is looked at. Names and addresses of the machine change, given files are replaced by whoever
/// renews them.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
/// How long before its end a given certificate is warned about: who renews by hand needs days.
const WARN_BEFORE_MS: i64 = 14 * 24 * 3_600_000;

/// A certificate to be shown, with its key, and what one needs to know of it.
struct Identity {
    certified: Arc<CertifiedKey>,
    not_after: Timestamp,
    /// The URL's host by which a client of this machine reaches the server under a name in the certificate.
    local_host: String,
    /// What a client pins: the last certificate that is shown.
    pinned: CertificateDer<'static>,
}

/// Where the certificate comes from.
enum Source {
    Own(Box<own_ca::OwnCa>),
    Given(given::Given),
}

/// The server's TLS.
pub(crate) struct Tls {
    source: Source,
    listen: SocketAddr,
    shown: Arc<Shown>,
    local_host: String,
    fingerprint: String,
}

/// The certificate that is shown now. Handshakes read it, nothing else of the configuration changes.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// The TLS that is configured, if it is, for a listener at this address. Makes the own authority if there is none.
    pub(crate) fn start(config: &ServerConfig, listen: SocketAddr) -> Result<Option<Self>, ServerError> {
        let source = match &config.tls {
            None => return Ok(None),
            Some(TlsConfig::Own { names }) => {
                Source::Own(Box::new(own_ca::OwnCa::load_or_create(&config.data_dir, names.clone())?))
            }
            Some(TlsConfig::Given { cert, key }) => Source::Given(given::Given::new(cert.clone(), key.clone())),
        };
        let identity = source.identity(listen, clock::now())?;
        identity.warn_if_ending(clock::now());
        Ok(Some(Self {
            source,
            listen,
            shown: Arc::new(Shown(ArcSwap::new(identity.certified))),
            local_host: identity.local_host,
            fingerprint: pem::fingerprint(&identity.pinned),
        }))
    }

    /// What makes TLS connections of TCP ones.
    pub(crate) fn acceptor(&self) -> Result<Acceptor, ServerError> {
        Acceptor::new(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>)
    }

    /// The host by which this machine reaches the server, with brackets if it needs them.
    pub(crate) fn local_host(&self) -> &str {
        &self.local_host
    }

    /// `sha256:<64 hexadecimal digits>` of what a client pins.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The own authority's certificate, and it together with the system's roots; nothing for a given certificate.
    pub(crate) fn ca_files(&self) -> Option<(PathBuf, PathBuf)> {
        match &self.source {
            Source::Own(own) => Some((own.ca_file(), own.bundle_file())),
            Source::Given(_) => None,
        }
    }

    /// Keeps the certificate current until `stop` is cancelled.
    pub(crate) async fn keep_current(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let tls = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || tls.look(clock::now())).await.is_err() {
                tracing::error!("looking at the certificate panicked");
            }
        }
    }

    /// Shows another certificate if there is one. What is shown stays when another cannot be had.
    fn look(&self, now: Timestamp) {
        let identity = match &self.source {
            Source::Own(own) if !own.is_due(self.listen, now) => return,
            source => source.identity(self.listen, now),
        };
        match identity {
            Ok(identity) => {
                identity.warn_if_ending(now);
                if self.shown.0.load().cert != identity.certified.cert {
                    tracing::info!(fingerprint = pem::fingerprint(&identity.pinned), "shows a new certificate");
                    self.shown.0.store(identity.certified);
                }
            }
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(error, "cannot renew the certificate; the old one stays");
            }
        }
    }
}

impl Source {
    fn identity(&self, listen: SocketAddr, now: Timestamp) -> Result<Identity, ServerError> {
        match self {
            Self::Own(own) => own.identity(listen, now),
            Self::Given(given) => given.identity(listen),
        }
    }
}

impl Identity {
    fn warn_if_ending(&self, now: Timestamp) {
        let left_ms = self.not_after.since(now);
        if left_ms <= 0 {
            tracing::warn!("the certificate has expired: clients refuse it; replace it with a current one");
        } else if left_ms < WARN_BEFORE_MS {
            tracing::warn!(hours_left = left_ms / 3_600_000, "the certificate expires soon");
        }
    }
}

/// The one provider.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}
