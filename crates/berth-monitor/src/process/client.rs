//! One attached stream: frames out, bytes in.
//!
//! A client that does not read makes the container wait once [`limits::MAX_CLIENT_BACKLOG`] bytes are queued for it, as
//! Docker does: output that somebody watches is not thrown away. To keep a forgotten client from holding a container
//! for ever, one that takes nothing for [`limits::CLIENT_STALL`] is disconnected; the log has everything.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::poll::Key;
use crate::limits;
use crate::log::StreamKind;
use crate::protocol::Streams;

pub(super) struct Client {
    /// The session it is attached to.
    pub(super) session: Key,
    socket: OwnedFd,
    streams: Streams,
    /// Bytes without headers, because the session has a terminal.
    raw: bool,
    readable: bool,
    writable: bool,
    /// The other side is closed at least for writing, and will not be reported again.
    ending: bool,
    /// The other side is closed entirely.
    hung_up: bool,
    /// Its input has ended, or was never wanted.
    input_done: bool,
    backlog: Vec<u8>,
    sent: usize,
    /// When it last took something; only meaningful with a backlog.
    progress: Instant,
    /// Nothing more comes: close as soon as the backlog is sent.
    closing: bool,
    dead: bool,
}

/// What a client's input gave.
pub(super) enum Input {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// It has ended.
    End,
}

impl Client {
    pub(super) fn new(session: Key, socket: OwnedFd, streams: Streams, raw: bool) -> Self {
        Self {
            session,
            socket,
            streams,
            raw,
            readable: true,
            writable: true,
            ending: false,
            hung_up: false,
            input_done: !streams.stdin,
            backlog: Vec::new(),
            sent: 0,
            progress: Instant::now(),
            closing: false,
            dead: false,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn ready(&mut self, readable: bool, writable: bool, ending: bool, hung_up: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.ending |= ending;
        self.hung_up |= hung_up;
        // What it sent before is still taken; nobody reads what we would send.
        self.dead |= self.hung_up && self.input_done;
    }

    /// Whether there may be input to take.
    pub(super) fn has_input(&self) -> bool {
        self.readable && !self.input_done && !self.dead
    }

    /// Takes input into `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Input {
        match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.input_done = true;
                self.dead |= self.hung_up;
                Input::End
            }
            Ok((count, _)) => {
                self.readable = count == buffer.len() || self.ending;
                Input::Bytes(count)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Input::Nothing
            }
            Err(Errno::INTR) => Input::Nothing,
            Err(_) => {
                self.dead = true;
                self.input_done = true;
                Input::End
            }
        }
    }

    /// Queues output, sending what can be sent at once.
    pub(super) fn send(&mut self, stream: StreamKind, data: &[u8]) {
        let wanted = match stream {
            StreamKind::Stdout => self.streams.stdout,
            StreamKind::Stderr => self.streams.stderr,
        };
        if !wanted || self.dead || self.closing {
            return;
        }
        let mut header = [stream.number(), 0, 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        let header = if self.raw { &[][..] } else { &header[..] };
        let mut done = 0;
        if self.pending() == 0 {
            self.progress = Instant::now();
            if self.writable {
                done = self.write(&[IoSlice::new(header), IoSlice::new(data)]);
            }
        }
        if done < header.len() {
            self.backlog.extend_from_slice(&header[done..]);
        }
        self.backlog
            .extend_from_slice(&data[done.saturating_sub(header.len())..]);
    }

    /// Sends what waits, as far as the other side takes it.
    pub(super) fn flush(&mut self) {
        while self.writable && !self.dead && self.pending() > 0 {
            let backlog = std::mem::take(&mut self.backlog);
            let count = self.write(&[IoSlice::new(&backlog[self.sent..])]);
            self.backlog = backlog;
            self.sent += count;
            if count > 0 {
                self.progress = Instant::now();
            }
        }
        if self.pending() == 0 {
            self.backlog = Vec::new();
            self.sent = 0;
        }
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> usize {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(
            &self.socket,
            parts,
            &mut SendAncillaryBuffer::default(),
            flags,
        ) {
            Ok(count) => {
                let total: usize = parts.iter().map(|part| part.len()).sum();
                self.writable = count == total;
                // A short write means that the socket is full; its event comes when there is room.
                count
            }
            Err(Errno::INTR) => 0,
            Err(Errno::AGAIN) => {
                self.writable = false;
                0
            }
            Err(_) => {
                // Nobody reads any more. Input may still be on its way.
                self.streams.stdout = false;
                self.streams.stderr = false;
                self.backlog = Vec::new();
                self.sent = 0;
                self.dead = self.input_done;
                parts.iter().map(|part| part.len()).sum()
            }
        }
    }

    /// Bytes that wait.
    pub(super) fn pending(&self) -> usize {
        self.backlog.len() - self.sent
    }

    /// Whether the container must wait for it.
    pub(super) fn is_full(&self) -> bool {
        !self.dead && self.pending() > limits::MAX_CLIENT_BACKLOG
    }

    /// No more output comes for it.
    pub(super) fn close_when_sent(&mut self) {
        self.closing = true;
    }

    /// Detaches it, without waiting for what was not sent.
    pub(super) fn kill(&mut self) {
        self.dead = true;
    }

    /// Whether it can be removed.
    pub(super) fn is_done(&self) -> bool {
        self.dead || (self.closing && self.pending() == 0)
    }

    /// When it has to be given up, if nothing changes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.is_full() || (self.closing && self.pending() > 0))
            .then(|| self.progress + limits::CLIENT_STALL)
    }

    /// Whether it holds anything that a pump could move now.
    pub(super) fn can_flush(&self) -> bool {
        self.writable && !self.dead && self.pending() > 0
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
