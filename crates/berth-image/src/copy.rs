//! Copying a directory tree with everything that a file system keeps of it.
//!
//! Owns: content (shared where the file system can, holes kept), owner, mode, times, extended attributes, hard
//! links within the tree. Does not own: where trees are, and what they are for.
//!
//! Whoever filled the source decides what is in it, and may go on changing it. Both sides are descriptors; every
//! directory is opened beneath its root without following a link, so nothing outside the two is ever read or
//! made. Depth costs neither stack nor descriptors.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::archive::printable;
use crate::error::{Attempt, ImageError, Result};
use crate::limits;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, directories and everything else below the root.
    pub entries: u64,
    /// Bytes of the content of regular files.
    pub bytes: u64,
    /// Whether any content is shared with the source instead of being there twice (`FICLONE`).
    pub shared: bool,
}

/// Copies what is in the directory `from` into the empty directory `to`, and the attributes of `from` itself.
///
/// A file that somebody removes while the copy runs is left out.
///
/// # Errors
/// When something cannot be read or made. `to` then holds a part and is for removal.
pub fn copy_tree(from: impl AsFd, to: impl AsFd) -> Result<Copied> {
    let mut copier = Copier {
        from: from.as_fd(),
        to: to.as_fd(),
        links: HashMap::new(),
        copied: Copied::default(),
        clones: true,
    };
    copier.run()
}

/// Whether the directory has nothing in it but names for which `ignored` holds.
///
/// # Errors
/// When it cannot be read.
pub fn is_empty(directory: impl AsFd, ignored: impl Fn(&[u8]) -> bool) -> Result<bool> {
    let attempt = || "look into a directory".to_owned();
    for entry in Dir::read_from(directory).attempt(attempt)? {
        let entry = entry.attempt(attempt)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !ignored(name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies owner, mode, attributes and times of an open file or directory.
///
/// # Errors
/// When the file system refuses.
pub fn copy_attributes(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let attempt = || "copy the attributes of a directory".to_owned();
    let stat = rustix::fs::fstat(&from).attempt(attempt)?;
    settle(from.as_fd(), to.as_fd(), &stat).attempt(attempt)
}

/// Removes whatever is at `name`, directories with all they hold; nothing there is fine. Links are never followed.
///
/// # Errors
/// When the file system refuses.
pub fn remove(base: impl AsFd, name: &[u8]) -> Result<()> {
    crate::layers::remove_recursively(base, name)
}

struct Copier<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    /// Files with several names: where the first one was put.
    links: HashMap<(u64, u64), Vec<u8>>,
    copied: Copied,
    /// Whether sharing content has not been refused yet.
    clones: bool,
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    [parent, b"/", name].concat()
}

fn beneath(root: impl AsFd, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), flags)
}

impl Copier<'_> {
    fn run(&mut self) -> Result<Copied> {
        let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
        // Their times are set when nothing is put into them any more.
        let mut directories: Vec<(Vec<u8>, Stat)> = Vec::new();
        while let Some(path) = pending.pop() {
            let from = match beneath(self.from, &path) {
                Ok(from) => from,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !path.is_empty() => continue,
                other => other.attempt(|| format!("open directory {}", printable(&path)))?,
            };
            let to = beneath(self.to, &path)
                .attempt(|| format!("open the copy of directory {}", printable(&path)))?;
            let attempt = || format!("copy directory {}", printable(&path));
            let stat = rustix::fs::fstat(&from).attempt(attempt)?;
            for entry in Dir::read_from(&from).attempt(attempt)? {
                let entry = entry.attempt(attempt)?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let child = join(&path, name);
                if child.len() > limits::PATH_BYTES_MAX {
                    return Err(ImageError::Limit {
                        object: format!("the path {}", printable(&child)),
                        limit: limits::PATH_BYTES_MAX as u64,
                        unit: "bytes",
                    });
                }
                let copied = self.entry(&from, &to, name, &child);
                if copied.attempt(|| format!("copy {}", printable(&child)))? {
                    pending.push(child);
                }
            }
            settle(from.as_fd(), to.as_fd(), &stat).attempt(attempt)?;
            directories.push((path, stat));
        }
        for (path, stat) in directories.iter().rev() {
            let to = beneath(self.to, path)
                .attempt(|| format!("open the copy of directory {}", printable(path)))?;
            set_times(to.as_fd(), stat)
                .attempt(|| format!("set times of directory {}", printable(path)))?;
        }
        Ok(self.copied)
    }

    /// Copies one entry; tells whether it is a directory, whose content is still to come.
    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Result<bool, Errno> {
        let stat = match rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            other => other?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            self.copied.entries += 1;
            return Ok(true);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let (parent, first_name) = match first.iter().rposition(|b| *b == b'/') {
                    Some(place) => (&first[..place], &first[place + 1..]),
                    None => (&b""[..], first.as_slice()),
                };
                let parent = beneath(self.to, parent)?;
                rustix::fs::linkat(&parent, first_name, to, name, AtFlags::empty())?;
                self.copied.entries += 1;
                return Ok(false);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            FileType::RegularFile => {
                if !self.file(from, to, name)? {
                    self.links.remove(&(stat.st_dev, stat.st_ino));
                    return Ok(false);
                }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target.as_c_str(), to, name)?;
                own(to, name, &stat)?;
                set_times_of(to, name, &stat)?;
            }
            FileType::Unknown => return Ok(false),
            // Pipes, sockets and devices: as they are, never opened.
            kind => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
                own(to, name, &stat)?;
                // Just made by us, and no link.
                rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
                set_times_of(to, name, &stat)?;
            }
        }
        self.copied.entries += 1;
        Ok(false)
    }

    /// Copies a regular file; `false` when it is none any more.
    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
        // Without blocking: in its place there may be a pipe by now.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let source = match rustix::fs::openat(from, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
            other => other?,
        };
        let stat = rustix::fs::fstat(&source)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(false);
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if !(size > 0 && self.share(&source, &target)) {
            copy_content(&source, &target, size)?;
        }
        self.copied.bytes += size;
        settle(source.as_fd(), target.as_fd(), &stat)?;
        Ok(true)
    }

    /// Lets the copy share the content, where the file system can.
    fn share(&mut self, source: &OwnedFd, target: &OwnedFd) -> bool {
        if !self.clones {
            return false;
        }
        match rustix::fs::ioctl_ficlone(target, source) {
            Ok(()) => {
                self.copied.shared = true;
                true
            }
            // Not here, so not for the next file either; files of odd sizes and the like may still do.
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::INVAL) => {
                self.clones = self.copied.shared;
                false
            }
            Err(_) => false,
        }
    }
}

/// Copies the pieces that hold data; what lies between stays a hole.
fn copy_content(source: &OwnedFd, target: &OwnedFd, size: u64) -> Result<(), Errno> {
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(source, SeekFrom::Data(offset)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            // A file system that does not know.
            Err(Errno::INVAL) => offset,
            Err(error) => return Err(error),
        };
        let end = match rustix::fs::seek(source, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::INVAL | Errno::NXIO) => size,
            Err(error) => return Err(error),
        };
        if end <= start {
            break;
        }
        copy_piece(source, target, start, end - start)?;
        offset = end;
    }
    rustix::fs::ftruncate(target, size)
}

fn copy_piece(source: &OwnedFd, target: &OwnedFd, start: u64, length: u64) -> Result<(), Errno> {
    let (mut read_at, mut write_at, mut left) = (start, start, length);
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
        let moved = rustix::fs::copy_file_range(
            source,
            Some(&mut read_at),
            target,
            Some(&mut write_at),
            wanted,
        );
        match moved {
            // The file became shorter meanwhile.
            Ok(0) => return Ok(()),
            Ok(count) => left -= count as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::IO) => {
                return copy_by_reading(source, target, read_at, left);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn copy_by_reading(
    source: &OwnedFd,
    target: &OwnedFd,
    start: u64,
    length: u64,
) -> Result<(), Errno> {
    let mut buffer = vec![0_u8; limits::PIPE_CHUNK_BYTES];
    let (mut offset, mut left) = (start, length);
    while left > 0 {
        let wanted = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count =
            rustix::io::retry_on_intr(|| rustix::io::pread(source, &mut buffer[..wanted], offset))?;
        if count == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < count {
            written += rustix::io::retry_on_intr(|| {
                rustix::io::pwrite(target, &buffer[written..count], offset + written as u64)
            })?;
        }
        offset += count as u64;
        left -= count as u64;
    }
    Ok(())
}

fn own(to: &OwnedFd, name: &[u8], stat: &Stat) -> Result<(), Errno> {
    rustix::fs::chownat(
        to,
        name,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: i64::try_from(stat.st_atime_nsec).unwrap_or(0),
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
    }
}

fn set_times(to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::futimens(to, &times(stat))
}

fn set_times_of(to: &OwnedFd, name: &[u8], stat: &Stat) -> Result<(), Errno> {
    rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Owner, mode, attributes and times, in the order in which none undoes another: a change of owner clears set-id
/// bits and capabilities.
fn settle(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from, to)?;
    set_times(to, stat)
}

/// Attributes that steer overlayfs or belong to the host's policy stay behind.
fn xattr_is_copied(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"security.selinux")
        && !name.starts_with(b"security.SMACK64")
        && name != b"security.apparmor"
        && name != b"security.ima"
        && name != b"security.evm"
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    // Most files have none, or few.
    let mut few = [0_u8; 512];
    let mut many = Vec::new();
    let list = match rustix::fs::flistxattr(from, &mut few[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(length) => &few[..length],
        Err(Errno::RANGE) => {
            many.resize(limits::XATTR_BYTES_MAX, 0_u8);
            let length = rustix::fs::flistxattr(from, &mut many[..])?;
            &many[..length]
        }
        Err(error) => return Err(error),
    };
    let mut value = vec![0_u8; limits::XATTR_BYTES_MAX];
    for name in list.split(|b| *b == 0) {
        if name.is_empty() || !xattr_is_copied(name) {
            continue;
        }
        let size = match rustix::fs::fgetxattr(from, name, &mut value[..]) {
            Ok(size) => size,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(error) => return Err(error),
        };
        match rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            // A file system without attributes loses them, as with other engines.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            // Sticky directories and the like take no user attributes.
            Err(Errno::PERM) if name.starts_with(b"user.") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        berth_sys::fs::open_directory(path).unwrap()
    }

    fn copy(from: &Path, to: &Path) -> Copied {
        copy_tree(open(from), open(to)).unwrap()
    }

    #[test]
    fn everything_a_file_has_is_copied() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (from.path(), to.path());
        std::fs::create_dir(a.join("inner")).unwrap();
        std::fs::write(a.join("inner/file"), b"content").unwrap();
        std::fs::set_permissions(
            a.join("inner/file"),
            std::fs::Permissions::from_mode(0o4750),
        )
        .unwrap();
        std::fs::hard_link(a.join("inner/file"), a.join("second")).unwrap();
        symlink("/etc/passwd", a.join("link")).unwrap();
        rustix::fs::setxattr(a.join("inner/file"), "user.k", b"v", XattrFlags::empty()).unwrap();
        let sparse = std::fs::File::create(a.join("sparse")).unwrap();
        sparse.set_len(8 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (8 << 20) - 3).unwrap();
        drop(sparse);
        rustix::fs::mknodat(
            open(a),
            "pipe",
            FileType::Fifo,
            Mode::from_raw_mode(0o640),
            0,
        )
        .unwrap();
        std::fs::set_permissions(a, std::fs::Permissions::from_mode(0o751)).unwrap();
        let then = Timestamps {
            last_access: Timespec {
                tv_sec: 1000,
                tv_nsec: 5,
            },
            last_modification: Timespec {
                tv_sec: 2000,
                tv_nsec: 7,
            },
        };
        for name in ["inner/file", "inner"] {
            rustix::fs::utimensat(rustix::fs::CWD, a.join(name), &then, AtFlags::empty()).unwrap();
        }
        let copied = copy(a, b);
        assert_eq!(copied.entries, 6);
        let file = std::fs::metadata(b.join("inner/file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.mtime()), (0o4750, 2000));
        assert_eq!(std::fs::metadata(b.join("inner")).unwrap().mtime(), 2000);
        assert_eq!(
            file.ino(),
            std::fs::metadata(b.join("second")).unwrap().ino()
        );
        assert_eq!(
            std::fs::read_link(b.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        let mut value = [0_u8; 4];
        let length = rustix::fs::getxattr(b.join("inner/file"), "user.k", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"v");
        let sparse = std::fs::metadata(b.join("sparse")).unwrap();
        assert_eq!(sparse.size(), 8 << 20);
        assert!(sparse.blocks() * 512 < 1 << 20, "the hole was filled");
        assert!(std::fs::read(b.join("sparse")).unwrap().ends_with(b"\0end"));
        assert_eq!(std::fs::metadata(b).unwrap().mode() & 0o777, 0o751);
        assert_eq!(
            std::fs::symlink_metadata(b.join("pipe")).unwrap().mode() & 0o777,
            0o640
        );
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut path = from.path().to_path_buf();
        for _ in 0..1500 {
            path.push("d");
        }
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("f"), b"x").unwrap();
        let copied = copy(from.path(), to.path());
        assert_eq!(copied.entries, 1501);
    }

    #[test]
    fn emptiness_may_leave_names_out_of_account() {
        let directory = tempfile::tempdir().unwrap();
        assert!(is_empty(open(directory.path()), |_| false).unwrap());
        std::fs::write(directory.path().join(".own"), b"").unwrap();
        assert!(!is_empty(open(directory.path()), |_| false).unwrap());
        assert!(is_empty(open(directory.path()), |n| n == b".own").unwrap());
    }
}
