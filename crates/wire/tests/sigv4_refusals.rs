//! What the verifier refuses, and in which words.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use http::header::{HeaderMap, HeaderName, HeaderValue};
use longshore_api::{ApiError, Timestamp};
use longshore_wire::sigv4::{Credentials, Request, Secret, SecretKeys, SignatureError, Verifier, scoped_service, sign};

const NOW: Timestamp = Timestamp::from_millis(1_795_330_648_000);
const BODY: &[u8] = b"{\"cluster\":\"default\"}";

struct OneKey;

impl SecretKeys for OneKey {
    fn secret(&self, access_key_id: &str, session_token: Option<&str>) -> Option<Secret> {
        (access_key_id == "AKIAROOT" && session_token.is_none()).then(|| Secret::new("secret"))
    }
}

/// A request as a client would send it, to be spoilt one part at a time.
struct Sent {
    headers: HeaderMap,
    query: String,
    body: Vec<u8>,
    method: &'static str,
}

fn base_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
    headers.insert("x-amz-target", HeaderValue::from_static("AmazonEC2ContainerServiceV20141113.ListTasks"));
    headers
}

fn signed_by(key: &str, token: Option<&str>, region: &str, service: &str, at: Timestamp, headers: HeaderMap) -> Sent {
    let credentials = Credentials {
        access_key_id: key.to_owned(),
        secret: Secret::new("secret"),
        session_token: token.map(str::to_owned),
    };
    let added = sign(&credentials, region, service, at, "POST", "/?b=2&a=x+y", &headers, BODY).unwrap();
    let mut headers = headers;
    headers.extend(added);
    Sent { headers, query: "b=2&a=x+y".to_owned(), body: BODY.to_vec(), method: "POST" }
}

fn signed() -> Sent {
    signed_by("AKIAROOT", None, "us-east-1", "ecs", NOW, base_headers())
}

fn check(sent: &Sent) -> Result<(), SignatureError> {
    let request = Request {
        method: sent.method,
        path: "/",
        query: &sent.query,
        headers: &sent.headers,
        authority: None,
        body: &sent.body,
    };
    Verifier::new("us-east-1", "ecs").verify(&request, &OneKey, NOW).map(drop)
}

fn refused(sent: &Sent) -> (String, String) {
    let error = ApiError::from(check(sent).unwrap_err());
    (error.code.name.to_owned(), error.message)
}

#[test]
fn what_we_sign_we_accept() {
    assert_eq!(check(&signed()), Ok(()));
}

#[test]
fn a_changed_part_is_a_mismatch() {
    let mut method = signed();
    method.method = "PUT";
    let mut query = signed();
    query.query = "b=2&a=x+z".to_owned();
    let mut target = signed();
    target.headers.insert("x-amz-target", HeaderValue::from_static("AmazonEC2ContainerServiceV20141113.StopTask"));
    let mut host = signed();
    host.headers.insert("host", HeaderValue::from_static("elsewhere"));
    let mut body = signed();
    body.body.push(b' ');
    for sent in [method, query, target, host, body] {
        let (code, message) = refused(&sent);
        assert_eq!(code, "InvalidSignatureException");
        assert!(message.starts_with("The request signature we calculated does not match"), "{message}");
    }
}

#[test]
fn no_authentication_at_all() {
    let mut sent = signed();
    sent.headers.remove("authorization");
    assert_eq!(refused(&sent), ("MissingAuthenticationTokenException".into(), "Missing Authentication Token".into()));
}

#[test]
fn incomplete_authorization_says_what_is_missing() {
    for (value, part) in [
        ("Basic Zm9v", "must begin with 'AWS4-HMAC-SHA256'"),
        ("AWS4-HMAC-SHA256", "must begin with"),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/e",
            "requires 'Signature' parameter. Authorization header requires 'SignedHeaders'",
        ),
        ("AWS4-HMAC-SHA256 nonsense", "key=value"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "exactly 5"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Credential=a/b/c/d/e, SignedHeaders=host, Signature=0", "twice"),
    ] {
        let mut sent = signed();
        sent.headers.insert("authorization", HeaderValue::from_static(value));
        let (code, message) = refused(&sent);
        assert_eq!(code, "IncompleteSignatureException", "{value}");
        assert!(message.contains(part), "{message}");
    }
    let mut undated = signed();
    undated.headers.remove("x-amz-date");
    let (code, message) = refused(&undated);
    assert_eq!(code, "IncompleteSignatureException");
    assert!(message.contains("'X-Amz-Date' or a 'Date'"), "{message}");
}

#[test]
fn an_unknown_key_and_a_foreign_token_are_the_same_refusal() {
    for sent in [
        signed_by("AKIAOTHER", None, "us-east-1", "ecs", NOW, base_headers()),
        signed_by("AKIAROOT", Some("token"), "us-east-1", "ecs", NOW, base_headers()),
    ] {
        assert_eq!(
            refused(&sent),
            ("UnrecognizedClientException".into(), "The security token included in the request is invalid.".into())
        );
    }
}

#[test]
fn skew_names_both_times() {
    let old = signed_by("AKIAROOT", None, "us-east-1", "ecs", NOW.plus_millis(-301_000), base_headers());
    assert_eq!(
        refused(&old),
        (
            "InvalidSignatureException".into(),
            "Signature expired: 20261122T065227Z is now earlier than 20261122T065228Z (20261122T065728Z - 5 min.)"
                .into()
        )
    );
    let new = signed_by("AKIAROOT", None, "us-east-1", "ecs", NOW.plus_millis(301_000), base_headers());
    assert_eq!(
        refused(&new).1,
        "Signature not yet current: 20261122T070229Z is still later than 20261122T070228Z (20261122T065728Z + 5 min.)"
    );
}

#[test]
fn a_credential_for_elsewhere_is_refused() {
    for (region, service, part) in
        [("eu-west-1", "ecs", "region 'us-east-1', not 'eu-west-1'"), ("us-east-1", "s3", "service: 'ecs'")]
    {
        let (code, message) = refused(&signed_by("AKIAROOT", None, region, service, NOW, base_headers()));
        assert_eq!(code, "InvalidSignatureException");
        assert!(message.contains(part), "{message}");
    }
    for (from, to, part) in [
        ("/aws4_request", "/aws3_request", "terminator"),
        ("/2026", "/2025", "Date in Credential scope does not match"),
    ] {
        let mut sent = signed();
        let value = sent.headers["authorization"].to_str().unwrap().replacen(from, to, 1);
        sent.headers.insert("authorization", HeaderValue::try_from(value).unwrap());
        let (code, message) = refused(&sent);
        assert_eq!(code, "InvalidSignatureException");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn host_and_target_must_be_signed() {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
    let mut sent = signed_by("AKIAROOT", None, "us-east-1", "ecs", NOW, headers);
    sent.headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
    assert_eq!(refused(&sent).1, "'Host' must be a 'SignedHeader' in the AWS Authorization.");

    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
    let mut sent = signed_by("AKIAROOT", None, "us-east-1", "ecs", NOW, headers);
    sent.headers.extend(base_headers());
    assert_eq!(refused(&sent).1, "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.");
}

#[test]
fn a_signed_header_must_be_there() {
    let mut headers = base_headers();
    headers.insert("x-amz-more", HeaderValue::from_static("1"));
    let mut sent = signed_by("AKIAROOT", None, "us-east-1", "ecs", NOW, headers);
    sent.headers.remove("x-amz-more");
    assert!(refused(&sent).1.contains("'x-amz-more'"));
}

#[test]
fn a_declared_body_hash_must_be_the_bodys() {
    for declared in ["UNSIGNED-PAYLOAD", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"] {
        let mut headers = base_headers();
        headers.insert("x-amz-content-sha256", HeaderValue::from_static(declared));
        let sent = signed_by("AKIAROOT", None, "us-east-1", "ecs", NOW, headers);
        assert!(refused(&sent).1.contains("X-Amz-Content-Sha256"));
    }
}

#[test]
fn http2_signs_its_authority_as_host() {
    let mut sent = signed();
    sent.headers.remove("host");
    let verify = |authority| {
        let request = Request {
            method: "POST",
            path: "/",
            query: &sent.query,
            headers: &sent.headers,
            authority,
            body: &sent.body,
        };
        Verifier::new("us-east-1", "ecs").verify(&request, &OneKey, NOW).map(drop)
    };
    assert_eq!(verify(Some("127.0.0.1:8080")), Ok(()));
    assert_eq!(verify(Some("elsewhere")), Err(SignatureError::Mismatch));
    assert_eq!(verify(None), Err(SignatureError::SignedHeaderMissing { name: "host".into() }));
}

#[test]
fn presigned_parts_are_checked() {
    let good = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAROOT%2F20261122%2Fus-east-1%2Fecs%2Faws4_request\
                &X-Amz-Date=20261122T065728Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("host"), HeaderValue::from_static("h"));
    let check = |query: String| {
        let sent = Sent { headers: headers.clone(), query, body: Vec::new(), method: "GET" };
        refused(&sent)
    };
    assert!(check(good.to_owned()).1.starts_with("The request signature we calculated"));
    for (from, to, part) in [
        ("X-Amz-Expires=60", "X-Amz-Expires=604801", "from 1 to 604800"),
        ("X-Amz-Expires=60", "X-Amz-Expires=0", "from 1 to 604800"),
        ("X-Amz-Expires=60", "X-Amz-Expires=-1", "from 1 to 604800"),
        ("X-Amz-Expires=60&", "", "must include 'X-Amz-Expires'"),
        ("X-Amz-Date=2", "X-Amz-Date=x", "ISO-8601"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "only supports"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=61", "only once"),
    ] {
        let (code, message) = check(good.replace(from, to));
        assert_eq!(code, "IncompleteSignatureException", "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_service_with_a_global_endpoint_takes_its_region_too_and_no_third_one() {
    let regional = Verifier::new("eu-west-1", "sts");
    let global = regional.clone().or_global();
    let passes = |verifier: &Verifier, region: &str| {
        let sent = signed_by("AKIAROOT", None, region, "sts", NOW, base_headers());
        let request = Request {
            method: "POST",
            path: "/",
            query: &sent.query,
            headers: &sent.headers,
            authority: None,
            body: &sent.body,
        };
        verifier.verify(&request, &OneKey, NOW).is_ok()
    };
    assert_eq!(["eu-west-1", "us-east-1", "us-west-2"].map(|region| passes(&regional, region)), [true, false, false]);
    assert_eq!(["eu-west-1", "us-east-1", "us-west-2"].map(|region| passes(&global, region)), [true, true, false]);
}

#[test]
fn a_request_says_which_service_it_is_signed_for_in_either_form() {
    let service = |query: &str, authorization: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization {
            headers.insert("authorization", HeaderValue::from_static(authorization));
        }
        scoped_service(&Request { method: "POST", path: "/", query, headers: &headers, authority: None, body: b"" })
    };
    let header = "AWS4-HMAC-SHA256 Credential=k/20150830/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0";
    assert_eq!(service("", Some(header)).as_deref(), Some("sts"));
    let query = "X-Amz-Credential=k%2F20150830%2Fus-east-1%2Fiam%2Faws4_request";
    assert_eq!(service(query, None).as_deref(), Some("iam"));
    assert_eq!(service(query, Some(header)).as_deref(), Some("sts"), "the header wins, as it does when it is verified");
    for unclear in [Some("Bearer x"), Some("AWS4-HMAC-SHA256 Credential=a/b/c"), Some("Credential=a/b/c//d"), None] {
        assert_eq!(service("", unclear), None, "{unclear:?}");
    }
}
