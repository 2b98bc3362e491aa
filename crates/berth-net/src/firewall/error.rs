//! What goes wrong with filtering and published ports.

use std::io;

use berth_types::ErrorKind;

/// An attempt that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub struct Error {
    attempt: String,
    #[source]
    cause: io::Error,
}

/// The result of an attempt.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn new(attempt: impl Into<String>, cause: io::Error) -> Self {
        Self {
            attempt: attempt.into(),
            cause,
        }
    }

    /// The class that an API's edge or a caller's decision needs.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::from_io(&self.cause)
    }

    pub(super) fn is(&self, kind: io::ErrorKind) -> bool {
        self.cause.kind() == kind
    }

    pub(super) fn code(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }
}
