//! Every bound of the server's edge and sessions, and where it comes from. Those an operator may change are the defaults of
//! [`EdgeLimits`] and [`SessionLimits`]; the rest are properties of the protocols.

use std::time::Duration;

use longshore_core::config::LossPolicy;

/// How often it is looked whether a launcher has something to do.
pub const LAUNCHER_LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a launcher may take for one order: cloud providers answer within seconds, and machines come up afterwards.
pub const LAUNCHER_TIME: Duration = Duration::from_secs(300);
/// How long the outputs of a launcher that has ended are read: what it started and left behind may keep them open for
/// ever.
pub const LAUNCHER_LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of what a launcher prints that are logged, of each of its two streams.
pub const LAUNCHER_OUTPUT_BYTES: usize = 16 << 10;
/// Bytes of an external scheduler's answer: twenty-five placements are five kilobytes.
pub(crate) const SCHEDULER_ANSWER_BYTES: usize = 256 * 1_024;
/// The longest time that one question to an external scheduler may take, whatever its deadline is.
pub(crate) const SCHEDULER_TIMEOUT: Duration = Duration::from_secs(30);

/// The bounds of the edge that an operator may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Open HTTP connections. Each costs a file descriptor and, once it was spoken on, some 20 KiB. Beyond the bound, or that of
    /// the process's descriptors, the one that has been quiet for longest makes room for a new one, which waits only while all
    /// are being answered. Websockets of agents are counted by [`SessionLimits::max_sessions`] instead.
    pub max_connections: usize,
    /// Changes that wait for the orchestrator at once, over all connections. Beyond it callers get ThrottlingException: a
    /// queue that long is already several commits deep, and memory must not grow with the callers' patience.
    pub max_waiting_requests: usize,
    /// The largest request body. ECS's largest is a task definition of 64 KiB; escaping can triple that.
    pub max_body_bytes: usize,
    /// Bytes of bodies in memory at once, over all connections: 16,384 connections with 256 streams of the largest body each
    /// would be a terabyte. Bodies count as they arrive, until they are read into a request; what finds no room is refused.
    pub max_body_bytes_in_flight: usize,
    /// The share of that which the bodies of one address may take. Whoever knows the id of a key may claim to have signed with
    /// it until his body is whole; so he takes a quarter of the room and not all of it.
    pub max_body_bytes_of_one_address: usize,
    /// Bytes of large answers to Describe and List that callers have not read yet, over all connections. Beyond it callers get
    /// ThrottlingException: a hundred of them could otherwise order gigabytes and leave them here.
    pub max_answer_bytes_in_flight: usize,
    /// From the accept to the end of the first request's headers. A connection that has had a request is idle until the
    /// headers of its next one are complete, which `idle_timeout` bounds: dawdling costs no more than silence.
    pub header_timeout: Duration,
    /// From the end of the headers to the answer: body, signature, orchestrator. Longer than any commit takes, shorter than
    /// the 42 s after which agents (and the 60 s after which SDKs) give up on their own.
    pub request_timeout: Duration,
    /// How long a connection may be open with no request in it. Above the 60 s that client pools keep theirs, so that it is
    /// mostly the client who closes and no request meets a closing connection.
    pub idle_timeout: Duration,
    /// How long a stopping server waits for requests that are being answered.
    pub shutdown_grace: Duration,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_waiting_requests: 4096,
            max_body_bytes: 1024 * 1024,
            max_body_bytes_in_flight: 128 * 1024 * 1024,
            max_body_bytes_of_one_address: 32 * 1024 * 1024,
            max_answer_bytes_in_flight: 256 * 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(40),
            idle_timeout: Duration::from_secs(75),
            shutdown_grace: Duration::from_secs(20),
        }
    }
}

/// The bounds of agents' sessions that an operator may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Agent websockets, both kinds together: twice 10,000 instances, plus those that overlap for a moment at a reconnect.
    pub max_sessions: usize,
    /// How often agents hear from us. They close a silent socket after 60 s; 20 to 30 s is what the protocol calls
    /// comfortable.
    pub heartbeat_every: Duration,
    /// A session that said nothing for this long is dead: two heartbeats went unanswered, with a margin.
    pub silence: Duration,
}

impl SessionLimits {
    /// The same limits with such a pulse that silence is always noticed before an instance is lost for it. More than that:
    /// of machines that vanish at the same moment the last one heard of is noticed (after 5/8 of the patience) before the
    /// first one, heard of a heartbeat earlier, is lost (after 3/4 of it). Else the mass-loss brake would come too late.
    #[must_use]
    pub(crate) fn within(self, loss: &LossPolicy) -> Self {
        let patience = [loss.lost_after_ms, loss.official_lost_after_ms].into_iter().flatten().min();
        let Some(patience) = patience.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis) else {
            return self;
        };
        Self {
            heartbeat_every: self.heartbeat_every.min(patience / 4).max(LEAST_HEARTBEAT),
            silence: self.silence.min(patience * 5 / 8).max(2 * LEAST_HEARTBEAT),
            ..self
        }
    }

    /// For how long an agent was silent that was last heard of so long ago, in milliseconds. Its session would have ended with
    /// the limit: if it seems to have been longer, it was this process that stood still (it was stopped, or starved), and an
    /// agent that was there all the time must not be lost before it can come back.
    pub(crate) fn silent_ms(&self, heard_ago: Duration) -> i64 {
        i64::try_from(heard_ago.min(self.silence).as_millis()).unwrap_or(i64::MAX)
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { max_sessions: 22_000, heartbeat_every: Duration::from_secs(20), silence: Duration::from_secs(45) }
    }
}

/// However short the patience with silence is: ten thousand agents are not asked more often than this.
const LEAST_HEARTBEAT: Duration = Duration::from_millis(50);

/// Streams one HTTP/2 connection may have open.
pub(crate) const MAX_HTTP2_STREAMS: u32 = 256;

/// Streams that a peer has opened and taken back before we looked at them. A client that changes its mind so often does nothing
/// else (CVE-2023-44487): its connection is ended.
pub(crate) const MAX_HTTP2_PENDING_RESETS: usize = 20;

/// Streams of one connection that we reset because of what the peer did wrong on them. One that provokes more is ended.
pub(crate) const MAX_HTTP2_ERROR_RESETS: usize = 64;

/// What a peer may send on a stream before we have read any of it: the protocol's own default. Nearly every body fits.
pub(crate) const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// The same for all streams of a connection, which is memory outside of [`EdgeLimits::max_body_bytes_in_flight`].
pub(crate) const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// Headers of one HTTP/2 request; HTTP/1.1 is bounded by its buffer of 64 KiB and a hundred headers.
pub(crate) const MAX_HTTP2_HEADER_BYTES: u32 = 32 * 1024;

/// The buffer of an HTTP/1.1 connection, which bounds request line and headers.
pub(crate) const HTTP1_BUFFER_BYTES: usize = 64 * 1024;

/// Answers below this size are not counted: they fit into a socket's buffer, and counting would cost more than they do.
pub(crate) const COUNTED_ANSWER_BYTES: usize = 32 * 1024;

/// How many of the quietest connections are remembered from one look at all of them. Looking at 16,384 takes half a
/// millisecond; shared by so many evictions, a flood of new connections costs some microseconds each.
pub(crate) const EVICTION_CANDIDATES: usize = 64;

/// What began or ended on a connection so shortly before it must leave for another one has this long to arrive or to be read.
/// One that has been quiet for longer goes at once, so that silent connections make room as fast as others come.
pub(crate) const EVICTION_GRACE: Duration = Duration::from_millis(200);

/// Descriptors that are neither connections nor sessions: the store with its files and folds, certificates, logs, the runtime.
pub(crate) const RESERVED_DESCRIPTORS: usize = 256;

/// How long the accept loop rests when the process has no file descriptor left. Something else must close first.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Writing one frame may take this long. A peer that reads slower is as good as gone, and reconnects to a fresh queue.
pub(crate) const FRAME_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the answer 101 to a usable websocket.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// From our close frame to the peer's. Nothing but a file descriptor waits for it.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages waiting for one agent. A reconnect sends a payload per task that is still PENDING, all at once, so this must be
/// above the tasks that fit on one machine, or their agent would never get through: 16,384 of the least memory, 6 MiB, are
/// 96 GiB. When it overflows the session is closed, and everything is derived again at the next one.
pub(crate) const MAX_QUEUED_MESSAGES: usize = 16_384;

/// How often some of the credentials that agents hold are renewed, and after how many such steps all were: in an hour, of
/// the six for which they are good. Ten thousand agents are not all written to at once.
pub(crate) const RENEWAL_TICK: Duration = Duration::from_secs(60);

/// See [`RENEWAL_TICK`].
pub(crate) const RENEWAL_SLOTS: i64 = 60;

/// The largest ACS message from an agent: stop candidates, at some 200 bytes each, for every task of a machine.
pub(crate) const MAX_ACS_MESSAGE_BYTES: usize = 1024 * 1024;

/// The largest TCS frame: agents send at most 1 MiB of metrics, before which stands the header block.
pub(crate) const MAX_TCS_FRAME_BYTES: usize = 1024 * 1024 + 16 * 1024;

/// From telling the cell how an instance is to telling it again, for each session. Agents measure it after a heartbeat; ten
/// thousand that said something new all the time would leave the cell no time for anything else.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// What the cell was told so long ago it is told again: it forgets how an instance is when the agent's ACS session ends.
pub(crate) const STATUS_REPEATED_AFTER: Duration = Duration::from_secs(60);

/// The largest instance status that is passed on, of which a session keeps two: some hundred bytes for each of a handful of
/// checks, and why they failed.
pub(crate) const MAX_INSTANCE_STATUS_BYTES: usize = 16 * 1024;

/// Readers of logs that wait for an agent at once. Each may be answered with half a mebibyte, which is held two or three times
/// on its way; beyond the bound readers are throttled.
pub(crate) const MAX_WAITING_FOR_LOGS: usize = 128;

/// How much longer than it was told to wait an agent may take to answer: it has to open a log that may be long, and send what
/// it found. Together with the longest wait it stays below what a request may take.
pub(crate) const LOGS_ANSWERED_WITHIN: Duration = Duration::from_secs(12);

/// Readers of the event stream at once, over all connections. Each puts every event into words for itself, some 30 µs, and holds
/// some 200 KB of them that its peer has not taken yet.
pub(crate) const EVENT_READERS: usize = 64;

/// From one sign of life on a quiet event stream to the next: below what proxies take for a dead connection, and what we do
/// ([`EdgeLimits::idle_timeout`]).
pub(crate) const EVENT_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Instances whose telemetry is remembered. Volatile; a new one beyond the bound is acknowledged and not remembered.
pub(crate) const MAX_TELEMETRY_INSTANCES: usize = 22_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_before_it_is_loss() {
        let pulse = |lost_after_ms: Option<i64>| {
            let limits = SessionLimits::default().within(&LossPolicy::default().lost_after(lost_after_ms));
            (limits.heartbeat_every.as_millis(), limits.silence.as_millis())
        };
        assert_eq!(pulse(None), (20_000, 45_000));
        assert_eq!(pulse(Some(3_600_000)), (20_000, 45_000));
        assert_eq!(pulse(Some(60_000)), (15_000, 37_500));
        assert_eq!(pulse(Some(2_000)), (500, 1_250));
        assert_eq!(pulse(Some(1)), (50, 100));
    }

    #[test]
    fn nobody_is_silent_for_as_long_as_this_process_stood_still() {
        let policy = LossPolicy::default();
        let limits = SessionLimits::default().within(&policy);
        assert_eq!(limits.silent_ms(Duration::from_secs(20)), 20_000);
        let silent_ms = limits.silent_ms(Duration::from_secs(3_600));
        // The grace is twice the longest back-off.
        assert!(silent_ms + policy.return_grace_ms / 2 < policy.lost_after_ms.unwrap(), "{silent_ms}");
    }
}
