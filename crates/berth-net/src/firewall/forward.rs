//! Published ports where the kernel cannot translate: bytes are carried between sockets.
//!
//! Owns the held sockets of one container ([`super::hold()`]) and the connections through them. It serves ::1 and
//! link-local clients, IPv6 clients of a container that has IPv4 only, outside clients under the policy `firewall`,
//! and everybody for the moment in which another program has flushed our table. Under the policy `firewall` the container
//! sees the client's own address ([`super::inward`]), otherwise the gateway's.
//!
//! Answers by UDP come from the address that was asked.
//!
//! It starts no thread. [`Forwarder::as_fd`] is one descriptor that becomes readable when there is something to do
//! (epoll(7) inside epoll); the monitor's loop then calls [`Forwarder::turn`].
//!
//! Invariants: no call blocks; sessions, bytes in flight and the work of one turn are bounded; a session that can
//! make no progress is not asked for.

mod stream;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_sys::datagram::{self, Datagram, Local};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, connect,
    getpeername, getsockname, recv, send, socket_with,
};

use self::stream::Stream;
use super::error::{Error, Result};
use super::parts::{Policy, Protocol};
use crate::inside::inside;
use crate::limits::{FORWARD_BATCH, FORWARD_DATAGRAM, FORWARD_FLOW_IDLE, FORWARD_SESSIONS};

/// One held port and where it leads.
#[derive(Debug)]
pub struct Route {
    /// The socket of [`super::hold()`].
    pub socket: OwnedFd,
    /// Its protocol; SCTP is held but not carried.
    pub protocol: Protocol,
    /// The container's address and port.
    pub target: SocketAddr,
    /// Under `loopback` only clients of the host itself are served.
    pub policy: Policy,
}

/// Carries bytes between held ports and a container.
#[derive(Debug)]
pub struct Forwarder {
    epoll: OwnedFd,
    /// The container's network namespace.
    container: Option<OwnedFd>,
    routes: BTreeMap<u32, Held>,
    sessions: HashMap<u32, Session>,
    next: u32,
    /// Whether held ports are not asked at present because there are too many sessions.
    full: bool,
}

#[derive(Debug)]
struct Held {
    route: Route,
    /// UDP: the flow of each client, and which address of ours it asks.
    flows: HashMap<Ends, u32>,
}

/// The two ends of a flow on the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    client: SocketAddr,
    asked: Option<Local>,
}

#[derive(Debug)]
enum Session {
    Stream(Box<Stream>),
    Flow(Flow),
}

/// Datagrams between one client and the container.
#[derive(Debug)]
struct Flow {
    route: u32,
    ends: Ends,
    socket: OwnedFd,
    used: Instant,
}

impl Forwarder {
    /// One without ports. Under the policy `firewall` what is carried is opened in the namespace `container`, which
    /// [`super::keep_clients`] has prepared, under the clients' own addresses.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn new(container: Option<OwnedFd>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|cause| Error::new("prepare to forward ports", cause.into()))?;
        Ok(Self {
            epoll,
            container,
            routes: BTreeMap::new(),
            sessions: HashMap::new(),
            next: 0,
            full: false,
        })
    }

    /// Serves a held port from now on; the number serves to withdraw it.
    ///
    /// # Errors
    ///
    /// The socket cannot be watched.
    pub fn add(&mut self, route: Route) -> Result<u32> {
        let number = self.number();
        let failed = |cause| Error::new(format!("forward to {}", route.target), cause);
        if route.protocol == Protocol::Udp {
            let ipv4 = is_bound_to_ipv4(&route.socket);
            datagram::tell_destination(&route.socket, ipv4)
                .map_err(|cause| failed(std::io::Error::other(cause)))?;
        }
        if route.protocol != Protocol::Sctp {
            watch(
                &self.epoll,
                &route.socket,
                number,
                false,
                interest(!self.full),
            )
            .map_err(|cause| failed(cause.into()))?;
        }
        self.routes.insert(
            number,
            Held {
                route,
                flows: HashMap::new(),
            },
        );
        Ok(number)
    }

    /// Gives a held port up. Connections through it go on, flows of datagrams end.
    pub fn withdraw(&mut self, number: u32) {
        if let Some(held) = self.routes.remove(&number) {
            // While somebody else has the socket too, closing ours would not end its being watched.
            let _ = epoll::delete(&self.epoll, &held.route.socket);
            for flow in held.flows.values() {
                self.sessions.remove(flow);
            }
        }
    }

    /// Leads what comes to a held port from now on to another address. Flows of datagrams begin anew.
    pub fn lead(&mut self, number: u32, target: SocketAddr) {
        if let Some(held) = self.routes.get_mut(&number)
            && held.route.target != target
        {
            held.route.target = target;
            for (_, flow) in held.flows.drain() {
                self.sessions.remove(&flow);
            }
        }
    }

    /// Sessions at present.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// When [`Forwarder::turn`] has to be called although nothing is readable: to end flows that are idle.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let flows = self.routes.values().any(|held| !held.flows.is_empty());
        flows
            .then(|| {
                self.sessions.values().filter_map(|session| match session {
                    Session::Flow(flow) => Some(flow.used + FORWARD_FLOW_IDLE),
                    Session::Stream(_) => None,
                })
            })
            .and_then(Iterator::min)
    }

    /// Does what there is to do without waiting, up to a bound: the descriptor stays readable if more is left.
    ///
    /// # Errors
    ///
    /// The kernel does not say what there is to do. What goes wrong with one client ends that client's session.
    pub fn turn(&mut self, now: Instant) -> Result<()> {
        let mut events = Vec::with_capacity(FORWARD_BATCH);
        let none = Timespec::try_from(Duration::ZERO).ok();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            none.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(cause) => return Err(Error::new("wait for ports to forward", cause.into())),
        }
        for event in &events {
            let data = event.data;
            let flags = event.flags;
            let (number, server) = token(data.u64());
            if self.routes.contains_key(&number) {
                self.serve_route(number, now);
            } else {
                self.serve_session(number, server, flags, now);
            }
        }
        self.end_idle_flows(now);
        self.regulate();
        Ok(())
    }

    fn serve_route(&mut self, number: u32, now: Instant) {
        let protocol = self.routes.get(&number).map(|held| held.route.protocol);
        for _ in 0..FORWARD_BATCH {
            if self.sessions.len() >= FORWARD_SESSIONS {
                return;
            }
            let more = match protocol {
                Some(Protocol::Tcp) => self.accept(number),
                Some(Protocol::Udp) => self.take_datagram(number, now),
                _ => false,
            };
            if !more {
                return;
            }
        }
    }

    /// Takes one connection; false when there is none.
    fn accept(&mut self, number: u32) -> bool {
        let Some(held) = self.routes.get(&number) else {
            return false;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let client = match accept_with(&held.route.socket, flags) {
            Ok(client) => client,
            Err(Errno::CONNABORTED | Errno::INTR) => return true,
            Err(Errno::AGAIN) => return false,
            Err(_) => {
                // No descriptors or memory: stop asking until a session ends.
                self.full = !self.sessions.is_empty();
                return false;
            }
        };
        if held.route.policy == Policy::Loopback && !is_connected_to_itself(&client) {
            return true;
        }
        let peer = getpeername(&client)
            .ok()
            .and_then(|end| SocketAddr::try_from(end?).ok());
        let Some(server) = self.reach(&held.route, peer, SocketType::STREAM) else {
            return true;
        };
        let session = self.number();
        let stream = Stream::new(client, server);
        let watched = [(false, &stream.client), (true, &stream.server)]
            .into_iter()
            .try_for_each(|(server, end)| {
                watch(&self.epoll, end, session, server, stream.interest(server))
            });
        if watched.is_ok() {
            self.sessions
                .insert(session, Session::Stream(Box::new(stream)));
        }
        true
    }

    /// Takes one datagram from a client; false when there is none.
    fn take_datagram(&mut self, number: u32, now: Instant) -> bool {
        let Some(held) = self.routes.get(&number) else {
            return false;
        };
        let mut buffer = vec![0; FORWARD_DATAGRAM];
        let Datagram { length, from, to } = match datagram::receive(&held.route.socket, &mut buffer)
        {
            Ok(datagram) => datagram,
            Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => return false,
            // An answer that could not be delivered (ICMP) is told here; it is that client's matter.
            Err(_) => return true,
        };
        if held.route.policy == Policy::Loopback && !is_own(from.ip()) {
            return true;
        }
        let ends = Ends {
            client: from,
            asked: to,
        };
        let flow = match held.flows.get(&ends) {
            Some(flow) => *flow,
            None => {
                let Some(socket) = self.reach(&held.route, Some(from), SocketType::DGRAM) else {
                    return true;
                };
                let flow = self.number();
                if watch(&self.epoll, &socket, flow, true, interest(true)).is_err() {
                    return true;
                }
                if let Some(held) = self.routes.get_mut(&number) {
                    held.flows.insert(ends, flow);
                }
                self.sessions.insert(
                    flow,
                    Session::Flow(Flow {
                        route: number,
                        ends,
                        socket,
                        used: now,
                    }),
                );
                flow
            }
        };
        if let Some(Session::Flow(flow)) = self.sessions.get_mut(&flow) {
            flow.used = now;
            // Datagrams may be lost; a container that does not listen is the client's to notice.
            let _ = send(&flow.socket, &buffer[..length], SendFlags::NOSIGNAL);
        }
        true
    }

    fn serve_session(&mut self, number: u32, server: bool, flags: epoll::EventFlags, now: Instant) {
        match self.sessions.get_mut(&number) {
            Some(Session::Stream(stream)) => {
                let before = [false, true].map(|server| stream.interest(server));
                if !stream.advance(server, flags) {
                    self.sessions.remove(&number);
                    return;
                }
                for (server, before) in [false, true].into_iter().zip(before) {
                    let after = stream.interest(server);
                    if before == after {
                        continue;
                    }
                    let end = stream.end(server);
                    // An end that is through with both ways would be reported for ever.
                    let changed = if stream.is_through(server) {
                        epoll::delete(&self.epoll, end)
                    } else {
                        epoll::modify(&self.epoll, end, data(number, server), after)
                    };
                    if changed.is_err() && !stream.is_through(server) {
                        self.sessions.remove(&number);
                        return;
                    }
                }
            }
            Some(Session::Flow(flow)) => {
                let Some(held) = self.routes.get(&flow.route) else {
                    return;
                };
                let mut buffer = vec![0; FORWARD_DATAGRAM];
                for _ in 0..FORWARD_BATCH {
                    match recv(&flow.socket, &mut buffer[..], RecvFlags::empty()) {
                        Ok((length, _)) => {
                            flow.used = now;
                            let _ = datagram::send(
                                &held.route.socket,
                                &buffer[..length],
                                flow.ends.client,
                                flow.ends.asked,
                            );
                        }
                        Err(Errno::AGAIN) => break,
                        // The container refuses the port; the next datagram asks again.
                        Err(_) => {}
                    }
                }
            }
            None => {}
        }
    }

    fn end_idle_flows(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let routes = &mut self.routes;
        self.sessions.retain(|_, session| match session {
            Session::Flow(flow) if now >= flow.used + FORWARD_FLOW_IDLE => {
                if let Some(held) = routes.get_mut(&flow.route) {
                    held.flows.remove(&flow.ends);
                }
                false
            }
            _ => true,
        });
    }

    /// Stops or begins asking the held ports, as there is room.
    fn regulate(&mut self) {
        let full = self.sessions.len() >= FORWARD_SESSIONS
            || (self.full && self.sessions.len() * 8 >= FORWARD_SESSIONS * 7);
        if full == self.full {
            return;
        }
        self.full = full;
        for (number, held) in &self.routes {
            if held.route.protocol != Protocol::Sctp {
                let _ = epoll::modify(
                    &self.epoll,
                    &held.route.socket,
                    data(*number, false),
                    interest(!full),
                );
            }
        }
    }

    /// A socket on its way to the container, under the client's own address where the policy promises it.
    ///
    /// A client on loopback or on the link alone has no address that would mean the same inside; one of the other family
    /// has none at all; and the container's own address would make it take itself for the client.
    fn reach(
        &self,
        route: &Route,
        client: Option<SocketAddr>,
        kind: SocketType,
    ) -> Option<OwnedFd> {
        if let (Policy::Firewall, Some(namespace), Some(client)) =
            (route.policy, &self.container, client)
        {
            let (from, to) = (client.ip(), route.target.ip());
            if from.is_ipv4() == to.is_ipv4()
                && from != to
                && !from.is_loopback()
                && !is_link_local(from)
            {
                return inside(namespace, || datagram::connect_as(from, route.target, kind))
                    .and_then(|connected| connected)
                    .ok();
            }
        }
        connected(route.target, kind)
    }

    fn number(&mut self) -> u32 {
        // After 2^32 sessions numbers come again; those in use are passed over.
        while self.routes.contains_key(&self.next) || self.sessions.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number
    }
}

impl AsFd for Forwarder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn data(number: u32, server: bool) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(number) << 1 | u64::from(server))
}

fn token(data: u64) -> (u32, bool) {
    (u32::try_from(data >> 1).unwrap_or(u32::MAX), data & 1 == 1)
}

fn interest(wanted: bool) -> epoll::EventFlags {
    if wanted {
        epoll::EventFlags::IN
    } else {
        epoll::EventFlags::empty()
    }
}

fn watch(
    epoll: &OwnedFd,
    socket: impl AsFd,
    number: u32,
    server: bool,
    flags: epoll::EventFlags,
) -> rustix::io::Result<()> {
    epoll::add(epoll, socket, data(number, server), flags)
}

/// A socket on its way to `target`.
fn connected(target: SocketAddr, kind: SocketType) -> Option<OwnedFd> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None).ok()?;
    match connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Some(socket),
        Err(_) => None,
    }
}

/// Whether a client comes from the address it asks, as programs of the host do, or from loopback.
fn is_connected_to_itself(client: &OwnedFd) -> bool {
    let ends = (
        getpeername(client)
            .ok()
            .and_then(|end| SocketAddr::try_from(end?).ok()),
        getsockname(client)
            .ok()
            .and_then(|end| SocketAddr::try_from(end).ok()),
    );
    match ends {
        (Some(peer), Some(own)) => peer.ip().is_loopback() || peer.ip() == own.ip(),
        _ => false,
    }
}

/// Whether an address means something on its link alone (RFC 4291, 2.5.6).
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_bound_to_ipv4(socket: &OwnedFd) -> bool {
    getsockname(socket)
        .ok()
        .and_then(|end| SocketAddr::try_from(end).ok())
        .is_none_or(|end| end.is_ipv4())
}

/// Whether the host has the address: only then can a socket be bound to it.
fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}
