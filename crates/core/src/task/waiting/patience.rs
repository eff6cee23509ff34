//! How long a task may wait and run: said by tags, as RunTask has no members for it.

use std::fmt;

use longshore_api::ApiError;
use longshore_api::ecs::types::Tag;

use crate::limits;

/// The tag that lets a task wait for an instance, and says how long.
pub(crate) const MAX_WAIT: &str = "longshore:max-wait";
/// The tag that says how long a task may run.
pub(crate) const MAX_RUN: &str = "longshore:max-run";

/// How long the tasks of a call may wait and run, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) max_wait_ms: Option<i64>,
    pub(crate) max_run_ms: Option<i64>,
}

impl Patience {
    /// What the tags of a task say; what they do not say, those of its cluster.
    ///
    /// # Errors
    /// `InvalidParameterException` that names the tag.
    pub(crate) fn read(of_task: &[Tag], of_cluster: &[Tag]) -> Result<Self, ApiError> {
        let said = |key: &'static str| {
            let tag = [of_task, of_cluster].into_iter().flatten().find(|tag| tag.key.as_deref() == Some(key));
            tag.map(|tag| duration(key, tag.value.as_deref().unwrap_or_default())).transpose()
        };
        Ok(Self { max_wait_ms: said(MAX_WAIT)?, max_run_ms: said(MAX_RUN)? })
    }
}

/// Checks the value of a tag that has a meaning here, whatever resource it is for.
///
/// # Errors
/// `InvalidParameterException` that names the tag.
pub(crate) fn check_tag(key: &str, value: &str) -> Result<(), ApiError> {
    match key {
        MAX_WAIT => duration(MAX_WAIT, value).map(drop),
        MAX_RUN => duration(MAX_RUN, value).map(drop),
        _ => Ok(()),
    }
}

/// Whether a tag is read when its task is made, and never again.
pub(crate) fn is_given_at_start(key: &str) -> bool {
    matches!(key, MAX_WAIT | MAX_RUN)
}

fn duration(key: &'static str, value: &str) -> Result<i64, ApiError> {
    let refuse = || {
        ApiError::invalid_parameter(format!(
            "The value '{value}' of the tag '{key}' is no duration: give a number with s, m, h or d behind it, such as 90s, \
             10m or 2h, of {} days at most.",
            limits::LONGEST_PATIENCE_MS / 86_400_000
        ))
    };
    let unit_ms = match value.bytes().last() {
        Some(b's') => 1_000,
        Some(b'm') => 60_000,
        Some(b'h') => 3_600_000,
        Some(b'd') => 86_400_000,
        _ => return Err(refuse()),
    };
    let digits = &value[..value.len() - 1];
    let number = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse::<i64>().ok()).flatten();
    let ms = number.and_then(|number| number.checked_mul(unit_ms));
    ms.filter(|ms| (1..=limits::LONGEST_PATIENCE_MS).contains(ms)).ok_or_else(refuse)
}

/// A duration as people write it, in the largest unit that leaves no rest.
pub(super) struct Shown(pub(super) i64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(unit_ms, _)| self.0 % unit_ms == 0) {
            Some((unit_ms, name)) => write!(f, "{}{name}", self.0 / unit_ms),
            None => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (value, ms) in [("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("30d", 2_592_000_000)] {
            assert_eq!(duration(MAX_WAIT, value).ok(), Some(ms), "{value}");
            assert_eq!(Shown(ms).to_string(), if value == "90s" { "90s" } else { value });
        }
        for value in
            ["", "s", "0s", "-1s", "+1s", "1", "1 s", "1.5h", "1w", "9d9", "99999999999999999999s", "366d", "١s"]
        {
            let error = duration(MAX_RUN, value).expect_err(value);
            assert!(error.message.contains(MAX_RUN), "{value}: {}", error.message);
        }
    }

    #[test]
    fn what_a_task_says_counts_before_what_its_cluster_says() {
        let tag = |key: &str, value: &str| Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) };
        let cluster = [tag(MAX_WAIT, "1h"), tag(MAX_RUN, "2h")];
        let patience = Patience::read(&[tag(MAX_WAIT, "1s")], &cluster).expect("good tags");
        assert_eq!(patience, Patience { max_wait_ms: Some(1_000), max_run_ms: Some(7_200_000) });
        assert_eq!(Patience::read(&[tag("other", "x")], &[]).expect("no tags"), Patience::default());
    }
}
