//! Bringing the layers of an image: side by side, each stored, verified and unpacked while it arrives.
//!
//! Owns: downloads with everything that can break in them, and the pipe from the network to the worker that
//! unpacks. Does not own: which image it is, or when it becomes known.

use std::io::{self, Read, Write};

use berth_types::{Digest, ErrorKind, ImageDocument};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{flatten, is_own};
use crate::documents::{Descriptor, Manifest, chain_ids};
use crate::error::{ImageError, Result, carry};
use crate::layers::Staged;
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink, Reported};
use crate::registry::{Opened, Session, backoff};
use crate::store::{Holds, ImageStore, Inner};

/// One layer to be brought.
#[derive(Clone)]
struct Wanted {
    descriptor: Descriptor,
    diff_id: Digest,
    chain: Digest,
}

/// What travels from the network to the worker.
enum Piece {
    Data(Bytes),
    /// All bytes have come: told apart from a sender that went away.
    End,
}

impl ImageStore {
    /// Brings all layers that are missing, fits them to each other and puts them in place.
    pub(super) async fn fetch_layers(
        &self,
        session: &Session<'_>,
        manifest: &Manifest,
        document: &ImageDocument,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
        holds: &mut Holds,
    ) -> Result<()> {
        let diff_ids = &document.rootfs.diff_ids;
        let chain = chain_ids(diff_ids);
        let layers: Vec<Wanted> = manifest
            .layers
            .iter()
            .zip(diff_ids)
            .zip(&chain)
            .map(|((descriptor, diff_id), chain)| Wanted {
                descriptor: descriptor.clone(),
                diff_id: *diff_id,
                chain: *chain,
            })
            .collect();
        for layer in &layers {
            if layer.descriptor.size > limits::LAYER_BYTES_MAX {
                return Err(ImageError::Limit {
                    object: format!("layer {}", layer.descriptor.digest.short()),
                    limit: limits::LAYER_BYTES_MAX,
                    unit: "bytes",
                });
            }
            holds.layer(&self.inner, layer.chain);
            holds.blob(&self.inner, layer.descriptor.digest);
        }
        for layer in &layers {
            let id = layer.descriptor.digest.short();
            progress(if self.inner.layers.get(&layer.chain).is_some() {
                Progress::AlreadyExists { id }
            } else {
                Progress::PullingLayer { id }
            });
        }
        // The first failure ends the others at their next piece; all are waited for, since they hold files.
        let ending = cancelled.child_token();
        let permits = Semaphore::new(self.inner.settings.registries.concurrent_downloads.max(1));
        let (ending, permits) = (&ending, &permits);
        let missing: Vec<(usize, &Wanted)> = layers
            .iter()
            .enumerate()
            .filter(|(_, layer)| self.inner.layers.get(&layer.chain).is_none())
            .collect();
        let fetches = missing.into_iter().map(|(index, layer)| async move {
            let outcome = self
                .fetch_layer(session, layer, permits, progress, ending)
                .await;
            if outcome.is_err() {
                ending.cancel();
            }
            (index, outcome)
        });
        let mut first_error = None;
        let mut staged: Vec<Option<Staged>> = layers.iter().map(|_| None).collect();
        for (index, outcome) in futures_util::future::join_all(fetches).await {
            match outcome {
                Ok(layer) => staged[index] = layer,
                Err(ImageError::Cancelled { .. }) if first_error.is_some() => {}
                Err(error) => {
                    let better = !matches!(error, ImageError::Cancelled { .. });
                    if first_error.is_none() || better {
                        first_error = Some(error);
                    }
                }
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        let store = self.clone();
        let sink = progress.clone();
        flatten(
            tokio::task::spawn_blocking(move || {
                for (index, (layer, staged)) in layers.iter().zip(staged).enumerate() {
                    let id = layer.descriptor.digest.short();
                    if let Some(staged) = staged {
                        store.inner.layers.commit(
                            staged,
                            layer.chain,
                            &chain[..index],
                            Some(layer.descriptor.digest),
                        )?;
                        sink(Progress::PullComplete { id });
                    } else if store.inner.layers.get(&layer.chain).is_none() {
                        // Another transfer had it in hand and did not finish.
                        return Err(ImageError::Cancelled {
                            attempt: format!("layer {id}"),
                        });
                    }
                }
                Ok(())
            })
            .await,
            "put the layers in place",
        )
    }

    /// Brings one layer as far as it can be without those below; `None` when it came by another transfer.
    async fn fetch_layer(
        &self,
        session: &Session<'_>,
        layer: &Wanted,
        permits: &Semaphore,
        progress: &ProgressSink,
        ending: &CancellationToken,
    ) -> Result<Option<Staged>> {
        let id = layer.descriptor.digest.short();
        let cancelled = || ImageError::Cancelled {
            attempt: format!("fetch layer {id}"),
        };
        let turn = self.inner.turn(layer.descriptor.digest);
        let _turn = match turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                progress(Progress::Waiting { id: id.clone() });
                tokio::select! {
                    turn = turn.lock() => turn,
                    () = ending.cancelled() => return Err(cancelled()),
                }
            }
        };
        let _permit = match permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                progress(Progress::Waiting { id: id.clone() });
                tokio::select! {
                    permit = permits.acquire() => permit.map_err(|_| cancelled())?,
                    () = ending.cancelled() => return Err(cancelled()),
                }
            }
        };
        if self.inner.layers.get(&layer.chain).is_some() {
            progress(Progress::AlreadyExists { id });
            return Ok(None);
        }
        if self.inner.blobs.contains(&layer.descriptor.digest) {
            let (inner, layer, sink) = (self.inner.clone(), layer.clone(), progress.clone());
            let work = tokio::task::spawn_blocking(move || unpack_stored(&inner, &layer, &sink));
            return flatten(work.await, "unpack a layer").map(Some);
        }
        let (sender, receiver) = mpsc::channel(limits::DOWNLOAD_QUEUE);
        let worker = {
            let (inner, layer) = (self.inner.clone(), layer.clone());
            tokio::task::spawn_blocking(move || unpack_arriving(&inner, &layer, receiver))
        };
        let downloaded = download(session, layer, &sender, progress, ending).await;
        let complete = downloaded.is_ok();
        if complete {
            progress(Progress::VerifyingChecksum { id: id.clone() });
            // When the worker is gone, its own error says why.
            let _ = sender.send(Piece::End).await;
        }
        drop(sender);
        let unpacked = flatten(worker.await, "unpack a layer");
        match (downloaded, unpacked) {
            // The worker gave up first, and closed the way for the download.
            (Err(None), Err(error)) => Err(error),
            (Err(Some(error)), _) => Err(error),
            (Err(None), Ok(_)) => Err(cancelled()),
            (Ok(()), unpacked) => {
                let staged = unpacked?;
                progress(Progress::DownloadComplete { id: id.clone() });
                progress(Progress::Extracting {
                    id,
                    current: layer.descriptor.size,
                    total: layer.descriptor.size,
                });
                Ok(Some(staged))
            }
        }
    }
}

fn check_diff_id(staged: Staged, layer: &Wanted) -> Result<Staged> {
    if staged.diff_id != layer.diff_id {
        return Err(ImageError::Digest {
            object: format!("layer {}, unpacked,", layer.descriptor.digest.short()),
            expected: layer.diff_id,
            actual: staged.diff_id,
        });
    }
    Ok(staged)
}

fn unpack_stored(inner: &Inner, layer: &Wanted, progress: &ProgressSink) -> Result<Staged> {
    let id = layer.descriptor.digest.short();
    let object = format!("layer {id}");
    let file = inner
        .blobs
        .reader(&layer.descriptor.digest)?
        .ok_or_else(|| ImageError::Cancelled {
            attempt: format!("unpack {object}"),
        })?;
    progress(Progress::DownloadComplete { id: id.clone() });
    let reader = Reported {
        inner: file,
        pace: Pace::new(),
        current: 0,
        total: layer.descriptor.size,
        report: |current, total| {
            progress(Progress::Extracting {
                id: id.clone(),
                current,
                total,
            });
        },
    };
    check_diff_id(inner.layers.unpack(reader, &object)?, layer)
}

/// Stores, verifies and unpacks a layer while it arrives.
fn unpack_arriving(inner: &Inner, layer: &Wanted, pieces: mpsc::Receiver<Piece>) -> Result<Staged> {
    let object = format!("layer {}", layer.descriptor.digest.short());
    let mut arriving = Arriving {
        pieces,
        current: Bytes::new(),
        ended: false,
        writer: inner.blobs.writer(object.as_str())?,
        object: &object,
    };
    let unpacked = inner.layers.unpack(&mut arriving, &object);
    if let Err(error) = &unpacked
        && is_own(error)
    {
        return unpacked;
    }
    // Unpacking may end before the content does, or fail because the content is not what it should be; the
    // digest is the better answer then.
    let rest = io::copy(&mut arriving, &mut io::sink());
    if let Err(error) = rest {
        return Err(crate::error::unwrap_carried(
            || format!("store {object}"),
            error,
        ));
    }
    arriving
        .writer
        .commit(Some(&layer.descriptor.digest), Some(layer.descriptor.size))?;
    check_diff_id(unpacked?, layer)
}

/// The arriving pieces as a reader that also stores what it hands out.
struct Arriving<'a> {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    writer: crate::blobs::BlobWriter<'a>,
    object: &'a str,
}

impl Read for Arriving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => {
                    self.writer.write_all(&bytes).map_err(|error| {
                        carry(ImageError::io(format!("store {}", self.object), error))
                    })?;
                    self.current = bytes;
                }
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(carry(ImageError::Cancelled {
                        attempt: format!("fetch {}", self.object),
                    }));
                }
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// Downloads a layer, taking the connection up again where it broke. The error is `None` when the receiver
/// has gone.
async fn download(
    session: &Session<'_>,
    layer: &Wanted,
    sender: &mpsc::Sender<Piece>,
    progress: &ProgressSink,
    ending: &CancellationToken,
) -> std::result::Result<(), Option<ImageError>> {
    let descriptor = &layer.descriptor;
    let id = descriptor.digest.short();
    let cancelled = || ImageError::Cancelled {
        attempt: format!("fetch layer {id}"),
    };
    let mut pace = Pace::new();
    let mut offset = 0_u64;
    let mut attempt = 0;
    loop {
        let before = offset;
        let once = download_once(
            session,
            descriptor,
            &mut offset,
            sender,
            progress,
            &mut pace,
        );
        let outcome = tokio::select! {
            outcome = once => outcome,
            () = ending.cancelled() => return Err(Some(cancelled())),
        };
        let error = match outcome {
            Ok(()) => return Ok(()),
            Err(None) => return Err(None),
            Err(Some(error)) => error,
        };
        let passing = matches!(
            error,
            ImageError::Transport { .. } | ImageError::Stalled { .. }
        );
        // What came in between counts: a large layer over a bad line may need many attempts.
        attempt = if offset > before { 1 } else { attempt + 1 };
        if !passing || attempt >= session.attempts() {
            return Err(Some(error));
        }
        let wait = backoff(attempt);
        progress(Progress::Retrying {
            id: id.clone(),
            seconds: wait.as_millis().div_ceil(1000).try_into().unwrap_or(1),
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = ending.cancelled() => return Err(Some(cancelled())),
        }
    }
}

async fn download_once(
    session: &Session<'_>,
    descriptor: &Descriptor,
    offset: &mut u64,
    sender: &mpsc::Sender<Piece>,
    progress: &ProgressSink,
    pace: &mut Pace,
) -> std::result::Result<(), Option<ImageError>> {
    let id = descriptor.digest.short();
    let attempt = || format!("download layer {id} from {}", session.authority());
    if descriptor.size > 0 && *offset == descriptor.size {
        return Ok(());
    }
    let range = (*offset > 0).then_some((*offset, None));
    let opened = open_anywhere(session, descriptor, range)
        .await
        .map_err(Some)?;
    let mut body = opened.body;
    let mut position = opened.start;
    loop {
        let frame = match tokio::time::timeout(limits::STALL_TIMEOUT, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(Some(ImageError::Transport {
                    attempt: attempt(),
                    source: error.into(),
                }));
            }
            Ok(None) if position == descriptor.size => return Ok(()),
            Ok(None) => {
                return Err(Some(ImageError::Transport {
                    attempt: attempt(),
                    source: format!(
                        "the connection ended after {position} of {} bytes",
                        descriptor.size
                    )
                    .into(),
                }));
            }
            Err(_) => {
                return Err(Some(ImageError::Stalled {
                    attempt: attempt(),
                    seconds: limits::STALL_TIMEOUT.as_secs(),
                }));
            }
        };
        let Ok(mut bytes) = frame.into_data() else {
            continue;
        };
        let end = position + bytes.len() as u64;
        if end > descriptor.size {
            return Err(Some(ImageError::Size {
                object: format!("layer {id}"),
                expected: descriptor.size,
                actual: end,
            }));
        }
        // A server that ignores ranges begins anew; what is here already is passed over.
        let known = offset.saturating_sub(position).min(bytes.len() as u64);
        let _ = bytes.split_to(usize::try_from(known).unwrap_or(0));
        position = end;
        if bytes.is_empty() {
            continue;
        }
        *offset = end;
        sender.send(Piece::Data(bytes)).await.map_err(|_| None)?;
        if pace.due(end == descriptor.size) {
            progress(Progress::Downloading {
                id: id.clone(),
                current: end,
                total: descriptor.size,
            });
        }
    }
}

/// Opens a layer at the registry, or at one of the places that its descriptor names when the registry does not
/// have it (layers that may not be distributed).
async fn open_anywhere(
    session: &Session<'_>,
    descriptor: &Descriptor,
    range: Option<(u64, Option<u64>)>,
) -> Result<Opened> {
    let absent = match session.blob(descriptor, range, None).await {
        Err(
            error @ ImageError::Registry {
                kind: ErrorKind::NotFound,
                ..
            },
        ) => error,
        other => return other,
    };
    let mut last = absent;
    for url in descriptor
        .urls
        .iter()
        .flatten()
        .take(limits::LAYER_URLS_MAX)
    {
        match session.blob(descriptor, range, Some(url)).await {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(last)
}
