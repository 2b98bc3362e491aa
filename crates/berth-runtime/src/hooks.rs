//! Hooks: programs of the caller that run at fixed points of a container's life (config.md, "POSIX-platform Hooks").
//!
//! Owns the running of one stage. Who calls which stage in which namespace is with the callers.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_sys::process;
use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::credentials::Confinement;
use crate::error::{ReportedCause, RuntimeError};
use crate::limits;

/// A stage in which hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// After the namespaces are made, by the creator (deprecated in the specification, still used).
    Prestart,
    /// With `prestart`, after it.
    CreateRuntime,
    /// In the container's namespaces, before its root becomes the root.
    CreateContainer,
    /// In the container, before its program.
    StartContainer,
    /// After the program was started, by who started it.
    Poststart,
    /// After the container was deleted.
    Poststop,
}

impl Stage {
    /// Its name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// Every stage, in order.
pub const STAGES: [Stage; 6] = [
    Stage::Prestart,
    Stage::CreateRuntime,
    Stage::CreateContainer,
    Stage::StartContainer,
    Stage::Poststart,
    Stage::Poststop,
];

/// The constant for a stage's name that came from another process.
pub(crate) fn stage_name(name: &str) -> &'static str {
    STAGES
        .iter()
        .map(|stage| stage.name())
        .find(|known| *known == name)
        .unwrap_or("unknown")
}

/// Hooks must have absolute paths and positive timeouts.
pub(crate) fn check(stage: Stage, hooks: Option<&[Hook]>) -> Result<(), RuntimeError> {
    for (index, hook) in hooks.unwrap_or_default().iter().enumerate() {
        let field = |name: &str| format!("hooks.{}[{index}].{name}", stage.name());
        if !hook.path().is_absolute() {
            return Err(RuntimeError::invalid(
                field("path"),
                format!("{} must be an absolute path", hook.path().display()),
            ));
        }
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err(RuntimeError::invalid(
                field("timeout"),
                "must be greater than zero",
            ));
        }
    }
    Ok(())
}

/// Runs the hooks of one stage in order, each with the state document on its standard input; the first failure ends it.
/// With `confinement` they can do what that leaves them.
pub(crate) fn run(
    stage: Stage,
    hooks: &[Hook],
    state: &[u8],
    directory: &Path,
    confinement: Option<Confinement>,
) -> Result<(), RuntimeError> {
    hooks
        .iter()
        .try_for_each(|hook| run_in(stage, hook, state, directory, confinement.as_ref()))
}

/// As [`run`] for a stage whose failures are warnings and do not keep the others from running; the failures, one
/// sentence each.
pub(crate) fn run_all(stage: Stage, hooks: &[Hook], state: &[u8], directory: &Path) -> Vec<String> {
    hooks
        .iter()
        .filter_map(|hook| run_in(stage, hook, state, directory, None).err())
        .map(|error| error.chain())
        .collect()
}

fn run_in(
    stage: Stage,
    hook: &Hook,
    state: &[u8],
    directory: &Path,
    confinement: Option<&Confinement>,
) -> Result<(), RuntimeError> {
    run_one(hook, state, directory, confinement).map_err(|cause| RuntimeError::Hook {
        stage: stage.name(),
        path: hook.path().clone(),
        source: ReportedCause(cause),
    })
}

fn run_one(
    hook: &Hook,
    state: &[u8],
    directory: &Path,
    confinement: Option<&Confinement>,
) -> Result<(), String> {
    let mut command = Command::new(hook.path());
    if let Some((first, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(first).args(rest);
    }
    command.env_clear();
    for entry in hook.env().iter().flatten() {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(key, value);
    }
    if let Some(confinement) = confinement {
        let confinement = Arc::clone(confinement);
        process::before_program(&mut command, move || confinement());
    }
    let mut child = command
        .current_dir(directory)
        .stdin(Stdio::from(
            input(state).map_err(|cause| cause.to_string())?,
        ))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| cause.to_string())?;
    let errors = child.stderr.take().map(OwnedFd::from);
    let deadline = hook
        .timeout()
        .map(|seconds| Instant::now() + Duration::from_secs(seconds.unsigned_abs()));
    let outcome = wait_for(child.id() as i32, errors, deadline);
    if !matches!(outcome, Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
    let Some(said) = outcome.map_err(|error| crate::error::chain(&error))? else {
        return Err(format!(
            "it did not end within {} s",
            hook.timeout().unwrap_or(0)
        ));
    };
    let status = child.wait().map_err(|cause| cause.to_string())?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    };
    Err(match said.trim() {
        "" => how,
        said => format!("{how}, stderr: {said}"),
    })
}

/// A file in memory that holds the state. With a pipe a long state and a hook that does not read it would wait for
/// each other, and a hook that has ended already would end us, who have no signal ignored before the program.
fn input(state: &[u8]) -> std::io::Result<File> {
    let descriptor = rustix::fs::memfd_create("state", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(state)?;
    file.rewind()?;
    Ok(file)
}

/// Waits for the end of a hook and takes what it says meanwhile, so that it never waits for us; the first part is
/// kept. `None` when it has not ended in time. What it leaves running may hold its standard error and is not waited for.
fn wait_for(
    pid: i32,
    mut errors: Option<OwnedFd>,
    deadline: Option<Instant>,
) -> berth_sys::Result<Option<Vec<u8>>> {
    let pidfd = process::open_pidfd(pid)?;
    if let Some(errors) = &errors {
        rustix::io::ioctl_fionbio(errors, true)
            .map_err(|errno| berth_sys::Error::new("listen to a hook", errno))?;
    }
    let mut said = Vec::new();
    loop {
        let left = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut entries = vec![PollFd::new(&pidfd, PollFlags::IN)];
        entries.extend(
            errors
                .as_ref()
                .map(|errors| PollFd::new(errors, PollFlags::IN)),
        );
        match poll(&mut entries, left.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(berth_sys::Error::new("wait for a hook", errno)),
        }
        let ended = !entries[0].revents().is_empty();
        if let Some(open) = &errors
            && !take(open, &mut said)
        {
            errors = None;
        }
        if ended {
            return Ok(Some(said));
        }
    }
}

/// Reads what is there; false when no more will come.
fn take(errors: &OwnedFd, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    // Bounded: what a hook has left running may write faster than we read.
    for _ in 0..limits::HOOK_OUTPUT_READS {
        match rustix::io::read(errors, &mut buffer[..]) {
            Ok(0) => return false,
            Ok(length) => {
                let room = limits::HOOK_OUTPUT_BYTES.saturating_sub(said.len());
                said.extend_from_slice(&buffer[..length.min(room)]);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: &str) -> Hook {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_state_comes_on_standard_input_and_the_environment_is_only_ours() {
        let directory = tempfile::tempdir().unwrap();
        let hook = hook(
            r#"{"path":"/bin/sh","args":["sh","-c","cat > out; echo $A$HOME >> out"],"env":["A=b"]}"#,
        );
        run(Stage::Prestart, &[hook], b"{state}", directory.path(), None).unwrap();
        let out = std::fs::read_to_string(directory.path().join("out")).unwrap();
        assert_eq!(out, "{state}b\n");
    }

    #[test]
    fn neither_a_long_state_nor_long_words_are_waited_for() {
        let state = vec![b' '; 1 << 20];
        let hooks = [
            // Ended or deaf before the state is written.
            r#"{"path":"/bin/true"}"#,
            r#"{"path":"/bin/sh","args":["sh","-c","exec <&-; exec head -c 1000000 /dev/zero >&2"]}"#,
            r#"{"path":"/bin/sh","args":["sh","-c","test $(wc -c) = 1048576"]}"#,
        ];
        run(
            Stage::Prestart,
            &hooks.map(hook),
            &state,
            Path::new("/"),
            None,
        )
        .unwrap();
    }

    #[test]
    fn failures_tell_stage_status_and_words() {
        let failing = hook(r#"{"path":"/bin/sh","args":["sh","-c","echo no >&2; exit 3"]}"#);
        let error = run(Stage::Poststop, &[failing], b"", Path::new("/"), None).unwrap_err();
        assert_eq!(
            error.chain(),
            "run poststop hook /bin/sh: exit status 3, stderr: no"
        );
        let failing =
            hook(r#"{"path":"/bin/sh","args":["sh","-c","sleep 600 & echo $! > pid; exit 4"]}"#);
        let directory = tempfile::tempdir().unwrap();
        let error = run(Stage::Poststop, &[failing], b"", directory.path(), None).unwrap_err();
        assert!(error.chain().contains("exit status 4"));
        let left = std::fs::read_to_string(directory.path().join("pid")).unwrap();
        process::send_signal_to(left.trim().parse().unwrap(), 9).unwrap();
        let slow = hook(r#"{"path":"/bin/sleep","args":["sleep","60"],"timeout":1}"#);
        let error = run(Stage::Poststop, &[slow], b"", Path::new("/"), None).unwrap_err();
        assert!(error.chain().contains("within 1 s"));
        check(Stage::Prestart, Some(&[hook(r#"{"path":"x"}"#)])).unwrap_err();
        check(
            Stage::Prestart,
            Some(&[hook(r#"{"path":"/x","timeout":0}"#)]),
        )
        .unwrap_err();
    }
}
