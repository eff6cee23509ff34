use std::sync::Arc;

/// Who makes a request: the access key that signed it, and the ARN that stands for its owner.
///
/// Made by the edge after the signature was verified; nothing else may make one in production. What it may do is decided by
/// [`ReadModel::authorise`](crate::read::ReadModel::authorise).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Principal {
    /// The access key id of the verified signature.
    pub access_key_id: Arc<str>,
    /// The ARN shown as `registeredBy` and in refusals, for example `arn:aws:iam::000000000000:root`.
    pub arn: Arc<str>,
    /// What kind of key it is.
    pub role: Role,
    /// Whose credentials these are, where a task was given them.
    pub task_role: Option<Arc<TaskRole>>,
}

/// A role that a task was given credentials of, as its session token says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskRole {
    /// The task.
    pub task_arn: Arc<str>,
    /// The role.
    pub role_arn: Arc<str>,
}

/// The kinds of access keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The root access key: may do everything.
    Owner,
    /// A machine's own key: may do what an agent needs, for its own container instances.
    Instance,
    /// A join token: may join.
    JoinToken,
    /// The credentials of a task's execution role: may read what the task's definition refers to.
    TaskExecution,
}

impl Principal {
    /// The principal behind a key of this kind.
    pub fn new(role: Role, access_key_id: &str, account_id: &str) -> Self {
        let resource = match role {
            Role::Owner => "root".to_owned(),
            Role::Instance => format!("instance/{access_key_id}"),
            Role::JoinToken => format!("join-token/{access_key_id}"),
            Role::TaskExecution => format!("task-execution/{access_key_id}"),
        };
        let arn = format!("arn:aws:iam::{account_id}:{resource}").into();
        Self { access_key_id: access_key_id.into(), arn, role, task_role: None }
    }

    /// The principal behind the credentials of a task's execution role, named as AWS names a session of a role.
    pub fn of_task_execution(access_key_id: &str, account_id: &str, held: TaskRole) -> Self {
        let last = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_owned();
        let arn =
            format!("arn:aws:sts::{account_id}:assumed-role/{}/{}", last(&held.role_arn), last(&held.task_arn)).into();
        Self { access_key_id: access_key_id.into(), arn, role: Role::TaskExecution, task_role: Some(Arc::new(held)) }
    }
}
