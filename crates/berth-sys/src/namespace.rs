//! Namespaces: their kinds, entering and leaving them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Attempt, Error, Result};
use crate::process;

/// The kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// User and group ids, capabilities.
    User,
    /// Mounts.
    Mount,
    /// Process ids.
    Pid,
    /// Network interfaces, addresses, firewall.
    Network,
    /// System V IPC, POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// The view of the cgroup tree.
    Cgroup,
    /// Boot and monotonic clocks.
    Time,
}

/// Every kind, in an order in which they can be joined one by one: the user namespace first, since it gives the
/// rights for the others, the mount namespace last, since it changes what paths mean.
pub const ALL: [Kind; 8] = [
    Kind::User,
    Kind::Cgroup,
    Kind::Ipc,
    Kind::Uts,
    Kind::Network,
    Kind::Pid,
    Kind::Time,
    Kind::Mount,
];

impl Kind {
    /// The `CLONE_NEW*` bit.
    pub fn flag(self) -> u64 {
        match self {
            Self::User => process::CLONE_NEWUSER,
            Self::Mount => process::CLONE_NEWNS,
            Self::Pid => process::CLONE_NEWPID,
            Self::Network => process::CLONE_NEWNET,
            Self::Ipc => process::CLONE_NEWIPC,
            Self::Uts => process::CLONE_NEWUTS,
            Self::Cgroup => process::CLONE_NEWCGROUP,
            Self::Time => process::CLONE_NEWTIME,
        }
    }

    /// Its name in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

/// Opens a namespace file (under /proc/PID/ns, or where one was bound).
pub fn open(path: &Path) -> Result<OwnedFd> {
    crate::proc::open_link(path, OFlags::RDONLY)
}

/// Enters the namespace behind `descriptor`, which must be of `kind`.
///
/// For a PID namespace: the next child is born in it, the caller stays. For a time namespace the caller needs to have
/// one thread.
pub fn enter(descriptor: impl AsFd, kind: Kind) -> Result<()> {
    set(descriptor, kind.flag()).attempt(|| format!("enter a {} namespace", kind.file()))
}

/// Enters those namespaces of the process behind `pidfd` that `flags` (`CLONE_NEW*`) name, all at once.
pub fn enter_of_process(pidfd: impl AsFd, flags: u64) -> Result<()> {
    set(pidfd, flags).attempt(|| "enter the namespaces of a process")
}

fn set(descriptor: impl AsFd, flags: u64) -> std::io::Result<()> {
    // SAFETY: setns(2) passes no memory.
    let answer = unsafe { libc::setns(descriptor.as_fd().as_raw_fd(), flags as libc::c_int) };
    if answer != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Leaves the present namespaces for new ones (`CLONE_NEW*`).
pub fn unshare(flags: u64) -> Result<()> {
    // SAFETY: unshare(2) passes no memory; only namespace bits are given, so no descriptor table is split.
    let answer = unsafe { libc::unshare(flags as libc::c_int) };
    if answer != 0 {
        return Err(Error::new(
            format!("make new namespaces ({flags:#x})"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Device and inode of a namespace: equal for equal namespaces.
pub fn identity(descriptor: impl AsFd) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(descriptor).attempt(|| "look at a namespace")?;
    Ok((stat.st_dev, stat.st_ino))
}
