//! One request: where it goes, what it may cost, and the one line that is logged about it.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body as _, Incoming};
use longshore_api::error::{
    INTERNAL_FAILURE, REQUEST_ENTITY_TOO_LARGE, SERVICE_UNAVAILABLE, THROTTLING_EXCEPTION, UNKNOWN_OPERATION_EXCEPTION,
};
use longshore_api::{ApiError, ErrorCode};
use longshore_wire::aws_json;
use longshore_wire::protocol::Protocol;
use longshore_wire::request_id::RequestId;
use longshore_wire::sigv4;

use super::body_room::Share;
use super::crowd::Busy;
use super::route::{Route, Service, not_served};
use super::{Edge, api, ecr, events, registry, secrets, sts, upgrade};
use crate::registry as images;
use crate::socket::FarEnd;

/// The body did not arrive: not a code of AWS's JSON services, but one that names what happened.
const BODY_NOT_READ: ErrorCode = ErrorCode::new("RequestAbortedException", 400);

/// The same, for want of time.
const BODY_TOO_SLOW: ErrorCode = ErrorCode::new("RequestTimeoutException", 408);

/// Who asked did not wait for the answer.
const CALLER_GONE: ErrorCode = ErrorCode::new("RequestAbandonedException", 400);

/// A layer may take its time, and is bounded by its silences instead; a token of the registry lasts no longer than this.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);

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

/// A request on its way through the edge.
struct Visit<'a> {
    edge: &'a Edge,
    /// Where it comes from.
    peer: IpAddr,
    far_end: &'a FarEnd,
    id: RequestId,
    /// How errors are told to its sender.
    protocol: Protocol,
}

/// Answers a request, whatever happens.
pub(super) async fn answer(
    edge: &Edge,
    request: Request<Incoming>,
    peer: IpAddr,
    far_end: &FarEnd,
    busy: &mut Busy,
) -> Response<images::Body> {
    let (started, mut trace) = (Instant::now(), Trace::default());
    let has_connection_header = request.version() < Version::HTTP_2;
    let (head, body) = request.into_parts();
    let route = Route::of(&head);
    let limit = match route {
        Route::Registry => IMAGE_TIMEOUT,
        _ => edge.limits.request_timeout,
    };
    let visit = Visit { edge, peer, far_end, id: RequestId::random(), protocol: route.protocol() };
    let mut response = {
        // A handler that panics must not take the connection's other requests with it. What it was changing is the
        // orchestrator's, behind a queue; nothing here outlives the request.
        let routed = AssertUnwindSafe(visit.go(route, head, body, busy, &mut trace)).catch_unwind();
        match tokio::time::timeout(limit, routed).await {
            Ok(Ok(response)) => response,
            Ok(Err(_panic)) => {
                let error =
                    ApiError::new(INTERNAL_FAILURE, "The server failed to handle the request; its log says why.");
                whole(visit.failed(&error.with_context("the handler panicked"), &mut trace))
            }
            Err(_elapsed) if busy.is_arriving() => {
                let error = ApiError::new(BODY_TOO_SLOW, "The request's body did not arrive in time.");
                whole(visit.failed(&error, &mut trace))
            }
            Err(_elapsed) => {
                let message = "The request took too long; it may yet be carried out.";
                whole(visit.failed(&ApiError::new(SERVICE_UNAVAILABLE, message), &mut trace))
            }
        }
    };
    let unread = [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::REQUEST_TIMEOUT].contains(&response.status());
    if unread && has_connection_header {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    log(&trace, &visit.id, response.status(), started.elapsed());
    response
}

/// An answer that is there as a whole.
fn whole(response: Response<Bytes>) -> Response<images::Body> {
    response.map(|bytes| Either::Left(Full::new(bytes)))
}

impl Visit<'_> {
    async fn go(
        &self,
        route: Route,
        head: Parts,
        mut body: Incoming,
        busy: &mut Busy,
        trace: &mut Trace,
    ) -> Response<images::Body> {
        let response = match route {
            Route::Registry => return registry::answer(self.edge, &head, body, busy, trace).await,
            Route::Events => match events::answer(self.edge, &head, busy, trace) {
                Ok(response) => return response,
                Err(error) => self.failed(&refused(&head, &mut body, error).await, trace),
            },
            Route::Call(service) => {
                let result = self.call(service, head, body, busy, trace).await;
                result.unwrap_or_else(|error| self.failed(&error, trace))
            }
            Route::Elsewhere { service, .. } => {
                let error = refused(&head, &mut body, not_served(&service)).await;
                self.failed(&error, trace)
            }
            Route::Socket(kind) => {
                busy.arrived();
                upgrade::answer(self.edge, Request::from_parts(head, body), kind, &self.id, trace).await
            }
            Route::Ping => {
                trace.operation = Some("ping");
                Response::new(Bytes::new())
            }
            Route::Nothing => {
                let message = "Nothing is served here: send ECS requests as POST /.";
                let mut response = self.failed(&ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message), trace);
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        };
        whole(response)
    }

    async fn call(
        &self,
        service: Service,
        head: Parts,
        mut body: Incoming,
        busy: &mut Busy,
        trace: &mut Trace,
    ) -> Result<Response<Bytes>, ApiError> {
        let (edge, limit) = (self.edge, self.edge.limits.max_body_bytes);
        if body.size_hint().lower() > limit as u64 {
            return Err(refused(&head, &mut body, too_large(limit)).await);
        }
        let read = {
            // Before anything is kept of the body: there is no room for what strangers send.
            let claimed = match edge.authenticator.claim(service.signing(), &sigv4::Request::new(&head, b"")) {
                Ok(claimed) => claimed,
                Err(error) => return Err(refused(&head, &mut body, error.into()).await),
            };
            let body = Body::read(&head, body, limit, edge.body_room.share(self.peer)).await?;
            busy.arrived();
            match service {
                Service::Sts => return sts::answer(edge, &head, claimed, &body.bytes, &self.id, trace),
                Service::Ecr => {
                    let answer = ecr::answer(edge, &head, claimed, &body.bytes, trace)?;
                    return Ok(aws_json::response(answer.into(), &self.id));
                }
                Service::Ssm => Read::Secrets(secrets::read_ssm(edge, &head, claimed, &body.bytes, trace)?),
                Service::SecretsManager => {
                    Read::Secrets(secrets::read_secrets_manager(edge, &head, claimed, &body.bytes, trace)?)
                }
                Service::Ecs | Service::Administration => {
                    Read::Api(api::read(edge, &head, claimed, &body.bytes, trace)?)
                }
            }
        };
        let call = match read {
            Read::Api(call) => call,
            // Their answers are small, and hold what should not be kept waiting in memory.
            Read::Secrets(call) => return Ok(aws_json::response(secrets::answer(edge, call).await?.into(), &self.id)),
        };
        let (readonly, waits) = (call.is_readonly(), call.waits());
        let answer = tokio::select! {
            answer = api::answer(edge, &head, call) => answer?,
            () = self.far_end.hung_up(), if waits => return Err(gone()),
        };
        let answer = if readonly { edge.answer_room.admit(answer)? } else { answer.into() };
        Ok(aws_json::response(answer, &self.id))
    }

    fn failed(&self, error: &ApiError, trace: &mut Trace) -> Response<Bytes> {
        trace.note(error);
        self.protocol.error_response(error, &self.id)
    }
}

/// A call whose body was read.
enum Read {
    Api(api::Call),
    Secrets(secrets::Call),
}

/// A whole body, and the room it takes as long as it lives.
struct Body<'a> {
    bytes: Vec<u8>,
    _share: Share<'a>,
}

impl<'a> Body<'a> {
    async fn read(head: &Parts, mut body: Incoming, limit: usize, mut share: Share<'a>) -> Result<Self, ApiError> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(not_whole)?.into_data() else { continue };
            if data.len() > limit - bytes.len() {
                return Err(refused(head, &mut body, too_large(limit)).await);
            }
            if !share.grow(data.len()) {
                // Given back first: it is what others wait for.
                drop((bytes, share));
                return Err(refused(head, &mut body, too_many()).await);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Self { bytes, _share: share })
    }
}

/// The error, once what is left of the body was read.
async fn refused(head: &Parts, body: &mut Incoming, error: ApiError) -> ApiError {
    drain(head, body).await;
    error
}

/// Reads what is left of a refused body. Who asked whether to send it at all is told no by the very answer: reading would say
/// yes.
pub(super) async fn drain(head: &Parts, body: &mut Incoming) {
    if head.headers.contains_key(EXPECT) {
        return;
    }
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, rest).await;
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(REQUEST_ENTITY_TOO_LARGE, format!("The request's body is over the limit of {limit} bytes."))
}

fn too_many() -> ApiError {
    let message = "Rate exceeded: too many requests are arriving at once. Try again with growing pauses.";
    ApiError::new(THROTTLING_EXCEPTION, message)
}

/// Nobody reads this: it is for the log.
fn gone() -> ApiError {
    ApiError::new(CALLER_GONE, "Who asked has hung up: a call that waits is answered to those who stay.")
}

fn not_whole(error: hyper::Error) -> ApiError {
    ApiError::new(BODY_NOT_READ, "The request's body did not arrive whole.").with_context(error.to_string())
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
