//! The edge: sockets, HTTP, signatures, typed requests. Asynchronous, and without any state of the orchestrator.
//!
//! It must not know what an operation does: between "decoded" and "answered" stands the [`Orchestrator`]. It must not log
//! what a caller sent as `Authorization`, nor any body.
//!
//! Begin with `connection` (accept loop, one connection's life), then `request` (one request: route, bounds, log line),
//! then `api` (the life of an AWS call).

mod api;
mod connection;
mod paging;
mod poll_endpoint;
mod request;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;

use longshore_wire::page_token::PageTokens;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::limits::EdgeLimits;
use crate::orchestrator::Orchestrator;
use crate::sessions::Sessions;
use crate::tls::Acceptor;

/// Everything a request is answered with.
pub struct Edge {
    authenticator: Arc<Authenticator>,
    orchestrator: Arc<dyn Orchestrator>,
    sessions: Arc<Sessions>,
    page_tokens: PageTokens,
    limits: EdgeLimits,
    /// A permit per byte of [`EdgeLimits::max_body_bytes_in_flight`].
    body_room: Semaphore,
    /// Where we listen: what poll endpoints name when the caller's `Host` is of no use.
    local_addr: SocketAddr,
    /// Nothing for plain HTTP.
    tls: Option<Acceptor>,
}

impl Edge {
    /// An edge in front of this orchestrator, for a listener at `local_addr`.
    pub fn new(
        authenticator: Authenticator,
        orchestrator: Arc<dyn Orchestrator>,
        sessions: Arc<Sessions>,
        page_tokens: PageTokens,
        limits: EdgeLimits,
        local_addr: SocketAddr,
    ) -> Self {
        let body_room = Semaphore::new(limits.max_body_bytes_in_flight.min(Semaphore::MAX_PERMITS));
        let authenticator = Arc::new(authenticator);
        Self { authenticator, orchestrator, sessions, page_tokens, limits, body_room, local_addr, tls: None }
    }

    /// The same edge behind TLS, if there is an acceptor.
    #[must_use]
    pub(crate) fn behind(self, tls: Option<Acceptor>) -> Self {
        Self { tls, ..self }
    }

    /// Serves connections until `stop` is cancelled and the requests under way are answered (or the grace is over).
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        connection::serve(self, listener, stop).await;
    }
}
