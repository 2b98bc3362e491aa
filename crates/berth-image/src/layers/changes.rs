//! The list of what a container changed, as `docker diff` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use rustix::fs::Stat;

use super::delta::{Delta, Question, delta};
use super::view::Merged;
use crate::error::{ImageError, Result};
use crate::limits;

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has other content or attributes.
    Modified,
    /// It is not in the image.
    Added,
    /// It is in the image alone.
    Deleted,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path, with a slash in front.
    pub path: Vec<u8>,
    /// How it differs.
    pub kind: ChangeKind,
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid, a.st_mtime, a.st_mtime_nsec)
        == (b.st_mode, b.st_uid, b.st_gid, b.st_mtime, b.st_mtime_nsec)
}

/// Everything in which the upper directory differs from the layers below it, in the order of the paths.
pub(crate) fn changes(
    upper: &OwnedFd,
    below: Option<Merged>,
    mount_points: &BTreeSet<Vec<u8>>,
) -> Result<Vec<Change>> {
    let mut found: BTreeMap<Vec<u8>, ChangeKind> = BTreeMap::new();
    let question = Question {
        below,
        mount_points,
        look_below: true,
    };
    delta(upper, question, &mut |change| {
        let (path, kind) = match change {
            Delta::Deleted { path } => (path.to_vec(), ChangeKind::Deleted),
            Delta::File { item, is_below } => (
                item.path.to_vec(),
                if is_below {
                    ChangeKind::Modified
                } else {
                    ChangeKind::Added
                },
            ),
            Delta::Directory(directory) => {
                if directory.opaque
                    && let Some(below) = &directory.below
                {
                    // What is there again is told later, and then takes this place.
                    for name in below.names()? {
                        let path = [directory.path.as_slice(), b"/", &name].concat();
                        found.insert(path, ChangeKind::Deleted);
                    }
                }
                match directory.stat_below()? {
                    None => (directory.path.clone(), ChangeKind::Added),
                    Some(below) if same(&below, &directory.stat) => {
                        // Copied up on the way to something else: told only with what is in it.
                        return Ok(());
                    }
                    Some(_) => (directory.path.clone(), ChangeKind::Modified),
                }
            }
        };
        // A directory is part of the list when a name in it came or went.
        if kind != ChangeKind::Modified
            && let Some(slash) = path.iter().rposition(|b| *b == b'/')
        {
            found
                .entry(path[..slash].to_vec())
                .or_insert(ChangeKind::Modified);
        }
        found.insert(path, kind);
        if found.len() as u64 > limits::LAYER_ENTRIES_MAX {
            return Err(ImageError::Limit {
                object: "the list of changes".into(),
                limit: limits::LAYER_ENTRIES_MAX,
                unit: "paths",
            });
        }
        Ok(())
    })?;
    Ok(found
        .into_iter()
        .map(|(path, kind)| Change {
            path: [b"/".as_slice(), &path].concat(),
            kind,
        })
        .collect())
}
