//! A websocket as sessions need it: text in, text out, each write bounded in time, and a proper end.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::limits::{CLOSE_TIMEOUT, FRAME_WRITE_TIMEOUT, HANDSHAKE_TIMEOUT};

/// Why and how we close. Agents come back at once after 1000, 1001 and 1011, and back off after all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Close {
    code: CloseCode,
    reason: &'static str,
}

impl Close {
    pub(super) const REPLACED: Self = Self::new(CloseCode::Away, "a newer session of this instance is open");
    pub(super) const DEREGISTERED: Self = Self::new(CloseCode::Away, "the container instance was deregistered");
    pub(super) const REVOKED: Self = Self::new(CloseCode::Policy, "the access key was revoked");
    pub(super) const NOT_ADMITTED: Self =
        Self::new(CloseCode::Policy, "the instance is not this access key's any more");
    pub(super) const STATE_RESET: Self = Self::new(CloseCode::Away, "the control plane's state was reset: reconnect");
    pub(super) const STOPPING: Self = Self::new(CloseCode::Away, "the control plane is stopping: reconnect");
    pub(super) const SILENT: Self = Self::new(CloseCode::Away, "nothing was heard from the agent");
    pub(super) const OVERFLOW: Self = Self::new(CloseCode::Error, "too many messages are waiting: reconnect");
    pub(super) const TOO_LARGE: Self = Self::new(CloseCode::Size, "the message is too large");
    pub(super) const NOT_TEXT: Self = Self::new(CloseCode::Unsupported, "only text frames are understood");
    pub(super) const BAD_SIGNATURE: Self = Self::new(CloseCode::Policy, "the frame's signature is not valid");

    const fn new(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub(super) fn reason(self) -> &'static str {
        self.reason
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By the peer, or because the connection broke.
    Peer,
    /// By us.
    Ours(Close),
}

impl End {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Peer => "the agent closed it or is gone",
            Self::Ours(close) => close.reason(),
        }
    }
}

/// What came in.
pub(super) enum Heard {
    /// A message.
    Text(Utf8Bytes),
    /// A sign of life.
    Alive,
}

/// The reading half.
pub(super) struct Reader(SplitStream<WebSocketStream<TokioIo<Upgraded>>>);

/// The writing half.
pub(super) struct Writer(SplitSink<WebSocketStream<TokioIo<Upgraded>>, Message>);

/// The websocket of an upgrade that was answered with 101; nothing when the peer did not wait for it.
pub(super) async fn open(on_upgrade: OnUpgrade, max_message_bytes: usize) -> Option<(Reader, Writer)> {
    let upgraded = timeout(HANDSHAKE_TIMEOUT, on_upgrade).await.ok()?.ok()?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes))
        // Ten thousand sessions are mostly silent: small buffers, which grow for a large message only.
        .read_buffer_size(4 * 1024)
        .write_buffer_size(4 * 1024);
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (writer, reader) = socket.split();
    Some((Reader(reader), Writer(writer)))
}

impl Reader {
    /// What comes next. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Heard, End> {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => Ok(Heard::Text(text)),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Heard::Alive),
            Some(Ok(Message::Binary(_))) => Err(End::Ours(Close::NOT_TEXT)),
            Some(Err(Error::Capacity(_))) => Err(End::Ours(Close::TOO_LARGE)),
            Some(Err(Error::Utf8(_))) => Err(End::Ours(Close::NOT_TEXT)),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::Peer),
        }
    }

    /// Reads until the peer has closed too, so that our close frame is not lost in a reset.
    async fn drain(&mut self) {
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

impl Writer {
    /// Sends a message.
    pub(super) async fn text(&mut self, text: String) -> Result<(), End> {
        self.send(Message::text(text), FRAME_WRITE_TIMEOUT).await
    }

    /// Asks for a sign of life of the websocket itself.
    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.send(Message::Ping(Default::default()), FRAME_WRITE_TIMEOUT).await
    }

    async fn send(&mut self, message: Message, within: Duration) -> Result<(), End> {
        match timeout(within, self.0.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Peer),
        }
    }
}

/// Ends a session in the way that `end` says.
pub(super) async fn finish(mut reader: Reader, mut writer: Writer, end: End) {
    let frame = match end {
        End::Peer => None,
        End::Ours(Close { code, reason }) => Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }),
    };
    // Sent to a peer that closed first it is the answer that its close waits for.
    if writer.send(Message::Close(frame), CLOSE_TIMEOUT).await.is_ok() {
        let _ = timeout(CLOSE_TIMEOUT, reader.drain()).await;
    }
}
