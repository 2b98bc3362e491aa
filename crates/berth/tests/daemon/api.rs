//! The Engine API on the wire.

use std::io::{Read, Write};
use std::net::Shutdown;

use berth_testkit::http;
use berth_testkit::{Daemon, wait};
use serde_json::json;

#[test]
fn versions_are_negotiated() {
    let daemon = Daemon::start();
    let get = |target: &str| {
        let connection = daemon.connect().expect("a connection");
        http::request(connection, "GET", target, &[], b"").expect("an answer")
    };
    let ping = get("/_ping").expect(200);
    assert_eq!(ping.text(), "OK");
    let newest = ping.header("api-version").expect("a version").to_owned();
    assert_eq!(ping.header("ostype"), Some("linux"));
    assert_eq!(
        get("/v1.24/version").expect(200).json()["ApiVersion"],
        newest.as_str()
    );
    assert_eq!(
        get(&format!("/v{newest}/version")).expect(200).json()["MinAPIVersion"],
        "1.24"
    );
    get("/version").expect(200);
    let old = get("/v1.12/containers/json").expect(400);
    // Before 1.24 errors were plain text, and a client that old gets what it can read.
    assert!(old.text().contains("too old"), "{}", old.text());
    let new = get("/v9.99/containers/json").expect(400);
    assert!(new.text().contains("too new"), "{}", new.text());
    let connection = daemon.connect().expect("a connection");
    let head = http::request(connection, "HEAD", "/_ping", &[], b"").expect("an answer");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let info = get("/info").expect(200).json();
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["Images"], 2, "busybox and the image that is built in");
}

#[test]
fn attach_streams_are_framed_and_half_closed() {
    let daemon = Daemon::start();
    let body = json!({
        "Image": "busybox",
        "Cmd": ["sh", "-c", "cat; echo problem >&2"],
        "OpenStdin": true, "StdinOnce": true, "AttachStdin": true,
        "HostConfig": {"NetworkMode": "none"},
    });
    let made = daemon
        .api("POST", "/containers/create?name=raw", Some(&body))
        .expect(201);
    let id = made.json()["Id"].as_str().expect("an id").to_owned();
    let target = "/v1.41/containers/raw/attach?stream=1&stdin=1&stdout=1&stderr=1";
    let (head, mut reader) =
        http::upgrade(daemon.connect().expect("a connection"), target, b"").expect("a stream");
    assert_eq!(head.status, 101, "{}", head.text());
    daemon
        .api("POST", &format!("/containers/{id}/start"), None)
        .expect(204);
    reader
        .get_mut()
        .write_all(b"typed\n")
        .expect("standard input");
    // Only our half is closed: the answer comes after it.
    reader
        .get_mut()
        .shutdown(Shutdown::Write)
        .expect("half a close");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("the rest");
    let mut both = [String::new(), String::new()];
    let mut rest = &bytes[..];
    while let [kind @ (1 | 2), 0, 0, 0, a, b, c, d, tail @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        both[usize::from(*kind) - 1].push_str(&String::from_utf8_lossy(&tail[..length]));
        rest = &tail[length..];
    }
    assert!(rest.is_empty(), "not framed: {bytes:?}");
    assert_eq!(both, ["typed\n".to_owned(), "problem\n".to_owned()]);
    daemon.wait_for("raw", "exited");
}

#[test]
fn waiting_comes_before_starting() {
    let daemon = Daemon::start();
    daemon
        .berth("create --network none --name soon busybox sh -c 'exit 8'")
        .ok();
    let socket = daemon.socket();
    let waiter = std::thread::spawn(move || {
        let target = "/v1.41/containers/soon/wait?condition=next-exit";
        http::request(http::unix(&socket)?, "POST", target, &[], b"")
    });
    // The head of the answer is sent at once; the body comes with the end.
    daemon.berth("start soon").ok();
    let mut answer = None;
    let mut waiter = Some(waiter);
    wait::until("an answer to wait", || {
        if waiter
            .as_ref()
            .is_some_and(std::thread::JoinHandle::is_finished)
        {
            answer = waiter.take().and_then(|thread| thread.join().ok());
        } else if daemon.status("soon") == "exited" && answer.is_none() {
            // It ended before the wait arrived: the next end is the one waited for.
            daemon.berth("start soon").ok();
        }
        answer.is_some()
    });
    let answer = answer
        .expect("an answer")
        .expect("a whole answer")
        .expect(200);
    assert_eq!(answer.json()["StatusCode"], 8);
}

#[test]
fn fifty_at_once() {
    let daemon = Daemon::start();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..50)
            .map(|number| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let seen =
                        daemon.berth(&format!("run --rm --network none busybox echo {number}"));
                    assert_eq!(seen.ok().text(), number.to_string());
                })
            })
            .collect();
        for one in all {
            one.join().expect("each of the fifty");
        }
    });
    daemon.assert_clean();
}
