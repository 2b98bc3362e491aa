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

/// Takes Docker's frames apart: `[stream, 0, 0, 0, length as four bytes]`, then the bytes.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; 8],
    have: usize,
    left: usize,
}

impl Frames {
    /// Hands every piece of content in `input` on; a frame may come in any number of pieces.
    pub(crate) fn feed(&mut self, mut input: &[u8], mut take: impl FnMut(&[u8])) {
        while !input.is_empty() {
            if self.left > 0 {
                let count = self.left.min(input.len());
                take(&input[..count]);
                self.left -= count;
                input = &input[count..];
                continue;
            }
            let count = (8 - self.have).min(input.len());
            self.header[self.have..self.have + count].copy_from_slice(&input[..count]);
            self.have += count;
            input = &input[count..];
            if self.have == 8 {
                self.have = 0;
                let length = [
                    self.header[4],
                    self.header[5],
                    self.header[6],
                    self.header[7],
                ];
                self.left = u32::from_be_bytes(length) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;

    #[test]
    fn frames_come_apart_however_they_are_cut() {
        let mut wire = Vec::new();
        for text in ["hello", "", "world"] {
            wire.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, text.len() as u8]);
            wire.extend_from_slice(text.as_bytes());
        }
        for size in 1..wire.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in wire.chunks(size) {
                frames.feed(piece, |bytes| found.extend_from_slice(bytes));
            }
            assert_eq!(found, b"helloworld");
        }
    }
}
