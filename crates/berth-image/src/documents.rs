//! Manifests, indexes and descriptors of the OCI image specification and of Docker's schema 2.
//!
//! Owns: reading them from hostile bytes with every bound applied, telling the kinds apart, choosing a
//! platform. Pure. Unknown fields are not kept, because the bytes themselves are what is stored.

use berth_types::{Digest, ImageDocument, Platform};
use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::limits;

/// Media types, by the names that the specifications give them.
pub mod media {
    /// OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, not compressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, not compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker manifest, schema 1, which is refused.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// The same, signed.
    pub const DOCKER_SCHEMA1_SIGNED: &str =
        "application/vnd.docker.distribution.manifest.v1+prettyjws";
}

/// Points at content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where else it may be fetched from (foreign layers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Notes of whoever wrote the descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<indexmap::IndexMap<String, String>>,
    /// For which platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
}

/// The platform of an index's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPlatform {
    /// Processor architecture in Go's spelling.
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's spelling.
    #[serde(default)]
    pub os: String,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Version of the operating system.
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
}

impl From<&Platform> for DescriptorPlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            os_version: String::new(),
        }
    }
}

impl Descriptor {
    /// A descriptor of bytes at hand.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: crate::stream::digest_of(bytes),
            size: bytes.len() as u64,
            urls: None,
            annotations: None,
            platform: None,
        }
    }

    /// Whether this is a layer that only its publisher may give out, at the places named here (OCI image specification,
    /// layer.md, "Non-Distributable Layers"; Docker's foreign layers).
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        let kind = self.media_type.as_str();
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
            && (kind.contains(".foreign.") || kind.contains(".nondistributable."))
    }

    /// One annotation.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own statement of what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// Several images, or indexes, behind one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own statement of what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The entries.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// What a fetched document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// A choice of images.
    Index(Index),
}

impl Document {
    /// Reads a manifest or index. `media_type` is what the descriptor or the answer said; the document's
    /// own statement must not contradict it, or one program would see an image where another sees a list.
    ///
    /// # Errors
    /// When the document is neither, is of schema 1, or exceeds a limit.
    pub fn parse(bytes: &[u8], media_type: Option<&str>, object: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            media_type: Option<String>,
            #[serde(default)]
            config: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            layers: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
        }
        if bytes.len() as u64 > limits::MANIFEST_BYTES_MAX {
            return Err(ImageError::Limit {
                object: object.to_owned(),
                limit: limits::MANIFEST_BYTES_MAX,
                unit: "bytes",
            });
        }
        let probe: Probe = parse_json(bytes, object)?;
        let said = media_type.filter(|said| is_known(said));
        let states = probe
            .media_type
            .as_deref()
            .filter(|states| !states.is_empty());
        if probe.schema_version == 1
            || [said, states].into_iter().flatten().any(|media_type| {
                matches!(
                    media_type,
                    media::DOCKER_SCHEMA1 | media::DOCKER_SCHEMA1_SIGNED
                )
            })
        {
            return Err(ImageError::Unsupported {
                object: format!("{object}: image manifest version 2, schema 1"),
                reason: "this format is obsolete; push the image again with a current client"
                    .into(),
            });
        }
        if let (Some(said), Some(states)) = (said, states)
            && said != states
        {
            return Err(ImageError::archive(
                object,
                format!("delivered as {said}, but states {states}"),
            ));
        }
        let is_index = match said.or(states) {
            Some(media::OCI_INDEX | media::DOCKER_INDEX) => true,
            Some(media::OCI_MANIFEST | media::DOCKER_MANIFEST) => false,
            Some(other) => {
                return Err(ImageError::Unsupported {
                    object: format!("{object} of media type {other}"),
                    reason: "it is no image manifest and no index".into(),
                });
            }
            None => probe.manifests.is_some(),
        };
        // OCI image specification, manifest.md: a document with both would be ambiguous.
        if probe.manifests.is_some() && (probe.config.is_some() || probe.layers.is_some()) {
            return Err(ImageError::archive(
                object,
                "it is both an image manifest and an index",
            ));
        }
        if is_index {
            let index: Index = parse_json(bytes, object)?;
            if index.manifests.len() > limits::INDEX_ENTRIES_MAX {
                return Err(ImageError::Limit {
                    object: object.to_owned(),
                    limit: limits::INDEX_ENTRIES_MAX as u64,
                    unit: "entries",
                });
            }
            return Ok(Self::Index(index));
        }
        let manifest: Manifest = parse_json(bytes, object)?;
        if manifest.layers.len() > limits::LAYERS_MAX {
            return Err(ImageError::Limit {
                object: object.to_owned(),
                limit: limits::LAYERS_MAX as u64,
                unit: "layers",
            });
        }
        let config = manifest.config.media_type.as_str();
        if !matches!(config, "" | media::OCI_CONFIG | media::DOCKER_CONFIG)
            && !config.starts_with("application/octet-stream")
        {
            return Err(ImageError::Unsupported {
                object: format!("{object} with a configuration of media type {config}"),
                reason: "it is an artifact, not a container image".into(),
            });
        }
        for layer in &manifest.layers {
            check_layer(&layer.media_type, object)?;
        }
        Ok(Self::Manifest(Box::new(manifest)))
    }
}

/// Refuses what is no archive of files, though an image configuration stands beside it: documents of
/// artifacts and attestations, and layers that only their owner can read.
fn check_layer(media_type: &str, object: &str) -> Result<()> {
    let reason = if media_type.ends_with("+encrypted") {
        "it is encrypted, and decryption is not offered"
    } else if media_type.ends_with("+json") || media_type.ends_with("/json") {
        "it is an artifact, not a container image"
    } else {
        return Ok(());
    };
    Err(ImageError::Unsupported {
        object: format!("{object} with a layer of media type {media_type}"),
        reason: reason.into(),
    })
}

fn is_known(media_type: &str) -> bool {
    matches!(
        media_type,
        media::OCI_INDEX
            | media::OCI_MANIFEST
            | media::DOCKER_INDEX
            | media::DOCKER_MANIFEST
            | media::DOCKER_SCHEMA1
            | media::DOCKER_SCHEMA1_SIGNED
    )
}

/// Reads JSON; the error names the document.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], object: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| ImageError::Document {
        object: object.to_owned(),
        source,
    })
}

impl Index {
    /// The entries that could hold an image for `wanted`, best first. Attestations and other artifacts have
    /// platform `unknown`; entries without a platform are indexes or images whose configuration decides.
    #[must_use]
    pub fn candidates(&self, wanted: &Platform) -> Vec<&Descriptor> {
        let mut found: Vec<(u8, &Descriptor)> = self
            .manifests
            .iter()
            .filter(|entry| {
                entry.annotation("vnd.docker.reference.type").is_none()
                    && matches!(
                        entry.media_type.as_str(),
                        "" | media::OCI_INDEX
                            | media::OCI_MANIFEST
                            | media::DOCKER_INDEX
                            | media::DOCKER_MANIFEST
                    )
            })
            .filter_map(|entry| match &entry.platform {
                Some(platform) if platform.os != "unknown" => Some((
                    Platform::normalised(&platform.os, &platform.architecture, &platform.variant)
                        .suitability(wanted)?,
                    entry,
                )),
                Some(_) => None,
                None => Some((u8::MAX, entry)),
            })
            .collect();
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// Chain ids of a stack of layers, lowest first (OCI image specification, config.md, "Layer ChainID").
#[must_use]
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => *diff_id,
            Some(parent) => crate::stream::digest_of(format!("{parent} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

/// Checks a configuration against its manifest, for every way in.
pub(crate) fn check_document(document: &ImageDocument, layers: usize, object: &str) -> Result<()> {
    let bad = |reason: String| ImageError::archive(object, reason);
    if !document.rootfs.kind.is_empty() && document.rootfs.kind != "layers" {
        return Err(bad(format!(
            "its root file system is of type {:?}, not layers",
            document.rootfs.kind.chars().take(64).collect::<String>()
        )));
    }
    let expected = document.rootfs.diff_ids.len();
    if expected != layers {
        return Err(bad(format!(
            "layers length mismatch: expected {expected}, got {layers}"
        )));
    }
    if layers > limits::LAYERS_MAX {
        return Err(ImageError::Limit {
            object: object.to_owned(),
            limit: limits::LAYERS_MAX as u64,
            unit: "layers",
        });
    }
    // Images without an operating system are as old as those for Linux only.
    if !document.os.is_empty() && !document.os.eq_ignore_ascii_case("linux") {
        return Err(ImageError::Unsupported {
            object: format!(
                "{object} for operating system {:?}",
                document.os.chars().take(64).collect::<String>()
            ),
            reason: "only Linux images run here".into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layers_with_another_place_are_left_there() {
        let mut layer = Descriptor::of(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            b"",
        );
        assert!(!layer.is_foreign());
        layer.urls = Some(vec!["https://example.com/x".into()]);
        assert!(layer.is_foreign());
        layer.media_type = media::OCI_LAYER.into();
        assert!(!layer.is_foreign());
    }
}
