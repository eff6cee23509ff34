//! The life of a call at the edge: who is it, what is it, is it well formed; then the orchestrator's. Two services come
//! through this one door: ECS, and our own administration.

use http::request::Parts;
use longshore_api::admin::{self, CreateJoinTokenResponse, JoinContainerInstanceResponse};
use longshore_api::ecs::{self, Request};
use longshore_api::error::UNKNOWN_OPERATION_EXCEPTION;
use longshore_api::shape::Shape;
use longshore_api::{ApiError, Sensitive};
use longshore_core::identity::Answer;
use longshore_core::{Principal, Role};
use longshore_wire::aws_json::{self, ECS_TARGET_PREFIX};
use longshore_wire::sigv4;

use super::paging::Page;
use super::request::Trace;
use super::route::not_served;
use super::{Edge, paging, poll_endpoint};
use crate::auth::Claimed;

/// A call that is verified and typed, to be carried out.
pub(super) struct Call {
    principal: Principal,
    asked: Asked,
    page: Page,
}

/// What is asked, of which service.
enum Asked {
    Ecs(Request),
    Admin(admin::Request),
}

impl Call {
    /// Whether it changes nothing and waits for something to happen, for as long as the caller is there.
    pub(super) fn waits(&self) -> bool {
        matches!(&self.asked, Asked::Admin(admin::Request::GetTaskLogs(_)))
    }

    /// Whether it changes nothing, so that it may be asked again.
    pub(super) fn is_readonly(&self) -> bool {
        match &self.asked {
            Asked::Ecs(request) => Operation::Ecs(request.operation()),
            Asked::Admin(request) => Operation::Admin(request.operation()),
        }
        .is_readonly()
    }
}

/// Reads a call. Nothing of the body and its JSON lives on in it: while a call waits for its commit it costs what it says, not
/// what its sender spent on saying it.
pub(super) fn read(
    edge: &Edge,
    head: &Parts,
    claimed: Claimed,
    body: &[u8],
    trace: &mut Trace,
) -> Result<Call, ApiError> {
    // Who comes before what: a stranger learns nothing about what exists here.
    let principal = claimed.prove(&sigv4::Request::new(head, body))?;
    trace.principal = Some(principal.clone());
    let operation = Operation::of(head)?;
    trace.operation = Some(operation.name());

    aws_json::check_content_type(&head.headers)?;
    let mut value = aws_json::parse_body(body)?;
    let page = paging::open(&edge.page_tokens, operation.name(), operation.input(), &mut value)?;
    let asked = match operation {
        Operation::Ecs(operation) => Asked::Ecs(Request::decode(operation, &value)?),
        Operation::Admin(operation) => Asked::Admin(admin::Request::decode(operation, &value)?),
    };
    Ok(Call { principal, asked, page })
}

/// Carries out a call; the answer is its JSON.
pub(super) async fn answer(edge: &Edge, head: &Parts, call: Call) -> Result<Vec<u8>, ApiError> {
    let Call { principal, asked, page } = call;
    let answer = match asked {
        Asked::Ecs(request @ Request::DiscoverPollEndpoint(_)) => {
            edge.orchestrator.authorise(&principal, &request)?;
            poll_endpoint::answer(head, edge.local_addr, edge.tls.is_some()).to_json()
        }
        Asked::Ecs(request) => edge.orchestrator.call(principal, request).await?.to_json(),
        Asked::Admin(request) => administer(edge, principal, request).await?,
    };
    Ok(page.seal(&edge.page_tokens, answer))
}

/// Carries out a call of the administration. What containers print passes the orchestrator by.
async fn administer(edge: &Edge, principal: Principal, request: admin::Request) -> Result<Vec<u8>, ApiError> {
    if let admin::Request::SubmitTaskLogs(_) = &request {
        edge.orchestrator.authorise_admin(&principal, &request)?;
    }
    Ok(match request {
        admin::Request::GetTaskLogs(request) => {
            let source = edge.orchestrator.log_source(&principal, &request)?;
            edge.logs.get(&edge.sessions, source, request).await?.to_json()
        }
        admin::Request::SubmitTaskLogs(answer) => edge.logs.submit(&*edge.orchestrator, &principal, answer)?.to_json(),
        request => {
            let answer = edge.orchestrator.administer(principal, request).await?;
            with_secret(edge, answer).to_json()
        }
    })
}

/// Adds the secret of a key that was issued. It is derived here and now, and nowhere kept.
fn with_secret(edge: &Edge, answer: Answer) -> admin::Response {
    match answer {
        Answer::Complete(response) => response,
        Answer::TokenCreated(join_token) => {
            let secret = edge.authenticator.issue(Role::JoinToken, &join_token.token_id);
            let token = Sensitive::new(format!("{}.{}", join_token.token_id, secret.reveal()));
            CreateJoinTokenResponse { join_token, token }.into()
        }
        Answer::Joined { access_key_id, cluster, scope } => {
            let secret = edge.authenticator.issue(Role::Instance, &access_key_id);
            JoinContainerInstanceResponse {
                access_key_id: access_key_id.to_string(),
                secret_access_key: Sensitive::new(secret.reveal().to_owned()),
                cluster: cluster.to_string(),
                region: scope.region,
                account_id: scope.account,
            }
            .into()
        }
    }
}

/// An operation of either service.
#[derive(Clone, Copy)]
enum Operation {
    Ecs(ecs::Operation),
    Admin(admin::Operation),
}

impl Operation {
    fn of(head: &Parts) -> Result<Self, ApiError> {
        let target = aws_json::target(&head.headers)?;
        let (service, operation) = match target.service {
            ECS_TARGET_PREFIX => ("ECS", ecs::Operation::from_name(target.operation).map(Self::Ecs)),
            admin::TARGET_PREFIX => ("Longshore", admin::Operation::from_name(target.operation).map(Self::Admin)),
            service => return Err(not_served(service)),
        };
        operation.ok_or_else(|| {
            let message = format!("{service} has no operation '{}'.", target.operation.escape_default());
            ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message)
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ecs(operation) => operation.name(),
            Self::Admin(operation) => operation.name(),
        }
    }

    fn is_readonly(self) -> bool {
        use admin::Operation as Admin;
        match self {
            Self::Ecs(operation) => operation.facts().readonly,
            Self::Admin(
                Admin::ListJoinTokens
                | Admin::ListInstanceIdentities
                | Admin::DescribeServer
                | Admin::FindTasks
                | Admin::ExplainPlacement
                | Admin::DescribeNetwork
                | Admin::DescribeClusterScheduler
                | Admin::GetTaskLogs,
            ) => true,
            Self::Admin(
                Admin::CreateJoinToken
                | Admin::RevokeJoinToken
                | Admin::JoinContainerInstance
                | Admin::RevokeInstanceIdentity
                | Admin::ReleaseMassLossBrake
                | Admin::SetClusterScheduler
                | Admin::UnsetClusterScheduler
                | Admin::SubmitTaskLogs,
            ) => false,
        }
    }

    fn input(self) -> &'static Shape {
        match self {
            Self::Ecs(operation) => operation.facts().input,
            Self::Admin(operation) => operation.input(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_by_such_a_name_changes_nothing() {
        let ecs = ecs::Operation::ALL.iter().map(|operation| Operation::Ecs(*operation));
        let admin = admin::Operation::ALL.iter().map(|operation| Operation::Admin(*operation));
        for operation in ecs.chain(admin) {
            let reads = ["Describe", "Explain", "Find", "Get", "List"];
            let reads = reads.iter().any(|verb| operation.name().starts_with(verb));
            assert_eq!(operation.is_readonly(), reads, "{}", operation.name());
        }
    }
}
