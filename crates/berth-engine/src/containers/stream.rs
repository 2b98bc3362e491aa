//! The byte streams of attached clients.
//!
//! The bytes are exactly what Docker puts on the wire after the upgrade: frames without a terminal, raw
//! with one; from the client raw, and a half-close is the end of standard input. The server copies blindly.

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::logs::LogStream;
use crate::error::EngineError;

/// A client's place at a container.
#[derive(Debug)]
pub struct Attachment {
    /// Whether the container has a terminal (raw stream) or not (frames).
    pub terminal: bool,
    /// What was logged before, to be sent first.
    pub replay: Option<LogStream>,
    pub(crate) stream: Connecting,
}

#[derive(Debug)]
pub(crate) enum Connecting {
    Ready(Option<UnixStream>),
    Pending(oneshot::Receiver<UnixStream>),
}

impl Attachment {
    /// Waits for the container to be started and gives the stream; `None` when it never was, or when no
    /// stream was asked for.
    ///
    /// # Errors
    /// None today; connecting happened already.
    pub async fn connected(self) -> Result<Option<UnixStream>, EngineError> {
        Ok(match self.stream {
            Connecting::Ready(stream) => stream,
            Connecting::Pending(receiver) => receiver.await.ok(),
        })
    }

    /// As [`connected`](Self::connected), keeping the rest.
    pub async fn connect(&mut self) -> Option<UnixStream> {
        match std::mem::replace(&mut self.stream, Connecting::Ready(None)) {
            Connecting::Ready(stream) => stream,
            Connecting::Pending(receiver) => receiver.await.ok(),
        }
    }
}
