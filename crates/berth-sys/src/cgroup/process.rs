//! Processes of a group: joining, listing, freezing, signalling.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::directory::Directory;
use super::remove::timespec;
use super::{Cgroup, CgroupError, limits};

/// Groups beneath one that a process shall join in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubGroups {
    /// In every hierarchy that `of` does not name; empty for the group itself.
    pub every: PathBuf,
    /// In the hierarchies of single version 1 controllers.
    pub of: Vec<(String, PathBuf)>,
}

/// Descriptors with which a new process joins a group by itself. Holds no path and allocates nothing when used.
#[derive(Debug)]
pub struct JoinHandle {
    v1: Vec<OwnedFd>,
    unified: Option<OwnedFd>,
}

impl JoinHandle {
    /// Moves the calling process, which must have a single thread, into the group. With
    /// `unified_done`, the version 2 hierarchy is left out, because `CLONE_INTO_CGROUP` took care of it.
    ///
    /// # Errors
    /// The error of the write that failed.
    pub fn join_current(&self, unified_done: bool) -> io::Result<()> {
        let unified = self.unified.iter().filter(|_| !unified_done);
        for file in self.v1.iter().chain(unified) {
            while let Err(errno) = rustix::io::write(file, b"0") {
                if errno != Errno::INTR {
                    return Err(errno.into());
                }
            }
        }
        Ok(())
    }
}

impl Cgroup {
    /// Moves a process into the group from outside. Slow (see the module text).
    ///
    /// # Errors
    /// When a hierarchy refuses it; an error with `ESRCH` when there is no such process.
    pub fn add_process(&self, pid: i32) -> Result<(), CgroupError> {
        let text = pid.to_string();
        for directory in self
            .v1
            .iter()
            .map(|group| &group.directory)
            .chain(&self.unified)
        {
            directory.write("cgroup.procs", &text)?;
        }
        Ok(())
    }

    /// Descriptors for a process that will join by itself.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn join_handle(&self) -> Result<JoinHandle, CgroupError> {
        let mut v1 = Vec::with_capacity(self.v1.len());
        for group in &self.v1 {
            v1.push(group.directory.open_file("tasks", OFlags::WRONLY)?);
        }
        let unified = match &self.unified {
            Some(directory) => Some(directory.open_file("cgroup.procs", OFlags::WRONLY)?),
            None => None,
        };
        Ok(JoinHandle { v1, unified })
    }

    /// As [`Cgroup::join_handle`], for groups beneath this one, which must exist.
    ///
    /// # Errors
    /// `Invalid` for a controller without a hierarchy; `Io` for a group that is not there or lies elsewhere.
    pub fn join_handle_beneath(&self, groups: &SubGroups) -> Result<JoinHandle, CgroupError> {
        for (controller, _) in &groups.of {
            if self.v1(controller).is_none() {
                return Err(CgroupError::Invalid {
                    setting: format!("control group of {controller}"),
                    reason: "there is no hierarchy with this controller".to_owned(),
                });
            }
        }
        let mut v1 = Vec::with_capacity(self.v1.len());
        for group in &self.v1 {
            let own = groups.of.iter().find(|(name, _)| group.serves(name));
            let beneath = own.map_or(groups.every.as_path(), |(_, path)| path);
            v1.push(group.directory.open_beneath(beneath, "tasks")?);
        }
        let unified = self
            .unified
            .as_ref()
            .map(|directory| directory.open_beneath(&groups.every, "cgroup.procs"))
            .transpose()?;
        Ok(JoinHandle { v1, unified })
    }

    /// The group beneath this one in which a process is that was born in it, in the version 2 hierarchy alone.
    ///
    /// `None` when the process has left it, or cannot be looked at.
    #[must_use]
    pub fn group_of(&self, pid: i32) -> Option<SubGroups> {
        let ours = self.location.unified.as_ref()?;
        let text = crate::fs::read_to_string(Path::new(&format!("/proc/{pid}/cgroup"))).ok()?;
        let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::"))?);
        // The kernel tells the path from the top of the hierarchy; ours starts with where that is mounted.
        let beneath = path.ancestors().find_map(|top| {
            let relative = top.strip_prefix("/").ok()?;
            let found = !relative.as_os_str().is_empty() && ours.ends_with(relative);
            found.then(|| path.strip_prefix(top).ok()).flatten()
        })?;
        Some(SubGroups {
            every: beneath.to_owned(),
            of: Vec::new(),
        })
    }

    /// The directory in the version 2 hierarchy, for `CLONE_INTO_CGROUP`; `None` when there is no such hierarchy.
    #[must_use]
    pub fn directory_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(std::os::fd::AsFd::as_fd)
    }

    /// Stops every process of the group until [`Cgroup::thaw`]; returns when all have stopped. The version 2
    /// freezer is used wherever there is one, also in a hybrid layout: it tells by an event when it has
    /// settled, and frozen processes can still be killed.
    ///
    /// # Errors
    /// `Unsupported` without a freezer; `Io` when it does not settle in time (the group is thawed again then).
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// Undoes [`Cgroup::freeze`].
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    /// True when the group is frozen.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let unified = match self.unified_freezer() {
            Some(directory) => directory.read_key("cgroup.events", "frozen")? == Some(1),
            None => false,
        };
        let v1 = match self.v1("freezer") {
            Some(directory) => directory
                .read("freezer.state")?
                .is_some_and(|state| state.trim() == "FROZEN"),
            None => false,
        };
        Ok(unified || v1)
    }

    fn unified_freezer(&self) -> Option<&Directory> {
        self.unified
            .as_ref()
            .filter(|directory| directory.has("cgroup.freeze"))
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        let unified = self.unified_freezer();
        let v1 = self.v1("freezer");
        if unified.is_none() && v1.is_none() {
            return Err(CgroupError::Unsupported {
                setting: "the freezer".to_owned(),
                reason: "no freezer is mounted and the kernel is older than 5.2".to_owned(),
            });
        }
        if !frozen {
            // Both: another runtime may have used the other one.
            if let Some(directory) = v1 {
                settle_v1(directory, false)?;
            }
            if let Some(directory) = unified {
                directory.write("cgroup.freeze", "0")?;
                settle_v2(directory, false)?;
            }
            return Ok(());
        }
        // Processes that another runtime placed may be in version 1 groups only.
        let chosen = match (unified, v1) {
            (Some(directory), Some(_))
                if directory.read_key("cgroup.events", "populated")? == Some(0) =>
            {
                None
            }
            (chosen, _) => chosen,
        };
        let result = match (chosen, v1) {
            (Some(directory), _) => {
                directory.write("cgroup.freeze", "1")?;
                settle_v2(directory, true)
            }
            (None, Some(directory)) => settle_v1(directory, true),
            (None, None) => Ok(()),
        };
        result.inspect_err(|_| {
            // Half frozen is worse than not frozen.
            let _ = chosen.map(|directory| directory.write("cgroup.freeze", "0"));
            let _ = v1.map(|directory| directory.write("freezer.state", "THAWED"));
        })
    }

    /// Process ids in the group and all groups beneath it, without order.
    ///
    /// # Errors
    /// When the lists cannot be read. A group that is gone has no processes.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        // Any hierarchy will do, except that a process may be in only some of them: the usual tools of a
        // container move processes about in name=systemd and the version 2 hierarchy, never out of the group.
        let preferred = ["pids", "freezer", "devices", "memory", "cpu"];
        let v1 = preferred
            .iter()
            .find_map(|name| self.v1(name))
            .or(self.v1.first().map(|group| &group.directory));
        let mut found = Vec::new();
        for directory in self.unified.iter().chain(v1) {
            collect(directory, limits::DEPTH, &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Sends a signal to every process of the group and the groups beneath it, without one escaping by forking
    /// (`SIGKILL` goes by `cgroup.kill` where there is one, everything else with the group frozen).
    ///
    /// # Errors
    /// When processes cannot be listed or signalled. Having none is no error.
    pub fn signal_all(&self, signal: i32) -> Result<(), CgroupError> {
        if signal == libc::SIGKILL
            && let Some(unified) = &self.unified
        {
            unified.write_if_present("cgroup.kill", "1")?;
            if self.v1.is_empty() && unified.has("cgroup.kill") {
                return Ok(());
            }
        }
        if self.processes()?.is_empty() {
            return Ok(());
        }
        let was_frozen = self.is_frozen()?;
        // Without a freezer, or with one that does not settle, the rounds below have to do.
        let froze = !was_frozen && self.freeze().is_ok();
        let result = self.signal_listed(signal);
        // A frozen version 1 group acts on SIGKILL only when it is thawed.
        if froze || (was_frozen && signal == libc::SIGKILL) {
            self.thaw()?;
        }
        result
    }

    /// Signals listed processes until a round finds no new one.
    fn signal_listed(&self, signal: i32) -> Result<(), CgroupError> {
        let mut told: Vec<i32> = Vec::new();
        for _ in 0..limits::SIGNAL_ROUNDS {
            let fresh: Vec<i32> = self
                .processes()?
                .into_iter()
                .filter(|pid| !told.contains(pid))
                .collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                // SAFETY: kill(2) takes plain numbers and touches no memory of ours.
                let failed = pid > 0 && unsafe { libc::kill(pid, signal) } != 0;
                let error = io::Error::last_os_error();
                if failed && error.raw_os_error() != Some(libc::ESRCH) {
                    return Err(CgroupError::Io {
                        attempt: "signal the processes of",
                        path: self.any_path(),
                        source: error,
                    });
                }
                told.push(pid);
            }
        }
        Ok(())
    }

    /// Kills every process of the group: [`Cgroup::signal_all`] with `SIGKILL`.
    ///
    /// # Errors
    /// As [`Cgroup::signal_all`].
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        self.signal_all(libc::SIGKILL)
    }
}

/// Process ids in a file of one directory. A threaded group lists no processes, but its threads.
pub(super) fn listed(directory: &Directory, file: &str) -> Result<Vec<i32>, CgroupError> {
    let Some(text) = directory.read(file)? else {
        return if file == "cgroup.procs" && directory.has("cgroup.threads") {
            listed(directory, "cgroup.threads")
        } else {
            Ok(Vec::new())
        };
    };
    // A process of a foreign process id namespace is listed as 0.
    Ok(text
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
        .collect())
}

fn collect(directory: &Directory, depth: usize, found: &mut Vec<i32>) -> Result<(), CgroupError> {
    found.extend(listed(directory, "cgroup.procs")?);
    if depth == 0 {
        return Ok(());
    }
    for name in directory.children()? {
        if let Some(child) = directory.child(&name)? {
            collect(&child, depth - 1, found)?;
        }
    }
    Ok(())
}

/// Waits until `cgroup.events` tells the wanted state.
fn settle_v2(directory: &Directory, frozen: bool) -> Result<(), CgroupError> {
    let deadline = Instant::now() + limits::FREEZE;
    let events = directory.open_file("cgroup.events", OFlags::RDONLY)?;
    let mut buffer = [0_u8; 256];
    loop {
        // kernfs raises POLLPRI for changes since the last read, so the read comes first.
        let length =
            rustix::io::pread(&events, &mut buffer, 0).map_err(|errno| CgroupError::Io {
                attempt: "read the events of control group",
                path: directory.path().to_path_buf(),
                source: errno.into(),
            })?;
        let wanted = if frozen { "frozen 1" } else { "frozen 0" };
        if String::from_utf8_lossy(&buffer[..length])
            .lines()
            .any(|line| line == wanted)
        {
            return Ok(());
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(not_settled(directory, frozen));
        }
        let mut polled = [PollFd::new(&events, PollFlags::PRI)];
        match rustix::event::poll(&mut polled, Some(&timespec(deadline - now))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(CgroupError::Io {
                    attempt: "wait for the freezer of",
                    path: directory.path().to_path_buf(),
                    source: errno.into(),
                });
            }
        }
    }
}

/// Writes and reads `freezer.state` until it is the wanted one. The kernel sends no event, and a freezer that is
/// still `FREEZING` settles only when it is asked again (freezer-subsystem.rst).
fn settle_v1(directory: &Directory, frozen: bool) -> Result<(), CgroupError> {
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let deadline = Instant::now() + limits::FREEZE;
    loop {
        directory.write("freezer.state", wanted)?;
        match directory.read("freezer.state")? {
            Some(state) if state.trim() == wanted => return Ok(()),
            None => return Ok(()),
            Some(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(not_settled(directory, frozen));
        }
        std::thread::sleep(limits::LOOK_AGAIN);
    }
}

fn not_settled(directory: &Directory, frozen: bool) -> CgroupError {
    CgroupError::Io {
        attempt: if frozen {
            "freeze control group"
        } else {
            "thaw control group"
        },
        path: directory.path().to_path_buf(),
        source: io::Error::from(io::ErrorKind::TimedOut),
    }
}
