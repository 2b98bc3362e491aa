//! What the engine answers when it cannot do what was asked.

use std::sync::Arc;

use berth_types::ErrorKind;

/// A failure of an engine operation. The text names the attempt and the object; the cause is the source.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// No such container, image, exec session or network.
    #[error("{0}")]
    NotFound(String),
    /// The object's state, or another object, does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// What this engine does not let anyone do, or somebody else's hold on a resource forbids.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing to do: it already is as asked (`start` of a running container, `stop` of a stopped one).
    #[error("{0}")]
    Unchanged(String),
    /// Berth does not offer this yet.
    #[error("{0}")]
    NotImplemented(String),
    /// The container's program could not be started; the container holds `exit_code`.
    #[error("{message}")]
    Start {
        /// Why, with the attempt and the object.
        message: String,
        /// 126 when it cannot be invoked, 127 when it was not found, else 128.
        exit_code: i32,
        /// The kind for callers.
        kind: ErrorKind,
    },
    /// The image store's answer.
    #[error(transparent)]
    Image(Arc<berth_image::ImageError>),
    /// Something beneath the engine failed.
    #[error("{attempt}")]
    Failed {
        /// What was attempted, on what.
        attempt: String,
        /// The kind of the cause.
        kind: ErrorKind,
        /// The cause.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon is ending, or a defect made an owner unreachable.
    #[error("{0}")]
    Unavailable(String),
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

impl EngineError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::Unchanged(_) => ErrorKind::Unchanged,
            Self::NotImplemented(_) => ErrorKind::NotImplemented,
            Self::Start { kind, .. } | Self::Failed { kind, .. } => *kind,
            // That a registry cannot be reached is told like any failure, as in Docker: 503 would say that the engine
            // has no time, and clients that try again after 500 do not after 503.
            Self::Image(error) => match error.kind() {
                ErrorKind::Unavailable => ErrorKind::Internal,
                kind => kind,
            },
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// The error of an attempt that something beneath refused.
    pub fn failed(
        attempt: impl Into<String>,
        kind: ErrorKind,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Failed {
            attempt: attempt.into(),
            kind,
            source: Arc::new(source),
        }
    }

    /// The error of an attempt that the operating system refused.
    pub fn io(attempt: impl Into<String>, source: std::io::Error) -> Self {
        let kind = ErrorKind::from_io(&source);
        Self::failed(attempt, kind, source)
    }

    /// The text with every cause behind it, `attempt: cause: cause`.
    #[must_use]
    pub fn full_text(&self) -> String {
        chain(self)
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
