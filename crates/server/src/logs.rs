//! The relay of logs: a person asks the server, the server asks the agent, the agent answers with a signed call that completes
//! the waiting one.
//!
//! Everything here is volatile and nothing passes through the cell or the store: what is lost with a restart is asked for
//! again, from the position that the reader has. An answer is taken only with the id that the agent was asked with, which
//! nobody else knows, and only from the key that the asked instance belongs to.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_agent_protocol::acs::{ReadTaskLogsMessage, ServerMessage};
use longshore_api::admin::{
    self, GetTaskLogsRequest, GetTaskLogsResponse, SubmitTaskLogsRequest, SubmitTaskLogsResponse,
};
use longshore_api::ecs::error::RESOURCE_NOT_FOUND_EXCEPTION;
use longshore_api::error::{ACCESS_DENIED_EXCEPTION, THROTTLING_EXCEPTION};
use longshore_api::{ApiError, Timestamp};
use longshore_core::Principal;
use longshore_core::logs::LogSource;
use longshore_wire::request_id::RequestId;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::limits::{LOGS_ANSWERED_WITHIN, MAX_WAITING_FOR_LOGS};
use crate::orchestrator::Orchestrator;
use crate::sessions::Sessions;

/// Who waits for which agent's answer.
pub(crate) struct LogRelay {
    waiting: Mutex<HashMap<String, Waiting>>,
    /// How much longer than it is told to wait an agent may take.
    answered_within: Duration,
}

impl Default for LogRelay {
    fn default() -> Self {
        Self { waiting: Mutex::default(), answered_within: LOGS_ANSWERED_WITHIN }
    }
}

/// A call that waits.
struct Waiting {
    instance_arn: String,
    answer: oneshot::Sender<SubmitTaskLogsRequest>,
}

/// A place among those who wait; it is given up with the call.
struct Place<'a> {
    relay: &'a LogRelay,
    id: String,
    answer: oneshot::Receiver<SubmitTaskLogsRequest>,
}

impl LogRelay {
    /// Asks the agent and waits for its answer.
    ///
    /// # Errors
    /// When the position is none, when too many wait already, when the agent is not there or does not answer in time, and when
    /// it has no logs.
    pub(crate) async fn get(
        &self,
        sessions: &Sessions,
        source: LogSource,
        request: GetTaskLogsRequest,
    ) -> Result<GetTaskLogsResponse, ApiError> {
        if let Some(position) = request.position.as_deref().filter(|position| !is_position(position)) {
            let message = format!(
                "position must be one that GetTaskLogs answered, but was '{}'; leave it out to read from the beginning.",
                position.escape_default()
            );
            return Err(ApiError::invalid_parameter(message));
        }
        let wait = Duration::from_secs(u64::try_from(request.wait_seconds.unwrap_or(0)).unwrap_or(0));
        let mut place = self.place(&source)?;
        let message = ReadTaskLogsMessage {
            message_id: place.id.clone(),
            container_instance_arn: source.instance_arn.clone(),
            task_arn: source.task_arn.clone(),
            container_name: source.container.clone(),
            position: request.position,
            since: request.since.map(Timestamp::as_millis),
            tail: request.tail.map(i64::from),
            wait: i64::try_from(wait.as_millis()).unwrap_or(0),
        };
        if !sessions.send(source.instance, ServerMessage::ReadTaskLogs(message)) {
            return Err(source.silent());
        }
        let answer = timeout(wait + self.answered_within, &mut place.answer).await;
        let answer = answer.ok().and_then(Result::ok).ok_or_else(|| source.silent())?;
        match (answer.failure, answer.position) {
            (Some(failure), _) => Err(source.refusal(&failure)),
            (None, Some(position)) => Ok(GetTaskLogsResponse {
                container: source.container,
                entries: answer.entries,
                position,
                end: answer.end,
            }),
            // `submit` takes no such answer.
            (None, None) => Err(source.silent()),
        }
    }

    /// An agent's answer.
    ///
    /// # Errors
    /// When nobody waits for it, and when it is not this key's to give.
    pub(crate) fn submit(
        &self,
        orchestrator: &dyn Orchestrator,
        principal: &Principal,
        request: SubmitTaskLogsRequest,
    ) -> Result<SubmitTaskLogsResponse, ApiError> {
        let instance_arn = self.waiting().get(&request.request_id).map(|waiting| waiting.instance_arn.clone());
        let instance_arn = instance_arn.ok_or_else(nobody_waits)?;
        orchestrator.admit(principal, &instance_arn).map_err(|refusal| {
            let message = format!(
                "User: {} is not authorized to perform: longshore:SubmitTaskLogs on resource: {instance_arn} because \
                 {refusal}",
                principal.arn
            );
            ApiError::new(ACCESS_DENIED_EXCEPTION, message)
        })?;
        if request.failure.is_none() && request.position.is_none() {
            return Err(ApiError::invalid_parameter("position is required where there is no failure."));
        }
        let waiting = self.waiting().remove(&request.request_id).ok_or_else(nobody_waits)?;
        waiting.answer.send(request).map_err(|_| nobody_waits())?;
        Ok(admin::SubmitTaskLogsResponse {})
    }

    /// A new place among those who wait.
    fn place(&self, source: &LogSource) -> Result<Place<'_>, ApiError> {
        let (sender, answer) = oneshot::channel();
        let id = RequestId::random().to_string();
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING_FOR_LOGS {
            let message = "Rate exceeded: too many are reading logs. Try again with growing pauses.";
            return Err(ApiError::new(THROTTLING_EXCEPTION, message));
        }
        waiting.insert(id.clone(), Waiting { instance_arn: source.instance_arn.clone(), answer: sender });
        Ok(Place { relay: self, id, answer })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.relay.waiting().remove(&self.id);
    }
}

/// Whether an agent may have made this: a time, how much was read since then, and maybe the latest time of it.
fn is_position(text: &str) -> bool {
    let is_time = |text: &str| {
        let is_nanoseconds = |text: &str| text.parse::<u32>().is_ok_and(|nanoseconds| nanoseconds < 1_000_000_000);
        text.split_once('.').is_some_and(|(seconds, rest)| seconds.parse::<i64>().is_ok() && is_nanoseconds(rest))
    };
    let mut parts = text.split('/');
    parts.next().is_some_and(is_time)
        && parts.next().is_some_and(|read| read.parse::<u64>().is_ok())
        && parts.next().is_none_or(is_time)
        && parts.next().is_none()
}

fn nobody_waits() -> ApiError {
    ApiError::new(RESOURCE_NOT_FOUND_EXCEPTION, "Nobody waits for these logs: the reader has gone, or was answered.")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::{self, BoxFuture, FutureExt as _};
    use longshore_api::ecs;
    use longshore_core::Role;
    use longshore_core::cell::{Command, Reply};
    use longshore_core::identity::Answer;
    use longshore_core::ids::{ClusterId, InstanceId, InstanceKey, TaskId};
    use longshore_core::instance::SessionRefusal;
    use longshore_core::read::ReadModel;
    use longshore_core::task::status::TaskStatus;
    use longshore_core::{CellConfig, secret};

    use tokio::sync::watch;

    use super::*;
    use crate::limits::SessionLimits;

    const INSTANCE: InstanceKey = InstanceKey { cluster: ClusterId(1), id: InstanceId(2) };

    /// Knows whose the one instance is, and nothing else.
    struct Owner;

    impl Orchestrator for Owner {
        fn call(&self, _: Principal, _: ecs::Request) -> BoxFuture<'static, Result<ecs::Response, ApiError>> {
            future::ready(Err(ApiError::server("not here"))).boxed()
        }

        fn administer(&self, _: Principal, _: admin::Request) -> BoxFuture<'static, Result<Answer, ApiError>> {
            future::ready(Err(ApiError::server("not here"))).boxed()
        }

        fn secrets(&self, _: Principal, _: secret::Request) -> BoxFuture<'static, Result<secret::Answer, ApiError>> {
            future::ready(Err(ApiError::server("not here"))).boxed()
        }

        fn secret_name(&self, _: &str) -> Option<Arc<str>> {
            None
        }

        fn role_holders(&self, _: InstanceKey, _: &dyn Fn(TaskId) -> bool) -> Vec<secret::RoleHolder> {
            Vec::new()
        }

        fn authorise(&self, _: &Principal, _: &ecs::Request) -> Result<(), ApiError> {
            Ok(())
        }

        fn authorise_admin(&self, _: &Principal, _: &admin::Request) -> Result<(), ApiError> {
            Ok(())
        }

        fn log_source(&self, _: &Principal, _: &GetTaskLogsRequest) -> Result<LogSource, ApiError> {
            Ok(source())
        }

        fn admit(&self, principal: &Principal, instance_arn: &str) -> Result<(), SessionRefusal> {
            match instance_arn == "arn:i" && *principal.access_key_id == *"LSINOWN" {
                true => Ok(()),
                false => Err(SessionRefusal::AccessDenied),
            }
        }

        fn view(&self) -> Arc<ReadModel> {
            Arc::new(ReadModel::empty(Arc::new(CellConfig::new("us-east-1", "000000000000"))))
        }

        fn publications(&self) -> watch::Receiver<()> {
            watch::Sender::default().subscribe()
        }

        fn command(&self, _: Command) -> BoxFuture<'static, Reply> {
            future::ready(Reply::None).boxed()
        }
    }

    fn source() -> LogSource {
        LogSource {
            task_arn: "arn:t".to_owned(),
            container: "main".to_owned(),
            instance: INSTANCE,
            instance_arn: "arn:i".to_owned(),
            status: TaskStatus::Running,
            created: true,
            why: None,
        }
    }

    fn key(id: &str) -> Principal {
        Principal::new(Role::Instance, id, "000000000000")
    }

    fn answer(request_id: &str) -> SubmitTaskLogsRequest {
        let (request_id, position) = (request_id.to_owned(), Some("7/1".to_owned()));
        SubmitTaskLogsRequest { request_id, position, end: true, ..SubmitTaskLogsRequest::default() }
    }

    fn code<T>(result: Result<T, ApiError>) -> &'static str {
        result.err().map_or("none", |error| error.code.name)
    }

    /// A call that waits, and the id with which the agent was asked.
    struct Asked {
        relay: Arc<LogRelay>,
        id: String,
        call: tokio::task::JoinHandle<Result<GetTaskLogsResponse, ApiError>>,
    }

    async fn ask() -> Asked {
        ask_within(Duration::from_secs(20), 3).await
    }

    async fn ask_within(answered_within: Duration, wait_seconds: i32) -> Asked {
        let relay = Arc::new(LogRelay { answered_within, ..LogRelay::default() });
        let sessions = Arc::new(Sessions::new(SessionLimits::default()));
        let mut agent = sessions.agent_of(INSTANCE);
        let call = tokio::spawn({
            let (relay, sessions) = (relay.clone(), sessions.clone());
            async move {
                let request =
                    GetTaskLogsRequest { tail: Some(5), wait_seconds: Some(wait_seconds), ..Default::default() };
                relay.get(&sessions, source(), request).await
            }
        });
        let Some(ServerMessage::ReadTaskLogs(asked)) = agent.heard().await else { panic!("nothing was asked") };
        let heard = (asked.task_arn.as_str(), asked.container_name.as_str(), asked.tail, asked.wait);
        assert_eq!(heard, ("arn:t", "main", Some(5), i64::from(wait_seconds) * 1_000));
        Asked { relay, id: asked.message_id, call }
    }

    #[tokio::test]
    async fn the_answer_of_the_asked_agent_completes_the_call_once() {
        let Asked { relay, id, call } = ask().await;
        assert_eq!(code(relay.submit(&Owner, &key("LSINOWN"), answer("guessed"))), "ResourceNotFoundException");
        assert_eq!(code(relay.submit(&Owner, &key("LSINOTHER"), answer(&id))), "AccessDeniedException");
        let nowhere = SubmitTaskLogsRequest { position: None, ..answer(&id) };
        assert_eq!(code(relay.submit(&Owner, &key("LSINOWN"), nowhere)), "InvalidParameterException");
        assert_eq!(code(relay.submit(&Owner, &key("LSINOWN"), answer(&id))), "none");
        assert_eq!(code(relay.submit(&Owner, &key("LSINOWN"), answer(&id))), "ResourceNotFoundException");
        let page = call.await.unwrap().unwrap();
        assert_eq!((page.container.as_str(), page.position.as_str(), page.end), ("main", "7/1", true));
    }

    #[tokio::test]
    async fn a_reader_that_leaves_is_waited_for_no_longer() {
        let Asked { relay, id, call } = ask().await;
        call.abort();
        assert!(call.await.is_err());
        assert!(relay.waiting().is_empty());
        assert_eq!(code(relay.submit(&Owner, &key("LSINOWN"), answer(&id))), "ResourceNotFoundException");
    }

    #[tokio::test]
    async fn an_agent_that_says_nothing_is_named_after_a_while() {
        let Asked { relay, call, .. } = ask_within(Duration::from_millis(20), 0).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.code.name, "TargetNotConnectedException");
        assert!(error.message.contains("arn:i does not answer"), "{error}");
        assert!(relay.waiting().is_empty());
    }

    #[tokio::test]
    async fn an_instance_without_a_session_is_not_waited_for() {
        let (relay, sessions) = (LogRelay::default(), Sessions::new(SessionLimits::default()));
        let nobody = relay.get(&sessions, source(), GetTaskLogsRequest::default()).await;
        assert_eq!(code(nobody), "TargetNotConnectedException");
    }

    #[tokio::test]
    async fn what_is_no_position_is_refused_by_name_and_nobody_is_asked() {
        let (relay, sessions) = (LogRelay::default(), Sessions::new(SessionLimits::default()));
        let mut agent = sessions.agent_of(INSTANCE);
        for bad in ["x", "7", "7/1", "1.5/", "1.5/x", "1.5/-1", "x.5/1", "1.1000000000/1", "1.5/1/", "1.5/1/2.5/3"] {
            let request = GetTaskLogsRequest { position: Some(bad.to_owned()), ..Default::default() };
            let error = relay.get(&sessions, source(), request).await.unwrap_err();
            assert_eq!(error.code.name, "InvalidParameterException");
            assert!(error.message.starts_with("position must be") && error.message.contains(bad), "{error}");
        }
        assert!(agent.heard().now_or_never().flatten().is_none());
        for good in ["1.5/1", "-1.500000000/0", "1700000000.000000005/18446744073709551615/1700000001.000000000"] {
            assert!(is_position(good), "{good}");
        }
    }

    #[test]
    fn readers_are_throttled_before_there_are_too_many() {
        let relay = LogRelay::default();
        let places: Vec<_> = (0..MAX_WAITING_FOR_LOGS).map(|_| relay.place(&source()).unwrap()).collect();
        assert_eq!(code(relay.place(&source())), "ThrottlingException");
        drop(places);
        assert_eq!(code(relay.place(&source())), "none");
    }
}
