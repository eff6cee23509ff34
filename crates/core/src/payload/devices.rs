//! Devices that containers have for themselves.

use longshore_agent_protocol::acs;

use super::TaskFacts;

/// The GPUs of the task: each belongs to one container, and is named by its id.
pub(super) fn associations(facts: &TaskFacts<'_>) -> Vec<acs::Association> {
    let named = |index: usize| facts.effective.containers.get(index).map(|container| container.name.clone());
    let association = |gpu: &crate::entity::TaskGpu| {
        Some(acs::Association {
            containers: vec![named(gpu.container)?],
            name: gpu.id.to_string(),
            association_type: "gpu".to_owned(),
            content: Some(acs::AssociationContent { encoding: "identity".to_owned(), value: String::new() }),
        })
    };
    facts.gpus.iter().filter_map(association).collect()
}
