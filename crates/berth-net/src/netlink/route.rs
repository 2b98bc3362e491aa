//! Asking about links, addresses and routes.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{
    Address, Batch, DefaultRoute, Error, Link, Namespace, Protocol, Refusal, Result, RouteEntry,
    Socket, message,
};
use crate::address::Prefix;

/// The main table, which `ip route` shows (`RT_TABLE_MAIN`).
const MAIN_TABLE: u32 = 254;
/// The table of a machine's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;
/// An ordinary route (`RTN_UNICAST`).
const UNICAST: u8 = 1;

/// A conversation about the links, addresses and routes of one namespace.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
}

impl Route {
    /// About the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        Ok(Self {
            socket: Socket::open(Protocol::Route)?,
        })
    }

    /// About `namespace`, whichever the calling thread is in now or later.
    pub fn open_in(namespace: &Namespace) -> Result<Self> {
        Ok(Self {
            socket: Socket::open_in(Protocol::Route, namespace)?,
        })
    }

    /// Carries out a batch.
    pub fn execute(&mut self, batch: Batch) -> Result<()> {
        self.socket.execute(batch)
    }

    /// The link of this name.
    pub fn find_link(&mut self, name: &str) -> Result<Option<Link>> {
        let attempt = format!("look for link {name}");
        self.socket
            .query(&attempt, &message::get_link(Some(name)), Link::read)
    }

    /// The link of this number.
    pub fn find_link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        let attempt = format!("look for link number {index}");
        self.socket
            .query(&attempt, &message::get_link_by_index(index), Link::read)
    }

    /// The link of this name, which must be there.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        self.find_link(name)?.ok_or_else(|| Error::Refused {
            attempt: format!("look for link {name}"),
            source: Refusal {
                errno: Errno::NODEV,
                words: None,
            },
        })
    }

    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        self.socket
            .dump("list links", &message::get_link(None), Link::read)
    }

    /// All addresses of all links.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        self.socket
            .dump("list addresses", &message::get_addresses(), Address::read)
    }

    /// All ordinary routes of all tables but the one of the machine's own addresses.
    pub fn routes(&mut self) -> Result<Vec<RouteEntry>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let read = |reply: super::Reply<'_>| {
                RouteEntry::read(reply)
                    .filter(|route| route.kind == UNICAST && route.table != LOCAL_TABLE)
            };
            match self
                .socket
                .dump("list routes", &message::get_routes(family), read)
            {
                Ok(found) => routes.extend(found),
                // A kernel without IPv6.
                Err(error)
                    if family == AddressFamily::Inet6
                        && error.errno() == Some(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }

    /// The default route of a family: of several the one with the smallest metric.
    pub fn default_route(&mut self, ipv4: bool) -> Result<Option<DefaultRoute>> {
        let best = self
            .routes()?
            .into_iter()
            .filter(|route| {
                route.table == MAIN_TABLE
                    && route.destination.length() == 0
                    && route.destination.is_ipv4() == ipv4
            })
            .min_by_key(|route| route.metric);
        let Some(route) = best else { return Ok(None) };
        let Some(index) = route.link else {
            return Ok(None);
        };
        // It may have gone since it was listed, and its route with it.
        Ok(self.find_link_by_index(index)?.map(|link| DefaultRoute {
            link: index,
            name: link.name,
            gateway: route.gateway,
            mtu: route.mtu.filter(|mtu| *mtu > 0).unwrap_or(link.mtu),
        }))
    }
}

impl Batch {
    /// Makes a link. What exists already is an error.
    pub fn create_link(&mut self, attempt: impl Into<String>, message: LinkMessage) {
        let flags = NLM_F_CREATE | netlink_packet_core::NLM_F_EXCL;
        self.push(attempt, flags, &RouteNetlinkMessage::NewLink(message));
    }

    /// Changes a link that exists, kind-specific settings included.
    pub fn change_link(&mut self, attempt: impl Into<String>, message: LinkMessage) {
        self.push(attempt, 0, &RouteNetlinkMessage::NewLink(message));
    }

    /// Removes the link that the message names; one that is not there is fine.
    pub fn remove_link(&mut self, attempt: impl Into<String>, message: LinkMessage) {
        let message = RouteNetlinkMessage::DelLink(message);
        self.push_tolerant(attempt, 0, &message, &[Errno::NODEV]);
    }

    /// Gives a link an address; one it has already is fine.
    pub fn add_address(&mut self, link: u32, name: &str, prefix: Prefix) {
        self.push_tolerant(
            format!("give {name} the address {prefix}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            &RouteNetlinkMessage::NewAddress(message::address(link, prefix)),
            &[Errno::EXIST],
        );
    }

    /// Takes an address from a link; one it does not have is fine.
    pub fn remove_address(&mut self, link: u32, name: &str, prefix: Prefix) {
        self.push_tolerant(
            format!("take the address {prefix} from {name}"),
            0,
            &RouteNetlinkMessage::DelAddress(message::address(link, prefix)),
            &[Errno::ADDRNOTAVAIL],
        );
    }

    /// Routes `destination` by a link, over a gateway or on the link itself, in place of another such route.
    pub fn replace_route(
        &mut self,
        destination: Prefix,
        link: u32,
        name: &str,
        gateway: Option<IpAddr>,
    ) {
        let by = gateway.map_or_else(String::new, |gateway| format!("{gateway} on "));
        self.push(
            format!("route {destination} by {by}{name}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            &RouteNetlinkMessage::NewRoute(message::route(destination, link, gateway)),
        );
    }

    /// Removes a route; one that is not there is fine.
    pub fn remove_route(&mut self, destination: Prefix, link: u32, gateway: Option<IpAddr>) {
        self.push_tolerant(
            format!("remove the route to {destination}"),
            0,
            &RouteNetlinkMessage::DelRoute(message::route(destination, link, gateway)),
            &[Errno::SRCH, Errno::NODEV],
        );
    }
}
