//! Bytes between a thread that reads or writes an archive and the connection, and how many they were.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use crate::limits;
use crate::terminal;

/// Gives chunks to a thread.
pub(super) struct Sender(mpsc::Sender<Bytes>);

impl Sender {
    /// Waits until the thread has room. False when it reads no more.
    pub(super) async fn send(&mut self, chunk: Bytes) -> bool {
        self.0.send(chunk).await.is_ok()
    }
}

/// The thread's end.
pub(super) struct Reader {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
}

/// From the connection to a thread.
pub(super) fn incoming() -> (Sender, Reader) {
    let (sender, chunks) = mpsc::channel(limits::COPY_CHUNKS);
    let reader = Reader {
        chunks,
        current: Bytes::new(),
    };
    (Sender(sender), reader)
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Where a thread writes to.
pub(super) struct Writer {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

/// What the connection sends.
pub(super) struct Body {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    count: Arc<AtomicU64>,
}

/// From a thread to the connection, with the number of bytes that went through.
pub(super) fn outgoing() -> (Writer, Body, Arc<AtomicU64>) {
    let (sender, chunks) = mpsc::channel(limits::COPY_CHUNKS);
    let count = Arc::new(AtomicU64::new(0));
    let writer = Writer {
        chunks: sender,
        buffer: BytesMut::with_capacity(limits::COPY_CHUNK),
    };
    let body = Body {
        chunks,
        current: Bytes::new(),
        count: Arc::clone(&count),
    };
    (writer, body, count)
}

impl Writer {
    /// Breaks the request off: an archive that is not whole must not look as if it were.
    pub(super) fn fail(&self, reason: &str) {
        // Nobody reads any more: then the request is broken already.
        let _ = self
            .chunks
            .blocking_send(Err(io::Error::other(reason.to_owned())));
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= limits::COPY_CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.chunks
            .blocking_send(Ok(chunk))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Body {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match self.chunks.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(chunk)) => self.current = chunk?,
            }
        }
        let count = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..count]);
        self.current.advance(count);
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

/// Tells on a terminal how much was copied.
pub(super) struct Progress {
    what: &'static str,
    shown: bool,
    moves: bool,
    bytes: AtomicU64,
    last: Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str, shown: bool) -> Self {
        Self {
            what,
            shown,
            moves: shown && terminal::error_is_terminal(),
            bytes: AtomicU64::new(0),
            last: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, count: u64) {
        let bytes = self.bytes.fetch_add(count, Ordering::Relaxed) + count;
        if self.moves && self.last.elapsed() >= limits::PROGRESS_PACE {
            self.last = Instant::now();
            self.line(bytes);
        }
    }

    fn line(&self, bytes: u64) {
        // Progress that nobody can see is no reason to stop.
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{} - {}",
            self.what,
            super::human(bytes)
        );
    }

    /// Waits for work, and tells meanwhile how far it is.
    pub(super) async fn watch<T>(&self, count: &AtomicU64, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let outcome = loop {
            match tokio::time::timeout(Self::pace(self.moves), work.as_mut()).await {
                Ok(outcome) => break outcome,
                Err(_) if self.moves => self.line(count.load(Ordering::Relaxed)),
                Err(_) => {}
            }
        };
        self.bytes
            .store(count.load(Ordering::Relaxed), Ordering::Relaxed);
        outcome
    }

    fn pace(moves: bool) -> Duration {
        if moves {
            limits::PROGRESS_PACE
        } else {
            Duration::from_secs(3600)
        }
    }

    /// Tells that all was copied.
    pub(super) fn end(&self, target: &str) {
        if !self.shown {
            return;
        }
        let clear = if self.moves { "\r\x1b[K" } else { "" };
        let bytes = super::human(self.bytes.load(Ordering::Relaxed));
        let _ = writeln!(
            io::stderr(),
            "{clear}Successfully copied {bytes} to {target}"
        );
    }
}
