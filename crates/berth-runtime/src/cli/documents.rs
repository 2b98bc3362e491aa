//! `features`, `spec`, and the version.

use std::path::Path;

use berth_sys::capability::Capability;
use berth_sys::fs;
use serde_json::json;

use super::flags::{Flag, switch, value};
use super::{Call, Failure, print};
use crate::credentials::{has_apparmor, has_selinux};
use crate::hooks::STAGES;
use crate::plan::mount::known_options;
use crate::state::OCI_VERSION;

pub(super) const SPEC_FLAGS: &[Flag] = &[
    value(&["bundle", "b"], "directory to write config.json to"),
    switch(
        &["rootless"],
        "for a user without rights: with a user namespace",
    ),
];

/// Name, version, and the specification's version, in lines that engines parse.
pub(super) fn version() -> String {
    format!(
        "berth-runtime version {}\nspec: {OCI_VERSION}\n",
        env!("CARGO_PKG_VERSION")
    )
}

pub(super) fn features(_call: &Call<'_>) -> Result<u8, Failure> {
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": STAGES.map(|stage| stage.name()),
        "mountOptions": known_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": Capability::all().map(Capability::name).collect::<Vec<_>>(),
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                            "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
                            "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                              "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86",
                          "SCMP_ARCH_X86_64"],
                "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                               "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                   "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            },
            "apparmor": {"enabled": has_apparmor()},
            "selinux": {"enabled": has_selinux()},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {"io.berth.runtime.version": env!("CARGO_PKG_VERSION")},
    });
    print(&format!("{}\n", pretty(&document)));
    Ok(0)
}

fn pretty(document: &serde_json::Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

pub(super) fn spec(call: &Call<'_>) -> Result<u8, Failure> {
    let directory = Path::new(call.flags.get("bundle").unwrap_or("."));
    let path = directory.join("config.json");
    if fs::exists(&path) {
        return Err(Failure::Usage(format!(
            "file {} exists. Remove it first",
            path.display()
        )));
    }
    let document = example(call.flags.has("rootless"));
    fs::write(&path, format!("{}\n", pretty(&document)).as_bytes())?;
    Ok(0)
}

/// A container with a shell on a terminal.
fn example(rootless: bool) -> serde_json::Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    let mut terminal_options = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    let sys = if rootless {
        namespaces.push("user");
        mount(
            "/sys",
            "none",
            "/sys",
            &["rbind", "nosuid", "noexec", "nodev", "ro"],
        )
    } else {
        namespaces.push("network");
        terminal_options.push("gid=5");
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        )
    };
    let mut document = json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities,
                             "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "berth",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &terminal_options),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            sys,
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                            "/proc/scsi", "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if rootless {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        document["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": user, "size": 1}]);
        document["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": group, "size": 1}]);
        if let Some(linux) = document["linux"].as_object_mut() {
            linux.remove("resources");
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::SetupPlan;

    #[test]
    fn the_example_passes_our_own_check() {
        for rootless in [false, true] {
            let spec = serde_json::from_value(example(rootless)).unwrap();
            SetupPlan::of(&spec).unwrap();
        }
    }
}
