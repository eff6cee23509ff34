//! Calls of operations: one attempt with one time limit. Whether and when to try again differs by operation and is the
//! caller's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use longshore_api::{admin, ecr, ecs, secrets_manager, ssm};
use longshore_wire::aws_json::{ECS_TARGET_PREFIX, ERROR_TYPE, TARGET};
use longshore_wire::sigv4;
use serde::Deserialize;
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;

use crate::chain;
use crate::proxy::Proxies;
use crate::signer::Signer;
use crate::transport::{ConnectError, Connector, Origin, OriginError, Transport};
use crate::trust::{Trust, TrustError};

/// The official agent's limit on one call.
const CALL_LIMIT: Duration = Duration::from_secs(42);
/// An idle connection is closed by us before a server (60 s is usual) does it under a request.
const POOL_IDLE: Duration = Duration::from_secs(45);
/// The largest answers are pages of some hundred descriptions.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Whom to call, and as whom.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `http://host:port` or `https://host:port`.
    pub base_url: String,
    /// Region for signatures.
    pub region: String,
    /// Key for signatures.
    pub credentials: sigv4::Credentials,
    /// How a server is verified.
    pub trust: Trust,
    /// Proxies on the way.
    pub proxies: Proxies,
    /// What the server's logs call us.
    pub user_agent: &'static str,
    /// Limit on one call.
    pub call_limit: Duration,
}

impl ClientConfig {
    /// The system's trust roots, no proxy, and time for a slow answer.
    pub fn new(base_url: impl Into<String>, region: impl Into<String>, credentials: sigv4::Credentials) -> Self {
        Self {
            base_url: base_url.into(),
            region: region.into(),
            credentials,
            trust: Trust::default(),
            proxies: Proxies::default(),
            user_agent: concat!("longshore/", env!("CARGO_PKG_VERSION")),
            call_limit: CALL_LIMIT,
        }
    }
}

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The base URL is none.
    #[error("{base_url:?} is not {expected}")]
    BaseUrl {
        /// What was given.
        base_url: String,
        /// What it should be.
        expected: OriginError,
    },
    /// There is nothing to verify the server with.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// An operation with the service it belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    service: &'static str,
    /// What the service is called in signatures.
    signing: &'static str,
    name: &'static str,
}

impl Operation {
    /// Its name alone.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl From<ecs::Operation> for Operation {
    fn from(operation: ecs::Operation) -> Self {
        Self { service: ECS_TARGET_PREFIX, signing: ecs::SIGNING_NAME, name: operation.name() }
    }
}

impl From<admin::Operation> for Operation {
    fn from(operation: admin::Operation) -> Self {
        Self { service: admin::TARGET_PREFIX, signing: ecs::SIGNING_NAME, name: operation.name() }
    }
}

impl From<ssm::Operation> for Operation {
    fn from(operation: ssm::Operation) -> Self {
        Self { service: ssm::TARGET_PREFIX, signing: ssm::SIGNING_NAME, name: operation.name() }
    }
}

impl From<secrets_manager::Operation> for Operation {
    fn from(operation: secrets_manager::Operation) -> Self {
        let (service, signing) = (secrets_manager::TARGET_PREFIX, secrets_manager::SIGNING_NAME);
        Self { service, signing, name: operation.name() }
    }
}

impl From<ecr::Operation> for Operation {
    fn from(operation: ecr::Operation) -> Self {
        Self { service: ecr::TARGET_PREFIX, signing: ecr::SIGNING_NAME, name: operation.facts().name }
    }
}

/// The `X-Amz-Target`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.name)
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a call failed.
#[derive(Debug, Clone, Error)]
pub enum CallError {
    /// The server answered with an error.
    #[error("{operation}: {code}: {message}")]
    Api {
        /// What was called.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// The exception's name.
        code: String,
        /// The server's words.
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
    /// The exception's name, if the server gave one.
    pub fn code(&self) -> &str {
        match self {
            Self::Api { code, .. } => code,
            Self::Transport { .. } | Self::Answer { .. } => "",
        }
    }

    /// Whether the same call may well work a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Api { status, code, .. } => *status >= 500 || code == "ThrottlingException",
            Self::Answer { .. } => false,
        }
    }

    /// Whether the server does not accept who we are, or does not allow us this.
    pub fn is_denied(&self) -> bool {
        is_denial(self.code())
    }
}

/// Codes with which a server says that a key is unknown, revoked, or not allowed to do this.
pub fn is_denial(code: &str) -> bool {
    matches!(
        code,
        "AccessDeniedException"
            | "AccessDenied"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationTokenException"
    )
}

/// Calls operations. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: HttpClient<Connector, Full<Bytes>>,
    transport: Transport,
    origin: Arc<Origin>,
    signer: Arc<Signer>,
    user_agent: HeaderValue,
    call_limit: Duration,
}

/// An error's body, in the spellings that servers use.
#[derive(Deserialize, Default)]
struct ErrorBody {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl Client {
    /// A client for the server at the base URL.
    ///
    /// # Errors
    /// When the base URL is none, or its server could not be verified for want of trust roots.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let origin = match Origin::of(&config.base_url) {
            Ok((origin, path)) if matches!(path.as_str(), "" | "/") => origin,
            _ => return Err(ClientError::BaseUrl { base_url: config.base_url, expected: OriginError }),
        };
        if origin.is_tls() {
            config.trust.load()?;
        }
        let transport = Transport::new(config.trust, config.proxies);
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(Connector(transport.clone()));
        Ok(Self {
            http,
            transport,
            origin: Arc::new(origin),
            signer: Arc::new(Signer::new(config.credentials, config.region)),
            user_agent: HeaderValue::from_static(config.user_agent),
            call_limit: config.call_limit,
        })
    }

    /// The same server, over the same connections, called by somebody else.
    #[must_use]
    pub fn signing_as(&self, credentials: sigv4::Credentials, region: &str) -> Self {
        Self { signer: Arc::new(Signer::new(credentials, region)), ..self.clone() }
    }

    /// What signs the calls.
    pub fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    /// What opens the connections.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The server.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn http(&self) -> &HttpClient<Connector, Full<Bytes>> {
        &self.http
    }

    pub(crate) fn call_limit(&self) -> Duration {
        self.call_limit
    }

    /// One attempt (a second one only to correct a wrong clock); the answer's body.
    ///
    /// # Errors
    /// When there is no answer, or the answer is an error.
    pub async fn call(&self, operation: impl Into<Operation>, body: impl Into<Bytes>) -> Result<Bytes, CallError> {
        let (operation, body) = (operation.into(), body.into());
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
    async fn attempt(&self, operation: Operation, body: Bytes) -> Result<Bytes, (CallError, bool)> {
        let name = operation.name();
        let transport = |cause: String| {
            let endpoint = self.origin.url();
            (CallError::Transport { operation: name, endpoint, cause }, false)
        };
        let request = self.request(operation, body).map_err(transport)?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| transport(reason(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES)
                .collect()
                .await
                .map_err(|error| transport(error.to_string()))?
                .to_bytes();
            if head.status.is_success() {
                return Ok(body);
            }
            let error = api_error(name, &head, &body);
            let corrected = self.signer.learn_skew(error.code(), &head.headers);
            Err((error, corrected))
        };
        timeout(self.call_limit, exchange)
            .await
            .unwrap_or_else(|_| Err(transport(format!("not within {}s", self.call_limit.as_secs()))))
    }

    fn request(&self, operation: Operation, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::try_from(text).map_err(|error| error.to_string());
        headers.insert(HOST, value(self.origin.authority())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert(TARGET, value(&operation.to_string())?);
        headers.extend(self.signer.sign_for(operation.signing, "POST", "/", &headers, &body)?);
        headers.insert(USER_AGENT, self.user_agent.clone());
        headers.extend(self.transport.forward_auth(&self.origin).map(|auth| (PROXY_AUTHORIZATION, auth)));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            format!("{}/", self.origin.url()).parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Our own connector says what went wrong best; the layers above it only that something did.
pub(crate) fn reason(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref::<ConnectError>() {
            return chain(ours);
        }
        cause = inner.source();
    }
    chain(error)
}

pub(crate) fn api_error(operation: &'static str, head: &http::response::Parts, body: &[u8]) -> CallError {
    let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let header = head.headers.get(ERROR_TYPE).and_then(|value| value.to_str().ok());
    // `namespace#Name` and `Name:http://…` are both in use.
    let code =
        [header.unwrap_or_default(), &parsed.kind].into_iter().find(|text| !text.is_empty()).unwrap_or("UnknownError");
    let code = code.rsplit('#').next().unwrap_or(code);
    let code = code.split(':').next().unwrap_or(code);
    CallError::Api { operation, status: head.status.as_u16(), code: code.to_owned(), message: parsed.message }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn targets_name_the_service() {
        let target = |operation: Operation| operation.to_string();
        assert_eq!(target(ecs::Operation::RunTask.into()), "AmazonEC2ContainerServiceV20141113.RunTask");
        assert_eq!(target(admin::Operation::CreateJoinToken.into()), "Longshore.CreateJoinToken");
        let token = target(ecr::Operation::GetAuthorizationToken.into());
        assert_eq!(token, "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken");
        assert_eq!(target(ssm::Operation::GetParameters.into()), "AmazonSSM.GetParameters");
        assert_eq!(target(secrets_manager::Operation::GetSecretValue.into()), "secretsmanager.GetSecretValue");
    }

    #[test]
    fn a_base_url_has_a_scheme_and_no_path() {
        for (url, fine) in [
            ("http://h:1", true),
            ("https://h/", true),
            ("http://h:1/path", false),
            ("h:1", false),
            ("ftp://h", false),
            ("http://user:pass@h", false),
        ] {
            let client = Client::new(ClientConfig::new(url, "r", crate::testing::credentials()));
            // A machine without trust roots is another matter.
            let refused = matches!(client, Err(ClientError::BaseUrl { .. }));
            assert_eq!(!refused, fine, "{url}");
        }
    }
}
