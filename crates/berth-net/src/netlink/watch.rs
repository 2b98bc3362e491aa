//! Notifications of links, addresses and routes that change.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::SocketAddr;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::{Error, Namespace, Protocol, Result};
use crate::limits;

/// Groups of notifications (`RTMGRP_*`, `include/uapi/linux/rtnetlink.h`).
const RTMGRP_LINK: u32 = 1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV4_ROUTE: u32 = 0x40;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const RTMGRP_IPV6_ROUTE: u32 = 0x400;

/// A descriptor that becomes readable when links, addresses or routes of a namespace change.
///
/// It tells that something changed, not what: whoever cares lists anew. So a notification the kernel had to drop
/// is as good as any other.
#[derive(Debug)]
pub struct Watch {
    socket: netlink_sys::Socket,
}

impl Watch {
    /// Watches the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let attempt = "watch routes and addresses";
        let io = |cause| Error::io(attempt, cause);
        let mut socket = netlink_sys::Socket::new(Protocol::Route.number()).map_err(io)?;
        let groups = RTMGRP_LINK
            | RTMGRP_IPV4_IFADDR
            | RTMGRP_IPV4_ROUTE
            | RTMGRP_IPV6_IFADDR
            | RTMGRP_IPV6_ROUTE;
        socket.bind(&SocketAddr::new(0, groups)).map_err(io)?;
        socket.set_non_blocking(true).map_err(io)?;
        Ok(Self { socket })
    }

    /// Watches `namespace`.
    pub fn open_in(namespace: &Namespace) -> Result<Self> {
        namespace.run(Self::open)?
    }

    /// Takes what has come; true when anything changed since the last call. Never waits.
    ///
    /// Takes a bounded number at a time: the descriptor stays readable when there are more.
    pub fn drain(&self) -> Result<bool> {
        let mut changed = false;
        let mut buffer = [0_u8; 64];
        for _ in 0..limits::NOTIFICATIONS_AT_ONCE {
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC) {
                Ok(_) | Err(Errno::NOBUFS) => changed = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(cause) => return Err(Error::io("read a change of routes", cause)),
            }
        }
        Ok(changed)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
