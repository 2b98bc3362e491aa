//! The errors of the runtime, and their passage from a container's first process to its creator.

use std::path::PathBuf;

use berth_sys::cgroup::CgroupError;
use berth_sys::seccomp::SeccompError;
use berth_types::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::resources::ResourcesError;
use crate::state::Status;

/// Why a program could not be executed, where callers report it apart from all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// There is no such program (exit code 127 by convention).
    NotFound,
    /// There is one, and it cannot be executed (exit code 126).
    NotExecutable,
}

/// The words of a cause that came from another process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReportedCause(pub String);

/// What went wrong in the runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The configuration breaks the specification, or asks for what cannot be.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field in config.json.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of ours or of the caller cannot be understood.
    #[error("parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The container id cannot be a name of a directory.
    #[error("invalid container id {id:?}: {reason}")]
    InvalidId {
        /// The id.
        id: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A container of this id exists.
    #[error("container with id {id} exists already")]
    Exists {
        /// The id.
        id: String,
    },
    /// No container of this id exists.
    #[error("container {id} does not exist")]
    NotExist {
        /// The id.
        id: String,
    },
    /// The container's status does not allow the operation.
    #[error("cannot {operation} container {id}: it is {status}")]
    WrongStatus {
        /// The id.
        id: String,
        /// What was asked.
        operation: &'static str,
        /// The status it has.
        status: Status,
    },
    /// The container's process has ended.
    #[error("container not running")]
    NotRunning {
        /// The id.
        id: String,
    },
    /// The container did not end although it was killed.
    #[error("container {id} is still there {seconds} s after it was killed")]
    DoesNotEnd {
        /// The id.
        id: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A kernel call failed.
    #[error(transparent)]
    System(#[from] berth_sys::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The seccomp filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// The limits asked for make no sense.
    #[error(transparent)]
    Resources(#[from] ResourcesError),
    /// A hook failed.
    #[error("run {stage} hook {}", path.display())]
    Hook {
        /// The stage, as config.json calls it.
        stage: &'static str,
        /// Its program.
        path: PathBuf,
        /// What happened.
        source: ReportedCause,
    },
    /// The program cannot be executed.
    #[error("exec: {program:?}")]
    Program {
        /// The program as it was asked for.
        program: String,
        /// Which of the two cases.
        failure: StartFailure,
        /// The words callers look for.
        source: ReportedCause,
    },
    /// The new process reported a failure.
    #[error("{attempt}")]
    Reported {
        /// What it attempted.
        attempt: String,
        /// The error number, if the kernel refused.
        errno: Option<i32>,
        /// Its causes in words.
        source: ReportedCause,
    },
    /// The new process ended without a word.
    #[error("set up the container's process: it ended early ({how})")]
    Vanished {
        /// How it ended, as far as known.
        how: String,
    },
}

impl RuntimeError {
    /// An error of the configuration.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// What kind of failure this is for whoever decides on it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. }
            | Self::InvalidId { .. }
            | Self::Program { .. }
            | Self::Resources(_)
            | Self::Hook { .. } => ErrorKind::InvalidArgument,
            Self::Parse { .. } => ErrorKind::DataCorrupt,
            Self::Exists { .. } | Self::WrongStatus { .. } | Self::NotRunning { .. } => {
                ErrorKind::Conflict
            }
            Self::NotExist { .. } => ErrorKind::NotFound,
            Self::DoesNotEnd { .. } => ErrorKind::DeadlineExceeded,
            Self::System(error) => error.kind(),
            Self::Cgroup(error) => error.kind(),
            Self::Seccomp(error) => error.kind(),
            Self::Reported { errno, .. } => errno.map_or(ErrorKind::Internal, |errno| {
                ErrorKind::from_io(&std::io::Error::from_raw_os_error(errno))
            }),
            Self::Vanished { .. } => ErrorKind::Internal,
        }
    }

    /// The kernel's error number, when the kernel was the one who refused, here or in a process of the container.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::System(error) => error.errno(),
            Self::Reported { errno, .. } => errno.map(rustix::io::Errno::from_raw_os_error),
            _ => None,
        }
    }

    /// Whether the program was not found or not executable; `None` for every other failure.
    pub fn start_failure(&self) -> Option<StartFailure> {
        match self {
            Self::Program { failure, .. } => Some(*failure),
            _ => None,
        }
    }

    /// The text with all causes, as one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// The text of an error with all its causes, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// What a new process tells its creator when it fails. Encoded by hand: one line per field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of which variant.
    kind: ReportKind,
    errno: i32,
    attempt: String,
    cause: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReportKind {
    Plain,
    NotFound,
    NotExecutable,
    Invalid,
    Hook,
}

impl Report {
    /// The report of an error.
    pub(crate) fn of(error: &RuntimeError) -> Self {
        let causes = |error: &dyn std::error::Error| error.source().map(chain).unwrap_or_default();
        match error {
            RuntimeError::Program {
                program,
                failure,
                source,
            } => Self {
                kind: match failure {
                    StartFailure::NotFound => ReportKind::NotFound,
                    StartFailure::NotExecutable => ReportKind::NotExecutable,
                },
                errno: 0,
                attempt: program.clone(),
                cause: source.0.clone(),
            },
            RuntimeError::Invalid { field, reason } => Self {
                kind: ReportKind::Invalid,
                errno: 0,
                attempt: field.clone(),
                cause: reason.clone(),
            },
            RuntimeError::Hook {
                stage,
                path,
                source,
            } => Self {
                kind: ReportKind::Hook,
                errno: 0,
                attempt: format!("{stage} {}", path.display()),
                cause: source.0.clone(),
            },
            RuntimeError::Reported {
                attempt,
                errno,
                source,
            } => Self {
                kind: ReportKind::Plain,
                errno: errno.unwrap_or(0),
                attempt: attempt.clone(),
                cause: source.0.clone(),
            },
            other => Self {
                kind: ReportKind::Plain,
                errno: errno_of(other),
                attempt: other.to_string(),
                cause: causes(other),
            },
        }
    }

    /// One message: kind, error number, length of the attempt, attempt, cause.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let cut = |text: &str| {
            let limit = crate::limits::MESSAGE_BYTES / 4;
            text.bytes().take(limit).collect::<Vec<u8>>()
        };
        let attempt = cut(&self.attempt);
        let mut bytes = vec![match self.kind {
            ReportKind::Plain => b'p',
            ReportKind::NotFound => b'n',
            ReportKind::NotExecutable => b'x',
            ReportKind::Invalid => b'i',
            ReportKind::Hook => b'h',
        }];
        bytes.extend_from_slice(&self.errno.to_le_bytes());
        bytes.extend_from_slice(&(attempt.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&attempt);
        bytes.extend_from_slice(&cut(&self.cause));
        bytes
    }

    /// Undoes [`Report::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let kind = match bytes.first()? {
            b'p' => ReportKind::Plain,
            b'n' => ReportKind::NotFound,
            b'x' => ReportKind::NotExecutable,
            b'i' => ReportKind::Invalid,
            b'h' => ReportKind::Hook,
            _ => return None,
        };
        let errno = i32::from_le_bytes(bytes.get(1..5)?.try_into().ok()?);
        let length = u32::from_le_bytes(bytes.get(5..9)?.try_into().ok()?) as usize;
        let rest = bytes.get(9..)?;
        Some(Self {
            kind,
            errno,
            attempt: String::from_utf8_lossy(rest.get(..length)?).into_owned(),
            cause: String::from_utf8_lossy(rest.get(length..)?).into_owned(),
        })
    }

    /// The error for the creator's caller.
    pub(crate) fn into_error(self) -> RuntimeError {
        let failure = match self.kind {
            ReportKind::NotFound => Some(StartFailure::NotFound),
            ReportKind::NotExecutable => Some(StartFailure::NotExecutable),
            _ => None,
        };
        if let Some(failure) = failure {
            return RuntimeError::Program {
                program: self.attempt,
                failure,
                source: ReportedCause(self.cause),
            };
        }
        if self.kind == ReportKind::Invalid {
            return RuntimeError::Invalid {
                field: self.attempt,
                reason: self.cause,
            };
        }
        if self.kind == ReportKind::Hook
            && let Some((stage, path)) = self.attempt.split_once(' ')
        {
            return RuntimeError::Hook {
                stage: crate::hooks::stage_name(stage),
                path: PathBuf::from(path),
                source: ReportedCause(self.cause),
            };
        }
        RuntimeError::Reported {
            attempt: self.attempt,
            errno: (self.errno != 0).then_some(self.errno),
            source: ReportedCause(self.cause),
        }
    }
}

fn errno_of(error: &RuntimeError) -> i32 {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(errno) = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            return errno;
        }
        next = cause.source();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_pass_through_their_encoding() {
        let errors = [
            RuntimeError::invalid("process.cwd", "must be absolute"),
            RuntimeError::Program {
                program: "nope".into(),
                failure: StartFailure::NotFound,
                source: ReportedCause("executable file not found in $PATH".into()),
            },
            RuntimeError::Hook {
                stage: "createContainer",
                path: "/x y".into(),
                source: ReportedCause("exit status 3".into()),
            },
            RuntimeError::System(berth_sys::Error::new(
                "open /x",
                std::io::Error::from_raw_os_error(13),
            )),
        ];
        for error in errors {
            let report = Report::of(&error);
            let back = Report::decode(&report.encode()).unwrap();
            assert_eq!(back, report);
            let told = back.into_error();
            assert_eq!(told.start_failure(), error.start_failure());
            assert!(
                told.chain().starts_with(&error.to_string()),
                "{}",
                told.chain()
            );
            assert_eq!(told.kind(), error.kind());
        }
        assert!(Report::decode(b"p12").is_none());
    }
}
