//! Keeping everything that a name stands for: the images of other platforms, and what is attested about them.
//!
//! Owns: walking an index, and fetching what it leads to. The content is stored as it comes and verified by digest;
//! nothing of it is unpacked, and manifests are read only for what they lead to, so that those of artifacts and
//! attestations are kept as well.

use std::collections::HashSet;

use berth_types::Digest;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Chosen;
use crate::documents::{Descriptor, media, parse_json};
use crate::error::{ImageError, Result};
use crate::leads::Leads;
use crate::limits;
use crate::progress::{Progress, ProgressSink};
use crate::registry::Session;
use crate::store::{Holds, ImageStore};

impl ImageStore {
    /// Fetches all that the name leads to and that is not here yet; gives the digests of all of it.
    pub(super) async fn fetch_others(
        &self,
        session: &Session<'_>,
        chosen: &Chosen,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
        holds: &mut Holds,
    ) -> Result<Vec<Digest>> {
        let mut keeps = Vec::new();
        // The chosen image is followed as well: its layers may be here in another form than its manifest names.
        let mut known: HashSet<Digest> = HashSet::new();
        let mut documents = 0;
        let mut contents: Vec<Descriptor> = Vec::new();
        let mut pending = vec![(chosen.target.clone(), 0)];
        while let Some((entry, depth)) = pending.pop() {
            if !known.insert(entry.digest) {
                continue;
            }
            let object = format!("manifest {}", entry.digest.short());
            documents += 1;
            if depth > limits::INDEX_DEPTH_MAX || documents > limits::INDEX_ENTRIES_MAX {
                return Err(ImageError::Limit {
                    object,
                    limit: limits::INDEX_ENTRIES_MAX as u64,
                    unit: "manifests of one name",
                });
            }
            let bytes = self.document_of(session, chosen, &entry, &object).await?;
            holds.blob(&self.inner, entry.digest);
            let leads: Leads = parse_json(&bytes, &object)?;
            let store = self.clone();
            let digest = entry.digest;
            super::flatten(
                tokio::task::spawn_blocking(move || {
                    store.inner.blobs.put(&bytes, Some(&digest), "a manifest")
                })
                .await,
                "store a manifest",
            )?;
            keeps.push(entry.digest);
            pending.extend(leads.manifests.into_iter().map(|child| (child, depth + 1)));
            for content in leads
                .config
                .into_iter()
                .chain(leads.layers)
                .chain(leads.blobs)
            {
                if known.insert(content.digest) {
                    holds.blob(&self.inner, content.digest);
                    keeps.push(content.digest);
                    contents.push(content);
                }
            }
        }
        let ending = cancelled.child_token();
        let permits = Semaphore::new(self.inner.settings.registries.concurrent_downloads.max(1));
        let further = Semaphore::new(0);
        let (ending, permits, further) = (&ending, &permits, &further);
        let fetches = contents.iter().map(|content| async move {
            let outcome = self
                .keep_content(session, content, permits, further, progress, ending)
                .await;
            if outcome.is_err() {
                ending.cancel();
            }
            outcome
        });
        let mut first = Ok(());
        for outcome in futures_util::future::join_all(fetches).await {
            // The others were only told to end.
            if let Err(error) = outcome
                && !matches!(&first, Err(known) if !matches!(known, ImageError::Cancelled { .. }))
            {
                first = Err(error);
            }
        }
        first.map(|()| keeps)
    }

    async fn document_of(
        &self,
        session: &Session<'_>,
        chosen: &Chosen,
        entry: &Descriptor,
        object: &str,
    ) -> Result<Vec<u8>> {
        let at_hand = chosen
            .documents
            .iter()
            .find(|(digest, _)| *digest == entry.digest);
        let stored = match at_hand {
            Some((_, bytes)) => return Ok(bytes.clone()),
            None => self
                .inner
                .blobs
                .read(&entry.digest, limits::MANIFEST_BYTES_MAX)?,
        };
        let bytes = match stored {
            Some(bytes) => bytes,
            None => session.manifest(&entry.digest.to_string()).await?.bytes,
        };
        if bytes.len() as u64 != entry.size {
            return Err(ImageError::Size {
                object: object.to_owned(),
                expected: entry.size,
                actual: bytes.len() as u64,
            });
        }
        Ok(bytes)
    }

    /// Fetches one content without looking into it.
    async fn keep_content(
        &self,
        session: &Session<'_>,
        content: &Descriptor,
        permits: &Semaphore,
        further: &Semaphore,
        progress: &ProgressSink,
        ending: &CancellationToken,
    ) -> Result<()> {
        let id = content.digest.short();
        let cancelled = || ImageError::Cancelled {
            attempt: format!("fetch content {id}"),
        };
        let turn = self.inner.turn(content.digest);
        let _turn = tokio::select! {
            turn = turn.lock() => turn,
            () = ending.cancelled() => return Err(cancelled()),
        };
        let _permit = tokio::select! {
            permit = permits.acquire() => permit.map_err(|_| cancelled())?,
            () = ending.cancelled() => return Err(cancelled()),
        };
        if self.inner.blobs.contains(&content.digest) {
            return Ok(());
        }
        let shown =
            content.media_type != media::OCI_CONFIG && content.media_type != media::DOCKER_CONFIG;
        if shown {
            progress(Progress::PullingLayer { id: id.clone() });
        }
        self.fetch_verified(session, content, further, progress, ending)
            .await?;
        if shown {
            progress(Progress::DownloadComplete { id });
        }
        Ok(())
    }
}
