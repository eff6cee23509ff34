//! The server's stream of events, read as it comes.

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::call::{CallError, Client, api_error, reason};

/// The name that errors have.
const OPERATION: &str = "ReadEvents";
/// The largest error, and the largest block of the stream: an event is some kilobytes, of a task with ten containers tens of them.
const MAX_BLOCK_BYTES: usize = 1 << 20;

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
                return Ok(Events { body, endpoint: self.origin().url(), buffer: BytesMut::new() });
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
    /// The next block; nothing when the server has ended the stream.
    ///
    /// # Errors
    /// When the connection broke, or what comes is no stream of events.
    pub async fn next(&mut self) -> Result<Option<Block>, CallError> {
        loop {
            if let Some(block) = take_block(&mut self.buffer) {
                return Ok(Some(block));
            }
            if self.buffer.len() > MAX_BLOCK_BYTES {
                return Err(self.broken(format!("a block of more than {MAX_BLOCK_BYTES} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.buffer.extend(frame.into_data()),
                Some(Err(error)) => return Err(self.broken(error.to_string())),
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
    use super::*;

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
