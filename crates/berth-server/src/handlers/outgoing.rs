//! Answers that a thread writes while the client reads.
//!
//! The writer waits for the client: a bounded number of chunks is in between. When it fails, the connection is
//! cut, since an answer that ends in order would be taken for complete.

use crate::limits::{ARCHIVE_CHUNK, ARCHIVE_CHUNKS};
use crate::reply::Reply;
use berth_engine::EngineError;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Where the thread writes to.
#[derive(Debug)]
pub(super) struct Outgoing {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Outgoing {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(ARCHIVE_CHUNK));
        self.chunks
            .blocking_send(Ok(full.freeze()))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client hung up"))
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = ARCHIVE_CHUNK - self.buffer.len();
        let count = room.min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == ARCHIVE_CHUNK {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Answers with what `write` writes.
pub(super) fn archive(
    content_type: &'static str,
    write: impl FnOnce(&mut Outgoing) -> Result<(), EngineError> + Send + 'static,
) -> Reply {
    let (chunks, receiver) = mpsc::channel(ARCHIVE_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut out = Outgoing {
            chunks,
            buffer: BytesMut::with_capacity(ARCHIVE_CHUNK),
        };
        let written = write(&mut out);
        let outcome = written.and_then(|()| {
            out.flush()
                .map_err(|error| EngineError::io("send the archive", error))
        });
        if let Err(error) = outcome {
            let text = error.full_text();
            let told = io::Error::other(text.clone());
            // Nobody to tell when the client is gone; that is why it failed then.
            if out.chunks.blocking_send(Err(told)).is_ok() {
                tracing::error!("an archive was cut off: {text}");
            }
        }
    });
    let parts = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    Reply::fallible_stream(content_type, parts)
}
