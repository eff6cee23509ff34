//! What RunTask and StartTask say about the network of their tasks.

use std::cell::OnceCell;
use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::error::UNSUPPORTED_FEATURE_EXCEPTION;
use longshore_api::ecs::types;

use super::config::is_id;
use super::{Ipv4Range, NetworkConfig, SecurityGroup, Subnet};
use crate::cell::Turn;
use crate::entity::Entity;
use crate::limits;
use crate::read::ReadModel;
use crate::resources::NetworkMode;

/// A `networkConfiguration` whose ids are known.
#[derive(Clone, Debug)]
pub(crate) struct NetworkRequest {
    /// The subnets, one of which each task is to be in.
    pub(crate) subnets: Vec<Asked>,
    /// The security groups of each task.
    pub(crate) groups: Vec<Arc<str>>,
}

/// A subnet that tasks may be in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) subnet: Arc<Subnet>,
    /// The prefix of a block, should a host need one.
    pub(super) block_prefix: u8,
    /// A block for whichever host needed one first: it is looked for once in a request and not for each instance, as where there
    /// is none there is none for any.
    pub(super) opening: OnceCell<Option<Ipv4Range>>,
}

impl NetworkRequest {
    /// The subnets that a question names; every known one if it names none.
    ///
    /// # Errors
    /// `InvalidParameterException` when there is no such subnet.
    pub(crate) fn about(view: &ReadModel, named: Option<&[String]>) -> Result<Self, ApiError> {
        let network = &view.config.network;
        let subnets: Vec<Arc<Subnet>> = match named {
            Some(named) => {
                let find = |id: &String| view.subnet(id).ok_or_else(|| unknown_subnet(network, id));
                named.iter().map(find).collect::<Result<_, _>>()?
            }
            None => network.subnets.iter().chain(view.subnets.values()).cloned().collect(),
        };
        let subnets = subnets.into_iter().map(|subnet| Asked::new(network, subnet)).collect();
        Ok(Self { subnets, groups: Vec::new() })
    }
}

impl Asked {
    pub(super) fn new(config: &NetworkConfig, subnet: Arc<Subnet>) -> Self {
        Self { block_prefix: config.block_prefix_in(subnet.range), subnet, opening: OnceCell::new() }
    }
}

impl NetworkRequest {
    /// The zones that its tasks can be in; none when one of the subnets is for all of them.
    pub(crate) fn zones(&self) -> Option<Arc<[Arc<str>]>> {
        let zones: Option<Vec<Arc<str>>> = self.subnets.iter().map(|asked| asked.subnet.zone.clone()).collect();
        zones.map(Arc::from)
    }
}

/// Reads what was asked for tasks of a network mode, and makes true what is to be adopted.
///
/// # Errors
/// `InvalidParameterException` in ECS's words, which never says which of two ids it meant that does not exist; ours do.
pub(crate) fn requested(
    turn: &mut Turn<'_>,
    mode: NetworkMode,
    launch_type: Option<types::LaunchType>,
    given: Option<&types::NetworkConfiguration>,
) -> Result<Option<NetworkRequest>, ApiError> {
    let given = given.and_then(|given| given.awsvpc_configuration.as_ref());
    let asked = match (mode, given) {
        (NetworkMode::Awsvpc, Some(asked)) => asked,
        (NetworkMode::Awsvpc, None) => {
            return Err(ApiError::invalid_parameter(
                "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
            ));
        }
        (NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None, None) => return Ok(None),
        (NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None, Some(_)) => {
            return Err(ApiError::invalid_parameter(
                "Network Configuration is not valid for the given networkMode of this task definition.",
            ));
        }
    };
    // Of ECS's launch types only FARGATE has it.
    if asked.assign_public_ip == Some(types::AssignPublicIp::Enabled) {
        if launch_type == Some(types::LaunchType::Fargate) {
            let message = "awsvpcConfiguration.assignPublicIp ENABLED: Longshore does not support it: the addresses of tasks are \
                           those of the subnets. Leave it out.";
            return Err(ApiError::new(UNSUPPORTED_FEATURE_EXCEPTION, message));
        }
        return Err(ApiError::invalid_parameter("Assign public IP is not supported for this launch type."));
    }
    let mut subnets = Vec::with_capacity(asked.subnets.len());
    for id in &asked.subnets {
        let subnet = subnet(turn, id)?;
        if subnets.iter().all(|known: &Asked| known.subnet != subnet) {
            subnets.push(Asked::new(&turn.config.network, subnet));
        }
    }
    let mut groups: Vec<Arc<str>> = Vec::new();
    for id in asked.security_groups.iter().flatten() {
        let group = group(turn, id)?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        groups.push(NetworkConfig::DEFAULT_GROUP.into());
    }
    Ok(Some(NetworkRequest { subnets, groups }))
}

/// The subnet of an id, adopted if that is allowed.
fn subnet(turn: &mut Turn<'_>, id: &str) -> Result<Arc<Subnet>, ApiError> {
    if let Some(known) = turn.tables.view().subnet(id) {
        return Ok(known);
    }
    let network = &turn.config.network;
    if !network.adopt || !is_id("subnet", id) {
        return Err(unknown_subnet(network, id));
    }
    let range = free_range(turn).ok_or_else(|| {
        ApiError::invalid_parameter(format!(
            "The subnet {id} is not configured, and {} has no room for one more.",
            turn.config.network.range
        ))
    })?;
    let subnet = Arc::new(Subnet { id: id.into(), range, zone: None });
    turn.tables.put(Entity::Subnet(subnet.clone()));
    Ok(subnet)
}

fn unknown_subnet(network: &NetworkConfig, id: &str) -> ApiError {
    let known: Vec<&str> = network.subnets.iter().map(|subnet| &*subnet.id).collect();
    ApiError::invalid_parameter(format!(
        "Error retrieving subnet information for [{id}]: The subnet ID '{id}' does not exist (ErrorCode: \
         InvalidSubnetID.NotFound). Configured here are: {}.",
        known.join(", ")
    ))
}

/// A range for one more subnet: one that no subnet and no block of a host meets.
fn free_range(turn: &Turn<'_>) -> Option<Ipv4Range> {
    let network = &turn.config.network;
    let view = turn.tables.view();
    let subnets =
        network.subnets.iter().map(|subnet| subnet.range).chain(view.subnets.values().map(|known| known.range));
    let blocks = turn.tables.addresses().blocks().map(|block| block.range);
    let mut taken: Vec<Ipv4Range> = subnets.collect();
    // Nearly every block is in one of those; what is covered by another is left out, as gaps want it.
    taken.extend(blocks.filter(|block| !view.subnet_covers(*block)));
    taken.sort_unstable_by_key(|range| (range.first(), range.prefix()));
    taken.dedup_by(|next, kept| kept.covers(*next));
    network.range.gap(limits::ADOPTED_SUBNET_PREFIX, taken.into_iter())
}

/// The security group of an id, adopted if that is allowed.
fn group(turn: &mut Turn<'_>, id: &str) -> Result<Arc<str>, ApiError> {
    if turn.tables.view().security_group(id).is_some() {
        return Ok(id.into());
    }
    if !turn.config.network.adopt || !is_id("sg", id) {
        return Err(ApiError::invalid_parameter(format!(
            "Error retrieving security group information for [{id}]: The security group '{id}' does not exist (ErrorCode: \
             InvalidGroup.NotFound)."
        )));
    }
    if turn.tables.view().groups.len() >= limits::ADOPTED_GROUPS {
        let most = limits::ADOPTED_GROUPS;
        return Err(ApiError::invalid_parameter(format!("{id} is not configured, and {most} groups were adopted.")));
    }
    let group = Arc::new(SecurityGroup::open(id));
    let id = group.id.clone();
    turn.tables.put(Entity::SecurityGroup(group));
    Ok(id)
}
