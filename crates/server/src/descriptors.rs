//! File descriptors: one for each connection and for each agent's websocket.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{EdgeLimits, RESERVED_DESCRIPTORS, SessionLimits};

/// Raises this process's limit to what the edge and the sessions may need, or as far as it may be raised. With less, the quietest
/// connections make room for new ones the earlier.
pub(crate) fn raise(edge: &EdgeLimits, sessions: &SessionLimits) {
    let wanted = (edge.max_connections + sessions.max_sessions + RESERVED_DESCRIPTORS) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let reachable = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if current.is_some_and(|current| current < reachable)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(reachable), maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    if let Some(current) = getrlimit(Resource::Nofile).current.filter(|current| *current < wanted) {
        tracing::info!(limit = current, wanted, "fewer files may be open than the server can use (ulimit -n)");
    }
}

/// How many descriptors connections and sessions may have together.
pub(crate) fn usable() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(usize::MAX, |limit| limit.saturating_sub(RESERVED_DESCRIPTORS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_never_lowers_and_leaves_something_to_use() {
        let before = usable();
        raise(&EdgeLimits::default(), &SessionLimits::default());
        assert!(usable() >= before && usable() > 0);
    }
}
