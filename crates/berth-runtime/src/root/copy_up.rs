//! Copying what an image has at a directory into the tmpfs that will cover it (`tmpcopyup`).
//!
//! Both sides are descriptors; links are copied and never followed; entries and depth are bounded.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::{Attempt, Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, XattrFlags};

use crate::error::RuntimeError;
use crate::limits;

/// Copies the content of the directory `from` and its owner, mode and times.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> std::result::Result<(), RuntimeError> {
    let from = open_directory(from.as_fd(), c".")?;
    let to = open_directory(to.as_fd(), c".")?;
    let mut left = limits::COPY_UP_ENTRIES;
    Ok(copy_directory(&from, &to, &mut left, 0)?)
}

fn open_directory(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd> {
    rustix::fs::openat(
        at,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .attempt(|| format!("open directory {}", name.to_string_lossy()))
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, left: &mut usize, depth: usize) -> Result<()> {
    if depth > limits::COPY_UP_DEPTH {
        return Err(Error::invalid(
            "copy into a tmpfs",
            "too many directories below each other",
        ));
    }
    let stat = rustix::fs::fstat(from).attempt(|| "look at a directory")?;
    for entry in Dir::read_from(from).attempt(|| "list a directory")? {
        let entry = entry.attempt(|| "list a directory")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        *left = left
            .checked_sub(1)
            .ok_or_else(|| Error::invalid("copy into a tmpfs", "too many files"))?;
        let words = || format!("copy {} into a tmpfs", name.to_string_lossy());
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).attempt(words)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)).attempt(words)?;
                let inner_from = open_directory(from.as_fd(), name)?;
                let inner_to = open_directory(to.as_fd(), name)?;
                copy_directory(&inner_from, &inner_to, left, depth + 1)?;
            }
            FileType::RegularFile => copy_file(from, to, name, &stat).attempt(words)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new()).attempt(words)?;
                rustix::fs::symlinkat(target.as_c_str(), to, name).attempt(words)?;
                own(to, name, &stat).attempt(words)?;
            }
            kind => {
                rustix::fs::mknodat(
                    to,
                    name,
                    kind,
                    Mode::from_raw_mode(stat.st_mode & 0o7777),
                    stat.st_rdev,
                )
                .attempt(words)?;
                own(to, name, &stat).attempt(words)?;
            }
        }
    }
    settle(from, to, &stat).attempt(|| "copy the attributes of a directory")
}

fn own(to: &OwnedFd, name: &std::ffi::CStr, stat: &Stat) -> rustix::io::Result<()> {
    rustix::fs::chownat(
        to,
        name,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

fn copy_file(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &std::ffi::CStr,
    stat: &Stat,
) -> std::io::Result<()> {
    let source = rustix::fs::openat(
        from,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let target = rustix::fs::openat(
        to,
        name,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )?;
    let mut reader = std::fs::File::from(source);
    let mut writer = std::fs::File::from(target);
    std::io::copy(&mut reader, &mut writer)?;
    settle(&OwnedFd::from(reader), &OwnedFd::from(writer), stat)?;
    Ok(())
}

/// Owner, extended attributes, mode and times; owner first, since changing it drops set-id bits.
fn settle(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
    rustix::fs::fchown(
        to,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )?;
    copy_attributes(from, to);
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    rustix::fs::futimens(
        to,
        &rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec {
                tv_sec: stat.st_atime,
                tv_nsec: stat.st_atime_nsec as i64,
            },
            last_modification: rustix::fs::Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec as i64,
            },
        },
    )
}

/// Extended attributes a tmpfs can hold; others (such as user.*) are left out, as with cp(1).
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) {
    /// The kernel's limits (XATTR_LIST_MAX, XATTR_SIZE_MAX).
    const LIMIT: usize = 64 << 10;
    let mut names = vec![0_u8; LIMIT];
    let Ok(length) = rustix::fs::flistxattr(from, &mut names[..]) else {
        return;
    };
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0_u8; LIMIT];
        if let Ok(size) = rustix::fs::fgetxattr(from, name, &mut value[..]) {
            let _ = rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty());
        }
    }
}
