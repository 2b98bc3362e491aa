//! A blocking netlink socket, bound to the namespace it was opened in.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NetlinkSerializable, NlasIterator,
};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::batch::{Batch, HEADER_LENGTH};
use super::{Error, Namespace, Refusal, Result};
use crate::limits;

/// Ends a listing, and carries errors (netlink(7)).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The kernel's words within an error (`include/uapi/linux/netlink.h`).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel's side of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// Filtering and translation.
    Netfilter,
}

impl Protocol {
    pub(super) fn number(self) -> isize {
        match self {
            Self::Route => NETLINK_ROUTE,
            Self::Netfilter => NETLINK_NETFILTER,
        }
    }
}

/// One message of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The type of the message.
    pub message_type: u16,
    /// What follows the netlink header.
    pub payload: &'a [u8],
}

/// A conversation with the kernel about one namespace: a request, then all of its answer.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What one message read says about the request under way.
enum Step {
    Reply,
    Interrupted,
    Done,
    Refused(Refusal),
}

impl Socket {
    /// A socket in the namespace of the calling thread.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let attempt = "open a netlink socket";
        let mut socket = netlink_sys::Socket::new(protocol.number())
            .map_err(|cause| Error::io(attempt, cause))?;
        let io = |cause| Error::io(attempt, cause);
        socket.bind_auto().map_err(io)?;
        socket.set_ext_ack(true).map_err(io)?;
        // Without the request repeated in an error its explanation follows at once.
        socket.set_cap_ack(true).map_err(io)?;
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(limits::NETLINK_ANSWER),
        )
        .map_err(|cause| Error::io(attempt, cause))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// A socket in `namespace`, whichever the calling thread is in.
    pub fn open_in(protocol: Protocol, namespace: &Namespace) -> Result<Self> {
        namespace.run(|| Self::open(protocol))?
    }

    /// Sends a batch and waits until all of it is done; the error is the first refusal that is not tolerated.
    ///
    /// Requests behind one that was refused are carried out nevertheless.
    pub fn execute(&mut self, mut batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let first = self.next_sequence(count);
        batch.seal(first);
        self.send(batch.bytes(), &batch.requests[0].attempt)?;
        let mut failure = None;
        loop {
            let mut finished = false;
            let attempt = &batch.requests[0].attempt;
            self.receive(attempt, |sequence, step, _| {
                let place = sequence.wrapping_sub(first);
                if place >= count {
                    return;
                }
                let refusal = match step {
                    Step::Refused(refusal) => Some(refusal),
                    Step::Done => None,
                    Step::Reply | Step::Interrupted => return,
                };
                finished |= place == count - 1;
                let request = &batch.requests[place as usize];
                if let Some(refusal) = refusal
                    && failure.is_none()
                    && !request.tolerated.contains(&refusal.errno)
                {
                    failure = Some(Error::Refused {
                        attempt: request.attempt.clone(),
                        source: refusal,
                    });
                }
            })?;
            if finished {
                return failure.map_or(Ok(()), Err);
            }
        }
    }

    /// Sends one request that is answered by one message, and gives that to `read`.
    ///
    /// `None` when the kernel knows no such object.
    pub fn query<T>(
        &mut self,
        attempt: &str,
        message: &impl NetlinkSerializable,
        mut read: impl FnMut(Reply<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut batch = Batch::new();
        batch.push(attempt, 0, message);
        let sequence = self.next_sequence(1);
        batch.seal(sequence);
        self.send(batch.bytes(), attempt)?;
        let mut found = None;
        loop {
            let mut end = None;
            self.receive(attempt, |number, step, reply| {
                if number != sequence {
                    return;
                }
                match step {
                    Step::Reply => found = found.take().or_else(|| read(reply)),
                    Step::Done => end = Some(None),
                    Step::Refused(refusal) => end = Some(Some(refusal)),
                    Step::Interrupted => {}
                }
            })?;
            let Some(end) = end else { continue };
            return match end {
                None => Ok(found),
                Some(source) => {
                    let error = Error::Refused {
                        attempt: attempt.to_owned(),
                        source,
                    };
                    if error.is_not_found() {
                        Ok(None)
                    } else {
                        Err(error)
                    }
                }
            };
        }
    }

    /// Lists what `message` asks for; `read` keeps what it wants of each entry.
    ///
    /// A listing under which the kernel's tables changed (`NLM_F_DUMP_INTR`) is made again, a few times.
    pub fn dump<T>(
        &mut self,
        attempt: &str,
        message: &impl NetlinkSerializable,
        mut read: impl FnMut(Reply<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..limits::DUMP_ATTEMPTS {
            if let Some(entries) = self.dump_once(attempt, message, &mut read)? {
                return Ok(entries);
            }
        }
        Err(Error::Unreadable {
            attempt: attempt.to_owned(),
            cause: "it changed while it was read, every time",
        })
    }

    fn dump_once<T>(
        &mut self,
        attempt: &str,
        message: &impl NetlinkSerializable,
        read: &mut impl FnMut(Reply<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let mut batch = Batch::new();
        batch.push(attempt, NLM_F_DUMP, message);
        let sequence = self.next_sequence(1);
        batch.seal(sequence);
        self.send(batch.bytes(), attempt)?;
        let mut entries = Vec::new();
        let (mut interrupted, mut too_many) = (false, false);
        loop {
            let mut end = None;
            self.receive(attempt, |number, step, reply| {
                if number != sequence {
                    return;
                }
                match step {
                    Step::Reply if entries.len() >= limits::DUMP_ENTRIES => too_many = true,
                    Step::Reply => entries.extend(read(reply)),
                    Step::Interrupted => interrupted = true,
                    Step::Done => end = Some(None),
                    Step::Refused(refusal) => end = Some(Some(refusal)),
                }
            })?;
            match end {
                None => {}
                Some(Some(source)) => {
                    return Err(Error::Refused {
                        attempt: attempt.to_owned(),
                        source,
                    });
                }
                Some(None) if too_many => {
                    return Err(Error::Unreadable {
                        attempt: attempt.to_owned(),
                        cause: "it has more entries than are taken",
                    });
                }
                Some(None) => return Ok((!interrupted).then_some(entries)),
            }
        }
    }

    fn next_sequence(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    fn send(&self, bytes: &[u8], attempt: &str) -> Result<()> {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, bytes, SendFlags::empty()))
            .map(drop)
            .map_err(|cause| Error::io(attempt, cause))
    }

    /// Reads one datagram and hands on each of its messages with its sequence number.
    fn receive(&mut self, attempt: &str, mut each: impl FnMut(u32, Step, Reply<'_>)) -> Result<()> {
        self.buffer.resize(limits::NETLINK_DATAGRAM, 0);
        let socket = &self.socket;
        let buffer = &mut self.buffer;
        let (_, length) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::TRUNC)
        })
        .map_err(|cause| match cause {
            Errno::AGAIN => Error::io(attempt, Errno::TIMEDOUT),
            other => Error::io(attempt, other),
        })?;
        let unreadable = |cause| Error::Unreadable {
            attempt: attempt.to_owned(),
            cause,
        };
        let mut rest = self
            .buffer
            .get(..length)
            .ok_or_else(|| unreadable("an answer is longer than is taken"))?;
        while !rest.is_empty() {
            let header = rest
                .first_chunk::<HEADER_LENGTH>()
                .ok_or_else(|| unreadable("an answer is cut short"))?;
            let message_length = word(&header[0..4]) as usize;
            let message = rest
                .get(HEADER_LENGTH..message_length)
                .ok_or_else(|| unreadable("an answer is cut short"))?;
            let message_type = u16::from_ne_bytes([header[4], header[5]]);
            let flags = u16::from_ne_bytes([header[6], header[7]]);
            let sequence = word(&header[8..12]);
            let reply = Reply {
                message_type,
                payload: message,
            };
            if flags & NLM_F_DUMP_INTR != 0 && flags & NLM_F_MULTIPART != 0 {
                each(sequence, Step::Interrupted, reply);
            }
            let step = match message_type {
                NLMSG_ERROR | NLMSG_DONE => ending(message_type, flags, message),
                _ => Step::Reply,
            };
            each(sequence, step, reply);
            rest = rest
                .get(message_length.next_multiple_of(4)..)
                .unwrap_or_default();
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads an acknowledgement, a refusal, or the end of a listing, which carries an error number as well.
fn ending(message_type: u16, flags: u16, message: &[u8]) -> Step {
    let number = message
        .first_chunk::<4>()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if number == 0 {
        return Step::Done;
    }
    // The header of the refused request follows the number in an error, and nothing in the end of a listing.
    let attributes = if message_type == NLMSG_ERROR {
        4 + HEADER_LENGTH
    } else {
        4
    };
    let words = (flags & NLM_F_ACK_TLVS != 0)
        .then(|| message.get(attributes..))
        .flatten()
        .and_then(|bytes| {
            NlasIterator::new(bytes)
                .map_while(|attribute| attribute.ok())
                .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
                .map(|attribute| text(attribute.value()))
        });
    Step::Refused(Refusal {
        errno: Errno::from_raw_os_error(number.saturating_neg()),
        words,
    })
}

/// The characters before the terminating zero.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A 32-bit number in the order of this machine; zero when there are fewer bytes.
pub(super) fn word(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk::<4>()
        .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}
