//! One TCP connection carried between a client and the container.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use crate::limits::FORWARD_BUFFER;

/// Two ends, and what is under way between them.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) client: OwnedFd,
    pub(super) server: OwnedFd,
    connecting: bool,
    up: Way,
    down: Way,
}

/// Bytes in one direction.
#[derive(Debug, Default)]
struct Way {
    /// Read and not written yet; not more is read until this is gone.
    waiting: Vec<u8>,
    written: usize,
    /// The source has ended.
    ended: bool,
    /// The end was passed on.
    closed: bool,
}

impl Stream {
    pub(super) fn new(client: OwnedFd, server: OwnedFd) -> Self {
        // Small answers must not wait for each other (RFC 896); the ends decide about that, not we.
        let _ = sockopt::set_tcp_nodelay(&client, true);
        let _ = sockopt::set_tcp_nodelay(&server, true);
        Self {
            client,
            server,
            connecting: true,
            up: Way::default(),
            down: Way::default(),
        }
    }

    pub(super) fn end(&self, server: bool) -> &OwnedFd {
        if server { &self.server } else { &self.client }
    }

    /// What this end has to be watched for.
    pub(super) fn interest(&self, server: bool) -> EventFlags {
        let (from, to) = if server {
            (&self.down, &self.up)
        } else {
            (&self.up, &self.down)
        };
        let mut flags = EventFlags::empty();
        if self.connecting {
            // Until the container answers, its buffer is the client's own.
            if server {
                flags |= EventFlags::OUT;
            }
            return flags;
        }
        if !from.ended && from.waiting.is_empty() {
            flags |= EventFlags::IN;
        }
        if !to.waiting.is_empty() {
            flags |= EventFlags::OUT;
        }
        flags
    }

    /// Whether this end has nothing more to read or to take.
    pub(super) fn is_through(&self, server: bool) -> bool {
        let (from, to) = if server {
            (&self.down, &self.up)
        } else {
            (&self.up, &self.down)
        };
        from.ended && from.waiting.is_empty() && to.closed
    }

    /// Moves what can be moved after an event at one end; false when the connection is over.
    pub(super) fn advance(&mut self, server: bool, flags: EventFlags) -> bool {
        if self.connecting {
            if !server {
                // The client has gone before the container answered.
                return !flags.intersects(EventFlags::ERR | EventFlags::HUP);
            }
            if !matches!(sockopt::socket_error(&self.server), Ok(Ok(()))) {
                return false;
            }
            self.connecting = false;
        }
        let moved = self
            .up
            .advance(&self.client, &self.server)
            .and_then(|()| self.down.advance(&self.server, &self.client));
        moved.is_ok() && !(self.up.closed && self.down.closed)
    }
}

impl Way {
    fn advance(&mut self, from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
        // Two rounds: what was waiting, and one buffer more; others get their turn then.
        for _ in 0..2 {
            if self.waiting.is_empty() && !self.ended {
                let mut buffer = vec![0; FORWARD_BUFFER];
                match recv(from, &mut buffer[..], RecvFlags::empty()) {
                    Ok((0, _)) => self.ended = true,
                    Ok((length, _)) => {
                        buffer.truncate(length);
                        self.waiting = buffer;
                        self.written = 0;
                    }
                    Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                    Err(cause) => return Err(cause),
                }
            }
            while self.written < self.waiting.len() {
                match send(to, &self.waiting[self.written..], SendFlags::NOSIGNAL) {
                    Ok(length) => self.written += length,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(cause) => return Err(cause),
                }
            }
            // The memory goes, too: an idle connection costs none.
            self.waiting = Vec::new();
            self.written = 0;
            if self.ended && !self.closed {
                self.closed = true;
                match shutdown(to, Shutdown::Write) {
                    Ok(()) | Err(Errno::NOTCONN) => {}
                    Err(cause) => return Err(cause),
                }
            }
        }
        Ok(())
    }
}
