//! Processes of a container and their namespaces.

use std::fs;

use berth_testkit::wait;

use crate::subject::Subject;

pub(crate) fn namespaces_can_be_shared(on: &Subject) {
    for (flag, name) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts")] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).expect("our namespace");
        let read = format!("busybox readlink /proc/self/ns/{name}");
        let shared = on.run(&format!("--rm {flag} host {read}")).ok();
        assert_eq!(shared.text(), own.to_string_lossy(), "{flag} host");
        let apart = on.run(&format!("--rm {read}")).ok();
        assert_ne!(apart.text(), own.to_string_lossy(), "no {flag}");
    }
    on.sleeper("base", "--ipc shareable");
    on.run("--rm --pid container:base busybox ps")
        .ok()
        .prints("sleep 1000");
    let base = on.cli("exec base readlink /proc/self/ns/ipc").ok();
    let joined = on
        .run("--rm --ipc container:base busybox readlink /proc/self/ns/ipc")
        .ok();
    assert_eq!(base.text(), joined.text());
}

pub(crate) fn init_reaps_orphans(on: &Subject) {
    let orphan = "sh -c 'sh -c \"sleep 0.1 & exit\"; sleep 1000'";
    on.run(&format!("-d --name with --init busybox {orphan}"))
        .ok();
    on.daemon.wait_for("with", "running");
    on.cli("exec with cat /proc/1/cmdline")
        .ok()
        .prints("docker-init");
    wait::until("no zombie is left", || {
        let list = on.cli("exec with ps -o stat,comm").ok();
        list.stdout.contains("sleep") && !list.stdout.contains('Z')
    });
    // The signal goes on to the child, and its code comes back.
    on.run("-d --name code --init busybox sh -c 'trap \"exit 6\" TERM; echo up; while :; do sleep 0.05; done'")
        .ok();
    wait::until("the trap is set", || on.cli("logs code").text() == "up");
    on.cli("stop code").ok();
    assert_eq!(on.daemon.inspect("code")["State"]["ExitCode"], 6);
}

pub(crate) fn pause_freezes(on: &Subject) {
    on.run("-d --name clock busybox sh -c 'while :; do echo tick; sleep 0.02; done'")
        .ok();
    wait::until("it ticks", || {
        on.cli("logs clock").stdout.lines().count() > 2
    });
    on.cli("pause clock").ok();
    let state = on.daemon.inspect("clock")["State"].clone();
    assert_eq!(
        (&state["Status"], &state["Paused"], &state["Running"]),
        (&"paused".into(), &true.into(), &true.into())
    );
    on.cli("pause clock").exits(1).says("already paused");
    let pid = on.daemon.container_pid("clock");
    wait::until("the log stands still", || {
        let before = on.cli("logs clock").stdout.len();
        let state = berth_testkit::process::parent_and_state(pid);
        on.cli("logs clock").stdout.len() == before && state.is_some()
    });
    on.cli("unpause clock").ok();
    assert_eq!(on.daemon.status("clock"), "running");
    let count = on.cli("logs clock").stdout.lines().count();
    wait::until("it ticks again", || {
        on.cli("logs clock").stdout.lines().count() > count
    });
    on.cli("unpause clock").exits(1).says("not paused");
}
