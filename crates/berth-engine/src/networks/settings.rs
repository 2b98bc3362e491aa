//! What the daemon is told about networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_net::address::{Pool, Prefix};
use indexmap::IndexMap;

/// Who decides whether a published port is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PublishPolicy {
    /// As Docker: a published port is reached whatever the host's own input rules say.
    #[default]
    Compat,
    /// The host's input rules decide.
    Firewall,
    /// Ports are published on loopback addresses unless an address is asked for.
    Loopback,
}

impl PublishPolicy {
    /// Its name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compat => "compat",
            Self::Firewall => "firewall",
            Self::Loopback => "loopback",
        }
    }
}

impl std::str::FromStr for PublishPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "compat" => Ok(Self::Compat),
            "firewall" => Ok(Self::Firewall),
            "loopback" => Ok(Self::Loopback),
            other => Err(format!(
                "unknown publish policy '{}': expected compat, firewall or loopback",
                other.chars().take(64).collect::<String>()
            )),
        }
    }
}

/// Settings of networks; each one's meaning is that of dockerd's flag of the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSettings {
    /// The default bridge's interface; empty for our own, `none` for no default bridge at all.
    pub bridge: String,
    /// Address and length of the default bridge; `None` for 172.17.0.1/16 or, where that clashes, a free subnet.
    pub bip: Option<Prefix>,
    /// As `bip`, of IPv6.
    pub bip6: Option<Prefix>,
    /// The part of the default bridge's subnet containers get addresses from.
    pub fixed_cidr: Option<Prefix>,
    /// The default bridge's IPv6 subnet; `None` for one of the host's own pool.
    pub fixed_cidr_v6: Option<Prefix>,
    /// Gateway of containers on the default bridge, where it is not the bridge.
    pub default_gateway: Option<Ipv4Addr>,
    /// As `default_gateway`, of IPv6.
    pub default_gateway_v6: Option<Ipv6Addr>,
    /// Pools subnets are chosen from; empty for the defaults.
    pub default_address_pools: Vec<Pool>,
    /// Whether containers on the default bridge reach each other.
    pub icc: bool,
    /// Address ports are published on when none is asked for; `None` for all.
    pub ip: Option<IpAddr>,
    /// Whether the default bridge has IPv6.
    pub ipv6: bool,
    /// Whether forwarding is switched on in the kernel.
    pub ip_forward: bool,
    /// Whether what leaves the default bridge gets the host's address.
    pub ip_masq: bool,
    /// Whether filtering and translation are done at all.
    pub filtering: bool,
    /// Bytes of a packet on the default bridge; zero for those of the default route.
    pub mtu: u32,
    /// What `host-gateway` stands for; empty for the default bridge's addresses.
    pub host_gateway_ips: Vec<IpAddr>,
    /// Options of networks that do not say, by driver.
    pub default_network_options: IndexMap<String, IndexMap<String, String>>,
    /// Who decides whether a published port is reached.
    pub publish_policy: PublishPolicy,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            bridge: String::new(),
            bip: None,
            bip6: None,
            fixed_cidr: None,
            fixed_cidr_v6: None,
            default_gateway: None,
            default_gateway_v6: None,
            default_address_pools: Vec::new(),
            icc: true,
            ip: None,
            ipv6: false,
            ip_forward: true,
            ip_masq: true,
            filtering: true,
            mtu: 0,
            host_gateway_ips: Vec::new(),
            default_network_options: IndexMap::new(),
            publish_policy: PublishPolicy::Compat,
        }
    }
}

impl NetworkSettings {
    /// Whether there is a default bridge.
    #[must_use]
    pub fn has_default_bridge(&self) -> bool {
        self.bridge != "none"
    }
}
