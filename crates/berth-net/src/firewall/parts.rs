//! What can be filtered and translated, as plain data: the vocabulary of callers. Pure; knows no netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::address::Prefix;

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    /// Its IANA number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Its name, as `-p` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How a network's members meet the outside (`com.docker.network.bridge.gateway_mode_ipv4` and `_ipv6`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Behind the host's address; only published ports are reached, and only by the host's address.
    #[default]
    Nat,
    /// As `Nat`, but whoever has a route reaches every port directly.
    NatUnprotected,
    /// By their own addresses; only published ports are reached.
    Routed,
    /// The host has no address in the network; only for internal networks.
    Isolated,
}

/// Who reaches a published port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Everyone who reaches the host's address; the host's input rules are not asked (Docker's behaviour).
    #[default]
    Compat,
    /// Whom the host's own input rules let in.
    Firewall,
    /// Programs of the host itself.
    Loopback,
}

/// A bridge network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Name of the bridge interface.
    pub bridge: String,
    /// Its subnets, of both families.
    pub subnets: Vec<Prefix>,
    /// IPv4: how members meet the outside.
    pub mode4: GatewayMode,
    /// IPv6: how members meet the outside.
    pub mode6: GatewayMode,
    /// No way out and none in.
    pub internal: bool,
    /// Members may talk to each other; otherwise only by links and published ports.
    pub icc: bool,
    /// Members leave under the host's address, in the modes `nat` and `nat-unprotected`.
    pub masquerade: bool,
    /// The address they leave under, where it is not the outgoing interface's (`host_ipv4`).
    pub host_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6 (`host_ipv6`).
    pub host_ipv6: Option<Ipv6Addr>,
    /// Interfaces from which published ports are reached by the container's own address
    /// (`com.docker.network.bridge.trusted_host_interfaces`).
    pub trusted: Vec<String>,
}

impl Network {
    /// A network as `network create` makes it without options.
    #[must_use]
    pub fn new(bridge: impl Into<String>, subnets: Vec<Prefix>) -> Self {
        Self {
            bridge: bridge.into(),
            subnets,
            mode4: GatewayMode::Nat,
            mode6: GatewayMode::Nat,
            internal: false,
            icc: true,
            masquerade: true,
            host_ipv4: None,
            host_ipv6: None,
            trusted: Vec::new(),
        }
    }

    pub(super) fn mode(&self, ipv4: bool) -> GatewayMode {
        if ipv4 { self.mode4 } else { self.mode6 }
    }
}

/// One container's place in a bridge network.
///
/// The kernel hears of it only when its network keeps members apart; its addresses are needed when it goes, to
/// forget connections that still name them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's bridge.
    pub bridge: String,
    /// Name of the bridge port: the veth's end in the host's namespace.
    pub port: String,
    /// The container's addresses in this network.
    pub addresses: Vec<IpAddr>,
}

/// One published port or range of ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The bridge of the container's network.
    pub bridge: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; unspecified (`0.0.0.0`, `::`) means every address of that family.
    pub host: IpAddr,
    /// First port on the host; zero when the network is routed, where nothing of the host is taken.
    pub first: u16,
    /// How many ports, at least one; they map one to one.
    pub count: u16,
    /// The container's address. Where its family differs from `host`'s, the kernel cannot translate and only the
    /// monitor forwards.
    pub container: IpAddr,
    /// First port in the container.
    pub container_port: u16,
    /// Who reaches it.
    pub policy: Policy,
}

/// A member of a network without `icc` that may reach a port of another (`--link`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// Who may reach.
    pub from: IpAddr,
    /// Who is reached.
    pub to: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of `to`.
    pub port: u16,
}

/// Things to filter and translate: all that are wanted, or those that come or go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Bridge networks.
    pub networks: Vec<Network>,
    /// Places in networks.
    pub endpoints: Vec<Endpoint>,
    /// Published ports.
    pub ports: Vec<Published>,
    /// Links.
    pub links: Vec<Link>,
}

impl Parts {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
            && self.endpoints.is_empty()
            && self.ports.is_empty()
            && self.links.is_empty()
    }
}

/// What comes and what goes, in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What goes. Naming something that is not there is no error.
    pub removed: Parts,
    /// What comes. Naming something again that is there is no error.
    pub added: Parts,
}
