//! One container's output, asked for page by page: first what is there, then, if that is wanted, what comes, until the task
//! has stopped. A server or an agent that goes away meanwhile is waited for.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_api::admin::error::CONTAINER_NOT_CREATED;
use longshore_api::admin::{GetTaskLogsRequest, GetTaskLogsResponse, LogEntry, WAIT_SECONDS};
use longshore_api::ecs::error::TARGET_NOT_CONNECTED_EXCEPTION;
use longshore_api::error::THROTTLING_EXCEPTION;
use longshore_client::CallError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::print::Line;
use crate::client::EcsClient;
use crate::error::{CliError, with_causes};
use crate::output;
use crate::reach::Reach;

/// A container that stopped, or is not there yet, is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The pause after a server or agent was found to be away: short, then longer.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Who follows waits for a turn as long as it takes; who only wants to see what there is, so long: the place of a reader that
/// has gone is free again before.
const TURN_COMES_WITHIN: Duration = Duration::from_secs(30);

/// What a lane tells; it has ended when it tells no more.
pub(super) enum News {
    Page {
        lines: Vec<Line>,
        /// That was all there is for now.
        caught_up: bool,
    },
    Failed(CliError),
}

/// Nobody listens any more.
struct Left;

/// Why a lane ends before its time.
enum End {
    Left,
    Failed(CliError),
}

impl From<Left> for End {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

impl From<CliError> for End {
    fn from(error: CliError) -> Self {
        Self::Failed(error)
    }
}

pub(super) struct Lane {
    reach: Reach,
    client: EcsClient,
    /// With the position where the last page ended.
    request: GetTaskLogsRequest,
    follow: bool,
    /// It worked before: what fails now may work again.
    answered: bool,
}

impl Lane {
    pub(super) fn new(reach: Reach, client: EcsClient, request: GetTaskLogsRequest, follow: bool) -> Self {
        Self { reach, client, request, follow, answered: false }
    }

    /// Begins to ask. One page is read ahead.
    pub(super) fn start(mut self) -> mpsc::Receiver<News> {
        let (sender, news) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Err(End::Failed(error)) = self.run(&sender).await {
                // Whether anybody wants to know is their business.
                let _ = sender.send(News::Failed(error)).await;
            }
        });
        news
    }

    async fn run(&mut self, news: &mpsc::Sender<News>) -> Result<(), End> {
        loop {
            // Asked first: what is printed between the two looks is then seen by the second.
            let over = !self.follow || self.is_over().await?;
            while !self.pass_on(0, news).await? {}
            if over {
                return Ok(());
            }
            while !self.pass_on(*WAIT_SECONDS.end(), news).await? {}
            // It has stopped, but not for good as far as anybody knows: the report is on its way, or it is started again.
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Passes one page on; whether it was the last.
    async fn pass_on(&mut self, wait_seconds: i32, news: &mpsc::Sender<News>) -> Result<bool, End> {
        let page = self.page(wait_seconds).await?;
        let caught_up = page.end || wait_seconds > 0;
        let lines = page.entries.into_iter().map(line).collect();
        news.send(News::Page { lines, caught_up }).await.map_err(|_| Left)?;
        Ok(page.end)
    }

    async fn page(&mut self, wait_seconds: i32) -> Result<GetTaskLogsResponse, CliError> {
        self.request.wait_seconds = Some(wait_seconds);
        let (mut pause, began) = (FIRST_PAUSE, Instant::now());
        loop {
            let error = match self.client.get_task_logs(&self.request).await {
                Ok(page) => {
                    self.request.position = Some(page.position.clone());
                    self.answered = true;
                    return Ok(page);
                }
                Err(CliError::Call(error)) => error,
                Err(error) => return Err(error),
            };
            match self.patience(&error, began.elapsed()) {
                Patience::None => return Err(CliError::Call(error)),
                Patience::NotYet => sleep(LOOK_AGAIN).await,
                Patience::Away => {
                    // A machine that is given up takes what its containers printed with it.
                    if error.code() == TARGET_NOT_CONNECTED_EXCEPTION.name && self.is_over().await.unwrap_or(false) {
                        return Err(CliError::Call(error));
                    }
                    if pause == FIRST_PAUSE {
                        output::remark(&format!("waiting, and trying again: {}", with_causes(&error)));
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    // The server may listen elsewhere by now; if it is not there, the next attempt says so.
                    if let Ok(reached) = self.reach.connect_within(super::CALL_TAKES_AT_MOST) {
                        self.client = reached.client;
                    }
                }
            }
        }
    }

    /// What to do about an error, having waited so long already.
    fn patience(&self, error: &CallError, waited: Duration) -> Patience {
        let away = error.is_passing() || error.code() == TARGET_NOT_CONNECTED_EXCEPTION.name;
        match self.follow {
            // There are too many readers: it is nobody's turn for ever.
            _ if is_throttled(error) && (self.follow || waited < TURN_COMES_WITHIN) => Patience::Away,
            true if error.code() == CONTAINER_NOT_CREATED.name => Patience::NotYet,
            true if self.answered && away => Patience::Away,
            true | false => Patience::None,
        }
    }

    /// Whether the container, or its task, has stopped for good as far as its agent has told.
    async fn is_over(&self) -> Result<bool, CliError> {
        let cluster = self.request.cluster.as_deref().unwrap_or_default();
        let described = match self.client.describe_task(cluster, &self.request.task).await {
            Ok(described) => described,
            // The logs are asked for next, and whoever asks for them knows how to wait.
            Err(CliError::Call(error)) if is_throttled(&error) || self.answered && error.is_passing() => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let Some(task) = described else { return Ok(true) };
        let is_stopped = |status: &Option<String>| status.as_deref() == Some("STOPPED");
        let mut containers = task.containers.iter().flatten();
        let container = containers.find(|container| container.name == self.request.container);
        Ok(is_stopped(&task.last_status) || container.is_some_and(|container| is_stopped(&container.last_status)))
    }
}

/// What to do about an error.
enum Patience {
    /// Give up.
    None,
    /// Nothing is wrong; look again.
    NotYet,
    /// Somebody is away, or has too much to do; wait for them.
    Away,
}

fn is_throttled(error: &CallError) -> bool {
    error.code() == THROTTLING_EXCEPTION.name
}

fn line(entry: LogEntry) -> Line {
    // Bytes that are not base64 were not written by any agent of ours; shown as they are they do no harm.
    let data = STANDARD.decode(&entry.data).unwrap_or_else(|_| entry.data.into_bytes());
    Line { time: entry.time, stream: entry.stream, data }
}

#[cfg(test)]
mod tests {
    use longshore_client::ClientConfig;
    use longshore_wire::sigv4::{Credentials, Secret};

    use super::*;
    use crate::cli::ReachArgs;

    fn lane(follow: bool, answered: bool) -> Lane {
        let endpoint = "http://127.0.0.1:1";
        let credentials =
            Credentials { access_key_id: "k".to_owned(), secret: Secret::new("s".to_owned()), session_token: None };
        let client = EcsClient::with(ClientConfig::new(endpoint, "r".to_owned(), credentials)).unwrap();
        let reach = Reach::new(&ReachArgs { data_dir: None, endpoint: Some(endpoint.to_owned()) }, "longshore");
        Lane { answered, ..Lane::new(reach, client, GetTaskLogsRequest::default(), follow) }
    }

    fn error(code: &str) -> CallError {
        CallError::Api { operation: "GetTaskLogs", status: 400, code: code.to_owned(), message: String::new() }
    }

    #[test]
    fn a_reader_among_too_many_waits_for_its_turn() {
        let is_away = |lane: Lane, code: &str, waited| matches!(lane.patience(&error(code), waited), Patience::Away);
        for (follow, answered) in [(true, true), (true, false), (false, true), (false, false)] {
            assert!(is_away(lane(follow, answered), "ThrottlingException", Duration::ZERO), "{follow} {answered}");
            // Who follows does so for as long as it takes.
            assert_eq!(is_away(lane(follow, answered), "ThrottlingException", TURN_COMES_WITHIN), follow);
            let gone = is_away(lane(follow, answered), "TargetNotConnectedException", Duration::ZERO);
            assert_eq!(gone, follow && answered);
        }
    }
}
