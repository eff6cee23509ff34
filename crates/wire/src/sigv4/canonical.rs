//! The canonical request: the one spelling of a request that both sides hash.

use http::header::{HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use super::SignatureError;

/// Everything but the unreserved characters of RFC 3986 is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// In a path the separators stay.
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');

/// The canonical request of these parts. `signed_headers` is sorted, lower case; `path` and `query` are canonical already.
pub(crate) fn request(
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    host: Option<&str>,
    signed_headers: &[&str],
    payload_hash: &str,
) -> Result<String, SignatureError> {
    let mut text = format!("{method}\n{path}\n{query}\n");
    for name in signed_headers {
        text.push_str(name);
        text.push(':');
        header(&mut text, name, headers, host)?;
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed_headers.join(";"));
    text.push('\n');
    text.push_str(payload_hash);
    Ok(text)
}

/// Writes a header's values, trimmed, inner blanks folded to one, joined with commas. HTTP/2 has no `host` header; its
/// authority stands in for it.
fn header(text: &mut String, name: &str, headers: &HeaderMap, host: Option<&str>) -> Result<(), SignatureError> {
    let missing = || SignatureError::SignedHeaderMissing { name: name.to_owned() };
    let mut values = headers.get_all(HeaderName::from_bytes(name.as_bytes()).map_err(|_| missing())?).iter().peekable();
    if values.peek().is_none() {
        text.push_str(host.filter(|_| name == "host").ok_or_else(missing)?);
    }
    for (index, value) in values.enumerate() {
        if index > 0 {
            text.push(',');
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        for (index, word) in value.split_ascii_whitespace().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
    }
    Ok(())
}

/// The path without empty, `.` and `..` segments, escaped once more than on the wire (what every service but S3 does).
pub(crate) fn path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut text = format!("/{}", segments.join("/"));
    if path.ends_with('/') && text.len() > 1 {
        text.push('/');
    }
    utf8_percent_encode(&text, ESCAPED_IN_PATH).to_string()
}

/// The parameters of a query as names and values, decoded. A `+` is a space: agents send it so, and sign `%20`.
pub(crate) fn parameters(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decode = |text: &str| percent_decode(text.replace('+', " ").as_bytes()).collect::<Vec<u8>>();
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// The canonical spelling of a name or value.
pub(crate) fn encode(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, ESCAPED).to_string()
}

/// Parameters in canonical spelling and order: escaped afresh, sorted by name, then by value.
pub(crate) fn query<'a>(parameters: impl Iterator<Item = &'a (Vec<u8>, Vec<u8>)>) -> String {
    let mut pairs: Vec<(String, String)> = parameters.map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_in_a_query_is_a_space() {
        let parameters = parameters("dockerVersion=DockerVersion%3A+20.10.24&a");
        assert_eq!(query(parameters.iter()), "a=&dockerVersion=DockerVersion%3A%2020.10.24");
    }

    #[test]
    fn names_sort_before_values() {
        assert_eq!(query(parameters("b=1&a-b=1&a=2&a=1").iter()), "a=1&a=2&a-b=1&b=1");
    }

    #[test]
    fn paths_lose_their_dots_and_keep_their_end() {
        for (wire, canonical) in
            [("", "/"), ("/a/./b/../c", "/a/c"), ("/../..", "/"), ("//a//", "/a/"), ("/a%20b", "/a%2520b")]
        {
            assert_eq!(path(wire), canonical);
        }
    }
}
