//! Looking into a stack of layers as overlayfs would show it, without mounting it.
//!
//! Owns: merging directories, deletions and opaque marks while walking, and following symbolic links with
//! the stack as root. Read only. The content is hostile: nothing outside the layers is ever opened, and
//! only regular files are read, each up to a bound that the caller gives.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::tree::{Found, OPAQUE, kind_of};
use crate::archive::printable;
use crate::error::{Attempt, ImageError, Result};
use crate::limits;

/// A directory as the stack shows it: the same directory in each layer that contributes, topmost first.
#[derive(Clone)]
pub(crate) struct Merged {
    parts: Vec<Rc<OwnedFd>>,
}

/// What a path leads to.
pub(crate) enum Node {
    /// A directory.
    Directory(Merged),
    /// Anything else: the directory of the layer that has it, and whether it is a symbolic link.
    Entry {
        base: Rc<OwnedFd>,
        name: Vec<u8>,
        kind: Found,
    },
}

impl Merged {
    /// The root of a stack of layers, topmost first.
    pub(crate) fn root<'a>(layers: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let mut parts = Vec::new();
        for layer in layers {
            parts.push(Rc::new(berth_sys::fs::open_directory(layer)?));
        }
        Ok(Self { parts })
    }

    /// The topmost directory, whose attributes are the ones that are seen.
    pub(crate) fn top(&self) -> Option<&OwnedFd> {
        self.parts.first().map(|part| &**part)
    }

    /// What stands at `name`; links are not followed.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Option<Node>> {
        let mut merged: Vec<Rc<OwnedFd>> = Vec::new();
        for part in &self.parts {
            match kind_of(part, name)? {
                None => {}
                Some(Found::Directory) => {
                    let beneath =
                        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let directory = rustix::fs::openat2(part, name, flags, Mode::empty(), beneath)
                        .attempt(|| format!("open directory {}", printable(name)))?;
                    let opaque = is_opaque(&directory);
                    merged.push(Rc::new(directory));
                    if opaque {
                        break;
                    }
                }
                // Hidden, or hidden by what is already found.
                Some(Found::Whiteout) => break,
                Some(_) if !merged.is_empty() => break,
                Some(kind) => {
                    return Ok(Some(Node::Entry {
                        base: part.clone(),
                        name: name.to_vec(),
                        kind,
                    }));
                }
            }
        }
        Ok((!merged.is_empty()).then_some(Node::Directory(Self { parts: merged })))
    }

    /// The names that the stack shows in this directory, in order.
    pub(crate) fn names(&self) -> Result<Vec<Vec<u8>>> {
        let mut all = std::collections::BTreeSet::new();
        for part in &self.parts {
            all.extend(crate::files::walk::names(part, b"a layer")?);
        }
        let mut shown = Vec::with_capacity(all.len());
        for name in all {
            if self.child(&name)?.is_some() {
                shown.push(name);
            }
        }
        Ok(shown)
    }

    /// Follows `path` with this directory as root, links included (the last one too when `follow`).
    /// Gives the node and the path with all links resolved.
    pub(crate) fn resolve(&self, path: &[u8], follow: bool) -> Result<Option<(Node, Vec<u8>)>> {
        let mut pending: VecDeque<Vec<u8>> =
            path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
        let mut stack: Vec<(Vec<u8>, Self)> = Vec::new();
        let mut links = 0;
        let joined = |stack: &[(Vec<u8>, Self)]| {
            stack
                .iter()
                .map(|(name, _)| name.as_slice())
                .collect::<Vec<_>>()
                .join(&b'/')
        };
        while let Some(name) = pending.pop_front() {
            if name.is_empty() || name == b"." {
                continue;
            }
            if name == b".." {
                stack.pop();
                continue;
            }
            if name.len() > limits::NAME_BYTES_MAX {
                return Ok(None);
            }
            let here = stack.last().map_or(self, |(_, merged)| merged);
            let last = pending.iter().all(|part| part.is_empty() || part == b".");
            match here.child(&name)? {
                None => return Ok(None),
                Some(Node::Directory(merged)) => stack.push((name, merged)),
                Some(Node::Entry { base, name, kind }) => {
                    if kind == Found::Symlink && (follow || !last) {
                        links += 1;
                        if links > limits::SYMLINKS_MAX || pending.len() > limits::PATH_BYTES_MAX {
                            return Ok(None);
                        }
                        let target = rustix::fs::readlinkat(&base, name.as_slice(), Vec::new())
                            .attempt(|| format!("read symbolic link {}", printable(&name)))?;
                        let target = target.to_bytes();
                        if target.starts_with(b"/") {
                            stack.clear();
                        }
                        for part in target.split(|b| *b == b'/').rev() {
                            pending.push_front(part.to_vec());
                        }
                        continue;
                    }
                    if !last {
                        return Ok(None);
                    }
                    let mut path = joined(&stack);
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(&name);
                    return Ok(Some((Node::Entry { base, name, kind }, path)));
                }
            }
        }
        let path = joined(&stack);
        let node = Node::Directory(
            stack
                .pop()
                .map_or_else(|| self.clone(), |(_, merged)| merged),
        );
        Ok(Some((node, path)))
    }

    /// Opens a regular file, and gives its path with all links resolved; `None` when there is no such file.
    ///
    /// A pipe, a device or a directory in its place counts as no such file.
    pub(crate) fn open(&self, path: &[u8]) -> Result<Option<(File, Vec<u8>)>> {
        let Some((Node::Entry { base, name, kind }, place)) = self.resolve(path, true)? else {
            return Ok(None);
        };
        if kind != Found::Other {
            return Ok(None);
        }
        // Without blocking, so that a named pipe cannot hold us; what it is, is asked after opening.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let stat = rustix::fs::statat(
            &base,
            name.as_slice(),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .attempt(|| format!("look at {}", printable(path)))?;
        // Opening a device node may already act on it.
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Ok(None);
        }
        let file = match rustix::fs::openat(&base, name.as_slice(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error).attempt(|| format!("open {}", printable(path))),
        };
        let metadata = file
            .metadata()
            .attempt(|| format!("look at {}", printable(path)))?;
        Ok(metadata.is_file().then_some((file, place)))
    }

    /// The content of a regular file of at most `limit` bytes; `None` when there is no such file.
    pub(crate) fn read(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
        let Some((file, _)) = self.open(path)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut content)
            .attempt(|| format!("read {}", printable(path)))?;
        if content.len() as u64 > limit {
            return Err(ImageError::Limit {
                object: format!("{} of the image", printable(path)),
                limit,
                unit: "bytes",
            });
        }
        Ok(Some(content))
    }
}

/// Whether a directory hides those below it.
pub(crate) fn is_opaque(directory: impl AsFd) -> bool {
    let mut value = [0_u8; 1];
    rustix::fs::fgetxattr(directory, OPAQUE, &mut value).is_ok_and(|length| length == 1)
        && value == *b"y"
}
