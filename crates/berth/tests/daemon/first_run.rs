//! The first command on a bare machine: the client starts the engine by itself.

use std::time::Duration;

use berth_testkit::{Command, daemon, needs};

/// Runs `script` where /run and /var/lib are empty, on a network of its own; all processes end with the script's.
#[track_caller]
fn on_a_bare_machine(script: &str) -> berth_testkit::Output {
    needs::root();
    let binary = daemon::executable().expect("the executable under test");
    let prepare =
        "ip link set lo up && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && ";
    Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork"])
        .args(["--mount-proc", "--kill-child"])
        .args(["sh", "-c", &format!("{prepare}{script}"), "sh"])
        .arg(binary)
        .without_env("DOCKER_HOST")
        .without_env("BERTH_HOST")
        .deadline(Duration::from_secs(120))
        .run()
}

#[test]
fn hello_starts_the_engine_and_runs() {
    let seen = on_a_bare_machine(
        "\"$1\" run --rm berth/hello; echo code $?; \"$1\" ps -aq; ls /run/berth",
    );
    seen.clone().ok().prints("code 0").prints("berth.sock");
    assert!(
        seen.stdout.lines().count() > 3,
        "it tells what it did: {seen}"
    );
}

#[test]
fn the_second_command_finds_the_engine_of_the_first() {
    let seen = on_a_bare_machine(
        "\"$1\" run -d --name box --network none berth/hello >/dev/null; \
         \"$1\" wait box; \"$1\" logs box | head -1; \
         for p in /proc/[0-9]*; do \
         test \"$(tr '\\0' ' ' < $p/cmdline | cut -d' ' -f2)\" = daemon && echo $p; done | wc -l",
    );
    let lines: Vec<&str> = seen.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"0"), "{seen}");
    assert_eq!(lines.last(), Some(&"1"), "one daemon: {seen}");
}

#[test]
fn a_named_host_is_never_replaced_by_a_new_engine() {
    let seen = on_a_bare_machine("\"$1\" -H unix:///run/none.sock ps; echo code $?; ls /run");
    assert!(
        seen.stdout.contains("code 1") && !seen.stdout.contains("berth"),
        "{seen}"
    );
    seen.says("/run/none.sock");
}
