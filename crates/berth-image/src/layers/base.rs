//! The layer below all layers of a container: what users expect in every container whether its image has it or not.
//!
//! Being the lowest, whatever an image has at these paths hides it, and it is neither in the image nor among what a
//! container changed. Docker has the same in a layer of each container (`daemon/initlayer`); here all share one.

use std::path::Path;

use berth_sys::fs;

use crate::error::Result;

/// Where something is mounted in every container: with them here, nothing need be made for a mount.
const DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];

/// Empty files with their modes: more places for mounts, and what programs look for that want to know whether they
/// are in a container.
const FILES: [(&str, u32); 4] = [
    (".dockerenv", 0o755),
    ("etc/hostname", 0o755),
    ("etc/hosts", 0o755),
    ("etc/resolv.conf", 0o755),
];

/// Where programs look for what is mounted (mtab in mount(8)), and where the kernel tells it.
const MTAB: (&str, &str) = ("etc/mtab", "/proc/mounts");

/// Makes the layer where it is not there yet.
///
/// # Errors
/// When the file system refuses; nothing is there under its name then.
pub(super) fn make(path: &Path) -> Result<()> {
    if fs::exists(path) {
        return Ok(());
    }
    let fresh = path.with_extension("new");
    fs::remove_dir_all(&fresh)?;
    fs::create_dir(&fresh, 0o755)?;
    for name in DIRECTORIES {
        fs::create_dir(&fresh.join(name), 0o755)?;
    }
    for (name, mode) in FILES {
        let file = fresh.join(name);
        fs::write(&file, b"")?;
        fs::set_mode(&file, mode)?;
    }
    let link = fresh.join(MTAB.0);
    fs::symlink(Path::new(MTAB.1), &link)?;
    // It is made once and never looked into again: all of it is on disk before it has its name.
    fs::sync_parent(&link)?;
    fs::sync_parent(&fresh.join(DIRECTORIES[0]))?;
    fs::rename(&fresh, path)?;
    fs::sync_parent(path)?;
    Ok(())
}
