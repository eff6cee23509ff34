//! Join tokens: CreateJoinToken, ListJoinTokens, RevokeJoinToken.

use std::ops::Bound;
use std::sync::Arc;

use longshore_api::ecs::{error, types};
use longshore_api::{ApiError, admin};

use super::{Answer, new_id};
use crate::cell::Turn;
use crate::cluster;
use crate::entity::{Entity, JoinToken};
use crate::limits;
use crate::names::{self, DEFAULT_CLUSTER};
use crate::principal::Principal;
use crate::read::{Page, ReadModel, page};

/// Begins the id of every join token.
const PREFIX: &str = "LSTK";
/// The life of a token that was asked for without one: an hour is enough to walk to the other machine.
const DEFAULT_LIFE_SECONDS: i32 = 3_600;

/// CreateJoinToken.
pub(super) fn create(
    turn: &mut Turn<'_>,
    principal: &Principal,
    request: &admin::CreateJoinTokenRequest,
) -> Result<Answer, ApiError> {
    let cluster = cluster_of(turn, principal, request.cluster.as_deref())?;
    if turn.tables.view().join_tokens.len() >= limits::JOIN_TOKENS {
        return Err(ApiError::new(
            error::LIMIT_EXCEEDED_EXCEPTION,
            format!("{} join tokens are known: those that ended are forgotten after a day.", limits::JOIN_TOKENS),
        ));
    }
    let seconds = request.expires_in_seconds.unwrap_or(DEFAULT_LIFE_SECONDS);
    let token = Arc::new(JoinToken {
        id: new_id(PREFIX, &mut turn.entropy),
        cluster,
        uses: request.uses.and_then(|uses| u32::try_from(uses).ok()).unwrap_or(1),
        used: 0,
        created_at: turn.now,
        expires_at: turn.now.plus_millis(i64::from(seconds) * 1_000),
        revoked_at: None,
    });
    turn.tables.put(Entity::JoinToken(token.clone()));
    Ok(Answer::TokenCreated(document(&token)))
}

/// The cluster that a token is asked for. The default one is made on first use: who sets up a first machine has none yet.
fn cluster_of(turn: &mut Turn<'_>, principal: &Principal, given: Option<&str>) -> Result<Arc<str>, ApiError> {
    match turn.tables.view().cluster(given) {
        Ok(cluster) => return Ok(cluster.name.clone()),
        Err(refused) => match names::cluster(turn.config, given)? {
            Some(name) if name == DEFAULT_CLUSTER => {}
            _ => return Err(refused),
        },
    }
    cluster::create::create(turn, principal, &types::CreateClusterRequest::default())?;
    Ok(DEFAULT_CLUSTER.into())
}

/// RevokeJoinToken. Machines that joined with it stay.
pub(super) fn revoke(turn: &mut Turn<'_>, request: &admin::RevokeJoinTokenRequest) -> Result<Answer, ApiError> {
    let known = turn.tables.view().join_tokens.get(&*request.token_id).cloned().ok_or_else(|| {
        let message = format!("There is no join token {}; `longshore token list` shows all.", request.token_id);
        ApiError::new(error::RESOURCE_NOT_FOUND_EXCEPTION, message)
    })?;
    let token = match known.revoked_at {
        Some(_) => known,
        None => {
            let revoked = Arc::new(JoinToken { revoked_at: Some(turn.now), ..JoinToken::clone(&known) });
            turn.tables.put(Entity::JoinToken(revoked.clone()));
            revoked
        }
    };
    Ok(admin::Response::from(admin::RevokeJoinTokenResponse { join_token: document(&token) }).into())
}

/// ListJoinTokens, in the order of their ids.
pub(super) fn list(view: &ReadModel, request: &admin::ListJoinTokensRequest) -> Result<admin::Response, ApiError> {
    let behind = request.next_token.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let tokens = view.join_tokens.range::<_, str>((behind, Bound::Unbounded)).map(|(_, token)| token);
    let Page { items, next } = page(tokens, request.max_results, |token| token.id.to_string());
    let join_tokens = items.into_iter().map(|token| document(token)).collect();
    Ok(admin::ListJoinTokensResponse { join_tokens, next_token: next }.into())
}

fn document(token: &JoinToken) -> admin::JoinToken {
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    admin::JoinToken {
        token_id: token.id.to_string(),
        cluster: token.cluster.to_string(),
        uses: count(token.uses),
        uses_left: count(token.uses.saturating_sub(token.used)),
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked: token.revoked_at.is_some(),
    }
}
