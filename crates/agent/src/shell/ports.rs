//! Free ports of the host, for containers whose ports Docker cannot choose.
//!
//! A port is free if it can be listened on, which the agent can only tell in the host's own network. Somebody else may take it
//! before Docker binds it; then the container cannot be started and says so. What was given away a moment ago is not given
//! away again.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine::{ContainerSpec, PortsToFind, Protocol};

/// From its choice until Docker has bound a port: a create and a start at their longest.
const GIVEN_FOR: Duration = Duration::from_secs(420);
/// Where the kernel says which ports it gives to whoever asks for any.
const SYSTEM_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The range for such ports by convention.
const USUAL_RANGE: (u16, u16) = (49_153, 65_535);

/// Finds free ports.
#[derive(Debug, Default)]
pub(crate) struct HostPorts {
    given: Mutex<BTreeMap<(Protocol, u16), Instant>>,
}

impl HostPorts {
    /// Finds what a container needs and writes it into its settings. Looks at many sockets: not for the loop's thread.
    pub(crate) fn find(&self, spec: &mut ContainerSpec) -> Result<(), String> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, since| since.elapsed() < GIVEN_FOR);
        for wanted in std::mem::take(&mut spec.ports_to_find) {
            let within = wanted.within.unwrap_or_else(system_range);
            let protocol = wanted.protocol;
            let promised = |port: u16| wanted.except.contains(&port) || given.contains_key(&(protocol, port));
            let free = |port: u16| !promised(port) && is_free(protocol, port);
            let Some(first) = first_free(within, wanted.count, start(&spec.name), free) else {
                let ((low, high), protocol) = (within, protocol.as_str());
                return Err(format!("no {} free {protocol} ports in a row between {low} and {high}", wanted.count));
            };
            for offset in 0..wanted.count {
                given.insert((protocol, first + offset), Instant::now());
                bind(&mut spec.body, &wanted, offset, first + offset);
            }
        }
        Ok(())
    }
}

/// Where the search begins: not all containers look at the same ports first.
fn start(name: &str) -> usize {
    name.bytes().fold(0, |hash: usize, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)))
}

/// The first of `count` free ports in a row, the search beginning somewhere in the range.
fn first_free((low, high): (u16, u16), count: u16, start: usize, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let span = usize::from(high.checked_sub(low)?) + 1;
    let (mut row, mut last) = (0, None);
    for step in 0..span + usize::from(count) {
        let port = low + u16::try_from((start % span + step) % span).ok()?;
        // From the end of the range it goes on at the beginning, and a row does not.
        let follows = last.is_some_and(|last: u16| last.checked_add(1) == Some(port));
        row = if !is_free(port) {
            0
        } else if follows {
            row + 1
        } else {
            1
        };
        last = Some(port);
        if row == count {
            return Some(port - (count - 1));
        }
    }
    None
}

/// Gives one container port its host port, in place of "any".
fn bind(body: &mut Value, wanted: &PortsToFind, offset: u16, host_port: u16) {
    let name = format!("{}/{}", wanted.container_port + offset, wanted.protocol.as_str());
    let bindings = body["HostConfig"]["PortBindings"][name].as_array_mut();
    let any = |binding: &&mut Value| binding["HostPort"].as_str().is_none_or(|text| text.parse::<u16>().is_err());
    if let Some(binding) = bindings.into_iter().flatten().find(any) {
        binding["HostPort"] = json!(host_port.to_string());
    }
}

fn system_range() -> (u16, u16) {
    let text = std::fs::read_to_string(SYSTEM_RANGE).unwrap_or_default();
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(low), Some(high)) if low <= high => (low, high),
        _ => USUAL_RANGE,
    }
}

/// Whether the port can be listened on at all addresses, as Docker will.
fn is_free(protocol: Protocol, port: u16) -> bool {
    [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))].into_iter().all(
        |address| {
            let bound = match protocol {
                Protocol::Tcp => TcpListener::bind(address).map(drop),
                Protocol::Udp => UdpSocket::bind(address).map(drop),
            };
            match bound {
                Ok(()) => true,
                // A host without IPv6.
                Err(error) => address.is_ipv6() && error.kind() != ErrorKind::AddrInUse,
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_row_is_found_wherever_the_search_begins() {
        let free = |taken: &'static [u16]| move |port: u16| !taken.contains(&port);
        assert_eq!(first_free((10, 19), 3, 0, free(&[11, 15])), Some(12));
        assert_eq!(first_free((10, 19), 3, 7, free(&[11, 15])), Some(17));
        // No row goes over the end of the range.
        assert_eq!(first_free((10, 19), 3, 8, free(&[11, 15])), Some(12));
        assert_eq!(first_free((10, 19), 4, 3, free(&[11, 15])), Some(16));
        assert_eq!(first_free((10, 19), 5, 3, free(&[11, 15])), None);
        assert_eq!(first_free((10, 19), 10, 4, free(&[])), Some(10));
        assert_eq!(first_free((10, 19), 11, 4, free(&[])), None);
        assert_eq!(first_free((65_530, 65_535), 2, 5, free(&[])), Some(65_530));
    }

    #[test]
    fn what_somebody_listens_on_is_not_free_and_nothing_is_given_twice() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(!is_free(Protocol::Tcp, port));
        drop(held);
        let ports = HostPorts::default();
        let spec = || ContainerSpec {
            name: "c".to_owned(),
            body: json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}, {"HostPort": ""}]}}}),
            ports_to_find: vec![PortsToFind {
                container_port: 80,
                count: 1,
                protocol: Protocol::Tcp,
                within: Some((port, port)),
                except: BTreeSet::new(),
            }],
        };
        let mut promised = spec();
        promised.ports_to_find[0].except = BTreeSet::from([port]);
        assert!(ports.find(&mut promised).is_err(), "somebody else is to have it");
        let mut first = spec();
        assert_eq!(ports.find(&mut first), Ok(()));
        let expected = json!([{"HostPort": "8080"}, {"HostPort": port.to_string()}]);
        assert_eq!(first.body["HostConfig"]["PortBindings"]["80/tcp"], expected);
        let why = ports.find(&mut spec()).unwrap_err();
        assert_eq!(why, format!("no 1 free tcp ports in a row between {port} and {port}"));
    }
}
