//! What a test needs of the machine. A missing need fails the test and names the remedy.

use std::path::{Path, PathBuf};

/// The path of `program`, or a panic that names the Debian package it comes in.
#[track_caller]
pub fn program(name: &str, package: &str) -> PathBuf {
    match find(name) {
        Some(path) => path,
        None => panic!("this test needs {name} (apt-get install {package}, or cargo xtask deps)"),
    }
}

/// The path of `program` in PATH or the system's own directories.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| candidate.is_file())
}

/// The major version of the stock docker command: Debian's own is older than much of what it can be asked.
#[track_caller]
pub fn docker_client() -> u32 {
    let docker = program("docker", "docker-cli or docker.io");
    let told = crate::Command::new(docker).arg("--version").run().ok();
    let version = told.text().strip_prefix("Docker version ");
    let major = version.and_then(|rest| rest.split('.').next()?.parse().ok());
    major.unwrap_or_else(|| panic!("docker does not tell its version: {told}"))
}

/// The stock client when it is at least of this major version, ours otherwise.
#[track_caller]
pub fn stock_client(version: u32) -> crate::Client {
    if docker_client() >= version {
        crate::Client::Docker
    } else {
        crate::Client::Berth
    }
}

/// Features that this machine promises to have, separated by spaces. `cargo xtask test-vm` promises what Debian's kernel has.
const PROMISES: &str = "BERTH_TEST_PROMISES";

/// Whether the kernel has a feature, as the test found out. A machine that promised it fails here; elsewhere the test says
/// what it does not show.
#[track_caller]
pub fn feature(name: &str, there: bool) -> bool {
    if !there {
        let promises = std::env::var(PROMISES).unwrap_or_default();
        assert!(
            !promises.split_whitespace().any(|promised| promised == name),
            "this machine promised {name}, and its kernel has none"
        );
        #[allow(clippy::print_stderr)] // the list of a run is made of such lines
        {
            eprintln!("skipped: this machine has no {name}");
        }
    }
    there
}

/// Whether the kernel has a file system, as a module or of its own; as [`feature`].
#[track_caller]
pub fn file_system(kind: &str) -> bool {
    // Where there is none to load, or nothing to load it with, the list tells.
    drop(crate::Command::new("modprobe").args(["-q", kind]).try_run());
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let there = known
        .lines()
        .any(|line| line.split_whitespace().last() == Some(kind));
    feature(kind, there)
}

/// Panics unless the test runs as root, which namespaces, mounts and cgroups need.
#[track_caller]
pub fn root() {
    assert!(is_root(), "this test needs root: run it with sudo");
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
