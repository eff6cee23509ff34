//! Queries of URLs, read in the spelling that signatures are computed over.

use crate::sigv4::canonical;

/// The value of the first parameter of that name, decoded (`+` is a space). Nothing when it is absent or not UTF-8.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let parameters = canonical::parameters(query);
    let found = parameters.into_iter().find(|(key, _)| key == name.as_bytes());
    found.and_then(|(_, value)| String::from_utf8(value).ok())
}

/// A value as a parameter's, percent-encoded.
pub fn encode(value: &str) -> String {
    canonical::encode(value.as_bytes())
}

/// All parameters in their order, decoded. Nothing when one of them is not UTF-8.
pub fn parameters(query: &str) -> Option<Vec<(String, String)>> {
    let text = |bytes| String::from_utf8(bytes).ok();
    canonical::parameters(query).into_iter().map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_decoded() {
        let query = "clusterArn=default&dockerVersion=DockerVersion%3A+20.10.24&empty=&bad=%FF";
        assert_eq!(parameter(query, "dockerVersion").as_deref(), Some("DockerVersion: 20.10.24"));
        assert_eq!(parameter(query, "empty").as_deref(), Some(""));
        assert_eq!(parameter(query, "absent"), None);
        assert_eq!(parameter(query, "bad"), None);
        assert_eq!(parameters(query), None);
        assert_eq!(encode("a b&c=é"), "a%20b%26c%3D%C3%A9");
        let pairs = [("a".to_owned(), "1 2".to_owned()), ("a".to_owned(), String::new())];
        assert_eq!(parameters("a=1+2&a="), Some(pairs.to_vec()));
    }
}
