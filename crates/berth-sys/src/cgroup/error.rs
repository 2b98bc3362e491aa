//! Errors of control groups.

use std::io;
use std::path::PathBuf;

use berth_types::ErrorKind;

/// Why something could not be done to a control group.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A system call on a path failed.
    #[error("{attempt} {}", path.display())]
    Io {
        /// What was attempted, as in "create control group".
        attempt: &'static str,
        /// The object.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused a value.
    #[error("write {value:?} to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A request that this machine or hierarchy cannot fulfil.
    #[error("cannot set {setting}: {reason}")]
    Unsupported {
        /// The setting asked for.
        setting: String,
        /// What is missing.
        reason: String,
    },
    /// A request that makes no sense.
    #[error("invalid {setting}: {reason}")]
    Invalid {
        /// The setting asked for.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the kernel does not have the form it should have.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A group that is to be removed still holds processes.
    #[error("remove control group {}: {processes} processes are still in it", path.display())]
    Populated {
        /// The directory.
        path: PathBuf,
        /// How many.
        processes: usize,
    },
    /// No usable hierarchy is mounted.
    #[error("no control group hierarchy is mounted ({0})")]
    NoHierarchy(String),
}

impl CgroupError {
    /// The kind a caller decides by.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Write { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                ErrorKind::InvalidArgument
            }
            Self::Io { source, .. } | Self::Write { source, .. } => ErrorKind::from_io(source),
            Self::Unsupported { .. } | Self::NoHierarchy(_) => ErrorKind::NotImplemented,
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Malformed { .. } => ErrorKind::Internal,
            Self::Populated { .. } => ErrorKind::Conflict,
        }
    }

    /// The system error number below this error, if there is one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } | Self::Write { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
