//! A container that exists: what can be asked of it.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_sys::cgroup::Cgroup;
use berth_sys::namespace::Kind;
use berth_sys::{fs, process, socket};
use oci_spec::runtime::{LinuxResources, Spec};
use rustix::io::Errno;

use crate::create::hooks_of;
use crate::error::{Report, RuntimeError};
use crate::hooks::{self, Stage};
use crate::intel_rdt;
use crate::limits;
use crate::plan::SetupPlan;
use crate::state::{StateDirectory, StateRecord, Status};

/// A container, by its state directory.
#[derive(Debug)]
pub struct Container {
    directory: StateDirectory,
    record: StateRecord,
    pidfd: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
    /// Master of the container's terminal, when it was made with one; the caller takes it.
    pub console: Option<OwnedFd>,
    /// What was not done exactly as asked, one sentence each.
    pub notes: Vec<String>,
}

impl Container {
    pub(crate) fn made(
        directory: StateDirectory,
        record: StateRecord,
        pidfd: OwnedFd,
        console: Option<OwnedFd>,
        notes: Vec<String>,
        cgroup: Cgroup,
    ) -> Self {
        Self {
            directory,
            record,
            pidfd: Some(pidfd),
            cgroup: Some(cgroup),
            console,
            notes,
        }
    }

    /// Finds a container by its state directory.
    pub fn load(state_root: &Path, id: &str) -> Result<Self, RuntimeError> {
        let directory = StateDirectory::new(state_root, id)?;
        let record = directory
            .load()?
            .ok_or_else(|| RuntimeError::NotExist { id: id.to_owned() })?;
        let cgroup = record
            .cgroup
            .as_ref()
            .and_then(|location| Cgroup::open(location).ok());
        let mut container = Self {
            directory,
            record,
            pidfd: None,
            cgroup,
            console: None,
            notes: Vec::new(),
        };
        if container.record.pid > 0
            && let Ok(pidfd) = process::open_pidfd(container.record.pid)
            // Checked after opening, so the descriptor is of the process the record means.
            && container.record.is_alive()
        {
            container.pidfd = Some(pidfd);
        }
        Ok(container)
    }

    /// Ids of all containers of a state root, sorted.
    pub fn list(state_root: &Path) -> Result<Vec<String>, RuntimeError> {
        if !fs::exists(state_root) {
            return Ok(Vec::new());
        }
        Ok(fs::list(state_root)?
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| {
                ["state.json", "intent.json"]
                    .iter()
                    .any(|file| fs::exists(&state_root.join(name).join(file)))
            })
            .collect())
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The id of its first process; 0 when none was made.
    pub fn pid(&self) -> i32 {
        self.record.pid
    }

    /// The handle of its first process; `None` when that has ended and been reaped.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Gives the handle of its first process away.
    pub fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.pidfd.take()
    }

    /// Its control group, while that exists.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Its record.
    pub fn record(&self) -> &StateRecord {
        &self.record
    }

    /// The configuration it was made with, without the seccomp rules.
    pub fn spec(&self) -> Result<Spec, RuntimeError> {
        self.directory
            .load_spec()?
            .ok_or_else(|| RuntimeError::NotExist {
                id: self.record.id.clone(),
            })
    }

    /// Its status, found out now.
    pub fn status(&self) -> Status {
        self.directory.status(&self.record, self.cgroup.as_ref())
    }

    pub(crate) fn directory(&self) -> &StateDirectory {
        &self.directory
    }

    fn wrong_status(&self, operation: &'static str, status: Status) -> RuntimeError {
        RuntimeError::WrongStatus {
            id: self.record.id.clone(),
            operation,
            status,
        }
    }

    fn expect_alive(&self) -> Result<(), RuntimeError> {
        if self.record.is_alive() {
            return Ok(());
        }
        Err(RuntimeError::NotRunning {
            id: self.record.id.clone(),
        })
    }

    fn expect_cgroup(&self) -> Result<&Cgroup, RuntimeError> {
        self.cgroup
            .as_ref()
            .ok_or_else(|| RuntimeError::NotRunning {
                id: self.record.id.clone(),
            })
    }

    /// Executes the program. Returns when the kernel has accepted it, or with the reason why not.
    pub fn start(&mut self) -> Result<(), RuntimeError> {
        let path = self.directory.start_socket();
        let starter = match socket::connect(&path) {
            Ok(starter) => starter,
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::CONNREFUSED)) => {
                return Err(self.wrong_status("start", self.status()));
            }
            Err(error) => return Err(error.into()),
        };
        let mut answer = Vec::new();
        let mut stream = std::fs::File::from(starter).take(limits::MESSAGE_BYTES as u64);
        match stream.read_to_end(&mut answer) {
            // The end without a word: the program has replaced the process, or somebody killed it.
            Ok(_) => {}
            Err(cause) if cause.kind() == std::io::ErrorKind::ConnectionReset => {
                return Err(self.wrong_status("start", self.status()));
            }
            Err(cause) => {
                return Err(berth_sys::Error::new("wait for the program to start", cause).into());
            }
        }
        fs::remove_file(&path)?;
        if let Some((b'E', report)) = answer.split_first() {
            let report = Report::decode(report).ok_or_else(|| RuntimeError::Vanished {
                how: "its report cannot be understood".to_owned(),
            })?;
            return Err(report.into_error());
        }
        self.directory.wait_for_gate()?;
        self.run_poststart().inspect_err(|_| {
            // runtime.md, "Lifecycle", 9: the container is stopped. The failure of the hook is what is told.
            let _ = self.end_all();
        })
    }

    fn run_poststart(&self) -> Result<(), RuntimeError> {
        let Some(spec) = self.directory.load_spec()? else {
            return Ok(());
        };
        match hooks_of(&spec, Stage::Poststart) {
            Some(hooks) => hooks::run(
                Stage::Poststart,
                hooks,
                &self.document(Status::Running)?,
                self.hook_directory(),
                None,
            ),
            None => Ok(()),
        }
    }

    fn document(&self, status: Status) -> Result<Vec<u8>, RuntimeError> {
        serde_json::to_vec(&self.record.document(status)).map_err(|source| RuntimeError::Parse {
            path: "state".into(),
            source,
        })
    }

    /// Where hooks of the runtime's namespaces run: the bundle, while it is there.
    fn hook_directory(&self) -> &Path {
        if self.record.bundle.is_dir() {
            self.record.bundle.as_path()
        } else {
            Path::new("/")
        }
    }

    /// Sends a signal to the first process, or with `all` to every process of the container.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), RuntimeError> {
        if all {
            let cgroup = self.expect_cgroup()?;
            return Ok(cgroup.signal_all(signal)?);
        }
        self.expect_alive()?;
        let Some(pidfd) = self.pidfd() else {
            return Err(RuntimeError::NotRunning {
                id: self.record.id.clone(),
            });
        };
        match process::send_signal(pidfd, signal) {
            Err(error) if error.errno() == Some(Errno::SRCH) => {
                return Err(RuntimeError::NotRunning {
                    id: self.record.id.clone(),
                });
            }
            other => other?,
        }
        // Without a PID namespace of its own the end of the first process is not the end of the others.
        const SIGKILL: i32 = 9;
        if signal == SIGKILL
            && let Some(cgroup) = &self.cgroup
            && !self.has_own_pid_namespace()
        {
            cgroup.kill_all()?;
        }
        Ok(())
    }

    fn has_own_pid_namespace(&self) -> bool {
        self.directory
            .load_spec()
            .ok()
            .flatten()
            .and_then(|spec| SetupPlan::of(&spec).ok())
            .is_some_and(|plan| plan.makes(Kind::Pid))
    }

    /// Freezes every process.
    pub fn pause(&self) -> Result<(), RuntimeError> {
        match self.status() {
            Status::Running | Status::Created => Ok(self.expect_cgroup()?.freeze()?),
            other => Err(self.wrong_status("pause", other)),
        }
    }

    /// Lets every process go on.
    pub fn resume(&self) -> Result<(), RuntimeError> {
        match self.status() {
            Status::Paused => Ok(self.expect_cgroup()?.thaw()?),
            other => Err(self.wrong_status("resume", other)),
        }
    }

    /// Changes the limits; what the resources do not name stays. Notes tell what was not done exactly as asked.
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<String>, RuntimeError> {
        self.expect_alive()?;
        Ok(self
            .expect_cgroup()?
            .apply(&crate::resources::for_update(resources)?)?)
    }

    /// Changes lines of the schemata of its class of resctrl.
    pub fn update_schemata(&self, lines: &[String]) -> Result<(), RuntimeError> {
        self.expect_alive()?;
        match &self.record.intel_rdt {
            Some(made) => intel_rdt::update(made, lines),
            None => Err(RuntimeError::invalid(
                "linux.intelRdt",
                "the container was made without a class of resctrl, so it has no schemata",
            )),
        }
    }

    /// Ids of all its processes, in the PID namespace of the caller.
    pub fn processes(&self) -> Result<Vec<i32>, RuntimeError> {
        match &self.cgroup {
            Some(cgroup) => Ok(cgroup.processes()?),
            None => Ok(Vec::new()),
        }
    }

    /// Removes all that is kept of the container, then runs its poststop hooks; those that failed are told, one sentence
    /// each. With `force` it is killed first; a process that is a child of the caller stays to be reaped by it.
    pub fn delete(self, force: bool) -> Result<Vec<String>, RuntimeError> {
        let status = self.status();
        match status {
            Status::Stopped => {}
            _ if force => self.end_all()?,
            other => return Err(self.wrong_status("delete", other)),
        }
        if let Some(location) = &self.record.cgroup {
            if let Some(cgroup) = &self.cgroup
                && !cgroup.processes().unwrap_or_default().is_empty()
            {
                cgroup.kill_all()?;
            }
            Cgroup::remove(location)?;
        }
        if let Some(made) = &self.record.intel_rdt {
            intel_rdt::release(made)?;
        }
        // Read before it is removed; one that cannot be read any more has no hooks.
        let spec = self.directory.load_spec().ok().flatten();
        self.directory.remove()?;
        let hooks = spec
            .as_ref()
            .and_then(|spec| hooks_of(spec, Stage::Poststop))
            .unwrap_or_default();
        let document = self.document(Status::Stopped)?;
        Ok(hooks::run_all(
            Stage::Poststop,
            hooks,
            &document,
            self.hook_directory(),
        ))
    }

    /// Kills every process and waits until the first one has ended.
    fn end_all(&self) -> Result<(), RuntimeError> {
        if let Some(cgroup) = &self.cgroup {
            // Frozen processes do not die on version 1.
            if self.status() == Status::Paused {
                cgroup.thaw()?;
            }
            cgroup.kill_all()?;
        }
        let Some(pidfd) = self.pidfd() else {
            return Ok(());
        };
        match process::send_signal(pidfd, 9) {
            Err(error) if error.errno() == Some(Errno::SRCH) => return Ok(()),
            other => other?,
        }
        if process::wait_for_end(pidfd, limits::KILL_WAIT)? {
            return Ok(());
        }
        Err(RuntimeError::DoesNotEnd {
            id: self.record.id.clone(),
            seconds: limits::KILL_WAIT.as_secs(),
        })
    }
}

/// Removes what a creator that died in the middle has left of `id`, if there is no container of it.
pub fn remove_abandoned(state_root: &Path, id: &str) -> Result<(), RuntimeError> {
    let directory = StateDirectory::new(state_root, id)?;
    if directory.load()?.is_none() && !directory.is_gate_locked() {
        directory.remove()?;
    }
    Ok(())
}
