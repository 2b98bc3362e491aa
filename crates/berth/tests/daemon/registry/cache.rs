//! A cache of another registry: fetched once, given out while it comes, served when the other is away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use berth_testkit::archive::digest;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{Daemon, Engine, Settings, http, wait};

use super::{MANIFEST, image, push_blob, put_manifest, refused};

fn cache(scratch: &Scratch, name: &str, upstream: &str, more: &[&str]) -> Served {
    let arguments = [&["--upstream", upstream], more].concat();
    Served::start(&scratch.path().join(name), &arguments)
}

/// How many requests a registry has answered that look like this.
fn asked(registry: &Served, words: &str) -> usize {
    registry
        .log()
        .lines()
        .filter(|line| line.contains(words))
        .count()
}

#[test]
fn what_is_asked_for_is_fetched_once_and_stays() {
    let scratch = Scratch::new();
    let mut upstream = Served::start(&scratch.path().join("upstream"), &[]);
    let content = vec![7; 3 << 20];
    let blob = push_blob(&upstream, "team/app", &content);
    let secret = push_blob(&upstream, "team/app", b"named by no manifest");
    let first = put_manifest(
        &upstream,
        "team/app",
        "1",
        &image(&blob, content.len(), "first"),
    );
    let at = format!("http://{}", upstream.host());
    let mut cache = cache(&scratch, "cache", &at, &["--fresh", "0s"]);
    let get =
        |cache: &Served, what: &str| cache.send("GET", &format!("/v2/team/app/{what}"), &[], b"");

    refused(get(&cache, &format!("blobs/{blob}")), 404, "BLOB_UNKNOWN");
    refused(get(&cache, "manifests/none"), 404, "MANIFEST_UNKNOWN");
    let got = get(&cache, "manifests/1").expect(200);
    assert_eq!(got.header("docker-content-digest"), Some(first.as_str()));
    assert_eq!(got.header("content-type"), Some(MANIFEST));
    // Many at once, one fetch.
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                let got = get(&cache, &format!("blobs/{blob}")).expect(200);
                assert!(got.body == content, "another blob came");
            });
        }
    });
    let part = cache.send(
        "GET",
        &format!("/v2/team/app/blobs/{blob}"),
        &[("Range", "bytes=1-2")],
        b"",
    );
    assert_eq!(part.expect(206).body, [7, 7]);
    assert_eq!(asked(&upstream, "\"GET /v2/team/app/blobs/"), 1);
    refused(get(&cache, &format!("blobs/{secret}")), 404, "BLOB_UNKNOWN");

    // Asked again by HEAD only, and followed when it changes.
    get(&cache, "manifests/1").expect(200);
    get(&cache, &format!("manifests/{first}")).expect(200);
    assert_eq!(asked(&upstream, "\"HEAD /v2/team/app/manifests/1\""), 1);
    assert_eq!(asked(&upstream, "\"GET /v2/team/app/manifests/1\""), 1);
    let second = put_manifest(
        &upstream,
        "team/app",
        "1",
        &image(&blob, content.len(), "second"),
    );
    let got = get(&cache, "manifests/1").expect(200);
    assert_eq!(got.header("docker-content-digest"), Some(second.as_str()));

    // It takes nothing but removals.
    let begun = cache.send("POST", "/v2/team/app/blobs/uploads/", &[], b"");
    refused(begun, 405, "UNSUPPORTED");

    // The upstream is away, then the cache itself was.
    put_manifest(
        &upstream,
        "team/app",
        "gone",
        &image(&blob, content.len(), "gone"),
    );
    get(&cache, "manifests/gone").expect(200);
    upstream.terminate();
    for _ in 0..2 {
        get(&cache, "manifests/1").expect(200);
        get(&cache, &format!("blobs/{blob}")).expect(200);
        let failed = get(&cache, "manifests/2").expect(502);
        assert!(
            failed.text().contains(&upstream.host()),
            "{}",
            failed.text()
        );
        cache.kill();
        cache.launch();
    }
    // Back again, without one of its tags.
    upstream.launch();
    upstream
        .send("DELETE", "/v2/team/app/manifests/gone", &[], b"")
        .expect(202);
    refused(get(&cache, "manifests/gone"), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn an_engine_pulls_through_a_cache_with_a_login_upstream() {
    let scratch = Scratch::new();
    let users = scratch
        .write("users", super::security::USERS)
        .display()
        .to_string();
    let secret = scratch.write("secret", "secret\n").display().to_string();
    let mut upstream = Served::start(&scratch.path().join("upstream"), &[]);
    let name = format!("{}/library/busybox:1", upstream.host());
    super::clients::push_test_image(&scratch, &name);
    // From now on it wants a login.
    upstream.terminate();
    let upstream = Served::start(&scratch.path().join("upstream"), &["--auth-file", &users]);
    let at = format!("http://{}", upstream.host());
    let without = cache(&scratch, "without", &at, &[]);
    refused(
        without.send("GET", "/v2/library/busybox/manifests/1", &[], b""),
        403,
        "DENIED",
    );
    let login = ["--upstream-user", "me", "--upstream-password-file", &secret];
    let cache = cache(&scratch, "with", &at, &login);
    let settings = Settings {
        arguments: vec![
            "--registry-mirror".into(),
            format!("http://{}", cache.host()),
        ],
        without_images: true,
        ..Settings::default()
    };
    let daemon = Daemon::with(Engine::Berth, settings);
    daemon
        .berth("run --rm --network none busybox:1 echo through a cache")
        .ok()
        .prints("through a cache");
}

type Answer = Box<dyn FnOnce(&mut TcpStream) + Send>;

/// An upstream that answers what the test tells it to, one connection after the other.
struct Scripted {
    port: u16,
    answers: Sender<Answer>,
    requests: Receiver<String>,
}

impl Scripted {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (answers, told) = channel::<Answer>();
        let (seen, requests) = channel();
        std::thread::spawn(move || {
            for answer in told {
                let (stream, _) = listener.accept().expect("a connection");
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        break;
                    }
                }
                let _ = seen.send(head);
                answer(reader.get_mut());
            }
        });
        Self {
            port,
            answers,
            requests,
        }
    }

    fn answer(&self, answer: impl FnOnce(&mut TcpStream) + Send + 'static) {
        self.answers.send(Box::new(answer)).expect("it runs");
    }

    fn whole(&self, status: &str, kind: &str, body: Vec<u8>) {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        self.answer(move |stream| {
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        });
    }
}

#[test]
fn content_goes_out_while_it_comes_and_a_broken_fetch_is_taken_up() {
    let scratch = Scratch::new();
    let upstream = Scripted::start();
    let cache = cache(
        &scratch,
        "cache",
        &format!("http://127.0.0.1:{}", upstream.port),
        &[],
    );
    let content = vec![9; 1 << 20];
    let id = digest(&content);
    let manifest = image(&id, content.len(), "slow").to_string().into_bytes();
    upstream.whole("200 OK", MANIFEST, manifest);
    cache.send("GET", "/v2/a/manifests/1", &[], b"").expect(200);
    upstream.requests.recv().expect("a request");

    // Half of it, and then the connection breaks when the test says so.
    let half = content.len() / 2;
    let (go_on, waiting) = channel::<()>();
    let (first, rest) = (content[..half].to_vec(), content[half..].to_vec());
    let length = content.len();
    upstream.answer(move |stream| {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&first);
        let _ = waiting.recv();
    });
    upstream.answer(move |stream| {
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {half}-{}/{length}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            length - 1,
            rest.len()
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&rest);
    });
    let mut client = http::loopback(cache.port()).expect("connected");
    let ask = format!("GET /v2/a/blobs/{id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client.write_all(ask.as_bytes()).expect("sent");
    // Bytes are here before all of them are there.
    let mut early = vec![0; 100_000];
    client
        .read_exact(&mut early)
        .expect("bytes while they come");
    go_on.send(()).expect("it waits");
    let mut late = Vec::new();
    client.read_to_end(&mut late).expect("the rest");
    let answer = [early, late].concat();
    assert!(answer.ends_with(&content), "the answer is another one");
    upstream.requests.recv().expect("a request");
    let resumed = upstream.requests.recv().expect("a request");
    assert!(
        resumed
            .to_lowercase()
            .contains(&format!("range: bytes={half}-")),
        "{resumed}"
    );

    // One that lies never has its last byte given out, and is not kept.
    let lie = digest(b"the truth");
    let manifest = image(&lie, 9, "lie").to_string().into_bytes();
    upstream.whole("200 OK", MANIFEST, manifest);
    cache
        .send("GET", "/v2/a/manifests/lie", &[], b"")
        .expect(200);
    upstream.whole("200 OK", "application/octet-stream", b"not truth".to_vec());
    let mut client = http::loopback(cache.port()).expect("connected");
    let ask = format!("GET /v2/a/blobs/{lie} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client.write_all(ask.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert!(!answer.ends_with(b"not truth"), "a lie was passed on whole");
    wait::until("what came is thrown away", || {
        let incoming = cache.root().join("incoming");
        std::fs::read_dir(incoming).is_ok_and(|mut files| files.next().is_none())
    });
}
