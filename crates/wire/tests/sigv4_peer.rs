//! Our verifier against another signer, and our signer against our verifier, over random requests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as PeerCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign as peer_sign,
};
use aws_sigv4::sign::v4;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use longshore_api::Timestamp;
use longshore_wire::sigv4::{Credentials, Request, Secret, SecretKeys, Verifier, sign};
use proptest::prelude::*;

const NOW_MS: i64 = 1_795_330_648_000;
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

struct OneKey;

impl SecretKeys for OneKey {
    fn secret(&self, access_key_id: &str, _session_token: Option<&str>) -> Option<Secret> {
        (access_key_id == KEY).then(|| Secret::new(SECRET))
    }
}

/// A request as it is on the wire.
#[derive(Clone, Debug)]
struct Wire {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn verifies(wire: &Wire) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in &wire.headers {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        else {
            return false;
        };
        headers.append(name, value);
    }
    let request = Request {
        method: &wire.method,
        path: &wire.path,
        query: &wire.query,
        headers: &headers,
        authority: None,
        body: &wire.body,
    };
    Verifier::new("us-east-1", "ecs").verify(&request, &OneKey, Timestamp::from_millis(NOW_MS)).is_ok()
}

fn requests() -> impl Strategy<Value = Wire> {
    let name = "[A-Za-z0-9_.~-]{1,6}";
    let escaped = "([A-Za-z0-9_.~-]|%20|%2B|%2F|%3D|%26|%C3%A9|%25){0,12}";
    // Dot segments are left to the published vectors: signers disagree about one at the end of a path.
    (
        prop::sample::select(vec!["GET", "POST", "PUT"]),
        "(/[a-z0-9_~-][a-z0-9._~-]{0,5}){0,3}/?",
        prop::collection::vec((name, escaped), 0..5),
        prop::collection::btree_map("x-[a-z]{1,6}", "[!-~]{1,3}([!-~ ]{0,12}[!-~])?", 0..4),
        prop::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|(method, path, query, headers, body)| Wire {
            method: method.to_owned(),
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            query: query.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"),
            headers: std::iter::once(("host".to_owned(), "localhost:8080".to_owned())).chain(headers).collect(),
            body,
        })
}

fn signed_by_peer(mut wire: Wire, location: SignatureLocation, payload_header: bool) -> Wire {
    let identity = PeerCredentials::new(KEY, SECRET, None, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = location;
    settings.expires_in = (location == SignatureLocation::QueryParams).then(|| Duration::from_secs(60));
    if payload_header && location == SignatureLocation::Headers {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("ecs")
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS as u64))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let separator = if wire.query.is_empty() { "" } else { "?" };
    let uri = format!("http://localhost:8080{}{separator}{}", wire.path, wire.query);
    let headers = wire.headers.clone();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let body = wire.body.clone();
    let signable = SignableRequest::new(&wire.method, &uri, headers, SignableBody::Bytes(&body)).unwrap();
    let (instructions, _) = peer_sign(signable, &parameters).unwrap().into_parts();
    let mut request = http::Request::builder().uri(&uri).body(()).unwrap();
    instructions.apply_to_request_http1x(&mut request);
    wire.query = request.uri().query().unwrap_or_default().to_owned();
    for (name, value) in request.headers() {
        wire.headers.push((name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
    }
    wire
}

fn signed_by_us(mut wire: Wire) -> Wire {
    let credentials = Credentials { access_key_id: KEY.to_owned(), secret: Secret::new(SECRET), session_token: None };
    let mut headers = HeaderMap::new();
    for (name, value) in &wire.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let target = format!("{}?{}", wire.path, wire.query);
    let at = Timestamp::from_millis(NOW_MS);
    for (name, value) in
        sign(&credentials, "us-east-1", "ecs", at, &wire.method, &target, &headers, &wire.body).unwrap()
    {
        wire.headers.push((name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
    }
    wire
}

/// Changes one character of the wire text to another that means something else.
fn spoilt(mut wire: Wire, part: usize, at: prop::sample::Index, with: char) -> Option<Wire> {
    fn change(text: &mut String, at: prop::sample::Index, with: char) -> Option<()> {
        let at = at.index(text.len().max(1));
        let old = text.get(at..=at)?;
        // Blanks may be folded and the case of an escape's digits is free: neither change means anything.
        if old == " " || old.eq_ignore_ascii_case(&with.to_string()) {
            return None;
        }
        text.replace_range(at..=at, &with.to_string());
        Some(())
    }
    match part % 4 {
        0 => change(&mut wire.path, at, with).filter(|()| at.index(wire.path.len()) > 0)?,
        1 => change(&mut wire.query, at, with)?,
        2 => {
            let index = at.index(wire.headers.len());
            change(&mut wire.headers[index].1, at, with)?;
        }
        _ => {
            let index = at.index(wire.body.len().max(1));
            *wire.body.get_mut(index)? ^= 1;
        }
    }
    Some(wire)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_peer_signs_verifies(wire in requests(), presigned: bool, payload_header: bool) {
        let location = if presigned { SignatureLocation::QueryParams } else { SignatureLocation::Headers };
        let wire = signed_by_peer(wire, location, payload_header);
        prop_assert!(verifies(&wire), "{wire:?}");
    }

    #[test]
    fn what_we_sign_verifies(wire in requests()) {
        let wire = signed_by_us(wire);
        prop_assert!(verifies(&wire), "{wire:?}");
    }

    #[test]
    fn one_changed_byte_does_not(wire in requests(), presigned: bool, part in 0..4_usize, at: prop::sample::Index, with in prop::char::range('k', 'z')) {
        let location = if presigned { SignatureLocation::QueryParams } else { SignatureLocation::Headers };
        let wire = signed_by_peer(wire, location, true);
        if let Some(spoilt) = spoilt(wire.clone(), part, at, with) {
            prop_assert!(!verifies(&spoilt), "{wire:?}\n{spoilt:?}");
        }
    }

    #[test]
    fn no_authorization_makes_the_verifier_panic(value in "\\PC{0,120}", date in "\\PC{0,20}", query in "\\PC{0,80}") {
        let headers = vec![
            ("host".to_owned(), "h".to_owned()),
            ("authorization".to_owned(), format!("AWS4-HMAC-SHA256 {value}")),
            ("x-amz-date".to_owned(), date),
        ];
        let wire = Wire { method: "GET".into(), path: "/".into(), query, headers, body: Vec::new() };
        prop_assert!(!verifies(&wire));
    }

    #[test]
    fn no_presigned_query_makes_the_verifier_panic(query in "(X-Amz-(Signature|Algorithm|Credential|Date|Expires|SignedHeaders)=[A-Za-z0-9/%;+-]{0,30}&){0,7}") {
        let headers = vec![("host".to_owned(), "h".to_owned())];
        let wire = Wire { method: "GET".into(), path: "/".into(), query, headers, body: Vec::new() };
        prop_assert!(!verifies(&wire));
    }
}
