//! Client tokens: the same token with the same request gives the same answer, with another request a conflict.
//!
//! A token is remembered for a day, and there is room for so many. SDKs send one with every RunTask, so that a busy client
//! fills the room: then the oldest token goes, since whoever repeats a request does so within minutes. What goes, goes with the
//! command that needs its room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::{ApiError, Timestamp};
use sha2::{Digest, Sha256};

use crate::cell::Turn;
use crate::entity::{Entity, EntityKey, Made, Token, TokenKey};
use crate::ids::ClusterId;
use crate::limits;

/// An operation that takes client tokens. Each has its own room: none can push out those of another.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    /// Its wire name.
    pub(crate) operation: &'static str,
    /// How many of its tokens are remembered.
    pub(crate) most: usize,
}

/// A token that was not used before, to be remembered with what the command makes.
pub(crate) struct Fresh {
    scope: Scope,
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
pub(crate) fn look_up(
    turn: &Turn<'_>,
    scope: Scope,
    cluster: ClusterId,
    token: Option<&str>,
    request: impl FnOnce() -> Vec<u8>,
) -> Seen {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Seen::Untold };
    let key = TokenKey { operation: scope.operation.into(), cluster, token: token.into() };
    let request: Arc<str> = hex::encode(Sha256::digest(request())).into();
    match turn.tables.tokens().get(&key).filter(|known| known.expires_at > turn.now) {
        Some(known) if known.request == request => Seen::Repeated(known.made.clone()),
        Some(known) => Seen::Conflict(known.made.clone()),
        None => Seen::Fresh(Fresh { scope, key, request }),
    }
}

/// Remembers what a fresh token made, and makes room for it.
pub(crate) fn remember(turn: &mut Turn<'_>, fresh: Fresh, made: Made) {
    let Fresh { scope, key, request } = fresh;
    let expires_at = turn.now.plus_millis(limits::CLIENT_TOKEN_LIFE_MS);
    turn.tables.put(Entity::Token(Arc::new(Token { key, request, made, expires_at })));
    while turn.tables.tokens().count(scope.operation) > scope.most && turn.has_room() {
        let Some(oldest) = turn.tables.tokens().oldest(scope.operation).cloned() else { break };
        turn.tables.remove(&EntityKey::Token(oldest));
    }
    while turn.tables.tokens().further_failures > limits::CLIENT_TOKEN_FAILURES && turn.has_room() {
        let Some(oldest) = turn.tables.tokens().oldest_with_further_failures() else { break };
        let made = oldest.made.shortened();
        let shortened = Token { made, ..Token::clone(oldest) };
        turn.tables.put(Entity::Token(Arc::new(shortened)));
    }
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

impl Made {
    /// How many failures there are beyond the first: of these there can be a hundred, of everything else there is little.
    fn further_failures(&self) -> usize {
        match self {
            Self::Tasks { failures, .. } => failures.len().saturating_sub(1),
            Self::Instance(_) => 0,
        }
    }

    /// The same with one failure at most. What was made stays: it must not be made again.
    fn shortened(&self) -> Self {
        match self {
            Self::Tasks { tasks, failures } => {
                Self::Tasks { tasks: tasks.clone(), failures: failures.iter().take(1).cloned().collect() }
            }
            Self::Instance(id) => Self::Instance(*id),
        }
    }
}

/// The tokens that are remembered, and which of them go first. As all live equally long, the first to expire is the oldest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    known: BTreeMap<TokenKey, Arc<Token>>,
    /// By operation.
    by_expiry: BTreeMap<Arc<str>, BTreeSet<(Timestamp, TokenKey)>>,
    /// Those that have more than one failure.
    verbose: BTreeSet<(Timestamp, TokenKey)>,
    /// How many failures all of them have beyond the first of each.
    further_failures: usize,
}

impl Tokens {
    pub(crate) fn get(&self, key: &TokenKey) -> Option<&Arc<Token>> {
        self.known.get(key)
    }

    /// Every token, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.known.values()
    }

    /// The token that expires next, and when.
    pub(crate) fn next_to_expire(&self) -> Option<&(Timestamp, TokenKey)> {
        self.by_expiry.values().filter_map(BTreeSet::first).min()
    }

    /// A token came, changed, or went.
    pub(crate) fn change(&mut self, old: Option<&Arc<Token>>, new: Option<&Arc<Token>>) {
        if let Some(old) = old {
            let entry = (old.expires_at, old.key.clone());
            self.verbose.remove(&entry);
            self.further_failures -= old.made.further_failures();
            if let Some(tokens) = self.by_expiry.get_mut(&old.key.operation) {
                tokens.remove(&entry);
            }
            self.known.remove(&old.key);
        }
        if let Some(new) = new {
            let entry = (new.expires_at, new.key.clone());
            if new.made.further_failures() > 0 {
                self.verbose.insert(entry.clone());
            }
            self.further_failures += new.made.further_failures();
            self.by_expiry.entry(new.key.operation.clone()).or_default().insert(entry);
            self.known.insert(new.key.clone(), new.clone());
        }
    }

    /// Whether everything derived is a recount.
    pub(crate) fn is_consistent(&self) -> bool {
        let further = self.known.values().map(|token| token.made.further_failures());
        let listed = |token: &Arc<Token>| {
            let entry = (token.expires_at, token.key.clone());
            let by_expiry = self.by_expiry.get(&token.key.operation);
            by_expiry.is_some_and(|tokens| tokens.contains(&entry))
                && self.verbose.contains(&entry) == (token.made.further_failures() > 0)
        };
        further.clone().sum::<usize>() == self.further_failures
            && further.filter(|count| *count > 0).count() == self.verbose.len()
            && self.by_expiry.values().map(BTreeSet::len).sum::<usize>() == self.known.len()
            && self.known.values().all(listed)
    }

    fn count(&self, operation: &str) -> usize {
        self.by_expiry.get(operation).map_or(0, BTreeSet::len)
    }

    fn oldest(&self, operation: &str) -> Option<&TokenKey> {
        self.by_expiry.get(operation)?.first().map(|(_, key)| key)
    }

    fn oldest_with_further_failures(&self) -> Option<&Arc<Token>> {
        self.verbose.first().and_then(|(_, key)| self.known.get(key))
    }
}

#[cfg(test)]
mod tests;
