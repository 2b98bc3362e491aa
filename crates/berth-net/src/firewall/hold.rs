//! Sockets that hold published ports in the host's namespace.
//!
//! Owns making them. A held port is bound and (TCP, SCTP) listened on, so that no other program takes it and the
//! kernel's own answer says when one has it. Until [`super::Forwarder`] takes them over, nobody answers there.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt,
};

use super::parts::Protocol;
use crate::limits::HELD_BACKLOG;

/// Why a port could not be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The kernel refuses, as for a port that another program has.
    #[error("listen {}: bind: {}", network(*.protocol, .address), reason(*.cause))]
    Refused {
        /// The protocol.
        protocol: Protocol,
        /// The address and port.
        address: SocketAddr,
        /// What the kernel said; part of the text, whose form is Docker's.
        cause: Errno,
    },
}

impl HoldError {
    /// Whether another program has the port, so that another port of a range may do.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        let Self::Refused { cause, .. } = self;
        *cause == Errno::ADDRINUSE
    }

    /// What the kernel said, in the words Docker prints.
    #[must_use]
    pub fn reason(&self) -> String {
        let Self::Refused { cause, .. } = self;
        reason(*cause)
    }

    /// The class that an API's edge needs.
    #[must_use]
    pub fn kind(&self) -> berth_types::ErrorKind {
        if self.is_taken() {
            berth_types::ErrorKind::Conflict
        } else {
            let Self::Refused { cause, .. } = self;
            berth_types::ErrorKind::from_io(&(*cause).into())
        }
    }
}

fn network(protocol: Protocol, address: &SocketAddr) -> String {
    let family = if address.is_ipv4() { 4 } else { 6 };
    format!("{protocol}{family} {address}")
}

/// The C library's sentence, in the small letters Docker prints.
fn reason(cause: Errno) -> String {
    match cause {
        Errno::ADDRINUSE => "address already in use".to_owned(),
        Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        other => std::io::Error::from(other).to_string().to_lowercase(),
    }
}

/// Holds one port in the calling thread's network namespace.
///
/// The answer is none where the kernel itself has no such protocol (SCTP without its module): then no other program can
/// take the port either, and translation does not need the socket.
///
/// # Errors
///
/// Another program has the port, or the host does not have the address.
pub fn hold(protocol: Protocol, host: IpAddr, port: u16) -> Result<Option<OwnedFd>, HoldError> {
    let address = SocketAddr::new(host, port);
    let refused = |cause| HoldError::Refused {
        protocol,
        address,
        cause,
    };
    let family = if host.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match socket_with(family, kind, flags, Some(number)) {
        Ok(socket) => socket,
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => {
            return Ok(None);
        }
        Err(cause) => return Err(refused(cause)),
    };
    if !host.is_ipv4() {
        // `::` and `0.0.0.0` are held apart, as they are translated apart.
        sockopt::set_ipv6_v6only(&socket, true).map_err(refused)?;
    }
    if protocol != Protocol::Udp {
        // Connections in TIME_WAIT must not keep a container from being started again; since we listen, no other
        // socket with this option can take the port all the same (socket(7)).
        sockopt::set_socket_reuseaddr(&socket, true).map_err(refused)?;
    }
    bind(&socket, &address).map_err(refused)?;
    if protocol != Protocol::Udp {
        listen(&socket, HELD_BACKLOG).map_err(refused)?;
    }
    Ok(Some(socket))
}
