//! The accept loop, and the life of one connection: bounded in number, in idleness, and at shutdown.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::crowd::{Activity, Crowd, Leaving, Seat};
use super::{Edge, request};
use crate::descriptors;
use crate::limits::{
    ACCEPT_PAUSE, EdgeLimits, HTTP1_BUFFER_BYTES, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_STREAM_WINDOW_BYTES,
    MAX_HTTP2_ERROR_RESETS, MAX_HTTP2_HEADER_BYTES, MAX_HTTP2_PENDING_RESETS, MAX_HTTP2_STREAMS,
};
use crate::socket::{FarEnd, Socket};

/// See [`Edge::serve`].
pub(super) async fn serve(edge: Arc<Edge>, listener: TcpListener, stop: CancellationToken) {
    let crowd = Arc::new(Crowd::default());
    let (tracker, abandon) = (TaskTracker::new(), CancellationToken::new());
    let builder = Arc::new(builder(&edge.limits));
    let descriptors = descriptors::usable();
    // Whoever holds descriptors besides connections: an agent that is there is worth more than a connection that is silent.
    let capacity = || edge.limits.max_connections.min(descriptors.saturating_sub(edge.sessions.open()));
    loop {
        let next = async {
            let (stream, peer) = accept(&listener, &crowd).await;
            (stream, peer, crowd.admit(capacity).await)
        };
        let (stream, peer, seat) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        let connection =
            Connection { edge: Arc::clone(&edge), peer, seat, stop: stop.clone(), abandon: abandon.clone() };
        tracker.spawn(connection.run(stream, Arc::clone(&builder)));
    }
    // The port is free from here on: a successor may listen while we finish.
    drop(listener);
    edge.closing.cancel();
    tracker.close();
    if tokio::time::timeout(edge.limits.shutdown_grace, tracker.wait()).await.is_err() {
        tracing::warn!(
            connections = tracker.len(),
            "requests are still under way after the shutdown grace: abandoning them"
        );
        abandon.cancel();
        tracker.wait().await;
    }
}

fn builder(limits: &EdgeLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // It runs while the connection is idle, too. The shorter bound for a first request's headers is `Connection`'s.
        .header_read_timeout(limits.idle_timeout)
        // Who has said all he has to say still hears the answer.
        .half_close(true)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_pending_accept_reset_streams(MAX_HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_HTTP2_ERROR_RESETS)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HTTP2_HEADER_BYTES);
    builder
}

/// The next connection. Errors of a single connection are passed over; when the process is out of descriptors the quietest
/// connection goes, and then it waits, since failing again at once would only burn the processor.
async fn accept(listener: &TcpListener, crowd: &Crowd) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip()),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                crowd.shrink();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

struct Connection {
    edge: Arc<Edge>,
    peer: IpAddr,
    seat: Seat,
    stop: CancellationToken,
    abandon: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, builder: Arc<auto::Builder<TokioExecutor>>) {
        // Answers are small and complete: waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        // The handshake is part of what must come before a first request.
        let deadline = Instant::now() + self.edge.limits.header_timeout;
        let (stream, far_end) = Socket::new(stream);
        let Some(tls) = &self.edge.tls else { return self.serve(stream, far_end, builder, deadline).await };
        let accepted = tokio::select! {
            accepted = timeout_at(deadline, tls.accept(stream)) => accepted,
            () = self.stop.cancelled() => return,
            () = self.seat.activity.evicted() => return,
        };
        match accepted {
            Ok(Ok(stream)) => self.serve(stream, far_end, builder, deadline).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_elapsed) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn serve<S>(
        &self,
        stream: S,
        far_end: FarEnd,
        builder: Arc<auto::Builder<TokioExecutor>>,
        mut deadline: Instant,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = &self.seat.activity;
        let service = service_fn(|head: http::Request<Incoming>| {
            let (edge, peer, mut busy) = (Arc::clone(&self.edge), self.peer, Activity::begin(activity));
            let far_end = far_end.clone();
            async move { Ok::<_, Infallible>(request::answer(&edge, head, peer, &far_end, &mut busy).await) }
        });
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let limits = &self.edge.limits;
        let mut phase = Phase::Open;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error, "connection ended early");
                    }
                    return;
                }
                () = self.abandon.cancelled() => return,
                () = self.stop.cancelled(), if phase.is_open() => {
                    connection.as_mut().graceful_shutdown();
                    phase = Phase::Closing;
                    deadline = Instant::now() + limits.shutdown_grace;
                }
                () = activity.evicted() => {
                    connection.as_mut().graceful_shutdown();
                    // It may be over at once: what there is to say is said, and what came in is seen, before that.
                    if connection.as_mut().now_or_never().is_some() {
                        return;
                    }
                    deadline = Instant::now();
                    phase = Phase::Leaving(Leaving::since(deadline));
                }
                () = sleep_until(deadline) => {
                    let now = Instant::now();
                    deadline = match &mut phase {
                        Phase::Closing => return,
                        Phase::Leaving(leaving) => match leaving.stays_until(activity, limits, now) {
                            None => return,
                            Some(until) => until,
                        },
                        Phase::Open => {
                            let quiet_until = activity.quiet_since() + activity.allowance(limits);
                            if activity.is_busy() || quiet_until > now {
                                quiet_until.max(now + limits.header_timeout)
                            } else if !activity.began() {
                                // Who never finished a request's headers has had all its time.
                                return;
                            } else {
                                // Said politely first: HTTP/2 peers are told which requests were taken.
                                connection.as_mut().graceful_shutdown();
                                phase = Phase::Closing;
                                now + limits.header_timeout
                            }
                        }
                    };
                }
            }
        }
    }
}

/// Where a connection is in its life, and with it what its deadline means.
enum Phase {
    /// Requests are taken; it is looked whether any come.
    Open,
    /// No more are taken, and it ends at the deadline.
    Closing,
    /// The same for the sake of another one, which does not wait longer than it must.
    Leaving(Leaving),
}

impl Phase {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}
