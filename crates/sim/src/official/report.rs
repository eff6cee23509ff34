//! What the official agent tells the control plane.

use longshore_agent::engine::{PortBinding, Protocol};
use longshore_api::ecs::types::{
    ContainerStateChange, NetworkBinding, SubmitTaskStateChangeRequest, TransportProtocol,
};

use super::{Config, Status, TaskRecord};

/// A report in the queue of its task.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) status: &'static str,
    pub(super) reached: Status,
    pub(super) containers: Vec<(usize, Status)>,
}

/// The request that carries a report.
pub(super) fn request(config: &Config, task: &TaskRecord, change: &Change) -> SubmitTaskStateChangeRequest {
    let containers = change.containers.iter().map(|(index, status)| {
        let container = &task.containers[*index];
        let stopped = *status == Status::Stopped;
        ContainerStateChange {
            container_name: Some(container.name.clone()),
            image_digest: container.digest.clone(),
            runtime_id: container.docker_id.clone().filter(|_| container.started),
            exit_code: container.exit_code.filter(|_| stopped),
            network_bindings: Some(container.bindings.iter().map(binding).collect()),
            reason: container.reason.clone().filter(|_| stopped),
            status: Some(if stopped { "STOPPED" } else { "RUNNING" }.to_owned()),
        }
    });
    SubmitTaskStateChangeRequest {
        cluster: Some(config.cluster.clone()),
        task: Some(task.arn().to_owned()),
        status: Some(change.status.to_owned()),
        reason: Some(if change.reached == Status::Stopped { task.reason.clone() } else { String::new() }),
        containers: Some(containers.collect()),
        execution_stopped_at: task.execution_stopped_at,
        ..SubmitTaskStateChangeRequest::default()
    }
}

fn binding(port: &PortBinding) -> NetworkBinding {
    NetworkBinding {
        bind_ip: Some(port.host_ip.clone()),
        container_port: Some(i32::from(port.container_port)),
        host_port: Some(i32::from(port.host_port)),
        protocol: Some(match port.protocol {
            Protocol::Tcp => TransportProtocol::Tcp,
            Protocol::Udp => TransportProtocol::Udp,
        }),
        ..NetworkBinding::default()
    }
}
