//! Local files as an archive, and an archive as local files.
//!
//! What comes out of a container is not trusted: each entry is put in its place by descriptors below the
//! target directory, and no link on the way is followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use super::chunks::{Reader, Writer};
use crate::failure::Failure;
use crate::options::environment::reason;

/// Writes the tree at `source` as an archive in which it is called `name`.
pub(super) fn pack(source: &Path, name: &str, writer: Writer) -> Result<(), Failure> {
    let mut builder = Builder::new(writer);
    let mut links = HashMap::new();
    let packed = add(&mut builder, source, Path::new(name), &mut links).and_then(|()| {
        builder
            .finish()
            .and_then(|()| builder.get_mut().flush())
            .map_err(|error| Failure::new(format!("send {}: {}", source.display(), reason(&error))))
    });
    if let Err(failure) = &packed {
        builder.get_ref().fail(&failure.message);
    }
    packed
}

fn add(
    builder: &mut Builder<Writer>,
    source: &Path,
    name: &Path,
    links: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<(), Failure> {
    // By hand and not by recursion: trees are as deep as they like.
    let mut pending = vec![(source.to_owned(), name.to_owned())];
    while let Some((path, name)) = pending.pop() {
        let failed = |error: io::Error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                // The engine hung up, and its answer says why.
                return Failure::new(String::new());
            }
            Failure::new(format!("copy {}: {}", path.display(), reason(&error)))
        };
        let metadata = std::fs::symlink_metadata(&path).map_err(failed)?;
        if metadata.is_dir() {
            let mut header = header(&metadata, EntryType::Directory);
            let name_of_directory = name.join("");
            builder
                .append_data(&mut header, &name_of_directory, io::empty())
                .map_err(failed)?;
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                names.push(entry.map_err(failed)?.file_name());
            }
            names.sort();
            for child in names.into_iter().rev() {
                pending.push((path.join(&child), name.join(&child)));
            }
            continue;
        }
        let kind = metadata.file_type();
        if kind.is_socket() {
            continue;
        }
        if metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = links.get(&identity) {
                let mut header = header(&metadata, EntryType::Link);
                builder
                    .append_link(&mut header, &name, first)
                    .map_err(failed)?;
                continue;
            }
            links.insert(identity, name.clone());
        }
        if metadata.is_file() {
            let file = File::open(&path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            let mut header = header(&metadata, EntryType::Regular);
            header.set_size(metadata.len());
            // A file that grows meanwhile is cut, one that shrinks is filled up: the header is sent already.
            let content = file
                .take(metadata.len())
                .chain(io::repeat(0))
                .take(metadata.len());
            builder
                .append_data(&mut header, &name, content)
                .map_err(failed)?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).map_err(failed)?;
            let mut header = header(&metadata, EntryType::Symlink);
            builder
                .append_link(&mut header, &name, &target)
                .map_err(failed)?;
        } else {
            let entry = match (kind.is_fifo(), kind.is_block_device()) {
                (true, _) => EntryType::Fifo,
                (_, true) => EntryType::Block,
                _ => EntryType::Char,
            };
            let mut header = header(&metadata, entry);
            let device = metadata.rdev();
            let set = header
                .set_device_major(rustix::fs::major(device))
                .and_then(|()| header.set_device_minor(rustix::fs::minor(device)));
            set.map_err(failed)?;
            builder
                .append_data(&mut header, &name, io::empty())
                .map_err(failed)?;
        }
    }
    Ok(())
}

fn header(metadata: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

/// Puts the entries of an archive below `directory`, their first name changed by `rename`.
pub(super) fn extract(
    reader: Reader,
    directory: &Path,
    rename: Option<&(String, String)>,
    owners: bool,
) -> Result<(), Failure> {
    let root = rustix::fs::open(
        directory,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| Failure::new(format!("open {}: {}", directory.display(), words(error))))?;
    let mut extractor = Extractor {
        root,
        directory: directory.to_owned(),
        rename,
        owners,
        times: Vec::new(),
    };
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(128 * 1024, reader));
    let damaged = |error: io::Error| Failure::new(format!("read the archive: {}", reason(&error)));
    for entry in archive.entries().map_err(damaged)? {
        extractor.entry(entry.map_err(damaged)?)?;
    }
    extractor.finish();
    // What follows the end of the archive is read, so that the connection ends in order.
    let _ = io::copy(&mut archive.into_inner(), &mut io::sink());
    Ok(())
}

fn words(error: Errno) -> String {
    reason(&io::Error::from(error))
}

struct Extractor<'a> {
    root: OwnedFd,
    directory: PathBuf,
    rename: Option<&'a (String, String)>,
    owners: bool,
    /// Times of directories, set when nothing is put into them any more.
    times: Vec<(Vec<u8>, Timestamps)>,
}

impl Extractor<'_> {
    /// Where an entry's name leads below the directory; `None` for the directory itself.
    fn place(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    return Err(Failure::new(format!(
                        "refused: {:?} leads out of {}",
                        String::from_utf8_lossy(name),
                        self.directory.display()
                    )));
                }
                part => parts.push(part),
            }
        }
        if let Some((old, new)) = self.rename {
            if old == "." || old.is_empty() {
                parts.insert(0, new.as_bytes());
            } else if parts.first().is_some_and(|first| *first == old.as_bytes()) {
                parts[0] = new.as_bytes();
            }
        }
        parts.retain(|part| *part != b".");
        Ok((!parts.is_empty()).then(|| parts.join(&b'/')))
    }

    fn failed(&self, place: &[u8], error: Errno) -> Failure {
        let path = self.directory.join(OsStr::from_bytes(place));
        Failure::new(format!("copy to {}: {}", path.display(), words(error)))
    }

    /// The open directory of a place, and the last name. Links on the way are not followed.
    fn parent<'b>(&self, place: &'b [u8]) -> Result<(OwnedFd, &'b [u8]), Failure> {
        let (parent, name) = match place.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&place[..slash], &place[slash + 1..]),
            None => (&b"."[..], place),
        };
        self.open(parent).map(|parent| (parent, name))
    }

    fn open(&self, place: &[u8]) -> Result<OwnedFd, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, place, flags, Mode::empty(), beneath)
            .map_err(|error| self.failed(place, error))
    }

    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), Failure> {
        let name = entry.path_bytes().into_owned();
        let Some(place) = self.place(&name)? else {
            return Ok(());
        };
        let failed = |error| self.failed(&place, error);
        let damaged = |error: io::Error| {
            Failure::new(format!(
                "read {:?} of the archive: {}",
                String::from_utf8_lossy(&name),
                reason(&error)
            ))
        };
        let (parent, last) = self.parent(&place)?;
        let header = entry.header().clone();
        let kind = header.entry_type();
        if matches!(
            kind,
            EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName
        ) {
            return Ok(());
        }
        let there = match rustix::fs::statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(failed(error)),
        };
        let shown = self.directory.join(OsStr::from_bytes(&place));
        let shown = shown.display();
        match (there, kind) {
            (Some(FileType::Directory), EntryType::Directory) | (None, _) => {}
            (Some(FileType::Directory), _) => {
                return Err(Failure::new(format!(
                    "cannot overwrite directory \"{shown}\" with non-directory \"{shown}\""
                )));
            }
            (Some(_), EntryType::Directory) => {
                return Err(Failure::new(format!(
                    "cannot overwrite non-directory \"{shown}\" with directory \"{shown}\""
                )));
            }
            (Some(_), _) => {
                rustix::fs::unlinkat(&parent, last, AtFlags::empty()).map_err(failed)?;
            }
        }
        // Set-id bits of somebody else's files are kept only with their owner.
        let allowed = if self.owners { 0o7777 } else { 0o1777 };
        let mode = Mode::from_raw_mode(header.mode().map_err(damaged)? & allowed);
        let times = times(header.mtime().map_err(damaged)?);
        let owner = match self.owners {
            true => {
                let id =
                    |id: io::Result<u64>| id.map(|id| u32::try_from(id).unwrap_or(u32::MAX - 1));
                Some((
                    id(header.uid()).map_err(damaged)?,
                    id(header.gid()).map_err(damaged)?,
                ))
            }
            false => None,
        };
        let own = |file: &OwnedFd| match owner {
            Some((uid, gid)) => {
                rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            }
            None => Ok(()),
        };
        match kind {
            EntryType::Directory => {
                if there.is_none() {
                    rustix::fs::mkdirat(&parent, last, Mode::RWXU).map_err(failed)?;
                }
                let directory = self.open(&place)?;
                own(&directory).map_err(failed)?;
                rustix::fs::fchmod(&directory, mode).map_err(failed)?;
                self.times.push((place, times));
                return Ok(());
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                rustix::fs::symlinkat(target.as_slice(), &parent, last).map_err(failed)?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let Some(target) = self.place(&target)? else {
                    return Err(failed(Errno::INVAL));
                };
                let (from, from_name) = self.parent(&target)?;
                rustix::fs::linkat(&from, from_name, &parent, last, AtFlags::empty())
                    .map_err(failed)?;
                return Ok(());
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                let part = |part: io::Result<Option<u32>>| part.map(Option::unwrap_or_default);
                let device = rustix::fs::makedev(
                    part(header.device_major()).map_err(damaged)?,
                    part(header.device_minor()).map_err(damaged)?,
                );
                let node = match kind {
                    EntryType::Fifo => FileType::Fifo,
                    EntryType::Char => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                rustix::fs::mknodat(&parent, last, node, mode, device).map_err(failed)?;
            }
            _ => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&parent, last, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(failed)?;
                let mut target = File::from(file);
                io::copy(&mut entry, &mut target).map_err(|error| {
                    Failure::new(format!("copy to {shown}: {}", reason(&error)))
                })?;
                let file = OwnedFd::from(target);
                own(&file).map_err(failed)?;
                rustix::fs::fchmod(&file, mode).map_err(failed)?;
                rustix::fs::futimens(&file, &times).map_err(failed)?;
                return Ok(());
            }
        }
        if let Some((uid, gid)) = owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(
                &parent,
                last,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(failed)?;
        }
        rustix::fs::utimensat(&parent, last, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    fn finish(&mut self) {
        for (place, times) in std::mem::take(&mut self.times).iter().rev() {
            // A directory whose time cannot be set is still copied.
            if let Ok(directory) = self.open(place) {
                let _ = rustix::fs::futimens(directory.as_fd(), times);
            }
        }
    }
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
