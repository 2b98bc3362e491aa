//! The dozen kinds that every error of every crate falls into.
//!
//! A kind answers "what can the caller do about it", never "which library said so". `berth-server`
//! maps kinds to HTTP statuses and `berth-cli` maps them to exit codes, each in one function.

use serde::{Deserialize, Serialize};

/// What sort of failure an error is, judged by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request itself is wrong; sending it again will fail again.
    InvalidArgument,
    /// Credentials are missing or were not accepted.
    Unauthorized,
    /// The caller is known but may not do this.
    Forbidden,
    /// The named object does not exist.
    NotFound,
    /// The object exists, and its present state does not allow the request.
    Conflict,
    /// Nothing had to be done: the object already is as asked.
    Unchanged,
    /// Berth does not offer this (yet).
    NotImplemented,
    /// A peer (registry, monitor, daemon) cannot be reached now; trying again may help.
    Unavailable,
    /// A limit of this machine was hit: disk, memory, processes, descriptors.
    ResourceExhausted,
    /// Stored or received content is damaged or does not match its digest.
    DataCorrupt,
    /// The time allowed ran out.
    DeadlineExceeded,
    /// The caller gave up.
    Cancelled,
    /// A defect, or a failure of the system that nobody foresaw.
    Internal,
}

impl ErrorKind {
    /// The kind that an operating-system error falls into when nothing better is known.
    #[must_use]
    pub fn from_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => Self::NotFound,
            Io::PermissionDenied => Self::Forbidden,
            Io::StorageFull
            | Io::QuotaExceeded
            | Io::OutOfMemory
            | Io::FileTooLarge
            | Io::ReadOnlyFilesystem => Self::ResourceExhausted,
            Io::TimedOut => Self::DeadlineExceeded,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::HostUnreachable
            | Io::NetworkUnreachable => Self::Unavailable,
            Io::UnexpectedEof | Io::InvalidData => Self::DataCorrupt,
            _ => Self::Internal,
        }
    }
}
