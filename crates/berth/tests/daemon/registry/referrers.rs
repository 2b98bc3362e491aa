//! What is kept beside an image is listed for people, from our registry and from one that knows no such list.

use berth_testkit::archive::{Dialect, Image, Layer, architecture, digest};
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{Daemon, Engine, Settings};
use serde_json::{Value, json};

use super::{INDEX, MANIFEST, push_blob};

const SIGNATURE: &str = "application/vnd.example.signature";
const PARTS: &str = "application/spdx+json";

/// An artifact that refers to a manifest.
fn artifact(kind: &str, subject: &str) -> Vec<u8> {
    let empty = json!({
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2,
    });
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": empty, "layers": [empty],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1},
        "annotations": {"org.opencontainers.image.created": "2020-01-02T03:04:05Z", "note": "one\ntwo"},
    })
    .to_string()
    .into_bytes()
}

fn put(registry: &Served, reference: &str, kind: &str, bytes: &[u8]) -> String {
    registry
        .send(
            "PUT",
            &format!("/v2/team/app/manifests/{reference}"),
            &[("Content-Type", kind)],
            bytes,
        )
        .expect(201);
    digest(bytes)
}

fn bare() -> Daemon {
    let settings = Settings {
        without_images: true,
        ..Settings::default()
    };
    Daemon::with(Engine::Berth, settings)
}

fn lines(daemon: &Daemon, line: &str) -> Vec<String> {
    let told = daemon.berth(&format!("manifest referrers {line}")).ok();
    told.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn what_refers_to_an_image_is_listed() {
    let scratch = Scratch::new();
    let registry = Served::start(&scratch.path().join("r"), &[]);
    let image = |content: &str| {
        let layer = Layer::new().file("file", 0o644, content).finish();
        let (bytes, blobs) = Image::new("x:1", &["none"], vec![layer])
            .manifest(Dialect::Oci)
            .expect("a manifest");
        for blob in &blobs {
            push_blob(&registry, "team/app", blob);
        }
        let own = put(&registry, &digest(&bytes), MANIFEST, &bytes);
        (own, bytes.len())
    };
    let (own, other) = (image("own"), image("other"));
    let entry = |(digest, size): &(String, usize), architecture: &str| {
        json!({
            "mediaType": MANIFEST, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [entry(&other, "s390x"), entry(&own, architecture())],
    });
    let index = put(&registry, "1", INDEX, index.to_string().as_bytes());
    push_blob(&registry, "team/app", b"{}");
    let [signature, parts, of_own] = [(SIGNATURE, &index), (PARTS, &index), (SIGNATURE, &own.0)]
        .map(|(kind, subject)| {
            let bytes = artifact(kind, subject);
            put(&registry, &digest(&bytes), MANIFEST, &bytes)
        });

    let daemon = bare();
    let name = format!("{}/team/app:1", registry.host());
    let table = lines(&daemon, &name);
    assert_eq!(
        table[0].split_whitespace().collect::<Vec<_>>(),
        ["DIGEST", "TYPE", "SIZE", "CREATED"]
    );
    assert_eq!(table.len(), 3, "{table:?}");
    for (digest, kind) in [(&signature, SIGNATURE), (&parts, PARTS)] {
        let line = table.iter().find(|line| line.contains(&digest[..19]));
        let line = line.unwrap_or_else(|| panic!("{digest}: {table:?}"));
        assert!(
            line.contains(kind) && line.ends_with("years ago") && !line.contains(&digest[..20]),
            "{line}"
        );
    }
    let json = lines(
        &daemon,
        &format!("--format json --artifact-type {PARTS} {name}"),
    );
    let [one] = &json[..] else { panic!("{json:?}") };
    let one: Value = serde_json::from_str(one).expect("JSON");
    assert_eq!(one["Digest"], parts.as_str());
    assert_eq!(one["Subject"], index.as_str());
    assert_eq!(one["MediaType"], MANIFEST);
    assert!(
        one["Annotations"]
            .as_str()
            .is_some_and(|text| text.contains("note=one two"))
    );
    // The image for a platform has its own; by digest as well.
    for line in [
        format!("--platform linux/{} {name}", architecture()),
        format!("{}/team/app@{}", registry.host(), own.0),
    ] {
        let found = lines(
            &daemon,
            &format!("--no-trunc --format '{{{{.Digest}}}}' {line}"),
        );
        assert_eq!(found, std::slice::from_ref(&of_own));
    }
    assert_eq!(
        lines(&daemon, &format!("--platform linux/s390x {name}")).len(),
        1
    );
    daemon
        .berth(&format!(
            "manifest referrers --platform linux/riscv64 {name}"
        ))
        .exits(1)
        .says("linux/riscv64");
    daemon
        .berth(&format!(
            "manifest referrers {}/team/none:1",
            registry.host()
        ))
        .exits(1)
        .says("not found");
}

#[test]
fn a_registry_without_the_list_is_asked_for_the_tag_in_its_place() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let layer = Layer::new().file("file", 0o644, "content").finish();
    let image = Image::new("team/app:1", &["none"], vec![layer]);
    registry.push(&image, Dialect::Oci).expect("pushed");
    let subject = digest(&image.manifest(Dialect::Oci).expect("a manifest").0);
    let daemon = bare();
    let name = format!("{}/team/app:1", registry.host());
    assert_eq!(lines(&daemon, &name).len(), 1, "nothing but the headers");
    registry.push_blob("team/app", b"{}").expect("pushed");
    let signature = artifact(SIGNATURE, &subject);
    let own = digest(&signature);
    registry
        .push_manifest("team/app", &own, MANIFEST, &signature)
        .expect("pushed");
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
        "mediaType": MANIFEST, "digest": own, "size": signature.len(), "artifactType": SIGNATURE,
    }]});
    registry
        .push_manifest(
            "team/app",
            &subject.replace(':', "-"),
            INDEX,
            list.to_string().as_bytes(),
        )
        .expect("pushed");
    let found = lines(
        &daemon,
        &format!("{name} --no-trunc --format '{{{{.Digest}}}} {{{{.Type}}}}'"),
    );
    assert_eq!(found, [format!("{own} {SIGNATURE}")]);
}
