//! What a name stands for, manifest by manifest: the images of all platforms, and what is attested about them.
//!
//! Reads documents of the store only. A manifest is read for what it leads to, so that one which is no image is shown as
//! what it is.

use berth_types::Platform;

use crate::documents::{Descriptor, media};
use crate::error::Result;
use crate::leads::Leads;
use crate::limits;
use crate::store::{ImageId, ImageStore};

/// One manifest behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestView {
    /// The manifest.
    pub descriptor: Descriptor,
    /// Everything that it leads to is here.
    pub available: bool,
    /// Bytes of it and of what it leads to that are here, as they were fetched.
    pub content: u64,
    /// What it is.
    pub kind: ManifestKind,
}

/// What a manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image.
    Image {
        /// What it is for.
        platform: Platform,
        /// Its id and the bytes of its layers, when it is unpacked here.
        unpacked: Option<(ImageId, u64)>,
    },
    /// What a builder says about the image with this manifest.
    Attestation {
        /// Digest of that manifest.
        of: String,
    },
    /// Something else.
    Unknown,
}

impl ImageStore {
    /// The manifests behind a name or an id, in the order of the index.
    ///
    /// # Errors
    /// When there is no such image, or the store cannot be read.
    pub fn manifests(&self, text: &str) -> Result<Vec<ManifestView>> {
        let (image, name) = self.resolve_as(text)?;
        let known = match name {
            Some(name) => self.inner.records.reference(&name)?,
            None => None,
        };
        self.manifests_of(known.map_or_else(|| image.record.manifest.clone(), |known| known.target))
    }

    /// The manifests behind a descriptor, in the order of the index.
    pub(crate) fn manifests_of(&self, target: Descriptor) -> Result<Vec<ManifestView>> {
        let mut views = Vec::new();
        let mut pending = vec![(target, 0)];
        while let Some((descriptor, depth)) = pending.pop() {
            let leads = self.leads(&descriptor)?;
            if let Some(leads) = leads.as_ref().filter(|leads| !leads.manifests.is_empty()) {
                if depth <= limits::INDEX_DEPTH_MAX {
                    let children = leads.manifests.iter().rev();
                    pending.extend(children.map(|child| (child.clone(), depth + 1)));
                }
                continue;
            }
            if views.len() >= limits::INDEX_ENTRIES_MAX {
                break;
            }
            views.push(self.view_of(descriptor, leads)?);
        }
        Ok(views)
    }

    /// What a manifest that is here leads to; `None` when it is not here.
    fn leads(&self, descriptor: &Descriptor) -> Result<Option<Leads>> {
        let bytes = self
            .inner
            .blobs
            .read(&descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
        Ok(bytes.map(|bytes| serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    fn view_of(&self, descriptor: Descriptor, leads: Option<Leads>) -> Result<ManifestView> {
        let (mut available, mut content) = (leads.is_some(), 0);
        let leads = match leads {
            Some(leads) => {
                content += descriptor.size;
                leads
            }
            None => Leads::default(),
        };
        for part in leads.config.iter().chain(&leads.layers).chain(&leads.blobs) {
            match self.inner.blobs.size(&part.digest) {
                Some(size) => content += size,
                None => available = false,
            }
        }
        let kind = self.kind_of(&descriptor, leads.config.as_ref())?;
        Ok(ManifestView {
            descriptor,
            available,
            content,
            kind,
        })
    }

    fn kind_of(
        &self,
        descriptor: &Descriptor,
        config: Option<&Descriptor>,
    ) -> Result<ManifestKind> {
        if descriptor.annotation("vnd.docker.reference.type") == Some("attestation-manifest") {
            let of = descriptor.annotation("vnd.docker.reference.digest");
            return Ok(ManifestKind::Attestation {
                of: of.unwrap_or_default().to_owned(),
            });
        }
        let record = match config {
            Some(config) => self.inner.records.image(&config.digest)?,
            None => None,
        };
        let stated = descriptor
            .platform
            .as_ref()
            .filter(|stated| stated.os != "unknown" && !stated.os.is_empty())
            .map(|stated| Platform::normalised(&stated.os, &stated.architecture, &stated.variant));
        let platform = stated.or_else(|| record.as_ref().map(|record| record.platform.clone()));
        let is_image = config.is_none_or(|config| {
            matches!(
                config.media_type.as_str(),
                "" | media::OCI_CONFIG | media::DOCKER_CONFIG
            )
        });
        Ok(match platform {
            Some(platform) if is_image => ManifestKind::Image {
                platform,
                unpacked: record.map(|record| (record.id(), record.size)),
            },
            _ => ManifestKind::Unknown,
        })
    }
}
