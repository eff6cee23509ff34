//! What the driver says, in the engine's words.

use longshore_api::Timestamp;

use crate::engine::docker;
use crate::engine::{
    DockerError, Health, HealthStatus, ImageInfo, Inspection, PortBinding, Protocol, PullError, RunState,
};

pub(super) fn error(error: docker::DockerError) -> DockerError {
    match error {
        docker::DockerError::NotFound(message) => DockerError::NotFound(message),
        docker::DockerError::Timeout { .. } => DockerError::Timeout,
        docker::DockerError::Unavailable { cause, .. } => DockerError::Unavailable(cause),
        docker::DockerError::Conflict(_)
        | docker::DockerError::Refused { .. }
        | docker::DockerError::Protocol { .. } => DockerError::Failed(error.to_string()),
    }
}

/// At `create` a conflict is about the name, and what is not found is the image.
pub(super) fn create_error(failure: docker::DockerError) -> DockerError {
    match failure {
        docker::DockerError::Conflict(message) => DockerError::NameInUse(message),
        docker::DockerError::NotFound(message) => DockerError::Failed(message),
        other => error(other),
    }
}

/// Registries' words for "no such image" and "not for you": asking again changes nothing. The Engine passes most of them on
/// inside a stream, where no status tells them apart.
const FINAL_PULL_ERRORS: [&str; 6] = [
    "not found",
    "manifest unknown",
    "pull access denied",
    "unauthorized",
    "no basic auth credentials",
    "invalid reference format",
];

pub(super) fn pull_error(error: docker::DockerError) -> PullError {
    let message = error.to_string();
    match error {
        docker::DockerError::Unavailable { .. } => PullError::Docker(message),
        docker::DockerError::NotFound(_) | docker::DockerError::Refused { status: 400, .. } => {
            PullError::Refused(message)
        }
        _ if FINAL_PULL_ERRORS.iter().any(|text| message.contains(text)) => PullError::Refused(message),
        _ => PullError::Registry(message),
    }
}

pub(super) fn image(image: docker::Image) -> ImageInfo {
    ImageInfo { digest: image.digest }
}

pub(super) fn image_inspected(
    result: Result<docker::Image, docker::DockerError>,
) -> Result<Option<ImageInfo>, DockerError> {
    match result {
        Ok(found) => Ok(Some(image(found))),
        Err(docker::DockerError::NotFound(_)) => Ok(None),
        Err(other) => Err(error(other)),
    }
}

pub(super) fn inspection(container: docker::Container) -> Inspection {
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
        ] {
            let found = matches!(pull_error(error.clone()), PullError::Registry(_));
            assert_eq!(found, retryable, "{error}");
        }
    }

    #[test]
    fn conflicts_mean_the_name_only_at_create() {
        let conflict = || docker::DockerError::Conflict("taken".into());
        assert_eq!(create_error(conflict()), DockerError::NameInUse("taken".into()));
        assert_eq!(error(conflict()), DockerError::Failed("taken".into()));
        let missing = docker::DockerError::NotFound("No such image".into());
        assert_eq!(create_error(missing), DockerError::Failed("No such image".into()));
    }
}
