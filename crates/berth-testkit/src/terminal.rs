//! A program at a terminal: a pty of its own, a reader that keeps everything shown, and hands that type.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{Command, needs, process, wait};

/// A running program and its terminal.
#[derive(Debug)]
pub struct Terminal {
    line: String,
    master: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Where the next [`Terminal::expect`] starts to look.
    seen: usize,
}

impl Terminal {
    /// Starts `command` as the leader of a session with a new terminal of 24 by 80.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        match Self::try_start(command) {
            Ok(terminal) => terminal,
            Err(error) => panic!("{error:#}"),
        }
    }

    fn try_start(command: Command) -> Result<Self> {
        let line = command.line();
        let plain = command.into_inner();
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("open a pty")?;
        grantpt(&master).context("grant the pty")?;
        unlockpt(&master).context("unlock the pty")?;
        let name = ptsname(&master, Vec::new()).context("name of the pty")?;
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_string_lossy().as_ref())
            .context("open the terminal")?;
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).context("set the window size")?;

        // setsid(1) makes the terminal the controlling one, which needs code between fork and
        // exec; the program replaces it, so the process id is the program's.
        let mut leader = std::process::Command::new(needs::program("setsid", "util-linux"));
        leader
            .arg("--ctty")
            .arg(plain.get_program())
            .args(plain.get_args());
        for (key, value) in plain.get_envs() {
            match value {
                Some(value) => leader.env(key, value),
                None => leader.env_remove(key),
            };
        }
        let child = leader
            .stdin(Stdio::from(slave.try_clone().context("copy the terminal")?))
            .stdout(Stdio::from(slave.try_clone().context("copy the terminal")?))
            .stderr(Stdio::from(slave))
            .spawn()
            .with_context(|| format!("start `{line}`"))?;
        drop(leader);

        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let mut reader = master.try_clone().context("copy the pty")?;
        let sink = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO is how a pty says that its last user is gone.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if let Ok(mut shown) = sink.lock() {
                    shown.extend_from_slice(&buffer[..count]);
                }
            }
        });
        Ok(Self {
            line,
            master,
            child,
            shown,
            seen: 0,
        })
    }

    /// Everything shown so far.
    pub fn screen(&self) -> String {
        let shown = self
            .shown
            .lock()
            .map(|bytes| bytes.clone())
            .unwrap_or_default();
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Types `text`.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        if let Err(error) = self.master.write_all(text.as_bytes()) {
            panic!("type into `{}`: {error}", self.line);
        }
    }

    /// Waits until `text` is shown after what earlier calls found.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let found = wait::within(wait::PATIENCE, || {
            let screen = self
                .shown
                .lock()
                .map(|bytes| bytes.clone())
                .unwrap_or_default();
            let rest = screen.get(self.seen..)?;
            let at = rest
                .windows(text.len())
                .position(|window| window == text.as_bytes())?;
            Some(self.seen + at + text.len())
        });
        match found {
            Some(end) => self.seen = end,
            None => panic!(
                "{text:?} never shown by `{}`:\n{}",
                self.line,
                self.screen()
            ),
        }
    }

    /// Changes the window's size; the kernel tells the program in front.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let Err(error) = tcsetwinsize(&self.master, size) {
            panic!("resize the terminal of `{}`: {error}", self.line);
        }
    }

    /// Process id of the program.
    pub fn pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    /// Waits for the end; panics with the screen unless the exit code is `code`.
    #[track_caller]
    pub fn exits(mut self, code: i32) {
        match self.finish(wait::PATIENCE) {
            Some(found) if found == code => {}
            Some(found) => {
                panic!(
                    "`{}` ended with {found}, not {code}:\n{}",
                    self.line,
                    self.screen()
                )
            }
            None => panic!("`{}` did not end:\n{}", self.line, self.screen()),
        }
    }

    fn finish(&mut self, limit: Duration) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let descriptor = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).ok()?;
        if !process::wait_for_end(&descriptor, limit) {
            return None;
        }
        let status = self.child.wait().ok()?;
        status.code().or_else(|| Some(128 + status.signal()?))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
