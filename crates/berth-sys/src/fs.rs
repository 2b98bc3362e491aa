//! Files by path, with errors that name the path, and atomic replacement.
//!
//! Owns nothing. For paths inside a root that somebody else controls use [`crate::path`]; the functions
//! here follow symbolic links like the shell does and are for directories that are ours alone.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Attempt, Error, Result};

/// What a replacement promises about a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The new content is on disk before the call returns.
    Synced,
    /// Readers see the old or the new content, never a mixture; a power cut may lose the new one.
    Unsynced,
}

/// Replaces `path` by a file with `content` and `mode`: readers see all of the old or all of the new.
///
/// The parent directory must exist.
pub fn replace(path: &Path, content: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let (temporary, mut file) = create_beside(path, mode)?;
    let written = file
        .write_all(content)
        .and_then(|()| {
            // The process' umask must not decide what the caller has decided.
            file.set_permissions(fs::Permissions::from_mode(mode))
        })
        .and_then(|()| match durability {
            Durability::Synced => file.sync_all(),
            Durability::Unsynced => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(cause) = written {
        let _ = fs::remove_file(&temporary);
        return Err(Error::new(format!("replace {}", path.display()), cause));
    }
    if durability == Durability::Synced {
        sync_parent(path)?;
    }
    Ok(())
}

/// Creates a fresh file with an unused name in the directory of `path`.
fn create_beside(path: &Path, mode: u32) -> Result<(PathBuf, File)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| {
        Error::invalid(
            format!("replace {}", path.display()),
            "the path has no file name",
        )
    })?;
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut fresh = std::ffi::OsString::from(".");
        fresh.push(name);
        fresh.push(format!(".{}.{number}.new", std::process::id()));
        let temporary = path.with_file_name(fresh);
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)
        {
            Ok(file) => return Ok((temporary, file)),
            // Left by an earlier process that had our id and died in between.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => {
                return Err(Error::new(format!("create {}", temporary.display()), cause));
            }
        }
    }
}

/// Makes a rename or an unlink in the directory of `path` survive a power cut.
pub fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .attempt(|| format!("sync directory {}", parent.display()))
}

/// The whole content of a file of ours.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).attempt(|| format!("read {}", path.display()))
}

/// The whole content of a file of ours, which must be UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    fs::read_to_string(path).attempt(|| format!("read {}", path.display()))
}

/// The content of a file that may be hostile: more than `limit` bytes is an error.
///
/// Opened without blocking, and refused unless it is a regular file, so that a FIFO or a device
/// cannot hold the caller.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)
        .attempt(|| format!("open {}", path.display()))?;
    read_bounded_from(&file, limit, &path.display().to_string())
}

/// Room for a first read of a file whose size is not known: most files of the kernel fit.
const KERNEL_FILE: u64 = 4096;

/// Reads a file of the kernel (procfs, cgroupfs), which has no size, in as few calls as it can be.
pub fn read_kernel_file(path: &Path) -> Result<Vec<u8>> {
    let attempt = || format!("read {}", path.display());
    let mut content = Vec::with_capacity(KERNEL_FILE as usize);
    // Not by the standard library's read_to_end of a file, which asks for a size and begins with few bytes.
    let file = open(path, OpenOptions::new().read(true))?;
    loop {
        if content.len() == content.capacity() {
            content.reserve(content.capacity());
        }
        let read = rustix::io::retry_on_intr(|| {
            rustix::io::read(&file, rustix::buffer::spare_capacity(&mut content))
        });
        if read.attempt(attempt)? == 0 {
            return Ok(content);
        }
    }
}

/// As [`read_bounded`], from an open descriptor; `name` is for the error text.
pub fn read_bounded_from(file: impl AsFd, limit: u64, name: &str) -> Result<Vec<u8>> {
    let attempt = || format!("read {name}");
    let file = File::from(file.as_fd().try_clone_to_owned().attempt(attempt)?);
    let metadata = file.metadata().attempt(attempt)?;
    if !metadata.is_file() {
        return Err(Error::invalid(attempt(), "not a regular file"));
    }
    // In one call where the size is known, with room to see the end; files of the kernel say 0.
    let size = match metadata.len() {
        0 => KERNEL_FILE,
        size => size.min(limit).saturating_add(1),
    };
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    (&file)
        .take(limit + 1)
        .read_to_end(&mut content)
        .attempt(attempt)?;
    if content.len() as u64 > limit {
        return Err(Error::invalid(
            attempt(),
            format!("larger than the {limit} bytes allowed"),
        ));
    }
    Ok(content)
}

/// Writes to a file that exists (a kernel interface file): opened for writing, never created, one write.
pub fn write_existing(path: &Path, content: &[u8]) -> Result<()> {
    let attempt = || format!("write {}", path.display());
    let mut file = OpenOptions::new().write(true).open(path).attempt(attempt)?;
    file.write_all(content).attempt(attempt)
}

/// Creates or truncates a file and writes it; not atomic.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).attempt(|| format!("write {}", path.display()))
}

/// Opens a file with the given options.
pub fn open(path: &Path, options: &OpenOptions) -> Result<File> {
    options
        .open(path)
        .attempt(|| format!("open {}", path.display()))
}

/// Opens a directory for use as a base of relative calls.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        path,
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .attempt(|| format!("open directory {}", path.display()))
}

/// Creates a directory and its parents; one that exists already is fine.
pub fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).attempt(|| format!("create directory {}", path.display()))
}

/// Creates a directory and its parents, all new ones with exactly `mode`.
pub fn create_dir_all_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .attempt(|| format!("create directory {}", path.display()))
}

/// Creates one directory with `mode`; it must not exist.
pub fn create_dir(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .attempt(|| format!("create directory {}", path.display()))
}

/// Removes a file; one that is not there is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(Error::new(format!("remove {}", path.display()), cause))
        }
        _ => Ok(()),
    }
}

/// Removes an empty directory; one that is not there is fine.
pub fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(Error::new(
            format!("remove directory {}", path.display()),
            cause,
        )),
        _ => Ok(()),
    }
}

/// Removes a directory with all it holds, never following a symbolic link; one that is not there is fine.
pub fn remove_dir_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(Error::new(
            format!("remove directory {} and its content", path.display()),
            cause,
        )),
        _ => Ok(()),
    }
}

/// Renames `from` to `to`, replacing what is there.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).attempt(|| format!("rename {} to {}", from.display(), to.display()))
}

/// Makes a symbolic link at `link` that says `target`.
pub fn symlink(target: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, link).attempt(|| {
        format!(
            "make symbolic link {} to {}",
            link.display(),
            target.display()
        )
    })
}

/// What a symbolic link says.
pub fn read_link(path: &Path) -> Result<PathBuf> {
    fs::read_link(path).attempt(|| format!("read symbolic link {}", path.display()))
}

/// Metadata of what the path leads to.
pub fn metadata(path: &Path) -> Result<Metadata> {
    fs::metadata(path).attempt(|| format!("look at {}", path.display()))
}

/// Metadata of the path itself, links not followed.
pub fn symlink_metadata(path: &Path) -> Result<Metadata> {
    fs::symlink_metadata(path).attempt(|| format!("look at {}", path.display()))
}

/// Whether there is something at `path` (links not followed).
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The names in a directory, sorted; an absent directory is an error.
pub fn list(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let attempt = || format!("list directory {}", path.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(path).attempt(attempt)? {
        names.push(entry.attempt(attempt)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The path with links resolved.
pub fn canonicalize(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).attempt(|| format!("resolve {}", path.display()))
}

/// Sets the permission bits.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .attempt(|| format!("set mode {mode:o} on {}", path.display()))
}

/// Sets owner and group, links not followed.
pub fn chown(path: &Path, uid: u32, gid: u32) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))
        .attempt(|| format!("give {} to {uid}:{gid}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_one_file_with_the_mode_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        replace(&path, b"one", 0o600, Durability::Unsynced).unwrap();
        replace(&path, b"two", 0o644, Durability::Synced).unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(list(directory.path()).unwrap(), ["state.json"]);
    }

    #[test]
    fn read_bounded_refuses_more_than_the_limit_and_what_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwd");
        write(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(read_bounded(&path, 4).is_err());
        let error = read_bounded(directory.path(), 4).unwrap_err();
        assert!(error.attempt().starts_with("read "), "{error}");
        assert!(read_bounded(Path::new("/dev/zero"), 4).is_err());
    }

    #[test]
    fn errors_name_the_path_and_keep_the_cause() {
        let error = read(Path::new("/does/not/exist")).unwrap_err();
        assert_eq!(error.to_string(), "read /does/not/exist");
        assert!(error.is_not_found());
    }
}
