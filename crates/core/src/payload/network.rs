//! The network interface of an awsvpc task.

use longshore_agent_protocol::acs;

use crate::config::CellConfig;
use crate::entity::{Instance, Task};
use crate::instance::AgentKind;
use crate::network::{TaskNetwork, interface_id};

/// The interface, as agents check it: a MAC, an id, an address, and a gateway with the subnet's prefix. Only agents of ours
/// are told of security groups.
pub(crate) fn interface(
    config: &CellConfig,
    instance: Option<&Instance>,
    task: &Task,
    network: &TaskNetwork,
) -> acs::ElasticNetworkInterface {
    let ours = instance.is_some_and(|instance| AgentKind::of(instance) == AgentKind::Longshore);
    let groups = network.groups.iter().filter(|_| ours);
    acs::ElasticNetworkInterface {
        attachment_arn: Some(config.attachment_arn(task.key.id)),
        ec2_id: Some(interface_id(task.key.id)),
        mac_address: Some(network.mac()),
        index: Some(0),
        name: Some("eth0".to_owned()),
        private_dns_name: Some(network.dns_name(&config.scope.region)),
        domain_name_servers: config.network.dns.iter().map(ToString::to_string).collect(),
        ipv4_addresses: vec![acs::Ipv4Address { primary: true, private_address: network.address.to_string() }],
        subnet_gateway_ipv4_address: Some(format!("{}/{}", network.gateway(), network.range.prefix())),
        interface_association_protocol: Some("default".to_owned()),
        security_groups: groups.map(ToString::to_string).collect(),
        ..acs::ElasticNetworkInterface::default()
    }
}
