//! UpdateContainerAgent, answered as it is: the control plane has no agent to hand out.

use longshore_api::ApiError;
use longshore_api::ecs::{Response, error, types};

use crate::ids::InstanceKey;
use crate::instance::InstanceStatus;
use crate::instance::liveness::AgentKind;
use crate::names;
use crate::read::ReadModel;

/// UpdateContainerAgent. ECS refuses it wherever it has no newer agent for an instance: here that is every one.
pub(crate) fn update(view: &ReadModel, request: &types::UpdateContainerAgentRequest) -> Result<Response, ApiError> {
    let cluster = view.cluster(request.cluster.as_deref())?;
    let given = &request.container_instance;
    let id = names::instance(&view.config, cluster, given)?;
    let known = id.and_then(|id| view.instances.get(&InstanceKey { cluster: cluster.id, id }));
    let instance = known.filter(|known| known.status != InstanceStatus::Inactive).ok_or_else(|| {
        let id = given.rsplit('/').next().unwrap_or(given);
        ApiError::client(format!("Referenced container instance {id} not found."))
    })?;
    let version = instance.version_info.as_ref().and_then(|info| info.agent_version.as_deref());
    let Some(version) = version.filter(|version| !version.is_empty()) else {
        return Err(ApiError::new(
            error::MISSING_VERSION_EXCEPTION,
            "The version of the container agent is not known: it was not connected yet.",
        ));
    };
    let by_hand = match AgentKind::of(instance) {
        AgentKind::Longshore => "replace the longshore binary on its machine and restart it",
        AgentKind::Official => "update the ecs-init package on its machine, or the agent's image",
    };
    Err(ApiError::new(
        error::NO_UPDATE_AVAILABLE_EXCEPTION,
        format!(
            "There is no update available for your container agent. It has version {version}; Longshore hands out no agents: \
             {by_hand}. Tasks go on meanwhile.",
        ),
    ))
}
