//! The edge: sockets, HTTP, signatures, typed requests. Asynchronous, and without any state of the orchestrator.
//!
//! It must not know what an operation does: between "decoded" and "answered" stands the [`Orchestrator`]. It must not log
//! what a caller sent as `Authorization`, nor any body.
//!
//! Begin with `connection` (accept loop, one connection's life; `crowd` is all of them), then `request` (one request: bounds,
//! log line) and `route` (which service it is for), then `api` (the life of a call of ECS), `sts`, `secrets`, `ecr`,
//! `registry` and `events`.

mod answer_room;
mod api;
mod body_room;
mod connection;
mod crowd;
mod ecr;
mod events;
mod paging;
mod poll_endpoint;
mod registry;
mod request;
mod route;
mod secrets;
mod sts;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;

use longshore_wire::page_token::PageTokens;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::limits::EdgeLimits;
use crate::logs::LogRelay;
use crate::orchestrator::Orchestrator;
use crate::registry::Registry;
use crate::sessions::Sessions;
use crate::tls::Acceptor;
use crate::vault::Vault;
use answer_room::AnswerRoom;
use body_room::BodyRoom;
use events::Readers;

/// Everything a request is answered with.
pub struct Edge {
    authenticator: Arc<Authenticator>,
    orchestrator: Arc<dyn Orchestrator>,
    sessions: Arc<Sessions>,
    page_tokens: PageTokens,
    logs: LogRelay,
    /// Nothing where no images are kept.
    registry: Option<Arc<Registry>>,
    limits: EdgeLimits,
    body_room: BodyRoom,
    answer_room: AnswerRoom,
    readers: Readers,
    /// Cancelled when no more connections are taken: answers that never end by themselves end then.
    closing: CancellationToken,
    /// Where we listen: what poll endpoints name when the caller's `Host` is of no use.
    local_addr: SocketAddr,
    /// Nothing for plain HTTP.
    tls: Option<Acceptor>,
    /// Nothing where no secrets are kept.
    vault: Option<Vault>,
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
        let body_room = BodyRoom::new(limits.max_body_bytes_in_flight, limits.max_body_bytes_of_one_address);
        let answer_room = AnswerRoom::new(limits.max_answer_bytes_in_flight);
        let authenticator = Arc::new(authenticator);
        let logs = LogRelay::default();
        Self {
            authenticator,
            orchestrator,
            sessions,
            page_tokens,
            logs,
            registry: None,
            limits,
            body_room,
            answer_room,
            readers: Readers::default(),
            closing: CancellationToken::new(),
            local_addr,
            tls: None,
            vault: None,
        }
    }

    /// The same edge with a registry of images.
    #[must_use]
    pub(crate) fn with_registry(self, registry: Arc<Registry>) -> Self {
        Self { registry: Some(registry), ..self }
    }

    /// The same edge behind TLS, if there is an acceptor.
    #[must_use]
    pub(crate) fn behind(self, tls: Option<Acceptor>) -> Self {
        Self { tls, ..self }
    }

    /// The same edge, with secrets.
    #[must_use]
    pub(crate) fn keeping(self, vault: Vault) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// Serves connections until `stop` is cancelled and the requests under way are answered (or the grace is over).
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        connection::serve(self, listener, stop).await;
    }
}
