//! Hooks: programs of the caller that run at fixed points of a container's life (config.md, "POSIX-platform Hooks").
//!
//! Owns the running of one stage. Who calls which stage in which namespace is with the callers.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use berth_sys::process;
use oci_spec::runtime::Hook;

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
pub(crate) fn run(
    stage: Stage,
    hooks: &[Hook],
    state: &[u8],
    directory: &Path,
) -> Result<(), RuntimeError> {
    for hook in hooks {
        run_one(hook, state, directory).map_err(|cause| RuntimeError::Hook {
            stage: stage.name(),
            path: hook.path().clone(),
            source: ReportedCause(cause),
        })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8], directory: &Path) -> Result<(), String> {
    let mut command = Command::new(hook.path());
    if let Some((first, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(first).args(rest);
    }
    command.env_clear();
    for entry in hook.env().iter().flatten() {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(key, value);
    }
    let mut child = command
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| cause.to_string())?;
    let deadline = hook
        .timeout()
        .map(|seconds| Instant::now() + Duration::from_secs(seconds.unsigned_abs()));
    if let Some(mut input) = child.stdin.take() {
        // A hook may ignore its input; the state fits into the pipe, so this does not block.
        let _ = input.write_all(state);
    }
    let pidfd =
        process::open_pidfd(child.id() as i32).map_err(|error| crate::error::chain(&error))?;
    let ended = match deadline {
        Some(deadline) => process::wait_for_end(
            pidfd.as_fd(),
            deadline.saturating_duration_since(Instant::now()),
        ),
        None => process::wait_for_end(pidfd.as_fd(), Duration::from_secs(u64::from(u32::MAX))),
    }
    .map_err(|error| crate::error::chain(&error))?;
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!(
            "it did not end within {} s",
            hook.timeout().unwrap_or(0)
        ));
    }
    let status = child.wait().map_err(|cause| cause.to_string())?;
    if status.success() {
        return Ok(());
    }
    let mut output = vec![0; limits::HOOK_OUTPUT_BYTES];
    let length = child
        .stderr
        .take()
        .and_then(|mut errors| errors.read(&mut output).ok())
        .unwrap_or(0);
    let said = String::from_utf8_lossy(&output[..length]);
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
        run(Stage::Prestart, &[hook], b"{state}", directory.path()).unwrap();
        let out = std::fs::read_to_string(directory.path().join("out")).unwrap();
        assert_eq!(out, "{state}b\n");
    }

    #[test]
    fn failures_tell_stage_status_and_words() {
        let failing = hook(r#"{"path":"/bin/sh","args":["sh","-c","echo no >&2; exit 3"]}"#);
        let error = run(Stage::Poststop, &[failing], b"", Path::new("/")).unwrap_err();
        assert_eq!(
            error.chain(),
            "run poststop hook /bin/sh: exit status 3, stderr: no"
        );
        let slow = hook(r#"{"path":"/bin/sleep","args":["sleep","60"],"timeout":1}"#);
        let error = run(Stage::Poststop, &[slow], b"", Path::new("/")).unwrap_err();
        assert!(error.chain().contains("within 1 s"));
        check(Stage::Prestart, Some(&[hook(r#"{"path":"x"}"#)])).unwrap_err();
        check(
            Stage::Prestart,
            Some(&[hook(r#"{"path":"/x","timeout":0}"#)]),
        )
        .unwrap_err();
    }
}
