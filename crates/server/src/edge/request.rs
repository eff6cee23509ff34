//! One request: where it goes, what it may cost, and the one line that is logged about it.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use longshore_api::error::{
    INTERNAL_FAILURE, REQUEST_ENTITY_TOO_LARGE, SERVICE_UNAVAILABLE, THROTTLING_EXCEPTION, UNKNOWN_OPERATION_EXCEPTION,
};
use longshore_api::{ApiError, ErrorCode};
use longshore_wire::aws_json;
use longshore_wire::request_id::RequestId;
use longshore_wire::sigv4;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::upgrade::Kind;
use super::{Edge, api, upgrade};

/// The body did not arrive: not a code of AWS's JSON services, but one that names what happened.
const BODY_NOT_READ: ErrorCode = ErrorCode::new("RequestAbortedException", 400);

/// What is left unread of a refused body is read for at most this long: a client that is still sending would otherwise see
/// a reset connection in place of the answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What the log line tells, filled in as it becomes known. Only names of ours and verified names: nothing a stranger chose.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) operation: Option<&'static str>,
    pub(super) principal: Option<longshore_core::Principal>,
    pub(super) code: Option<&'static str>,
    pub(super) context: Option<String>,
}

impl Trace {
    /// Notes an error on its way to the caller.
    pub(super) fn note(&mut self, error: &ApiError) {
        self.code = Some(error.code.name);
        self.context.clone_from(&error.context);
    }
}

/// Answers a request, whatever happens.
pub(super) async fn answer(edge: &Edge, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (id, started, mut trace) = (RequestId::random(), Instant::now(), Trace::default());
    let has_connection_header = request.version() < Version::HTTP_2;
    let mut response = {
        // A handler that panics must not take the connection's other requests with it. What it was changing is the
        // orchestrator's, behind a queue; nothing here outlives the request.
        let routed = AssertUnwindSafe(route(edge, request, &id, &mut trace)).catch_unwind();
        match tokio::time::timeout(edge.limits.request_timeout, routed).await {
            Ok(Ok(response)) => response,
            Ok(Err(_panic)) => {
                let error =
                    ApiError::new(INTERNAL_FAILURE, "The server failed to handle the request; its log says why.");
                failed(&error.with_context("the handler panicked"), &id, &mut trace)
            }
            Err(_elapsed) => {
                let message = "The request took too long; it may yet be carried out.";
                failed(&ApiError::new(SERVICE_UNAVAILABLE, message), &id, &mut trace)
            }
        }
    };
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE && has_connection_header {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    log(&trace, &id, response.status(), started.elapsed());
    response.map(Full::new)
}

async fn route(edge: &Edge, request: Request<Incoming>, id: &RequestId, trace: &mut Trace) -> Response<Bytes> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/") => {
            let result = call(edge, request, id, trace).await;
            result.unwrap_or_else(|error| failed(&error, id, trace))
        }
        (_, "/acs/ws") => upgrade::answer(edge, request, Kind::Acs, id, trace).await,
        (_, "/tcs/ws") => upgrade::answer(edge, request, Kind::Tcs, id, trace).await,
        (&Method::GET, "/ping") => {
            trace.operation = Some("ping");
            Response::new(Bytes::new())
        }
        _ => {
            let message = "Nothing is served here: send ECS requests as POST /.";
            let mut response = failed(&ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message), id, trace);
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

async fn call(
    edge: &Edge,
    request: Request<Incoming>,
    id: &RequestId,
    trace: &mut Trace,
) -> Result<Response<Bytes>, ApiError> {
    let (head, mut body) = request.into_parts();
    let limit = edge.limits.max_body_bytes;
    if body.size_hint().lower() > limit as u64 {
        return Err(refused(&mut body, too_large(limit)).await);
    }
    let call = {
        // Before anything is kept of the body: there is no room for what strangers send.
        let claimed = match edge.authenticator.claim(&sigv4::Request::new(&head, b"")) {
            Ok(claimed) => claimed,
            Err(error) => return Err(refused(&mut body, error.into()).await),
        };
        let body = Body::read(body, limit, &edge.body_room).await?;
        api::read(edge, &head, claimed, &body.bytes, trace)?
    };
    let answer = api::answer(edge, &head, call).await?;
    Ok(aws_json::response(answer, id))
}

/// A whole body, and the room it takes as long as it lives.
struct Body<'a> {
    bytes: Vec<u8>,
    _room: Option<SemaphorePermit<'a>>,
}

impl<'a> Body<'a> {
    async fn read(mut body: Incoming, limit: usize, all_bodies: &'a Semaphore) -> Result<Self, ApiError> {
        let (mut bytes, mut room) = (Vec::new(), None::<SemaphorePermit<'a>>);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(not_whole)?.into_data() else { continue };
            if data.len() > limit - bytes.len() {
                return Err(refused(&mut body, too_large(limit)).await);
            }
            let Some(more) = u32::try_from(data.len()).ok().and_then(|len| all_bodies.try_acquire_many(len).ok())
            else {
                // Given back first: it is what others wait for.
                drop((bytes, room));
                return Err(refused(&mut body, too_many()).await);
            };
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Self { bytes, _room: room })
    }
}

/// The error, once what is left of the body was read.
async fn refused(body: &mut Incoming, error: ApiError) -> ApiError {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, rest).await;
    error
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(REQUEST_ENTITY_TOO_LARGE, format!("The request's body is over the limit of {limit} bytes."))
}

fn too_many() -> ApiError {
    let message = "Rate exceeded: too many requests are arriving at once. Try again with growing pauses.";
    ApiError::new(THROTTLING_EXCEPTION, message)
}

fn not_whole(error: hyper::Error) -> ApiError {
    ApiError::new(BODY_NOT_READ, "The request's body did not arrive whole.").with_context(error.to_string())
}

fn failed(error: &ApiError, id: &RequestId, trace: &mut Trace) -> Response<Bytes> {
    trace.note(error);
    aws_json::error_response(error, id)
}

/// What succeeded is for whoever looks closely; what was refused is for whoever wonders why; what failed is for everybody.
fn log(trace: &Trace, id: &RequestId, status: StatusCode, took: Duration) {
    let (operation, code, context) = (trace.operation.unwrap_or("-"), trace.code.unwrap_or("-"), &trace.context);
    let principal = trace.principal.as_ref().map_or("-", |principal| &principal.access_key_id);
    let (status, took_us) = (status.as_u16(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(request_id = %id, operation, code, status, took_us, principal, context, "request")
        };
    }
    match status {
        500.. => line!(error),
        400.. => line!(info),
        _ => line!(debug),
    }
}
