//! The control groups of one private daemon: all beneath one parent with a name of its own.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories of `parent` in every mounted hierarchy (v1, hybrid or v2) in which it exists.
pub fn directories(parent: &str) -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let kind = after.split(' ').next()?;
            let point = before.split(' ').nth(4)?;
            matches!(kind, "cgroup" | "cgroup2")
                .then(|| Path::new(point).join(parent.trim_start_matches('/')))
        })
        .filter(|path| path.is_dir())
        .collect()
}

/// Control groups beneath `parent`, without the parent itself.
pub fn children(parent: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in directories(parent) {
        walk(&directory, &mut found);
    }
    found
}

/// The directory of the group called `name` beneath `parent` in the hierarchy of `controller`
/// (v1) or in the single hierarchy (v2).
pub fn of_container(parent: &str, name: &str, controller: &str) -> Option<PathBuf> {
    let groups: Vec<PathBuf> = children(parent)
        .into_iter()
        .filter(|path| {
            path.file_name()
                .is_some_and(|last| last.to_string_lossy().contains(name))
        })
        .collect();
    let wanted = format!("/{controller}/");
    groups
        .iter()
        .find(|path| path.to_string_lossy().contains(&wanted))
        .or_else(|| {
            groups
                .iter()
                .find(|path| path.join("cgroup.controllers").exists())
        })
        .cloned()
}

/// Removes `parent` and everything beneath it; the processes must be gone.
pub fn remove(parent: &str) {
    let mut all = children(parent);
    all.reverse();
    all.extend(directories(parent));
    for path in all {
        // A busy group is reported by the leak check, which looks after this.
        drop(fs::remove_dir(path));
    }
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            walk(&entry.path(), found);
        }
    }
}
