//! The bridge of a network.

use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    LinkAttribute, LinkInfo, LinkMessage,
};

use super::{Error, Host, LinkName, Result, setting};
use crate::address::{HardwareAddress, Prefix};
use crate::limits;
use crate::netlink::{Batch, Link, Route, message};

/// A bridge as a network wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePlan {
    /// What it is called.
    pub name: LinkName,
    /// Whose it is, kept with the link (its alias); at most 255 bytes. A bridge with another alias, or none, was made
    /// by somebody else: it is used, and never removed.
    pub owner: String,
    /// Bytes of the largest packet; `None` leaves it to the kernel.
    pub mtu: Option<u32>,
    /// Its Ethernet address, so that it does not change with its ports.
    pub hardware_address: HardwareAddress,
    /// Its addresses, with the lengths of their networks' prefixes: the gateways. None of a family for
    /// `inhibit_ipv4` and for isolated networks.
    pub addresses: Vec<Prefix>,
    /// Whether it speaks IPv6 at all.
    pub ipv6: bool,
    /// Whether packets from 127.0.0.0/8 may be sent to its ports (`route_localnet`): for ports published on 127.0.0.1.
    pub route_localnet: bool,
}

/// A bridge that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    /// Its number.
    pub index: u32,
    /// Whether it was made now.
    pub created: bool,
    /// Whether it is the owner's, and goes with the network.
    pub ours: bool,
}

/// How a port of a bridge behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgePort {
    /// Frames may leave by the port they came from. On a host whose packet filter sees frames on bridges
    /// (`br_netfilter`) every port does so, whatever is said here: without it a container could not reach a published
    /// port of its own.
    pub hairpin: bool,
    /// Exchanges frames with the bridge and with ports that are not isolated only: no communication between
    /// containers, whatever protocol.
    pub isolated: bool,
    /// Learns which addresses are behind the port.
    pub learning: bool,
}

impl Default for BridgePort {
    /// As the kernel has it: no hairpin, not isolated, learning.
    fn default() -> Self {
        Self {
            hairpin: false,
            isolated: false,
            learning: true,
        }
    }
}

impl BridgePort {
    /// What a message says for a port to behave so.
    pub(crate) fn attribute(self) -> LinkAttribute {
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![
                InfoBridgePort::HairpinMode(self.hairpin),
                InfoBridgePort::Isolated(self.isolated),
                InfoBridgePort::Learning(self.learning),
            ])),
        ])
    }
}

impl Host {
    /// Makes the bridge, or brings the one that is there to what the plan says.
    ///
    /// Addresses of the plan's families that the plan does not have are taken away from it, as they belong to an
    /// earlier plan; of IPv6 the link-local ones (fe80::/64) stay, being the kernel's. When it fails, a bridge that
    /// was made now is gone again.
    pub fn ensure_bridge(&self, plan: &BridgePlan) -> Result<Bridge> {
        let mut route = self.route();
        let (link, created) = match route.find_link(plan.name.as_str())? {
            Some(link) => (link, false),
            None => (create(&mut route, plan)?, true),
        };
        drop(route);
        let settled = self.settle(plan, &link, created);
        if settled.is_err() && created {
            // The failure is what the caller needs to hear of; what is left carries the owner's mark.
            let _ = self.remove_link(&plan.name);
        }
        settled
    }

    fn settle(&self, plan: &BridgePlan, link: &Link, created: bool) -> Result<Bridge> {
        if link.kind.as_deref() != Some("bridge") {
            return Err(Error::WrongKind {
                name: plan.name.clone(),
                wanted: "bridge",
            });
        }
        self.inside(|| {
            let name = plan.name.as_str();
            setting::ensure(
                &format!("ipv6/conf/{name}/disable_ipv6"),
                if plan.ipv6 { "0" } else { "1" },
            )?;
            // A container must not change the host's routes by advertising itself as a router.
            setting::ensure(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
            // The bridge's address is nobody else's, and until it were shown unique, packets of IPv6 that are passed on
            // to a container would wait.
            setting::ensure(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
            // A way past the bridge, from port to port, would be a way past the packet filter.
            setting::ensure(&format!("ipv4/conf/{name}/send_redirects"), "0")?;
            if plan.route_localnet {
                setting::ensure(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
            }
            Ok::<_, Error>(())
        })??;
        let mut route = self.route();
        let present: Vec<Prefix> = route
            .addresses()?
            .into_iter()
            .filter(|address| address.link == link.index)
            .map(|address| address.prefix)
            .collect();
        let mut batch = Batch::new();
        let name = plan.name.as_str();
        for address in present.iter().filter(|address| foreign(plan, **address)) {
            batch.remove_address(link.index, name, *address);
        }
        for address in plan.addresses.iter().filter(|one| !present.contains(one)) {
            batch.add_address(link.index, name, *address);
        }
        let mut changes = message::link(link.index, Vec::new());
        if let Some(mtu) = plan.mtu.filter(|mtu| *mtu != link.mtu) {
            changes.attributes.push(LinkAttribute::Mtu(mtu));
        }
        message::set_up(&mut changes, true);
        if !link.up || !changes.attributes.is_empty() {
            batch.change_link(format!("set up bridge {name}"), changes);
        }
        route.execute(batch)?;
        Ok(Bridge {
            index: link.index,
            created,
            ours: created || link.alias.as_deref() == Some(alias(&plan.owner)),
        })
    }

    /// Removes the bridge of `owner`; true when it was there. One that is somebody else's stays.
    pub fn release_bridge(&self, name: &LinkName, owner: &str) -> Result<bool> {
        match self.find_link(name)? {
            Some(link) if link.alias.as_deref() == Some(alias(owner)) => {
                self.remove_link(name)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Whether a bridge that has this address should not.
fn foreign(plan: &BridgePlan, present: Prefix) -> bool {
    let link_local = matches!(present.address(), std::net::IpAddr::V6(address)
        if address.segments()[..4] == [0xfe80, 0, 0, 0]);
    let of_a_planned_family = plan
        .addresses
        .iter()
        .any(|address| address.is_ipv4() == present.is_ipv4());
    of_a_planned_family && !link_local && !plan.addresses.contains(&present)
}

/// The mark as the kernel can keep it.
pub(crate) fn alias(owner: &str) -> &str {
    let end = (0..=owner.len().min(limits::LINK_ALIAS))
        .rev()
        .find(|end| owner.is_char_boundary(*end));
    &owner[..end.unwrap_or(0)]
}

fn create(route: &mut Route, plan: &BridgePlan) -> Result<Link> {
    let name = plan.name.as_str();
    let mut attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(plan.hardware_address.0.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            // VLAN filtering is off by itself; naming it fails in kernels without it.
            LinkInfo::Data(InfoData::Bridge(vec![
                InfoBridge::StpState(BridgeStpState::Disabled),
                // Without a querier, which containers are not, a bridge floods groups all the same; but each port that
                // comes would start the timers of all others anew, a millisecond beside a thousand.
                InfoBridge::MulticastSnooping(false),
            ])),
        ]),
    ];
    attributes.extend(plan.mtu.map(LinkAttribute::Mtu));
    let message: LinkMessage = message::link(0, attributes);
    let mut batch = Batch::new();
    batch.create_link(format!("create bridge {name}"), message);
    // The kernel does not take an alias while it makes a link.
    let mark = message::link(
        0,
        vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::IfAlias(alias(&plan.owner).to_owned()),
        ],
    );
    batch.change_link(format!("mark bridge {name}"), mark);
    route.execute(batch)?;
    Ok(route.link(name)?)
}
