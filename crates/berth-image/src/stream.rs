//! Byte streams: digests on the way, compression found by its magic, and a pipe between two threads.
//!
//! Owns nothing on disk. Invariant: memory held by a pipe is bounded by its number of chunks.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use berth_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::{ImageError, Result, carry};
use crate::limits;

/// A running digest.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

/// The digest of bytes at hand.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), also of several members.
    Gzip,
    /// Zstandard (RFC 8878), also of several frames.
    Zstd,
    /// bzip2, also of several streams.
    Bzip2,
    /// The .xz file format 1.2, also of several streams.
    Xz,
}

impl Compression {
    /// What it adds to the media type of a layer. There is none for the last two, so they are named by their own.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
            Self::Bzip2 => "+bzip2",
            Self::Xz => "+xz",
        }
    }

    /// Whether layers may be compressed so for everybody who follows the specification (layer.md).
    pub(crate) fn is_portable(self) -> bool {
        matches!(self, Self::None | Self::Gzip | Self::Zstd)
    }
}

/// First bytes that tell a compression apart.
const HEAD_BYTES: usize = 8;

/// Finds the compression by the first bytes, as other engines do; media types are not trusted for it.
pub(crate) fn detect(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame in front, as zstd:chunked and pzstd write it.
        [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50 => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// A reader that counts what went through it, for others to see.
pub(crate) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Removes the compression of `source`, whatever it is; refuses bombs by their ratio and size.
///
/// # Errors
/// When the head cannot be read. Later failures come out of the reader.
pub(crate) fn decompressed<'a, R: Read + Send + 'a>(
    source: R,
    object: &str,
    bytes_max: u64,
) -> Result<Box<dyn Read + Send + 'a>> {
    let (compression, source) = begin(source, object)?;
    without(compression, source, object, bytes_max)
}

/// As it is when layers may be compressed so, else as [`decompressed`].
///
/// # Errors
/// As [`decompressed`].
pub(crate) fn portable<'a, R: Read + Send + 'a>(
    source: R,
    object: &str,
    bytes_max: u64,
) -> Result<Box<dyn Read + Send + 'a>> {
    let (compression, source) = begin(source, object)?;
    if compression.is_portable() {
        return Ok(Box::new(source));
    }
    without(compression, source, object, bytes_max)
}

fn without<'a, R: Read + Send + 'a>(
    compression: Compression,
    source: R,
    object: &str,
    bytes_max: u64,
) -> Result<Box<dyn Read + Send + 'a>> {
    let consumed = Arc::new(AtomicU64::new(0));
    let buffered = BufReader::with_capacity(
        limits::PIPE_CHUNK_BYTES,
        Counted {
            inner: source,
            count: consumed.clone(),
        },
    );
    let inner: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(buffered),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
        Compression::Zstd => Box::new(
            zstd::stream::read::Decoder::with_buffer(buffered)
                .map_err(|error| ImageError::io(format!("decompress {object}"), error))?,
        ),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            buffered,
            true,
            limits::XZ_MEMORY_KIB_MAX,
        )),
    };
    Ok(Box::new(Guarded {
        inner,
        object: object.to_owned(),
        consumed,
        produced: 0,
        bytes_max,
    }))
}

/// Looks at the first bytes, however few of them one read gives; the reader has them still.
fn begin<R: Read>(mut source: R, object: &str) -> Result<(Compression, impl Read + use<R>)> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    source
        .by_ref()
        .take(HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(|error| crate::error::unwrap_carried(|| format!("read {object}"), error))?;
    Ok((detect(&head), io::Cursor::new(head).chain(source)))
}

/// The compression of content at hand; its reader is left behind the first bytes.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn detect_in(source: impl Read, object: &str) -> Result<Compression> {
    begin(source, object).map(|(compression, _)| compression)
}

/// Stops a stream that unpacks to too much.
struct Guarded<'a> {
    inner: Box<dyn Read + Send + 'a>,
    object: String,
    consumed: Arc<AtomicU64>,
    produced: u64,
    bytes_max: u64,
}

impl Read for Guarded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).map_err(|error| {
            if error
                .get_ref()
                .is_some_and(|inner| inner.is::<ImageError>())
            {
                return error;
            }
            match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    carry(ImageError::archive(&self.object, "the data is truncated"))
                }
                io::ErrorKind::OutOfMemory => carry(ImageError::Limit {
                    object: self.object.clone(),
                    limit: u64::from(limits::XZ_MEMORY_KIB_MAX) << 10,
                    unit: "bytes of memory for being decompressed",
                }),
                io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::Unsupported
                | io::ErrorKind::Other => carry(ImageError::archive(
                    &self.object,
                    format!("the compressed data is damaged ({error})"),
                )),
                _ => error,
            }
        })?;
        self.produced += count as u64;
        if self.produced > self.bytes_max {
            return Err(carry(ImageError::Limit {
                object: self.object.clone(),
                limit: self.bytes_max,
                unit: "bytes",
            }));
        }
        if self.produced > limits::RATIO_FREE_BYTES
            && self.produced / limits::RATIO_MAX > self.consumed.load(Ordering::Relaxed)
        {
            return Err(carry(ImageError::Limit {
                object: self.object.clone(),
                limit: limits::RATIO_MAX,
                unit: "unpacked bytes per compressed byte",
            }));
        }
        Ok(count)
    }
}

/// The sending end of a pipe of chunks.
pub(crate) struct ChunkSender {
    chunks: SyncSender<io::Result<Vec<u8>>>,
    used: Receiver<Vec<u8>>,
}

/// The receiving end; hashes what it hands out.
pub(crate) struct ChunkReader {
    chunks: Receiver<io::Result<Vec<u8>>>,
    used: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
    hasher: Hasher,
    total: u64,
}

/// A bounded pipe between two threads, handing over whole chunks and giving their memory back.
pub(crate) fn pipe() -> (ChunkSender, ChunkReader) {
    let (chunks, receiver) = sync_channel(limits::PIPE_CHUNKS);
    let (used, recycled) = sync_channel(limits::PIPE_CHUNKS + 2);
    (
        ChunkSender {
            chunks,
            used: recycled,
        },
        ChunkReader {
            chunks: receiver,
            used,
            current: Vec::new(),
            position: 0,
            ended: false,
            hasher: Hasher::default(),
            total: 0,
        },
    )
}

impl ChunkSender {
    /// Sends all of `source`, in whole chunks; ends early when nobody reads any more.
    pub(crate) fn send_all(&self, mut source: impl Read) {
        loop {
            let mut chunk = self.used.try_recv().unwrap_or_default();
            chunk.resize(limits::PIPE_CHUNK_BYTES, 0);
            let mut have = 0;
            let outcome = loop {
                match source.read(&mut chunk[have..]) {
                    Ok(0) => break Ok(true),
                    Ok(count) => {
                        have += count;
                        if have == chunk.len() {
                            break Ok(false);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
            };
            chunk.truncate(have);
            if have > 0 && self.chunks.send(Ok(chunk)).is_err() {
                return;
            }
            match outcome {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let _ = self.chunks.send(Err(error));
                    return;
                }
            }
        }
    }
}

impl ChunkReader {
    /// Reads what is left and gives the digest and the length of the whole stream.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok((self.hasher.finish(), self.total));
            }
            self.consume(length);
        }
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() && !self.ended {
            let empty = std::mem::take(&mut self.current);
            if empty.capacity() > 0 {
                let _ = self.used.try_send(empty);
            }
            self.position = 0;
            match self.chunks.recv() {
                Ok(Ok(chunk)) => {
                    self.hasher.update(&chunk);
                    self.total += chunk.len() as u64;
                    self.current = chunk;
                }
                Ok(Err(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
