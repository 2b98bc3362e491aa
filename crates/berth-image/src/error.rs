//! What can go wrong with images: each error names the attempt and the object, its cause is the source.

use std::io;

use berth_types::{Digest, ErrorKind, ReferenceError};

/// Result of every fallible function of this crate.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// A failure of the image store or of a transfer.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing is stored under this name or id.
    #[error("No such image: {reference}")]
    NoSuchImage {
        /// The name as people write it.
        reference: String,
    },
    /// The text is not a reference.
    #[error("parse image reference {text:?}")]
    Reference {
        /// What was given.
        text: String,
        /// Why it is none.
        source: ReferenceError,
    },
    /// A tag operation was asked for a reference that cannot carry one.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// The name is known here, and not for this platform.
    #[error(
        "image with reference {reference} was found but does not provide the specified platform ({platform})"
    )]
    PlatformNotHere {
        /// The name as people write it.
        reference: String,
        /// What was wanted.
        platform: String,
    },
    /// Content that a push needs is neither here nor in the registry.
    #[error(
        "content {content} of the image is neither here nor in the registry; pull or load the image again"
    )]
    ContentMissing {
        /// Its short digest.
        content: String,
    },
    /// A list of manifests would refer to another registry.
    #[error(
        "cannot use source images from a different registry than the target image: {source_registry} != {target}"
    )]
    OtherRegistry {
        /// Registry of a manifest.
        source_registry: String,
        /// Registry of the list.
        target: String,
    },
    /// A push was asked for by digest: a registry computes digests by itself.
    #[error("cannot push a digest reference")]
    PushByDigest,
    /// No tag of the repository is known here.
    #[error("An image does not exist locally with the tag: {name}")]
    NothingToPush {
        /// The repository as people write it.
        name: String,
    },
    /// The repository is known here, the tag is not.
    #[error("tag does not exist: {name}")]
    NoSuchTag {
        /// Repository and tag as people write them.
        name: String,
    },
    /// A filter that does not exist or has a bad value.
    #[error("invalid filter {name:?}: {reason}")]
    Filter {
        /// Name of the filter.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The image may not be removed now. The text is the one that scripts know from Docker.
    #[error("conflict: unable to {attempt} ({remedy}) - {reason}")]
    Conflict {
        /// `delete 1f2e3d4c5b6a` or `remove repository reference "x"`.
        attempt: String,
        /// `must be forced` or `cannot be forced`.
        remedy: &'static str,
        /// Who holds it.
        reason: String,
    },
    /// An archive or a layer that is damaged, or that asks for what is never done.
    #[error("{object}: {reason}")]
    Archive {
        /// The archive, layer or entry.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A bound of [`crate::limits`] was reached.
    #[error("{object} exceeds the limit of {limit} {unit}")]
    Limit {
        /// What is too large.
        object: String,
        /// The bound.
        limit: u64,
        /// Unit of the bound.
        unit: &'static str,
    },
    /// A directory stands where something else is to be put, or the reverse. Docker's words.
    #[error("cannot overwrite {what} \"{path}\" with {by} \"{path}\"")]
    Overwrite {
        /// The path in the tree.
        path: String,
        /// What stands there.
        what: &'static str,
        /// What was to take its place.
        by: &'static str,
    },
    /// Content is not what its digest says.
    #[error("{object} does not match its digest: expected {expected}, got {actual}")]
    Digest {
        /// What was verified.
        object: String,
        /// The digest it must have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// Content is not as long as its descriptor says.
    #[error("{object} has the wrong size: expected {expected} bytes, got {actual}")]
    Size {
        /// What was verified.
        object: String,
        /// Size of the descriptor.
        expected: u64,
        /// Size that came.
        actual: u64,
    },
    /// A JSON document that cannot be read.
    #[error("parse {object}")]
    Document {
        /// Which document.
        object: String,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// A format that Berth does not take, with the reason.
    #[error("{object} is not supported: {reason}")]
    Unsupported {
        /// What was met.
        object: String,
        /// Why, and what to do.
        reason: String,
    },
    /// No manifest of an index fits the platform.
    #[error("no matching manifest for {platform} in the manifest list entries of {object}")]
    NoPlatform {
        /// The index.
        object: String,
        /// What was wanted.
        platform: String,
    },
    /// What was to be fetched is at no address that is fetched from.
    #[error("import from {address:?}: {reason}")]
    Address {
        /// The address, without what is secret in it.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry said no.
    #[error("{attempt}: {reason}")]
    Registry {
        /// Request in words, with the registry.
        attempt: String,
        /// Status and the registry's own words, cut to a bounded length.
        reason: String,
        /// What the status means for the caller.
        kind: ErrorKind,
    },
    /// The registry could not be talked to.
    #[error("{attempt}")]
    Transport {
        /// Request in words, with the registry.
        attempt: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came for too long.
    #[error("{attempt}: no data for {seconds} s")]
    Stalled {
        /// Request in words, with the registry.
        attempt: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A setting that cannot be used.
    #[error("use {setting}: {reason}")]
    Setting {
        /// Which setting, with its value.
        setting: String,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("{attempt}")]
    Io {
        /// What was attempted on which object.
        attempt: String,
        /// The system's words.
        source: io::Error,
    },
    /// The record store refused.
    #[error("{attempt}")]
    Database {
        /// What was attempted.
        attempt: &'static str,
        /// The store's words.
        source: Box<redb::Error>,
    },
    /// A record written by a newer release.
    #[error("read record {key}: schema {schema} is newer than this release")]
    Schema {
        /// Key of the record.
        key: String,
        /// Its schema number.
        schema: u32,
    },
    /// The work was given up because its caller is gone, or a worker ended early.
    #[error("{attempt}: given up")]
    Cancelled {
        /// What was being done.
        attempt: String,
    },
}

impl ImageError {
    /// What sort of failure this is, for the caller's answer.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchImage { .. }
            | Self::NoPlatform { .. }
            | Self::PlatformNotHere { .. }
            | Self::ContentMissing { .. }
            | Self::NothingToPush { .. }
            | Self::NoSuchTag { .. } => ErrorKind::NotFound,
            Self::Reference { .. }
            | Self::TagWithDigest
            | Self::Overwrite { .. }
            | Self::PushByDigest
            | Self::OtherRegistry { .. }
            | Self::Filter { .. }
            | Self::Address { .. }
            | Self::Setting { .. } => ErrorKind::InvalidArgument,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Archive { .. } | Self::Limit { .. } | Self::Document { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Digest { .. } | Self::Size { .. } => ErrorKind::DataCorrupt,
            Self::Unsupported { .. } => ErrorKind::NotImplemented,
            Self::Registry { kind, .. } => *kind,
            Self::Transport { .. } => ErrorKind::Unavailable,
            Self::Stalled { .. } => ErrorKind::DeadlineExceeded,
            Self::Io { source, .. } => ErrorKind::from_io(source),
            Self::Database { .. } | Self::Schema { .. } => ErrorKind::Internal,
            Self::Cancelled { .. } => ErrorKind::Cancelled,
        }
    }

    pub(crate) fn archive(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Archive {
            object: object.into(),
            reason: reason.into(),
        }
    }

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
}

impl From<berth_sys::error::Error> for ImageError {
    fn from(error: berth_sys::error::Error) -> Self {
        let attempt = error.attempt().to_owned();
        let source = match error.errno() {
            Some(errno) => errno.into(),
            None => io::Error::from(error),
        };
        Self::Io { attempt, source }
    }
}

/// An error's text with those of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Adds the attempt to a bare system error.
pub(crate) trait Attempt<T> {
    /// Names the attempt; the closure runs only on failure.
    fn attempt<S: Into<String>>(self, words: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempt<S: Into<String>>(self, words: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| ImageError::io(words(), source))
    }
}

/// An [`ImageError`] that has to travel through an `io::Read` comes out again as what it was.
pub(crate) fn carry(error: ImageError) -> io::Error {
    io::Error::other(error)
}

/// Gives back what [`carry`] wrapped, or names the attempt of a plain system error.
pub(crate) fn unwrap_carried(attempt: impl FnOnce() -> String, error: io::Error) -> ImageError {
    match error.downcast::<ImageError>() {
        Ok(carried) => carried,
        Err(plain) => ImageError::io(attempt(), plain),
    }
}
