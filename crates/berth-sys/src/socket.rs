//! Unix sockets that carry messages and descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::error::{Attempt, Error, Result};

/// Descriptors in one message, at most; the kernel's own limit is 253.
pub const DESCRIPTOR_LIMIT: usize = 64;

/// Two connected sockets that keep message boundaries, both close-on-exec.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .attempt(|| "make a socket pair")
}

/// Two connected stream sockets, both close-on-exec.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .attempt(|| "make a socket pair")
}

/// A message with the descriptors that came with it.
#[derive(Debug)]
pub struct Message {
    /// The bytes; empty when the other side has closed.
    pub bytes: Vec<u8>,
    /// The descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends one message with descriptors; a closed other side is an error (EPIPE), never a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    if descriptors.len() > DESCRIPTOR_LIMIT {
        return Err(Error::invalid("send a message", "too many descriptors"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })
    .attempt(|| "send a message")?;
    if sent != bytes.len() {
        return Err(Error::invalid("send a message", "it was cut short"));
    }
    Ok(())
}

/// Receives one message of at most `limit` bytes and `descriptor_limit` descriptors; a longer one is an error.
pub fn receive(socket: impl AsFd, limit: usize, descriptor_limit: usize) -> Result<Message> {
    let mut bytes = vec![0_u8; limit];
    let mut space =
        vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1)) * descriptor_limit.max(1)];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })
    .attempt(|| "receive a message")?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if received
        .flags
        .intersects(rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC)
    {
        return Err(Error::invalid(
            "receive a message",
            "it is longer than allowed",
        ));
    }
    bytes.truncate(received.bytes);
    Ok(Message { bytes, descriptors })
}

/// Connects a stream socket to the unix socket at `path`.
///
/// A path longer than an address can hold (107 bytes) is reached through a descriptor of its directory.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let attempt = || format!("connect to {}", path.display());
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .attempt(attempt)?;
    with_short_address(path, |address| {
        rustix::io::retry_on_intr(|| rustix::net::connect(&socket, address))
    })
    .attempt(attempt)?;
    Ok(socket)
}

/// Listens on a stream socket bound to `path`, which must not exist.
pub fn listen(path: &Path, backlog: i32) -> Result<OwnedFd> {
    let attempt = || format!("listen on {}", path.display());
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .attempt(attempt)?;
    with_short_address(path, |address| rustix::net::bind(&socket, address)).attempt(attempt)?;
    rustix::net::listen(&socket, backlog).attempt(attempt)?;
    Ok(socket)
}

fn with_short_address<T>(
    path: &Path,
    call: impl Fn(&SocketAddrUnix) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match SocketAddrUnix::new(path) {
        Ok(address) => call(&address),
        Err(_) => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(rustix::io::Errno::INVAL);
            };
            let directory = rustix::fs::open(
                parent,
                rustix::fs::OFlags::PATH
                    | rustix::fs::OFlags::DIRECTORY
                    | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )?;
            call(&SocketAddrUnix::new(
                crate::path::descriptor_path(&directory).join(name),
            )?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_travel_with_their_message() {
        let (left, right) = seqpacket_pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(&left, b"hello", &[file.as_fd(), left.as_fd()]).unwrap();
        let message = receive(&right, 16, 2).unwrap();
        assert_eq!(message.bytes, b"hello");
        assert_eq!(message.descriptors.len(), 2);
    }

    #[test]
    fn a_message_over_the_limit_is_refused() {
        let (left, right) = seqpacket_pair().unwrap();
        send(&left, b"hello", &[]).unwrap();
        assert!(receive(&right, 4, 0).is_err());
        drop(left);
        assert!(receive(&right, 4, 0).unwrap().bytes.is_empty());
    }

    #[test]
    fn long_paths_can_be_bound_and_reached() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(150));
        std::fs::create_dir(&long).unwrap();
        let path = long.join("socket");
        let _listener = listen(&path, 4).unwrap();
        connect(&path).unwrap();
    }
}
