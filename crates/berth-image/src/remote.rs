//! Manifests in registries: looking at them without fetching the image, and putting lists of them.
//!
//! Owns nothing on disk.

use berth_types::{Digest, ErrorKind, Reference};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::documents::{Descriptor, media, parse_json};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::registry::{Credentials, Outgoing, Purpose, Session, Watch};
use crate::store::ImageStore;

/// Which manifest is looked at.
#[derive(Debug, Clone)]
pub struct RemoteRequest {
    /// Its name.
    pub reference: Reference,
    /// Credentials for its registry.
    pub credentials: Option<Credentials>,
    /// Do without TLS and a certificate that verifies.
    pub insecure: bool,
}

/// A manifest or index in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteManifest {
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The platforms it has images for; of an image, its own.
    pub platforms: Vec<RemotePlatform>,
}

/// A platform with all that registries say about one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RemotePlatform {
    /// Processor architecture in Go's spelling.
    pub architecture: String,
    /// Operating system in Go's spelling.
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version")]
    pub os_version: String,
    /// Features of the operating system that the image needs.
    #[serde(rename = "os.features")]
    pub os_features: Vec<String>,
    /// Variant of the architecture.
    pub variant: String,
}

/// A list of manifests to be put.
#[derive(Debug, Clone)]
pub struct ListPush {
    /// Repository and tag that it gets.
    pub reference: Reference,
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The manifests it refers to, as far as they are in other repositories of the same registry.
    pub manifests: Vec<SourceManifest>,
    /// Credentials for the registry.
    pub credentials: Option<Credentials>,
    /// Do without TLS and a certificate that verifies.
    pub insecure: bool,
}

/// A manifest that a list refers to.
#[derive(Debug, Clone)]
pub struct SourceManifest {
    /// Where it is.
    pub reference: Reference,
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The parts of a document that tell its platforms and contents.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    platform: Option<RemotePlatform>,
}

struct Silent;

impl Watch for Silent {
    fn sent(&self, _: u64) {}
    fn retrying(&self, _: std::time::Duration) {}
}

impl ImageStore {
    /// Looks at a manifest or index where it is.
    ///
    /// # Errors
    /// When it is not there, or the registry does not let us look.
    pub async fn remote_manifest(&self, request: &RemoteRequest) -> Result<RemoteManifest> {
        let reference = request.reference.clone().with_default_tag();
        let wanted = reference
            .digest()
            .map(Digest::to_string)
            .or_else(|| reference.tag().map(str::to_owned))
            .unwrap_or_default();
        let endpoint = self.inner.registry.registry(
            reference.registry(),
            reference.repository(),
            request.insecure,
        );
        let session = Session::new(&self.inner.registry, endpoint, request.credentials.as_ref());
        let fetched = session
            .manifest(&wanted)
            .await
            .map_err(|error| explained(error, &reference))?;
        let object = format!("manifest of {}", reference.familiar());
        let parts: Parts = parse_json(&fetched.bytes, &object)?;
        let usual = match parts.manifests {
            Some(_) => media::OCI_INDEX,
            None => media::OCI_MANIFEST,
        };
        let media_type = parts
            .media_type
            .filter(|text| !text.is_empty())
            .or(fetched.media_type)
            .unwrap_or_else(|| usual.to_owned());
        let platforms = match (parts.manifests, parts.config) {
            (Some(entries), _) => entries
                .into_iter()
                .filter_map(|entry| entry.platform)
                .collect(),
            (None, Some(config)) if is_configuration(&config) => {
                let limit = limits::CONFIG_BYTES_MAX;
                let bytes = session.small_blob(&config.digest, limit).await?;
                let actual = crate::stream::digest_of(&bytes);
                if actual != config.digest {
                    return Err(ImageError::Digest {
                        object: format!("configuration of {}", reference.familiar()),
                        expected: config.digest,
                        actual,
                    });
                }
                vec![parse_json(&bytes, "an image configuration")?]
            }
            _ => Vec::new(),
        };
        Ok(RemoteManifest {
            descriptor: Descriptor::of(&media_type, &fetched.bytes),
            bytes: fetched.bytes,
            platforms,
        })
    }

    /// Puts a list of manifests, and before it those of them that are in other repositories. Gives the names by
    /// which these are found now.
    ///
    /// # Errors
    /// When a manifest is of another registry, or the registry does not take what it is given.
    pub async fn push_list(&self, request: &ListPush) -> Result<(Digest, Vec<Reference>)> {
        let target = request.reference.clone().with_default_tag();
        let tag = target.tag().ok_or(ImageError::PushByDigest)?.to_owned();
        if let Some(other) = request
            .manifests
            .iter()
            .find(|manifest| manifest.reference.registry() != target.registry())
        {
            return Err(ImageError::OtherRegistry {
                source_registry: other.reference.registry().to_owned(),
                target: target.registry().to_owned(),
            });
        }
        let endpoint =
            self.inner
                .registry
                .registry(target.registry(), target.repository(), request.insecure);
        let mut sources: Vec<String> = Vec::new();
        for manifest in &request.manifests {
            let repository = manifest.reference.repository().to_owned();
            if repository != target.repository() && !sources.contains(&repository) {
                sources.push(repository);
            }
        }
        let purpose = Purpose::Push { sources };
        let session = Session::with_purpose(
            &self.inner.registry,
            endpoint,
            request.credentials.as_ref(),
            purpose,
        );
        let explained = |error| crate::push::explained(error, &target);
        session.reach().await.map_err(explained)?;
        let mut brought = Vec::new();
        for manifest in &request.manifests {
            if manifest.reference.repository() == target.repository() {
                continue;
            }
            let digest = self
                .bring_manifest(&session, manifest)
                .await
                .map_err(explained)?;
            brought.push(target.with_digest(digest));
        }
        session
            .put_manifest(&tag, &request.media_type, &request.bytes)
            .await
            .map_err(explained)?;
        Ok((crate::stream::digest_of(&request.bytes), brought))
    }

    /// Brings a manifest with its content over from another repository.
    async fn bring_manifest(
        &self,
        session: &Session<'_>,
        manifest: &SourceManifest,
    ) -> Result<Digest> {
        let object = format!("manifest of {}", manifest.reference.familiar());
        let parts: Parts = parse_json(&manifest.bytes, &object)?;
        if parts.layers.len() > limits::LAYERS_MAX {
            return Err(ImageError::Limit {
                object,
                limit: limits::LAYERS_MAX as u64,
                unit: "layers",
            });
        }
        let source = [manifest.reference.repository().to_owned()];
        let never = CancellationToken::new();
        for content in parts.layers.iter().chain(&parts.config) {
            let blobs = &self.inner.blobs;
            let _lease = blobs.lease(content.digest);
            let content = Outgoing {
                digest: content.digest,
                size: content.size,
                file: blobs
                    .contains(&content.digest)
                    .then(|| blobs.path(&content.digest)),
            };
            session.bring(&content, &source, &Silent, &never).await?;
        }
        let digest = crate::stream::digest_of(&manifest.bytes);
        session
            .put_manifest(&digest.to_string(), &manifest.media_type, &manifest.bytes)
            .await?;
        Ok(digest)
    }
}

fn is_configuration(config: &Descriptor) -> bool {
    matches!(
        config.media_type.as_str(),
        "" | media::OCI_CONFIG | media::DOCKER_CONFIG
    )
}

/// Registries answer in terms of their own; people asked for a manifest.
fn explained(error: ImageError, reference: &Reference) -> ImageError {
    match error {
        ImageError::Registry {
            reason,
            kind: ErrorKind::NotFound,
            ..
        } => ImageError::Registry {
            attempt: format!("no such manifest: {}", reference.familiar()),
            reason,
            kind: ErrorKind::NotFound,
        },
        other => other,
    }
}
