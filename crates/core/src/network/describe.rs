//! The network of a task as DescribeTasks shows it, and all networks as DescribeNetwork does.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use longshore_api::admin::{DescribeNetworkResponse, NetworkHost, NetworkSecurityGroup, NetworkSubnet};
use longshore_api::ecs::types;

use super::{Ipv4Range, NetworkConfig, attachment_id, interface_id};
use crate::config::CellConfig;
use crate::entity::Task;
use crate::limits;
use crate::read::ReadModel;
use crate::task::status::TaskStatus;

/// The interface of an awsvpc task as its attachment. Nobody attaches it but the task's own agent, so that it is attached when
/// the task runs and gone when it has stopped.
pub(crate) fn attachments(config: &CellConfig, task: &Task) -> Vec<types::Attachment> {
    let Some(network) = &task.network else { return Vec::new() };
    let status = match task.last_status() {
        TaskStatus::Provisioning | TaskStatus::Pending => "ATTACHING",
        TaskStatus::Running => "ATTACHED",
        TaskStatus::Stopped => "DELETED",
    };
    let detail = |name: &str, value: String| types::KeyValuePair { name: Some(name.to_owned()), value: Some(value) };
    vec![types::Attachment {
        id: Some(attachment_id(task.key.id)),
        r#type: Some("ElasticNetworkInterface".to_owned()),
        status: Some(status.to_owned()),
        details: Some(vec![
            detail("subnetId", network.subnet.to_string()),
            detail("networkInterfaceId", interface_id(task.key.id)),
            detail("macAddress", network.mac()),
            detail("privateDnsName", network.dns_name(&config.scope.region)),
            detail("privateIPv4Address", network.address.to_string()),
        ]),
    }]
}

/// The same interface as each of its containers has it.
pub(crate) fn interfaces(task: &Task) -> Vec<types::NetworkInterface> {
    let interface = |network: &super::TaskNetwork| types::NetworkInterface {
        attachment_id: Some(attachment_id(task.key.id)),
        private_ipv4_address: Some(network.address.to_string()),
        ipv6_address: None,
    };
    task.network.as_deref().map(interface).into_iter().collect()
}

/// DescribeNetwork. Looks at every task: it is for people, who ask now and then.
pub(crate) fn describe(view: &ReadModel) -> DescribeNetworkResponse {
    let network = &view.config.network;
    let mut held: BTreeMap<Ipv4Addr, &Task> = BTreeMap::new();
    let mut of_group: BTreeMap<&str, i64> = BTreeMap::new();
    for task in view.tasks.values() {
        let Some(address) = task.address() else { continue };
        held.insert(address, task);
        for group in task.network.iter().flat_map(|network| &network.groups) {
            *of_group.entry(group).or_insert(0) += 1;
        }
    }
    let tasks = |range: Ipv4Range| held.range(range.first()..=range.last()).count() as i64;
    let blocks = || view.hosts.values().flat_map(|host| &host.blocks);
    let subnets = network.subnets.iter().map(|subnet| (subnet, false));
    let adopted = view.subnets.values().filter(|subnet| network.subnet(&subnet.id).is_none());
    let subnets = subnets.chain(adopted.map(|subnet| (subnet, true))).map(|(subnet, adopted)| NetworkSubnet {
        subnet_id: subnet.id.to_string(),
        range: subnet.range.to_string(),
        availability_zone: subnet.zone.as_deref().map(str::to_owned),
        adopted,
        addresses: blocks().filter(|block| subnet.range.covers(**block)).map(|block| block.size() as i64).sum(),
        tasks: tasks(subnet.range),
    });
    let adopted = view.groups.values().filter(|group| network.group(&group.id).is_none());
    let default = view.security_group(NetworkConfig::DEFAULT_GROUP);
    let default = default.iter().filter(|group| network.group(&group.id).is_none());
    let groups = network.groups.iter().chain(default).map(|group| (group, false));
    let groups = groups.chain(adopted.map(|group| (group, true))).map(|(group, adopted)| NetworkSecurityGroup {
        group_id: group.id.to_string(),
        rules: group.rules.iter().map(ToString::to_string).collect(),
        adopted,
        tasks: of_group.get(&*group.id).copied().unwrap_or(0),
    });
    let hosts = view.hosts.iter().take(limits::DESCRIBED_HOSTS).map(|(name, host)| NetworkHost {
        host_id: name.to_string(),
        host_address: host.address.map(|address| address.to_string()),
        blocks: host.blocks.iter().map(ToString::to_string).collect(),
        tasks: host.blocks.iter().map(|block| tasks(*block)).sum(),
    });
    DescribeNetworkResponse {
        ranges: network.ranges().iter().map(ToString::to_string).collect(),
        adopts: network.adopt,
        subnets: subnets.collect(),
        security_groups: groups.collect(),
        hosts: hosts.collect(),
        more_hosts: view.hosts.len() > limits::DESCRIBED_HOSTS,
    }
}
