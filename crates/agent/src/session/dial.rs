//! Dialling a session: one signed websocket upgrade.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use http::{Request, Uri};
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::session_target;
use crate::api_client::{CallError, Signer};

/// For the connection and for the upgrade, each.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
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
    #[error("the control plane named the endpoint {endpoint:?}: {why}")]
    Endpoint {
        /// What it named.
        endpoint: String,
        /// What is wrong with it.
        why: String,
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
}

/// An open session, and what its frames are signed with.
pub(super) struct Dialled {
    pub(super) socket: WebSocketStream<TcpStream>,
    /// Path and query that were dialled.
    pub(super) target: String,
    pub(super) authority: String,
}

/// Where an endpoint leads: authority and path.
fn resolve(endpoint: &str) -> Result<(String, String), DialError> {
    let bad = |why: &str| DialError::Endpoint { endpoint: endpoint.to_owned(), why: why.to_owned() };
    let uri: Uri = endpoint.parse().map_err(|_| bad("not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "ws") => {}
        Some("https" | "wss") => return Err(bad("TLS is not supported yet, use http")),
        _ => return Err(bad("it needs the scheme http")),
    }
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    Ok((authority.to_string(), uri.path().to_owned()))
}

/// Dials `endpoint` with these query parameters, signed afresh.
pub(super) async fn dial(
    endpoint: &str,
    parameters: &BTreeMap<&str, &str>,
    signer: &Signer,
) -> Result<Dialled, DialError> {
    let (authority, path) = resolve(endpoint)?;
    let target = session_target(&path, parameters);
    let unreachable = |cause: String| DialError::Unreachable { authority: authority.clone(), cause };
    let request = upgrade(&authority, &target, signer).map_err(unreachable)?;
    let address = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.clone(),
        _ => format!("{authority}:80"),
    };
    let stream = within(TcpStream::connect(&address))
        .await
        .and_then(|stream| stream.map_err(|error| error.to_string()))
        .map_err(unreachable)?;
    // State changes and acks are small and must not wait for more to come.
    stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
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
        Err(tungstenite::Error::Http(response)) => Err(refusal(&response, signer)),
        Err(error) => Err(unreachable(error.to_string())),
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, String> {
    timeout(DIAL_LIMIT, work).await.map_err(|_| format!("no answer within {}s", DIAL_LIMIT.as_secs()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_we_cannot_dial_are_named() {
        for (endpoint, part) in [("https://h/acs/", "TLS"), ("h:80/acs", "URL"), ("/acs", "scheme"), ("", "URL")] {
            let error = resolve(endpoint).unwrap_err().to_string();
            assert!(error.contains(part), "{endpoint}: {error}");
        }
        assert_eq!(resolve("http://h:1/a/").unwrap(), ("h:1".to_owned(), "/a/".to_owned()));
    }
}
