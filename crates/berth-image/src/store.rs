//! The image store: names, images and what they are made of.
//!
//! Owns: the directories `blobs` and `layers` beneath its root, the image tables of the record store, and
//! the rule that what a record refers to is there. Does not own: containers (callers tell which images they
//! use), HTTP, or how progress is shown.
//!
//! Order of every change: content and layers are written and verified under leases → one durability barrier
//! (`syncfs`, for large transfers later: [`crate::settle`]) → one transaction → the answer. Removal goes the other
//! way: transaction → files. So at any moment a crash leaves at most files that no record knows, and opening the store
//! removes those.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_sys::fs;
use berth_types::{Digest, ImageDocument, Platform, Reference, Timestamp};
use redb::Database;

use crate::blobs::{BlobLease, BlobStore};
use crate::documents::{Descriptor, chain_ids, parse_json};
use crate::error::{Attempt, ImageError, Result};
use crate::layers::{LayerLease, LayerStore};
use crate::limits;
use crate::records::{Changes, ImageRecord, Records, ReferenceRecord};
use crate::registry::RegistryClient;
use crate::settings::Settings;
use crate::settle::Settling;
use crate::uses::Uses;

/// Identifies an image: the digest of its configuration.
pub type ImageId = Digest;

/// All images of one engine. Cheap to clone.
///
/// Methods block (disk, record store) unless they are `async`; call them from a thread that may block.
#[derive(Clone, Debug)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) blobs: BlobStore,
    pub(crate) layers: LayerStore,
    pub(crate) records: Records,
    pub(crate) registry: RegistryClient,
    pub(crate) uses: Uses,
    pub(crate) settling: Settling,
    /// Held while records are read in order to be changed.
    gate: Mutex<()>,
    /// Held while the directories of a container's root file system are made.
    pub(crate) making: Mutex<()>,
    /// One entry per layer being fetched or unpacked, so that it happens once.
    pub(crate) in_flight: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// An image found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// What the store keeps about it.
    pub record: ImageRecord,
}

/// Leases of one transfer: nothing that it brought or found is removed while this lives.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    blobs: Vec<BlobLease>,
    layers: Vec<LayerLease>,
    blob_ids: Vec<Digest>,
    chains: Vec<Digest>,
}

impl Holds {
    pub(crate) fn blob(&mut self, store: &Inner, digest: Digest) {
        self.blobs.push(store.blobs.lease(digest));
        self.blob_ids.push(digest);
    }

    pub(crate) fn layer(&mut self, store: &Inner, chain: Digest) {
        self.layers.push(store.layers.lease(chain));
        self.chains.push(chain);
    }
}

/// A name that an image gets.
pub(crate) struct NewName {
    pub(crate) name: Reference,
    /// What it stands for: the manifest, or the index that it was chosen from.
    pub(crate) target: Descriptor,
    /// Content that stays with it beyond the image itself: other platforms of an index.
    pub(crate) keeps: Vec<Digest>,
}

/// An image whose content is all here, to be made known.
pub(crate) struct NewImage {
    pub(crate) manifest: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) document: ImageDocument,
    pub(crate) names: Vec<NewName>,
    /// The repository that it was fetched from: `docker.io/library/busybox`.
    pub(crate) source: Option<String>,
    /// The image it was made from here.
    pub(crate) parent: Option<ImageId>,
}

impl ImageStore {
    /// Opens the store beneath `root` (the engine's data directory), with its records in `database`.
    ///
    /// What an earlier process left half-made is removed.
    ///
    /// # Errors
    /// When directories or records cannot be used, or a setting is not valid.
    pub fn open(root: &Path, database: Arc<Database>, settings: Settings) -> Result<Self> {
        fs::create_dir_all(root)?;
        // Mounts are made from other working directories.
        let root = fs::canonicalize(root)?;
        let registry = RegistryClient::new(&settings.registries)?;
        let (records, layers) = Records::open(database)?;
        let uses = Uses::open(&records.images()?);
        let layers = LayerStore::open(&root, layers)?;
        let blobs = BlobStore::open(&root)?;
        {
            let marks = records.marks();
            blobs.sweep(|digest| marks.needs_blob(digest))?;
        }
        let unsettled = records.unsettled()?;
        let store = Self {
            inner: Arc::new(Inner {
                root,
                settings,
                blobs,
                layers,
                records,
                registry,
                uses,
                settling: Settling::default(),
                gate: Mutex::new(()),
                making: Mutex::new(()),
                in_flight: Mutex::default(),
            }),
        };
        // An earlier process of this boot did not come to it.
        store.inner.settling.later(&store.inner, unsettled);
        Ok(store)
    }

    /// The content store.
    #[must_use]
    pub fn blobs(&self) -> &BlobStore {
        &self.inner.blobs
    }

    /// The unpacked layers.
    #[must_use]
    pub fn layers(&self) -> &LayerStore {
        &self.inner.layers
    }

    /// Finds an image by what a user writes: a name, a name with digest, an id or the beginning of one.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`] when nothing is found, or when the beginning of an id fits several images.
    pub fn resolve(&self, text: &str) -> Result<Image> {
        self.resolve_as(text).map(|(image, _)| image)
    }

    /// As [`Self::resolve`]; also tells the name that led to it, which is none when an id did.
    pub(crate) fn resolve_as(&self, text: &str) -> Result<(Image, Option<Reference>)> {
        let records = &self.inner.records;
        let no_such = |reference: String| ImageError::NoSuchImage { reference };
        let whole = Digest::parse(text).ok().or_else(|| Digest::from_hex(text));
        if let Some(id) = whole {
            let record = records
                .image(&id)?
                .filter(|record| !record.retired)
                .ok_or_else(|| no_such(text.to_owned()))?;
            return Ok((Image { id, record }, None));
        }
        let reference = parse_name(text);
        if let Ok(reference) = &reference
            && let Some(found) = records.reference(reference)?
            && let Some(record) = records.image(&found.image)?
        {
            let image = Image {
                id: found.image,
                record,
            };
            return Ok((image, Some(reference.clone())));
        }
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if berth_types::id::is_id_prefix(prefix) {
            let mut fitting = records
                .images()?
                .into_iter()
                .filter(|record| !record.retired && record.id().hex().starts_with(prefix));
            if let Some(record) = fitting.next()
                && fitting.next().is_none()
            {
                let id = record.id();
                return Ok((Image { id, record }, None));
            }
        }
        Err(no_such(reference?.familiar()))
    }

    /// The configuration document of an image.
    ///
    /// # Errors
    /// When the image is not there or its document is damaged.
    pub fn document(&self, id: &ImageId) -> Result<ImageDocument> {
        let bytes = self
            .inner
            .blobs
            .read(id, limits::CONFIG_BYTES_MAX)?
            .ok_or_else(|| ImageError::NoSuchImage {
                reference: id.to_string(),
            })?;
        parse_json(&bytes, &format!("configuration of image {}", id.short()))
    }

    /// All names of an image, in canonical order.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn names(&self, id: &ImageId) -> Result<Vec<Reference>> {
        Ok(self.inner.records.marks().names(id))
    }

    /// Gives an image a further name; one that stood for another image stands for this one then.
    ///
    /// # Errors
    /// When the image is not there or `name` is not a name with a tag.
    pub fn tag(&self, image: &str, name: &str) -> Result<Reference> {
        let name = parse_name(name)?;
        if name.digest().is_some() {
            return Err(ImageError::TagWithDigest);
        }
        let _gate = self.inner.gate();
        let (Image { id, mut record }, from) = self.resolve_as(image)?;
        let target = match from {
            Some(from) => self.inner.records.reference(&from)?,
            None => None,
        };
        let (target, keeps) = match target {
            Some(known) => (known.target, known.keeps),
            None => (record.manifest.clone(), Vec::new()),
        };
        record.last_tagged = Some(std::time::SystemTime::now().into());
        self.inner.records.apply(&Changes {
            images: vec![record],
            references: vec![(name.clone(), ReferenceRecord::new(target, id, keeps))],
            ..Changes::default()
        })?;
        Ok(name)
    }

    /// Makes everything written so far survive a power cut.
    pub(crate) fn barrier(&self) -> Result<()> {
        let root = fs::open_directory(&self.inner.root)?;
        rustix::fs::syncfs(&root).attempt(|| format!("write {} to disk", self.inner.root.display()))
    }

    /// Makes images known whose content and layers are in place, all or none; when that is on disk, see
    /// [`crate::settle`]. The caller's holds must still live.
    pub(crate) fn commit(&self, images: Vec<NewImage>) -> Result<()> {
        let mut changes = self.changes_of(images)?;
        self.settle_first(&mut changes)?;
        {
            let _gate = self.inner.gate();
            self.inner.records.apply(&changes)?;
            for image in &changes.images {
                self.inner.uses.forget(&image.id());
            }
        }
        self.inner.settling.later(&self.inner, changes.unsettled);
        Ok(())
    }

    /// What makes images known whose content and layers are in place.
    pub(crate) fn changes_of(&self, images: Vec<NewImage>) -> Result<Changes> {
        let mut changes = Changes::default();
        let now: Timestamp = std::time::SystemTime::now().into();
        for image in images {
            let diff_ids = image.document.rootfs.diff_ids.clone();
            let mut size = 0;
            for chain in chain_ids(&diff_ids) {
                let layer =
                    self.inner
                        .layers
                        .get(&chain)
                        .ok_or_else(|| ImageError::NoSuchImage {
                            reference: format!("layer {}", chain.short()),
                        })?;
                size += layer.size;
                changes.layers.push((chain, layer));
            }
            let known = self.inner.records.image(&image.config.digest)?;
            let record = ImageRecord {
                schema: ImageRecord::SCHEMA,
                manifest: image.manifest,
                config: image.config,
                diff_ids,
                size,
                created: image
                    .document
                    .created
                    .as_deref()
                    .and_then(|text| Timestamp::parse(text).ok()),
                platform: Platform::normalised(
                    &image.document.os,
                    &image.document.architecture,
                    &image.document.variant,
                ),
                labels: image.document.config.labels.clone(),
                parent: image
                    .parent
                    .or_else(|| known.as_ref().and_then(|known| known.parent)),
                stored: known.as_ref().map_or(now, |known| known.stored),
                last_tagged: known.as_ref().and_then(|known| known.last_tagged),
                last_used: known.as_ref().and_then(|known| known.last_used),
                sources: sources(image.source, known.map(|known| known.sources)),
                retired: false,
            };
            let id = record.id();
            for new in image.names {
                let mut keeps = new.keeps;
                let mut seen: HashSet<Digest> = keeps.iter().copied().collect();
                // What was asked for once stays for as long as the name means the same.
                let known = self.inner.records.reference(&new.name)?;
                for digest in known
                    .filter(|known| known.target.digest == new.target.digest)
                    .map_or_else(Vec::new, |known| known.keeps)
                {
                    if seen.insert(digest) {
                        keeps.push(digest);
                    }
                }
                changes
                    .references
                    .push((new.name, ReferenceRecord::new(new.target, id, keeps)));
            }
            changes.images.push(record);
        }
        Ok(changes)
    }

    /// Writes what images are made of to disk where that is soon done; notes the others.
    pub(crate) fn settle_first(&self, changes: &mut Changes) -> Result<()> {
        // The answer waits for the disk only where that is soon done.
        let fresh: u64 = {
            let marks = self.inner.records.marks();
            let new = |chain: &&(Digest, _)| !marks.needs_chain(&chain.0);
            changes
                .layers
                .iter()
                .filter(new)
                .map(|(_, layer)| layer.size)
                .sum()
        };
        if fresh <= limits::SETTLE_NOW_BYTES && !self.inner.settling.is_pending() {
            self.barrier()?;
        } else {
            changes.unsettled = changes.images.iter().map(ImageRecord::id).collect();
        }
        Ok(())
    }

    /// Ends a transfer: lets go of what it held and removes what then nobody needs.
    pub(crate) fn release(&self, holds: Holds) -> Result<()> {
        let Holds {
            blobs,
            layers,
            blob_ids,
            chains,
        } = holds;
        drop((blobs, layers));
        let _gate = self.inner.gate();
        self.inner.collect(&blob_ids, &chains).map(|_| ())
    }
}

/// Where an image came from, newest first.
fn sources(newest: Option<String>, known: Option<Vec<String>>) -> Vec<String> {
    let mut sources: Vec<String> = newest.into_iter().collect();
    for source in known.unwrap_or_default() {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources.truncate(limits::SOURCES_MAX);
    sources
}

/// Reads a name, with tag `latest` when it has none; a digest makes the tag meaningless.
pub(crate) fn parse_name(text: &str) -> Result<Reference> {
    let reference = Reference::parse(text).map_err(|source| ImageError::Reference {
        text: text.chars().take(256).collect(),
        source,
    })?;
    Ok(match reference.digest().copied() {
        Some(digest) => reference.with_digest(digest),
        None => reference.with_default_tag(),
    })
}

impl Inner {
    pub(crate) fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn for fetching or unpacking this content: whoever holds its lock does it, the others then find
    /// it done.
    pub(crate) fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for those that only the table knows.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(digest).or_default().clone()
    }

    /// Removes those of the given content and layers that no record needs and nobody holds; the gate is held.
    /// Gives the chain ids that went, topmost first, with the bytes of the layer and of its archive.
    pub(crate) fn collect(
        &self,
        blobs: &[Digest],
        chains: &[Digest],
    ) -> Result<Vec<(Digest, u64)>> {
        let mut gone = Vec::new();
        let mut blobs: Vec<Digest> = blobs.to_vec();
        for chain in chains.iter().rev() {
            if self.records.marks().needs_chain(chain) {
                continue;
            }
            // A hold only means that the layer stays without a record until its holder commits or lets go.
            if let Some(record) = self.layers.remove(chain)? {
                let archive = record.blob.and_then(|blob| self.blobs.size(&blob));
                gone.push((*chain, record.size + archive.unwrap_or(0)));
                blobs.extend(record.blob);
            }
        }
        for blob in blobs {
            let needed = self.records.marks().needs_blob(&blob) || self.layers.come_from(&blob);
            if !needed {
                self.blobs.remove(&blob)?;
            }
        }
        Ok(gone)
    }
}
