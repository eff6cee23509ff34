//! Page tokens: none that was not sealed opens, one that was opens in its own list only.
//!
//! Input: a cursor, a line feed, a token.

use longshore_wire::page_token::PageTokens;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (cursor, token) = text.split_once('\n').unwrap_or((text, text));
    let tokens = PageTokens::new([7; 32]);
    let sealed = tokens.seal("ListTasks", cursor.as_bytes(), cursor);
    if cursor.len() < 1000 {
        assert_eq!(tokens.open("ListTasks", cursor.as_bytes(), &sealed).as_deref(), Ok(cursor));
    }
    assert!(tokens.open("ListClusters", cursor.as_bytes(), &sealed).is_err());
    if token != sealed {
        assert!(tokens.open("ListTasks", cursor.as_bytes(), token).is_err(), "nobody makes tokens but us");
    }
}
