//! GPUs: the control plane gives each to one container, and names it by its id.

use longshore_agent_protocol::acs;
use serde_json::{Map, Value, json};

use super::HostResources;

/// The variable in which the driver's runtime reads which GPUs a container has.
pub(crate) const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// How containers see the GPUs that they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuAccess {
    /// By this runtime of Docker, which reads a variable of the container.
    Runtime(String),
    /// Docker is asked for the devices.
    Requests,
}

/// The GPUs of a task.
pub(crate) fn of_task(task: &acs::Task) -> impl Iterator<Item = &str> {
    task.associations.iter().filter(|one| is_gpu(one)).map(|gpu| gpu.name.as_str())
}

/// The GPUs of a container.
pub(crate) fn of_container<'a>(task: &'a acs::Task, container: &'a str) -> Vec<&'a str> {
    let own = task.associations.iter().filter(|one| is_gpu(one) && one.containers.iter().any(|name| name == container));
    own.map(|gpu| gpu.name.as_str()).collect()
}

fn is_gpu(association: &acs::Association) -> bool {
    association.association_type == "gpu"
}

/// Whether its containers can have what is associated with them; an error says what not.
pub(crate) fn check(offered: &HostResources, task: &acs::Task) -> Result<(), String> {
    for association in &task.associations {
        let name = &association.name;
        if !is_gpu(association) {
            let kind = &association.association_type;
            return Err(format!("associations of type {kind:?} are not supported by this agent"));
        }
        let known = |container: &String| task.containers.iter().any(|known| known.name == *container);
        match association.containers.as_slice() {
            [container] if known(container) => {}
            [container] => {
                return Err(format!("GPU {name} is for container {container}, which the task does not have"));
            }
            all => return Err(format!("GPU {name} is for {} containers; it can only be for one", all.len())),
        }
        if !offered.gpus.contains(name) {
            return Err(format!("GPU {name} is none of this instance's"));
        }
    }
    Ok(())
}

/// What a container with GPUs needs of its host beside its variables.
pub(crate) fn settings(access: &GpuAccess, ids: &[&str]) -> Map<String, Value> {
    let (name, value) = match access {
        GpuAccess::Runtime(runtime) => ("Runtime", json!(runtime)),
        GpuAccess::Requests => ("DeviceRequests", json!([{ "DeviceIDs": ids, "Capabilities": [["gpu"]] }])),
    };
    Map::from_iter([(name.to_owned(), value)])
}
