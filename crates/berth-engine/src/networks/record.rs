//! What of a network is on disk.

use std::net::IpAddr;

use berth_net::address::Prefix;
use berth_types::{NetworkId, Timestamp};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Who makes a network's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of the host, and translation towards the outside.
    Bridge,
    /// The host's own network.
    Host,
    /// None.
    Null,
    /// Links with hardware addresses of their own on an interface of the host.
    Macvlan,
    /// Links that share the hardware address of an interface of the host.
    Ipvlan,
}

impl Driver {
    /// Docker's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetRecord {
    /// The subnet.
    pub subnet: Prefix,
    /// The part addresses are chosen from; `None` for all.
    #[serde(default)]
    pub ip_range: Option<Prefix>,
    /// Where packets leave it; `None` where it has no gateway.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Addresses that are not given to containers, by name.
    #[serde(default)]
    pub auxiliary: IndexMap<String, IpAddr>,
    /// Whether it was asked for; static addresses are for such only. Else it came from a pool.
    #[serde(default)]
    pub asked: bool,
}

/// A network as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Who makes its links.
    pub driver: Driver,
    /// Whether containers have IPv4 there.
    pub ipv4: bool,
    /// Whether containers have IPv6 there.
    pub ipv6: bool,
    /// Whether it leads nowhere else.
    #[serde(default)]
    pub internal: bool,
    /// Kept for inspect.
    #[serde(default)]
    pub attachable: bool,
    /// Whether it only carries settings for others.
    #[serde(default)]
    pub config_only: bool,
    /// Whose settings it took; empty for none.
    #[serde(default)]
    pub config_from: String,
    /// `default` or `null`.
    pub ipam_driver: String,
    /// Options of address management, as given.
    #[serde(default)]
    pub ipam_options: IndexMap<String, String>,
    /// Its subnets, IPv4 first.
    pub subnets: Vec<SubnetRecord>,
    /// Options of the driver, as given.
    #[serde(default)]
    pub options: IndexMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
}

/// Names of the networks that are always there.
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

impl NetworkRecord {
    /// Whether it is one of those that are always there.
    #[must_use]
    pub fn is_predefined(&self) -> bool {
        PREDEFINED.contains(&self.name.as_str())
    }

    /// The subnet an address is of.
    #[must_use]
    pub fn subnet_of(&self, address: IpAddr) -> Option<&SubnetRecord> {
        self.subnets.iter().find(|s| s.subnet.contains(address))
    }

    /// The subnets of one family.
    pub fn subnets_of(&self, ipv4: bool) -> impl Iterator<Item = &SubnetRecord> {
        self.subnets
            .iter()
            .filter(move |s| s.subnet.is_ipv4() == ipv4)
    }
}
