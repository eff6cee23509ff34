//! What a telemetry session has to tell the cell: how its instance is, if that is news, and not too often.

use longshore_agent_protocol::tcs::InstanceStatus;
use tokio::time::{Instant, sleep_until};

use crate::limits::{STATUS_INTERVAL, STATUS_REPEATED_AFTER};

/// The latest status of an instance, and the one that the cell was told. There is no queue: what was said since replaces what
/// waits.
#[derive(Debug, Default)]
pub(super) struct StatusNews {
    told: Option<(Instant, Vec<InstanceStatus>)>,
    waits: Option<Vec<InstanceStatus>>,
}

impl StatusNews {
    /// The agent said this.
    pub(super) fn heard(&mut self, statuses: Vec<InstanceStatus>, now: Instant) {
        let known = self.told.as_ref().is_some_and(|(at, told)| *told == statuses && now < *at + STATUS_REPEATED_AFTER);
        self.waits = (!known).then_some(statuses);
    }

    /// Waits until there is something that the cell may be told. Dropping the future loses nothing.
    pub(super) async fn due(&self) {
        match (&self.waits, &self.told) {
            (None, _) => std::future::pending().await,
            (Some(_), None) => {}
            (Some(_), Some((at, _))) => sleep_until(*at + STATUS_INTERVAL).await,
        }
    }

    /// What the cell is told now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<InstanceStatus>> {
        let statuses = self.waits.take()?;
        self.told = Some((now, statuses.clone()));
        Some(statuses)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn status(status: &str) -> Vec<InstanceStatus> {
        let check_type = "ContainerRuntime".to_owned();
        vec![InstanceStatus { check_type, status: status.to_owned(), ..InstanceStatus::default() }]
    }

    fn is_due(news: &StatusNews) -> bool {
        news.due().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_latest_is_told_and_the_same_is_no_news() {
        let (mut news, start) = (StatusNews::default(), Instant::now());
        assert!(!is_due(&news));
        news.heard(status("INITIALIZING"), start);
        news.heard(status("OK"), start);
        assert!(is_due(&news), "the first is told at once");
        assert_eq!(news.take(start), Some(status("OK")));
        news.heard(status("IMPAIRED"), start);
        assert!(!is_due(&news), "the next is told later");
        news.heard(status("OK"), start);
        assert_eq!(news.take(start), None, "it is as it was again");
        news.heard(status("OK"), start + STATUS_REPEATED_AFTER);
        assert_eq!(news.take(start + STATUS_REPEATED_AFTER), Some(status("OK")), "the cell may have forgotten");
    }

    #[tokio::test]
    async fn a_change_waits_for_its_turn() {
        let (mut news, start) = (StatusNews::default(), Instant::now());
        news.heard(status("OK"), start);
        assert!(news.take(start).is_some());
        news.heard(status("IMPAIRED"), start);
        news.due().await;
        assert!(start.elapsed() >= STATUS_INTERVAL);
    }
}
