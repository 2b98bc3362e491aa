//! Mounts as descriptors: the mount API of Linux 5.2 and later (fsopen(2), open_tree(2), move_mount(2),
//! mount_setattr(2)).
//!
//! Owns the calls and their flags. Does not know what a container is. A mount made here is attached nowhere
//! until [`attach`]; dropping its descriptor before that undoes it completely.

pub mod overlay;
pub mod view;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::error::{Attempt, Error, Result};

/// Attributes of one mount, the `MOUNT_ATTR_*` bits of mount_setattr(2).
pub mod attribute {
    /// Nothing can be written through the mount.
    pub const READ_ONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities have no effect.
    pub const NO_SUID: u64 = 0x2;
    /// Device files cannot be opened.
    pub const NO_DEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NO_EXEC: u64 = 0x8;
    /// The field that holds one of [`RELATIME`], [`NO_ATIME`], [`STRICT_ATIME`]; cleared before one is set.
    pub const ATIME_FIELD: u64 = 0x70;
    /// Access times are updated now and then (the kernel's default; the empty value of the field).
    pub const RELATIME: u64 = 0x0;
    /// Access times are never updated.
    pub const NO_ATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICT_ATIME: u64 = 0x20;
    /// Access times of directories are never updated.
    pub const NO_DIRECTORY_ATIME: u64 = 0x80;
    /// Ids are mapped by a user namespace.
    pub const ID_MAP: u64 = 0x0010_0000;
    /// Symbolic links are not followed.
    pub const NO_SYMLINK_FOLLOW: u64 = 0x0020_0000;
}

/// How mounts and unmounts travel between copies of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// From the original to the copy only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and the mount cannot be bound elsewhere.
    Unbindable,
}

impl Propagation {
    /// The `MS_*` bit, as mount_setattr(2) takes it.
    fn bits(self) -> u64 {
        match self {
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Private => libc::MS_PRIVATE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change of attributes: what to set, what to clear, and how to map ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttributeChange<'a> {
    /// Bits of [`attribute`] to set.
    pub set: u64,
    /// Bits of [`attribute`] to clear.
    pub clear: u64,
    /// A new propagation type.
    pub propagation: Option<Propagation>,
    /// The user namespace whose maps the mount shall use; only for mounts attached nowhere.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes of the mount a descriptor stands for, with `recursive` of all mounts below too.
pub fn set_attributes(
    mount: impl AsFd,
    recursive: bool,
    change: &AttributeChange<'_>,
) -> Result<()> {
    let mut attributes = MountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    if change.set & attribute::ATIME_FIELD != 0 {
        attributes.attr_clr |= attribute::ATIME_FIELD;
    }
    if let Some(namespace) = change.user_namespace {
        attributes.attr_set |= attribute::ID_MAP;
        attributes.userns_fd = namespace.as_raw_fd() as u64;
    }
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a static C string, the attributes outlive the call and their size is told.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if answer != 0 {
        return Err(Error::new(
            "change mount attributes",
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// One parameter of a file system: a flag (`None`) or a key with its value.
pub type Parameter = (String, Option<String>);

/// Makes a new instance of a file system and a mount of it that is attached nowhere.
///
/// On failure the kernel's own explanation is part of the error.
pub fn new_file_system(
    kind: &str,
    source: Option<&str>,
    parameters: &[Parameter],
    attributes: u64,
) -> Result<OwnedFd> {
    let context = FileSystemContext::open(kind)?;
    if let Some(source) = source {
        context.set("source", source)?;
    }
    for (key, value) in parameters {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.set_flag(key)?,
        }
    }
    context.mount(attributes)
}

/// A file system under construction (fsopen(2)).
#[derive(Debug)]
pub struct FileSystemContext {
    kind: String,
    descriptor: OwnedFd,
}

impl FileSystemContext {
    /// Starts a file system of type `kind`.
    pub fn open(kind: &str) -> Result<Self> {
        let descriptor = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .attempt(|| format!("open a {kind} file system"))?;
        Ok(Self {
            kind: kind.to_owned(),
            descriptor,
        })
    }

    /// Sets a parameter with a text value (at most 255 bytes, the kernel's limit).
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        rustix::mount::fsconfig_set_string(&self.descriptor, key, value).map_err(|errno| {
            self.explain(
                format!("set {key}={value} of a {} file system", self.kind),
                errno,
            )
        })
    }

    /// Sets a parameter that is only there or not.
    pub fn set_flag(&self, key: &str) -> Result<()> {
        rustix::mount::fsconfig_set_flag(&self.descriptor, key).map_err(|errno| {
            self.explain(format!("set {key} of a {} file system", self.kind), errno)
        })
    }

    /// Makes the instance and a mount of it.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        rustix::mount::fsconfig_create(&self.descriptor)
            .map_err(|errno| self.explain(format!("make a {} file system", self.kind), errno))?;
        rustix::mount::fsmount(
            &self.descriptor,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::from_bits_retain(attributes as u32),
        )
        .map_err(|errno| self.explain(format!("mount a {} file system", self.kind), errno))
    }

    /// An error with what the kernel wrote into the context's log.
    fn explain(&self, mut attempt: String, errno: Errno) -> Error {
        let mut buffer = [0_u8; 1024];
        while let Ok(length) = rustix::io::read(&self.descriptor, &mut buffer[..]) {
            if length == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&buffer[..length]);
            let text = text.trim();
            // "e ", "w ", "i " tell the severity.
            attempt.push_str(" (");
            attempt.push_str(text.split_once(' ').map_or(text, |(_, rest)| rest));
            attempt.push(')');
        }
        Error::new(attempt, errno)
    }
}

/// A copy of the mount at `path` (with `recursive` of all mounts below), attached nowhere.
pub fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    rustix::mount::open_tree(CWD, path, clone_flags(recursive))
        .attempt(|| format!("copy the mount at {}", path.display()))
}

/// As [`clone_tree`], of what a descriptor stands for.
pub fn clone_tree_of(descriptor: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    rustix::mount::open_tree(
        descriptor,
        c"",
        clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH,
    )
    .attempt(|| "copy the mount of a descriptor")
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    flags
}

/// Attaches a mount to what `target` stands for; no path is looked up.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    rustix::mount::move_mount(
        mount,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .attempt(|| "attach a mount")
}

/// Attaches a mount at `path`, which is trusted.
pub fn attach_at(mount: impl AsFd, path: &Path) -> Result<()> {
    rustix::mount::move_mount(
        mount,
        c"",
        CWD,
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .attempt(|| format!("attach a mount at {}", path.display()))
}

/// Sets the propagation of the mount at `path`, with `recursive` of all mounts below too.
pub fn set_propagation(path: &Path, propagation: Propagation, recursive: bool) -> Result<()> {
    let mut flags = match propagation {
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    if recursive {
        flags |= MountPropagationFlags::REC;
    }
    rustix::mount::mount_change(path, flags)
        .attempt(|| format!("make the mount at {} {propagation:?}", path.display()))
}

/// Detaches the mount at `path` and all below it from the tree; it ends when its last user ends.
pub fn detach(path: &Path) -> Result<()> {
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .attempt(|| format!("unmount {}", path.display()))
}

/// Makes the mount behind `root` the root of this process' mount namespace and drops the old one.
///
/// Afterwards root and working directory are the new root. pivot_root(2), "Notes": with both names the same
/// the old root lies on top of the new one and needs no place in it.
pub fn pivot_to(root: impl AsFd) -> Result<()> {
    let old = crate::fs::open_directory(Path::new("/"))?;
    rustix::process::fchdir(root).attempt(|| "enter the new root")?;
    rustix::process::pivot_root(c".", c".").attempt(|| "exchange the root")?;
    // "." would be the new root to all calls but umount2(2), hence by the old one's descriptor.
    rustix::process::fchdir(old).attempt(|| "enter the old root")?;
    // Our unmount must not travel back to where the old root's mounts came from.
    rustix::mount::mount_change(
        c".",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .attempt(|| "cut the old root's propagation")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).attempt(|| "unmount the old root")?;
    rustix::process::chdir(c"/").attempt(|| "enter the new root")
}

/// Makes the mount behind `root` the root by moving it over `/` and chroot(2): for an initial ramfs, where
/// pivot_root(2) is refused.
pub fn move_to_root(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(&root).attempt(|| "enter the new root")?;
    rustix::mount::mount_move(c".", c"/").attempt(|| "move the new root over /")?;
    rustix::process::chroot(c".").attempt(|| "change the root")?;
    rustix::process::chdir(c"/").attempt(|| "enter the new root")
}

/// mount(2) as it was before descriptors; for kernels where a file system lacks the new interface.
pub fn mount_classic(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: rustix::mount::MountFlags,
    data: Option<&CStr>,
) -> Result<()> {
    rustix::mount::mount(source, target, kind, flags, data)
        .attempt(|| format!("mount {kind} at {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_tmpfs_can_be_filled_and_made_read_only() {
        let mount = new_file_system(
            "tmpfs",
            Some("test"),
            &[
                ("size".into(), Some("64k".into())),
                ("mode".into(), Some("700".into())),
            ],
            attribute::NO_DEV,
        )
        .unwrap();
        rustix::fs::mkdirat(&mount, "inside", rustix::fs::Mode::RWXU).unwrap();
        set_attributes(
            &mount,
            false,
            &AttributeChange {
                set: attribute::READ_ONLY,
                ..AttributeChange::default()
            },
        )
        .unwrap();
        let error = rustix::fs::mkdirat(&mount, "more", rustix::fs::Mode::RWXU).unwrap_err();
        assert_eq!(error, Errno::ROFS);
    }

    #[test]
    fn errors_tell_what_the_kernel_says() {
        let error = new_file_system("tmpfs", None, &[("nonsense".into(), None)], 0).unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
        assert_eq!(error.errno(), Some(Errno::INVAL));
    }
}
