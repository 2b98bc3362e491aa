//! Comparing two unpacked trees: names, kinds, modes, owners, times, links, attributes and content.
//!
//! Owns: finding the first difference. One of the trees was unpacked just now from a verified archive; the other
//! may have been changed by anything, so nothing in either is followed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::tree::open_beneath;
use crate::archive::printable;
use crate::error::{Attempt, Result};
use crate::limits;

/// Attributes that the host gives files by itself.
const OF_THE_HOST: [&[u8]; 2] = [b"security.selinux", b"security.ima"];

/// The first difference between what should be and what is, in words; none when the trees are equal.
pub(crate) fn difference(expected: &OwnedFd, actual: &OwnedFd) -> Result<Option<String>> {
    let mut comparison = Comparison {
        expected,
        actual,
        links: HashMap::new(),
    };
    let (left, right) = (root_stat(expected)?, root_stat(actual)?);
    if let Some(words) = attributes_differ(&left, &right) {
        return Ok(Some(format!("/: {words}")));
    }
    let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        if let Some(found) = comparison.directory(&path, &mut pending)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn root_stat(directory: &OwnedFd) -> Result<Stat> {
    rustix::fs::fstat(directory).attempt(|| "look at a layer's root")
}

struct Comparison<'a> {
    expected: &'a OwnedFd,
    actual: &'a OwnedFd,
    /// Files with several names that were met: the one here for the one that should be.
    links: HashMap<u64, u64>,
}

fn names(directory: &OwnedFd) -> Result<BTreeSet<Vec<u8>>> {
    let attempt = || "list a directory of a layer";
    let mut found = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(directory).attempt(attempt)? {
        let name = entry.attempt(attempt)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            found.insert(name);
        }
    }
    Ok(found)
}

impl Comparison<'_> {
    fn directory(&mut self, path: &[u8], pending: &mut Vec<Vec<u8>>) -> Result<Option<String>> {
        let shown = |name: &[u8]| format!("/{}", printable(&join(path, name)));
        let (Some(expected), Some(actual)) = (
            open_beneath(self.expected, path)?,
            open_beneath(self.actual, path)?,
        ) else {
            return Ok(Some(format!("/{} cannot be opened", printable(path))));
        };
        let (left, right) = (names(&expected)?, names(&actual)?);
        if let Some(missing) = left.difference(&right).next() {
            return Ok(Some(format!("{} is missing", shown(missing))));
        }
        if let Some(extra) = right.difference(&left).next() {
            return Ok(Some(format!("{} should not be there", shown(extra))));
        }
        for name in left {
            let attempt = || format!("look at {}", shown(&name));
            let stat = |base: &OwnedFd| {
                rustix::fs::statat(base, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                    .attempt(attempt)
            };
            let (left, right) = (stat(&expected)?, stat(&actual)?);
            if let Some(words) = attributes_differ(&left, &right) {
                return Ok(Some(format!("{}: {words}", shown(&name))));
            }
            let words = match FileType::from_raw_mode(left.st_mode) {
                FileType::Directory => {
                    pending.push(join(path, &name));
                    let open = |base: &OwnedFd| {
                        open_child(base, &name, OFlags::DIRECTORY).attempt(attempt)
                    };
                    xattrs_differ(&open(&expected)?, &open(&actual)?)?
                }
                FileType::RegularFile => self.file(&expected, &actual, &name, (&left, &right))?,
                FileType::Symlink => {
                    let read = |base: &OwnedFd| {
                        rustix::fs::readlinkat(base, name.as_slice(), Vec::new()).attempt(attempt)
                    };
                    (read(&expected)? != read(&actual)?).then_some("the link leads elsewhere")
                }
                _ => (left.st_rdev != right.st_rdev).then_some("it is another device"),
            };
            if let Some(words) = words {
                return Ok(Some(format!("{}: {words}", shown(&name))));
            }
        }
        Ok(None)
    }

    fn file(
        &mut self,
        expected: &OwnedFd,
        actual: &OwnedFd,
        name: &[u8],
        (left, right): (&Stat, &Stat),
    ) -> Result<Option<&'static str>> {
        if left.st_nlink > 1 {
            match self.links.insert(left.st_ino, right.st_ino) {
                Some(known) if known == right.st_ino => return Ok(None),
                Some(_) => return Ok(Some("it is linked to another file")),
                None => {}
            }
        }
        let attempt = || format!("read {}", printable(name));
        let open = |base: &OwnedFd| {
            open_child(base, name, OFlags::NONBLOCK | OFlags::NOATIME).attempt(attempt)
        };
        let (left, right) = (open(expected)?, open(actual)?);
        if let Some(words) = xattrs_differ(&left, &right)? {
            return Ok(Some(words));
        }
        let (mut left, mut right) = (File::from(left), File::from(right));
        let mut pieces = (
            vec![0; limits::PIPE_CHUNK_BYTES],
            vec![0; limits::PIPE_CHUNK_BYTES],
        );
        loop {
            let count = left.read(&mut pieces.0).attempt(attempt)?;
            if count == 0 {
                return Ok(None);
            }
            if right.read_exact(&mut pieces.1[..count]).is_err()
                || pieces.0[..count] != pieces.1[..count]
            {
                return Ok(Some("its content differs"));
            }
        }
    }
}

fn open_child(
    base: &OwnedFd,
    name: &[u8],
    flags: OFlags,
) -> std::result::Result<OwnedFd, rustix::io::Errno> {
    rustix::fs::openat(
        base,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags,
        Mode::empty(),
    )
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, b"/", name].concat()
}

fn attributes_differ(left: &Stat, right: &Stat) -> Option<&'static str> {
    let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
    if kind(left) != kind(right) {
        return Some("it is of another kind");
    }
    if left.st_mode != right.st_mode {
        return Some("its mode differs");
    }
    if (left.st_uid, left.st_gid) != (right.st_uid, right.st_gid) {
        return Some("its owner differs");
    }
    let directory = kind(left) == FileType::Directory;
    // Deletions, and directories without an entry in the archive, have the time of their unpacking.
    let deletion = kind(left) == FileType::CharacterDevice && left.st_rdev == 0;
    let timed = !directory && !deletion;
    if timed && (left.st_mtime, left.st_mtime_nsec) != (right.st_mtime, right.st_mtime_nsec) {
        return Some("its time differs");
    }
    if !directory && left.st_size != right.st_size {
        return Some("its size differs");
    }
    if !directory && left.st_nlink != right.st_nlink {
        return Some("it has another number of names");
    }
    None
}

fn xattrs_differ(left: &OwnedFd, right: &OwnedFd) -> Result<Option<&'static str>> {
    Ok((xattrs(left)? != xattrs(right)?).then_some("its attributes differ"))
}

fn xattrs(file: &OwnedFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let attempt = || "read the attributes of a file";
    let mut list = vec![0_u8; limits::XATTR_BYTES_MAX];
    let length = match rustix::fs::flistxattr(file, &mut list[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error).attempt(attempt),
    };
    let mut found = BTreeMap::new();
    for name in list[..length].split(|b| *b == 0) {
        if name.is_empty() || OF_THE_HOST.contains(&name) {
            continue;
        }
        let mut value = vec![0_u8; limits::XATTR_BYTES_MAX];
        let length = rustix::fs::fgetxattr(file, name, &mut value[..]).attempt(attempt)?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}
