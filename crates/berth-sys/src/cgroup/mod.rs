//! Control groups: one type for version 1, hybrid and version 2 hierarchies.
//!
//! Owns: where a group lies in every mounted hierarchy, making, limiting, watching, emptying and removing it.
//! Does not own: which limits a container gets, or what its path is called.
//!
//! Invariants: a [`Location`] names every directory that was made for a group, so that it can be removed by
//! another process after a crash; every operation on an open [`Cgroup`] goes through directory descriptors
//! kept since it was opened, so a group that is removed and made again under the same name is not confused
//! with the old one.
//!
//! Moving a process from outside (`cgroup.procs` with a process id) makes the kernel wait for an RCU grace
//! period, more than 10 ms; a single-threaded process that moves itself by writing `0` to `tasks` does not
//! (`cgroup_procs_write_start` in `kernel/cgroup/cgroup.c`). [`Cgroup::join_handle`] therefore is the way to
//! put a container's first process into its group, together with `CLONE_INTO_CGROUP` where there is a
//! version 2 hierarchy.

mod error;
mod resources;
mod stats;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::CgroupError;
pub use resources::{
    BlockIo, Cpu, DeviceAccess, DeviceKind, DeviceRate, DeviceRule, DeviceWeight, HugePageLimit, Memory,
    NetworkClass, RdmaLimit, Resources,
};
pub use stats::{BlockIoEntry, BlockIoStats, CpuStats, HugePageStats, MemoryStats, PidsStats, Stats};

/// How the hierarchies of this machine are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Version 1 controllers only.
    V1,
    /// Version 1 controllers and a version 2 hierarchy beside them.
    Hybrid,
    /// The unified version 2 hierarchy only.
    V2,
}

/// The hierarchies mounted on this machine, as seen by this process.
#[derive(Debug, Clone)]
pub struct Hierarchy {}

impl Hierarchy {
    /// Finds the mounted hierarchies from `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// When these cannot be read, or no hierarchy is mounted.
    pub fn probe() -> Result<Self, CgroupError> {
        todo!()
    }

    /// How the hierarchies are laid out.
    #[must_use]
    pub fn layout(&self) -> Layout {
        todo!()
    }

    /// Names of the controllers that can be used (`cpu`, `memory`, … , `io` on version 2).
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        todo!()
    }

    /// Where a group called `path` lies (the `cgroupsPath` of the OCI specification). An absolute path counts
    /// from the root of every mounted hierarchy; a relative one from this process's own group on version 1
    /// and from the parent of that group on version 2, as in runc.
    ///
    /// # Errors
    /// For an empty path, one with `..`, or the root itself.
    pub fn locate(&self, _path: &Path) -> Result<Location, CgroupError> {
        todo!()
    }

    /// Translates the systemd form `slice:prefix:name` into the path that systemd would use
    /// (`user-1000.slice:berth:x` → `/user.slice/user-1000.slice/berth-x.scope`).
    ///
    /// # Errors
    /// When the text does not have three parts or the slice is not a valid slice name.
    pub fn systemd_path(_text: &str) -> Result<PathBuf, CgroupError> {
        todo!()
    }
}

/// The directories of one group, one per hierarchy. Plain data to be kept with a container's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Version 1 directories: controllers of the hierarchy (such as `cpu,cpuacct` or `name=systemd`) and directory.
    pub v1: Vec<(String, PathBuf)>,
    /// Directory in the version 2 hierarchy, if there is one.
    pub unified: Option<PathBuf>,
}

/// An open control group.
#[derive(Debug)]
pub struct Cgroup {
    location: Location,
}

/// Descriptors with which a new process joins a group by itself. Holds no path and allocates nothing when used.
#[derive(Debug)]
pub struct JoinHandle {}

impl JoinHandle {
    /// Moves the calling process, which must have a single thread, into the group. With
    /// `unified_done`, the version 2 hierarchy is left out, because `CLONE_INTO_CGROUP` took care of it.
    ///
    /// # Errors
    /// The error of the write that failed.
    pub fn join_current(&self, _unified_done: bool) -> std::io::Result<()> {
        todo!()
    }
}

/// A descriptor that tells of out-of-memory kills.
#[derive(Debug)]
pub struct OomEvents {}

impl OomEvents {
    /// Becomes readable when something happened. May be put into an epoll set.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Takes what made the descriptor readable and returns how many out-of-memory kills there were since the last
    /// call. Never blocks.
    ///
    /// # Errors
    /// When the counters cannot be read; a group that is gone counts as no kills.
    pub fn take(&mut self) -> Result<u64, CgroupError> {
        todo!()
    }
}

impl Cgroup {
    /// Makes the directories of a group and whatever lies above them. Directories that exist are taken over.
    ///
    /// # Errors
    /// When a directory cannot be made; those made by this call are removed again.
    pub fn create(_location: &Location) -> Result<Self, CgroupError> {
        todo!()
    }

    /// Opens a group that exists. Hierarchies in which it is missing are left out.
    ///
    /// # Errors
    /// `NotFound` when it exists in no hierarchy.
    pub fn open(_location: &Location) -> Result<Self, CgroupError> {
        todo!()
    }

    /// Where the group lies.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Moves a process into the group from outside. Slow (see the module text).
    ///
    /// # Errors
    /// When a hierarchy refuses it; `NotFound` when there is no such process.
    pub fn add_process(&self, _pid: i32) -> Result<(), CgroupError> {
        todo!()
    }

    /// Descriptors for a process that will join by itself.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn join_handle(&self) -> Result<JoinHandle, CgroupError> {
        todo!()
    }

    /// The directory in the version 2 hierarchy, for `CLONE_INTO_CGROUP`; `None` when there is no such hierarchy.
    #[must_use]
    pub fn directory_fd(&self) -> Option<BorrowedFd<'_>> {
        todo!()
    }

    /// Sets limits, at creation and on update alike. Returns one sentence for each thing that was left out because
    /// the kernel lacks it and a container can run without it.
    ///
    /// # Errors
    /// `Unsupported` for what is missing and must not be left out, `Invalid` for bad values, `Write` for what the kernel refused.
    pub fn apply(&self, _resources: &Resources) -> Result<Vec<String>, CgroupError> {
        todo!()
    }

    /// Stops every process of the group until [`Cgroup::thaw`]; returns when all have stopped.
    ///
    /// # Errors
    /// `Unsupported` without a freezer; `Io` when it does not settle in time.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        todo!()
    }

    /// Undoes [`Cgroup::freeze`].
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        todo!()
    }

    /// True when the group is frozen.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        todo!()
    }

    /// Process ids in the group and all groups beneath it, without order.
    ///
    /// # Errors
    /// When the lists cannot be read. A group that is gone has no processes.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        todo!()
    }

    /// Sends a signal to every process of the group and the groups beneath it, without one escaping by forking
    /// (`SIGKILL` goes by `cgroup.kill` where there is one, everything else with the group frozen).
    ///
    /// # Errors
    /// When processes cannot be listed or signalled. Having none is no error.
    pub fn signal_all(&self, _signal: i32) -> Result<(), CgroupError> {
        todo!()
    }

    /// Kills every process of the group: [`Cgroup::signal_all`] with `SIGKILL`.
    ///
    /// # Errors
    /// As [`Cgroup::signal_all`].
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        todo!()
    }

    /// What the group has used.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        todo!()
    }

    /// How many processes of the group the kernel killed for lack of memory; 0 without a memory controller.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn oom_count(&self) -> Result<u64, CgroupError> {
        todo!()
    }

    /// A descriptor that becomes readable when the group runs out of memory; `None` without a memory controller.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn oom_events(&self) -> Result<Option<OomEvents>, CgroupError> {
        todo!()
    }

    /// Removes the group and every group beneath it. What is gone already counts as removed. Waits, up to a
    /// bound, for processes that are already killed to leave.
    ///
    /// # Errors
    /// `Populated` when processes stay.
    pub fn remove(_location: &Location) -> Result<(), CgroupError> {
        todo!()
    }
}

/// A descriptor kept for the lifetime of a group.
type Directory = OwnedFd;
