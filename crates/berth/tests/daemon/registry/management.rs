//! Removal, collection, and a registry that takes no changes.

use berth_testkit::archive::digest;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{Command, Output};
use serde_json::json;

use super::{INDEX, MANIFEST, begin, image, push_blob, put_manifest, refused};

fn collect(registry: &Served, more: &str) -> Output {
    let executable = berth_testkit::daemon::executable().expect("the executable");
    Command::new(executable)
        .args(["registry", "gc", "--root"])
        .arg(registry.root())
        .args(more.split_whitespace())
        .run()
}

fn files(registry: &Served) -> usize {
    let blobs = registry.root().join("blobs/sha256");
    std::fs::read_dir(blobs).expect("blobs").count()
}

#[test]
fn what_is_deleted_goes_and_what_is_used_stays() {
    let scratch = Scratch::new();
    let mut registry = Served::start(&scratch.path().join("r"), &[]);
    let shared = push_blob(&registry, "a", b"shared");
    push_blob(&registry, "b", b"shared");
    let first = put_manifest(&registry, "a", "1", &image(&shared, 6, "first"));
    put_manifest(&registry, "a", "also", &image(&shared, 6, "first"));
    let second = put_manifest(&registry, "a", "2", &image(&shared, 6, "second"));
    put_manifest(&registry, "b", "1", &image(&shared, 6, "first"));
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": second, "size": 1}],
    });
    put_manifest(&registry, "a", "many", &index);
    let send =
        |registry: &Served, method: &str, target: &str| registry.send(method, target, &[], b"");

    // A tag alone; its manifest stays.
    send(&registry, "DELETE", "/v2/a/manifests/also").expect(202);
    refused(
        send(&registry, "DELETE", "/v2/a/manifests/also"),
        404,
        "MANIFEST_UNKNOWN",
    );
    send(&registry, "GET", "/v2/a/manifests/1").expect(200);
    // A manifest takes its tags along, in its repository only.
    send(&registry, "DELETE", &format!("/v2/a/manifests/{first}")).expect(202);
    refused(
        send(&registry, "GET", "/v2/a/manifests/1"),
        404,
        "MANIFEST_UNKNOWN",
    );
    send(&registry, "GET", "/v2/b/manifests/1").expect(200);
    // A blob, in its repository only; its file goes with the last.
    let before = files(&registry);
    send(&registry, "DELETE", &format!("/v2/a/blobs/{shared}")).expect(202);
    refused(
        send(&registry, "GET", &format!("/v2/a/blobs/{shared}")),
        404,
        "BLOB_UNKNOWN",
    );
    refused(
        send(&registry, "DELETE", &format!("/v2/a/blobs/{shared}")),
        404,
        "BLOB_UNKNOWN",
    );
    send(&registry, "GET", &format!("/v2/b/blobs/{shared}")).expect(200);
    assert_eq!(files(&registry), before);
    let alone = push_blob(&registry, "b", b"alone");
    send(&registry, "DELETE", &format!("/v2/b/blobs/{alone}")).expect(202);
    assert_eq!(files(&registry), before);

    // Collection: not beside a running registry, then by what is asked for.
    send(&registry, "DELETE", "/v2/a/manifests/2").expect(202);
    put_manifest(&registry, "b", "2", &image(&shared, 6, "untagged"));
    send(&registry, "DELETE", "/v2/b/manifests/2").expect(202);
    push_blob(&registry, "b", b"waits for its manifest");
    begin(&registry, "b");
    collect(&registry, "")
        .exits(1)
        .says("another registry is running");
    registry.terminate();
    collect(&registry, "").ok().prints("blobs removed:     0");
    let all = "--keep-blobs 0s --keep-untagged 0s --keep-uploads 0s";
    collect(&registry, all)
        .ok()
        .prints("uploads removed:   1")
        .prints("manifests removed: 1")
        .prints("blobs removed:     2");
    registry.launch();
    // The index led to it.
    send(&registry, "GET", &format!("/v2/a/manifests/{second}")).expect(200);
    send(&registry, "GET", &format!("/v2/b/blobs/{shared}")).expect(200);
    assert_eq!(
        send(&registry, "GET", "/v2/_catalog").json()["repositories"],
        json!(["a", "b"])
    );
}

#[test]
fn a_read_only_registry_takes_no_change() {
    let scratch = Scratch::new();
    let root = scratch.path().join("r");
    let mut registry = Served::start(&root, &[]);
    let blob = push_blob(&registry, "a", b"blob");
    put_manifest(&registry, "a", "1", &image(&blob, 4, "first"));
    registry.terminate();
    let registry = Served::start(&root, &["--read-only"]);
    registry
        .send("GET", "/v2/a/manifests/1", &[], b"")
        .expect(200);
    registry
        .send("HEAD", &format!("/v2/a/blobs/{blob}"), &[], b"")
        .expect(200);
    for (method, target) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("PUT", "/v2/a/manifests/1".to_owned()),
        ("DELETE", "/v2/a/manifests/1".to_owned()),
        ("DELETE", format!("/v2/a/blobs/{}", digest(b"blob"))),
    ] {
        refused(registry.send(method, &target, &[], b""), 405, "UNSUPPORTED");
    }
}
