//! Unpacking one layer into a directory that overlayfs can stack.
//!
//! Owns: how an entry of the archive becomes a file, with every attribute, and how deletions become
//! overlayfs' marks. Does not own: the archive format ([`crate::archive`]), path safety ([`super::tree`]),
//! where the directory is or what becomes of it.
//!
//! Deletions (OCI image specification, layer.md, "Whiteouts") concern lower layers only, so the order of a
//! deletion and an addition of the same name within a layer does not matter: the addition stands, and
//! hides what was below it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::tree::{Found, Place, Tree, components, kind_of, remove_recursively, set_opaque};
use crate::archive::{ArchiveReader, Entry, Kind, Time, printable};
use crate::error::{Attempt, ImageError, Result};
use crate::limits;

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// What unpacking found out about a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of all regular files, as Docker counts a layer's size.
    pub size: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// The layer hides everything below its root.
    pub opaque_root: bool,
    /// Directories that no entry describes: they take the attributes of the lower layers' ones.
    pub implied: Vec<Vec<u8>>,
}

struct Unpacker {
    tree: Tree,
    object: String,
    result: Unpacked,
    /// Times of directories, set when nothing is put into them any more.
    directories: Vec<(Vec<u8>, Timestamps)>,
    root_described: bool,
}

/// Unpacks `archive` into the empty directory `root`; `object` names the layer in errors.
///
/// # Errors
/// When the archive is damaged, asks for a place outside the root or exceeds a limit, and when the file
/// system refuses. The directory then holds a part of the layer and is for removal.
pub fn unpack<R: std::io::BufRead>(
    archive: &mut ArchiveReader<R>,
    root: OwnedFd,
    object: &str,
) -> Result<Unpacked> {
    let mut unpacker = Unpacker {
        tree: Tree::new(root),
        object: object.to_owned(),
        result: Unpacked::default(),
        directories: Vec::new(),
        root_described: false,
    };
    while let Some(entry) = archive.next_entry()? {
        unpacker
            .entry(archive, &entry)
            .map_err(|error| unpacker.named(error, &entry))?;
        unpacker.result.entries += 1;
    }
    unpacker.finish()
}

fn timespec(time: Time) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}

fn timestamps(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: timespec(entry.accessed.unwrap_or(entry.modified)),
        last_modification: timespec(entry.modified),
    }
}

/// Attributes that an image may set. `trusted.*` steers overlayfs itself and host programs, security
/// labels belong to the host's policy.
pub(crate) fn xattr_is_taken(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || matches!(
            name,
            b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
        )
}

impl Unpacker {
    fn named(&self, error: ImageError, entry: &Entry) -> ImageError {
        match error {
            ImageError::Io { attempt, source } => ImageError::Io {
                attempt: format!("unpack {} of {}: {attempt}", entry.name(), self.object),
                source,
            },
            ImageError::Archive { object, reason } if object != self.object => {
                ImageError::Archive {
                    object: self.object.clone(),
                    reason: if object == entry.name() {
                        format!("{object}: {reason}")
                    } else {
                        format!("{}: {object}: {reason}", entry.name())
                    },
                }
            }
            other => other,
        }
    }

    fn refuse(&self, entry: &Entry, reason: impl Into<String>) -> ImageError {
        ImageError::archive(entry.name(), reason)
    }

    fn entry<R: std::io::BufRead>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        entry: &Entry,
    ) -> Result<()> {
        let parts = components(&entry.path)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.root(entry);
        };
        if name.starts_with(WHITEOUT) {
            return self.whiteout(entry, name, parents);
        }
        let parent = self.tree.directory(parents)?;
        match entry.kind {
            Kind::Regular => self.regular(archive, &parent, name, entry),
            Kind::Directory => self.directory(&parent, name, entry),
            Kind::HardLink | Kind::Symlink | Kind::Character | Kind::Block | Kind::Fifo => {
                self.make_room(&parent, name, entry)?;
                match entry.kind {
                    Kind::HardLink => self.hard_link(&parent, name, entry),
                    Kind::Symlink => self.symlink(&parent, name, entry),
                    _ => self.special(&parent, name, entry),
                }
            }
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(self.refuse(entry, "the root of the layer is not a directory"));
        }
        let root = self.tree.root();
        self.root_described = true;
        set_attributes(&root, entry)?;
        self.directories.push((Vec::new(), timestamps(entry)));
        Ok(())
    }

    /// Removes what stands in the way, but keeps a directory for a directory. Tells whether the name was
    /// hidden by this layer before.
    fn make_room(&mut self, parent: &Place, name: &[u8], entry: &Entry) -> Result<bool> {
        let Some(found) = kind_of(parent, name)? else {
            return Ok(false);
        };
        match found {
            Found::Directory if entry.kind == Kind::Directory => return Ok(false),
            Found::Directory => {
                remove_recursively(parent, name)?;
                self.tree.forget();
            }
            _ => rustix::fs::unlinkat(parent, name, AtFlags::empty())
                .attempt(|| format!("replace {}", printable(name)))?,
        }
        if found == Found::Symlink {
            self.tree.forget();
        }
        Ok(found == Found::Whiteout)
    }

    fn whiteout(&mut self, entry: &Entry, name: &[u8], parents: &[&[u8]]) -> Result<()> {
        if name == WHITEOUT_OPAQUE {
            let place = self.tree.directory(parents)?;
            if place.path.is_empty() {
                self.result.opaque_root = true;
            }
            return set_opaque(&place, &place.path);
        }
        // Bookkeeping of a union file system of old (aufs), no part of the image.
        if name.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.refuse(entry, "a deletion that names nothing"));
        }
        let parent = self.tree.directory(parents)?;
        match kind_of(&parent, hidden)? {
            None => rustix::fs::mknodat(
                &parent,
                hidden,
                FileType::CharacterDevice,
                Mode::empty(),
                rustix::fs::makedev(0, 0),
            )
            .attempt(|| format!("hide {}", printable(hidden))),
            Some(Found::Directory) => {
                let path = parent.child(hidden);
                let directory = self
                    .tree
                    .directory(&path.split(|b| *b == b'/').collect::<Vec<_>>())?;
                // Hidden below, so nothing is left to take attributes from.
                self.tree.described(&path);
                set_opaque(&directory, &path)
            }
            // The layer's own file stands in place of the hidden one.
            Some(_) => Ok(()),
        }
    }

    fn regular<R: std::io::BufRead>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        parent: &Place,
        name: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        let create = || {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
        };
        // Names hardly ever come twice, so looking first would be a call for nothing.
        let file = match create() {
            Err(Errno::EXIST) => {
                self.make_room(parent, name, entry)?;
                create()
            }
            other => other,
        }
        .attempt(|| "create the file".to_owned())?;
        match &entry.sparse {
            None => self.copy(archive, &file, entry.size)?,
            Some(map) => {
                for (offset, length) in &map.segments {
                    rustix::fs::seek(&file, SeekFrom::Start(*offset))
                        .attempt(|| "seek in the file".to_owned())?;
                    self.copy(archive, &file, *length)?;
                }
                rustix::fs::ftruncate(&file, map.size)
                    .attempt(|| "set the size of the file".to_owned())?;
            }
        }
        set_attributes(&file, entry)?;
        set_times(&file, &timestamps(entry))
    }

    fn copy<R: std::io::BufRead>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        file: &OwnedFd,
        length: u64,
    ) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let piece = archive.data()?;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let written = rustix::io::retry_on_intr(|| rustix::io::write(file, &piece[..count]))
                .attempt(|| "write the file".to_owned())?;
            archive.consume(written);
            left -= written as u64;
            self.result.size += written as u64;
        }
        Ok(())
    }

    fn directory(&mut self, parent: &Place, name: &[u8], entry: &Entry) -> Result<()> {
        let make = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700));
        let mut was_hidden = false;
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                was_hidden = self.make_room(parent, name, entry)?;
                match make() {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error).attempt(|| "make the directory".to_owned()),
                }
            }
            Err(error) => return Err(error).attempt(|| "make the directory".to_owned()),
        }
        let directory = rustix::fs::openat(
            parent,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .attempt(|| "open the directory".to_owned())?;
        let path = parent.child(name);
        if was_hidden {
            set_opaque(&directory, &path)?;
        }
        self.tree.described(&path);
        set_attributes(&directory, entry)?;
        self.directories.push((path, timestamps(entry)));
        Ok(())
    }

    fn hard_link(&mut self, parent: &Place, name: &[u8], entry: &Entry) -> Result<()> {
        let parts = components(&entry.link)?;
        let Some((target, parents)) = parts.split_last() else {
            return Err(self.refuse(entry, "a hard link to the root of the layer"));
        };
        let target_parent = self.tree.directory(parents)?;
        match kind_of(&target_parent, target)? {
            None | Some(Found::Whiteout) => {
                return Err(self.refuse(
                    entry,
                    format!(
                        "a hard link to {}, which is not in this layer",
                        printable(&entry.link)
                    ),
                ));
            }
            Some(Found::Directory) => {
                return Err(self.refuse(entry, "a hard link to a directory"));
            }
            Some(_) => {}
        }
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is one to the link itself.
        rustix::fs::linkat(&target_parent, *target, parent, name, AtFlags::empty())
            .attempt(|| format!("link to {}", printable(&entry.link)))
    }

    fn symlink(&mut self, parent: &Place, name: &[u8], entry: &Entry) -> Result<()> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(self.refuse(entry, "a symbolic link to nothing"));
        }
        if entry.link.len() >= limits::PATH_BYTES_MAX {
            return Err(self.refuse(entry, "the target of the symbolic link is too long"));
        }
        rustix::fs::symlinkat(entry.link.as_slice(), parent, name)
            .attempt(|| "make the symbolic link".to_owned())?;
        self.set_attributes_by_name(parent, name, entry, false)
    }

    fn special(&mut self, parent: &Place, name: &[u8], entry: &Entry) -> Result<()> {
        let (kind, device) = match entry.kind {
            Kind::Character => (
                FileType::CharacterDevice,
                rustix::fs::makedev(entry.device.0, entry.device.1),
            ),
            Kind::Block => (
                FileType::BlockDevice,
                rustix::fs::makedev(entry.device.0, entry.device.1),
            ),
            _ => (FileType::Fifo, 0),
        };
        rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
            .attempt(|| "make the special file".to_owned())?;
        self.set_attributes_by_name(parent, name, entry, true)
    }

    /// For what cannot or must not be opened: the parent's descriptor and the name, link not followed.
    fn set_attributes_by_name(
        &self,
        parent: &Place,
        name: &[u8],
        entry: &Entry,
        with_mode: bool,
    ) -> Result<()> {
        rustix::fs::chownat(
            parent,
            name,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .attempt(|| format!("give it to {}:{}", entry.uid, entry.gid))?;
        if with_mode {
            // Just made by us in a directory that nobody else reaches, and not a link.
            rustix::fs::chmodat(
                parent,
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .attempt(|| format!("set mode {:o}", entry.mode))?;
        }
        for (key, value) in &entry.xattrs {
            // The kernel allows user attributes on files and directories only.
            if !xattr_is_taken(key) || key.starts_with(b"user.") {
                continue;
            }
            let mut path = format!("/proc/self/fd/{}/", parent.descriptor.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            match rustix::fs::lsetxattr(path.as_slice(), key.as_slice(), value, XattrFlags::empty())
            {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(error) => {
                    return Err(error).attempt(|| format!("set attribute {}", printable(key)));
                }
            }
        }
        match rustix::fs::utimensat(parent, name, &timestamps(entry), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => Ok(()),
            Err(error) => Err(error).attempt(|| "set times".to_owned()),
        }
    }

    fn finish(mut self) -> Result<Unpacked> {
        let epoch = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            last_modification: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
        };
        for (path, times) in &self.directories {
            if let Some(directory) = self.tree.reopen(path)? {
                set_times(&directory, times)?;
            }
        }
        let root = self.tree.root();
        let mut implied = Vec::new();
        let root_described = self.root_described;
        let tree = std::mem::replace(&mut self.tree, Tree::new(dup(&root)?));
        for path in tree.into_implied() {
            // Replaced by a file since, or part of a directory that was.
            if let Some(directory) = self.tree.reopen(&path)? {
                set_times(&directory, &epoch)?;
                implied.push(path);
            }
        }
        if !root_described {
            rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))
                .attempt(|| "set the mode of the layer's root".to_owned())?;
            set_times(&root, &epoch)?;
            implied.push(Vec::new());
        }
        self.result.implied = implied;
        Ok(self.result)
    }
}

fn dup(place: &Place) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(place, 0).attempt(|| "keep the layer's root open".to_owned())
}

/// Owner, mode and attributes of an open file or directory, in the order in which none undoes another:
/// a change of owner clears set-id bits and capabilities.
fn set_attributes(file: impl AsFd, entry: &Entry) -> Result<()> {
    rustix::fs::fchown(
        &file,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
    .attempt(|| format!("give it to {}:{}", entry.uid, entry.gid))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))
        .attempt(|| format!("set mode {:o}", entry.mode))?;
    for (name, value) in &entry.xattrs {
        if !xattr_is_taken(name) {
            continue;
        }
        match rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            // A file system without attributes loses them, as with other engines.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            // Sticky directories and the like take no user attributes.
            Err(Errno::PERM) if name.starts_with(b"user.") => {}
            Err(error) => {
                return Err(error).attempt(|| format!("set attribute {}", printable(name)));
            }
        }
    }
    Ok(())
}

fn set_times(file: impl AsFd, times: &Timestamps) -> Result<()> {
    rustix::fs::futimens(file, times).attempt(|| "set times".to_owned())
}
