//! Fitting a freshly unpacked layer to the layers below it.
//!
//! A layer is unpacked by itself, so that all layers of an image can be unpacked side by side. Archives may
//! name `a/b/c` without an entry for `a` and `a/b`; these directories then exist in the layer only because
//! something is in them. Stacked as they are, they would cover the owner, mode and times of the directories
//! below, or a symbolic link like `lib -> usr/lib`. Here they take over the attributes of what is below, and
//! where a link is below, their content moves to where the link leads: the result of unpacking on top.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::tree::{Found, kind_of, open_beneath, remove_recursively};
use super::view::{Merged, Node};
use crate::archive::printable;
use crate::error::{Attempt, Result};
use crate::limits;

/// Fits the layer at `root` to `lower`, topmost first; `implied` are the directories without an entry.
pub(crate) fn adopt(root: &OwnedFd, lower: &[PathBuf], implied: &[Vec<u8>]) -> Result<()> {
    if lower.is_empty() || implied.is_empty() {
        return Ok(());
    }
    let view = Merged::root(lower.iter().map(PathBuf::as_path))?;
    let mut pending: BTreeSet<Vec<u8>> = implied.iter().cloned().collect();
    // Every relocation resolves a link for good, so this ends; the bound is for hostile link webs.
    let mut relocations = 0;
    while let Some(path) = pending.pop_first() {
        if path.is_empty() {
            if let Some(top) = view.top() {
                copy_attributes(top, root, &path)?;
            }
            continue;
        }
        let Some(directory) = open_beneath(root, &path)? else {
            continue;
        };
        match view.resolve(&path, false)? {
            Some((Node::Directory(below), resolved)) if resolved == path => {
                if let Some(top) = below.top() {
                    copy_attributes(top, &directory, &path)?;
                }
            }
            Some((Node::Entry { kind, .. }, resolved))
                if kind == Found::Symlink && resolved == path =>
            {
                relocations += 1;
                if relocations > limits::LAYERS_MAX {
                    continue;
                }
                if let Some((Node::Directory(_), target)) = view.resolve(&path, true)? {
                    drop(directory);
                    relocate(root, &path, &target, &mut pending)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Moves what is in `from` to `to`, whose parents become implied directories, and removes `from`.
fn relocate(root: &OwnedFd, from: &[u8], to: &[u8], pending: &mut BTreeSet<Vec<u8>>) -> Result<()> {
    if to.is_empty() || to.starts_with(&[from, b"/"].concat()) {
        return Ok(());
    }
    let attempt = || format!("move {} to {}", printable(from), printable(to));
    let mut base = rustix::io::fcntl_dupfd_cloexec(root, 0).attempt(attempt)?;
    let mut path: Vec<u8> = Vec::new();
    for name in to.split(|b| *b == b'/') {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        match kind_of(&base, name)? {
            Some(Found::Directory) => {}
            None => {
                rustix::fs::mkdirat(&base, name, Mode::from_raw_mode(0o755)).attempt(attempt)?;
                pending.insert(path.clone());
            }
            // The layer itself says that there is no directory: then there is nothing to move to.
            Some(_) => return Ok(()),
        }
        base = open_directory(&base, name)?;
    }
    let Some(source) = open_beneath(root, from)? else {
        return Ok(());
    };
    merge(&source, &base)?;
    let prefix = [from, b"/"].concat();
    let moved: Vec<Vec<u8>> = pending
        .iter()
        .filter(|path| path.starts_with(&prefix))
        .cloned()
        .collect();
    for path in moved {
        pending.remove(&path);
        pending.insert([to, b"/", &path[prefix.len()..]].concat());
    }
    let (parent, name) = match from.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&from[..slash], &from[slash + 1..]),
        None => (&b""[..], from),
    };
    if let Some(parent) = open_beneath(root, parent)? {
        remove_recursively(&parent, name)?;
    }
    Ok(())
}

fn open_directory(base: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    rustix::fs::openat(
        base,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .attempt(|| format!("open directory {}", printable(name)))
}

/// Moves every name of `source` into `target`; directories that both have are merged, else what moves wins.
fn merge(source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    let mut work = vec![(
        rustix::io::fcntl_dupfd_cloexec(source, 0).attempt(|| "move a directory".to_owned())?,
        rustix::io::fcntl_dupfd_cloexec(target, 0).attempt(|| "move a directory".to_owned())?,
    )];
    while let Some((source, target)) = work.pop() {
        for name in names(&source)? {
            let both = kind_of(&source, &name)? == Some(Found::Directory)
                && kind_of(&target, &name)? == Some(Found::Directory);
            if both {
                work.push((
                    open_directory(&source, &name)?,
                    open_directory(&target, &name)?,
                ));
                continue;
            }
            if kind_of(&target, &name)?.is_some() {
                remove_recursively(&target, &name)?;
            }
            rustix::fs::renameat(&source, name.as_slice(), &target, name.as_slice())
                .attempt(|| format!("move {}", printable(&name)))?;
        }
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let attempt = || "list a directory of the layer".to_owned();
    let mut found = Vec::new();
    let listing = rustix::fs::Dir::read_from(directory).attempt(attempt)?;
    for entry in listing {
        let entry = entry.attempt(attempt)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push(name.to_vec());
        }
    }
    Ok(found)
}

/// Owner, mode, times and the attributes that images may carry.
pub(crate) fn copy_attributes(from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<()> {
    let attempt = || format!("take over the attributes of {}", printable(path));
    let stat = rustix::fs::fstat(from).attempt(attempt)?;
    rustix::fs::fchown(
        to,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )
    .attempt(attempt)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).attempt(attempt)?;
    copy_xattrs(from, to).attempt(attempt)?;
    rustix::fs::futimens(
        to,
        &Timestamps {
            last_access: Timespec {
                tv_sec: stat.st_atime,
                tv_nsec: i64::try_from(stat.st_atime_nsec).unwrap_or(0),
            },
            last_modification: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
        },
    )
    .attempt(attempt)
}

fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut list = vec![0_u8; limits::XATTR_BYTES_MAX];
    let length = match rustix::fs::flistxattr(from, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in list[..length].split(|b| *b == 0) {
        if !name.starts_with(b"user.") && !name.starts_with(b"system.posix_acl_") {
            continue;
        }
        let mut value = vec![0_u8; limits::XATTR_BYTES_MAX];
        let size = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty())?;
    }
    Ok(())
}
