//! Published ports: sockets that hold them, and what the firewall is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use berth_net::firewall::{self, Policy, Published};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::book::Book;
use super::options::{BridgeOptions, DriverOptions};
use super::plan::bridge_name;
use super::ports::PortRequest;
use super::record::{Driver, NetworkRecord};
use super::settings::PublishPolicy;
use super::view::{Endpoint, Protocol, PublishedPort, RunNetwork};
use crate::error::EngineError;
use crate::limits;

/// A place in a bridge network as the firewall is told of it.
pub(super) fn place(
    record: &NetworkRecord,
    options: &BridgeOptions,
    endpoint: &Endpoint,
) -> firewall::Endpoint {
    firewall::Endpoint {
        bridge: bridge_name(&record.id, &options.name),
        port: endpoint.host_interface.clone(),
        addresses: endpoint
            .ipv4
            .into_iter()
            .chain(endpoint.ipv6)
            .map(|p| p.address())
            .collect(),
    }
}

/// Where in a run a port published on an address of this family leads: the place its default route leaves by.
fn target(run: &RunNetwork, ipv4: bool) -> Option<(&Endpoint, IpAddr)> {
    let on_bridge = || run.endpoints.iter().filter(|e| e.driver == Driver::Bridge);
    let of_ipv4 = || {
        on_bridge()
            .find(|e| e.default_ipv4)
            .and_then(|e| Some((&**e, e.ipv4?.address())))
    };
    if ipv4 {
        return of_ipv4();
    }
    on_bridge()
        .find(|e| e.default_ipv6)
        .and_then(|e| Some((&**e, e.ipv6?.address())))
        // The kernel cannot turn one family into the other: the monitor forwards.
        .or_else(of_ipv4)
}

/// What the firewall is told of the ports of a run; neighbours in one element.
pub(super) fn translations(book: &Book, run: &RunNetwork, policy: PublishPolicy) -> Vec<Published> {
    let mut ports = run.ports.clone();
    ports.sort_by_key(|p| (p.protocol, p.host_address, p.host_port));
    let mut published: Vec<Published> = Vec::new();
    for port in ports {
        let Some((endpoint, container)) = target(run, port.host_address.is_ipv4()) else {
            continue;
        };
        let Some(entry) = book.get(&endpoint.network) else {
            continue;
        };
        let DriverOptions::Bridge(options) = &*entry.options else {
            continue;
        };
        let bridge = bridge_name(&entry.record.id, &options.name);
        if let Some(last) = published.last_mut()
            && last.protocol == port.protocol
            && last.host == port.host_address
            && last.container == container
            && last.bridge == bridge
            && u32::from(last.first) + u32::from(last.count) == u32::from(port.host_port)
            && u32::from(last.container_port) + u32::from(last.count)
                == u32::from(port.container_port)
        {
            last.count += 1;
            continue;
        }
        published.push(Published {
            bridge,
            protocol: port.protocol,
            host: port.host_address,
            first: port.host_port,
            count: 1,
            container,
            container_port: port.container_port,
            policy: match policy {
                PublishPolicy::Compat => Policy::Compat,
                PublishPolicy::Firewall => Policy::Firewall,
                PublishPolicy::Loopback => Policy::Loopback,
            },
        });
    }
    published
}

/// Ports of the host that are held until the sockets are closed.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) ports: Vec<PublishedPort>,
    /// One for each port; `None` where the kernel has no such protocol, so that nobody else can take it either.
    pub(super) sockets: Vec<Option<OwnedFd>>,
}

fn socket(address: IpAddr, port: u16, protocol: Protocol) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    Ok(socket)
}

fn bound_port(socket: &OwnedFd) -> rustix::io::Result<u16> {
    let address = rustix::net::getsockname(socket)?;
    Ok(SocketAddr::try_from(address)
        .map_err(|_| Errno::AFNOSUPPORT)?
        .port())
}

fn refused(request: &PortRequest, address: IpAddr, port: u16, why: Errno) -> EngineError {
    let at = SocketAddr::new(address, port);
    let why = match why {
        Errno::ADDRINUSE => "address already in use".to_owned(),
        other => std::io::Error::from(other).to_string(),
    };
    EngineError::Internal(format!(
        "driver failed programming external connectivity: failed to bind host port {at}/{}: {why}",
        request.protocol
    ))
}

/// Addresses a port is published on.
fn addresses(
    request: &PortRequest,
    default: Option<IpAddr>,
    policy: PublishPolicy,
    ipv6: bool,
) -> Vec<IpAddr> {
    let all = match policy {
        PublishPolicy::Loopback => [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ],
        _ => [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ],
    };
    match request.host_address.or(default) {
        Some(address) => vec![address],
        None => all.into_iter().filter(|a| a.is_ipv4() || ipv6).collect(),
    }
}

/// Takes every port asked for, or none.
pub(super) fn hold(
    requests: &[PortRequest],
    default: Option<IpAddr>,
    policy: PublishPolicy,
    host_ipv6: bool,
) -> Result<Held, EngineError> {
    let mut held = Held::default();
    for request in requests {
        let addresses = addresses(request, default, policy, host_ipv6);
        let (port, sockets) = one(request, &addresses)?;
        for (address, socket) in addresses.into_iter().zip(sockets) {
            held.ports.push(PublishedPort {
                container_port: request.container_port,
                protocol: request.protocol,
                host_address: address,
                host_port: port,
            });
            held.sockets.push(socket);
        }
    }
    Ok(held)
}

/// A port, and a socket on it for each address.
type Bound = (u16, Vec<Option<OwnedFd>>);

/// One port that is free on all the addresses.
fn one(request: &PortRequest, addresses: &[IpAddr]) -> Result<Bound, EngineError> {
    let attempt = |wanted: u16| -> Result<Bound, (IpAddr, u16, Errno)> {
        let mut sockets = Vec::with_capacity(addresses.len());
        let mut port = wanted;
        for address in addresses {
            let made = match socket(*address, port, request.protocol) {
                // A port of the kernel's choice needs the kernel.
                Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT)
                    if request.protocol == Protocol::Sctp && port != 0 =>
                {
                    None
                }
                other => Some(other.map_err(|e| (*address, port, e))?),
            };
            if let Some(made) = made.as_ref().filter(|_| port == 0) {
                port = bound_port(made).map_err(|e| (*address, port, e))?;
            }
            sockets.push(made);
        }
        Ok((port, sockets))
    };
    let mut last = None;
    let candidates: Box<dyn Iterator<Item = u16>> = if request.host_first == 0 {
        // The kernel's choice is free for the first address; others may have it.
        Box::new(std::iter::repeat_n(0, limits::EPHEMERAL_ATTEMPTS))
    } else {
        Box::new(request.host_first..=request.host_last)
    };
    for candidate in candidates {
        match attempt(candidate) {
            Ok(found) => return Ok(found),
            Err(failure) => last = Some(failure),
        }
    }
    let (address, port, why) = last.unwrap_or((
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        request.host_first,
        Errno::ADDRINUSE,
    ));
    Err(refused(request, address, port, why))
}

/// The key a held socket has with its monitor.
pub(super) fn key(port: &PublishedPort) -> String {
    format!(
        "{}/{}",
        SocketAddr::new(port.host_address, port.host_port),
        port.protocol
    )
}
