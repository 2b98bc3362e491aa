//! Staying with a program in the foreground: signals go to it, a terminal's bytes are copied both ways.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::process::{ExitStatus, ReapTarget};
use berth_sys::terminal::{RawMode, set_window_size, window_size};
use berth_sys::{Error, process, signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Failure;

/// Bytes copied at once.
const BUFFER: usize = 32 << 10;

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
const SIGURG: i32 = 23;

/// The foreground: signals are held back from before the program starts, so that none is lost or ends us.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: OwnedFd,
    terminal: Option<(OwnedFd, Option<RawMode>)>,
}

impl Foreground {
    /// Holds signals back; a process that is started from here on has none blocked all the same.
    pub(super) fn hold_signals() -> Result<(), Failure> {
        Ok(signal::block_all()?)
    }

    /// Holds signals back, and sets our own terminal to raw mode when the program has one.
    pub(super) fn enter(console: Option<OwnedFd>) -> Result<Self, Failure> {
        Self::hold_signals()?;
        let signals = signal::signal_fd_all()?;
        let terminal = match console {
            Some(master) => {
                let ours = rustix::stdio::stdin();
                if let Ok(size) = window_size(ours) {
                    set_window_size(&master, size)?;
                }
                let raw = rustix::termios::isatty(ours)
                    .then(|| RawMode::enter(ours))
                    .transpose()?;
                Some((master, raw))
            }
            None => None,
        };
        Ok(Self { signals, terminal })
    }

    /// Copies and passes on until the process has ended, and reaps it.
    pub(super) fn attend(self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<ExitStatus, Failure> {
        let mut input_open = self.terminal.is_some();
        let mut output_open = self.terminal.is_some();
        let status = loop {
            let master = self.terminal.as_ref().map(|(master, _)| master);
            // The end is told by the pidfd: a SIGCHLD may have come before signals were held back, or stand for
            // several children at once.
            let mut entries = vec![
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            ];
            if let Some(master) = master {
                if output_open {
                    entries.push(PollFd::from_borrowed_fd(master.as_fd(), PollFlags::IN));
                }
                if input_open {
                    entries.push(PollFd::from_borrowed_fd(
                        rustix::stdio::stdin(),
                        PollFlags::IN,
                    ));
                }
            }
            match poll(&mut entries, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::new("wait for the program", errno).into()),
            }
            let ready: Vec<bool> = entries
                .iter()
                .map(|entry| !entry.revents().is_empty())
                .collect();
            drop(entries);
            if let Some(master) = master {
                let mut index = 2;
                if output_open {
                    if ready[index] {
                        // The end of a terminal is EIO: its last user has gone.
                        output_open = copy(master.as_fd(), rustix::stdio::stdout());
                    }
                    index += 1;
                }
                if input_open && ready.get(index) == Some(&true) {
                    input_open = copy(rustix::stdio::stdin(), master.as_fd());
                }
            }
            if ready[0]
                && let Some(status) = self.pass_signals(pid, pidfd)?
            {
                break status;
            }
            if ready[1] {
                break reap(pid)?;
            }
        };
        if let Some((master, _)) = &self.terminal {
            // What the program wrote last may still be on its way.
            while output_open && is_readable(master.as_fd()) {
                output_open = copy(master.as_fd(), rustix::stdio::stdout());
            }
        }
        Ok(status)
    }

    /// Passes pending signals on; the status when one tells that the process has ended.
    fn pass_signals(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<Option<ExitStatus>, Failure> {
        while let Some(number) = signal::read_descriptor(&self.signals)? {
            match number {
                SIGCHLD => {
                    // Orphans of the container come to us as well.
                    while let Ok(Some(reaped)) = process::reap(ReapTarget::Any, true) {
                        if reaped.pid == pid {
                            return Ok(Some(reaped.status));
                        }
                    }
                }
                SIGWINCH => {
                    if let Some((master, _)) = &self.terminal
                        && let Ok(size) = window_size(rustix::stdio::stdin())
                    {
                        set_window_size(master, size)?;
                    }
                }
                SIGURG => {}
                other => {
                    // It may have ended just now, which is told in a moment.
                    let _ = process::send_signal(pidfd, other);
                }
            }
        }
        Ok(None)
    }
}

fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    let mut entries = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let zero = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut entries, Some(&zero)), Ok(1..))
        && entries[0].revents().contains(PollFlags::IN)
}

/// Copies what is there; `false` when no more will come.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0_u8; BUFFER];
    let length = match rustix::io::read(from, &mut buffer[..]) {
        Ok(0) => return false,
        Ok(length) => length,
        Err(Errno::INTR | Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Waits for a process that is our child.
pub(super) fn reap(pid: i32) -> Result<ExitStatus, Failure> {
    process::reap(ReapTarget::Pid(pid), false)?
        .map(|reaped| reaped.status)
        .ok_or_else(|| Failure::Usage("the process is not there".to_owned()))
}

/// The exit code that stands for a status.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    u8::try_from(status.code() & 0xff).unwrap_or(u8::MAX)
}
