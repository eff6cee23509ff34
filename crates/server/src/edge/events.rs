//! The stream of events as server-sent events: `GET /events`.
//!
//! A reader takes pieces of the published state, one after another, each when its connection has taken the last: so nobody waits
//! for a slow reader, and it holds one piece of memory. Whoever takes nothing for [`EdgeLimits::idle_timeout`] is disconnected
//! like any silent connection, and goes on from its last cursor when it is back.
//!
//! A body comes to its proper end only when it has told all that it was asked for, which is when its reader does not follow. Any other
//! end is an error of the body, so that nobody takes a part for the whole.
//!
//! [`EdgeLimits::idle_timeout`]: crate::limits::EdgeLimits::idle_timeout

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http_body_util::{BodyExt as _, Either, StreamBody};
use hyper::body::Frame;
use longshore_api::ApiError;
use longshore_api::error::THROTTLING_EXCEPTION;
use longshore_core::Principal;
use longshore_core::event::{Cursor, DetailType, Filter, Reading, Start};
use longshore_wire::query;
use longshore_wire::sigv4;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Edge;
use super::crowd::{Activity, Busy};
use super::request::Trace;
use crate::limits::{EVENT_KEEP_ALIVE, EVENT_READERS};
use crate::orchestrator::Orchestrator;
use crate::registry::Body;

/// What a browser, or any reader that was disconnected, sends: where it was.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// After how many milliseconds readers come back that were disconnected.
const RETRY_MS: u32 = 1_000;

/// The room for readers.
pub(super) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(EVENT_READERS)))
    }
}

/// Answers a request for events.
pub(super) fn answer(
    edge: &Edge,
    head: &Parts,
    busy: &mut Busy,
    trace: &mut Trace,
) -> Result<Response<Body>, ApiError> {
    trace.operation = Some("events");
    let principal = edge.authenticator.principal(&sigv4::Request::new(head, b""))?;
    trace.principal = Some(principal.clone());
    busy.arrived();
    let asked = Asked::of(head)?;
    let permit = Arc::clone(&edge.readers.0).try_acquire_owned().map_err(|_| {
        let message =
            format!("Rate exceeded: there are {EVENT_READERS} readers of events. Try again when one has left.");
        ApiError::new(THROTTLING_EXCEPTION, message)
    })?;
    // First, so that no publication between the two is missed.
    let publications = edge.orchestrator.publications();
    let at = edge.orchestrator.view().begin_events(&principal, asked.start, &asked.filter)?;
    let reader = Reader {
        orchestrator: Arc::clone(&edge.orchestrator),
        principal,
        filter: asked.filter,
        follow: asked.follow,
        at,
        told: at,
        publications,
        closing: edge.closing.clone(),
        activity: busy.activity(),
        _permit: permit,
    };
    let greeting = Bytes::from(format!("retry: {RETRY_MS}\nid: {at}\n\n"));
    let pieces = stream::try_unfold((reader, Some(greeting)), |(mut reader, greeting)| async move {
        reader.activity.touch();
        let piece = match greeting {
            Some(greeting) => Some(greeting),
            None => reader.next().await?,
        };
        Ok(piece.map(|piece| (Frame::data(piece), (reader, None))))
    });
    let body = StreamBody::new(pieces).boxed_unsync();
    let mut response = Response::new(Either::Right(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What a request says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    start: Start,
    filter: Filter,
    /// Whether to wait for what is still to happen.
    follow: bool,
}

impl Asked {
    fn of(head: &Parts) -> Result<Self, ApiError> {
        let header = head.headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or_default());
        Self::read(head.uri.query().unwrap_or_default(), header)
    }

    /// Reads a query; a reader that comes back names its last event in the header, which then counts.
    fn read(query: &str, last_event_id: Option<&str>) -> Result<Self, ApiError> {
        let parameters =
            query::parameters(query).ok_or_else(|| ApiError::invalid_parameter("The query is not UTF-8."))?;
        let mut asked = Self { follow: true, ..Self::default() };
        let mut given = BTreeSet::new();
        for (name, value) in parameters {
            if !given.insert(name.clone()) && name != "detail-type" {
                return Err(ApiError::invalid_parameter(format!(
                    "'{}' is given twice: of the parameters only detail-type may be repeated.",
                    name.escape_default()
                )));
            }
            match name.as_str() {
                "after" => asked.start = start(&value)?,
                "cluster" => asked.filter.cluster = Some(value),
                "detail-type" => drop(asked.filter.kinds.insert(kind(&value)?)),
                "follow" => {
                    asked.follow = match value.as_str() {
                        "true" => true,
                        "false" => false,
                        _ => return Err(ApiError::invalid_parameter("follow is true or false.")),
                    }
                }
                // Those of a signature.
                name if name.starts_with("X-Amz-") => {}
                name => {
                    return Err(ApiError::invalid_parameter(format!(
                        "Events take no parameter '{}': after, cluster, detail-type and follow.",
                        name.escape_default()
                    )));
                }
            }
        }
        if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
            asked.start = start(id)?;
        }
        Ok(asked)
    }
}

fn start(text: &str) -> Result<Start, ApiError> {
    match text {
        "latest" => Ok(Start::Latest),
        "oldest" => Ok(Start::Oldest),
        cursor => cursor.parse().map(Start::After).map_err(|_| {
            let shown: String = cursor.chars().take(64).flat_map(char::escape_default).collect();
            ApiError::invalid_parameter(format!(
                "'{shown}' is no cursor of this server: after is latest, oldest, or the id of an event."
            ))
        }),
    }
}

fn kind(text: &str) -> Result<DetailType, ApiError> {
    DetailType::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
        let [task, instance] = DetailType::ALL.map(DetailType::as_str);
        ApiError::invalid_parameter(format!(
            "There are no events of detail-type '{}': there are '{task}' and '{instance}'.",
            text.chars().take(64).flat_map(char::escape_default).collect::<String>()
        ))
    })
}

/// One stream.
struct Reader {
    orchestrator: Arc<dyn Orchestrator>,
    principal: Principal,
    filter: Filter,
    follow: bool,
    /// Up to where it was read.
    at: Cursor,
    /// Up to where the peer knows that it was read.
    told: Cursor,
    publications: watch::Receiver<()>,
    closing: CancellationToken,
    activity: Arc<Activity>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next piece, as soon as there is one; nothing when all that was asked for is told.
    ///
    /// # Errors
    /// When the stream ends before that.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let keep_alive = Instant::now() + EVENT_KEEP_ALIVE;
        loop {
            self.publications.borrow_and_update();
            let view = self.orchestrator.view();
            let Reading { events, next, complete } = match view.read_events(&self.principal, self.at, &self.filter) {
                Ok(reading) => reading,
                Err(error) => return Err(self.expired(&error)),
            };
            drop(view);
            self.at = next;
            if !events.is_empty() {
                self.told = next;
                return Ok(Some(piece(&events)));
            }
            if !complete {
                tokio::task::yield_now().await;
                continue;
            }
            if !self.follow {
                return Ok(self.farewell());
            }
            tokio::select! {
                published = self.publications.changed() => published.map_err(|_| broken_off("the server has ended"))?,
                () = sleep_until(keep_alive) => return Ok(Some(self.sign_of_life())),
                () = self.closing.cancelled() => return Err(broken_off("the server stops")),
            }
        }
    }

    /// Nothing happened that the reader wants; its cursor moves all the same, so that it does not grow old.
    fn sign_of_life(&mut self) -> Bytes {
        self.told = self.at;
        format!(": nothing new\nid: {}\n\n", self.at).into()
    }

    /// Who does not follow learns how far he came, once.
    fn farewell(&mut self) -> Option<Bytes> {
        let untold = std::mem::replace(&mut self.told, self.at) != self.at;
        untold.then(|| format!("id: {}\n\n", self.at).into())
    }

    /// The stream cannot go on: the reader fell so far behind that what it lacks is forgotten. Its next request is told so.
    fn expired(&self, error: &ApiError) -> io::Error {
        tracing::info!(reader = %self.principal.access_key_id, code = error.code.name, "a stream of events ends");
        broken_off("the cursor expired")
    }
}

/// Why a stream ends that could have gone on.
fn broken_off(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

/// Events as the format of server-sent events has them: each with the cursor behind it.
fn piece(events: &[(Cursor, String)]) -> Bytes {
    let mut text = String::with_capacity(events.iter().map(|(_, event)| event.len() + 64).sum());
    for (cursor, event) in events {
        // Writing to a string cannot fail. JSON has no line breaks of its own.
        let _ = write!(text, "id: {cursor}\ndata: {event}\n\n");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read() {
        let asked = Asked::read("", None).unwrap();
        assert_eq!(asked, Asked { follow: true, ..Asked::default() });
        let query = "after=17&cluster=prod&detail-type=ECS+Task+State+Change&follow=false&X-Amz-Date=now";
        let asked = Asked::read(query, None).unwrap();
        assert_eq!(asked.start, Start::After(Cursor::end_of(17)));
        assert_eq!(asked.filter, Filter { cluster: Some("prod".to_owned()), kinds: [DetailType::Task].into() });
        assert!(!asked.follow);
        assert_eq!(Asked::read("after=oldest", Some("21")).unwrap().start, Start::After(Cursor::end_of(21)));
        assert_eq!(Asked::read("after=oldest", Some("")).unwrap().start, Start::Oldest);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (query, named) in [
            ("after=x", "'x'"),
            ("detail-type=ECS+Service+Action", "'ECS Service Action'"),
            ("follow=perhaps", "follow"),
            ("colour=red", "'colour'"),
            ("after=%FF", "UTF-8"),
            ("after=1&cluster=prod&after=2", "'after' is given twice"),
            ("cluster=prod&cluster=dev", "'cluster' is given twice"),
            ("follow=true&follow=false", "'follow' is given twice"),
        ] {
            let refused = Asked::read(query, None).unwrap_err();
            assert!(refused.message.contains(named), "{query}: {}", refused.message);
        }
        assert!(Asked::read("", Some("yesterday")).is_err());
        let both = "detail-type=ECS+Task+State+Change&detail-type=ECS+Container+Instance+State+Change";
        assert_eq!(Asked::read(both, None).unwrap().filter.kinds, DetailType::ALL.into());
    }
}
