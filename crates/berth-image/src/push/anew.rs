//! Making a compressed form of a layer that is here in none.
//!
//! The same input gives the same bytes, so that a layer that was pushed once is found in the registry the next
//! time, although the form made for it is not kept.

use std::io::{Read, Write};

use berth_types::Digest;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use tokio_util::sync::CancellationToken;

use crate::error::{Attempt, ImageError, Result, unwrap_carried};
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink};
use crate::store::Inner;
use crate::stream::{self, Compression};

/// How content of the store is compressed.
pub(super) fn compression(store: &Inner, digest: &Digest) -> Result<Option<Compression>> {
    let Some(file) = store.blobs.reader(digest)? else {
        return Ok(None);
    };
    stream::detect_in(file, &format!("layer {}", digest.short())).map(Some)
}

/// Compresses content of the store into new content; `hold` keeps it before it has its name.
pub(super) fn compress(
    store: &Inner,
    digest: &Digest,
    hold: impl FnOnce(&Digest),
    progress: &ProgressSink,
    cancelled: &CancellationToken,
) -> Result<(Digest, u64)> {
    let id = digest.short();
    let object = format!("layer {id}, compressed");
    let attempt = || format!("compress layer {id}");
    let source = store
        .blobs
        .reader(digest)?
        .ok_or_else(|| ImageError::NoSuchImage {
            reference: format!("layer {id}"),
        })?;
    let mut source = stream::decompressed(source, &object, limits::LAYER_BYTES_MAX)?;
    let total = store.blobs.size(digest).unwrap_or_default();
    let writer = store.blobs.writer(object)?;
    let mut encoder = GzEncoder::new(writer, Level::default());
    let mut buffer = vec![0_u8; limits::PIPE_CHUNK_BYTES];
    let (mut current, mut pace) = (0_u64, Pace::new());
    loop {
        let count = source
            .read(&mut buffer)
            .map_err(|error| unwrap_carried(attempt, error))?;
        if count == 0 {
            break;
        }
        if cancelled.is_cancelled() {
            return Err(ImageError::Cancelled { attempt: attempt() });
        }
        encoder.write_all(&buffer[..count]).attempt(attempt)?;
        current += count as u64;
        if pace.due(current == total) {
            progress(Progress::Compressing {
                id: id.clone(),
                current,
                total,
            });
        }
    }
    let writer = encoder.finish().attempt(attempt)?;
    let size = writer.size();
    let made = writer.commit_held(None, hold)?;
    Ok((made, size))
}
