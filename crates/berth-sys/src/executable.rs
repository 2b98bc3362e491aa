//! A sealed view of our own executable: a descriptor to run it from that nobody can write through.
//!
//! A process inside a container that finds our program (through /proc/PID/exe of a process of ours that entered
//! it) must not be able to write to it (CVE-2019-5736). The view is made once and handed down.
//!
//! Two forms. A read-only overlay over the directory of the executable, attached nowhere: opening the
//! upper side for writing is impossible whatever rights the opener has, and the pages are shared with the file.
//! Where that cannot be made: a copy in a sealed memory file (memfd_create(2)).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::error::{Attempt, Error, Result};
use crate::mount::overlay::Overlay;
use crate::path;

/// An overlay needs two layers that do not overlap; the second is never reached for a name the first has, so any
/// directory of another file system does.
const SECOND_LAYERS: [&str; 2] = ["/sys", "/dev"];

/// The form of a sealed view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A file of a read-only overlay; shares its pages with the executable.
    Overlay,
    /// A copy in memory.
    Memory,
}

/// An executable nobody can write to, open for execution.
#[derive(Debug)]
pub struct SealedExecutable {
    descriptor: OwnedFd,
    form: Form,
}

impl SealedExecutable {
    /// Makes a view of the executable this process runs.
    pub fn of_self() -> Result<Self> {
        Self::of(Path::new("/proc/self/exe"))
    }

    /// Makes a view of the executable at `path`.
    pub fn of(path: &Path) -> Result<Self> {
        if let Ok(descriptor) = by_overlay(path) {
            return Ok(Self {
                descriptor,
                form: Form::Overlay,
            });
        }
        Ok(Self {
            descriptor: by_memory(path)?,
            form: Form::Memory,
        })
    }

    /// The form it has.
    pub fn form(&self) -> Form {
        self.form
    }

    /// A path under which children of this process that inherit the descriptor can execute it.
    pub fn path(&self) -> PathBuf {
        path::descriptor_path(&self.descriptor)
    }

    /// A path under which any process of this PID namespace can execute it while this one lives.
    pub fn global_path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.descriptor.as_raw_fd()
        ))
    }

    /// Gives the descriptor away.
    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }
}

impl AsFd for SealedExecutable {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether the program behind `executable` cannot be written through its descriptor.
pub fn is_sealed(executable: impl AsFd) -> bool {
    const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
    let executable = executable.as_fd();
    if let Ok(seals) = rustix::fs::fcntl_get_seals(executable) {
        return seals.contains(memory_seals());
    }
    let read_only = rustix::fs::fstatvfs(executable).is_ok_and(|status| {
        status
            .f_flag
            .contains(rustix::fs::StatVfsMountFlags::RDONLY)
    });
    let overlay =
        rustix::fs::fstatfs(executable).is_ok_and(|status| status.f_type == OVERLAYFS_SUPER_MAGIC);
    read_only && overlay
}

fn by_overlay(path: &Path) -> Result<OwnedFd> {
    let real = std::fs::canonicalize(path)
        .attempt(|| format!("find the executable {}", path.display()))?;
    let (Some(directory), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(Error::invalid(
            format!("seal {}", path.display()),
            "it has no directory",
        ));
    };
    let mount = SECOND_LAYERS
        .iter()
        .map(|second| {
            Overlay {
                lower: vec![directory.to_owned(), PathBuf::from(second)],
                options: vec![("xino".into(), "off".into())],
                ..Overlay::default()
            }
            .mount_detached()
        })
        .reduce(|first, next| first.or(next))
        .unwrap_or_else(|| Err(Error::other("seal an executable", "no second layer")))?;
    let view = rustix::fs::openat(
        &mount,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .attempt(|| format!("open the sealed view of {}", path.display()))?;
    // The file may have been replaced since we started: then the name leads to another program.
    let ours = rustix::fs::stat(path).attempt(|| "look at the executable")?;
    let seen = rustix::fs::fstat(&view).attempt(|| "look at the sealed view")?;
    if (ours.st_ino, ours.st_size) != (seen.st_ino, seen.st_size) {
        return Err(Error::invalid(
            format!("seal {}", path.display()),
            "the file was replaced meanwhile",
        ));
    }
    Ok(view)
}

fn memory_seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

fn by_memory(path: &Path) -> Result<OwnedFd> {
    let attempt = || format!("copy {} into sealed memory", path.display());
    let mut source = File::open(path).attempt(attempt)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC is known since 6.3 and needed where vm.memfd_noexec is set.
    let memory = rustix::fs::memfd_create("berth", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("berth", flags))
        .attempt(attempt)?;
    let mut target = File::from(memory);
    std::io::copy(&mut source, &mut target).attempt(attempt)?;
    rustix::fs::fcntl_add_seals(&target, memory_seals()).attempt(attempt)?;
    // A descriptor open for writing would make execution fail with ETXTBSY.
    rustix::fs::open(
        path::descriptor_path(&target),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .attempt(attempt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn program() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::copy("/proc/self/exe", &path).unwrap();
        (directory, path)
    }

    #[test]
    fn neither_form_can_be_written() {
        let (_directory, file) = program();
        for descriptor in [by_overlay(&file).unwrap(), by_memory(&file).unwrap()] {
            let path = path::descriptor_path(&descriptor);
            // A sealed memory file opens, and then refuses every change.
            let written = std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| file.write_all(b"x"));
            assert!(written.is_err());
            assert!(File::create(&path).is_err());
            assert!(is_sealed(&descriptor));
            let output = std::process::Command::new(&path).arg("--list").output();
            assert!(output.unwrap().status.success());
        }
    }

    #[test]
    fn the_overlay_hides_a_later_replacement() {
        let (_directory, file) = program();
        let view = SealedExecutable::of(&file).unwrap();
        assert_eq!(view.form(), Form::Overlay);
        std::fs::remove_file(&file).unwrap();
        std::fs::File::create(&file)
            .unwrap()
            .write_all(b"#!/bin/false\n")
            .unwrap();
        let output = std::process::Command::new(view.path())
            .arg("--list")
            .output();
        assert!(output.unwrap().status.success());
    }

    #[test]
    fn an_ordinary_file_is_not_sealed() {
        let (_directory, file) = program();
        assert!(!is_sealed(File::open(&file).unwrap()));
    }
}
