//! Signing, in the header form: what our agent and our own commands send.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use longshore_api::Timestamp;

use super::{ALGORITHM, Secret, SignatureError, TERMINATOR, canonical, date, signature};
use crate::crypto::sha256;

/// Names its objects by paths, so that a path is signed as it is on the wire: `a//b` and `a/../b` are objects of their own.
const OBJECT_STORE: &str = "s3";

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
    let path = if service == OBJECT_STORE { path.to_owned() } else { canonical::path(path) };
    let canonical_request = canonical::request(method, &path, &query, &all, None, &names, &hex::encode(sha256(body)))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the object store's own documentation of the header form.
    #[test]
    fn a_request_for_an_object_is_signed_as_documented() {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        };
        let header = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let headers = HeaderMap::from_iter([
            header("host", "examplebucket.s3.amazonaws.com"),
            header("range", "bytes=0-9"),
            header("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ]);
        let at = Timestamp::from_millis(1_369_353_600_000);
        let added = sign(&credentials, "us-east-1", "s3", at, "GET", "/test.txt", &headers, b"").unwrap();
        let authorization = added.last().unwrap().1.to_str().unwrap();
        let signature = "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(authorization.ends_with(signature), "{authorization}");
    }

    #[test]
    fn only_the_object_store_takes_paths_literally() {
        let credentials = Credentials { access_key_id: "A".into(), secret: Secret::new("s"), session_token: None };
        let headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("h"))]);
        let signed = |service, target| {
            sign(&credentials, "r", service, Timestamp::from_millis(0), "GET", target, &headers, b"").unwrap()
        };
        assert_eq!(signed("ecs", "/a//b"), signed("ecs", "/a/b"));
        assert_ne!(signed("s3", "/a//b"), signed("s3", "/a/b"));
    }
}
