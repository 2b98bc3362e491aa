//! Making images here: layers out of upper directories or archives, and documents around them.
//!
//! Owns: the way from the files of a container (or of a step of a build) to a layer of the store without an
//! export in between, and from layers to an image that others can read. Does not own: what the configuration
//! says.
//!
//! ```text
//! upper directory ──capture──▶ archive, hashed while it is written ──▶ blobs/   (its digest is the diff id)
//!                                         └──unpack──▶ layers/   as everybody else would unpack it
//! document + layers ──assemble──▶ configuration, manifest ──▶ one transaction
//! ```

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use berth_types::image_config::HistoryEntry;
use berth_types::{Digest, ImageConfig, ImageDocument, Platform, Reference, Timestamp};

use crate::documents::{Descriptor, Manifest, chain_ids, check_document, media};
use crate::error::{Attempt, ImageError, Result};
use crate::layers::capture;
use crate::layers::view::Merged;
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink, Reported, silent};
use crate::store::{Holds, Image, ImageId, ImageStore, NewImage, NewName};
use crate::stream;

/// Work that ends with an image: what it made is kept until it is dropped.
#[derive(Debug)]
pub struct Assembly {
    store: ImageStore,
    holds: Holds,
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeLayer {
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Its archive.
    pub archive: Descriptor,
}

/// What an imported image says of itself.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// How to run it.
    pub config: ImageConfig,
    /// Remark in its history.
    pub message: String,
    /// What it is for; the host's platform when `None`.
    pub platform: Option<Platform>,
    /// The name it gets.
    pub name: Option<Reference>,
}

impl Drop for Assembly {
    fn drop(&mut self) {
        // What cannot be removed now is at the next open.
        if let Err(error) = self.store.release(std::mem::take(&mut self.holds)) {
            tracing::debug!(%error, "what an image was to be made of stays");
        }
    }
}

impl ImageStore {
    /// Begins to make an image.
    #[must_use]
    pub fn assembly(&self) -> Assembly {
        Assembly {
            store: self.clone(),
            holds: Holds::default(),
        }
    }

    /// The archive of a layer as content of the store: the one that came, or the one made when the layer was.
    ///
    /// # Errors
    /// When there is no such layer, or its archive is gone.
    pub fn layer_archive(&self, chain: &Digest) -> Result<Descriptor> {
        let lacking = || ImageError::NoSuchImage {
            reference: format!("archive of layer {}", chain.short()),
        };
        let blob = self
            .inner
            .layers
            .get(chain)
            .and_then(|layer| layer.blob)
            .ok_or_else(lacking)?;
        self.describe_archive(&blob)?.ok_or_else(lacking)
    }

    /// A descriptor of the archive with this digest, by what it is; `None` when it is not there.
    fn describe_archive(&self, digest: &Digest) -> Result<Option<Descriptor>> {
        let Some(file) = self.inner.blobs.reader(digest)? else {
            return Ok(None);
        };
        let size = file
            .metadata()
            .attempt(|| format!("read content {digest}"))?
            .len();
        let suffix = stream::detect_in(file, &format!("layer {}", digest.short()))?.suffix();
        Ok(Some(Descriptor {
            media_type: format!("{}{suffix}", media::OCI_LAYER),
            digest: *digest,
            size,
            urls: None,
            annotations: None,
            platform: None,
        }))
    }

    /// The OCI manifest under which an image can leave the store, with its bytes: the one it came with if that
    /// is one and everything it names is here, else one that names the archives that are here.
    ///
    /// # Errors
    /// When the image's content is not complete.
    pub fn portable_manifest(&self, image: &Image) -> Result<(Descriptor, Vec<u8>, Manifest)> {
        let record = &image.record;
        if record.manifest.media_type == media::OCI_MANIFEST
            && let Some(bytes) = self
                .inner
                .blobs
                .read(&record.manifest.digest, limits::MANIFEST_BYTES_MAX)?
        {
            let manifest: Manifest = crate::documents::parse_json(&bytes, "a stored manifest")?;
            let is_here =
                |entry: &Descriptor| self.inner.blobs.size(&entry.digest) == Some(entry.size);
            let may_leave = |layer: &Descriptor| is_here(layer) || layer.is_foreign();
            if manifest.layers.iter().all(may_leave) && is_here(&manifest.config) {
                let descriptor = Descriptor {
                    annotations: None,
                    platform: None,
                    ..record.manifest.clone()
                };
                return Ok((descriptor, bytes, manifest));
            }
        }
        let layers = chain_ids(&record.diff_ids)
            .iter()
            .map(|chain| self.layer_archive(chain))
            .collect::<Result<Vec<_>>>()?;
        let size = self
            .inner
            .blobs
            .size(&image.id)
            .ok_or_else(|| ImageError::NoSuchImage {
                reference: image.id.to_string(),
            })?;
        let config = Descriptor {
            media_type: media::OCI_CONFIG.to_owned(),
            digest: image.id,
            size,
            urls: None,
            annotations: None,
            platform: None,
        };
        manifest_of(config, layers)
    }

    /// The OCI manifest of an image whose content is here as this manifest names it, in whatever form that is.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub(crate) fn as_oci(&self, manifest: &Manifest) -> Result<(Descriptor, Vec<u8>, Manifest)> {
        let config = Descriptor {
            media_type: media::OCI_CONFIG.to_owned(),
            ..manifest.config.clone()
        };
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for layer in &manifest.layers {
            layers.push(match self.describe_archive(&layer.digest)? {
                Some(here) => here,
                None => layer.clone(),
            });
        }
        manifest_of(config, layers)
    }

    /// Makes an image of one layer from an archive of a root file system, which may be compressed.
    ///
    /// # Errors
    /// When the archive is damaged or hostile, or cannot be stored.
    pub fn import(
        &self,
        source: impl Read + Send,
        request: ImportRequest,
        progress: &ProgressSink,
    ) -> Result<ImageId> {
        let mut assembly = self.assembly();
        let layer = assembly.take_archive(source, "the imported archive", progress)?;
        let platform = request
            .platform
            .unwrap_or_else(|| self.inner.settings.platform.clone());
        let now = Timestamp::from(std::time::SystemTime::now()).to_string();
        let document = ImageDocument {
            created: Some(now.clone()),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            config: request.config,
            history: vec![HistoryEntry {
                created: Some(now),
                comment: request.message,
                ..HistoryEntry::default()
            }],
            ..ImageDocument::default()
        };
        let names: Vec<Reference> = request.name.into_iter().collect();
        assembly.finish(document, vec![layer], &names, None)
    }

    /// As [`Self::import`], with the archive fetched from an `http` or `https` address.
    ///
    /// Dropping the future ends the transfer, and nothing of it stays.
    ///
    /// # Errors
    /// When it cannot be fetched, and as [`Self::import`].
    pub async fn import_from(
        &self,
        address: &str,
        request: ImportRequest,
        progress: ProgressSink,
    ) -> Result<ImageId> {
        let client = &self.inner.registry;
        let remote = client.open(address).await?;
        progress(Progress::Status(format!(
            "Downloading from {}",
            remote.address
        )));
        let stall = self.inner.settings.registries.stall_timeout;
        let (reader, delivery) = remote.deliver(stall, progress);
        let store = self.clone();
        let work = tokio::task::spawn_blocking(move || store.import(reader, request, &silent()));
        let ((), imported) = tokio::join!(delivery, work);
        imported.unwrap_or_else(|_| {
            Err(ImageError::Cancelled {
                attempt: "import an archive".into(),
            })
        })
    }
}

impl ImageStore {
    /// Unpacks stored content as the lowest layer of an image; gives its diff id.
    fn unpack_new(
        &self,
        layer: &Descriptor,
        object: &str,
        progress: &ProgressSink,
        holds: &mut Holds,
    ) -> Result<Digest> {
        let file = self
            .inner
            .blobs
            .reader(&layer.digest)?
            .ok_or_else(|| ImageError::archive(object, "it was removed while it was stored"))?;
        let id = layer.digest.short();
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
        let staged = self.inner.layers.unpack(reader, object)?;
        let diff_id = staged.diff_id;
        holds.layer(&self.inner, diff_id);
        self.inner
            .layers
            .commit(staged, diff_id, &[], Some(layer.digest))?;
        Ok(diff_id)
    }
}

/// A manifest around a configuration and layers.
fn manifest_of(
    config: Descriptor,
    layers: Vec<Descriptor>,
) -> Result<(Descriptor, Vec<u8>, Manifest)> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        config,
        layers,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|source| ImageError::Document {
        object: "a manifest".into(),
        source,
    })?;
    Ok((Descriptor::of(media::OCI_MANIFEST, &bytes), bytes, manifest))
}

impl Assembly {
    /// The layers of an image that is here, as the lower part of a new one. They stay for as long as this lives.
    ///
    /// # Errors
    /// When the archive of one is gone.
    pub fn layers_of(&mut self, image: &Image) -> Result<Vec<MadeLayer>> {
        let inner = &self.store.inner;
        let chain = chain_ids(&image.record.diff_ids);
        let mut layers = Vec::with_capacity(chain.len());
        for (chain, diff_id) in chain.iter().zip(&image.record.diff_ids) {
            self.holds.layer(inner, *chain);
            let archive = self.store.layer_archive(chain)?;
            self.holds.blob(inner, archive.digest);
            layers.push(MadeLayer {
                diff_id: *diff_id,
                archive,
            });
        }
        Ok(layers)
    }

    /// Takes the upper directory of an overlay above `below` as a layer; `None` when it changed nothing.
    /// `mount_points` are paths that exist only so that something can be mounted there.
    ///
    /// The directory stays as it is, and is not used afterwards.
    ///
    /// # Errors
    /// When it cannot be read, holds what no layer can, or the layer cannot be stored.
    pub fn capture(
        &mut self,
        upper: &OwnedFd,
        below: &[MadeLayer],
        mount_points: &BTreeSet<Vec<u8>>,
        progress: &ProgressSink,
    ) -> Result<Option<MadeLayer>> {
        let inner = self.store.inner.clone();
        let diff_ids: Vec<Digest> = below.iter().map(|layer| layer.diff_id).collect();
        let lower = inner.layers.directories(&chain_ids(&diff_ids))?;
        let view = match lower.is_empty() {
            true => None,
            false => Some(Merged::root(lower.iter().map(std::path::PathBuf::as_path))?),
        };
        let writer = inner.blobs.writer("the archive of the new layer")?;
        let (writer, is_empty) = capture::capture(upper, view, mount_points, writer)?;
        if is_empty {
            return Ok(None);
        }
        let size = writer.size();
        let holds = &mut self.holds;
        // Not compressed, so that its digest is the diff id.
        let digest = writer.commit_held(None, |digest| holds.blob(&inner, *digest))?;
        let archive = Descriptor {
            media_type: media::OCI_LAYER.to_owned(),
            digest,
            size,
            urls: None,
            annotations: None,
            platform: None,
        };
        let mut chain_of = diff_ids;
        chain_of.push(digest);
        let chain = chain_ids(&chain_of);
        let Some(own) = chain.last() else {
            return Ok(None);
        };
        self.holds.layer(&inner, *own);
        self.store
            .unpack_stored(&chain, &digest, &archive, progress)?;
        Ok(Some(MadeLayer {
            diff_id: digest,
            archive: self.kept_archive(own, archive),
        }))
    }

    /// Takes an archive, compressed or not, as the lowest layer.
    ///
    /// # Errors
    /// When it is damaged or hostile, or cannot be stored.
    pub fn take_archive(
        &mut self,
        source: impl Read + Send,
        object: &str,
        progress: &ProgressSink,
    ) -> Result<MadeLayer> {
        let inner = self.store.inner.clone();
        let mut writer = inner.blobs.writer(object)?;
        let source = stream::portable(source, object, limits::LAYER_BYTES_MAX)?;
        let mut limited = source.take(limits::LAYER_BYTES_MAX);
        std::io::copy(&mut limited, &mut writer)
            .map_err(|error| crate::error::unwrap_carried(|| format!("store {object}"), error))?;
        if writer.size() == limits::LAYER_BYTES_MAX {
            return Err(ImageError::Limit {
                object: object.to_owned(),
                limit: limits::LAYER_BYTES_MAX,
                unit: "bytes",
            });
        }
        let holds = &mut self.holds;
        let digest = writer.commit_held(None, |digest| holds.blob(&inner, *digest))?;
        let archive = self
            .store
            .describe_archive(&digest)?
            .ok_or_else(|| ImageError::archive(object, "it was removed while it was stored"))?;
        let diff_id = self
            .store
            .unpack_new(&archive, object, progress, &mut self.holds)?;
        Ok(MadeLayer {
            diff_id,
            archive: self.kept_archive(&diff_id, archive),
        })
    }

    /// A layer that was here already keeps the archive it had, which may be another form of the same.
    fn kept_archive(&mut self, chain: &Digest, made: Descriptor) -> Descriptor {
        match self.store.layer_archive(chain) {
            Ok(kept) => {
                self.holds.blob(&self.store.inner, kept.digest);
                kept
            }
            Err(_) => made,
        }
    }

    /// Makes the image known: `document` gets the layers, and `names` stand for it then.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn finish(
        mut self,
        mut document: ImageDocument,
        layers: Vec<MadeLayer>,
        names: &[Reference],
        parent: Option<ImageId>,
    ) -> Result<ImageId> {
        let inner = self.store.inner.clone();
        document.rootfs.kind = "layers".to_owned();
        document.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        check_document(&document, layers.len(), "the new image")?;
        let bytes = serde_json::to_vec(&document).map_err(|source| ImageError::Document {
            object: "the configuration of the new image".into(),
            source,
        })?;
        let config = Descriptor::of(media::OCI_CONFIG, &bytes);
        self.holds.blob(&inner, config.digest);
        inner
            .blobs
            .put(&bytes, Some(&config.digest), "an image configuration")?;
        let archives = layers.into_iter().map(|layer| layer.archive).collect();
        let (manifest, bytes, _) = manifest_of(config.clone(), archives)?;
        self.holds.blob(&inner, manifest.digest);
        inner
            .blobs
            .put(&bytes, Some(&manifest.digest), "a manifest")?;
        let id = config.digest;
        self.store.commit(vec![NewImage {
            names: names
                .iter()
                .map(|name| NewName {
                    name: name.clone(),
                    target: manifest.clone(),
                    keeps: Vec::new(),
                })
                .collect(),
            manifest,
            config,
            document,
            parent,
            source: None,
        }])?;
        Ok(id)
    }
}

/// The directory of an upper directory, opened by a copy of its mount in which devices cannot be opened: the
/// container may go on changing it.
///
/// # Errors
/// When it is not there.
pub fn open_upper(path: &Path) -> Result<OwnedFd> {
    let mount = berth_sys::mount::clone_tree(path, false)?;
    berth_sys::mount::set_attributes(
        &mount,
        false,
        &berth_sys::mount::AttributeChange {
            set: berth_sys::mount::attribute::NO_DEV | berth_sys::mount::attribute::READ_ONLY,
            ..berth_sys::mount::AttributeChange::default()
        },
    )?;
    crate::files::walk::open_root(&mount)
}
