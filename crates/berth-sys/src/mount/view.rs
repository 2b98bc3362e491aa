//! A container's files as a tree of mounts that only this process sees.
//!
//! Owns: a mount namespace in which copies of a container's mounts stand, without its processes and without
//! procfs, sysfs and devices. Does not own which mounts those are. What is done through the root of a view
//! reaches the container's files and nothing else, whatever the container does meanwhile; the mounts end with
//! the view, also when this process is killed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::{AttributeChange, attribute};
use crate::error::{Attempt, Error, Result};
use crate::path::{Root, file_type};
use crate::{namespace, process};

/// Where a view stands in its namespace: a directory every system has.
const PLACE: &str = "/proc";

/// A mount that is attached nowhere, and where it goes.
pub type Piece = (PathBuf, OwnedFd);

/// The files of a container.
#[derive(Debug)]
pub struct View {
    root: Root,
    /// Keeps the mounts attached to each other.
    _namespace: OwnedFd,
}

impl View {
    /// Puts `pieces` onto `root`, a mount attached nowhere, in order. The places are looked up within the root; those
    /// that are missing are made when `create` says so, else their piece is left out.
    ///
    /// Devices in it cannot be opened.
    pub fn assemble(root: OwnedFd, pieces: Vec<Piece>, create: bool) -> Result<Self> {
        on_thread("assemble the view of a container", move || {
            namespace::unshare(process::CLONE_NEWNS)?;
            // Opened before it is covered.
            let namespace = namespace::open(Path::new("/proc/thread-self/ns/mnt"))?;
            super::set_propagation(Path::new("/"), super::Propagation::Private, true)?;
            let place = Path::new(PLACE);
            protect(&root)?;
            super::attach_at(root, place)?;
            let root = Root::open(place)?;
            for (target, mount) in pieces {
                let directory = file_type(&mount)? == FileType::Directory;
                let found = match root.resolve(&target) {
                    Ok(found) => found,
                    Err(error) if error.is_not_found() && !create => continue,
                    Err(error) if error.is_not_found() && directory => {
                        root.create_directories(&target, Mode::from_raw_mode(0o755))?
                    }
                    Err(error) if error.is_not_found() => {
                        let mode = Mode::from_raw_mode;
                        root.create_file(&target, mode(0o644), mode(0o755))?
                    }
                    Err(error) => return Err(error),
                };
                protect(&mount)?;
                super::attach(mount, found)?;
            }

            Ok(Self {
                root,
                _namespace: namespace,
            })
        })
    }

    /// The root, for calls that resolve beneath it.
    pub fn root(&self) -> &Root {
        &self.root
    }
}

/// A mount of this process' own that several others are copies of: one instance of a file system for all of them, with
/// one idea of what is in it. Two overlays of the same upper directory would each have an idea of their own.
#[derive(Debug)]
pub struct SharedMount {
    root: OwnedFd,
    namespace: OwnedFd,
}

impl SharedMount {
    /// Keeps `mount`, which is attached nowhere, where nobody sees it. It ends with this value, its copies do not.
    pub fn keep(mount: OwnedFd) -> Result<Self> {
        on_thread("keep a mount", move || {
            namespace::unshare(process::CLONE_NEWNS)?;
            // Opened before it is covered.
            let namespace = namespace::open(Path::new("/proc/thread-self/ns/mnt"))?;
            super::set_propagation(Path::new("/"), super::Propagation::Private, true)?;
            super::attach_at(mount, Path::new(PLACE))?;
            let root = crate::fs::open_directory(Path::new(PLACE))?;
            Ok(Self { root, namespace })
        })
    }

    /// A further mount of the same file system, attached nowhere.
    pub fn copy(&self) -> Result<OwnedFd> {
        // Kernels copy only what is attached in the caller's own namespace.
        on_thread("copy a mount", || {
            namespace::unshare(libc::CLONE_FS as u64)?;
            namespace::enter(&self.namespace, namespace::Kind::Mount)?;
            super::clone_tree_of(&self.root, false)
        })
    }
}

/// Makes devices behind a mount, and below it, impossible to open.
fn protect(mount: impl AsFd) -> Result<()> {
    super::set_attributes(
        mount,
        true,
        &AttributeChange {
            set: attribute::NO_DEV,
            propagation: Some(super::Propagation::Private),
            ..AttributeChange::default()
        },
    )
}

/// Copies of mounts of a running process: its root alone, and those at `targets` in it that are mount points, with
/// what is mounted below them. `is_right` is asked after the process is held, so that its number cannot have
/// gone to another one.
pub fn copy_of_process(
    pid: i32,
    targets: Vec<PathBuf>,
    is_right: impl FnOnce() -> Result<bool>,
) -> Result<(OwnedFd, Vec<Piece>)> {
    let attempt = || format!("look at the files of process {pid}");
    let pidfd = process::open_pidfd(pid)?;
    let namespace = namespace::open(&PathBuf::from(format!("/proc/{pid}/ns/mnt")))?;
    let root = crate::proc::open_link(
        &PathBuf::from(format!("/proc/{pid}/root")),
        OFlags::PATH | OFlags::DIRECTORY,
    )?;
    if !is_right()? || process::has_ended(&pidfd)? {
        return Err(Error::new(attempt(), rustix::io::Errno::SRCH));
    }
    on_thread("copy the mounts of a container", move || {
        // A thread that shares its working directory with others may not change mount namespaces.
        namespace::unshare(libc::CLONE_FS as u64)?;
        namespace::enter(&namespace, namespace::Kind::Mount)?;
        let copy = super::clone_tree_of(&root, false)?;
        let inside = Root::from_descriptor(root);
        let own = mount_id(inside.descriptor())?;
        let mut pieces = Vec::new();
        for target in targets {
            // What is not there any more is not a mount any more.
            let Ok(found) = inside.resolve(&target) else {
                continue;
            };
            if mount_id(&found)? != own {
                pieces.push((target, super::clone_tree_of(&found, true)?));
            }
        }
        Ok((copy, pieces))
    })
}

/// The id of the mount that a descriptor lies on.
fn mount_id(descriptor: impl AsFd) -> Result<u64> {
    let found = rustix::fs::statx(
        descriptor,
        c"",
        rustix::fs::AtFlags::EMPTY_PATH,
        rustix::fs::StatxFlags::MNT_ID,
    )
    .attempt(|| "look at a mount")?;
    Ok(found.stx_mnt_id)
}

/// Runs something on a thread of its own, which may leave this process' namespaces since it ends afterwards.
fn on_thread<T: Send>(what: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("view".to_owned())
            .spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::other(what, "the thread for it ended")),
            Err(error) => Err(Error::new(format!("start a thread to {what}"), error)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::descriptor_path;

    #[test]
    fn a_view_shows_its_pieces_and_nobody_else_sees_it() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (root, volume) = (make("root"), make("volume"));
        std::fs::create_dir(root.join("data")).unwrap();
        std::fs::write(root.join("data/hidden"), "").unwrap();
        std::fs::write(volume.join("shown"), "from the volume").unwrap();
        std::os::unix::fs::symlink("/data", root.join("link")).unwrap();
        let view = View::assemble(
            super::super::clone_tree(&root, false).unwrap(),
            vec![
                (
                    "/data".into(),
                    super::super::clone_tree(&volume, true).unwrap(),
                ),
                (
                    "/none".into(),
                    super::super::clone_tree(&volume, true).unwrap(),
                ),
            ],
            false,
        )
        .unwrap();
        let seen = view
            .root()
            .open_at(Path::new("/link/shown"), OFlags::RDONLY, Mode::empty())
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(descriptor_path(&seen)).unwrap(),
            "from the volume"
        );
        assert!(view.root().resolve(Path::new("/data/hidden")).is_err());
        assert!(view.root().resolve(Path::new("/none")).is_err());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(base.path().to_str().unwrap()));
        drop((seen, view));
        std::fs::remove_dir_all(base.path().join("volume")).unwrap();
    }

    #[test]
    fn copies_of_a_shared_mount_are_one_file_system() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let overlay = super::super::overlay::Overlay {
            lower: vec![make("lower")],
            upper: Some(make("upper")),
            work: Some(make("work")),
            ..super::super::overlay::Overlay::default()
        };
        let shared = SharedMount::keep(overlay.mount_detached().unwrap()).unwrap();
        let (one, other) = (shared.copy().unwrap(), shared.copy().unwrap());
        drop(shared);
        let (one, other) = (descriptor_path(&one), descriptor_path(&other));
        std::fs::write(one.join("a"), "1").unwrap();
        assert_eq!(std::fs::read_to_string(other.join("a")).unwrap(), "1");
        // A name that was looked for in vain is there for the one as soon as for the other.
        assert!(std::fs::read_to_string(other.join("b")).is_err());
        std::fs::rename(one.join("a"), one.join("b")).unwrap();
        assert_eq!(std::fs::read_to_string(other.join("b")).unwrap(), "1");
        assert!(std::fs::read_to_string(other.join("a")).is_err());
        let device = |path: &Path| std::fs::metadata(path).unwrap().dev();
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(device(&one), device(&other));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(base.path().to_str().unwrap()));
    }

    #[test]
    fn devices_in_a_view_cannot_be_opened() {
        let base = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            base.path().join("null"),
            FileType::CharacterDevice,
            Mode::RUSR,
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
        let root = super::super::clone_tree(base.path(), false).unwrap();
        let view = View::assemble(root, Vec::new(), false).unwrap();
        let opened = view
            .root()
            .open_at(Path::new("null"), OFlags::RDONLY, Mode::empty());
        assert_eq!(opened.unwrap_err().errno(), Some(rustix::io::Errno::ACCESS));
    }
}
