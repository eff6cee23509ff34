//! AWS Signature Version 4: verifying what clients and agents sign, and signing what our agent sends.
//!
//! Both directions share one canonical form (`canonical`), so they cannot drift apart. [`Verifier::verify`] accepts the
//! `Authorization` header and the presigned (query) form; [`sign`] makes the header form. What neither does: decide what the
//! signer may do, or remember signatures (a captured request can be repeated for as long as its date is fresh; TLS is what
//! keeps it from being captured).

pub(crate) mod canonical;
mod date;
mod error;
mod sign;
mod verify;

use std::fmt;

use zeroize::Zeroizing;

pub use error::SignatureError;
pub use sign::{Credentials, sign};
pub use verify::{Claim, Request, SecretKeys, Verified, Verifier, scoped_service};

use crate::crypto::hmac_sha256;

/// The one algorithm.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Ends every credential scope.
pub(crate) const TERMINATOR: &str = "aws4_request";

/// A secret access key: wiped when dropped, never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret access key into custody.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The key in clear, for the one file it is kept in.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The signature of `canonical_request` (hexadecimal), with the key derived for this day, region and service.
pub(crate) fn signature(
    secret: &Secret,
    amz_date: &str,
    region: &str,
    service: &str,
    canonical_request: &str,
) -> String {
    let day = amz_date.get(..8).unwrap_or(amz_date);
    let string_to_sign = string_to_sign(amz_date, region, service, canonical_request);
    let mut key =
        Zeroizing::new(hmac_sha256(Zeroizing::new(format!("AWS4{}", secret.reveal())).as_bytes(), day.as_bytes()));
    for part in [region, service, TERMINATOR] {
        *key = hmac_sha256(key.as_ref(), part.as_bytes());
    }
    hex::encode(hmac_sha256(key.as_ref(), string_to_sign.as_bytes()))
}

/// What is signed: algorithm, time, scope and the canonical request's hash.
pub(crate) fn string_to_sign(amz_date: &str, region: &str, service: &str, canonical_request: &str) -> String {
    let day = amz_date.get(..8).unwrap_or(amz_date);
    let hash = hex::encode(crate::crypto::sha256(canonical_request.as_bytes()));
    format!("{ALGORITHM}\n{amz_date}\n{day}/{region}/{service}/{TERMINATOR}\n{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(..)");
    }
}
