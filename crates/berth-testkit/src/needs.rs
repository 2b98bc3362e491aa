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

/// Panics unless the test runs as root, which namespaces, mounts and cgroups need.
#[track_caller]
pub fn root() {
    assert!(is_root(), "this test needs root: run it with sudo");
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
