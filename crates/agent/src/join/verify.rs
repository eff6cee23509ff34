//! How the machine that joins knows its server, then and from then on.

use longshore_client::{Origin, Proxies, Transport, Trust, TrustSources};

use super::{JoinError, JoinRequest};
use crate::files;
use crate::identity::FileError;

/// What the server is verified with.
pub(super) struct Known {
    pub(super) trust: Trust,
    /// What to keep of it, so that nothing else is asked later: certificates in PEM.
    pub(super) ca_pem: Option<String>,
}

/// Looks at what the server presents if a fingerprint is all there is to know it by. It is verified as usual afterwards, with
/// what was recognised; nothing is told to it before.
pub(super) async fn how(
    request: &JoinRequest,
    origin: &Origin,
    proxies: &Proxies,
    besides: TrustSources,
) -> Result<Known, JoinError> {
    let server = origin.url();
    if !origin.is_tls() {
        if request.ca_fingerprint.is_some() || request.ca_file.is_some() {
            return Err(JoinError::NothingToVerify { server });
        }
        if !origin.is_loopback() && !request.insecure {
            return Err(JoinError::PlainHttp { server });
        }
    }
    let ca_pem = match (&request.ca_fingerprint, &request.ca_file) {
        (Some(wanted), _) => {
            let transport = Transport::new(Trust::default(), proxies.clone());
            let presented = transport.presented(origin).await;
            let presented = presented.map_err(|source| JoinError::Unreachable { server: server.clone(), source })?;
            let recognised = presented.iter().find(|certificate| certificate.fingerprint == *wanted);
            let Some(recognised) = recognised else {
                let presented = presented.iter().map(|certificate| certificate.fingerprint.to_string()).collect();
                return Err(JoinError::OtherFingerprint { server, wanted: *wanted, presented });
            };
            Some(recognised.pem.clone())
        }
        (None, Some(path)) => {
            let unreadable = |source| FileError::Read { path: path.clone(), source };
            let missing = || unreadable(std::io::ErrorKind::NotFound.into());
            Some(files::read(path).map_err(unreadable)?.ok_or_else(missing)?)
        }
        (None, None) => None,
    };
    let trust = Trust::new(TrustSources { pinned_pem: ca_pem.clone(), ..besides });
    if origin.is_tls() {
        trust.load()?;
    }
    Ok(Known { trust, ca_pem })
}
