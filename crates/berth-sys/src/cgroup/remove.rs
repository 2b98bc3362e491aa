//! Removing a group and what lies beneath it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::directory::Directory;
use super::{Cgroup, CgroupError, Location, limits};

impl Cgroup {
    /// Removes the group and every group beneath it. What is gone already counts as removed. Waits, up to a
    /// bound, for processes that are already killed to leave; it kills nothing itself.
    ///
    /// # Errors
    /// `Populated` when processes stay. The hierarchies that could be cleared are.
    pub fn remove(location: &Location) -> Result<(), CgroupError> {
        let deadline = Instant::now() + limits::REMOVE;
        let mut first_error = None;
        // The version 2 group goes first: it tells by an event when it is empty, and then the others are too.
        for path in location
            .unified
            .iter()
            .chain(location.v1.iter().map(|(_, path)| path))
        {
            if let Err(error) = remove_tree(path, deadline, 0) {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// Removes one directory and those beneath it.
fn remove_tree(path: &Path, deadline: Instant, depth: usize) -> Result<(), CgroupError> {
    let failed = |errno: Errno| CgroupError::Io {
        attempt: "remove control group",
        path: path.to_path_buf(),
        source: errno.into(),
    };
    loop {
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let Some(directory) = Directory::open(path)? else {
            return Ok(());
        };
        let children = directory.children()?;
        if depth < limits::DEPTH {
            for child in &children {
                remove_tree(&path.join(child), deadline, depth + 1)?;
            }
        }
        if !children.is_empty() && Instant::now() < deadline && depth < limits::DEPTH {
            continue;
        }
        wait_until_empty(&directory, deadline)?;
    }
}

/// Waits for the processes in a directory to end.
fn wait_until_empty(directory: &Directory, deadline: Instant) -> Result<(), CgroupError> {
    let processes = super::process::listed(directory, "cgroup.procs")?;
    let now = Instant::now();
    if now >= deadline {
        return Err(CgroupError::Populated {
            path: directory.path().to_path_buf(),
            processes: processes.len(),
        });
    }
    let handles: Vec<OwnedFd> = processes
        .iter()
        .filter_map(|pid| {
            rustix::process::pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()
        })
        .collect();
    // One after the other: all of them have to go.
    if let Some(handle) = handles.first() {
        let mut polled = [PollFd::new(handle, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timespec(deadline - now))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(CgroupError::Io {
                    attempt: "wait for the processes of control group",
                    path: directory.path().to_path_buf(),
                    source: errno.into(),
                });
            }
        }
    }
    // A process is told as ended a moment before it has left its groups, and one of another process id
    // namespace is not listed at all.
    std::thread::sleep(limits::LOOK_AGAIN);
    Ok(())
}

/// A duration as poll(2) takes it.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
