//! The last steps of a new process, the same for a container's first process and for exec: what it may do, who it
//! is, and then the program.
//!
//! Three parts. [`settle`] does what can be told and noted beforehand, [`confine`] takes labels, identity and
//! capabilities, and [`Confined`] loads the seccomp filter and becomes the program. The filter is the last thing but
//! for one capset(2) and the execve(2) itself, except one that notifies: its listener is given away before the
//! container waits to be started.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_sys::capability::{self, Capability, CapabilitySet, ThreadSets};
use berth_sys::{Error, credentials, fs, process, seccomp, socket};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use crate::error::{ReportedCause, RuntimeError, StartFailure};
use crate::limits;
use crate::plan::process::{CapabilityPlan, ProcessPlan};
use crate::root::write_proc;
use crate::seccomp::Filter;

/// Where programs are searched when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The mask for new files when the configuration names none.
const DEFAULT_UMASK: u32 = 0o022;

/// Where a filter's notifications go: a connected socket and the document that goes with the descriptor.
#[derive(Debug)]
pub(crate) struct NotifyTarget {
    pub(crate) socket: OwnedFd,
    pub(crate) document: Vec<u8>,
}

/// What is decided by [`settle`] for [`confine`].
#[derive(Debug)]
pub(crate) struct Settled {
    program: CString,
    environment: Vec<CString>,
    capabilities: CapabilityPlan,
    /// The working directory could not be entered yet; the user may be allowed to.
    enter_directory_later: bool,
}

/// Limits, priorities, working directory, and the search for the program. Notes tell what was clamped.
pub(crate) fn settle(
    plan: &ProcessPlan,
    proc: &OwnedFd,
    notes: &mut Vec<String>,
) -> Result<Settled, RuntimeError> {
    if let Some(score) = plan.oom_score_adjustment {
        adjust_oom_score(score, proc, notes)?;
    }
    for limit in &plan.limits {
        set_limit(limit, notes)?;
    }
    if let Some(scheduler) = plan.scheduler {
        process::set_scheduler(&scheduler.attributes())?;
    }
    if let Some((class, level)) = plan.io_priority {
        process::set_io_priority(class, level)?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask.unwrap_or(DEFAULT_UMASK)));
    let enter_directory_later = !enter_directory(&plan.working_directory)?;
    let mut environment = plan.environment.clone();
    add_home(plan.user, &mut environment);
    let program = find_program(&plan.arguments[0], &environment)?;
    Ok(Settled {
        program,
        environment,
        capabilities: available(plan.capabilities, notes)?,
        enter_directory_later,
    })
}

/// Only CAP_SYS_RESOURCE may lower the adjustment; without it the lowest allowed value stays.
fn adjust_oom_score(
    score: i32,
    proc: &OwnedFd,
    notes: &mut Vec<String>,
) -> Result<(), RuntimeError> {
    match write_proc(proc, Path::new("self/oom_score_adj"), &score.to_string()) {
        Err(RuntimeError::System(error)) if error.errno() == Some(Errno::ACCESS) => {
            notes.push(format!(
                "oom_score_adj stays as it is, since lowering it to {score} needs CAP_SYS_RESOURCE on this host."
            ));
            Ok(())
        }
        other => other,
    }
}

/// Only CAP_SYS_RESOURCE may raise a hard limit; without it the limit becomes what is allowed.
fn set_limit(
    limit: &crate::plan::process::LimitPlan,
    notes: &mut Vec<String>,
) -> Result<(), RuntimeError> {
    match process::set_resource_limit(limit.resource, limit.soft, limit.hard) {
        Err(error) if error.errno() == Some(Errno::PERM) => {
            let (_, allowed) = process::resource_limit(limit.resource)?;
            let hard = limit.hard.min(allowed);
            process::set_resource_limit(limit.resource, limit.soft.min(hard), hard)?;
            notes.push(format!(
                "{} is {hard} and not {}, since raising it needs CAP_SYS_RESOURCE on this host.",
                limit.name, limit.hard
            ));
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Makes (as every runtime does) and enters the working directory. `false` when only the user may enter it.
fn enter_directory(directory: &Path) -> Result<bool, RuntimeError> {
    let entered = rustix::process::chdir(directory);
    let entered = match entered {
        Err(Errno::NOENT) => {
            fs::create_dir_all_mode(directory, 0o755).map_err(|error| {
                error.with_attempt(format!(
                    "make the working directory {}",
                    directory.display()
                ))
            })?;
            rustix::process::chdir(directory)
        }
        other => other,
    };
    match entered {
        Ok(()) => check_directory_inside(directory).map(|()| true),
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(errno) => Err(directory_error(directory, errno)),
    }
}

fn directory_error(directory: &Path, errno: Errno) -> RuntimeError {
    Error::new(
        format!(
            "chdir to cwd ({:?}) set in config.json failed",
            directory.display().to_string()
        ),
        errno,
    )
    .into()
}

/// A working directory reached through a descriptor of the host has no name in the container (CVE-2024-21626).
fn check_directory_inside(directory: &Path) -> Result<(), RuntimeError> {
    let name = rustix::process::getcwd(Vec::new());
    match name {
        Ok(name) if name.to_bytes().starts_with(b"/") => Ok(()),
        _ => Err(RuntimeError::invalid(
            "process.cwd",
            format!("{} is outside of the container", directory.display()),
        )),
    }
}

/// HOME from the container's /etc/passwd, when the configuration has none.
fn add_home(user: u32, environment: &mut Vec<CString>) {
    let named = |entry: &CString| entry.to_bytes().starts_with(b"HOME=");
    if environment
        .iter()
        .any(|entry| named(entry) && entry.to_bytes().len() > 5)
    {
        return;
    }
    environment.retain(|entry| !named(entry));
    let passwd =
        fs::read_bounded(Path::new("/etc/passwd"), limits::PASSWD_BYTES).unwrap_or_default();
    let home = String::from_utf8_lossy(&passwd)
        .lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2)?.parse() == Ok(user))
                .then(|| fields.get(5).map(|home| (*home).to_owned()))?
        })
        .filter(|home| !home.is_empty())
        .unwrap_or_else(|| "/".to_owned());
    if let Ok(entry) = CString::new(format!("HOME={home}")) {
        environment.push(entry);
    }
}

/// Capabilities we do not have cannot be given; they are left out and told.
fn available(
    mut plan: CapabilityPlan,
    notes: &mut Vec<String>,
) -> Result<CapabilityPlan, RuntimeError> {
    let current = capability::current()?;
    let missing = (plan.bounding | plan.permitted).without(current.permitted);
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(Capability::name).collect();
        notes.push(format!(
            "{} cannot be given, since this host does not have it.",
            names.join(", ")
        ));
    }
    plan.permitted = plan.permitted & current.permitted;
    plan.effective = plan.effective & plan.permitted;
    plan.inheritable = plan.inheritable & (current.permitted | current.inheritable);
    // capabilities(7): only what is permitted and inheritable can be ambient.
    plan.ambient = plan.ambient & plan.permitted & plan.inheritable;
    Ok(plan)
}

/// The program's path, searched as execvp(3) does.
fn find_program(name: &CString, environment: &[CString]) -> Result<CString, RuntimeError> {
    let shown = || name.to_string_lossy().into_owned();
    let error = |failure, cause: &str| RuntimeError::Program {
        program: shown(),
        failure,
        source: ReportedCause(cause.to_owned()),
    };
    if name.to_bytes().contains(&b'/') {
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        return match look_at(path) {
            Ok(()) => Ok(name.clone()),
            Err(Look::Absent(errno)) => Err(error(
                StartFailure::NotFound,
                &format!("stat {}: {}", path.display(), words_of(errno)),
            )),
            Err(Look::Directory) => Err(error(
                StartFailure::NotExecutable,
                "is a directory: permission denied",
            )),
            Err(Look::NotExecutable) => {
                Err(error(StartFailure::NotExecutable, "permission denied"))
            }
        };
    }
    let search = environment
        .iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH.as_bytes());
    let mut denied = false;
    for directory in search.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let mut path = PathBuf::from(OsStr::from_bytes(directory));
        path.push(OsStr::from_bytes(name.to_bytes()));
        match look_at(&path) {
            Ok(()) => {
                return CString::new(path.into_os_string().into_encoded_bytes())
                    .map_err(|_| error(StartFailure::NotFound, "the path holds a zero byte"));
            }
            Err(Look::NotExecutable) => denied = true,
            Err(_) => {}
        }
    }
    Err(if denied {
        error(StartFailure::NotExecutable, "permission denied")
    } else {
        error(StartFailure::NotFound, "executable file not found in $PATH")
    })
}

/// The C library's words for an error, in the lower case that callers look for.
fn words_of(errno: Errno) -> String {
    let words = std::io::Error::from(errno).to_string();
    let plain = words.split(" (os error").next().unwrap_or(&words);
    let mut letters = plain.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}

enum Look {
    Absent(Errno),
    Directory,
    NotExecutable,
}

fn look_at(path: &Path) -> Result<(), Look> {
    let stat = rustix::fs::stat(path).map_err(Look::Absent)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Err(Look::Directory),
        FileType::RegularFile if stat.st_mode & 0o111 != 0 => Ok(()),
        _ => Err(Look::NotExecutable),
    }
}

/// Lets the container's user open /dev/stdout and its like again, when these are pipes or files.
fn give_stdio(user: u32) {
    for number in 0..3 {
        let Ok(descriptor) = process::duplicate_inherited(number) else {
            continue;
        };
        let Ok(stat) = rustix::fs::fstat(&descriptor) else {
            continue;
        };
        let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3);
        if stat.st_uid == user || is_null {
            continue;
        }
        // Where that is not possible (sockets, read-only file systems, unmapped ids) it stays as it is.
        let _ = rustix::fs::fchown(
            &descriptor,
            Some(rustix::fs::Uid::from_raw(user)),
            Some(rustix::fs::Gid::from_raw(stat.st_gid)),
        );
    }
}

/// Labels for the program, where the host has the security module.
pub(crate) fn check_labels(plan: &ProcessPlan, notes: &mut Vec<String>) {
    if let Some(profile) = &plan.apparmor_profile
        && !has_apparmor()
    {
        notes.push(format!(
            "The AppArmor profile {profile} is not applied, since this host has no AppArmor."
        ));
    }
    if let Some(label) = &plan.selinux_label
        && !has_selinux()
    {
        notes.push(format!(
            "The SELinux label {label} is not applied, since this host has no SELinux."
        ));
    }
}

/// Whether AppArmor is on.
pub(crate) fn has_apparmor() -> bool {
    fs::read_to_string(Path::new("/sys/module/apparmor/parameters/enabled"))
        .is_ok_and(|text| text.starts_with('Y'))
}

/// Whether SELinux is on.
pub(crate) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// What of the host [`confine`] must know, looked up while the host could be seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels {
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
}

impl Labels {
    /// Looks only for what the plan asks for.
    pub(crate) fn of(plan: &ProcessPlan) -> Self {
        Self {
            apparmor: plan.apparmor_profile.is_some() && has_apparmor(),
            selinux: plan.selinux_label.is_some() && has_selinux(),
        }
    }
}

/// A process with the labels, identity and capabilities of its program; what is missing is the filter and the program.
#[derive(Debug)]
pub(crate) struct Confined {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// What it has in the end.
    last: ThreadSets,
    /// It still has CAP_SYS_ADMIN, for the filter alone.
    may_load_filter: bool,
}

/// Takes labels, identity and capabilities. `filter` tells that one will be loaded.
///
/// From here the process can do no more than its program, but for CAP_SYS_ADMIN where the filter needs it; that one
/// does not outlive execve(2) unless the program is meant to have it, since it is not in the bounding set.
pub(crate) fn confine(
    plan: &ProcessPlan,
    settled: Settled,
    labels: Labels,
    filter: bool,
    proc: &OwnedFd,
) -> Result<Confined, RuntimeError> {
    write_labels(plan, labels, proc)?;
    give_stdio(plan.user);
    let capabilities = settled.capabilities;
    limit_bounding(capabilities.bounding)?;
    capability::set_keep_on_user_change(true)?;
    set_identity(plan)?;
    capability::set_keep_on_user_change(false)?;
    if settled.enter_directory_later {
        // With the effective set cleared by the change of user, so it is the user's own right that counts.
        rustix::process::chdir(&plan.working_directory)
            .map_err(|errno| directory_error(&plan.working_directory, errno))?;
        check_directory_inside(&plan.working_directory)?;
    }
    let last = ThreadSets {
        effective: capabilities.effective,
        permitted: capabilities.permitted,
        inheritable: capabilities.inheritable,
    };
    let mut may_load_filter = false;
    if plan.no_new_privileges {
        capability::set_no_new_privileges()?;
        capability::set(&last)?;
    } else if filter {
        // seccomp(2): without no_new_privs a filter needs CAP_SYS_ADMIN, which goes right after.
        let admin: CapabilitySet = [Capability::SYS_ADMIN].into_iter().collect();
        let present = capability::current()?.permitted & admin;
        let extended = ThreadSets {
            effective: last.effective | present,
            permitted: last.permitted | present,
            inheritable: last.inheritable,
        };
        may_load_filter =
            extended.permitted != last.permitted || extended.effective != last.effective;
        capability::set(&extended)?;
    } else {
        capability::set(&last)?;
    }
    capability::set_ambient(capabilities.ambient)?;
    Ok(Confined {
        program: settled.program,
        arguments: plan.arguments.clone(),
        environment: settled.environment,
        last,
        may_load_filter,
    })
}

impl Confined {
    /// Loads the filter and hands its listener over; nothing is left then but the program.
    pub(crate) fn load(
        &mut self,
        filter: &Filter,
        notify: Option<NotifyTarget>,
    ) -> Result<(), RuntimeError> {
        let listener = seccomp::install(&filter.program, filter.flags)?;
        if let (Some(listener), Some(target)) = (listener, notify) {
            socket::send(&target.socket, &target.document, &[listener.as_fd()])
                .map_err(|error| error.with_attempt("hand over the seccomp listener"))?;
        }
        if std::mem::take(&mut self.may_load_filter) {
            capability::set(&self.last)?;
        }
        Ok(())
    }

    /// What a copy of this process does before it becomes another program than the one that was asked for, so that it
    /// can do no more than that one. `filter` is one that is not loaded yet.
    pub(crate) fn for_another_program(&self, filter: Option<&Filter>) -> Confinement {
        let filter = filter.cloned();
        let last = self.may_load_filter.then_some(self.last);
        Arc::new(move || {
            if let Some(filter) = &filter {
                seccomp::install(&filter.program, filter.flags).map_err(io::Error::other)?;
            }
            match &last {
                Some(last) => capability::set(last).map_err(io::Error::other),
                None => Ok(()),
            }
        })
    }

    /// Becomes the program; comes back only with the reason why not. `preserve` tells how many descriptors after 0 to
    /// 2 it inherits, `filter` is one that is not loaded yet.
    pub(crate) fn execute(
        mut self,
        preserve: u32,
        filter: Option<&Filter>,
        notify: Option<NotifyTarget>,
    ) -> RuntimeError {
        let prepared = (|| {
            process::close_on_exec_from(3 + preserve as i32)?;
            for number in 3..3 + preserve as i32 {
                process::keep_over_exec(number)?;
            }
            filter.map_or(Ok(()), |filter| self.load(filter, notify))
        })();
        if let Err(error) = prepared {
            return error;
        }
        let refused = process::execute(&self.program, &self.arguments, &self.environment);
        execution_error(&self.arguments[0], refused)
    }
}

/// Confines the calling process before it executes a program; see [`Confined::for_another_program`].
pub(crate) type Confinement = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Dropping from the bounding set needs CAP_SETPCAP; one that is as wanted needs nothing.
fn limit_bounding(keep: CapabilitySet) -> Result<(), RuntimeError> {
    match capability::limit_bounding(keep) {
        Err(error)
            if error.errno() == Some(Errno::PERM)
                && capability::bounding().without(keep).is_empty() =>
        {
            Ok(())
        }
        other => Ok(other?),
    }
}

fn set_identity(plan: &ProcessPlan) -> Result<(), RuntimeError> {
    match credentials::set_supplementary_groups(&plan.groups) {
        Ok(()) => {}
        // A user namespace without setgroups(2): then the groups are what they are.
        Err(error) if error.errno() == Some(Errno::PERM) && plan.groups.is_empty() => {}
        Err(error) => return Err(error.into()),
    }
    credentials::set_group(plan.group)?;
    credentials::set_user(plan.user)?;
    Ok(())
}

fn write_labels(plan: &ProcessPlan, labels: Labels, proc: &OwnedFd) -> Result<(), RuntimeError> {
    if let Some(profile) = &plan.apparmor_profile
        && labels.apparmor
    {
        let text = format!("exec {profile}");
        match write_proc(proc, Path::new("self/attr/apparmor/exec"), &text) {
            // Kernels before 5.8 have the shared file only.
            Err(RuntimeError::System(error)) if error.is_not_found() => {
                write_proc(proc, Path::new("self/attr/exec"), &text)?;
            }
            other => other?,
        }
    }
    if let Some(label) = &plan.selinux_label
        && labels.selinux
    {
        write_proc(proc, Path::new("self/attr/exec"), label)?;
    }
    Ok(())
}

fn execution_error(program: &CString, refused: Error) -> RuntimeError {
    let failure = match refused.errno() {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => StartFailure::NotFound,
        Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR | Errno::TXTBSY) => {
            StartFailure::NotExecutable
        }
        _ => return refused.into(),
    };
    let cause = refused.errno().map(words_of).unwrap_or_default();
    RuntimeError::Program {
        program: program.to_string_lossy().into_owned(),
        failure,
        source: ReportedCause(cause),
    }
}

/// Puts three descriptors in the places of standard input, output and error.
pub(crate) fn place_stdio(descriptors: [BorrowedFd<'_>; 3]) -> Result<(), RuntimeError> {
    // Copies first: one of them may be where another has to go.
    let copies: Vec<OwnedFd> = descriptors
        .iter()
        .map(|descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, 3))
        .collect::<Result<_, _>>()
        .map_err(|errno| Error::new("copy the standard descriptors", errno))?;
    for (number, copy) in copies.iter().enumerate() {
        process::place_descriptor(copy.as_fd(), number as i32)?;
    }
    Ok(())
}
