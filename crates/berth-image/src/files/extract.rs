//! An archive's entries into a tree of files that others may change meanwhile.
//!
//! Owns: how an entry becomes a file, what may take the place of what, and that nothing outside the root is
//! reached: each path is resolved by the kernel with the root as `/`, each name is then used in the directory
//! that was found. Links in the tree are followed within the root, as a program in it would follow them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_sys::path::Root;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::archive::{ArchiveReader, Entry, Kind, printable};
use crate::error::{Attempt, ImageError, Result};
use crate::layers::tree::{components, remove_recursively};
use crate::layers::unpack::xattr_is_taken;
use crate::limits;
use crate::stream;

/// How an archive is extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// A directory does not take the place of anything else, nor the reverse.
    pub keep_kinds: bool,
    /// Who owns everything, whatever the archive says.
    pub owner: Option<(u32, u32)>,
    /// The directory itself becomes what the archive says of it; otherwise it keeps what it has.
    pub with_root: bool,
}

/// What was extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of its regular files.
    pub bytes: u64,
}

/// Writes the entries of `source`, an archive that may be compressed, into the directory `path` of `root`.
///
/// # Errors
/// When the archive is damaged, asks for a place outside the directory by `..`, or the file system refuses.
/// What was extracted before stays; a file that is not whole does not.
pub fn extract(
    root: &Root,
    path: &Path,
    source: impl Read + Send,
    options: ExtractOptions,
) -> Result<Extracted> {
    const OBJECT: &str = "the archive";
    let source = stream::decompressed(source, OBJECT, limits::LAYER_BYTES_MAX)?;
    let buffered = BufReader::with_capacity(limits::PIPE_CHUNK_BYTES, source);
    let mut archive = ArchiveReader::new(buffered, OBJECT, limits::LAYER_ENTRIES_MAX);
    let mut extractor = Extractor {
        root,
        base: path.to_owned(),
        options,
        last: None,
        directories: Vec::new(),
        done: Extracted::default(),
    };
    while let Some(entry) = archive.next_entry()? {
        extractor
            .entry(&mut archive, &entry)
            .map_err(|error| named(error, &entry))?;
        extractor.done.entries += 1;
    }
    extractor.finish()?;
    // The rest is read so that whoever sends it is not cut off.
    std::io::copy(&mut archive.into_source(), &mut std::io::sink())
        .map_err(|error| crate::error::unwrap_carried(|| format!("read {OBJECT}"), error))?;
    Ok(extractor.done)
}

fn named(error: ImageError, entry: &Entry) -> ImageError {
    match error {
        ImageError::Io { attempt, source } => ImageError::Io {
            attempt: format!("extract {}: {attempt}", entry.name()),
            source,
        },
        other => other,
    }
}

struct Extractor<'a> {
    root: &'a Root,
    base: PathBuf,
    options: ExtractOptions,
    /// The directory used last, since archives list a directory's files in a row.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Times of directories, set when nothing is put into them any more.
    directories: Vec<(Vec<u8>, Timestamps)>,
    done: Extracted,
}

/// Takes away a file that is not whole (the disk is full, the archive ended), and keeps what came in its place.
fn withdraw(parent: &OwnedFd, name: &[u8], file: &OwnedFd) {
    let stands = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    if let (Ok(own), Ok(stands)) = (rustix::fs::fstat(file), stands)
        && (own.st_dev, own.st_ino) == (stands.st_dev, stands.st_ino)
    {
        // The first failure is the one to tell.
        let _ = rustix::fs::unlinkat(parent, name, AtFlags::empty());
    }
}

fn timestamps(entry: &Entry) -> Timestamps {
    let of = |time: crate::archive::Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        last_access: of(entry.accessed.unwrap_or(entry.modified)),
        last_modification: of(entry.modified),
    }
}

impl Extractor<'_> {
    /// The directory that leads to an entry; missing ones are made.
    fn directory(&mut self, parts: &[&[u8]]) -> Result<Rc<OwnedFd>> {
        let key = parts.join(&b'/');
        if let Some((path, directory)) = &self.last
            && *path == key
        {
            return Ok(directory.clone());
        }
        let path = self.base.join(OsStr::from_bytes(&key));
        let found = self
            .root
            .create_directories(&path, Mode::from_raw_mode(0o755))?;
        let directory = Rc::new(super::walk::open_root(found)?);
        self.last = Some((key, directory.clone()));
        Ok(directory)
    }

    fn entry<R: BufRead>(&mut self, archive: &mut ArchiveReader<R>, entry: &Entry) -> Result<()> {
        let parts = components(&entry.path)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.directory_itself(entry);
        };
        let parent = self.directory(parents)?;
        for _ in 1..limits::PLACE_ATTEMPTS {
            match self.place(archive, &parent, name, entry) {
                // The container or another copy has put something there after room was made.
                Err(ImageError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                placed => return placed,
            }
        }
        self.place(archive, &parent, name, entry)
    }

    /// Puts an entry in the place of what stands at its name. Nothing of the archive is read when that is not possible.
    fn place<R: BufRead>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        let stays = self.make_room(parent, name, entry)?;
        match entry.kind {
            Kind::Regular => self.regular(archive, parent, name, entry),
            Kind::Directory => self.make_directory(parent, name, entry, stays),
            Kind::HardLink => self.hard_link(parent, name, entry),
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(ImageError::archive(
                        entry.name(),
                        "a symbolic link to nothing",
                    ));
                }
                rustix::fs::symlinkat(entry.link.as_slice(), parent, name)
                    .attempt(|| "make the symbolic link".to_owned())?;
                self.attributes_by_name(parent, name, entry, false)
            }
            Kind::Character | Kind::Block | Kind::Fifo => {
                let (kind, device) = match entry.kind {
                    Kind::Fifo => (FileType::Fifo, 0),
                    Kind::Block => (
                        FileType::BlockDevice,
                        rustix::fs::makedev(entry.device.0, entry.device.1),
                    ),
                    _ => (
                        FileType::CharacterDevice,
                        rustix::fs::makedev(entry.device.0, entry.device.1),
                    ),
                };
                rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(entry.mode), device)
                    .attempt(|| "make the special file".to_owned())?;
                self.attributes_by_name(parent, name, entry, true)
            }
        }
    }

    /// The entry of the directory that everything goes into.
    fn directory_itself(&mut self, entry: &Entry) -> Result<()> {
        if !self.options.with_root || entry.kind != Kind::Directory {
            return Ok(());
        }
        let directory = self.directory(&[])?;
        self.attributes(&directory, entry)?;
        self.directories.push((Vec::new(), timestamps(entry)));
        Ok(())
    }

    /// Takes away what stands at the name of an entry. Tells whether a directory stays for a directory.
    fn make_room(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<bool> {
        let is_directory = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error).attempt(|| "look at what is there".to_owned()),
        };
        let becomes_directory = entry.kind == Kind::Directory;
        if self.options.keep_kinds && is_directory != becomes_directory {
            let shown = self.base.join(OsStr::from_bytes(&entry.path));
            let words = if is_directory {
                ("directory", "non-directory")
            } else {
                ("non-directory", "directory")
            };
            return Err(ImageError::Overwrite {
                path: shown.display().to_string(),
                what: words.0,
                by: words.1,
            });
        }
        if is_directory && becomes_directory {
            return Ok(true);
        }
        self.last = None;
        remove_recursively(parent, name)?;
        Ok(false)
    }

    fn owner(&self, entry: &Entry) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    fn regular<R: BufRead>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .attempt(|| "create the file".to_owned())?;
        let filled = self.fill(archive, &file, entry);
        if filled.is_err() {
            withdraw(parent, name, &file);
        }
        filled
    }

    fn fill<R: BufRead>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        file: &OwnedFd,
        entry: &Entry,
    ) -> Result<()> {
        match &entry.sparse {
            None => self.copy(archive, file, entry.size)?,
            Some(map) => {
                for (offset, length) in &map.segments {
                    rustix::fs::seek(file, SeekFrom::Start(*offset))
                        .attempt(|| "seek in the file".to_owned())?;
                    self.copy(archive, file, *length)?;
                }
                rustix::fs::ftruncate(file, map.size)
                    .attempt(|| "set the size of the file".to_owned())?;
            }
        }
        self.attributes(file, entry)?;
        rustix::fs::futimens(file, &timestamps(entry)).attempt(|| "set times".to_owned())
    }

    fn copy<R: BufRead>(
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
            self.done.bytes += written as u64;
        }
        Ok(())
    }

    fn make_directory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        stays: bool,
    ) -> Result<()> {
        if !stays {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))
                .attempt(|| "make the directory".to_owned())?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty())
            .attempt(|| "open the directory".to_owned())?;
        self.attributes(&directory, entry)?;
        self.directories
            .push((components(&entry.path)?.join(&b'/'), timestamps(entry)));
        Ok(())
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        let parts = components(&entry.link)?;
        let Some((target, parents)) = parts.split_last() else {
            return Err(ImageError::archive(
                entry.name(),
                "a hard link to the directory itself",
            ));
        };
        let target_parent = self.directory(parents)?;
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is one to the link itself.
        rustix::fs::linkat(&*target_parent, *target, parent, name, AtFlags::empty())
            .attempt(|| format!("link to {}", printable(&entry.link)))
    }

    /// Owner, mode and attributes, in the order in which none undoes another.
    fn attributes(&self, file: &OwnedFd, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.owner(entry);
        rustix::fs::fchown(file, uid, gid).attempt(|| "set the owner".to_owned())?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))
            .attempt(|| format!("set mode {:o}", entry.mode))?;
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| xattr_is_taken(key)) {
            match rustix::fs::fsetxattr(file, key.as_slice(), value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(Errno::PERM) if key.starts_with(b"user.") => {}
                Err(error) => {
                    return Err(error).attempt(|| format!("set attribute {}", printable(key)));
                }
            }
        }
        Ok(())
    }

    /// For what cannot or must not be opened: links and special files.
    fn attributes_by_name(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        with_mode: bool,
    ) -> Result<()> {
        // Whatever the name stands for now is held, so that an exchange meanwhile changes nothing else.
        let held = rustix::fs::openat(
            parent,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .attempt(|| "look at what was made".to_owned())?;
        let (uid, gid) = self.owner(entry);
        rustix::fs::chownat(&held, "", uid, gid, AtFlags::EMPTY_PATH)
            .attempt(|| "set the owner".to_owned())?;
        let stat = rustix::fs::fstat(&held).attempt(|| "look at what was made".to_owned())?;
        if with_mode && FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let path = format!("/proc/self/fd/{}", held.as_raw_fd());
            rustix::fs::chmod(path, Mode::from_raw_mode(entry.mode))
                .attempt(|| format!("set mode {:o}", entry.mode))?;
        }
        rustix::fs::utimensat(parent, name, &timestamps(entry), AtFlags::SYMLINK_NOFOLLOW)
            .attempt(|| "set times".to_owned())
    }

    fn finish(&mut self) -> Result<()> {
        for (path, times) in std::mem::take(&mut self.directories).iter().rev() {
            let path = self.base.join(OsStr::from_bytes(path));
            // Removed or replaced since, by the archive or by the container.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
            if let Ok(directory) = self.root.open_at(&path, flags, Mode::empty()) {
                rustix::fs::futimens(&directory, times).attempt(|| "set times".to_owned())?;
            }
        }
        Ok(())
    }
}
