//! Standard streams: run, attach, logs.

use std::io::{Read, Write};
use std::process::Stdio;

use berth_testkit::wait;

use crate::subject::Subject;

pub(crate) fn output_is_split_and_complete(on: &Subject) {
    let both = on.run("--rm busybox sh -c 'echo out; echo err >&2'").ok();
    assert_eq!(
        (both.stdout.as_str(), both.stderr.as_str()),
        ("out\n", "err\n")
    );
    let much = on.run("--name much busybox seq 1 100000").ok();
    assert_eq!(
        much.stdout.lines().count(),
        100_000,
        "nothing of much output is lost"
    );
    assert_eq!(
        on.cli("logs much").ok().stdout,
        much.stdout,
        "nor in the log"
    );
    // Without a line end, and a line far longer than any buffer.
    assert_eq!(on.run("--rm busybox printf end").ok().stdout, "end");
    let long = on
        .run("--name long busybox sh -c 'head -c 300000 /dev/zero | tr \"\\0\" x'")
        .ok();
    assert_eq!(long.stdout.len(), 300_000);
    assert_eq!(on.cli("logs long").ok().stdout.trim_end().len(), 300_000);
}

pub(crate) fn standard_input_reaches_the_process(on: &Subject) {
    let cat = on
        .command("run --network none --rm -i busybox cat")
        .stdin("a\nb\n")
        .run()
        .ok();
    assert_eq!(cat.stdout, "a\nb\n");
    // The end of our input is the end of its input, and its answer still arrives.
    let sum = on
        .command("run --network none --rm -i busybox md5sum")
        .stdin("x".repeat(500_000))
        .run()
        .ok();
    sum.prints("  -");
    let closed = on
        .command("run --network none --rm busybox cat")
        .stdin("lost")
        .run()
        .ok();
    assert_eq!(closed.stdout, "");
}

pub(crate) fn logs_select_and_follow(on: &Subject) {
    on.run("--name five busybox sh -c 'for i in 1 2 3 4 5; do echo $i; done; echo err >&2'")
        .ok();
    let of = |flags: &str| on.cli(&format!("logs {flags} five")).ok();
    assert_eq!(of("").stdout, "1\n2\n3\n4\n5\n");
    assert_eq!(of("").stderr, "err\n");
    let two = of("--tail 2");
    assert_eq!(format!("{}{}", two.stdout, two.stderr).lines().count(), 2);
    assert_eq!(of("--tail 0").stdout, "");
    let stamped = of("-t").stdout;
    let stamp = stamped.split(' ').next().unwrap_or_default();
    assert!(stamp.len() >= 20 && stamp.ends_with('Z'), "{stamped}");
    assert_eq!(of("--since 1h").stdout, "1\n2\n3\n4\n5\n");
    assert_eq!(of("--until 1h").stdout, "");
    assert_eq!(of("--since 2100-01-01").stdout, "");
    on.cli("logs no-such-container")
        .exits(1)
        .says("no such container");

    // Following ends when the container does, with everything written until then.
    on.run("-d --name live busybox sh -c 'for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.05; done'")
        .ok();
    assert_eq!(
        on.cli("logs -f live").ok().stdout,
        "1\n2\n3\n4\n5\n6\n7\n8\n"
    );
    // Each run of a container adds to its log.
    on.cli("start five").ok();
    on.daemon.wait_for("five", "exited");
    assert_eq!(of("").stdout.lines().count(), 10);
    // The other driver has its own files and the same answers.
    on.run("--name local --log-driver local busybox seq 1 1000")
        .ok();
    assert_eq!(on.cli("logs --tail 2 local").ok().stdout, "999\n1000\n");
    on.run("--name bounded --log-opt max-size=10k --log-opt max-file=2 busybox seq 1 10000")
        .ok();
    let kept = on.cli("logs bounded").ok();
    assert!(kept.stdout.lines().count() < 10_000 && kept.stdout.ends_with("10000\n"));
    on.run("--rm --log-driver no-such-driver busybox true")
        .exits(125)
        .says("no-such-driver");
    on.run("--name mute --log-driver none busybox echo x")
        .ok()
        .prints("x");
    on.cli("logs mute").exits(1);
}

pub(crate) fn attach_sees_what_follows(on: &Subject) {
    on.cli("create --network none -i --name parrot busybox sh -c 'while read x; do echo heard $x; done'")
        .ok();
    on.cli("start parrot").ok();
    // Two at once: both hear, either may speak.
    let listen = || {
        on.command("attach parrot")
            .into_inner()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("attach starts")
    };
    let mut first = listen();
    let mut second = listen();
    let mut input = first.stdin.take().expect("a pipe");
    let mut heard = second.stdout.take().expect("a pipe");
    // The second may attach after the first line; it hears one of the later ones.
    let speaker = std::thread::spawn(move || {
        let mut seen = String::new();
        let mut buffer = [0; 256];
        while !seen.contains("heard stop") {
            match heard.read(&mut buffer) {
                Ok(count @ 1..) => seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                _ => break,
            }
        }
        seen
    });
    wait::until("both hear", || {
        input.write_all(b"stop\n").expect("the first may speak");
        speaker.is_finished()
    });
    assert!(speaker.join().expect("a listener").contains("heard stop"));
    drop((first.kill(), second.kill()));
    drop((first.wait(), second.wait()));
    on.cli("attach no-such-container")
        .exits(1)
        .says("no such container");
    // `create -i` sets StdinOnce: with the first client its standard input ends.
    on.daemon.wait_for("parrot", "exited");
    on.cli("attach parrot").exits(1).says("stopped container");
}
