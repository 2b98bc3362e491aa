//! Limits: asked, enforced, changed, told.

use std::fs;
use std::path::Path;

use berth_testkit::wait;

use crate::subject::Subject;

/// Reads the first of the files that exists: version 1's name, then version 2's.
#[track_caller]
fn setting(directory: &Path, names: [&str; 2]) -> String {
    names
        .iter()
        .find_map(|name| fs::read_to_string(directory.join(name)).ok())
        .unwrap_or_else(|| panic!("none of {names:?} in {}", directory.display()))
        .trim()
        .to_owned()
}

pub(crate) fn limits_reach_the_control_groups(on: &Subject) {
    on.sleeper(
        "box",
        "--memory 64m --memory-swap 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 \
         --pids-limit 50 --cpuset-cpus 0",
    );
    let group = |controller: &str| on.daemon.cgroup("box", controller);
    let memory = setting(&group("memory"), ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(memory, (64 << 20).to_string());
    let low = setting(
        &group("memory"),
        ["memory.soft_limit_in_bytes", "memory.low"],
    );
    assert_eq!(low, (32 << 20).to_string());
    let quota = setting(&group("cpu"), ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("50000"));
    assert_eq!(setting(&group("pids"), ["pids.max", "pids.max"]), "50");
    assert_eq!(
        setting(&group("cpuset"), ["cpuset.cpus", "cpuset.cpus"]),
        "0"
    );
    let host = on.daemon.inspect("box")["HostConfig"].clone();
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["CpuShares"], 512);
    // The limit on processes holds.
    on.run("--rm --pids-limit 5 busybox sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 5 & done'")
        .says("fork");
    // What cannot be.
    on.run("--rm --memory 1k busybox true")
        .exits(125)
        .says("memory");
    on.run("--rm --cpus 1000 busybox true")
        .exits(125)
        .says("cpus");
    on.run("--rm --cpuset-cpus 999 busybox true")
        .exits(125)
        .says("cpu");
}

pub(crate) fn out_of_memory_is_told(on: &Subject) {
    on.run("--name eater --memory 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=67108864")
        .exits(137);
    let state = on.daemon.inspect("eater")["State"].clone();
    // On cgroup v1 the reference sometimes sees the end before the kernel's notice.
    if !on.is_reference() {
        assert_eq!(state["OOMKilled"], true, "{state}");
    }
    assert_eq!(state["ExitCode"], 137);
    on.run("--name sober busybox true").ok();
    assert_eq!(on.daemon.inspect("sober")["State"]["OOMKilled"], false);
}

pub(crate) fn update_changes_a_running_container(on: &Subject) {
    on.sleeper("box", "--memory 64m --memory-swap 128m --pids-limit 10");
    on.cli("update --memory 32m --memory-swap 64m --cpus 0.25 --pids-limit 20 --restart on-failure:3 box")
        .ok();
    let memory = on.daemon.cgroup("box", "memory");
    assert_eq!(
        setting(&memory, ["memory.limit_in_bytes", "memory.max"]),
        (32 << 20).to_string()
    );
    let pids = on.daemon.cgroup("box", "pids");
    assert_eq!(setting(&pids, ["pids.max", "pids.max"]), "20");
    let cpu = on.daemon.cgroup("box", "cpu");
    let quota = setting(&cpu, ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("25000"));
    let host = on.daemon.inspect("box")["HostConfig"].clone();
    assert_eq!(host["Memory"], 32 << 20);
    assert_eq!(host["RestartPolicy"]["Name"], "on-failure");
    // The new values hold for the next start as well.
    on.cli("restart -t 0 box").ok();
    let memory = on.daemon.cgroup("box", "memory");
    assert_eq!(
        setting(&memory, ["memory.limit_in_bytes", "memory.max"]),
        (32 << 20).to_string()
    );
    on.cli("update --memory 1m box").exits(1).says("memory");
}

pub(crate) fn resource_limits_of_the_process(on: &Subject) {
    let seen = on
        .run("--rm --ulimit nofile=100:200 --ulimit core=0 busybox sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c'")
        .ok();
    assert_eq!(seen.stdout, "100\n200\n0\n");
    on.run("--rm --ulimit nofile=200:100 busybox true")
        .exits(125)
        .says("ulimit");
    on.run("--rm --ulimit nosuch=1 busybox true")
        .exits(125)
        .says("ulimit");
    on.run("--rm --oom-score-adj 500 busybox cat /proc/self/oom_score_adj")
        .ok()
        .prints("500");
    on.run("--rm --sysctl kernel.msgmax=4096 busybox cat /proc/sys/kernel/msgmax")
        .ok()
        .prints("4096");
    wait::until("all are gone", || on.daemon.containers().is_empty());
}
