//! Who may do what: join tokens, the identities of machines that joined, and the authorisation of every request
//! (DESIGN §4, Identity).
//!
//! A machine joins with a token and is given an access key of its own. That key is bound to one cluster and to a number of
//! container instances, and opens what an agent needs and nothing else. No secret is known here: the edge derives them from
//! the ids that are made here.

pub(crate) mod authorise;
pub(crate) mod instance_identity;
#[cfg(test)]
mod tests;
pub(crate) mod token;

use std::sync::Arc;

use longshore_api::arn::Scope;
use longshore_api::{ApiError, Timestamp, admin};

use crate::cell::Turn;
use crate::entity::EntityKey;
use crate::entropy::Entropy;
use crate::limits;
use crate::look;
use crate::network;
use crate::placement::explain;
use crate::read::ReadModel;
use crate::scheduler;
use crate::tables::Tables;

pub use authorise::Authorised;
pub(crate) use authorise::denial;
pub(crate) use instance_identity::{check_host, check_room};

/// The answer to a request of the administration. Where it must hold a secret, the edge adds that.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A join token was made: its text, with the secret, is to be shown this once.
    TokenCreated(admin::JoinToken),
    /// A machine joined: it is to be given the secret of this key.
    Joined {
        /// The key.
        access_key_id: Arc<str>,
        /// The cluster it is bound to.
        cluster: Arc<str>,
        /// Where to sign for, and the account in every ARN.
        scope: Scope,
    },
    /// Complete as it is.
    Complete(admin::Response),
}

impl From<admin::Response> for Answer {
    fn from(response: admin::Response) -> Self {
        Self::Complete(response)
    }
}

/// Every operation of the administration that changes something.
pub(crate) fn administer(turn: &mut Turn<'_>, authorised: Authorised<'_, admin::Request>) -> Result<Answer, ApiError> {
    match authorised.request() {
        admin::Request::CreateJoinToken(request) => token::create(turn, authorised.principal(), request),
        admin::Request::RevokeJoinToken(request) => token::revoke(turn, request),
        admin::Request::JoinContainerInstance(request) => {
            instance_identity::join(turn, authorised.principal(), request)
        }
        admin::Request::RevokeInstanceIdentity(request) => instance_identity::revoke(turn, request),
        admin::Request::ReleaseMassLossBrake(request) => instance_identity::release_brake(turn, request),
        admin::Request::SetClusterScheduler(request) => {
            Ok(admin::Response::from(scheduler::set(turn, request)?).into())
        }
        admin::Request::UnsetClusterScheduler(request) => {
            Ok(admin::Response::from(scheduler::unset(turn, request)?).into())
        }
        // A read that came this way is answered from the state it would meet.
        admin::Request::ListJoinTokens(request) => Ok(token::list(turn.tables.view(), request)?.into()),
        admin::Request::ListInstanceIdentities(request) => {
            Ok(instance_identity::list(turn.tables.view(), request)?.into())
        }
        admin::Request::DescribeServer(_)
        | admin::Request::FindTasks(_)
        | admin::Request::ExplainPlacement(_)
        | admin::Request::DescribeNetwork(_)
        | admin::Request::DescribeClusterScheduler(_)
        | admin::Request::GetTaskLogs(_)
        | admin::Request::SubmitTaskLogs(_) => {
            let answer = turn.tables.view().answer_admin(authorised);
            answer.unwrap_or_else(|| Err(elsewhere(authorised.request().operation()))).map(Answer::Complete)
        }
    }
}

impl ReadModel {
    /// Answers a request of the administration that only reads; `None` when the request is for the cell.
    pub fn answer_admin(
        &self,
        authorised: Authorised<'_, admin::Request>,
    ) -> Option<Result<admin::Response, ApiError>> {
        match authorised.request() {
            admin::Request::ListJoinTokens(request) => Some(token::list(self, request)),
            admin::Request::ListInstanceIdentities(request) => Some(instance_identity::list(self, request)),
            admin::Request::DescribeServer(_) => Some(Ok(look::describe_server(self).into())),
            admin::Request::FindTasks(request) => Some(look::find_tasks(self, request).map(Into::into)),
            admin::Request::ExplainPlacement(request) => Some(explain::explain(self, request).map(Into::into)),
            admin::Request::DescribeNetwork(_) => Some(Ok(network::describe(self).into())),
            admin::Request::DescribeClusterScheduler(request) => {
                Some(scheduler::describe(self, request).map(Into::into))
            }
            admin::Request::GetTaskLogs(_)
            | admin::Request::SubmitTaskLogs(_)
            | admin::Request::SetClusterScheduler(_)
            | admin::Request::UnsetClusterScheduler(_)
            | admin::Request::CreateJoinToken(_)
            | admin::Request::RevokeJoinToken(_)
            | admin::Request::JoinContainerInstance(_)
            | admin::Request::RevokeInstanceIdentity(_)
            | admin::Request::ReleaseMassLossBrake(_) => None,
        }
    }
}

/// What containers print passes the cell by.
fn elsewhere(operation: admin::Operation) -> ApiError {
    ApiError::server(format!("{} is carried out by the server around the cell.", operation.name()))
}

/// Forgets tokens that ended, and revoked identities of which no container instance is left, when they were shown for long
/// enough; as many as the tick's group has room for.
pub(crate) fn expire(turn: &mut Turn<'_>) {
    while turn.has_room() {
        match due(turn.tables) {
            Some((due, key)) if due <= turn.now => turn.tables.remove(&key),
            _ => break,
        }
    }
}

/// When something is to be forgotten next.
pub(crate) fn next_due(tables: &Tables) -> Option<Timestamp> {
    due(tables).map(|(due, _)| due)
}

fn due(tables: &Tables) -> Option<(Timestamp, EntityKey)> {
    let token = tables.join_tokens_by_end().first().map(|(at, id)| (*at, EntityKey::JoinToken(id.clone())));
    let identity = tables.abandoned_identities().first().map(|(at, key)| (*at, EntityKey::Identity(key.clone())));
    let (at, key) = token.into_iter().chain(identity).min()?;
    Some((at.plus_millis(limits::ENDED_IDENTITY_SHOWN_MS), key))
}

/// A new id: four letters that say what it is, and 80 bits. Nobody can count them up, and none is ever made twice.
fn new_id(prefix: &str, entropy: &mut Entropy) -> Arc<str> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letters = (0..16).map(|_| char::from(ALPHABET[entropy.below(ALPHABET.len())]));
    prefix.chars().chain(letters).collect::<String>().into()
}
