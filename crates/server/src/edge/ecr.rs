//! The Elastic Container Registry: tokens for the server's own registry. They are made here, because all they say is who
//! asked, and until when they are good.

use http::request::Parts;
use longshore_api::ecr::{
    self, AuthorizationData, GetAuthorizationTokenRequest, GetAuthorizationTokenResponse, INVALID_PARAMETER_EXCEPTION,
    Operation,
};
use longshore_api::error::{ACCESS_DENIED_EXCEPTION, UNKNOWN_OPERATION_EXCEPTION};
use longshore_api::{ApiError, Timestamp};
use longshore_core::{Principal, Role};
use longshore_wire::{aws_json, sigv4};

use super::request::Trace;
use super::{Edge, poll_endpoint};
use crate::auth::Claimed;
use crate::clock;
use crate::registry::Registry;
use crate::registry::token::{Holder, with_user};

/// Answers a call; the answer is its JSON.
pub(super) fn answer(
    edge: &Edge,
    head: &Parts,
    claimed: Claimed,
    body: &[u8],
    trace: &mut Trace,
) -> Result<Vec<u8>, ApiError> {
    let principal = claimed.prove(&sigv4::Request::new(head, body))?;
    trace.principal = Some(principal.clone());
    let target = aws_json::target(&head.headers)?;
    let operation = Operation::from_name(target.operation).ok_or_else(|| {
        let message = format!(
            "Longshore does not serve {} of ECR: it serves GetAuthorizationToken. `longshore image` lists and removes images.",
            target.operation.escape_default()
        );
        ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message)
    })?;
    trace.operation = Some(operation.facts().name);
    aws_json::check_content_type(&head.headers)?;
    let request = ecr::decode(operation, &aws_json::parse_body(body)?)?;
    let home = Home {
        account: edge.authenticator.account_id(),
        region: edge.authenticator.region(),
        endpoint: &poll_endpoint::called(head, edge.local_addr, edge.tls.is_some()),
    };
    let registry = edge
        .registry
        .as_deref()
        .ok_or_else(|| ApiError::new(UNKNOWN_OPERATION_EXCEPTION, "This server keeps no images."))?;
    Ok(tokens(registry, &principal, &home, &request, clock::now())?.to_json())
}

/// Where the registry is.
struct Home<'a> {
    account: &'a str,
    region: &'a str,
    /// As the caller knows this server.
    endpoint: &'a str,
}

fn tokens(
    registry: &Registry,
    principal: &Principal,
    home: &Home<'_>,
    request: &GetAuthorizationTokenRequest,
    now: Timestamp,
) -> Result<GetAuthorizationTokenResponse, ApiError> {
    let holder = match principal.role {
        Role::Owner | Role::Instance => Holder::Key(principal.access_key_id.to_string()),
        Role::TaskExecution => Holder::Task(principal.access_key_id.to_string()),
        Role::JoinToken => {
            let message = format!("User: {} is not authorized to perform: ecr:GetAuthorizationToken", principal.arn);
            return Err(ApiError::new(ACCESS_DENIED_EXCEPTION, message));
        }
    };
    let data = |proxy_endpoint: String| {
        let (token, expires_at) = registry.tokens().issue(&holder, now);
        AuthorizationData { authorization_token: with_user(&token), expires_at, proxy_endpoint }
    };
    let Some(ids) = &request.registry_ids else {
        return Ok(GetAuthorizationTokenResponse { authorization_data: vec![data(home.endpoint.to_owned())] });
    };
    if let Some(other) = ids.iter().find(|id| *id != home.account) {
        let message = format!(
            "Images of account '{}' are not here: this server's registry is that of account {}.",
            other.escape_default(),
            home.account
        );
        return Err(ApiError::new(INVALID_PARAMETER_EXCEPTION, message));
    }
    // Agents look whether the token is for the registry that they know an image by.
    let name = || format!("https://{}.dkr.ecr.{}.amazonaws.com", home.account, home.region);
    Ok(GetAuthorizationTokenResponse { authorization_data: ids.iter().map(|_| data(name())).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home<'static> = Home { account: "000000000001", region: "eu-west-1", endpoint: "http://h:1" };

    fn ask(role: Role, ids: Option<&[&str]>) -> Result<Vec<String>, &'static str> {
        let registry = Registry::new("/nowhere".into(), [3; 32]);
        let registry_ids = ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
        let principal = Principal::new(role, "LSIN1", HOME.account);
        let now = Timestamp::from_millis(5);
        let answer = tokens(&registry, &principal, &HOME, &GetAuthorizationTokenRequest { registry_ids }, now);
        let data = answer.map_err(|error| error.code.name)?.authorization_data;
        for data in &data {
            let header = format!("Basic {}", data.authorization_token.as_str());
            let id = "LSIN1".to_owned();
            let holder = if role == Role::TaskExecution { Holder::Task(id) } else { Holder::Key(id) };
            assert_eq!(registry.tokens().caller(&header, now), Some(holder));
        }
        Ok(data.into_iter().map(|data| data.proxy_endpoint).collect())
    }

    #[test]
    fn a_token_is_for_the_registry_that_was_asked_for() {
        assert_eq!(ask(Role::Owner, None).unwrap(), ["http://h:1"]);
        let name = "https://000000000001.dkr.ecr.eu-west-1.amazonaws.com";
        assert_eq!(ask(Role::Instance, Some(&["000000000001"])).unwrap(), [name]);
        assert_eq!(ask(Role::TaskExecution, Some(&["000000000001"])).unwrap(), [name]);
        assert_eq!(ask(Role::Instance, Some(&["000000000002"])), Err("InvalidParameterException"));
        assert_eq!(ask(Role::JoinToken, None), Err("AccessDeniedException"));
    }
}
