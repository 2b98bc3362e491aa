//! What can go wrong between the daemon and a monitor, and inside a monitor.

use std::error::Error as _;
use std::fmt::Write as _;

use berth_types::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::log::{LogError, SettingsError};

/// A failure of this crate's operations.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A system call, with its attempt and object.
    #[error(transparent)]
    System(#[from] berth_sys::Error),
    /// The runtime could not do what was asked.
    #[error(transparent)]
    Runtime(#[from] berth_runtime::RuntimeError),
    /// An outside runtime program refused.
    #[error("{program} {command}: {message}")]
    Program {
        /// The program.
        program: String,
        /// Its command, such as `create`.
        command: &'static str,
        /// What it said.
        message: String,
        /// What it probably means for the program to be run.
        failure: Option<StartFailure>,
    },
    /// A document of ours cannot be understood.
    #[error("read {path}")]
    Document {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log options make no sense.
    #[error(transparent)]
    LogSettings(#[from] SettingsError),
    /// The monitor answered that it could not.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The monitor is not there any more: its exit record tells what became of the container.
    #[error("the monitor of {directory} has ended")]
    Gone {
        /// The container's runtime directory.
        directory: String,
    },
    /// The monitor did not answer in time.
    #[error("the monitor of {directory} did not answer to {request} within {seconds} s")]
    Silent {
        /// The container's runtime directory.
        directory: String,
        /// The request's name.
        request: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The other side does not keep to the protocol.
    #[error("{0}")]
    Protocol(String),
    /// The container is not in a state for this.
    #[error("{0}")]
    State(String),
    /// The container's first process has ended.
    #[error("container {id} is not running")]
    Over {
        /// The container.
        id: String,
    },
    /// Published ports cannot be served.
    #[error(transparent)]
    Ports(#[from] berth_net::firewall::Error),
}

impl MonitorError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::System(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
            Self::Program {
                failure: Some(_), ..
            } => ErrorKind::InvalidArgument,
            Self::Program { .. } | Self::Protocol(_) => ErrorKind::Internal,
            Self::Document { .. } => ErrorKind::DataCorrupt,
            Self::Log(error) => error.kind(),
            Self::LogSettings(_) => ErrorKind::InvalidArgument,
            Self::Refused(failure) => failure.kind,
            Self::Gone { .. } => ErrorKind::Unavailable,
            Self::Silent { .. } => ErrorKind::DeadlineExceeded,
            Self::State(_) | Self::Over { .. } => ErrorKind::Conflict,
            Self::Ports(error) => error.kind(),
        }
    }

    /// Why the user's program could not be executed, when that was it. Docker's exit codes 126 and 127 follow from it.
    #[must_use]
    pub fn start_failure(&self) -> Option<StartFailure> {
        match self {
            Self::Program { failure, .. } => *failure,
            Self::Refused(failure) => failure.start_failure,
            Self::Runtime(error) => error.start_failure().map(|failure| match failure {
                berth_runtime::StartFailure::NotFound => StartFailure::NotFound,
                berth_runtime::StartFailure::NotExecutable => StartFailure::NotExecutable,
            }),
            _ => None,
        }
    }

    /// Whether it failed because the run was over before the request came.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Gone { .. }
            | Self::Over { .. }
            | Self::Runtime(berth_runtime::RuntimeError::NotRunning { .. }) => true,
            Self::Refused(failure) => failure.is_over,
            _ => false,
        }
    }

    /// The error as it travels to the daemon and into the exit record.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        if let Self::Refused(failure) = self {
            return failure.clone();
        }
        let mut message = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(message, ": {error}");
            cause = error.source();
        }
        Failure {
            kind: self.kind(),
            start_failure: self.start_failure(),
            message,
            is_over: self.is_over(),
        }
    }
}

/// Why a user's program could not be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailure {
    /// There is no such program: exit code 127.
    NotFound,
    /// It is there, but cannot be executed: exit code 126.
    NotExecutable,
}

impl StartFailure {
    /// The exit code that Docker reports.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
        }
    }
}

/// An error as it travels: kind and full text, causes included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// Set when the user's program itself could not be executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_failure: Option<StartFailure>,
    /// The attempt and its causes, joined by ": ".
    pub message: String,
    /// Set when it failed because the container's first process had ended, of which a fact tells or is about to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_over: bool,
}

impl Failure {
    /// The exit code that Docker reports for a container that failed to start so.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        self.start_failure.map_or(128, StartFailure::exit_code)
    }
}
