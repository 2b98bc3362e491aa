//! The directory that a layer is unpacked into, used through descriptors only.
//!
//! Owns: resolving the paths of an archive inside the directory, and the note which directories were
//! only implied by the path of something else. Does not own: what is put there.
//!
//! Invariants: nothing outside the directory is ever opened, made or changed. A parent that is a symbolic
//! link is followed as it would be with the directory as root; `..` of a link's target stops at the root,
//! and `..` of an entry's own path that would leave the root is refused before anything is opened.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::archive::printable;
use crate::error::{Attempt, ImageError, Result};
use crate::limits;

/// Marks a directory that hides all of its lower ones (kernel, filesystems/overlayfs, "whiteouts and opaque directories").
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Permission bits of a directory that no entry describes.
const IMPLIED_MODE: u32 = 0o755;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory under construction.
pub(crate) struct Tree {
    root: Rc<OwnedFd>,
    /// The parent that was used last, since archives list a directory's files in a row.
    last: Option<(Vec<u8>, Place)>,
    implied: BTreeSet<Vec<u8>>,
}

/// A directory inside the tree.
#[derive(Clone)]
pub(crate) struct Place {
    /// Open for use as a base.
    pub(crate) descriptor: Rc<OwnedFd>,
    /// Its path from the root with all links resolved; empty for the root.
    pub(crate) path: Vec<u8>,
}

impl Place {
    /// The resolved path of a child.
    pub(crate) fn child(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    [parent, b"/", name].concat()
}

impl Tree {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self {
            root: Rc::new(root),
            last: None,
            implied: BTreeSet::new(),
        }
    }

    pub(crate) fn root(&self) -> Place {
        Place {
            descriptor: self.root.clone(),
            path: Vec::new(),
        }
    }

    /// The directories that exist only because something in them does, by resolved path.
    pub(crate) fn into_implied(self) -> BTreeSet<Vec<u8>> {
        self.implied
    }

    /// An entry of its own describes this directory.
    pub(crate) fn described(&mut self, path: &[u8]) {
        self.implied.remove(path);
    }

    /// Must be told when something that may have been a directory is removed or replaced.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// The directory that `components` lead to; missing ones are made.
    pub(crate) fn directory(&mut self, components: &[&[u8]]) -> Result<Place> {
        if components.is_empty() {
            return Ok(self.root());
        }
        let key = components.join(&b'/');
        if let Some((path, place)) = &self.last
            && *path == key
        {
            return Ok(place.clone());
        }
        let place = self.resolve(&key, components)?;
        self.last = Some((key, place.clone()));
        Ok(place)
    }

    fn resolve(&mut self, key: &[u8], components: &[&[u8]]) -> Result<Place> {
        // The usual case in one call: the whole path exists and no link is in it.
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&*self.root, key, DIRECTORY, Mode::empty(), beneath) {
            Ok(descriptor) => Ok(Place {
                descriptor: Rc::new(descriptor),
                path: key.to_vec(),
            }),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => self.walk(components),
            Err(error) => Err(error).attempt(|| format!("open directory {}", printable(key))),
        }
    }

    /// Component by component, making directories and following links with this tree as root.
    fn walk(&mut self, components: &[&[u8]]) -> Result<Place> {
        let mut pending: VecDeque<Vec<u8>> = components.iter().map(|c| c.to_vec()).collect();
        let mut stack: Vec<(Vec<u8>, Rc<OwnedFd>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name.is_empty() || name == b"." {
                continue;
            }
            if name == b".." {
                stack.pop();
                continue;
            }
            check_name(&name)?;
            let base = Place {
                descriptor: stack
                    .last()
                    .map_or_else(|| self.root.clone(), |(_, descriptor)| descriptor.clone()),
                path: stack
                    .iter()
                    .map(|(name, _)| name.as_slice())
                    .collect::<Vec<_>>()
                    .join(&b'/'),
            };
            let path = base.child(&name);
            if path.len() > limits::PATH_BYTES_MAX {
                return Err(too_long(&path));
            }
            match rustix::fs::openat(&base, name.as_slice(), DIRECTORY, Mode::empty()) {
                Ok(descriptor) => stack.push((name, Rc::new(descriptor))),
                Err(Errno::NOENT) => {
                    let descriptor = self.make_implied(&base, &name, &path)?;
                    self.implied.insert(path);
                    stack.push((name, Rc::new(descriptor)));
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    match kind_of(&base, &name)? {
                        Some(Found::Symlink) => {
                            links += 1;
                            if links > limits::SYMLINKS_MAX {
                                return Err(ImageError::archive(
                                    printable(&path),
                                    "too many symbolic links in the path",
                                ));
                            }
                            let target = rustix::fs::readlinkat(&base, name.as_slice(), Vec::new())
                                .attempt(|| format!("read symbolic link {}", printable(&path)))?;
                            let target = target.to_bytes();
                            if target.starts_with(b"/") {
                                stack.clear();
                            }
                            for part in target.split(|b| *b == b'/').rev() {
                                pending.push_front(part.to_vec());
                            }
                            if pending.len() > limits::PATH_BYTES_MAX {
                                return Err(too_long(&path));
                            }
                        }
                        // What the layer hides and then fills anew hides all that was below.
                        Some(Found::Whiteout) => {
                            rustix::fs::unlinkat(&base, name.as_slice(), AtFlags::empty())
                                .attempt(|| format!("remove {}", printable(&path)))?;
                            let descriptor = self.make_implied(&base, &name, &path)?;
                            set_opaque(&descriptor, &path)?;
                            stack.push((name, Rc::new(descriptor)));
                        }
                        _ => {
                            return Err(ImageError::archive(
                                printable(&path),
                                "a file stands where a directory is needed",
                            ));
                        }
                    }
                }
                Err(error) => {
                    return Err(error).attempt(|| format!("open directory {}", printable(&path)));
                }
            }
        }
        let path = stack
            .iter()
            .map(|(name, _)| name.as_slice())
            .collect::<Vec<_>>()
            .join(&b'/');
        Ok(Place {
            descriptor: stack
                .pop()
                .map_or_else(|| self.root.clone(), |(_, descriptor)| descriptor),
            path,
        })
    }

    fn make_implied(&self, base: &Place, name: &[u8], path: &[u8]) -> Result<OwnedFd> {
        let attempt = || format!("make directory {}", printable(path));
        rustix::fs::mkdirat(base, name, Mode::from_raw_mode(0o700)).attempt(attempt)?;
        let descriptor =
            rustix::fs::openat(base, name, DIRECTORY, Mode::empty()).attempt(attempt)?;
        // The parent's set-group-id bit must not decide the group, nor the umask the mode.
        rustix::fs::fchown(
            &descriptor,
            Some(rustix::fs::Uid::ROOT),
            Some(rustix::fs::Gid::ROOT),
        )
        .attempt(attempt)?;
        rustix::fs::fchmod(&descriptor, Mode::from_raw_mode(IMPLIED_MODE)).attempt(attempt)?;
        Ok(descriptor)
    }

    /// Opens a directory by its resolved path; `None` when something else is there by now.
    pub(crate) fn reopen(&self, path: &[u8]) -> Result<Option<OwnedFd>> {
        open_beneath(&self.root, path)
    }
}

/// Opens the directory at a resolved path beneath `root`; `None` when there is none.
pub(crate) fn open_beneath(root: impl AsFd, path: &[u8]) -> Result<Option<OwnedFd>> {
    let path = if path.is_empty() { b"." } else { path };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), beneath) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error).attempt(|| format!("open directory {}", printable(path))),
    }
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Directory,
    Symlink,
    /// Overlayfs' mark for "hidden": a character device 0:0.
    Whiteout,
    Other,
}

/// What stands at `name`, the last link not followed.
pub(crate) fn kind_of(base: impl AsFd, name: &[u8]) -> Result<Option<Found>> {
    match rustix::fs::statat(base, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory,
            FileType::Symlink => Found::Symlink,
            FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
            _ => Found::Other,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).attempt(|| format!("look at {}", printable(name))),
    }
}

/// Makes a directory hide its lower ones.
pub(crate) fn set_opaque(directory: impl AsFd, path: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", rustix::fs::XattrFlags::empty())
        .attempt(|| format!("make directory {} opaque", printable(path)))
}

/// Removes whatever is at `name`, directories with all they hold; links are removed, never followed.
///
/// Whoever filled the directory decides how deep it is, so depth costs neither stack nor descriptors: below
/// [`limits::REMOVE_DEPTH`] levels a directory is moved up beside `name` and removed from there.
pub(crate) fn remove_recursively(base: impl AsFd, name: &[u8]) -> Result<()> {
    let base = base.as_fd();
    let mut pending = vec![name.to_vec()];
    let mut moved = 0_u64;
    while let Some(name) = pending.pop() {
        match rustix::fs::unlinkat(base, name.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR) => {}
            Err(error) => {
                return Err(error).attempt(|| format!("remove {}", printable(&name)));
            }
        }
        remove_directory(base, &name, &mut |directory, child| {
            let fresh = unused_name(base, &mut moved)?;
            rustix::fs::renameat(directory, child, base, fresh.as_slice())
                .attempt(|| format!("move {} up to remove it", printable(child)))?;
            pending.push(fresh);
            Ok(())
        })?;
    }
    Ok(())
}

/// A name that nothing in `base` has.
fn unused_name(base: BorrowedFd<'_>, counter: &mut u64) -> Result<Vec<u8>> {
    loop {
        *counter += 1;
        let name = format!(".removing-{counter}").into_bytes();
        if kind_of(base, &name)?.is_none() {
            return Ok(name);
        }
    }
}

/// Removes one directory; what lies too deep is handed to `spill`, which takes it away.
fn remove_directory(
    base: BorrowedFd<'_>,
    name: &[u8],
    spill: &mut dyn FnMut(BorrowedFd<'_>, &[u8]) -> Result<()>,
) -> Result<()> {
    let attempt = |name: &[u8]| format!("remove {}", printable(name));
    let open = |base: BorrowedFd<'_>, name: &[u8]| {
        rustix::fs::openat(base, name, DIRECTORY, Mode::empty()).attempt(|| attempt(name))
    };
    let mut stack = vec![(name.to_vec(), open(base, name)?)];
    while let Some((_, directory)) = stack.last() {
        let mut deeper = None;
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry.attempt(|| attempt(name))?;
            let child = entry.file_name().to_bytes();
            if child == b"." || child == b".." {
                continue;
            }
            match rustix::fs::unlinkat(directory, child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error).attempt(|| attempt(child)),
            }
            if rustix::fs::unlinkat(directory, child, AtFlags::REMOVEDIR).is_ok() {
                continue;
            }
            if stack.len() >= limits::REMOVE_DEPTH {
                spill(directory.as_fd(), child)?;
            } else {
                deeper = Some((child.to_vec(), open(directory.as_fd(), child)?));
                break;
            }
        }
        match deeper {
            Some(level) => {
                rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))
                    .attempt(|| attempt(name))?;
                stack.push(level);
            }
            None => {
                let Some((gone, _)) = stack.pop() else {
                    break;
                };
                let parent = stack
                    .last()
                    .map_or(base, |(_, descriptor)| descriptor.as_fd());
                rustix::fs::unlinkat(parent, gone.as_slice(), AtFlags::REMOVEDIR)
                    .attempt(|| attempt(&gone))?;
            }
        }
    }
    Ok(())
}

/// Splits a path of an archive into safe components: no empty ones, no `.`; `..` is resolved by text, as
/// other engines do, and refused when it would leave the root.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    if path.len() > limits::PATH_BYTES_MAX {
        return Err(too_long(path));
    }
    if path.contains(&0) {
        return Err(ImageError::archive(
            printable(path),
            "the path contains a NUL byte",
        ));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return Err(ImageError::archive(
                        printable(path),
                        "the path leaves the root of the layer",
                    ));
                }
            }
            name => {
                check_name(name)?;
                parts.push(name);
            }
        }
    }
    Ok(parts)
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(too_long(name));
    }
    Ok(())
}

fn too_long(path: &[u8]) -> ImageError {
    ImageError::Limit {
        object: format!("the path {}", printable(path)),
        limit: if path.contains(&b'/') {
            limits::PATH_BYTES_MAX as u64
        } else {
            limits::NAME_BYTES_MAX as u64
        },
        unit: "bytes",
    }
}
