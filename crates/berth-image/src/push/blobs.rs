//! Bringing content into a repository, several pieces at a time.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use berth_types::{Digest, Reference};
use tokio::sync::Semaphore;

use super::{Push, uploads};
use crate::documents::{Document, Manifest};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::progress::{Progress, ProgressSink};
use crate::registry::{Arrived, Outgoing, Watch};
use crate::store::{ImageStore, Inner};

/// A piece of content that documents of the push need.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) content: Outgoing,
    /// Whether people are told about it: they are about layers, not about configurations.
    pub(super) shown: bool,
    /// Content that only its first publisher may give out stays where its URLs lead.
    pub(super) foreign: bool,
    /// Set when it got there while the push was laid out.
    pub(super) arrived: Option<Arrived>,
}

/// Repositories of the same registry that are known to have content.
#[derive(Debug, Default)]
pub(super) struct Sources {
    by_digest: HashMap<Digest, Vec<String>>,
    repositories: Vec<String>,
}

impl Sources {
    /// Looks through what was pulled from and pushed to the registry before: names with a digest tell that.
    pub(super) fn find(store: &ImageStore, target: &Reference) -> Result<Self> {
        let mut sources = Self::default();
        let mut seen = HashSet::new();
        let mut references = store.inner.records.references()?;
        references.retain(|(reference, _)| {
            reference.digest().is_some()
                && reference.registry() == target.registry()
                && reference.repository() != target.repository()
        });
        // What was touched last is most likely to be there still.
        references.sort_by_key(|(_, record)| std::cmp::Reverse(record.tagged));
        for (reference, record) in references {
            let repository = reference.repository().to_owned();
            if !sources.repositories.contains(&repository) {
                if sources.repositories.len() == limits::MOUNT_SOURCES_MAX {
                    continue;
                }
                sources.repositories.push(repository.clone());
            }
            let mut manifests = vec![record.target.digest];
            if let Some(image) = store.inner.records.image(&record.image)? {
                manifests.push(image.manifest.digest);
            }
            for digest in manifests {
                if !seen.insert((digest, repository.clone())) {
                    continue;
                }
                let Some(manifest) = manifest(&store.inner, &digest)? else {
                    continue;
                };
                let contents = manifest
                    .layers
                    .iter()
                    .chain(std::iter::once(&manifest.config));
                for content in contents {
                    let known = sources.by_digest.entry(content.digest).or_default();
                    if !known.contains(&repository) {
                        known.push(repository.clone());
                    }
                }
            }
        }
        Ok(sources)
    }

    pub(super) fn of(&self, digest: &Digest) -> &[String] {
        self.by_digest.get(digest).map_or(&[], Vec::as_slice)
    }

    pub(super) fn repositories(&self) -> Vec<String> {
        self.repositories.clone()
    }
}

/// A manifest of the store; `None` for an index and for what is not here.
fn manifest(store: &Inner, digest: &Digest) -> Result<Option<Manifest>> {
    let Some(bytes) = store.blobs.read(digest, limits::MANIFEST_BYTES_MAX)? else {
        return Ok(None);
    };
    Ok(
        match Document::parse(&bytes, None, &format!("manifest {}", digest.short())) {
            Ok(Document::Manifest(manifest)) => Some(*manifest),
            _ => None,
        },
    )
}

/// Tells the progress of one piece.
struct Told<'a> {
    progress: &'a ProgressSink,
    id: String,
    total: u64,
    shown: bool,
}

impl Told<'_> {
    fn tell(&self, step: Progress) {
        if self.shown {
            (self.progress)(step);
        }
    }
}

impl Watch for Told<'_> {
    fn sent(&self, bytes: u64) {
        self.tell(Progress::Pushing {
            id: self.id.clone(),
            current: bytes,
            total: self.total,
        });
    }

    fn retrying(&self, wait: Duration) {
        self.tell(Progress::Retrying {
            id: self.id.clone(),
            seconds: wait.as_millis().div_ceil(1000).try_into().unwrap_or(1),
        });
    }
}

impl Push<'_> {
    /// Brings every piece, side by side; the first failure ends the others.
    pub(super) async fn bring_all(&self, blobs: &[Blob]) -> Result<()> {
        for blob in blobs.iter().filter(|blob| blob.shown) {
            (self.progress)(Progress::Preparing {
                id: blob.content.digest.short(),
            });
        }
        let ending = self.cancelled.child_token();
        let permits = Semaphore::new(uploads(self.store));
        let (ending, permits) = (&ending, &permits);
        let work = blobs.iter().map(|blob| async move {
            let outcome = self.bring_one(blob, permits, ending).await;
            if outcome.is_err() {
                ending.cancel();
            }
            outcome
        });
        let outcomes = futures_util::future::join_all(work).await;
        let mut first: Option<ImageError> = None;
        for error in outcomes.into_iter().filter_map(Result::err) {
            let cancelled = matches!(error, ImageError::Cancelled { .. });
            if first.is_none()
                || (!cancelled && matches!(first, Some(ImageError::Cancelled { .. })))
            {
                first = Some(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn bring_one(
        &self,
        blob: &Blob,
        permits: &Semaphore,
        ending: &tokio_util::sync::CancellationToken,
    ) -> Result<()> {
        let digest = &blob.content.digest;
        let id = digest.short();
        let told = Told {
            progress: self.progress,
            id: id.clone(),
            total: blob.content.size,
            shown: blob.shown,
        };
        if blob.foreign {
            told.tell(Progress::SkippedForeign { id });
            return Ok(());
        }
        let cancelled = || ImageError::Cancelled {
            attempt: format!("push layer {}", digest.short()),
        };
        let _permit = match permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                told.tell(Progress::Waiting { id: id.clone() });
                tokio::select! {
                    permit = permits.acquire() => permit.map_err(|_| cancelled())?,
                    () = ending.cancelled() => return Err(cancelled()),
                }
            }
        };
        let arrived = match &blob.arrived {
            Some(arrived) => arrived.clone(),
            None => {
                let sources = self.sources.of(digest);
                self.session
                    .bring(&blob.content, sources, &told, ending)
                    .await?
            }
        };
        told.tell(match arrived {
            Arrived::WasThere => Progress::LayerExists { id },
            Arrived::Mounted(from) => Progress::Mounted { id, from },
            Arrived::Sent => Progress::LayerPushed { id },
        });
        Ok(())
    }
}
