//! From a TCP connection to a TLS one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::provider;
use crate::error::ServerError;
use crate::socket::Socket;

/// The first byte of every TLS connection: a handshake record. No HTTP method begins with it.
const HANDSHAKE: u8 = 0x16;

/// Said to who speaks HTTP to a TLS port.
const SPEAK_TLS: &str = "This port speaks HTTPS: write https:// in the URL.\n";

/// What a plain client goes on sending is read for this long: closed at once, the connection would be reset and the answer
/// lost.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes TLS connections of TCP ones.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    pub(super) fn new(certificates: Arc<dyn ResolvesServerCert>) -> Result<Self, ServerError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| ServerError::Tls { source })?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Agents that all come back at once spare themselves and us the costly half of the handshake.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|source| ServerError::Tls { source })?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The handshake. It takes as long as the peer likes: the caller bounds it.
    ///
    /// # Errors
    /// What the peer did not do; it was told, also when it spoke plain HTTP.
    pub(crate) async fn accept(&self, mut stream: Socket) -> io::Result<TlsStream<Socket>> {
        let mut first = [0; 1];
        match (stream.peek(&mut first).await?, first) {
            (0, _) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer sent nothing")),
            (_, [HANDSHAKE]) => self.0.accept(stream).await,
            _ => {
                refuse_plain(&mut stream).await?;
                Err(io::Error::new(io::ErrorKind::InvalidData, "the peer spoke no TLS"))
            }
        }
    }
}

async fn refuse_plain(stream: &mut Socket) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{SPEAK_TLS}",
        SPEAK_TLS.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut buffer = [0; 4096];
    let rest = async { while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {} };
    let _ = timeout(DRAIN_TIMEOUT, rest).await;
    Ok(())
}
