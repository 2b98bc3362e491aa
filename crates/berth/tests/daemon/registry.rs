//! `berth registry serve`: the protocol by plain requests, every kind of client, and what it survives.

mod cache;
pub(crate) mod clients;
mod management;
mod protocol;
mod referrers;
mod security;
mod survival;

use berth_testkit::archive::digest;
use berth_testkit::http::Response;
use berth_testkit::served::Served;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The path of a `Location`.
#[track_caller]
fn location(response: &Response) -> String {
    response.header("location").expect("a location").to_owned()
}

/// Begins an upload; gives its path.
#[track_caller]
fn begin(registry: &Served, name: &str) -> String {
    let target = format!("/v2/{name}/blobs/uploads/");
    location(&registry.send("POST", &target, &[], b"").expect(202))
}

/// Pushes a blob in one request after the first; gives its digest.
#[track_caller]
pub(crate) fn push_blob(registry: &Served, name: &str, content: &[u8]) -> String {
    let upload = begin(registry, name);
    let digest = digest(content);
    let target = format!("{upload}?digest={digest}");
    registry.send("PUT", &target, &[], content).expect(201);
    digest
}

/// An image manifest of one configuration and one layer, both the same blob.
fn image(blob: &str, size: usize, note: &str) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.test.config", "digest": blob, "size": size},
        "layers": [{"mediaType": "application/vnd.test.layer", "digest": blob, "size": size}],
        "annotations": {"note": note},
    })
}

/// Puts a manifest under a tag or its digest (when `reference` is empty); gives its digest.
#[track_caller]
fn put_manifest(registry: &Served, name: &str, reference: &str, document: &Value) -> String {
    let bytes = document.to_string().into_bytes();
    let digest = digest(&bytes);
    let reference = if reference.is_empty() {
        &digest
    } else {
        reference
    };
    let kind = document["mediaType"].as_str().expect("a media type");
    let target = format!("/v2/{name}/manifests/{reference}");
    let done = registry
        .send("PUT", &target, &[("Content-Type", kind)], &bytes)
        .expect(201);
    assert_eq!(done.header("docker-content-digest"), Some(digest.as_str()));
    digest
}

/// The code of a refusal.
#[track_caller]
fn refused(response: Response, status: u16, code: &str) {
    let response = response.expect(status);
    assert_eq!(
        response.json()["errors"][0]["code"],
        code,
        "{}",
        response.text()
    );
}
