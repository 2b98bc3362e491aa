//! The little of networking that needs calls of its own: loopback without netlink, and frames as they are.

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Attempt, Error, Result};

/// Brings up the loopback interface of this process' network namespace.
pub fn bring_up_loopback() -> Result<()> {
    let attempt = || "bring up the loopback interface";
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .attempt(attempt)?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the interface request, which is valid during the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if answer != 0 {
        return Err(Error::new(attempt(), std::io::Error::last_os_error()));
    }
    Ok(())
}

/// Sends one Ethernet frame, header included, by the interface with this number of this thread's network namespace.
///
/// Fails with ENETDOWN when the interface is down (packet(7)).
pub fn send_frame(interface: u32, frame: &[u8]) -> Result<()> {
    let attempt = || format!("send a frame by interface number {interface}");
    // Protocol 0 lets the socket receive nothing.
    let socket = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )
    .attempt(attempt)?;
    // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_ifindex = interface as libc::c_int;
    // SAFETY: the frame and the address are valid for reads of the lengths given, during the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(Error::new(attempt(), std::io::Error::last_os_error()));
    }
    Ok(())
}
