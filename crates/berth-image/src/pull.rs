//! Pulling an image from a registry.
//!
//! Owns: the course of a pull. Names are resolved at the first endpoint that has them; the manifest for the
//! platform is chosen; layers that are missing are fetched side by side, each hashed, written, decompressed
//! and unpacked while it arrives; then the layers are fitted in order and everything becomes known at once.
//!
//! ```text
//! network ─pieces─▶ store and hash ─▶ decompress ─chunks─▶ hash and unpack
//!          (task)        (second thread)                (worker thread)
//! ```
//!
//! A pull whose caller goes away ends at the next piece, and lets go of what it brought.

use std::io::{self, Read, Write};

use berth_types::{Digest, ErrorKind, ImageDocument, Platform, Reference};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::documents::{Descriptor, Document, Manifest, chain_ids, media, parse_json};
use crate::error::{ImageError, Result, carry};
use crate::layers::Staged;
use crate::limits;
use crate::load::{Reported, check_document};
use crate::progress::{Pace, Progress, ProgressSink};
use crate::registry::{Credentials, Fetched, Session, backoff};
use crate::store::{Holds, ImageId, ImageStore, Inner, NewImage};

/// What a pull is asked for.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The image; without tag and digest `latest` is meant.
    pub reference: Reference,
    /// The platform; the store's own when not given.
    pub platform: Option<Platform>,
    /// Credentials for the registry. Mirrors never see them.
    pub credentials: Option<Credentials>,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub id: ImageId,
    /// The name it is known by, with its tag or digest.
    pub name: Reference,
    /// What the name stands for: the digest of the manifest or index.
    pub digest: Digest,
    /// Whether anything changed here.
    pub newer: bool,
}

/// A manifest chosen for a platform.
struct Chosen {
    /// What the name stands for.
    target: Descriptor,
    manifest: Descriptor,
    document: Manifest,
    /// All manifests and indexes on the way, with their bytes.
    documents: Vec<(Digest, Vec<u8>)>,
}

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
    /// Pulls an image; the answer comes when it is durable.
    ///
    /// Dropping the future ends the pull.
    ///
    /// # Errors
    /// When no endpoint has the image or lets us have it, when what comes does not match its digests or
    /// exceeds a limit, and when it cannot be stored. Nothing becomes known then.
    pub async fn pull(&self, request: PullRequest, progress: ProgressSink) -> Result<Pulled> {
        // A task of its own, so that workers are always waited for and holds always let go.
        let cancelled = CancellationToken::new();
        let guard = cancelled.clone().drop_guard();
        let store = self.clone();
        let task = tokio::spawn(async move {
            let mut holds = Holds::default();
            let outcome = store
                .pull_held(&request, &progress, &cancelled, &mut holds)
                .await;
            let releasing = store.clone();
            let released = tokio::task::spawn_blocking(move || releasing.release(holds)).await;
            let pulled = outcome?;
            flatten(released, "remove what is not needed")?;
            Ok(pulled)
        });
        let outcome = task.await;
        drop(guard);
        flatten(outcome, "pull")
    }

    async fn pull_held(
        &self,
        request: &PullRequest,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
        holds: &mut Holds,
    ) -> Result<Pulled> {
        let reference = crate::store::parse_name(&request.reference.to_string())?;
        let wanted = reference
            .digest()
            .map(Digest::to_string)
            .or_else(|| reference.tag().map(str::to_owned))
            .unwrap_or_default();
        progress(Progress::Pulling {
            tag: wanted.clone(),
            repository: if reference.registry() == "docker.io" {
                reference.repository().to_owned()
            } else {
                reference.name()
            },
        });
        let mut passed_over = None;
        for endpoint in self.inner.registry.endpoints(&reference)? {
            let session =
                Session::new(&self.inner.registry, endpoint, request.credentials.as_ref());
            let attempt = self.pull_from(
                &session, &reference, &wanted, request, progress, cancelled, holds,
            );
            match attempt.await {
                Err(error) if session.is_mirror() && !is_own(&error) => {
                    tracing::debug!(mirror = session.authority(), %error, "passed over");
                    passed_over.get_or_insert(error);
                }
                Err(error) => return Err(explained(error, &reference)),
                Ok(pulled) => return Ok(pulled),
            }
        }
        Err(passed_over.unwrap_or_else(|| ImageError::NoSuchImage {
            reference: reference.familiar(),
        }))
    }

    #[allow(clippy::too_many_arguments)]
    async fn pull_from(
        &self,
        session: &Session<'_>,
        reference: &Reference,
        wanted: &str,
        request: &PullRequest,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
        holds: &mut Holds,
    ) -> Result<Pulled> {
        let chosen = self
            .choose(session, wanted, request.platform.as_ref())
            .await?;
        for (digest, _) in &chosen.documents {
            holds.blob(&self.inner, *digest);
        }
        let (config, document) = self.config(session, &chosen, holds).await?;
        let object = format!("image {}", reference.familiar());
        check_document(&document, chosen.document.layers.len(), &object)?;
        if let Some(platform) = &request.platform {
            let actual =
                Platform::normalised(&document.os, &document.architecture, &document.variant);
            if actual.suitability(platform).is_none() {
                return Err(ImageError::NoPlatform {
                    object: format!("{object}, which is for {actual},"),
                    platform: platform.to_string(),
                });
            }
        }
        self.fetch_layers(
            session,
            &chosen.document,
            &document,
            progress,
            cancelled,
            holds,
        )
        .await?;
        let store = self.clone();
        let name = reference.clone();
        let target = chosen.target.clone();
        let (id, newer) = flatten(
            tokio::task::spawn_blocking(move || store.finish(name, chosen, config, document)).await,
            "store the image",
        )?;
        progress(Progress::Digest(target.digest));
        let familiar = reference.familiar();
        progress(Progress::Status(if newer {
            format!("Status: Downloaded newer image for {familiar}")
        } else {
            format!("Status: Image is up to date for {familiar}")
        }));
        Ok(Pulled {
            id,
            name: reference.clone(),
            digest: target.digest,
            newer,
        })
    }

    /// Stores the documents and makes the image known.
    fn finish(
        &self,
        name: Reference,
        chosen: Chosen,
        config: (Descriptor, Vec<u8>),
        document: ImageDocument,
    ) -> Result<(ImageId, bool)> {
        let (config, config_bytes) = config;
        for (digest, bytes) in &chosen.documents {
            self.inner.blobs.put(bytes, Some(digest), "a manifest")?;
        }
        self.inner
            .blobs
            .put(&config_bytes, Some(&config.digest), "a configuration")?;
        let id = config.digest;
        let by_digest = name.with_digest(chosen.target.digest);
        let known = self.inner.records.reference(&name)?;
        let newer = known
            .is_none_or(|known| known.image != id || known.target.digest != chosen.target.digest)
            || self.inner.records.image(&id)?.is_none();
        let mut names = vec![(by_digest, chosen.target.clone())];
        if name.digest().is_none() {
            names.push((name, chosen.target));
        }
        self.commit(vec![NewImage {
            manifest: chosen.manifest,
            config,
            document,
            names,
        }])?;
        Ok((id, newer))
    }

    /// Goes from the name to a manifest for the platform.
    async fn choose(
        &self,
        session: &Session<'_>,
        wanted: &str,
        platform: Option<&Platform>,
    ) -> Result<Chosen> {
        let platform = platform.unwrap_or(&self.inner.settings.platform);
        let mut documents = Vec::new();
        let Fetched {
            bytes,
            media_type,
            digest,
        } = session.manifest(wanted).await?;
        let object = format!("manifest {wanted}");
        let mut document = Document::parse(&bytes, media_type.as_deref(), &object)?;
        let mut current = descriptor_of(&document, media_type.as_deref(), digest, &bytes);
        let target = current.clone();
        documents.push((digest, bytes));
        for _ in 0..=limits::INDEX_DEPTH_MAX {
            let index = match document {
                Document::Manifest(manifest) => {
                    return Ok(Chosen {
                        target,
                        manifest: current,
                        document: *manifest,
                        documents,
                    });
                }
                Document::Index(index) => index,
            };
            let entry = index.candidates(platform).first().copied().cloned();
            let entry = entry.ok_or_else(|| ImageError::NoPlatform {
                object: object.clone(),
                platform: platform.to_string(),
            })?;
            let object = format!("manifest {}", entry.digest.short());
            // What is here need not be asked for again: indexes change more often than manifests.
            let bytes = match self
                .inner
                .blobs
                .read(&entry.digest, limits::MANIFEST_BYTES_MAX)?
            {
                Some(bytes) => bytes,
                None => session.manifest(&entry.digest.to_string()).await?.bytes,
            };
            if bytes.len() as u64 != entry.size {
                return Err(ImageError::Size {
                    object,
                    expected: entry.size,
                    actual: bytes.len() as u64,
                });
            }
            document = Document::parse(&bytes, Some(&entry.media_type), &object)?;
            documents.push((entry.digest, bytes));
            current = entry;
        }
        Err(ImageError::Limit {
            object: format!("{object}: nesting of indexes"),
            limit: limits::INDEX_DEPTH_MAX as u64,
            unit: "levels",
        })
    }

    async fn config(
        &self,
        session: &Session<'_>,
        chosen: &Chosen,
        holds: &mut Holds,
    ) -> Result<((Descriptor, Vec<u8>), ImageDocument)> {
        let descriptor = chosen.document.config.clone();
        let object = format!("image configuration {}", descriptor.digest.short());
        if descriptor.size > limits::CONFIG_BYTES_MAX {
            return Err(ImageError::Limit {
                object,
                limit: limits::CONFIG_BYTES_MAX,
                unit: "bytes",
            });
        }
        holds.blob(&self.inner, descriptor.digest);
        let stored = self
            .inner
            .blobs
            .read(&descriptor.digest, limits::CONFIG_BYTES_MAX)?;
        let bytes = match stored {
            Some(bytes) => bytes,
            None => {
                session
                    .small_blob(&descriptor.digest, descriptor.size)
                    .await?
            }
        };
        let actual = crate::stream::digest_of(&bytes);
        if actual != descriptor.digest {
            return Err(ImageError::Digest {
                object,
                expected: descriptor.digest,
                actual,
            });
        }
        let document = parse_json(&bytes, &object)?;
        Ok(((descriptor, bytes), document))
    }

    async fn fetch_layers(
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
        let permits = Semaphore::new(limits::DOWNLOADS_PER_PULL);
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

/// The result of a task, whose panic or end is an error like others.
fn flatten<T>(
    outcome: std::result::Result<Result<T>, tokio::task::JoinError>,
    attempt: &str,
) -> Result<T> {
    outcome.unwrap_or_else(|_| {
        Err(ImageError::Cancelled {
            attempt: attempt.to_owned(),
        })
    })
}

/// Failures that another endpoint cannot help with.
fn is_own(error: &ImageError) -> bool {
    matches!(
        error,
        ImageError::Io { .. }
            | ImageError::Database { .. }
            | ImageError::Schema { .. }
            | ImageError::Cancelled { .. }
            | ImageError::Setting { .. }
    )
}

/// Registries answer in terms of their own; people asked for an image.
fn explained(error: ImageError, reference: &Reference) -> ImageError {
    match error {
        ImageError::Registry {
            reason,
            kind: ErrorKind::NotFound,
            ..
        } => ImageError::Registry {
            attempt: format!("manifest for {} not found", reference.familiar()),
            reason,
            kind: ErrorKind::NotFound,
        },
        ImageError::Registry {
            reason,
            kind: ErrorKind::Unauthorized | ErrorKind::Forbidden,
            ..
        } => {
            ImageError::Registry {
                attempt: format!(
                    "pull access denied for {}, repository does not exist or may require 'docker login'",
                    reference.familiar_name()
                ),
                reason,
                // Registries hide what is private behind the same answer as what is not there.
                kind: ErrorKind::NotFound,
            }
        }
        other => other,
    }
}

fn descriptor_of(
    document: &Document,
    media_type: Option<&str>,
    digest: Digest,
    bytes: &[u8],
) -> Descriptor {
    let (stated, usual) = match document {
        Document::Manifest(manifest) => (manifest.media_type.clone(), media::OCI_MANIFEST),
        Document::Index(index) => (index.media_type.clone(), media::OCI_INDEX),
    };
    Descriptor {
        media_type: stated
            .or_else(|| media_type.map(str::to_owned))
            .filter(|text| text.starts_with("application/vnd."))
            .unwrap_or_else(|| usual.to_owned()),
        digest,
        size: bytes.len() as u64,
        urls: None,
        annotations: None,
        platform: None,
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
        if !passing || attempt >= limits::ATTEMPTS_MAX {
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
    let (mut body, start) = session
        .blob(&descriptor.digest, *offset)
        .await
        .map_err(Some)?;
    let mut position = start;
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
