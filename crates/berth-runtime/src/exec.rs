//! `exec`: one more process in a running container.
//!
//! The new process is born in the container's control group and PID namespace, cannot be traced from inside until it
//! executes its program (CVE-2016-9962), enters the other namespaces by the first process' pidfd, and then takes the
//! same last steps as a first process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_sys::cgroup::{Cgroup, JoinHandle, SubGroups};
use berth_sys::namespace::{self, Kind};
use berth_sys::seccomp::{Flags, Program};
use berth_sys::terminal::{self, WindowSize};
use berth_sys::{Error, fs, path, process, signal, socket};
use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::container::Container;
use crate::create::{StdioRequest, descriptors, notify_target};
use crate::credentials::{self, Labels, NotifyTarget};
use crate::error::RuntimeError;
use crate::first_process::{become_root, own_pid, set_pid, take_terminal};
use crate::handshake::{Listener, Message, Speaker};
use crate::intel_rdt;
use crate::limits;
use crate::plan::process::ProcessPlan;
use crate::plan::{SetupPlan, process as process_plan};
use crate::root::{enter_root, open_proc};
use crate::seccomp::Filter;
use crate::state::Status;

/// A process to run in a container.
#[derive(Debug)]
pub struct ExecRequest {
    /// Where containers' states are kept.
    pub state_root: PathBuf,
    /// Id of the container.
    pub id: String,
    /// The process.
    pub process: Process,
    /// Its standard descriptors.
    pub stdio: StdioRequest,
    /// How many descriptors after 0 to 2 it inherits.
    pub preserve_descriptors: u32,
    /// Also in a paused container (it will not run before that is resumed).
    pub ignore_paused: bool,
    /// Groups beneath the container's own that it joins; by default the container's own.
    pub groups: Option<SubGroups>,
}

/// A process that executes its program.
#[derive(Debug)]
pub struct ExecProcess {
    /// Its id in the caller's PID namespace.
    pub pid: i32,
    /// Its handle.
    pub pidfd: OwnedFd,
    /// Master of its terminal, when it was asked with one.
    pub console: Option<OwnedFd>,
    /// What was not done exactly as asked, one sentence each.
    pub notes: Vec<String>,
}

/// Starts a process in a running container. Returns when its program was executed, or with the reason why not.
///
/// The process becomes the caller's child, which the caller reaps; one that failed is reaped here.
pub fn exec(request: ExecRequest) -> Result<ExecProcess, RuntimeError> {
    let container = Container::load(&request.state_root, &request.id)?;
    exec_in(&container, request)
}

/// As [`exec`], in a container that the caller has at hand.
pub fn exec_in(container: &Container, request: ExecRequest) -> Result<ExecProcess, RuntimeError> {
    let id = request.id.clone();
    match execute(container, request) {
        // A process that ends loses its namespaces (ESRCH), and its PID namespace takes no process any more (ENOMEM,
        // pid_namespaces(7)). It has ended for those who wait for it only when all others in its PID namespace have, of
        // which some are the caller's to reap: so it is looked at, and not waited for.
        Err(error) if matches!(error.errno(), Some(Errno::SRCH | Errno::NOMEM)) => {
            let namespace = PathBuf::from(format!("/proc/{}/ns/mnt", container.pid()));
            match namespace::open(&namespace) {
                Err(gone) if gone.is_not_found() => Err(RuntimeError::NotRunning { id }),
                _ => Err(error),
            }
        }
        other => other,
    }
}

fn execute(container: &Container, request: ExecRequest) -> Result<ExecProcess, RuntimeError> {
    match container.status() {
        Status::Running | Status::Created => {}
        Status::Paused if request.ignore_paused => {}
        Status::Stopped => {
            return Err(RuntimeError::NotRunning { id: request.id });
        }
        status => {
            return Err(RuntimeError::WrongStatus {
                id: request.id,
                operation: "exec in",
                status,
            });
        }
    }
    let plan = process_plan::plan(&request.process, "process")?;
    if plan.terminal != matches!(request.stdio, StdioRequest::Terminal) {
        return Err(RuntimeError::invalid(
            "process.terminal",
            "does not agree with the descriptors the caller gave",
        ));
    }
    let spec = container.spec()?;
    let setup = SetupPlan::of(&spec)?;
    let filter = load_filter(container.directory().filter().as_path())?;
    let not_running = || RuntimeError::NotRunning {
        id: request.id.clone(),
    };
    let cgroup = container.cgroup().ok_or_else(not_running)?;
    let join = match &request.groups {
        Some(groups) => cgroup.join_handle_beneath(groups)?,
        None => cgroup.join_handle()?,
    };
    let born_in_group = request.groups.is_none() && plan.initial_cpus.is_none();
    let target = container.pidfd().ok_or_else(not_running)?;
    let notify = notify_target(&spec, filter.as_ref(), container.record())?;
    let mut notes = Vec::new();
    credentials::check_labels(&plan, &mut notes);
    let (ours, theirs) = socket::seqpacket_pair()?;
    let newcomer = Newcomer {
        plan: &plan,
        setup: &setup,
        target: target
            .try_clone_to_owned()
            .map_err(|cause| Error::new("copy a descriptor", cause))?,
        first: container.pid(),
        speaker: Speaker::new(theirs),
        join,
        tasks: container
            .record()
            .intel_rdt
            .as_ref()
            .map(intel_rdt::tasks)
            .transpose()?
            .unwrap_or_default(),
        filter: filter.as_ref(),
        notify,
        stdio: request.stdio,
        preserve_descriptors: request.preserve_descriptors,
    };
    let child = clone_newcomer(newcomer, cgroup, born_in_group)?;
    let listener = Listener::new(ours);
    let mut console = None;
    let failure = loop {
        match listener.next() {
            Ok(Message::Console(master)) => console = Some(master),
            Ok(Message::Note(text)) => notes.push(text),
            Ok(Message::Ready) => {}
            Ok(Message::Failed(error)) => break error,
            // Closed by execve(2), or by an early end.
            Ok(Message::Closed) => {
                return Ok(ExecProcess {
                    pid: child.pid,
                    pidfd: child.pidfd,
                    console,
                    notes,
                });
            }
            Ok(other) => {
                break RuntimeError::Vanished {
                    how: format!("it said {other:?}"),
                };
            }
            Err(error) => break error,
        }
    };
    let _ = child.signal(9);
    child.wait()?;
    Err(failure)
}

/// The process before its program.
struct Newcomer<'a> {
    plan: &'a ProcessPlan,
    setup: &'a SetupPlan,
    /// Handle of the container's first process.
    target: OwnedFd,
    /// Its id.
    first: i32,
    speaker: Speaker,
    join: JoinHandle,
    /// Files by which it joins the container's class of resctrl.
    tasks: Vec<OwnedFd>,
    filter: Option<&'a Filter>,
    notify: Option<NotifyTarget>,
    stdio: StdioRequest,
    preserve_descriptors: u32,
}

fn clone_newcomer(
    newcomer: Newcomer<'_>,
    cgroup: &Cgroup,
    born_in_group: bool,
) -> Result<process::Child, RuntimeError> {
    let has = |kind: Kind| newcomer.setup.has(kind);
    let mut own_pid_namespace = None;
    if has(Kind::Pid) {
        own_pid_namespace = Some(namespace::open(Path::new("/proc/self/ns/pid"))?);
        namespace::enter_of_process(&newcomer.target, process::CLONE_NEWPID)?;
    }
    let mut flags = 0;
    for kind in namespace::ALL {
        if kind != Kind::Pid && has(kind) {
            flags |= kind.flag();
        }
    }
    process::set_dumpable(false)?;
    let made = clone_into(newcomer, cgroup, born_in_group, flags);
    process::set_dumpable(true)?;
    if let Some(own) = own_pid_namespace {
        namespace::enter(own, Kind::Pid)?;
    }
    made
}

/// Makes the process, born in the container's group where it can be: CPUs come before the group is joined (config.md,
/// "execCPUAffinity"), and a group that has given its controllers to groups beneath it takes no process on version 2
/// (cgroup-v2.rst, "No Internal Process Constraint"). Then it joins the group that the first process has moved to.
fn clone_into(
    newcomer: Newcomer<'_>,
    cgroup: &Cgroup,
    born_in_group: bool,
    flags: u64,
) -> Result<process::Child, RuntimeError> {
    let mut newcomer = Some(newcomer);
    let mut make = |directory: Option<BorrowedFd<'_>>| {
        let request = process::CloneRequest {
            flags: 0,
            cgroup: directory,
        };
        process::clone_process(&request, || {
            newcomer
                .take()
                .map_or(1, |newcomer| newcomer.run(flags, directory.is_some()))
        })
    };
    let full = match cgroup.directory_fd().filter(|_| born_in_group) {
        Some(directory) => match make(Some(directory)) {
            Err(error) if error.errno() == Some(Errno::BUSY) => error,
            made => return Ok(made?),
        },
        None => return Ok(make(None)?),
    };
    let Some(mut newcomer) = newcomer else {
        return Err(full.into());
    };
    let Some(groups) = cgroup.group_of(newcomer.first) else {
        return Err(full.into());
    };
    newcomer.join = cgroup.join_handle_beneath(&groups)?;
    let request = process::CloneRequest::default();
    Ok(process::clone_process(&request, || {
        newcomer.run(flags, false)
    })?)
}

impl Newcomer<'_> {
    fn run(mut self, flags: u64, unified_done: bool) -> i32 {
        let Err(error) = self.enter_and_execute(flags, unified_done);
        self.speaker.failed(&error);
        1
    }

    fn enter_and_execute(
        &mut self,
        flags: u64,
        unified_done: bool,
    ) -> Result<process::Never, RuntimeError> {
        signal::reset()?;
        if let Some(cpus) = &self.plan.initial_cpus {
            process::set_affinity(cpus)?;
        }
        self.join
            .join_current(unified_done)
            .map_err(|cause| Error::new("join the control group", cause))?;
        intel_rdt::join(&self.tasks)?;
        if let Some(cpus) = &self.plan.final_cpus {
            process::set_affinity(cpus)?;
        }
        let proc = open_proc()?;
        let labels = Labels::of(self.plan);
        if let Some(target) = &mut self.notify {
            set_pid(&mut target.document, own_pid(&proc)?)?;
        }
        let root = self.root_of_target(&proc)?;
        if flags != 0 {
            namespace::enter_of_process(&self.target, flags)?;
        }
        if let Some(root) = root {
            enter_root(root)?;
        }
        if flags & process::CLONE_NEWUSER != 0 {
            become_root()?;
        }
        rustix::process::setsid().map_err(|errno| Error::new("start a session", errno))?;
        if let Some(persona) = self.setup.personality {
            process::set_personality(persona)?;
        }
        if let Some((mode, nodes)) = &self.setup.memory_policy {
            process::set_memory_policy(*mode, nodes)?;
        }
        match descriptors(&self.stdio) {
            Some(descriptors) => credentials::place_stdio(descriptors)?,
            None if self.plan.terminal => {
                let pair = open_terminal()?;
                take_terminal(&pair, self.plan)?;
                self.speaker.console(&pair.master)?;
            }
            None => {}
        }
        let mut notes = Vec::new();
        let settled = credentials::settle(self.plan, &proc, &mut notes)?;
        for note in &notes {
            self.speaker.note(note)?;
        }
        let confined =
            credentials::confine(self.plan, settled, labels, self.filter.is_some(), &proc)?;
        Err(confined.execute(self.preserve_descriptors, self.filter, self.notify.take()))
    }
}

impl Newcomer<'_> {
    /// The first process' root, where that is not the root of a mount namespace.
    fn root_of_target(&self, proc: &OwnedFd) -> Result<Option<OwnedFd>, RuntimeError> {
        if self.setup.has(Kind::Mount) {
            return Ok(None);
        }
        let root = rustix::fs::openat(
            proc,
            format!("{}/root", self.first),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| Error::new("open the container's root", errno))?;
        // Looked at after opening: so it was the root of the process that the handle means.
        process::send_signal(&self.target, 0)?;
        Ok(Some(root))
    }
}

/// A terminal of the devpts we now see at /dev/pts, which the container could have replaced: hence the check.
fn open_terminal() -> Result<terminal::Pair, RuntimeError> {
    let root = path::Root::open(Path::new("/"))?;
    let devpts = root.open_at(
        Path::new("/dev/pts"),
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    path::check_magic(&devpts, path::DEVPTS_SUPER_MAGIC, "/dev/pts")?;
    Ok(terminal::open_pair_in(devpts.as_fd())?)
}

/// Sets the size of a process' terminal.
pub fn resize(console: impl AsFd, size: WindowSize) -> Result<(), RuntimeError> {
    Ok(terminal::set_window_size(console, size)?)
}

/// A filter as kept with the container: its flags in one byte, then the program.
pub(crate) fn encode_filter(filter: &Filter) -> Vec<u8> {
    let flags = filter.flags;
    let mut bytes = vec![
        u8::from(flags.synchronize_threads)
            | u8::from(flags.log) << 1
            | u8::from(flags.allow_speculation) << 2
            | u8::from(flags.wait_killable) << 3,
    ];
    bytes.extend_from_slice(&filter.program.to_bytes());
    bytes
}

fn load_filter(file: &Path) -> Result<Option<Filter>, RuntimeError> {
    let bytes = match fs::read_bounded(file, limits::CONFIGURATION_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some((bits, program)) = bytes.split_first() else {
        return Err(Error::invalid(format!("read {}", file.display()), "it is empty").into());
    };
    Ok(Some(Filter {
        program: Program::from_bytes(program)?,
        flags: Flags {
            synchronize_threads: bits & 1 != 0,
            log: bits & 2 != 0,
            allow_speculation: bits & 4 != 0,
            wait_killable: bits & 8 != 0,
        },
        notes: Vec::new(),
    }))
}
