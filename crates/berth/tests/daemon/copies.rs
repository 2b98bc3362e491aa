//! Copies while the container does its worst: what it exchanges meanwhile never leads outside.

use std::fs;
use std::path::Path;

use berth_testkit::Daemon;
use berth_testkit::archive::Layer;

const SECRET: &str = "only the host may read this";

/// Everything in a directory, by name.
fn listing(path: &Path) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(path)
        .expect("a directory")
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read_to_string(entry.path()).unwrap_or_default())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn links_exchanged_during_a_copy_never_lead_outside() {
    let daemon = Daemon::start();
    let outside = daemon.scratch().path().join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("secret"), SECRET).expect("a file");
    let before = listing(&outside);
    let host = outside.display();
    // A directory and a file that are by turns what they seem, a link to a path of the host, a pipe, a device.
    let script = format!(
        "mkdir /t; while :; do \
           mkdir /t/d /t/d/sub; echo own > /t/d/secret; echo own > /t/f; \
           rm -rf /t/d /t/f; ln -s {host} /t/d; ln -s {host}/secret /t/f; \
           rm -f /t/d /t/f; ln -s ../../../../../../../../../..{host} /t/d; mkfifo /t/f; \
           rm -f /t/d /t/f; mkdir /t/d; ln -s {host} /t/d/sub; mknod /t/f c 1 5; \
           rm -rf /t/d /t/f; done"
    );
    daemon
        .berth(&format!(
            "run -d --network none --name hostile busybox sh -c '{script}'"
        ))
        .ok();
    let planted = Layer::new()
        .file("planted", 0o644, "planted")
        .directory("sub/", 0o755)
        .file("sub/planted", 0o644, "planted")
        .hard_link("sub/linked", "secret")
        .finish();
    let (mut read, mut written, mut refused) = (0, 0, 0);
    for round in 0..240 {
        let path = ["/t/d", "/t/d/.", "/t/f", "/t", "/t/d/sub/."][round % 5];
        let target = format!("/containers/hostile/archive?path={path}");
        let answer = daemon.api("GET", &target, None);
        assert!(
            !answer.text().contains(SECRET),
            "{path} led to a file of the host"
        );
        assert!(
            matches!(answer.status, 200 | 400 | 404),
            "{}",
            answer.text()
        );
        read += usize::from(answer.status == 200);
        let path = ["/t/d", "/t/d/sub"][round % 2];
        let target = format!("/containers/hostile/archive?path={path}");
        let answer = daemon.api_bytes("PUT", &target, &planted);
        if answer.status == 200 {
            written += 1;
        } else {
            refused += 1;
        }
        assert_eq!(
            listing(&outside),
            before,
            "{path} led to a directory of the host"
        );
    }
    assert!(
        read > 20,
        "{read} reads, {written} writes, {refused} refused"
    );
    // The daemon is as well as before.
    daemon.berth("exec hostile true").ok();
}

#[test]
fn archives_put_into_containers_stay_in_their_directory() {
    let daemon = Daemon::start();
    daemon
        .berth("run -d --network none --name box busybox sh -c 'mkdir /in; ln -s / /in/up; sleep 1000'")
        .ok();
    let outside = daemon.scratch().path().join("escaped");
    let name = outside.display().to_string();
    for (what, layer) in [
        ("dots", Layer::new().file("../../escaped", 0o644, "x")),
        (
            "dots in links",
            Layer::new().hard_link("x", "../../etc/passwd"),
        ),
    ] {
        let answer = daemon.api_bytes("PUT", "/containers/box/archive?path=/in", &layer.finish());
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    }
    // Absolute names and links are within the container.
    let layer = Layer::new()
        .symlink("host", &name)
        .file("host2", 0o644, "x")
        .file("up/by-link", 0o644, "in the container's root\n")
        .finish();
    daemon
        .api_bytes("PUT", "/containers/box/archive?path=/in", &layer)
        .expect(200);
    daemon
        .berth("exec box cat /by-link")
        .ok()
        .prints("in the container's root");
    assert!(!outside.exists() && !Path::new("/by-link").exists());
    // What is no archive, and what is cut off, is refused.
    for body in [&b"not an archive at all"[..], &layer[..700]] {
        let answer = daemon.api_bytes("PUT", "/containers/box/archive?path=/in", body);
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    daemon
        .api_bytes("PUT", "/containers/box/archive?path=/etc/passwd", &layer)
        .expect(400);
    daemon
        .api_bytes("PUT", "/containers/box/archive", &layer)
        .expect(400);
    daemon
        .api_bytes("PUT", "/containers/box/archive?path=/none", &layer)
        .expect(404);
}
