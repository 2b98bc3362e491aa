//! The outside servers of one container: which they are, from where they are asked, in what order.
//!
//! Docker's rule: servers that the user named are asked from inside the container's network namespace, as the container
//! itself would; the host's servers are asked from the host's namespace, since they may be on its loopback (the stub of
//! systemd-resolved). Better than Docker's: the host's file is read anew when it is another one, so that a change of network
//! reaches running containers.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::Instant;

use super::DnsSettings;
use super::names::Identity;
use super::resolv_conf::{RESOLVER, ResolvConf, Server};
use crate::limits;

const PORT: u16 = 53;

/// A server, and where it is asked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    pub(super) from: Place,
}

/// A network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Host,
    Container,
}

#[derive(Debug)]
pub(super) struct Upstreams {
    list: Vec<Upstream>,
    /// Servers that did not answer, and until when they are asked last.
    silent: Vec<(SocketAddr, Instant)>,
    /// The host's file, when its servers are the ones.
    host: Option<(PathBuf, Option<Identity>)>,
}

impl Upstreams {
    pub(super) fn new(settings: &DnsSettings) -> Self {
        let mut list = Vec::new();
        let mut host = None;
        if settings.servers.is_empty() {
            // An internal network leaks nothing: the host's servers are not even known.
            if settings.external {
                host = Some((settings.host_file.clone(), None));
            }
        } else {
            list = settings
                .servers
                .iter()
                .filter(|address| **address != IpAddr::V4(RESOLVER))
                .take(limits::DNS_SERVERS)
                .map(|address| Upstream {
                    address: SocketAddr::new(*address, PORT),
                    from: Place::Container,
                })
                .collect();
        }
        Self {
            list,
            silent: Vec::new(),
            host,
        }
    }

    /// The servers in the order in which they should be asked now.
    pub(super) fn order(&mut self, now: Instant) -> Vec<Upstream> {
        self.follow_host();
        self.silent.retain(|(_, until)| *until > now);
        let is_silent = |server: &Upstream| {
            self.silent
                .iter()
                .any(|(address, _)| *address == server.address)
        };
        let mut order = self.list.clone();
        order.sort_by_key(is_silent);
        order
    }

    pub(super) fn note_silent(&mut self, server: SocketAddr, now: Instant) {
        self.note_answer(server);
        self.silent.push((server, now + limits::DNS_SILENT));
    }

    pub(super) fn note_answer(&mut self, server: SocketAddr) {
        self.silent.retain(|(address, _)| *address != server);
    }

    fn follow_host(&mut self) {
        let Some((path, known)) = &mut self.host else {
            return;
        };
        let identity = Identity::of(path);
        if identity == *known && identity.is_some() {
            return;
        }
        *known = identity;
        let text = berth_sys::fs::read_bounded(path, limits::RESOLV_CONF).unwrap_or_default();
        self.list = ResolvConf::parse(&String::from_utf8_lossy(&text))
            .servers
            .iter()
            .take(limits::DNS_SERVERS)
            .filter_map(of_host)
            .collect();
        self.silent.clear();
    }
}

fn of_host(server: &Server) -> Option<Upstream> {
    let address = match (server.address, &server.zone) {
        (IpAddr::V6(address), Some(zone)) => {
            SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, interface(zone)?))
        }
        (address, _) => SocketAddr::new(address, PORT),
    };
    Some(Upstream {
        address,
        from: Place::Host,
    })
}

/// The number of an interface, which may be given itself.
fn interface(zone: &str) -> Option<u32> {
    zone.parse().ok().or_else(|| {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::INET6,
            rustix::net::SocketType::DGRAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .ok()?;
        rustix::net::netdevice::name_to_index(&socket, zone).ok()
    })
}
