//! The set elements that say what shall be filtered and translated: what each part puts into the sets of
//! [`super::schema`]. Pure; knows no netlink.
//!
//! Invariant: a container that publishes nothing, on a network whose members may talk, needs no element at all.

use std::net::IpAddr;

use super::parts::{Endpoint, GatewayMode, Link, Network, Policy, Published};
use super::schema::{Data, Element, Keyed, Scope, Set, interface_key, key, protocol_field};
use crate::limits::RANGE_AS_INTERVAL;

pub(super) fn network_elements(network: &Network) -> Vec<Element> {
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

pub(super) fn endpoint_elements(endpoint: &Endpoint, network: Option<&Network>) -> Vec<Element> {
    match network {
        Some(network) if !network.icc => vec![Element::of(
            Set::Apart,
            interface_key(&endpoint.port).to_vec(),
        )],
        _ => Vec::new(),
    }
}

pub(super) fn link_elements(link: &Link) -> Vec<Element> {
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

pub(super) fn port_elements(port: &Published, network: Option<&Network>) -> Vec<Element> {
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
    use std::net::Ipv4Addr;

    use super::*;
    use crate::firewall::parts::Protocol;

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
