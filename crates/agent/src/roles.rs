//! Credentials of tasks' roles. They live in this process alone: a restarted agent asks for them with its first session.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_agent_protocol::acs::{
    AgentMessage, IamRoleCredentials, IamRoleCredentialsAckRequest, IamRoleCredentialsMessage, PayloadMessage,
};
use longshore_wire::sigv4;

/// The role with which this agent prepares a task, as messages name it.
const EXECUTION: &str = "TaskExecution";

/// The credentials of all tasks' execution roles.
#[derive(Default)]
pub(crate) struct ExecutionRoles(Mutex<Roles>);

#[derive(Default)]
struct Roles {
    /// By the tasks' ARNs.
    held: BTreeMap<String, sigv4::Credentials>,
    /// Tasks that wait for credentials, or for better ones.
    missed: BTreeSet<String>,
}

/// Credentials of a task's execution role that came by a message and were not taken yet.
pub(crate) struct Handed {
    message_id: String,
    pub(crate) task_arn: String,
    credentials: IamRoleCredentials,
}

impl Handed {
    /// Takes the credentials out of an order: nobody else gets to see them.
    pub(crate) fn with(order: &mut PayloadMessage) -> Vec<Self> {
        let message_id = order.message_id.clone();
        let handed = order.tasks.iter_mut().filter_map(|task| {
            let credentials = task.execution_role_credentials.take()?;
            Some(Self { message_id: message_id.clone(), task_arn: task.arn.clone(), credentials })
        });
        handed.collect()
    }

    /// Renewed credentials, if they are for a role of ours.
    pub(crate) fn anew(message: IamRoleCredentialsMessage) -> Option<Self> {
        let IamRoleCredentialsMessage { message_id, task_arn, role_type, role_credentials, .. } = message;
        let credentials = role_credentials.filter(|_| role_type == EXECUTION)?;
        Some(Self { message_id, task_arn, credentials })
    }
}

impl ExecutionRoles {
    /// Takes credentials of a task that is not over, if they are complete, and answers with the acknowledgement. Whatever else
    /// comes is not acknowledged.
    pub(crate) fn take(&self, handed: Handed) -> Option<AgentMessage> {
        let Handed { message_id, task_arn, credentials } = handed;
        let IamRoleCredentials { credentials_id, access_key_id, secret_access_key, session_token, expiration, .. } =
            credentials;
        let needed =
            [&message_id, &task_arn, &credentials_id.0, &access_key_id, &secret_access_key.0, &session_token.0];
        if needed.iter().any(|part| part.is_empty()) {
            return None;
        }
        let held = sigv4::Credentials {
            access_key_id,
            secret: sigv4::Secret::new(secret_access_key.0),
            session_token: Some(session_token.0),
        };
        let mut roles = self.roles();
        roles.missed.remove(&task_arn);
        roles.held.insert(task_arn, held);
        let credentials_id = credentials_id.0;
        Some(AgentMessage::IamRoleCredentialsAck(IamRoleCredentialsAckRequest {
            message_id,
            credentials_id,
            expiration,
        }))
    }

    /// What this agent signs with for a task.
    pub(crate) fn of(&self, task_arn: &str) -> Option<sigv4::Credentials> {
        self.roles().held.get(task_arn).cloned()
    }

    /// The task cannot go on with what is held for it.
    pub(crate) fn miss(&self, task_arn: &str) {
        self.roles().missed.insert(task_arn.to_owned());
    }

    /// Whether a task waits for credentials: the control plane is to send them all again.
    pub(crate) fn are_missed(&self) -> bool {
        !self.roles().missed.is_empty()
    }

    /// The task is over.
    pub(crate) fn forget(&self, task_arn: &str) {
        let mut roles = self.roles();
        roles.missed.remove(task_arn);
        roles.held.remove(task_arn);
    }

    fn roles(&self) -> MutexGuard<'_, Roles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ExecutionRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutionRoles").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use longshore_agent_protocol::acs::Task;

    use super::*;

    fn credentials(key: &str) -> IamRoleCredentials {
        IamRoleCredentials {
            credentials_id: "id".to_owned().into(),
            role_arn: "r".to_owned(),
            access_key_id: key.to_owned(),
            secret_access_key: "s".to_owned().into(),
            session_token: "t".to_owned().into(),
            expiration: "2026-01-01T00:00:00Z".to_owned(),
            credential_scope: None,
        }
    }

    fn renewal(key: &str) -> IamRoleCredentialsMessage {
        IamRoleCredentialsMessage {
            message_id: "m2".to_owned(),
            task_arn: "task".to_owned(),
            task_cluster_arn: "c".to_owned(),
            role_type: EXECUTION.to_owned(),
            role_credentials: Some(credentials(key)),
        }
    }

    #[test]
    fn an_order_loses_its_credentials_and_they_are_acknowledged() {
        let roles = ExecutionRoles::default();
        let task = Task { arn: "task".into(), execution_role_credentials: Some(credentials("K1")), ..Task::default() };
        let tasks = vec![task, Task::default()];
        let mut payload = PayloadMessage { message_id: "m1".into(), tasks, ..PayloadMessage::default() };
        let expected = IamRoleCredentialsAckRequest {
            message_id: "m1".to_owned(),
            credentials_id: "id".to_owned(),
            expiration: "2026-01-01T00:00:00Z".to_owned(),
        };
        let [handed] = Handed::with(&mut payload).try_into().ok().unwrap();
        assert_eq!(payload.tasks[0].execution_role_credentials, None);
        assert_eq!(roles.take(handed), Some(AgentMessage::IamRoleCredentialsAck(expected)));
        assert_eq!(roles.of("task").unwrap().access_key_id, "K1");
        assert!(roles.take(Handed::anew(renewal("K2")).unwrap()).is_some());
        assert_eq!(roles.of("task").unwrap().access_key_id, "K2");
        roles.forget("task");
        assert!(roles.of("task").is_none());
    }

    #[test]
    fn a_task_misses_credentials_until_some_come_or_it_ends() {
        let roles = ExecutionRoles::default();
        roles.miss("task");
        assert!(roles.are_missed());
        assert!(roles.take(Handed::anew(renewal("K")).unwrap()).is_some());
        assert!(!roles.are_missed());
        roles.miss("task");
        roles.forget("task");
        assert!(!roles.are_missed());
    }

    #[test]
    fn what_is_not_whole_or_not_ours_is_not_acknowledged() {
        let roles = ExecutionRoles::default();
        for bad in [
            IamRoleCredentialsMessage { role_type: "TaskApplication".to_owned(), ..renewal("K") },
            IamRoleCredentialsMessage { role_credentials: None, ..renewal("K") },
            IamRoleCredentialsMessage { message_id: String::new(), ..renewal("K") },
            renewal(""),
        ] {
            assert_eq!(Handed::anew(bad).and_then(|handed| roles.take(handed)), None);
        }
        assert!(roles.of("task").is_none());
    }
}
