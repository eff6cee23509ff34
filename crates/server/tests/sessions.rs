//! Agents' websockets over real sockets: the control plane's half of ACS and TCS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{HeaderName, HeaderValue};
use longshore_agent_protocol::acs::{
    AckRequest, AgentMessage, HeartbeatAckRequest, HeartbeatMessage, ServerMessage, TaskIdentifier,
    TaskStopVerificationMessage,
};
use longshore_agent_protocol::frame::Frame;
use longshore_agent_protocol::tcs;
use longshore_core::cell::{CloseReason, Command, Delivery};
use longshore_core::ids::SessionId;
use longshore_server::limits::{EdgeLimits, SessionLimits};
use longshore_server::runner::Perform as _;
use serde_json::{Value, json};
use support::{INSTANCE, INSTANCE_ARN, KEY_ID, Served, serve, serve_within, signed_get};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const SOON: Duration = Duration::from_secs(20);

fn encoded(text: &str) -> String {
    text.replace(':', "%3A").replace('/', "%2F")
}

fn acs_target() -> String {
    format!(
        "/acs/ws?agentHash=0bcd1234&agentVersion=1.105.1&clusterArn=default&containerInstanceArn={}\
         &dockerVersion=DockerVersion%3A+20.10.24&protocolVersion=2&sendCredentials=true&seqNum=1",
        encoded(INSTANCE_ARN)
    )
}

fn tcs_target() -> String {
    format!(
        "/tcs/ws?agentHash=0bcd1234&agentVersion=1.105.1&cluster=default&containerInstance={}&dockerVersion=20.10.24",
        encoded(INSTANCE_ARN)
    )
}

async fn dial(
    served: &Served,
    target: &str,
    signature: Vec<(HeaderName, HeaderValue)>,
) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = http::Request::get(format!("ws://{}{target}", served.addr))
        .header("host", served.addr.to_string())
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap();
    request.headers_mut().extend(signature);
    let stream = TcpStream::connect(served.addr).await.unwrap();
    timeout(SOON, client_async(request, stream)).await.unwrap().map(|(socket, _)| socket)
}

async fn open(served: &Served, target: &str) -> WebSocketStream<TcpStream> {
    dial(served, target, signed_get(served.addr, target, "")).await.unwrap()
}

/// An ACS session and the id under which the orchestrator knows it.
async fn open_acs(served: &mut Served) -> (WebSocketStream<TcpStream>, SessionId) {
    let socket = open(served, &acs_target()).await;
    match command(served).await {
        Command::SessionOpened { session, .. } => (socket, session),
        other => panic!("{other:?}"),
    }
}

async fn command(served: &mut Served) -> Command {
    timeout(SOON, served.commands.recv()).await.unwrap().unwrap()
}

async fn text(socket: &mut WebSocketStream<TcpStream>) -> String {
    loop {
        match timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Reads to the close frame; its code and how many messages came before it.
async fn closed(socket: &mut WebSocketStream<TcpStream>) -> (u16, usize) {
    let mut before = 0;
    loop {
        match timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Close(frame) => return (frame.unwrap().code.into(), before),
            _ => before += 1,
        }
    }
}

async fn refusal(served: &Served, target: &str, signature: Vec<(HeaderName, HeaderValue)>) -> (u16, Value) {
    match dial(served, target, signature).await {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), serde_json::from_slice(&body).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

fn heartbeat(session: SessionId) -> Delivery {
    let message = HeartbeatMessage { message_id: "from-the-cell".to_owned(), healthy: true };
    Delivery::Send { instance: INSTANCE, session, message: Box::new(ServerMessage::Heartbeat(message)) }
}

#[tokio::test]
async fn a_session_carries_messages_both_ways_and_is_reported_at_both_ends() {
    let mut served = serve().await;
    let mut socket = open(&served, &acs_target()).await;
    let Command::SessionOpened { instance_arn, session, principal, agent } = command(&mut served).await else {
        panic!("not opened")
    };
    assert_eq!(instance_arn, INSTANCE_ARN);
    assert_eq!((&*principal.access_key_id, &*principal.arn), (KEY_ID, "arn:aws:iam::000000000000:root"));
    assert_eq!(agent.agent_version, "1.105.1");
    assert_eq!(agent.docker_version, "DockerVersion: 20.10.24");
    assert_eq!(served.sessions.connected(), 1);

    served.sessions.perform(heartbeat(session));
    assert!(text(&mut socket).await.contains("from-the-cell"));

    let candidates = TaskStopVerificationMessage {
        message_id: "m1".to_owned(),
        stop_candidates: vec![TaskIdentifier { task_arn: "arn:task".to_owned(), ..Default::default() }],
    };
    for message in [
        AgentMessage::Ack(AckRequest { message_id: "m0".to_owned(), ..Default::default() }),
        AgentMessage::TaskStopVerification(candidates),
    ] {
        socket.send(Message::text(message.encode())).await.unwrap();
    }
    match command(&mut served).await {
        Command::StopCandidates { instance, session: of, message_id, candidates } => {
            assert_eq!((instance, of), (INSTANCE, session));
            assert_eq!((message_id.as_str(), candidates), ("m1", vec!["arn:task".to_owned()]));
        }
        other => panic!("{other:?}"),
    }

    socket.close(None).await.unwrap();
    let ended = command(&mut served).await;
    assert!(
        matches!(ended, Command::SessionClosed { instance: INSTANCE, session: of, .. } if of == session),
        "{ended:?}"
    );
    assert_eq!(served.sessions.connected(), 0);
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_session() {
    let mut served = serve().await;
    let (socket, session) = open_acs(&mut served).await;
    drop(socket);
    assert!(matches!(command(&mut served).await, Command::SessionClosed { session: of, .. } if of == session));
}

#[tokio::test]
async fn refusals_come_before_the_101_in_the_agents_words() {
    let served = serve().await;
    let acs = acs_target();
    let other_instance = acs.replace("0000002&", "0000003&");
    let other_cluster = acs.replace("clusterArn=default", "clusterArn=elsewhere");
    let no_instance = acs.replace("containerInstanceArn=", "other=");
    let no_arn = acs.replace(&encoded(INSTANCE_ARN), "i-1");
    for (target, status, name) in [
        (&other_instance, 400, "InvalidInstanceException"),
        (&other_cluster, 400, "InvalidClusterException"),
        (&no_instance, 400, "BadRequestException"),
        (&no_arn, 400, "InvalidInstanceException"),
        (&tcs_target().replace("cluster=", "other="), 400, "BadRequestException"),
        (&tcs_target().replace("cluster=default", "cluster=elsewhere"), 400, "InvalidClusterException"),
        (&tcs_target().replace("0000002&", "0000003&"), 400, "InvalidInstanceException"),
    ] {
        let (got, body) = refusal(&served, target, signed_get(served.addr, target, "")).await;
        assert_eq!(got, status, "{body}");
        assert!(body[name].is_string(), "{body}");
    }
    for target in [&acs, &tcs_target()] {
        let (status, body) = refusal(&served, target, Vec::new()).await;
        assert_eq!((status, &body), (403, &json!({ "AccessDeniedException": "Missing Authentication Token" })));
        let (status, _) = refusal(&served, target, signed_get(served.addr, "/acs/ws?other=1", "")).await;
        assert_eq!(status, 403);
    }
    assert_eq!(served.sessions.connected(), 0);
}

#[tokio::test]
async fn what_is_no_websocket_is_told_so() {
    let served = serve().await;
    let target = acs_target();
    let mut request = http::Request::get(&target).body(Default::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::try_from(served.addr.to_string()).unwrap());
    request.headers_mut().extend(signed_get(served.addr, &target, ""));
    let answer = support::send(served.addr, request).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["BadRequestException"].is_string());
}

#[tokio::test]
async fn a_cluster_may_be_given_by_arn() {
    let mut served = serve().await;
    let arn = encoded("arn:aws:ecs:us-east-1:000000000000:cluster/default");
    let target = acs_target().replace("clusterArn=default", &format!("clusterArn={arn}"));
    let _socket = open(&served, &target).await;
    assert!(matches!(command(&mut served).await, Command::SessionOpened { .. }));
}

fn quick() -> SessionLimits {
    let (heartbeat_every, silence) = (Duration::from_millis(50), Duration::from_millis(400));
    SessionLimits { heartbeat_every, silence, ..Default::default() }
}

#[tokio::test]
async fn an_agent_that_answers_heartbeats_stays_and_one_that_does_not_is_closed() {
    let mut served = serve_within(EdgeLimits::default(), quick()).await;
    let (mut alive, _) = open_acs(&mut served).await;
    let (mut silent, silent_session) = open_acs(&mut served).await;
    // Twice the silence that is allowed, counted in heartbeats.
    for _ in 0..16 {
        let Some(ServerMessage::Heartbeat(message)) = ServerMessage::decode(&text(&mut alive).await).unwrap() else {
            panic!("not a heartbeat")
        };
        assert!(message.healthy && !message.message_id.is_empty());
        let ack = AgentMessage::HeartbeatAck(HeartbeatAckRequest { message_id: message.message_id });
        alive.send(Message::text(ack.encode())).await.unwrap();
    }
    let (code, heartbeats) = closed(&mut silent).await;
    assert_eq!(code, 1001);
    assert!(heartbeats >= 3, "{heartbeats}");
    assert!(matches!(command(&mut served).await, Command::SessionClosed { session, .. } if session == silent_session));
    assert_eq!(served.sessions.connected(), 1);
}

#[tokio::test]
async fn a_replaced_session_is_closed_so_that_its_agent_returns_at_once() {
    let mut served = serve().await;
    let (mut old, old_session) = open_acs(&mut served).await;
    let (mut new, new_session) = open_acs(&mut served).await;
    assert_ne!(old_session, new_session);
    let close = Delivery::Close { instance: INSTANCE, session: old_session, reason: CloseReason::Replaced };
    served.sessions.perform(close);
    assert_eq!(closed(&mut old).await, (1001, 0));
    served.sessions.perform(heartbeat(new_session));
    assert!(text(&mut new).await.contains("from-the-cell"));
}

#[tokio::test]
async fn an_agent_that_does_not_keep_up_is_closed() {
    let mut served = serve().await;
    let (mut socket, session) = open_acs(&mut served).await;
    // The test's own thread runs the session too: nothing is taken from the queue meanwhile.
    for _ in 0..20_000 {
        served.sessions.perform(heartbeat(session));
    }
    assert_eq!(closed(&mut socket).await.0, 1011);
}

#[tokio::test]
async fn a_stopping_server_sends_agents_away_and_waits_for_them() {
    let mut served = serve().await;
    let (mut acs, session) = open_acs(&mut served).await;
    let mut tcs = open(&served, &tcs_target()).await;
    let sessions = served.sessions.clone();
    let stopping = tokio::spawn(async move { sessions.stop(SOON).await });
    assert_eq!(closed(&mut acs).await.0, 1001);
    assert_eq!(closed(&mut tcs).await.0, 1001);
    assert!(matches!(command(&mut served).await, Command::SessionClosed { session: of, .. } if of == session));
    timeout(SOON, stopping).await.unwrap().unwrap();
    let (status, body) = refusal(&served, &acs_target(), signed_get(served.addr, &acs_target(), "")).await;
    assert_eq!((status, body["ServerException"].is_string()), (503, true));
}

#[tokio::test]
async fn more_agents_than_allowed_are_refused() {
    let limits = SessionLimits { max_sessions: 1, ..Default::default() };
    let mut served = serve_within(EdgeLimits::default(), limits).await;
    let (_socket, _) = open_acs(&mut served).await;
    let (status, body) = refusal(&served, &acs_target(), signed_get(served.addr, &acs_target(), "")).await;
    assert_eq!((status, body["ServerException"].is_string()), (503, true));
}

#[tokio::test]
async fn nonsense_is_passed_over_and_excess_is_not() {
    let mut served = serve().await;
    let (mut socket, session) = open_acs(&mut served).await;
    for nonsense in ["", "{", "[]", r#"{"type":"PollRequest","message":{}}"#, r#"{"type":"AckRequest","message":7}"#] {
        socket.send(Message::text(nonsense)).await.unwrap();
    }
    served.sessions.perform(heartbeat(session));
    assert!(text(&mut socket).await.contains("from-the-cell"));
    let _ = socket.send(Message::text("x".repeat(2 * 1024 * 1024))).await;
    assert!(matches!(command(&mut served).await, Command::SessionClosed { .. }));

    let (mut binary, _) = open_acs(&mut served).await;
    binary.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(closed(&mut binary).await.0, 1003);
}

fn signed_frame(served: &Served, target: &str, body: &str) -> Frame {
    let signature = signed_get(served.addr, target, body);
    let mut headers = vec![("Host".to_owned(), served.addr.to_string())];
    headers.extend(signature.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())));
    Frame { headers, body: body.to_owned() }
}

#[tokio::test]
async fn telemetry_is_verified_counted_and_acknowledged() {
    let mut served = serve().await;
    let target = tcs_target();
    let mut socket = open(&served, &target).await;
    let metrics = tcs::PublishMetricsRequest {
        metadata: Some(tcs::MetricsMetadata { cluster: "default".to_owned(), fin: true, ..Default::default() }),
        task_metrics: vec![tcs::TaskMetric::default(), tcs::TaskMetric::default()],
        ..Default::default()
    };
    let runtime = tcs::InstanceStatus {
        check_type: "ContainerRuntime".to_owned(),
        status: "OK".to_owned(),
        ..Default::default()
    };
    let status = tcs::PublishInstanceStatusRequest { statuses: vec![runtime], ..Default::default() };
    for (message, ack) in [
        (tcs::AgentMessage::Metrics(metrics), "AckPublishMetric"),
        (tcs::AgentMessage::Health(Default::default()), "AckPublishHealth"),
        (tcs::AgentMessage::InstanceStatus(status.clone()), "AckPublishInstanceStatus"),
    ] {
        let frame = signed_frame(&served, &target, &message.encode());
        socket.send(Message::text(frame.encode())).await.unwrap();
        let answer: Value = serde_json::from_str(&text(&mut socket).await).unwrap();
        assert_eq!(answer["type"], ack);
    }
    let counts = served.sessions.telemetry().counts(INSTANCE_ARN).unwrap();
    assert_eq!((counts.metrics, counts.health, counts.instance_status, counts.tasks_in_last), (1, 1, 1, 2));
    let told = command(&mut served).await;
    assert!(
        matches!(&told, Command::InstanceStatus { instance_arn, statuses, .. }
            if instance_arn == INSTANCE_ARN && *statuses == status.statuses),
        "{told:?}"
    );

    // A bare message is as genuine as its connection; one that cannot be read is passed over.
    socket.send(Message::text("no frame at all")).await.unwrap();
    socket.send(Message::text(tcs::AgentMessage::Health(Default::default()).encode())).await.unwrap();
    assert!(text(&mut socket).await.contains("AckPublishHealth"));
}

/// Publishes how an instance is, and waits until that is acknowledged.
async fn publish(socket: &mut WebSocketStream<TcpStream>, status: &str, reason: String) {
    let status = tcs::InstanceStatus {
        check_type: "ContainerRuntime".to_owned(),
        status: status.to_owned(),
        status_reason: Some(reason),
        ..Default::default()
    };
    let message = tcs::PublishInstanceStatusRequest { statuses: vec![status], ..Default::default() };
    socket.send(Message::text(tcs::AgentMessage::InstanceStatus(message).encode())).await.unwrap();
    assert!(text(socket).await.contains("AckPublishInstanceStatus"));
}

#[tokio::test]
async fn the_cell_is_told_the_latest_status_now_and_then_and_nothing_twice() {
    let mut served = serve().await;
    let mut socket = open(&served, &tcs_target()).await;
    let began = Instant::now();
    for number in 0..200 {
        publish(&mut socket, "IMPAIRED", number.to_string()).await;
    }
    publish(&mut socket, "IMPAIRED", "x".repeat(100_000)).await;
    publish(&mut socket, "OK", String::new()).await;
    let mut told = 0;
    loop {
        let Command::InstanceStatus { statuses, .. } = command(&mut served).await else { panic!("not a status") };
        assert!(statuses[0].status_reason.as_ref().is_some_and(|reason| reason.len() < 10), "too large");
        told += 1;
        if statuses[0].status == "OK" {
            break;
        }
    }
    assert!(told <= 1 + began.elapsed().as_secs(), "{told} in {:?}", began.elapsed());
    for _ in 0..20 {
        publish(&mut socket, "OK", String::new()).await;
    }
    publish(&mut socket, "IMPAIRED", "at last".to_owned()).await;
    let Command::InstanceStatus { statuses, .. } = command(&mut served).await else { panic!("not a status") };
    assert_eq!(statuses[0].status, "IMPAIRED", "what was known is not told again");
}

#[tokio::test]
async fn a_telemetry_frame_with_a_wrong_signature_ends_the_session() {
    let served = serve().await;
    let target = tcs_target();
    let body = tcs::AgentMessage::Health(Default::default()).encode();
    let mut changed = signed_frame(&served, &target, &body);
    changed.body.push(' ');
    let elsewhere = signed_frame(&served, "/tcs/ws?containerInstance=other", &body);
    let mut unsigned = signed_frame(&served, &target, &body);
    unsigned.headers.retain(|(name, _)| name != "authorization");
    for frame in [changed, elsewhere, unsigned] {
        let mut socket = open(&served, &target).await;
        socket.send(Message::text(frame.encode())).await.unwrap();
        assert_eq!(closed(&mut socket).await.0, 1008);
    }
    assert_eq!(served.sessions.telemetry().counts(INSTANCE_ARN), None);
}

#[tokio::test]
async fn a_telemetry_session_with_nothing_to_publish_lives_by_its_pongs() {
    let served = serve_within(EdgeLimits::default(), quick()).await;
    let mut socket = open(&served, &tcs_target()).await;
    for _ in 0..16 {
        let answer: Value = serde_json::from_str(&text(&mut socket).await).unwrap();
        assert_eq!(answer, json!({ "type": "HeartbeatMessage", "message": { "healthy": true } }));
    }
}
