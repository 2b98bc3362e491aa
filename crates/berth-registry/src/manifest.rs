//! What a manifest names: read from its bytes, which come from anybody. Pure.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::digest::ContentDigest;
use crate::limits::{ANNOTATION_BYTES_MAX, DESCRIPTORS_MAX};

/// Media types of manifests.
pub(crate) mod media {
    pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub(crate) const DOCKER_LIST: &str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
}

/// A manifest as far as the registry looks at it.
#[derive(Debug, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    /// Configuration and layers that have to be in the repository.
    pub(crate) blobs: Vec<ContentDigest>,
    /// Manifests of an index.
    pub(crate) manifests: Vec<ContentDigest>,
    pub(crate) subject: Option<ContentDigest>,
    artifact_type: Option<String>,
    annotations: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Descriptor {
    fn digest(&self, what: &str) -> Result<ContentDigest, String> {
        if self.size < 0 {
            return Err(format!("{what} {} has a negative size", self.digest));
        }
        ContentDigest::parse(&self.digest).map_err(|error| format!("{what}: {error}"))
    }

    /// Whether clients are not supposed to push it.
    fn is_foreign(&self) -> bool {
        self.media_type.contains(".nondistributable.")
            || self.media_type.contains(".foreign.")
            || self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

impl Manifest {
    /// Reads a manifest that came with this `Content-Type`, if any.
    ///
    /// # Errors
    /// With the reason, when it is none that is taken.
    pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
        if document.schema_version != 2 {
            return Err(format!(
                "schema version {} is not supported: push it by a client of this decade, which writes version 2",
                document.schema_version
            ));
        }
        let given = content_type
            .map(|text| text.split(';').next().unwrap_or(text).trim())
            .filter(|text| !text.is_empty() && *text != "application/json");
        let media_type = match (given, document.media_type.as_deref()) {
            (Some(given), Some(own)) if given != own => {
                return Err(format!(
                    "its mediaType is {own:?}, and it was sent as {given:?}"
                ));
            }
            (Some(known), _) | (None, Some(known)) => known,
            (None, None) if document.manifests.is_some() => media::OCI_INDEX,
            (None, None) => media::OCI_MANIFEST,
        }
        .to_owned();
        let is_index = match media_type.as_str() {
            media::OCI_INDEX | media::DOCKER_LIST => true,
            media::OCI_MANIFEST | media::DOCKER_MANIFEST => false,
            other => {
                return Err(format!(
                    "media type {other:?} is not supported: OCI and Docker manifests and indexes are"
                ));
            }
        };
        // One document must not be an image to one client and an index to another.
        if is_index && (document.config.is_some() || document.layers.is_some()) {
            return Err("an index with config or layers is ambiguous".into());
        }
        if !is_index && document.manifests.is_some() {
            return Err("an image manifest with manifests is ambiguous".into());
        }
        if !is_index && document.config.is_none() {
            return Err("an image manifest without config".into());
        }
        let count = document.layers.as_ref().map_or(0, Vec::len)
            + document.manifests.as_ref().map_or(0, Vec::len);
        if count > DESCRIPTORS_MAX {
            return Err(format!("more than {DESCRIPTORS_MAX} descriptors"));
        }
        let mut blobs = Vec::new();
        let config_type = document
            .config
            .as_ref()
            .map(|config| config.media_type.clone());
        for (what, descriptor) in document
            .config
            .iter()
            .map(|config| ("config", config))
            .chain(
                document
                    .layers
                    .iter()
                    .flatten()
                    .map(|layer| ("layer", layer)),
            )
        {
            let digest = descriptor.digest(what)?;
            if !descriptor.is_foreign() && !blobs.contains(&digest) {
                blobs.push(digest);
            }
        }
        let mut manifests = Vec::new();
        for descriptor in document.manifests.iter().flatten() {
            let digest = descriptor.digest("manifest")?;
            if !descriptor.is_foreign() {
                manifests.push(digest);
            }
        }
        let subject = document
            .subject
            .map(|subject| subject.digest("subject"))
            .transpose()?;
        let annotations = document.annotations.unwrap_or_default();
        if subject.is_some()
            && serde_json::to_vec(&annotations).map_or(usize::MAX, |text| text.len())
                > ANNOTATION_BYTES_MAX
        {
            return Err(format!(
                "annotations of a manifest with a subject exceed {ANNOTATION_BYTES_MAX} bytes"
            ));
        }
        let own_type = document.artifact_type.filter(|text| !text.is_empty());
        Ok(Self {
            media_type,
            blobs,
            manifests,
            subject,
            artifact_type: own_type.or(config_type.filter(|text| !text.is_empty())),
            annotations,
        })
    }

    /// Its entry in the list of its subject's referrers ("Listing Referrers").
    pub(crate) fn descriptor(&self, digest: &ContentDigest, size: u64) -> Value {
        let mut descriptor = json!({
            "mediaType": self.media_type,
            "digest": digest.to_string(),
            "size": size,
        });
        if let Some(artifact_type) = &self.artifact_type {
            descriptor["artifactType"] = json!(artifact_type);
        }
        if !self.annotations.is_empty() {
            descriptor["annotations"] = Value::Object(self.annotations.clone());
        }
        descriptor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn read(value: &Value, kind: Option<&str>) -> Result<Manifest, String> {
        Manifest::parse(value.to_string().as_bytes(), kind)
    }

    #[test]
    fn what_a_manifest_names_is_found() {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": {"mediaType": "application/x.config", "digest": digest('a'), "size": 2},
            "layers": [
                {"mediaType": "x", "digest": digest('b'), "size": 3},
                {"mediaType": "x", "digest": digest('b'), "size": 3},
                {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "digest": digest('c'), "size": 3},
            ],
            "subject": {"mediaType": media::OCI_MANIFEST, "digest": digest('d'), "size": 4},
            "annotations": {"key": "value"},
        });
        let read = read(
            &manifest,
            Some("application/vnd.oci.image.manifest.v1+json; x=y"),
        )
        .unwrap();
        assert_eq!(read.blobs.len(), 2);
        assert!(read.subject.is_some());
        let own = ContentDigest::parse(&digest('e')).unwrap();
        assert_eq!(
            read.descriptor(&own, 9),
            json!({
                "mediaType": media::OCI_MANIFEST, "digest": digest('e'), "size": 9,
                "artifactType": "application/x.config", "annotations": {"key": "value"},
            })
        );
    }

    #[test]
    fn what_is_not_clearly_one_thing_is_refused() {
        let config = json!({"mediaType": "x", "digest": digest('a'), "size": 2});
        for (document, kind) in [
            (json!({"schemaVersion": 1}), None),
            (json!({"schemaVersion": 2}), None),
            (json!([]), None),
            (
                json!({"schemaVersion": 2, "config": config, "manifests": []}),
                None,
            ),
            (
                json!({"schemaVersion": 2, "config": config}),
                Some("text/plain"),
            ),
            (
                json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []}),
                Some(media::OCI_MANIFEST),
            ),
            (
                json!({"schemaVersion": 2, "config": {"digest": "sha256:x", "size": 1}}),
                None,
            ),
            (
                json!({"schemaVersion": 2, "config": {"digest": digest('a'), "size": -1}}),
                None,
            ),
        ] {
            assert!(read(&document, kind).is_err(), "{document}");
        }
        assert_eq!(
            read(&json!({"schemaVersion": 2, "manifests": []}), None)
                .unwrap()
                .media_type,
            media::OCI_INDEX
        );
    }
}
