//! Tags: what ECS accepts as one.

use longshore_api::ApiError;
use longshore_api::ecs::types::Tag;

use crate::limits;

/// Checks tags that a caller gives.
///
/// # Errors
/// `InvalidParameterException` that names the tag: too many, a key or value that is empty, too long, reserved or
/// has characters ECS does not allow, or a key twice.
pub(crate) fn check(tags: Option<&[Tag]>) -> Result<Vec<Tag>, ApiError> {
    let tags = tags.unwrap_or_default();
    let refuse = |message: String| Err(ApiError::invalid_parameter(message));
    if tags.len() > limits::TAGS {
        return refuse(format!("The number of tags is {}; the maximum is {}.", tags.len(), limits::TAGS));
    }
    for (index, tag) in tags.iter().enumerate() {
        let key = tag.key.as_deref().unwrap_or_default();
        let value = tag.value.as_deref().unwrap_or_default();
        if key.is_empty() || key.chars().count() > limits::TAG_KEY {
            return refuse(format!("The key of tag {index} must have 1 to {} characters.", limits::TAG_KEY));
        }
        if value.chars().count() > limits::TAG_VALUE {
            return refuse(format!("The value of tag '{key}' has more than {} characters.", limits::TAG_VALUE));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return refuse(format!("The tag key '{key}' is reserved: keys cannot begin with aws:."));
        }
        if let Some(bad) = key.chars().chain(value.chars()).find(|&c| !allowed(c)) {
            return refuse(format!("The tag '{key}' has the character {bad:?}, which tags cannot have."));
        }
        if tags[..index].iter().any(|earlier| earlier.key == tag.key) {
            return refuse(format!("The tag key '{key}' is given twice."));
        }
    }
    Ok(tags.to_vec())
}

/// Letters, digits, spaces representable in UTF-8, and `+ - = . _ : / @`, as ECS documents.
fn allowed(c: char) -> bool {
    c.is_alphanumeric() || c.is_whitespace() || "+-=._:/@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) }
    }

    #[test]
    fn good_tags_pass_and_bad_ones_are_named() {
        assert!(check(Some(&[tag("team", "blue"), tag("größe", "7 + 1")])).is_ok());
        let long = "x".repeat(129);
        for (tags, word) in [
            (vec![tag("", "x")], "tag 0"),
            (vec![tag(&long, "x")], "128"),
            (vec![tag("k", &"v".repeat(257))], "'k'"),
            (vec![tag("aws:x", "y")], "reserved"),
            (vec![tag("a", "b"), tag("a", "c")], "twice"),
            (vec![tag("a\u{7}", "b")], "character"),
            ((0..51).map(|i| tag(&format!("k{i}"), "v")).collect(), "maximum is 50"),
        ] {
            let error = check(Some(&tags)).expect_err("refused");
            assert!(error.message.contains(word), "{}", error.message);
        }
    }
}
