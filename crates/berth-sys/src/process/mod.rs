//! Processes: making them (clone3(2)), holding them (pidfds), waiting for them, and becoming a program.
//!
//! Owns no process. A [`Child`] is only a handle: dropping it neither kills nor reaps.

mod attributes;

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::error::{Attempt, Error, Result};

pub use attributes::{
    SchedulerAttributes, resource_limit, set_affinity, set_io_priority, set_memory_policy,
    set_personality, set_resource_limit, set_scheduler,
};

/// New mount namespace.
pub const CLONE_NEWNS: u64 = 0x0002_0000;
/// New cgroup namespace.
pub const CLONE_NEWCGROUP: u64 = 0x0200_0000;
/// New UTS namespace.
pub const CLONE_NEWUTS: u64 = 0x0400_0000;
/// New IPC namespace.
pub const CLONE_NEWIPC: u64 = 0x0800_0000;
/// New user namespace.
pub const CLONE_NEWUSER: u64 = 0x1000_0000;
/// New PID namespace.
pub const CLONE_NEWPID: u64 = 0x2000_0000;
/// New network namespace.
pub const CLONE_NEWNET: u64 = 0x4000_0000;
/// New time namespace (unshare(2) and setns(2) only).
pub const CLONE_NEWTIME: u64 = 0x80;
/// The new process becomes a sibling: its parent is the caller's parent.
pub const CLONE_PARENT: u64 = 0x8000;

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What the new process shall be.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneRequest<'a> {
    /// `CLONE_NEW*` and [`CLONE_PARENT`] bits.
    pub flags: u64,
    /// The cgroup v2 directory the process is born in (Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A process we made.
#[derive(Debug)]
pub struct Child {
    /// Its id in our PID namespace.
    pub pid: i32,
    /// Its handle, close-on-exec.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By exit(2), with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// The code a shell reports: the exit code, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// `struct clone_args` of clone3(2), version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a process that runs `child` on a copy of our memory and ends with the code it returns.
///
/// The caller must have one thread only, which is checked: so the copy is a whole program and `child` may
/// allocate, lock and call as it likes. A panic in it ends the process with code 101.
pub fn clone_process(request: &CloneRequest<'_>, child: impl FnOnce() -> i32) -> Result<Child> {
    if thread_count()? != 1 {
        return Err(Error::other(
            "make a process",
            "the caller has more than one thread",
        ));
    }
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArgs {
        flags: request.flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: if request.flags & CLONE_PARENT != 0 {
            0
        } else {
            libc::SIGCHLD as u64
        },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = request.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the arguments are valid and their size is told. Without CLONE_VM and with one thread the
    // child has its own copy of all memory and of the only stack, so it may go on from here as after fork(2).
    let mut answer =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArgs>()) };
    // Filters that cannot look into clone3's arguments pretend it is not there, so that callers fall back to
    // clone(2): Docker's default profile does, and our own init runs under it.
    if answer == -1
        && request.cgroup.is_none()
        && Errno::from_io_error(&std::io::Error::last_os_error()) == Some(Errno::NOSYS)
    {
        let flags = arguments.flags | arguments.exit_signal;
        // SAFETY: as above; a null stack means a copy of ours, and CLONE_PIDFD puts the descriptor where the
        // third argument points. The remaining arguments are for flags that are not set.
        answer = unsafe {
            libc::syscall(
                libc::SYS_clone,
                flags,
                0_usize,
                &raw mut pidfd,
                0_usize,
                0_usize,
            )
        };
    }
    match answer {
        -1 => Err(Error::new(
            "make a process",
            std::io::Error::last_os_error(),
        )),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
            exit_now(code)
        }
        pid => {
            // SAFETY: the kernel has put a fresh descriptor here (CLONE_PIDFD), which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child {
                pid: pid as i32,
                pidfd,
            })
        }
    }
}

/// Ends the process at once: no destructors, no exit handlers, which belong to the process we are a copy of.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// The number of threads of this process.
pub fn thread_count() -> Result<u64> {
    // Each task is a directory of /proc/self/task: the link count is theirs plus 2.
    let stat = rustix::fs::stat("/proc/self/task").attempt(|| "count the threads")?;
    Ok((stat.st_nlink as u64).saturating_sub(2))
}

impl Child {
    /// Waits for the end of the process and reaps it.
    pub fn wait(&self) -> Result<ExitStatus> {
        loop {
            if let Some(reaped) = reap(ReapTarget::PidFd(self.pidfd.as_fd()), false)? {
                return Ok(reaped.status);
            }
        }
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: i32) -> Result<()> {
        send_signal(&self.pidfd, signal)
    }
}

/// Whom to wait for.
#[derive(Debug, Clone, Copy)]
pub enum ReapTarget<'a> {
    /// Any child.
    Any,
    /// The child with this id.
    Pid(i32),
    /// The child behind this pidfd.
    PidFd(BorrowedFd<'a>),
}

/// A child that ended and is reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Its id.
    pub pid: i32,
    /// How it ended.
    pub status: ExitStatus,
}

/// Reaps one ended child; `None` when `no_hang` is set and none has ended. No child at all is an error (ECHILD).
pub fn reap(target: ReapTarget<'_>, no_hang: bool) -> Result<Option<Reaped>> {
    let (kind, id) = match target {
        ReapTarget::Any => (libc::P_ALL, 0),
        ReapTarget::Pid(pid) => (libc::P_PID, pid as libc::id_t),
        ReapTarget::PidFd(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t),
    };
    // __WALL: children made with CLONE_PARENT by a helper have no exit signal and would be left out.
    let mut options = libc::WEXITED | libc::__WALL;
    if no_hang {
        options |= libc::WNOHANG;
    }
    loop {
        // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
        let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `information` is valid for writing during the call.
        let answer = unsafe { libc::waitid(kind, id, &raw mut information, options) };
        if answer != 0 {
            let cause = std::io::Error::last_os_error();
            if cause.raw_os_error() == Some(libc::EINTR) {
                continue;
            }
            return Err(Error::new("wait for a child", cause));
        }
        // SAFETY: waitid(2) has filled the SIGCHLD fields, or left zeroes when nothing had ended.
        let (pid, status) = unsafe { (information.si_pid(), information.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let status = if information.si_code == libc::CLD_EXITED {
            ExitStatus::Exited(status)
        } else {
            ExitStatus::Signaled(status)
        };
        return Ok(Some(Reaped { pid, status }));
    }
}

/// A pidfd of the process `pid`.
pub fn open_pidfd(pid: i32) -> Result<OwnedFd> {
    let attempt = || format!("open process {pid}");
    let pid = Pid::from_raw(pid)
        .filter(|_| pid > 0)
        .ok_or(Errno::SRCH)
        .attempt(attempt)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).attempt(attempt)
}

/// Sends `signal` (0 only probes) through a pidfd, which can never hit another process.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed; pidfd_send_signal(2) takes a null siginfo.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if answer != 0 {
        return Err(Error::new(
            format!("send signal {signal} to a process"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Sends `signal` to the process `pid`, which the caller knows to be the right one.
pub fn send_signal_to(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill(2) passes no memory.
    if unsafe { libc::kill(pid, signal) } != 0 {
        return Err(Error::new(
            format!("send signal {signal} to process {pid}"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Whether the process behind a pidfd has ended (it may still wait to be reaped).
pub fn has_ended(pidfd: impl AsFd) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut entries = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = rustix::io::retry_on_intr(|| poll(&mut entries, Some(&zero)))
        .attempt(|| "look at a process")?;
    Ok(ready > 0)
}

/// Waits at most `timeout` for the process behind a pidfd to end; tells whether it did.
pub fn wait_for_end(pidfd: impl AsFd, timeout: std::time::Duration) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let deadline = std::time::Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut entries = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut entries, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("wait for a process", errno)),
        }
    }
}

/// Whether a process with a pidfd is a child of ours that has ended and not been reaped.
pub fn is_zombie_child(pidfd: impl AsFd) -> bool {
    matches!(
        rustix::process::waitid(
            WaitId::PidFd(pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
        ),
        Ok(Some(_))
    )
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11; before, one by one).
pub fn close_on_exec_from(first: RawFd) -> Result<()> {
    /// `CLOSE_RANGE_CLOEXEC` of close_range(2).
    const CLOSE_ON_EXEC: libc::c_uint = 4;
    // SAFETY: no memory is passed; marking descriptors close-on-exec breaks no owner in this process.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            libc::c_uint::MAX,
            CLOSE_ON_EXEC,
        )
    };
    if answer == 0 {
        return Ok(());
    }
    let attempt = || "mark descriptors close-on-exec";
    for entry in std::fs::read_dir("/proc/self/fd").attempt(attempt)? {
        let name = entry.attempt(attempt)?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if number >= first {
            // SAFETY: fcntl(2) with an integer argument; a descriptor closed meanwhile gives EBADF.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Makes `descriptor` available as the number `number`, inherited by the next program.
///
/// What was open under that number is closed, whoever thought to own it: for a process about to execute.
pub fn place_descriptor(descriptor: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    let attempt = || format!("place a descriptor as {number}");
    if descriptor.as_raw_fd() == number {
        return rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).attempt(attempt);
    }
    // SAFETY: dup2(2) passes no memory; the caller is about to execute, see above.
    if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } < 0 {
        return Err(Error::new(attempt(), std::io::Error::last_os_error()));
    }
    Ok(())
}

/// Makes the open descriptor `number`, inherited from our parent, survive the next execve(2). EBADF if there is none.
pub fn keep_over_exec(number: RawFd) -> Result<()> {
    // SAFETY: fcntl(2) with an integer argument.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } != 0 {
        return Err(Error::new(
            format!("keep descriptor {number}"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// A copy of the descriptor `number` that our parent left us, owned. EBADF if there is none.
pub fn duplicate_inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl(2) with an integer argument; the result is a fresh descriptor that nobody else owns.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(Error::new(
            format!("take over descriptor {number}"),
            std::io::Error::last_os_error(),
        ));
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The strings of a program call in the form the kernel takes.
#[derive(Debug)]
struct StringTable<'a> {
    pointers: Vec<*const libc::c_char>,
    _strings: &'a [CString],
}

impl<'a> StringTable<'a> {
    fn new(strings: &'a [CString]) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|text| text.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self {
            pointers,
            _strings: strings,
        }
    }
}

/// Becomes the program at `path`; comes back only with the reason why not.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> Error {
    let argument_table = StringTable::new(arguments);
    let environment_table = StringTable::new(environment);
    // SAFETY: the path and both tables are valid, null-terminated and outlive the call.
    unsafe {
        libc::execve(
            path.as_ptr(),
            argument_table.pointers.as_ptr(),
            environment_table.pointers.as_ptr(),
        )
    };
    Error::new(
        format!("execute {}", path.to_string_lossy()),
        std::io::Error::last_os_error(),
    )
}

/// Becomes the program behind a descriptor; comes back only with the reason why not.
pub fn execute_descriptor(
    program: impl AsFd,
    arguments: &[CString],
    environment: &[CString],
) -> Error {
    let argument_table = StringTable::new(arguments);
    let environment_table = StringTable::new(environment);
    // SAFETY: the empty path is static and both tables are valid, null-terminated and outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argument_table.pointers.as_ptr(),
            environment_table.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Error::new("execute a program", std::io::Error::last_os_error())
}

/// Has the process that `command` makes call `prepare` as the last thing before it becomes the program; an error keeps
/// it from that. For callers with one thread, whose copy is a whole program that may allocate and lock.
pub fn before_program(
    command: &mut Command,
    prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: `prepare` runs on a copy of our memory after fork(2). Should another thread have held a lock when the copy
    // was made, the copy waits for ever; no memory is shared, so none can be harmed.
    unsafe { command.pre_exec(prepare) };
}

/// Convenience for signatures of functions that only come back with an error.
pub type Never = Infallible;

/// Makes orphans among our descendants our children (or no longer).
pub fn set_child_subreaper(enable: bool) -> Result<()> {
    // SAFETY: prctl(2) with integer arguments.
    if unsafe {
        libc::prctl(
            libc::PR_SET_CHILD_SUBREAPER,
            libc::c_ulong::from(enable),
            0,
            0,
            0,
        )
    } != 0
    {
        return Err(Error::new(
            "become the reaper of orphans",
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Whether others may trace this process and read its memory and descriptors (`PR_SET_DUMPABLE`).
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    // SAFETY: prctl(2) with integer arguments.
    if unsafe {
        libc::prctl(
            libc::PR_SET_DUMPABLE,
            libc::c_ulong::from(dumpable),
            0,
            0,
            0,
        )
    } != 0
    {
        return Err(Error::new(
            "set whether the process may be traced",
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// The signal the kernel sends us when our parent ends; none with `None`.
pub fn set_parent_death_signal(signal: Option<i32>) -> Result<()> {
    // SAFETY: prctl(2) with integer arguments.
    if unsafe {
        libc::prctl(
            libc::PR_SET_PDEATHSIG,
            signal.unwrap_or(0) as libc::c_ulong,
            0,
            0,
            0,
        )
    } != 0
    {
        return Err(Error::new(
            "set the signal for the parent's end",
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// A fresh session keyring named `name`, so that no keys of ours are visible; its serial number.
pub fn join_session_keyring(name: &CStr) -> Result<i32> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the name is a C string that outlives the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
            0,
            0,
            0,
        )
    };
    if answer < 0 {
        return Err(Error::new(
            format!("join the session keyring {}", name.to_string_lossy()),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(answer as i32)
}
