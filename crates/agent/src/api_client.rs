//! The ECS API as an agent calls it: signed awsJson 1.1 over one pooled HTTP client.
//!
//! A call is one attempt with one time limit. Whether and when to try again differs by operation and is the caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use longshore_api::Timestamp;
use longshore_wire::sigv4;
use serde::Deserialize;
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;

use crate::config::Credentials;

const TARGET_PREFIX: &str = "AmazonEC2ContainerServiceV20141113";
const SERVICE: &str = "ecs";
/// The official agent's limit on one call.
const CALL_LIMIT: Duration = Duration::from_secs(42);
/// An idle connection is closed by us before a server (60 s is usual) does it under a request.
const POOL_IDLE: Duration = Duration::from_secs(45);
/// The answers we read are some kilobytes.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Clocks that differ by less than this are the network's delay, not skew; servers accept five minutes.
const SKEW_WORTH_CORRECTING_MS: i64 = 60_000;

/// Why a call failed.
#[derive(Debug, Clone, Error)]
pub enum CallError {
    /// The control plane answered with an error.
    #[error("{operation}: {code}: {message}")]
    Api {
        /// What was called.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// The exception's name.
        code: String,
        /// The control plane's words.
        message: String,
    },
    /// There was no answer.
    #[error("{operation}: no answer from {endpoint}: {cause}")]
    Transport {
        /// What was called.
        operation: &'static str,
        /// Where.
        endpoint: String,
        /// What the system said.
        cause: String,
    },
    /// The answer is not what the operation promises.
    #[error("{operation}: the answer cannot be read: {cause}")]
    Answer {
        /// What was called.
        operation: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

impl CallError {
    /// The exception's name, if the control plane gave one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Api { code, .. } => code,
            Self::Transport { .. } | Self::Answer { .. } => "",
        }
    }

    /// Whether the same call may well work a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Api { status, code, .. } => *status >= 500 || code == "ThrottlingException",
            Self::Answer { .. } => false,
        }
    }
}

/// Signs as this agent, on the control plane's clock.
pub(crate) struct Signer {
    credentials: sigv4::Credentials,
    region: String,
    /// How far the control plane's clock is ahead of ours, once it told us that this matters.
    skew_ms: AtomicI64,
}

impl Signer {
    pub(crate) fn new(credentials: &Credentials, region: &str) -> Self {
        Self {
            credentials: sigv4::Credentials {
                access_key_id: credentials.access_key_id.clone(),
                secret: sigv4::Secret::new(credentials.secret_access_key.clone()),
                session_token: credentials.session_token.clone(),
            },
            region: region.to_owned(),
            skew_ms: AtomicI64::new(0),
        }
    }

    /// The headers that sign a request; all of `headers` are covered.
    pub(crate) fn sign(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let at = now().plus_millis(self.skew_ms.load(Ordering::Relaxed));
        sigv4::sign(&self.credentials, &self.region, SERVICE, at, method, target, headers, body)
            .map_err(|error| error.to_string())
    }

    /// After a refusal: takes over the control plane's clock if ours is far from it. Says whether that changed
    /// anything, so that the same request is worth another attempt.
    pub(crate) fn learn_skew(&self, code: &str, headers: &HeaderMap) -> bool {
        let about_time = code.contains("Signature") || code.contains("Skew") || code.contains("Expired");
        let Some(theirs) = about_time.then(|| date_of(headers)).flatten() else {
            return false;
        };
        let skew_ms = theirs - now().as_millis();
        let known = self.skew_ms.swap(skew_ms, Ordering::Relaxed);
        if (skew_ms - known).abs() < SKEW_WORTH_CORRECTING_MS {
            self.skew_ms.store(known, Ordering::Relaxed);
            return false;
        }
        warn!(
            seconds = skew_ms / 1000,
            "this machine's clock differs from the control plane's; signing with theirs. Set this clock (NTP)"
        );
        true
    }
}

/// The `Date` of an answer, in milliseconds.
fn date_of(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(date.as_millisecond())
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Calls operations of the ECS API.
#[derive(Clone)]
pub(crate) struct ApiClient {
    http: Client<HttpConnector, Full<Bytes>>,
    base: Arc<str>,
    signer: Arc<Signer>,
    user_agent: HeaderValue,
}

/// An error's body, in the spellings that servers use.
#[derive(Deserialize, Default)]
struct ErrorBody {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl ApiClient {
    /// `base` is the control plane's URL without a trailing slash.
    pub(crate) fn new(base: &str, signer: Arc<Signer>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(30)));
        Self {
            http: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(POOL_IDLE)
                .pool_timer(hyper_util::rt::TokioTimer::new())
                .build(connector),
            base: base.into(),
            signer,
            user_agent: HeaderValue::from_static(concat!("longshore-agent/", env!("CARGO_PKG_VERSION"))),
        }
    }

    pub(crate) fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    /// One attempt (a second one only to correct a wrong clock); the answer's body.
    pub(crate) async fn call(&self, operation: &'static str, body: Vec<u8>) -> Result<Bytes, CallError> {
        let body = Bytes::from(body);
        match self.attempt(operation, body.clone()).await {
            Err((error, true)) => {
                warn!(%error, "refused for the time of the signature");
                self.attempt(operation, body).await
            }
            other => other,
        }
        .map_err(|(error, _)| error)
    }

    /// The error says whether another attempt with a corrected clock makes sense.
    async fn attempt(&self, operation: &'static str, body: Bytes) -> Result<Bytes, (CallError, bool)> {
        let transport = |cause: String| {
            let endpoint = self.base.to_string();
            let error = CallError::Transport { operation, endpoint, cause };
            (error, false)
        };
        let request = self.request(operation, body).map_err(transport)?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| transport(chain(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES)
                .collect()
                .await
                .map_err(|error| transport(error.to_string()))?
                .to_bytes();
            if head.status.is_success() {
                return Ok(body);
            }
            let error = api_error(operation, &head, &body);
            let corrected = self.signer.learn_skew(error.code(), &head.headers);
            Err((error, corrected))
        };
        timeout(CALL_LIMIT, exchange)
            .await
            .unwrap_or_else(|_| Err(transport(format!("not within {}s", CALL_LIMIT.as_secs()))))
    }

    fn request(&self, operation: &str, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let authority = self.base.trim_start_matches("http://");
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::try_from(text).map_err(|error| error.to_string());
        headers.insert(HOST, value(authority)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert("x-amz-target", value(&format!("{TARGET_PREFIX}.{operation}"))?);
        headers.extend(self.signer.sign("POST", "/", &headers, &body)?);
        headers.insert(USER_AGENT, self.user_agent.clone());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            format!("{}/", self.base).parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn api_error(operation: &'static str, head: &http::response::Parts, body: &[u8]) -> CallError {
    let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let header = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    // `namespace#Name` and `Name:http://…` are both in use.
    let code =
        [header.unwrap_or_default(), &parsed.kind].into_iter().find(|text| !text.is_empty()).unwrap_or("UnknownError");
    let code = code.rsplit('#').next().unwrap_or(code);
    let code = code.split(':').next().unwrap_or(code);
    CallError::Api { operation, status: head.status.as_u16(), code: code.to_owned(), message: parsed.message }
}

/// An error with its causes: the outermost of hyper's says only that the client failed.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let credentials =
            Credentials { access_key_id: "AKIA".into(), secret_access_key: "hush".into(), session_token: None };
        Signer::new(&credentials, "us-east-1")
    }

    fn dated(offset_ms: i64) -> HeaderMap {
        let at = jiff::Timestamp::from_millisecond(now().as_millis() + offset_ms).unwrap();
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
        HeaderMap::from_iter([(DATE, HeaderValue::try_from(text).unwrap())])
    }

    #[test]
    fn the_control_planes_clock_is_taken_over_once_and_only_when_it_is_far() {
        let signer = signer();
        assert!(!signer.learn_skew("InvalidSignatureException", &dated(2_000)));
        assert!(!signer.learn_skew("ClientException", &dated(3_600_000)));
        assert!(signer.learn_skew("InvalidSignatureException", &dated(3_600_000)));
        assert!(!signer.learn_skew("InvalidSignatureException", &dated(3_600_000)));
        let skew_ms = signer.skew_ms.load(Ordering::Relaxed);
        assert!((skew_ms - 3_600_000).abs() < 5_000, "{skew_ms}");
    }

    #[test]
    fn error_names_are_found_in_every_spelling() {
        for (header, body, code) in [
            (None, r#"{"__type":"ClientException","message":"m"}"#, "ClientException"),
            (None, r#"{"__type":"a.b#ServerException","Message":"m"}"#, "ServerException"),
            (Some("ThrottlingException:http://x/"), "", "ThrottlingException"),
            (None, "<html>", "UnknownError"),
        ] {
            let mut response = http::Response::builder().status(400);
            if let Some(header) = header {
                response = response.header("x-amzn-ErrorType", header);
            }
            let (head, ()) = response.body(()).unwrap().into_parts();
            assert_eq!(api_error("Op", &head, body.as_bytes()).code(), code);
        }
    }
}
