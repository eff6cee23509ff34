//! The seam between the shell that speaks to the network and whatever orchestrates behind it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use longshore_api::{ApiError, admin, ecs};
use longshore_core::Principal;
use longshore_core::cell::{Command, Reply};
use longshore_core::identity::Answer;
use longshore_core::ids::{InstanceKey, TaskId};
use longshore_core::instance::SessionRefusal;
use longshore_core::logs::LogSource;
use longshore_core::read::ReadModel;
use longshore_core::secret::{self, RoleHolder};
use tokio::sync::watch;

/// What edge and sessions need of the orchestrator. [`Runner`](crate::runner::Runner) is the real one; tests of the edge put
/// a small fake in its place.
///
/// Those that return futures hand their argument over *when called*, not when the future is first polled: the order of calls
/// is the order in which the orchestrator sees them.
pub trait Orchestrator: Send + Sync + 'static {
    /// Carries out a request of ECS, if its principal may make it. The answer comes once everything it saw is durable.
    fn call(&self, principal: Principal, request: ecs::Request) -> BoxFuture<'static, Result<ecs::Response, ApiError>>;

    /// Carries out a request of the administration in the same way.
    fn administer(&self, principal: Principal, request: admin::Request)
    -> BoxFuture<'static, Result<Answer, ApiError>>;

    /// Carries out a request about parameters and secrets in the same way; their values go both ways encrypted.
    fn secrets(
        &self,
        principal: Principal,
        request: secret::Request,
    ) -> BoxFuture<'static, Result<secret::Answer, ApiError>>;

    /// Those of the chosen tasks of an instance for which its agent acts with a role.
    fn role_holders(&self, instance: InstanceKey, chosen: &dyn Fn(TaskId) -> bool) -> Vec<RoleHolder>;

    /// The name of a secret that is meant by a name or an ARN, if there is one.
    fn secret_name(&self, given: &str) -> Option<Arc<str>>;

    /// Whether `principal` may make a request that the edge answers itself.
    fn authorise(&self, principal: &Principal, request: &ecs::Request) -> Result<(), ApiError>;

    /// Whether `principal` may make a request of the administration that the edge answers itself.
    fn authorise_admin(&self, principal: &Principal, request: &admin::Request) -> Result<(), ApiError>;

    /// Where the logs are that `principal` asks for, if it may.
    fn log_source(&self, principal: &Principal, request: &admin::GetTaskLogsRequest) -> Result<LogSource, ApiError>;

    /// Whether `principal` speaks for the container instance of this ARN, as far as clients may see by now.
    fn admit(&self, principal: &Principal, instance_arn: &str) -> Result<(), SessionRefusal>;

    /// The state that clients may see now.
    fn view(&self) -> Arc<ReadModel>;

    /// Told of every state that becomes visible after the call.
    fn publications(&self) -> watch::Receiver<()>;

    /// Carries out a command of a session.
    fn command(&self, command: Command) -> BoxFuture<'static, Reply>;
}
