//! What registries are asked and answer: engine to wire and back.

use super::signed;
use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::{
    DistributionInspect, JsonMessage, ManifestReferrers, ManifestSource, OciDescriptor,
    OciPlatform, ProgressDetail, PushResult, PushedInstead, SearchResult,
};
use berth_engine::images::{
    Instead, Pushed, Referrer, Referrers, RemoteManifest, RemotePlatform, SearchFound,
    SourceManifest,
};
use berth_types::Reference;
use serde::Serialize;

/// A line of progress that is for programs.
pub(super) fn auxiliary(value: &impl Serialize) -> JsonMessage {
    JsonMessage {
        progress_detail: Some(ProgressDetail::default()),
        aux: serde_json::to_value(value).ok(),
        ..JsonMessage::default()
    }
}

pub(super) fn push_result(pushed: Pushed) -> PushResult {
    PushResult {
        tag: pushed.tag,
        digest: pushed.digest.to_string(),
        size: signed(pushed.size),
    }
}

pub(super) fn pushed_instead(instead: Instead) -> PushedInstead {
    let descriptor = |media_type: String, digest: String, size: u64| OciDescriptor {
        media_type,
        digest,
        size: signed(size),
        ..OciDescriptor::default()
    };
    let (index, manifest) = (instead.index, instead.manifest);
    PushedInstead {
        manifest_pushed_instead_of_index: true,
        original_index: Some(descriptor(
            index.media_type,
            index.digest.to_string(),
            index.size,
        )),
        selected_manifest: Some(descriptor(
            manifest.media_type,
            manifest.digest.to_string(),
            manifest.size,
        )),
    }
}

fn platform(platform: RemotePlatform) -> OciPlatform {
    OciPlatform {
        architecture: platform.architecture,
        os: platform.os,
        os_version: platform.os_version,
        os_features: platform.os_features,
        variant: platform.variant,
    }
}

pub(crate) fn distribution(manifest: RemoteManifest) -> DistributionInspect {
    DistributionInspect {
        descriptor: OciDescriptor {
            media_type: manifest.descriptor.media_type,
            digest: manifest.descriptor.digest.to_string(),
            size: signed(manifest.descriptor.size),
            ..OciDescriptor::default()
        },
        platforms: manifest.platforms.into_iter().map(platform).collect(),
    }
}

pub(crate) fn remote_manifest(manifest: RemoteManifest) -> berth_api::RemoteManifest {
    let document = STANDARD.encode(&manifest.bytes);
    let DistributionInspect {
        descriptor,
        platforms,
    } = distribution(manifest);
    berth_api::RemoteManifest {
        descriptor,
        document,
        platforms,
    }
}

pub(crate) fn referrers(referrers: Referrers) -> ManifestReferrers {
    let one = |one: Referrer| OciDescriptor {
        media_type: one.media_type,
        digest: one.digest.to_string(),
        size: signed(one.size),
        annotations: one.annotations.into_iter().collect(),
        artifact_type: one.artifact_type,
        ..OciDescriptor::default()
    };
    ManifestReferrers {
        subject: referrers.subject.to_string(),
        referrers: referrers.found.into_iter().map(one).collect(),
    }
}

/// The bytes of a document that travels as base64.
pub(crate) fn document(text: &str) -> Result<Vec<u8>, Failure> {
    STANDARD
        .decode(text)
        .map_err(|_| Failure::bad_request("a document is not base64"))
}

pub(crate) fn source(source: &ManifestSource) -> Result<SourceManifest, Failure> {
    Ok(SourceManifest {
        reference: Reference::parse(&source.reference)
            .map_err(|error| Failure::bad_request(error.to_string()))?,
        media_type: source.media_type.clone(),
        bytes: document(&source.document)?,
    })
}

pub(crate) fn search_result(found: SearchFound) -> SearchResult {
    SearchResult {
        star_count: found.star_count,
        is_official: found.is_official,
        name: found.name,
        is_automated: false,
        description: found.description,
    }
}
