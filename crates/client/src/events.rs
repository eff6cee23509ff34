//! The server's stream of events, read as it comes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::call::{CallError, Client, api_error, reason};
use crate::chain;

/// The name that errors have.
const OPERATION: &str = "ReadEvents";
/// The largest error, and the largest block of the stream: an event is some kilobytes, of a task with ten containers tens of them.
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// A server sends a sign of life every 15 seconds when nothing happens. One of which nothing came for three times as long is gone,
/// or the way to it, without a word: a machine that lost its power closes no connection.
const SILENCE: Duration = Duration::from_secs(45);

/// What a block of the stream says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The cursor: reading goes on behind it.
    pub id: Option<String>,
    /// An event as JSON; none in a mere sign of life.
    pub data: Option<String>,
}

/// An open stream.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    endpoint: String,
    buffer: BytesMut,
    /// For how long nothing may come.
    silence: Duration,
}

impl Client {
    /// Opens the stream with a query (`after=…&cluster=…`), whose values are percent-encoded.
    ///
    /// # Errors
    /// When there is no answer, or the answer is an error.
    pub async fn events(&self, query: &str) -> Result<Events, CallError> {
        let transport =
            |cause: String| CallError::Transport { operation: OPERATION, endpoint: self.origin().url(), cause };
        let target = format!("/events?{query}");
        let mut headers = HeaderMap::new();
        let host = HeaderValue::try_from(self.origin().authority()).map_err(|error| transport(error.to_string()))?;
        headers.insert(HOST, host);
        let signature = self.signer().sign("GET", &target, &headers, b"").map_err(transport)?;
        headers.extend(signature);
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.extend(self.transport().forward_auth(self.origin()).map(|auth| (PROXY_AUTHORIZATION, auth)));
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::GET;
        let url = format!("{}{target}", self.origin().url());
        *request.uri_mut() = url.parse().map_err(|error: http::uri::InvalidUri| transport(error.to_string()))?;
        *request.headers_mut() = headers;
        let answer = async {
            let response = self.http().request(request).await.map_err(|error| transport(reason(&error)))?;
            let (head, body) = response.into_parts();
            if head.status.is_success() {
                let endpoint = self.origin().url();
                return Ok(Events { body, endpoint, buffer: BytesMut::new(), silence: SILENCE });
            }
            let body = Limited::new(body, MAX_BLOCK_BYTES).collect().await;
            let body = body.map_err(|error| transport(error.to_string()))?.to_bytes();
            Err(api_error(OPERATION, &head, &body))
        };
        let late = |_| Err(transport(format!("not within {}s", self.call_limit().as_secs())));
        timeout(self.call_limit(), answer).await.unwrap_or_else(late)
    }
}

impl Events {
    /// The next block; nothing when the server has told all that was asked for.
    ///
    /// # Errors
    /// When the stream broke off, nothing came for too long, or what comes is no stream of events.
    pub async fn next(&mut self) -> Result<Option<Block>, CallError> {
        loop {
            if let Some(block) = take_block(&mut self.buffer) {
                return Ok(Some(block));
            }
            if self.buffer.len() > MAX_BLOCK_BYTES {
                return Err(self.broken(format!("a block of more than {MAX_BLOCK_BYTES} bytes")));
            }
            match timeout(self.silence, self.body.frame()).await {
                Err(_elapsed) => return Err(self.broken(format!("nothing came for {}s", self.silence.as_secs()))),
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => self.buffer.extend(frame.into_data()),
                Ok(Some(Err(error))) => return Err(self.broken(format!("the stream broke off: {}", chain(&error)))),
            }
        }
    }

    fn broken(&self, cause: String) -> CallError {
        CallError::Transport { operation: OPERATION, endpoint: self.endpoint.clone(), cause }
    }
}

/// Takes a whole block off the front.
fn take_block(buffer: &mut BytesMut) -> Option<Block> {
    let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
    let text = buffer.split_to(end + 2);
    let mut block = Block::default();
    for line in String::from_utf8_lossy(&text).lines() {
        match line.split_once(": ") {
            Some(("id", id)) => block.id = Some(id.to_owned()),
            Some(("data", data)) => block.data = Some(data.to_owned()),
            // A comment, or how long to wait before one comes back.
            _ => {}
        }
    }
    Some(block)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::call::ClientConfig;
    use crate::testing::credentials;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    const BLOCK: &str = "7\r\nid: 1\n\n\r\n";
    const END: &str = "0\r\n\r\n";

    /// What a reader makes of an answer, after which the server closes the connection or says nothing any more.
    async fn read(answer: String, closes: bool) -> Result<Vec<Block>, CallError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new(ClientConfig::new(url, "us-east-1", credentials())).unwrap();
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            assert_ne!(socket.read(&mut [0; 4_096]).await.unwrap(), 0, "a request");
            socket.write_all(answer.as_bytes()).await.unwrap();
            (!closes).then_some(socket)
        };
        let reader = async {
            let mut stream = client.events("after=oldest").await?;
            stream.silence = Duration::from_millis(200);
            let mut blocks = Vec::new();
            while let Some(block) = stream.next().await? {
                blocks.push(block);
            }
            Ok(blocks)
        };
        tokio::join!(server, reader).1
    }

    #[tokio::test]
    async fn a_part_is_never_taken_for_the_whole() {
        let whole = read(format!("{HEAD}{BLOCK}{END}"), true).await.unwrap();
        assert_eq!(whole, [Block { id: Some("1".to_owned()), data: None }]);
        let broken = read(format!("{HEAD}{BLOCK}"), true).await.unwrap_err();
        assert!(matches!(&broken, CallError::Transport { cause, .. } if cause.contains("broke off")), "{broken}");
        let silent = read(format!("{HEAD}{BLOCK}"), false).await.unwrap_err();
        assert!(matches!(&silent, CallError::Transport { cause, .. } if cause.contains("nothing came")), "{silent}");
    }

    #[test]
    fn blocks_come_whole_however_they_arrive() {
        let stream = b"retry: 1000\nid: 1\n\nid: 2\ndata: {\"a\":\"b: c\"}\n\n: nothing new\nid: 3\n\nid: 4";
        let mut buffer = BytesMut::new();
        let mut blocks = Vec::new();
        for byte in stream {
            buffer.extend([*byte]);
            blocks.extend(take_block(&mut buffer));
        }
        let block = |id: &str, data: Option<&str>| Block { id: Some(id.to_owned()), data: data.map(str::to_owned) };
        assert_eq!(blocks, [block("1", None), block("2", Some("{\"a\":\"b: c\"}")), block("3", None)]);
        assert_eq!(&buffer[..], b"id: 4");
    }
}
