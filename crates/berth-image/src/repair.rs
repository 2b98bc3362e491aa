//! Mending what a check found: content is fetched again from where it came, layers are unpacked again.
//!
//! Owns: the order. Content first, since layers are unpacked from it; then layers, from the lowest up; what then still
//! is wrong is removed only when that is asked, image by image with its names. Layers that running containers are
//! made of are never touched: their files are open. Content that is fetched again takes the place of the damaged one
//! only when its digest is right.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write;

use berth_types::{Digest, Reference};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;

use crate::blobs::BlobWriter;
use crate::check::{CheckReport, CheckRequest, Damage, Outcome, Snapshot, Survey, below};
use crate::documents::{Descriptor, chain_ids};
use crate::error::{Attempt, ImageError, Result};
use crate::limits;
use crate::progress::{Progress, ProgressSink};
use crate::records::Changes;
use crate::registry::{Credentials, Session};
use crate::remove::{ImageUse, Removal, RemoveRequest};
use crate::store::{Holds, ImageStore};

/// Credentials by registry, for content that has to be fetched again.
pub type KnownCredentials = HashMap<String, Credentials>;

impl ImageStore {
    /// Checks the store, and mends what is asked to be mended. `uses` tells the containers of the engine. Also gives
    /// what was removed.
    ///
    /// Dropping the future ends the check; what is mended by then stays mended.
    ///
    /// # Errors
    /// When the check itself cannot go on: the records or directories cannot be read. What is wrong with single
    /// objects is in the report.
    pub async fn check(
        &self,
        request: CheckRequest,
        credentials: KnownCredentials,
        uses: impl Fn() -> Vec<ImageUse> + Send + Sync + 'static,
        progress: ProgressSink,
    ) -> Result<(CheckReport, Vec<Removal>)> {
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let store = self.clone();
        let (sink, token) = (progress.clone(), cancelled.clone());
        let survey = tokio::task::spawn_blocking(move || store.survey(request.deep, &sink, &token));
        let mut survey = joined(survey.await)?;
        let mut removals = Vec::new();
        if !request.repair || survey.damages.is_empty() {
            return Ok((survey.report, removals));
        }
        self.fetch_again(&mut survey, &credentials, &progress)
            .await?;
        let store = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            store.unpack_again(&mut survey, &uses(), &progress)?;
            if request.remove {
                removals = store.remove_unsound(&mut survey, &uses)?;
            }
            Ok((survey.report, removals))
        });
        joined(work.await)
    }

    /// Fetches damaged and missing content.
    async fn fetch_again(
        &self,
        survey: &mut Survey,
        credentials: &KnownCredentials,
        progress: &ProgressSink,
    ) -> Result<()> {
        let snapshot = self.snapshot()?;
        let (needed, _) = snapshot.needs();
        for (damage, finding) in survey.damages.iter().zip(&mut survey.report.findings) {
            let Damage::Content(digest) = damage else {
                continue;
            };
            let Some(images) = needed.get(digest) else {
                // Nothing needs it, so it need not be there.
                let store = self.clone();
                let digest = *digest;
                let gone = tokio::task::spawn_blocking(move || {
                    let _gate = store.inner.gate();
                    if store.inner.records.marks().needs_blob(&digest) {
                        return Ok(false);
                    }
                    store.inner.blobs.remove(&digest)
                });
                finding.outcome = match joined(gone.await) {
                    Ok(true) => Outcome::Repaired("nothing needs it; it is removed".into()),
                    Ok(false) => Outcome::Unrepaired("it is in use".into()),
                    Err(error) => Outcome::Unrepaired(crate::error::chain(&error)),
                };
                continue;
            };
            progress(Progress::Status(format!(
                "Fetching content {} again",
                digest.short()
            )));
            finding.outcome = self
                .fetch_from_sources(&snapshot, images, digest, credentials)
                .await;
        }
        Ok(())
    }

    async fn fetch_from_sources(
        &self,
        snapshot: &Snapshot,
        images: &BTreeSet<Digest>,
        digest: &Digest,
        credentials: &KnownCredentials,
    ) -> Outcome {
        let mut reasons: Vec<String> = Vec::new();
        let sources = sources(snapshot, images);
        if sources.is_empty() {
            return Outcome::Unrepaired("it came from no registry that is known".into());
        }
        for source in sources {
            match self
                .fetch_content(&source, digest, snapshot, credentials)
                .await
            {
                Ok(from) => return Outcome::Repaired(format!("fetched again from {from}")),
                Err(error) => reasons.push(crate::error::chain(&error)),
            }
        }
        Outcome::Unrepaired(reasons.join("; "))
    }

    /// Fetches one piece of content into its place; tells from where it came.
    async fn fetch_content(
        &self,
        source: &Reference,
        digest: &Digest,
        snapshot: &Snapshot,
        credentials: &KnownCredentials,
    ) -> Result<String> {
        let is_manifest = snapshot
            .images
            .values()
            .any(|image| image.manifest.digest == *digest)
            || snapshot
                .references
                .iter()
                .any(|(_, record)| record.target.digest == *digest);
        let _lease = self.inner.blobs.lease(*digest);
        let mut last = None;
        for endpoint in self.inner.registry.endpoints(source)? {
            let session = Session::new(
                &self.inner.registry,
                endpoint,
                credentials.get(source.registry()),
            );
            let object = format!("content {}", digest.short());
            let writer = self.inner.blobs.writer(object)?;
            let fetched = if is_manifest {
                fetch_manifest(&session, digest, writer).await
            } else {
                fetch_blob(&session, digest, writer).await
            };
            match fetched {
                Ok(()) => {
                    let store = self.clone();
                    joined(tokio::task::spawn_blocking(move || store.barrier()).await)?;
                    return Ok(format!(
                        "{} ({})",
                        source.familiar_name(),
                        session.authority()
                    ));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ImageError::NoSuchImage {
            reference: source.familiar(),
        }))
    }

    /// Unpacks damaged layers again, lowest first.
    fn unpack_again(
        &self,
        survey: &mut Survey,
        uses: &[ImageUse],
        progress: &ProgressSink,
    ) -> Result<()> {
        let snapshot = self.snapshot()?;
        let (_, needed) = snapshot.needs();
        let running: HashSet<Digest> = uses
            .iter()
            .filter(|used| used.running)
            .filter_map(|used| snapshot.images.get(&used.image))
            .flat_map(|image| chain_ids(&image.diff_ids))
            .collect();
        let mut order: Vec<(usize, usize, Digest)> = Vec::new();
        for (place, damage) in survey.damages.iter().enumerate() {
            if let Damage::Layer(chain) = damage {
                order.push((below(&snapshot.layers, chain)?.len(), place, *chain));
            }
        }
        order.sort_unstable();
        for (_, place, chain) in order {
            let finding = &mut survey.report.findings[place];
            finding.outcome = if running.contains(&chain) {
                Outcome::Unrepaired(
                    "running containers are made of it: stop them, and repair again".into(),
                )
            } else if !needed.contains_key(&chain) {
                Outcome::Repaired("nothing needs it any more".into())
            } else {
                progress(Progress::Status(format!(
                    "Unpacking layer {} again",
                    chain.short()
                )));
                match self.unpack_layer_again(&snapshot, &chain) {
                    Ok(()) => Outcome::Repaired("unpacked again".into()),
                    Err(error) => Outcome::Unrepaired(crate::error::chain(&error)),
                }
            };
        }
        Ok(())
    }

    fn unpack_layer_again(&self, snapshot: &Snapshot, chain: &Digest) -> Result<()> {
        let object = format!("layer {}", chain.short());
        let mut holds = Holds::default();
        let below = below(&snapshot.layers, chain)?;
        for layer in below.iter().chain([chain]) {
            holds.layer(&self.inner, *layer);
        }
        let unpacked = self.replace_layer(snapshot, chain, &below, &object);
        self.release(holds)?;
        if let Some(former) = unpacked? {
            self.inner.layers.trash.throw(&former)?;
        }
        Ok(())
    }

    fn replace_layer(
        &self,
        snapshot: &Snapshot,
        chain: &Digest,
        below: &[Digest],
        object: &str,
    ) -> Result<Option<std::path::PathBuf>> {
        let record = snapshot.layers.get(chain);
        let no_archive =
            || ImageError::archive(object, "its archive is not here; pull the image again");
        let record = record.ok_or_else(no_archive)?;
        let blob = record.blob.ok_or_else(no_archive)?;
        let file = self.inner.blobs.reader(&blob)?.ok_or_else(no_archive)?;
        let staged = self.inner.layers.unpack(file, object)?;
        if staged.diff_id != record.diff_id {
            return Err(ImageError::Digest {
                object: format!("{object}, unpacked,"),
                expected: record.diff_id,
                actual: staged.diff_id,
            });
        }
        self.barrier()?;
        let _gate = self.inner.gate();
        let Some((record, former)) = self.inner.layers.replace(staged, chain, below)? else {
            return Ok(None);
        };
        self.inner.records.apply(&Changes {
            layers: vec![(*chain, record)],
            ..Changes::default()
        })?;
        Ok(Some(former))
    }

    /// Removes the images that are still not sound, unless a container holds them.
    fn remove_unsound(
        &self,
        survey: &mut Survey,
        uses: &impl Fn() -> Vec<ImageUse>,
    ) -> Result<Vec<Removal>> {
        let snapshot = self.snapshot()?;
        let (blobs, chains) = snapshot.needs();
        let mut removals = Vec::new();
        for (damage, finding) in survey.damages.iter().zip(&mut survey.report.findings) {
            if matches!(finding.outcome, Outcome::Repaired(_)) {
                continue;
            }
            let own = |id: &Digest| BTreeSet::from([*id]);
            let images = match damage {
                Damage::Content(digest) => blobs.get(digest).cloned().unwrap_or_default(),
                Damage::Layer(chain) => chains.get(chain).cloned().unwrap_or_default(),
                Damage::Image(id) => own(id),
            };
            let mut kept = None;
            for id in images {
                match self.remove_image(&id, uses) {
                    Ok(gone) => removals.extend(gone),
                    Err(error) => kept = Some(crate::error::chain(&error)),
                }
            }
            finding.outcome = match kept {
                None => Outcome::Removed,
                Some(reason) => Outcome::Unrepaired(reason),
            };
        }
        Ok(removals)
    }

    fn remove_image(&self, id: &Digest, uses: &impl Fn() -> Vec<ImageUse>) -> Result<Vec<Removal>> {
        if let Some(held) = uses().iter().find(|used| used.image == *id) {
            return Err(ImageError::Conflict {
                attempt: format!("delete {}", id.short()),
                remedy: "cannot be forced",
                reason: format!(
                    "container {} is made from it: remove the container first",
                    held.container.get(..12).unwrap_or(&held.container)
                ),
            });
        }
        let force = RemoveRequest {
            force: true,
            no_prune: true,
        };
        match self.remove_unused(&id.to_string(), force, uses) {
            Err(ImageError::NoSuchImage { .. }) => {
                // Names of an image that is not there.
                let _gate = self.inner.gate();
                let names = self.names(id)?;
                self.inner.records.apply(&Changes {
                    gone_references: names.clone(),
                    ..Changes::default()
                })?;
                Ok(names
                    .iter()
                    .map(|name| Removal::Untagged {
                        name: name.familiar(),
                        image: *id,
                    })
                    .collect())
            }
            other => other,
        }
    }
}

/// Repositories that may have what these images need, most likely first.
fn sources(snapshot: &Snapshot, images: &BTreeSet<Digest>) -> Vec<Reference> {
    let mut found: Vec<Reference> = Vec::new();
    let mut add = |text: &str| {
        if let Ok(name) = Reference::parse(text)
            && !found.iter().any(|known| known.name() == name.name())
        {
            found.push(name);
        }
    };
    for id in images {
        if let Some(image) = snapshot.images.get(id) {
            image.sources.iter().for_each(|source| add(source));
        }
        for (name, record) in &snapshot.references {
            if record.image == *id && name.digest().is_some() {
                add(&name.name());
            }
        }
    }
    found.truncate(limits::SOURCES_MAX);
    found
}

async fn fetch_manifest(
    session: &Session<'_>,
    digest: &Digest,
    mut writer: BlobWriter<'_>,
) -> Result<()> {
    let fetched = session.manifest(&digest.to_string()).await?;
    writer
        .write_all(&fetched.bytes)
        .attempt(|| format!("store content {digest}"))?;
    writer.commit(Some(digest), None)?;
    Ok(())
}

async fn fetch_blob(
    session: &Session<'_>,
    digest: &Digest,
    mut writer: BlobWriter<'_>,
) -> Result<()> {
    let attempt = || {
        format!(
            "download content {} from {}",
            digest.short(),
            session.authority()
        )
    };
    // Its size is not noted anywhere; the digest decides.
    let wanted = Descriptor {
        digest: *digest,
        size: limits::LAYER_BYTES_MAX,
        ..Descriptor::of("", &[])
    };
    let mut body = session.blob(&wanted, None, None).await?.body;
    loop {
        let frame = tokio::time::timeout(limits::STALL_TIMEOUT, body.frame()).await;
        let frame = match frame {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(ImageError::Transport {
                    attempt: attempt(),
                    source: error.into(),
                });
            }
            Err(_) => {
                return Err(ImageError::Stalled {
                    attempt: attempt(),
                    seconds: limits::STALL_TIMEOUT.as_secs(),
                });
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if writer.size() + data.len() as u64 > limits::LAYER_BYTES_MAX {
            return Err(ImageError::Limit {
                object: format!("content {}", digest.short()),
                limit: limits::LAYER_BYTES_MAX,
                unit: "bytes",
            });
        }
        // Pieces are small, and a repair is nobody's hurry.
        writer
            .write_all(&data)
            .attempt(|| format!("store content {digest}"))?;
    }
    writer.commit(Some(digest), None)?;
    Ok(())
}

fn joined<T>(outcome: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|_| {
        Err(ImageError::Cancelled {
            attempt: "check the store".into(),
        })
    })
}
