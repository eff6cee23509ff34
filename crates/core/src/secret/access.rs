//! Who may read which secret; and the roles by which tasks are given what their definitions refer to.

use longshore_api::ApiError;
use longshore_api::ecs::types::TaskDefinition;

use super::Request;
use super::reference::{ParameterRef, means_parameter, means_secret};
use crate::entity::Task;
use crate::identity::denial;
use crate::ids::{InstanceKey, TaskId, TaskKey};
use crate::names;
use crate::principal::{Principal, Role};
use crate::read::ReadModel;
use crate::task::status::TaskStatus;
use crate::task_definition::SecretSource;
use crate::task_definition::secret::SecretProvider;

/// A task whose agent acts with a role in preparing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleHolder {
    /// The task.
    pub task_arn: String,
    /// Its cluster.
    pub cluster_arn: String,
    /// The execution role.
    pub role_arn: String,
}

/// Decides whether `principal` may change parameters and secrets by this action (`ssm:PutParameter`), whichever they are. Asked before
/// a value is encrypted, and again where the change is made.
///
/// # Errors
/// `AccessDeniedException`.
pub fn authorise_write(principal: &Principal, action: &str) -> Result<(), ApiError> {
    match principal.role {
        Role::Owner => Ok(()),
        Role::Instance | Role::JoinToken | Role::TaskExecution => Err(refusal(principal, action, "*")),
    }
}

fn refusal(principal: &Principal, action: &str, resource: &str) -> ApiError {
    let (service, operation) = action.split_once(':').unwrap_or_default();
    denial(principal, service, operation, resource)
}

impl ReadModel {
    /// Decides whether `principal` may make this request now: the owner any, the credentials of a task's execution role those
    /// that read what the task's definition refers to, as long as the task lives.
    ///
    /// # Errors
    /// `AccessDeniedException`.
    pub fn authorise_secrets(&self, principal: &Principal, request: &Request) -> Result<(), ApiError> {
        let denied = |resource: String| Err(refusal(principal, request.action(), &resource));
        match (principal.role, request) {
            (Role::Owner, _) => Ok(()),
            (Role::TaskExecution, Request::GetParameters(request)) => {
                let references = self.references_of(principal, SecretProvider::Ssm);
                let foreign = request.names.iter().find(|name| {
                    let asked = ParameterRef::parse(&self.config, name);
                    !asked.is_some_and(|asked| references.iter().any(|known| means_parameter(self, known, &asked)))
                });
                foreign.map_or(Ok(()), |name| denied(name.clone()))
            }
            (Role::TaskExecution, Request::GetSecretValue(request)) => {
                let asked = request.secret_id.as_str();
                let references = self.references_of(principal, SecretProvider::SecretsManager);
                match references.iter().any(|known| means_secret(self, known, asked)) {
                    true => Ok(()),
                    false => denied(asked.to_owned()),
                }
            }
            (Role::TaskExecution | Role::Instance | Role::JoinToken, _) => authorise_write(principal, request.action()),
        }
    }

    /// What the definition of a role's task refers to of one service; nothing once the task is over, has another role, or
    /// runs on a machine whose key was revoked: its agent may be anybody.
    fn references_of(&self, principal: &Principal, provider: SecretProvider) -> Vec<&str> {
        let task = principal.task_role.as_ref().and_then(|held| {
            let (cluster, id) = names::task_arn_parts(&self.config, &held.task_arn)?;
            let cluster = self.clusters.get(cluster.as_str())?.id;
            let task = self.tasks.get(&TaskKey { cluster, id })?;
            let lives = task.last_status() != TaskStatus::Stopped;
            let home = self.instances.get(&task.home()?)?;
            let revoked = self.identities.get(&home.principal).is_some_and(|machine| machine.revoked_at.is_some());
            (lives && !revoked && self.execution_role(task)? == &*held.role_arn).then_some(task)
        });
        let known = task.and_then(|task| self.definitions.get(&task.definition));
        known.map(|known| references(&known.record.document, provider)).unwrap_or_default()
    }

    /// The role with which the agent prepares a task.
    pub(crate) fn execution_role<'a>(&'a self, task: &'a Task) -> Option<&'a str> {
        let overridden = task.overrides.as_ref().and_then(|overrides| overrides.execution_role_arn.as_deref());
        let defined = self.definitions.get(&task.definition);
        let defined = defined.and_then(|known| known.record.document.execution_role_arn.as_deref());
        overridden.or(defined).filter(|role| !role.is_empty())
    }

    /// The tasks of an instance that are not over and have an execution role, of those that are chosen: its agent holds credentials
    /// for each.
    pub fn role_holders(&self, instance: InstanceKey, chosen: &dyn Fn(TaskId) -> bool) -> Vec<RoleHolder> {
        let Some(cluster) = self.cluster_names.get(&instance.cluster) else { return Vec::new() };
        let held = self.task_index.held_on(instance).filter(|key| chosen(key.id));
        let tasks = held.filter_map(|key| self.tasks.get(&key));
        let living = tasks.filter(|task| task.home() == Some(instance) && task.last_status() != TaskStatus::Stopped);
        let holder = |task| {
            Some(RoleHolder {
                role_arn: self.execution_role(task)?.to_owned(),
                task_arn: self.config.task_arn(cluster, task.key.id),
                cluster_arn: self.config.cluster_arn(cluster),
            })
        };
        living.filter_map(|task| holder(task)).collect()
    }
}

/// What a definition refers to of one service: the same name is another thing in the other one.
fn references(definition: &TaskDefinition, provider: SecretProvider) -> Vec<&str> {
    let mut found = Vec::new();
    for container in definition.container_definitions.iter().flatten() {
        let options = container.log_configuration.as_ref().and_then(|logging| logging.secret_options.as_ref());
        let values = container.secrets.iter().chain(options).flatten().map(|secret| secret.value_from.as_str());
        found.extend(values.map(|value| (SecretSource::of_value_from(value).provider, value)));
        let login = container.repository_credentials.as_ref().map(|login| login.credentials_parameter.as_str());
        found.extend(login.map(|login| (SecretSource::of_credentials(login).provider, login)));
    }
    found.into_iter().filter(|(of, _)| *of == provider).map(|(_, reference)| reference).collect()
}
