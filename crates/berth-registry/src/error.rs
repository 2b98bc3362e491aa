//! What can go wrong with the registry itself. What a client is told stands in [`crate::refusal`].

use std::io;
use std::path::PathBuf;

use berth_image::ImageError;

/// Result of every fallible function of this crate that is not an answer to a client.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// A failure of the registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Another process has the same root open.
    #[error("open {}: another registry is running on it", .0.display())]
    InUse(PathBuf),
    /// The content store refused.
    #[error(transparent)]
    Content(#[from] ImageError),
    /// The record store refused.
    #[error("{attempt}")]
    Database {
        /// What was attempted.
        attempt: &'static str,
        /// The store's words.
        source: Box<redb::Error>,
    },
    /// A record that cannot be read.
    #[error("read record {key}")]
    Record {
        /// Which one.
        key: String,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// A record written by a newer release.
    #[error("read record {key}: schema {schema} is newer than this release")]
    Schema {
        /// Which one.
        key: String,
        /// Its schema number.
        schema: u32,
    },
    /// The operating system refused.
    #[error("{attempt}")]
    Io {
        /// What was attempted on which object.
        attempt: String,
        /// The system's words.
        source: io::Error,
    },
    /// A setting that cannot be used.
    #[error("use {setting}: {reason}")]
    Setting {
        /// Which setting, with its value.
        setting: String,
        /// What is wrong.
        reason: String,
    },
    /// A worker thread ended early.
    #[error("{0}: given up")]
    Cancelled(&'static str),
}

impl RegistryError {
    pub(crate) fn io(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            attempt: attempt.into(),
            source: source.into(),
        }
    }

    pub(crate) fn database(attempt: &'static str, source: impl Into<redb::Error>) -> Self {
        Self::Database {
            attempt,
            source: Box::new(source.into()),
        }
    }

    pub(crate) fn setting(setting: impl Into<String>, reason: impl ToString) -> Self {
        Self::Setting {
            setting: setting.into(),
            reason: reason.to_string(),
        }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// The whole chain of causes in one line.
    #[must_use]
    pub fn full_text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl From<berth_sys::error::Error> for RegistryError {
    fn from(error: berth_sys::error::Error) -> Self {
        let attempt = error.attempt().to_owned();
        let source = match error.errno() {
            Some(errno) => errno.into(),
            None => io::Error::from(error),
        };
        Self::Io { attempt, source }
    }
}
