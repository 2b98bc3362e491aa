//! What the kernel refused, with its own explanation.

use std::fmt;
use std::io;

use berth_types::ErrorKind;
use rustix::io::Errno;

/// Result of what is asked over netlink.
pub type Result<T> = std::result::Result<T, Error>;

/// Something asked over netlink that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("{attempt}")]
    Refused {
        /// What was attempted, on which object ("create bridge br-1a2b").
        attempt: String,
        /// The kernel's answer.
        source: Refusal,
    },
    /// The kernel could not be asked: no socket, no namespace, no memory.
    #[error("{attempt}")]
    Io {
        /// What was attempted, on which object.
        attempt: String,
        /// Why not.
        source: io::Error,
    },
    /// What the kernel keeps changed under a listing as often as it was tried, or exceeds what we take.
    #[error("{attempt}: {cause}")]
    Unreadable {
        /// What was attempted, on which object.
        attempt: String,
        /// What is wrong with the answer.
        cause: &'static str,
    },
}

/// The kernel's answer to a request it refused: a number, and its words when it gave some (`NETLINK_EXT_ACK`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The kernel's words.
    pub words: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = io::Error::from(self.errno);
        match &self.words {
            Some(words) => write!(f, "{} ({number})", words.trim_end_matches('.')),
            None => write!(f, "{number}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Error {
    /// An error of the system, not of the kernel's side of netlink.
    pub fn io(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            attempt: attempt.into(),
            source: source.into(),
        }
    }

    /// The kernel's error number.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } => Some(source.errno),
            Self::Io { source, .. } => source.raw_os_error().map(Errno::from_raw_os_error),
            Self::Unreadable { .. } => None,
        }
    }

    /// Whether the object was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::NODEV | Errno::NOENT | Errno::NXIO | Errno::SRCH)
        )
    }

    /// Whether the object was there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { source, .. } => match source.errno {
                Errno::NODEV | Errno::NOENT | Errno::NXIO | Errno::SRCH => ErrorKind::NotFound,
                Errno::EXIST | Errno::BUSY | Errno::ADDRINUSE => ErrorKind::Conflict,
                Errno::INVAL | Errno::RANGE | Errno::NETUNREACH | Errno::ADDRNOTAVAIL => {
                    ErrorKind::InvalidArgument
                }
                Errno::OPNOTSUPP | Errno::NOSYS => ErrorKind::NotImplemented,
                Errno::NOMEM | Errno::NOBUFS | Errno::NFILE | Errno::MFILE | Errno::XFULL => {
                    ErrorKind::ResourceExhausted
                }
                other => ErrorKind::from_io(&other.into()),
            },
            Self::Io { source, .. } => ErrorKind::from_io(source),
            Self::Unreadable { .. } => ErrorKind::Internal,
        }
    }

    /// The same cause under other words, for a caller that knows better what was attempted.
    #[must_use]
    pub fn with_attempt(self, words: impl Into<String>) -> Self {
        match self {
            Self::Refused { source, .. } => Self::Refused {
                attempt: words.into(),
                source,
            },
            Self::Io { source, .. } => Self::Io {
                attempt: words.into(),
                source,
            },
            Self::Unreadable { cause, .. } => Self::Unreadable {
                attempt: words.into(),
                cause,
            },
        }
    }
}

impl From<berth_sys::Error> for Error {
    fn from(error: berth_sys::Error) -> Self {
        let attempt = error.attempt().to_owned();
        match error.errno() {
            Some(errno) => Self::io(attempt, errno),
            None => Self::io(attempt, io::Error::other(error)),
        }
    }
}
