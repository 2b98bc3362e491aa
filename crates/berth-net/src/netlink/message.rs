//! The requests we make, as typed messages.

use std::net::IpAddr;

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::Prefix;

/// The family of an address.
pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A message about the link with this number (0: the one its attributes name).
pub(crate) fn link(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

/// Lets `message` set the link up or down.
pub(crate) fn set_up(message: &mut LinkMessage, up: bool) {
    message.header.change_mask |= LinkFlags::Up;
    message.header.flags.set(LinkFlags::Up, up);
}

/// Asks for a link by name, or for all of them; without counters, which make the answer long.
pub(crate) fn get_link(name: Option<&str>) -> RouteNetlinkMessage {
    let mut attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    if let Some(name) = name {
        attributes.push(LinkAttribute::IfName(name.to_owned()));
    }
    RouteNetlinkMessage::GetLink(link(0, attributes))
}

/// Asks for a link by number.
pub(crate) fn get_link_by_index(index: u32) -> RouteNetlinkMessage {
    let skip = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    RouteNetlinkMessage::GetLink(link(index, vec![skip]))
}

/// An address of a link.
///
/// IPv6 addresses are usable at once (`IFA_F_NODAD`): who gives them out knows that nobody else has them.
pub(crate) fn address(link: u32, prefix: Prefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(prefix.address());
    message.header.prefix_len = prefix.length();
    message.header.index = link;
    let address = prefix.address();
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    match address {
        IpAddr::V4(address) => {
            if address.is_link_local() {
                message.header.scope = AddressScope::Link;
            }
            if prefix.length() < 31
                && let IpAddr::V4(last) = prefix.last()
            {
                message.attributes.push(AddressAttribute::Broadcast(last));
            }
        }
        IpAddr::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

/// A route of the main table by `link`, over `gateway` or on the link itself.
pub(crate) fn route(destination: Prefix, link: u32, gateway: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.address());
    message.header.destination_prefix_length = destination.length();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match (gateway, destination.address()) {
        (None, IpAddr::V4(_)) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    if destination.length() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(destination.first().into()));
    }
    message.attributes.push(RouteAttribute::Oif(link));
    if let Some(gateway) = gateway {
        message
            .attributes
            .push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
    }
    message
}

/// Asks for all routes of a family.
pub(crate) fn get_routes(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    RouteNetlinkMessage::GetRoute(message)
}

/// Asks for all addresses.
pub(crate) fn get_addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}
