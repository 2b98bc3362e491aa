//! What callers ask of networks.

use berth_types::NetworkId;
use indexmap::IndexMap;

/// A network that shall be. Texts are as the caller gave them; the service checks them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkCreateRequest {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`; empty for `bridge`.
    pub driver: String,
    /// `local`, or empty for it.
    pub scope: String,
    /// Whether it has IPv4; `None` for yes.
    pub enable_ipv4: Option<bool>,
    /// Whether it has IPv6; `None` for no.
    pub enable_ipv6: Option<bool>,
    /// Addresses.
    pub ipam: IpamRequest,
    /// Whether it leads nowhere else.
    pub internal: bool,
    /// Kept for inspect; only means something to swarms.
    pub attachable: bool,
    /// Refused: only swarms have one.
    pub ingress: bool,
    /// Whether it only carries settings for others.
    pub config_only: bool,
    /// The network whose settings it takes; empty for none.
    pub config_from: String,
    /// Options of the driver.
    pub options: IndexMap<String, String>,
    /// Labels.
    pub labels: IndexMap<String, String>,
}

/// How addresses are managed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpamRequest {
    /// `default`, `null`, or empty for `default`.
    pub driver: String,
    /// Options of it.
    pub options: IndexMap<String, String>,
    /// Subnets; a family that is on and has none gets one from the pools.
    pub subnets: Vec<SubnetRequest>,
}

/// One subnet asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubnetRequest {
    /// `address/length`; with an unspecified address (`0.0.0.0/26`) only the size is asked.
    pub subnet: String,
    /// The part of it addresses are chosen from; empty for all.
    pub ip_range: String,
    /// The gateway; empty for the first address.
    pub gateway: String,
    /// Addresses that are not given to containers, by name.
    pub auxiliary: IndexMap<String, String>,
}

/// A network that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkCreated {
    /// Its id.
    pub id: NetworkId,
    /// What was not done as asked; empty for nothing.
    pub warning: String,
}

/// How a container joins one network. Texts are as the caller gave them; the service checks them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    /// The network's id where the caller told it beside the name; empty for none.
    pub network: String,
    /// Further names of the container there.
    pub aliases: Vec<String>,
    /// `container:alias` links.
    pub links: Vec<String>,
    /// Wanted IPv4 address; empty for any.
    pub ipv4_address: String,
    /// Wanted IPv6 address; empty for any.
    pub ipv6_address: String,
    /// Further addresses on the link.
    pub link_local: Vec<String>,
    /// Wanted hardware address; empty for any.
    pub mac_address: String,
    /// Driver options.
    pub driver_options: IndexMap<String, String>,
    /// Which network's gateway is used: higher wins.
    pub gateway_priority: i64,
}

/// What a container wants of networks for one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// Its name.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// The networks, by name or id, in the order of interfaces.
    pub networks: Vec<(String, EndpointRequest)>,
    /// Ports to publish.
    pub ports: Vec<super::ports::PortRequest>,
    /// Ports that are exposed.
    pub exposed: Vec<(u16, super::view::Protocol)>,
    /// Containers it is linked to on the default bridge.
    pub linked: Vec<berth_types::ContainerId>,
    /// Name servers asked for; empty for the host's.
    pub dns_servers: Vec<std::net::IpAddr>,
    /// Whether `ndots` is set for its resolver.
    pub ndots_set: bool,
}
