//! Picks the role (client, daemon, registry, monitor, runtime) and sets up reporting; decides nothing else.
//!
//! The role is chosen before any thread exists: the monitor and the runtime never have a second one.

mod daemon;
mod registry;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// What this process is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Daemon,
    Registry,
    Monitor,
    Runtime,
    Init,
}

/// The role by the name the program was called with, else by its first argument; and how many words of the
/// command line only served to choose it.
fn role(name: &OsStr, first: Option<&OsStr>) -> (Role, usize) {
    let base = Path::new(name)
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    match base {
        "docker-init" => return (Role::Init, 1),
        "runc" | "crun" | "berth-runtime" => return (Role::Runtime, 1),
        "docker" => return (Role::Client, 0),
        _ => {}
    }
    match first.and_then(OsStr::to_str) {
        Some("daemon") => (Role::Daemon, 2),
        Some("registry") => (Role::Registry, 2),
        Some("monitor") => (Role::Monitor, 2),
        Some("runtime") => (Role::Runtime, 2),
        Some("init") => (Role::Init, 2),
        _ => (Role::Client, 0),
    }
}

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().cloned().unwrap_or_default();
    let (role, used) = role(&name, words.get(1).map(OsString::as_os_str));
    let words = words.split_off(used.min(words.len()));
    // The other roles do so themselves.
    if matches!(role, Role::Client | Role::Daemon | Role::Registry) {
        // Fails for no reason that the kernel knows.
        let _ = berth_sys::signal::forget_inherited();
    }
    match role {
        Role::Client => berth_cli::main(words),
        Role::Daemon => daemon::main(&words),
        Role::Registry => registry::main(&words),
        Role::Monitor => berth_monitor::main(&words),
        Role::Runtime => berth_runtime::main(words),
        Role::Init => berth_runtime::init::main(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_told_by_the_name_and_then_by_the_first_word() {
        let role = |name: &str, first: Option<&str>| role(OsStr::new(name), first.map(OsStr::new));
        assert_eq!(role("/usr/bin/berth", None), (Role::Client, 0));
        assert_eq!(role("berth", Some("run")), (Role::Client, 0));
        assert_eq!(role("berth", Some("daemon")), (Role::Daemon, 2));
        assert_eq!(role("berth", Some("registry")), (Role::Registry, 2));
        assert_eq!(role("/proc/self/fd/7", Some("monitor")), (Role::Monitor, 2));
        assert_eq!(role("berth", Some("runtime")), (Role::Runtime, 2));
        assert_eq!(role("/sbin/docker-init", Some("daemon")), (Role::Init, 1));
        assert_eq!(role("runc", Some("state")), (Role::Runtime, 1));
        assert_eq!(role("docker", Some("daemon")), (Role::Client, 0));
    }
}
