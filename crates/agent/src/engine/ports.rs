//! Port mappings: from a payload to Docker's vocabulary, and back from Docker's answer to a report.

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::{NetworkBinding, TransportProtocol};
use serde_json::{Map, Value, json};

use super::input::{PortBinding, Protocol};

/// A port that a container publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublishedPort {
    pub(crate) container_port: u16,
    /// `None`: any free one.
    pub(crate) host_port: Option<u16>,
    pub(crate) protocol: Protocol,
}

impl Protocol {
    /// The word that Docker and ECS use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The ports of a container, checked.
pub(crate) fn published(container: &acs::Container) -> Result<Vec<PublishedPort>, String> {
    let refuse = |field: &str, value: &str, wanted: &str| {
        format!("container {}: portMappings.{field} is {value}, {wanted}", container.name)
    };
    let port = |field: &str, value: i64, least: i64| match u16::try_from(value) {
        Ok(port) if value >= least => Ok(port),
        _ => Err(refuse(field, &value.to_string(), "not a port")),
    };
    let mut ports = Vec::with_capacity(container.port_mappings.len());
    for mapping in &container.port_mappings {
        if mapping.container_port_range.is_some() {
            return Err(refuse("containerPortRange", "given", "which this agent does not support"));
        }
        let container_port = port("containerPort", mapping.container_port.unwrap_or_default(), 1)?;
        let host_port = port("hostPort", mapping.host_port.unwrap_or_default(), 0)?;
        let protocol = match mapping.protocol.as_deref().unwrap_or("tcp") {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(refuse("protocol", other, "neither tcp nor udp")),
        };
        ports.push(PublishedPort { container_port, host_port: (host_port != 0).then_some(host_port), protocol });
    }
    Ok(ports)
}

/// `ExposedPorts` and `PortBindings` of bridge mode. A dynamic port is Docker's to choose, within `range` if given: only
/// Docker can choose and bind in one step.
pub(crate) fn docker_ports(ports: &[PublishedPort], range: Option<(u16, u16)>) -> (Value, Value) {
    let mut exposed = Map::new();
    let mut bindings = Map::new();
    for port in ports {
        let name = format!("{}/{}", port.container_port, port.protocol.as_str());
        let host_port = match (port.host_port, range) {
            (Some(host_port), _) => host_port.to_string(),
            (None, Some((low, high))) => format!("{low}-{high}"),
            (None, None) => String::new(),
        };
        exposed.insert(name.clone(), json!({}));
        // One container port may be published on several host ports.
        if let Value::Array(list) = bindings.entry(name).or_insert_with(|| json!([])) {
            list.push(json!({ "HostPort": host_port }));
        }
    }
    (Value::Object(exposed), Value::Object(bindings))
}

/// The bindings of a container in the host's own network: Docker binds nothing, the process does.
pub(crate) fn host_bindings(ports: &[PublishedPort]) -> Vec<PortBinding> {
    let binding = |port: &PublishedPort| PortBinding {
        host_ip: "0.0.0.0".to_owned(),
        host_port: port.container_port,
        container_port: port.container_port,
        protocol: port.protocol,
    };
    ports.iter().map(binding).collect()
}

/// Bindings as they are reported.
pub(crate) fn network_bindings(bindings: &[PortBinding], exclude_ipv6: bool) -> Vec<NetworkBinding> {
    /// More would not fit a report.
    const MAX_BINDINGS: usize = 100;
    bindings
        .iter()
        .filter(|binding| !(exclude_ipv6 && binding.host_ip.contains(':')))
        .take(MAX_BINDINGS)
        .map(|binding| NetworkBinding {
            bind_ip: Some(binding.host_ip.clone()),
            container_port: Some(i32::from(binding.container_port)),
            host_port: Some(i32::from(binding.host_port)),
            protocol: Some(match binding.protocol {
                Protocol::Tcp => TransportProtocol::Tcp,
                Protocol::Udp => TransportProtocol::Udp,
            }),
            ..NetworkBinding::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(mappings: &[(i64, i64, Option<&str>)]) -> acs::Container {
        let mappings = mappings.iter().map(|(container_port, host_port, protocol)| acs::PortMapping {
            container_port: Some(*container_port),
            host_port: Some(*host_port),
            protocol: protocol.map(str::to_owned),
            ..acs::PortMapping::default()
        });
        acs::Container { name: "c".to_owned(), port_mappings: mappings.collect(), ..acs::Container::default() }
    }

    #[test]
    fn fixed_and_dynamic_ports_in_dockers_words() {
        let ports = published(&container(&[(80, 8080, None), (80, 0, None), (53, 0, Some("udp"))])).unwrap();
        assert_eq!(
            docker_ports(&ports, None),
            (
                json!({"80/tcp": {}, "53/udp": {}}),
                json!({"80/tcp": [{"HostPort": "8080"}, {"HostPort": ""}], "53/udp": [{"HostPort": ""}]})
            )
        );
        assert_eq!(docker_ports(&ports[2..], Some((4000, 4010))).1, json!({"53/udp": [{"HostPort": "4000-4010"}]}));
    }

    #[test]
    fn what_is_not_a_port_is_named() {
        for (mapping, expected) in [
            ((0, 0, None), "container c: portMappings.containerPort is 0, not a port"),
            ((80, 65_536, None), "portMappings.hostPort is 65536, not a port"),
            ((80, -1, None), "portMappings.hostPort is -1, not a port"),
            ((80, 0, Some("sctp")), "portMappings.protocol is sctp, neither tcp nor udp"),
        ] {
            let error = published(&container(&[mapping])).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn ipv6_bindings_are_left_out_on_demand() {
        let binding = |host_ip: &str| PortBinding {
            host_ip: host_ip.to_owned(),
            host_port: 32_768,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let bindings = [binding("0.0.0.0"), binding("::")];
        assert_eq!(network_bindings(&bindings, true).len(), 1);
        assert_eq!(network_bindings(&bindings, false).len(), 2);
    }
}
