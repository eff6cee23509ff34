//! Agents that accept every order and run nothing, so that what is measured is the server alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Method, Request};
use longshore_agent_protocol::acs::{AckRequest, AgentMessage, HeartbeatAckRequest, PayloadMessage, ServerMessage};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::client::{Access, EcsClient};
use crate::spawn::raise_descriptor_limit;

/// What signing leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// More than any run takes.
const ROOM: i64 = 1 << 30;

/// A connected agent in a thread of its own, which lives as long as the server it hangs on.
pub(crate) struct FakeAgent {
    payloads: Arc<AtomicU64>,
}

impl FakeAgent {
    /// Registers an instance with room for everything, and opens its session.
    pub(crate) fn start(access: &Access) -> Self {
        let payloads = Arc::new(AtomicU64::new(0));
        let (ready, connected) = mpsc::channel();
        let (access, counter) = (access.clone(), payloads.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (_, socket) = connect(&access).await;
                ready.send(()).expect("somebody waits");
                obey(socket, async |payload| {
                    counter.fetch_add(payload.tasks.len() as u64, Ordering::Release);
                })
                .await;
            });
        });
        connected.recv_timeout(Duration::from_secs(30)).expect("the session opens");
        Self { payloads }
    }

    /// Waits until so many orders have come.
    pub(crate) fn await_payloads(&self, wanted: u64) {
        for _ in 0..10_000 {
            if self.payloads.load(Ordering::Acquire) >= wanted {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("{} of {wanted} orders reached the agent", self.payloads.load(Ordering::Acquire));
    }
}

/// How many agents a process is to have.
#[derive(Args)]
pub(crate) struct Options {
    /// Agents.
    #[arg(long)]
    count: usize,
}

/// Agents that report every task as RUNNING as soon as they are told to run it. Says when all are connected; runs until killed.
pub(crate) fn run(options: &Options) {
    raise_descriptor_limit();
    let access = Access::from_variables();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connecting: FuturesUnordered<_> = (0..options.count).map(|_| connect(&access)).collect();
        let connected: Vec<_> = connecting.collect().await;
        println!("connected");
        let serving = connected.into_iter().map(|(mut client, socket)| async move {
            obey(socket, async |payload| report(&mut client, payload).await).await;
        });
        join_all(serving).await;
    });
}

/// Says of each task of an order that it runs, in the official agent's members.
async fn report(client: &mut EcsClient, payload: &PayloadMessage) {
    for task in &payload.tasks {
        let containers = task.containers.iter().map(|container| {
            json!({ "containerName": container.name, "status": "RUNNING", "runtimeId": "0123456789abcdef", "networkBindings": [] })
        });
        let containers: Vec<Value> = containers.collect();
        let change = json!({
            "cluster": payload.cluster_arn, "task": task.arn, "status": "RUNNING", "containers": containers,
        });
        client.call("SubmitTaskStateChange", &change).await;
    }
}

/// What it offers: room for everything.
pub(crate) fn registration() -> Value {
    let number = |name: &str| json!({ "name": name, "type": "INTEGER", "integerValue": ROOM });
    let capability = |name: &str| json!({ "name": format!("com.amazonaws.ecs.capability.{name}") });
    let api = |version: u32| capability(&format!("docker-remote-api.1.{version}"));
    json!({
        "totalResources": [number("CPU"), number("MEMORY")],
        "attributes": [api(17), api(18), api(19), api(21), capability("logging-driver.json-file")],
    })
}

/// Registers an instance and opens its session; the connection for its calls, and the session.
async fn connect(access: &Access) -> (EcsClient, WebSocketStream<TcpStream>) {
    let mut client = access.connect().await;
    let registered = client.call("RegisterContainerInstance", &registration()).await;
    let instance = registered["containerInstance"]["containerInstanceArn"].as_str().expect("an ARN");
    let endpoints = client.call("DiscoverPollEndpoint", &json!({ "containerInstance": instance })).await;
    let endpoint = endpoints["endpoint"].as_str().expect("an endpoint").trim_end_matches('/');
    let (authority, path) = endpoint
        .strip_prefix("http://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        .expect("an endpoint over plain HTTP");
    let instance = utf8_percent_encode(instance, UNRESERVED);
    let slash = if path.is_empty() { "" } else { "/" };
    let target = format!(
        "{slash}{path}/ws?agentHash=00000000&agentVersion=1.0.0&clusterArn=default&containerInstanceArn={instance}\
         &dockerVersion=DockerVersion%3A%2020.10&protocolVersion=2&sendCredentials=true&seqNum=1"
    );
    let stream = TcpStream::connect(authority).await.expect("the server accepts connections");
    stream.set_nodelay(true).expect("a TCP socket");
    let upgraded = tokio_tungstenite::client_async(upgrade(access, authority, &target), stream).await;
    (client, upgraded.expect("the server accepts the session").0)
}

fn upgrade(access: &Access, authority: &str, target: &str) -> Request<()> {
    let value = |text: &str| HeaderValue::try_from(text).expect("plain text");
    let mut headers = HeaderMap::new();
    headers.insert(HOST, value(authority));
    headers.extend(access.sign(&Method::GET, target, &headers, b""));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, value(&generate_key()));
    let mut request = Request::get(format!("ws://{authority}{target}")).body(()).expect("a request");
    *request.headers_mut() = headers;
    request
}

/// Acknowledges what comes until the server is gone, and does as it is told with each order after that.
async fn obey(mut socket: WebSocketStream<TcpStream>, mut ordered: impl AsyncFnMut(&PayloadMessage)) {
    while let Some(Ok(frame)) = socket.next().await {
        let Message::Text(text) = frame else { continue };
        let message = ServerMessage::decode(&text).expect("a message that can be read");
        let answer = match &message {
            Some(ServerMessage::Payload(payload)) => AgentMessage::Ack(AckRequest {
                cluster: payload.cluster_arn.clone(),
                container_instance: payload.container_instance_arn.clone(),
                message_id: payload.message_id.clone(),
            }),
            Some(ServerMessage::Heartbeat(heartbeat)) => {
                AgentMessage::HeartbeatAck(HeartbeatAckRequest { message_id: heartbeat.message_id.clone() })
            }
            _ => continue,
        };
        if socket.send(Message::text(answer.encode())).await.is_err() {
            return;
        }
        if let Some(ServerMessage::Payload(payload)) = &message {
            ordered(payload).await;
        }
    }
}
