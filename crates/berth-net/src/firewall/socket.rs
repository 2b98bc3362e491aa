//! The connection to nfnetlink: batches confirmed, dumps read.
//!
//! Owns one blocking socket, which belongs to the network namespace it was opened in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::net::sockopt::{self, Timeout};

use super::error::{Error, Result};
use super::message::{ACK, Attributes, Batch, DUMP, Received, message, received};
use crate::limits::{FIREWALL_ANSWER, FIREWALL_BUFFER, FIREWALL_DATAGRAM, FIREWALL_DUMPS};

/// `NETLINK_NETFILTER`.
const PROTOCOL: isize = 12;
/// `NLM_F_DUMP_INTR`: what was listed changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// `NLMSG_DONE`.
const DONE: u16 = 3;

/// A blocking nfnetlink socket of one network namespace.
#[derive(Debug)]
pub struct Socket {
    raw: RawSocket,
    port: u32,
    sequence: AtomicU32,
}

impl Socket {
    /// Opens one in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// The kernel has no nfnetlink, or permission is missing when it is used.
    pub fn open() -> Result<Self> {
        let attempt = || "open a netfilter socket".to_owned();
        let mut raw = RawSocket::new(PROTOCOL).map_err(|cause| Error::new(attempt(), cause))?;
        let address = raw
            .bind_auto()
            .map_err(|cause| Error::new(attempt(), cause))?;
        // Refusals quote no more than the header of what they refuse.
        let _ = raw.set_cap_ack(true);
        // Whole tables are one datagram; without the right to force it, small ones still pass.
        let _ = sockopt::set_socket_send_buffer_size_force(&raw, FIREWALL_BUFFER);
        let _ = sockopt::set_socket_recv_buffer_size_force(&raw, FIREWALL_BUFFER);
        sockopt::set_socket_timeout(&raw, Timeout::Recv, Some(FIREWALL_ANSWER))
            .map_err(|cause| Error::new(attempt(), cause.into()))?;
        Ok(Self {
            raw,
            port: address.port_number(),
            sequence: AtomicU32::new(1),
        })
    }

    /// Closes where nobody waits for it: the end of a netfilter socket takes the kernel about 10 ms.
    pub(crate) fn close_behind(self) {
        // Where no thread can be made, the refused closure closes it here.
        let _ = std::thread::Builder::new()
            .name("close".to_owned())
            .spawn(move || drop(self));
    }

    /// The port by which the kernel knows this socket; notices of our own changes carry it.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Carries a batch out: all of it or nothing.
    pub(crate) fn commit(&self, attempt: &str, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.sequence.fetch_add(
            u32::try_from(batch.len() + 2).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
        let (bytes, confirmed) = batch.encode(first);
        self.send(attempt, &bytes)?;
        let mut refused = None;
        loop {
            let datagram = self.receive(attempt)?;
            for answer in received(&datagram) {
                let Some(code) = answer.error() else { continue };
                let place = answer.sequence.wrapping_sub(first);
                if place > confirmed.wrapping_sub(first) + 1 {
                    continue; // an answer to an earlier request that was given up
                }
                if code != 0 && refused.is_none() {
                    let cause = io::Error::from_raw_os_error(-code);
                    let step = batch
                        .kind_of(answer.sequence, first)
                        .map_or_else(String::new, |kind| format!(" (message {kind})"));
                    refused = Some(Error::new(format!("{attempt}{step}"), cause));
                }
                // A batch that is refused as a whole is refused at its beginning.
                if answer.sequence == confirmed || (code != 0 && place == 0) {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// One request outside of batches that is confirmed.
    pub(crate) fn request(
        &self,
        attempt: &str,
        subsystem: u8,
        kind: u8,
        family: u8,
        attributes: &Attributes,
    ) -> Result<()> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let bytes = message(subsystem, kind, ACK, family, sequence, attributes);
        self.send(attempt, &bytes)?;
        loop {
            let datagram = self.receive(attempt)?;
            for answer in received(&datagram) {
                if answer.sequence != sequence {
                    continue;
                }
                match answer.error() {
                    Some(0) => return Ok(()),
                    Some(code) => {
                        let cause = io::Error::from_raw_os_error(-code);
                        return Err(Error::new(attempt.to_owned(), cause));
                    }
                    None => {}
                }
            }
        }
    }

    /// Lists; every message is handed to `each`. A list that changed underneath is begun again after `restart`.
    pub(crate) fn dump(
        &self,
        attempt: &str,
        (subsystem, kind, family): (u8, u8, u8),
        attributes: &Attributes,
        mut each: impl FnMut(Listing<'_>),
    ) -> Result<()> {
        for _ in 0..FIREWALL_DUMPS {
            each(Listing::Begin);
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            let bytes = message(subsystem, kind, DUMP, family, sequence, attributes);
            self.send(attempt, &bytes)?;
            if self.read_dump(attempt, sequence, &mut each)? {
                return Ok(());
            }
        }
        let cause = io::Error::from(io::ErrorKind::Interrupted);
        Err(Error::new(attempt.to_owned(), cause))
    }

    /// Whether the list is of one moment.
    fn read_dump(
        &self,
        attempt: &str,
        sequence: u32,
        each: &mut impl FnMut(Listing<'_>),
    ) -> Result<bool> {
        let mut consistent = true;
        loop {
            let datagram = self.receive(attempt)?;
            for answer in received(&datagram) {
                if answer.sequence != sequence {
                    continue;
                }
                consistent &= answer.flags & INTERRUPTED == 0;
                match (answer.kind, answer.error()) {
                    (DONE, _) | (_, Some(0)) => return Ok(consistent),
                    (_, Some(code)) => {
                        let cause = io::Error::from_raw_os_error(-code);
                        if cause.kind() == io::ErrorKind::Interrupted {
                            return Ok(false);
                        }
                        return Err(Error::new(attempt.to_owned(), cause));
                    }
                    _ => each(Listing::Item(answer)),
                }
            }
        }
    }

    fn receive(&self, attempt: &str) -> Result<Vec<u8>> {
        let mut datagram = Vec::with_capacity(FIREWALL_DATAGRAM);
        self.raw
            .recv_from(&mut datagram, 0)
            .map_err(|cause| Error::new(attempt.to_owned(), cause))?;
        Ok(datagram)
    }

    fn send(&self, attempt: &str, bytes: &[u8]) -> Result<()> {
        self.raw
            .send_to(bytes, &SocketAddr::new(0, 0), 0)
            .map(drop)
            .map_err(|cause| Error::new(attempt.to_owned(), cause))
    }
}

/// What a list hands out.
#[derive(Debug)]
pub(crate) enum Listing<'a> {
    /// The list begins, perhaps again: forget what came before.
    Begin,
    /// An item.
    Item(Received<'a>),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}
