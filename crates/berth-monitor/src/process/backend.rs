//! Who makes the container: our runtime as a library, or another one as a program.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use berth_runtime::{
    Container, CreateRequest, ExecProcess, ExecRequest, RootSource, RuntimeError, Status,
    StdioRequest,
};
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
pub(super) enum Backend {
    /// `None` once it is deleted.
    Builtin {
        container: Option<Box<Container>>,
        state_root: PathBuf,
    },
    /// The control group is known when `config.json` told it.
    Program {
        program: ProgramContainer,
        cgroup: Option<Cgroup>,
    },
}

/// Creates the container. Without `ends` it gets a terminal.
pub(super) fn create(
    request: &LaunchRequest,
    spec: Spec,
    root: Option<OwnedFd>,
    ends: Option<ProcessEnds>,
) -> Result<Made<Backend>, MonitorError> {
    match &request.runtime {
        RuntimeChoice::Builtin => create_builtin(request, spec, root, ends),
        RuntimeChoice::Program { path, args } => {
            let program = ProgramContainer::new(request, path, args);
            let made = program.create(root, ends, first_argument(spec.process().as_ref()))?;
            let cgroup = outside_cgroup(&spec);
            Ok(made.with(Backend::Program { program, cgroup }))
        }
    }
}

fn create_builtin(
    request: &LaunchRequest,
    spec: Spec,
    root: Option<OwnedFd>,
    ends: Option<ProcessEnds>,
) -> Result<Made<Backend>, MonitorError> {
    let mut wanted = CreateRequest::new(
        &request.id,
        request.bundle.clone(),
        spec,
        request.state_root.clone(),
    );
    wanted.root = root.map_or(RootSource::Bundle, RootSource::Detached);
    wanted.stdio = stdio(ends);
    wanted.seccomp_cache.clone_from(&request.seccomp_cache);
    let mut container = berth_runtime::create(wanted)?;
    let console = container.console.take();
    let notes = std::mem::take(&mut container.notes);
    let pid = container.pid();
    let pidfd = container.pidfd().map(|pidfd| pidfd.try_clone_to_owned());
    let mut backend = Backend::Builtin {
        container: Some(Box::new(container)),
        state_root: request.state_root.clone(),
    };
    match pidfd {
        Some(Ok(pidfd)) => Ok(Made {
            backend,
            pid,
            pidfd,
            console,
            notes,
        }),
        other => {
            backend.delete();
            let reason = other
                .and_then(Result::err)
                .map_or("it has ended".into(), |e| e.to_string());
            Err(MonitorError::State(format!(
                "the container's first process cannot be watched: {reason}"
            )))
        }
    }
}

fn stdio(ends: Option<ProcessEnds>) -> StdioRequest {
    match ends {
        None => StdioRequest::Terminal,
        Some(ends) => StdioRequest::Descriptors {
            stdin: ends.stdin,
            stdout: ends.stdout,
            stderr: ends.stderr,
        },
    }
}

fn first_argument(process: Option<&Process>) -> &str {
    process
        .and_then(|process| process.args().as_ref())
        .and_then(|arguments| arguments.first())
        .map_or("", String::as_str)
}

/// Where an outside runtime put the container, as far as `config.json` told it. Only a convenience: without it out-of-memory
/// kills and processes cannot be seen.
fn outside_cgroup(spec: &Spec) -> Option<Cgroup> {
    let path = spec.linux().as_ref()?.cgroups_path().as_ref()?;
    let location = Hierarchy::probe().ok()?.locate(path).ok()?;
    Cgroup::open(&location).ok()
}

impl Backend {
    /// The container of the built-in runtime.
    fn container(container: &mut Option<Box<Container>>) -> Result<&mut Container, MonitorError> {
        container
            .as_deref_mut()
            .ok_or_else(|| MonitorError::State("the container is deleted".into()))
    }

    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Self::Builtin { container, .. } => container.as_ref()?.cgroup(),
            Self::Program { cgroup, .. } => cgroup.as_ref(),
        }
    }

    pub(super) fn start(&mut self) -> Result<(), MonitorError> {
        match self {
            Self::Builtin { container, .. } => Ok(Self::container(container)?.start()?),
            Self::Program { program, .. } => program.start(),
        }
    }

    pub(super) fn kill(&mut self, signal: i32, all: bool) -> Result<(), MonitorError> {
        match self {
            Self::Builtin { container, .. } => Ok(Self::container(container)?.kill(signal, all)?),
            Self::Program { program, .. } => program.kill(signal, all),
        }
    }

    pub(super) fn pause(&mut self) -> Result<(), MonitorError> {
        match self {
            Self::Builtin { container, .. } => Ok(Self::container(container)?.pause()?),
            Self::Program { program, .. } => program.pause(),
        }
    }

    pub(super) fn resume(&mut self) -> Result<(), MonitorError> {
        match self {
            Self::Builtin { container, .. } => match Self::container(container)?.resume() {
                // Thawed by a SIGKILL for all its processes, for which they have to run.
                Err(RuntimeError::WrongStatus {
                    status: Status::Running,
                    ..
                }) => Ok(()),
                other => Ok(other?),
            },
            Self::Program { program, .. } => program.resume(),
        }
    }

    /// Returns what could not be followed.
    pub(super) fn update(
        &mut self,
        resources: &LinuxResources,
    ) -> Result<Vec<String>, MonitorError> {
        match self {
            Self::Builtin { container, .. } => Ok(Self::container(container)?.update(resources)?),
            Self::Program { program, .. } => program.update(resources).map(|()| Vec::new()),
        }
    }

    pub(super) fn processes(&mut self) -> Result<Vec<i32>, MonitorError> {
        match self {
            Self::Builtin { container, .. } => Ok(Self::container(container)?.processes()?),
            Self::Program {
                cgroup: Some(cgroup),
                ..
            } => Ok(cgroup.processes().map_err(RuntimeError::Cgroup)?),
            Self::Program { cgroup: None, .. } => Err(MonitorError::State(
                "the container's control group is not known".into(),
            )),
        }
    }

    pub(super) fn exec(
        &mut self,
        process: Process,
        ends: Option<ProcessEnds>,
    ) -> Result<Made<()>, MonitorError> {
        match self {
            Self::Builtin {
                container,
                state_root,
            } => {
                let container = Self::container(container)?;
                let request = ExecRequest {
                    state_root: state_root.clone(),
                    id: container.id().to_owned(),
                    process,
                    stdio: stdio(ends),
                    preserve_descriptors: 0,
                    ignore_paused: false,
                    groups: None,
                };
                let made = berth_runtime::exec_in(container, request)?;
                let ExecProcess {
                    pid,
                    pidfd,
                    console,
                    notes,
                } = made;
                Ok(Made {
                    backend: (),
                    pid,
                    pidfd,
                    console,
                    notes,
                })
            }
            Self::Program { program, .. } => {
                program.exec(&process, ends, first_argument(Some(&process)))
            }
        }
    }

    /// Removes what is left of the container besides its directory. Returns what stayed, in words.
    pub(super) fn delete(&mut self) -> Option<String> {
        match self {
            Self::Builtin { container, .. } => {
                let error = container.take()?.delete(true).err()?;
                Some(MonitorError::from(error).to_failure().message)
            }
            Self::Program { program, .. } => program.delete(),
        }
    }

    /// The same for a container whose monitor is gone.
    pub(super) fn clear(request: &LaunchRequest) -> Option<String> {
        match &request.runtime {
            RuntimeChoice::Builtin => {
                let result = match Container::load(&request.state_root, &request.id) {
                    Ok(container) => container.delete(true).map(drop),
                    Err(RuntimeError::NotExist { .. }) => {
                        berth_runtime::remove_abandoned(&request.state_root, &request.id)
                    }
                    Err(error) => Err(error),
                };
                result
                    .err()
                    .map(|error| MonitorError::from(error).to_failure().message)
            }
            RuntimeChoice::Program { path, args } => {
                ProgramContainer::new(request, path, args).delete()
            }
        }
    }
}
