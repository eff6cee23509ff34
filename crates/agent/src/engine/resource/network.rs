//! The network of an awsvpc task: what the payload's interface means for the host, and for the container that holds it.

use longshore_agent_protocol::acs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Before, Resource, ResourceKey, ResourceRecord, ResourceSpec, ResourceStatus};
use crate::engine::container_config::{docker_name, network_mode};
use crate::network::{GroupId, Interface, Range, host_in_range};

/// The container that holds the network namespace, as the official agent calls it, for those who look at Docker.
pub(crate) const PAUSE: &str = "~internal~ecs~pause";
/// Kernel parameters of a network namespace, which is the pause container's to set.
const OF_NETWORK: &str = "net.";

/// The network that a task is to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its interface.
    pub(crate) interface: Interface,
    /// The Docker container that holds its network namespace.
    pub(crate) pause: String,
}

/// Whether the task has a network of its own.
pub(crate) fn is_wanted(task: &acs::Task) -> bool {
    network_mode(task) == "awsvpc"
}

/// The task's network, if it is to have one; an error names what is wrong with the payload.
pub(crate) fn plan(task: &acs::Task) -> Result<Option<Resource>, String> {
    if !is_wanted(task) {
        return Ok(None);
    }
    let spec = NetworkSpec { interface: interface(task)?, pause: docker_name(task, PAUSE) };
    Ok(Some(Resource {
        key: ResourceKey::Network,
        spec: ResourceSpec::Network(spec),
        container: None,
        before: Before::Create,
        after: Some(PAUSE.to_owned()),
        volatile: false,
        // The address may be another task's as soon as this one is STOPPED.
        brief: true,
    }))
}

/// The interface of a task whose network may exist.
pub(crate) fn existing(task: &acs::Task, resources: &[ResourceRecord]) -> Option<Interface> {
    let exists = |record: &ResourceRecord| {
        record.resource.key == ResourceKey::Network
            && matches!(record.known, ResourceStatus::Intended | ResourceStatus::Made)
    };
    resources.iter().any(exists).then(|| interface(task).ok())?
}

fn interface(task: &acs::Task) -> Result<Interface, String> {
    let eni = eni(task)?;
    let wrong = |field: &str, why: String| format!("elasticNetworkInterfaces: {field} {why}");
    let primary = eni.ipv4_addresses.iter().find(|address| address.primary).or_else(|| eni.ipv4_addresses.first());
    let address = primary.ok_or_else(|| wrong("ipv4Addresses", "is empty".to_owned()))?.private_address.as_str();
    let gateway = eni.subnet_gateway_ipv4_address.as_deref().unwrap_or_default();
    let (gateway, prefix) =
        host_in_range(gateway).map_err(|error| wrong("subnetGatewayIpv4Address", error.to_string()))?;
    let address =
        address.parse().map_err(|_| wrong("ipv4Addresses", format!("has {address:?}, which is no address")))?;
    if !Range::around(gateway, prefix).is_some_and(|subnet| subnet.contains(address)) {
        return Err(wrong(
            "ipv4Addresses",
            format!("has {address}, which is not in the subnet of its gateway {gateway}"),
        ));
    }
    let mac = eni.mac_address.as_deref().unwrap_or_default();
    Ok(Interface {
        task_arn: task.arn.clone(),
        address,
        mac: mac.parse().map_err(|_| wrong("macAddress", format!("{mac:?} is no hardware address")))?,
        gateway,
        groups: eni.security_groups.iter().map(|group| GroupId(group.clone())).collect(),
    })
}

fn eni(task: &acs::Task) -> Result<&acs::ElasticNetworkInterface, String> {
    match task.elastic_network_interfaces.as_slice() {
        [eni] => Ok(eni),
        [] => Err("elasticNetworkInterfaces is empty, which networkMode awsvpc needs".to_owned()),
        _ => Err("elasticNetworkInterfaces has more than one, which is not supported by this agent".to_owned()),
    }
}

/// Puts a container of the task into the task's network, whatever its payload says of networks.
pub(crate) fn join(task: &acs::Task, container: &str, host_config: &mut Map<String, Value>) {
    if !is_wanted(task) || container == PAUSE {
        return;
    }
    host_config.retain(|name, _| !name.eq_ignore_ascii_case("NetworkMode"));
    host_config.insert("NetworkMode".to_owned(), json!(format!("container:{}", docker_name(task, PAUSE))));
    for (_, sysctls) in host_config.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case("Sysctls")) {
        if let Value::Object(parameters) = sysctls {
            parameters.retain(|name, _| !name.starts_with(OF_NETWORK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> acs::Task {
        serde_json::from_value(json!({
            "arn": "arn:aws:ecs:us-east-1:000000000000:task/default/1", "family": "web", "version": "1",
            "networkMode": "awsvpc", "desiredStatus": "RUNNING",
            "containers": [
                { "name": "a", "image": "i", "essential": true, "dockerConfig": { "hostConfig":
                    r#"{"NetworkMode":"none","Sysctls":{"net.core.somaxconn":"512","kernel.shmmax":"9"}}"# } },
                { "name": "b", "image": "i", "essential": true, "dockerConfig": { "hostConfig":
                    r#"{"Sysctls":{"net.core.somaxconn":"1024"}}"# } },
            ],
            "elasticNetworkInterfaces": [{
                "macAddress": "0a:58:0a:d4:03:46", "privateDnsName": "ip-10-212-3-70.us-east-1.compute.internal",
                "ipv4Addresses": [{ "primary": true, "privateAddress": "10.212.3.70" }],
                "subnetGatewayIpv4Address": "10.212.0.1/16", "domainNameServers": ["10.0.0.2"],
                "longshoreSecurityGroups": ["sg-1"],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn the_interface_is_the_payloads() {
        let Some(Resource { spec: ResourceSpec::Network(spec), brief: true, .. }) = plan(&task()).unwrap() else {
            panic!("no network")
        };
        assert_eq!(spec.interface.address.to_string(), "10.212.3.70");
        assert_eq!(spec.interface.mac.to_string(), "0a:58:0a:d4:03:46");
        assert_eq!(spec.interface.gateway.to_string(), "10.212.0.1");
        assert_eq!(spec.interface.groups.into_iter().collect::<Vec<_>>(), [GroupId("sg-1".to_owned())]);
        assert_eq!(plan(&acs::Task { network_mode: Some("bridge".to_owned()), ..task() }).unwrap(), None);
    }

    #[test]
    fn a_wrong_interface_is_named() {
        type Change = fn(&mut acs::ElasticNetworkInterface);
        let cases: [(&str, Change); 4] = [
            ("macAddress", |eni| eni.mac_address = None),
            ("ipv4Addresses", |eni| eni.ipv4_addresses.clear()),
            ("subnetGatewayIpv4Address", |eni| eni.subnet_gateway_ipv4_address = Some("10.212.0.1".to_owned())),
            ("not in the subnet", |eni| eni.subnet_gateway_ipv4_address = Some("10.9.0.1/24".to_owned())),
        ];
        for (expected, change) in cases {
            let mut task = task();
            change(&mut task.elastic_network_interfaces[0]);
            let why = plan(&task).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
        let why = plan(&acs::Task { elastic_network_interfaces: Vec::new(), ..task() }).unwrap_err();
        assert!(why.contains("is empty"), "{why}");
    }

    #[test]
    fn containers_join_the_pause_containers_network() {
        let task = task();
        let text = task.containers[0].docker_config.as_ref().unwrap().host_config.as_deref().unwrap();
        let settings: Map<String, Value> = serde_json::from_str(text).unwrap();
        let mut joined = settings.clone();
        join(&task, "a", &mut joined);
        let pause = docker_name(&task, PAUSE);
        assert_eq!(
            Value::Object(joined),
            json!({ "NetworkMode": format!("container:{pause}"), "Sysctls": { "kernel.shmmax": "9" } })
        );
        for (container, mode) in [(PAUSE, "awsvpc"), ("a", "bridge")] {
            let mut other = settings.clone();
            join(&acs::Task { network_mode: Some(mode.to_owned()), ..task.clone() }, container, &mut other);
            assert_eq!(other, settings);
        }
    }
}
