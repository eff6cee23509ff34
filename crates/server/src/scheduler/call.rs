//! One question to a scheduler, and what it leads to.

use std::time::{Duration, Instant};

use longshore_client::{Transport, post_json};
use longshore_core::cell::{Command, Reply};
use longshore_core::ids::{ClusterId, TaskId};
use longshore_core::scheduler::{Answer, PlacementRefused, Question, Wish};

use crate::limits::{SCHEDULER_ANSWER_BYTES, SCHEDULER_TIMEOUT};
use crate::orchestrator::Orchestrator;
use crate::runner::Runner;

/// The first pause after a question that was not answered; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The least between two questions when the first placed nothing: tasks in a full cluster, however many, are no reason to keep
/// us and the scheduler busy.
pub(super) const REST: Duration = Duration::from_millis(100);
/// When a scheduler that left tasks undecided is asked about them again although nothing happened here: it may know of
/// something that we do not.
const REMINDER: Duration = Duration::from_secs(5);

/// What is between us and a scheduler.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The last task that it was asked about: the next question begins behind it.
    after: Option<TaskId>,
    /// Wishes of its last answer that could not be fulfilled.
    refused: Vec<PlacementRefused>,
    /// How many tasks it was asked about since it last placed one.
    left: usize,
    /// How many questions in a row were not answered.
    failures: u32,
}

/// When it is to be asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing waits for it.
    Nothing,
    /// It places tasks, and there are more.
    AtOnce,
    /// It placed nothing, and there are tasks that it was not asked about: not before so long.
    Rested(Duration),
    /// It left tasks undecided: when there is a new one, or an instance changed, or after this long.
    WhenSomethingHappens {
        /// At last.
        at_last: Duration,
    },
    /// It did not answer.
    After(Duration),
}

impl Conversation {
    /// Asks about some of the tasks that wait.
    pub(super) async fn go_on(
        mut self,
        runner: Runner,
        transport: Transport,
        cluster: ClusterId,
    ) -> (ClusterId, Self, Next) {
        let next = self.ask(&runner, &transport, cluster).await;
        (cluster, self, next)
    }

    async fn ask(&mut self, runner: &Runner, transport: &Transport, cluster: ClusterId) -> Next {
        let snapshot = runner.snapshot();
        let Some(name) = snapshot.cluster_name(cluster).cloned() else { return Next::Nothing };
        let (after, refused) = (self.after, self.refused.clone());
        let began = Instant::now();
        // It looks at every instance.
        let question = tokio::task::spawn_blocking(move || snapshot.scheduler_question(cluster, after, refused)).await;
        let question = match question {
            Ok(Some(question)) => question,
            Ok(None) => return Next::Nothing,
            Err(error) => {
                tracing::error!(cluster = %name, %error, "a question to a scheduler could not be made");
                return Next::After(LONGEST_PAUSE);
            }
        };
        let cost = began.elapsed();
        let url = question.hook.url.clone();
        let answer = match exchange(transport, &question).await {
            Ok(answer) => answer,
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10).saturating_sub(1)).min(LONGEST_PAUSE);
                if self.failures == 1 {
                    tracing::warn!(cluster = %name, %url, error, "the scheduler gave no answer: it is asked again");
                }
                return Next::After(pause);
            }
        };
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(cluster = %name, %url, "the scheduler answers again");
        }
        let mut wishes = answer.placements;
        // One for each task: what is more is none that we asked for.
        wishes.truncate(question.tasks.len());
        let wished = wishes.len();
        self.refused = place(runner, &name, wishes).await;
        self.after = question.last;
        let placed = wished - self.refused.len();
        self.answered(placed, &question, cost)
    }

    /// When to go on after an answer that placed so many tasks, to a question that took so long to make.
    fn answered(&mut self, placed: usize, question: &Question, cost: Duration) -> Next {
        if placed > 0 {
            self.left = 0;
            return Next::AtOnce;
        }
        self.left += question.tasks.len();
        if self.left < question.waiting {
            // Questions that are dear to make are rarer: they take half of one thread's time at most.
            return Next::Rested(REST.max(cost));
        }
        self.left = 0;
        Next::WhenSomethingHappens { at_last: REMINDER }
    }
}

async fn exchange(transport: &Transport, question: &Question) -> Result<Answer, String> {
    let body = serde_json::to_vec(question).map_err(|error| error.to_string())?;
    let deadline = Duration::from_secs(u64::from(question.hook.deadline_s.unsigned_abs())).min(SCHEDULER_TIMEOUT);
    let (status, text) = post_json(transport, &question.hook.url, body, SCHEDULER_ANSWER_BYTES, deadline).await?;
    if !status.is_success() {
        return Err(format!("it answered {status}"));
    }
    serde_json::from_str(&text).map_err(|error| format!("its answer is none: {error}"))
}

/// Tells the cell; answers what it refused. What it could not do at all is done by the next answer.
async fn place(runner: &Runner, cluster: &std::sync::Arc<str>, mut wishes: Vec<Wish>) -> Vec<PlacementRefused> {
    let mut refused = Vec::new();
    while !wishes.is_empty() {
        let command = Command::Place { cluster: cluster.clone(), wishes: wishes.clone() };
        let done = match runner.command(command).await {
            Reply::Placed(done) if !done.is_empty() => done,
            _ => break,
        };
        wishes.drain(..done.len().min(wishes.len()));
        refused.extend(done.into_iter().filter_map(Result::err));
    }
    let unavailable = |wish: Wish| PlacementRefused {
        task_arn: wish.task_arn,
        container_instance_arn: wish.container_instance_arn,
        reason: "UNAVAILABLE".to_owned(),
        detail: "the server could not write its store".to_owned(),
    };
    refused.extend(wishes.into_iter().map(unavailable));
    refused
}

#[cfg(test)]
mod tests {
    use longshore_api::Timestamp;
    use longshore_api::admin::SchedulerFallback;
    use longshore_core::scheduler::{AskedTask, SchedulerHook};

    use super::*;

    /// A question about 25 of so many tasks.
    fn question(waiting: usize) -> Question {
        let task = AskedTask {
            task_arn: "t".to_owned(),
            task_definition_arn: "d".to_owned(),
            group: "g".to_owned(),
            started_by: None,
            launch_type: "EC2".to_owned(),
            capacity_provider_name: None,
            cpu: 0,
            memory: 0,
            gpus: 0,
            host_ports: Vec::new(),
            tags: Vec::new(),
            created_at: Timestamp::default(),
            decide_by: None,
            candidates: Vec::new().into(),
        };
        let hook = SchedulerHook {
            url: "http://h/".into(),
            deadline_s: 5,
            fallback: SchedulerFallback::Wait,
            since: Timestamp::default(),
        };
        let (tasks, refused) = (vec![task; 25], Vec::new());
        Question { hook, last: None, waiting, cluster: "c".to_owned(), tasks, more_tasks: true, refused }
    }

    #[test]
    fn a_sweep_that_places_nothing_rests_between_its_questions_and_then_waits() {
        let mut talk = Conversation::default();
        let (cheap, dear) = (Duration::from_millis(1), Duration::from_millis(700));
        assert_eq!(talk.answered(0, &question(75), cheap), Next::Rested(REST));
        assert_eq!(talk.answered(0, &question(75), dear), Next::Rested(dear));
        assert_eq!(talk.answered(0, &question(75), cheap), Next::WhenSomethingHappens { at_last: REMINDER });
        assert_eq!(talk.answered(0, &question(75), cheap), Next::Rested(REST));
        assert_eq!(talk.answered(1, &question(75), dear), Next::AtOnce, "while it places, it is not held up");
        assert_eq!(talk.answered(0, &question(75), cheap), Next::Rested(REST), "and the count begins anew");
    }
}
