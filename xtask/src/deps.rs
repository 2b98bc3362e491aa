//! `deps`: installs what tests, measurements and virtual machines need, and only what is missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use berth_testkit::needs;

use crate::cargo::visibly;

/// Program looked for, and the Debian packages it may come in (the first that exists is taken).
type Need = (&'static str, &'static [&'static str]);

const TEST: &[Need] = &[
    ("docker-registry", &["docker-registry"]),
    ("mmdebstrap", &["mmdebstrap"]),
    ("dockerd", &["docker.io"]),
    ("docker", &["docker-cli", "docker.io"]),
    ("runc", &["runc"]),
    ("podman", &["podman"]),
    ("conmon", &["conmon"]),
    ("crun", &["crun"]),
    ("skopeo", &["skopeo"]),
    ("umoci", &["umoci"]),
    ("buildah", &["buildah"]),
    ("xz", &["xz-utils"]),
    ("bzip2", &["bzip2"]),
    ("openssl", &["openssl"]),
    ("tinyproxy", &["tinyproxy-bin"]),
    ("microsocks", &["microsocks"]),
    ("socat", &["socat"]),
    ("busybox", &["busybox-static"]),
    ("ps", &["procps"]),
    ("ip", &["iproute2"]),
    ("nsenter", &["util-linux"]),
    ("iptables", &["iptables"]),
    ("curl", &["curl"]),
    ("nft", &["nftables"]),
    ("dig", &["bind9-dnsutils", "dnsutils"]),
    ("wrk", &["wrk"]),
    ("dbus-daemon", &["dbus-daemon", "dbus"]),
    ("virtualenv", &["virtualenv"]),
    ("mkfs.ext4", &["e2fsprogs"]),
    ("losetup", &["mount"]),
    ("rpmbuild", &["rpm"]),
    ("sqlite3", &["sqlite3"]),
    ("db_load", &["db-util"]),
    ("pacman", &["pacman-package-manager"]),
];

const BENCH: &[Need] = &[
    ("iperf3", &["iperf3"]),
    ("mkfs.ext4", &["e2fsprogs"]),
    ("zstd", &["zstd"]),
];

const VM: &[Need] = &[
    ("qemu-system-x86_64", &["qemu-system-x86"]),
    ("mmdebstrap", &["mmdebstrap"]),
    ("mke2fs", &["e2fsprogs"]),
    ("ssh", &["openssh-client"]),
    ("ssh-keygen", &["openssh-client"]),
];

/// Program that Debian's maintainer scripts ask before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs for tests; with `bench` or `vm` also for these.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut needed: Vec<Need> = TEST.to_vec();
    for argument in arguments {
        match argument.as_str() {
            "bench" => needed.extend(BENCH),
            "vm" => needed.extend(VM),
            other => bail!("deps knows bench and vm, not {other:?}"),
        }
    }
    install(&needed)
}

/// Installs what `cargo xtask bench` needs.
pub(crate) fn for_bench() -> Result<()> {
    run(&["bench".to_owned()])
}

/// Installs what `cargo xtask test-vm` needs.
pub(crate) fn for_vm() -> Result<()> {
    run(&["vm".to_owned()])
}

fn install(needed: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needed
        .iter()
        .filter(|(program, _)| needs::find(program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    if needs::find("apt-get").is_none() {
        bail!(
            "missing: {} — and this is no Debian: install them by hand",
            names.join(", ")
        );
    }
    if !needs::is_root() {
        bail!(
            "missing: {} — run `sudo cargo xtask deps` to install them",
            names.join(", ")
        );
    }
    visibly(
        Command::new("apt-get")
            .args(["update", "-q"])
            .stdin(std::process::Stdio::null()),
    )?;
    let mut packages: Vec<&str> = Vec::new();
    for (program, candidates) in missing {
        let Some(package) = candidates.iter().find(|package| is_available(package)) else {
            bail!(
                "no package of {} is in the sources of apt",
                candidates.join(" or ")
            );
        };
        if !packages.contains(package) {
            packages.push(package);
        }
        eprintln!("{program}: from {package}");
    }
    let _quiet = NoServices::new()?;
    visibly(
        Command::new("apt-get")
            .args(["install", "-qy", "--no-install-recommends"])
            .args(&packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(std::process::Stdio::null()),
    )
}

fn is_available(package: &str) -> bool {
    let policy = Command::new("apt-cache").args(["policy", package]).output();
    policy.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().any(|line| {
            line.trim()
                .strip_prefix("Candidate:")
                .is_some_and(|version| version.trim() != "(none)")
        })
    })
}

/// While it lives, installed packages do not start their services: the tests start their own
/// daemons, and a host's daemon would change the firewall. A policy that stands already is left
/// as it is.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        if berth_testkit::daemon::exists(Path::new(POLICY)) {
            return Ok(Self { ours: false });
        }
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY)
            .with_context(|| format!("create {POLICY}"))?;
        std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n")
            .with_context(|| format!("write {POLICY}"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            drop(std::fs::remove_file(POLICY));
        }
    }
}
