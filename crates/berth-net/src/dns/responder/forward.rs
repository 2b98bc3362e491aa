//! Queries at outside servers.
//!
//! Every attempt has a socket of its own, connected to the one server, on a port that the kernel chooses at random, and a
//! random number: what arrives on it can only come from that server's address, and a forger has to guess 31 bits.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{Client, Responder};
use crate::dns::message::{Judgement, Query, renumber};
use crate::dns::upstream::{Place, Upstream};
use crate::inside::inside;
use crate::limits;

/// A query on its way.
#[derive(Debug)]
pub(super) struct Forward {
    client: Client,
    query: Query,
    packet: Vec<u8>,
    /// Bytes that the client takes.
    limit: usize,
    /// What is still to be tried; `None` until it was first tried.
    attempts: Option<VecDeque<Attempt>>,
    exchange: Option<Exchange>,
    /// What a server said that could not, or would not.
    failure: Option<Vec<u8>>,
    /// When the client has given up: there is no use in starting later.
    pub(super) give_up: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    server: Upstream,
    transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// A question to one server.
#[derive(Debug)]
struct Exchange {
    server: SocketAddr,
    socket: OwnedFd,
    number: u16,
    strays: usize,
    until: Instant,
    /// By TCP: what is to be sent, how much is, and what has arrived.
    stream: Option<(Vec<u8>, usize, Vec<u8>)>,
}

/// What came of looking at a socket.
enum Progress {
    Nothing,
    Next,
    Answered(Vec<u8>),
}

impl Forward {
    pub(super) fn new(
        client: Client,
        query: Query,
        packet: &[u8],
        limit: usize,
        now: Instant,
    ) -> Self {
        Self {
            client,
            query,
            packet: packet.to_vec(),
            limit,
            attempts: None,
            exchange: None,
            failure: None,
            give_up: now + limits::DNS_ATTEMPT * 3,
        }
    }

    pub(super) fn ends_at(&self, until: Instant) -> bool {
        self.exchange
            .as_ref()
            .is_some_and(|exchange| exchange.until == until)
    }

    /// Every server once, and once more. A client that came by TCP wants a long answer: it is asked for by TCP, and by UDP
    /// only when no server speaks TCP.
    fn plan(&self, servers: &[Upstream]) -> VecDeque<Attempt> {
        let is_stream = matches!(self.client, Client::Stream(_));
        (0..limits::DNS_ROUNDS)
            .flat_map(|round| {
                let transport = if is_stream && round == 0 {
                    Transport::Tcp
                } else {
                    Transport::Udp
                };
                servers.iter().map(move |server| Attempt {
                    server: *server,
                    transport,
                })
            })
            .collect()
    }
}

impl Responder {
    /// Asks outside, as soon as there is a place.
    pub(super) fn forward(&mut self, forward: Forward, now: Instant) {
        if self.forwards.len() < limits::DNS_IN_FLIGHT {
            let number = self.number();
            self.forwards.insert(number, forward);
            self.next_attempt(number, now);
        } else if self.waiting.len() < limits::DNS_WAITING {
            self.waiting.push_back(forward);
        } else {
            self.fail(forward, now);
        }
    }

    /// Takes those who wait to places that are free.
    fn fill_places(&mut self, now: Instant) {
        while self.forwards.len() < limits::DNS_IN_FLIGHT
            && let Some(forward) = self.waiting.pop_front()
        {
            let number = self.number();
            self.forwards.insert(number, forward);
            // Without a server it is over at once; then the loop goes on instead of this function calling itself.
            self.try_servers(number, now);
        }
    }

    fn next_attempt(&mut self, number: u64, now: Instant) {
        self.try_servers(number, now);
        self.fill_places(now);
    }

    /// Asks the next server that can be asked; answers the client when there is none left.
    fn try_servers(&mut self, number: u64, now: Instant) {
        let Some(mut forward) = self.forwards.remove(&number) else {
            return;
        };
        forward.exchange = None;
        let mut attempts = match forward.attempts.take() {
            Some(attempts) => attempts,
            None => forward.plan(&self.upstreams.order(now)),
        };
        while let Some(attempt) = attempts.pop_front() {
            if let Ok(exchange) = self.ask(&forward, attempt, number, now) {
                self.timers.push_back((exchange.until, number));
                forward.exchange = Some(exchange);
                forward.attempts = Some(attempts);
                self.forwards.insert(number, forward);
                return;
            }
        }
        self.fail(forward, now);
    }

    pub(super) fn fail(&mut self, forward: Forward, now: Instant) {
        match forward.failure {
            Some(answer) => self.finish(forward.client, &forward.query, forward.limit, answer, now),
            None => {
                let answer = forward.query.failure(ResponseCode::ServFail);
                self.reply(forward.client, &answer, now);
            }
        }
    }

    /// Hands a server's answer to the client.
    fn finish(
        &mut self,
        client: Client,
        query: &Query,
        limit: usize,
        mut answer: Vec<u8>,
        now: Instant,
    ) {
        if answer.len() > limit {
            answer = query.cut(&answer);
        } else {
            renumber(&mut answer, query.id);
        }
        self.reply(client, &answer, now);
    }

    fn ask(
        &mut self,
        forward: &Forward,
        attempt: Attempt,
        number: u64,
        now: Instant,
    ) -> rustix::io::Result<Exchange> {
        let Attempt { server, transport } = attempt;
        let socket = self.open(server, transport)?;
        let mut id = [0_u8; 2];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
        let id = u16::from_ne_bytes(id);
        let mut packet = forward.packet.clone();
        renumber(&mut packet, id);
        let stream = match rustix::net::connect(&socket, &server.address) {
            Ok(()) | Err(Errno::INPROGRESS) if transport == Transport::Tcp => {
                Some((framed(&packet), 0, Vec::new()))
            }
            Ok(()) => {
                rustix::net::send(&socket, &packet, SendFlags::NOSIGNAL)?;
                None
            }
            Err(error) => return Err(error),
        };
        let flags = match transport {
            Transport::Udp => EventFlags::IN,
            Transport::Tcp => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        };
        self.watch(&socket, number, flags)?;
        Ok(Exchange {
            server: server.address,
            socket,
            number: id,
            strays: 0,
            until: now + limits::DNS_ATTEMPT,
            stream,
        })
    }

    /// A socket in the namespace from which this server is asked.
    fn open(&self, server: Upstream, transport: Transport) -> rustix::io::Result<OwnedFd> {
        let family = if server.address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let kind = match transport {
            Transport::Udp => SocketType::DGRAM,
            Transport::Tcp => SocketType::STREAM,
        };
        let open = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            rustix::net::socket_with(family, kind, flags, None)
        };
        match server.from {
            Place::Host => open(),
            Place::Container => inside(&self.namespace, open).map_err(|_| Errno::PERM)?,
        }
    }

    pub(super) fn attempt_timed_out(&mut self, number: u64, now: Instant) {
        let server = self
            .forwards
            .get(&number)
            .and_then(|forward| forward.exchange.as_ref())
            .map(|exchange| exchange.server);
        if let Some(server) = server {
            self.upstreams.note_silent(server, now);
        }
        self.next_attempt(number, now);
    }

    /// Something has happened on the socket of a query.
    pub(super) fn forward_ready(&mut self, number: u64, now: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.len() < limits::DNS_MESSAGE {
            buffer = vec![0; limits::DNS_MESSAGE];
        }
        let progress = self
            .forwards
            .get_mut(&number)
            .map_or(Progress::Nothing, |forward| forward.read(&mut buffer));
        self.buffer = buffer;
        match progress {
            Progress::Nothing => {}
            Progress::Next => self.next_attempt(number, now),
            Progress::Answered(answer) => {
                if let Some(forward) = self.forwards.remove(&number) {
                    if let Some(exchange) = &forward.exchange {
                        self.upstreams.note_answer(exchange.server);
                    }
                    self.finish(forward.client, &forward.query, forward.limit, answer, now);
                }
                self.fill_places(now);
            }
        }
    }
}

impl Forward {
    fn read(&mut self, buffer: &mut [u8]) -> Progress {
        let Some(exchange) = &mut self.exchange else {
            return Progress::Nothing;
        };
        loop {
            let packet: &[u8] = match exchange.receive(buffer) {
                Ok(Some(length)) => &buffer[..length],
                Ok(None) => return Progress::Nothing,
                // Refused, unreachable, closed.
                Err(_) => return Progress::Next,
            };
            match self.query.judge(packet, exchange.number) {
                Judgement::Answer => return Progress::Answered(packet.to_vec()),
                Judgement::Failure => {
                    self.failure = Some(packet.to_vec());
                    return Progress::Next;
                }
                Judgement::Stray => {
                    exchange.strays += 1;
                    if exchange.strays > limits::DNS_STRAY {
                        return Progress::Next;
                    }
                }
            }
        }
    }
}

impl Exchange {
    /// The length of the next message, which is put into `buffer`; `None` when there is none yet.
    fn receive(&mut self, buffer: &mut [u8]) -> rustix::io::Result<Option<usize>> {
        if self.stream.is_some() {
            return self.receive_stream(buffer);
        }
        loop {
            return match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => Ok(Some(length)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(None),
                Err(error) => Err(error),
            };
        }
    }

    fn receive_stream(&mut self, buffer: &mut [u8]) -> rustix::io::Result<Option<usize>> {
        let Some((outgoing, sent, incoming)) = &mut self.stream else {
            return Ok(None);
        };
        while *sent < outgoing.len() {
            match rustix::net::send(&self.socket, &outgoing[*sent..], SendFlags::NOSIGNAL) {
                Ok(count) => *sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        loop {
            if let Some(length) = first_frame(incoming) {
                buffer[..length].copy_from_slice(&incoming[2..2 + length]);
                incoming.drain(..2 + length);
                return Ok(Some(length));
            }
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Errno::CONNRESET),
                Ok((length, _)) => incoming.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The length of the first message in `bytes`, when all of it is there.
pub(super) fn first_frame(bytes: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk::<2>()?));
    (bytes.len() >= 2 + length).then_some(length)
}

/// A message as it is sent over TCP (RFC 1035, 4.2.2).
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(2 + message.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message[..usize::from(length)]);
    frame
}
