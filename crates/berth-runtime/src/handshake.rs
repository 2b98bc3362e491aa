//! What a container's first process and its creator say to each other, over one socket pair.
//!
//! ```text
//! first process                 creator
//!   Maps          ─────────────▶  writes the id maps
//!                 ◀───────────── Go
//!   Hooks         ─────────────▶  runs prestart and createRuntime hooks
//!                 ◀───────────── Go
//!   Console(fd), Note(text)* ───▶
//!   Ready | Failed(report) ─────▶
//! ```
//!
//! One message is one packet: a letter, then its content. A creator that dies closes the socket, and then the first
//! process ends.

use std::os::fd::{AsFd, OwnedFd};

use berth_sys::socket;

use crate::error::{Report, RuntimeError};
use crate::limits;

/// From the first process.
#[derive(Debug)]
pub(crate) enum Message {
    /// The id of the real first process, when a helper has made it.
    Made(i32),
    /// It is in a new user namespace and needs its id maps.
    Maps,
    /// The mounts are made; hooks of the creator may run.
    Hooks,
    /// The master of its terminal.
    Console(OwnedFd),
    /// A sentence on what was not done exactly as asked.
    Note(String),
    /// It waits to be started (create), or all that could be noted is noted (exec).
    Ready,
    /// It has failed and ends.
    Failed(RuntimeError),
    /// It has closed the socket: by ending, or by executing the program.
    Closed,
}

/// The first process' end.
#[derive(Debug)]
pub(crate) struct Speaker {
    socket: OwnedFd,
}

impl Speaker {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    fn send(&self, letter: u8, content: &[u8]) -> Result<(), RuntimeError> {
        let mut bytes = vec![letter];
        bytes.extend_from_slice(content);
        Ok(socket::send(&self.socket, &bytes, &[])?)
    }

    pub(crate) fn made(&self, pid: i32) -> Result<(), RuntimeError> {
        self.send(b'P', &pid.to_le_bytes())
    }

    /// Asks the creator for something and waits until it is done.
    fn ask(&self, letter: u8) -> Result<(), RuntimeError> {
        self.send(letter, &[])?;
        let answer = socket::receive(&self.socket, 1, 0)?;
        if answer.bytes == b"G" {
            return Ok(());
        }
        Err(berth_sys::Error::other("wait for the creator", "it has gone").into())
    }

    pub(crate) fn ask_for_maps(&self) -> Result<(), RuntimeError> {
        self.ask(b'M')
    }

    pub(crate) fn ask_for_hooks(&self) -> Result<(), RuntimeError> {
        self.ask(b'H')
    }

    pub(crate) fn console(&self, master: &OwnedFd) -> Result<(), RuntimeError> {
        Ok(socket::send(&self.socket, b"C", &[master.as_fd()])?)
    }

    pub(crate) fn note(&self, text: &str) -> Result<(), RuntimeError> {
        let limit = limits::MESSAGE_BYTES / 4;
        self.send(b'N', &text.as_bytes()[..text.len().min(limit)])
    }

    pub(crate) fn ready(&self) -> Result<(), RuntimeError> {
        self.send(b'R', &[])
    }

    /// Tells a failure; there is nobody to tell if that fails too.
    pub(crate) fn failed(&self, error: &RuntimeError) {
        let _ = self.send(b'E', &Report::of(error).encode());
    }
}

/// The creator's end.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
}

impl Listener {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// The next message; a message of another form is an error.
    pub(crate) fn next(&self) -> Result<Message, RuntimeError> {
        let mut message = match socket::receive(&self.socket, limits::MESSAGE_BYTES, 1) {
            Ok(message) => message,
            // A process that dies with a message of ours unread resets the connection.
            Err(error) if error.errno() == Some(rustix::io::Errno::CONNRESET) => {
                return Ok(Message::Closed);
            }
            Err(error) => return Err(error.into()),
        };
        let Some((letter, content)) = message.bytes.split_first() else {
            return Ok(Message::Closed);
        };
        let odd = || {
            RuntimeError::from(berth_sys::Error::invalid(
                "listen to the container's first process",
                "it sent a message of an unknown form",
            ))
        };
        Ok(match letter {
            b'P' => Message::Made(i32::from_le_bytes(content.try_into().map_err(|_| odd())?)),
            b'M' => Message::Maps,
            b'H' => Message::Hooks,
            b'C' => Message::Console(message.descriptors.pop().ok_or_else(odd)?),
            b'N' => Message::Note(String::from_utf8_lossy(content).into_owned()),
            b'R' => Message::Ready,
            b'E' => Message::Failed(Report::decode(content).ok_or_else(odd)?.into_error()),
            _ => return Err(odd()),
        })
    }

    /// Tells the first process that what it asked for is done.
    pub(crate) fn go(&self) -> Result<(), RuntimeError> {
        Ok(socket::send(&self.socket, b"G", &[])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_pass_and_the_end_is_told() {
        let (one, two) = socket::seqpacket_pair().unwrap();
        let (speaker, listener) = (Speaker::new(one), Listener::new(two));
        speaker.note("clamped").unwrap();
        speaker.made(42).unwrap();
        speaker.failed(&RuntimeError::invalid("a", "b"));
        assert!(matches!(listener.next().unwrap(), Message::Note(text) if text == "clamped"));
        assert!(matches!(listener.next().unwrap(), Message::Made(42)));
        assert!(matches!(
            listener.next().unwrap(),
            Message::Failed(RuntimeError::Invalid { .. })
        ));
        drop(speaker);
        assert!(matches!(listener.next().unwrap(), Message::Closed));
    }
}
