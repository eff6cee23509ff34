//! Client tokens: the same token with the same request gives the same answer, with another request a conflict.

use std::sync::Arc;

use longshore_api::{ApiError, error};
use sha2::{Digest, Sha256};

use crate::cell::Turn;
use crate::entity::{Entity, Made, Token, TokenKey};
use crate::ids::ClusterId;
use crate::limits;

/// A token that was not used before, to be remembered with what the command makes.
pub(crate) struct Fresh {
    key: TokenKey,
    /// As in [`Token`].
    request: Arc<str>,
}

/// What is known of a request's client token.
pub(crate) enum Seen {
    /// The request has none.
    Untold,
    /// It is new.
    Fresh(Fresh),
    /// It made this before.
    Repeated(Made),
    /// It came with other parameters before.
    Conflict(Made),
}

/// Looks a client token up. `request` is the whole request, as JSON; two requests are the same if it is.
///
/// # Errors
/// `ThrottlingException` when too many tokens are remembered.
pub(crate) fn look_up(
    turn: &Turn<'_>,
    operation: &'static str,
    cluster: ClusterId,
    token: Option<&str>,
    request: impl FnOnce() -> Vec<u8>,
) -> Result<Seen, ApiError> {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(Seen::Untold) };
    let key = TokenKey { operation: operation.into(), cluster, token: token.into() };
    let request: Arc<str> = hex::encode(Sha256::digest(request())).into();
    match turn.tables.token(&key).filter(|known| known.expires_at > turn.now) {
        Some(known) if known.request == request => Ok(Seen::Repeated(known.made.clone())),
        Some(known) => Ok(Seen::Conflict(known.made.clone())),
        None if turn.tables.token_count() >= limits::CLIENT_TOKENS => Err(ApiError::new(
            error::THROTTLING_EXCEPTION,
            format!("{} client tokens are remembered; send this one again later.", limits::CLIENT_TOKENS),
        )),
        None => Ok(Seen::Fresh(Fresh { key, request })),
    }
}

/// Remembers what a fresh token made.
pub(crate) fn remember(turn: &mut Turn<'_>, fresh: Fresh, made: Made) {
    let Fresh { key, request } = fresh;
    let expires_at = turn.now.plus_millis(limits::CLIENT_TOKEN_LIFE_MS);
    turn.tables.put(Entity::Token(Arc::new(Token { key, request, made, expires_at })));
}

/// Checks a client token: its length, and that it has visible ASCII characters only.
///
/// # Errors
/// `InvalidParameterException` that names what is allowed.
pub(crate) fn check(token: Option<&str>) -> Result<(), ApiError> {
    let token = token.unwrap_or_default();
    match token.len() <= limits::CLIENT_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(ApiError::invalid_parameter(format!(
            "clientToken can have at most {} characters, of codes 33 to 126.",
            limits::CLIENT_TOKEN
        ))),
    }
}
