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

mod create;
mod device_filter;
mod devices;
mod directory;
mod error;
mod hierarchy;
mod limits;
mod oom;
mod process;
mod remove;
mod resources;
mod stats;
#[cfg(test)]
mod tests;
mod usage;
mod v1;
mod v2;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use directory::Directory;
pub use error::CgroupError;
pub use hierarchy::{Hierarchy, Location};
pub use oom::OomEvents;
pub use process::{JoinHandle, SubGroups};
pub use resources::{
    BlockIo, Cpu, DeviceAccess, DeviceKind, DeviceRate, DeviceRule, DeviceWeight, HugePageLimit,
    Memory, NetworkClass, RdmaLimit, Resources,
};
pub use stats::{
    BlockIoEntry, BlockIoStats, CpuStats, HugePageStats, MemoryStats, PidsStats, Stats,
};
pub use v2::weight_from_shares;

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

/// An open control group.
#[derive(Debug)]
pub struct Cgroup {
    location: Location,
    v1: Vec<Group>,
    unified: Option<Directory>,
}

/// The directory of a group in one version 1 hierarchy.
#[derive(Debug)]
struct Group {
    /// As in [`Location`]: `cpu,cpuacct`, `name=systemd`.
    names: String,
    directory: Directory,
}

impl Group {
    fn serves(&self, controller: &str) -> bool {
        self.names.split(',').any(|name| name == controller)
    }
}

impl Cgroup {
    /// Where the group lies.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Sets limits, at creation and on update alike. Returns one sentence for each thing that was left out because
    /// the kernel lacks it and a container can run without it.
    ///
    /// # Errors
    /// `Unsupported` for what is missing and must not be left out, `Invalid` for bad values, `Write` for what the
    /// kernel refused. What was set before the error stays set.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<String>, CgroupError> {
        let mut notes = Vec::new();
        if resources.devices.is_some() && self.v1("devices").is_none() && self.unified.is_none() {
            return Err(v1::refused(
                "device access",
                "the devices controller is not mounted",
            ));
        }
        v1::apply(self, resources, &mut notes)?;
        match &self.unified {
            Some(directory) => v2::apply(self, directory, resources, &mut notes)?,
            None => self.tell_missing_controllers(resources, &mut notes)?,
        }
        v2::unified(self, resources)?;
        Ok(notes)
    }

    /// Notes and refusals for limits whose controller is neither mounted nor found on version 2.
    fn tell_missing_controllers(
        &self,
        resources: &Resources,
        notes: &mut Vec<String>,
    ) -> Result<(), CgroupError> {
        let memory = &resources.memory;
        let cpu = &resources.cpu;
        let asked = [
            ("memory", "the memory limit", *memory != Memory::default()),
            (
                "cpu",
                "the CPU limit",
                cpu.shares.is_some() || cpu.quota.is_some() || cpu.period.is_some(),
            ),
            (
                "cpuset",
                "the cpuset",
                cpu.cpus.is_some() || cpu.mems.is_some(),
            ),
            (
                "pids",
                "the limit of processes",
                resources.pids_limit.is_some(),
            ),
            (
                "blkio",
                "the block I/O limit",
                resources.block_io != BlockIo::default(),
            ),
        ];
        for (controller, setting, asked) in asked {
            if asked && self.v1(controller).is_none() {
                notes.push(v1::left_out(
                    setting,
                    &format!("the {controller} controller is not mounted"),
                ));
            }
        }
        if self.v1("cpu").is_none()
            && (cpu.realtime_period.is_some() || cpu.realtime_runtime.is_some())
        {
            return Err(v1::refused(
                "real-time scheduling",
                "the cpu controller is not mounted",
            ));
        }
        if !resources.huge_pages.is_empty() && self.v1("hugetlb").is_none() {
            return Err(v1::refused(
                "the limit of huge pages",
                "the hugetlb controller is not mounted",
            ));
        }
        if !resources.rdma.is_empty() && self.v1("rdma").is_none() {
            return Err(v1::refused(
                "the RDMA limits",
                "the rdma controller is not mounted",
            ));
        }
        Ok(())
    }

    /// The directory with a version 1 controller.
    fn v1(&self, controller: &str) -> Option<&Directory> {
        self.v1
            .iter()
            .find(|group| group.serves(controller))
            .map(|group| &group.directory)
    }

    /// A path to name the group by in errors.
    fn any_path(&self) -> PathBuf {
        let first = self
            .unified
            .as_ref()
            .or(self.v1.first().map(|group| &group.directory));
        first
            .map(|directory| directory.path().to_path_buf())
            .unwrap_or_default()
    }
}
