//! Telling the control plane of a state change, until it is told or will not hear of it.

use std::time::Duration;

use longshore_api::ecs::Operation;
use longshore_api::ecs::types::SubmitTaskStateChangeRequest;
use longshore_client::CallError;
use tokio::time::sleep;
use tracing::warn;

use super::Shared;
use crate::backoff::Backoff;
use crate::engine::{Input, SubmitOutcome};

/// Between attempts to submit one state change. A server that was started anew hears of it at once; one that comes back to
/// thousands of agents does not hear from all of them in the same second.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), 2.0, 1.0);
/// After so many, a minute or two, the engine decides anew what there is to report.
const TRIES: u32 = 10;
/// Attempts while we are refused for who we are: half an hour, in which an operator may put it right.
const DENIED_TRIES: u32 = 10;

/// Submits, however often it takes.
pub(super) async fn submit<D>(shared: &Shared<D>, task_arn: String, change: &SubmitTaskStateChangeRequest) -> Input {
    let body = change.to_json();
    let mut attempts = Attempts::new();
    let outcome = loop {
        let answer = {
            // The semaphore is never closed.
            let _permit = shared.submits.acquire().await;
            shared.api.call(Operation::SubmitTaskStateChange, body.clone()).await
        };
        match answer {
            Ok(_) => break SubmitOutcome::Accepted,
            Err(error) => match attempts.after(&error) {
                Next::Again(pause) => {
                    warn!(task = task_arn, %error, ?pause, "a state change did not get through, trying again");
                    sleep(pause).await;
                }
                Next::End(outcome) => break outcome,
            },
        }
    };
    Input::Submitted { task_arn, outcome }
}

/// What follows from a failure.
#[derive(Debug, PartialEq)]
enum Next {
    Again(Duration),
    End(SubmitOutcome),
}

/// Attempts to submit one state change.
struct Attempts {
    away: Backoff,
    tries_left: u32,
    denied: Backoff,
    denied_tries_left: u32,
}

impl Attempts {
    const fn new() -> Self {
        Self { away: RETRY, tries_left: TRIES, denied: Backoff::while_denied(), denied_tries_left: DENIED_TRIES }
    }

    fn after(&mut self, error: &CallError) -> Next {
        self.tries_left = self.tries_left.saturating_sub(1);
        if error.is_passing() && self.tries_left > 0 {
            return Next::Again(self.away.next());
        }
        if error.is_denied() {
            self.denied_tries_left = self.denied_tries_left.saturating_sub(1);
            return match self.denied_tries_left {
                // The server keeps another account of this task, or none: telling it for ever helps nobody.
                0 => Next::End(SubmitOutcome::Dropped(error.to_string())),
                _ => Next::Again(self.denied.next()),
            };
        }
        match error.code() {
            "InvalidParameterException" => Next::End(SubmitOutcome::Dropped(error.to_string())),
            _ => Next::End(SubmitOutcome::Failed(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: &str) -> CallError {
        CallError::Api { operation: "SubmitTaskStateChange", status, code: code.into(), message: String::new() }
    }

    /// How often an error is answered with another attempt, for how long altogether, and how it ends.
    fn fate(error: &CallError) -> (u32, Duration, SubmitOutcome) {
        let mut attempts = Attempts::new();
        let (mut count, mut time) = (0, Duration::ZERO);
        loop {
            match attempts.after(error) {
                Next::Again(pause) => {
                    count += 1;
                    time += pause;
                    assert!(count < 100, "for ever");
                }
                Next::End(outcome) => return (count, time, outcome),
            }
        }
    }

    #[test]
    fn a_refusal_for_who_we_are_is_not_retried_for_ever() {
        let (count, time, outcome) = fate(&error(400, "AccessDeniedException"));
        assert!(matches!(outcome, SubmitOutcome::Dropped(_)), "{outcome:?}");
        assert_eq!(count, DENIED_TRIES - 1);
        let minutes = time.as_secs() / 60;
        assert!((15..45).contains(&minutes), "{minutes} minutes");
    }

    #[test]
    fn what_passes_is_retried_and_then_decided_anew_and_nonsense_is_dropped() {
        for passing in [error(503, "ServerException"), error(400, "ThrottlingException")] {
            let (count, _, outcome) = fate(&passing);
            assert!(count == TRIES - 1 && matches!(outcome, SubmitOutcome::Failed(_)), "{count} {outcome:?}");
        }
        assert!(matches!(fate(&error(400, "InvalidParameterException")), (0, _, SubmitOutcome::Dropped(_))));
        assert!(matches!(fate(&error(400, "ClientException")), (0, _, SubmitOutcome::Failed(_))));
    }
}
