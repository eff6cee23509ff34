//! The network of an awsvpc task: what the payload's interface means for the host, and for the container that holds it.

use std::collections::BTreeMap;

use longshore_agent_protocol::acs;
use serde_json::{Map, Value, json};

use super::{Before, Resource, ResourceKey, ResourceRecord, ResourceSpec, ResourceStatus};
use crate::engine::container_config::{docker_name, network_mode};
use crate::engine::internal;
use crate::network::{GroupId, Interface, Range, host_in_range};

/// The container that holds the network namespace, as the official agent calls it, for those who look at Docker.
pub(crate) const PAUSE: &str = "~internal~ecs~pause";
/// The kernel takes no longer host names.
const HOST_NAME_MAX: usize = 64;
const SYSCTLS: &str = "Sysctls";
/// Kernel parameters of a network namespace, which is the pause container's to set.
const OF_NETWORK: &str = "net.";
/// What becomes resolv.conf, which belongs to the network namespace, too.
const OF_RESOLVER: [&str; 3] = ["Dns", "DnsSearch", "DnsOptions"];

/// The network that a task is to have.
#[derive(Clone, Debug, PartialEq)]
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
        record.key == ResourceKey::Network && matches!(record.known, ResourceStatus::Intended | ResourceStatus::Made)
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

/// Settings of the pause container, `Config` and `HostConfig`: whatever Docker ties to the container that owns a network
/// namespace, for all containers that share it.
pub(crate) fn pause_settings(task: &acs::Task) -> (Value, Value) {
    let mut config = Map::new();
    let mut host_config = Map::from_iter([("NetworkMode".to_owned(), json!("none"))]);
    if let Ok(eni) = eni(task) {
        if let Some(name) = eni.private_dns_name.as_deref().filter(|name| !name.is_empty()) {
            let short = name.split('.').next().unwrap_or_default();
            config.insert("Hostname".to_owned(), json!(if name.len() > HOST_NAME_MAX { short } else { name }));
            let hosts: Vec<String> =
                eni.ipv4_addresses.iter().map(|address| format!("{name}:{}", address.private_address)).collect();
            host_config.insert("ExtraHosts".to_owned(), json!(hosts));
        }
        for (name, list) in [("Dns", &eni.domain_name_servers), ("DnsSearch", &eni.domain_name)] {
            if !list.is_empty() {
                host_config.insert(name.to_owned(), json!(list));
            }
        }
    }
    let containers: Vec<Map<String, Value>> = task.containers.iter().map(host_config_of).collect();
    // There is one resolv.conf: what a container asks for holds for all, before what the subnet has.
    for name in OF_RESOLVER {
        let mut all: Vec<&Value> = Vec::new();
        for one in containers.iter().filter_map(|own| setting(own, name)).filter_map(Value::as_array).flatten() {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        if !all.is_empty() {
            host_config.insert(name.to_owned(), json!(all));
        }
    }
    // The last container that sets a parameter decides, as with ECS.
    let parameters = containers.iter().filter_map(|own| setting(own, SYSCTLS)).filter_map(Value::as_object).flatten();
    let parameters: BTreeMap<&String, &Value> = parameters.filter(|(name, _)| name.starts_with(OF_NETWORK)).collect();
    if !parameters.is_empty() {
        host_config.insert(SYSCTLS.to_owned(), json!(parameters));
    }
    (Value::Object(config), Value::Object(host_config))
}

fn host_config_of(container: &acs::Container) -> Map<String, Value> {
    settings(container.docker_config.as_ref().and_then(|config| config.host_config.as_deref()))
}

/// What a container's payload says; what cannot be read is refused elsewhere.
fn settings(text: Option<&str>) -> Map<String, Value> {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// `disableNetworking`: it gets no network at all, not even the task's.
fn has_none(container: &acs::Container) -> bool {
    let config = settings(container.docker_config.as_ref().and_then(|config| config.config.as_deref()));
    setting(&config, "NetworkDisabled").and_then(Value::as_bool) == Some(true)
}

/// Docker takes names of settings in any case.
fn setting<'a>(settings: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    settings.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Puts a container of the task into the task's network, whatever its payload says of networks.
pub(crate) fn join(task: &acs::Task, container: &acs::Container, host_config: &mut Map<String, Value>) {
    if !is_wanted(task) || internal::is_internal(&container.name) {
        return;
    }
    let mode = if has_none(container) { "none".to_owned() } else { format!("container:{}", docker_name(task, PAUSE)) };
    let of_pause = |name: &str| OF_RESOLVER.iter().any(|one| name.eq_ignore_ascii_case(one));
    host_config.retain(|name, _| !name.eq_ignore_ascii_case("NetworkMode") && !of_pause(name));
    host_config.insert("NetworkMode".to_owned(), json!(mode));
    for (_, sysctls) in host_config.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case(SYSCTLS)) {
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
                    r#"{"NetworkMode":"none","DnsSearch":["a.test"],"Sysctls":{"net.core.somaxconn":"512","kernel.shmmax":"9"}}"# } },
                { "name": "b", "image": "i", "essential": true, "dockerConfig": { "hostConfig":
                    r#"{"Sysctls":{"net.core.somaxconn":"1024"},"DnsSearch":["b.test","a.test"]}"# } },
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
    fn names_and_parameters_of_the_network_are_the_pause_containers() {
        let task = task();
        let (config, host_config) = pause_settings(&task);
        assert_eq!(config, json!({ "Hostname": "ip-10-212-3-70.us-east-1.compute.internal" }));
        assert_eq!(
            host_config,
            json!({
                "NetworkMode": "none", "Dns": ["10.0.0.2"], "DnsSearch": ["a.test", "b.test"],
                "Sysctls": { "net.core.somaxconn": "1024" },
                "ExtraHosts": ["ip-10-212-3-70.us-east-1.compute.internal:10.212.3.70"],
            })
        );
    }

    #[test]
    fn containers_join_the_pause_containers_network() {
        let task = task();
        let settings = host_config_of(&task.containers[0]);
        let joined = |container: &acs::Container, mode: &str| {
            let mut joined = settings.clone();
            join(&acs::Task { network_mode: Some(mode.to_owned()), ..task.clone() }, container, &mut joined);
            Value::Object(joined)
        };
        let pause = docker_name(&task, PAUSE);
        assert_eq!(
            joined(&task.containers[0], "awsvpc"),
            json!({ "NetworkMode": format!("container:{pause}"), "Sysctls": { "kernel.shmmax": "9" } })
        );
        let mut alone = task.containers[0].clone();
        alone.docker_config.as_mut().unwrap().config = Some(r#"{"NetworkDisabled":true}"#.to_owned());
        assert_eq!(joined(&alone, "awsvpc")["NetworkMode"], "none");
        let own = acs::Container { name: PAUSE.to_owned(), ..acs::Container::default() };
        for (container, mode) in [(&own, "awsvpc"), (&task.containers[0], "bridge")] {
            assert_eq!(joined(container, mode), Value::Object(settings.clone()));
        }
    }
}
