//! Who makes the container: our runtime as a library, or another one as a program.

use std::os::fd::OwnedFd;

use berth_sys::cgroup::{Cgroup, Hierarchy};
use oci_spec::runtime::{LinuxResources, Process, Spec};

use super::program::ProgramContainer;
use super::session::ProcessEnds;
use crate::error::MonitorError;
use crate::launch::{LaunchRequest, RuntimeChoice};

/// A process that was made.
pub(super) struct Made<T> {
    pub(super) backend: T,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Our end of its terminal.
    pub(super) console: Option<OwnedFd>,
    pub(super) notes: Vec<String>,
}

impl<T> Made<T> {
    fn with<U>(self, backend: U) -> Made<U> {
        Made {
            backend,
            pid: self.pid,
            pidfd: self.pidfd,
            console: self.console,
            notes: self.notes,
        }
    }
}

/// A container, and what is needed to handle it.
pub(super) struct Backend {
    maker: Maker,
    cgroup: Option<Cgroup>,
}

enum Maker {
    Program(ProgramContainer),
}

/// Creates the container. Without `ends` it gets a terminal.
pub(super) fn create(
    request: &LaunchRequest,
    spec: Spec,
    root: Option<OwnedFd>,
    ends: Option<ProcessEnds>,
) -> Result<Made<Backend>, MonitorError> {
    match &request.runtime {
        RuntimeChoice::Builtin => Err(MonitorError::State(
            "the built-in runtime is not linked".into(),
        )),
        RuntimeChoice::Program { path, args } => {
            let program = ProgramContainer::new(request, path, args);
            let made = program.create(root, ends)?;
            let cgroup = outside_cgroup(&spec);
            Ok(made.with(Backend {
                maker: Maker::Program(program),
                cgroup,
            }))
        }
    }
}

/// Where an outside runtime put the container, as far as `config.json` told it. Only a convenience: without it out-of-memory
/// kills and processes cannot be seen.
fn outside_cgroup(spec: &Spec) -> Option<Cgroup> {
    let path = spec.linux().as_ref()?.cgroups_path().as_ref()?;
    let location = Hierarchy::probe().ok()?.locate(path).ok()?;
    Cgroup::open(&location).ok()
}

impl Backend {
    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    pub(super) fn start(&mut self) -> Result<(), MonitorError> {
        match &mut self.maker {
            Maker::Program(program) => program.start(),
        }
    }

    pub(super) fn kill(&self, signal: i32, all: bool) -> Result<(), MonitorError> {
        match &self.maker {
            Maker::Program(program) => program.kill(signal, all),
        }
    }

    pub(super) fn pause(&mut self) -> Result<(), MonitorError> {
        match &mut self.maker {
            Maker::Program(program) => program.pause(),
        }
    }

    pub(super) fn resume(&mut self) -> Result<(), MonitorError> {
        match &mut self.maker {
            Maker::Program(program) => program.resume(),
        }
    }

    /// Returns what could not be followed.
    pub(super) fn update(
        &mut self,
        resources: &LinuxResources,
    ) -> Result<Vec<String>, MonitorError> {
        match &mut self.maker {
            Maker::Program(program) => program.update(resources).map(|()| Vec::new()),
        }
    }

    pub(super) fn processes(&self) -> Result<Vec<i32>, MonitorError> {
        match (&self.maker, &self.cgroup) {
            (Maker::Program(_), Some(cgroup)) => cgroup.processes().map_err(cgroup_error),
            (Maker::Program(_), None) => Err(MonitorError::State(
                "the container's control group is not known".into(),
            )),
        }
    }

    pub(super) fn exec(
        &mut self,
        process: &Process,
        ends: Option<ProcessEnds>,
    ) -> Result<Made<()>, MonitorError> {
        match &mut self.maker {
            Maker::Program(program) => program.exec(process, ends),
        }
    }

    /// The same for a container whose monitor is gone.
    pub(super) fn clear(request: &LaunchRequest) -> Option<String> {
        match &request.runtime {
            RuntimeChoice::Builtin => None,
            RuntimeChoice::Program { path, args } => {
                ProgramContainer::new(request, path, args).delete()
            }
        }
    }

    /// Removes what is left of the container besides its directory. Returns what stayed, in words.
    pub(super) fn delete(&mut self) -> Option<String> {
        match &mut self.maker {
            Maker::Program(program) => program.delete(),
        }
    }
}

fn cgroup_error(error: berth_sys::cgroup::CgroupError) -> MonitorError {
    MonitorError::State(error.to_string())
}
