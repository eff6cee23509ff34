//! What is asked of the kernel about devices, addresses, routes and neighbours: the few requests that the task network is made of.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::pin;
use std::thread;
use std::time::Duration;
use std::{fs, io};

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::NetworkError;
use super::address::{Mac, Range};

/// The kernel answers at once, or something is badly wrong.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EOPNOTSUPP: i32 = 95;
const EAFNOSUPPORT: i32 = 97;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    /// What it is for; ours name their task.
    pub(super) alias: String,
}

/// The virtual cable of a task.
#[derive(Debug)]
pub(super) struct Cable<'a> {
    pub(super) name: &'a str,
    pub(super) mac: Mac,
    /// Name and hardware address of the task's end.
    pub(super) peer: (&'a str, Mac),
    pub(super) mtu: u32,
}

/// The overlay's device.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    pub(super) name: &'a str,
    pub(super) vni: u32,
    pub(super) port: u16,
    pub(super) local: Ipv4Addr,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
}

/// Requests to the kernel, in one network namespace.
pub(super) struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// For the namespace of the calling thread. Answers come in as long as its runtime runs.
    pub(super) fn new() -> Result<Self, NetworkError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| failed("opening a netlink socket", &error))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The device of that name.
    pub(super) async fn link(&self, name: &str) -> Result<Option<Link>, NetworkError> {
        let found = self.handle.link().get().match_name(name.to_owned()).execute();
        let found: Vec<LinkMessage> =
            all("looking for a device", found).await.or_else(|error| error.absent(Vec::new()))?;
        Ok(found.into_iter().next().map(link))
    }

    /// All devices.
    pub(super) async fn links(&self) -> Result<Vec<Link>, NetworkError> {
        let found = self.handle.link().get().execute();
        let found = all("listing devices", found).await.map_err(Trouble::into_error)?;
        Ok(found.into_iter().map(link).collect())
    }

    /// Makes a cable whose other end is in the namespace.
    pub(super) async fn add_cable(&self, cable: &Cable<'_>, namespace: &OwnedFd) -> Result<(), NetworkError> {
        let (peer_name, peer_mac) = cable.peer;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer_name.to_owned())
            .address(peer_mac.0.to_vec())
            .mtu(cable.mtu)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let message = LinkVeth::new(cable.name, peer_name)
            .address(cable.mac.0.to_vec())
            .mtu(cable.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        done("making a task's cable", self.handle.link().add(message).execute()).await
    }

    /// Makes the overlay's device.
    pub(super) async fn add_overlay(&self, overlay: &Overlay<'_>) -> Result<(), NetworkError> {
        let message = LinkVxlan::new(overlay.name, overlay.vni)
            .port(overlay.port)
            .local(overlay.local)
            .learning(false)
            .address(overlay.mac.0.to_vec())
            .mtu(overlay.mtu)
            .build();
        done("making the overlay's device", self.handle.link().add(message).execute()).await
    }

    /// Says what a device is for. One that was just made says nothing.
    pub(super) async fn alias(&self, index: u32, alias: &str) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(index).alias(alias).build();
        done("naming a device", self.handle.link().set(message).execute()).await
    }

    /// Switches a device of ours on. The kernel is to give it no IPv6 address by itself: there are no rules for those.
    pub(super) async fn up(&self, index: u32) -> Result<(), NetworkError> {
        let no_address = vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])];
        let message =
            LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::AfSpecUnspec(no_address)).build();
        match within(self.handle.link().set(message).execute()).await {
            Ok(()) => {}
            Err(error) => match Trouble::from("keeping IPv6 addresses from a device", error) {
                // A kernel without IPv6, or a device that can have none.
                Trouble { errno: Some(EAFNOSUPPORT | EOPNOTSUPP), .. } => {}
                trouble => return Err(trouble.into_error()),
            },
        }
        let message = LinkUnspec::new_with_index(index).up().build();
        done("switching on a device", self.handle.link().set(message).execute()).await
    }

    /// Removes a device, with its addresses, routes and neighbours; the other end of a cable goes with it.
    pub(super) async fn remove(&self, index: u32) -> Result<(), NetworkError> {
        within(self.handle.link().del(index).execute())
            .await
            .map_err(|error| Trouble::from("removing a device", error))
            .or_else(|error| error.absent(()))
    }

    /// Gives a device an address.
    pub(super) async fn address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), NetworkError> {
        let request = self.handle.address().add(index, IpAddr::V4(address), prefix).replace();
        done("giving a device its address", request.execute()).await
    }

    /// The IPv4 addresses of the namespace, by device.
    pub(super) async fn addresses(&self) -> Result<Vec<(u32, Range, Ipv4Addr)>, NetworkError> {
        let found = self.handle.address().get().execute();
        let found = all("listing addresses", found).await.map_err(Trouble::into_error)?;
        let address = |message: rtnetlink::packet_route::address::AddressMessage| {
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            })?;
            Some((message.header.index, Range::around(local, message.header.prefix_len)?, local))
        };
        Ok(found.into_iter().filter_map(address).collect())
    }

    /// Takes an address from a device.
    pub(super) async fn remove_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), NetworkError> {
        let message = rtnetlink::AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
        within(self.handle.address().del(message).execute())
            .await
            .map_err(|error| Trouble::from("taking away an address", error))
            .or_else(|error| error.absent(()))
    }

    /// A route to what is behind a device itself, in place of any other.
    pub(super) async fn route(&self, to: Range, index: u32) -> Result<(), NetworkError> {
        let route = destination(to).output_interface(index).scope(RouteScope::Link).build();
        done("making a route", self.handle.route().add(route).replace().execute()).await
    }

    /// A route by way of a gateway, which is behind the device whatever its addresses say.
    pub(super) async fn route_by(
        &self,
        to: Range,
        gateway: Ipv4Addr,
        index: u32,
        source: Option<Ipv4Addr>,
    ) -> Result<(), NetworkError> {
        let mut route = destination(to).gateway(gateway).output_interface(index).onlink();
        if let Some(source) = source {
            route = route.pref_source(source);
        }
        done("making a route", self.handle.route().add(route.build()).replace().execute()).await
    }

    /// The IPv4 routes of the main table: where to, by which device.
    pub(super) async fn routes(&self) -> Result<Vec<(Range, Option<u32>, RouteMessage)>, NetworkError> {
        let found = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let found = all("listing routes", found).await.map_err(Trouble::into_error)?;
        let route = |message: RouteMessage| {
            let (mut to, mut index) = (Ipv4Addr::UNSPECIFIED, None);
            for attribute in &message.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
                    RouteAttribute::Oif(oif) => index = Some(*oif),
                    _ => {}
                }
            }
            let is_main = message.header.table == rtnetlink::packet_route::route::RouteHeader::RT_TABLE_MAIN;
            let range = Range::around(to, message.header.destination_prefix_length).filter(|_| is_main)?;
            Some((range, index, message))
        };
        Ok(found.into_iter().filter_map(route).collect())
    }

    /// Removes a route that was listed.
    pub(super) async fn remove_route(&self, route: RouteMessage) -> Result<(), NetworkError> {
        within(self.handle.route().del(route).execute())
            .await
            .map_err(|error| Trouble::from("removing a route", error))
            .or_else(|error| error.absent(()))
    }

    /// The hardware address of a neighbour, for good.
    pub(super) async fn neighbour(&self, index: u32, address: Ipv4Addr, mac: Mac) -> Result<(), NetworkError> {
        let request = self.handle.neighbours().add(index, IpAddr::V4(address)).link_layer_address(&mac.0).replace();
        done("telling the kernel of a neighbour", request.execute()).await
    }

    /// Behind which host of the underlay a hardware address of the overlay is, for good.
    pub(super) async fn forward(&self, index: u32, mac: Mac, host: Ipv4Addr) -> Result<(), NetworkError> {
        let request = self
            .handle
            .neighbours()
            .add_bridge(index, &mac.0)
            .destination(IpAddr::V4(host))
            .flags(NeighbourFlags::Own)
            .replace();
        done("telling the kernel of a host of the overlay", request.execute()).await
    }

    /// The neighbours that were given to a device: addresses (IPv4) or hardware addresses of the overlay.
    pub(super) async fn neighbours(
        &self,
        index: u32,
        family: AddressFamily,
    ) -> Result<BTreeMap<(Option<Ipv4Addr>, Option<Mac>), NeighbourMessage>, NetworkError> {
        let found = self.handle.neighbours().get().set_address_family(family).execute();
        let found: Vec<NeighbourMessage> = all("listing neighbours", found).await.map_err(Trouble::into_error)?;
        let key = |message: NeighbourMessage| {
            let (mut address, mut mac) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(inet)) => address = Some(*inet),
                    NeighbourAttribute::LinkLayerAddress(bytes) => {
                        mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac)
                    }
                    _ => {}
                }
            }
            ((address, mac), message)
        };
        Ok(found.into_iter().filter(|message| message.header.ifindex == index).map(key).collect())
    }

    /// Forgets a neighbour that was listed.
    pub(super) async fn remove_neighbour(&self, neighbour: NeighbourMessage) -> Result<(), NetworkError> {
        within(self.handle.neighbours().del(neighbour).execute())
            .await
            .map_err(|error| Trouble::from("forgetting a neighbour", error))
            .or_else(|error| error.absent(()))
    }
}

/// Lets a device of this host carry no IPv6, neither for the host nor through it: there are no rules for that.
pub(super) fn without_ipv6(device: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    let failed = |error| NetworkError::Failed(format!("{path}: {error}"));
    match fs::read_to_string(&path) {
        Ok(disabled) if disabled.trim() == "1" => Ok(()),
        Ok(_) => fs::write(&path, "1").map_err(failed),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Does `work` with the kernel in another network namespace, on a thread of its own that ends with it.
pub(super) async fn inside<T, W, F>(namespace: OwnedFd, work: W) -> Result<T, NetworkError>
where
    T: Send + 'static,
    W: FnOnce(Netlink) -> F + Send + 'static,
    F: Future<Output = Result<T, NetworkError>>,
{
    let (answer, answered) = oneshot::channel();
    let body = move || {
        let result = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| failed("entering the task's network namespace", &error))
            .and_then(|()| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(|error| failed("working in the task's network namespace", &error))
            })
            .and_then(|runtime| runtime.block_on(async { work(Netlink::new()?).await }));
        // Whoever waited may have gone.
        let _ = answer.send(result);
    };
    thread::Builder::new()
        .name("task network".to_owned())
        .spawn(body)
        .map_err(|error| failed("starting a thread", &error))?;
    answered.await.unwrap_or_else(|_| Err(NetworkError::Failed("the thread in the task's network panicked".to_owned())))
}

fn destination(to: Range) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to.first(), to.prefix())
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link { index: message.header.index, name: String::new(), mac: None, mtu: 0, alias: String::new() };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            _ => {}
        }
    }
    link
}

/// An error of the kernel, with its number if it has one.
struct Trouble {
    what: &'static str,
    errno: Option<i32>,
    why: String,
}

impl Trouble {
    fn from(what: &'static str, error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => {
                let errno = message.raw_code().saturating_abs();
                Self { what, errno: Some(errno), why: std::io::Error::from_raw_os_error(errno).to_string() }
            }
            other => Self { what, errno: None, why: other.to_string() },
        }
    }

    /// That something is not there is an answer.
    fn absent<T>(self, otherwise: T) -> Result<T, NetworkError> {
        match self.errno {
            Some(ENOENT | ESRCH | ENODEV) => Ok(otherwise),
            _ => Err(self.into_error()),
        }
    }

    fn into_error(self) -> NetworkError {
        let known = if self.errno == Some(EEXIST) { " (something else has it)" } else { "" };
        NetworkError::Failed(format!("{}: {}{known}", self.what, self.why))
    }
}

async fn within<T>(request: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, rtnetlink::Error> {
    timeout(ANSWER_WITHIN, request).await.unwrap_or(Err(rtnetlink::Error::RequestFailed))
}

async fn done(
    what: &'static str,
    request: impl Future<Output = Result<(), rtnetlink::Error>>,
) -> Result<(), NetworkError> {
    within(request).await.map_err(|error| Trouble::from(what, error).into_error())
}

async fn all<T: Send>(
    what: &'static str,
    found: impl Stream<Item = Result<T, rtnetlink::Error>> + Send,
) -> Result<Vec<T>, Trouble> {
    within(pin!(found).try_collect()).await.map_err(|error| Trouble::from(what, error))
}

fn failed(what: &str, error: &dyn std::error::Error) -> NetworkError {
    NetworkError::Failed(format!("{what}: {error}"))
}
