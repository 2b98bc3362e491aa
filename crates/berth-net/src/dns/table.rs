//! One look-up over all networks of a container.
//!
//! Owns what was read of the documents, and the turn of members that share a name. Reads a document anew as soon as its
//! file is another one, so that an answer is never older than the last replacement.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::names::{Identity, NetworkNames};

/// The names that one container sees.
#[derive(Debug, Default)]
pub struct NameTable {
    container: String,
    networks: Vec<Network>,
    /// Moves on with every answer that has several addresses.
    turn: usize,
}

#[derive(Debug)]
struct Network {
    path: PathBuf,
    identity: Option<Identity>,
    /// As users wrote it, and in lower case.
    title: String,
    name: String,
    names: HashMap<Box<str>, Addresses>,
    /// Alias to target, for our container.
    links: HashMap<Box<str>, Box<str>>,
    reverse: HashMap<IpAddr, Box<str>>,
    subnets: Vec<(IpAddr, u8)>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Addresses {
    ipv4: Vec<Ipv4Addr>,
    ipv6: Vec<Ipv6Addr>,
}

/// Which addresses are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A records.
    Ipv4,
    /// AAAA records.
    Ipv6,
}

/// What is known about an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverse {
    /// `name.network` of the member that has it.
    Name(String),
    /// It is in a subnet of ours, and nobody has it.
    Unused,
    /// It is none of ours.
    Foreign,
}

impl NameTable {
    /// A table over the documents at `networks`, as seen by `container`.
    #[must_use]
    pub fn new(container: &str, networks: &[PathBuf]) -> Self {
        let mut seed = [0_u8; 2];
        // Containers that start together do not all prefer the same member.
        let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::NONBLOCK);
        Self {
            container: container.to_owned(),
            networks: networks.iter().cloned().map(Network::unread).collect(),
            turn: usize::from(u16::from_ne_bytes(seed)),
        }
    }

    /// Reads what has changed. A document that cannot be read leaves what was known, one that is gone has no names.
    pub fn refresh(&mut self) {
        for network in &mut self.networks {
            network.refresh(&self.container);
        }
    }

    /// The addresses of `name` (without a trailing dot; any case) of one family, in this answer's order. `None` when nobody is
    /// called so; empty when it has only addresses of the other family.
    ///
    /// Docker's order: the whole name in any network, then `a.b` in network `c`, then `a` in network `b.c`; in each, links
    /// before names.
    pub fn addresses(&mut self, name: &str, family: Family) -> Option<Vec<IpAddr>> {
        let name = name.to_ascii_lowercase();
        let found = self.find(&name)?;
        let turn = self.turn;
        let addresses: Vec<IpAddr> = match family {
            Family::Ipv4 => rotated(&found.ipv4, turn).map(IpAddr::V4).collect(),
            Family::Ipv6 => rotated(&found.ipv6, turn).map(IpAddr::V6).collect(),
        };
        if addresses.len() > 1 {
            self.turn = self.turn.wrapping_add(1);
        }
        Some(addresses)
    }

    /// Whether somebody is called `name`.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        self.find(&name.to_ascii_lowercase()).is_some()
    }

    /// Whose address this is.
    #[must_use]
    pub fn reverse(&self, address: IpAddr) -> Reverse {
        for network in &self.networks {
            if let Some(name) = network.reverse.get(&address) {
                return Reverse::Name(format!("{name}.{}", network.title));
            }
        }
        let ours = self
            .networks
            .iter()
            .flat_map(|network| &network.subnets)
            .any(|(subnet, length)| contains(*subnet, *length, address));
        if ours {
            Reverse::Unused
        } else {
            Reverse::Foreign
        }
    }

    fn find(&self, name: &str) -> Option<&Addresses> {
        let splits = name
            .rmatch_indices('.')
            .map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
        std::iter::once((name, None))
            .chain(splits)
            .find_map(|(host, network)| self.find_in(host, network))
    }

    fn find_in(&self, host: &str, network: Option<&str>) -> Option<&Addresses> {
        let candidates = || {
            self.networks
                .iter()
                .filter(move |candidate| network.is_none_or(|name| candidate.name == name))
        };
        candidates()
            .find_map(|network| network.names.get(network.links.get(host)?))
            .or_else(|| {
                // A name that is a link here must not find somebody else.
                candidates()
                    .filter(|network| !network.links.contains_key(host))
                    .find_map(|network| network.names.get(host))
            })
    }
}

impl Network {
    fn unread(path: PathBuf) -> Self {
        Self {
            path,
            identity: None,
            title: String::new(),
            name: String::new(),
            names: HashMap::new(),
            links: HashMap::new(),
            reverse: HashMap::new(),
            subnets: Vec::new(),
        }
    }

    fn refresh(&mut self, container: &str) {
        let identity = Identity::of(&self.path);
        if identity == self.identity {
            return;
        }
        let path = std::mem::take(&mut self.path);
        let Some(identity) = identity else {
            *self = Self::unread(path);
            return;
        };
        match NetworkNames::read(&path) {
            Ok(document) => {
                let read = Self::of(document, container);
                *self = Self {
                    path,
                    identity: Some(identity),
                    ..read
                };
            }
            Err(_) => self.path = path,
        }
    }

    fn of(document: NetworkNames, container: &str) -> Self {
        let mut network = Self::unread(PathBuf::new());
        for member in document.members {
            for name in &member.names {
                let entry = network
                    .names
                    .entry(name.to_ascii_lowercase().into())
                    .or_default();
                entry.add(member.ipv4, member.ipv6);
            }
            if let Some(name) = member.names.first() {
                let addresses = [member.ipv4.map(IpAddr::V4), member.ipv6.map(IpAddr::V6)];
                for address in addresses.into_iter().flatten() {
                    network
                        .reverse
                        .entry(address)
                        .or_insert_with(|| name.as_str().into());
                }
            }
            if member.container == container {
                for link in member.links {
                    network.links.insert(
                        link.name.to_ascii_lowercase().into(),
                        link.target.to_ascii_lowercase().into(),
                    );
                }
            }
        }
        network.subnets = document
            .subnets
            .iter()
            .filter_map(|text| {
                let (address, length) = text.split_once('/')?;
                Some((address.parse().ok()?, length.parse().ok()?))
            })
            .collect();
        network.name = document.name.to_ascii_lowercase();
        network.title = document.name;
        network
    }
}

impl Addresses {
    fn add(&mut self, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) {
        if let Some(address) = ipv4
            && !self.ipv4.contains(&address)
        {
            self.ipv4.push(address);
        }
        if let Some(address) = ipv6
            && !self.ipv6.contains(&address)
        {
            self.ipv6.push(address);
        }
    }
}

fn rotated<T: Copy>(list: &[T], turn: usize) -> impl Iterator<Item = T> {
    let start = turn.checked_rem(list.len()).unwrap_or_default();
    list[start..].iter().chain(&list[..start]).copied()
}

fn contains(subnet: IpAddr, length: u8, address: IpAddr) -> bool {
    let length = u32::from(length);
    match (subnet, address) {
        (IpAddr::V4(subnet), IpAddr::V4(address)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or_default();
            (subnet.to_bits() ^ address.to_bits()) & mask == 0
        }
        (IpAddr::V6(subnet), IpAddr::V6(address)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or_default();
            (subnet.to_bits() ^ address.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::{Link, Member};
    use super::*;

    fn member(container: &str, names: &[&str], last: u8) -> Member {
        Member {
            container: container.into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ipv4: Some(Ipv4Addr::new(10, 1, 0, last)),
            ..Member::default()
        }
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 1, 0, last))
    }

    #[test]
    fn names_are_found_as_docker_finds_them() {
        let directory = tempfile::tempdir().unwrap();
        let (front, back) = (
            directory.path().join("front"),
            directory.path().join("back"),
        );
        let mut names = NetworkNames::new("Front.Net");
        names.subnets.push("10.1.0.0/16".into());
        names.members = vec![
            member("me", &["me"], 1),
            member("w1", &["Web1", "web"], 2),
            member("w2", &["web2", "web"], 3),
        ];
        names.members[0].links.push(Link {
            name: "DB".into(),
            target: "web2".into(),
        });
        names.write(&front).unwrap();
        let mut other = NetworkNames::new("back");
        other.members = vec![member("d", &["db"], 9), member("x", &["web1"], 8)];
        other.members[0].ipv6 = Some(Ipv6Addr::LOCALHOST);
        other.write(&back).unwrap();

        let mut table = NameTable::new("me", &[front.clone(), back.clone()]);
        assert_eq!(table.addresses("web1", Family::Ipv4), None);
        table.refresh();
        assert_eq!(table.addresses("WEB1", Family::Ipv4), Some(vec![v4(2)]));
        assert_eq!(
            table.addresses("web1.back", Family::Ipv4),
            Some(vec![v4(8)])
        );
        assert_eq!(
            table.addresses("web1.front.net", Family::Ipv4),
            Some(vec![v4(2)])
        );
        assert_eq!(table.addresses("web1", Family::Ipv6), Some(vec![]));
        assert_eq!(table.addresses("web1.example", Family::Ipv4), None);
        // A link before a name, and only for the one who has it.
        assert_eq!(table.addresses("db", Family::Ipv4), Some(vec![v4(3)]));
        assert_eq!(
            table.addresses("db.back", Family::Ipv6),
            Some(vec![IpAddr::V6(Ipv6Addr::LOCALHOST)])
        );
        let mut another = NameTable::new("w1", &[front.clone(), back]);
        another.refresh();
        assert_eq!(another.addresses("db", Family::Ipv4), Some(vec![v4(9)]));
        // Taking turns.
        let mut firsts: Vec<_> = (0..4)
            .filter_map(|_| table.addresses("web", Family::Ipv4)?.first().copied())
            .collect();
        assert_eq!(firsts[0], firsts[2]);
        assert_ne!(firsts[0], firsts[1]);
        firsts.sort();
        firsts.dedup();
        assert_eq!(firsts.len(), 2);
        assert_eq!(table.reverse(v4(2)), Reverse::Name("Web1.Front.Net".into()));
        assert_eq!(table.reverse(v4(77)), Reverse::Unused);
        assert_eq!(
            table.reverse(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1))),
            Reverse::Foreign
        );
        // Replaced, damaged, removed.
        names.members.truncate(2);
        names.write(&front).unwrap();
        table.refresh();
        assert_eq!(table.addresses("web", Family::Ipv4), Some(vec![v4(2)]));
        berth_sys::fs::replace(&front, b"{", 0o600, berth_sys::fs::Durability::Unsynced).unwrap();
        table.refresh();
        assert!(table.is_known("web"));
        berth_sys::fs::remove_file(&front).unwrap();
        table.refresh();
        assert!(!table.is_known("web"));
    }

    #[test]
    fn subnets_of_every_length() {
        let zero = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert!(contains(zero, 0, v4(1)));
        assert!(!contains(v4(1), 32, v4(2)));
        assert!(contains(v4(0), 24, v4(200)));
        assert!(!contains(zero, 33, zero));
        assert!(!contains(zero, 0, IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }
}
