//! Signals of this process: the mask, the dispositions, and signals as a descriptor.

use std::os::fd::{FromRawFd, OwnedFd};

use berth_types::Signal;

use crate::error::{Error, Result};

/// Signals that tell of a defect in this process; never blocked.
const FAULTS: [i32; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGABRT,
];

/// The highest signal number.
const HIGHEST: i32 = 64;

fn set_of(signals: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset(3) gives it its value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for writing.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: `set` is valid; a number out of range is refused with EINVAL and changes nothing.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

fn set_mask(how: libc::c_int, set: &libc::sigset_t) -> Result<()> {
    // SAFETY: the set is valid during the call; the old mask is not asked for.
    if unsafe { libc::sigprocmask(how, set, std::ptr::null_mut()) } != 0 {
        return Err(Error::new(
            "set the signal mask",
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Blocks every signal but those that tell of a defect in this process.
pub fn block_all() -> Result<()> {
    set_mask(
        libc::SIG_SETMASK,
        &set_of((1..=HIGHEST).filter(|signal| !FAULTS.contains(signal))),
    )
}

/// Blocks the given signals in addition.
pub fn block(signals: &[Signal]) -> Result<()> {
    set_mask(
        libc::SIG_BLOCK,
        &set_of(signals.iter().map(|signal| signal.number())),
    )
}

/// Blocks nothing.
pub fn unblock_all() -> Result<()> {
    set_mask(libc::SIG_SETMASK, &set_of([]))
}

/// Undoes what whoever started us may have left: blocked signals, and an ignored SIGCHLD, with which the kernel
/// forgets our children before we can ask how they ended (wait(2), notes).
pub fn forget_inherited() -> Result<()> {
    // SAFETY: SIG_DFL is a valid disposition.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(Error::new(
            "be told of ended children",
            std::io::Error::last_os_error(),
        ));
    }
    unblock_all()
}

/// The kernel's `struct sigaction`, all zero: the default disposition, no flags, an empty mask.
#[repr(C)]
#[derive(Default)]
struct DefaultAction([u64; 4]);

/// Gives every signal its default disposition and blocks none: what a program expects to start with.
///
/// By the system call, since the C library refuses to touch the two signals it keeps for itself, which whoever
/// started us may have ignored.
pub fn reset() -> Result<()> {
    const MASK_SIZE: usize = 8;
    let action = DefaultAction::default();
    for signal in 1..=HIGHEST {
        // SAFETY: the action is valid during the call and large enough on every architecture; the two signals
        // that cannot be changed are refused with EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const action,
                std::ptr::null_mut::<u64>(),
                MASK_SIZE,
            )
        };
    }
    unblock_all()
}

/// Ignores a signal.
pub fn ignore(signal: Signal) -> Result<()> {
    // SAFETY: SIG_IGN is a valid disposition.
    if unsafe { libc::signal(signal.number(), libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(Error::new(
            format!("ignore signal {}", signal.number()),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Gives a signal its default disposition.
pub fn restore_default(signal: Signal) -> Result<()> {
    // SAFETY: SIG_DFL is a valid disposition.
    if unsafe { libc::signal(signal.number(), libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(Error::new(
            format!("restore signal {}", signal.number()),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// A descriptor that is readable while one of `signals` is pending; non-blocking, close-on-exec.
///
/// The signals must be blocked by the caller. See [`read_descriptor`].
pub fn signal_fd(signals: &[Signal]) -> Result<OwnedFd> {
    descriptor_of(set_of(signals.iter().map(|signal| signal.number())))
}

/// As [`signal_fd`] for every signal that can be blocked and does not tell of a defect.
pub fn signal_fd_all() -> Result<OwnedFd> {
    descriptor_of(set_of(
        (1..=HIGHEST).filter(|signal| !FAULTS.contains(signal)),
    ))
}

fn descriptor_of(set: libc::sigset_t) -> Result<OwnedFd> {
    // SAFETY: the set is valid during the call.
    let descriptor =
        unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(Error::new(
            "open a descriptor for signals",
            std::io::Error::last_os_error(),
        ));
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The next pending signal of a descriptor made here; `None` when there is none.
pub fn read_descriptor(descriptor: &OwnedFd) -> Result<Option<i32>> {
    let mut buffer = [0_u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(descriptor, &mut buffer[..]) {
        Ok(length) if length == buffer.len() => {
            // The number is the first field, `ssi_signo`.
            Ok(Some(
                u32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as i32,
            ))
        }
        Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(errno) => Err(Error::new("read a signal", errno)),
    }
}
