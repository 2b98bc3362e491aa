//! Datagrams with the address they were sent to, and sockets that speak under an address the host does not have.
//!
//! A socket bound to all addresses answers from the one the routing prefers unless it is told another (ip(7), ipv6(7)).

use std::io::{Error as IoError, ErrorKind};
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use crate::error::{Attempt, Error, Result};

/// Room for one control message of either family, aligned as its header has to be.
#[repr(align(8))]
struct Control([u8; 64]);

/// The address of this machine that a datagram was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    /// The interface, where the address means something on that link alone; else zero.
    pub interface: u32,
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Its length.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Which address it was sent to; `None` where the kernel does not say.
    pub to: Option<Local>,
}

fn set(socket: &impl AsFd, level: i32, option: i32) -> std::io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, valid for reads during the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer != 0 {
        return Err(IoError::last_os_error());
    }
    Ok(())
}

/// Lets [`receive`] say which address a datagram was sent to.
pub fn tell_destination(socket: impl AsFd, ipv4: bool) -> Result<()> {
    let (level, option) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    };
    set(&socket, level, option).attempt(|| "ask where datagrams were sent to")
}

/// Lets a socket be bound to any address (`IP_TRANSPARENT`, ip(7)); needs `CAP_NET_ADMIN` or `CAP_NET_RAW`.
pub fn speak_for_others(socket: impl AsFd, ipv4: bool) -> Result<()> {
    let (level, option) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)
    };
    set(&socket, level, option).attempt(|| "speak under an address of another machine")
}

/// Receives one datagram; with `WouldBlock` where there is none and the socket does not wait.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> std::io::Result<Datagram> {
    // SAFETY: both are plain data for which all zeroes is a valid value.
    let (mut from, mut header): (libc::sockaddr_storage, libc::msghdr) =
        unsafe { (zeroed(), zeroed()) };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    header.msg_name = (&raw mut from).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control.0).cast();
    header.msg_controllen = control.0.len();
    // SAFETY: every pointer in the header leads to memory that is valid for writes of the length beside it.
    let length = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut header,
            libc::MSG_DONTWAIT,
        )
    };
    let Ok(length) = usize::try_from(length) else {
        return Err(IoError::last_os_error());
    };
    let from = read_address(&from, header.msg_namelen)
        .ok_or_else(|| IoError::from(ErrorKind::InvalidData))?;
    Ok(Datagram {
        length,
        from,
        to: read_destination(&header),
    })
}

/// Sends one datagram from the address `from`, which the socket is bound to or which is among all it is bound to.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<Local>,
) -> std::io::Result<usize> {
    // SAFETY: plain data for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    let mut control = Control([0; 64]);
    let (mut v4, mut v6);
    match to {
        SocketAddr::V4(to) => {
            v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(to.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            header.msg_name = (&raw mut v4).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
        SocketAddr::V6(to) => {
            v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: to.port().to_be(),
                sin6_flowinfo: to.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: to.ip().octets(),
                },
                sin6_scope_id: to.scope_id(),
            };
            header.msg_name = (&raw mut v6).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        }
    }
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if let Some(from) = from {
        header.msg_controllen = write_source(&mut control.0, from);
        header.msg_control = (&raw mut control.0).cast();
    }
    // SAFETY: every pointer in the header leads to memory that is valid for reads of the length beside it.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_fd().as_raw_fd(),
            &raw const header,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| IoError::last_os_error())
}

fn read_address(storage: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET if length as usize >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the storage is as large as any address and holds one of this family.
            let raw = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(address, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 if length as usize >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let raw = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddrV6::new(address, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn read_destination(header: &libc::msghdr) -> Option<Local> {
    // SAFETY: the kernel filled the control messages of the header, and these functions stay within its length.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it leads to a whole header within the control messages.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: a message of this kind holds this structure.
                let info = unsafe {
                    libc::CMSG_DATA(message)
                        .cast::<libc::in_pktinfo>()
                        .read_unaligned()
                };
                let address = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                return Some(Local {
                    address: address.into(),
                    interface: 0,
                });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: a message of this kind holds this structure.
                let info = unsafe {
                    libc::CMSG_DATA(message)
                        .cast::<libc::in6_pktinfo>()
                        .read_unaligned()
                };
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                let link_local = address.segments()[0] & 0xffc0 == 0xfe80;
                return Some(Local {
                    address: address.into(),
                    interface: if link_local { info.ipi6_ifindex } else { 0 },
                });
            }
            _ => {}
        }
        // SAFETY: as for the first one.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// Writes one control message that names the source; its length with padding.
fn write_source(control: &mut [u8; 64], from: Local) -> usize {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let (level, kind, data): (i32, i32, Vec<u8>) = match from.address {
        IpAddr::V4(address) => {
            // struct in_pktinfo: interface, local address, destination.
            let mut data = vec![0; 4];
            data.extend(address.octets());
            data.extend([0; 4]);
            (libc::IPPROTO_IP, libc::IP_PKTINFO, data)
        }
        IpAddr::V6(address) => {
            // struct in6_pktinfo: address, interface.
            let mut data = address.octets().to_vec();
            data.extend(from.interface.to_ne_bytes());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data)
        }
    };
    let length = HEADER + data.len();
    control[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
    control[size_of::<usize>()..][..4].copy_from_slice(&level.to_ne_bytes());
    control[size_of::<usize>() + 4..][..4].copy_from_slice(&kind.to_ne_bytes());
    control[HEADER..length].copy_from_slice(&data);
    length.next_multiple_of(size_of::<usize>())
}

/// A socket bound to an address of another machine and on its way to `to`; does not wait.
///
/// Its answers come back only where the routing leads them here.
pub fn connect_as(
    from: IpAddr,
    to: SocketAddr,
    kind: rustix::net::SocketType,
) -> Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, bind, connect, socket_with};
    let attempt = || format!("connect to {to} under the address {from}");
    if from.is_ipv4() != to.is_ipv4() {
        return Err(Error::invalid(attempt(), "they are of different families"));
    }
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None).attempt(attempt)?;
    speak_for_others(&socket, to.is_ipv4())?;
    bind(&socket, &SocketAddr::new(from, 0)).attempt(attempt)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(cause) => Err(Error::new(attempt(), cause)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn answered_from(asked: &str, all: &str) {
        let server = UdpSocket::bind((all, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let ipv4 = server.local_addr().unwrap().is_ipv4();
        tell_destination(&server, ipv4).unwrap();
        let client = UdpSocket::bind((all, 0)).unwrap();
        client.send_to(b"?", (asked, port)).unwrap();
        let mut buffer = [0; 16];
        server
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        server.peek_from(&mut buffer).unwrap();
        let datagram = receive(&server, &mut buffer).unwrap();
        assert_eq!(datagram.length, 1);
        assert_eq!(datagram.to.unwrap().address.to_string(), asked);
        assert_eq!(send(&server, b"!!", datagram.from, datagram.to).unwrap(), 2);
        client
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((length, from.ip().to_string()), (2, asked.to_owned()));
        assert_eq!(
            receive(&server, &mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        answered_from("127.0.0.2", "0.0.0.0");
        answered_from("127.0.0.9", "0.0.0.0");
        answered_from("::1", "::");
    }
}
