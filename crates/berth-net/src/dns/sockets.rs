//! The sockets of a container's resolver, on 127.0.0.11 inside its network namespace.
//!
//! They are on ports that the kernel chooses, and port 53 of 127.0.0.11 is rewritten to them and back by
//! [`crate::firewall`] inside the namespace. Binding port 53 itself would be simpler, but then a program in the container
//! could not listen on port 53 of all addresses: the kernel refuses that to every TCP server, and to every UDP server that
//! does not set SO_REUSEADDR (those written in Go, for example).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use berth_sys::{Error, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::resolv_conf::RESOLVER;
use crate::firewall;
use crate::inside::inside;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// The two sockets: neither blocks, both are closed when a program is executed.
#[derive(Debug)]
pub struct DnsSockets {
    /// For queries by UDP.
    pub udp: OwnedFd,
    /// Listens for those by TCP.
    pub tcp: OwnedFd,
}

/// The ports that a container's 127.0.0.11:53 leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsPorts {
    /// Of [`DnsSockets::udp`].
    pub udp: u16,
    /// Of [`DnsSockets::tcp`].
    pub tcp: u16,
}

impl DnsSockets {
    /// Opens them in the network namespace of the calling thread, whose loopback interface must be up for them to be of use.
    ///
    /// # Errors
    /// When there are no descriptors or ports left.
    pub fn open() -> Result<Self> {
        let open = |kind: SocketType| -> rustix::io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
            rustix::net::bind(&socket, &SocketAddrV4::new(RESOLVER, 0))?;
            Ok(socket)
        };
        let error = |cause: rustix::io::Errno| {
            Error::new("open the sockets of a container's resolver", cause)
        };
        let udp = open(SocketType::DGRAM).map_err(error)?;
        let tcp = open(SocketType::STREAM).map_err(error)?;
        rustix::net::listen(&tcp, BACKLOG).map_err(error)?;
        Ok(Self { udp, tcp })
    }

    /// Opens them in `namespace`, which the calling thread enters for that time.
    ///
    /// # Errors
    /// As [`DnsSockets::open`], and when the namespace cannot be entered.
    pub fn open_in(namespace: impl AsFd) -> Result<Self> {
        inside(namespace, Self::open)?
    }

    /// Opens them in the calling thread's network namespace and leads port 53 of 127.0.0.11 to them. Of an earlier pair in that
    /// namespace nothing is left.
    ///
    /// # Errors
    /// As [`DnsSockets::open`], and when the kernel refuses the rules.
    pub fn prepare() -> Result<Self> {
        let sockets = Self::open()?;
        let ports = sockets.ports()?;
        firewall::Socket::open()
            .and_then(|socket| {
                firewall::dns_redirect(&socket, ports.udp, ports.tcp)?;
                socket.close_behind();
                Ok(())
            })
            .map_err(|error| Error::new(error.to_string(), cause(&error)))?;
        Ok(sockets)
    }

    /// As [`DnsSockets::prepare`] in `namespace`, which the calling thread enters for that time.
    ///
    /// # Errors
    /// As [`DnsSockets::prepare`], and when the namespace cannot be entered.
    pub fn prepare_in(namespace: impl AsFd) -> Result<Self> {
        inside(namespace, Self::prepare)?
    }

    /// Their ports, for the rewriting of port 53.
    ///
    /// # Errors
    /// When they are not such sockets.
    pub fn ports(&self) -> Result<DnsPorts> {
        Ok(DnsPorts {
            udp: port(&self.udp)?,
            tcp: port(&self.tcp)?,
        })
    }
}

fn port(socket: &OwnedFd) -> Result<u16> {
    let attempt = "look at a socket of a container's resolver";
    let address = rustix::net::getsockname(socket).map_err(|cause| Error::new(attempt, cause))?;
    match SocketAddr::try_from(address) {
        Ok(SocketAddr::V4(address)) if is_resolver(*address.ip()) => Ok(address.port()),
        _ => Err(Error::invalid(attempt, "it is bound to another address")),
    }
}

fn cause(error: &firewall::Error) -> std::io::Error {
    let code = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error);
    code.map_or_else(
        || std::io::Error::other("the rules were refused"),
        std::io::Error::from_raw_os_error,
    )
}

fn is_resolver(address: Ipv4Addr) -> bool {
    address == RESOLVER
}
