//! What has to be in the registry for a name to stand there for what it stands for here.
//!
//! An index goes up whole when all that it refers to is here or in the registry. Else the one image that is here
//! goes up alone, and the caller is told so: half an index is worth nothing to anyone.

use std::collections::HashMap;

use berth_types::{Digest, Platform, Reference};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::anew::{compress, compression};
use super::blobs::Blob;
use super::{Push, flatten};
use crate::blobs::BlobLease;
use crate::documents::{Descriptor, Document, Index, Manifest, chain_ids, media, parse_json};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::records::{ImageRecord, ReferenceRecord};
use crate::registry::{Arrived, Outgoing, Watch};
use crate::store::Holds;
use crate::stream::Compression;

/// An image that was pushed although the name stands for an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instead {
    /// What the name stands for.
    pub index: Descriptor,
    /// What was pushed.
    pub manifest: Descriptor,
}

/// What a push puts into the registry.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Content that the documents need.
    pub(super) blobs: Vec<Blob>,
    /// Manifests and indexes, each after those it refers to; the last one gets the tag.
    pub(super) documents: Vec<(Descriptor, Vec<u8>)>,
    /// Set when this is less than what the name stands for.
    pub(super) instead: Option<Instead>,
}

/// What any document refers to, artifacts included.
#[derive(Debug, Deserialize)]
struct References {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// The form in which one layer is pushed.
struct Form {
    descriptor: Descriptor,
    blob: Blob,
    /// Keeps a form that was made for the push.
    _lease: Option<BlobLease>,
}

/// Tells nothing.
struct Silent;

impl Watch for Silent {
    fn sent(&self, _: u64) {}
    fn retrying(&self, _: std::time::Duration) {}
}

impl Plan {
    fn add(&mut self, blob: Blob) {
        // Empty layers stand several times in one image.
        if !self
            .blobs
            .iter()
            .any(|known| known.content.digest == blob.content.digest)
        {
            self.blobs.push(blob);
        }
    }
}

impl Push<'_> {
    /// Lays out what `record` stands for; `holds` keeps all of it.
    pub(super) async fn lay_out(
        &self,
        name: &Reference,
        record: &ReferenceRecord,
        platform: Option<&Platform>,
        holds: &mut Holds,
    ) -> Result<Plan> {
        let inner = &self.store.inner;
        let target = &record.target;
        holds.blob(inner, target.digest);
        let image = inner
            .records
            .image(&record.image)?
            .ok_or_else(|| ImageError::NoSuchImage {
                reference: name.familiar(),
            })?;
        let not_here = |platform: &Platform| ImageError::PlatformNotHere {
            reference: name.familiar(),
            platform: platform.to_string(),
        };
        let object = format!("manifest {}", target.digest.short());
        let bytes = self.read(&target.digest)?.ok_or_else(|| missing(target))?;
        let index = match Document::parse(&bytes, Some(&target.media_type), &object)? {
            Document::Index(index) => index,
            Document::Manifest(_) => {
                if let Some(platform) = platform
                    && image.platform.suitability(platform).is_none()
                {
                    return Err(not_here(platform));
                }
                return self.alone(&image, target.clone(), holds).await;
            }
        };
        if let Some(platform) = platform {
            let (entry, manifest) = self
                .chosen(&index, platform)?
                .ok_or_else(|| not_here(platform))?;
            if let Some(image) = inner.records.image(&manifest.config.digest)? {
                return self.alone(&image, entry, holds).await;
            }
            let mut plan = Plan::default();
            let found = self.gather(&entry, 0, holds, &mut plan).await?;
            return if found {
                Ok(plan)
            } else {
                Err(not_here(platform))
            };
        }
        let mut plan = Plan::default();
        if self.gather(target, 0, holds, &mut plan).await? {
            return Ok(plan);
        }
        let mut plan = self.alone(&image, image.manifest.clone(), holds).await?;
        plan.instead = plan.documents.last().map(|(manifest, _)| Instead {
            index: target.clone(),
            manifest: manifest.clone(),
        });
        Ok(plan)
    }

    fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.store
            .inner
            .blobs
            .read(digest, limits::MANIFEST_BYTES_MAX)
    }

    /// The entry for a platform whose manifest is here.
    fn chosen(&self, index: &Index, platform: &Platform) -> Result<Option<(Descriptor, Manifest)>> {
        for entry in index.candidates(platform) {
            let Some(bytes) = self.read(&entry.digest)? else {
                continue;
            };
            let object = format!("manifest {}", entry.digest.short());
            match Document::parse(&bytes, Some(&entry.media_type), &object)? {
                Document::Manifest(manifest) => return Ok(Some((entry.clone(), *manifest))),
                Document::Index(_) => {}
            }
        }
        Ok(None)
    }

    /// Adds a document with all that it refers to, as it is. False when something is neither here nor in the
    /// registry.
    async fn gather(
        &self,
        entry: &Descriptor,
        depth: usize,
        holds: &mut Holds,
        plan: &mut Plan,
    ) -> Result<bool> {
        let object = format!("manifest {}", entry.digest.short());
        if depth > limits::INDEX_DEPTH_MAX {
            return Err(ImageError::Limit {
                object: format!("{object}: nesting of indexes"),
                limit: limits::INDEX_DEPTH_MAX as u64,
                unit: "levels",
            });
        }
        let inner = &self.store.inner;
        holds.blob(inner, entry.digest);
        let Some(bytes) = self.read(&entry.digest)? else {
            return self.session.has_manifest(&entry.digest).await;
        };
        let refers: References = parse_json(&bytes, &object)?;
        // What is missing is found before anything is asked that takes long.
        let mut manifests = refers.manifests.unwrap_or_default();
        if manifests.len() > limits::INDEX_ENTRIES_MAX {
            return Err(ImageError::Limit {
                object,
                limit: limits::INDEX_ENTRIES_MAX as u64,
                unit: "entries",
            });
        }
        manifests.sort_by_key(|entry| inner.blobs.contains(&entry.digest));
        for child in &manifests {
            if !Box::pin(self.gather(child, depth + 1, holds, plan)).await? {
                return Ok(false);
            }
        }
        let layers = refers.layers.unwrap_or_default();
        let contents = layers.iter().map(|layer| (layer, true));
        let config = refers.config.iter().map(|config| (config, false));
        for (descriptor, shown) in contents.chain(config) {
            holds.blob(inner, descriptor.digest);
            let mut blob = Blob {
                content: self.outgoing(&descriptor.digest, descriptor.size),
                shown,
                foreign: descriptor.is_foreign(),
                arrived: None,
            };
            if blob.content.file.is_none() && !blob.foreign {
                blob.arrived = self.obtain(&blob.content).await?;
                if blob.arrived.is_none() {
                    return Ok(false);
                }
            }
            plan.add(blob);
        }
        plan.documents.push((typed(entry, &bytes, &object)?, bytes));
        Ok(true)
    }

    fn outgoing(&self, digest: &Digest, size: u64) -> Outgoing {
        let blobs = &self.store.inner.blobs;
        Outgoing {
            digest: *digest,
            size,
            file: blobs.contains(digest).then(|| blobs.path(digest)),
        }
    }

    /// How content that is not here got into the repository; `None` when it is not there and could not be taken
    /// over.
    async fn obtain(&self, content: &Outgoing) -> Result<Option<Arrived>> {
        let sources = self.sources.of(&content.digest);
        let arrived = self
            .session
            .bring(content, sources, &Silent, self.cancelled)
            .await;
        match arrived {
            Ok(arrived) => Ok(Some(arrived)),
            Err(ImageError::ContentMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One image of the store, for which missing and uncompressed layers are given another form.
    async fn alone(
        &self,
        image: &ImageRecord,
        manifest: Descriptor,
        holds: &mut Holds,
    ) -> Result<Plan> {
        let inner = &self.store.inner;
        let (descriptor, bytes, manifest, published) = self.best_manifest(image, manifest)?;
        holds.blob(inner, descriptor.digest);
        holds.blob(inner, manifest.config.digest);
        let chain = chain_ids(&image.diff_ids);
        for (layer, chain) in manifest.layers.iter().zip(&chain) {
            holds.blob(inner, layer.digest);
            holds.layer(inner, *chain);
        }
        // Compressing is work for processors.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (permits, chain) = (&Semaphore::new(processors), &chain);
        let unique: HashMap<Digest, usize> = manifest
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| (layer.digest, index))
            .collect();
        let made = unique.into_iter().map(|(digest, index)| {
            let layer = &manifest.layers[index];
            let docker = descriptor.media_type == media::DOCKER_MANIFEST;
            async move {
                let form = self
                    .form(layer, chain.get(index), published, docker, permits)
                    .await?;
                Ok::<_, ImageError>((digest, form))
            }
        });
        let made = futures_util::future::try_join_all(made).await?;
        let forms: HashMap<Digest, Form> = made.into_iter().collect();
        let mut plan = Plan::default();
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for layer in &manifest.layers {
            let form = forms.get(&layer.digest).ok_or_else(|| missing(layer))?;
            holds.blob(inner, form.descriptor.digest);
            layers.push(form.descriptor.clone());
            plan.add(form.blob.clone());
        }
        plan.add(Blob {
            content: self.outgoing(&manifest.config.digest, manifest.config.size),
            shown: false,
            foreign: false,
            arrived: None,
        });
        if layers == manifest.layers {
            plan.documents.push((descriptor, bytes));
        } else {
            let bytes = with_layers(&bytes, &layers)?;
            let descriptor = Descriptor {
                platform: None,
                ..Descriptor::of(&descriptor.media_type, &bytes)
            };
            holds.blob(inner, descriptor.digest);
            plan.documents.push((descriptor, bytes));
        }
        // The leases may go: what they kept is held for the push now.
        drop(forms);
        Ok(plan)
    }

    /// The manifest of an image that needs the least to be made: one that came from a registry or went to one,
    /// else the one given. Tells whether it is such a one.
    fn best_manifest(
        &self,
        image: &ImageRecord,
        given: Descriptor,
    ) -> Result<(Descriptor, Vec<u8>, Manifest, bool)> {
        let mut published: Vec<ReferenceRecord> = self
            .store
            .inner
            .records
            .references()?
            .into_iter()
            .filter(|(name, record)| name.digest().is_some() && record.image == image.id())
            .map(|(_, record)| record)
            .collect();
        published.sort_by_key(|record| std::cmp::Reverse(record.tagged));
        let mut known = false;
        let mut others = Vec::new();
        for record in published {
            if record.target.digest == given.digest {
                known = true;
                continue;
            }
            let Some(bytes) = self.read(&record.target.digest)? else {
                continue;
            };
            let object = format!("manifest {}", record.target.digest.short());
            match Document::parse(&bytes, Some(&record.target.media_type), &object)? {
                Document::Manifest(manifest) => others.push((record.target, bytes, *manifest)),
                Document::Index(index) => {
                    let is_in = |entry: &Descriptor| entry.digest == given.digest;
                    known |= index.manifests.iter().any(is_in);
                }
            }
        }
        let object = format!("manifest {}", given.digest.short());
        let bytes = self.read(&given.digest)?.ok_or_else(|| missing(&given))?;
        let Document::Manifest(manifest) =
            Document::parse(&bytes, Some(&given.media_type), &object)?
        else {
            return Err(ImageError::archive(object, "it is an index, not an image"));
        };
        if !known && manifest.layers.iter().any(is_plain) {
            let better = others.into_iter().find(|(_, _, other)| {
                other.config.digest == image.id()
                    && other.layers.len() == image.diff_ids.len()
                    && !other.layers.iter().any(is_plain)
            });
            if let Some((descriptor, bytes, manifest)) = better {
                return Ok((descriptor, bytes, manifest, true));
            }
        }
        let descriptor = typed(&given, &bytes, &object)?;
        Ok((descriptor, bytes, *manifest, known))
    }

    /// The form in which a layer goes up: as the manifest names it wherever that can be had.
    async fn form(
        &self,
        layer: &Descriptor,
        chain: Option<&Digest>,
        published: bool,
        docker: bool,
        permits: &Semaphore,
    ) -> Result<Form> {
        let inner = &self.store.inner;
        let as_it_is = |content: Outgoing, arrived: Option<Arrived>| Form {
            descriptor: layer.clone(),
            blob: Blob {
                content,
                shown: true,
                foreign: layer.is_foreign(),
                arrived,
            },
            _lease: None,
        };
        let own = self.outgoing(&layer.digest, layer.size);
        if layer.is_foreign() {
            return Ok(as_it_is(own, None));
        }
        let own_compression = compression(inner, &layer.digest)?;
        let source = match own_compression {
            Some(Compression::None | Compression::Bzip2 | Compression::Xz) if !published => {
                layer.digest
            }
            Some(_) => return Ok(as_it_is(own, None)),
            None => match self.obtain(&own).await? {
                Some(arrived) => return Ok(as_it_is(own, Some(arrived))),
                // Unpacked from another form of the same layer.
                None => chain
                    .and_then(|chain| inner.layers.get(chain))
                    .and_then(|record| record.blob)
                    .filter(|blob| inner.blobs.contains(blob))
                    .ok_or_else(|| missing(layer))?,
            },
        };
        let (digest, size, kind, lease) = match compression(inner, &source)? {
            Some(kind @ (Compression::Gzip | Compression::Zstd)) => (
                source,
                inner.blobs.size(&source).unwrap_or_default(),
                kind,
                None,
            ),
            _ => {
                let _permit = permits.acquire().await.map_err(|_| missing(layer))?;
                let (store, progress) = (self.store.clone(), self.progress.clone());
                let cancelled = self.cancelled.clone();
                let work = tokio::task::spawn_blocking(move || {
                    let mut lease = None;
                    let hold = |digest: &Digest| lease = Some(store.inner.blobs.lease(*digest));
                    let made = compress(&store.inner, &source, hold, &progress, &cancelled);
                    made.map(|(digest, size)| (digest, size, lease))
                });
                let (digest, size, lease) = flatten(work.await, "compress a layer")?;
                (digest, size, Compression::Gzip, lease)
            }
        };
        let media_type = match (docker, kind) {
            (true, Compression::Zstd) => format!("{}.zstd", media::DOCKER_LAYER),
            (true, _) => format!("{}.gzip", media::DOCKER_LAYER),
            (false, Compression::Zstd) => format!("{}+zstd", media::OCI_LAYER),
            (false, _) => format!("{}+gzip", media::OCI_LAYER),
        };
        Ok(Form {
            descriptor: Descriptor {
                media_type,
                digest,
                size,
                urls: None,
                annotations: layer.annotations.clone(),
                platform: None,
            },
            blob: Blob {
                content: self.outgoing(&digest, size),
                shown: true,
                foreign: false,
                arrived: None,
            },
            _lease: lease,
        })
    }
}

fn missing(descriptor: &Descriptor) -> ImageError {
    ImageError::ContentMissing {
        content: descriptor.digest.short(),
    }
}

fn is_plain(layer: &Descriptor) -> bool {
    matches!(
        layer.media_type.as_str(),
        media::OCI_LAYER | media::DOCKER_LAYER
    )
}

/// The descriptor with the media type under which the registry is given the document.
fn typed(descriptor: &Descriptor, bytes: &[u8], object: &str) -> Result<Descriptor> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stated {
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let stated: Stated = parse_json(bytes, object)?;
    let media_type = stated
        .media_type
        .filter(|text| !text.is_empty())
        .or_else(|| Some(descriptor.media_type.clone()).filter(|text| !text.is_empty()))
        .unwrap_or_else(|| {
            match stated.manifests {
                Some(_) => media::OCI_INDEX,
                None => media::OCI_MANIFEST,
            }
            .to_owned()
        });
    Ok(Descriptor {
        media_type,
        platform: None,
        annotations: None,
        ..descriptor.clone()
    })
}

/// The manifest with other layers and all else as it was.
fn with_layers(bytes: &[u8], layers: &[Descriptor]) -> Result<Vec<u8>> {
    let document = |source| ImageError::Document {
        object: "a manifest".into(),
        source,
    };
    let mut manifest: serde_json::Value = serde_json::from_slice(bytes).map_err(document)?;
    manifest["layers"] = serde_json::to_value(layers).map_err(document)?;
    serde_json::to_vec(&manifest).map_err(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_keeps_all_but_its_layers() {
        let layer = Descriptor::of(media::OCI_LAYER, b"x");
        let before =
            br#"{"schemaVersion":2,"config":{"digest":"c"},"layers":[],"annotations":{"a":"b"}}"#;
        let after = with_layers(before, std::slice::from_ref(&layer)).unwrap();
        let text = String::from_utf8(after).unwrap();
        assert!(
            text.starts_with(
                r#"{"schemaVersion":2,"config":{"digest":"c"},"layers":[{"mediaType""#
            ),
            "{text}"
        );
        assert!(text.ends_with(r#""annotations":{"a":"b"}}"#), "{text}");
        assert!(text.contains(&layer.digest.to_string()));
    }

    #[test]
    fn the_media_type_is_the_document_s_own() {
        let kind = |media_type: &str, bytes: &[u8]| {
            typed(&Descriptor::of(media_type, bytes), bytes, "x")
                .unwrap()
                .media_type
        };
        assert_eq!(
            kind("", br#"{"mediaType":"application/a"}"#),
            "application/a"
        );
        assert_eq!(kind("application/b", b"{}"), "application/b");
        assert_eq!(kind("", br#"{"manifests":[]}"#), media::OCI_INDEX);
        assert_eq!(kind("", b"{}"), media::OCI_MANIFEST);
    }
}
