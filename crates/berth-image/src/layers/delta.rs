//! What the upper directory of an overlay changed, item by item.
//!
//! Owns: reading overlayfs' marks (a character device 0:0 deletes, `trusted.overlay.opaque` hides what is
//! below) and leaving out what was put there only so that something can be mounted. Does not own: what is done
//! with a change ([`super::capture`], [`super::changes`]).

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Stat};

use super::view::{Merged, Node, is_opaque};
use crate::error::{Attempt, Result};
use crate::files::pack::xattrs_of;
use crate::files::walk::{Item, Visitor, open_child, walk};

/// One change.
pub(crate) enum Delta<'a> {
    /// A directory that is new, or has other attributes or other content than below.
    Directory(&'a Directory),
    /// The name is taken away.
    Deleted {
        /// Its path from the root.
        path: &'a [u8],
    },
    /// Anything else that is new or takes the place of what is below.
    File {
        /// It, in the upper directory.
        item: &'a Item<'a>,
        /// Whether there is something of this name below; `false` when that was not asked.
        is_below: bool,
    },
}

/// A directory of the upper one.
pub(crate) struct Directory {
    pub(crate) path: Vec<u8>,
    pub(crate) stat: Stat,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The directory of this name below.
    pub(crate) below: Option<Merged>,
    /// It hides the content of the one below.
    pub(crate) opaque: bool,
    told: bool,
    only_mounts: bool,
}

impl Directory {
    /// Whether owner and mode are those of the one below; without one below there is nothing to differ from.
    fn is_as_below(&self) -> Result<bool> {
        let Some(below) = self.stat_below()? else {
            return Ok(true);
        };
        Ok((below.st_mode, below.st_uid, below.st_gid)
            == (self.stat.st_mode, self.stat.st_uid, self.stat.st_gid))
    }

    /// What the directory below is.
    pub(crate) fn stat_below(&self) -> Result<Option<Stat>> {
        match self.below.as_ref().and_then(Merged::top) {
            Some(top) => rustix::fs::fstat(top)
                .map(Some)
                .attempt(|| "look at a directory of a layer".to_owned()),
            None => Ok(None),
        }
    }
}

/// What is asked for.
pub(crate) struct Question<'a> {
    /// The layers below; none for an image without layers.
    pub(crate) below: Option<Merged>,
    /// Paths that are mount points by themselves: empty files and directories there are no change.
    pub(crate) mount_points: &'a BTreeSet<Vec<u8>>,
    /// Whether files are looked up below.
    pub(crate) look_below: bool,
}

/// Tells every change of the upper directory, names in order, directories before what is in them.
pub(crate) fn delta(
    upper: &OwnedFd,
    question: Question<'_>,
    tell: &mut dyn FnMut(Delta<'_>) -> Result<()>,
) -> Result<()> {
    let mut walker = Walker {
        stack: Vec::new(),
        question,
        tell,
    };
    walk(upper, &mut walker)
}

struct Walker<'a> {
    stack: Vec<Directory>,
    question: Question<'a>,
    tell: &'a mut dyn FnMut(Delta<'_>) -> Result<()>,
}

impl Walker<'_> {
    /// What the layers below have at a name of the present directory.
    fn below(&self, name: &[u8]) -> Result<Option<Node>> {
        let here = match self.stack.last() {
            Some(directory) => directory.below.as_ref(),
            None => self.question.below.as_ref(),
        };
        match here {
            Some(merged) => merged.child(name),
            None => Ok(None),
        }
    }

    /// Tells the directories that lead here.
    fn tell_parents(&mut self) -> Result<()> {
        for directory in self.stack.iter_mut().filter(|directory| !directory.told) {
            directory.told = true;
            (self.tell)(Delta::Directory(directory))?;
        }
        Ok(())
    }

    fn is_empty_directory(item: &Item<'_>) -> Result<bool> {
        match open_child(item)? {
            Some(directory) => Ok(crate::files::walk::names(&directory, item.path)?.is_empty()),
            None => Ok(false),
        }
    }

    fn is_mount_point(&self, item: &Item<'_>) -> Result<bool> {
        if !self.question.mount_points.contains(item.path) {
            return Ok(false);
        }
        match item.kind() {
            FileType::RegularFile => Ok(item.stat.st_size == 0),
            FileType::Directory => Self::is_empty_directory(item),
            _ => Ok(false),
        }
    }
}

impl Visitor for Walker<'_> {
    fn visit(&mut self, item: &Item<'_>) -> Result<bool> {
        if self.is_mount_point(item)? && self.below(item.name)?.is_none() {
            if let Some(parent) = self.stack.last_mut() {
                parent.only_mounts = true;
            }
            return Ok(false);
        }
        match item.kind() {
            FileType::CharacterDevice if item.stat.st_rdev == 0 => {
                // Nothing below: then the mark hides nothing.
                if self.below(item.name)?.is_some() {
                    self.tell_parents()?;
                    (self.tell)(Delta::Deleted { path: item.path })?;
                }
                Ok(false)
            }
            FileType::Directory => {
                let below = match self.below(item.name)? {
                    Some(Node::Directory(merged)) => Some(merged),
                    _ => None,
                };
                let opaque = match open_child(item)? {
                    Some(directory) => below.is_some() && is_opaque(&directory),
                    None => return Ok(false),
                };
                self.stack.push(Directory {
                    path: item.path.to_vec(),
                    stat: item.stat,
                    xattrs: xattrs_of(item)?,
                    below,
                    opaque,
                    told: false,
                    only_mounts: false,
                });
                Ok(true)
            }
            _ => {
                self.tell_parents()?;
                let is_below = self.question.look_below && self.below(item.name)?.is_some();
                (self.tell)(Delta::File { item, is_below })?;
                Ok(false)
            }
        }
    }

    fn leave(&mut self, _path: &[u8]) -> Result<()> {
        let is_made_for_mounts = match self.stack.last() {
            Some(directory) => {
                !directory.told
                    && directory.only_mounts
                    && !directory.opaque
                    && directory.is_as_below()?
            }
            None => false,
        };
        if is_made_for_mounts {
            self.stack.pop();
            if let Some(parent) = self.stack.last_mut() {
                parent.only_mounts = true;
            }
            return Ok(());
        }
        self.tell_parents()?;
        self.stack.pop();
        Ok(())
    }
}
