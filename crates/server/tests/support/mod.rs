//! A server's edge and sessions on a real loopback socket, over a small fake of the orchestrator.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

pub mod door;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign as presign};
use aws_sigv4::sign::v4;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_api::ecs::types::{CreateClusterResponse, ListClustersResponse, ListTaskDefinitionFamiliesResponse};
use longshore_api::ecs::{Request, Response};
use longshore_api::{ApiError, Timestamp, admin, error};
use longshore_core::cell::{Command, Reply};
use longshore_core::identity;
use longshore_core::ids::{ClusterId, InstanceId, InstanceKey, TaskId};
use longshore_core::instance::SessionRefusal;
use longshore_core::logs::LogSource;
use longshore_core::read::ReadModel;
use longshore_core::secret;
use longshore_core::{Principal, Role};
use longshore_server::Authenticator;
use longshore_server::access_key::AccessKeys;
use longshore_server::edge::Edge;
use longshore_server::limits::{EdgeLimits, SessionLimits};
use longshore_server::orchestrator::Orchestrator;
use longshore_server::sessions::Sessions;
use longshore_wire::page_token::PageTokens;
use longshore_wire::sigv4::{Credentials, Secret, sign};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const KEY_ID: &str = "LSIATESTTESTTESTTEST";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// More than a socket takes in before its other end reads.
pub const LARGE_ANSWER_BYTES: usize = 12 * 1024 * 1024;
pub const INSTANCE: InstanceKey = InstanceKey { cluster: ClusterId(1), id: InstanceId(2) };
/// The instance that the fake knows.
pub const INSTANCE_ARN: &str =
    "arn:aws:ecs:us-east-1:000000000000:container-instance/default/00000000000000000000000000000002";

pub struct OneKey;

impl AccessKeys for OneKey {
    fn find(&self, access_key_id: &str) -> Option<(Secret, Role)> {
        (access_key_id == KEY_ID).then(|| (Secret::new(SECRET), Role::Owner))
    }

    fn issue(&self, _role: Role, access_key_id: &str) -> Secret {
        Secret::new(format!("secret-of-{access_key_id}"))
    }
}

/// Answers CreateCluster by its name, ListClusters by its cursor, ListTaskDefinitionFamilies and DescribeServer at length;
/// hands on what sessions command.
pub struct Fake {
    /// "slow" waits for this.
    pub go_on: Arc<Notify>,
    /// Told when "slow" has begun.
    pub began: Arc<Notify>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Orchestrator for Fake {
    fn call(&self, _principal: Principal, request: Request) -> BoxFuture<'static, Result<Response, ApiError>> {
        let (go_on, began) = (Arc::clone(&self.go_on), Arc::clone(&self.began));
        async move {
            match request {
                Request::CreateCluster(request) => {
                    match request.cluster_name.as_deref() {
                        Some("panic") => panic!("as the test wants"),
                        Some("hang") => std::future::pending().await,
                        Some("slow") => {
                            began.notify_one();
                            go_on.notified().await;
                        }
                        Some("full") => return Err(ApiError::new(error::THROTTLING_EXCEPTION, "Rate exceeded")),
                        _ => {}
                    }
                    Ok(CreateClusterResponse::default().into())
                }
                Request::ListClusters(request) => Ok(ListClustersResponse {
                    cluster_arns: Some(request.next_token.into_iter().collect()),
                    next_token: Some("cursor-1".to_owned()),
                }
                .into()),
                Request::ListTaskDefinitionFamilies(_) => Ok(ListTaskDefinitionFamiliesResponse {
                    families: Some(vec!["f".repeat(LARGE_ANSWER_BYTES)]),
                    ..Default::default()
                }
                .into()),
                other => Err(ApiError::server(format!("the fake does not know {}", other.operation().name()))),
            }
        }
        .boxed()
    }

    fn administer(
        &self,
        _principal: Principal,
        request: admin::Request,
    ) -> BoxFuture<'static, Result<identity::Answer, ApiError>> {
        let answer = match request {
            admin::Request::DescribeServer(_) => {
                let long =
                    admin::DescribeServerResponse { version: "v".repeat(LARGE_ANSWER_BYTES), ..Default::default() };
                Ok(identity::Answer::Complete(long.into()))
            }
            other => Err(ApiError::server(format!("the fake does not know {}", other.operation().name()))),
        };
        std::future::ready(answer).boxed()
    }

    fn secrets(
        &self,
        _principal: Principal,
        _request: secret::Request,
    ) -> BoxFuture<'static, Result<secret::Answer, ApiError>> {
        std::future::ready(Err(ApiError::server("the fake has no secrets"))).boxed()
    }

    fn secret_name(&self, _: &str) -> Option<Arc<str>> {
        None
    }

    fn role_holders(&self, _instance: InstanceKey, _chosen: &dyn Fn(TaskId) -> bool) -> Vec<secret::RoleHolder> {
        Vec::new()
    }

    fn authorise(&self, _principal: &Principal, _request: &Request) -> Result<(), ApiError> {
        Ok(())
    }

    fn authorise_admin(&self, _principal: &Principal, _request: &admin::Request) -> Result<(), ApiError> {
        Ok(())
    }

    fn log_source(&self, _principal: &Principal, _request: &admin::GetTaskLogsRequest) -> Result<LogSource, ApiError> {
        Err(ApiError::server("the fake has no tasks"))
    }

    fn admit(&self, _principal: &Principal, instance_arn: &str) -> Result<(), SessionRefusal> {
        match instance_arn == INSTANCE_ARN {
            true => Ok(()),
            false => Err(SessionRefusal::InvalidInstance),
        }
    }

    fn view(&self) -> Arc<ReadModel> {
        Arc::new(ReadModel::empty(Arc::new(longshore_core::CellConfig::new("us-east-1", "000000000000"))))
    }

    fn publications(&self) -> watch::Receiver<()> {
        watch::Sender::new(()).subscribe()
    }

    fn command(&self, command: Command) -> BoxFuture<'static, Reply> {
        let reply = match &command {
            Command::SessionOpened { instance_arn, .. } if instance_arn == INSTANCE_ARN => Reply::Session(Ok(INSTANCE)),
            Command::SessionOpened { .. } => Reply::Session(Err(SessionRefusal::InvalidInstance)),
            _ => Reply::None,
        };
        let _ = self.commands.send(command);
        std::future::ready(reply).boxed()
    }
}

pub struct Served {
    pub addr: SocketAddr,
    pub fake: Arc<Fake>,
    pub sessions: Arc<Sessions>,
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

pub async fn serve() -> Served {
    serve_with(|_| ()).await
}

pub async fn serve_with(change: impl FnOnce(&mut EdgeLimits)) -> Served {
    let mut limits = EdgeLimits::default();
    change(&mut limits);
    serve_within(limits, SessionLimits::default()).await
}

pub async fn serve_within(limits: EdgeLimits, session_limits: SessionLimits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (commands_in, commands) = mpsc::unbounded_channel();
    let fake = Arc::new(Fake { go_on: Arc::default(), began: Arc::default(), commands: commands_in });
    let sessions = Arc::new(Sessions::new(session_limits));
    let edge = Edge::new(
        Authenticator::new("us-east-1", "000000000000", OneKey),
        Arc::clone(&fake) as Arc<dyn Orchestrator>,
        Arc::clone(&sessions),
        PageTokens::new([9; 32]),
        limits,
        addr,
    );
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::new(edge).serve(listener, stop.clone()));
    Served { addr, fake, sessions, commands, stop, task }
}

pub fn now() -> Timestamp {
    Timestamp::from_millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
}

pub fn credentials() -> Credentials {
    Credentials { access_key_id: KEY_ID.to_owned(), secret: Secret::new(SECRET), session_token: None }
}

/// The headers of a signed GET of this target.
pub fn signed_get(addr: SocketAddr, target: &str, body: &str) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::try_from(addr.to_string()).unwrap());
    sign(&credentials(), "us-east-1", "ecs", now(), "GET", target, &headers, body.as_bytes()).unwrap()
}

/// A call whose signature is in its URL, made as AWS's own SDK does; its headers are covered.
pub fn presigned(
    service: &str,
    method: &str,
    uri: &str,
    headers: &[(&'static str, &str)],
    body: &'static str,
) -> http::Request<Full<bytes::Bytes>> {
    let identity = AwsCredentials::new(KEY_ID, SECRET, None, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(60));
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(service)
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let covered = headers.iter().copied();
    let signable = SignableRequest::new(method, uri, covered, SignableBody::Bytes(body.as_bytes())).unwrap();
    let (instructions, _) = presign(signable, &parameters).unwrap().into_parts();
    let mut request = http::Request::builder().method(method).uri(uri).body(Full::from(body)).unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::try_from(*value).unwrap());
    }
    instructions.apply_to_request_http1x(&mut request);
    // HTTP/1.1 sends no more than this of a URL.
    *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
    request
}

/// A call, to be spoilt before it is sent.
pub struct Call {
    pub operation: String,
    pub body: Vec<u8>,
    pub at: Timestamp,
    pub key_id: String,
    pub secret: String,
    pub content_type: &'static str,
}

pub fn call(operation: &str, body: impl AsRef<[u8]>) -> Call {
    Call {
        operation: operation.to_owned(),
        body: body.as_ref().to_vec(),
        at: now(),
        key_id: KEY_ID.to_owned(),
        secret: SECRET.to_owned(),
        content_type: "application/x-amz-json-1.1",
    }
}

impl Call {
    pub fn request(&self, addr: SocketAddr) -> http::Request<Full<bytes::Bytes>> {
        self.request_to(&addr.to_string())
    }

    pub fn request_to(&self, host: &str) -> http::Request<Full<bytes::Bytes>> {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::try_from(host).unwrap());
        headers.insert("content-type", HeaderValue::from_static(self.content_type));
        if !self.operation.is_empty() {
            let target = match self.operation.contains('.') {
                true => self.operation.clone(),
                false => format!("AmazonEC2ContainerServiceV20141113.{}", self.operation),
            };
            headers.insert("x-amz-target", HeaderValue::try_from(target).unwrap());
        }
        let credentials =
            Credentials { access_key_id: self.key_id.clone(), secret: Secret::new(&*self.secret), session_token: None };
        let signed = sign(&credentials, "us-east-1", "ecs", self.at, "POST", "/", &headers, &self.body).unwrap();
        headers.extend(signed);
        let mut request = http::Request::post("/").body(Full::from(self.body.clone())).unwrap();
        *request.headers_mut() = headers;
        request
    }

    /// Its head as HTTP/1.1 has it, with more headers; the body is still to come.
    pub fn head(&self, addr: SocketAddr, more: &str) -> String {
        let request = self.request(addr);
        let headers = request.headers().iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
        format!("POST / HTTP/1.1\r\n{}{more}\r\n\r\n", headers.collect::<String>())
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The error's type, checked to be the same in header and body.
    pub fn error(&self) -> (u16, &str) {
        let name = self.body["__type"].as_str().unwrap_or_default();
        assert_eq!(self.headers["x-amzn-errortype"], name);
        (self.status, name)
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

pub async fn read(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

pub type Http1 = hyper::client::conn::http1::SendRequest<Full<bytes::Bytes>>;

pub async fn http1(addr: SocketAddr) -> Http1 {
    let stream = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub async fn http2(addr: SocketAddr) -> hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>> {
    let stream = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends over a connection of its own.
pub async fn send(addr: SocketAddr, request: http::Request<Full<bytes::Bytes>>) -> Answer {
    read(http1(addr).await.send_request(request).await.unwrap()).await
}
