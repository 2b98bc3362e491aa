//! A sealed view of our own executable: a descriptor to run it from that nobody can write through.
//!
//! A process inside a container that finds our program (through /proc/PID/exe of a process of ours that entered
//! it) must not be able to write to it (CVE-2019-5736). The view is made once and handed down.
//!
//! Two forms. A read-only overlay over the directory of the executable, attached nowhere: opening the
//! upper side for writing is impossible whatever rights the opener has, and the pages are shared with the file.
//! Where that cannot be made: a copy in a sealed memory file (memfd_create(2)).
//!
//! An overlay does not hold the file beneath it: an installer that writes over the executable in place, instead of
//! renaming a new one onto it, would change the text of every process that runs from the view. A view that outlives
//! its maker is therefore made of a copy of one's own ([`SealedExecutable::of_copy_in`]), which nobody installs over.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::error::{Attempt, Error, Result};
use crate::fs;
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

    /// Makes a view of a copy of the executable at `path`, kept in `directory` from one start to the next.
    ///
    /// The copy is made once for each build (told by device, inode, size and time of change) and durable before it
    /// is used; copies of other builds are removed, which ends no process that runs from one. Without a directory
    /// that programs can be run from, the view is made of the executable itself.
    pub fn of_copy_in(directory: &Path, path: &Path) -> Result<Self> {
        fs::create_dir_all_mode(directory, 0o700)?;
        let flags = rustix::fs::statvfs(directory)
            .attempt(|| format!("look at the file system of {}", directory.display()))?
            .f_flag;
        if flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
            return Self::of(path);
        }
        let source = fs::open(path, File::options().read(true))?;
        let status =
            rustix::fs::fstat(&source).attempt(|| format!("look at {}", path.display()))?;
        let name = format!(
            "berth-{:x}-{:x}-{:x}-{:x}.{:x}",
            status.st_dev, status.st_ino, status.st_size, status.st_ctime, status.st_ctime_nsec
        );
        let copy = directory.join(&name);
        if !fs::exists(&copy) {
            let unfinished = directory.join(format!("{name}.{}", std::process::id()));
            let outcome = copy_program(source, &unfinished)
                .and_then(|()| fs::rename(&unfinished, &copy))
                .and_then(|()| fs::sync_parent(&copy));
            if let Err(error) = outcome {
                // The first failure is the one to tell; what is left is removed at the next start.
                let _ = fs::remove_file(&unfinished);
                return Err(error);
            }
        }
        let view = Self::of(&copy)?;
        for other in fs::list(directory)? {
            if other != name.as_str() {
                fs::remove_file(&directory.join(other))?;
            }
        }
        Ok(view)
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

fn copy_program(mut source: File, path: &Path) -> Result<()> {
    let mut target = fs::open(
        path,
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o500),
    )?;
    let attempt = || format!("copy the executable to {}", path.display());
    std::io::copy(&mut source, &mut target).attempt(attempt)?;
    target.sync_all().attempt(attempt)
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
    fn a_view_of_a_copy_is_not_reached_by_writing_over_the_executable() {
        let (directory, file) = program();
        let copies = directory.path().join("copies");
        let first = SealedExecutable::of_copy_in(&copies, &file).unwrap();
        SealedExecutable::of_copy_in(&copies, &file).unwrap();
        assert_eq!(
            std::fs::read_dir(&copies).unwrap().count(),
            1,
            "copied twice"
        );
        std::fs::write(&file, b"#!/bin/sh\nexit 3\n").unwrap();
        let output = std::process::Command::new(first.path())
            .arg("--list")
            .output();
        assert!(output.unwrap().status.success());
        let second = SealedExecutable::of_copy_in(&copies, &file).unwrap();
        assert_eq!(
            std::fs::read_dir(&copies).unwrap().count(),
            1,
            "the old copy stayed"
        );
        let output = std::process::Command::new(first.path())
            .arg("--list")
            .output();
        assert!(
            output.unwrap().status.success(),
            "the old view ended with its copy's name"
        );
        assert_eq!(second.form(), Form::Overlay);
    }

    #[test]
    fn an_ordinary_file_is_not_sealed() {
        let (_directory, file) = program();
        assert!(!is_sealed(File::open(&file).unwrap()));
    }
}
