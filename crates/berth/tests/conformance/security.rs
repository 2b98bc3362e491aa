//! What a container may do, by default and when told otherwise.

use crate::subject::Subject;

/// Docker's default set: 14 capabilities (moby, oci/caps defaults).
const DEFAULT: &str = "00000000a80425fb";

#[track_caller]
fn effective(on: &Subject, flags: &str) -> String {
    let seen = on
        .run(&format!(
            "--rm {flags} busybox grep CapEff /proc/self/status"
        ))
        .ok();
    seen.text().trim_start_matches("CapEff:").trim().to_owned()
}

pub(crate) fn default_confinement(on: &Subject) {
    let status = on.run("--rm busybox cat /proc/self/status").ok();
    let field = |name: &str| {
        let line = status
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(field("CapBnd"), DEFAULT);
    assert_eq!(field("CapEff"), DEFAULT);
    assert_eq!(field("CapPrm"), DEFAULT);
    assert_eq!(field("CapAmb"), "0000000000000000");
    assert_eq!(field("Seccomp"), "2");
    // Refused by the filter, although nothing else forbids it to root.
    on.run("--rm busybox unshare -U true")
        .exits(1)
        .says("operation not permitted");
    on.run("--rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status")
        .ok()
        .prints("0");
    on.run("--rm busybox mount -t tmpfs none /tmp")
        .says("permission denied");
    // Masked and read-only paths.
    on.run("--rm busybox sh -c 'cat /proc/kcore | wc -c; ls /proc/acpi /sys/firmware | grep -v :'")
        .ok();
    on.run("--rm busybox sh -c 'echo 1 > /proc/sys/kernel/panic'")
        .exits(1)
        .says("read-only");
    on.run("--rm busybox mkdir /sys/fs/cgroup/memory/mine")
        .exits(1);
    // Devices: those of the specification and no others.
    on.run(
        "--rm busybox sh -c 'head -c 4 /dev/zero | wc -c; echo > /dev/null; ls /dev/tty /dev/full'",
    )
    .ok();
    on.run("--rm busybox sh -c 'mknod /tmp/sda b 8 0 && head -c 1 /tmp/sda'")
        .exits(1)
        .says("operation not permitted");
    on.run("--rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status")
        .ok()
        .prints("1");
}

pub(crate) fn capabilities_follow_the_flags(on: &Subject) {
    assert_eq!(effective(on, "--cap-drop ALL"), "0000000000000000");
    assert_eq!(
        effective(on, "--cap-drop ALL --cap-add CHOWN"),
        "0000000000000001"
    );
    assert_eq!(
        effective(on, "--cap-drop all --cap-add CAP_NET_ADMIN"),
        "0000000000001000"
    );
    assert_eq!(
        effective(on, "--cap-add SYS_TIME --cap-drop CHOWN"),
        "00000000aa0425fa"
    );
    on.run("--rm --cap-add NO_SUCH busybox true")
        .exits(125)
        .says("no_such");
    // A user who is not root has none in effect.
    assert_eq!(effective(on, "--user 1000"), "0000000000000000");
    on.run("--rm --security-opt nonsense=1 busybox true")
        .exits(125);
}

pub(crate) fn users_and_groups(on: &Subject) {
    let id = |flags: &str| {
        on.run(&format!(
            "--rm {flags} busybox sh -c 'echo $(id -u):$(id -g):$(id -G)'"
        ))
        .ok()
        .text()
        .to_owned()
    };
    assert_eq!(id(""), "0:0:0");
    assert_eq!(id("-u www-data"), "33:33:33 29 44");
    assert_eq!(id("-u 33"), "33:33:33 29 44");
    assert_eq!(id("-u www-data:audio"), "33:29:29");
    assert_eq!(id("-u 1234:5678"), "1234:5678:5678");
    assert_eq!(
        id("-u 1234 --group-add audio --group-add 777"),
        "1234:0:0 29 777"
    );
    on.run("--rm -u nobody-knows busybox true").exits(125);
    on.run("--rm -u 99999999999 busybox true").exits(125);
    on.run("--rm -u www-data busybox sh -c 'echo $HOME; touch /etc/new'")
        .exits(1)
        .says("permission denied");
}

/// The set of all capabilities the kernel knows, as /proc/PID/status writes it.
fn all() -> String {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("last capability");
    let last: u32 = last.trim().parse().expect("a number");
    format!("{:016x}", (1u64 << (last + 1)) - 1)
}

pub(crate) fn privileged_has_all(on: &Subject) {
    let own = std::fs::read_to_string("/proc/self/status").expect("our status");
    let ours = own
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .expect("our capabilities")
        .trim()
        .to_owned();
    if on.is_reference() && ours != all() {
        // runc gives up where it may not grant a capability that Docker's daemon believes to have.
        on.run("--rm --privileged busybox true")
            .exits(125)
            .says("unable to apply caps");
        return;
    }
    assert_eq!(effective(on, "--privileged"), ours, "all the engine has");
    on.run("--rm --privileged busybox mount -t tmpfs none /tmp")
        .ok();
    on.run(
        "--rm --privileged busybox sh -c 'test -e /dev/kmsg && grep Seccomp: /proc/self/status'",
    )
    .ok()
    .prints("0");
    on.run("--rm --device /dev/kmsg:/dev/renamed:r busybox sh -c 'ls -l /dev/renamed'")
        .ok()
        .prints("renamed");
}
