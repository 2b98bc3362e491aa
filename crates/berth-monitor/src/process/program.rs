//! A container made by another OCI runtime, executed for every operation with runc's command line.
//!
//! Its root file system is mounted on `DIR/rootfs` in a mount namespace of the monitor's own, so nothing of it is seen by the host
//! and nothing is left when the monitor is gone.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use berth_sys::mount::Propagation;
use berth_sys::process::{self, CloneRequest, ExitStatus};
use oci_spec::runtime::{LinuxResources, Process};
use serde::Deserialize;

use super::backend::Made;
use super::session::ProcessEnds;
use crate::error::{MonitorError, StartFailure};
use crate::launch::LaunchRequest;
use crate::limits;

/// Files of ours in the container's directory.
const PID_FILE: &str = "init.pid";
const CONSOLE_SOCKET: &str = "console.sock";
const ERROR_LOG: &str = "runtime.log";
const PROCESS_FILE: &str = "process.json";
const ROOT: &str = "rootfs";

pub(super) struct ProgramContainer {
    path: PathBuf,
    arguments: Vec<String>,
    state_root: PathBuf,
    directory: PathBuf,
    id: String,
}

impl ProgramContainer {
    pub(super) fn new(request: &LaunchRequest, path: &Path, arguments: &[String]) -> Self {
        Self {
            path: path.to_owned(),
            arguments: arguments.to_vec(),
            state_root: request.state_root.clone(),
            directory: request.bundle.clone(),
            id: request.id.clone(),
        }
    }

    pub(super) fn create(
        &self,
        root: Option<OwnedFd>,
        ends: Option<ProcessEnds>,
        user_program: &str,
    ) -> Result<Made<()>, MonitorError> {
        if let Some(root) = root {
            self.mount_root(&root)?;
        }
        let pid_file = self.directory.join(PID_FILE);
        let mut arguments: Vec<OsString> = vec![
            "create".into(),
            "--bundle".into(),
            self.directory.clone().into(),
            "--pid-file".into(),
            pid_file.clone().into(),
        ];
        let console = self.console(ends.is_none(), &mut arguments)?;
        arguments.push((&self.id).into());
        let made = self
            .run("create", &arguments, ends)
            .map_err(|e| about(e, user_program))
            .and_then(|()| {
                let pid = read_pid(&pid_file)?;
                let pidfd = berth_sys::process::open_pidfd(pid)?;
                let console = console.as_ref().map(receive_console).transpose()?;
                Ok(Made {
                    backend: (),
                    pid,
                    pidfd,
                    console,
                    notes: Vec::new(),
                })
            });
        self.remove_files(&[PID_FILE, CONSOLE_SOCKET]);
        if made.is_err() {
            self.delete();
        }
        made
    }

    fn mount_root(&self, root: &OwnedFd) -> Result<(), MonitorError> {
        let target = self.directory.join(ROOT);
        berth_sys::fs::create_dir_all(&target)?;
        berth_sys::namespace::unshare(berth_sys::process::CLONE_NEWNS)?;
        // Mounts and unmounts of the host still arrive, ours stay here.
        berth_sys::mount::set_propagation(Path::new("/"), Propagation::Slave, true)?;
        berth_sys::mount::attach_at(root, &target)?;
        Ok(())
    }

    pub(super) fn start(&self) -> Result<(), MonitorError> {
        self.run("start", &["start".into(), (&self.id).into()], None)
    }

    pub(super) fn kill(&self, signal: i32, all: bool) -> Result<(), MonitorError> {
        let mut arguments: Vec<OsString> = vec!["kill".into()];
        if all {
            arguments.push("--all".into());
        }
        arguments.extend([(&self.id).into(), signal.to_string().into()]);
        self.run("kill", &arguments, None)
    }

    pub(super) fn pause(&self) -> Result<(), MonitorError> {
        self.run("pause", &["pause".into(), (&self.id).into()], None)
    }

    pub(super) fn resume(&self) -> Result<(), MonitorError> {
        self.run("resume", &["resume".into(), (&self.id).into()], None)
    }

    pub(super) fn update(&self, resources: &LinuxResources) -> Result<(), MonitorError> {
        let path = self.directory.join("update.json");
        let content = serde_json::to_vec(resources).map_err(|source| MonitorError::Document {
            path: path.display().to_string(),
            source,
        })?;
        berth_sys::fs::write(&path, &content)?;
        let arguments = [
            "update".into(),
            "--resources".into(),
            path.clone().into(),
            OsString::from(&self.id),
        ];
        let result = self.run("update", &arguments, None);
        self.remove_files(&["update.json"]);
        result
    }

    pub(super) fn exec(
        &self,
        process: &Process,
        ends: Option<ProcessEnds>,
        user_program: &str,
    ) -> Result<Made<()>, MonitorError> {
        let file = self.directory.join(PROCESS_FILE);
        let pid_file = self.directory.join(PID_FILE);
        let content = serde_json::to_vec(process).map_err(|source| MonitorError::Document {
            path: file.display().to_string(),
            source,
        })?;
        berth_sys::fs::write(&file, &content)?;
        let mut arguments: Vec<OsString> = vec![
            "exec".into(),
            "--detach".into(),
            "--process".into(),
            file.into(),
            "--pid-file".into(),
            pid_file.clone().into(),
        ];
        let result = self
            .console(ends.is_none(), &mut arguments)
            .and_then(|console| {
                arguments.push((&self.id).into());
                self.run("exec", &arguments, ends)
                    .map_err(|error| about(error, user_program))?;
                let pid = read_pid(&pid_file)?;
                // The process may have ended, but it is our child and not reaped yet.
                let pidfd = berth_sys::process::open_pidfd(pid)?;
                let console = console.as_ref().map(receive_console).transpose()?;
                Ok(Made {
                    backend: (),
                    pid,
                    pidfd,
                    console,
                    notes: Vec::new(),
                })
            });
        self.remove_files(&[PROCESS_FILE, PID_FILE, CONSOLE_SOCKET]);
        result
    }

    /// What is left, in words.
    pub(super) fn delete(&self) -> Option<String> {
        let result = self.run(
            "delete",
            &["delete".into(), "--force".into(), (&self.id).into()],
            None,
        );
        self.remove_files(&[ERROR_LOG]);
        let root = self.directory.join(ROOT);
        // Not there, or not ours, when the bundle came with its root.
        if berth_sys::mount::detach(&root).is_ok() {
            let _ = berth_sys::fs::remove_dir(&root);
        }
        result.err().map(|error| error.to_failure().message)
    }

    /// Listens for a terminal when one is wanted.
    fn console(
        &self,
        wanted: bool,
        arguments: &mut Vec<OsString>,
    ) -> Result<Option<UnixListener>, MonitorError> {
        if !wanted {
            return Ok(None);
        }
        let path = self.directory.join(CONSOLE_SOCKET);
        let socket = berth_sys::socket::listen(&path, 1)?;
        arguments.extend(["--console-socket".into(), path.into()]);
        Ok(Some(socket.into()))
    }

    fn remove_files(&self, names: &[&str]) {
        for name in names {
            let _ = berth_sys::fs::remove_file(&self.directory.join(name));
        }
    }

    fn run(
        &self,
        name: &'static str,
        arguments: &[OsString],
        ends: Option<ProcessEnds>,
    ) -> Result<(), MonitorError> {
        let log = self.directory.join(ERROR_LOG);
        berth_sys::fs::remove_file(&log)?;
        let mut words = vec![self.path.clone().into_os_string()];
        words.extend(self.arguments.iter().map(OsString::from));
        words.extend(["--root".into(), self.state_root.clone().into_os_string()]);
        words.extend([
            "--log".into(),
            log.clone().into_os_string(),
            "--log-format".into(),
            "json".into(),
        ]);
        words.extend_from_slice(arguments);
        let status = execute(name, words, ends)?;
        if status == ExitStatus::Exited(0) {
            return Ok(());
        }
        let said = berth_sys::fs::read_bounded(&log, limits::MAX_RUNTIME_ERROR).unwrap_or_default();
        let message = last_message(&said)
            .unwrap_or_else(|| format!("failed with exit code {}", status.code()));
        Err(MonitorError::Program {
            program: self.path.display().to_string(),
            command: name,
            failure: None,
            message,
        })
    }
}

/// Executes a program and waits for its end. Not by the standard library, whose children keep our signal mask: the container would
/// be born with every signal blocked.
fn execute(
    name: &'static str,
    words: Vec<OsString>,
    ends: Option<ProcessEnds>,
) -> Result<ExitStatus, MonitorError> {
    let text = |word: OsString| {
        CString::new(word.into_vec()).map_err(|error| {
            MonitorError::State(format!("a word for the runtime is not a string: {error}"))
        })
    };
    let words: Vec<CString> = words.into_iter().map(text).collect::<Result<_, _>>()?;
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = name;
            entry.push("=");
            entry.push(value);
            text(entry)
        })
        .collect::<Result<_, _>>()?;
    let child = process::clone_process(&CloneRequest::default(), || {
        // Standard descriptors are on /dev/null already.
        let placed = ends.as_ref().is_none_or(|ends| {
            let list = [(&ends.stdin, 0), (&ends.stdout, 1), (&ends.stderr, 2)];
            list.into_iter()
                .all(|(end, number)| process::place_descriptor(end.as_fd(), number).is_ok())
        });
        if placed && berth_sys::signal::reset().is_ok() {
            let _ = process::execute(&words[0], &words, &environment);
        }
        127
    })?;
    // With it go our copies of the container's ends.
    drop(ends);
    if !process::wait_for_end(&child.pidfd, limits::RUNTIME_PROGRAM)? {
        // It is stuck; without it the container can at least be reported as failed.
        child.signal(9)?;
    }
    let status = child.wait()?;
    if status == ExitStatus::Exited(127)
        && !Path::new(OsStr::from_bytes(words[0].as_bytes())).exists()
    {
        return Err(MonitorError::Program {
            program: words[0].to_string_lossy().into_owned(),
            command: name,
            failure: None,
            message: "there is no such runtime".to_owned(),
        });
    }
    Ok(status)
}

fn read_pid(path: &Path) -> Result<i32, MonitorError> {
    let text = berth_sys::fs::read_bounded(path, 64)?;
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or_else(|| MonitorError::Protocol(format!("no process id in {}", path.display())))
}

fn receive_console(listener: &UnixListener) -> Result<OwnedFd, MonitorError> {
    // The runtime has connected and sent before it ended.
    listener
        .set_nonblocking(true)
        .and_then(|()| listener.accept())
        .map_err(|error| berth_sys::Error::new("take the terminal from the runtime", error).into())
        .and_then(|(stream, _)| {
            let message = berth_sys::socket::receive(&stream, 4096, 1)?;
            message
                .descriptors
                .into_iter()
                .next()
                .ok_or_else(|| MonitorError::Protocol("the runtime sent no terminal".into()))
        })
}

/// The last error in a runtime's log: JSON lines with `level` and `msg`.
fn last_message(log: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        msg: String,
    }
    let lines: Vec<Line> = log
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let error = lines
        .iter()
        .rev()
        .find(|line| matches!(line.level.as_str(), "error" | "fatal"));
    match error.or(lines.last()) {
        Some(line) => Some(line.msg.clone()),
        None => {
            let text = String::from_utf8_lossy(log);
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        }
    }
}

/// Finds out whether a runtime speaks of the user's program, and not of some mount or hook.
fn about(error: MonitorError, user_program: &str) -> MonitorError {
    match error {
        MonitorError::Program {
            program,
            command,
            message,
            ..
        } => {
            let failure = message
                .contains(user_program)
                .then(|| start_failure(&message))
                .flatten();
            MonitorError::Program {
                program,
                command,
                message,
                failure,
            }
        }
        other => other,
    }
}

/// The same words that Docker looks for in what runtimes say.
fn start_failure(message: &str) -> Option<StartFailure> {
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file",
    ]) {
        Some(StartFailure::NotFound)
    } else if has(&[
        "permission denied",
        "not a directory",
        "is a directory",
        "exec format error",
    ]) {
        Some(StartFailure::NotExecutable)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_in_a_log_is_found() {
        let log = b"{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\": executable file not found in $PATH\"}\n{\"level\":\"debug\",\"msg\":\"d\"}\n";
        let message = last_message(log).unwrap();
        assert!(message.starts_with("exec:"));
        assert_eq!(start_failure(&message), Some(StartFailure::NotFound));
        assert_eq!(
            start_failure("exec /x: permission denied"),
            Some(StartFailure::NotExecutable)
        );
        assert_eq!(start_failure("cgroup is full"), None);
        assert_eq!(
            last_message(b"plain words\n").as_deref(),
            Some("plain words")
        );
        assert_eq!(last_message(b""), None);
    }
}
