//! The one way in which a process of ours is asked to end.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT, SIGTERM, or SIGHUP: a terminal that is closed asks for the same.
pub(crate) async fn requested() {
    // Without a handler the signal ends the process at once, which is what was asked for.
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
