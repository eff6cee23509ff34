//! The seam between the shell that speaks to the network and whatever orchestrates behind it.

use futures_util::future::BoxFuture;
use longshore_api::{ApiError, ecs};
use longshore_core::Principal;
use longshore_core::cell::{Command, Reply};
use longshore_core::instance::SessionRefusal;

/// What edge and sessions need of the orchestrator. [`Runner`](crate::runner::Runner) is the real one; tests of the edge put
/// a small fake in its place.
///
/// The two that return futures hand their argument over *when called*, not when the future is first polled: the order of calls is the order
/// in which the orchestrator sees them.
pub trait Orchestrator: Send + Sync + 'static {
    /// Carries out an API request. The answer comes once everything it saw is durable.
    fn call(&self, principal: Principal, request: ecs::Request) -> BoxFuture<'static, Result<ecs::Response, ApiError>>;

    /// Whether `principal` speaks for the container instance of this ARN, as far as clients may see by now.
    fn admit(&self, principal: &Principal, instance_arn: &str) -> Result<(), SessionRefusal>;

    /// Carries out a command of a session.
    fn command(&self, command: Command) -> BoxFuture<'static, Reply>;
}
