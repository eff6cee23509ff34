//! The edge over real sockets: what it accepts, what it refuses and in which words, and what it costs at most.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, Instant};

use http::HeaderValue;
use http_body_util::Full;
use serde_json::json;
use support::{call, http1, http2, read, send, serve, serve_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes, shorter than a patient person.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_signed_call_is_answered() {
    let served = serve().await;
    let answer = send(served.addr, call("CreateCluster", b"{}").request(served.addr)).await;
    assert_eq!((answer.status, answer.body), (200, json!({})));
    assert_eq!(answer.headers["content-type"], "application/x-amz-json-1.1");
    assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
}

#[tokio::test]
async fn malformed_calls_are_refused_as_aws_refuses_them() {
    let served = serve().await;
    let refusals = [
        ("CreateCluster", &b"{"[..], "SerializationException"),
        ("CreateCluster", b"[]", "SerializationException"),
        ("CreateCluster", b"{\"clusterName\":1}", "SerializationException"),
        ("CreateCluster", b"{\"tags\":{}}", "SerializationException"),
        ("ListClusters", b"{\"nextToken\":7}", "SerializationException"),
        ("RunTask", b"{}", "InvalidParameterException"),
        ("LaunchTask", b"{}", "UnknownOperationException"),
        ("AmazonSQS.SendMessage", b"{}", "UnknownOperationException"),
        // A service that is here, in the words of a signature for another.
        ("AmazonSSM.GetParameters", b"{}", "InvalidSignatureException"),
        ("", b"{}", "UnknownOperationException"),
    ];
    for (operation, body, code) in refusals {
        let answer = send(served.addr, call(operation, body).request(served.addr)).await;
        assert_eq!(answer.error(), (400, code), "{operation} {}", String::from_utf8_lossy(body));
    }
    let mut text = call("CreateCluster", b"{}");
    text.content_type = "text/plain";
    assert_eq!(send(served.addr, text.request(served.addr)).await.error(), (400, "SerializationException"));
}

#[tokio::test]
async fn unsigned_and_wrongly_signed_calls_learn_nothing() {
    let served = serve().await;
    // An operation that does not exist: who comes before what.
    let mut unsigned = call("Nonsense", b"{}").request(served.addr);
    unsigned.headers_mut().remove("authorization");
    let mut stranger = call("Nonsense", b"{}");
    stranger.key_id = "LSIASTRANGER".to_owned();
    let mut changed = call("Nonsense", b"{}").request(served.addr);
    *changed.body_mut() = Full::from("{ }");
    let mut halved = call("Nonsense", b"{}").request(served.addr);
    halved.headers_mut().insert("authorization", HeaderValue::from_static("AWS4-HMAC-SHA256 Credential=x"));
    for (request, code) in [
        (unsigned, "MissingAuthenticationTokenException"),
        (stranger.request(served.addr), "UnrecognizedClientException"),
        (changed, "InvalidSignatureException"),
        (halved, "IncompleteSignatureException"),
    ] {
        assert_eq!(send(served.addr, request).await.error(), (400, code));
    }
}

#[tokio::test]
async fn skew_is_named_with_both_times() {
    let served = serve().await;
    for (offset_ms, part) in [(-400_000, "Signature expired: "), (400_000, "Signature not yet current: ")] {
        let mut skewed = call("CreateCluster", b"{}");
        skewed.at = skewed.at.plus_millis(offset_ms);
        let answer = send(served.addr, skewed.request(served.addr)).await;
        assert_eq!(answer.error(), (400, "InvalidSignatureException"));
        assert!(answer.message().starts_with(part) && answer.message().contains("5 min."), "{}", answer.message());
    }
}

#[tokio::test]
async fn a_presigned_call_is_answered() {
    let served = serve().await;
    let (uri, host) = (format!("http://{}/", served.addr), served.addr.to_string());
    let target = ("x-amz-target", "AmazonEC2ContainerServiceV20141113.CreateCluster");
    let content_type = ("content-type", "application/x-amz-json-1.1");
    let request = support::presigned("ecs", "POST", &uri, &[("host", &host), target, content_type], "{}");
    let answer = send(served.addr, request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn oversize_bodies_are_refused_in_json() {
    let served = serve_with(|limits| limits.max_body_bytes = 1000).await;
    let announced = send(served.addr, call("CreateCluster", vec![b' '; 100_000]).request(served.addr)).await;
    assert_eq!(announced.error(), (413, "RequestEntityTooLargeException"));
    assert!(announced.message().contains("1000 bytes"));

    // Without a length, the body shows its size only as it comes.
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream
        .write_all(call("CreateCluster", b"").head(served.addr, "transfer-encoding: chunked").as_bytes())
        .await
        .unwrap();
    for _ in 0..20 {
        stream.write_all(b"64\r\n").await.unwrap();
        stream.write_all(&[b' '; 100]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("RequestEntityTooLargeException"), "{text}");
}

#[tokio::test]
async fn a_handler_that_panics_takes_nothing_with_it() {
    let served = serve().await;
    let mut connection = http1(served.addr).await;
    let panicking = call("CreateCluster", br#"{"clusterName":"panic"}"#).request(served.addr);
    let answer = read(connection.send_request(panicking).await.unwrap()).await;
    assert_eq!(answer.error(), (500, "InternalFailure"));
    assert!(!answer.message().contains("as the test wants"));
    assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    let next = connection.send_request(call("CreateCluster", b"{}").request(served.addr)).await.unwrap();
    assert_eq!(next.status(), 200);
}

#[tokio::test]
async fn errors_of_the_orchestrator_pass_through() {
    let served = serve().await;
    let full = call("CreateCluster", br#"{"clusterName":"full"}"#).request(served.addr);
    assert_eq!(send(served.addr, full).await.error(), (400, "ThrottlingException"));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let served = serve_with(|limits| limits.request_timeout = Duration::from_millis(100)).await;
    let hanging = call("CreateCluster", br#"{"clusterName":"hang"}"#).request(served.addr);
    assert_eq!(send(served.addr, hanging).await.error(), (503, "ServiceUnavailableException"));
}

#[tokio::test]
async fn unfinished_and_idle_connections_are_closed() {
    let served = serve_with(|limits| {
        limits.header_timeout = Duration::from_millis(150);
        limits.idle_timeout = Duration::from_millis(600);
    })
    .await;
    for sent in ["", "PRI", "POST / HT", "POST / HTTP/1.1\r\nhost: h\r\nx-more: "] {
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{sent:?} is kept open");
    }
    // After a request it may be idle for longer than headers may take, but not for ever.
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(b"GET /ping HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let began = Instant::now();
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(began.elapsed() >= Duration::from_millis(600), "closed after {:?}", began.elapsed());
}

#[tokio::test]
async fn unfinished_headers_get_their_time_once_not_twice() {
    let header_timeout = Duration::from_secs(2);
    let served = serve_with(|limits| limits.header_timeout = header_timeout).await;
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: h\r\nx-more: ").await.unwrap();
    let began = Instant::now();
    let mut rest = Vec::new();
    // Closed or reset: either ends it.
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(began.elapsed() < header_timeout * 2, "closed after {:?}", began.elapsed());
}

#[tokio::test]
async fn headers_that_trickle_are_cut_off() {
    let served = serve_with(|limits| limits.header_timeout = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    let trickle = async {
        stream.write_all(b"POST / HTTP/1.1\r\n").await?;
        loop {
            stream.write_all(b"x: y\r\n").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        #[allow(unreachable_code, reason = "gives the block its type")]
        Ok::<(), std::io::Error>(())
    };
    assert!(timeout(SOON, trickle).await.unwrap().is_err());
}

#[tokio::test]
async fn http2_is_spoken_and_carries_many_calls_at_once() {
    let served = serve().await;
    let mut connection = http2(served.addr).await;
    let request = |body: &[u8]| {
        let mut request = call("CreateCluster", body).request(served.addr);
        // HTTP/2 has no host header: the authority is in the URI.
        request.headers_mut().remove("host");
        *request.uri_mut() = format!("http://{}/", served.addr).parse().unwrap();
        request
    };
    let slow = connection.send_request(request(br#"{"clusterName":"slow"}"#));
    let quick = connection.send_request(request(b"{}"));
    assert_eq!(quick.await.unwrap().status(), 200);
    served.fake.go_on.notify_one();
    let slow = slow.await.unwrap();
    assert_eq!((slow.status().as_u16(), slow.version()), (200, http::Version::HTTP_2));
}

#[tokio::test]
async fn shutdown_answers_what_is_under_way_and_takes_nothing_new() {
    let served = serve().await;
    let addr = served.addr;
    let idle = TcpStream::connect(addr).await.unwrap();
    let slow = call("CreateCluster", br#"{"clusterName":"slow"}"#).request(addr);
    let answer = tokio::spawn(async move { send(addr, slow).await.status });
    served.fake.began.notified().await;
    served.stop.cancel();
    served.fake.go_on.notify_one();
    assert_eq!(timeout(SOON, answer).await.unwrap().unwrap(), 200);
    timeout(SOON, served.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let served = serve_with(|limits| limits.shutdown_grace = Duration::from_millis(100)).await;
    let addr = served.addr;
    let hanging = call("CreateCluster", br#"{"clusterName":"slow"}"#).request(addr);
    tokio::spawn(async move { http1(addr).await.send_request(hanging).await.is_ok() });
    served.fake.began.notified().await;
    served.stop.cancel();
    timeout(SOON, served.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn page_tokens_are_sealed_and_a_changed_one_is_refused() {
    let served = serve().await;
    let list = |body: serde_json::Value| send(served.addr, call("ListClusters", body.to_string()).request(served.addr));
    let first = list(json!({ "maxResults": 1 })).await;
    let token = first.body["nextToken"].as_str().unwrap().to_owned();
    assert_ne!(token, "cursor-1");
    assert_eq!(list(json!({ "nextToken": token })).await.body["clusterArns"], json!(["cursor-1"]));
    let mut changed = token.clone();
    changed.pop();
    for bad in [changed.as_str(), "cursor-1", ""] {
        let answer = list(json!({ "nextToken": bad })).await;
        assert_eq!(answer.error(), (400, "InvalidParameterException"), "{bad}");
    }
}

#[tokio::test]
async fn poll_endpoints_name_the_host_that_was_called() {
    let served = serve().await;
    let answer = send(served.addr, call("DiscoverPollEndpoint", b"{}").request(served.addr)).await;
    assert_eq!(answer.body["endpoint"], format!("http://{}/acs/", served.addr));
    assert_eq!(answer.body["telemetryEndpoint"], format!("http://{}/tcs/", served.addr));
}

#[tokio::test]
async fn other_paths_are_nothing_and_ping_tells_no_state() {
    let served = serve().await;
    let get = |path: &str| {
        let mut request = http::Request::get(path).body(Full::default()).unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static("h"));
        send(served.addr, request)
    };
    let ping = get("/ping").await;
    assert_eq!((ping.status, ping.body), (200, serde_json::Value::Null));
    assert_eq!(get("/").await.error(), (404, "UnknownOperationException"));
    assert_eq!(get("/admin").await.error(), (404, "UnknownOperationException"));
}

#[tokio::test]
async fn bodies_of_all_connections_together_are_bounded_and_count_as_they_arrive() {
    let served = serve_with(|limits| limits.max_body_bytes_in_flight = 1000).await;
    let full = || call("CreateCluster", [b' '; 1000]).request(served.addr);
    assert_eq!(send(served.addr, full()).await.status, 200, "an empty server takes it, and the room is given back");
    assert_eq!(send(served.addr, full()).await.status, 200);
    // Who announces much and sends little takes only what he sent.
    let mut stranger = TcpStream::connect(served.addr).await.unwrap();
    stranger.write_all(call("CreateCluster", b"").head(served.addr, "content-length: 900").as_bytes()).await.unwrap();
    stranger.write_all(&[b' '; 600]).await.unwrap();
    let throttled = async {
        while send(served.addr, call("CreateCluster", [b' '; 500]).request(served.addr)).await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, throttled).await.expect("what arrived of the body counts");
    let refused = send(served.addr, call("CreateCluster", [b' '; 500]).request(served.addr)).await;
    assert_eq!(refused.error(), (400, "ThrottlingException"));
    assert_eq!(send(served.addr, call("CreateCluster", b"{}").request(served.addr)).await.status, 200);
    // A call that waits for its commit holds nothing.
    drop(stranger);
    let slow = format!("{{\"clusterName\":\"slow\"}}{}", " ".repeat(900));
    let slow = call("CreateCluster", slow).request(served.addr);
    let addr = served.addr;
    let waiting = tokio::spawn(async move { send(addr, slow).await.status });
    timeout(SOON, served.fake.began.notified()).await.expect("the room came back");
    assert_eq!(send(served.addr, full()).await.status, 200);
    served.fake.go_on.notify_one();
    assert_eq!(timeout(SOON, waiting).await.unwrap().unwrap(), 200);
}

#[tokio::test]
async fn who_claims_no_known_key_takes_no_room_and_is_answered_before_the_body_is_there() {
    let served = serve_with(|limits| limits.max_body_bytes_in_flight = 1000).await;
    let mut unknown = call("CreateCluster", b"");
    unknown.key_id = "LSIASTRANGER".to_owned();
    let mut old = call("CreateCluster", b"");
    old.at = old.at.plus_millis(-600_000);
    let unsigned = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 900\r\n\r\n".to_owned();
    for (head, code) in [
        (unknown.head(served.addr, "content-length: 900"), "UnrecognizedClientException"),
        (old.head(served.addr, "content-length: 900"), "InvalidSignatureException"),
        (unsigned, "MissingAuthenticationTokenException"),
    ] {
        let mut stranger = TcpStream::connect(served.addr).await.unwrap();
        stranger.write_all(head.as_bytes()).await.unwrap();
        stranger.write_all(&[b' '; 800]).await.unwrap();
        let full = send(served.addr, call("CreateCluster", [b' '; 1000]).request(served.addr)).await;
        assert_eq!(full.status, 200, "{code}: {}", full.body);
        let mut answer = vec![0; 4096];
        let read = timeout(SOON, stranger.read(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(code), "{answer}");
    }
}

#[tokio::test]
async fn the_administration_is_a_service_of_its_own_behind_the_same_door() {
    let served = serve().await;
    let refusals = [
        ("Longshore.CreateJoinToken", json!({"uses": 0}), (400, "InvalidParameterException"), "uses must be between"),
        ("Longshore.CreateJoinToken", json!({"uses": "1"}), (400, "SerializationException"), "uses must be an integer"),
        ("Longshore.ListJoinTokens", json!({"nextToken": "x"}), (400, "InvalidParameterException"), "nextToken"),
        ("Longshore.CreateCluster", json!({}), (400, "UnknownOperationException"), "Longshore has no operation"),
        ("CreateJoinToken", json!({}), (400, "UnknownOperationException"), "ECS has no operation"),
        ("Longshore.CreateJoinToken", json!({}), (500, "ServerException"), "does not know CreateJoinToken"),
    ];
    for (operation, body, error, message) in refusals {
        let answer = send(served.addr, call(operation, body.to_string()).request(served.addr)).await;
        assert_eq!(answer.error(), error, "{operation} {body}");
        assert!(answer.message().contains(message), "{}", answer.message());
    }
}
