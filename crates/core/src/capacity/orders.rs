//! The orders of the committed state, as the shell hands them to launchers.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Timestamp;
use serde::Serialize;

use super::fleet::{Departed, Fleet, FleetKey, Order, Trouble, Work};
use crate::read::ReadModel;

/// An order that its launcher is to carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct LauncherOrder {
    /// The launcher's name.
    pub launcher: Arc<str>,
    /// Whose machines.
    pub fleet: FleetKey,
    /// The order's number.
    pub order: u64,
    /// What the launcher is told.
    pub request: LauncherRequest,
}

/// What a launcher is told, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LauncherRequest {
    /// `add` or `remove`.
    pub action: &'static str,
    /// The order's number: the same one again is the same order again.
    pub order_id: String,
    /// The name of the capacity provider.
    pub capacity_provider: Arc<str>,
    /// The cluster that machines are for.
    pub cluster: Arc<str>,
    /// How many machines to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The attributes that the agent of a new machine has to register with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub instance_attributes: BTreeMap<&'static str, Arc<str>>,
    /// The machines to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_instances: Vec<RemovedMachine>,
}

/// A machine to remove, by what its agent said of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovedMachine {
    /// The instance that it was.
    pub container_instance_arn: String,
    /// Its id at EC2, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ec2_instance_id: Option<Arc<str>>,
    /// Its attributes, but for its agent's capabilities. One without a value has an empty one.
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
}

impl ReadModel {
    /// The orders that are due, oldest first for each fleet.
    pub fn launcher_orders(&self, now: Timestamp) -> Vec<LauncherOrder> {
        let due = self.fleets.values().flat_map(|fleet| {
            let orders = fleet.orders.iter().filter(|order| order.is_due(now));
            orders.filter_map(|order| self.launcher_order(fleet, order))
        });
        due.collect()
    }

    fn launcher_order(&self, fleet: &Fleet, order: &Order) -> Option<LauncherOrder> {
        let provider = &fleet.key.provider;
        let cluster = self.cluster_names.get(&fleet.key.cluster)?;
        let mut request = LauncherRequest {
            action: "remove",
            order_id: order.id.to_string(),
            capacity_provider: provider.clone(),
            cluster: cluster.clone(),
            count: None,
            instance_attributes: BTreeMap::new(),
            container_instances: Vec::new(),
        };
        let launcher = match &order.work {
            Work::Add { count, .. } => {
                request.action = "add";
                request.count = Some(*count);
                request.instance_attributes.insert(super::ATTRIBUTE, provider.clone());
                self.providers.get(provider)?.group_name().into()
            }
            Work::Remove { launcher, machines } => {
                request.container_instances = machines.iter().map(|machine| self.removed(cluster, machine)).collect();
                launcher.clone()
            }
        };
        Some(LauncherOrder { launcher, fleet: fleet.key.clone(), order: order.id, request })
    }

    fn removed(&self, cluster: &str, machine: &Departed) -> RemovedMachine {
        RemovedMachine {
            container_instance_arn: self.config.instance_arn(cluster, machine.instance),
            ec2_instance_id: machine.ec2_instance_id.clone(),
            attributes: machine.attributes.clone(),
        }
    }

    /// What the launcher of a provider failed at last, if it has not succeeded since.
    pub(super) fn launcher_trouble(&self, provider: &str) -> Option<&Trouble> {
        let fleets = self.fleets.values().filter(|fleet| &*fleet.key.provider == provider);
        fleets.filter_map(|fleet| fleet.trouble()).max_by_key(|trouble| trouble.retry_at)
    }
}
