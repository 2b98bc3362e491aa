//! Loading images from an archive: `docker save` archives of every age, and OCI image layouts.
//!
//! Owns: what the documents of an archive mean. An archive with `manifest.json` is Docker's; its images are
//! exactly those that the file lists, and an `index.json` beside it only tells the manifests and indexes that belong
//! to them. An archive with `index.json` alone is an OCI layout, and so is one with both of which platforms are asked for.
//!
//! Of an index, one image is unpacked; the others that the archive has are kept with its names, as they came. A layout
//! whose top lists several platforms under one name gets the index that it lacks ([`gather`]).
//!
//! All images of an archive become known in one transaction; on any failure nothing of it stays.

mod docker;
mod gather;
mod layout;

use std::cell::Cell;
use std::io::Read;

use berth_types::{Digest, ImageDocument, Platform, Reference};

use crate::contents::{Contents, Stored};
use crate::documents::{Descriptor, Document, Index, chain_ids, media};
use crate::error::{ImageError, Result};
use crate::leads::{Reach, follow};
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink, Reported};
use crate::store::{Holds, ImageId, ImageStore, NewImage, NewName};

const OBJECT: &str = "the image archive";
/// Name that containerd and Docker give an entry of an index.
pub(crate) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Name by the OCI image specification (annotations.md); often only a tag.
pub(crate) const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// An image that an archive brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its id.
    pub id: ImageId,
    /// The names that it was given.
    pub names: Vec<Reference>,
}

/// An image of the archive whose documents are read and whose layers are not unpacked yet.
struct Found {
    manifest: Descriptor,
    config: Descriptor,
    document: ImageDocument,
    layers: Vec<Descriptor>,
    names: Vec<NewName>,
    /// Platforms asked for whose images are kept beside this one.
    further: Vec<Platform>,
}

impl ImageStore {
    /// Loads every image of an archive; with `platforms`, only images for them.
    ///
    /// Blocks until the stream has ended and all is durable.
    ///
    /// # Errors
    /// When the archive is damaged, truncated, hostile or of no known form, holds no image for a platform,
    /// or cannot be stored. Nothing of it stays then.
    pub fn load(
        &self,
        source: impl Read + Send,
        platforms: &[Platform],
        progress: &ProgressSink,
    ) -> Result<Vec<LoadedImage>> {
        let mut holds = Holds::default();
        let outcome = self.load_held(source, platforms, progress, &mut holds);
        let released = self.release(holds);
        let loaded = outcome?;
        released?;
        Ok(loaded)
    }

    fn load_held(
        &self,
        source: impl Read + Send,
        platforms: &[Platform],
        progress: &ProgressSink,
        holds: &mut Holds,
    ) -> Result<Vec<LoadedImage>> {
        let mut contents = Contents::read(&self.inner, source, holds)?;
        if contents.document("manifest.json").is_none() {
            gather::gather(&self.inner, &mut contents, holds)?;
        }
        let loader = Loader {
            store: self,
            contents: &contents,
            kept: Cell::new(0),
        };
        let layout = contents.document("oci-layout");
        let found = match (
            contents.document("manifest.json"),
            contents.document("index.json"),
        ) {
            (Some(list), Some(index)) if layout.is_some() && !platforms.is_empty() => {
                let items = loader.items(list)?;
                let mut found = loader.layout(index, platforms)?;
                loader.add_tags(&items, &mut found)?;
                found
            }
            (Some(list), index) => loader.docker(&loader.items(list)?, index, platforms, holds)?,
            (None, Some(index)) => loader.layout(index, platforms)?,
            (None, None) => {
                return Err(ImageError::archive(
                    OBJECT,
                    "it contains neither manifest.json (docker save) nor index.json (OCI image layout)",
                ));
            }
        };
        if let Some(lacking) = platforms
            .iter()
            .find(|wanted| !found.iter().any(|image| image.provides(wanted)))
        {
            return Err(ImageError::NoPlatform {
                object: OBJECT.into(),
                platform: lacking.to_string(),
            });
        }
        for image in &found {
            self.unpack_all(image, progress, holds)?;
        }
        let mut lines = Vec::new();
        let mut loaded = Vec::new();
        let mut images = Vec::new();
        for image in found {
            let id = image.config.digest;
            for NewName { name, .. } in &image.names {
                if let Some(old) = self.inner.records.reference(name)?
                    && old.image != id
                {
                    lines.push(format!(
                        "The image {} already exists, renaming the old one with ID {} to empty string",
                        name.familiar(),
                        old.image
                    ));
                }
                lines.push(format!("Loaded image: {}", name.familiar()));
            }
            if image.names.is_empty() {
                lines.push(format!("Loaded image ID: {id}"));
            }
            loaded.push(LoadedImage {
                id,
                names: image.names.iter().map(|new| new.name.clone()).collect(),
            });
            images.push(NewImage {
                manifest: image.manifest,
                config: image.config,
                document: image.document,
                names: image.names,
                source: None,
                parent: None,
            });
        }
        self.commit(images)?;
        for line in lines {
            progress(Progress::Status(line));
        }
        Ok(loaded)
    }

    fn unpack_all(&self, image: &Found, progress: &ProgressSink, holds: &mut Holds) -> Result<()> {
        let diff_ids = &image.document.rootfs.diff_ids;
        let chain = chain_ids(diff_ids);
        for id in &chain {
            holds.layer(&self.inner, *id);
        }
        for (index, layer) in image.layers.iter().enumerate() {
            self.unpack_stored(&chain[..=index], &diff_ids[index], layer, progress)?;
        }
        Ok(())
    }

    /// Unpacks a layer from stored content unless it is there; `chain` ends with its chain id.
    pub(crate) fn unpack_stored(
        &self,
        chain: &[Digest],
        diff_id: &Digest,
        layer: &Descriptor,
        progress: &ProgressSink,
    ) -> Result<()> {
        let Some((own, below)) = chain.split_last() else {
            return Ok(());
        };
        let turn = self.inner.turn(layer.digest);
        let _turn = turn.blocking_lock();
        if self.inner.layers.get(own).is_some() {
            return Ok(());
        }
        let object = format!("layer {}", layer.digest.short());
        let file =
            self.inner.blobs.reader(&layer.digest)?.ok_or_else(|| {
                ImageError::archive(OBJECT, format!("it does not contain {object}"))
            })?;
        let id = diff_id.short();
        let reader = Reported {
            inner: file,
            pace: Pace::new(),
            current: 0,
            total: layer.size,
            report: |current, total| {
                progress(Progress::LoadingLayer {
                    id: id.clone(),
                    current,
                    total,
                });
            },
        };
        let staged = self.inner.layers.unpack(reader, &object)?;
        if staged.diff_id != *diff_id {
            return Err(ImageError::Digest {
                object: format!("{object}, unpacked,"),
                expected: *diff_id,
                actual: staged.diff_id,
            });
        }
        self.inner
            .layers
            .commit(staged, *own, below, Some(layer.digest))?;
        Ok(())
    }
}

impl Found {
    /// Whether it is, or brings along, an image for a platform.
    fn provides(&self, wanted: &Platform) -> bool {
        let own = platform_of(&self.document);
        std::iter::once(&own)
            .chain(&self.further)
            .any(|platform| platform.suitability(wanted).is_some())
    }
}

fn platform_of(document: &ImageDocument) -> Platform {
    Platform::normalised(&document.os, &document.architecture, &document.variant)
}

fn suits(document: &ImageDocument, wanted: &[Platform]) -> bool {
    let own = platform_of(document);
    wanted.is_empty()
        || wanted
            .iter()
            .any(|wanted| own.suitability(wanted).is_some())
}

/// Reads what the documents of an archive say.
struct Loader<'a> {
    store: &'a ImageStore,
    contents: &'a Contents,
    /// Pieces of content that names keep so far.
    kept: Cell<usize>,
}

impl Loader<'_> {
    fn read(&self, stored: Stored, limit: u64, what: &str) -> Result<Vec<u8>> {
        self.store
            .inner
            .blobs
            .read(&stored.digest, limit)?
            .ok_or_else(|| ImageError::archive(OBJECT, format!("it does not contain {what}")))
    }

    fn index(&self, bytes: &[u8]) -> Result<Index> {
        // Layouts often leave the media type out, so it is said here.
        match Document::parse(bytes, None, "index.json of the image archive")? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) => Err(ImageError::archive(
                OBJECT,
                "index.json is a manifest, not an index",
            )),
        }
    }

    fn parse(&self, entry: &Descriptor) -> Result<Document> {
        let object = format!("manifest {} of the archive", entry.digest.short());
        let stored = self.contents.blob(&entry.digest)?;
        if stored.size != entry.size {
            return Err(ImageError::Size {
                object,
                expected: entry.size,
                actual: stored.size,
            });
        }
        let bytes = self.read(stored, limits::MANIFEST_BYTES_MAX, &object)?;
        Document::parse(&bytes, Some(&entry.media_type), &object)
    }

    /// What a name keeps of what an entry leads to.
    fn keeps(&self, reach: &Reach) -> Result<Vec<Digest>> {
        let count = reach.documents.len() + reach.contents.len();
        let kept = self.kept.get() + count;
        self.kept.set(kept);
        if kept > limits::ARCHIVE_KEEPS_MAX {
            return Err(ImageError::Limit {
                object: OBJECT.into(),
                limit: limits::ARCHIVE_KEEPS_MAX as u64,
                unit: "pieces of content kept with its names",
            });
        }
        Ok(reach.digests().collect())
    }

    /// What an entry leads to in the archive.
    fn reach(&self, entry: &Descriptor) -> Result<Reach> {
        follow(
            entry,
            |entry| match self.has(entry)? {
                true => {
                    let what = format!("manifest {}", entry.digest.short());
                    let stored = self.contents.blob(&entry.digest)?;
                    self.read(stored, limits::MANIFEST_BYTES_MAX, &what)
                        .map(Some)
                }
                false => Ok(None),
            },
            |entry| self.has(entry),
        )
    }

    /// Whether the archive has this content, which must be of the size that was promised.
    fn has(&self, entry: &Descriptor) -> Result<bool> {
        let Ok(stored) = self.contents.blob(&entry.digest) else {
            return Ok(false);
        };
        if stored.size != entry.size {
            return Err(ImageError::Size {
                object: format!("content {} of the archive", entry.digest.short()),
                expected: entry.size,
                actual: stored.size,
            });
        }
        Ok(true)
    }
}

fn is_index(entry: &Descriptor) -> bool {
    matches!(
        entry.media_type.as_str(),
        media::OCI_INDEX | media::DOCKER_INDEX
    )
}
