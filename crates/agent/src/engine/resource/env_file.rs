//! Environment files: objects with variables, one set for each container.

use longshore_agent_protocol::acs;
use serde::{Deserialize, Serialize};

use super::{Before, Resource, ResourceKey, ResourceSpec};

/// Files of variables for a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentFilesSpec {
    /// Who gets the variables.
    pub container: String,
    /// Names of objects. What an earlier one says about a variable counts.
    pub objects: Vec<String>,
}

/// The files of each container that has some.
pub(super) fn plan(task: &acs::Task) -> Result<Vec<Resource>, String> {
    let with_files = task.containers.iter().filter(|container| !container.environment_files.is_empty());
    let resource = |container: &acs::Container| {
        let unknown = container.environment_files.iter().find(|file| file.file_type != "s3");
        if let Some(file) = unknown {
            let (name, kind) = (&container.name, &file.file_type);
            return Err(format!("container {name}: environmentFiles has the type {kind:?}, which is not s3"));
        }
        let objects = container.environment_files.iter().map(|file| file.value.clone()).collect();
        Ok(Resource {
            key: ResourceKey::EnvironmentFiles(container.name.clone()),
            spec: ResourceSpec::EnvironmentFiles(EnvironmentFilesSpec { container: container.name.clone(), objects }),
            container: Some(container.name.clone()),
            before: Before::Create,
            after: None,
            // There may be secrets in it, whatever people are told.
            volatile: true,
            brief: false,
        })
    };
    with_files.map(resource).collect()
}
