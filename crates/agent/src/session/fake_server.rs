//! A control plane for tests: verifies signatures, answers API calls as told, hands its websockets to the test. With TLS if the
//! test likes.

mod tls;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use longshore_agent_protocol::acs::{AgentMessage, ServerMessage};
use longshore_api::Timestamp;
use longshore_client::{Client, ClientConfig, Trust, TrustSources, now};
use longshore_wire::sigv4;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::config::Credentials;

const KEY: &str = "AKIATEST";
const SECRET: &str = "very-secret/+";

/// A join token, and its halves.
pub(crate) const TOKEN: &str = "LSTKAAAABBBBCCCCDDDD.token-secret";

/// The keys there are: an ordinary one and a join token.
pub(crate) struct TestKey;

impl sigv4::SecretKeys for TestKey {
    fn secret(&self, access_key_id: &str, session_token: Option<&str>) -> Option<sigv4::Secret> {
        let secret = match TOKEN.split_once('.') {
            Some((id, secret)) if id == access_key_id => secret,
            _ if access_key_id == KEY => SECRET,
            _ => return None,
        };
        session_token.is_none().then(|| sigv4::Secret::new(secret))
    }
}

/// An API call as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) operation: String,
    pub(crate) body: Value,
}

type Answer = Box<dyn Fn(&Call) -> (u16, Value) + Send + Sync>;

struct Inner {
    answer: Answer,
    clock_ahead_ms: Mutex<i64>,
    refusals: Mutex<VecDeque<(u16, String)>>,
    calls: mpsc::UnboundedSender<Call>,
    sessions: mpsc::UnboundedSender<Session>,
}

/// The running fake; it ends with the test's runtime.
pub(crate) struct FakeServer {
    pub(crate) base: String,
    /// What it presents, its own certificate first, in PEM; empty without TLS.
    pub(crate) chain: Vec<String>,
    inner: Arc<Inner>,
    /// Calls in order of arrival.
    pub(crate) calls: mpsc::UnboundedReceiver<Call>,
    sessions: mpsc::UnboundedReceiver<Session>,
    other: VecDeque<Session>,
}

/// A websocket that was opened to the fake.
pub(crate) struct Session {
    /// Path and query as dialled.
    pub(crate) target: String,
    pub(crate) socket: WebSocket,
}

impl FakeServer {
    pub(crate) async fn start(answer: impl Fn(&Call) -> (u16, Value) + Send + Sync + 'static) -> Self {
        Self::listening(None, answer).await
    }

    /// One with a certificate for `localhost`.
    pub(crate) async fn with_tls(answer: impl Fn(&Call) -> (u16, Value) + Send + Sync + 'static) -> Self {
        Self::listening(Some(tls::Certificates::for_localhost()), answer).await
    }

    async fn listening(
        certificates: Option<tls::Certificates>,
        answer: impl Fn(&Call) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let (calls_sender, calls) = mpsc::unbounded_channel();
        let (sessions_sender, sessions) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            answer: Box::new(answer),
            clock_ahead_ms: Mutex::default(),
            refusals: Mutex::default(),
            calls: calls_sender,
            sessions: sessions_sender,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(handle).with_state(inner.clone());
        let (base, chain) = match certificates {
            None => {
                tokio::spawn(async move { axum::serve(listener, router).await });
                (format!("http://{address}"), Vec::new())
            }
            Some(certificates) => {
                let chain = certificates.pem.clone();
                let listener = tls::Listener::new(listener, &certificates);
                tokio::spawn(async move { axum::serve(listener, router).await });
                (format!("https://localhost:{}", address.port()), chain)
            }
        };
        Self { base, chain, inner, calls, sessions, other: VecDeque::new() }
    }

    /// One that only says where its endpoints are.
    pub(crate) async fn with_endpoints() -> Self {
        Self::saying_where_it_is(None).await
    }

    /// As above, with TLS.
    pub(crate) async fn with_tls_endpoints() -> Self {
        Self::saying_where_it_is(Some(tls::Certificates::for_localhost())).await
    }

    async fn saying_where_it_is(certificates: Option<tls::Certificates>) -> Self {
        let base = Arc::new(Mutex::new(String::new()));
        let known = base.clone();
        let server = Self::listening(certificates, move |_| (200, endpoints(&known.lock().unwrap()))).await;
        *base.lock().unwrap() = server.base.clone();
        server
    }

    pub(crate) fn client(&self) -> Client {
        let mut config = ClientConfig::new(&*self.base, "us-east-1", credentials().for_signing());
        config.trust = Trust::new(TrustSources { pinned_pem: self.chain.last().cloned(), ..TrustSources::default() });
        Client::new(config).unwrap()
    }

    pub(crate) fn set_clock_ahead_ms(&self, ms: i64) {
        *self.inner.clock_ahead_ms.lock().unwrap() = ms;
    }

    /// The next websocket upgrade is refused with this.
    pub(crate) fn refuse_session(&self, status: u16, body: &str) {
        let refusal = (status, body.to_owned());
        self.inner.refusals.lock().unwrap().push_back(refusal);
    }

    /// The next ACS (`/acs/`) or TCS (`/tcs/`) session.
    pub(crate) async fn session(&mut self, path: &str) -> Session {
        if let Some(at) = self.other.iter().position(|s| s.target.starts_with(path)) {
            return self.other.remove(at).unwrap();
        }
        loop {
            let session = self.sessions.recv().await.unwrap();
            if session.target.starts_with(path) {
                return session;
            }
            self.other.push_back(session);
        }
    }

    /// The next call of that operation; others are passed over.
    pub(crate) async fn call(&mut self, operation: &str) -> Value {
        loop {
            let call = self.calls.recv().await.unwrap();
            if call.operation == operation {
                return call.body;
            }
        }
    }
}

impl Session {
    pub(crate) async fn send(&mut self, message: &ServerMessage) {
        self.send_text(&message.encode()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next text frame; `None` once the socket is closed.
    pub(crate) async fn text(&mut self) -> Option<String> {
        loop {
            match self.socket.recv().await?.ok()? {
                Message::Text(text) => return Some(text.to_string()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    pub(crate) async fn receive(&mut self) -> AgentMessage {
        AgentMessage::decode(&self.text().await.unwrap()).unwrap().unwrap()
    }
}

pub(crate) fn credentials() -> Credentials {
    Credentials { access_key_id: KEY.into(), secret_access_key: SECRET.into(), session_token: None }
}

/// The answer of DiscoverPollEndpoint.
pub(crate) fn endpoints(base: &str) -> Value {
    json!({ "endpoint": format!("{base}/acs/"), "telemetryEndpoint": format!("{base}/tcs/") })
}

async fn handle(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let ahead_ms = *inner.clock_ahead_ms.lock().unwrap();
    if let Err(refusal) = verify(&head, &body, now().plus_millis(ahead_ms)) {
        return dated(refusal, ahead_ms);
    }
    if head.headers.contains_key("upgrade") {
        if let Some((status, body)) = inner.refusals.lock().unwrap().pop_front() {
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        let target = head.uri.path_and_query().unwrap().to_string();
        let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await.unwrap();
        return upgrade.on_upgrade(async move |socket| {
            let _ = inner.sessions.send(Session { target, socket });
        });
    }
    let target = head.headers["x-amz-target"].to_str().unwrap();
    let call =
        Call { operation: target.split('.').nth(1).unwrap().to_owned(), body: serde_json::from_slice(&body).unwrap() };
    let (status, answer) = (inner.answer)(&call);
    let _ = inner.calls.send(call);
    (StatusCode::from_u16(status).unwrap(), answer.to_string()).into_response()
}

fn verify(head: &http::request::Parts, body: &[u8], at: Timestamp) -> Result<(), String> {
    sigv4::Verifier::new("us-east-1", "ecs")
        .verify(&sigv4::Request::new(head, body), &TestKey, at)
        .map(drop)
        .map_err(|error| json!({ "__type": "InvalidSignatureException", "message": error.to_string() }).to_string())
}

fn dated(refusal: String, ahead_ms: i64) -> Response {
    let at = jiff::Timestamp::from_millisecond(now().as_millis() + ahead_ms).unwrap();
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
    (StatusCode::FORBIDDEN, [("date", date)], refusal).into_response()
}
