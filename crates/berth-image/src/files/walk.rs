//! Going through a tree of files, names in order, by descriptors only.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::archive::printable;
use crate::error::{Attempt, ImageError, Result};
use crate::limits;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Something in the tree.
#[derive(Debug)]
pub struct Item<'a> {
    /// The directory it is in.
    pub parent: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a [u8],
    /// Its path from the root of the walk, without a slash in front.
    pub path: &'a [u8],
    /// What it was when it was looked at.
    pub stat: Stat,
}

impl Item<'_> {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens it for reading as the regular file that it was when it was looked at; `None` when something
    /// else stands there by now.
    ///
    /// Mounts that hostile programs write to should be walked by a copy with `MOUNT_ATTR_NODEV`, so that a
    /// device put in the file's place cannot be opened either.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn open(&self) -> Result<Option<File>> {
        open_regular(self.parent, self.name, self.path)
    }

    /// The target of a symbolic link; `None` when it is none any more.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn link_target(&self) -> Result<Option<Vec<u8>>> {
        match rustix::fs::readlinkat(self.parent, self.name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => {
                Err(error).attempt(|| format!("read symbolic link {}", printable(self.path)))
            }
        }
    }
}

/// Opens a regular file by its name in a directory; `None` when there is none.
pub(crate) fn open_regular(parent: impl AsFd, name: &[u8], path: &[u8]) -> Result<Option<File>> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // Gone, a link, a socket, or a device on a mount without devices.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(error).attempt(|| format!("open {}", printable(path))),
    };
    let metadata = file
        .metadata()
        .attempt(|| format!("look at {}", printable(path)))?;
    Ok(metadata.is_file().then_some(file))
}

/// Opens a file at a path whose parts may be links, all of it within `root`, as [`Item::open`] does.
///
/// # Errors
/// When the file system refuses.
pub fn open_in_root(root: &berth_sys::path::Root, path: &std::path::Path) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let found = root.resolve(path)?;
    if berth_sys::path::file_type(&found)? != FileType::RegularFile {
        return Ok(None);
    }
    let file = File::from(root.open_at(path, flags, Mode::empty())?);
    let metadata = file
        .metadata()
        .attempt(|| format!("look at {}", path.display()))?;
    Ok(metadata.is_file().then_some(file))
}

/// What is done with a tree, item by item.
pub trait Visitor {
    /// Something was found. For a directory, the answer tells whether to go into it.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn visit(&mut self, item: &Item<'_>) -> Result<bool>;

    /// A directory that was gone into is done; its path.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn leave(&mut self, _path: &[u8]) -> Result<()> {
        Ok(())
    }
}

struct Frame {
    path: Vec<u8>,
    /// Closed while the walk is far below.
    directory: Option<OwnedFd>,
    names: std::vec::IntoIter<Vec<u8>>,
}

/// Walks the tree beneath the directory `root`, which itself is not visited. Names come in the order of
/// their bytes, a directory before what is in it.
///
/// However deep the tree is, a bounded number of descriptors is open. What vanishes meanwhile is passed over.
///
/// # Errors
/// Those of the visitor; when a directory cannot be read, or a path is longer than any call takes.
pub fn walk(root: &OwnedFd, visitor: &mut dyn Visitor) -> Result<()> {
    let first = open_directory(b"/", root.as_fd(), b".")?;
    let Some(first) = first else {
        return Ok(());
    };
    let names = names(&first, b"/")?;
    let mut stack = vec![Frame {
        path: Vec::new(),
        directory: Some(first),
        names: names.into_iter(),
    }];
    while let Some(frame) = stack.last_mut() {
        let Some(name) = frame.names.next() else {
            let done = stack.pop().map(|frame| frame.path).unwrap_or_default();
            if !stack.is_empty() {
                visitor.leave(&done)?;
            }
            continue;
        };
        if frame.directory.is_none() {
            frame.directory = reopen(root, &frame.path)?;
        }
        // Exchanged for something else while the walk was below.
        let Some(directory) = &frame.directory else {
            continue;
        };
        let path = if frame.path.is_empty() {
            name.clone()
        } else {
            [frame.path.as_slice(), b"/", &name].concat()
        };
        if path.len() >= limits::PATH_BYTES_MAX {
            return Err(ImageError::Limit {
                object: format!("the path {}", printable(&path)),
                limit: limits::PATH_BYTES_MAX as u64,
                unit: "bytes",
            });
        }
        let stat = match rustix::fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error).attempt(|| format!("look at {}", printable(&path))),
        };
        let item = Item {
            parent: directory.as_fd(),
            name: &name,
            path: &path,
            stat,
        };
        let wanted = visitor.visit(&item)?;
        if wanted && item.kind() == FileType::Directory {
            let opened = open_directory(&path, directory.as_fd(), &name)?;
            let Some(opened) = opened else {
                visitor.leave(&path)?;
                continue;
            };
            let names = self::names(&opened, &path)?;
            let depth = stack.len();
            if depth >= limits::REMOVE_DEPTH {
                stack[depth - limits::REMOVE_DEPTH].directory = None;
            }
            stack.push(Frame {
                path,
                directory: Some(opened),
                names: names.into_iter(),
            });
        }
    }
    Ok(())
}

/// Opens the directory that an item is; `None` when there is none any more.
pub(crate) fn open_child(item: &Item<'_>) -> Result<Option<OwnedFd>> {
    open_directory(item.path, item.parent, item.name)
}

/// Opens a directory by its name; `None` when there is none any more.
fn open_directory(path: &[u8], parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<OwnedFd>> {
    let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), flags) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error).attempt(|| format!("open directory {}", printable(path))),
    }
}

fn reopen(root: &OwnedFd, path: &[u8]) -> Result<Option<OwnedFd>> {
    let path_or_root = if path.is_empty() { b"." } else { path };
    open_directory(path, root.as_fd(), path_or_root)
}

/// The names in a directory, in the order of their bytes.
pub(crate) fn names(directory: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let attempt = || format!("list directory {}", printable(path));
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).attempt(attempt)? {
        let entry = entry.attempt(attempt)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push(name.to_vec());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Opens for reading the directory that an `O_PATH` descriptor or a detached mount stands for.
///
/// # Errors
/// When it is no directory.
pub fn open_root(directory: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, ".", flags, Mode::empty())
        .attempt(|| "open a directory to walk through it".to_owned())
}
