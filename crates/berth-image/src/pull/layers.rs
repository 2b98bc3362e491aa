//! Bringing the layers of an image: side by side, each stored, verified and unpacked while it arrives.
//!
//! Owns: the course of one layer, and what is made of the outcome of its parts: bytes that come
//! ([`super::download`]), bytes that are stored ([`super::arrival`]), files that are made. Does not own: which image it
//! is, or when it becomes known.

use berth_types::{Digest, ErrorKind, ImageDocument};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::arrival::{Arriving, Behind, arrival};
use super::download::{Download, Fetch};
use super::{flatten, is_own};
use crate::documents::{Descriptor, Manifest, chain_ids};
use crate::error::{ImageError, Result};
use crate::layers::Staged;
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink, Reported};
use crate::registry::Session;
use crate::store::{Holds, ImageStore, Inner};

/// One layer to be brought.
#[derive(Clone)]
struct Wanted {
    descriptor: Descriptor,
    diff_id: Digest,
    chain: Digest,
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
        let further = Semaphore::new(limits::FURTHER_CONNECTIONS);
        let (ending, permits, further) = (&ending, &permits, &further);
        let missing: Vec<(usize, &Wanted)> = layers
            .iter()
            .enumerate()
            .filter(|(_, layer)| self.inner.layers.get(&layer.chain).is_none())
            .collect();
        let fetches = missing.into_iter().map(|(index, layer)| async move {
            let outcome = self
                .fetch_layer(session, layer, permits, further, progress, ending)
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
        further: &Semaphore,
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
        let mut fresh = false;
        loop {
            let (again, outcome) = self
                .fetch_missing(session, layer, further, progress, ending, fresh)
                .await;
            // What an earlier transfer left may be what was wrong.
            if !again || fresh {
                return outcome.map(Some);
            }
            fresh = true;
        }
    }

    /// Fetches, stores, verifies and unpacks a layer; with `fresh`, from its first byte on. Also tells whether another
    /// attempt from the first byte on may end better.
    async fn fetch_missing(
        &self,
        session: &Session<'_>,
        layer: &Wanted,
        further: &Semaphore,
        progress: &ProgressSink,
        ending: &CancellationToken,
        fresh: bool,
    ) -> (bool, Result<Staged>) {
        let inner = self.inner.clone();
        let object = format!("layer {}", layer.descriptor.digest.short());
        let (id, total) = (layer.descriptor.digest.short(), layer.descriptor.size);
        let telling = progress.clone();
        let unpack = move |arriving: Arriving, behind: Behind| {
            let reader = Reported {
                inner: arriving,
                pace: Pace::new(),
                current: 0,
                total,
                // Until then how much has come is what people wait for.
                report: |current, total| {
                    if behind.is_verified() {
                        let id = id.clone();
                        telling(Progress::Extracting { id, current, total });
                    }
                },
            };
            let unpacked = inner.layers.unpack(reader, &object);
            // Content that is wrong is told by its digest, so the rest is waited for; a disk that is full is not.
            if unpacked.as_ref().is_err_and(is_own) {
                behind.give_up();
            }
            unpacked
        };
        let fetch = Fetch {
            session,
            descriptor: &layer.descriptor,
            further,
            progress,
            ending,
        };
        let (again, outcome) = self.fetch_through(fetch, fresh, Some(unpack)).await;
        let staged = match outcome {
            Ok(Some(staged)) => check_diff_id(staged, layer),
            Ok(None) => Err(fetch.cancelled()),
            Err(error) => Err(error),
        };
        if staged.is_ok() {
            progress(Progress::Extracting {
                id: fetch.id(),
                current: total,
                total,
            });
        }
        (again, staged)
    }

    /// Fetches, stores and verifies content that nobody looks into.
    pub(super) async fn fetch_verified(
        &self,
        session: &Session<'_>,
        descriptor: &Descriptor,
        further: &Semaphore,
        progress: &ProgressSink,
        ending: &CancellationToken,
    ) -> Result<()> {
        let fetch = Fetch {
            session,
            descriptor,
            further,
            progress,
            ending,
        };
        let none: Option<fn(Arriving, Behind) -> Result<Staged>> = None;
        match self.fetch_through(fetch, false, none).await {
            (true, _) => self.fetch_through(fetch, true, none).await.1.map(drop),
            (false, outcome) => outcome.map(drop),
        }
    }

    /// Fetches content from where an earlier transfer ended, stores it, verifies it, and has it unpacked meanwhile.
    async fn fetch_through(
        &self,
        fetch: Fetch<'_>,
        fresh: bool,
        unpack: Option<impl FnOnce(Arriving, Behind) -> Result<Staged> + Send + 'static>,
    ) -> (bool, Result<Option<Staged>>) {
        let (digest, size) = (fetch.descriptor.digest, fetch.descriptor.size);
        let object = format!("layer {}", fetch.id());
        let inner = self.inner.clone();
        let partial = tokio::task::spawn_blocking(move || {
            if fresh {
                drop(inner.blobs.partials().take(digest, 0)?);
            }
            inner.blobs.partials().take(digest, size)
        });
        let partial = match flatten(partial.await, "take up a layer") {
            Ok(partial) => partial,
            Err(error) => return (false, Err(error)),
        };
        let have = partial.hashed();
        let (intake, arriving, behind) = arrival(partial, size, &object);
        let (sender, receiver) = mpsc::channel(limits::DOWNLOAD_QUEUE);
        let intake = tokio::task::spawn_blocking(move || intake.run(receiver));
        let (watched, verified) = (behind.clone(), behind.clone());
        let worker =
            unpack.map(|unpack| tokio::task::spawn_blocking(move || unpack(arriving, watched)));
        let downloaded = Download::new(fetch, have, &sender, behind).run().await;
        if downloaded.is_ok() && worker.is_some() {
            (fetch.progress)(Progress::VerifyingChecksum { id: fetch.id() });
        }
        drop(sender);
        let stored = flatten(intake.await, "store a layer");
        if worker.is_some() && matches!(&stored, Ok((_, Some(actual))) if *actual == digest) {
            (fetch.progress)(Progress::DownloadComplete { id: fetch.id() });
            verified.verified();
        }
        let unpacked = match worker {
            Some(worker) => flatten(worker.await, "unpack a layer").map(Some),
            None => Ok(None),
        };
        let (partial, actual) = match stored {
            Ok(stored) => stored,
            Err(error) => return (false, Err(error)),
        };
        match (downloaded, actual) {
            (Ok(()), Some(actual)) if actual == digest => {}
            (Ok(()), Some(actual)) => {
                let error = ImageError::Digest {
                    object,
                    expected: digest,
                    actual,
                };
                return (have > 0, Err(error));
            }
            (broken, _) => {
                let error = match (broken, unpacked) {
                    (Err(Some(error)), _) => error,
                    // The worker gave up first, and closed the way for the download.
                    (_, Err(error)) => error,
                    _ => fetch.cancelled(),
                };
                if is_worth_going_on(&error) && partial.is_worth_keeping() {
                    partial.keep();
                }
                return (false, Err(error));
            }
        }
        let path = self.inner.blobs.path(&digest);
        let placed = tokio::task::spawn_blocking(move || partial.place(&path)).await;
        match flatten(placed, "store a layer") {
            Ok(()) => (false, unpacked),
            Err(error) => (false, Err(error)),
        }
    }
}

/// Whether what came before this failure may be the beginning of what was asked for: it ended early, but was not found
/// wrong, and the disk had room for it.
fn is_worth_going_on(error: &ImageError) -> bool {
    matches!(
        error,
        ImageError::Transport { .. }
            | ImageError::Stalled { .. }
            | ImageError::Cancelled { .. }
            | ImageError::Registry {
                kind: ErrorKind::Unavailable
                    | ErrorKind::Unauthorized
                    | ErrorKind::ResourceExhausted,
                ..
            }
    )
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
