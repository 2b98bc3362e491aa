//! Running a program to its end with captured output and a deadline.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{process, wait};

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command as it would be typed.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard output as it was.
    pub stdout_bytes: Vec<u8>,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Output {
    /// The exit code, 128+n for signal n as shells have it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output without the white space around it.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Panics with everything known unless the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Panics with everything known unless the exit code is `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code() == code, "expected exit code {code}: {self}");
        self
    }

    /// Panics unless standard error contains `text` (letter case aside).
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.to_lowercase().contains(&text.to_lowercase()),
            "expected {text:?} on stderr: {self}"
        );
        self
    }

    /// Panics unless standard output contains `text`.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text),
            "expected {text:?} on stdout: {self}"
        );
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` ended with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.code(),
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// A program about to be run.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    stdin: Vec<u8>,
    deadline: Duration,
}

impl Command {
    /// A program without arguments; standard input is empty.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            inner: std::process::Command::new(program),
            stdin: Vec::new(),
            deadline: wait::PATIENCE,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.inner.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.inner.args(arguments);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(key, value);
        self
    }

    /// Removes a variable of the environment.
    pub fn without_env(mut self, key: &str) -> Self {
        self.inner.env_remove(key);
        self
    }

    /// Removes what the user's surroundings say to clients.
    #[must_use]
    pub fn without_user_settings(self) -> Self {
        [
            "DOCKER_HOST",
            "BERTH_HOST",
            "DOCKER_CONTEXT",
            "DOCKER_API_VERSION",
            "DOCKER_TLS_VERIFY",
        ]
        .iter()
        .fold(self, |command, name| command.without_env(name))
    }

    /// Sets the working directory.
    pub fn directory(mut self, path: impl AsRef<std::path::Path>) -> Self {
        self.inner.current_dir(path);
        self
    }

    /// What the program reads from its standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long it may take.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// The command as it would be typed.
    pub fn line(&self) -> String {
        let mut words = vec![self.inner.get_program().to_string_lossy().into_owned()];
        words.extend(
            self.inner
                .get_args()
                .map(|a| a.to_string_lossy().into_owned()),
        );
        words.join(" ")
    }

    /// The plain command, for callers that spawn it themselves.
    pub fn into_inner(self) -> std::process::Command {
        self.inner
    }

    /// Runs to the end; panics when it cannot be started or misses its deadline.
    #[track_caller]
    pub fn run(self) -> Output {
        match self.try_run() {
            Ok(output) => output,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Runs to the end and gives an error unless it succeeded.
    pub fn checked(self) -> Result<Output> {
        let output = self.try_run()?;
        if !output.status.success() {
            bail!("{output}");
        }
        Ok(output)
    }

    /// Runs to the end, whatever the exit code.
    pub fn try_run(mut self) -> Result<Output> {
        let line = self.line();
        let mut child = self
            .inner
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start `{line}`"))?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        if let Some(mut pipe) = child.stdin.take() {
            let bytes = std::mem::take(&mut self.stdin);
            // The program may end without reading: a broken pipe is its right.
            thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let pid = Pid::from_child(&child);
        let descriptor =
            pidfd_open(pid, PidfdFlags::empty()).context("open a process descriptor")?;
        let in_time = process::wait_for_end(&descriptor, self.deadline);
        if !in_time {
            // The child is ours and not yet waited for, so the id cannot have been used again.
            drop(child.kill());
        }
        let status = child.wait().with_context(|| format!("wait for `{line}`"))?;
        let grace = Duration::from_secs(10);
        let held = |_| b"(still held open)".to_vec();
        let stdout_bytes = stdout.recv_timeout(grace).unwrap_or_else(held);
        let stderr = stderr.recv_timeout(grace).unwrap_or_else(held);
        let output = Output {
            line,
            status,
            stdout: String::from_utf8_lossy(&stdout_bytes).into_owned(),
            stdout_bytes,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        };
        if !in_time {
            bail!(
                "not finished within {} s: {output}",
                wait::scaled(self.deadline).as_secs()
            );
        }
        Ok(output)
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes));
        }
        drop(sender.send(bytes));
    });
    receiver
}
