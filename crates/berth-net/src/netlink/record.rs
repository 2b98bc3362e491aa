//! What is kept of the kernel's tables: links, addresses, routes.
//!
//! Layouts: `include/uapi/linux/rtnetlink.h`, `if_link.h`, `if_addr.h`. Attributes not named here are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_TYPE_MASK, NlasIterator};
use rustix::net::AddressFamily;

use super::socket::{Reply, text, word};
use crate::address::{HardwareAddress, Prefix};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;
/// The state of a bridge's port that takes part in nothing yet (`BR_STATE_DISABLED`).
const PORT_DISABLED: u8 = 0;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
const IFF_LOWER_UP: u32 = 1 << 16;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number within its namespace.
    pub index: u32,
    /// Its name within its namespace.
    pub name: String,
    /// What it is ("bridge", "veth", "vlan"); `None` for hardware and loopback.
    pub kind: Option<String>,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Its Ethernet address, when it has one.
    pub hardware_address: Option<HardwareAddress>,
    /// The link it is a port of.
    pub master: Option<u32>,
    /// The link it lies on (VLAN, macvlan), or the other end of a pair.
    pub parent: Option<u32>,
    /// Words kept with it; we write there whose it is.
    pub alias: Option<String>,
    /// Whether it is set up.
    pub up: bool,
    /// Whether there is somebody at the other end.
    pub carrier: bool,
    /// Whether it is a loopback interface.
    pub loopback: bool,
    /// Whether it is a port of a bridge that has not noticed the link to be up.
    pub port_disabled: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub link: u32,
    /// The address with the length of its network's prefix.
    pub prefix: Prefix,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteEntry {
    /// Where to.
    pub destination: Prefix,
    /// The next hop; `None` when on the link itself.
    pub gateway: Option<IpAddr>,
    /// The interface; the first one of several.
    pub link: Option<u32>,
    /// The table, 254 being the main one.
    pub table: u32,
    /// The metric; the smallest wins.
    pub metric: u32,
    /// The kind, 1 being an ordinary route (`RTN_UNICAST`).
    pub kind: u8,
    /// Bytes of the largest packet, when the route says.
    pub mtu: Option<u32>,
}

/// The route for everything that has no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The interface's number.
    pub link: u32,
    /// The interface's name.
    pub name: String,
    /// The next hop; `None` when on the link itself.
    pub gateway: Option<IpAddr>,
    /// Bytes of the largest packet: the route's, else the interface's.
    pub mtu: u32,
}

/// Gives each attribute to `each`, up to the first that is malformed.
fn attributes(bytes: &[u8], mut each: impl FnMut(u16, &[u8])) {
    for attribute in NlasIterator::new(bytes).map_while(Result::ok) {
        each(attribute.kind() & NLA_TYPE_MASK, attribute.value());
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

impl Link {
    /// Reads an `RTM_NEWLINK`; `None` for any other message.
    #[must_use]
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        let header = reply.payload.first_chunk::<16>()?;
        if reply.message_type != RTM_NEWLINK {
            return None;
        }
        let flags = word(&header[8..12]);
        let mut link = Self {
            index: word(&header[4..8]),
            name: String::new(),
            kind: None,
            mtu: 0,
            hardware_address: None,
            master: None,
            parent: None,
            alias: None,
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            loopback: flags & IFF_LOOPBACK != 0,
            port_disabled: false,
        };
        attributes(&reply.payload[16..], |kind, value| match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = word(value),
            IFLA_MASTER => link.master = Some(word(value)),
            IFLA_LINK => link.parent = Some(word(value)),
            IFLA_IFALIAS => link.alias = Some(text(value)),
            IFLA_ADDRESS => {
                link.hardware_address = <[u8; 6]>::try_from(value).ok().map(HardwareAddress);
            }
            IFLA_LINKINFO => attributes(value, |kind, value| match kind {
                IFLA_INFO_KIND => link.kind = Some(text(value)),
                // The same number means something else for ports of a bond, which this is not read for.
                IFLA_INFO_SLAVE_DATA => attributes(value, |kind, value| {
                    if kind == IFLA_BRPORT_STATE {
                        link.port_disabled = value == [PORT_DISABLED];
                    }
                }),
                _ => {}
            }),
            _ => {}
        });
        Some(link)
    }
}

impl Address {
    /// Reads an `RTM_NEWADDR`; `None` for any other message.
    #[must_use]
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        let header = reply.payload.first_chunk::<8>()?;
        if reply.message_type != RTM_NEWADDR {
            return None;
        }
        let (mut local, mut peer) = (None, None);
        attributes(&reply.payload[8..], |kind, value| match kind {
            // On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has IFA_ADDRESS alone.
            IFA_LOCAL => local = address(value),
            IFA_ADDRESS => peer = address(value),
            _ => {}
        });
        Some(Self {
            link: word(&header[4..8]),
            prefix: Prefix::new(local.or(peer)?, header[1])?,
        })
    }
}

impl RouteEntry {
    /// Reads an `RTM_NEWROUTE`; `None` for any other message and for families other than IP.
    #[must_use]
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        let header = reply.payload.first_chunk::<12>()?;
        if reply.message_type != RTM_NEWROUTE {
            return None;
        }
        let unspecified: IpAddr = match AddressFamily::from_raw(header[0].into()) {
            AddressFamily::INET => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut route = Self {
            destination: Prefix::new(unspecified, 0)?,
            gateway: None,
            link: None,
            table: header[4].into(),
            metric: 0,
            kind: header[7],
            mtu: None,
        };
        let mut destination = unspecified;
        attributes(&reply.payload[12..], |kind, value| match kind {
            RTA_DST => destination = address(value).unwrap_or(unspecified),
            RTA_OIF => route.link = Some(word(value)),
            RTA_GATEWAY => route.gateway = address(value),
            RTA_PRIORITY => route.metric = word(value),
            RTA_TABLE => route.table = word(value),
            RTA_METRICS => attributes(value, |kind, value| {
                if kind == RTAX_MTU {
                    route.mtu = Some(word(value));
                }
            }),
            // struct rtnexthop: length, flags, hops, interface; then the next hop's own attributes.
            RTA_MULTIPATH if value.len() >= 8 => {
                route.link = Some(word(&value[4..8]));
                let length = usize::from(u16::from_ne_bytes([value[0], value[1]]));
                attributes(value.get(8..length).unwrap_or_default(), |kind, value| {
                    if kind == RTA_GATEWAY {
                        route.gateway = address(value);
                    }
                });
            }
            _ => {}
        });
        route.destination = Prefix::new(destination, header[1])?;
        Some(route)
    }
}
