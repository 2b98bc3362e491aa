//! What an endpoint of a container shall be.

use std::net::IpAddr;

use crate::address::{HardwareAddress, Prefix};
use crate::link::{BridgePort, EndpointSetting, IpvlanFlag, IpvlanMode, LinkName, MacvlanMode};

/// An interface of a container, with all that is set on it and what it is joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPlan {
    /// What it is called inside: `eth0`, or what `com.docker.network.endpoint.ifname` says.
    pub interface: LinkName,
    /// What it is joined to.
    pub kind: EndpointKind,
    /// Its Ethernet address; `None` leaves it to the kernel, which ipvlan and passthru need.
    pub hardware_address: Option<HardwareAddress>,
    /// Its addresses of both families, with the lengths of their networks' prefixes. Without one of IPv6, IPv6 is
    /// off on the interface.
    pub addresses: Vec<Prefix>,
    /// Further addresses (`--link-local-ip`).
    pub link_local: Vec<Prefix>,
    /// Bytes of the largest packet; `None` leaves it to the kernel, which for macvlan and ipvlan is the parent's.
    pub mtu: Option<u32>,
    /// Routes beside those of the addresses' own networks.
    pub routes: Vec<RoutePlan>,
    /// The default route of IPv4, when it goes by this endpoint.
    pub gateway_ipv4: Option<Gateway>,
    /// The default route of IPv6, when it goes by this endpoint.
    pub gateway_ipv6: Option<Gateway>,
    /// Settings of the interface, written after its addresses are there.
    pub settings: Vec<EndpointSetting>,
    /// Whether neighbours are told of the addresses (gratuitous ARP, unsolicited neighbour advertisement): when
    /// others may remember another Ethernet address for them.
    pub announce: bool,
}

/// What an endpoint is joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointKind {
    /// A port of a bridge, by a veth pair.
    Bridge {
        /// The bridge on the host.
        bridge: LinkName,
        /// What the host's end is called ([`crate::link::host_end_name`]).
        host_end: LinkName,
        /// Whose the host's end is, kept as its alias; at most 255 bytes.
        owner: String,
        /// How the port behaves.
        port: BridgePort,
    },
    /// A macvlan link on a parent of the host.
    Macvlan {
        /// The parent.
        parent: LinkName,
        /// Which siblings it reaches.
        mode: MacvlanMode,
    },
    /// An ipvlan link on a parent of the host.
    Ipvlan {
        /// The parent.
        parent: LinkName,
        /// At which layer it is separated.
        mode: IpvlanMode,
        /// Which siblings it reaches.
        flag: IpvlanFlag,
    },
}

/// A route by an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutePlan {
    /// Where to.
    pub destination: Prefix,
    /// The next hop; `None` when what is there is on the link itself.
    pub gateway: Option<IpAddr>,
}

/// Where packets go that have no other route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// To this router, which must be in a network of the endpoint.
    Address(IpAddr),
    /// Onto the link itself (ipvlan l3, macvlan without a gateway).
    OnLink,
}

impl Gateway {
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::OnLink => None,
        }
    }
}

impl EndpointPlan {
    /// A plan with nothing but what it is joined to: no addresses, no routes, no settings.
    #[must_use]
    pub fn new(interface: LinkName, kind: EndpointKind) -> Self {
        Self {
            interface,
            kind,
            hardware_address: None,
            addresses: Vec::new(),
            link_local: Vec::new(),
            mtu: None,
            routes: Vec::new(),
            gateway_ipv4: None,
            gateway_ipv6: None,
            settings: Vec::new(),
            announce: false,
        }
    }

    /// All addresses.
    pub(super) fn all_addresses(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.addresses.iter().chain(&self.link_local).copied()
    }

    /// Whether the interface speaks IPv6.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.all_addresses().any(|address| !address.is_ipv4())
    }

    /// Whether routes of IPv6 can be set: the settings do not switch it off behind the addresses.
    pub(super) fn routes_ipv6(&self) -> bool {
        self.has_ipv6() && !self.settings.iter().any(EndpointSetting::disables_ipv6)
    }
}
