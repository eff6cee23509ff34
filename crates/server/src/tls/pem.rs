//! PEM out, and fingerprints.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A certificate as PEM.
pub(super) fn certificate(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// `sha256:<64 hexadecimal digits>` of a certificate.
pub(super) fn fingerprint(der: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest::digest(&digest::SHA256, der)))
}
