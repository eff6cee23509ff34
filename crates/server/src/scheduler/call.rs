//! One question to a scheduler, and what it leads to.

use std::time::Duration;

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
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
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
    /// There are tasks that it was not asked about.
    AtOnce,
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
        // It looks at every instance.
        let question = tokio::task::spawn_blocking(move || snapshot.scheduler_question(cluster, after, refused)).await;
        let Ok(Some(question)) = question else { return Next::Nothing };
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
        self.left = if placed > 0 { 0 } else { self.left + question.tasks.len() };
        match placed > 0 || self.left < question.waiting {
            true => Next::AtOnce,
            false => {
                self.left = 0;
                Next::WhenSomethingHappens { at_last: REMINDER }
            }
        }
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
