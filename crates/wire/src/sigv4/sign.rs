//! Signing, in the header form: what our agent and our own commands send.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use longshore_api::Timestamp;

use super::{ALGORITHM, Secret, SignatureError, TERMINATOR, canonical, date, signature};
use crate::crypto::sha256;

/// Whom a request is signed as.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret: Secret,
    /// Present with temporary credentials only.
    pub session_token: Option<String>,
}

/// Signs a request in the header form and returns the headers to add to it: `x-amz-date`, `x-amz-security-token` with
/// temporary credentials, `authorization`.
///
/// `target` is path and query as they go on the wire. *All* of `headers` are signed, so pass those that reach the server
/// unchanged (`host` always: a server refuses a request whose `host` is not signed) and leave out `connection` and its kind.
#[allow(
    clippy::too_many_arguments,
    reason = "the parts of a request; a struct would only move the same list to the caller"
)]
pub fn sign(
    credentials: &Credentials,
    region: &str,
    service: &str,
    at: Timestamp,
    method: &str,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<(HeaderName, HeaderValue)>, SignatureError> {
    let unusable = |what: &str| SignatureError::Incomplete(format!("The {what} cannot be written as a header."));
    let amz_date = date::format(at).ok_or_else(|| unusable("time"))?;
    let mut added =
        vec![(HeaderName::from_static("x-amz-date"), HeaderValue::try_from(&amz_date).map_err(|_| unusable("time"))?)];
    if let Some(token) = &credentials.session_token {
        let mut value = HeaderValue::try_from(token).map_err(|_| unusable("session token"))?;
        value.set_sensitive(true);
        added.push((HeaderName::from_static("x-amz-security-token"), value));
    }
    let mut all = headers.clone();
    all.extend(added.iter().cloned());

    let mut names: Vec<&str> = all.keys().map(HeaderName::as_str).filter(|name| *name != AUTHORIZATION).collect();
    names.sort_unstable();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = canonical::query(canonical::parameters(query).iter());
    let canonical_request = canonical::request(method, path, &query, &all, None, &names, &hex::encode(sha256(body)))?;
    let signature = signature(&credentials.secret, &amz_date, region, service, &canonical_request);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}/{region}/{service}/{TERMINATOR}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id,
        amz_date.get(..8).unwrap_or_default(),
        names.join(";"),
    );
    let mut value = HeaderValue::try_from(authorization).map_err(|_| unusable("access key id"))?;
    value.set_sensitive(true);
    added.push((AUTHORIZATION, value));
    Ok(added)
}
