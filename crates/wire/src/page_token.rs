//! Page tokens: what a list answers as `nextToken` and takes back.
//!
//! A token carries the cursor where the next page begins, and a keyed hash over the cursor, the operation and the *scope*
//! (everything else the caller asked for: cluster, filters). So a token works only for the list it came from, a made-up one
//! is refused, and nothing needs to be remembered between two pages. The cursor is not hidden, only protected: it is the
//! name of something the caller was just shown.

use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::{equal_constant_time, hmac_sha256};
use crate::limits::MAX_PAGE_TOKEN_BYTES;

/// Leads every token. A change of layout changes it, so that tokens of an older server are refused and not misread.
const VERSION: u8 = 1;

/// 128 bits: nobody guesses them, and the token stays short.
const MAC_BYTES: usize = 16;

/// A token that was not made by this server for this operation and scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the page token does not belong to this list: repeat the call without nextToken to begin anew")]
pub struct InvalidPageToken;

/// Seals and opens page tokens with one key.
pub struct PageTokens {
    key: Zeroizing<[u8; 32]>,
}

impl PageTokens {
    /// A sealer with this key. All servers of one installation must hold the same one.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(key) }
    }

    /// The token that lets the caller go on after `cursor` in the list (`operation`, `scope`).
    pub fn seal(&self, operation: &str, scope: &[u8], cursor: &str) -> String {
        let mut token = Vec::with_capacity(1 + MAC_BYTES + cursor.len());
        token.push(VERSION);
        token.extend_from_slice(&self.mac(operation, scope, cursor.as_bytes()));
        token.extend_from_slice(cursor.as_bytes());
        hex::encode(token)
    }

    /// The cursor inside `token`, if it was sealed for this very list.
    pub fn open(&self, operation: &str, scope: &[u8], token: &str) -> Result<String, InvalidPageToken> {
        // `seal` writes lower case only; a second spelling of the same token is refused, so that one list has one token.
        if token.len() > MAX_PAGE_TOKEN_BYTES || token.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidPageToken);
        }
        let bytes = hex::decode(token).map_err(|_| InvalidPageToken)?;
        let (&version, rest) = bytes.split_first().ok_or(InvalidPageToken)?;
        let (mac, cursor) = rest.split_at_checked(MAC_BYTES).ok_or(InvalidPageToken)?;
        if version != VERSION || !equal_constant_time(mac, &self.mac(operation, scope, cursor)) {
            return Err(InvalidPageToken);
        }
        String::from_utf8(cursor.to_vec()).map_err(|_| InvalidPageToken)
    }

    fn mac(&self, operation: &str, scope: &[u8], cursor: &[u8]) -> [u8; MAC_BYTES] {
        // Each part is preceded by its length: no two different triples give the same bytes.
        let mut message = Vec::with_capacity(24 + operation.len() + scope.len() + cursor.len());
        for part in [operation.as_bytes(), scope, cursor] {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part);
        }
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&hmac_sha256(self.key.as_ref(), &message)[..MAC_BYTES]);
        mac
    }
}

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageTokens(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_opens_only_where_it_was_sealed() {
        let tokens = PageTokens::new([7; 32]);
        let token = tokens.seal("ListTasks", b"default", "arn:1");
        assert_eq!(tokens.open("ListTasks", b"default", &token), Ok("arn:1".to_owned()));
        assert_eq!(tokens.open("ListClusters", b"default", &token), Err(InvalidPageToken));
        assert_eq!(tokens.open("ListTasks", b"other", &token), Err(InvalidPageToken));
        assert_eq!(PageTokens::new([8; 32]).open("ListTasks", b"default", &token), Err(InvalidPageToken));
    }

    #[test]
    fn moving_a_byte_between_operation_and_scope_changes_the_token() {
        let tokens = PageTokens::new([7; 32]);
        let token = tokens.seal("List", b"Tasks", "c");
        assert_eq!(tokens.open("ListT", b"asks", &token), Err(InvalidPageToken));
    }

    proptest! {
        #[test]
        fn a_sealed_cursor_comes_back(operation in "[A-Za-z]{0,12}", scope: Vec<u8>, cursor in "\\PC{0,80}") {
            let tokens = PageTokens::new([1; 32]);
            let token = tokens.seal(&operation, &scope, &cursor);
            prop_assert_eq!(tokens.open(&operation, &scope, &token), Ok(cursor));
        }

        #[test]
        fn a_token_with_any_character_changed_is_refused(cursor in "[a-z]{0,20}", at: prop::sample::Index, with in "[0-9a-zA-Z=+/ ]") {
            let tokens = PageTokens::new([1; 32]);
            let token = tokens.seal("ListTasks", b"s", &cursor);
            let at = at.index(token.len());
            let mut broken = token.clone();
            broken.replace_range(at..=at, &with);
            prop_assume!(broken != token);
            prop_assert_eq!(tokens.open("ListTasks", b"s", &broken), Err(InvalidPageToken));
        }

        #[test]
        fn no_text_makes_open_panic(token in "\\PC{0,200}") {
            prop_assert!(PageTokens::new([1; 32]).open("ListTasks", b"", &token).is_err());
        }
    }
}
