//! The distribution specification, request by request.

use berth_testkit::archive::digest;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use serde_json::json;

use super::{INDEX, MANIFEST, begin, image, location, push_blob, put_manifest, refused};

/// `printf content | sha512sum`
const SHA512_OF_CONTENT: &str = "b2d1d285b5199c85f988d03649c37e44fd3dde01e5d69c50fef90651962f4811\
    0e9340b60d49a479c4c0b53f5f07d690686dd87d2481937a512e8b85ee7c617f";

#[test]
fn blobs_are_pushed_in_every_way_and_read_in_parts() {
    let scratch = Scratch::new();
    let registry = Served::start(&scratch.path().join("r"), &[]);
    let base = registry.send("GET", "/v2/", &[], b"").expect(200);
    assert_eq!(
        base.header("docker-distribution-api-version"),
        Some("registry/2.0")
    );

    // One request.
    let content = b"in one request";
    let id = digest(content);
    let done = registry
        .send(
            "POST",
            &format!("/v2/a/one/blobs/uploads/?digest={id}"),
            &[],
            content,
        )
        .expect(201);
    assert_eq!(location(&done), format!("/v2/a/one/blobs/{id}"));

    // Two, and an empty one.
    push_blob(&registry, "a/one", b"in two requests");
    let nothing = push_blob(&registry, "a/one", b"");
    let got = registry
        .send("GET", &format!("/v2/a/one/blobs/{nothing}"), &[], b"")
        .expect(200);
    assert!(got.body.is_empty());

    // Chunks, one of them out of order and one sent twice.
    let upload = begin(&registry, "a/one");
    let chunk = |range: &str, bytes: &[u8]| {
        registry.send("PATCH", &upload, &[("Content-Range", range)], bytes)
    };
    let first = chunk("0-3", b"in c").expect(202);
    assert_eq!(first.header("range"), Some("0-3"));
    let far = chunk("5-9", b"hunks").expect(416);
    assert_eq!(far.header("range"), Some("0-3"));
    chunk("0-3", b"in c").expect(416);
    refused(chunk("4-5", b"hunks"), 400, "SIZE_INVALID");
    refused(chunk("4", b"hunks"), 400, "BLOB_UPLOAD_INVALID");
    let status = registry.send("GET", &upload, &[], b"").expect(204);
    assert_eq!(status.header("range"), Some("0-3"));
    assert_eq!(location(&status), upload);
    chunk("4-6", b"hun").expect(202);
    let id = digest(b"in chunks");
    let target = format!("{upload}?digest={id}");
    registry
        .send("PUT", &target, &[("Content-Range", "8-9")], b"ks")
        .expect(416);
    registry
        .send("PUT", &target, &[("Content-Range", "7-8")], b"ks")
        .expect(201);
    refused(
        registry.send("GET", &upload, &[], b""),
        404,
        "BLOB_UPLOAD_UNKNOWN",
    );

    // A stream without ranges, ended without a body.
    let upload = begin(&registry, "a/one");
    registry.send("PATCH", &upload, &[], b"as a ").expect(202);
    registry.send("PATCH", &upload, &[], b"stream").expect(202);
    let stream = digest(b"as a stream");
    registry
        .send("PUT", &format!("{upload}?digest={stream}"), &[], b"")
        .expect(201);

    // Given up.
    let upload = begin(&registry, "a/one");
    registry.send("DELETE", &upload, &[], b"").expect(204);
    refused(
        registry.send("PATCH", &upload, &[], b"x"),
        404,
        "BLOB_UPLOAD_UNKNOWN",
    );

    // Not what it says; not of that repository; no digest.
    let upload = begin(&registry, "a/one");
    refused(
        registry.send("PUT", &upload, &[], b"x"),
        400,
        "DIGEST_INVALID",
    );
    let other = upload.replace("a/one", "a/two");
    refused(
        registry.send("PATCH", &other, &[], b"x"),
        404,
        "BLOB_UPLOAD_UNKNOWN",
    );
    let target = format!("{upload}?digest={stream}");
    refused(
        registry.send("PUT", &target, &[], b"wrong"),
        400,
        "DIGEST_INVALID",
    );
    refused(
        registry.send("GET", &upload, &[], b""),
        404,
        "BLOB_UPLOAD_UNKNOWN",
    );

    // Reading.
    let blob = format!("/v2/a/one/blobs/{id}");
    let head = registry.send("HEAD", &blob, &[], b"").expect(200);
    assert_eq!(head.header("content-length"), Some("9"));
    assert_eq!(head.header("docker-content-digest"), Some(id.as_str()));
    let etag = head.header("etag").expect("an etag").to_owned();
    let whole = registry.send("GET", &blob, &[], b"").expect(200);
    assert_eq!(whole.body, b"in chunks");
    registry
        .send("GET", &blob, &[("If-None-Match", &etag)], b"")
        .expect(304);
    for (range, status, expected, content_range) in [
        ("bytes=0-1", 206, "in", "bytes 0-1/9"),
        ("bytes=3-", 206, "chunks", "bytes 3-8/9"),
        ("bytes=-2", 206, "ks", "bytes 7-8/9"),
        ("bytes=3-100", 206, "chunks", "bytes 3-8/9"),
    ] {
        let part = registry
            .send("GET", &blob, &[("Range", range)], b"")
            .expect(status);
        assert_eq!(part.text(), expected, "{range}");
        assert_eq!(part.header("content-range"), Some(content_range));
    }
    let beyond = registry
        .send("GET", &blob, &[("Range", "bytes=9-")], b"")
        .expect(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */9"));
    let changed = [("Range", "bytes=0-1"), ("If-Range", "\"another\"")];
    registry.send("GET", &blob, &changed, b"").expect(200);
    refused(
        registry.send("GET", &blob.replace("a/one", "a/two"), &[], b""),
        404,
        "BLOB_UNKNOWN",
    );

    // Mounts: from where it is, from anywhere, from where it is not.
    let mount = |name: &str, query: &str| {
        registry.send(
            "POST",
            &format!("/v2/{name}/blobs/uploads/?mount={id}{query}"),
            &[],
            b"",
        )
    };
    mount("b/none", "&from=a/two").expect(202);
    mount("b/none", "&from=../../a").expect(202);
    let target = format!("/v2/b/none/blobs/{id}");
    registry.send("HEAD", &target, &[], b"").expect(404);
}

#[test]
fn mounts_and_the_other_algorithm() {
    let scratch = Scratch::new();
    let registry = Served::start(&scratch.path().join("r"), &[]);
    let id = push_blob(&registry, "a/one", b"content");
    for (name, query) in [("b/from", "&from=a/one"), ("b/anywhere", "")] {
        let target = format!("/v2/{name}/blobs/uploads/?mount={id}{query}");
        let done = registry.send("POST", &target, &[], b"").expect(201);
        assert_eq!(location(&done), format!("/v2/{name}/blobs/{id}"));
        registry.send("GET", &location(&done), &[], b"").expect(200);
    }
    let unknown = digest(b"unknown");
    let target = format!("/v2/b/from/blobs/uploads/?mount={unknown}&from=a/one");
    let begun = registry.send("POST", &target, &[], b"").expect(202);
    registry
        .send("DELETE", &location(&begun), &[], b"")
        .expect(204);

    let upload = begin(&registry, "a/one");
    let long = format!("sha512:{SHA512_OF_CONTENT}");
    registry
        .send("PUT", &format!("{upload}?digest={long}"), &[], b"content")
        .expect(201);
    let got = registry
        .send("GET", &format!("/v2/a/one/blobs/{long}"), &[], b"")
        .expect(200);
    assert_eq!(got.text(), "content");
    assert_eq!(got.header("docker-content-digest"), Some(long.as_str()));
    // By that digest as well from where it is and from anywhere, for as long as some repository has it.
    let mount = |name: &str, query: &str| {
        let target = format!("/v2/{name}/blobs/uploads/?mount={long}{query}");
        registry.send("POST", &target, &[], b"").status
    };
    assert_eq!(mount("c/from", "&from=a/one"), 201);
    assert_eq!(mount("c/anywhere", ""), 201);
    let in_repository = |name: &str| format!("/v2/{name}/blobs/{long}");
    for name in ["a/one", "c/from", "c/anywhere"] {
        let target = in_repository(name);
        registry.send("HEAD", &target, &[], b"").expect(200);
        registry.send("DELETE", &target, &[], b"").expect(202);
    }
    assert_eq!(mount("c/nowhere", ""), 202);
    let upload = begin(&registry, "a/one");
    let target = format!("{upload}?digest=md5:9a0364b9e99bb480dd25e1f0284c8555");
    refused(
        registry.send("PUT", &target, &[], b"content"),
        400,
        "DIGEST_INVALID",
    );
}

#[test]
fn manifests_tags_and_referrers() {
    let scratch = Scratch::new();
    let registry = Served::start(&scratch.path().join("r"), &[]);
    refused(
        registry.send("GET", "/v2/a/b/tags/list", &[], b""),
        404,
        "NAME_UNKNOWN",
    );
    refused(
        registry.send("GET", "/v2/a/b/manifests/1", &[], b""),
        404,
        "MANIFEST_UNKNOWN",
    );
    // Asked for, what can be no tag is not here; put, it is wrong.
    for (method, status) in [("GET", 404), ("HEAD", 404), ("PUT", 400)] {
        let target = "/v2/a/b/manifests/.INVALID";
        registry.send(method, target, &[], b"").expect(status);
    }
    let blob = push_blob(&registry, "a/b", b"blob");
    let document = image(&blob, 4, "first");
    let first = put_manifest(&registry, "a/b", "1", &document);
    for reference in ["1", &first] {
        let target = format!("/v2/a/b/manifests/{reference}");
        let got = registry.send("GET", &target, &[], b"").expect(200);
        assert_eq!(got.text(), document.to_string(), "byte for byte");
        assert_eq!(got.header("content-type"), Some(MANIFEST));
        let head = registry.send("HEAD", &target, &[], b"").expect(200);
        assert_eq!(head.header("docker-content-digest"), Some(first.as_str()));
        let length = document.to_string().len().to_string();
        assert_eq!(head.header("content-length"), Some(length.as_str()));
    }

    // What it names has to be there; the subject does not.
    let unknown = digest(b"unknown");
    let put = |reference: &str, kind: &str, body: &[u8]| {
        registry.send(
            "PUT",
            &format!("/v2/a/b/manifests/{reference}"),
            &[("Content-Type", kind)],
            body,
        )
    };
    let missing = image(&unknown, 7, "missing").to_string();
    refused(
        put("x", MANIFEST, missing.as_bytes()),
        404,
        "MANIFEST_BLOB_UNKNOWN",
    );
    refused(put("x", MANIFEST, b"{"), 400, "MANIFEST_INVALID");
    refused(
        put("x", INDEX, document.to_string().as_bytes()),
        400,
        "MANIFEST_INVALID",
    );
    refused(
        put(&unknown, MANIFEST, document.to_string().as_bytes()),
        400,
        "DIGEST_INVALID",
    );
    let large = vec![b' '; (4 << 20) + 1];
    refused(put("x", MANIFEST, &large), 413, "MANIFEST_INVALID");
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": first, "size": 1}],
    });
    put_manifest(&registry, "a/b", "many", &index);

    // By digest, with tags beside.
    let second = image(&blob, 4, "second").to_string();
    let target = format!(
        "/v2/a/b/manifests/{}?tag=2&tag=2.0",
        digest(second.as_bytes())
    );
    let done = registry
        .send(
            "PUT",
            &target,
            &[("Content-Type", MANIFEST)],
            second.as_bytes(),
        )
        .expect(201);
    let tags: Vec<_> = done
        .headers
        .iter()
        .filter(|(name, _)| name == "oci-tag")
        .collect();
    assert_eq!(tags.len(), 2);

    // Lists, whole and in pages.
    let list = |query: &str| {
        registry
            .send("GET", &format!("/v2/a/b/tags/list{query}"), &[], b"")
            .expect(200)
    };
    assert_eq!(
        list("").json(),
        json!({"name": "a/b", "tags": ["1", "2", "2.0", "many"]})
    );
    let page = list("?n=2");
    assert_eq!(page.json()["tags"], json!(["1", "2"]));
    let next = page.header("link").expect("a next page");
    assert_eq!(next, "</v2/a/b/tags/list?n=2&last=2>; rel=\"next\"");
    let page = list("?n=2&last=2");
    assert_eq!(page.json()["tags"], json!(["2.0", "many"]));
    assert_eq!(page.header("link"), None);
    assert_eq!(list("?n=0").json()["tags"], json!([]));
    assert_eq!(list("?last=zzz").json()["tags"], json!([]));
    refused(
        registry.send("GET", "/v2/a/b/tags/list?n=-1", &[], b""),
        400,
        "UNSUPPORTED",
    );
    for name in ["a", "a/b/c", "a-b", "b"] {
        let blob = push_blob(&registry, name, b"blob");
        put_manifest(&registry, name, "1", &image(&blob, 4, "first"));
    }
    let catalog = |query: &str| {
        registry
            .send("GET", &format!("/v2/_catalog{query}"), &[], b"")
            .expect(200)
    };
    assert_eq!(
        catalog("").json()["repositories"],
        json!(["a", "a-b", "a/b", "a/b/c", "b"])
    );
    let page = catalog("?n=2&last=a");
    assert_eq!(page.json()["repositories"], json!(["a-b", "a/b"]));
    assert_eq!(
        page.header("link"),
        Some("</v2/_catalog?n=2&last=a%2Fb>; rel=\"next\"")
    );

    // Referrers, also of what is not there.
    for subject in [&first, &unknown] {
        let mut signature = image(&blob, 4, "signature");
        signature["subject"] = json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
        signature["artifactType"] = json!("application/vnd.test.signature+json");
        let bytes = signature.to_string().into_bytes();
        let id = digest(&bytes);
        let done = put(&id, MANIFEST, &bytes).expect(201);
        assert_eq!(done.header("oci-subject"), Some(subject.as_str()));
        let mut note = image(&blob, 4, "note");
        note["subject"] = signature["subject"].clone();
        put_manifest(&registry, "a/b", "", &note);
        let referrers = |query: &str| {
            registry
                .send(
                    "GET",
                    &format!("/v2/a/b/referrers/{subject}{query}"),
                    &[],
                    b"",
                )
                .expect(200)
        };
        let all = referrers("");
        assert_eq!(all.header("content-type"), Some(INDEX));
        assert_eq!(all.json()["manifests"].as_array().map(Vec::len), Some(2));
        for query in [
            "application/vnd.test.signature+json",
            "application%2Fvnd.test.signature%2Bjson",
        ] {
            let some = referrers(&format!("?artifactType={query}"));
            assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
            assert_eq!(
                some.json()["manifests"],
                json!([{
                    "mediaType": MANIFEST, "digest": id, "size": bytes.len(),
                    "artifactType": "application/vnd.test.signature+json",
                    "annotations": {"note": "signature"},
                }])
            );
        }
        // Without a type of its own it has that of its configuration.
        let some = referrers("?artifactType=application/vnd.test.config");
        assert_eq!(some.json()["manifests"].as_array().map(Vec::len), Some(1));
    }
    let none = registry
        .send(
            "GET",
            &format!("/v2/no/thing/referrers/{unknown}"),
            &[],
            b"",
        )
        .expect(200);
    assert_eq!(none.json()["manifests"], json!([]));
    refused(
        registry.send("GET", "/v2/a/b/referrers/latest", &[], b""),
        400,
        "DIGEST_INVALID",
    );

    // Paths that are none, methods that are none.
    refused(
        registry.send("GET", "/v2/A/tags/list", &[], b""),
        400,
        "NAME_INVALID",
    );
    refused(
        registry.send("GET", "/v2/a/../../etc/passwd", &[], b""),
        404,
        "UNSUPPORTED",
    );
    refused(
        registry.send("GET", "/v2/a%2f..%2f..%2fetc/blobs/x", &[], b""),
        400,
        "NAME_INVALID",
    );
    let wrong = registry
        .send("POST", "/v2/a/b/manifests/1", &[], b"")
        .expect(405);
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, PUT, DELETE"));
}
