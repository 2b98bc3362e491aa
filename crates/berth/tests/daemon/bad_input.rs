//! Bad input gives a clear error, the documented exit code or status, and nothing half-made.

use berth_testkit::{Client, Command, Daemon, daemon};
use serde_json::{Value, json};

#[test]
fn the_client_says_what_was_wrong() {
    let daemon = Daemon::start();
    // A start that fails for a missing file counts as a missing command: the client goes by the text.
    let table = [
        (
            "run --rm no-such-image-here/at-all:1 true",
            125,
            "no-such-image-here",
        ),
        (
            "run --rm --network none busybox no-such-command",
            127,
            "no-such-command",
        ),
        (
            "run --rm --network none busybox /etc/passwd",
            126,
            "permission denied",
        ),
        (
            "run --rm --network none --workdir relative busybox true",
            125,
            "relative",
        ),
        (
            "run --rm --network none --memory -1 busybox true",
            125,
            "-1",
        ),
        (
            "run --rm --network none --memory 12q busybox true",
            125,
            "12q",
        ),
        (
            "run --rm --network none --cpus abc busybox true",
            125,
            "abc",
        ),
        (
            "run --rm --network none --ulimit nofile busybox true",
            125,
            "nofile",
        ),
        ("run --rm --network none -e '' busybox true", 125, "env"),
        (
            "run --rm --network none -v a:b:c:d busybox true",
            125,
            "a:b:c:d",
        ),
        (
            "run --rm --network none --env-file /no/such/file busybox true",
            125,
            "/no/such/file",
        ),
        (
            "run --rm --network none --stop-signal NOPE busybox true",
            125,
            "nope",
        ),
        (
            "run --rm --network none --health-interval 1 --health-cmd x busybox true",
            125,
            "1",
        ),
        (
            "run --rm --network none --pid nowhere busybox true",
            125,
            "invalid PID mode",
        ),
        (
            "run --rm --network none --runtime no-such busybox true",
            125,
            "no-such",
        ),
        (
            "run --rm --network none --device /no/such/device busybox true",
            127,
            "/no/such/device",
        ),
        (
            "run --rm --network none --security-opt seccomp=/no/such busybox true",
            125,
            "/no/such",
        ),
        ("run --no-such-flag busybox", 125, "--no-such-flag"),
        ("run", 1, "requires at least 1 argument"),
        ("ps --no-such-flag", 125, "--no-such-flag"),
        ("stop --timeout abc x", 125, "abc"),
        ("no-such-command", 1, "no-such-command"),
        ("start no-such-container", 1, "no-such-container"),
        ("logs no-such-container", 1, "no-such-container"),
        ("rm no-such-container", 1, "no-such-container"),
        ("inspect no-such-thing", 1, "no-such-thing"),
        ("load -i /no/such/file", 1, "/no/such/file"),
        ("exec no-such-container true", 1, "no-such-container"),
        ("update --memory nonsense x", 125, "nonsense"),
    ];
    let before = daemon.containers();
    for (line, code, word) in table {
        daemon.berth(line).exits(code).says(word);
    }
    assert_eq!(daemon.containers(), before, "nothing half-made");
    daemon.assert_clean();
}

#[test]
fn a_socket_that_is_not_there_is_named() {
    let binary = daemon::executable().expect("the executable under test");
    for (line, code) in [
        ("ps", 1),
        ("run --rm busybox true", 125),
        ("version", 1),
        ("exec x true", 1),
    ] {
        let seen = Command::new(&binary)
            .args(["-H", "unix:///no/such/place/berth.sock"])
            .args(line.split(' '))
            .run()
            .exits(code)
            .says("/no/such/place/berth.sock");
        assert!(!seen.stderr.contains("panicked"), "{seen}");
    }
    let by_variable = Command::new(&binary)
        .arg("ps")
        .env("DOCKER_HOST", "unix:///no/such/other.sock")
        .without_env("BERTH_HOST")
        .run();
    by_variable.exits(1).says("/no/such/other.sock");
    Command::new(&binary)
        .args(["-H", "nonsense://x", "ps"])
        .run()
        .exits(1)
        .says("nonsense");
}

#[test]
fn the_api_answers_with_a_status_and_a_message() {
    let daemon = Daemon::start();
    daemon
        .berth("create --network none --name box busybox true")
        .ok();
    let create = "/containers/create";
    let ok = json!({"Image": "busybox"});
    let cases: Vec<(&str, &str, Vec<u8>, u16)> = vec![
        ("POST", create, b"{".to_vec(), 400),
        ("POST", create, b"".to_vec(), 400),
        ("POST", create, b"[]".to_vec(), 400),
        ("POST", create, br#"{"Image": 7}"#.to_vec(), 400),
        (
            "POST",
            create,
            br#"{"Image": "busybox"} trailing"#.to_vec(),
            400,
        ),
        (
            "POST",
            create,
            br#"{"Image": "busybox", "HostConfig": {"Memory": "x"}}"#.to_vec(),
            400,
        ),
        (
            "POST",
            create,
            br#"{"Image": "busybox", "HostConfig": {"Memory": 1024}}"#.to_vec(),
            400,
        ),
        (
            "POST",
            create,
            br#"{"Image": "no-such-image"}"#.to_vec(),
            404,
        ),
        ("POST", create, br#"{"Image": "UPPER CASE"}"#.to_vec(), 400),
        (
            "POST",
            "/containers/create?name=box",
            ok.to_string().into_bytes(),
            409,
        ),
        (
            "POST",
            "/containers/create?name=%2e%2e%2fup",
            ok.to_string().into_bytes(),
            400,
        ),
        ("GET", "/containers/no-such/json", vec![], 404),
        ("GET", "/containers/json?filters=nonsense", vec![], 400),
        (
            "GET",
            "/containers/json?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D",
            vec![],
            400,
        ),
        ("POST", "/containers/box/kill", vec![], 409),
        ("POST", "/containers/box/kill?signal=NOPE", vec![], 400),
        ("POST", "/containers/box/resize?h=x&w=y", vec![], 400),
        ("POST", "/containers/box/rename?name=", vec![], 400),
        (
            "POST",
            "/containers/box/wait?condition=nonsense",
            vec![],
            400,
        ),
        ("GET", "/containers/box/logs", vec![], 400),
        (
            "POST",
            "/containers/box/exec",
            br#"{"Cmd": ["true"]}"#.to_vec(),
            409,
        ),
        ("POST", "/exec/no-such/start", b"{}".to_vec(), 404),
        ("GET", "/no/such/route", vec![], 404),
        ("GET", "/images/no-such/json", vec![], 404),
        ("DELETE", "/images/no-such", vec![], 404),
        ("GET", "/events?since=nonsense", vec![], 400),
    ];
    for (method, target, body, status) in cases {
        let answer = daemon.api_bytes(method, target, &body);
        let text = answer.text();
        assert_eq!(answer.status, status, "{method} {target}: {text}");
        let message = answer.json()["message"].clone();
        assert!(
            matches!(&message, Value::String(text) if !text.is_empty()),
            "{method} {target}: {text}"
        );
    }
    let list = daemon.containers();
    assert_eq!(list.len(), 1, "nothing half-made: {list:?}");
    // Sizes without bound are refused before they are read.
    let huge = format!("{{\"Image\": \"{}\"}}", "x".repeat(20 << 20));
    let refused = berth_testkit::http::request(
        daemon.connect().expect("a connection"),
        "POST",
        "/v1.41/containers/create",
        &[("Content-Type", "application/json")],
        huge.as_bytes(),
    );
    if let Ok(answer) = refused {
        assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
    }
    daemon.docker("ps").ok();
    assert_eq!(
        daemon
            .command(Client::Docker, "version -f '{{.Server.Os}}'")
            .run()
            .ok()
            .text(),
        "linux"
    );
}

#[test]
fn bad_daemon_options_are_refused() {
    let scratch = berth_testkit::scratch::Scratch::new();
    let binary = daemon::executable().expect("the executable under test");
    let base = |extra: &[&str]| {
        Command::new(&binary)
            .arg("daemon")
            .arg("--data-root")
            .arg(scratch.path().join("data"))
            .arg("--exec-root")
            .arg(scratch.path().join("run"))
            .arg("-H")
            .arg(format!("unix://{}", scratch.path().join("s").display()))
            .args(extra)
            .run()
    };
    let unknown_key = scratch.write("unknown.json", "{\"no-such-key\": 1}");
    let broken = scratch.write("broken.json", "{\"debug\": ");
    for (extra, word) in [
        (vec!["--no-such-option"], "--no-such-option".to_owned()),
        (
            vec!["--config-file", unknown_key.to_str().expect("text")],
            "no-such-key".to_owned(),
        ),
        (
            vec!["--config-file", broken.to_str().expect("text")],
            broken.display().to_string(),
        ),
        (
            vec!["--config-file", "/no/such/file"],
            "/no/such/file".to_owned(),
        ),
        (vec!["--default-runtime", "no-such"], "no-such".to_owned()),
        (vec!["--registry-mirror", "nonsense"], "nonsense".to_owned()),
    ] {
        let seen = base(&extra);
        assert_ne!(seen.code(), 0, "{seen}");
        assert!(seen.stderr.contains(&word), "{word:?} expected: {seen}");
    }
}
