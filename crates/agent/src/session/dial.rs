//! Dialling a session: one signed websocket upgrade.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use longshore_client::{CallError, Client, Origin, OriginError, Signer, Stream, is_denial};
use serde_json::Value;
use thiserror::Error;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::session_target;

/// For the upgrade; the connection has its own limit.
const UPGRADE_LIMIT: Duration = Duration::from_secs(30);
/// Payloads are some kilobytes, a manifest of thousands of tasks a megabyte.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// The library's own default is 128 KiB each way, for every session.
const BUFFER_BYTES: usize = 8 << 10;

/// Why there is no session.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    /// The control plane does not say where to dial.
    #[error(transparent)]
    Discover(#[from] CallError),
    /// It said something we cannot dial.
    #[error("the control plane named the endpoint {endpoint:?}, which is not {expected}")]
    Endpoint {
        /// What it named.
        endpoint: String,
        /// What it should be.
        expected: OriginError,
    },
    /// Nobody there, or no websocket.
    #[error("{authority}: {cause}")]
    Unreachable {
        /// Where we dialled.
        authority: String,
        /// What the system said.
        cause: String,
    },
    /// The control plane refused.
    #[error("refused with status {status}: {code}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// `InactiveInstanceException` …
        code: String,
        /// The control plane's words.
        message: String,
        /// Refused for the time of the signature; corrected, so that dialling again makes sense at once.
        clock_corrected: bool,
    },
}

impl DialError {
    /// The instance was deregistered.
    pub(super) fn is_inactive_instance(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "InactiveInstanceException")
    }

    /// The server does not accept who we are.
    pub(super) fn is_denied(&self) -> bool {
        match self {
            Self::Refused { code, clock_corrected, .. } => !clock_corrected && is_denial(code),
            Self::Discover(error) => error.is_denied(),
            Self::Endpoint { .. } | Self::Unreachable { .. } => false,
        }
    }
}

/// An open session, and what its frames are signed with.
pub(super) struct Dialled {
    pub(super) socket: WebSocketStream<Stream>,
    /// Path and query that were dialled.
    pub(super) target: String,
    pub(super) authority: String,
}

/// Dials `endpoint` with these query parameters, signed afresh.
pub(super) async fn dial(
    endpoint: &str,
    parameters: &BTreeMap<&str, &str>,
    api: &Client,
) -> Result<Dialled, DialError> {
    let (origin, path) =
        Origin::of(endpoint).map_err(|expected| DialError::Endpoint { endpoint: endpoint.to_owned(), expected })?;
    let authority = origin.authority().to_owned();
    let target = session_target(&path, parameters);
    let unreachable = |cause: String| DialError::Unreachable { authority: authority.clone(), cause };
    let request = upgrade(&authority, &target, api.signer()).map_err(unreachable)?;
    let stream = api.transport().connect(&origin).await.map_err(|error| unreachable(error.to_string()))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES);
    let upgraded = within(tokio_tungstenite::client_async_with_config(request, stream, Some(config)))
        .await
        .map_err(unreachable)?;
    match upgraded {
        Ok((socket, _)) => Ok(Dialled { socket, target, authority }),
        Err(tungstenite::Error::Http(response)) => Err(refusal(&response, api.signer())),
        Err(error) => Err(unreachable(error.to_string())),
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, String> {
    timeout(UPGRADE_LIMIT, work).await.map_err(|_| format!("no answer within {}s", UPGRADE_LIMIT.as_secs()))
}

fn upgrade(authority: &str, target: &str, signer: &Signer) -> Result<Request<()>, String> {
    let value = |text: &str| HeaderValue::try_from(text).map_err(|error| error.to_string());
    // Only the host is signed (and the date, which signing adds): the rest belongs to this connection.
    let mut headers = HeaderMap::new();
    headers.insert(HOST, value(authority)?);
    headers.extend(signer.sign("GET", target, &headers, b"")?);
    headers.insert(USER_AGENT, HeaderValue::from_static("Go-http-client/1.1"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, value(&generate_key())?);
    let mut request = Request::new(());
    *request.uri_mut() =
        format!("ws://{authority}{target}").parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// A refusal's body is `{"<ErrorType>":"<message>"}`, or an ordinary API error from whatever stands in front.
fn refusal(response: &http::Response<Option<Vec<u8>>>, signer: &Signer) -> DialError {
    let body = response.body().as_deref().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (code, message) = match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => match (map.get("__type"), map.iter().next()) {
            (Some(kind), _) => (text(kind), map.get("message").map(text).unwrap_or_default()),
            (None, Some((kind, message))) => (kind.clone(), text(message)),
            (None, None) => Default::default(),
        },
        _ => (String::new(), String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()),
    };
    DialError::Refused {
        status: response.status().as_u16(),
        clock_corrected: signer.learn_skew(&format!("{code}{message}"), response.headers()),
        code,
        message,
    }
}
