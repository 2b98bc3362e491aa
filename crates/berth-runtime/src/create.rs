//! `create`: the creator's side.
//!
//! Order: check and plan → state directory and lock → control group → sources → the process → handshake → record.
//! Whatever fails, all that was made is undone in reverse; errors of undoing are dropped in favour of the first.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_sys::cgroup::{Cgroup, Hierarchy, Location};
use berth_sys::namespace::{self, Kind};
use berth_sys::{process, socket};
use berth_types::timestamp::Timestamp;
use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompBuilder, Spec};

use crate::container::Container;
use crate::credentials::{self, NotifyTarget};
use crate::error::RuntimeError;
use crate::first_process::{self, FirstProcess};
use crate::handshake::{Listener, Message, Speaker};
use crate::hooks::{self, Stage};
use crate::intel_rdt;
use crate::net_devices;
use crate::plan::SetupPlan;
use crate::seccomp::Filter;
use crate::sources::{RootSource, Sources, write_maps};
use crate::state::{self, SCHEMA, StateDirectory, StateRecord, Status};

/// What the process gets as standard input, output and error.
#[derive(Debug)]
pub enum StdioRequest {
    /// What the caller has.
    Inherit,
    /// These; closed in the caller when the call returns.
    Descriptors {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal, whose master comes back as `console`.
    Terminal,
}

/// A container to make.
#[derive(Debug)]
pub struct CreateRequest {
    /// Its id.
    pub id: String,
    /// Directory that relative paths of the configuration start from.
    pub bundle: PathBuf,
    /// Its configuration.
    pub spec: Spec,
    /// Where containers' states are kept.
    pub state_root: PathBuf,
    /// Its root file system.
    pub root: RootSource,
    /// Its standard descriptors.
    pub stdio: StdioRequest,
    /// How many descriptors after 0 to 2 it inherits.
    pub preserve_descriptors: u32,
    /// `linux.cgroupsPath` is `slice:prefix:name`, as with systemd.
    pub systemd_cgroup: bool,
    /// Change the root without pivot_root(2), as on an initial ramfs.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// Directory that caches compiled seccomp filters.
    pub seccomp_cache: Option<PathBuf>,
}

impl CreateRequest {
    /// A request with the usual settings: the bundle's root, inherited descriptors.
    pub fn new(id: impl Into<String>, bundle: PathBuf, spec: Spec, state_root: PathBuf) -> Self {
        Self {
            id: id.into(),
            bundle,
            spec,
            state_root,
            root: RootSource::Bundle,
            stdio: StdioRequest::Inherit,
            preserve_descriptors: 0,
            systemd_cgroup: false,
            no_pivot: false,
            no_new_keyring: false,
            seccomp_cache: None,
        }
    }
}

/// Makes a container, up to the point where only its program is missing. The caller must have one thread.
///
/// The container's process becomes the caller's child, which the caller reaps.
pub fn create(request: CreateRequest) -> Result<Container, RuntimeError> {
    state::check_id(&request.id)?;
    let plan = SetupPlan::of(&request.spec)?;
    check_hooks(&request.spec)?;
    let wants_terminal = plan
        .process
        .as_ref()
        .is_some_and(|process| process.terminal);
    if wants_terminal != matches!(request.stdio, StdioRequest::Terminal) {
        return Err(RuntimeError::invalid(
            "process.terminal",
            "does not agree with the descriptors the caller gave",
        ));
    }
    let directory = StateDirectory::new(&request.state_root, &request.id)?;
    directory.create(&request.id)?;
    let mut undo = Undo {
        directory: directory.clone(),
        cgroup: None,
        intel_rdt: None,
        process: None,
    };
    let poststop = hooks_of(&request.spec, Stage::Poststop).map(<[_]>::to_vec);
    let mut record = StateRecord {
        schema: SCHEMA,
        id: request.id.clone(),
        pid: 0,
        start_time: 0,
        bundle: request.bundle.clone(),
        rootfs: PathBuf::new(),
        created: now(),
        owner: rustix::process::geteuid().as_raw(),
        cgroup: None,
        intel_rdt: None,
        annotations: request.spec.annotations().clone().unwrap_or_default(),
    };
    let made = make(request, &plan, &directory, &mut record, &mut undo);
    if let Err(error) = &made {
        undo.run();
        // runtime.md, "Lifecycle", 3 to 5: after a failed hook it goes on where a container is deleted.
        if let (RuntimeError::Hook { .. }, Some(hooks)) = (error, poststop)
            && let Ok(document) = serde_json::to_vec(&record.document(Status::Stopped))
        {
            hooks::run_all(Stage::Poststop, &hooks, &document, &record.bundle);
        }
    }
    made.map(|(cgroup, child, console, notes)| {
        Container::made(directory, record, child.pidfd, console, notes, cgroup)
    })
}

type Made = (Cgroup, process::Child, Option<OwnedFd>, Vec<String>);

/// What to take back when a step fails.
struct Undo {
    directory: StateDirectory,
    cgroup: Option<Location>,
    intel_rdt: Option<intel_rdt::Made>,
    process: Option<process::Child>,
}

impl Undo {
    fn run(self) {
        if let Some(child) = self.process {
            let _ = child.signal(9);
            let _ = child.wait();
        }
        if let Some(location) = &self.cgroup {
            if let Ok(cgroup) = Cgroup::open(location) {
                let _ = cgroup.kill_all();
            }
            let _ = Cgroup::remove(location);
        }
        if let Some(made) = &self.intel_rdt {
            let _ = intel_rdt::release(made);
        }
        let _ = self.directory.remove();
    }
}

fn check_hooks(spec: &Spec) -> Result<(), RuntimeError> {
    for stage in hooks::STAGES {
        hooks::check(stage, hooks_of(spec, stage))?;
    }
    Ok(())
}

/// The hooks of one stage.
#[allow(deprecated)] // prestart: deprecated in the specification, and still what callers use.
pub(crate) fn hooks_of(spec: &Spec, stage: Stage) -> Option<&[oci_spec::runtime::Hook]> {
    let hooks = spec.hooks().as_ref()?;
    match stage {
        Stage::Prestart => hooks.prestart(),
        Stage::CreateRuntime => hooks.create_runtime(),
        Stage::CreateContainer => hooks.create_container(),
        Stage::StartContainer => hooks.start_container(),
        Stage::Poststart => hooks.poststart(),
        Stage::Poststop => hooks.poststop(),
    }
    .as_deref()
    .filter(|hooks| !hooks.is_empty())
}

fn make(
    request: CreateRequest,
    plan: &SetupPlan,
    directory: &StateDirectory,
    record: &mut StateRecord,
    undo: &mut Undo,
) -> Result<Made, RuntimeError> {
    let mut notes = Vec::new();
    if let Some(process) = &plan.process {
        credentials::check_labels(process, &mut notes);
    }
    // Held by us from here, so that the status is "creating"; then by the first process alone.
    let lock = directory.lock_gate()?;
    record.cgroup = Some(locate(&request)?);
    directory.save_intent(record)?;
    let cgroup = make_cgroup(&request, record, undo, &mut notes)?;
    if let Some(asked) = &plan.intel_rdt {
        let made = intel_rdt::make(asked, &intel_rdt::root()?, &request.id)?;
        undo.intel_rdt = Some(made.clone());
        record.intel_rdt = Some(made);
        directory.save_intent(record)?;
    }
    let tasks = record
        .intel_rdt
        .as_ref()
        .map(intel_rdt::tasks)
        .transpose()?;
    let filter = prepare_filter(&request, directory, &mut notes)?;
    let sources = Sources::open(plan, &request.bundle, request.root)?;
    record.rootfs = sources.root_path.clone();
    let namespaces = open_namespaces(plan)?;
    let notify = notify_target(&request.spec, filter.as_ref(), record)?;
    let gate = socket::listen(&directory.start_socket(), 8)?;
    let (ours, theirs) = socket::seqpacket_pair()?;
    let join = cgroup.join_handle()?;
    let first = FirstProcess {
        plan,
        spec: &request.spec,
        record,
        sources,
        namespaces,
        speaker: Speaker::new(theirs),
        gate,
        lock,
        join: &join,
        tasks: tasks.unwrap_or_default(),
        filter: filter.as_ref(),
        notify,
        stdio: request.stdio,
        preserve_descriptors: request.preserve_descriptors,
        no_pivot: request.no_pivot,
        no_new_keyring: request.no_new_keyring,
        creator_socket: Some(ours),
    };
    let (child, listener) = clone_first(plan, first, cgroup.directory_fd())?;
    record.pid = child.pid;
    record.start_time = berth_sys::proc::stat(child.pid)?.start_time;
    undo.process = Some(child);
    let console = attend(&listener, plan, &request.spec, record, &mut notes, undo)?;
    save_spec(directory, request.spec)?;
    directory.save(record)?;
    let child = undo.process.take().ok_or_else(|| RuntimeError::Vanished {
        how: "it was never made".to_owned(),
    })?;
    Ok((cgroup, child, console, notes))
}

/// The present time, as RFC 3339.
fn now() -> String {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_nanoseconds(since.as_nanos() as i128).to_string()
}

/// The control group asked for, by default one with the container's id.
fn locate(request: &CreateRequest) -> Result<Location, RuntimeError> {
    let asked = request
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().clone())
        .filter(|path| !path.as_os_str().is_empty());
    let path = match asked {
        Some(text) if request.systemd_cgroup => Hierarchy::systemd_path(&text.to_string_lossy())?,
        Some(path) => path,
        None => PathBuf::from("/").join(&request.id),
    };
    Ok(Hierarchy::probe()?.locate(&path)?)
}

fn make_cgroup(
    request: &CreateRequest,
    record: &StateRecord,
    undo: &mut Undo,
    notes: &mut Vec<String>,
) -> Result<Cgroup, RuntimeError> {
    let Some(location) = &record.cgroup else {
        return Err(RuntimeError::invalid("linux.cgroupsPath", "is missing"));
    };
    let cgroup = Cgroup::create(location)?;
    undo.cgroup = Some(location.clone());
    let limits = request
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    notes.extend(cgroup.apply(&crate::resources::for_creation(limits)?)?);
    Ok(cgroup)
}

/// Compiles the filter and keeps it for exec.
fn prepare_filter(
    request: &CreateRequest,
    directory: &StateDirectory,
    notes: &mut Vec<String>,
) -> Result<Option<Filter>, RuntimeError> {
    let Some(rules) = request
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref())
    else {
        return Ok(None);
    };
    let filter = crate::seccomp::prepare(rules, request.seccomp_cache.as_deref())?;
    notes.extend(filter.notes.iter().cloned());
    berth_sys::fs::write(&directory.filter(), &crate::exec::encode_filter(&filter))?;
    Ok(Some(filter))
}

/// Keeps the configuration for exec and delete; the rules are kept compiled.
fn save_spec(directory: &StateDirectory, mut spec: Spec) -> Result<(), RuntimeError> {
    if let Some(linux) = spec.linux_mut().as_mut()
        && let Some(rules) = linux.seccomp().clone()
    {
        let mut bare = LinuxSeccompBuilder::default()
            .default_action(rules.default_action())
            .build()
            .map_err(|error| RuntimeError::invalid("linux.seccomp", error.to_string()))?;
        bare.set_listener_path(rules.listener_path().clone());
        bare.set_listener_metadata(rules.listener_metadata().clone());
        linux.set_seccomp(Some(bare));
    }
    directory.save_spec(&spec)
}

/// The namespaces to join, opened while their paths mean what the caller means.
fn open_namespaces(plan: &SetupPlan) -> Result<HashMap<Kind, OwnedFd>, RuntimeError> {
    plan.joined_namespaces
        .iter()
        .map(|(kind, path)| Ok((*kind, namespace::open(path)?)))
        .collect()
}

/// Connects to the receiver of seccomp notifications, if the filter notifies.
pub(crate) fn notify_target(
    spec: &Spec,
    filter: Option<&Filter>,
    record: &StateRecord,
) -> Result<Option<NotifyTarget>, RuntimeError> {
    if !filter.is_some_and(|filter| filter.program.notifies()) {
        return Ok(None);
    }
    let rules = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    let path = rules
        .and_then(|rules| rules.listener_path().as_deref())
        .ok_or_else(|| {
            RuntimeError::invalid("linux.seccomp.listenerPath", "is needed by SCMP_ACT_NOTIFY")
        })?;
    // The process hands its listener over with sendmsg(2) after the filter is in force.
    let needed = rules.is_some_and(|rules| {
        rules.syscalls().iter().flatten().any(|rule| {
            rule.action() == LinuxSeccompAction::ScmpActNotify
                && rule.names().iter().any(|name| name == "sendmsg")
        })
    });
    if needed {
        return Err(RuntimeError::invalid(
            "linux.seccomp.syscalls",
            "SCMP_ACT_NOTIFY cannot be used for sendmsg, which hands the listener over",
        ));
    }
    let socket = socket::connect(path)?;
    // The process fills in its own id.
    let document = serde_json::json!({
        "ociVersion": state::OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": 0,
        "metadata": rules.and_then(|rules| rules.listener_metadata().clone()),
        "state": record.document(if record.pid == 0 { Status::Creating } else { Status::Running }),
    });
    Ok(Some(NotifyTarget {
        socket,
        document: document.to_string().into_bytes(),
    }))
}

/// Clones the first process; PID and time namespaces are prepared here, since a process cannot move into one.
fn clone_first(
    plan: &SetupPlan,
    mut first: FirstProcess<'_>,
    cgroup: Option<std::os::fd::BorrowedFd<'_>>,
) -> Result<(process::Child, Listener), RuntimeError> {
    let listener =
        Listener::new(
            first
                .creator_socket
                .take()
                .ok_or_else(|| RuntimeError::Vanished {
                    how: "no socket".to_owned(),
                })?,
        );
    let mut flags: u64 = 0;
    let joins_user = plan.joins(Kind::User).is_some();
    for kind in &plan.new_namespaces {
        // The cgroup namespace is made after joining the group; the time namespace has its own ways.
        if !matches!(kind, Kind::Cgroup | Kind::Time) {
            flags |= kind.flag();
        }
    }
    let mut restore = Vec::new();
    if let Some(pid_namespace) = first.namespaces.get(&Kind::Pid) {
        let own = namespace::open(Path::new("/proc/self/ns/pid"))?;
        namespace::enter(pid_namespace, Kind::Pid)?;
        restore.push((Kind::Pid, own));
    }
    if plan.makes(Kind::Time) && !plan.makes(Kind::User) && !joins_user {
        let own = namespace::open(Path::new("/proc/self/ns/time"))?;
        namespace::unshare(process::CLONE_NEWTIME)?;
        restore.push((Kind::Time, own));
        first_process::write_time_offsets(plan)?;
    }
    // Nobody in a namespace that others are in already may trace us before we are confined (CVE-2016-9962).
    let exposed = plan.joins(Kind::Pid).is_some();
    if exposed {
        process::set_dumpable(false)?;
    }
    let request = process::CloneRequest {
        flags: if joins_user { 0 } else { flags },
        cgroup,
    };
    let unified_done = cgroup.is_some();
    let made = process::clone_process(&request, || {
        if joins_user {
            first.run_in_joined_user_namespace(flags, unified_done)
        } else {
            first.run(unified_done)
        }
    });
    if exposed {
        process::set_dumpable(true)?;
    }
    for (kind, own) in restore {
        namespace::enter(own, kind)?;
    }
    Ok((made?, listener))
}

/// Serves the first process until it waits to be started; its terminal's master, if it has one.
fn attend(
    listener: &Listener,
    plan: &SetupPlan,
    spec: &Spec,
    record: &mut StateRecord,
    notes: &mut Vec<String>,
    undo: &mut Undo,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let mut console = None;
    let mut equipped = false;
    loop {
        match listener.next()? {
            Message::Made(pid) => {
                // The helper has done its work; what it made is our child.
                let made = process::Child {
                    pid,
                    pidfd: process::open_pidfd(pid)?,
                };
                record.pid = pid;
                record.start_time = berth_sys::proc::stat(pid)?.start_time;
                if let Some(helper) = undo.process.replace(made) {
                    helper.wait()?;
                }
            }
            Message::Maps => {
                write_maps(record.pid, &plan.user_map, &plan.group_map)?;
                listener.go()?;
            }
            Message::Hooks => {
                equip(plan, record.pid, &mut equipped)?;
                let document =
                    serde_json::to_vec(&record.document(Status::Creating)).map_err(|source| {
                        RuntimeError::Parse {
                            path: "state".into(),
                            source,
                        }
                    })?;
                for stage in [Stage::Prestart, Stage::CreateRuntime] {
                    if let Some(hooks) = hooks_of(spec, stage) {
                        hooks::run(stage, hooks, &document, &record.bundle, None)?;
                    }
                }
                listener.go()?;
            }
            Message::Console(master) => console = Some(master),
            Message::Note(text) => notes.push(text),
            Message::Ready => {
                equip(plan, record.pid, &mut equipped)?;
                return Ok(console);
            }
            Message::Failed(error) => return Err(error),
            Message::Closed => {
                let how = undo
                    .process
                    .take()
                    .and_then(|child| child.wait().ok())
                    .map_or_else(|| "unknown".to_owned(), |status| format!("{status:?}"));
                return Err(RuntimeError::Vanished { how });
            }
        }
    }
}

/// Moves network devices once, when the first process is in its namespaces and before hooks look at them.
fn equip(plan: &SetupPlan, pid: i32, equipped: &mut bool) -> Result<(), RuntimeError> {
    if plan.net_devices.is_empty() || std::mem::replace(equipped, true) {
        return Ok(());
    }
    let target = namespace::open(&PathBuf::from(format!("/proc/{pid}/ns/net")))?;
    net_devices::move_all(&plan.net_devices, &target)
}

/// The three descriptors, if the request names them.
pub(crate) fn descriptors(stdio: &StdioRequest) -> Option<[std::os::fd::BorrowedFd<'_>; 3]> {
    match stdio {
        StdioRequest::Descriptors {
            stdin,
            stdout,
            stderr,
        } => Some([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
        _ => None,
    }
}
