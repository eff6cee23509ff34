//! Queries of URLs, read in the spelling that signatures are computed over.

use crate::sigv4::canonical;

/// The value of the first parameter of that name, decoded (`+` is a space). Nothing when it is absent or not UTF-8.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let parameters = canonical::parameters(query);
    let found = parameters.into_iter().find(|(key, _)| key == name.as_bytes());
    found.and_then(|(_, value)| String::from_utf8(value).ok())
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
    }
}
