//! Port mappings: from a payload to Docker's vocabulary, and back from Docker's answer to a report.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::{NetworkBinding, TransportProtocol};
use serde_json::{Map, Value, json};

use super::input::{PortBinding, Protocol};

/// A port that a container publishes, or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublishedPort {
    /// The only one, or the first of the range.
    pub(crate) container_port: u16,
    /// The last of the range; `None` for a single port.
    pub(crate) last: Option<u16>,
    /// `None`: any free one. A range has always any free one as long as itself.
    pub(crate) host_port: Option<u16>,
    pub(crate) protocol: Protocol,
}

impl PublishedPort {
    fn container_ports(&self) -> RangeInclusive<u16> {
        self.container_port..=self.last.unwrap_or(self.container_port)
    }
}

/// Ports of the host that are to be found before a container is created, because Docker cannot choose them: it gives every
/// port another one, and other ones at every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsToFind {
    /// The first port inside the container.
    pub container_port: u16,
    /// How many follow one another, inside and outside.
    pub count: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Where to look, first and last; none leaves it to the system's own range.
    pub within: Option<(u16, u16)>,
    /// Not these, although nobody may listen on them yet: they are reserved, or promised to tasks of this instance.
    pub except: BTreeSet<u16>,
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
        let host_port = port("hostPort", mapping.host_port.unwrap_or_default(), 0)?;
        let (container_port, last) = match mapping.container_port_range.as_deref() {
            None => (port("containerPort", mapping.container_port.unwrap_or_default(), 1)?, None),
            Some(_) if host_port != 0 => {
                return Err(refuse("hostPort", &host_port.to_string(), "but a range chooses its own"));
            }
            Some(text) => {
                let (first, last) = parse_range(text)
                    .ok_or_else(|| refuse("containerPortRange", text, "not two ports, the smaller one first"))?;
                (first, Some(last))
            }
        };
        let protocol = match mapping.protocol.as_deref().unwrap_or("tcp") {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(refuse("protocol", other, "neither tcp nor udp")),
        };
        let host_port = (host_port != 0).then_some(host_port);
        ports.push(PublishedPort { container_port, last, host_port, protocol });
    }
    Ok(ports)
}

/// First and last port of a range such as `7000-7010`.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 < first && first <= last).then_some((first, last))
}

/// What Docker cannot choose for a container in bridge mode: ranges, which must hang together, and all ports of a container that
/// may be restarted, because nobody is told of that.
pub(crate) fn to_find(
    ports: &[PublishedPort],
    container: &acs::Container,
    within: Option<(u16, u16)>,
) -> Vec<PortsToFind> {
    let restarted = container.restart_policy.as_ref().is_some_and(|policy| policy.enabled);
    let found_before = ports.iter().filter(|port| port.host_port.is_none() && (restarted || port.last.is_some()));
    let wanted = found_before.map(|port| PortsToFind {
        container_port: port.container_port,
        count: port.last.map_or(1, |last| last - port.container_port + 1),
        protocol: port.protocol,
        within,
        except: BTreeSet::new(),
    });
    wanted.collect()
}

/// `ExposedPorts` and `PortBindings` of bridge mode. A dynamic port is Docker's to choose, within `range` if given: only
/// Docker can choose and bind in one step.
pub(crate) fn docker_ports(ports: &[PublishedPort], range: Option<(u16, u16)>) -> (Value, Value) {
    let mut exposed = Map::new();
    let mut bindings = Map::new();
    for (port, number) in ports.iter().flat_map(|port| port.container_ports().map(move |number| (port, number))) {
        let name = format!("{number}/{}", port.protocol.as_str());
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
    let binding = |port: &PublishedPort, number: u16| PortBinding {
        host_ip: "0.0.0.0".to_owned(),
        host_port: number,
        container_port: number,
        protocol: port.protocol,
    };
    ports.iter().flat_map(|port| port.container_ports().map(move |number| binding(port, number))).collect()
}

/// Bindings as they are reported: what the task definition publishes as a range is reported as one.
pub(crate) fn network_bindings(
    ports: &[PublishedPort],
    bindings: &[PortBinding],
    exclude_ipv6: bool,
) -> Vec<NetworkBinding> {
    /// More would not fit a report.
    const MAX_BINDINGS: usize = 100;
    let mut single: Vec<&PortBinding> =
        bindings.iter().filter(|binding| !(exclude_ipv6 && binding.host_ip.contains(':'))).collect();
    let mut reported = Vec::new();
    for range in ports.iter().filter(|port| port.last.is_some()) {
        let inside = |binding: &&PortBinding| {
            binding.protocol == range.protocol && range.container_ports().contains(&binding.container_port)
        };
        let mut by_address: BTreeMap<&str, Vec<&PortBinding>> = BTreeMap::new();
        for binding in single.extract_if(.., |binding| inside(binding)) {
            by_address.entry(&binding.host_ip).or_default().push(binding);
        }
        reported.extend(by_address.into_values().flat_map(runs));
    }
    reported.extend(single.into_iter().map(|binding| NetworkBinding {
        container_port: Some(i32::from(binding.container_port)),
        host_port: Some(i32::from(binding.host_port)),
        ..named(binding)
    }));
    reported.truncate(MAX_BINDINGS);
    reported
}

/// Ports of one address that follow one another inside and outside, as ranges.
fn runs(mut bindings: Vec<&PortBinding>) -> Vec<NetworkBinding> {
    bindings.sort_unstable_by_key(|binding| binding.container_port);
    let follows = |one: &&PortBinding, next: &&PortBinding| {
        (one.container_port.checked_add(1), one.host_port.checked_add(1))
            == (Some(next.container_port), Some(next.host_port))
    };
    let range = |run: &[&PortBinding]| {
        let (first, last) = (run.first()?, run.last()?);
        Some(NetworkBinding {
            container_port_range: Some(format!("{}-{}", first.container_port, last.container_port)),
            host_port_range: Some(format!("{}-{}", first.host_port, last.host_port)),
            ..named(first)
        })
    };
    bindings.chunk_by(follows).filter_map(range).collect()
}

/// Address and protocol of a binding.
fn named(binding: &PortBinding) -> NetworkBinding {
    NetworkBinding {
        bind_ip: Some(binding.host_ip.clone()),
        protocol: Some(match binding.protocol {
            Protocol::Tcp => TransportProtocol::Tcp,
            Protocol::Udp => TransportProtocol::Udp,
        }),
        ..NetworkBinding::default()
    }
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
        for text in ["", "80", "90-80", "0-3", "1-65536", "a-b", "1-2-3"] {
            let error = published(&range(text)).unwrap_err();
            assert!(error.contains(&format!("portMappings.containerPortRange is {text}, not two ports")), "{error}");
        }
    }

    fn range(text: &str) -> acs::Container {
        let mut container = container(&[(0, 0, None)]);
        container.port_mappings[0].container_port_range = Some(text.to_owned());
        container
    }

    #[test]
    fn a_range_is_found_together_and_reported_as_one() {
        let mut container = range("7000-7002");
        container.port_mappings.extend(self::container(&[(80, 0, None), (81, 8081, None)]).port_mappings);
        let ports = published(&container).unwrap();
        let (exposed, bindings) = docker_ports(&ports, None);
        assert_eq!(exposed, json!({"7000/tcp": {}, "7001/tcp": {}, "7002/tcp": {}, "80/tcp": {}, "81/tcp": {}}));
        assert_eq!(bindings["7001/tcp"], json!([{"HostPort": ""}]));
        let wanted = |container_port: u16, count: u16| PortsToFind {
            container_port,
            count,
            protocol: Protocol::Tcp,
            within: Some((1, 9)),
            except: BTreeSet::new(),
        };
        assert_eq!(to_find(&ports, &container, Some((1, 9))), [wanted(7000, 3)]);
        // A container that may be restarted keeps all its ports.
        container.restart_policy = Some(acs::RestartPolicy { enabled: true, ..acs::RestartPolicy::default() });
        assert_eq!(to_find(&ports, &container, Some((1, 9))), [wanted(7000, 3), wanted(80, 1)]);

        let bound = |host_ip: &str, container_port: u16, host_port: u16| PortBinding {
            host_ip: host_ip.to_owned(),
            host_port,
            container_port,
            protocol: Protocol::Tcp,
        };
        let mut bindings = vec![bound("0.0.0.0", 80, 32_768)];
        for number in [7002, 7000, 7001] {
            bindings.extend(["0.0.0.0", "::"].map(|host_ip| bound(host_ip, number, number + 40_000)));
        }
        let told = |exclude_ipv6| {
            let reported = network_bindings(&ports, &bindings, exclude_ipv6);
            let text = |b: NetworkBinding| {
                let inside = b.container_port_range.or(b.container_port.map(|port| port.to_string()));
                let outside = b.host_port_range.or(b.host_port.map(|port| port.to_string()));
                format!("{} {} {}", b.bind_ip.unwrap(), inside.unwrap(), outside.unwrap())
            };
            reported.into_iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(told(true), ["0.0.0.0 7000-7002 47000-47002", "0.0.0.0 80 32768"]);
        assert_eq!(told(false), ["0.0.0.0 7000-7002 47000-47002", ":: 7000-7002 47000-47002", "0.0.0.0 80 32768"]);
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
        assert_eq!(network_bindings(&[], &bindings, true).len(), 1);
        assert_eq!(network_bindings(&[], &bindings, false).len(), 2);
    }
}
