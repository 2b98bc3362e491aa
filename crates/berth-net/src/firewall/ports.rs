//! Which port of the host a published port gets. Pure.
//!
//! Owns the book of ports that our containers hold ([`PortBook`]) and the choice among them, as Docker makes it: a
//! port given is taken or refused; of a range, or of the ephemeral ports, the first free one after the last choice.
//! Does not own sockets ([`super::hold`]), which tell what other programs hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::parts::Protocol;

/// The ephemeral ports where the kernel does not say (`/proc/sys/net/ipv4/ip_local_port_range`).
pub const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// One port of a container to publish, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's addresses, which get the same port; unspecified means all of that family.
    pub hosts: Vec<IpAddr>,
    /// First and last port of the host to choose from; zero means the ephemeral ports.
    pub first: u16,
    /// See `first`.
    pub last: u16,
    /// The port in the container.
    pub container_port: u16,
}

/// A port that was chosen, on all of its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortBinding {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's addresses, the same port on each; unspecified means all of that family.
    pub hosts: Vec<IpAddr>,
    /// The port on the host.
    pub port: u16,
    /// The port in the container.
    pub container_port: u16,
}

/// Why a port was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// A container of ours holds it.
    #[error("Bind for {} failed: port is already allocated", std::net::SocketAddr::new(*address, *port))]
    Allocated {
        /// The address it is held on.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// All ports to choose from are held.
    #[error("all ports are allocated")]
    Exhausted,
    /// The range is none.
    #[error("invalid port range: {first}-{last}")]
    InvalidRange {
        /// First port given.
        first: u16,
        /// Last port given.
        last: u16,
    },
}

impl PortError {
    /// The class that an API's edge needs.
    #[must_use]
    pub fn kind(&self) -> berth_types::ErrorKind {
        match self {
            Self::Allocated { .. } => berth_types::ErrorKind::Conflict,
            Self::Exhausted => berth_types::ErrorKind::ResourceExhausted,
            Self::InvalidRange { .. } => berth_types::ErrorKind::InvalidArgument,
        }
    }
}

/// The ports our containers hold.
#[derive(Debug, Clone)]
pub struct PortBook {
    taken: BTreeMap<(Protocol, IpAddr), BTreeSet<u16>>,
    /// The last port chosen of each range.
    last: BTreeMap<(Protocol, u16, u16), u16>,
    ephemeral: (u16, u16),
    reserved: BTreeSet<u16>,
}

impl PortBook {
    /// An empty book that chooses ephemeral ports from this range, passing over `reserved`
    /// (`ip_local_reserved_ports`).
    #[must_use]
    pub fn new(ephemeral: (u16, u16), reserved: BTreeSet<u16>) -> Self {
        Self {
            taken: BTreeMap::new(),
            last: BTreeMap::new(),
            ephemeral,
            reserved,
        }
    }

    /// Enters a port that is held already, as when a daemon starts under running containers.
    pub fn restore(&mut self, binding: &PortBinding) {
        for host in &binding.hosts {
            self.taken
                .entry((binding.protocol, *host))
                .or_default()
                .insert(binding.port);
        }
    }

    /// Gives a port back.
    pub fn release(&mut self, binding: &PortBinding) {
        for host in &binding.hosts {
            if let Some(taken) = self.taken.get_mut(&(binding.protocol, *host)) {
                taken.remove(&binding.port);
            }
        }
    }

    /// Chooses and enters a port. `avoid` are ports that other programs turned out to hold, when a choice is made
    /// again; it does not matter for a port that is the only one.
    ///
    /// # Errors
    ///
    /// The port, or all of the range, is held.
    pub fn choose(
        &mut self,
        request: &PortRequest,
        avoid: &BTreeSet<u16>,
    ) -> Result<PortBinding, PortError> {
        let hosts: Vec<IpAddr> = request.hosts.iter().map(IpAddr::to_canonical).collect();
        let ephemeral = request.first == 0 && request.last == 0;
        let (first, last) = if ephemeral {
            self.ephemeral
        } else {
            (request.first, request.last)
        };
        if first == 0 || last < first {
            return Err(PortError::InvalidRange { first, last });
        }
        let port = if first == last {
            if let Some(address) = self.holder(request.protocol, &hosts, first) {
                return Err(PortError::Allocated {
                    address,
                    port: first,
                });
            }
            first
        } else {
            let previous = self.last.get(&(request.protocol, first, last));
            let begin = previous.map_or(first, |port| if *port >= last { first } else { port + 1 });
            let free = (begin..=last).chain(first..begin).find(|port| {
                let unfit = avoid.contains(port) || (ephemeral && self.reserved.contains(port));
                !unfit && self.holder(request.protocol, &hosts, *port).is_none()
            });
            let port = free.ok_or(PortError::Exhausted)?;
            self.last.insert((request.protocol, first, last), port);
            port
        };
        let binding = PortBinding {
            protocol: request.protocol,
            hosts,
            port,
            container_port: request.container_port,
        };
        self.restore(&binding);
        Ok(binding)
    }

    /// The address on which one of ours stands in the way: the same, or one that covers or is covered.
    fn holder(&self, protocol: Protocol, hosts: &[IpAddr], port: u16) -> Option<IpAddr> {
        let holds = |address: &IpAddr| {
            self.taken
                .get(&(protocol, *address))
                .is_some_and(|taken| taken.contains(&port))
        };
        hosts.iter().find_map(|host| {
            let all: IpAddr = match host {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            if host.is_unspecified() {
                self.taken
                    .keys()
                    .filter(|(held, address)| {
                        *held == protocol && address.is_ipv4() == host.is_ipv4()
                    })
                    .map(|(_, address)| *address)
                    .find(|address| holds(address))
            } else {
                [*host, all].into_iter().find(|address| holds(address))
            }
        })
    }
}

/// The kernel's range of ephemeral ports and those it leaves out, of the calling thread's namespace.
#[must_use]
pub fn ephemeral_of_kernel() -> ((u16, u16), BTreeSet<u16>) {
    let read = |name: &str| {
        berth_sys::fs::read_to_string(&std::path::Path::new("/proc/sys/net/ipv4").join(name))
            .unwrap_or_default()
    };
    (
        parse_range(&read("ip_local_port_range")).unwrap_or(EPHEMERAL),
        parse_reserved(&read("ip_local_reserved_ports")),
    )
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Some((first, last)),
        _ => None,
    }
}

fn parse_reserved(text: &str) -> BTreeSet<u16> {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: Option<&str>, first: u16, last: u16) -> PortRequest {
        PortRequest {
            protocol: Protocol::Tcp,
            hosts: match host {
                Some(host) => vec![host.parse().unwrap()],
                None => vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()],
            },
            first,
            last,
            container_port: 80,
        }
    }

    fn choose(book: &mut PortBook, request: &PortRequest) -> Result<u16, PortError> {
        book.choose(request, &BTreeSet::new())
            .map(|binding| binding.port)
    }

    #[test]
    fn a_port_is_given_once() {
        let mut book = PortBook::new(EPHEMERAL, BTreeSet::new());
        assert_eq!(choose(&mut book, &request(None, 80, 80)), Ok(80));
        let error = choose(&mut book, &request(Some("127.0.0.1"), 80, 80)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Bind for 0.0.0.0:80 failed: port is already allocated"
        );
        let error = choose(&mut book, &request(Some("::"), 80, 80)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Bind for [::]:80 failed: port is already allocated"
        );
    }

    #[test]
    fn addresses_do_not_meet_each_other_but_all_do() {
        let mut book = PortBook::new(EPHEMERAL, BTreeSet::new());
        assert!(choose(&mut book, &request(Some("127.0.0.1"), 80, 80)).is_ok());
        assert!(choose(&mut book, &request(Some("192.0.2.1"), 80, 80)).is_ok());
        assert!(choose(&mut book, &request(Some("::1"), 80, 80)).is_ok());
        assert!(choose(&mut book, &request(Some("0.0.0.0"), 80, 80)).is_err());
        let mut udp = request(Some("0.0.0.0"), 80, 80);
        udp.protocol = Protocol::Udp;
        assert!(choose(&mut book, &udp).is_ok());
    }

    #[test]
    fn ranges_and_ephemeral_ports_go_on_after_the_last_choice() {
        let mut book = PortBook::new((40_000, 40_003), BTreeSet::from([40_001]));
        let any = request(None, 0, 0);
        assert_eq!(choose(&mut book, &any), Ok(40_000));
        assert_eq!(choose(&mut book, &any), Ok(40_002));
        book.release(&PortBinding {
            protocol: Protocol::Tcp,
            hosts: vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()],
            port: 40_000,
            container_port: 80,
        });
        assert_eq!(choose(&mut book, &any), Ok(40_003));
        assert_eq!(choose(&mut book, &any), Ok(40_000));
        assert_eq!(choose(&mut book, &any), Err(PortError::Exhausted));
        let range = request(None, 8000, 8002);
        assert_eq!(choose(&mut book, &range), Ok(8000));
        assert_eq!(choose(&mut book, &range), Ok(8001));
        let avoided = book.choose(&range, &BTreeSet::from([8002]));
        assert_eq!(avoided, Err(PortError::Exhausted));
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(parse_range("nonsense"), None);
        assert_eq!(
            parse_reserved("80,90-92\n"),
            BTreeSet::from([80, 90, 91, 92])
        );
        assert!(parse_reserved("\n").is_empty());
    }
}
