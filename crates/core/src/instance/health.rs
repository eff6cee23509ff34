//! The health of container instances: what their agents publish of it, and how it is summed up.
//!
//! Volatile: it is what a connected agent said last. One that is not connected, or has not said anything yet, leaves
//! INSUFFICIENT_DATA.

use std::sync::Arc;

use longshore_agent_protocol::tcs;
use longshore_api::ecs::types::{
    ContainerInstanceHealthStatus, InstanceHealthCheckResult, InstanceHealthCheckState, InstanceHealthCheckType,
};

use crate::cell::Turn;
use crate::limits;
use crate::principal::Principal;

/// The latest result of each check.
pub(crate) type Checks = Arc<[InstanceHealthCheckResult]>;

/// An agent published the status of its instance. Whoever does not speak for the instance is not heard.
pub(crate) fn reported(turn: &mut Turn<'_>, principal: &Principal, arn: &str, statuses: &[tcs::InstanceStatus]) {
    let Ok(instance) = turn.tables.view().admit(principal, arn) else { return };
    let key = instance.key;
    let mut checks: Vec<InstanceHealthCheckResult> = Vec::new();
    for check in statuses.iter().filter_map(result) {
        if !checks.iter().any(|known| known.r#type == check.r#type) {
            checks.push(check);
        }
    }
    turn.tables.health_reported(key, checks.into());
}

/// The check in ECS's words; `None` for one that ECS does not show, such as the agent's check of itself.
fn result(status: &tcs::InstanceStatus) -> Option<InstanceHealthCheckResult> {
    let kind = match status.check_type.as_str() {
        "ContainerRuntime" | "CONTAINER_RUNTIME" => InstanceHealthCheckType::ContainerRuntime,
        "AcceleratedCompute" | "ACCELERATED_COMPUTE" => InstanceHealthCheckType::AcceleratedCompute,
        "Daemon" | "DAEMON" => InstanceHealthCheckType::Daemon,
        _ => return None,
    };
    let state = match status.status.as_str() {
        "OK" => InstanceHealthCheckState::Ok,
        "IMPAIRED" => InstanceHealthCheckState::Impaired,
        "INITIALIZING" => InstanceHealthCheckState::Initializing,
        _ => InstanceHealthCheckState::InsufficientData,
    };
    Some(InstanceHealthCheckResult {
        r#type: Some(kind),
        status: Some(state),
        status_reason: status.status_reason.as_ref().map(|reason| reason.chars().take(limits::REASON).collect()),
        last_status_change: status.last_status_change,
        last_updated: status.last_updated,
    })
}

/// The checks and their sum: the most severe state that any of them has. Without any, that of the runtime is unknown.
pub(crate) fn document(checks: &[InstanceHealthCheckResult]) -> ContainerInstanceHealthStatus {
    let unknown = [InstanceHealthCheckResult {
        r#type: Some(InstanceHealthCheckType::ContainerRuntime),
        status: Some(InstanceHealthCheckState::InsufficientData),
        ..InstanceHealthCheckResult::default()
    }];
    let checks = if checks.is_empty() { &unknown } else { checks };
    let overall_status = checks.iter().filter_map(|check| check.status).max_by_key(|state| severity(*state));
    ContainerInstanceHealthStatus { overall_status, details: Some(checks.to_vec()) }
}

/// ECS documents the order.
fn severity(state: InstanceHealthCheckState) -> u8 {
    match state {
        InstanceHealthCheckState::Ok => 0,
        InstanceHealthCheckState::Initializing => 1,
        InstanceHealthCheckState::InsufficientData => 2,
        InstanceHealthCheckState::Impaired => 3,
    }
}
