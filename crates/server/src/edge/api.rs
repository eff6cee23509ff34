//! The life of an AWS call at the edge: who is it, what is it, is it well formed; then the orchestrator's.

use http::request::Parts;
use longshore_api::ApiError;
use longshore_api::ecs::{Operation, Request};
use longshore_api::error::UNKNOWN_OPERATION_EXCEPTION;
use longshore_core::Principal;
use longshore_wire::aws_json::{self, ECS_TARGET_PREFIX};
use longshore_wire::sigv4;

use super::paging::Page;
use super::request::Trace;
use super::{Edge, paging, poll_endpoint};

/// A call that is verified and typed, to be carried out.
pub(super) struct Call {
    principal: Principal,
    request: Request,
    page: Page,
}

/// Reads a call. Nothing of the body and its JSON lives on in it: while a call waits for its commit it costs what it says, not
/// what its sender spent on saying it.
pub(super) fn read(edge: &Edge, head: &Parts, body: &[u8], trace: &mut Trace) -> Result<Call, ApiError> {
    // Who comes before what: a stranger learns nothing about what exists here.
    let principal = edge.authenticator.principal(&sigv4::Request::new(head, body))?;
    trace.principal = Some(principal.clone());
    let operation = operation(head)?;
    trace.operation = Some(operation.name());

    aws_json::check_content_type(&head.headers)?;
    let mut value = aws_json::parse_body(body)?;
    let page = paging::open(&edge.page_tokens, operation, &mut value)?;
    Ok(Call { principal, request: Request::decode(operation, &value)?, page })
}

/// Carries out a call; the answer is its JSON.
pub(super) async fn answer(edge: &Edge, head: &Parts, call: Call) -> Result<Vec<u8>, ApiError> {
    let Call { principal, request, page } = call;
    let response = match request {
        Request::DiscoverPollEndpoint(_) => return Ok(poll_endpoint::answer(head, edge.local_addr).to_json()),
        request => edge.orchestrator.call(principal, request).await?,
    };
    Ok(page.seal(&edge.page_tokens, response.to_json()))
}

fn operation(head: &Parts) -> Result<Operation, ApiError> {
    let target = aws_json::target(&head.headers)?;
    if target.service != ECS_TARGET_PREFIX {
        let message = format!("Only ECS is served here: X-Amz-Target must begin with {ECS_TARGET_PREFIX}.");
        return Err(ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message));
    }
    Operation::from_name(target.operation).ok_or_else(|| {
        let message = format!("ECS has no operation '{}'.", target.operation.escape_default());
        ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message)
    })
}
