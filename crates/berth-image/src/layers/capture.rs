//! The upper directory of an overlay as the archive of a layer.
//!
//! Owns: the form of such an archive: names in order, deletions as `.wh.` files (OCI image specification,
//! layer.md, "Whiteouts"), whole seconds, no entry for the root unless it differs. The same changes give the
//! same bytes. The content store takes the archive while it is written, so its digest, which is the layer's
//! diff id, costs no second pass.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;

use super::delta::{Delta, Question, delta};
use super::view::Merged;
use crate::archive::{ArchiveWriter, Entry, Kind, printable};
use crate::error::{Attempt, ImageError, Result};
use crate::files::pack::{Packer, entry_of, write_failed, xattrs_of_descriptor};
use crate::limits;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Writes what the upper directory changed; gives the target back and tells whether that was anything.
pub(crate) fn capture<W: Write>(
    upper: &OwnedFd,
    below: Option<Merged>,
    mount_points: &BTreeSet<Vec<u8>>,
    target: W,
) -> Result<(W, bool)> {
    let buffered = BufWriter::with_capacity(limits::PIPE_CHUNK_BYTES, target);
    let mut archive = ArchiveWriter::new(buffered);
    let root = root_entry(upper, below.as_ref())?;
    let mut is_empty = root.is_none();
    if let Some(root) = root {
        archive.entry(&root).map_err(write_failed)?;
    }
    let mut packer = Packer::new(&mut archive);
    let question = Question {
        below,
        mount_points,
        look_below: false,
    };
    delta(upper, question, &mut |change| {
        is_empty = false;
        match change {
            Delta::Directory(directory) => {
                check_name(&directory.path)?;
                let path = [directory.path.as_slice(), b"/"].concat();
                let mut entry = entry_of(&directory.stat, Kind::Directory, &path);
                entry.xattrs.clone_from(&directory.xattrs);
                packer.archive.entry(&entry).map_err(write_failed)?;
                if directory.opaque {
                    let mark = Entry {
                        modified: entry.modified,
                        ..Entry::new(Kind::Regular, &[path.as_slice(), OPAQUE].concat())
                    };
                    packer.archive.entry(&mark).map_err(write_failed)?;
                }
                Ok(())
            }
            Delta::Deleted { path } => {
                let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
                    Some(slash) => path.split_at(slash + 1),
                    None => (&b""[..], path),
                };
                let mark = Entry {
                    mode: 0o600,
                    ..Entry::new(Kind::Regular, &[parent, WHITEOUT, name].concat())
                };
                packer.archive.entry(&mark).map_err(write_failed)
            }
            Delta::File { item, .. } => {
                check_name(item.path)?;
                packer.item(item, item.path)
            }
        }
    })?;
    let buffered = archive.finish().map_err(write_failed)?;
    let target = buffered
        .into_inner()
        .map_err(|error| write_failed(error.into_error()))?;
    Ok((target, is_empty))
}

/// A file with the prefix of deletions would become one.
fn check_name(path: &[u8]) -> Result<()> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    if name.starts_with(WHITEOUT) {
        return Err(ImageError::Unsupported {
            object: format!("a layer with the file /{}", printable(path)),
            reason: "names that begin with \".wh.\" mean deletions in layers; rename or remove it"
                .into(),
        });
    }
    Ok(())
}

/// The root's entry, when its owner, mode or attributes are not those below.
fn root_entry(upper: &OwnedFd, below: Option<&Merged>) -> Result<Option<Entry>> {
    let look = |directory: &OwnedFd| {
        rustix::fs::fstat(directory).attempt(|| "look at the root of a container".to_owned())
    };
    let stat = look(upper)?;
    let mut entry = entry_of(&stat, Kind::Directory, b"./");
    entry.xattrs = xattrs_of_descriptor(upper)?;
    let same = match below.and_then(Merged::top) {
        Some(top) => {
            let other = look(top)?;
            (other.st_mode, other.st_uid, other.st_gid) == (stat.st_mode, stat.st_uid, stat.st_gid)
                && xattrs_of_descriptor(top)? == entry.xattrs
        }
        None => (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0) && entry.xattrs.is_empty(),
    };
    Ok((!same).then_some(entry))
}
