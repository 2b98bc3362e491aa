//! The responder of one container: answers what it knows, forwards the rest.
//!
//! ```text
//!            ┌─ known name, our address ────────────▶ answer
//!  query ────┤
//!            └─ else ─▶ waiting ─▶ in flight ─▶ first server ─▶ next server … ─▶ answer, or SERVFAIL
//! ```
//!
//! Owns its sockets and an epoll set of its own, whose descriptor the monitor's loop watches; [`Responder::turn`] does what is
//! to be done and never waits. Its invariants: one query is answered once; nothing leaves the host's namespace for a
//! container without a network that leads outside; a packet from outside counts only when it comes from the server that was
//! asked, to the port it was asked from, with the number and the question it was asked.

mod forward;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use berth_sys::{Error, Result};
use hickory_proto::op::ResponseCode;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use self::forward::Forward;
use self::stream::Stream;
use super::message::{Query, Received, Wanted};
use super::settings::DnsSettings;
use super::sockets::DnsSockets;
use super::table::{Family, NameTable, Reverse};
use super::upstream::Upstreams;
use crate::limits;

/// Events taken from the kernel at once.
const EVENTS: usize = 64;
/// Whose descriptor an event is about; greater numbers are those of queries and connections.
const UDP: u64 = 0;
const TCP: u64 = 1;
const FIRST: u64 = 2;

/// Answers on the sockets of one container.
#[derive(Debug)]
pub struct Responder {
    epoll: OwnedFd,
    sockets: DnsSockets,
    namespace: OwnedFd,
    settings: DnsSettings,
    table: NameTable,
    upstreams: Upstreams,
    /// Queries at outside servers.
    forwards: HashMap<u64, Forward>,
    /// When the present attempt of a query is over. All attempts take as long, so the first ends first.
    timers: VecDeque<(Instant, u64)>,
    /// Queries without a place among `forwards`, the oldest first.
    waiting: VecDeque<Forward>,
    streams: HashMap<u64, Stream>,
    /// Connections with more to do than one turn allowed.
    again: Vec<u64>,
    next: u64,
    /// For answers from outside; given back by [`Responder::shrink`].
    buffer: Vec<u8>,
}

/// Who asked.
#[derive(Debug, Clone, Copy)]
enum Client {
    Udp(SocketAddr),
    Stream(u64),
}

impl Responder {
    /// Takes up the sockets of a container whose network namespace is `namespace`.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new(settings: DnsSettings, sockets: DnsSockets, namespace: impl AsFd) -> Result<Self> {
        let error = |cause: Errno| Error::new("set up a container's resolver", cause);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(error)?;
        for (socket, number) in [(&sockets.udp, UDP), (&sockets.tcp, TCP)] {
            let data = epoll::EventData::new_u64(number);
            epoll::add(&epoll, socket, data, epoll::EventFlags::IN).map_err(error)?;
        }
        let namespace = rustix::io::fcntl_dupfd_cloexec(namespace, 3).map_err(error)?;
        Ok(Self {
            table: NameTable::new(&settings.container, &settings.networks),
            upstreams: Upstreams::new(&settings),
            epoll,
            sockets,
            namespace,
            settings,
            forwards: HashMap::new(),
            timers: VecDeque::new(),
            waiting: VecDeque::new(),
            streams: HashMap::new(),
            again: Vec::new(),
            next: FIRST,
            buffer: Vec::new(),
        })
    }

    /// Readable when [`Responder::turn`] has something to do.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// When [`Responder::turn`] has something to do even if nothing arrives.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if !self.again.is_empty() {
            return Some(Instant::now());
        }
        let attempts = self.timers.front().map(|(until, _)| *until);
        let waiting = self.waiting.front().map(|forward| forward.give_up);
        let idle = self.streams.values().map(|stream| stream.until);
        attempts.into_iter().chain(waiting).chain(idle).min()
    }

    /// The container joined or left a network, or the like. Queries in flight are answered as they were asked.
    pub fn set(&mut self, settings: DnsSettings) {
        self.table = NameTable::new(&settings.container, &settings.networks);
        self.upstreams = Upstreams::new(&settings);
        self.settings = settings;
    }

    /// Gives back memory that an idle responder does not need.
    pub fn shrink(&mut self) {
        self.buffer = Vec::new();
        self.timers.shrink_to_fit();
        self.waiting.shrink_to_fit();
        self.forwards.shrink_to_fit();
        self.streams.shrink_to_fit();
        self.again.shrink_to_fit();
    }

    /// Does what can be done without waiting.
    pub fn turn(&mut self) {
        let now = Instant::now();
        for number in std::mem::take(&mut self.again) {
            self.serve_stream(number, now);
        }
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let no_wait = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Of the errors only EINTR can happen, and then the set is still readable.
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut space, Some(&no_wait)) {
            for event in events.iter() {
                let flags = event.flags;
                match event.data.u64() {
                    UDP => self.receive(now),
                    TCP => self.accept(now),
                    number if self.forwards.contains_key(&number) => {
                        self.forward_ready(number, now);
                    }
                    number => self.stream_ready(number, flags, now),
                }
            }
        }
        self.keep_deadlines(now);
    }

    fn keep_deadlines(&mut self, now: Instant) {
        while let Some((until, number)) = self.timers.front().copied() {
            let current = self
                .forwards
                .get(&number)
                .is_some_and(|forward| forward.ends_at(until));
            if current && until > now {
                break;
            }
            self.timers.pop_front();
            if current {
                self.attempt_timed_out(number, now);
            }
        }
        while self
            .waiting
            .front()
            .is_some_and(|forward| forward.give_up <= now)
        {
            if let Some(forward) = self.waiting.pop_front() {
                self.fail(forward, now);
            }
        }
        self.streams.retain(|_, stream| stream.until > now);
    }

    /// Takes queries off the UDP socket.
    fn receive(&mut self, now: Instant) {
        // One more byte, so that a longer packet is not taken for a whole one.
        let mut packet = [0_u8; limits::DNS_UDP_QUERY + 1];
        for _ in 0..limits::DNS_BATCH {
            let received =
                rustix::net::recvfrom(&self.sockets.udp, &mut packet[..], RecvFlags::DONTWAIT);
            match received {
                Ok((length, _, Some(from))) if length <= limits::DNS_UDP_QUERY => {
                    if let Ok(from) = SocketAddr::try_from(from) {
                        self.take(Client::Udp(from), &packet[..length], now);
                    }
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Answers a query, or sends it on its way. False when it is none, and gets no answer.
    fn take(&mut self, client: Client, packet: &[u8], now: Instant) -> bool {
        match Query::parse(packet) {
            Received::Nothing => return false,
            Received::Refused(answer) => self.reply(client, &answer, now),
            Received::Query(query) => {
                let limit = match client {
                    Client::Udp(_) => query.limit(),
                    Client::Stream(_) => limits::DNS_MESSAGE,
                };
                match self.answer(&query, limit) {
                    Some(answer) => self.reply(client, &answer, now),
                    None => self.forward(Forward::new(client, query, packet, limit, now), now),
                }
            }
        }
        true
    }

    /// The answer to a query about what is ours; `None` for all else.
    fn answer(&mut self, query: &Query, limit: usize) -> Option<Vec<u8>> {
        if !query.is_internet() {
            return None;
        }
        self.table.refresh();
        let wanted = query.wanted();
        if wanted == Wanted::Pointer
            && let Some(address) = query.reversed()
        {
            return match self.table.reverse(address) {
                Reverse::Name(name) => Some(query.with_name(&name)),
                Reverse::Unused => Some(query.failure(ResponseCode::NXDomain)),
                Reverse::Foreign => None,
            };
        }
        if let Some(name) = query.name().filter(|name| !name.is_empty()) {
            let addresses = match wanted {
                Wanted::Ipv4 => self.table.addresses(&name, Family::Ipv4),
                Wanted::Ipv6 => self.table.addresses(&name, Family::Ipv6),
                Wanted::AnyAddress => self.table.addresses(&name, Family::Ipv4).map(|mut all| {
                    all.extend(
                        self.table
                            .addresses(&name, Family::Ipv6)
                            .unwrap_or_default(),
                    );
                    all
                }),
                // It exists and has nothing of that type; nobody outside may be asked about it.
                Wanted::Pointer | Wanted::Other => self.table.is_known(&name).then(Vec::new),
            };
            if let Some(addresses) = addresses {
                return Some(query.with_addresses(&addresses, limit));
            }
        }
        let is_address = matches!(wanted, Wanted::Ipv4 | Wanted::Ipv6);
        (is_address && self.settings.ndots_set && query.labels() <= 1)
            .then(|| query.with_addresses(&[], limit))
    }

    fn reply(&mut self, client: Client, answer: &[u8], now: Instant) {
        match client {
            Client::Udp(address) => {
                // A client that takes nothing asks again, or not.
                let _ = rustix::net::sendto(
                    &self.sockets.udp,
                    answer,
                    SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
                    &address,
                );
            }
            Client::Stream(number) => {
                if let Some(stream) = self.streams.get_mut(&number) {
                    stream.answer(answer, now);
                    if stream.is_done() {
                        self.streams.remove(&number);
                    } else if stream.can_go_on() && !self.again.contains(&number) {
                        self.again.push(number);
                    }
                }
            }
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn watch(
        &self,
        socket: &OwnedFd,
        number: u64,
        flags: epoll::EventFlags,
    ) -> rustix::io::Result<()> {
        epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(number),
            flags,
        )
    }
}
