//! Signed requests as bytes, and connections that cost the client next to nothing: sockets that block, an answer that
//! is read and not looked into.

use std::io::{Read, Write};
use std::net::TcpStream;

use http::request::Parts;
use http::{HeaderMap, Request};
use serde_json::Value;

use crate::client::Access;

/// A signed request. It stays good for five minutes, and the server takes it as often as it comes.
pub(crate) struct Signed {
    /// The head, as the server sees it once it is read.
    pub(crate) head: Parts,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// Both as they travel.
    pub(crate) bytes: Vec<u8>,
}

impl Signed {
    pub(crate) fn new(access: &Access, operation: &str, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        let mut headers = access.headers(operation, &body);
        headers.insert(http::header::CONTENT_LENGTH, body.len().into());
        let bytes = [head_bytes(&headers), body.clone()].concat();
        let (mut head, ()) = Request::post("/").body(()).expect("a request").into_parts();
        head.headers = headers;
        Self { head, body, bytes }
    }
}

fn head_bytes(headers: &HeaderMap) -> Vec<u8> {
    let mut bytes = b"POST / HTTP/1.1\r\n".to_vec();
    for (name, value) in headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes
}

/// Room for the longest answer.
const ANSWER_BYTES: usize = 4 << 20;

/// A kept connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).expect("the server accepts connections");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, buffer: vec![0; ANSWER_BYTES] }
    }

    /// Calls an operation, which must succeed.
    pub(crate) fn call(&mut self, access: &Access, operation: &str, request: &Value) -> Value {
        let signed = Signed::new(access, operation, request);
        serde_json::from_slice(self.exchange(&signed.bytes)).expect("the answer is JSON")
    }

    /// Sends a request and waits for the whole answer, which must be a success; its body.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).expect("a connection that lives");
        let mut filled = 0;
        loop {
            filled += match self.stream.read(&mut self.buffer[filled..]).expect("a connection that lives") {
                0 => panic!("the server closed the connection"),
                more => more,
            };
            if let Some((from, to)) = body_of(&self.buffer[..filled])
                && filled >= to
            {
                assert_eq!(filled, to, "one answer to one request");
                return &self.buffer[from..to];
            }
        }
    }
}

/// Where the body of the answer that begins here lies, once its head is complete.
fn body_of(answer: &[u8]) -> Option<(usize, usize)> {
    let end = answer.windows(4).take(HEAD_BYTES).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).expect("a head in plain text");
    assert!(head.starts_with("HTTP/1.1 200 "), "the server refuses: {}", String::from_utf8_lossy(answer));
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let length =
        lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).find_map(|(_, n)| n.parse().ok());
    let length: usize = length.expect("an answer that says its length");
    Some((end + 4, end + 4 + length))
}

/// No head of an answer is longer.
const HEAD_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::body_of;

    #[test]
    fn a_body_is_found_once_the_head_is_complete() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(body_of(answer), Some((38, 40)));
        assert_eq!(body_of(&answer[..37]), None);
    }
}
