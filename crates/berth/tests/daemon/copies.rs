//! Copies while the container does its worst: what it exchanges meanwhile never leads outside.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use berth_testkit::archive::Layer;
use berth_testkit::daemon::API;
use berth_testkit::random::Random;
use berth_testkit::{Daemon, http, wait};

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
    wait::until("the directory is there", || {
        daemon.berth("exec box ls /in/up/bin").code() == 0
    });
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

/// Begins a copy into a container and stops in the middle of the archive.
fn begin(daemon: &Daemon, container: &str, path: &str, archive: &[u8], half: usize) -> UnixStream {
    let mut stream = daemon.connect().expect("a connection");
    let head = format!(
        "PUT {API}/containers/{container}/archive?path={path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&archive[..half]).expect("sent");
    stream
}

#[test]
fn a_copy_and_a_start_share_one_file_system() {
    let daemon = Daemon::start();
    daemon
        .berth("create --network none --name box -v volume:/volume busybox sleep 100000")
        .ok();
    let id = daemon.inspect("box")["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let first = Layer::new()
        .directory("in", 0o755)
        .file("in/early", 0o644, "early")
        .file("in/filler", 0o644, vec![1; 1 << 20]);
    let half = first.finish().len() - 1024;
    let archive = Layer::new()
        .directory("in", 0o755)
        .file("in/early", 0o644, "early")
        .file("in/filler", 0o644, vec![1; 1 << 20])
        .file("in/late", 0o644, "late")
        .file("volume/late", 0o644, "late")
        .finish();
    let mut putting = begin(&daemon, "box", "/", &archive, half);
    let upper = daemon
        .data_root()
        .join(format!("layers/overlay/containers/{id}/upper"));
    wait::until("the copy is under way", || upper.join("in/early").exists());
    // It is started in the middle of it, looks for what is not there yet, and changes something itself.
    daemon.berth("start box").ok();
    daemon.berth("exec box cat /in/early").ok().prints("early");
    daemon.berth("exec box cat /in/late").exits(1);
    daemon.berth("exec box cat /volume/late").exits(1);
    daemon.berth("exec box ls /in").ok();
    daemon
        .berth("exec box sh -c 'mv /in/early /in/moved; echo own > /in/own'")
        .ok();
    putting.write_all(&archive[half..]).expect("sent");
    let mut answer = String::new();
    putting.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for path in ["/in/late", "/volume/late"] {
        daemon
            .berth(&format!("exec box cat {path}"))
            .ok()
            .prints("late");
    }
    let listed = daemon.berth("exec box ls /in").ok();
    assert_eq!(listed.stdout, "filler\nlate\nmoved\nown\n");

    // The other way round: what is read slowly neither waits for a start nor holds it up.
    daemon.berth("stop -t 0 box").ok();
    let mut reading = daemon.connect().expect("a connection");
    let head = format!(
        "GET {API}/containers/box/archive?path=/in HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    reading.write_all(head.as_bytes()).expect("sent");
    let mut some = [0; 512];
    reading.read_exact(&mut some).expect("an answer");
    daemon.berth("start box").ok();
    daemon.berth("exec box rm /in/own").ok();
    let mut rest = Vec::new();
    reading.read_to_end(&mut rest).expect("the archive");
    assert!(rest.len() > 1 << 20, "{} bytes", rest.len());
    daemon.berth("exec box ls /in/own").exits(1);
    daemon.assert_clean();
}

#[test]
fn copies_and_starts_at_any_moment_lose_nothing() {
    /// Starts and ends of the container.
    const ROUNDS: u64 = 12;
    /// Who copies at the same time.
    const COPIERS: u64 = 2;
    let (mut random, seed) = Random::from_environment();
    let daemon = Daemon::start();
    // Its program looks at the directory all the time, so that it has an idea of what is there.
    daemon
        .berth(
            "create --network none --name box -v volume:/volume busybox \
             sh -c 'while :; do ls /in /volume >/dev/null; done'",
        )
        .ok();
    let made = Layer::new().directory("in", 0o755).finish();
    daemon
        .api_bytes("PUT", "/containers/box/archive?path=/", &made)
        .expect(200);
    let over = AtomicBool::new(false);
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let copiers: Vec<_> = (0..COPIERS)
            .map(|copier| {
                let (socket, over) = (daemon.socket(), &over);
                scope.spawn(move || {
                    let mut done = Vec::new();
                    for number in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let name = format!("f{copier}-{number}");
                        let archive = Layer::new()
                            .file(&format!("in/{name}"), 0o644, &name)
                            .file(&format!("volume/{name}"), 0o644, &name)
                            .finish();
                        let target = format!("{API}/containers/box/archive?path=/");
                        let kind = [("Content-Type", "application/x-tar")];
                        let answer = http::unix(&socket)
                            .and_then(|c| http::request(c, "PUT", &target, &kind, &archive))
                            .expect("an answer");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        done.push(name);
                    }
                    done
                })
            })
            .collect();
        let moving = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..ROUNDS {
                daemon.berth("start box").ok();
                if random.below(2) == 0 {
                    daemon.berth("exec box ls /in").ok();
                }
                daemon.berth("stop -t 0 box").ok();
            }
            daemon.berth("start box").ok();
        }));
        over.store(true, Ordering::Relaxed);
        let done = copiers
            .into_iter()
            .flat_map(|c| c.join().expect("a copier"));
        let done = done.collect();
        if let Err(panic) = moving {
            std::panic::resume_unwind(panic);
        }
        done
    });
    assert!(acknowledged.len() > 20, "{} copies", acknowledged.len());
    for place in ["/in", "/volume"] {
        let listed = daemon.berth(&format!("exec box ls {place}")).ok().stdout;
        let missing: Vec<&String> = acknowledged
            .iter()
            .filter(|name| !listed.lines().any(|line| line == *name))
            .collect();
        assert!(
            missing.is_empty(),
            "seed {seed}: not in {place}: {missing:?}"
        );
        let script = format!("cat {place}/* | wc -c");
        let bytes: usize = acknowledged.iter().map(String::len).sum();
        daemon
            .berth(&format!("exec box sh -c '{script}'"))
            .ok()
            .prints(&bytes.to_string());
    }
    daemon.assert_clean();
}
