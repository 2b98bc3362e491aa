//! A daemon's connection, seen from the monitor.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
};

use crate::limits;
use crate::protocol::{FromMonitor, frame};

pub(super) struct Link {
    socket: OwnedFd,
    readable: bool,
    writable: bool,
    ending: bool,
    incoming: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    outgoing: Vec<u8>,
    sent: usize,
    dead: bool,
}

/// A frame and the descriptors that came with it.
pub(super) struct Received {
    pub(super) body: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
            ending: false,
            incoming: Vec::new(),
            descriptors: VecDeque::new(),
            outgoing: Vec::new(),
            sent: 0,
            dead: false,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn ready(&mut self, readable: bool, writable: bool, ending: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.ending |= ending;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// The next whole frame.
    pub(super) fn receive(&mut self) -> Option<Received> {
        loop {
            match frame::take(&mut self.incoming) {
                Err(_) => self.dead = true,
                Ok(Some((body, count))) => {
                    if self.incoming.is_empty() {
                        self.incoming = Vec::new();
                    }
                    if count > self.descriptors.len() {
                        self.dead = true;
                        return None;
                    }
                    return Some(Received {
                        body,
                        descriptors: self.descriptors.drain(..count).collect(),
                    });
                }
                Ok(None) => {}
            }
            if self.dead || !self.readable {
                return None;
            }
            self.read();
        }
    }

    fn read(&mut self) {
        let mut chunk = [0_u8; 8192];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(limits::MAX_FRAME_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut chunk)],
            &mut control,
            flags,
        ) {
            Ok(message) => {
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(list) = part {
                        self.descriptors.extend(list);
                    }
                }
                if message.bytes == 0 || self.descriptors.len() > limits::MAX_FRAME_DESCRIPTORS * 64
                {
                    self.dead = true;
                }
                self.incoming.extend_from_slice(&chunk[..message.bytes]);
                // Not cleared on a short read: the kernel stops at descriptors although more bytes follow.
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => self.readable = false,
            Err(_) => self.dead = true,
        }
    }

    /// Queues a message, sending what can be sent at once.
    pub(super) fn send(&mut self, message: &FromMonitor) {
        if self.dead {
            return;
        }
        match frame::encode(message, 0) {
            Ok(bytes) => self.outgoing.extend_from_slice(&bytes),
            // Nothing of ours is that long; a connection that misses an answer is of no use.
            Err(_) => self.dead = true,
        }
        self.flush();
        if self.outgoing.len() - self.sent > limits::MAX_CONNECTION_BACKLOG {
            self.dead = true;
        }
    }

    /// Sends what waits, as far as the daemon takes it.
    pub(super) fn flush(&mut self) {
        while self.writable && !self.dead && self.sent < self.outgoing.len() {
            let parts = [IoSlice::new(&self.outgoing[self.sent..])];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::sendmsg(
                &self.socket,
                &parts,
                &mut SendAncillaryBuffer::default(),
                flags,
            ) {
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

    /// Whether something waits to be sent.
    pub(super) fn has_backlog(&self) -> bool {
        !self.dead && self.sent < self.outgoing.len()
    }
}
