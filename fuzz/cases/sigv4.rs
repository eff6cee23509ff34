//! Signatures: nothing that a stranger sends makes the verifier panic; what was signed is accepted, and nothing else is.
//!
//! Input: `METHOD target`, header lines, an empty line, the body.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use longshore_api::Timestamp;
use longshore_wire::query;
use longshore_wire::sigv4::{Credentials, Request, Secret, SecretKeys, Verifier, scoped_service, sign};

/// 2015-08-30T12:36:00Z, when the published vectors were signed.
const NOW: Timestamp = Timestamp::from_millis(1_440_938_160_000);

struct OneKey;

impl SecretKeys for OneKey {
    fn secret(&self, access_key_id: &str, _session_token: Option<&str>) -> Option<Secret> {
        (access_key_id == "AKIDEXAMPLE").then(|| Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
    }
}

pub(crate) fn run(data: &[u8]) {
    let at = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = at.map_or((data, &[][..]), |at| (&data[..at], &data[at + 2..]));
    let Ok(head) = std::str::from_utf8(head) else { return };
    let mut lines = head.split('\n');
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or(("POST", "/"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.trim())) {
            headers.append(name, value);
        }
    }
    let _ = query::parameter(query, "X-Amz-Credential");
    as_sent(&Request { method, path, query, headers: &headers, authority: None, body });
    signed_by_us(method, target, headers, body);
}

fn as_sent(request: &Request<'_>) {
    for service in ["service", "ecs", "sts"] {
        let verifier = Verifier::new("us-east-1", service).or_global();
        if verifier.verify(request, &OneKey, NOW).is_ok() {
            assert_eq!(scoped_service(request).as_deref(), Some(service), "a call goes where it is signed for");
        }
    }
}

/// What our own signer makes of it passes; with one bit of the body turned it does not.
fn signed_by_us(method: &str, target: &str, mut headers: HeaderMap, body: &[u8]) {
    for name in ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"] {
        headers.remove(name);
    }
    headers.insert("host", HeaderValue::from_static("ecs.example.com"));
    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: None,
    };
    let signed = sign(&credentials, "us-east-1", "ecs", NOW, method, target, &headers, body);
    headers.extend(signed.expect("whatever can be sent can be signed"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request { method, path, query, headers: &headers, authority: None, body };
    let verifier = Verifier::new("us-east-1", "ecs");
    let verified = verifier.verify(&request, &OneKey, NOW).expect("what was signed is accepted");
    assert_eq!(verified.access_key_id, "AKIDEXAMPLE");
    let mut other = body.to_vec();
    match other.first_mut() {
        Some(byte) => *byte ^= 1,
        None => other.push(b'x'),
    }
    assert!(verifier.verify(&Request { body: &other, ..request }, &OneKey, NOW).is_err());
}
