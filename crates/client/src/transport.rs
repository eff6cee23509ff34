//! The way to a server: TCP, TLS, proxies.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::{Authority, Scheme, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::chain;
use crate::proxy::{Proxies, Through};
use crate::trust::{self, PresentedCertificate, Recorder, Trust, TrustError};

/// For connection, proxy and handshake together.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Where a server is: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    tls: bool,
    authority: Authority,
}

/// Why a text names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a URL of the form http://host:port or https://host:port")]
pub struct OriginError;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody there, or the proxy does not lead there.
    #[error("{0}")]
    Unreachable(String),
    /// It is there, but not to be believed.
    #[error("TLS with {host} failed: {cause}")]
    Tls {
        /// Whom we wanted.
        host: String,
        /// What the TLS library said.
        cause: String,
    },
    /// There is nothing to verify it with.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It took too long.
    #[error("no connection within {}s", CONNECT_LIMIT.as_secs())]
    Slow,
}

impl Origin {
    /// Reads `scheme://host[:port]` with at most a path behind it, which is returned; `ws` and `wss` count as `http` and
    /// `https`.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn of(url: &str) -> Result<(Self, String), OriginError> {
        let uri: Uri = url.parse().map_err(|_| OriginError)?;
        let tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(OriginError),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(OriginError)?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(OriginError);
        }
        Ok((Self { tls, authority: authority.clone() }, uri.path().to_owned()))
    }

    /// Whether the connection is encrypted.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// `host:port` as it was written, for the `Host` header.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Name or address, without the brackets that addresses have in URLs.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether the server is this machine itself.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// `http://host:port` or `https://host:port`, without a trailing slash.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority)
    }

    fn scheme(&self) -> Scheme {
        if self.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// With the port spelled out: who asks a proxy for a tunnel has to name one.
    fn uri(&self) -> Result<Uri, ConnectError> {
        let port = self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 });
        let host = self.authority.host();
        let uri = Uri::builder().scheme(self.scheme()).authority(format!("{host}:{port}")).path_and_query("/").build();
        uri.map_err(|error| ConnectError::Unreachable(error.to_string()))
    }
}

/// Opens connections. Clones share trust and proxies.
#[derive(Clone, Debug)]
pub struct Transport {
    trust: Trust,
    proxies: Proxies,
    tcp: HttpConnector,
}

impl Transport {
    /// Believing `trust`, through `proxies`.
    pub fn new(trust: Trust, proxies: Proxies) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Calls and state changes are small and must not wait for more to come.
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        Self { trust, proxies, tcp }
    }

    /// Opens a connection that carries whatever both ends like, through a tunnel where a proxy is in the way.
    ///
    /// # Errors
    /// When nobody is there, or it is not the one we trust.
    pub async fn connect(&self, origin: &Origin) -> Result<Stream, ConnectError> {
        within(self.open(origin, None)).await
    }

    /// The certificates that the server presents, believed or not. Nothing is sent to it.
    ///
    /// # Errors
    /// When nobody is there, or it does not speak TLS.
    pub async fn presented(&self, origin: &Origin) -> Result<Vec<PresentedCertificate>, ConnectError> {
        let recorder = Arc::new(Recorder::default());
        let believing = Arc::new(trust::recording(recorder.clone())?);
        within(self.open(origin, Some(believing))).await?;
        Ok(recorder.seen())
    }

    /// As [`Self::connect`], for HTTP requests: plain ones are left to the proxy to forward, as proxies expect it.
    async fn connect_http(&self, origin: &Origin) -> Result<Stream, ConnectError> {
        let uri = origin.uri()?;
        match self.proxies.on_the_way_to(&uri) {
            Some(through) if !origin.tls => {
                let tcp = within(self.tcp(through.proxy)).await?;
                Ok(Stream { socket: Socket::Plain(tcp), forwarded: true })
            }
            _ => self.connect(origin).await,
        }
    }

    /// What a proxy that forwards plain requests wants to see.
    pub(crate) fn forward_auth(&self, origin: &Origin) -> Option<HeaderValue> {
        let through = self.proxies.on_the_way_to(&origin.uri().ok()?)?;
        through.auth.filter(|_| !origin.tls)
    }

    async fn open(&self, origin: &Origin, tls: Option<Arc<ClientConfig>>) -> Result<Stream, ConnectError> {
        let uri = origin.uri()?;
        let tcp = match self.proxies.on_the_way_to(&uri) {
            None => self.tcp(uri).await?,
            Some(through) => self.tunnel(through, uri).await?,
        };
        if !origin.tls {
            return Ok(Stream { socket: Socket::Plain(tcp), forwarded: false });
        }
        let config = match tls {
            Some(config) => config,
            None => self.trust.config()?,
        };
        let failed = |cause: String| ConnectError::Tls { host: origin.host().to_owned(), cause };
        let name = ServerName::try_from(origin.host().to_owned()).map_err(|error| failed(error.to_string()))?;
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|error| failed(error.to_string()))?;
        Ok(Stream { socket: Socket::Tls(Box::new(tls)), forwarded: false })
    }

    async fn tcp(&self, uri: Uri) -> Result<TcpStream, ConnectError> {
        let connected = self.tcp.clone().call(uri).await;
        connected.map(TokioIo::into_inner).map_err(|error| ConnectError::Unreachable(chain(&error)))
    }

    async fn tunnel(&self, through: Through, uri: Uri) -> Result<TcpStream, ConnectError> {
        let proxy = through.proxy.authority().map(ToString::to_string).unwrap_or_default();
        let mut tunnel = Tunnel::new(through.proxy, self.tcp.clone());
        if let Some(auth) = through.auth {
            tunnel = tunnel.with_auth(auth);
        }
        let connected = tunnel.call(uri).await;
        connected
            .map(TokioIo::into_inner)
            .map_err(|error| ConnectError::Unreachable(format!("proxy {proxy}: {}", chain(&error))))
    }
}

async fn within<T>(work: impl Future<Output = Result<T, ConnectError>>) -> Result<T, ConnectError> {
    timeout(CONNECT_LIMIT, work).await.unwrap_or(Err(ConnectError::Slow))
}

/// An open connection.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// A proxy reads the requests and passes them on.
    forwarded: bool,
}

#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the same with either kind of socket.
macro_rules! with_socket {
    ($stream:ident, $socket:ident => $work:expr) => {
        match &mut $stream.get_mut().socket {
            Socket::Plain($socket) => {
                let $socket = Pin::new($socket);
                $work
            }
            Socket::Tls($socket) => {
                let $socket = Pin::new(&mut **$socket);
                $work
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, socket => socket.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        with_socket!(self, socket => socket.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_socket!(self, socket => socket.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, socket => socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, socket => socket.poll_shutdown(cx))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.forwarded)
    }
}

/// A transport as hyper's client wants it.
#[derive(Clone, Debug)]
pub(crate) struct Connector(pub(crate) Transport);

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let transport = self.0.clone();
        Box::pin(async move {
            let (origin, _) =
                Origin::of(&uri.to_string()).map_err(|error| ConnectError::Unreachable(error.to_string()))?;
            transport.connect_http(&origin).await.map(TokioIo::new)
        })
    }
}

#[cfg(test)]
mod tests;
