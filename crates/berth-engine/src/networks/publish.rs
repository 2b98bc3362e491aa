//! Published ports: sockets that hold them, and what the firewall is told.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_monitor::HeldPort;
use berth_net::firewall::{self, InputPolicy, Link, Policy, PortBinding, PortBook, Published};
use berth_types::ContainerId;

use super::book::Book;
use super::ground::filtered;
use super::options::{BridgeOptions, DriverOptions};
use super::plan::bridge_name;
use super::ports::PortRequest;
use super::record::{Driver, NetworkRecord};
use super::settings::PublishPolicy;
use super::view::{Endpoint, Exposure, PublishedPort, RunNetwork};
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

/// What a run may reach by its links, where members of a network are kept apart; with `both`, also who may reach it.
pub(super) fn links(
    book: &Book,
    container: &ContainerId,
    run: &RunNetwork,
    both: bool,
) -> Vec<Link> {
    let mut links = Vec::new();
    for endpoint in &run.endpoints {
        let apart = book.get(&endpoint.network).is_some_and(
            |entry| matches!(&*entry.options, DriverOptions::Bridge(options) if !options.icc),
        );
        if !apart {
            continue;
        }
        for id in &run.linked {
            if let Some(other) = book.run(id) {
                link(&mut links, endpoint, other);
            }
        }
        if !both {
            continue;
        }
        for (_, from) in book
            .runs()
            .filter(|(id, from)| *id != container && from.linked.contains(container))
        {
            let there = from
                .endpoints
                .iter()
                .find(|e| e.network == endpoint.network);
            if let Some(there) = there {
                link(&mut links, there, run);
            }
        }
    }
    links
}

/// Every port of `to` that `from` may reach, by addresses of one family.
fn link(links: &mut Vec<Link>, from: &Endpoint, to: &RunNetwork) {
    let Some(there) = to.endpoints.iter().find(|e| e.network == from.network) else {
        return;
    };
    let ports = to
        .exposed
        .iter()
        .copied()
        .chain(to.ports.iter().map(|p| (p.container_port, p.protocol)))
        .collect::<BTreeSet<_>>();
    let of_ipv4 = from.ipv4.zip(there.ipv4);
    let of_ipv6 = from.ipv6.zip(there.ipv6);
    for (from, to) in of_ipv4.into_iter().chain(of_ipv6) {
        for (port, protocol) in &ports {
            links.push(Link {
                from: from.address(),
                to: to.address(),
                protocol: *protocol,
                port: *port,
            });
        }
    }
}

/// Who reaches a port of a run, and by which network; `None` where it leads nowhere.
///
/// `input` is how the host's own input rules stand; without it nothing is filtered, and monitors carry all ports.
pub(super) fn exposure(
    book: &Book,
    run: &RunNetwork,
    port: &PublishedPort,
    policy: PublishPolicy,
    input: Option<InputPolicy>,
) -> Option<Exposure> {
    let (endpoint, container) = target(run, port.host_address.is_ipv4())?;
    let entry = book.get(&endpoint.network)?;
    let DriverOptions::Bridge(options) = &*entry.options else {
        return None;
    };
    let network = filtered(&entry.record, options);
    let policy = match (policy, input) {
        (PublishPolicy::Compat, None) => Policy::Firewall,
        (policy, _) => for_kernel(policy),
    };
    let published = Published {
        bridge: network.bridge.clone(),
        protocol: port.protocol,
        host: port.host_address,
        first: port.host_port,
        count: 1,
        container,
        container_port: port.container_port,
        policy,
    };
    Some(Exposure {
        port: *port,
        network: entry.record.name.clone(),
        reach: firewall::reach(&published, &network, input.unwrap_or(InputPolicy::Unknown)),
    })
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
            policy: for_kernel(policy),
        });
    }
    published
}

fn for_kernel(policy: PublishPolicy) -> Policy {
    match policy {
        PublishPolicy::Compat => Policy::Compat,
        PublishPolicy::Firewall => Policy::Firewall,
        PublishPolicy::Loopback => Policy::Loopback,
    }
}

/// Ports of the host that are held until the sockets are closed.
///
/// They are in the book of ports as well: dropped before they are [`kept`](Self::keep), they are given back.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) ports: Vec<PublishedPort>,
    /// One for each port; `None` where the kernel has no such protocol, so that nobody else can take it either.
    sockets: Vec<Option<OwnedFd>>,
    book: Option<Arc<Mutex<PortBook>>>,
}

impl Held {
    /// From now on the run has the ports, and gives them back.
    pub(super) fn keep(&mut self) {
        self.book = None;
    }

    /// What the monitor gets: where each port leads in this run, and its socket.
    pub(super) fn for_monitor(
        mut self,
        run: &RunNetwork,
        policy: PublishPolicy,
    ) -> Vec<(HeldPort, OwnedFd)> {
        std::mem::take(&mut self.sockets)
            .into_iter()
            .zip(&self.ports)
            .filter_map(|(socket, port)| Some((held_port(run, port, policy)?, socket?)))
            .collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(book) = &self.book {
            // Closed first, so that whoever gets a port from the book finds it free.
            self.sockets.clear();
            give_back(book, &self.ports);
        }
    }
}

fn lock(book: &Mutex<PortBook>) -> MutexGuard<'_, PortBook> {
    // Every change of the book is complete by itself.
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn binding(port: &PublishedPort) -> PortBinding {
    PortBinding {
        protocol: port.protocol,
        hosts: vec![port.host_address],
        port: port.host_port,
        container_port: port.container_port,
    }
}

/// Enters ports that a running container has.
pub(super) fn restore(book: &Mutex<PortBook>, ports: &[PublishedPort]) {
    let mut book = lock(book);
    for port in ports {
        book.restore(&binding(port));
    }
}

/// Takes ports out of the book.
pub(super) fn give_back(book: &Mutex<PortBook>, ports: &[PublishedPort]) {
    let mut book = lock(book);
    for port in ports {
        book.release(&binding(port));
    }
}

/// Which families of host addresses can lead to a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Families {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

/// How ports are published that do not say it themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Where they are published.
    pub(super) default: Option<IpAddr>,
    pub(super) policy: PublishPolicy,
    pub(super) families: Families,
}

impl Manner {
    /// Addresses a port is published on.
    fn addresses(&self, request: &PortRequest) -> Result<Vec<IpAddr>, EngineError> {
        let fits = |address: &IpAddr| {
            if address.is_ipv4() {
                self.families.ipv4
            } else {
                self.families.ipv6
            }
        };
        let all = match self.policy {
            PublishPolicy::Loopback => [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ],
            _ => [
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            ],
        };
        match request.host_address.or(self.default) {
            Some(address) if fits(&address.to_canonical()) => Ok(vec![address.to_canonical()]),
            Some(address) if request.host_address.is_some() => Err(EngineError::Invalid(format!(
                "port {}/{} cannot be published on {address}: the container has no address that could be reached from there",
                request.container_port, request.protocol
            ))),
            _ => Ok(all.into_iter().filter(fits).collect()),
        }
    }
}

/// Takes every port asked for, or none.
pub(super) fn hold(
    requests: &[PortRequest],
    manner: Manner,
    book: &Arc<Mutex<PortBook>>,
) -> Result<Held, EngineError> {
    let mut held = Held {
        ports: Vec::new(),
        sockets: Vec::new(),
        book: Some(Arc::clone(book)),
    };
    for request in requests {
        let addresses = manner.addresses(request)?;
        if addresses.is_empty() {
            continue;
        }
        let wanted = firewall::PortRequest {
            protocol: request.protocol,
            hosts: addresses,
            first: request.host_first,
            last: request.host_last,
            container_port: request.container_port,
        };
        one(&wanted, &mut held, book)?;
    }
    Ok(held)
}

fn refused(why: &str) -> EngineError {
    EngineError::Internal(format!(
        "driver failed programming external connectivity: {why}"
    ))
}

/// One port that is free on all the addresses. What other programs have is passed over where there is a choice.
fn one(
    request: &firewall::PortRequest,
    held: &mut Held,
    book: &Arc<Mutex<PortBook>>,
) -> Result<(), EngineError> {
    let mut avoid = BTreeSet::new();
    let choice = request.first != request.last || request.first == 0;
    loop {
        let chosen = lock(book)
            .choose(request, &avoid)
            .map_err(|e| refused(&e.to_string()))?;
        let mut attempt = Held {
            ports: chosen
                .hosts
                .iter()
                .map(|host| PublishedPort {
                    container_port: chosen.container_port,
                    protocol: chosen.protocol,
                    host_address: *host,
                    host_port: chosen.port,
                })
                .collect(),
            sockets: Vec::new(),
            book: Some(Arc::clone(book)),
        };
        let failure = chosen.hosts.iter().find_map(|host| {
            match firewall::hold(chosen.protocol, *host, chosen.port) {
                Ok(socket) => {
                    attempt.sockets.push(socket);
                    None
                }
                Err(error) => Some((*host, error)),
            }
        });
        match failure {
            None => {
                attempt.keep();
                held.ports.append(&mut attempt.ports);
                held.sockets.append(&mut attempt.sockets);
                return Ok(());
            }
            Some((_, error))
                if choice && error.is_taken() && avoid.len() < limits::PORT_ATTEMPTS =>
            {
                avoid.insert(chosen.port);
            }
            Some((host, error)) => {
                return Err(refused(&format!(
                    "failed to bind host port {}/{}: {}",
                    SocketAddr::new(host, chosen.port),
                    chosen.protocol,
                    error.reason()
                )));
            }
        }
    }
}

/// Where a held port leads in a run; `None` where it leads nowhere.
pub(super) fn held_port(
    run: &RunNetwork,
    port: &PublishedPort,
    policy: PublishPolicy,
) -> Option<HeldPort> {
    let (_, container) = target(run, port.host_address.is_ipv4())?;
    Some(HeldPort {
        name: key(port),
        protocol: port.protocol,
        target: SocketAddr::new(container, port.container_port),
        policy: for_kernel(policy),
    })
}

/// The key a held socket has with its monitor.
pub(super) fn key(port: &PublishedPort) -> String {
    format!(
        "{}/{}",
        SocketAddr::new(port.host_address, port.host_port),
        port.protocol
    )
}
