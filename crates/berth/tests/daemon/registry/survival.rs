//! What a registry survives: its own end at any moment, many clients at once, clients that lie or crawl.

use std::io::{Read, Write};

use berth_testkit::archive::digest;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{http, wait};

use super::{begin, image, push_blob, put_manifest, refused};

/// Bytes of the blob that is cut off; more than one part that the registry writes.
const LARGE: usize = 3 << 20;

/// Some bytes that do not repeat.
fn large() -> Vec<u8> {
    let mut state = 1_u32;
    (0..LARGE)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

/// How much of an upload has come.
fn progress(registry: &Served, upload: &str) -> usize {
    let status = registry.send("GET", upload, &[], b"").expect(204);
    let range = status.header("range").expect("a range");
    let last: usize = range[2..].parse().expect("a number");
    if last == 0 { 0 } else { last + 1 }
}

#[test]
fn an_upload_goes_on_after_a_kill() {
    let scratch = Scratch::new();
    let mut registry = Served::start(&scratch.path().join("r"), &[]);
    let content = large();
    let id = digest(&content);
    let known = push_blob(&registry, "a", b"known");
    let manifest = put_manifest(&registry, "a", "1", &image(&known, 5, "first"));
    let upload = begin(&registry, "a");

    // Killed while a chunk comes, then while another one does.
    for half in [LARGE / 3, LARGE / 3 * 2] {
        let from = progress(&registry, &upload);
        let mut stream = http::loopback(registry.port()).expect("connected");
        let head = format!(
            "PATCH {upload} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            LARGE - from
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(&content[from..half]).expect("sent");
        wait::until("some of the chunk is there", || {
            progress(&registry, &upload) > from
        });
        registry.kill();
        registry.launch();
        let came = progress(&registry, &upload);
        assert!(came > from && came <= half, "{came}");
    }
    let from = progress(&registry, &upload);
    let range = format!("{from}-{}", LARGE - 1);
    let target = format!("{upload}?digest={id}");
    registry
        .send(
            "PUT",
            &target,
            &[("Content-Range", &range)],
            &content[from..],
        )
        .expect(201);
    // Acknowledged is there after the next kill as well.
    registry.kill();
    registry.launch();
    let got = registry
        .send("GET", &format!("/v2/a/blobs/{id}"), &[], b"")
        .expect(200);
    assert!(got.body == content, "the blob is another one");
    registry
        .send("GET", &format!("/v2/a/manifests/{manifest}"), &[], b"")
        .expect(200);
    registry
        .send("GET", "/v2/a/manifests/1", &[], b"")
        .expect(200);
    assert!(
        std::fs::read_dir(registry.root().join("uploads"))
            .expect("uploads")
            .next()
            .is_none(),
        "an ended upload is left"
    );
}

#[test]
fn kills_among_many_clients_lose_nothing_acknowledged() {
    let scratch = Scratch::new();
    let mut registry = Served::start(&scratch.path().join("r"), &[]);
    for round in 0..3 {
        let acknowledged = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|threads| {
            for client in 0..8 {
                let (acknowledged, port) = (&acknowledged, registry.port());
                threads.spawn(move || {
                    // Until the registry is gone.
                    for number in 0..100_000 {
                        let content = format!("{round} {client} {number}").into_bytes();
                        let id = digest(&content);
                        let target = format!("/v2/c{client}/blobs/uploads/?digest={id}");
                        let sent = http::loopback(port).and_then(|stream| {
                            http::request(stream, "POST", &target, &[], &content)
                        });
                        match sent {
                            Ok(done) if done.status == 201 => acknowledged
                                .lock()
                                .expect("a lock")
                                .push((format!("/v2/c{client}/blobs/{id}"), content)),
                            Ok(other) => panic!("{}: {}", other.status, other.text()),
                            Err(_) => return,
                        }
                    }
                });
            }
            wait::until("some blobs are acknowledged", || {
                acknowledged.lock().expect("a lock").len() >= 40
            });
            registry.kill();
        });
        registry.launch();
        for (target, content) in acknowledged.into_inner().expect("a lock") {
            let got = registry.send("GET", &target, &[], b"").expect(200);
            assert_eq!(got.body, content);
        }
    }
}

#[test]
fn hostile_requests_reach_nothing_and_cost_little() {
    let scratch = Scratch::new();
    let mut registry = Served::start(&scratch.path().join("r"), &[]);
    let raw = |bytes: &[u8]| {
        let mut stream = http::loopback(registry.port()).expect("connected");
        // It may refuse before all is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let close = "Host: x\r\nConnection: close\r\n";
    for path in [
        "/v2/../../../../etc/passwd",
        "/v2/a/blobs/uploads/../../../../etc/passwd",
        "/v2/a/blobs/uploads/..%2f..%2f..%2fregistry.db",
        "/v2/a/blobs/sha256:../../registry.db",
        "/v2/%2e%2e/blobs/uploads/x",
        "/v2/a/manifests/..",
    ] {
        let answer = raw(format!("GET {path} HTTP/1.1\r\n{close}\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
    }
    let long = format!(
        "GET /v2/ HTTP/1.1\r\n{close}X: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    // The answer may be lost with what nobody reads any more.
    let answer = raw(long.as_bytes());
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert!(raw(b"\x16\x03\x01\x00\x00").starts_with("HTTP/1.1 400"));
    let query = format!(
        "GET /v2/_catalog?last={} HTTP/1.1\r\n{close}\r\n",
        "x".repeat(20_000)
    );
    assert!(raw(query.as_bytes()).starts_with("HTTP/1.1 414"));
    let vast =
        format!("PUT /v2/a/manifests/1 HTTP/1.1\r\n{close}Content-Length: 99999999999\r\n\r\n");
    assert!(raw(vast.as_bytes()).starts_with("HTTP/1.1 413"));
    let upload = begin(&registry, "a");
    let vast = format!("PATCH {upload} HTTP/1.1\r\n{close}Content-Length: 999999999999\r\n\r\n");
    assert!(raw(vast.as_bytes()).starts_with("HTTP/1.1 413"));
    // A line of the log stays one line.
    raw(format!("GET /v2/ HTTP/1.1\r\n{close}User-Agent: a\"b\tforged\r\n\r\n").as_bytes());
    wait::until("the request is logged", || {
        registry.log().contains("forged")
    });
    assert!(
        registry.log().contains(r#""a\"b\tforged""#),
        "{}",
        registry.log()
    );
    // Too many levels for a parser that recurses.
    let deep = "[".repeat(1_000_000);
    refused(
        registry.send("PUT", "/v2/a/manifests/1", &[], deep.as_bytes()),
        400,
        "MANIFEST_INVALID",
    );
    // Many who send nothing do not keep it from ending.
    let idle: Vec<_> = (0..64)
        .map(|_| http::loopback(registry.port()).expect("connected"))
        .collect();
    registry.send("GET", "/v2/", &[], b"").expect(200);
    registry.terminate();
    drop(idle);
}
