//! What the driver says, in the engine's words.

use longshore_api::Timestamp;

use crate::engine::docker;
use crate::engine::{
    DockerError, DockerLife, Health, HealthStatus, ImageInfo, Inspection, PortBinding, Protocol, PullError, RunState,
};

pub(super) fn error(error: docker::DockerError) -> DockerError {
    match error {
        docker::DockerError::NotFound(message) => DockerError::NotFound(message),
        docker::DockerError::Timeout { .. } => DockerError::Timeout,
        docker::DockerError::Unavailable { asked: false, cause, .. } => DockerError::Unreached(cause),
        docker::DockerError::Unavailable { asked: true, cause, .. } => DockerError::Unavailable(cause),
        docker::DockerError::Conflict(message) | docker::DockerError::Refused { message, .. } => {
            DockerError::Failed(from_daemon(&message))
        }
        docker::DockerError::Broken(_) | docker::DockerError::Protocol { .. } => DockerError::Failed(error.to_string()),
    }
}

/// The Engine's words as Docker's own client, and so every reason that users know, introduces them.
fn from_daemon(message: &str) -> String {
    format!("Error response from daemon: {message}")
}

/// At `create` a conflict is about the name, and what is not found is the image.
pub(super) fn create_error(failure: docker::DockerError) -> DockerError {
    match failure {
        docker::DockerError::Conflict(message) => DockerError::NameInUse(message),
        docker::DockerError::NotFound(message) => DockerError::Failed(from_daemon(&message)),
        other => error(other),
    }
}

/// Registries' words for "no such image" and "not for you": asking again changes nothing. The Engine passes most of them on
/// inside a stream, where no status tells them apart.
const FINAL_PULL_ERRORS: [&str; 10] = [
    "not found",
    "manifest unknown",
    "name unknown",
    "no matching manifest",
    "pull access denied",
    "access to the resource is denied",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "invalid reference format",
];

pub(super) fn pull_error(error: docker::DockerError) -> PullError {
    match error {
        docker::DockerError::Unavailable { .. } => PullError::Docker(error.to_string()),
        docker::DockerError::Timeout { call: docker::PULL, .. } => PullError::TooLong,
        docker::DockerError::Timeout { call: docker::PULL_PROGRESS, .. } => {
            PullError::Registry("inactivity time exceeded timeout while pulling image".to_owned())
        }
        docker::DockerError::NotFound(message) | docker::DockerError::Refused { status: 400, message } => {
            PullError::Refused(from_daemon(&message))
        }
        docker::DockerError::Conflict(message) | docker::DockerError::Refused { message, .. } => {
            tried(from_daemon(&message))
        }
        docker::DockerError::Broken(_) | docker::DockerError::Timeout { .. } | docker::DockerError::Protocol { .. } => {
            tried(error.to_string())
        }
    }
}

fn tried(message: String) -> PullError {
    if FINAL_PULL_ERRORS.iter().any(|text| message.contains(text)) {
        PullError::Refused(message)
    } else {
        PullError::Registry(message)
    }
}

pub(super) fn image_inspected(
    result: Result<ImageInfo, docker::DockerError>,
) -> Result<Option<ImageInfo>, DockerError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(docker::DockerError::NotFound(_)) => Ok(None),
        Err(other) => Err(error(other)),
    }
}

pub(super) fn inspection(container: docker::Container, docker: Option<DockerLife>) -> Inspection {
    let state = match container.phase {
        docker::Phase::Created => RunState::Created,
        docker::Phase::Running => RunState::Running,
        docker::Phase::Exited { exit_code } => RunState::Exited {
            exit_code,
            oom_killed: container.oom_killed,
            finished_at: container.finished_at_ms.map(Timestamp::from_millis),
            error: Some(container.error).filter(|error| !error.is_empty()),
            started: container.started_at_ms.is_some(),
        },
    };
    Inspection {
        docker_id: container.id,
        state,
        docker,
        started_at: container.started_at_ms.map(Timestamp::from_millis),
        bindings: container.ports.into_iter().filter_map(binding).collect(),
        health: container.health.map(|health| Health { status: health_status(&health.status), output: health.output }),
    }
}

/// Docker also forwards SCTP, which ECS has no word for.
fn binding(port: docker::PublishedPort) -> Option<PortBinding> {
    let protocol = match port.protocol.as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some(PortBinding {
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        protocol,
    })
}

pub(super) fn health_status(text: &str) -> HealthStatus {
    match text {
        "healthy" => HealthStatus::Healthy,
        "unhealthy" => HealthStatus::Unhealthy,
        _ => HealthStatus::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_refuses_for_good_is_not_asked_again() {
        let streamed = |message: &str| docker::DockerError::Refused { status: 500, message: message.into() };
        for (error, retryable) in [
            (docker::DockerError::NotFound("x".into()), false),
            (streamed("manifest for web:1 not found: manifest unknown"), false),
            (streamed("Get \"https://r/v2/\": dial tcp: i/o timeout"), true),
            (streamed("toomanyrequests: slow down"), true),
            (streamed("unauthorized: authentication required"), false),
            (docker::DockerError::Broken("no matching manifest for linux/arm64".into()), false),
            (docker::DockerError::Broken("unexpected EOF".into()), true),
        ] {
            let found = matches!(pull_error(error.clone()), PullError::Registry(_));
            assert_eq!(found, retryable, "{error}");
        }
    }

    #[test]
    fn a_pull_that_takes_too_long_is_told_from_one_that_fell_silent() {
        let timeout = |call| docker::DockerError::Timeout { call, limit: std::time::Duration::from_secs(60) };
        assert_eq!(pull_error(timeout(docker::PULL)), PullError::TooLong);
        assert!(
            matches!(pull_error(timeout(docker::PULL_PROGRESS)), PullError::Registry(why) if why.contains("inactivity"))
        );
    }

    #[test]
    fn conflicts_mean_the_name_only_at_create() {
        let conflict = || docker::DockerError::Conflict("taken".into());
        assert_eq!(create_error(conflict()), DockerError::NameInUse("taken".into()));
        assert_eq!(error(conflict()), DockerError::Failed("Error response from daemon: taken".into()));
        let missing = docker::DockerError::NotFound("No such image".into());
        assert_eq!(create_error(missing), DockerError::Failed("Error response from daemon: No such image".into()));
    }
}
