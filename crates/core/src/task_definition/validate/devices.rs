//! Rules for devices: what a container asks for, and what the containers of a task do together.

use std::collections::BTreeSet;

use longshore_api::ApiError;
use longshore_api::ecs::types::{ContainerDefinition, ResourceRequirement, ResourceType};

use super::invalid_task;
use crate::task_definition::GpuDemand;

/// The requirements of one container, of a definition or of an override; `accelerators` are those that the task has.
pub(in crate::task_definition) fn check_requirements(
    requirements: &[ResourceRequirement],
    accelerators: &BTreeSet<String>,
) -> Result<(), String> {
    let mut gpus = 0;
    for requirement in requirements {
        let value = requirement.value.as_deref().unwrap_or_default();
        let shared = requirement.sharing_strategy.is_some();
        let count = value.parse::<u32>().is_ok_and(|count| count > 0);
        gpus += usize::from(requirement.r#type == ResourceType::Gpu);
        match requirement.r#type {
            ResourceType::Gpu if gpus > 1 => return Err("GPU is there twice.".to_owned()),
            ResourceType::Gpu if shared != value.is_empty() => {
                return Err("GPU needs either a value or a sharingStrategy.".to_owned());
            }
            ResourceType::Gpu if !shared && !count && value != "ALL" => {
                return Err(format!("The value of GPU must be a number of at least 1, or ALL, not '{value}'."));
            }
            ResourceType::NeuronDevice if value != "ALL" => {
                return Err(format!("The value of NeuronDevice must be ALL, not '{value}'."));
            }
            ResourceType::InferenceAccelerator if !accelerators.contains(value) => {
                return Err(format!("'{value}' is not the deviceName of an inference accelerator of the task."));
            }
            _ if shared && requirement.r#type != ResourceType::Gpu => {
                return Err("A sharingStrategy is for GPU only.".to_owned());
            }
            ResourceType::Gpu | ResourceType::NeuronDevice | ResourceType::InferenceAccelerator => {}
        }
    }
    Ok(())
}

/// The rules for all containers of a definition.
pub(super) fn check_together(containers: &[ContainerDefinition]) -> Result<(), ApiError> {
    let demands = containers.iter().map(|container| GpuDemand::of(container.resource_requirements.as_deref()));
    check_one_for_all(demands).map_err(|why| invalid_task("containerDefinitions", why))
}

/// What is left of an instance's GPUs cannot go to two containers, each whole.
pub(in crate::task_definition) fn check_one_for_all(
    demands: impl Iterator<Item = GpuDemand>,
) -> Result<(), &'static str> {
    match demands.filter(|demand| *demand == GpuDemand::All).count() {
        0 | 1 => Ok(()),
        _ => Err("'resourceRequirements' of one container only can ask for ALL GPUs."),
    }
}
