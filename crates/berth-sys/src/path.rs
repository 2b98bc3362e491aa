//! Path work inside a directory that somebody else controls, done on descriptors.
//!
//! Owns resolution beneath a root (openat2(2) with `RESOLVE_IN_ROOT`) and the check that a descriptor
//! lies on the file system it must lie on. Invariant: no function here ever yields a descriptor outside the
//! root it was given, however the content of the root changes meanwhile.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Attempt, Error, Result};

/// Links followed by [`Root::create_directories`] before it gives up, as many as the kernel's own limit.
const LINK_LIMIT: usize = 40;

/// Attempts at an openat2(2) call that the kernel asks to repeat because something moved meanwhile.
const AGAIN_LIMIT: usize = 128;

/// The magic number of procfs, as fstatfs(2) tells it.
pub const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// The magic number of the cgroup v2 file system.
pub const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// The magic number of devpts.
pub const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
/// The magic number of sysfs.
pub const SYSFS_MAGIC: i64 = 0x6265_6572;
/// The inode number of the root directory of every procfs.
pub const PROC_ROOT_INODE: u64 = 1;

/// A directory that bounds all resolution: absolute paths and links start in it, `..` stops at it.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

impl Root {
    /// Opens the directory at `path` as a root; `path` itself is trusted.
    pub fn open(path: &Path) -> Result<Self> {
        rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(|directory| Self { directory })
        .attempt(|| format!("open root directory {}", path.display()))
    }

    /// Takes an open directory as the root.
    pub fn from_descriptor(directory: OwnedFd) -> Self {
        Self { directory }
    }

    /// The descriptor of the root itself.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Gives the descriptor back.
    pub fn into_descriptor(self) -> OwnedFd {
        self.directory
    }

    /// Resolves `path` in the root to an `O_PATH` descriptor, following links inside the root.
    pub fn resolve(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(path, OFlags::PATH, Mode::empty())
    }

    /// As [`Root::resolve`], but a link at the very end is not followed.
    pub fn resolve_no_follow(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Opens `path` in the root with `flags`; `mode` counts for files the call creates.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        open_in_root(self.directory.as_fd(), path, flags, mode)
            .attempt(|| format!("open {} in the root", path.display()))
    }

    /// Makes the directory `path` with all its parents and yields it as an `O_PATH` descriptor.
    ///
    /// What is missing gets `mode`. Links on the way are followed inside the root, dangling ones too (the
    /// directory they point to is made), as every engine does for mount points.
    pub fn create_directories(&self, path: &Path, mode: Mode) -> Result<OwnedFd> {
        let attempt = || format!("create directory {} in the root", path.display());
        match open_in_root(
            self.directory.as_fd(),
            path,
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        ) {
            Err(Errno::NOENT) => {}
            other => return other.attempt(attempt),
        }
        self.create_missing(path, mode).attempt(attempt)
    }

    fn create_missing(&self, path: &Path, mode: Mode) -> std::result::Result<OwnedFd, Errno> {
        let mut pending: VecDeque<OsString> = names_of(path);
        let mut resolved = PathBuf::from(".");
        let mut current = open_in_root(
            self.descriptor(),
            Path::new("."),
            OFlags::PATH,
            Mode::empty(),
        )?;
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                resolved.pop();
                if resolved.as_os_str().is_empty() {
                    resolved.push(".");
                }
                current = open_in_root(
                    self.descriptor(),
                    &resolved,
                    OFlags::PATH | OFlags::DIRECTORY,
                    Mode::empty(),
                )?;
                continue;
            }
            let next = resolved.join(&name);
            match open_in_root(
                self.descriptor(),
                &next,
                OFlags::PATH | OFlags::DIRECTORY,
                Mode::empty(),
            ) {
                Ok(descriptor) => {
                    current = descriptor;
                    resolved = next;
                    continue;
                }
                Err(Errno::NOENT) => {}
                Err(other) => return Err(other),
            }
            match rustix::fs::mkdirat(&current, &name, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(other) => return Err(other),
            }
            match open_beneath_no_links(current.as_fd(), &name) {
                Ok(descriptor) => {
                    current = descriptor;
                    resolved = next;
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    // A dangling link: go on with what it says, inside the root.
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&current, &name, Vec::new())?;
                    let target = PathBuf::from(OsString::from(
                        String::from_utf8(target.into_bytes()).map_err(|_| Errno::INVAL)?,
                    ));
                    if target.is_absolute() {
                        resolved = PathBuf::from(".");
                        current = open_in_root(
                            self.descriptor(),
                            &resolved,
                            OFlags::PATH | OFlags::DIRECTORY,
                            Mode::empty(),
                        )?;
                    }
                    for name in names_of(&target).into_iter().rev() {
                        pending.push_front(name);
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(current)
    }

    /// Yields `path` as an `O_PATH` descriptor, making an empty regular file (and its parents) if there is nothing.
    pub fn create_file(&self, path: &Path, mode: Mode, directory_mode: Mode) -> Result<OwnedFd> {
        let attempt = || format!("create file {} in the root", path.display());
        match open_in_root(self.descriptor(), path, OFlags::PATH, Mode::empty()) {
            Err(Errno::NOENT) => {}
            other => return other.attempt(attempt),
        }
        let (parent, name) = split(path)?;
        let parent = self.create_directories(parent, directory_mode)?;
        match rustix::fs::openat(
            &parent,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY,
            mode,
        ) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(other) => return Err(Error::new(attempt(), other)),
        }
        open_in_root(self.descriptor(), path, OFlags::PATH, Mode::empty()).attempt(attempt)
    }

    /// The parent directory of `path` (made if missing) and the last name, for calls like mknodat(2).
    pub fn parent_of<'a>(
        &self,
        path: &'a Path,
        directory_mode: Mode,
    ) -> Result<(OwnedFd, &'a OsStr)> {
        let (parent, name) = split(path)?;
        Ok((self.create_directories(parent, directory_mode)?, name))
    }
}

/// The parent and the last name of a path that must have both.
fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or_else(|| {
        Error::invalid(
            format!("use {} in the root", path.display()),
            "the path has no last name",
        )
    })?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok((parent, name))
}

/// The names of a path; `..` stays, `.` and the leading slash go.
fn names_of(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_os_string()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

/// openat2(2) in `root`, repeated while the kernel reports that a rename or mount raced with it.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> std::result::Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(
            root,
            path,
            flags | OFlags::CLOEXEC,
            mode,
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        ) {
            Err(Errno::AGAIN) if attempts < AGAIN_LIMIT => attempts += 1,
            other => return other,
        }
    }
}

fn open_beneath_no_links(
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> std::result::Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        directory,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

/// Opens `path` beneath `directory`: nothing may lead out, no link is followed, no mount is crossed.
pub fn open_beneath(
    directory: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    rustix::fs::openat2(
        directory,
        path,
        flags | OFlags::CLOEXEC,
        mode,
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .attempt(|| format!("open {} beneath its directory", path.display()))
}

/// Opens again what an `O_PATH` descriptor stands for, with real access.
///
/// `proc` is a descriptor of a procfs root that is known to be genuine (see [`check_magic`]).
pub fn reopen(proc: impl AsFd, descriptor: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    let link = format!("self/fd/{}", descriptor.as_fd().as_raw_fd());
    rustix::fs::openat(proc, &link, flags | OFlags::CLOEXEC, Mode::empty())
        .attempt(|| format!("open descriptor {} again", descriptor.as_fd().as_raw_fd()))
}

/// The name by which this process reaches what a descriptor stands for.
pub fn descriptor_path(descriptor: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()))
}

/// Fails unless the descriptor lies on the file system with the magic number `magic`.
pub fn check_magic(descriptor: impl AsFd, magic: i64, name: &str) -> Result<()> {
    let attempt = || format!("check the file system of {name}");
    let found = rustix::fs::fstatfs(descriptor).attempt(attempt)?;
    if found.f_type as i64 != magic {
        return Err(Error::invalid(
            attempt(),
            format!(
                "it has magic number {:#x} and not {magic:#x}",
                found.f_type as i64
            ),
        ));
    }
    Ok(())
}

/// Fails unless the descriptor is the root directory of a procfs.
pub fn check_proc_root(descriptor: impl AsFd) -> Result<()> {
    check_magic(&descriptor, PROC_SUPER_MAGIC, "proc")?;
    let stat = rustix::fs::fstat(descriptor).attempt(|| "look at proc")?;
    if stat.st_ino != PROC_ROOT_INODE {
        return Err(Error::invalid(
            "check that proc is the root of a procfs",
            "it is another directory of it",
        ));
    }
    Ok(())
}

/// The type of what a descriptor stands for.
pub fn file_type(descriptor: impl AsFd) -> Result<FileType> {
    rustix::fs::fstat(descriptor)
        .map(|stat| FileType::from_raw_mode(stat.st_mode))
        .attempt(|| "look at a descriptor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MODE: Mode = Mode::from_raw_mode(0o755);

    fn real_path(descriptor: &OwnedFd) -> PathBuf {
        std::fs::read_link(descriptor_path(descriptor)).unwrap()
    }

    #[test]
    fn links_cannot_leave_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        symlink(outside.path(), base.join("absolute")).unwrap();
        symlink("../../../../../../etc", base.join("relative")).unwrap();
        let root = Root::open(&base).unwrap();
        let made = root
            .create_directories(Path::new("/absolute/inner"), MODE)
            .unwrap();
        assert!(real_path(&made).starts_with(&base));
        let made = root
            .create_directories(Path::new("relative/x"), MODE)
            .unwrap();
        assert_eq!(real_path(&made), base.join("etc/x"));
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn dot_dot_stops_at_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        let root = Root::open(&base).unwrap();
        let made = root
            .create_directories(Path::new("../../a/../b/./c"), MODE)
            .unwrap();
        assert_eq!(real_path(&made), base.join("b/c"));
    }

    #[test]
    fn endless_links_end() {
        let directory = tempfile::tempdir().unwrap();
        symlink("two", directory.path().join("one")).unwrap();
        symlink("one", directory.path().join("two")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert!(root.create_directories(Path::new("one/x"), MODE).is_err());
        assert!(root.create_file(Path::new("one"), MODE, MODE).is_err());
    }

    #[test]
    fn create_file_makes_parents_and_keeps_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        std::fs::write(base.join("kept"), b"content").unwrap();
        let root = Root::open(&base).unwrap();
        root.create_file(Path::new("/kept"), MODE, MODE).unwrap();
        assert_eq!(std::fs::read(base.join("kept")).unwrap(), b"content");
        let made = root
            .create_file(Path::new("/a/b/file"), Mode::from_raw_mode(0o600), MODE)
            .unwrap();
        assert_eq!(real_path(&made), base.join("a/b/file"));
    }

    #[test]
    fn proc_is_told_from_what_looks_like_it() {
        let proc = crate::fs::open_directory(Path::new("/proc")).unwrap();
        check_proc_root(&proc).unwrap();
        let sys = crate::fs::open_directory(Path::new("/proc/sys")).unwrap();
        check_proc_root(&sys).unwrap_err();
        let directory = tempfile::tempdir().unwrap();
        let fake = crate::fs::open_directory(directory.path()).unwrap();
        check_magic(&fake, PROC_SUPER_MAGIC, "fake").unwrap_err();
    }
}
