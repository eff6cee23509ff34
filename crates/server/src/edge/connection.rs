//! The accept loop, and the life of one connection: bounded in number, in idleness, and at shutdown.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Edge, request};
use crate::limits::{ACCEPT_PAUSE, EdgeLimits, HTTP1_BUFFER_BYTES, MAX_HTTP2_HEADER_BYTES, MAX_HTTP2_STREAMS};

/// See [`Edge::serve`].
pub(super) async fn serve(edge: Arc<Edge>, listener: TcpListener, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(edge.limits.max_connections));
    let (tracker, abandon) = (TaskTracker::new(), CancellationToken::new());
    let builder = Arc::new(builder(&edge.limits));
    loop {
        let (stream, permit) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let connection = Connection {
            edge: Arc::clone(&edge),
            activity: Arc::new(Activity::new()),
            stop: stop.clone(),
            abandon: abandon.clone(),
            _permit: permit,
        };
        tracker.spawn(connection.run(stream, Arc::clone(&builder)));
    }
    // The port is free from here on: a successor may listen while we finish.
    drop(listener);
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
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_header_list_size(MAX_HTTP2_HEADER_BYTES);
    builder
}

/// The next connection, once there is room for it. Errors of a single connection are passed over; when the process is out of
/// descriptors it waits, since failing again at once would only burn the processor.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            // Never closed; if it were, nothing more could be accepted.
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
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
    activity: Arc<Activity>,
    stop: CancellationToken,
    abandon: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, builder: Arc<auto::Builder<TokioExecutor>>) {
        // Answers are small and complete: waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        // The handshake is part of what must come before a first request.
        let deadline = Instant::now() + self.edge.limits.header_timeout;
        let Some(tls) = &self.edge.tls else { return self.serve(stream, builder, deadline).await };
        let accepted = tokio::select! {
            accepted = timeout_at(deadline, tls.accept(stream)) => accepted,
            () = self.stop.cancelled() => return,
        };
        match accepted {
            Ok(Ok(stream)) => self.serve(stream, builder, deadline).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_elapsed) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn serve<S>(&self, stream: S, builder: Arc<auto::Builder<TokioExecutor>>, mut deadline: Instant)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|head: http::Request<Incoming>| {
            let (edge, busy) = (Arc::clone(&self.edge), Activity::begin(&self.activity));
            async move {
                let response = request::answer(&edge, head).await;
                drop(busy);
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let limits = &self.edge.limits;
        let mut closing = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error, "connection ended early");
                    }
                    return;
                }
                () = self.abandon.cancelled() => return,
                () = self.stop.cancelled(), if !closing => {
                    connection.as_mut().graceful_shutdown();
                    closing = true;
                    deadline = Instant::now() + limits.shutdown_grace;
                }
                () = sleep_until(deadline) => {
                    let quiet_until = self.activity.quiet_since() + self.activity.allowance(limits);
                    // Who never finished a request's headers has had all its time.
                    let hopeless = !self.activity.began.load(Ordering::Relaxed) && quiet_until <= Instant::now();
                    if closing || hopeless {
                        return;
                    } else if self.activity.is_busy() || quiet_until > Instant::now() {
                        deadline = quiet_until.max(Instant::now() + limits.header_timeout);
                    } else {
                        // Said politely first: HTTP/2 peers are told which requests were taken.
                        connection.as_mut().graceful_shutdown();
                        closing = true;
                        deadline = Instant::now() + limits.header_timeout;
                    }
                }
            }
        }
    }
}

/// What a connection is doing, for the decision whether it is idle.
struct Activity {
    requests: AtomicUsize,
    /// A first request arrived: the longer allowance applies.
    began: AtomicBool,
    /// When it was accepted, or its last request ended.
    quiet_since: Mutex<Instant>,
}

impl Activity {
    fn new() -> Self {
        Self { requests: AtomicUsize::new(0), began: AtomicBool::new(false), quiet_since: Mutex::new(Instant::now()) }
    }

    /// Marks a request as under way until the guard is dropped.
    fn begin(activity: &Arc<Self>) -> Busy {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        activity.began.store(true, Ordering::Relaxed);
        Busy(Arc::clone(activity))
    }

    fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    fn quiet_since(&self) -> Instant {
        *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it may go on being quiet. One that never sent a request is still within its first headers.
    fn allowance(&self, limits: &EdgeLimits) -> std::time::Duration {
        if self.began.load(Ordering::Relaxed) { limits.idle_timeout } else { limits.header_timeout }
    }
}

struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.quiet_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
