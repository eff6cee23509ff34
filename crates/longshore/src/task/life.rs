//! The steps of a task's life that are behind it.

use longshore_api::Timestamp;
use longshore_api::ecs::types::Task;
use serde::Serialize;

/// A step, and how long it took to get there.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    #[serde(rename = "step")]
    pub(super) name: &'static str,
    pub(super) at: Timestamp,
    /// Seconds.
    pub(super) after_creation: f64,
    /// Seconds.
    pub(super) after_previous: f64,
}

/// The steps in the order in which they happened.
pub(super) fn life(task: &Task) -> Vec<Step> {
    let all = [
        ("created", task.created_at),
        ("pull started", task.pull_started_at),
        ("pull stopped", task.pull_stopped_at),
        ("connectivity", task.connectivity_at),
        ("started", task.started_at),
        ("stopping", task.stopping_at),
        ("execution stopped", task.execution_stopped_at),
        ("stopped", task.stopped_at),
    ];
    let mut known: Vec<(&'static str, Timestamp)> =
        all.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
    // Some times are the server's and some the agent's machine's; the order above decides between equals.
    known.sort_by_key(|(_, at)| *at);
    let created = task.created_at.or_else(|| known.first().map(|(_, at)| *at)).unwrap_or_default();
    let mut previous = created;
    let seconds = |from: Timestamp, to: Timestamp| to.since(from) as f64 / 1000.0;
    known
        .into_iter()
        .map(|(name, at)| {
            let after_previous = seconds(std::mem::replace(&mut previous, at), at);
            Step { name, at, after_creation: seconds(created, at), after_previous }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_in_the_order_of_their_times() {
        let at = |ms| Some(Timestamp::from_millis(ms));
        let task = Task {
            created_at: at(1_000),
            pull_started_at: at(1_100),
            pull_stopped_at: at(1_100),
            connectivity_at: at(1_050),
            stopping_at: at(5_000),
            execution_stopped_at: at(4_000),
            ..Task::default()
        };
        let steps = life(&task);
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        assert_eq!(names, ["created", "connectivity", "pull started", "pull stopped", "execution stopped", "stopping"]);
        assert_eq!((steps[5].after_creation, steps[5].after_previous), (4.0, 1.0));
        assert_eq!(life(&Task::default()), []);
    }
}
