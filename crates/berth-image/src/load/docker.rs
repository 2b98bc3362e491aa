//! What `manifest.json` of an archive says: Docker's own form.

use std::collections::HashMap;
use std::io::Read;

use berth_types::{Digest, ImageDocument, Platform, Reference};
use serde::Deserialize;

use super::{Found, Loader, OBJECT, suits};
use crate::contents::Stored;
use crate::documents::{Descriptor, Document, Index, Manifest, check_document, media, parse_json};
use crate::error::{ImageError, Result, unwrap_carried};
use crate::limits;
use crate::store::{Holds, NewName};
use crate::stream::{self, Compression};

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// Layers that only their publisher gives out, by diff id.
    #[serde(default)]
    layer_sources: Option<HashMap<Digest, Descriptor>>,
}

impl Loader<'_> {
    /// What `manifest.json` lists.
    pub(super) fn items(&self, list: &[u8]) -> Result<Vec<DockerItem>> {
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
        Ok(items)
    }

    /// Names that `manifest.json` alone gives to images of the layout.
    pub(super) fn add_tags(&self, items: &[DockerItem], found: &mut [Found]) -> Result<()> {
        for item in items {
            let config = self.contents.file(&item.config)?;
            let image = found
                .iter_mut()
                .find(|image| image.config.digest == config.digest);
            let Some(image) = image else {
                continue;
            };
            for name in tags(item)? {
                if !image.names.iter().any(|new| new.name == name) {
                    image.names.push(NewName {
                        name,
                        target: image.manifest.clone(),
                        keeps: Vec::new(),
                    });
                }
            }
        }
        Ok(())
    }

    pub(super) fn docker(
        &self,
        items: &[DockerItem],
        index: Option<&[u8]>,
        platforms: &[Platform],
        holds: &mut Holds,
    ) -> Result<Vec<Found>> {
        let (manifests, indexes) = match index {
            Some(index) => {
                let index = self.index(index)?;
                (
                    self.manifests_by_config(&index)?,
                    self.indexes_by_name(&index),
                )
            }
            None => (HashMap::new(), HashMap::new()),
        };
        let mut found = Vec::new();
        for item in items {
            let config = self.contents.file(&item.config)?;
            let bytes = self.read(config, limits::CONFIG_BYTES_MAX, "an image configuration")?;
            let object = format!("image {} of the archive", config.digest.short());
            let document: ImageDocument = parse_json(&bytes, &object)?;
            let paths = item.layers.as_deref().unwrap_or_default();
            check_document(&document, paths.len(), &object)?;
            if !suits(&document, platforms) {
                continue;
            }
            let layers = paths
                .iter()
                .map(|path| self.layer(path, holds))
                .collect::<Result<Vec<_>>>()?;
            let (manifest, config) = match manifests.get(&config.digest) {
                Some((descriptor, manifest)) if self.fits(manifest, &layers) => {
                    (descriptor.clone(), manifest.config.clone())
                }
                _ => {
                    let sources = item.layer_sources.as_ref();
                    let named = |(layer, diff_id): (&Descriptor, &Digest)| {
                        sources
                            .and_then(|sources| sources.get(diff_id))
                            .filter(|source| source.is_foreign())
                            .unwrap_or(layer)
                            .clone()
                    };
                    let pairs = layers.iter().zip(&document.rootfs.diff_ids);
                    self.make_manifest(config, pairs.map(named).collect(), holds)?
                }
            };
            let mut names: Vec<NewName> = Vec::new();
            for name in tags(item)? {
                // The index, when it is one with this image in it.
                let behind = match indexes.get(&name) {
                    Some(target) => Some((target, self.reach(target)?)),
                    None => None,
                };
                let behind = behind.filter(|(_, reach)| reach.leads_to(&manifest.digest));
                let (target, keeps) = match behind {
                    Some((target, reach)) => (target.clone(), self.keeps(&reach)?),
                    None => (manifest.clone(), Vec::new()),
                };
                names.push(NewName {
                    name,
                    target,
                    keeps,
                });
            }
            found.push(Found {
                manifest,
                config,
                document,
                layers,
                names,
                further: Vec::new(),
            });
        }
        Ok(found)
    }

    fn layer(&self, path: &str, holds: &mut Holds) -> Result<Descriptor> {
        const OBJECT: &str = "a layer of the image archive";
        let mut stored = self.contents.file(path)?;
        let blobs = &self.store.inner.blobs;
        let mut compression = Compression::None;
        if let Some(file) = blobs.reader(&stored.digest)? {
            compression = stream::detect_in(file, OBJECT)?;
        }
        if !compression.is_portable()
            && let Some(file) = blobs.reader(&stored.digest)?
        {
            // There is no media type for it, so it is kept in a form that has one.
            stored = self.decompress(file, holds)?;
            compression = Compression::None;
        }
        let suffix = compression.suffix();
        Ok(Descriptor {
            media_type: format!("{}{suffix}", media::OCI_LAYER),
            digest: stored.digest,
            size: stored.size,
            urls: None,
            annotations: None,
            platform: None,
        })
    }

    fn decompress(&self, file: impl Read + Send, holds: &mut Holds) -> Result<Stored> {
        const OBJECT: &str = "a layer of the image archive";
        let inner = &self.store.inner;
        let mut source = stream::decompressed(file, OBJECT, limits::LAYER_BYTES_MAX)?;
        let mut writer = inner.blobs.writer(OBJECT)?;
        std::io::copy(&mut source, &mut writer)
            .map_err(|error| unwrap_carried(|| format!("store {OBJECT}"), error))?;
        let size = writer.size();
        let digest = writer.commit_held(None, |digest| holds.blob(inner, *digest))?;
        Ok(Stored { digest, size })
    }

    /// Whether a manifest names these layers, or such as no archive may bring.
    fn fits(&self, manifest: &Manifest, layers: &[Descriptor]) -> bool {
        let same = |(named, layer): (&Descriptor, &Descriptor)| {
            named.digest == layer.digest
                || (named.is_foreign() && self.contents.blob(&named.digest).is_err())
        };
        manifest.layers.len() == layers.len() && manifest.layers.iter().zip(layers).all(same)
    }

    /// An archive without manifests gets the one that describes its files as they are.
    fn make_manifest(
        &self,
        config: Stored,
        layers: Vec<Descriptor>,
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
            layers,
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
    fn manifests_by_config(
        &self,
        index: &Index,
    ) -> Result<HashMap<Digest, (Descriptor, Manifest)>> {
        let mut found = HashMap::new();
        let mut pending = vec![(index.clone(), 0)];
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
}

/// The names that `manifest.json` gives to an image, each once.
fn tags(item: &DockerItem) -> Result<Vec<Reference>> {
    let mut names: Vec<Reference> = Vec::new();
    for tag in item.repo_tags.iter().flatten() {
        let name = crate::store::parse_name(tag)?;
        if name.digest().is_some() {
            return Err(ImageError::archive(OBJECT, format!("invalid tag {tag:?}")));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}
