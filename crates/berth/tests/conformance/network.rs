//! The two networks of this release: none and the host's.

use std::fs;

use crate::subject::Subject;

pub(crate) fn none_and_host(on: &Subject) {
    let none = on
        .cli("run --rm --network none busybox ls /sys/class/net")
        .ok();
    let names: Vec<&str> = none
        .stdout
        .split_whitespace()
        .filter(|name| *name == "lo")
        .collect();
    assert_eq!(names, ["lo"]);
    on.cli("run --rm --network none busybox sh -c 'ping -c 1 -W 2 127.0.0.1'")
        .ok();
    let own = fs::read_link("/proc/self/ns/net").expect("our network namespace");
    on.cli("run --rm --network host busybox readlink /proc/self/ns/net")
        .ok()
        .prints(&own.to_string_lossy());
    let other = on
        .cli("run --rm --network none busybox readlink /proc/self/ns/net")
        .ok();
    assert_ne!(other.text(), own.to_string_lossy());
    // Joining another container's network.
    on.sleeper("base", "");
    let base = on.cli("exec base readlink /proc/self/ns/net").ok();
    let joined = on
        .cli("run --rm --network container:base busybox readlink /proc/self/ns/net")
        .ok();
    assert_eq!(base.text(), joined.text());
    on.cli("run --rm --network no-such-network busybox true")
        .exits(125)
        .says("no-such-network");
}
