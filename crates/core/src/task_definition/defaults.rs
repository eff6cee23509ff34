//! What ECS fills into a definition at registration, so that Describe shows what applies.

use longshore_api::ecs::types::{
    Attribute, ContainerDefinition, NetworkMode, RegisterTaskDefinitionRequest, Scope, TaskDefinition,
    TaskDefinitionStatus, TransportProtocol, Volume,
};

use super::{Registration, requires, size};

/// The document of a request that has been checked.
pub(super) fn fill(request: &RegisterTaskDefinitionRequest, identity: Registration) -> TaskDefinition {
    let mode = request.network_mode.unwrap_or(NetworkMode::Bridge);
    let containers = request.container_definitions.iter().map(|container| fill_container(container, mode));
    // Every member is named: one that is forgotten here would be lost.
    let mut document = TaskDefinition {
        task_definition_arn: Some(identity.arn),
        family: Some(request.family.clone()),
        revision: Some(identity.revision),
        status: Some(TaskDefinitionStatus::Active),
        registered_at: Some(identity.now),
        registered_by: Some(identity.registered_by),
        deregistered_at: None,
        delete_requested_at: None,
        container_definitions: Some(containers.collect()),
        // Numbers with a unit are described as plain numbers.
        cpu: request.cpu.as_deref().and_then(size::task_cpu).map(|cpu| cpu.to_string()),
        memory: request.memory.as_deref().and_then(size::task_memory).map(|memory| memory.to_string()),
        network_mode: request.network_mode,
        pid_mode: request.pid_mode,
        ipc_mode: request.ipc_mode,
        enable_fault_injection: request.enable_fault_injection,
        ephemeral_storage: request.ephemeral_storage.clone(),
        execution_role_arn: request.execution_role_arn.clone(),
        inference_accelerators: request.inference_accelerators.clone(),
        placement_constraints: Some(request.placement_constraints.clone().unwrap_or_default()),
        proxy_configuration: request.proxy_configuration.clone(),
        requires_compatibilities: request.requires_compatibilities.clone(),
        runtime_platform: request.runtime_platform.clone(),
        task_role_arn: request.task_role_arn.clone(),
        trusted_execution_configuration: request.trusted_execution_configuration.clone(),
        volumes: Some(request.volumes.iter().flatten().map(fill_volume).collect()),
        compatibilities: Some(requires::compatibilities(request)),
        requires_attributes: None,
    };
    let required = requires::attributes(&document).into_iter();
    document.requires_attributes = Some(
        required
            .map(|attribute| Attribute { name: attribute.name, value: attribute.value, ..Attribute::default() })
            .collect(),
    );
    document
}

fn fill_container(container: &ContainerDefinition, mode: NetworkMode) -> ContainerDefinition {
    let mut filled = container.clone();
    filled.essential.get_or_insert(true);
    filled.cpu.get_or_insert(0);
    filled.environment.get_or_insert_default();
    filled.mount_points.get_or_insert_default();
    filled.volumes_from.get_or_insert_default();
    filled.system_controls.get_or_insert_default();
    for mapping in filled.port_mappings.get_or_insert_default() {
        mapping.protocol.get_or_insert(TransportProtocol::Tcp);
        if mapping.container_port_range.is_none() {
            // In the host's own network, and in one of the task's own, a port of the container is a port of the host.
            let same = matches!(mode, NetworkMode::Host | NetworkMode::Awsvpc);
            let host_port = if same { mapping.container_port } else { None };
            let given = mapping.host_port.filter(|port| *port != 0);
            mapping.host_port = given.or(host_port).or(Some(0));
        }
    }
    if let Some(health) = &mut filled.health_check {
        health.interval.get_or_insert(30);
        health.timeout.get_or_insert(5);
        health.retries.get_or_insert(3);
    }
    filled
}

/// A volume of Docker that does not say lives as long as its task.
fn fill_volume(volume: &Volume) -> Volume {
    let mut filled = volume.clone();
    if let Some(docker) = &mut filled.docker_volume_configuration {
        docker.scope.get_or_insert(Scope::Task);
    }
    filled
}
