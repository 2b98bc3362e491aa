//! What shall be filtered and translated, as plain data, and the set elements that say so. Pure.
//!
//! Owns the vocabulary ([`Network`], [`Endpoint`], [`Published`], [`Link`]), what each of them puts into the sets
//! of [`super::schema`], and the book of what is wanted ([`Book`]). Knows no netlink.
//!
//! Invariants:
//! - A container that publishes nothing, on a network whose members may talk, needs no element at all.
//! - What a change costs depends on the change alone, never on what is already there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::schema::{Data, Element, Keyed, Scope, Set, interface_key, key, protocol_field};
use crate::address::Prefix;
use crate::limits::RANGE_AS_INTERVAL;

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
    /// Whom the host's own input rules let in; the container sees the gateway's address as the source.
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

    fn mode(&self, ipv4: bool) -> GatewayMode {
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

/// Set elements to send to the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Elements that go, before `added` come.
    pub(crate) removed: Vec<Element>,
    /// Elements that come.
    pub(crate) added: Vec<Element>,
}

/// All that is wanted, with the number of reasons for each element.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    networks: BTreeMap<String, Network>,
    endpoints: BTreeMap<String, Endpoint>,
    ports: BTreeMap<Published, ()>,
    links: BTreeMap<Link, ()>,
    reasons: BTreeMap<Element, u32>,
}

impl Book {
    /// Enters a change, and answers what the kernel has to be told, and the change that takes this one back.
    pub(crate) fn enter(&mut self, change: &Change) -> (Difference, Change) {
        let mut back = Change::default();
        let mut moves: BTreeMap<Element, i64> = BTreeMap::new();
        let mut count = |elements: Vec<Element>, by: i64| {
            for element in elements {
                *moves.entry(element).or_default() += by;
            }
        };
        // What hangs on a network goes before it and comes after it, since its elements depend on the network.
        for link in &change.removed.links {
            if self.links.remove(link).is_some() {
                count(link_elements(link), -1);
                back.added.links.push(link.clone());
            }
        }
        for port in &change.removed.ports {
            if self.ports.remove(port).is_some() {
                count(port_elements(port, self.networks.get(&port.bridge)), -1);
                back.added.ports.push(port.clone());
            }
        }
        for endpoint in &change.removed.endpoints {
            if let Some(old) = self.endpoints.remove(&endpoint.port) {
                count(endpoint_elements(&old, self.networks.get(&old.bridge)), -1);
                back.added.endpoints.push(old);
            }
        }
        for network in &change.removed.networks {
            if let Some(old) = self.networks.get(&network.bridge) {
                count(self.network_with_dependents(old), -1);
                back.added
                    .networks
                    .extend(self.networks.remove(&network.bridge));
                count(self.dependents(&network.bridge), 1);
            }
        }
        for network in &change.added.networks {
            if let Some(old) = self.networks.get(&network.bridge) {
                count(network_elements(old), -1);
            }
            count(self.dependents(&network.bridge), -1);
            match self
                .networks
                .insert(network.bridge.clone(), network.clone())
            {
                Some(old) => back.added.networks.push(old),
                None => back.removed.networks.push(network.clone()),
            }
            count(self.network_with_dependents(network), 1);
        }
        for endpoint in &change.added.endpoints {
            if let Some(old) = self
                .endpoints
                .insert(endpoint.port.clone(), endpoint.clone())
            {
                count(endpoint_elements(&old, self.networks.get(&old.bridge)), -1);
                back.added.endpoints.push(old);
            } else {
                back.removed.endpoints.push(endpoint.clone());
            }
            count(
                endpoint_elements(endpoint, self.networks.get(&endpoint.bridge)),
                1,
            );
        }
        for port in &change.added.ports {
            if self.ports.insert(port.clone(), ()).is_none() {
                count(port_elements(port, self.networks.get(&port.bridge)), 1);
                back.removed.ports.push(port.clone());
            }
        }
        for link in &change.added.links {
            if self.links.insert(link.clone(), ()).is_none() {
                count(link_elements(link), 1);
                back.removed.links.push(link.clone());
            }
        }
        (self.settle(moves), back)
    }

    /// Every element that is wanted.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Element> {
        self.reasons.keys()
    }

    /// The bridges of all networks.
    pub(crate) fn bridges(&self) -> impl Iterator<Item = &str> {
        self.networks.keys().map(String::as_str)
    }

    /// Whether some network keeps its members apart, so that frames between ports have to be looked at.
    #[must_use]
    pub(crate) fn keeps_members_apart(&self) -> bool {
        self.networks.values().any(|network| !network.icc)
    }

    /// Everything in the book.
    #[must_use]
    pub(crate) fn parts(&self) -> Parts {
        Parts {
            networks: self.networks.values().cloned().collect(),
            endpoints: self.endpoints.values().cloned().collect(),
            ports: self.ports.keys().cloned().collect(),
            links: self.links.keys().cloned().collect(),
        }
    }

    fn settle(&mut self, moves: BTreeMap<Element, i64>) -> Difference {
        let mut difference = Difference::default();
        for (element, by) in moves {
            let before = i64::from(self.reasons.get(&element).copied().unwrap_or(0));
            let after = (before + by).max(0);
            if after == 0 {
                self.reasons.remove(&element);
            } else {
                self.reasons
                    .insert(element.clone(), u32::try_from(after).unwrap_or(u32::MAX));
            }
            match (before, after) {
                (0, 1..) => difference.added.push(element),
                (1.., 0) => difference.removed.push(element),
                _ => {}
            }
        }
        difference
    }

    fn network_with_dependents(&self, network: &Network) -> Vec<Element> {
        let mut elements = network_elements(network);
        elements.extend(self.dependents(&network.bridge));
        elements
    }

    /// The elements of what lies in the network as the book has it now; found by a walk, which only a network that
    /// is changed or goes costs.
    fn dependents(&self, bridge: &str) -> Vec<Element> {
        let network = self.networks.get(bridge);
        let endpoints = self
            .endpoints
            .values()
            .filter(|endpoint| endpoint.bridge == bridge)
            .flat_map(|endpoint| endpoint_elements(endpoint, network));
        let ports = self
            .ports
            .keys()
            .filter(|port| port.bridge == bridge)
            .flat_map(|port| port_elements(port, network));
        endpoints.chain(ports).collect()
    }
}

fn network_elements(network: &Network) -> Vec<Element> {
    let bridge = interface_key(&network.bridge);
    let twice = [bridge, bridge].concat();
    let mut elements = vec![
        Element::of(Set::Bridges, bridge.to_vec()),
        Element::of(Set::Within, twice.clone()),
    ];
    if network.icc {
        elements.push(Element::of(Set::Open, twice));
    }
    for (ipv4, from, to) in [(true, Set::From4, Set::To4), (false, Set::From6, Set::To6)] {
        let mode = network.mode(ipv4);
        let class = if network.internal || mode == GatewayMode::Isolated {
            elements.push(Element::jump(from, bridge.to_vec(), "from-internal"));
            "into-internal"
        } else {
            match mode {
                GatewayMode::Nat => "into-nat",
                GatewayMode::NatUnprotected => "into-unprotected",
                GatewayMode::Routed | GatewayMode::Isolated => "into-routed",
            }
        };
        elements.push(Element::jump(to, bridge.to_vec(), class));
    }
    if network.internal {
        return elements;
    }
    for interface in &network.trusted {
        let pair = [interface_key(interface), bridge].concat();
        elements.push(Element::of(Set::Trusted, pair));
    }
    for subnet in &network.subnets {
        let ipv4 = subnet.is_ipv4();
        let first = [bridge.to_vec(), key(&[subnet.first().into()])].concat();
        let last = [bridge.to_vec(), key(&[subnet.last().into()])].concat();
        elements.push(Element {
            set: if ipv4 { Set::Members4 } else { Set::Members6 },
            key: first.clone(),
            last: Some(last.clone()),
            data: Data::None,
        });
        if !network.masquerade
            || !matches!(
                network.mode(ipv4),
                GatewayMode::Nat | GatewayMode::NatUnprotected
            )
        {
            continue;
        }
        let (plain, fixed, address) = if ipv4 {
            let address = network.host_ipv4.map(IpAddr::V4);
            (Set::Masquerade4, Set::Snat4, address)
        } else {
            let address = network.host_ipv6.map(IpAddr::V6);
            (Set::Masquerade6, Set::Snat6, address)
        };
        elements.push(match address {
            Some(address) => Element {
                set: fixed,
                key: first,
                last: Some(last),
                data: Data::Value(key(&[address.into()])),
            },
            None => Element {
                set: plain,
                key: first,
                last: Some(last),
                data: Data::None,
            },
        });
    }
    elements
}

fn endpoint_elements(endpoint: &Endpoint, network: Option<&Network>) -> Vec<Element> {
    match network {
        Some(network) if !network.icc => vec![Element::of(
            Set::Apart,
            interface_key(&endpoint.port).to_vec(),
        )],
        _ => Vec::new(),
    }
}

fn link_elements(link: &Link) -> Vec<Element> {
    if link.from.is_ipv4() != link.to.is_ipv4() {
        return Vec::new();
    }
    let (sets, back) = if link.from.is_ipv4() {
        ([Set::Links4, Set::BridgeLinks4], Set::BridgeAnswers4)
    } else {
        ([Set::Links6, Set::BridgeLinks6], Set::BridgeAnswers6)
    };
    let protocol = protocol_field(link.protocol);
    let there = key(&[link.from.into(), link.to.into(), protocol, link.port.into()]);
    let again = key(&[link.to.into(), link.from.into(), protocol, link.port.into()]);
    vec![
        Element::of(sets[0], there.clone()),
        Element::of(sets[1], there),
        Element::of(back, again),
    ]
}

fn port_elements(port: &Published, network: Option<&Network>) -> Vec<Element> {
    let mut elements = Vec::new();
    if network.is_some_and(|network| network.internal) {
        return elements;
    }
    let ipv4 = port.container.is_ipv4();
    let mode = network.map_or(GatewayMode::Nat, |network| network.mode(ipv4));
    let protocol = protocol_field(port.protocol);
    let routed = matches!(mode, GatewayMode::Routed | GatewayMode::Isolated);
    if routed || network.is_some_and(|network| !network.trusted.is_empty()) {
        let set = if ipv4 { Set::Exposed4 } else { Set::Exposed6 };
        for number in ports_from(port.container_port, port.count) {
            let exposed = key(&[port.container.into(), protocol, number.into()]);
            elements.push(Element::of(set, exposed));
        }
    }
    if routed || port.first == 0 || port.host.is_ipv4() != ipv4 {
        return elements;
    }
    let apart = network.is_some_and(|network| !network.icc);
    if apart && port.policy == Policy::Compat && !port.host.is_loopback() {
        let set = if ipv4 {
            Set::BridgePublished4
        } else {
            Set::BridgePublished6
        };
        for number in ports_from(port.container_port, port.count) {
            let inside = key(&[port.container.into(), protocol, number.into()]);
            elements.push(Element::of(set, inside));
        }
    }
    let host = (!port.host.is_unspecified()).then_some(port.host);
    // Whole ranges that keep their numbers are one interval; the sets of intervals are copied by the kernel at
    // each change, so small ranges are better off as single ports.
    let range = port.count >= RANGE_AS_INTERVAL && port.first == port.container_port;
    let keyed = Keyed {
        ipv4,
        exact: host.is_some(),
        range,
    };
    // Nothing is ever translated that comes from elsewhere for 127.0.0.0/8.
    let scope = match port.policy {
        Policy::Compat if !port.host.is_loopback() => Scope::Public,
        _ => Scope::Local,
    };
    let sealed = port.policy == Policy::Loopback && !port.host.is_loopback();
    let host_key = |number: u16| match host {
        Some(address) => key(&[address.into(), protocol, number.into()]),
        None => key(&[protocol, number.into()]),
    };
    let mut push = |first: u16, last: Option<u16>, data: Vec<u8>| {
        let last = last.map(host_key);
        if sealed {
            elements.push(Element {
                set: Set::Sealed(keyed),
                key: host_key(first),
                last: last.clone(),
                data: Data::None,
            });
        }
        elements.push(Element {
            set: Set::Translate(scope, keyed),
            key: host_key(first),
            last,
            data: Data::Value(data),
        });
    };
    if range {
        let last = port.first.saturating_add(port.count - 1);
        push(port.first, Some(last), key(&[port.container.into()]));
    } else {
        let pairs =
            ports_from(port.first, port.count).zip(ports_from(port.container_port, port.count));
        for (outside, inside) in pairs {
            push(outside, None, key(&[port.container.into(), inside.into()]));
        }
    }
    elements
}

fn ports_from(first: u16, count: u16) -> impl Iterator<Item = u16> {
    first..=first.saturating_add(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str) -> Network {
        Network::new(name, vec!["172.18.0.0/24".parse().unwrap()])
    }

    fn port(first: u16, count: u16) -> Published {
        Published {
            bridge: "br-a".into(),
            protocol: Protocol::Tcp,
            host: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            first,
            count,
            container: "172.18.0.2".parse().unwrap(),
            container_port: first,
            policy: Policy::Compat,
        }
    }

    fn adding(parts: Parts) -> Change {
        Change {
            added: parts,
            ..Change::default()
        }
    }

    #[test]
    fn a_member_that_publishes_nothing_costs_nothing() {
        let mut book = Book::default();
        book.enter(&adding(Parts {
            networks: vec![network("br-a")],
            ..Parts::default()
        }));
        let difference = book.enter(&adding(Parts {
            endpoints: vec![Endpoint {
                bridge: "br-a".into(),
                port: "veth1".into(),
                addresses: vec!["172.18.0.2".parse().unwrap()],
            }],
            ..Parts::default()
        }));
        assert_eq!(difference.0, Difference::default());
    }

    #[test]
    fn what_comes_goes_again_completely() {
        let mut book = Book::default();
        let mut apart = network("br-b");
        apart.icc = false;
        apart.trusted = vec!["eth1".into()];
        let parts = Parts {
            networks: vec![network("br-a"), apart],
            endpoints: vec![Endpoint {
                bridge: "br-b".into(),
                port: "veth1".into(),
                addresses: vec!["172.18.0.2".parse().unwrap()],
            }],
            ports: vec![port(80, 1), port(8000, 200)],
            links: vec![Link {
                from: "172.18.0.2".parse().unwrap(),
                to: "172.18.0.3".parse().unwrap(),
                protocol: Protocol::Tcp,
                port: 80,
            }],
        };
        let added = book.enter(&adding(parts.clone())).0.added;
        assert!(book.keeps_members_apart());
        assert_eq!(book.enter(&adding(parts.clone())).0, Difference::default());
        let removed = book
            .enter(&Change {
                removed: parts,
                ..Change::default()
            })
            .0
            .removed;
        assert_eq!(added, removed);
        assert_eq!(book.elements().count(), 0);
    }

    #[test]
    fn a_change_is_taken_back() {
        let mut book = Book::default();
        let first = Parts {
            networks: vec![network("br-a")],
            ports: vec![port(80, 1)],
            ..Parts::default()
        };
        book.enter(&adding(first.clone()));
        let mut routed = network("br-a");
        routed.mode4 = GatewayMode::Routed;
        let (there, back) = book.enter(&Change {
            removed: Parts {
                ports: vec![port(80, 1)],
                ..Parts::default()
            },
            added: Parts {
                networks: vec![routed, network("br-b")],
                ports: vec![port(81, 1)],
                ..Parts::default()
            },
        });
        let (again, _) = book.enter(&back);
        assert_eq!(book.parts(), first);
        assert_eq!((there.added, there.removed), (again.removed, again.added));
    }

    #[test]
    fn the_order_of_network_and_port_does_not_matter() {
        let mut routed = network("br-a");
        routed.mode4 = GatewayMode::Routed;
        let with_network = Parts {
            networks: vec![routed],
            ..Parts::default()
        };
        let with_port = Parts {
            ports: vec![port(80, 1)],
            ..Parts::default()
        };
        let mut one = Book::default();
        one.enter(&adding(with_network.clone()));
        one.enter(&adding(with_port.clone()));
        let mut other = Book::default();
        other.enter(&adding(with_port));
        other.enter(&adding(with_network));
        assert_eq!(
            one.elements().collect::<Vec<_>>(),
            other.elements().collect::<Vec<_>>()
        );
    }

    #[test]
    fn long_ranges_are_one_element() {
        let elements = port_elements(&port(10_000, 10_000), Some(&network("br-a")));
        assert_eq!(elements.len(), 1);
        let mut shifted = port(8000, 100);
        shifted.container_port = 9000;
        assert_eq!(port_elements(&shifted, Some(&network("br-a"))).len(), 100);
    }

    #[test]
    fn a_loopback_address_is_for_the_host_alone() {
        let mut loopback = port(80, 1);
        loopback.host = "127.0.0.1".parse().unwrap();
        let elements = port_elements(&loopback, None);
        assert!(matches!(
            elements[..],
            [Element {
                set: Set::Translate(Scope::Local, _),
                ..
            }]
        ));
    }
}
