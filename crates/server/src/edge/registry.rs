//! The door of the registry: who asks, by which token. What is asked is the registry's.

use http::Response;
use http::header::AUTHORIZATION;
use http::request::Parts;
use hyper::body::Incoming;
use longshore_core::{Principal, Role};

use super::Edge;
use super::crowd::Busy;
use super::request::{Trace, drain};
use crate::clock;
use crate::registry::token::Holder;
use crate::registry::{Body, Pulse, Refusal};

/// Answers a request under `/v2/`.
pub(super) async fn answer(
    edge: &Edge,
    head: &Parts,
    mut body: Incoming,
    busy: &Busy,
    trace: &mut Trace,
) -> Response<Body> {
    trace.operation = Some("registry");
    match open(edge, head, &mut body, busy, trace).await {
        Ok(response) => response,
        Err(refusal) => {
            trace.code = Some(refusal.code);
            trace.context = Some(refusal.context.clone().unwrap_or_else(|| refusal.message.clone()));
            drain(head, &mut body).await;
            refusal.response()
        }
    }
}

async fn open(
    edge: &Edge,
    head: &Parts,
    body: &mut Incoming,
    busy: &Busy,
    trace: &mut Trace,
) -> Result<Response<Body>, Refusal> {
    let registry = edge.registry.as_deref().ok_or_else(Refusal::nothing_here)?;
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let caller = authorization.and_then(|header| registry.tokens().caller(header, clock::now()));
    let principal = match caller.ok_or_else(Refusal::unauthorized)? {
        // A key that was revoked since opens nothing any more.
        Holder::Key(id) => edge.authenticator.holder(&id).ok_or_else(Refusal::unauthorized)?,
        Holder::Task(id) => Principal::new(Role::TaskExecution, &id, edge.authenticator.account_id()),
    };
    let role = principal.role;
    trace.principal = Some(principal);
    let activity = busy.activity();
    registry.answer(role, head, body, Pulse::new(move || activity.touch())).await
}
