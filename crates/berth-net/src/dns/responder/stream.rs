//! Connections of the container's programs by TCP (RFC 7766): several queries may be on their way on one, and answers
//! may come in another order.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::forward::{first_frame, framed};
use super::{Client, Responder};
use crate::limits;

/// Bytes read at once.
const CHUNK: usize = 4096;

#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    /// Queries that have no answer yet.
    pending: usize,
    readable: bool,
    writable: bool,
    /// The client has said all that it will say.
    ended: bool,
    dead: bool,
    /// When it is closed unless something happens.
    pub(super) until: Instant,
}

impl Stream {
    fn new(socket: OwnedFd, now: Instant) -> Self {
        Self {
            socket,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            pending: 0,
            readable: true,
            writable: true,
            ended: false,
            dead: false,
            until: now + limits::DNS_IDLE,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.dead
            || (self.ended
                && self.pending == 0
                && self.outgoing.is_empty()
                && first_frame(&self.incoming).is_none())
    }

    fn has_room(&self) -> bool {
        self.pending < limits::DNS_PIPELINE && self.outgoing.len() - self.sent < limits::DNS_BACKLOG
    }

    /// Whether another query can be taken from it at once.
    pub(super) fn can_go_on(&self) -> bool {
        !self.dead
            && self.has_room()
            && (first_frame(&self.incoming).is_some() || (self.readable && !self.ended))
    }

    /// The next query.
    fn next(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.has_room() {
            return None;
        }
        loop {
            if let Some(length) = first_frame(&self.incoming) {
                let query = self.incoming[2..2 + length].to_vec();
                self.incoming.drain(..2 + length);
                if self.incoming.is_empty() {
                    self.incoming = Vec::new();
                }
                self.pending += 1;
                self.until = now + limits::DNS_IDLE;
                return Some(query);
            }
            if !self.readable || self.ended || self.dead {
                return None;
            }
            let mut chunk = [0_u8; CHUNK];
            match rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.ended = true,
                Ok((length, _)) => self.incoming.extend_from_slice(&chunk[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(_) => self.dead = true,
            }
        }
    }

    pub(super) fn answer(&mut self, message: &[u8], now: Instant) {
        self.pending = self.pending.saturating_sub(1);
        self.until = now + limits::DNS_IDLE;
        self.outgoing.extend_from_slice(&framed(message));
        self.flush();
    }

    fn flush(&mut self) {
        while self.writable && !self.dead && self.sent < self.outgoing.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.socket, &self.outgoing[self.sent..], flags) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(_) => self.dead = true,
            }
        }
        if self.sent == self.outgoing.len() {
            self.outgoing = Vec::new();
            self.sent = 0;
        }
    }
}

impl Responder {
    pub(super) fn accept(&mut self, now: Instant) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&self.sockets.tcp, flags) else {
            return;
        };
        if self.streams.len() >= limits::DNS_CONNECTIONS {
            let oldest = self
                .streams
                .iter()
                .min_by_key(|(_, stream)| stream.until)
                .map(|(number, _)| *number);
            if let Some(oldest) = oldest {
                self.streams.remove(&oldest);
            }
        }
        let number = self.number();
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if self.watch(&socket, number, interest).is_ok() {
            self.streams.insert(number, Stream::new(socket, now));
            self.serve_stream(number, now);
        }
    }

    pub(super) fn stream_ready(&mut self, number: u64, flags: EventFlags, now: Instant) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        stream.readable |= failed || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        stream.writable |= failed || flags.contains(EventFlags::OUT);
        stream.flush();
        self.serve_stream(number, now);
    }

    /// Takes queries from a connection, some at a time.
    pub(super) fn serve_stream(&mut self, number: u64, now: Instant) {
        for _ in 0..limits::DNS_BATCH {
            let Some(query) = self
                .streams
                .get_mut(&number)
                .and_then(|stream| stream.next(now))
            else {
                break;
            };
            if !self.take(Client::Stream(number), &query, now)
                && let Some(stream) = self.streams.get_mut(&number)
            {
                // Not even a query: nobody speaks like that by accident.
                stream.dead = true;
            }
        }
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        if stream.is_done() {
            self.streams.remove(&number);
        } else if stream.can_go_on() && !self.again.contains(&number) {
            self.again.push(number);
        }
    }
}
