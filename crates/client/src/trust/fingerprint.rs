//! Knowing a server by the SHA-256 of its certificate, before anything else is known of it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use thiserror::Error as ThisError;

use super::{provider, to_pem};

/// The SHA-256 of a certificate's DER, written `sha256:<64 hexadecimal digits>`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Why a text is no fingerprint.
#[derive(Debug, ThisError)]
#[error("a fingerprint is sha256: and 64 hexadecimal digits, as `longshore token create` prints it")]
pub struct FingerprintError;

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Also as openssl prints it: upper case, with colons.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).replace(':', "");
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| FingerprintError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A certificate that a server presented: its own first, then those of its issuers.
#[derive(Clone, Debug)]
pub struct PresentedCertificate {
    /// What it is known by.
    pub fingerprint: Fingerprint,
    /// The certificate, to be pinned.
    pub pem: String,
}

impl PresentedCertificate {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self { fingerprint: Fingerprint::of(certificate), pem: to_pem(certificate) }
    }
}

/// Believes everybody and remembers what they presented: for looking at certificates, never for sending anything.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    seen: Mutex<Vec<PresentedCertificate>>,
}

impl Recorder {
    pub(crate) fn seen(&self) -> Vec<PresentedCertificate> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain.map(PresentedCertificate::of).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_every_usual_spelling() {
        let plain = "ab".repeat(32);
        let canonical: Fingerprint = format!("sha256:{plain}").parse().unwrap();
        assert_eq!(canonical.to_string(), format!("sha256:{plain}"));
        let colons = ["AB"; 32].join(":");
        for spelling in [plain.clone(), plain.to_uppercase(), colons.clone(), format!("sha256:{colons}")] {
            assert_eq!(spelling.parse::<Fingerprint>().unwrap(), canonical, "{spelling}");
        }
        for bad in ["", "sha256:", "sha1:abab", &plain[1..], &format!("{plain}ab"), "zz"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
