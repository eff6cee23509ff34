//! The published Signature Version 4 test suite, both forms (see `vectors/README.md`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use http::header::{HeaderMap, HeaderName, HeaderValue};
use longshore_api::Timestamp;
use longshore_wire::sigv4::{Request, Secret, SecretKeys, SignatureError, Verifier};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    form: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
    signature: String,
}

struct Suite;

impl SecretKeys for Suite {
    fn secret(&self, access_key_id: &str, _session_token: Option<&str>) -> Option<Secret> {
        (access_key_id == "AKIDEXAMPLE").then(|| Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
    }
}

/// 2015-08-30T12:36:00Z.
const SIGNED_AT_MS: i64 = 1_440_938_160_000;

/// Signed by a service (IoT) that adds the token to the query after signing; every other one signs it.
const TOKEN_ADDED_AFTER_SIGNING: (&str, &str) = ("post-sts-header-after", "query");

fn vectors() -> Vec<Vector> {
    let mut all: Vec<Vector> = serde_json::from_str(include_str!("vectors/sigv4.json")).unwrap();
    all.retain(|vector| (vector.name.as_str(), vector.form.as_str()) != TOKEN_ADDED_AFTER_SIGNING);
    assert_eq!(all.len(), 61);
    all
}

fn verify(vector: &Vector, headers: &HeaderMap, at_ms: i64) -> Result<(), SignatureError> {
    let (path, query) = vector.target.split_once('?').unwrap_or((&vector.target, ""));
    let request =
        Request { method: &vector.method, path, query, headers, authority: None, body: vector.body.as_bytes() };
    let verified = Verifier::new("us-east-1", "service").verify(&request, &Suite, Timestamp::from_millis(at_ms))?;
    assert_eq!(verified.access_key_id, "AKIDEXAMPLE");
    Ok(())
}

fn headers(vector: &Vector) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &vector.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

#[test]
fn every_published_vector_verifies() {
    for vector in vectors() {
        assert_eq!(verify(&vector, &headers(&vector), SIGNED_AT_MS), Ok(()), "{} ({})", vector.name, vector.form);
    }
}

#[test]
fn no_published_vector_verifies_with_another_signature() {
    for mut vector in vectors() {
        let other = vector.signature.bytes().rev().map(char::from).collect::<String>();
        vector.target = vector.target.replace(&vector.signature, &other);
        for (_, value) in &mut vector.headers {
            *value = value.replace(&vector.signature, &other);
        }
        assert_eq!(verify(&vector, &headers(&vector), SIGNED_AT_MS), Err(SignatureError::Mismatch), "{}", vector.name);
    }
}

#[test]
fn a_vector_is_good_for_five_minutes_either_way_and_a_presigned_one_for_its_hour() {
    for vector in vectors() {
        let headers = headers(&vector);
        let life_s = if vector.form == "header" { 300 } else { 3600 };
        let at = |offset_s: i64| verify(&vector, &headers, SIGNED_AT_MS + offset_s * 1000);
        assert_eq!(at(life_s), Ok(()), "{}", vector.name);
        assert!(matches!(at(life_s + 1), Err(SignatureError::Expired { .. })), "{}", vector.name);
        assert_eq!(at(-300), Ok(()), "{}", vector.name);
        assert!(matches!(at(-301), Err(SignatureError::NotYetCurrent { .. })), "{}", vector.name);
    }
}
