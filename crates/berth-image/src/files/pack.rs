//! A tree of files as an archive.
//!
//! Owns: how a file becomes an entry, with every attribute that archives of images carry. Times are whole
//! seconds, as other engines write them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::walk::{Item, Visitor, walk};
use crate::archive::{ArchiveWriter, Entry, Kind, Time, printable};
use crate::error::{Attempt, Result, unwrap_carried};
use crate::layers::unpack::xattr_is_taken;
use crate::limits;

/// How a tree is packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Stands in front of each path, with a slash at its end unless empty.
    pub prefix: Vec<u8>,
    /// An entry for the root itself, under the prefix.
    pub with_root: bool,
}

/// Writes the tree beneath `root` into `archive`.
///
/// # Errors
/// When a file cannot be read, or the target does not take it.
pub fn pack<W: Write>(
    root: &OwnedFd,
    archive: &mut ArchiveWriter<W>,
    options: &PackOptions,
) -> Result<()> {
    let packer = Packer::new(archive);
    if options.with_root {
        let stat = rustix::fs::fstat(root).attempt(|| "look at the directory".to_owned())?;
        let mut entry = entry_of(&stat, Kind::Directory, &options.prefix);
        entry.xattrs = xattrs_of_descriptor(root)?;
        packer.archive.entry(&entry).map_err(write_failed)?;
    }
    walk(
        root,
        &mut Plain {
            packer,
            prefix: &options.prefix,
        },
    )
}

/// Writes one file that is not a directory, as `name`.
///
/// # Errors
/// As [`pack`].
pub fn pack_one<W: Write>(
    item: &Item<'_>,
    archive: &mut ArchiveWriter<W>,
    name: &[u8],
) -> Result<()> {
    Packer::new(archive).item(item, name)
}

struct Plain<'a, W> {
    packer: Packer<'a, W>,
    prefix: &'a [u8],
}

impl<W: Write> Visitor for Plain<'_, W> {
    fn visit(&mut self, item: &Item<'_>) -> Result<bool> {
        let path = [self.prefix, item.path].concat();
        self.packer.item(item, &path)?;
        Ok(true)
    }
}

/// Writes items of a walk as entries, and remembers the names of files that have several.
pub(crate) struct Packer<'a, W> {
    pub(crate) archive: &'a mut ArchiveWriter<W>,
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// The failure of an archive's target, with what was carried through it.
pub(crate) fn write_failed(error: std::io::Error) -> crate::error::ImageError {
    unwrap_carried(|| "write the archive".to_owned(), error)
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(archive: &'a mut ArchiveWriter<W>) -> Self {
        Self {
            archive,
            links: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    /// Writes one item under `path`. What archives cannot hold (sockets) is left out, as everywhere.
    pub(crate) fn item(&mut self, item: &Item<'_>, path: &[u8]) -> Result<()> {
        let stat = &item.stat;
        let kind = match item.kind() {
            FileType::RegularFile => Kind::Regular,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Character,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(()),
        };
        if kind != Kind::Directory && stat.st_nlink > 1 {
            let identity = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&identity) {
                let mut entry = entry_of(stat, Kind::HardLink, path);
                entry.link.clone_from(first);
                return self.archive.entry(&entry).map_err(write_failed);
            }
            self.links.insert(identity, path.to_vec());
        }
        match kind {
            Kind::Regular => self.regular(item, path),
            Kind::Directory => {
                let mut entry = entry_of(stat, kind, &[path, b"/"].concat());
                entry.xattrs = xattrs_of(item)?;
                self.archive.entry(&entry).map_err(write_failed)
            }
            Kind::Symlink => {
                let Some(target) = item.link_target()? else {
                    return Ok(());
                };
                let mut entry = entry_of(stat, kind, path);
                entry.mode = 0o777;
                entry.link = target;
                entry.xattrs = xattrs_of(item)?;
                self.archive.entry(&entry).map_err(write_failed)
            }
            _ => {
                let mut entry = entry_of(stat, kind, path);
                entry.device = (
                    rustix::fs::major(stat.st_rdev),
                    rustix::fs::minor(stat.st_rdev),
                );
                entry.xattrs = xattrs_of(item)?;
                self.archive.entry(&entry).map_err(write_failed)
            }
        }
    }

    fn regular(&mut self, item: &Item<'_>, path: &[u8]) -> Result<()> {
        let Some(file) = item.open()? else {
            return Ok(());
        };
        let attempt = || format!("read {}", printable(path));
        let stat = rustix::fs::fstat(&file).attempt(attempt)?;
        let mut entry = entry_of(&stat, Kind::Regular, path);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.xattrs = xattrs_of_descriptor(&file)?;
        self.archive.entry(&entry).map_err(write_failed)?;
        self.copy(&file, entry.size, path)
    }

    /// Copies `length` bytes; a file that became shorter meanwhile is filled with zeros.
    fn copy(&mut self, file: &File, length: u64, path: &[u8]) -> Result<()> {
        self.buffer.resize(limits::PIPE_CHUNK_BYTES, 0);
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let count =
                rustix::io::retry_on_intr(|| rustix::io::read(file, &mut self.buffer[..want]))
                    .attempt(|| format!("read {}", printable(path)))?;
            if count == 0 {
                break;
            }
            self.archive
                .data(&self.buffer[..count])
                .map_err(write_failed)?;
            left -= count as u64;
        }
        if left > 0 {
            self.buffer.fill(0);
        }
        while left > 0 {
            let count = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            self.archive
                .data(&self.buffer[..count])
                .map_err(write_failed)?;
            left -= count as u64;
        }
        Ok(())
    }
}

/// An entry with the attributes that every file has.
pub(crate) fn entry_of(stat: &Stat, kind: Kind, path: &[u8]) -> Entry {
    Entry {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: Time {
            seconds: stat.st_mtime,
            nanoseconds: 0,
        },
        ..Entry::new(kind, path)
    }
}

/// The attributes of what stands at a name; links are not followed.
pub(crate) fn xattrs_of(item: &Item<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // There is no call that takes a directory and a name.
    let mut path = format!("/proc/self/fd/{}/", item.parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(item.name);
    xattrs(
        item.path,
        |buffer| rustix::fs::llistxattr(path.as_slice(), buffer),
        |name, buffer| rustix::fs::lgetxattr(path.as_slice(), name, buffer),
    )
}

/// The attributes of an open file or directory.
pub(crate) fn xattrs_of_descriptor(file: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let file = file.as_fd();
    xattrs(
        b"a file",
        |buffer| rustix::fs::flistxattr(file, buffer),
        |name, buffer| rustix::fs::fgetxattr(file, name, buffer),
    )
}

fn xattrs(
    path: &[u8],
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let attempt = || format!("read the attributes of {}", printable(path));
    // Most files have none or few names, so that no memory is asked for.
    let mut small = [0_u8; 1024];
    let mut large = Vec::new();
    let names = match list(&mut small) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOENT | Errno::ACCESS) => return Ok(Vec::new()),
        Ok(length) => &small[..length],
        Err(Errno::RANGE) => {
            large.resize(limits::XATTR_BYTES_MAX, 0);
            match list(&mut large) {
                Ok(length) => &large[..length],
                Err(Errno::NOENT) => return Ok(Vec::new()),
                Err(error) => return Err(error).attempt(attempt),
            }
        }
        Err(error) => return Err(error).attempt(attempt),
    };
    let mut kept: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| xattr_is_taken(name)) {
        let mut value = vec![0_u8; limits::XATTR_BYTES_MAX];
        match get(name, &mut value) {
            Ok(size) => {
                value.truncate(size);
                kept.push((name.to_vec(), value));
            }
            // Removed meanwhile.
            Err(Errno::NODATA | Errno::NOENT) => {}
            Err(error) => return Err(error).attempt(attempt),
        }
    }
    kept.sort_unstable();
    Ok(kept)
}
