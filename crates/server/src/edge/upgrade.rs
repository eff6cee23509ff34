//! The websocket doors of agents: `GET /acs/ws` and `GET /tcs/ws`. Everything that can be refused is refused before the 101,
//! because only then can an agent be told why.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use longshore_wire::aws_json::{ERROR_TYPE, REQUEST_ID};
use longshore_wire::request_id::RequestId;
use longshore_wire::sigv4;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Edge;
use super::request::Trace;
use crate::sessions::{Handshake, Refusal};

/// Which of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Orders and acknowledgements.
    Acs,
    /// Telemetry.
    Tcs,
}

/// Answers an upgrade: 101 with a session behind it, or a refusal in the words of the agent protocol.
pub(super) async fn answer(
    edge: &Edge,
    mut request: Request<Incoming>,
    kind: Kind,
    id: &RequestId,
    trace: &mut Trace,
) -> Response<Bytes> {
    trace.operation = Some(match kind {
        Kind::Acs => "acs",
        Kind::Tcs => "tcs",
    });
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (head, _body) = request.into_parts();
    let mut response = match open(edge, &head, on_upgrade, kind, trace).await {
        Ok(accept) => switching(accept),
        Err(refusal) => {
            trace.code = Some(refusal.name);
            trace.context = Some(refusal.message.clone());
            refused(&refusal)
        }
    };
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

async fn open(
    edge: &Edge,
    head: &Parts,
    on_upgrade: hyper::upgrade::OnUpgrade,
    kind: Kind,
    trace: &mut Trace,
) -> Result<HeaderValue, Refusal> {
    let principal = edge
        .authenticator
        .principal(&sigv4::Request::new(head, b""))
        .map_err(|error| Refusal::access_denied(error.to_string()))?;
    trace.principal = Some(principal.clone());
    let accept = accept_key(head)?;
    let handshake = Handshake {
        principal,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        on_upgrade,
    };
    match kind {
        Kind::Acs => edge.sessions.open_acs(handshake, Arc::clone(&edge.orchestrator)).await?,
        Kind::Tcs => {
            let authenticator = Arc::clone(&edge.authenticator);
            edge.sessions.open_tcs(handshake, authenticator, Arc::clone(&edge.orchestrator))?;
        }
    }
    Ok(accept)
}

/// What the 101 must say to this handshake.
fn accept_key(head: &Parts) -> Result<HeaderValue, Refusal> {
    let has = |name, token: &str| {
        let values = head.headers.get_all::<header::HeaderName>(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    let well_formed = head.method == Method::GET
        && head.version == Version::HTTP_11
        && has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    key(&head.headers).filter(|_| well_formed).ok_or_else(|| {
        Refusal::bad_request("Open a websocket here: GET over HTTP/1.1 with Upgrade: websocket, version 13.")
    })
}

fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    HeaderValue::try_from(derive_accept_key(headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes())).ok()
}

fn switching(accept: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// `{"<ErrorType>":"<message>"}`: what agents read from any status but 101.
fn refused(refusal: &Refusal) -> Response<Bytes> {
    let body = serde_json::json!({ refusal.name: refusal.message });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = refusal.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(refusal.name));
    response
}
