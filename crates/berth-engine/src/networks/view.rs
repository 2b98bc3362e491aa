//! What readers see of networks, and of a container's places in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use berth_net::address::{HardwareAddress, Prefix};
pub use berth_net::firewall::{Protocol, Reach};
use berth_types::{ContainerId, EndpointId, NetworkId};
use serde::{Deserialize, Serialize};

use super::record::{Driver, NetworkRecord};

/// A network at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// What is stored of it.
    pub record: Arc<NetworkRecord>,
    /// Places of running containers in it.
    pub members: Vec<Member>,
}

/// A running container's place in a network, as the network lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Its place.
    pub endpoint: Arc<Endpoint>,
}

/// A running container's place in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// The network's driver.
    pub driver: Driver,
    /// The interface inside the container; empty where there is none of its own (`host`, `none`).
    pub interface: String,
    /// The other end of it on the host; empty where there is none.
    #[serde(default)]
    pub host_interface: String,
    /// Hardware address.
    pub mac_address: Option<HardwareAddress>,
    /// IPv4 address with the prefix length of its subnet.
    pub ipv4: Option<Prefix>,
    /// Where IPv4 leaves the network; `None` where it does not.
    pub ipv4_gateway: Option<Ipv4Addr>,
    /// IPv6 address with the prefix length of its subnet.
    pub ipv6: Option<Prefix>,
    /// Where IPv6 leaves the network.
    pub ipv6_gateway: Option<Ipv6Addr>,
    /// Further addresses on the link.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// What the container is called there; empty where names are not answered.
    #[serde(default)]
    pub names: Vec<String>,
    /// Names by which it knows others there, `(alias, container)`.
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// Whether the container's default route of IPv4 leaves here.
    #[serde(default)]
    pub default_ipv4: bool,
    /// Whether the container's default route of IPv6 leaves here.
    #[serde(default)]
    pub default_ipv6: bool,
}

/// A port of a container that is reached by one of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The container's port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address; unspecified for all of its family.
    pub host_address: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

/// Who reaches a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// The port.
    pub port: PublishedPort,
    /// Name of the network it is reached through.
    pub network: String,
    /// Who does.
    pub reach: Reach,
}

/// The network of one run of a container. Kept with the run, and gone with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunNetwork {
    /// Identifies the network namespace, 64 hexadecimal digits.
    pub sandbox: String,
    /// Places in networks, in the order of interfaces.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
    /// Ports that are exposed and not published.
    #[serde(default)]
    pub exposed: Vec<(u16, Protocol)>,
    /// Containers whose exposed ports it reaches on the default bridge, also where members are kept apart (`--link`).
    #[serde(default)]
    pub linked: Vec<ContainerId>,
}

impl RunNetwork {
    /// The place in a network, by the network's name.
    #[must_use]
    pub fn endpoint(&self, network_name: &str) -> Option<&Arc<Endpoint>> {
        self.endpoints
            .iter()
            .find(|e| e.network_name == network_name)
    }
}
