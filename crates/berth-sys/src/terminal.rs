//! Terminals: pseudo-terminal pairs, sizes, raw mode, the controlling terminal.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};
use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Error, Result};

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pair {
    /// The end that plays the person at the terminal.
    pub master: OwnedFd,
    /// The end the program gets.
    pub slave: OwnedFd,
}

/// A new pseudo-terminal of the host's devpts.
pub fn open_pair() -> Result<Pair> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .attempt(|| "open a terminal")?;
    open_slave(master)
}

/// A new pseudo-terminal of the devpts instance whose root directory is `devpts`.
///
/// The kernel itself opens the program's end (`TIOCGPTPEER`), so no path of a container is trusted.
pub fn open_pair_in(devpts: impl AsFd) -> Result<Pair> {
    let master = rustix::fs::openat2(
        devpts,
        "ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        rustix::fs::ResolveFlags::BENEATH
            | rustix::fs::ResolveFlags::NO_SYMLINKS
            | rustix::fs::ResolveFlags::NO_XDEV,
    )
    .attempt(|| "open a terminal of the container")?;
    open_slave(master)
}

fn open_slave(master: OwnedFd) -> Result<Pair> {
    rustix::pty::unlockpt(&master).attempt(|| "unlock a terminal")?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .attempt(|| "open the program's end of a terminal")?;
    Ok(Pair { master, slave })
}

/// Starts a session and makes `terminal` its controlling terminal.
pub fn become_controlling(terminal: impl AsFd) -> Result<()> {
    match rustix::process::setsid() {
        // Already the leader of a session.
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(Error::new("start a session", errno)),
    }
    rustix::process::ioctl_tiocsctty(terminal).attempt(|| "take the controlling terminal")
}

/// The size of a terminal.
pub fn window_size(terminal: impl AsFd) -> Result<WindowSize> {
    let size = rustix::termios::tcgetwinsize(terminal).attempt(|| "read the size of a terminal")?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Sets the size of a terminal; the foreground programs get SIGWINCH.
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> Result<()> {
    rustix::termios::tcsetwinsize(
        terminal,
        Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .attempt(|| "set the size of a terminal")
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(descriptor: impl AsFd) -> bool {
    rustix::termios::isatty(descriptor)
}

/// A terminal in raw mode; goes back to what it was when this is dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches `terminal` to raw mode: every byte passes unchanged, no signals, no echo.
    pub fn enter(terminal: impl AsFd) -> Result<Self> {
        let terminal = terminal
            .as_fd()
            .try_clone_to_owned()
            .attempt(|| "copy the descriptor of a terminal")?;
        let before =
            rustix::termios::tcgetattr(&terminal).attempt(|| "read the mode of a terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)
            .attempt(|| "set a terminal to raw mode")?;
        Ok(Self { terminal, before })
    }

    /// The mode the terminal had before.
    pub fn restore(&self) -> Result<()> {
        rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before)
            .attempt(|| "restore the mode of a terminal")
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; nobody could be told.
        let _ = self.restore();
    }
}

/// Makes the process group `group` the foreground of the terminal.
///
/// The caller should block or ignore SIGTTOU, or it may be stopped by the call.
pub fn set_foreground(terminal: impl AsFd, group: i32) -> Result<()> {
    let group = rustix::process::Pid::from_raw(group)
        .ok_or(rustix::io::Errno::INVAL)
        .attempt(|| "set the foreground of a terminal")?;
    rustix::termios::tcsetpgrp(terminal, group).attempt(|| "set the foreground of a terminal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_pass_through_the_pair_and_raw_mode_ends() {
        let pair = open_pair().unwrap();
        let size = WindowSize {
            rows: 33,
            columns: 121,
        };
        set_window_size(&pair.master, size).unwrap();
        assert_eq!(window_size(&pair.slave).unwrap(), size);
        let lines = |terminal: &OwnedFd| {
            rustix::termios::tcgetattr(terminal)
                .unwrap()
                .local_modes
                .contains(rustix::termios::LocalModes::ICANON)
        };
        assert!(lines(&pair.slave));
        let raw = RawMode::enter(&pair.slave).unwrap();
        assert!(!lines(&pair.slave));
        drop(raw);
        assert!(lines(&pair.slave));
    }
}
