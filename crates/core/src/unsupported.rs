//! Members that are not obeyed yet are refused by name: nothing is accepted and ignored.

use longshore_api::ApiError;
use longshore_api::ecs::error::UNSUPPORTED_FEATURE_EXCEPTION;

/// Refuses the first member that is given.
///
/// # Errors
/// `UnsupportedFeatureException` naming operation and member.
pub(crate) fn refuse(operation: &str, members: &[(&str, bool)]) -> Result<(), ApiError> {
    match members.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((member, _)) => Err(ApiError::new(
            UNSUPPORTED_FEATURE_EXCEPTION,
            format!("{operation}: Longshore does not support '{member}' yet. Leave it out."),
        )),
    }
}

/// Whether an optional list is given and has anything in it.
pub(crate) fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}
