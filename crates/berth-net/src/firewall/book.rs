//! The book of what shall be filtered and translated. Pure.
//!
//! Owns everything that is wanted ([`Book`]), and answers each change with the set elements that come and go.
//!
//! Invariant: what a change costs depends on the change alone, never on what is already there.

use std::collections::BTreeMap;

use super::parts::{Change, Endpoint, Link, Network, Parts, Published};
use super::plan::{endpoint_elements, link_elements, network_elements, port_elements};
use super::schema::Element;

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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::firewall::parts::{GatewayMode, Policy, Protocol};

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
}
