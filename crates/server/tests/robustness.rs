//! The edge against clients that are slow, silent, half gone, or hostile: what they cost is bounded, and others are served.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use longshore_server::{Server, ServerConfig};
use serde_json::json;
use support::door::{Door, root};
use support::{Served, call, http1, http2, send, serve, serve_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longer than anything here takes, shorter than a patient person.
const SOON: Duration = Duration::from_secs(20);

/// The head and the body of a signed call.
fn whole(body: &str, addr: SocketAddr) -> String {
    call("CreateCluster", body).head(addr, &format!("content-length: {}", body.len())) + body
}

async fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.unwrap()
}

/// Everything that comes until the other side closes, or resets.
async fn rest(stream: &mut TcpStream) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = timeout(SOON, stream.read(&mut buffer)).await.expect("it is closed in time") {
        bytes.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything that comes until it ends like this.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.push(timeout(SOON, stream.read_u8()).await.expect("it comes in time").unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

async fn is_served(served: &Served) {
    let answer = timeout(SOON, send(served.addr, call("CreateCluster", b"{}").request(served.addr))).await;
    assert_eq!(answer.expect("others are served meanwhile").status, 200);
}

fn statuses(text: &str) -> Vec<&str> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

#[tokio::test]
async fn who_has_said_all_he_has_to_say_still_hears_the_answer() {
    let served = serve().await;
    let mut stream = connect(served.addr).await;
    stream.write_all(whole(r#"{"clusterName":"slow"}"#, served.addr).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    timeout(SOON, served.fake.began.notified()).await.unwrap();
    served.fake.go_on.notify_one();
    assert_eq!(statuses(&rest(&mut stream).await), ["200"]);

    // Half a body and no more to come is the end of it.
    let mut stream = connect(served.addr).await;
    stream.write_all(call("CreateCluster", "{}").head(served.addr, "content-length: 2").as_bytes()).await.unwrap();
    stream.write_all(b"{").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.is_empty() || answer.contains("RequestAbortedException"), "{answer}");
    is_served(&served).await;
}

#[tokio::test]
async fn pipelined_calls_are_answered_in_order() {
    let served = serve().await;
    let mut stream = connect(served.addr).await;
    let calls = ["{}", r#"{"clusterName":"full"}"#, "{", "{}"].map(|body| whole(body, served.addr)).concat();
    stream.write_all(calls.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answers = rest(&mut stream).await;
    assert_eq!(statuses(&answers), ["200", "400", "400", "200"]);
    let (throttled, unreadable) = (answers.find("ThrottlingException"), answers.find("SerializationException"));
    assert!(throttled.unwrap() < unreadable.unwrap());
}

#[tokio::test]
async fn a_slow_but_honest_call_is_answered_and_one_that_never_ends_is_not() {
    let served = serve_with(|limits| limits.request_timeout = Duration::from_secs(5)).await;
    let mut stream = connect(served.addr).await;
    for byte in whole(r#"{"clusterName":"a"}"#, served.addr).bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(until(&mut stream, "{}").await.starts_with("HTTP/1.1 200"));

    let served = serve_with(|limits| limits.request_timeout = Duration::from_millis(300)).await;
    let mut stream = connect(served.addr).await;
    let began = Instant::now();
    stream.write_all(call("CreateCluster", "").head(served.addr, "content-length: 100000").as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = timeout(SOON, reading.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("RequestTimeoutException"), "{answer}");
    timeout(SOON, trickle).await.expect("the connection is closed, too").unwrap();
    assert!(began.elapsed() < SOON / 2);
    is_served(&served).await;
}

#[tokio::test]
async fn who_asks_before_sending_is_told() {
    let served = serve().await;
    let mut stream = connect(served.addr).await;
    let expecting = "content-length: 2\r\nexpect: 100-continue";
    stream.write_all(call("CreateCluster", "{}").head(served.addr, expecting).as_bytes()).await.unwrap();
    assert_eq!(until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    assert!(until(&mut stream, "{}").await.starts_with("HTTP/1.1 200"));

    // A stranger is told no, and not to go on.
    let mut unknown = call("CreateCluster", "{}");
    unknown.key_id = "LSIASTRANGER".to_owned();
    let mut stream = connect(served.addr).await;
    stream.write_all(unknown.head(served.addr, expecting).as_bytes()).await.unwrap();
    let answer = until(&mut stream, "}").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("UnrecognizedClientException"), "{answer}");
}

#[tokio::test]
async fn odd_heads_are_refused_and_smuggle_nothing() {
    let served = serve().await;
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    for (odd, status) in [
        (format!("POST / HTTP/1.1\r\nhost: h\r\nx-large: {}\r\n\r\n", "x".repeat(100_000)), "431"),
        (format!("POST / HTTP/1.1\r\nhost: h\r\n{many}\r\n"), "431"),
        (format!("POST /{} HTTP/1.1\r\nhost: h\r\n\r\n", "x".repeat(70_000)), "431"),
        ("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999999999999\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nhost : h\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nx: a\0b\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        ("\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), "400"),
    ] {
        let mut stream = connect(served.addr).await;
        // It may be closed on us before all of it is sent.
        let _ = stream.write_all(odd.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert_eq!(statuses(&answer), [status], "{:?} {answer}", &odd[..odd.len().min(60)]);
    }
    // Two ways to tell the length of a body: what follows it by one of them is not taken for a call by the other.
    let mut stream = connect(served.addr).await;
    let hidden = "GET /ping HTTP/1.1\r\nhost: h\r\n\r\n";
    let body = format!("0\r\n\r\n{hidden}");
    let both = format!("transfer-encoding: chunked\r\ncontent-length: {}", body.len());
    stream.write_all((call("CreateCluster", "").head(served.addr, &both) + &body).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(statuses(&rest(&mut stream).await).len() <= 1);
    is_served(&served).await;
}

#[tokio::test]
async fn a_silent_connection_makes_room_and_one_that_is_answered_does_not() {
    let served = serve_with(|limits| limits.max_connections = 2).await;
    let mut first = http1(served.addr).await;
    assert_eq!(first.send_request(call("CreateCluster", b"{}").request(served.addr)).await.unwrap().status(), 200);
    let mut silent = connect(served.addr).await;
    // A third one takes the place of whoever has been quiet for longest: not of the silent one, which came later.
    is_served(&served).await;
    assert!(timeout(SOON, first.ready()).await.unwrap().is_err(), "the first one is closed");
    let _later = connect(served.addr).await;
    is_served(&served).await;
    assert_eq!(rest(&mut silent).await, "", "then that one");

    // Calls that are carried out keep their place: others wait for them.
    let slow = || call("CreateCluster", br#"{"clusterName":"slow"}"#).request(served.addr);
    let addr = served.addr;
    let mut waiting = Vec::new();
    for request in [slow(), slow()] {
        waiting.push(tokio::spawn(async move { send(addr, request).await.status }));
        timeout(SOON, served.fake.began.notified()).await.unwrap();
    }
    let mut third = tokio::spawn(async move { send(addr, call("CreateCluster", b"{}").request(addr)).await.status });
    assert!(timeout(Duration::from_millis(200), &mut third).await.is_err(), "the third was served beside them");
    served.fake.go_on.notify_waiters();
    for task in waiting.into_iter().chain([third]) {
        assert_eq!(timeout(SOON, task).await.unwrap().unwrap(), 200);
    }
}

#[tokio::test]
async fn a_body_that_trickles_keeps_no_place() {
    let served = serve_with(|limits| limits.max_connections = 1).await;
    let mut slow = connect(served.addr).await;
    slow.write_all(call("CreateCluster", "").head(served.addr, "content-length: 1000").as_bytes()).await.unwrap();
    slow.write_all(b" ").await.unwrap();
    is_served(&served).await;
    rest(&mut slow).await;
}

#[tokio::test]
async fn one_address_takes_a_part_of_the_room_for_bodies_and_no_more() {
    let served = serve_with(|limits| {
        limits.max_body_bytes_in_flight = 2000;
        limits.max_body_bytes_of_one_address = 1000;
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0))).unwrap();
    let mut stranger = socket.connect(served.addr).await.unwrap();
    assert_eq!(stranger.local_addr().unwrap().ip(), IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)));
    // He names a key that he does not have.
    let mut claimed = call("CreateCluster", "");
    claimed.secret = "guessed".to_owned();
    stranger.write_all(claimed.head(served.addr, "content-length: 5000").as_bytes()).await.unwrap();
    stranger.write_all(&[b' '; 1000]).await.unwrap();
    stranger.write_all(&[b' '; 1000]).await.unwrap();
    assert!(until(&mut stranger, "}").await.contains("ThrottlingException"));
    for _ in 0..3 {
        let full = call("CreateCluster", [b' '; 1000]).request(served.addr);
        assert_eq!(send(served.addr, full).await.status, 200, "the rest is for the others");
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    for operation in ["ListTaskDefinitionFamilies", "Longshore.DescribeServer"] {
        unread_answers_are_bounded(operation).await;
    }
}

async fn unread_answers_are_bounded(operation: &str) {
    let served = serve_with(|limits| limits.max_answer_bytes_in_flight = support::LARGE_ANSWER_BYTES * 5 / 2).await;
    let large = || whole_of(operation, served.addr);
    let mut unread = Vec::new();
    let mut throttled = false;
    for _ in 0..10 {
        let mut stream = connect(served.addr).await;
        stream.write_all(large().as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        timeout(SOON, stream.read_exact(&mut begin)).await.unwrap().unwrap();
        if &begin == b"HTTP/1.1 400" {
            assert!(until(&mut stream, "}").await.contains("ThrottlingException"));
            throttled = true;
            break;
        }
        unread.push(stream);
    }
    assert!(throttled && unread.len() >= 2, "throttled after {}", unread.len());
    is_served(&served).await;
    drop(unread);
    let again = async {
        while send(served.addr, call(operation, "{}").request(served.addr)).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, again).await.expect("the room comes back with the connections' end");
}

fn whole_of(operation: &str, addr: SocketAddr) -> String {
    call(operation, "{}").head(addr, "content-length: 2") + "{}"
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET http /ping` of the authority `h`, from the static table.
const PING: &[u8] = b"\x82\x86\x04\x05/ping\x01\x01h";
/// `POST http /` of the authority `h`.
const POST: &[u8] = b"\x83\x86\x84\x01\x01h";

/// An HTTP/2 connection to be abused: the preface and empty settings are sent.
async fn raw_http2(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// The next frame: its kind and what is in it.
async fn next_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    timeout(SOON, stream.read_exact(&mut head)).await.unwrap().ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    timeout(SOON, stream.read_exact(&mut payload)).await.unwrap().ok()?;
    Some((head[3], payload))
}

/// The error code with which the connection is ended.
async fn goaway(stream: &mut TcpStream) -> u32 {
    while let Some((kind, payload)) = next_frame(stream).await {
        if kind == GOAWAY {
            return u32::from_be_bytes(payload[4..8].try_into().unwrap());
        }
    }
    panic!("it ended without a word");
}

#[tokio::test]
async fn requests_taken_back_at_once_end_an_http2_connection() {
    let served = serve().await;
    let mut stream = raw_http2(served.addr).await;
    let flood: Vec<u8> = (0..2000u32)
        .flat_map(|number| {
            let id = number * 2 + 1;
            let reset = frame(RST_STREAM, 0, id, &8u32.to_be_bytes());
            [frame(HEADERS, END_HEADERS | END_STREAM, id, PING), reset].concat()
        })
        .collect();
    let _ = stream.write_all(&flood).await;
    const ENHANCE_YOUR_CALM: u32 = 11;
    assert_eq!(goaway(&mut stream).await, ENHANCE_YOUR_CALM);
    is_served(&served).await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_one_by_one() {
    let served = serve().await;
    let mut stream = raw_http2(served.addr).await;
    // None of them ends: each waits for a body.
    let open: Vec<u8> = (0..300u32).flat_map(|number| frame(HEADERS, END_HEADERS, number * 2 + 1, POST)).collect();
    stream.write_all(&open).await.unwrap();
    const REFUSED_STREAM: &[u8] = &7u32.to_be_bytes();
    let refused = async {
        loop {
            let (kind, payload) = next_frame(&mut stream).await.expect("the connection goes on");
            if kind == RST_STREAM && payload == REFUSED_STREAM {
                return;
            }
        }
    };
    timeout(SOON, refused).await.unwrap();
    is_served(&served).await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_over_http2_too() {
    let served = serve().await;
    let mut connection = http2(served.addr).await;
    let mut request = call("CreateCluster", "{}").request(served.addr);
    request.headers_mut().remove("host");
    *request.uri_mut() = format!("http://{}/", served.addr).parse().unwrap();
    for number in 0..40 {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        request.headers_mut().insert(name, http::HeaderValue::try_from("x".repeat(1000)).unwrap());
    }
    let answer = timeout(SOON, connection.send_request(request)).await.unwrap();
    assert!(answer.is_err() || answer.unwrap().status() == 431);
    // Headers that never end grow no memory: the connection does.
    let mut stream = raw_http2(served.addr).await;
    const CONTINUATION: u8 = 9;
    let _ = stream.write_all(&frame(HEADERS, 0, 1, PING)).await;
    let part = frame(CONTINUATION, 0, 1, &[&b"\x00\x01x\x7f\x81\x7e"[..], &[b'y'; 16_000]].concat());
    for _ in 0..1000 {
        if stream.write_all(&part).await.is_err() {
            break;
        }
    }
    let ended = async { while next_frame(&mut stream).await.is_some() {} };
    timeout(SOON, ended).await.expect("it is closed");
    is_served(&served).await;
}

#[tokio::test]
async fn a_hundred_clients_at_once_are_throttled_and_nothing_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut config = ServerConfig::new(&data);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.limits.max_waiting_requests = 4;
    let server = timeout(SOON, Server::start(config)).await.unwrap().unwrap();
    let (door, key) = (Door::plain(server.local_addr()), root(&data));
    let clients = (0..100).map(|client| {
        let (door, key) = (door.clone(), key.clone());
        tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            for number in 0..5 {
                let made = door.ask(&key, "CreateCluster", json!({"clusterName": format!("c{client}-{number}")})).await;
                let listed = door.ask(&key, "ListClusters", json!({})).await;
                for answer in [made, listed] {
                    let code = if answer.status == 200 { "" } else { answer.error().1 };
                    *seen.entry((answer.status, code.to_owned())).or_insert(0) += 1;
                }
            }
            seen
        })
    });
    let mut seen = BTreeMap::new();
    for client in timeout(3 * SOON, join_all(clients)).await.unwrap() {
        for (outcome, times) in client.unwrap() {
            *seen.entry(outcome).or_insert(0) += times;
        }
    }
    let kinds: Vec<(u16, &str)> = seen.keys().map(|(status, code)| (*status, code.as_str())).collect();
    assert_eq!(kinds, [(200, ""), (400, "ThrottlingException")], "{seen:?}");
    timeout(SOON, server.shutdown()).await.unwrap();
}

/// Headers in HPACK, each spelled out.
fn hpack(headers: &http::HeaderMap) -> Vec<u8> {
    let text = |text: &[u8]| {
        let mut coded = match text.len() {
            short @ ..127 => vec![u8::try_from(short).unwrap()],
            // A full prefix, then what is over it, seven bits a byte.
            long => {
                vec![127, u8::try_from((long - 127) % 128).unwrap() | 128, u8::try_from((long - 127) / 128).unwrap()]
            }
        };
        coded.extend_from_slice(text);
        coded
    };
    let one = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        [vec![0], text(name.as_str().as_bytes()), text(value.as_bytes())].concat()
    };
    headers.iter().flat_map(one).collect()
}

/// Whoever has been quiet for longer than this is not waited for.
const NO_GRACE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn peers_that_answer_nothing_make_room_at_once_and_are_told() {
    const SEATS: usize = 24;
    let served = serve_with(|limits| limits.max_connections = SEATS).await;
    let mut silent = Vec::new();
    for _ in 0..SEATS {
        let mut stream = raw_http2(served.addr).await;
        assert_eq!(next_frame(&mut stream).await.unwrap().0, SETTINGS);
        silent.push(stream);
    }
    tokio::time::sleep(NO_GRACE).await;
    let (began, mut kept) = (Instant::now(), Vec::new());
    for _ in 0..SEATS {
        let mut connection = http1(served.addr).await;
        let answer = timeout(SOON, connection.send_request(call("CreateCluster", b"{}").request(served.addr))).await;
        assert_eq!(answer.unwrap().unwrap().status(), 200);
        kept.push(connection);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{SEATS} were served in {:?}", began.elapsed());
    for mut stream in silent {
        const NO_ERROR: u32 = 0;
        assert_eq!(goaway(&mut stream).await, NO_ERROR);
    }
}

#[tokio::test]
async fn a_call_that_is_carried_out_is_answered_though_its_connection_must_leave() {
    let served = serve_with(|limits| limits.max_connections = 1).await;
    let mut leaving = raw_http2(served.addr).await;
    let body = r#"{"clusterName":"slow"}"#;
    let mut signed = call("CreateCluster", body).request(served.addr);
    signed.headers_mut().remove("host");
    let authority = served.addr.to_string();
    let length = u8::try_from(authority.len()).unwrap();
    let head = [&b"\x83\x86\x84\x01"[..], &[length], authority.as_bytes(), &hpack(signed.headers())].concat();
    leaving.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await.unwrap();
    // Somebody else wants the only seat.
    let addr = served.addr;
    let other = tokio::spawn(async move { send(addr, call("CreateCluster", b"{}").request(addr)).await.status });
    goaway(&mut leaving).await;
    const DATA: u8 = 0;
    leaving.write_all(&frame(DATA, END_STREAM, 1, body.as_bytes())).await.unwrap();
    timeout(SOON, served.fake.began.notified()).await.expect("it is carried out");
    tokio::time::sleep(2 * NO_GRACE).await;
    assert!(!other.is_finished());
    served.fake.go_on.notify_one();
    let answer = loop {
        let (kind, payload) = next_frame(&mut leaving).await.expect("the answer comes");
        if kind == HEADERS {
            break payload;
        }
    };
    const STATUS_200: u8 = 0x88;
    assert_eq!(answer[0], STATUS_200);
    assert_eq!(timeout(SOON, other).await.expect("then it leaves").unwrap(), 200);
}
