//! The interfaces that macvlan and ipvlan networks lie on.

use std::str::FromStr;

use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVlan, IpVlanFlags, IpVlanMode, LinkAttribute,
    LinkInfo, MacVlanMode,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::bridge::alias;
use super::{Error, Host, LinkName, Result};
use crate::netlink::{Batch, Route, message};

/// Which frames a macvlan link exchanges with its siblings (`macvlan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Siblings reach each other directly.
    #[default]
    Bridge,
    /// All frames go out by the parent; a switch there may send them back.
    Vepa,
    /// One link alone has the parent, with the parent's address.
    Passthru,
    /// Siblings never reach each other.
    Private,
}

/// At which layer an ipvlan link is separated from its siblings (`ipvlan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Frames: broadcast and neighbour discovery reach the wire.
    #[default]
    L2,
    /// Packets: the parent's namespace routes between siblings, nothing is broadcast.
    L3,
    /// As `L3`, and packets pass the packet filter of the parent's namespace.
    L3s,
}

/// Which siblings an ipvlan link exchanges packets with (`ipvlan_flag`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanFlag {
    /// All of them.
    #[default]
    Bridge,
    /// None.
    Private,
    /// None directly; all packets go out by the parent.
    Vepa,
}

macro_rules! words {
    ($type:ty, $($word:literal => $value:expr),+) => {
        impl FromStr for $type {
            type Err = ();

            fn from_str(text: &str) -> std::result::Result<Self, ()> {
                match text {
                    $($word => Ok($value),)+
                    _ => Err(()),
                }
            }
        }
    };
}

words!(MacvlanMode, "bridge" => Self::Bridge, "vepa" => Self::Vepa, "passthru" => Self::Passthru,
    "private" => Self::Private);
words!(IpvlanMode, "l2" => Self::L2, "l3" => Self::L3, "l3s" => Self::L3s);
words!(IpvlanFlag, "bridge" => Self::Bridge, "private" => Self::Private, "vepa" => Self::Vepa);

impl MacvlanMode {
    pub(crate) fn attribute(self) -> LinkAttribute {
        let mode = match self {
            Self::Bridge => MacVlanMode::Bridge,
            Self::Vepa => MacVlanMode::Vepa,
            Self::Passthru => MacVlanMode::Passthrough,
            Self::Private => MacVlanMode::Private,
        };
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)])),
        ])
    }
}

impl IpvlanMode {
    pub(crate) fn attribute(self, flag: IpvlanFlag) -> LinkAttribute {
        let mode = match self {
            Self::L2 => IpVlanMode::L2,
            Self::L3 => IpVlanMode::L3,
            Self::L3s => IpVlanMode::L3S,
        };
        let flags = match flag {
            IpvlanFlag::Bridge => IpVlanFlags::empty(),
            IpvlanFlag::Private => IpVlanFlags::Private,
            IpvlanFlag::Vepa => IpVlanFlags::Vepa,
        };
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::IpVlan),
            LinkInfo::Data(InfoData::IpVlan(vec![
                InfoIpVlan::Mode(mode),
                InfoIpVlan::Flags(flags),
            ])),
        ])
    }
}

/// The parent of a network's links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParentPlan {
    /// An interface of the host. When it is missing and named like `eth0.10`, VLAN 10 of `eth0` is made, and is the
    /// owner's.
    Interface {
        /// Its name.
        name: LinkName,
        /// Whose it is when it is made; kept as its alias.
        owner: String,
    },
    /// A link that leads nowhere, for a network without a parent: it is the owner's.
    Dummy {
        /// Its name; Docker takes `dm-` (macvlan) or `di-` (ipvlan) and 12 characters of the network's id.
        name: LinkName,
        /// Whose it is; kept as its alias.
        owner: String,
    },
}

/// A parent that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its number.
    pub index: u32,
    /// Bytes of its largest packet.
    pub mtu: u32,
    /// Whether it was made now.
    pub created: bool,
}

impl ParentPlan {
    /// The parent's name.
    #[must_use]
    pub fn name(&self) -> &LinkName {
        match self {
            Self::Interface { name, .. } | Self::Dummy { name, .. } => name,
        }
    }

    fn owner(&self) -> &str {
        match self {
            Self::Interface { owner, .. } | Self::Dummy { owner, .. } => owner,
        }
    }
}

/// Splits `eth0.10` into the interface and the VLAN's number.
fn vlan(name: &LinkName) -> Option<(LinkName, u16)> {
    let (below, number) = name.as_str().split_once('.')?;
    let number = number
        .parse()
        .ok()
        .filter(|number| (1..=4094).contains(number))?;
    Some((below.parse().ok()?, number))
}

impl Host {
    /// Finds the parent, or makes the VLAN or the dummy that shall be it.
    pub fn ensure_parent(&self, plan: &ParentPlan) -> Result<Parent> {
        let mut route = self.route();
        let name = plan.name();
        if let Some(link) = route.find_link(name.as_str())? {
            if link.loopback {
                return Err(Error::ParentLoopback);
            }
            return Ok(Parent {
                index: link.index,
                mtu: link.mtu,
                created: false,
            });
        }
        let mut attributes = vec![LinkAttribute::IfName(name.to_string())];
        let mut lies_on = None;
        match plan {
            ParentPlan::Interface { .. } => {
                if !name.as_str().contains('.') {
                    return Err(Error::ParentMissing(name.clone()));
                }
                let (below, number) = vlan(name).ok_or_else(|| Error::ParentName(name.clone()))?;
                let below = route
                    .find_link(below.as_str())?
                    .ok_or(Error::ParentMissing(below))?;
                attributes.push(LinkAttribute::Link(below.index));
                lies_on = below.name.parse().ok();
                attributes.push(LinkAttribute::LinkInfo(vec![
                    LinkInfo::Kind(InfoKind::Vlan),
                    LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(number)])),
                ]));
            }
            ParentPlan::Dummy { .. } => {
                attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
                    InfoKind::Dummy,
                )]));
            }
        }
        let created = create(&mut route, plan, attributes);
        drop(route);
        created.map_err(|error| {
            // The failure is what the caller needs to hear of.
            let _ = self.release_parent(name, plan.owner());
            match (error, lies_on) {
                (Error::Netlink(refused), Some(below))
                    if refused.errno() == Some(Errno::NETDOWN) =>
                {
                    Error::ParentDown {
                        vlan: name.clone(),
                        below,
                    }
                }
                (error, _) => error,
            }
        })
    }

    /// Removes a parent that was made for `owner`; true when it was there. One that is somebody else's stays.
    pub fn release_parent(&self, name: &LinkName, owner: &str) -> Result<bool> {
        self.release_bridge(name, owner)
    }
}

fn create(route: &mut Route, plan: &ParentPlan, attributes: Vec<LinkAttribute>) -> Result<Parent> {
    let name = plan.name();
    let mut batch = Batch::new();
    batch.create_link(
        format!("create parent interface {name}"),
        message::link(0, attributes),
    );
    let mut up = message::link(
        0,
        vec![
            LinkAttribute::IfName(name.to_string()),
            LinkAttribute::IfAlias(alias(plan.owner()).to_owned()),
        ],
    );
    message::set_up(&mut up, true);
    batch.change_link(format!("set up parent interface {name}"), up);
    route.execute(batch)?;
    let link = route.link(name.as_str())?;
    Ok(Parent {
        index: link.index,
        mtu: link.mtu,
        created: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_named_by_interface_and_number() {
        let split = |name: &str| vlan(&name.parse().unwrap());
        assert_eq!(split("eth0.10"), Some(("eth0".parse().unwrap(), 10)));
        assert_eq!(split("eth0.4094").unwrap().1, 4094);
        for bad in ["eth0", "eth0.0", "eth0.4095", "eth0.x", "eth0.1.2", ".10"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
