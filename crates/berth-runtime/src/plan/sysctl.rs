//! Kernel parameters of a container: which may be set, and the path of each. Pure.

use std::path::{Component, PathBuf};

use berth_sys::namespace::Kind;
use oci_spec::runtime::Spec;

use crate::error::RuntimeError;

/// A parameter is set only if a namespace of the container's own holds it, else it would change the host.
pub(super) fn plan(
    spec: &Spec,
    has: &impl Fn(Kind) -> bool,
) -> Result<Vec<(PathBuf, String)>, RuntimeError> {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.sysctl().as_ref());
    let mut steps = Vec::new();
    for (name, value) in listed.into_iter().flatten() {
        let wrong = |reason: &str| {
            RuntimeError::invalid(format!("linux.sysctl[{name:?}]"), reason.to_owned())
        };
        let path = sysctl_path(name).ok_or_else(|| wrong("is not the name of a parameter"))?;
        let dotted = path.to_string_lossy().replace('/', ".");
        let needs = if dotted.starts_with("net.") {
            Kind::Network
        } else if dotted.starts_with("fs.mqueue.")
            || matches!(
                dotted.as_str(),
                "kernel.msgmax"
                    | "kernel.msgmnb"
                    | "kernel.msgmni"
                    | "kernel.sem"
                    | "kernel.shmall"
                    | "kernel.shmmax"
                    | "kernel.shmmni"
                    | "kernel.shm_rmid_forced"
            )
        {
            Kind::Ipc
        } else if dotted == "kernel.hostname" {
            if spec.hostname().is_some() {
                return Err(wrong("the host name is set by hostname"));
            }
            Kind::Uts
        } else if dotted == "kernel.domainname" {
            Kind::Uts
        } else if dotted.starts_with("user.") {
            Kind::User
        } else {
            return Err(wrong("is not separate for a container"));
        };
        if !has(needs) {
            return Err(wrong(&format!(
                "needs a {} namespace of the container's own",
                needs.file()
            )));
        }
        steps.push((path, value.clone()));
    }
    steps.sort();
    Ok(steps)
}

/// "net.ipv4.ip_forward" or "net/ipv4/ip_forward" → path; in the dotted form a slash stands for a dot (sysctl(8)).
fn sysctl_path(name: &str) -> Option<PathBuf> {
    let first = name.find(['.', '/'])?;
    let plain: String = if name.as_bytes()[first] == b'/' {
        name.to_owned()
    } else {
        name.chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect()
    };
    let path = PathBuf::from(plain);
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
        .then_some(path)
}
