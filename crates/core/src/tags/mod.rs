//! Tags: what ECS accepts as one, and TagResource, UntagResource, ListTagsForResource.

mod operations;
#[cfg(test)]
mod tests;

use longshore_api::ApiError;
use longshore_api::ecs::types::Tag;

use crate::limits;
use crate::task::waiting::check_tag;
pub(crate) use operations::{list, tag, untag};

/// Checks tags that a caller gives.
///
/// # Errors
/// `InvalidParameterException` that names the tag: too many, a key or value that is empty, too long, reserved or
/// has characters ECS does not allow, or a key twice; or one that means something here and says nothing.
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
        if is_reserved(key) {
            return refuse(format!("The tag key '{key}' is reserved: keys cannot begin with aws:."));
        }
        if is_reserved(value) {
            return refuse(format!("The value of tag '{key}' is reserved: values cannot begin with aws:."));
        }
        check_tag(key, value)?;
        if let Some(bad) = key.chars().chain(value.chars()).find(|&c| !allowed(c)) {
            return refuse(format!("The tag '{key}' has the character {bad:?}, which tags cannot have."));
        }
        if tags[..index].iter().any(|earlier| earlier.key == tag.key) {
            return refuse(format!("The tag key '{key}' is given twice."));
        }
    }
    Ok(tags.to_vec())
}

/// Whether a key or value belongs to AWS: such tags are made by the control plane, and nobody else.
fn is_reserved(text: &str) -> bool {
    text.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))
}

/// Letters, digits, spaces representable in UTF-8, and `+ - = . _ : / @`, as ECS documents.
fn allowed(c: char) -> bool {
    c.is_alphanumeric() || c.is_whitespace() || "+-=._:/@".contains(c)
}
