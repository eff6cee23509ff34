//! The Security Token Service: whose access key signed. It is answered here, because the answer is the very thing that the
//! edge has just found out; and to whoever signed, because AWS too asks for no permission.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use longshore_api::ApiError;
use longshore_api::sts::{self, GetCallerIdentityResponse, NOT_SERVED, Operation, Request};
use longshore_core::{Principal, Role};
use longshore_wire::aws_query::{self, Form, INVALID_ACTION};
use longshore_wire::request_id::RequestId;
use longshore_wire::sigv4;

use super::Edge;
use super::request::Trace;
use crate::auth::Claimed;

/// Answers a call.
pub(super) fn answer(
    edge: &Edge,
    head: &Parts,
    claimed: Claimed,
    body: &[u8],
    id: &RequestId,
    trace: &mut Trace,
) -> Result<Response<Bytes>, ApiError> {
    let principal = claimed.prove(&sigv4::Request::new(head, body))?;
    trace.principal = Some(principal.clone());
    let form = Form::of(head, body)?;
    let operation = operation(&form)?;
    let facts = operation.facts();
    trace.operation = Some(facts.name);
    let Request::GetCallerIdentity(_) = Request::decode(operation, &form.value(facts.input)?)?;
    let answer = caller_identity(&principal, edge.authenticator.account_id());
    Ok(aws_query::response(sts::NAMESPACE, facts.name, facts.output, &answer.to_value(), id))
}

fn operation(form: &Form) -> Result<Operation, ApiError> {
    let action = form.action()?;
    let version = form.version().unwrap_or("NO_VERSION_SPECIFIED");
    if version == sts::VERSION
        && let Some(operation) = Operation::from_name(action)
    {
        return Ok(operation);
    }
    let message = match NOT_SERVED.contains(&action) {
        true => format!(
            "Longshore does not serve {action} of STS: there are no roles or sessions; it serves GetCallerIdentity."
        ),
        false => format!("Could not find operation {} for version {}", shown(action), shown(version)),
    };
    Err(ApiError::new(INVALID_ACTION, message))
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

fn caller_identity(principal: &Principal, account_id: &str) -> GetCallerIdentityResponse {
    let user_id = match principal.role {
        // As AWS has it for an account's owner.
        Role::Owner => account_id,
        Role::Instance | Role::JoinToken | Role::TaskExecution => &principal.access_key_id,
    };
    GetCallerIdentityResponse {
        user_id: user_id.to_owned(),
        account: account_id.to_owned(),
        arn: principal.arn.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use longshore_wire::aws_query::MISSING_ACTION;

    use super::*;

    #[test]
    fn each_kind_of_key_is_somebody() {
        for (role, user_id, arn) in [
            (Role::Owner, "000000000001", "arn:aws:iam::000000000001:root"),
            (Role::Instance, "LSIN", "arn:aws:iam::000000000001:instance/LSIN"),
            (Role::JoinToken, "LSIN", "arn:aws:iam::000000000001:join-token/LSIN"),
        ] {
            let identity = caller_identity(&Principal::new(role, "LSIN", "000000000001"), "000000000001");
            assert_eq!((identity.user_id.as_str(), identity.arn.as_str()), (user_id, arn));
            assert_eq!(identity.account, "000000000001");
        }
    }

    #[test]
    fn what_is_not_served_is_named() {
        let error = |form: &str| operation(&Form::read(form, b"").unwrap()).unwrap_err();
        assert_eq!(error("Version=2011-06-15").code, MISSING_ACTION);
        for (form, part) in [
            ("Action=AssumeRole&Version=2011-06-15", "does not serve AssumeRole of STS"),
            ("Action=Nonsense&Version=2011-06-15", "Could not find operation Nonsense for version 2011-06-15"),
            ("Action=GetCallerIdentity&Version=2010-01-01", "for version 2010-01-01"),
            ("Action=GetCallerIdentity", "for version NO_VERSION_SPECIFIED"),
        ] {
            let error = error(form);
            assert_eq!(error.code, INVALID_ACTION);
            assert!(error.message.contains(part), "{}", error.message);
        }
        let known = operation(&Form::read("Action=GetCallerIdentity&Version=2011-06-15", b"").unwrap());
        assert_eq!(known.unwrap(), Operation::GetCallerIdentity);
    }
}
