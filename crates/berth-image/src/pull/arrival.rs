//! A layer between the network and the thread that unpacks it: a file that grows.
//!
//! ```text
//! connections ─pieces─▶ Intake: write, hash in order ─file─▶ Arriving: read up to what is hashed
//! ```
//!
//! Owns: putting pieces in their place, and telling the reader how far it may go. Since what has come waits in the
//! file, memory does not depend on the layer's size, a slow disk does not hold up the network, and pieces may come in
//! any order. Does not own: where pieces come from ([`super::download`]), or what stays of an unfinished file
//! ([`crate::partials`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use berth_types::Digest;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::{ImageError, Result, carry};
use crate::limits;
use crate::partials::Partial;

/// Bytes with their place in the layer.
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// How far the reader may go.
#[derive(Default)]
struct Progress {
    hashed: u64,
    read: u64,
    ended: bool,
    /// The reader wants no more, and nobody needs the rest.
    given_up: bool,
    /// Everything has come, and it is what was asked for.
    verified: bool,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    moved: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end.
pub(super) struct Intake {
    partial: Partial,
    size: u64,
    /// Ranges that came before their turn, start to end.
    early: BTreeMap<u64, u64>,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
}

/// The reading end: blocks until bytes are there.
pub(super) struct Arriving {
    file: Arc<File>,
    position: u64,
    size: u64,
    object: String,
    shared: Arc<Shared>,
}

/// How far the reading end is behind, for whoever decides about more connections or tells people.
#[derive(Clone)]
pub(super) struct Behind(Arc<Shared>);

impl Behind {
    pub(super) fn bytes(&self) -> u64 {
        let progress = self.0.lock();
        progress.hashed - progress.read
    }

    /// Notes that everything has come and is what was asked for: what is left is to unpack it.
    pub(super) fn verified(&self) {
        self.0.lock().verified = true;
    }

    pub(super) fn is_verified(&self) -> bool {
        self.0.lock().verified
    }

    /// Tells the writing end that the rest is not needed.
    pub(super) fn give_up(&self) {
        self.0.lock().given_up = true;
    }
}

/// Both ends of a layer of `size` bytes, beginning with what is here.
pub(super) fn arrival(partial: Partial, size: u64, object: &str) -> (Intake, Arriving, Behind) {
    let shared = Arc::new(Shared::default());
    shared.lock().hashed = partial.hashed();
    let arriving = Arriving {
        file: partial.file(),
        position: 0,
        size,
        object: object.to_owned(),
        shared: shared.clone(),
    };
    let behind = Behind(shared.clone());
    let intake = Intake {
        partial,
        size,
        early: BTreeMap::new(),
        buffer: Vec::new(),
        shared,
    };
    (intake, arriving, behind)
}

impl Intake {
    /// Takes pieces until all are here or no more come. Gives what is here, and the digest when that is all.
    pub(super) fn run(
        mut self,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> Result<(Partial, Option<Digest>)> {
        // However this ends, the reader must not wait for more.
        struct Ended(Arc<Shared>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.lock().ended = true;
                self.0.moved.notify_all();
            }
        }
        let _ended = Ended(self.shared.clone());
        while self.partial.hashed() < self.size {
            let Some(piece) = pieces.blocking_recv() else {
                return Ok((self.partial, None));
            };
            self.take(&piece)?;
            let mut progress = self.shared.lock();
            if progress.given_up {
                return Ok((self.partial, None));
            }
            progress.hashed = self.partial.hashed();
            drop(progress);
            self.shared.moved.notify_all();
        }
        let digest = self.partial.digest();
        Ok((self.partial, Some(digest)))
    }

    fn take(&mut self, piece: &Piece) -> Result<()> {
        self.partial.write(&piece.bytes, piece.offset)?;
        let end = piece.offset + piece.bytes.len() as u64;
        if end > self.partial.hashed() {
            // At most one range for each connection: what touches the range before it makes that longer.
            match self.early.range_mut(..piece.offset).next_back() {
                Some((_, last)) if *last == piece.offset => *last = end,
                _ => {
                    self.early.insert(piece.offset, end);
                }
            }
        }
        while let Some((start, end)) = self.early.first_key_value().map(|(s, e)| (*s, *e)) {
            if start > self.partial.hashed() {
                break;
            }
            if self.buffer.is_empty() {
                self.buffer = vec![0; limits::PIPE_CHUNK_BYTES];
            }
            self.partial.catch_up(end, &mut self.buffer)?;
            self.early.pop_first();
        }
        Ok(())
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.size {
            return Ok(0);
        }
        let available = {
            let mut progress = self.shared.lock();
            while progress.hashed == self.position {
                if progress.ended {
                    return Err(carry(ImageError::Cancelled {
                        attempt: format!("fetch {}", self.object),
                    }));
                }
                progress = self
                    .shared
                    .moved
                    .wait(progress)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            progress.read = self.position;
            progress.hashed - self.position
        };
        let count = usize::try_from(available)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.file.read_at(&mut buffer[..count], self.position)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}
