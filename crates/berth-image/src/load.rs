//! Loading images from an archive: `docker save` archives of every age, and OCI image layouts.
//!
//! Owns: what the documents of an archive mean. An archive with `manifest.json` is Docker's; its images are
//! exactly those that the file lists, and an `index.json` beside it only tells the manifests that belong to
//! them. An archive with `index.json` alone is an OCI layout.
//!
//! All images of an archive become known in one transaction; on any failure nothing of it stays.

use std::collections::HashMap;
use std::io::Read;

use berth_types::{Digest, ImageDocument, Platform, Reference};
use serde::Deserialize;

use crate::contents::{Contents, Stored};
use crate::documents::{
    Descriptor, Document, Index, Manifest, chain_ids, check_document, media, parse_json,
};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink, Reported};
use crate::store::{Holds, ImageId, ImageStore, NewImage};
use crate::stream::{self, Compression};

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

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image of the archive whose documents are read and whose layers are not unpacked yet.
struct Found {
    manifest: Descriptor,
    config: Descriptor,
    document: ImageDocument,
    layers: Vec<Descriptor>,
    names: Vec<(Reference, Descriptor)>,
}

impl ImageStore {
    /// Loads every image of an archive; with `platform`, only images for it.
    ///
    /// Blocks until the stream has ended and all is durable.
    ///
    /// # Errors
    /// When the archive is damaged, truncated, hostile or of no known form, holds no image for the platform,
    /// or cannot be stored. Nothing of it stays then.
    pub fn load(
        &self,
        source: impl Read + Send,
        platform: Option<&Platform>,
        progress: &ProgressSink,
    ) -> Result<Vec<LoadedImage>> {
        let mut holds = Holds::default();
        let outcome = self.load_held(source, platform, progress, &mut holds);
        let released = self.release(holds);
        let loaded = outcome?;
        released?;
        Ok(loaded)
    }

    fn load_held(
        &self,
        source: impl Read + Send,
        platform: Option<&Platform>,
        progress: &ProgressSink,
        holds: &mut Holds,
    ) -> Result<Vec<LoadedImage>> {
        let contents = Contents::read(&self.inner, source, holds)?;
        let loader = Loader {
            store: self,
            contents: &contents,
        };
        let found = match (
            contents.document("manifest.json"),
            contents.document("index.json"),
        ) {
            (Some(list), index) => loader.docker(list, index, platform, holds)?,
            (None, Some(index)) => loader.layout(index, platform)?,
            (None, None) => {
                return Err(ImageError::archive(
                    OBJECT,
                    "it contains neither manifest.json (docker save) nor index.json (OCI image layout)",
                ));
            }
        };
        if found.is_empty()
            && let Some(platform) = platform
        {
            return Err(ImageError::NoPlatform {
                object: OBJECT.into(),
                platform: platform.to_string(),
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
            for (name, _) in &image.names {
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
                names: image.names.iter().map(|(name, _)| name.clone()).collect(),
            });
            images.push(NewImage {
                manifest: image.manifest,
                config: image.config,
                document: image.document,
                names: image.names,
                keeps: Vec::new(),
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

fn suits(document: &ImageDocument, wanted: Option<&Platform>) -> bool {
    wanted.is_none_or(|wanted| {
        Platform::normalised(&document.os, &document.architecture, &document.variant)
            .suitability(wanted)
            .is_some()
    })
}

struct Loader<'a> {
    store: &'a ImageStore,
    contents: &'a Contents,
}

impl Loader<'_> {
    fn read(&self, stored: Stored, limit: u64, what: &str) -> Result<Vec<u8>> {
        self.store
            .inner
            .blobs
            .read(&stored.digest, limit)?
            .ok_or_else(|| ImageError::archive(OBJECT, format!("it does not contain {what}")))
    }

    fn docker(
        &self,
        list: &[u8],
        index: Option<&[u8]>,
        platform: Option<&Platform>,
        holds: &mut Holds,
    ) -> Result<Vec<Found>> {
        let items: Option<Vec<DockerItem>> =
            parse_json(list, "manifest.json of the image archive")?;
        let items = items.ok_or_else(|| {
            ImageError::archive(
                OBJECT,
                "invalid manifest, manifest cannot be null (but can be [])",
            )
        })?;
        if items.len() > limits::ARCHIVE_IMAGES_MAX {
            return Err(ImageError::Limit {
                object: OBJECT.into(),
                limit: limits::ARCHIVE_IMAGES_MAX as u64,
                unit: "images",
            });
        }
        let manifests = match index {
            Some(index) => self.manifests_by_config(index)?,
            None => HashMap::new(),
        };
        let mut found = Vec::new();
        for item in items {
            let config = self.contents.file(&item.config)?;
            let bytes = self.read(config, limits::CONFIG_BYTES_MAX, "an image configuration")?;
            let object = format!("image {} of the archive", config.digest.short());
            let document: ImageDocument = parse_json(&bytes, &object)?;
            let paths = item.layers.unwrap_or_default();
            check_document(&document, paths.len(), &object)?;
            if !suits(&document, platform) {
                continue;
            }
            let layers = paths
                .iter()
                .map(|path| self.layer(path))
                .collect::<Result<Vec<_>>>()?;
            let (manifest, config) = match manifests.get(&config.digest) {
                Some((descriptor, manifest))
                    if manifest
                        .layers
                        .iter()
                        .map(|layer| layer.digest)
                        .eq(layers.iter().map(|layer| layer.digest)) =>
                {
                    (descriptor.clone(), manifest.config.clone())
                }
                _ => self.make_manifest(config, &layers, holds)?,
            };
            let mut names: Vec<(Reference, Descriptor)> = Vec::new();
            for tag in item.repo_tags.unwrap_or_default() {
                let name = crate::store::parse_name(&tag)?;
                if name.digest().is_some() {
                    return Err(ImageError::archive(OBJECT, format!("invalid tag {tag:?}")));
                }
                if !names.iter().any(|(other, _)| *other == name) {
                    names.push((name, manifest.clone()));
                }
            }
            found.push(Found {
                manifest,
                config,
                document,
                layers,
                names,
            });
        }
        Ok(found)
    }

    fn layer(&self, path: &str) -> Result<Descriptor> {
        let stored = self.contents.file(path)?;
        let mut head = [0_u8; 8];
        let mut length = 0;
        if let Some(mut file) = self.store.inner.blobs.reader(&stored.digest)? {
            length = file.read(&mut head).unwrap_or(0);
        }
        let suffix = match stream::detect(&head[..length], "a layer of the image archive")? {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        Ok(Descriptor {
            media_type: format!("{}{suffix}", media::OCI_LAYER),
            digest: stored.digest,
            size: stored.size,
            urls: None,
            annotations: None,
            platform: None,
        })
    }

    /// An archive without manifests gets the one that describes its files as they are.
    fn make_manifest(
        &self,
        config: Stored,
        layers: &[Descriptor],
        holds: &mut Holds,
    ) -> Result<(Descriptor, Descriptor)> {
        let config = Descriptor {
            media_type: media::OCI_CONFIG.to_owned(),
            digest: config.digest,
            size: config.size,
            urls: None,
            annotations: None,
            platform: None,
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::OCI_MANIFEST.to_owned()),
            config: config.clone(),
            layers: layers.to_vec(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|source| ImageError::Document {
            object: "a manifest".into(),
            source,
        })?;
        let descriptor = Descriptor::of(media::OCI_MANIFEST, &bytes);
        holds.blob(&self.store.inner, descriptor.digest);
        self.store
            .inner
            .blobs
            .put(&bytes, Some(&descriptor.digest), "a manifest")?;
        Ok((descriptor, config))
    }

    /// The manifests of a layout by the digest of their configuration; those whose files are not in the
    /// archive (other platforms) are passed over.
    fn manifests_by_config(&self, index: &[u8]) -> Result<HashMap<Digest, (Descriptor, Manifest)>> {
        let mut found = HashMap::new();
        let mut pending = vec![(self.index(index)?, 0)];
        while let Some((index, depth)) = pending.pop() {
            for entry in index.manifests {
                let Ok(stored) = self.contents.blob(&entry.digest) else {
                    continue;
                };
                if stored.size > limits::MANIFEST_BYTES_MAX {
                    continue;
                }
                match self.parse(&entry) {
                    Ok(Document::Manifest(manifest)) => {
                        found.insert(manifest.config.digest, (entry, *manifest));
                    }
                    Ok(Document::Index(index)) if depth + 1 < limits::INDEX_DEPTH_MAX => {
                        pending.push((index, depth + 1));
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
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

    fn layout(&self, index: &[u8], platform: Option<&Platform>) -> Result<Vec<Found>> {
        if self.contents.document("oci-layout").is_none() {
            return Err(ImageError::archive(
                OBJECT,
                "it has an index.json but no oci-layout file",
            ));
        }
        let index = self.index(index)?;
        let wanted = platform.unwrap_or(&self.store.inner.settings.platform);
        // Entries with the same name are the platforms of one image.
        let mut groups: Vec<(Option<Reference>, Vec<Descriptor>)> = Vec::new();
        for entry in index.manifests {
            if entry.annotation("vnd.docker.reference.type").is_some() {
                continue;
            }
            let name = name_of(&entry);
            let platforms = entry.platform.is_some();
            match groups.iter_mut().find(|(other, entries)| {
                *other == name && platforms && entries.iter().all(|e| e.platform.is_some())
            }) {
                Some((_, entries)) => entries.push(entry),
                None => groups.push((name, vec![entry])),
            }
        }
        if groups.len() > limits::ARCHIVE_IMAGES_MAX {
            return Err(ImageError::Limit {
                object: OBJECT.into(),
                limit: limits::ARCHIVE_IMAGES_MAX as u64,
                unit: "images",
            });
        }
        let mut found: Vec<Found> = Vec::new();
        for (name, entries) in groups {
            let Some((target, manifest_entry, manifest)) =
                self.choose(&entries, wanted, platform.is_some())?
            else {
                continue;
            };
            let object = format!("image {} of the archive", manifest_entry.digest.short());
            let config = self.contents.blob(&manifest.config.digest)?;
            if config.size != manifest.config.size {
                return Err(ImageError::Size {
                    object: format!("the configuration of {object}"),
                    expected: manifest.config.size,
                    actual: config.size,
                });
            }
            let bytes = self.read(config, limits::CONFIG_BYTES_MAX, "an image configuration")?;
            let document: ImageDocument = parse_json(&bytes, &object)?;
            check_document(&document, manifest.layers.len(), &object)?;
            if !suits(&document, platform) {
                continue;
            }
            for layer in &manifest.layers {
                let stored = self.contents.blob(&layer.digest)?;
                if stored.size != layer.size {
                    return Err(ImageError::Size {
                        object: format!("layer {} of the archive", layer.digest.short()),
                        expected: layer.size,
                        actual: stored.size,
                    });
                }
            }
            let name = name.map(|name| (name, target));
            if let Some(known) = found
                .iter_mut()
                .find(|known| known.config.digest == manifest.config.digest)
            {
                known.names.extend(name);
                continue;
            }
            found.push(Found {
                manifest: manifest_entry,
                config: manifest.config,
                document,
                layers: manifest.layers,
                names: name.into_iter().collect(),
            });
        }
        Ok(found)
    }

    /// The entry for the platform, going down nested indexes: what the name stands for, and the manifest.
    fn choose(
        &self,
        entries: &[Descriptor],
        wanted: &Platform,
        strict: bool,
    ) -> Result<Option<(Descriptor, Descriptor, Manifest)>> {
        let mut level = Index {
            schema_version: 2,
            media_type: None,
            manifests: entries.to_vec(),
        };
        let mut target: Option<Descriptor> = None;
        for _ in 0..=limits::INDEX_DEPTH_MAX {
            let mut candidates: Vec<Descriptor> =
                level.candidates(wanted).into_iter().cloned().collect();
            // An archive for another platform alone is still what the user chose to load.
            if candidates.is_empty() && !strict && level.manifests.len() == 1 {
                candidates.extend(level.manifests.first().cloned());
            }
            let mut next = None;
            for entry in candidates {
                // Other platforms' files may have been left out of the archive.
                if self.contents.blob(&entry.digest).is_err() && level.manifests.len() > 1 {
                    continue;
                }
                next = Some(entry);
                break;
            }
            let Some(entry) = next else {
                return match (strict, target) {
                    (false, Some(target)) => Err(ImageError::NoPlatform {
                        object: format!("{} of the archive", target.digest.short()),
                        platform: wanted.to_string(),
                    }),
                    _ => Ok(None),
                };
            };
            let top = target.get_or_insert_with(|| entry.clone()).clone();
            match self.parse(&entry)? {
                Document::Manifest(manifest) => return Ok(Some((top, entry, *manifest))),
                Document::Index(index) => level = index,
            }
        }
        Err(ImageError::Limit {
            object: format!("{OBJECT}: nesting of indexes"),
            limit: limits::INDEX_DEPTH_MAX as u64,
            unit: "levels",
        })
    }
}

/// The name of a layout's entry. A bare tag names no repository, so it names nothing.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let text = entry.annotation(NAME_ANNOTATION).or_else(|| {
        entry
            .annotation(REF_ANNOTATION)
            .filter(|text| text.contains([':', '/']))
    })?;
    crate::store::parse_name(text)
        .ok()
        .filter(|name| name.digest().is_none())
}
