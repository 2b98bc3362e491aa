//! The container's first process, from its birth to its program.
//!
//! It is a copy of the creator (one thread, no program start in between). It tells every failure over its socket:
//! before it waits at the gate to the creator, afterwards to whoever starts it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_sys::cgroup::JoinHandle;
use berth_sys::namespace::{self, Kind};
use berth_sys::{Error, credentials as ids, network, process, signal, socket, terminal};
use oci_spec::runtime::{Hook, Spec};
use rustix::io::Errno;

use crate::create::{StdioRequest, descriptors, hooks_of};
use crate::credentials::{self, Confined, Labels, NotifyTarget};
use crate::error::RuntimeError;
use crate::handshake::Speaker;
use crate::hooks::{self, Stage};
use crate::intel_rdt;
use crate::plan::SetupPlan;
use crate::root::{RootBuilder, open_proc, write_proc};
use crate::seccomp::Filter;
use crate::sources::Sources;
use crate::state::{StateRecord, Status};

/// Everything the first process starts with.
#[derive(Debug)]
pub(crate) struct FirstProcess<'a> {
    pub(crate) plan: &'a SetupPlan,
    pub(crate) spec: &'a Spec,
    pub(crate) record: &'a StateRecord,
    pub(crate) sources: Sources,
    pub(crate) namespaces: HashMap<Kind, OwnedFd>,
    pub(crate) speaker: Speaker,
    /// The socket on which it waits to be started.
    pub(crate) gate: OwnedFd,
    /// Held until the program is executed.
    pub(crate) lock: OwnedFd,
    pub(crate) join: &'a JoinHandle,
    /// Files by which it joins its class of resctrl.
    pub(crate) tasks: Vec<OwnedFd>,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) notify: Option<NotifyTarget>,
    pub(crate) stdio: StdioRequest,
    pub(crate) preserve_descriptors: u32,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// The creator's end, taken by it before the process is made.
    pub(crate) creator_socket: Option<OwnedFd>,
}

/// Writes the offsets of the time namespace that this process' children will be born in.
pub(crate) fn write_time_offsets(plan: &SetupPlan) -> Result<(), RuntimeError> {
    if plan.time_offsets.is_empty() {
        return Ok(());
    }
    let lines: String = plan
        .time_offsets
        .iter()
        .map(|(clock, seconds, nanoseconds)| format!("{clock} {seconds} {nanoseconds}\n"))
        .collect();
    Ok(berth_sys::fs::write_existing(
        Path::new("/proc/self/timens_offsets"),
        lines.as_bytes(),
    )?)
}

impl FirstProcess<'_> {
    /// Runs to the program; the exit code when it was not reached.
    pub(crate) fn run(mut self, unified_done: bool) -> i32 {
        let error = match self.prepare(unified_done) {
            Ok(ready) => return self.wait_and_execute(ready),
            Err(error) => error,
        };
        self.speaker.failed(&error);
        1
    }

    /// A helper that enters a user namespace and makes the real first process there, as our sibling: only so are
    /// its other namespaces owned by that user namespace.
    pub(crate) fn run_in_joined_user_namespace(mut self, flags: u64, unified_done: bool) -> i32 {
        let made = (|| {
            // Before the rights over the groups are gone.
            self.join
                .join_current(unified_done)
                .map_err(|cause| Error::new("join the control group", cause))?;
            if let Some(user) = self.namespaces.remove(&Kind::User) {
                namespace::enter(user, Kind::User)?;
            }
            become_root()?;
            Ok::<(), RuntimeError>(())
        })();
        if let Err(error) = made {
            self.speaker.failed(&error);
            return 1;
        }
        let request = process::CloneRequest {
            flags: flags | process::CLONE_PARENT,
            cgroup: None,
        };
        // The two share the socket, so the sibling waits until the creator knows it.
        let (go, wait) = match socket::seqpacket_pair() {
            Ok(pair) => pair,
            Err(error) => {
                self.speaker.failed(&error.into());
                return 1;
            }
        };
        let mut rest = Some(self);
        let made = process::clone_process(&request, || {
            let _ = socket::receive(&wait, 1, 0);
            rest.take().map_or(1, |first| first.run(true))
        });
        let Some(first) = rest else { return 1 };
        match made {
            Ok(child) => {
                let told = first.speaker.made(child.pid);
                let _ = socket::send(&go, b"g", &[]);
                i32::from(told.is_err())
            }
            Err(error) => {
                first.speaker.failed(&error.into());
                1
            }
        }
    }

    /// Everything up to the gate.
    fn prepare(&mut self, unified_done: bool) -> Result<Ready, RuntimeError> {
        let plan = self.plan;
        signal::reset()?;
        let proc = open_proc()?;
        // A joined user namespace came first, and with it the group was joined.
        if plan.joins(Kind::User).is_none() {
            self.join
                .join_current(unified_done)
                .map_err(|cause| Error::new("join the control group", cause))?;
        }
        intel_rdt::join(&self.tasks)?;
        if plan.makes(Kind::User) {
            self.speaker.ask_for_maps()?;
            become_root()?;
        }
        self.enter_namespaces()?;
        // A session of its own: signals of the caller's terminal are not for the container.
        rustix::process::setsid()
            .map_err(|errno| Error::new("start a session", errno))
            .or_else(|error| {
                (error.errno() == Some(Errno::PERM))
                    .then_some(rustix::process::getpid())
                    .ok_or(error)
            })?;
        if !self.no_new_keyring {
            self.new_keyring()?;
        }
        self.name_host()?;
        let mut notes = Vec::new();
        rustix::process::umask(rustix::fs::Mode::empty());
        let root = duplicate(&self.sources.root)?;
        let mut builder = RootBuilder::attach(plan, root)?;
        builder.mount_all(&mut self.sources.mounts, self.record.cgroup.as_ref())?;
        builder.make_devices()?;
        let pair = plan
            .process
            .as_ref()
            .filter(|process| process.terminal)
            .map(|_| builder.make_console())
            .transpose()?;
        builder.protect()?;
        builder.seal()?;
        self.early_hooks(&builder)?;
        for (path, value) in &plan.sysctls {
            write_proc(&proc, &Path::new("sys").join(path), value)?;
        }
        let labels = plan.process.as_ref().map(Labels::of);
        builder.enter(self.no_pivot)?;
        notes.append(&mut builder.notes);
        drop(builder);
        self.place_stdio(pair)?;
        if let Some(persona) = plan.personality {
            process::set_personality(persona)?;
        }
        if let Some((mode, nodes)) = &plan.memory_policy {
            process::set_memory_policy(*mode, nodes)?;
        }
        let confined = self.confine(labels, &proc, &mut notes)?;
        for note in &notes {
            self.speaker.note(note)?;
        }
        self.speaker.ready()?;
        Ok(Ready { confined })
    }

    /// Takes all of the program but itself and, unless it notifies, its filter. A filter that notifies is loaded here,
    /// as with runc: whoever supervises the container has its listener when it is created (config-linux.md, "Container
    /// Process State": the state that goes with it says "creating").
    fn confine(
        &mut self,
        labels: Option<Labels>,
        proc: &OwnedFd,
        notes: &mut Vec<String>,
    ) -> Result<Option<Confined>, RuntimeError> {
        let (Some(process), Some(labels)) = (&self.plan.process, labels) else {
            return Ok(None);
        };
        let settled = credentials::settle(process, proc, notes)?;
        let notify = match self.notify.take() {
            Some(mut target) => {
                set_pid(&mut target.document, own_pid(proc)?)?;
                Some(target)
            }
            None => None,
        };
        let mut confined =
            credentials::confine(process, settled, labels, self.filter.is_some(), proc)?;
        if notify.is_some()
            && let Some(filter) = self.filter.take()
        {
            confined.load(filter, notify)?;
        }
        Ok(Some(confined))
    }

    fn enter_namespaces(&mut self) -> Result<(), RuntimeError> {
        for (kind, _) in &self.plan.joined_namespaces {
            // The PID namespace was joined by our creator on our behalf, the user namespace by a helper.
            if matches!(kind, Kind::Pid | Kind::User) {
                continue;
            }
            if let Some(descriptor) = self.namespaces.remove(kind) {
                namespace::enter(descriptor, *kind)?;
            }
        }
        let in_user_namespace =
            self.plan.makes(Kind::User) || self.plan.joins(Kind::User).is_some();
        if self.plan.makes(Kind::Time) && in_user_namespace {
            namespace::unshare(process::CLONE_NEWTIME)?;
            // The change of user has given our files in /proc to the host's root.
            process::set_dumpable(true)?;
            write_time_offsets(self.plan)?;
            let ours = namespace::open(Path::new("/proc/self/ns/time_for_children"))?;
            process::set_dumpable(false)?;
            // Programs are born in it (time_namespaces(7)); before Linux 6.2 a program in the same process is not.
            namespace::enter(ours, Kind::Time)?;
        }
        if self.plan.makes(Kind::Cgroup) {
            namespace::unshare(process::CLONE_NEWCGROUP)?;
        }
        if self.plan.makes(Kind::Network) {
            network::bring_up_loopback()?;
        }
        Ok(())
    }

    /// A kernel without keys has none to hide; one that has no room for more is told in words.
    fn new_keyring(&self) -> Result<(), RuntimeError> {
        let name = std::ffi::CString::new(format!("_ses.{}", self.record.id))
            .map_err(|_| RuntimeError::invalid("id", "holds a zero byte"))?;
        match process::join_session_keyring(&name) {
            Err(error) if error.errno() == Some(Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    fn name_host(&self) -> Result<(), RuntimeError> {
        if let Some(name) = &self.plan.hostname {
            rustix::system::sethostname(name.as_bytes())
                .map_err(|errno| Error::new(format!("set the host name {name}"), errno))?;
        }
        if let Some(name) = &self.plan.domainname {
            rustix::system::setdomainname(name.as_bytes())
                .map_err(|errno| Error::new(format!("set the domain name {name}"), errno))?;
        }
        Ok(())
    }

    /// Hooks before the root is changed: the creator's, then those in the container's namespaces.
    fn early_hooks(&self, builder: &RootBuilder<'_>) -> Result<(), RuntimeError> {
        let any = [Stage::Prestart, Stage::CreateRuntime]
            .iter()
            .any(|stage| hooks_of(self.spec, *stage).is_some());
        if any {
            self.speaker.ask_for_hooks()?;
        }
        if let Some(hooks) = hooks_of(self.spec, Stage::CreateContainer) {
            let state = state_inside(self.record, Status::Creating)?;
            let directory = berth_sys::path::descriptor_path(builder.root().descriptor());
            hooks::run(Stage::CreateContainer, hooks, &state, &directory, None)?;
        }
        Ok(())
    }

    fn place_stdio(&self, pair: Option<terminal::Pair>) -> Result<(), RuntimeError> {
        if let Some(descriptors) = descriptors(&self.stdio) {
            return credentials::place_stdio(descriptors);
        }
        let (Some(pair), Some(process)) = (pair, &self.plan.process) else {
            return Ok(());
        };
        take_terminal(&pair, process)?;
        self.speaker.console(&pair.master)
    }

    /// Waits at the gate, then becomes the program.
    fn wait_and_execute(self, ready: Ready) -> i32 {
        let FirstProcess {
            spec,
            record,
            speaker,
            gate,
            lock,
            filter,
            preserve_descriptors,
            sources,
            namespaces,
            tasks,
            ..
        } = self;
        // From here the creator learns nothing more; and what was opened for the mounts is done with.
        drop((speaker, sources, namespaces, tasks));
        let starter = loop {
            match rustix::net::accept_with(&gate, rustix::net::SocketFlags::CLOEXEC) {
                Ok(starter) => break Speaker::new(starter),
                Err(Errno::INTR | Errno::CONNABORTED | Errno::AGAIN) => {}
                Err(_) => return 1,
            }
        };
        let Ready { confined } = ready;
        let error = match (
            late_hooks(spec, record, confined.as_ref(), filter),
            confined,
        ) {
            (Err(error), _) => error,
            (Ok(()), Some(confined)) => confined.execute(preserve_descriptors, filter, None),
            (Ok(()), None) => {
                RuntimeError::invalid("process", "is missing, so nothing can be started")
            }
        };
        starter.failed(&error);
        drop(lock);
        1
    }
}

/// Hooks in the container. They are programs of its image and can do no more than its own; `filter` is one that is
/// not loaded yet.
fn late_hooks(
    spec: &Spec,
    record: &StateRecord,
    confined: Option<&Confined>,
    filter: Option<&Filter>,
) -> Result<(), RuntimeError> {
    let Some(hooks) = hooks_of(spec, Stage::StartContainer) else {
        return Ok(());
    };
    hooks::run(
        Stage::StartContainer,
        &with_environment(hooks, spec),
        &state_inside(record, Status::Created)?,
        Path::new("/"),
        confined.map(|confined| confined.for_another_program(filter)),
    )
}

/// The state document for hooks in the container's namespaces: with our own id as it is seen there (runtime.md,
/// "State").
fn state_inside(record: &StateRecord, status: Status) -> Result<Vec<u8>, RuntimeError> {
    let mut record = record.clone();
    record.pid = rustix::process::getpid().as_raw_pid();
    serde_json::to_vec(&record.document(status)).map_err(|source| RuntimeError::Parse {
        path: "state".into(),
        source,
    })
}

/// Hooks in the container that name no environment get its process', as with runc.
fn with_environment(hooks: &[Hook], spec: &Spec) -> Vec<Hook> {
    let environment = spec
        .process()
        .as_ref()
        .and_then(|process| process.env().clone());
    hooks
        .iter()
        .cloned()
        .map(|mut hook| {
            if hook.env().is_none() {
                hook.set_env(environment.clone());
            }
            hook
        })
        .collect()
}

/// What is known at the gate.
#[derive(Debug)]
struct Ready {
    confined: Option<Confined>,
}

/// Takes the program's end of a terminal as controlling terminal and standard descriptors.
pub(crate) fn take_terminal(
    pair: &terminal::Pair,
    process: &crate::plan::process::ProcessPlan,
) -> Result<(), RuntimeError> {
    if let Some(size) = process.window_size {
        terminal::set_window_size(&pair.master, size)?;
    }
    // The user must be able to open /dev/console and /dev/tty again; the group is as devpts made it.
    let _ = rustix::fs::fchown(
        &pair.slave,
        Some(rustix::fs::Uid::from_raw(process.user)),
        None,
    );
    terminal::become_controlling(&pair.slave)?;
    let slave = pair.slave.as_fd();
    credentials::place_stdio([slave, slave, slave])
}

/// Root of the user namespace we are in: needed before anything else in it. Unmapped ids stay as they are.
pub(crate) fn become_root() -> Result<(), RuntimeError> {
    for outcome in [
        ids::set_supplementary_groups(&[]),
        ids::set_group(0),
        ids::set_user(0),
    ] {
        match outcome {
            Err(error) if !matches!(error.errno(), Some(Errno::INVAL | Errno::PERM)) => {
                return Err(error.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Our id in the PID namespace of the runtime, whose /proc this is.
pub(crate) fn own_pid(proc: &OwnedFd) -> Result<i32, RuntimeError> {
    let link = rustix::fs::readlinkat(proc, "self", Vec::new())
        .map_err(|errno| Error::new("read our own process id", errno))?;
    link.to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::invalid("read our own process id", "it is not a number").into())
}

/// Fills the process id into the document for the receiver of notifications.
pub(crate) fn set_pid(document: &mut Vec<u8>, pid: i32) -> Result<(), RuntimeError> {
    let parse = |source| RuntimeError::Parse {
        path: "seccomp notification".into(),
        source,
    };
    let mut value: serde_json::Value = serde_json::from_slice(document).map_err(parse)?;
    value["pid"] = pid.into();
    if value["state"]["pid"] == 0 {
        value["state"]["pid"] = pid.into();
    }
    *document = serde_json::to_vec(&value).map_err(parse)?;
    Ok(())
}

fn duplicate(descriptor: &OwnedFd) -> Result<OwnedFd, RuntimeError> {
    rustix::io::fcntl_dupfd_cloexec(descriptor, 3)
        .map_err(|errno| Error::new("copy a descriptor", errno).into())
}
