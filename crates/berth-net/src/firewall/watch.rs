//! Notices of the kernel about changes of the rules, so that a flush by another program is healed within a moment.
//!
//! Owns one socket in the group `NFNLGRP_NFTABLES`. It never blocks; a daemon waits for its descriptor to become
//! readable, reads all, and calls [`super::Firewall::heal`] where that says so.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;

use super::error::{Error, Result};
use super::message::{NFTABLES, received};
use super::table::kind;
use crate::limits::{FIREWALL_DATAGRAM, FIREWALL_WATCH_BUFFER};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;

/// A socket that becomes readable when somebody changes rules.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    name: String,
}

/// What was changed by others since the last reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Something in our tables.
    pub ours: bool,
    /// Tables, chains or rules of others: perhaps an accept that we need is gone, or a new one is needed.
    pub others: bool,
}

impl Watch {
    /// Watches the table `NAME` in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The kernel has no nfnetlink, or does not let us join the group.
    pub fn open(name: &str) -> Result<Self> {
        let watch = |cause| Error::new("watch the firewall's rules", cause);
        let mut socket = Socket::new(12).map_err(watch)?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(watch)?;
        socket.add_membership(GROUP).map_err(watch)?;
        socket.set_non_blocking(true).map_err(watch)?;
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, FIREWALL_WATCH_BUFFER);
        Ok(Self {
            socket,
            name: name.to_owned(),
        })
    }

    /// Reads all notices there are, but those of changes by the socket with the port `own`.
    ///
    /// # Errors
    ///
    /// The socket cannot be read.
    pub fn read(&mut self, own: u32) -> Result<Seen> {
        let mut seen = Seen::default();
        loop {
            let mut datagram = Vec::with_capacity(FIREWALL_DATAGRAM);
            match self.socket.recv_from(&mut datagram, 0) {
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(seen),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                // Notices were lost (netlink(7)): anything may have happened.
                Err(cause) if cause.raw_os_error() == Some(105) => {
                    seen = Seen {
                        ours: true,
                        others: true,
                    };
                    continue;
                }
                Err(cause) => return Err(Error::new("read notices of the firewall", cause)),
            }
            for notice in received(&datagram) {
                if notice.port == own || notice.kind >> 8 != u16::from(NFTABLES) {
                    continue;
                }
                let message = u8::try_from(notice.kind & 0xff).unwrap_or(0);
                if message > kind::DELETE_ELEMENT {
                    continue; // NFT_MSG_NEWGEN and objects, which we have none of
                }
                if notice.attributes().text(1) == Some(&self.name) {
                    seen.ours = true;
                } else if message <= kind::DELETE_RULE {
                    seen.others = true;
                }
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
