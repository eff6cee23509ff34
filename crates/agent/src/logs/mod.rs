//! What containers printed, for people who ask through the control plane.
//!
//! A request comes by the session and is answered by a signed call with one page of entries and the position where it ends.
//! Nothing is remembered that an answer depends on: a position is a place in Docker's log, good after a restart of anything.
//! Streams that are likely to be asked for again are kept open for a while, for speed alone: Docker finds a place in a log
//! only by reading it from the beginning.
//!
//! Nothing here touches the engine: whose a container is, its labels say.

mod position;
mod stream;
mod tail;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_agent_protocol::acs::ReadTaskLogsMessage;
use longshore_api::admin::{LogEntry, LogFailure, LogFailureReason, LogStream, Operation, SubmitTaskLogsRequest};
use longshore_client::now;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tracing::debug;

use crate::engine::docker::{Docker, DockerError, LABEL_CONTAINER, LABEL_INSTANCE, LABEL_TASK, LogQuery};
use crate::shell::Shared;
use position::{InvalidPosition, Position};
use stream::Entry;
use tail::{Page, Tail};

/// Requests that may wait to be taken up; the control plane has no more than that under way with all agents.
pub(crate) const QUEUE: usize = 128;
/// Requests answered at once, for one instance. Each holds a page, and most of them wait for a line.
const AT_ONCE: usize = 32;
/// Bytes of JSON in one answer: half of what a server takes as a body.
const PAGE_BYTES: usize = 512 * 1024;
/// How long to look for something that is there. What is found later is found by the next request.
const LOOK_FOR: Duration = Duration::from_secs(5);
/// The longest wait for something that is not there yet, whatever is asked for.
const WAIT_AT_MOST: Duration = Duration::from_secs(20);
/// Streams kept open for their next request.
const KEPT: usize = 32;
/// How long each is kept: a reader that follows asks at once.
const KEPT_FOR: Duration = Duration::from_secs(15);
/// Docker's words for a log driver that only writes.
const WRITES_ONLY: &str = "does not support reading";

/// Answers the requests of one instance until dropped.
pub(crate) async fn serve<D: Docker>(
    shared: Arc<Shared<D>>,
    instance_arn: String,
    mut requests: mpsc::Receiver<ReadTaskLogsMessage>,
) {
    let reader = Arc::new(Reader { shared, instance_arn, kept: Mutex::default() });
    let mut under_way = JoinSet::new();
    let mut sweep = interval(KEPT_FOR / 3);
    loop {
        tokio::select! {
            Some(request) = requests.recv() => {
                let busy = under_way.len() >= AT_ONCE;
                under_way.spawn(Arc::clone(&reader).answer(request, busy));
            }
            Some(_ended) = under_way.join_next() => {}
            _ = sweep.tick() => reader.drop_idle(),
        }
    }
}

/// Reads the logs of one instance's containers.
struct Reader<D> {
    shared: Arc<Shared<D>>,
    instance_arn: String,
    kept: Mutex<Vec<Kept>>,
}

/// A stream that stands where somebody is going to ask for more.
struct Kept {
    place: Place,
    tail: Tail,
    since: Instant,
}

/// A place in a container's log, and whether to wait there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    container_id: String,
    position: String,
    follow: bool,
}

impl<D: Docker> Reader<D> {
    async fn answer(self: Arc<Self>, request: ReadTaskLogsMessage, busy: bool) {
        let read = match busy {
            true => Err(LogFailure { message: String::new(), reason: LogFailureReason::Busy }),
            false => self.read(&request).await,
        };
        let request_id = request.message_id;
        let answer = match read {
            Ok((page, position)) => SubmitTaskLogsRequest {
                end: page.end,
                entries: page.entries.into_iter().map(LogEntry::from).collect(),
                failure: None,
                position: Some(position),
                request_id,
            },
            Err(failure) => {
                SubmitTaskLogsRequest { failure: Some(failure), request_id, ..SubmitTaskLogsRequest::default() }
            }
        };
        // Whoever waited asks again, or has gone.
        if let Err(error) = self.shared.api.call(Operation::SubmitTaskLogs, answer.to_json()).await {
            debug!(%error, "logs that were asked for did not get through");
        }
    }

    /// The page that is asked for, and where it ends.
    async fn read(&self, request: &ReadTaskLogsMessage) -> Result<(Page, String), LogFailure> {
        let from = request.position.as_deref().map(str::parse).transpose().map_err(no_position)?;
        let wait = Duration::from_millis(u64::try_from(request.wait).unwrap_or(0)).min(WAIT_AT_MOST);
        let follow = !wait.is_zero();
        let container_id = self.find(request).await?;
        let position = request.position.clone().unwrap_or_default();
        let place = Place { container_id: container_id.clone(), position, follow };
        let mut tail = match self.take(&place) {
            Some(tail) => tail,
            None => self.open(&container_id, request, from, follow).await.map_err(failure)?,
        };
        let patience = if follow { wait } else { LOOK_FOR };
        let page = tail.read(PAGE_BYTES, Instant::now() + patience).await.map_err(failure)?;
        let position = tail.position().to_string();
        if !page.end && !tail.is_broken() {
            self.keep(Place { container_id, position: position.clone(), follow }, tail);
        }
        Ok((page, position))
    }

    /// The container's id. Its labels name task and instance, so that nothing but our own is ever read.
    async fn find(&self, request: &ReadTaskLogsMessage) -> Result<String, LogFailure> {
        let labels = [
            format!("{LABEL_INSTANCE}={}", self.instance_arn),
            format!("{LABEL_TASK}={}", request.task_arn),
            format!("{LABEL_CONTAINER}={}", request.container_name),
        ];
        let listed = self.shared.docker.list(&labels.each_ref().map(String::as_str)).await.map_err(failure)?;
        let newest = listed.into_iter().max_by_key(|container| container.created_at_ms);
        let missing = || failure(DockerError::NotFound("there is no such container".to_owned()));
        newest.map(|container| container.id).ok_or_else(missing)
    }

    /// A stream that begins where the last page ended, if there was one, or else where the request says.
    async fn open(
        &self,
        id: &str,
        request: &ReadTaskLogsMessage,
        from: Option<Position>,
        follow: bool,
    ) -> Result<Tail, DockerError> {
        let (position, tail) = match from {
            Some(position) => (position, None),
            // What is printed from here on is the next page's.
            None if request.tail == Some(0) => (Position::at_millis(now().as_millis()), Some(0)),
            None => {
                let position = Position::at_millis(request.since.unwrap_or(0));
                (if request.tail.is_some() { position.of_tail() } else { position }, request.tail)
            }
        };
        let tty = self.shared.docker.inspect(id).await?.tty;
        let query = LogQuery { since: position.since(), tail, follow };
        let chunks = self.shared.docker.logs(id, &query).await?;
        Ok(Tail::new(chunks, position, tty, follow))
    }

    fn take(&self, place: &Place) -> Option<Tail> {
        let mut kept = self.kept();
        let index = kept.iter().position(|kept| kept.place == *place)?;
        Some(kept.swap_remove(index).tail)
    }

    fn keep(&self, place: Place, tail: Tail) {
        let mut kept = self.kept();
        if kept.len() >= KEPT
            && let Some(oldest) = (0..kept.len()).min_by_key(|&index| kept[index].since)
        {
            kept.swap_remove(oldest);
        }
        kept.push(Kept { place, tail, since: Instant::now() });
    }

    fn drop_idle(&self) {
        self.kept().retain(|kept| kept.since.elapsed() < KEPT_FOR);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// To begin anew would repeat to the reader what it has.
fn no_position(_: InvalidPosition) -> LogFailure {
    LogFailure { message: "the position is none that an agent gave".to_owned(), reason: LogFailureReason::Engine }
}

/// Docker's error in the words of the protocol.
fn failure(error: DockerError) -> LogFailure {
    let reason = match &error {
        DockerError::NotFound(_) => LogFailureReason::NoContainer,
        DockerError::Refused { message, .. } if message.contains(WRITES_ONLY) => LogFailureReason::Unreadable,
        DockerError::Conflict(_)
        | DockerError::Refused { .. }
        | DockerError::Broken(_)
        | DockerError::Timeout { .. }
        | DockerError::Unavailable { .. }
        | DockerError::Protocol { .. } => LogFailureReason::Engine,
    };
    LogFailure { message: error.to_string().chars().take(512).collect(), reason }
}

impl From<Entry> for LogEntry {
    fn from(entry: Entry) -> Self {
        Self {
            data: STANDARD.encode(entry.data),
            stream: if entry.stderr { LogStream::Stderr } else { LogStream::Stdout },
            time: entry.time.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
