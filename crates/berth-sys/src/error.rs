//! The one error of this crate: what was attempted on which object, with the kernel's answer as source.

use std::io;

/// A kernel call that failed: the attempt in words (with the object it was made on) and the cause.
///
/// The cause is only in [`std::error::Error::source`], never repeated in the text.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub struct Error {
    attempt: String,
    #[source]
    source: io::Error,
}

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error for `attempt` ("open /x") caused by `source`.
    pub fn new(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            attempt: attempt.into(),
            source: source.into(),
        }
    }

    /// An error whose cause is not the kernel's but ours, told in words.
    pub fn other(attempt: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::new(attempt, io::Error::other(cause.into()))
    }

    /// An error for content that does not have the form it must have.
    pub fn invalid(attempt: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::new(
            attempt,
            io::Error::new(io::ErrorKind::InvalidData, cause.into()),
        )
    }

    /// What was attempted, without the cause.
    pub fn attempt(&self) -> &str {
        &self.attempt
    }

    /// The kernel's error number, when the kernel was the one who refused.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        self.source
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error)
    }

    /// The cause as the standard library classifies it.
    pub fn io_kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// What kind of failure this is for whoever decides on it.
    pub fn kind(&self) -> berth_types::ErrorKind {
        if self.io_kind() == io::ErrorKind::InvalidData {
            return berth_types::ErrorKind::DataCorrupt;
        }
        berth_types::ErrorKind::from_io(&self.source)
    }

    /// True when the object was not there.
    pub fn is_not_found(&self) -> bool {
        self.io_kind() == io::ErrorKind::NotFound
    }

    /// True when the object was there already.
    pub fn is_already_exists(&self) -> bool {
        self.io_kind() == io::ErrorKind::AlreadyExists
    }

    /// True when the kernel does not know the call, the file system or the option.
    pub fn is_unsupported(&self) -> bool {
        use rustix::io::Errno;
        matches!(
            self.errno(),
            Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::NODEV)
        )
    }

    /// The same cause under other words, for a caller that knows better what was attempted.
    #[must_use]
    pub fn with_attempt(self, attempt: impl Into<String>) -> Self {
        Self::new(attempt, self.source)
    }

    /// The cause alone.
    #[must_use]
    pub fn into_cause(self) -> io::Error {
        self.source
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind, so that `?` in code that speaks `io::Result` stays meaningful.
    fn from(error: Error) -> Self {
        io::Error::new(error.io_kind(), error)
    }
}

/// Adds the attempt to a bare kernel error.
pub trait Attempt<T> {
    /// Names the attempt; the closure runs only on failure.
    fn attempt<S: Into<String>>(self, words: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempt<S: Into<String>>(self, words: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::new(words(), source))
    }
}
